/* map_miss.h - one system under random page accesses: what its kinds share.
 *
 * The file's page n begins with n as a 64-bit number and ends with its complement, so that
 * every access checks what it got. A run has two parts: the memory is filled, not counted;
 * then accesses are counted for a given time.
 */
#ifndef BENCH_MAP_MISS_H
#define BENCH_MAP_MISS_H

#include "clock.h"
#include "fail.h"
#include "random.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MAP_MISS_MAX_THREADS 64

struct run {
	const char *path;      /* borrowed; of Quire also a store's */
	uint64_t n_pages;      /* of the file, that are used */
	uint64_t memory_bytes; /* what the cgroup allows */
	size_t page_bytes;
	double seconds;
	unsigned n_threads, depth;
	bool direct; /* of pread: O_DIRECT */
	/* results */
	double measured_seconds, cpu_seconds;
	uint64_t n_accesses, n_misses, n_wrong; /* n_misses 0: not known */
};

/* All return 0, or a negative errno after one line on stderr. */
int run_mmap(struct run *r);
int run_pread(struct run *r);
int run_warmtouch(struct run *r);
int run_quire_want(struct run *r);       /* pages wanted, callbacks, one thread */
int run_quire_suspend(struct run *r);    /* raw loads in coroutines, one thread */
int run_quire_kernel(struct run *r);     /* want over kernel mappings */
int run_quire_pinned(struct run *r);     /* want with pins, no fault service */

/* Accesses that fill the memory when one page in four fits: some meet a page again. */
static inline uint64_t run_fill_accesses(const struct run *r)
{
	return r->memory_bytes / r->page_bytes * 6 / 5;
}

static inline uint64_t run_random_page(const struct run *r, uint64_t *state)
{
	return random_below(state, r->n_pages);
}

/* Reads the page's two ends: true if it is page n. */
static inline bool run_page_right(const struct run *r, const unsigned char *page, uint64_t n)
{
	uint64_t first, last;

	memcpy(&first, page, sizeof(first));
	memcpy(&last, page + r->page_bytes - sizeof(last), sizeof(last));
	return first == n && last == ~n;
}

/* mmap of the file with MADV_RANDOM, the memory filled by 64 threads. Owned by the process. */
int run_mmap_file(struct run *r, const unsigned char **ret_map, int *ret_fd);

#endif
