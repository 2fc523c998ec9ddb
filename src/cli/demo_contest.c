/* demo_contest.c - one contender after the other under the same load. */
#include "demo_contest.h"
#include "cgroup.h"
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CALIBRATE_NS 250000000u
#define READY_TIMEOUT_MS 60000

/* Of a blocking thread's time, how much goes into waiting for misses. */
#define MISS_LOAD 0.25
#define RATE_MIN 1000.0
#define RATE_MAX 90000.0

/* Depth one, past the page cache where the file system can. */
static double disk_reads_per_second(const struct demo_corpus *c)
{
	const struct demo_file *file = &c->files[0];
	uint64_t n_pages = file->len_bytes / c->page_bytes, rng = 1, n = 0;
	int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_DIRECT);
	bool direct = fd >= 0;
	void *page = NULL;

	if (!direct)
		fd = file->fd;
	if (posix_memalign(&page, c->page_bytes, c->page_bytes) != 0)
		page = NULL;
	uint64_t start = cli_now_ns(), now = start;
	while (page != NULL && now - start < CALIBRATE_NS) {
		off_t at = (off_t)(demo_random(&rng) % n_pages * c->page_bytes);
		if (pread(fd, page, c->page_bytes, at) < 0)
			break;
		n++;
		now = cli_now_ns();
	}
	if (direct)
		close(fd);
	free(page);
	demo_corpus_drop(c);
	return now > start ? (double)n * 1e9 / (double)(now - start) : 0;
}

void demo_contest_calibrate(struct demo_contest *c)
{
	c->disk_per_second = disk_reads_per_second(&c->corpus);
	double rate = MISS_LOAD * c->disk_per_second / c->load.cold_share;
	rate = rate < RATE_MIN ? RATE_MIN : rate > RATE_MAX ? RATE_MAX : rate;
	c->load.rate = (double)(uint64_t)(rate / 100) * 100;
}

struct tick {
	struct progress *progress;
	unsigned index, total;
};

static void on_tick(void *arg, double done)
{
	const struct tick *t = arg;

	progress_update(t->progress, (t->index + 0.2 + 0.8 * done) / t->total);
}

/* What was measured stands even if the server's end was not a good one. */
static void finish(struct demo_result *r, struct demo_child *child, const struct cgroup *g)
{
	uint64_t peak_rss_bytes = 0;
	char why[DEMO_WHY_BYTES] = "";

	if (g != NULL)
		r->peak_bytes = cgroup_peak_bytes(g);
	if (demo_child_finish(child, &peak_rss_bytes, why) != 0 && why[0] != '\0') {
		bool oom = g != NULL && cgroup_oom_kills(g) > 0;
		if (r->ran || r->why[0] == '\0' || oom)
			snprintf(r->why, sizeof(r->why), "%s",
			         oom ? "it needed more memory than it was given" : why);
		r->ran = false;
	}
	if (r->peak_bytes == 0)
		r->peak_bytes = peak_rss_bytes;
}

int demo_contest_run(struct demo_contest *c, const struct demo_contender *kind,
                     struct progress *progress, unsigned index, unsigned total)
{
	struct demo_result *r = &c->results[c->n_results++];
	struct tick tick = { .progress = progress, .index = index, .total = total };
	struct demo_child child;
	struct cgroup group;
	char name[64];

	*r = (struct demo_result){ .kind = kind };
	progress_step(progress, kind->title);
	progress_update(progress, (double)index / total);
	demo_corpus_drop(&c->corpus);
	snprintf(name, sizeof(name), "quire-demo-%d-%u", (int)getpid(), index);
	c->capped = cgroup_create(name, c->corpus.memory_bytes, &group) == 0;

	int rc = demo_child_start(kind, &c->corpus, c->capped ? group.procs : NULL, &c->quiet, &child);
	if (rc != 0) {
		if (c->capped)
			cgroup_destroy(&group);
		return rc;
	}
	if (demo_child_wait_ready(&child, READY_TIMEOUT_MS, r->why) == 0) {
		rc = demo_client_run(&c->corpus, &c->load, &child, on_tick, &tick, &r->m);
		r->ran = rc == 0;
	}
	finish(r, &child, c->capped ? &group : NULL);
	demo_corpus_drop(&c->corpus);
	if (c->capped)
		cgroup_destroy(&group);
	if (*c->load.stop != 0)
		return -EINTR;
	return rc == -ENOMEM ? rc : 0;
}
