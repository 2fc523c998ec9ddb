/* evict.h - makes room: charges frames, chooses victims, drops pages in batches. */
#ifndef CACHE_EVICT_H
#define CACHE_EVICT_H

#include "range.h"

/* Charges n frames, evicting as needed; -ENOMEM when there is no room for all and nothing can leave now. Any thread, fault handlers included; microseconds, never I/O. */
int evict_charge_frames(struct quire_cache *c, unsigned n);
void evict_uncharge_frames(struct quire_cache *c, unsigned n);

/* n pages of one region that are about to be filled enter it, evicting as needed. -ENOMEM unless `force`. */
int evict_enter_region(struct arena *a, struct quire_cache *c, uint64_t page, unsigned n, bool force);

/* Evicts about n pages, 64 at most and what belongs to their units; returns how many. 0: nothing can leave. */
unsigned evict_some(struct quire_cache *c, unsigned n);

/* A page that was claimed, and can't leave after all, stays, as one that is in use. */
void evict_stay(struct range *r, uint64_t page);
/* A page that was claimed, and is out of memory, is ABSENT. Its frame is not uncharged. */
void evict_settle(struct range *r, uint64_t page);

/* Evicts until the budget is kept, or nothing can leave. */
void evict_to_budget(struct quire_cache *c);

/* A page that is FILLING for fill `id` becomes RESIDENT and enters the replacement policy; one that
 * is not (any more), or is spoiled, is left alone: false. flags: PAGE_HOT, PAGE_UNVERIFIED, uses that it is known to have had. */
bool evict_enter(struct range *r, uint64_t page, uint32_t id, uint32_t flags);

/* A page that is absent was used where it lies. True: not for the first time, so it is worth a frame; this is told once. */
bool evict_use_absent(struct range *r, uint64_t page);

/* Drops resident pages of units that [page, page + n) touches and in which none is pinned; returns how many. */
uint64_t evict_range(struct range *r, uint64_t page, uint64_t n);

/* Pages of the extent are the next to leave (-ENOMEM); extents that begin in it are so no more. */
int evict_cold(struct range *r, uint64_t page, uint64_t n);
void evict_forget_cold(struct range *r, uint64_t page, uint64_t n);

/* Pins a page that `w` says is resident. 0; -EAGAIN: its word changed, look again; -ENOMEM: pins
 * have taken all but the reserve; -ECANCELED: the range is dying. */
int evict_pin(struct range *r, uint64_t page, uint32_t w);
bool evict_unpin(struct range *r, uint64_t page); /* false: it has no pin */

/* True if all frames are pinned, or pools refused what was to leave for them: no page will leave before one is unpinned. What is not, leaves by
 * itself or can be evicted, and whoever waits is told (fillers_feed). */
bool evict_all_pinned(const struct quire_cache *c);

/* False: pins, and what is no frame, pass the budget by themselves; no eviction will help. */
bool evict_can_fit(const struct quire_cache *c);

/* Bytes that pins may take. */
uint64_t evict_pin_limit(const struct quire_cache *c);

#endif
