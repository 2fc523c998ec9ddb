/* memory.h - the pools of pages (src/tmem) that live on a cache's budget. */
#ifndef CACHE_MEMORY_H
#define CACHE_MEMORY_H

#include "../tmem/tmem.h"

struct quire_cache;

/* Made when first asked for; borrowed, until the cache is closed. -ENOMEM. Any thread, but not in a fault handler. */
int memory_tmem(struct quire_cache *c, struct quire_tmem **ret_tmem, struct quire_error *err);

/* Pools give some memory back. False: there is none to be had. Any thread, fault handlers included. */
bool memory_yield(struct quire_cache *c);

/* The same of frames, or else of pools: microseconds, no I/O. As budget.reclaim it is for stores, whose memory is of this budget
 * too. */
bool memory_reclaim(void *cache);

#endif
