/* depart.h - pages of anonymous ranges on their way out of memory and into their pools. */
#ifndef CACHE_DEPART_H
#define CACHE_DEPART_H

#include "unit.h"

/* Of n victims that are claimed, those that are dirty pages of anonymous ranges leave for their pools, or are resident
 * again; either way they are done with, claim nothing any more, and *n_pages counts them no longer. How many left. Others, clean
 * pages among them, are left to the caller. ranges_lock is held, or `known`, the range of all. */
unsigned depart(struct quire_cache *c, struct range *known, struct victim *victims, unsigned n, unsigned *n_pages);

#endif
