/* page_ring.c - a queue of page numbers. */
#include "page_ring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The smallest ring: what one page of memory holds. */
static size_t min_capacity(void)
{
	return (size_t)sysconf(_SC_PAGESIZE) / sizeof(uint64_t);
}

static uint64_t *map_slots(size_t capacity)
{
	void *slots = mmap(NULL, capacity * sizeof(uint64_t), PROT_READ | PROT_WRITE,
	                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return slots == MAP_FAILED ? NULL : slots;
}

int page_ring_init(struct page_ring *ring)
{
	ring->capacity = min_capacity();
	ring->head = 0;
	ring->count = 0;
	ring->slots = map_slots(ring->capacity);
	return ring->slots == NULL ? -ENOMEM : 0;
}

void page_ring_fini(struct page_ring *ring)
{
	if (ring->slots != NULL)
		munmap(ring->slots, page_ring_bytes(ring));
	ring->slots = NULL;
	ring->capacity = 0;
	ring->count = 0;
}

/* Copies what is held, oldest first, into a new piece of memory. (Not by mremap: ThreadSanitizer does not see
 * it, and takes whatever is mapped at the old place next for ours.) */
static int move_to(struct page_ring *ring, size_t capacity)
{
	uint64_t *slots = map_slots(capacity);
	if (slots == NULL)
		return -ENOMEM;

	size_t to_end = ring->capacity - ring->head;
	size_t first = ring->count < to_end ? ring->count : to_end;
	memcpy(slots, ring->slots + ring->head, first * sizeof(*slots));
	memcpy(slots + first, ring->slots, (ring->count - first) * sizeof(*slots));

	munmap(ring->slots, page_ring_bytes(ring));
	ring->slots = slots;
	ring->capacity = capacity;
	ring->head = 0;
	return 0;
}

int page_ring_push(struct page_ring *ring, uint64_t page)
{
	if (ring->count == ring->capacity && move_to(ring, 2 * ring->capacity) < 0)
		return -ENOMEM;
	ring->slots[(ring->head + ring->count) & (ring->capacity - 1)] = page;
	ring->count++;
	return 0;
}

uint64_t page_ring_pop(struct page_ring *ring)
{
	uint64_t page = page_ring_oldest(ring);
	ring->head = (ring->head + 1) & (ring->capacity - 1);
	ring->count--;
	return page;
}

void page_ring_rotate(struct page_ring *ring)
{
	uint64_t page = page_ring_oldest(ring);
	ring->slots[(ring->head + ring->count) & (ring->capacity - 1)] = page;
	ring->head = (ring->head + 1) & (ring->capacity - 1);
}

void page_ring_trim(struct page_ring *ring)
{
	size_t capacity = ring->capacity;
	size_t smallest = min_capacity();
	while (capacity > smallest && ring->count <= capacity / 4)
		capacity /= 2;
	/* Without memory for the smaller one, the larger one serves as well. */
	if (capacity < ring->capacity)
		(void)move_to(ring, capacity);
}
