/* anon.c - a working set larger than memory: random reads and writes of pages that a program has filled.
 *
 *   bench-anon plain|want|raw CORPUS BYTES BUDGET ACCESSES WRITES THREADS
 *
 * BYTES of memory are filled with pages of CORPUS, over and over; each begins with its number and the count of its changes, so
 * no two are equal. Then come ACCESSES to random pages, WRITES percent of them stores, by THREADS threads that share them out: pages are drawn 32
 * at a time, then looked at and changed one after the other. Each look is held against a count of what was stored. As many accesses again
 * come before, to warm up.
 *
 *   plain  anonymous memory of the kernel's: what has no room goes to swap, or the program dies
 *   want   a region of a cache with that BUDGET; the 32 pages are asked for together, in a coroutine of the thread's own loop
 *   raw    the same, but nobody asks: each cold page is a fault
 *
 * Prints one line of JSON.
 */
#include "random.h"
#include "clock.h"
#include "fail.h"

#include <quire/quire.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BATCH 32
#define CHUNK ((size_t)1 << 20)
#define MOST_THREADS 16

struct bench {
	char mode; /* the first letter */
	size_t page_bytes, n_pages;
	char *base;
	_Atomic uint32_t *changes; /* of each page */
	struct quire_cache *cache;
	struct quire_anon *region;
	unsigned writes, n_threads;
	uint64_t n_accesses;
	_Atomic uint64_t n_wrong;
};

struct worker {
	struct bench *bench;
	pthread_t thread;
	uint64_t random, n;
};

struct draw {
	size_t page;
	bool write;
};

static uint64_t *words_of(const struct bench *b, size_t page)
{
	return (uint64_t *)(void *)(b->base + page * b->page_bytes);
}

/* ---- filling ---- */

/* Past the page cache as far as that goes, since it would be the program's memory. */
static size_t corpus_read(int fd, char *to, off_t *at)
{
	ssize_t n = pread(fd, to, CHUNK, *at);

	if (n < 0)
		die("corpus", -errno);
	posix_fadvise(fd, *at, (off_t)CHUNK, POSIX_FADV_DONTNEED);
	*at = (size_t)n < CHUNK ? 0 : *at + n;
	return (size_t)n;
}

static void fill(struct bench *b, const char *path)
{
	int fd = open(path, O_RDONLY);
	char *chunk = malloc(CHUNK);
	off_t at = 0;
	size_t have = 0, next = 0;

	if (fd < 0 || chunk == NULL)
		die(path, -errno);
	for (size_t page = 0; page < b->n_pages; page++, next += b->page_bytes) {
		while (next + b->page_bytes > have) {
			have = corpus_read(fd, chunk, &at);
			next = 0;
		}
		memcpy(words_of(b, page), chunk + next, b->page_bytes);
		words_of(b, page)[0] = page;
		words_of(b, page)[1] = 0;
	}
	free(chunk);
	close(fd);
}

/* ---- work ---- */

static void want(struct bench *b, const struct draw *draws, unsigned n)
{
	struct iovec ranges[BATCH];

	for (int write = 0; write < 2; write++) {
		unsigned k = 0;

		for (unsigned i = 0; i < n; i++)
			if (draws[i].write == write)
				ranges[k++] = (struct iovec){words_of(b, draws[i].page), 1};
		check(quire_anon_want(b->region, ranges, k, write ? QUIRE_ANON_WRITE : 0, NULL), "want");
	}
}

/* Two threads may change one page at a time; its count then lies between what they knew. */
static void touch(struct bench *b, const struct draw *d)
{
	volatile uint64_t *words = words_of(b, d->page);
	uint32_t before = atomic_load(&b->changes[d->page]);
	uint64_t now = __atomic_load_n(&words[1], __ATOMIC_ACQUIRE);

	if (words[0] != d->page || now < before || now > atomic_load(&b->changes[d->page]) + b->n_threads)
		atomic_fetch_add(&b->n_wrong, 1);
	if (d->write) {
		__atomic_fetch_add(&words[1], 1, __ATOMIC_ACQ_REL);
		atomic_fetch_add(&b->changes[d->page], 1);
	}
}

static void work(void *arg)
{
	struct worker *w = arg;
	struct bench *b = w->bench;
	struct draw draws[BATCH];

	for (uint64_t done = 0; done < w->n; done += BATCH) {
		for (unsigned i = 0; i < BATCH; i++)
			draws[i] = (struct draw){random_below(&w->random, b->n_pages), random_below(&w->random, 100) < b->writes};
		if (b->mode == 'w')
			want(b, draws, BATCH);
		for (unsigned i = 0; i < BATCH; i++)
			touch(b, &draws[i]);
	}
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct quire_loop *loop;

	if (w->bench->mode != 'w') {
		work(w);
		return NULL;
	}
	check(quire_loop_create(NULL, &loop, NULL), "loop");
	check(quire_co_spawn(loop, work, w), "coroutine");
	check(quire_loop_run(loop), "loop");
	check(quire_loop_destroy(loop), "loop");
	return NULL;
}

static void run(struct bench *b, uint64_t seed)
{
	struct worker workers[MOST_THREADS];

	for (unsigned i = 0; i < b->n_threads; i++) {
		workers[i] = (struct worker){.bench = b, .random = seed + i * 7919, .n = b->n_accesses / b->n_threads};
		check(-pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]), "thread");
	}
	for (unsigned i = 0; i < b->n_threads; i++)
		pthread_join(workers[i].thread, NULL);
}

static void report(struct bench *b, double took, double cpu)
{
	struct quire_cache_stat c = {0};
	struct quire_anon_stat s = {0};

	if (b->region != NULL) {
		quire_cache_stat(b->cache, &c);
		quire_anon_stat(b->region, &s);
	}
	printf("{\"accesses_per_s\": %.1f, \"cpu_us\": %.4f, \"wrong\": %llu, \"resident\": %llu, \"pooled\": %llu, "
	       "\"pool_held\": %llu, \"used\": %llu, \"fills\": %llu, \"moved\": %llu, \"refused\": %llu, \"faults\": %llu}\n",
	       (double)b->n_accesses / took, cpu / (double)b->n_accesses * 1e6, (unsigned long long)b->n_wrong,
	       (unsigned long long)s.resident, (unsigned long long)s.pooled, (unsigned long long)s.pool_held,
	       (unsigned long long)c.used, (unsigned long long)s.n_fills, (unsigned long long)s.n_moved,
	       (unsigned long long)s.n_refused, (unsigned long long)s.n_faults);
}

static void memory_make(struct bench *b, size_t bytes, uint64_t budget)
{
	const struct quire_cache_options o = {.size = sizeof(o), .budget_bytes = budget};
	struct quire_error err = {0};

	if (b->mode == 'p') {
		b->base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (b->base == MAP_FAILED)
			die("memory", -errno);
		/* In swap each page would be cut out of its huge page again. */
		madvise(b->base, bytes, MADV_NOHUGEPAGE);
		return;
	}
	check(quire_cache_open(&o, &b->cache, &err), "cache");
	check(quire_anon_create(b->cache, bytes, NULL, &b->region, &err), err.text);
	b->base = quire_anon_base(b->region);
}

int main(int argc, char **argv)
{
	struct bench b = {0};

	if (argc != 8) {
		fprintf(stderr, "usage: bench-anon plain|want|raw CORPUS BYTES BUDGET ACCESSES WRITES THREADS\n");
		return 2;
	}
	b.mode = argv[1][0];
	b.page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	b.n_pages = strtoull(argv[3], NULL, 10) / b.page_bytes;
	b.n_accesses = strtoull(argv[5], NULL, 10);
	b.writes = (unsigned)strtoul(argv[6], NULL, 10);
	b.n_threads = (unsigned)strtoul(argv[7], NULL, 10);
	b.changes = calloc(b.n_pages, sizeof(*b.changes));
	if (b.changes == NULL || b.n_threads == 0 || b.n_threads > MOST_THREADS)
		die("threads, or memory for what they did", -EINVAL);
	memory_make(&b, b.n_pages * b.page_bytes, strtoull(argv[4], NULL, 10));
	fill(&b, argv[2]);
	run(&b, 88172645463325252u);
	double begin = now_seconds(), cpu = cpu_seconds();
	run(&b, 1181783497276652981u);
	report(&b, now_seconds() - begin, cpu_seconds() - cpu);
	if (b.region != NULL) {
		check(quire_anon_destroy(b.region, NULL), "destroy");
		check(quire_cache_close(b.cache), "close");
	}
	return b.n_wrong > 0;
}
