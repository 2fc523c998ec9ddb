/* damage.h - what is asked of a store whose media hold what nobody wrote there. */
#ifndef TESTS_SIM_DAMAGE_H
#define TESTS_SIM_DAMAGE_H

#include "world.h"

/* In a coroutine; arg: the world. The store is closed, and is so again. */
void damage_look(struct env *e, void *arg);

#endif
