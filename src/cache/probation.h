/* probation.h - copies of pages that left without anybody knowing whether they were used. */
#ifndef CACHE_PROBATION_H
#define CACHE_PROBATION_H

#include "range.h"

struct fill;
struct probation;
struct victim;

/* Uses that a page has in hand which came back from probation. */
#define PROBATION_USES (1u << PAGE_USES_SHIFT)

/* NULL, and no page ever is on probation, where there is no address space for it. */
struct probation *probation_create(struct quire_cache *c);
void probation_destroy(struct probation *p); /* no copy is left; NULL allowed */

/* A raw load found a page of the range cold: what leaves of it next is worth a copy. Any thread, fault handlers
 * included, as all that follows. */
void probation_earn(struct range *r);

/* Before victims are chosen: what probation_admit is to be told. */
uint64_t probation_epoch(struct quire_cache *c);

/* Pages that the policy has chosen, in EVICTING and still there, are copied where that is worth while, and none of them
 * has been dropped since the epoch. ranges_lock is held. True: there would be use for more memory. */
bool probation_admit(struct quire_cache *c, uint64_t epoch, const struct victim *victims, unsigned n);

/* Takes some of what has just become free, if it is to be had. */
void probation_grow(struct quire_cache *c);

/* Gives back about n pages' memory: of what is beyond its share, or `any`. How many; 0: there is none. */
unsigned probation_shrink(struct quire_cache *c, unsigned n, bool any);

/* Is there a copy of the page? For a moment, unless its word keeps others away. */
bool probation_holds(const struct range *r, uint64_t page);

/* The page of a fill that has claimed it (FILLING) appears from its copy, as by fill_install. False: there is no copy
 * that may be shown, and nothing was done. */
bool probation_fill(struct fill *fill);

/* Copies of [page, page + n) go, and those that are being made of what has left before will not come. */
void probation_drop(struct range *r, uint64_t page, uint64_t n);

bool probation_check(struct probation *p); /* do the invariants hold? Walks all; for tests */

#endif
