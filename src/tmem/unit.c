/* unit.c - contents of neighbours in one slot.
 *
 * Pages of 4 KiB compress badly alone; four of one object that follow each other compress a fifth better together. So
 * what went cold is packed as a unit: pages of one span whose indexes, divided by the pages of a unit, are the same. Its
 * head names the first index that may be in it, and has a bit for each page that was packed and for each that is in it still.
 *
 * The index says of each such page where the unit lies, as it does of a content of one page: which of the pages it is
 * follows from the index itself. So a page in a unit costs no record; its part of the head, and the byte of its stamp behind what is
 * packed, by which its pool's policy knows it.
 *
 * A unit is packed once. A page that leaves clears its bit; its part of the bytes stays until the last has left, or until
 * recompression finds half of them gone and takes the unit apart.
 */
#include "tmem_internal.h"

void unit_leave(struct quire_tmem *t, struct quire_tmem_pool *pool, uint32_t place, uint16_t low)
{
	struct slot_head *h = storage_at(&t->storage, place);

	content_count(t, pool, place, false);
	h->members = (uint16_t)(h->members & ~(1u << (low - h->low)));
	if (h->members != 0)
		content_count(t, pool, place, true);
	else
		storage_free(&t->storage, place);
}

void unit_relink(struct quire_tmem *t, uint32_t place)
{
	const struct slot_head *h = storage_at(&t->storage, place);

	for (uint32_t left = h->members; left != 0; left &= left - 1)
		spans_set(&t->spans, h->span, (uint16_t)(h->low + __builtin_ctz(left)), place);
}
