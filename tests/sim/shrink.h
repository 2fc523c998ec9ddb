/* shrink.h - less of a history that fails, which fails still. */
#ifndef TESTS_SIM_SHRINK_H
#define TESTS_SIM_SHRINK_H

#include "plan.h"

/* Runs what is left of the seed's history in a process of its own; true: it fails. */
bool shrink_fails(uint64_t seed, const struct plan_less *less, bool is_loud);

/* Leaves out, one after the other, whatever isn't needed for it to fail: faces, kinds of faults, lives, then operations by halves, quarters
 * and so on (delta debugging). Says what it does. */
void shrink(uint64_t seed, struct plan_less *less);

/* "face:map,fault:slow,life:2,op:7": what is left out, as it is printed, and read. False: that is no such text. */
void less_print(const struct plan_less *less);
bool less_parse(const char *text, struct plan_less *ret);

#endif
