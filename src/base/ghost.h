/* ghost.h - remembers, in six bytes each, the pages that left most recently.
 *
 * A table of buckets of sixteen words, a cache line. A word has 24 bits of fingerprint and 8 of the epoch in which
 * the page was added: an epoch is a 32nd of what is to be remembered, and of each it is counted how many pages are
 * still known. As soon as the newer epochs hold enough, the oldest is forgotten as a whole. So the order of entry
 * is kept to a 32nd without a list, and what was taken makes room for older ones, as it does in a list. (Buckets
 * that each push their own oldest out forget too early where they are crowded, and in a loop always the
 * same pages: up to 1.7 % more misses where the ghost just reaches around the loop.) A third of the words
 * is spare, so that hardly a bucket is too crowded.
 *
 * A page that never was there is taken for known with a probability of 2^-20. Memory from mmap; without it
 * the ghost remembers nothing. Not thread-safe.
 *
 * Invariants:
 * 1. n_live is the sum of n_live_of, which is 0 outside oldest to newest (they wrap).
 * 2. The epochs newer than the oldest hold less than n_pages, or there are none.
 */
#ifndef BASE_GHOST_H
#define BASE_GHOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GHOST_EPOCHS 256u

/* Zeroed, it remembers nothing and owns nothing. */
struct ghost {
	uint32_t *words; /* owned; NULL: no memory, remembers nothing */
	size_t bytes;    /* of their mapping: whole pages */
	size_t n_buckets;
	size_t n_pages;  /* to be remembered */
	size_t n_live;   /* remembered */
	uint32_t n_live_of[GHOST_EPOCHS];
	size_t n_added;  /* in the newest epoch */
	uint8_t newest, oldest; /* epochs */
};

/* Makes room for n_pages, 0 allowed. Forgets all if the size changes much. */
void ghost_resize(struct ghost *ghost, size_t n_pages);
void ghost_fini(struct ghost *ghost);

void ghost_add(struct ghost *ghost, uint64_t page);

/* True if page was there; then it is there no more. */
bool ghost_take(struct ghost *ghost, uint64_t page);

/* The same, and how many of those that it knows came after that one: as many as there are in newer epochs, and half of those
 * in its own. */
bool ghost_take_ranked(struct ghost *ghost, uint64_t page, size_t *ret_rank);

size_t ghost_bytes(const struct ghost *ghost);

/* True if the invariants hold. */
bool ghost_check(const struct ghost *ghost);

#endif
