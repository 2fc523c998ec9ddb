/* threads.h - what the parts of bench-threads share. */
#ifndef BENCH_THREADS_H
#define BENCH_THREADS_H

#include "map_miss.h"

/* Measures and prints what sharing costs on this machine; 0, or a negative errno after a line on stderr. path: a
 * file of 1 MiB at least. */
int threads_costs(const char *path);

/* Who wants pages that are there: threads_want.c. */
struct wanter {
	struct quire_map *map;
	char *base;
	unsigned first;    /* of the WANTER_PAGES pages that it wants */
	uint64_t n;
} __attribute__((aligned(128)));

#define WANTER_PAGES 64

/* A cache and a map, all of it resident, for both; or one each. Never closed. */
int wanters_open(struct wanter *two, const char *path, bool own);
void wanter_want(struct wanter *w);

#endif
