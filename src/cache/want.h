/* want.h - the operation behind quire_map_want, and behind every served fault.
 *
 * A cursor walks over the wanted pages and stops at the first that is not resident: there the
 * operation parks on that page's fill, or in its filler's queue. It is thus in one place at a
 * time, and all its state is in the op. Fills of pages further on are started ahead of
 * the cursor and belong to nobody; when the cursor comes there it finds them done, parks on
 * them, or starts them anew.
 */
#ifndef CACHE_WANT_H
#define CACHE_WANT_H

#include "../loop/op.h"
#include "range.h"

#include <assert.h>
#include <sys/uio.h>

#define WANT_PIN 1u            /* the public QUIRE_WANT_PIN */
#define WANT_WRITE 2u          /* of anonymous ranges, the public QUIRE_ANON_WRITE: may be written to without a fault */
#define WANT_FAULT (1u << 16)  /* for a raw load: the page must come, whatever the budget says */
#define WANT_REPEAT (1u << 17) /* a thread waits in the kernel: repeat fills that loops own */
#define WANT_SINGLE (1u << 18) /* a read of several pages failed: one at a time, to find which */
#define WANT_LISTED (1u << 19) /* by a list of what is to come: no reader, nothing is read ahead of it */

#define WANT_REPEATED 1        /* result under WANT_REPEAT: the repeat's end will wake the thread */

enum want_where { WANT_NOWHERE, WANT_PARKED, WANT_QUEUED };

struct want {
	struct range *range;       /* referenced from start to end */
	const struct iovec *ranges;/* borrowed: until completion; or &one */
	struct iovec one;
	uint32_t n, flags;
	uint32_t index;            /* the cursor: range and page; the page is 0 where not begun */
	uint32_t ahead_index;      /* up to where fills were started ahead of it */
	uint64_t page, ahead_page;
	uint16_t n_ahead;          /* pages between the two */
	uint8_t where;             /* enum want_where; WANT_PARKED under the fill's lock */
	bool canceled;
	bool waited;               /* the cursor's page was not there when it came to it */
	int32_t error;             /* the fill's verdict, when the cursor's page has come */
	struct want *next, *prev;  /* of the fill's waiters, or the queue */
	struct fill *fill;         /* the last it was parked on */
};
static_assert(sizeof(struct want) <= OP_DRIVER_WORDS * sizeof(uint64_t), "a want lives in its op");

/* ranges lie within the range (the caller has checked). op == NULL waits. Returns as
 * quire_map_want does. */
int want_submit(struct range *r, const struct iovec *ranges, unsigned n, unsigned flags,
                struct quire_op *op);

/* Drives w on; on its home loop. */
void want_step(struct want *w);

/* A fill that w was parked on has ended: steps it here if `here` is its home, else there. */
void want_continue(struct want *w, struct quire_loop *here);

/* Pages that an iovec touches. */
static inline uint64_t want_first_page(const struct range *r, const struct iovec *v)
{
	return (uintptr_t)v->iov_base >> r->arena->page_shift;
}
static inline uint64_t want_end_page(const struct range *r, const struct iovec *v)
{
	return v->iov_len == 0 ? want_first_page(r, v)
	                       : (((uintptr_t)v->iov_base + v->iov_len - 1) >> r->arena->page_shift) + 1;
}

/* Takes back a pin of all pages of the ranges before (index, page). False: some had none. */
bool want_unpin(struct range *r, const struct iovec *ranges, uint32_t index, uint64_t page);

#endif
