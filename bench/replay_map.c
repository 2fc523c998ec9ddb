/* replay_map.c - a trace through a real map: what it costs that raw loads leave no trace.
 *
 * Page i of a sparse file stands for id i. Once each access is a want and then a load, so that the policy
 * is told of hits; once a load alone, so that it is not. Misses are fills, as the map counts
 * them. Each run has a cache of its own with the same budget; how many pages fit is what is left of it
 * for frames, and is looked at while the second half of the trace runs.
 */
#include "replay.h"

#include "replay_read.h"

#include <quire/quire.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of the file, which is all holes; the ids of larger traces are folded into it. */
#define N_FILE_PAGES_MAX ((uint64_t)1 << 22)
#define N_LOOKS 256u

struct run {
	double miss_ratio;
	uint32_t n_frames;
};

struct place {
	struct quire_cache *cache; /* owned */
	struct quire_map *map;     /* owned */
	unsigned page_shift;
};

uint64_t map_file_pages(const struct trace *t)
{
	uint64_t largest = 0, n = 1;
	for (uint32_t page = 0; page < t->n_pages; page++)
		largest = t->ids[page] > largest ? t->ids[page] : largest;
	while (n <= largest && n < N_FILE_PAGES_MAX)
		n *= 2;
	return n;
}

static int fail(char *why, const char *what, int rc)
{
	snprintf(why, TRACE_WHY_BYTES, "%.100s: %s", what, strerror(-rc));
	return rc;
}

static int make_file(uint64_t bytes, char *why)
{
	const char *dir = getenv("TMPDIR");
	char path[200];

	if ((size_t)snprintf(path, sizeof(path), "%s/replay-XXXXXX", dir != NULL ? dir : "/tmp") >= sizeof(path))
		return fail(why, "TMPDIR", -ENAMETOOLONG);
	int fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return fail(why, path, -errno);
	unlink(path);
	if (ftruncate(fd, (off_t)bytes) != 0) {
		int rc = fail(why, "a sparse file in TMPDIR", -errno);
		close(fd);
		return rc;
	}
	return fd;
}

static void leave(struct place *p)
{
	if (p->map != NULL)
		quire_map_destroy(p->map, NULL);
	if (p->cache != NULL)
		quire_cache_close(p->cache);
}

static int enter(struct place *p, int fd, uint64_t budget_bytes, char *why)
{
	const struct quire_cache_options cache_opts = {
		.size = sizeof(cache_opts), .budget_bytes = budget_bytes, .signal_faults = true,
	};
	/* The service that takes least time; which pages leave does not depend on it. */
	const struct quire_map_options map_opts = { .size = sizeof(map_opts), .fault = QUIRE_FAULT_SIGNAL };
	const struct quire_item item = { .fd = fd };
	struct quire_error err = { 0 };

	int rc = quire_cache_open(&cache_opts, &p->cache, &err);
	if (rc == 0)
		rc = quire_map_create(p->cache, &item, 1, &map_opts, &p->map, &err);
	if (rc < 0) {
		snprintf(why, TRACE_WHY_BYTES, "a map: %.120s", err.text);
		leave(p);
		return rc;
	}
	p->page_shift = quire_map_page_shift(p->map);
	return 0;
}

static int visit(const struct place *p, uint64_t page, bool want)
{
	const volatile unsigned char *at = quire_map_base(p->map);
	struct iovec range = { (void *)(at + (page << p->page_shift)), 1 };
	int rc = want ? quire_map_want(p->map, &range, 1, 0, NULL) : 0;

	if (rc == 0)
		(void)at[page << p->page_shift];
	return rc;
}

static int run(struct place *p, const struct trace *t, bool want, struct run *ret)
{
	struct quire_cache_stat cache_stat;
	struct quire_map_stat map_stat;
	uint64_t n_looks = 0, frames_bytes = 0;
	size_t stride = t->n / 2 / N_LOOKS + 1;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < t->n; i++) {
		rc = visit(p, t->ids[t->pages[i]], want);
		if (rc == 0 && i >= t->n / 2 && i % stride == 0) {
			rc = quire_cache_stat(p->cache, &cache_stat);
			frames_bytes += cache_stat.frames;
			n_looks++;
		}
	}
	if (rc == 0)
		rc = quire_map_stat(p->map, &map_stat);
	if (rc < 0)
		return rc;
	ret->miss_ratio = (double)map_stat.n_fills / (double)t->n;
	ret->n_frames = n_looks > 0 ? (uint32_t)(frames_bytes / n_looks >> p->page_shift) : 0;
	return 0;
}

static int run_both(const struct trace *t, int fd, uint64_t budget_bytes, struct map_run *ret, char *why)
{
	struct run runs[2];
	for (unsigned want = 0; want < 2; want++) {
		struct place p = { 0 };
		int rc = enter(&p, fd, budget_bytes, why);
		if (rc < 0)
			return rc;
		rc = run(&p, t, want, &runs[want]);
		leave(&p);
		if (rc < 0)
			return fail(why, want ? "want" : "stat", rc);
	}
	*ret = (struct map_run){
		.budget_bytes = budget_bytes,
		.raw_miss_ratio = runs[0].miss_ratio,
		.n_raw_frames = runs[0].n_frames,
		.want_miss_ratio = runs[1].miss_ratio,
		.n_want_frames = runs[1].n_frames,
	};
	return 0;
}

int map_replay(const struct trace *folded, uint64_t n_file_pages, uint32_t n_frames, struct map_run *ret, char *why)
{
	uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE), budget_bytes = n_frames * page_bytes;
	struct quire_capabilities caps;

	int rc = quire_capabilities(&caps);
	if (rc < 0)
		return fail(why, "what this kernel has", rc);
	if (caps.grade == QUIRE_GRADE_NONE) {
		snprintf(why, TRACE_WHY_BYTES, "no userfaultfd here: the kernel, not Quire, would choose pages");
		return -ENOTSUP;
	}
	if (budget_bytes < QUIRE_BUDGET_MIN_BYTES)
		budget_bytes = QUIRE_BUDGET_MIN_BYTES;
	int fd = make_file(n_file_pages * page_bytes, why);
	if (fd < 0)
		return fd;
	rc = run_both(folded, fd, budget_bytes, ret, why);
	close(fd);
	for (enum sim s = 0; rc == 0 && s < N_SIMS; s++) {
		uint64_t n_misses = 0;
		rc = sim_run(s, folded, ret->n_want_frames > 0 ? ret->n_want_frames : 1, &n_misses);
		ret->sim_miss_ratios[s] = (double)n_misses / (double)folded->n;
		if (rc < 0)
			fail(why, sim_names[s], rc);
	}
	return rc;
}
