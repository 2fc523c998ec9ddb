/* storage_internal.h - blocks of slots; the essay is in storage.c. For src/tmem/storage*.c alone. */
#ifndef TMEM_STORAGE_INTERNAL_H
#define TMEM_STORAGE_INTERNAL_H

#include "storage.h"

#define N_RUN 64u /* bits of a word */

struct block {
	uint8_t *base;         /* owned mapping */
	uint32_t slot_bytes, n_slots, n_used;
	uint32_t no, class_no;
	uint32_t n_pins, n_idle;
	uint32_t hint;         /* no word of `used` before it has a free bit */
	uint32_t n_late;       /* slots in `late` */
	struct block *prev, *next;           /* in the class's list */
	struct block *idle_prev, *idle_next; /* in the list of those with idle pages */
	uint64_t *used;        /* bit: slot in use; as are these, in one piece of memory with the block */
	uint64_t *late;        /* bit: to be freed when the pins are gone */
	uint64_t *there;       /* bit: page resident */
	uint16_t *touching;    /* of each page: slots in use that touch it */
	uint32_t n_pages;
	size_t meta_bytes;
};

static inline bool bit_get(const uint64_t *bits, uint32_t i)
{
	return (bits[i / N_RUN] >> (i % N_RUN)) & 1;
}

static inline void bit_set(uint64_t *bits, uint32_t i)
{
	bits[i / N_RUN] |= UINT64_C(1) << (i % N_RUN);
}

static inline void bit_clear(uint64_t *bits, uint32_t i)
{
	bits[i / N_RUN] &= ~(UINT64_C(1) << (i % N_RUN));
}

static inline struct block *block_of(const struct storage *s, uint32_t place)
{
	return s->blocks[place >> PLACE_SLOT_BITS].block;
}

/* ---- storage_block.c ---- */

uint32_t storage_class_of(uint32_t n_bytes);
uint32_t storage_bytes_of_class(uint32_t class_no);

/* The pages that a slot lies in. */
void block_pages_of(const struct storage *s, const struct block *b, uint32_t slot, uint32_t *ret_first,
                    uint32_t *ret_last);
/* Those of them that are not resident. */
uint32_t block_n_missing(const struct storage *s, const struct block *b, uint32_t slot);

/* Charges these. False: the budget. */
bool block_charge(struct storage *s, struct block *b, uint32_t slot);

/* Pages behind those of the slot come along, if the class is large and the budget allows it: one call is cheaper than a fault
 * for each. */
void block_populate(struct storage *s, struct block *b, uint32_t slot);

/* An empty one, in its class's list. NULL: no memory, or the budget. */
struct block *block_new(struct storage *s, uint32_t class_no);
void block_free(struct storage *s, struct block *b); /* nothing is in use in it */
void block_drop_idle(struct storage *s, struct block *b);

uint32_t block_lowest_free(struct block *b); /* there is one */
/* Its pages are charged. Returns its place. */
uint32_t block_take(struct storage *s, struct block *b, uint32_t slot);
/* The block may be gone then. */
void block_give(struct storage *s, struct block *b, uint32_t slot);

#endif
