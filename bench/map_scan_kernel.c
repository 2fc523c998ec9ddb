/* map_scan_kernel.c - the same by the kernel's page cache.
 *
 *   kernel-read        read() of 1 MiB, POSIX_FADV_SEQUENTIAL, one thread
 *   kernel-map         mmap, as it comes: the kernel's own readahead
 *   kernel-sequential  mmap under MADV_SEQUENTIAL, which doubles it
 *   kernel-beside      random pages of an mmap under MADV_RANDOM, 64 threads; then the same with a thread beside it
 *                      that scans by another mmap, under MADV_SEQUENTIAL, at up to 2 GiB/s
 *
 * The hot set is used three times by mappings, each as it comes, and was never used under an advice that hides its use.
 */
#include "map_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define N_WALKERS 64

/* By a descriptor of its own, since readahead goes by descriptors. */
static const unsigned char *map_file(struct scan *s, uint64_t bytes, int advice)
{
	int fd = open(s->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die(s->path, -errno);
	void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED || madvise(map, bytes, advice) != 0)
		die("mmap", -errno);
	close(fd);
	return map;
}

static double part_resident(const struct scan *s, const unsigned char *map, uint64_t bytes)
{
	uint64_t n_pages = bytes / s->page_bytes, n = 0;
	unsigned char *vec = malloc(n_pages);

	if (vec == NULL || mincore((void *)(uintptr_t)map, bytes, vec) != 0)
		die("mincore", -errno);
	for (uint64_t i = 0; i < n_pages; i++)
		n += vec[i] & 1;
	free(vec);
	return (double)n / (double)n_pages;
}

static const unsigned char *make_hot(struct scan *s)
{
	for (unsigned use = 0; use < 3; use++) {
		const unsigned char *hot = map_file(s, s->from, MADV_NORMAL);

		for (uint64_t at = 0; at < s->from; at += MIB)
			check_pages(s, hot + at, at);
		munmap((void *)(uintptr_t)hot, s->from); /* with it the kernel takes note of what was used */
	}
	return map_file(s, s->from, MADV_NORMAL);
}

static void read_through(struct scan *s)
{
	int fd = open(s->path, O_RDONLY | O_CLOEXEC);
	unsigned char *buf = aligned_alloc(MIB, MIB);

	if (fd < 0 || buf == NULL)
		die(s->path, fd < 0 ? -errno : -ENOMEM);
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	for (uint64_t at = s->from; at < s->bytes; at += MIB) {
		if (pread(fd, buf, MIB, (off_t)at) != (ssize_t)MIB)
			die("reading", errno != 0 ? -errno : -EIO);
		check_pages(s, buf, at);
	}
	free(buf);
	close(fd);
}

static void load_through(struct scan *s, int advice)
{
	const unsigned char *map = map_file(s, s->bytes, advice);

	for (uint64_t at = s->from; at < s->bytes; at += MIB)
		check_pages(s, map + at, at);
	munmap((void *)(uintptr_t)map, s->bytes);
}

static void run_through(struct scan *s, bool by_read, int advice)
{
	const unsigned char *hot = make_hot(s);
	double start = now_seconds();

	if (by_read)
		read_through(s);
	else
		load_through(s, advice);
	double seconds = now_seconds() - start;
	printf("{\"bytes\": %llu, \"seconds\": %.6f, \"hot_kept\": %.4f, \"wrong\": %llu}\n",
	       (unsigned long long)(s->bytes - s->from), seconds, part_resident(s, hot, s->from),
	       (unsigned long long)s->n_wrong);
}

void run_kernel_read(struct scan *s)
{
	run_through(s, true, 0);
}

void run_kernel_map(struct scan *s)
{
	run_through(s, false, MADV_NORMAL);
}

void run_kernel_sequential(struct scan *s)
{
	run_through(s, false, MADV_SEQUENTIAL);
}

/* ---- random pages beside a scan ---- */

struct walkers {
	struct scan *scan;
	const unsigned char *map;
	_Atomic uint64_t n;
	atomic_bool stop;
};

static void *walk(void *arg)
{
	static _Atomic uint64_t n_walkers;
	struct walkers *w = arg;
	struct scan *s = w->scan;
	uint64_t rng = 0x9e3779b97f4a7c15u * (1 + atomic_fetch_add(&n_walkers, 1)), n = 0;

	while (!atomic_load_explicit(&w->stop, memory_order_relaxed)) {
		uint64_t page = random_below(&rng, s->bytes / s->page_bytes);

		check_page(s, w->map + page * s->page_bytes, page);
		n++;
	}
	atomic_fetch_add(&w->n, n);
	return NULL;
}

static uint64_t walk_for(struct scan *s, const unsigned char *map, double seconds)
{
	struct walkers w = {.scan = s, .map = map};
	pthread_t threads[N_WALKERS];

	for (unsigned i = 0; i < N_WALKERS; i++) {
		int rc = pthread_create(&threads[i], NULL, walk, &w);
		if (rc != 0)
			die("threads", rc);
	}
	nanosleep(&(struct timespec){(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)}, NULL);
	atomic_store(&w.stop, true);
	for (unsigned i = 0; i < N_WALKERS; i++)
		pthread_join(threads[i], NULL);
	return w.n;
}

void run_kernel_beside(struct scan *s)
{
	const unsigned char *map = map_file(s, s->bytes, MADV_RANDOM);
	pthread_t thread;

	s->base = map_file(s, s->bytes, MADV_SEQUENTIAL);
	walk_for(s, map, (double)(s->memory_bytes / s->page_bytes) / 60000.0);
	uint64_t alone = walk_for(s, map, s->seconds);
	int rc = pthread_create(&thread, NULL, scan_on, s);
	if (rc != 0)
		die("threads", rc);
	uint64_t beside = walk_for(s, map, s->seconds), scanned = atomic_load(&s->n_scanned);
	atomic_store(&s->stop, true);
	pthread_join(thread, NULL);
	print_beside(s, alone, beside, scanned);
}
