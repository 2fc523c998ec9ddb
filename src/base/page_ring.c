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

/* The slot so many behind the oldest; at most capacity. */
static size_t slot_at(const struct page_ring *ring, size_t n)
{
	size_t slot = ring->head + n;

	return slot < ring->capacity ? slot : slot - ring->capacity;
}

/* Room for so many, a quarter more, and what fills the last page. */
static size_t capacity_for(size_t count)
{
	size_t smallest = min_capacity();

	return (count + count / 4) / smallest * smallest + smallest;
}

int page_ring_push(struct page_ring *ring, uint64_t page)
{
	if (ring->count == ring->capacity && move_to(ring, capacity_for(ring->count)) < 0)
		return -ENOMEM;
	ring->slots[slot_at(ring, ring->count)] = page;
	ring->count++;
	return 0;
}

uint64_t page_ring_pop(struct page_ring *ring)
{
	uint64_t page = page_ring_oldest(ring);
	ring->head = slot_at(ring, 1);
	ring->count--;
	return page;
}

void page_ring_rotate(struct page_ring *ring)
{
	uint64_t page = page_ring_oldest(ring);
	ring->slots[slot_at(ring, ring->count)] = page;
	ring->head = slot_at(ring, 1);
}

void page_ring_trim(struct page_ring *ring)
{
	size_t capacity = capacity_for(ring->count);

	/* Without memory for the smaller one, the larger one serves as well. */
	if (capacity < ring->capacity - ring->capacity / 4)
		(void)move_to(ring, capacity);
}
