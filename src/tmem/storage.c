/* storage.c - slots of many sizes.
 *
 * Purpose: to hold compressed pages, of 100 bytes to 2 MiB, with hardly more memory than they are long.
 *
 * A block is a stretch of address space, 128 KiB to a megabyte or eight slots, for slots of one class. Classes are 16 bytes apart up to a
 * page of 4 KiB, then 64 to each doubling. Memory comes page by page as slots are first used, always the lowest free
 * slot of a block: so what a class has not filled costs nothing, a block may be far larger than what is in it, and classes may be
 * many. (Slabs of whole pages, as in zsmalloc, must be small, as each class has one half full, and then the last slot of
 * each doesn't fit: 4.3 % with four pages, 2.2 % with eight.)
 *
 * Of each page of a block it is counted how many slots in use touch it. A page of none is idle: it is used
 * again or given back, those of a block at a time when they are an eighth of all, and all by compaction, when they are a 64th. Where holes are
 * left between slots in use, that moves slots of a class's emptiest block into the holes of others, and at last to its own beginning.
 *
 * Invariants:
 *   1. A block with a free slot is in its class's list; n_used + free slots of all blocks are what the classes say.
 *   2. A page is resident if a slot in use touches it; resident pages that none touches are counted as idle, and their
 *      block is in the list of those.
 *   3. resident_bytes is what is charged for pages; a page is charged before it is first touched.
 *   4. A slot that was freed while its block was pinned is in use until the last pin is gone.
 *
 * Failure: without memory or budget an allocation changes nothing.
 */
#include "storage_internal.h"

#include "../base/assert.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CACHE_LINE 64u
#define PREFETCH_MOST 2048u /* the CPU goes on by itself */

uint32_t storage_slot_bytes(uint32_t n_bytes)
{
	return storage_bytes_of_class(storage_class_of(n_bytes));
}

static uint32_t slot_of(uint32_t place)
{
	return place & ((1u << PLACE_SLOT_BITS) - 1);
}

uint32_t storage_alloc(struct storage *s, uint32_t n_bytes)
{
	uint32_t class_no = storage_class_of(n_bytes);
	struct block *b = s->classes[class_no].first;
	bool is_new = b == NULL;

	if (is_new)
		b = block_new(s, class_no);
	if (b == NULL)
		return PLACE_NONE;
	uint32_t slot = block_lowest_free(b);
	bool missing = block_n_missing(s, b, slot) > 0;
	if (missing && !block_charge(s, b, slot)) {
		if (is_new)
			block_free(s, b);
		return PLACE_NONE;
	}
	if (missing)
		block_populate(s, b, slot);
	return block_take(s, b, slot);
}

uint32_t storage_alloc_resident(struct storage *s, uint32_t n_bytes)
{
	uint32_t most = n_bytes + n_bytes / 8;

	if (most > STORAGE_MOST_BYTES)
		most = STORAGE_MOST_BYTES;
	for (uint32_t class_no = storage_class_of(n_bytes), last = storage_class_of(most); class_no <= last; class_no++) {
		struct block *b = s->classes[class_no].first;
		uint32_t slot = b == NULL ? 0 : block_lowest_free(b);
		if (b != NULL && block_n_missing(s, b, slot) == 0)
			return block_take(s, b, slot);
	}
	return PLACE_NONE;
}

void storage_free(struct storage *s, uint32_t place)
{
	struct block *b = block_of(s, place);
	uint32_t slot = slot_of(place);

	if (b->n_pins == 0) {
		block_give(s, b, slot);
		return;
	}
	quire_assert(bit_get(b->used, slot) && !bit_get(b->late, slot));
	bit_set(b->late, slot);
	b->n_late++;
}

void storage_prefetch(const struct storage *s, uint32_t place)
{
	const uint8_t *at = storage_at(s, place);
	uint32_t slot_bytes = storage_bytes_of(s, place), n_bytes = slot_bytes < PREFETCH_MOST ? slot_bytes : PREFETCH_MOST;

	for (uint32_t i = 0; i < n_bytes; i += CACHE_LINE)
		__builtin_prefetch(at + i);
}

static bool is_live(const struct block *b, uint32_t slot)
{
	return bit_get(b->used, slot) && !bit_get(b->late, slot);
}

uint32_t storage_next(const struct storage *s, uint32_t from)
{
	uint32_t slot = slot_of(from);

	for (uint32_t no = from >> PLACE_SLOT_BITS; no < s->n_blocks; no++, slot = 0) {
		const struct block *b = s->blocks[no].block;
		while (b != NULL && slot < b->n_slots && !is_live(b, slot))
			slot = b->used[slot / N_RUN] >> (slot % N_RUN) != 0 ? slot + 1 : (slot / N_RUN + 1) * N_RUN;
		if (b != NULL && slot < b->n_slots)
			return no << PLACE_SLOT_BITS | slot;
	}
	return PLACE_NONE;
}

/* ---- pins ---- */

bool storage_is_freed(const struct storage *s, uint32_t place)
{
	return bit_get(block_of(s, place)->late, slot_of(place));
}

void storage_pin(struct storage *s, uint32_t place)
{
	block_of(s, place)->n_pins++;
}

void storage_unpin(struct storage *s, uint32_t place)
{
	struct block *b = block_of(s, place);

	if (--b->n_pins > 0 || b->n_late == 0)
		return;
	uint32_t n_words = (b->n_slots + N_RUN - 1) / N_RUN, n = b->n_late;
	b->n_late = 0;
	for (uint32_t w = 0; w < n_words && n > 0; w++)
		while (b->late[w] != 0) {
			uint32_t slot = w * N_RUN + (uint32_t)__builtin_ctzll(b->late[w]);
			bit_clear(b->late, slot);
			n--;
			/* The last one may take the block with it. */
			block_give(s, b, slot);
			if (n == 0)
				return;
		}
}

/* ---- life ---- */

void storage_init(struct storage *s, struct budget *budget)
{
	memset(s, 0, sizeof(*s));
	s->budget = budget;
	s->page_shift = (uint32_t)__builtin_ctzl((unsigned long)sysconf(_SC_PAGESIZE));
}

void storage_fini(struct storage *s)
{
	for (uint32_t i = 0; i < s->n_blocks; i++) {
		if (s->blocks[i].block == NULL)
			continue;
		munmap(s->blocks[i].block->base, (size_t)s->blocks[i].block->n_pages << s->page_shift);
		heap_put(&s->heap, s->blocks[i].block, s->blocks[i].block->meta_bytes);
	}
	heap_array_free(s->blocks, s->capacity * sizeof(s->blocks[0]));
	heap_fini(&s->heap);
	budget_uncharge(s->budget, BUDGET_TMEM, s->resident_bytes + s->meta_bytes);
	storage_init(s, s->budget);
}

/* ---- the invariants ---- */

struct sums {
	uint64_t resident, idle, live;
	uint64_t of_class[STORAGE_CLASSES], used_of_class[STORAGE_CLASSES];
};

static bool block_check(const struct storage *s, struct block *b, struct sums *sums)
{
	uint32_t n_used = 0, n_idle = 0, n_there = 0, n_late = 0, first, last;
	uint16_t *touching = calloc(b->n_pages, sizeof(touching[0]));
	bool good = touching != NULL;

	for (uint32_t i = 0; i < b->n_slots && good; i++) {
		good = !bit_get(b->late, i) || bit_get(b->used, i);
		n_late += bit_get(b->late, i);
		if (!bit_get(b->used, i))
			continue;
		n_used++;
		block_pages_of(s, b, i, &first, &last);
		for (uint32_t p = first; p <= last; p++)
			touching[p]++;
	}
	for (uint32_t p = 0; p < b->n_pages && good; p++) {
		good = touching[p] == b->touching[p] && (touching[p] == 0 || bit_get(b->there, p));
		n_there += bit_get(b->there, p);
		n_idle += touching[p] == 0 && bit_get(b->there, p);
	}
	free(touching);
	sums->resident += (uint64_t)n_there << s->page_shift;
	sums->of_class[b->class_no] += (uint64_t)n_there << s->page_shift;
	sums->used_of_class[b->class_no] += n_used;
	sums->idle += (uint64_t)n_idle << s->page_shift;
	sums->live += (uint64_t)n_used * b->slot_bytes;
	return good && n_used == b->n_used && n_idle == b->n_idle && n_late == b->n_late;
}

bool storage_check(const struct storage *s)
{
	struct sums *sums = calloc(1, sizeof(*sums));
	uint64_t n_open = 0, n_listed = 0;
	bool good = sums != NULL;

	for (uint32_t i = 0; i < s->n_blocks && good; i++) {
		if (s->blocks[i].block == NULL)
			continue;
		good = s->blocks[i].block->no == i && block_check(s, s->blocks[i].block, sums);
		n_open += s->blocks[i].block->n_used < s->blocks[i].block->n_slots;
	}
	for (uint32_t c = 0; c < STORAGE_CLASSES && good; c++) {
		for (const struct block *b = s->classes[c].first; b != NULL; b = b->next, n_listed++)
			good = good && b->class_no == c && b->n_used < b->n_slots;
		good = good && sums->of_class[c] == s->classes[c].resident_bytes &&
		       sums->used_of_class[c] == s->classes[c].n_used;
	}
	good = good && n_open == n_listed && sums->resident == s->resident_bytes && sums->idle == s->idle_bytes &&
	       sums->live == s->live_bytes;
	free(sums);
	return good;
}
