/* map_cache.h - pages of trees in memory: one cache, with a cap, for all volumes of the process. Pages are as on the medium,
 * verified, and never change, so any of them, or all, may go at any time. Blocks of data are kept by the same means, in a
 * cache of their own. Any thread. */
#ifndef VOLUME_MAP_CACHE_H
#define VOLUME_MAP_CACHE_H

#include "map_node.h"

#include "../base/budget.h"

struct map_cache;

/* Takes at most cap_bytes, its tables included, as it fills; charged to the budget (borrowed). cap_bytes: 64 KiB at least. */
int map_cache_create(uint64_t cap_bytes, struct budget *budget, struct map_cache **ret_cache);
void map_cache_destroy(struct map_cache *c); /* nothing is pinned; NULL allowed */

enum map_cache_kind { MAP_CACHE_PAGES, MAP_CACHE_DATA };
/* The one of that kind for all who have the same budget; cap_bytes: if it is made now. All of a process have the same, unless it has several caches
 * (quire_cache), which limit each other. Ended by unshare, with the last of them it is destroyed. */
int map_cache_share(enum map_cache_kind kind, uint64_t cap_bytes, struct budget *budget, struct map_cache **ret_cache);
void map_cache_unshare(struct map_cache *c); /* NULL allowed */
uint64_t map_cache_share_bytes(struct map_cache *c); /* the cap, by how many share it now */
/* Who has pages in it is told by a number that nobody else ever has. */
uint64_t map_cache_new_owner(void);

/* A page that is pinned, so that it stays. */
struct map_pin {
	const struct map_node_le *node;
	uint32_t slot;
	void *alone; /* owned: all slots were pinned, so it has memory of its own */
};

/* The page that a reference leads to, of an owner, at a level; read and verified if it is not there. 0; errors of read and
 * map_node_verify; -ENOMEM. */
int map_cache_get(struct map_cache *c, struct map_owner *owner, const struct map_extent *ref, unsigned level,
                  struct map_pin *ret);
void map_cache_put(struct map_cache *c, struct map_pin *pin);

/* Blocks of data: copied out if it is there; copied in, if there is room under cap and budget. */
bool map_cache_copy_out(struct map_cache *c, uint64_t owner_id, uint64_t place, void *to);
void map_cache_copy_in(struct map_cache *c, uint64_t owner_id, uint64_t place, const void *from);

/* Nothing is there any more but what is pinned. Takes the same time however much there was. For tests: what could be found wrong has
 * a place of its own, so a rollback or a removal needs none of this. */
void map_cache_drop(struct map_cache *c);

struct map_cache_stat {
	uint64_t cap_bytes, bytes; /* bytes: of pages and tables, now */
	uint64_t n_pages, n_hits, n_misses;
};
void map_cache_stat(struct map_cache *c, struct map_cache_stat *ret);

#endif
