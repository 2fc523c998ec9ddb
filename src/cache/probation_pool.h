/* probation_pool.h - a pool of slots for copies: which are free, which hold what, which is the oldest.
 *
 * A slot is
 *   FREE    in the list of free ones
 *   BUSY    in no list: a copy is being made or used, without the lock
 *   HELD    in its hash chain, and in the list by age
 *
 * Slots [0, n_slots) are charged; memory is given back from the end. All calls under the pool's lock, unless they say
 * otherwise.
 */
#ifndef CACHE_PROBATION_POOL_H
#define CACHE_PROBATION_POOL_H

#include "core.h"

#define POOL_BUCKETS_LEAST 64
#define NO_SLOT UINT32_MAX

enum slot_state { SLOT_FREE, SLOT_BUSY, SLOT_HELD };

struct slot {
	uint64_t page;
	struct range *range;   /* borrowed: while it is HELD, see probation.c */
	uint32_t chain;        /* in its bucket */
	uint32_t older, newer; /* in the list of free ones, or by age */
	enum slot_state state;
};

struct slot_list {
	uint32_t oldest, newest;
};

struct pool {
	pthread_mutex_t lock; /* a leaf */
	_Atomic uint32_t n_held;
	_Atomic uint32_t n_slots; /* changed under the lock */
	uint32_t n_buckets;
	_Atomic bool sparse, wants_more;
	struct slot *slots;     /* of the mapping, as are */
	uint32_t *buckets;
	char *copies;
	struct slot_list free, held;
	uint32_t n_tried, n_admitted, n_hits; /* in this window; tried: those that one in SPARSE is taken of */
} __attribute__((aligned(128)));

void pool_init(struct pool *pool); /* its memory is there, and zero; its bytes are zero but for that */
void pool_fini(struct pool *pool);

/* Bytes of a pool's part of the mapping for so many slots at most; pool_place: at that address. */
uint64_t pool_bytes(uint64_t max_slots, unsigned page_shift);
void pool_place(struct pool *pool, char *at, uint64_t max_slots, unsigned page_shift);

static inline char *pool_copy(const struct pool *pool, uint32_t i, unsigned page_shift)
{
	return pool->copies + ((size_t)i << page_shift);
}

uint32_t pool_find(const struct pool *pool, uint64_t page); /* a HELD slot; NO_SLOT */

void slot_detach(struct pool *pool, uint32_t i);  /* HELD → BUSY; its range counts one less */
void slot_attach(struct pool *pool, uint32_t i);  /* BUSY → HELD, as page and range say */
void slot_release(struct pool *pool, uint32_t i); /* BUSY → FREE */
uint32_t slot_take(struct pool *pool);            /* FREE → BUSY, or the oldest that is HELD; NO_SLOT */

/* n slots more, which are paid for: no more than are there already, or POOL_BUCKETS_LEAST. */
void pool_grow(struct pool *pool, uint32_t n);
/* Up to n slots less, from the end, up to one that is BUSY just now; how many. What was in them stays the caller's
 * to take out of memory. */
uint32_t pool_shrink(struct pool *pool, uint32_t n);

bool pool_check(const struct pool *pool, uint32_t max_slots); /* for tests */

#endif
