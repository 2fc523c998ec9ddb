/* tmem.h - pools that live on somebody else's budget, for the layers above; programs have quire/tmem.h.
 *
 * Charged as BUDGET_TMEM, of which there may be one such user of a budget. A put into a pool asks the budget's owner for room, by
 * budget_reclaim and without a lock, as long as the pool has not its part (room.c); else pools evict their own. Who wants memory of
 * theirs asks by tmem_yield.
 */
#ifndef TMEM_TMEM_H
#define TMEM_TMEM_H

#include "../base/budget.h"

#include <quire/tmem.h>

/* As quire_tmem_create; the budget is borrowed, and quire_tmem_set_budget refused (-EINVAL): its owner sets it. */
int tmem_create(struct budget *budget, unsigned n_threads, struct quire_tmem **ret_tmem, struct quire_error *err);

/* Gives some memory back: what is idle or in holes, else what ephemeral pages hold. False: there is none. Any thread; a few
 * microseconds, no I/O. */
bool tmem_yield(struct quire_tmem *tmem);

/* The same, but of what the program's own ephemeral pools have beyond their part of the budget. False: they don't, or
 * nothing came of it yet. */
bool tmem_yield_surplus(struct quire_tmem *tmem);

/* What its pools hold from now on is locked against swap. Before there are any. */
void tmem_lock(struct quire_tmem *tmem);

/* False: it isn't, or not all of it: the kernel allows no more. Any thread; a hint. */
bool tmem_is_locked(struct quire_tmem *tmem);

#define TMEM_OWNER_WEIGHT 100u /* of the budget's owner, beside the weights of pools */

/* The pool is the owner's, who sets its cap as he likes: for it nobody else makes room. */
void tmem_pool_steer(struct quire_tmem_pool *pool);

/* May a get of it wait for I/O (QUIRE_TMEM_SPILL)? */
bool tmem_pool_spills(const struct quire_tmem_pool *pool);

/* ---- pools that may spill, for who may not wait (beside.c) ---- */

/* As quire_tmem_put, of a page that isn't there; but it waits for nothing, and calls nothing of the backing: -ENOSPC where contents would have to
 * leave memory first. */
int tmem_put_at_once(struct quire_tmem_pool *pool, const struct quire_tmem_key *key, const void *page);

/* As quire_tmem_get that keeps; but -EWOULDBLOCK where the page is in the backing. */
int tmem_get_at_once(struct quire_tmem_pool *pool, const struct quire_tmem_key *key, void *page);

/* How many of the n pages from the key's on can be had at once, or aren't there: up to the first that is in the backing. Any thread; a
 * fraction of a microsecond each. */
unsigned tmem_at_hand(struct quire_tmem_pool *pool, const struct quire_tmem_key *key, unsigned n);

/* So many bytes of the pool's contents may be in the backing, and 64 KiB more, or one page. */
void tmem_pool_limit_spill(struct quire_tmem_pool *pool, uint64_t most_bytes);

/* What the pool holds now, and its cap; UINT64_MAX: none. Any thread. */
uint64_t tmem_pool_held(struct quire_tmem_pool *pool, uint64_t *ret_cap_bytes);

/* Some of its contents leave memory for the backing, by one write. False: none did. May block, or suspend. */
bool tmem_spill_more(struct quire_tmem_pool *pool);

/* Is the page there? No use of it, and no get. Any thread; well under a microsecond. */
bool tmem_holds(struct quire_tmem_pool *pool, const struct quire_tmem_key *key);

/* The same of n pages, 64 at most: a bit for each. The lock is held for 16 at a time. */
uint64_t tmem_holds_each(struct quire_tmem_pool *pool, const struct quire_tmem_key *keys, unsigned n);

/* Where pages that left have made holes, moves up to n_moves slots together and gives back what came free of it. False: there is
 * not much to gain. */
bool tmem_compact(struct quire_tmem *tmem, unsigned n_moves);

#endif
