/* stalled.h - a loop that has started wants and is then left alone, their reads under way. */
#ifndef TESTS_SUPPORT_STALLED_H
#define TESTS_SUPPORT_STALLED_H

#include "maps.h"

struct stalled {
	struct quire_loop *loop;
	struct quire_map *map;
	struct quire_op *ops;    /* borrowed; initialised by the caller */
	const struct iovec *ranges; /* borrowed */
	unsigned n, flags;
	bool started;
};

/* Starts n wants, the i-th of ranges[i] with ops[i], on a loop of that engine (skips if it is
 * not to be had) which the calling thread owns. depth 0: the default. */
void stalled_start(struct stalled *s, enum quire_engine engine, unsigned depth);

/* Lets the loop run to its end, and destroys it. */
void stalled_end(struct stalled *s);

extern const enum quire_engine both_engines[2];

#endif
