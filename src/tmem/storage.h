/* storage.h - slots of many sizes, in memory that goes back to the kernel.
 *
 * A slot is named by a place, 31 bits: its block's number and its own in the block. Slots don't move but in
 * storage_compact. Not thread-safe: the owner locks; what a pinned slot holds may be read without the lock.
 */
#ifndef TMEM_STORAGE_H
#define TMEM_STORAGE_H

#include "../base/budget.h"
#include "heap.h"

#include <stddef.h>

#define PLACE_NONE UINT32_MAX
#define PLACE_SLOT_BITS 13u
#define PLACE_BLOCK_BITS 18u

#define STORAGE_LEAST_BYTES 32u
#define STORAGE_FINE_BYTES 4352u           /* up to here classes are 16 bytes apart: a page of 4 KiB as it is, and its header */
#define STORAGE_MOST_BYTES ((2u << 20) + 4096u)
#define STORAGE_CLASSES 912u               /* see storage_class_of */

struct block;

/* Of a block what every access needs, in one place for all. */
struct storage_block {
	struct block *block; /* owned; NULL: a number that is free */
	uint8_t *base;
	uint32_t slot_bytes;
};

struct storage_class {
	struct block *first; /* blocks with free slots */
	uint64_t resident_bytes;    /* of all its blocks' pages */
	uint64_t n_used;            /* slots */
	bool tight;                 /* there was nothing to gain, and nothing was freed since */
};

struct storage {
	struct budget *budget;   /* borrowed */
	struct heap heap;        /* of blocks */
	struct storage_block *blocks; /* owned */
	uint32_t n_blocks, capacity, first_free;
	struct block *idle;      /* those with pages that are there and hold nothing */
	struct storage_class classes[STORAGE_CLASSES];
	uint32_t page_shift;
	uint64_t resident_bytes; /* of slots' pages, charged */
	uint64_t idle_bytes;     /* of those, what holds nothing */
	uint64_t live_bytes;     /* of slots in use, as large as their class */
	uint64_t meta_bytes;     /* charged besides */
	bool tight;              /* all classes are */
	bool locks;              /* blocks are to be locked against swap; false again once that was refused */
};

void storage_init(struct storage *s, struct budget *budget);
void storage_fini(struct storage *s); /* with all that is in it */

/* The size of the slot that n bytes get; n <= STORAGE_MOST_BYTES. */
uint32_t storage_slot_bytes(uint32_t n_bytes);

/* A slot for n bytes, of anything; PLACE_NONE: the budget, or no memory. */
uint32_t storage_alloc(struct storage *s, uint32_t n_bytes);

/* The same out of what is there: in a slot up to an eighth larger as well. For when the budget is used up. */
uint32_t storage_alloc_resident(struct storage *s, uint32_t n_bytes);

/* What is pinned is free once the last pin of its block is gone. */
void storage_free(struct storage *s, uint32_t place);

static inline void *storage_at(const struct storage *s, uint32_t place)
{
	const struct storage_block *b = &s->blocks[place >> PLACE_SLOT_BITS];

	return b->base + (size_t)(place & ((1u << PLACE_SLOT_BITS) - 1)) * b->slot_bytes;
}

/* The slot's. */
static inline uint32_t storage_bytes_of(const struct storage *s, uint32_t place)
{
	return s->blocks[place >> PLACE_SLOT_BITS].slot_bytes;
}

/* Who will read the slot waits for its lines once, not one after the other. */
void storage_prefetch(const struct storage *s, uint32_t place);

/* While a block has pins, none of its slots moves, or is given to another. */
void storage_pin(struct storage *s, uint32_t place);
void storage_unpin(struct storage *s, uint32_t place);

/* It was freed, and a pin has kept it. */
bool storage_is_freed(const struct storage *s, uint32_t place);

/* The first slot in use, and not freed, at `from` or behind it, whether there is such a place or not; 0: the first of all. PLACE_NONE. */
uint32_t storage_next(const struct storage *s, uint32_t from);

/* Whoever owns the slot at `from` is to know it by `to`, where its bytes are already. */
typedef void (*storage_moved_fn)(void *arg, uint32_t from, uint32_t to);

/* Moves up to n slots closer together where that gives memory back, and gives back what is idle. False: there is nothing
 * to gain. */
bool storage_compact(struct storage *s, unsigned n, storage_moved_fn moved, void *arg);

/* Gives back idle pages: all, or a block's, if there are many. */
void storage_trim(struct storage *s, bool all);

/* Is more than a 32nd of what is resident neither in use nor about to be? Then compacting is due. */
static inline bool storage_is_loose(const struct storage *s)
{
	return s->resident_bytes - s->live_bytes > s->resident_bytes / 32 + (64u << 10);
}

/* True if the numbered invariants hold; walks all. For tests. */
bool storage_check(const struct storage *s);

#endif
