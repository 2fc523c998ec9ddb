/* hot.h - what is resident, by how much it is used: for who remembers it, and brings it back. */
#ifndef CACHE_HOT_H
#define CACHE_HOT_H

#include "range.h"

#define HOT_USES_MAX 3u

/* The first run of resident pages in [page, end) that were used so often: as its most used page where a unit has several,
 * and most of all those that advice or a pin keeps. False: there is none. A snapshot: pages come and go
 * meanwhile. The range may not be freed. */
bool hot_run(const struct range *r, uint64_t page, uint64_t end, unsigned uses, uint64_t *ret_first, uint64_t *ret_n);

/* Pages that have just been wanted again, and not used since: were used so often before. */
void hot_restore(struct range *r, uint64_t page, uint64_t n, unsigned uses);

#endif
