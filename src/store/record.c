/* record.c - the catalogue's records are put together. Reading them: replay.c. */
#include "store_internal.h"

#include <endian.h>
#include <string.h>

static uint8_t *put(uint8_t *at, const void *from, size_t n)
{
	memcpy(at, from, n);
	return at + n;
}

static uint8_t *put_extents(uint8_t *at, const struct extent *extents, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct extent_le le = {.start = htole64(extents[i].start), .n_units = htole64(extents[i].n_units)};
		at = put(at, &le, sizeof(le));
	}
	return at;
}

uint8_t *record_put_object(uint8_t *at, const struct index_entry *e)
{
	struct extent one;
	unsigned n;
	const struct extent *extents = index_entry_extents(e, &one, &n);
	struct object_le le = {
		.id = htole64(e->id),
		.len_bytes = htole64(e->len_bytes),
		.sum = htole32(e->sum),
		.n_extents = htole16((uint16_t)n),
		.class_shift = (uint8_t)(e->class_no | e->page_shift << 3),
		.tag = e->tag,
	};

	return put_extents(put(at, &le, sizeof(le)), extents, n);
}

uint8_t *record_put_container(uint8_t *at, const struct store_container *c)
{
	struct container_le le = {
		.id = htole64(c->node.id),
		.capacity_bytes = htole64(c->capacity_bytes),
		.segment_bytes = htole32(c->segment_bytes),
		.n_extents = htole16((uint16_t)c->extents.n),
		.class_no = (uint8_t)c->class_no,
	};

	return put_extents(put(at, &le, sizeof(le)), c->extents.extents, c->extents.n);
}

uint8_t *record_put_transaction(uint8_t *at, uint32_t n_objects, uint32_t n_removed)
{
	struct transaction_le le = {.n_objects = htole32(n_objects), .n_removed = htole32(n_removed)};

	return put(at, &le, sizeof(le));
}

uint8_t *record_put_id(uint8_t *at, uint64_t id)
{
	struct next_id_le le = {.id = htole64(id)};

	return put(at, &le, sizeof(le));
}
