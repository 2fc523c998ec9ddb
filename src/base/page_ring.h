/* page_ring.h - a queue of 64-bit page numbers that grows and shrinks by quarters.
 *
 * Memory comes from mmap, never from malloc: so it may be used in a signal handler, what
 * is given back is really gone, and its size is known to the byte. Not thread-safe.
 */
#ifndef BASE_PAGE_RING_H
#define BASE_PAGE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct page_ring {
	uint64_t *slots; /* owned */
	size_t capacity; /* what fills pages of memory */
	size_t head;     /* slot of the oldest */
	size_t count;
};

int page_ring_init(struct page_ring *ring); /* -ENOMEM */
void page_ring_fini(struct page_ring *ring);

int page_ring_push(struct page_ring *ring, uint64_t page); /* -ENOMEM, nothing changed */

/* The next two need a ring that is not empty. */
uint64_t page_ring_pop(struct page_ring *ring);
void page_ring_rotate(struct page_ring *ring); /* the oldest becomes the newest; never fails */

static inline uint64_t page_ring_oldest(const struct page_ring *ring)
{
	return ring->slots[ring->head];
}

/* Gives memory back if much of it is unused. Costs a copy of what is held, so that it is
 * paid by the pops before it. */
void page_ring_trim(struct page_ring *ring);

static inline size_t page_ring_bytes(const struct page_ring *ring)
{
	return ring->capacity * sizeof(ring->slots[0]);
}

#endif
