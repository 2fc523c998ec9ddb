/* sums.h - what a tmem's counters always add up to. */
#ifndef TESTS_TMEM_SUMS_H
#define TESTS_TMEM_SUMS_H

#include "../base/cmocka_env.h"
#include "../../src/tmem/tmem_internal.h"

/* The statistics, after asserting that each byte of pages is counted once and each byte held has a purpose, that what
 * is elsewhere is so by a tier that is there, and that storage and tiers are in order. How far `held_bytes` may be above
 * the budget is the caller's to say. Takes the lock. */
struct quire_tmem_stat sums_stat(struct quire_tmem *t);

#endif
