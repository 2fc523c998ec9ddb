/* damage.h - what is asked of a store whose media hold what nobody wrote there. */
#ifndef TESTS_SIM_DAMAGE_H
#define TESTS_SIM_DAMAGE_H

#include "world.h"

/* Bits flip while nobody has the store open: in what is mapped, in footers of segments, and in superblocks. */
void damage_at_rest(struct world *w);

/* In a coroutine; arg: the world. The store is closed, and is so again. */
void damage_look(struct env *e, void *arg);

#endif
