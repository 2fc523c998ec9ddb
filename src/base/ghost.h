/* ghost.h - remembers, in four bytes each, the pages that left most recently.
 *
 * A table of buckets of sixteen fingerprints, a cache line; a new one pushes the oldest of its bucket
 * out, so the whole forgets in about the order of entry and never grows. (With fewer to a bucket, pages
 * of the more crowded ones are forgotten too early, and in a scan that returns always the same ones.)
 * A page that never was there is taken for known with a probability of 2^-28. Memory from mmap. Not thread-safe.
 */
#ifndef BASE_GHOST_H
#define BASE_GHOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ghost {
	uint32_t *fingerprints; /* owned; NULL: no memory, remembers nothing */
	size_t n_buckets;
};

/* Makes room for about n_pages, 0 allowed. Forgets all if the size changes much, and does
 * nothing otherwise. */
void ghost_resize(struct ghost *ghost, size_t n_pages);
void ghost_fini(struct ghost *ghost);

void ghost_add(struct ghost *ghost, uint64_t page);

/* True if page was there; then it is there no more. */
bool ghost_take(struct ghost *ghost, uint64_t page);

size_t ghost_bytes(const struct ghost *ghost);

#endif
