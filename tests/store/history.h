/* history.h - a random history of a store's objects: for history_test.c, and for the simulation of whole stores.
 *
 * Coroutines take steps, each of which suspends where it waits; model.h knows what there should be. */
#ifndef TESTS_STORE_HISTORY_H
#define TESTS_STORE_HISTORY_H

#include "model.h"
#include "../support/random.h"

#define STORE_HISTORY_HELD 4u

struct history {
	struct env *e;       /* borrowed */
	struct model m;
	uint64_t random;
	uint64_t most_units; /* to which classes grow */
	bool faulty;         /* I/O may fail */
	bool failed;         /* the power is gone, or I/O has failed: no more steps in this life */
	unsigned n_working;  /* workers that have not ended */
	unsigned n_steps;    /* left in this life, for all workers */
	struct object *held[STORE_HISTORY_HELD];
	uint64_t held_len[STORE_HISTORY_HELD];
	uint64_t n_cuts, n_transactions, n_compactions, n_lives;
};

static inline uint64_t rnd(struct history *h, uint64_t n) /* below n */
{
	return random_below(&h->random, n);
}

/* One, by chance; in a coroutine, of a store that is open. */
void store_step(struct history *h);
/* Of a committed object that nobody else uses; NULL: there is none. */
struct model_object *store_history_pick(struct history *h, enum model_state state);
void store_history_let_go(struct history *h); /* what is held; before a close */

#endif
