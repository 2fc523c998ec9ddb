/* threads.c - N threads on one map, or on one mmap; one line of JSON.
 *
 *   bench-threads --file F --bytes N --memory N --seconds S --threads N KIND
 *   bench-threads --file F costs
 *
 * Kinds: mmap-hit, mmap-miss; quire-hit (residency word, then a load), quire-want (want, then a load), quire-miss (each
 * thread a loop, 128 pages under way in all, four of each thread at least), quire-fill (the same of a file in the kernel's page
 * cache: what the CPU can do). Hits are of as many pages as half of the memory holds, all resident. Misses are of all pages; the memory is
 * full before counting begins.
 *
 * `costs` are what a model of more CPUs than there are here needs: threads_costs.c.
 */
#include "threads.h"

#include <quire/quire.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define ASIDE_BYTES (8u << 20) /* of the memory, for the program */
#define ASIDE_BYTES_A_THREAD (256u << 10)
#define UNDER_WAY 128
#define LEAST_UNDER_WAY 4
#define COUNT_EVERY 64
#define FILL_SECONDS 60 /* at most, until the memory is full */

enum kind { MMAP_HIT, MMAP_MISS, QUIRE_HIT, QUIRE_WANT, QUIRE_MISS, QUIRE_FILL, N_KINDS };
static const char *const kind_names[N_KINDS] = { "mmap-hit",   "mmap-miss",  "quire-hit",
	                                         "quire-want", "quire-miss", "quire-fill" };

struct crew {
	struct run run;
	enum kind kind;
	unsigned n_members;
	const unsigned char *base;
	const uint32_t *words;
	unsigned page_shift;
	struct quire_cache *cache;
	struct quire_map *map;
	struct member *members; /* owned */
	atomic_bool stop;
	atomic_int error;
};

struct walker {
	struct member *m;
	struct quire_op op;
	struct iovec range;
	uint64_t page;
};

struct member {
	struct crew *crew;
	pthread_t thread;
	struct quire_loop *loop;
	uint64_t rng, n_local;
	_Atomic uint64_t n_accesses, n_wrong;
} __attribute__((aligned(128)));

static void member_saw(struct member *m, uint64_t page)
{
	const struct crew *c = m->crew;

	if (!run_page_right(&c->run, c->base + page * c->run.page_bytes, page))
		atomic_fetch_add(&m->n_wrong, 1);
	if (++m->n_local % COUNT_EVERY == 0)
		atomic_store_explicit(&m->n_accesses, m->n_local, memory_order_relaxed);
}

static void crew_failed(struct crew *c, int rc)
{
	atomic_store(&c->error, rc);
	atomic_store(&c->stop, true);
}

/* ---- hits, and mmap's misses ---- */

static void member_access(struct member *m)
{
	struct crew *c = m->crew;
	uint64_t page = run_random_page(&c->run, &m->rng);
	struct iovec v = { .iov_base = (void *)(uintptr_t)(c->base + page * c->run.page_bytes),
		           .iov_len = c->run.page_bytes };
	int rc = 0;

	if (c->kind == QUIRE_WANT || (c->kind == QUIRE_HIT && (c->words[page] & QUIRE_RESIDENT) == 0))
		rc = quire_map_want(c->map, &v, 1, 0, NULL);
	if (rc < 0)
		crew_failed(c, rc);
	member_saw(m, page);
}

/* ---- Quire's misses ---- */

static void wanted(struct quire_op *op, void *arg);

static void walk(struct walker *w)
{
	struct crew *c = w->m->crew;

	for (;;) {
		w->page = run_random_page(&c->run, &w->m->rng);
		if ((c->words[w->page] & QUIRE_RESIDENT) == 0)
			break;
		member_saw(w->m, w->page);
		if (atomic_load_explicit(&c->stop, memory_order_relaxed))
			return;
	}
	w->range.iov_base = (void *)(uintptr_t)(c->base + w->page * c->run.page_bytes);
	w->range.iov_len = c->run.page_bytes;
	quire_op_init_callback(&w->op, w->m->loop, wanted, w);
	int rc = quire_map_want(c->map, &w->range, 1, 0, &w->op);
	if (rc < 0)
		crew_failed(c, rc);
}

static void wanted(struct quire_op *op, void *arg)
{
	struct walker *w = arg;

	if (op->result < 0)
		crew_failed(w->m->crew, (int)op->result);
	else
		member_saw(w->m, w->page);
	if (!atomic_load_explicit(&w->m->crew->stop, memory_order_relaxed))
		walk(w);
}

static void member_loop(struct member *m)
{
	unsigned depth = UNDER_WAY / m->crew->n_members;
	if (depth < LEAST_UNDER_WAY)
		depth = LEAST_UNDER_WAY;
	const struct quire_loop_options opts = { .size = sizeof(opts), .depth = depth };
	struct walker *walkers = calloc(depth, sizeof(*walkers));
	int rc = walkers == NULL ? -ENOMEM : quire_loop_create(&opts, &m->loop, NULL);

	if (rc == 0) {
		for (unsigned i = 0; i < depth; i++) {
			walkers[i].m = m;
			walk(&walkers[i]);
		}
		rc = quire_loop_run(m->loop);
		quire_loop_destroy(m->loop);
	}
	if (rc < 0)
		crew_failed(m->crew, rc);
	free(walkers);
}

static void *member_main(void *arg)
{
	struct member *m = arg;

	if (m->crew->kind == QUIRE_MISS || m->crew->kind == QUIRE_FILL) {
		member_loop(m);
		return NULL;
	}
	while (!atomic_load_explicit(&m->crew->stop, memory_order_relaxed))
		member_access(m);
	return NULL;
}

/* ---- counting ---- */

struct figures {
	double now, cpu;
	uint64_t n_accesses, n_wrong, n_misses, n_evictions, n_tlb;
};

/* All CPUs, all processes: there is no other count. */
static uint64_t tlb_interrupts(void)
{
	char line[8192];
	uint64_t sum = 0;
	FILE *f = fopen("/proc/interrupts", "re");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		char *at = strstr(line, "TLB:");
		if (at == NULL)
			continue;
		char *end = at += 4;
		for (uint64_t n = strtoull(at, &end, 10); end != at; n = strtoull(at, &end, 10)) {
			sum += n;
			at = end;
		}
	}
	if (f != NULL)
		fclose(f);
	return sum;
}

static struct figures look(struct crew *c)
{
	struct figures f = { .n_tlb = tlb_interrupts() };
	struct quire_cache_stat stat = { 0 };
	struct rusage usage;

	for (unsigned i = 0; i < c->n_members; i++) {
		f.n_accesses += atomic_load(&c->members[i].n_accesses);
		f.n_wrong += atomic_load(&c->members[i].n_wrong);
	}
	if (c->cache != NULL) {
		quire_cache_stat(c->cache, &stat);
		f.n_misses = stat.n_fills;
		f.n_evictions = stat.n_evictions;
	} else if (getrusage(RUSAGE_SELF, &usage) == 0) {
		f.n_misses = f.n_evictions = (uint64_t)usage.ru_majflt; /* the memory is full: one in, one out */
	}
	f.cpu = cpu_seconds();
	f.now = now_seconds();
	return f;
}

static void sleep_seconds(double seconds)
{
	struct timespec t = { .tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9) };

	nanosleep(&t, NULL);
}

static int crew_run(struct crew *c)
{
	const bool misses = c->kind == QUIRE_MISS || c->kind == QUIRE_FILL;
	unsigned n = 0;

	c->members = aligned_alloc(128, c->n_members * sizeof(*c->members));
	if (c->members == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < c->n_members; i++)
		c->members[i] = (struct member){ .crew = c, .rng = 0x9e3779b97f4a7c15u * (i + 1) };
	for (; n < c->n_members; n++)
		if (pthread_create(&c->members[n].thread, NULL, member_main, &c->members[n]) != 0) {
			crew_failed(c, -EAGAIN);
			break;
		}
	/* Where the file is in somebody else's memory, mmap never misses. */
	double give_up = now_seconds() + FILL_SECONDS;
	do
		sleep_seconds(0.1);
	while (misses && !atomic_load(&c->stop) && look(c).n_misses < run_fill_accesses(&c->run) && now_seconds() < give_up);
	if (misses && now_seconds() >= give_up)
		crew_failed(c, -ETIMEDOUT);
	struct figures before = look(c);
	if (!atomic_load(&c->stop))
		sleep_seconds(c->run.seconds);
	struct figures after = look(c);
	atomic_store(&c->stop, true);
	while (n-- > 0)
		pthread_join(c->members[n].thread, NULL);
	printf("{\"kind\": \"%s\", \"threads\": %u, \"accesses\": %llu, \"wrong\": %llu, \"misses\": %llu, "
	       "\"evictions\": %llu, \"tlb\": %llu, \"cpu_seconds\": %.6f, \"seconds\": %.6f}\n",
	       kind_names[c->kind], c->n_members, (unsigned long long)(after.n_accesses - before.n_accesses),
	       (unsigned long long)after.n_wrong, (unsigned long long)(after.n_misses - before.n_misses),
	       (unsigned long long)(after.n_evictions - before.n_evictions),
	       (unsigned long long)(after.n_tlb - before.n_tlb), after.cpu - before.cpu, after.now - before.now);
	free(c->members);
	return atomic_load(&c->error);
}

/* ---- setting up ---- */

static int open_mmap(struct crew *c)
{
	const size_t len = c->run.n_pages * c->run.page_bytes;
	int fd;

	if (c->kind == MMAP_MISS)
		return run_mmap_file(&c->run, &c->base, &fd);
	fd = open(c->run.path, O_RDONLY | O_CLOEXEC);
	void *map = fd < 0 ? MAP_FAILED : mmap(NULL, len, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (map == MAP_FAILED || madvise(map, len, MADV_RANDOM) != 0)
		return failed(c->run.path, -errno);
	c->base = map;
	return 0;
}

static int open_map(struct crew *c)
{
	const struct quire_cache_options opts = { .size = sizeof(opts),
		                                  .budget_bytes = c->run.memory_bytes - ASIDE_BYTES -
		                                                  c->n_members * (uint64_t)ASIDE_BYTES_A_THREAD,
		                                  .buffered_io = c->kind == QUIRE_FILL };
	const struct quire_item item = { .path = c->run.path, .len_bytes = c->run.n_pages * c->run.page_bytes };
	struct quire_error err = { 0 };
	int rc = quire_cache_open(&opts, &c->cache, &err);

	if (rc == 0)
		rc = quire_map_create(c->cache, &item, 1, NULL, &c->map, &err);
	if (rc < 0) {
		fprintf(stderr, "bench-threads: %s\n", err.text);
		return rc;
	}
	c->base = quire_map_base(c->map);
	c->words = quire_map_residency(c->map);
	if (c->words == NULL)
		return failed("userfaultfd", -ENOTSUP);
	if (c->kind == QUIRE_MISS || c->kind == QUIRE_FILL)
		return 0;
	struct iovec all = { .iov_base = (void *)(uintptr_t)c->base, .iov_len = item.len_bytes };
	rc = quire_map_want(c->map, &all, 1, 0, NULL);
	return rc < 0 ? failed("making all resident", rc) : 0;
}

static int bench(struct crew *c)
{
	if (c->kind == MMAP_HIT || c->kind == QUIRE_HIT || c->kind == QUIRE_WANT)
		c->run.n_pages = c->run.memory_bytes / 2 / c->run.page_bytes;
	int rc = c->kind == MMAP_HIT || c->kind == MMAP_MISS ? open_mmap(c) : open_map(c);
	if (rc == 0)
		rc = crew_run(c);
	if (rc < 0)
		return failed(kind_names[c->kind], rc);
	if (c->map != NULL) {
		quire_map_destroy(c->map, NULL);
		quire_cache_close(c->cache);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "file", required_argument, NULL, 'f' },    { "bytes", required_argument, NULL, 'b' },
		{ "memory", required_argument, NULL, 'm' },  { "seconds", required_argument, NULL, 's' },
		{ "threads", required_argument, NULL, 't' }, { NULL, 0, NULL, 0 },
	};
	struct crew c = { .run = { .page_bytes = (size_t)sysconf(_SC_PAGESIZE), .seconds = 1 }, .n_members = 1 };
	int option;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (option == 'f')
			c.run.path = optarg;
		else if (option == 'b')
			c.run.n_pages = strtoull(optarg, NULL, 10) / c.run.page_bytes;
		else if (option == 'm')
			c.run.memory_bytes = strtoull(optarg, NULL, 10);
		else if (option == 's')
			c.run.seconds = strtod(optarg, NULL);
		else if (option == 't')
			c.n_members = (unsigned)strtoul(optarg, NULL, 10);
		else
			return 2;
	}
	if (optind + 1 == argc && strcmp(argv[optind], "costs") == 0 && c.run.path != NULL)
		return threads_costs(c.run.path) == 0 ? 0 : 1;
	while (optind + 1 == argc && c.kind < N_KINDS && strcmp(argv[optind], kind_names[c.kind]) != 0)
		c.kind++;
	if (optind + 1 != argc || c.kind == N_KINDS || c.run.path == NULL || c.run.n_pages == 0 || c.n_members == 0 ||
	    c.run.memory_bytes < 2 * (ASIDE_BYTES + c.n_members * (uint64_t)ASIDE_BYTES_A_THREAD)) {
		fprintf(stderr, "usage: bench-threads --file F --bytes N --memory N [--seconds S] [--threads N] KIND\n"
		                "       bench-threads --file F costs\n");
		return 2;
	}
	return bench(&c) == 0 ? 0 : 1;
}
