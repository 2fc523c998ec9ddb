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

uint8_t *record_put_log(uint8_t *at, const struct store_log *log, unsigned n_segments)
{
	const struct store_log_settings *from = &log->settings;
	struct log_le le = {
		.id = htole64(log->node.id),
		.retain_bytes = htole64(from->retain_bytes),
		.retain_ns = htole64(from->retain_ns),
		.retain_records = htole64(from->retain_records),
		.segment_bytes = htole32(from->segment_bytes),
		.n_segments = htole32(n_segments),
		.class_no = (uint8_t)from->class_no,
		.flags = (uint8_t)((from->keys ? FORMAT_LOG_KEYS : 0u) | (from->volumes ? FORMAT_LOG_VOLUMES : 0u)),
		.destage = from->destages ? (uint8_t)(1 + from->destage_class) : 0,
		.destage_keep = htole32(from->destage_keep),
	};

	memcpy(le.secret, from->secret, sizeof(le.secret));
	memcpy(le.name, from->name, strnlen(from->name, sizeof(le.name)));
	return put(at, &le, sizeof(le));
}

uint8_t *record_put_log_change(uint8_t *at, uint64_t log_id, uint32_t n_added, uint32_t n_removed)
{
	struct log_change_le le = {
		.id = htole64(log_id), .n_added = htole32(n_added), .n_removed = htole32(n_removed)};

	return put(at, &le, sizeof(le));
}

uint8_t *record_put_log_segment(uint8_t *at, const struct store_log_extent *e)
{
	uint64_t class_bits = e->class_no == e->log->settings.class_no ? 0 : 1 + (uint64_t)e->class_no;
	struct log_segment_le le = {.id = htole64(e->node.id),
	                            .place = htole64(e->start | class_bits << FORMAT_LOG_PLACE_SHIFT)};

	return put(at, &le, sizeof(le));
}

uint8_t *record_put_log_moved(uint8_t *at, uint64_t log_id, uint64_t old_id, const struct store_log_extent *e)
{
	struct log_moved_le le = {.id = htole64(log_id), .old_id = htole64(old_id)};

	return record_put_log_segment(put(at, &le, sizeof(le)), e);
}
