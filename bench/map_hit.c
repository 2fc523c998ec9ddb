/* map_hit.c - loads of bytes that are there: each load's place follows from the one before it, so that nothing overlaps.
 *
 *   bench-map-hit SYSTEM FILE BYTES STEPS SAMPLES
 *
 * Brings the first BYTES of FILE into memory, in the system's own way, then walks over them: SAMPLES times STEPS random
 * loads of 8 bytes. One line of JSON: ns a load of each sample (of this thread's CPU: nothing here waits, but for a
 * CPU that others have), how many bytes lie on 2 MiB pages, and where the walk ended, which must be
 * the same for all, as all have read the same bytes in the same order.
 *
 *   quire-4k, quire-2m  a map with pages of that size, all wanted; raw loads, and then the same walk with
 *                       each load's page wanted before it ("want_ns")
 *   mmap-random         faulted in page by page under MADV_RANDOM
 *   mmap                populated, without advice
 *   mmap-huge           populated under MADV_HUGEPAGE: as large as this file system's folios get
 *   anon-huge           no cache at all: read into anonymous memory of huge pages
 *   pread               a system call a load, from the page cache
 */
#include "clock.h"
#include "fail.h"

#include <quire/quire.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

#define ASIDE_BYTES (64u << 20)
#define PIECE_BYTES (64u << 20)
#define HUGE_BYTES (2u << 20)
#define N_TOUCHERS 16u

struct hit {
	int fd;
	uint64_t bytes, page_bytes;
	const unsigned char *base; /* NULL: by pread */
	struct quire_cache *cache;
	struct quire_map *map;
	uint64_t place; /* of the walk */
};

/* ---- bringing it into memory ---- */

static void quire_open(struct hit *h, const char *path, size_t page_bytes)
{
	const struct quire_cache_options opts = {
		.size = sizeof(opts), .budget_bytes = h->bytes + h->bytes / 8 + ASIDE_BYTES};
	const struct quire_item item = {.path = path, .fd = -1, .len_bytes = h->bytes, .page_bytes = page_bytes};
	struct quire_error err;

	if (quire_cache_open(&opts, &h->cache, &err) < 0 ||
	    quire_map_create(h->cache, &item, 1, NULL, &h->map, &err) < 0) {
		fprintf(stderr, "bench-map-hit: %s\n", err.text);
		exit(1);
	}
	if (quire_map_item_page_bytes(h->map, 0) != page_bytes)
		die("pages of that size", -ENOTSUP);
	h->base = quire_map_base(h->map);
	for (uint64_t at = 0; at < h->bytes; at += PIECE_BYTES) {
		uint64_t left = h->bytes - at;
		struct iovec v = {(char *)(uintptr_t)h->base + at, left < PIECE_BYTES ? left : PIECE_BYTES};

		check(quire_map_want(h->map, &v, 1, 0, NULL), "want");
	}
	if (!quire_map_resident(h->map, h->base, h->bytes))
		die("not all of it is resident", -ENOMEM);
}

static void quire_close(struct hit *h)
{
	struct quire_map_stat stat;

	check(quire_map_stat(h->map, &stat), "stat");
	if (stat.n_faults > 0 || stat.n_evictions > 0)
		die("pages came or went meanwhile", -EAGAIN);
	check(quire_map_destroy(h->map, NULL), "destroy");
	check(quire_cache_close(h->cache), "close");
}

struct toucher {
	const struct hit *h;
	pthread_t thread;
	unsigned index, sum;
};

static void *touch_some(void *arg)
{
	struct toucher *t = arg;

	for (uint64_t page = t->index; page < t->h->bytes / t->h->page_bytes; page += N_TOUCHERS)
		t->sum += *(const volatile unsigned char *)(t->h->base + page * t->h->page_bytes);
	return NULL;
}

/* Each page by a fault of its own, from many threads: one would take a minute. */
static void touch_all(struct hit *h)
{
	struct toucher t[N_TOUCHERS];

	for (unsigned i = 0; i < N_TOUCHERS; i++) {
		t[i] = (struct toucher){.h = h, .index = i};
		check(-pthread_create(&t[i].thread, NULL, touch_some, &t[i]), "thread");
	}
	for (unsigned i = 0; i < N_TOUCHERS; i++)
		pthread_join(t[i].thread, NULL);
}

/* The file is out of the page cache before, since its folios stay as large as they were made. */
static void map_file(struct hit *h, int advice)
{
	check(-posix_fadvise(h->fd, 0, 0, POSIX_FADV_DONTNEED), "fadvise");
	char *p = mmap(NULL, h->bytes, PROT_READ, MAP_SHARED, h->fd, 0);
	if (p == MAP_FAILED)
		die("mmap", -errno);
	h->base = (unsigned char *)p;
	madvise(p, h->bytes, advice);
	if (advice == MADV_RANDOM)
		touch_all(h);
	else if (madvise(p, h->bytes, MADV_POPULATE_READ) < 0)
		touch_all(h);
}

static void read_whole(const struct hit *h, char *p)
{
	for (uint64_t at = 0; at < h->bytes;) {
		ssize_t n = pread(h->fd, p + at, h->bytes - at < PIECE_BYTES ? h->bytes - at : PIECE_BYTES, (off_t)at);

		if (n <= 0)
			die("read", n < 0 ? -errno : -EIO);
		at += (uint64_t)n;
	}
}

static void read_into_memory(struct hit *h)
{
	char *p = mmap(NULL, h->bytes + HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap", -errno);
	p = (char *)(((uintptr_t)p + HUGE_BYTES - 1) & -(uintptr_t)HUGE_BYTES);
	madvise(p, h->bytes, MADV_HUGEPAGE);
	read_whole(h, p);
	h->base = (unsigned char *)p;
}

static void read_into_cache(struct hit *h)
{
	char *p = malloc(PIECE_BYTES);

	for (uint64_t at = 0; at < h->bytes; at += PIECE_BYTES)
		if (pread(h->fd, p, PIECE_BYTES, (off_t)at) < 0)
			die("read", -errno);
	free(p);
}

static void open_as(struct hit *h, const char *system, const char *path)
{
	if (strcmp(system, "quire-4k") == 0)
		quire_open(h, path, QUIRE_PAGE_4K);
	else if (strcmp(system, "quire-2m") == 0)
		quire_open(h, path, QUIRE_PAGE_2M);
	else if (strcmp(system, "mmap-random") == 0)
		map_file(h, MADV_RANDOM);
	else if (strcmp(system, "mmap") == 0)
		map_file(h, MADV_NORMAL);
	else if (strcmp(system, "mmap-huge") == 0)
		map_file(h, MADV_HUGEPAGE);
	else if (strcmp(system, "anon-huge") == 0)
		read_into_memory(h);
	else if (strcmp(system, "pread") == 0)
		read_into_cache(h);
	else
		die(system, -EINVAL);
}

/* Bytes of the memory at base that lie on 2 MiB pages. */
static uint64_t huge_bytes(const struct hit *h)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long long from, to, kib, found = 0;
	char line[512];
	bool inside = false;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%llx-%llx ", &from, &to) == 2)
			inside = h->base != NULL && (uintptr_t)h->base >= from && (uintptr_t)h->base < to;
		else if (inside && (sscanf(line, "AnonHugePages: %llu", &kib) == 1 ||
		                    sscanf(line, "FilePmdMapped: %llu", &kib) == 1))
			found += kib << 10;
	}
	if (f != NULL)
		fclose(f);
	return found;
}

/* ---- walking ---- */

/* Where the walk goes next, after it has read `value`. */
static inline uint64_t next_place(uint64_t place, uint64_t value)
{
	place = (place ^ value) * UINT64_C(0x9e3779b97f4a7c15);
	return place ^ place >> 29;
}

static inline uint64_t offset_of(const struct hit *h, uint64_t place)
{
	return (uint64_t)((unsigned __int128)place * (h->bytes / 8) >> 64) * 8;
}

static void walk_loads(struct hit *h, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		h->place = next_place(h->place, *(const uint64_t *)(const void *)(h->base + offset_of(h, h->place)));
}

static void walk_wants(struct hit *h, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		uint64_t at = offset_of(h, h->place);
		struct iovec v = {(char *)(uintptr_t)h->base + at, 8};
		struct quire_op op;

		quire_op_init(&op);
		check(quire_map_want(h->map, &v, 1, 0, &op), "want");
		if (!quire_op_done(&op) || op.result != 0)
			die("want: not resident", -EIO);
		h->place = next_place(h->place, *(const uint64_t *)(const void *)(h->base + at));
	}
}

static void walk_preads(struct hit *h, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		uint64_t value;

		if (pread(h->fd, &value, sizeof(value), (off_t)offset_of(h, h->place)) != sizeof(value))
			die("pread", -EIO);
		h->place = next_place(h->place, value);
	}
}

/* Samples of a walk from its start; they follow a first round that is not counted. Returns where it ended. */
static uint64_t measure(struct hit *h, void (*walk)(struct hit *h, uint64_t n), uint64_t n_steps, uint64_t n_samples)
{
	h->place = 1;
	walk(h, n_steps);
	for (uint64_t i = 0; i < n_samples; i++) {
		uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);

		walk(h, n_steps);
		printf("%s%.2f", i > 0 ? ", " : "", (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - start) / (double)n_steps);
	}
	return h->place;
}

int main(int argc, char **argv)
{
	struct hit h = {.page_bytes = (uint64_t)sysconf(_SC_PAGESIZE)};

	if (argc != 6) {
		fprintf(stderr, "usage: bench-map-hit SYSTEM FILE BYTES STEPS SAMPLES\n");
		return 2;
	}
	uint64_t n_steps = strtoull(argv[4], NULL, 10), n_samples = strtoull(argv[5], NULL, 10);
	h.bytes = strtoull(argv[3], NULL, 10) & -(uint64_t)HUGE_BYTES;
	h.fd = open(argv[2], O_RDONLY | O_CLOEXEC);
	check(h.fd < 0 ? -errno : 0, argv[2]);
	double start = now_seconds();
	open_as(&h, argv[1], argv[2]);
	printf("{\"fill_seconds\": %.3f, \"ns\": [", now_seconds() - start);
	uint64_t end = measure(&h, h.base == NULL ? walk_preads : walk_loads, n_steps, n_samples);
	if (h.map != NULL) {
		printf("], \"want_ns\": [");
		if (measure(&h, walk_wants, n_steps, n_samples) != end)
			die("what was wanted and what was loaded differ", -EIO);
	}
	printf("], \"huge_bytes\": %llu, \"end\": \"%016llx\"}\n", (unsigned long long)huge_bytes(&h),
	       (unsigned long long)end);
	if (h.map != NULL)
		quire_close(&h);
	close(h.fd);
	return 0;
}
