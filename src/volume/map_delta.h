/* map_delta.h - what was written to trees and is in none of their pages yet: extents in memory, by tree and block, the newest
 * alone. Not thread-safe: the owner locks. 32 bytes an extent, 48 at worst. */
#ifndef VOLUME_MAP_DELTA_H
#define VOLUME_MAP_DELTA_H

#include "map.h"

#define MAP_DELTA_MAX_N (UINT64_C(1) << 31) /* blocks of one extent */

struct map_delta_chunk;

struct map_delta {
	struct map_delta_chunk **chunks; /* owned; none is empty */
	struct map_delta_chunk *spare[3]; /* owned; so that a change that has begun does not fail */
	size_t n_chunks, capacity;
	uint64_t n_extents;
};

void map_delta_fini(struct map_delta *d); /* and empties it */

/* An extent of a tree; e->n ≤ MAP_DELTA_MAX_N. What was there for these blocks is no more: told to dead (NULL allowed), if it was no
 * hole. -ENOMEM: nothing changed. */
typedef void (*map_dead_fn)(void *arg, uint64_t place, uint64_t n_blocks);
int map_delta_set(struct map_delta *d, uint32_t tree, const struct map_extent *e, map_dead_fn dead, void *arg);

/* The first extent of the tree that ends above lba. False: none. */
bool map_delta_find(const struct map_delta *d, uint32_t tree, uint64_t lba, struct map_extent *ret);

/* The first of all, by tree and block; and out with it. */
bool map_delta_first(const struct map_delta *d, uint32_t *ret_tree, struct map_extent *ret);
void map_delta_drop_first(struct map_delta *d); /* there is one */

typedef void (*map_delta_fn)(void *arg, uint32_t tree, const struct map_extent *e);
void map_delta_each(const struct map_delta *d, map_delta_fn fn, void *arg);

uint64_t map_delta_bytes(const struct map_delta *d); /* of memory */
bool map_delta_check(const struct map_delta *d);     /* for tests */

#endif
