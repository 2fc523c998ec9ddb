/* chance_internal.h - the second chance from the inside; the essay is in chance.c. For src/cache/chance*.c alone. */
#ifndef CACHE_CHANCE_INTERNAL_H
#define CACHE_CHANCE_INTERNAL_H

#include "chance.h"

#include "../base/ghost.h"
#include "core.h"
#include "fill.h"
#include "filler.h"
#include "split.h"
#include "unit.h"

#include "../tmem/tmem.h"

#define N_SPOTS 4096u      /* regions of 2 MiB, by their hash */
#define UNIT_PAGES 16u     /* of the largest unit of which there are copies */
#define OBJECT_SHIFT 10u
#define MEASURE 16u        /* one fill in so many, and one put */
#define SAMPLE_SHIFT 2u    /* of the ghost for the split: one page in four, or fewer */
#define KEY_GOLDEN 0x9E3779B97F4A7C15u

/* How many pages of a region are passed over: now, and after the next that is refused. */
struct spot {
	_Atomic uint8_t left, most;
};

struct chance {
	struct quire_cache *cache;    /* borrowed: longer than this */
	struct quire_tmem *tmem;      /* borrowed: the cache's */
	struct quire_tmem_pool *pool; /* borrowed: the tmem's */
	_Atomic uint64_t epoch;
	_Atomic uint64_t reserve_bytes, cap_bytes, target_bytes;
	_Atomic bool any;             /* there may be copies; a hint: one that is missed is found another time */
	_Atomic bool sparse;          /* copies are worth next to nothing: made only to find out when that changes */
	_Atomic uint32_t n_room;      /* batches of victims for which room is left */
	_Atomic uint32_t n_measured, n_tried;
	_Atomic unsigned sample_shift;
	_Atomic uint32_t kept_share;  /* of 256 victims, of late */
	pthread_mutex_t lock;         /* guards what follows; tmem's alone is taken under it */
	struct ghost recent, far;
	uint64_t charged_bytes;
	struct split split;
	struct spot spots[N_SPOTS];   /* not by the lock: races lose a count */
};

static inline uint64_t memory_pages(const struct quire_cache *c)
{
	return budget_limit(&c->budget) >> c->page_shift;
}

static inline struct quire_tmem_key key_of(const struct range *r, uint64_t page)
{
	uint64_t index = page - r->first_page;

	return (struct quire_tmem_key){.object = {r->serial, index >> OBJECT_SHIFT, 0},
	                               .index = (uint32_t)(index & ((1u << OBJECT_SHIFT) - 1))};
}

/* For ghosts: of that page alone, for good. */
static inline uint64_t name_of(const struct range *r, uint64_t page)
{
	return r->serial << RANGE_KEY_SHIFT | (page - r->first_page);
}

static inline bool is_measured(struct chance *ch)
{
	return atomic_fetch_add_explicit(&ch->n_measured, 1, memory_order_relaxed) % MEASURE == 0;
}

/* What a batch of victims came to. */
struct tally {
	uint32_t n_wanted, n_kept, n_put;
	uint64_t compress_ns; /* one of them; 0: not measured */
	bool wants_room; /* there would be copies, had they room or not */
};

/* ---- chance_part.c ---- */

/* Victims have been looked at, and their copies made: ghosts and split are told, and room is kept for the next. ranges_lock is
 * held. n_pages: of all of them. */
void chance_victims_left(struct quire_cache *c, const struct victim *victims, unsigned n, unsigned n_pages,
                         const struct tally *tally);

#endif
