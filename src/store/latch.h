/* latch.h - exclusion that coroutines may hold while they do I/O: shared by transactions, exclusive for what
 * rewrites the catalogue. And the flush of a device, shared by all who need one. */
#ifndef STORE_LATCH_H
#define STORE_LATCH_H

#include "../journal/wait.h"

/* Whoever wants it exclusively keeps newcomers out, so he gets it. Not to be taken twice by one. */
struct latch {
	struct wait_queue waits;
	unsigned n_shared, n_wanting;
	bool exclusive;
};

void latch_init(struct latch *l, struct quire_loop *service);
void latch_fini(struct latch *l);
int latch_share(struct latch *l); /* 0, or why it can't be waited for here (-EDEADLK) */
void latch_unshare(struct latch *l);
int latch_exclude(struct latch *l);
void latch_unexclude(struct latch *l);

/* Flushes of one device: one at a time; all who came before it began share it. */
struct flusher {
	struct wait_queue waits;
	struct device *device; /* borrowed */
	uint64_t n_started, n_done;
	bool running;
	int error;             /* of the first that failed; none is tried after it */
};

void flusher_init(struct flusher *f, struct device *device, struct quire_loop *service);
void flusher_fini(struct flusher *f);

/* Every write that was done before the call is durable when it returns 0. */
int flusher_flush(struct flusher *f);

#endif
