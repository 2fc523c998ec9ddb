/* anon_back.h - pages of regions that are in the backing of their pool, on their way back. */
#ifndef CACHE_ANON_BACK_H
#define CACHE_ANON_BACK_H

#include "anon.h"

/* Makes what it takes, once for a cache. -ENOMEM. Not in a fault handler. */
int anon_back_create(struct quire_cache *c);
/* NULL allowed. No region is left, and the service thread has made a turn since. */
void anon_back_destroy(struct anon_back *back);

/* As fill_start, of one page, which was seen to be in the backing: it comes later, by the service thread. source: of the page. */
int anon_back_start(struct range *r, uint64_t page, unsigned flags, const struct page_source *source);

#endif
