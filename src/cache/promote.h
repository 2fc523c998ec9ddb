/* promote.h - pages that are read where they lie, and come into the arena once they prove to be in use.
 *
 * For who has the bytes of a range at hand without I/O (a mapping of persistent memory) and reads them there, verified by
 * himself. He looks here first: a page that is resident is read from RAM, and its hit recorded; of others he tells, and
 * the replacement policy remembers them as it does pages that have left: one that it knows still is worth a frame, which
 * is taken as any fill takes it, and enters the policy as used. So what is read once leaves everything in the cache as it was.
 *
 * Ranges of ARENA_PINNED and pages of the system's size only; page numbers are absolute. The caller keeps the range
 * from being killed. Any thread; nothing here waits for I/O.
 */
#ifndef CACHE_PROMOTE_H
#define CACHE_PROMOTE_H

#include "range.h"

/* How many of the n pages from `page` on, in a row, are resident, or are not. Either may change at once. */
uint64_t promote_run(const struct range *r, uint64_t page, uint64_t n, bool resident);

/* Pins n pages, all resident, and records the hits: as a want does, whose want_unpin takes them off. -EAGAIN: one has left;
 * -ENOMEM: pins have taken all but the reserve; nothing is pinned then. */
int promote_pin(struct range *r, uint64_t page, uint64_t n);

/* A page is read where it lies. True: it is worth a frame, promote_page is due; this is not told again. One that is resident
 * has its hit recorded. */
bool promote_is_due(struct range *r, uint64_t page);

/* Makes it resident. copy: a page's bytes to `to`, zeros behind the item's end, verified there; index counts from the start
 * of the range. 0; -EBUSY: somebody else is at it; -EAGAIN: no memory now; or what copy said. */
typedef int (*promote_copy_fn)(void *arg, uint64_t index, void *to);
int promote_page(struct range *r, uint64_t page, promote_copy_fn copy, void *arg);

#endif
