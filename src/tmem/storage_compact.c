/* storage_compact.c - memory goes back: idle pages, and slots moved closer together. */
#include "storage_internal.h"

#include <string.h>

/* Idle pages that stay for whoever comes next: of all, and at least. */
#define TRIM_SHARE 8u
#define TRIM_LEAST_BYTES (256u << 10)

static void drop_idle(struct storage *s, struct block *b)
{
	if (b->n_used == 0)
		block_free(s, b);
	else
		block_drop_idle(s, b);
}

static void drop_all_idle(struct storage *s)
{
	while (s->idle != NULL)
		drop_idle(s, s->idle);
}

void storage_trim(struct storage *s, bool all)
{
	if (all)
		drop_all_idle(s);
	else if (s->idle_bytes > s->resident_bytes / TRIM_SHARE + TRIM_LEAST_BYTES)
		drop_idle(s, s->idle);
}

/* What of the class is resident and not in use. */
static uint64_t holes(const struct storage *s, uint32_t class_no)
{
	const struct storage_class *c = &s->classes[class_no];

	return c->tight ? 0 : c->resident_bytes - c->n_used * storage_bytes_of_class(class_no);
}

/* The last slot in use; the block has one. */
static uint32_t highest_used(const struct block *b)
{
	uint32_t w = (b->n_slots - 1) / N_RUN;

	while (b->used[w] == 0)
		w--;
	return w * N_RUN + 63 - (uint32_t)__builtin_clzll(b->used[w]);
}

/* Of a class: the block with the fewest slots in use, that can be moved. NULL: none. */
static struct block *emptiest(const struct storage_class *c)
{
	struct block *best = NULL;

	for (struct block *b = c->first; b != NULL; b = b->next)
		if (b->n_pins == 0 && b->n_used > 0 && (best == NULL || b->n_used < best->n_used))
			best = b;
	return best;
}

/* A block that has a hole: another than `from` where the hole's pages are there; else it itself, before `slot`; else another, for which pages must
 * come. NULL: none. */
static struct block *block_with_hole(const struct storage *s, const struct storage_class *c, struct block *from,
                                     uint32_t slot)
{
	struct block *with = NULL;

	for (struct block *b = c->first; b != NULL; b = b->next) {
		if (b == from || b->n_used == 0)
			continue;
		if (block_n_missing(s, b, block_lowest_free(b)) == 0)
			return b;
		with = b;
	}
	return block_lowest_free(from) < slot ? from : with;
}

/* Up to n slots of the class; returns how many were moved. */
static unsigned compact_class(struct storage *s, struct storage_class *c, unsigned n, storage_moved_fn moved, void *arg)
{
	struct block *from = emptiest(c);
	unsigned k = 0;

	for (; k < n && from != NULL; k++) {
		uint32_t slot = highest_used(from);
		struct block *to = block_with_hole(s, c, from, slot);
		/* A page may have to come for others to go. */
		if (to == NULL || !block_charge(s, to, block_lowest_free(to)))
			break;
		uint32_t old = from->no << PLACE_SLOT_BITS | slot, place = block_take(s, to, block_lowest_free(to));
		memcpy(storage_at(s, place), storage_at(s, old), from->slot_bytes);
		moved(arg, old, place);
		bool last = from->n_used == 1;
		block_give(s, from, slot);
		if (last) /* and it may be gone */
			from = emptiest(c);
	}
	c->tight = k == 0;
	return k;
}

bool storage_compact(struct storage *s, unsigned n, storage_moved_fn moved, void *arg)
{
	uint64_t before = s->resident_bytes;
	uint32_t best = 0;

	if (s->tight)
		return false;
	for (uint32_t i = 1; i < STORAGE_CLASSES; i++)
		if (holes(s, i) > holes(s, best))
			best = i;
	s->tight = holes(s, best) == 0;
	unsigned k = s->tight ? 0 : compact_class(s, &s->classes[best], n, moved, arg);
	if (s->idle_bytes > s->resident_bytes / 64 || k == 0)
		drop_all_idle(s);
	return k > 0 || !s->tight || s->resident_bytes < before;
}
