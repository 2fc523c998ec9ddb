/* shrink.h - less of a history that fails, which fails still. */
#ifndef TESTS_SIM_SHRINK_H
#define TESTS_SIM_SHRINK_H

#include "plan.h"

/* How a history has failed: where, as it was told, or else by which signal. */
struct failure {
	int status; /* of wait(2); 0: it hasn't */
	char where[64];
};

/* Runs what is left of the seed's history in a process of its own. is_loud: it says what happens. */
struct failure shrink_try(uint64_t seed, const struct plan_less *less, bool is_loud);

/* Leaves out, one after the other, whatever isn't needed for it to fail like that: faces, kinds of faults, lives, then operations by halves, quarters
 * and so on (delta debugging). */
void shrink(uint64_t seed, struct plan_less *less, const struct failure *failure);

/* "face:map,fault:slow,life:2,op:7": what is left out, as it is printed, and read. False: that is no such text. */
void less_print(const struct plan_less *less);
bool less_parse(const char *text, struct plan_less *ret);

#endif
