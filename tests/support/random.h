/* random.h - what everything in a random history is drawn from: the same after the same seed, on any machine. */
#ifndef TESTS_SUPPORT_RANDOM_H
#define TESTS_SUPPORT_RANDOM_H

#include <stdint.h>
#include <stdlib.h>
#include <time.h>

/* The next of a sequence (splitmix64); any state is a good one. */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* What a test begins with that was given no seed: the same each time, so that who changes nothing breaks nothing; with QUIRE_TEST_LONG
 * another each time. */
static inline uint64_t random_beginning(void)
{
	return getenv("QUIRE_TEST_LONG") != NULL ? (uint64_t)time(NULL) : 20251;
}

/* The same, or what QUIRE_TEST_SEED says; never 0. */
static inline uint64_t random_seed(void)
{
	const char *given = getenv("QUIRE_TEST_SEED");
	uint64_t seed = given != NULL && *given != 0 ? strtoull(given, NULL, 0) : random_beginning();

	return seed != 0 ? seed : 1;
}

/* How many: QUIRE_TEST_COUNT, or `slow` with QUIRE_TEST_LONG, else `quick`. */
static inline uint64_t random_count(uint64_t quick, uint64_t slow)
{
	const char *given = getenv("QUIRE_TEST_COUNT");

	if (given != NULL && *given != 0)
		return strtoull(given, NULL, 0);
	return getenv("QUIRE_TEST_LONG") != NULL ? slow : quick;
}

/* Below n, which is not 0. */
static inline uint64_t random_below(uint64_t *state, uint64_t n)
{
	return random_next(state) % n;
}

#endif
