/* anon.h - ranges whose pages have no file: what leaves goes into a pool of pages, and comes back from there.
 *
 * A page that the pool doesn't have is zeros. One that is resident is clean, and then write-protected, or dirty (PAGE_DIRTY), and then the
 * pool has nothing of it.
 */
#ifndef CACHE_ANON_H
#define CACHE_ANON_H

#include "../tmem/tmem.h"
#include "fill.h"

struct anon {
	struct quire_tmem_pool *pool; /* borrowed: until the range is freed; persistent, of the cache's tmem, pages of the system's size */
	bool strict;                  /* raw loads and stores, too, are refused memory that the budget doesn't have */
	bool spills;                  /* the pool may: see anon_back.c, anon_room.c */
	_Atomic uint64_t n_pooled;    /* pages there now */
	_Atomic uint64_t n_moved, n_busy, n_refused, n_write_faults, n_zero; /* so far: left dirty; found under I/O; refused by the pool;
	                                                                      * made dirty when they were there; came as zeros */
	/* anon_room.c: */
	_Atomic bool spilling;
	_Atomic uint64_t rest_until_ns;
	struct range *room_range;     /* referenced while spilling */
	struct loop_task room_task;
};

#define ANON_OBJECT UINT64_C(0x616e6f6e) /* third word of the objects that ranges have in pools */

/* A page's name in the pool. */
struct quire_tmem_key anon_key(const struct range *r, uint64_t page);

static inline bool anon_is_strict(const struct range *r)
{
	return r->anon != NULL && r->anon->strict;
}

/* As fill_start, but at once: pages are there and settled on return, if they are not in the pool's backing. source: of the page. Also
 * -EBADMSG: the pool's copy is damaged. */
int anon_fill(struct filler *f, struct range *r, uint64_t page, unsigned max_pages, unsigned flags,
              const struct page_source *source);

/* For anon_back.c: a fill that is about to claim its pages; and those that it has claimed come: n_good, result. */
void anon_fill_init(struct fill *fill, struct range *r, uint64_t page, unsigned flags, const struct page_source *source);
void anon_bring(struct fill *fill, bool may_wait);

/* A page that `w` says is resident becomes dirty, and may be written to. False: its word changed, or is about to: look again. */
bool anon_dirty(struct range *r, uint64_t page, uint32_t w);

/* Pages of [page, page + n) are zeros from now on, here and in the pool, but for those with pins: how many of these. Time in
 * proportion to n. The range is referenced. Not in a fault handler. */
uint64_t anon_discard(struct range *r, uint64_t page, uint64_t n);

#endif
