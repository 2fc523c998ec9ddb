/* map_scan.h - a file read through once, and random reads beside that: what Quire's part and the kernel's share. */
#ifndef BENCH_MAP_SCAN_H
#define BENCH_MAP_SCAN_H

#include "map_miss.h"

#include <stdatomic.h>

#define MIB (UINT64_C(1) << 20)
#define SCAN_BYTES_PER_SECOND (2048.0 * 1048576) /* at most, of the scan beside random reads */

struct quire_cache;
struct quire_map;

struct scan {
	const char *path;
	uint64_t from, bytes; /* of the file: the hot set is before `from`, what is read through behind it */
	uint64_t memory_bytes;
	size_t page_bytes;      /* of the system: what the file is made of */
	size_t item_page_bytes; /* of Quire's items; 0: as they come */
	unsigned depth;
	double seconds;
	bool signal, advised;
	struct quire_cache *cache;
	struct quire_map *map;
	const unsigned char *base;  /* of the whole file, mapped by whomever */
	_Atomic uint64_t n_scanned; /* bytes */
	_Atomic uint64_t n_wrong;
	atomic_bool stop;
};

static inline void check_page(struct scan *s, const unsigned char *page, uint64_t n)
{
	uint64_t first, last;

	memcpy(&first, page, sizeof(first));
	memcpy(&last, page + s->page_bytes - sizeof(last), sizeof(last));
	if (first != n || last != ~n)
		atomic_fetch_add(&s->n_wrong, 1);
}

/* A MiB of the file, which is at `at`. */
static inline void check_pages(struct scan *s, const unsigned char *p, uint64_t at)
{
	for (uint64_t i = 0; i < MIB; i += s->page_bytes)
		check_page(s, p + i, (at + i) / s->page_bytes);
}

/* A thread: reads s->base through, again and again, until s->stop. */
void *scan_on(void *arg);
void print_beside(const struct scan *s, uint64_t alone, uint64_t beside, uint64_t scanned);

void run_kernel_read(struct scan *s);
void run_kernel_map(struct scan *s);
void run_kernel_sequential(struct scan *s);
void run_kernel_beside(struct scan *s);

#endif
