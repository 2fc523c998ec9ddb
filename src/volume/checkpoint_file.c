/* checkpoint_file.c - a checkpoint is an object of the store: its pages have checksums, and one transaction puts the new one in the place
 * of the old one. It is found by its tag, which no blob has. */
#include "volume_internal.h"

#include "../base/fail.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CHECKPOINT_BYTES (UINT64_C(1) << 32)

/* ---- written ---- */

/* Is it to be in the checkpoint? Lock held. */
static bool is_kept(const struct checkpoint *c, const struct segment *seg)
{
	return seg->node.id >= c->segment_no || seg->n_live_frozen + seg->n_merged > 0;
}

static void put_extent(void *arg, uint32_t tree, const struct map_extent *e)
{
	uint8_t **at = arg;
	struct checkpoint_extent_le le = {htole64(e->lba), htole64(e->n), htole64(e->place), htole64(e->birth), htole32(tree), 0};

	memcpy(*at, &le, sizeof(le));
	*at += sizeof(le);
}

static uint8_t *put(uint8_t *at, const void *from, size_t n)
{
	memcpy(at, from, n);
	return at + n;
}

uint8_t *checkpoint_encode(const struct checkpoint *c, uint64_t *ret_bytes)
{
	struct quire_volumes *g = c->g;
	struct checkpoint_le le = {
		.magic = VOLUME_CHECKPOINT_MAGIC_BYTES,
		.version = htole32(VOLUME_CHECKPOINT_VERSION),
		.next_id = htole32(c->next_id),
		.log_id = htole64(g->log_id),
		.generation = htole64(c->generation),
		.segment_no = htole64(c->segment_no),
		.segment_id = htole64(c->segment_id),
		.offset = htole32(c->offset),
		.n_volumes = htole32(c->n_volumes),
	};
	size_t most = sizeof(le) + c->n_volumes * sizeof(struct volume_le) + c->n_trees * sizeof(struct tree_le) +
	              g->segments.n * sizeof(struct checkpoint_segment_le) +
	              (c->is_bare ? g->frozen.n_extents : 0) * sizeof(struct checkpoint_extent_le);
	uint8_t *bytes = malloc(most), *at = bytes;
	uint32_t n = 0;

	if (bytes == NULL)
		return NULL;
	at = put(at + sizeof(le), c->volumes, c->n_volumes * sizeof(struct volume_le));
	for (unsigned i = 0; i < c->n_trees; i++) {
		struct tree_le t;
		tree_encode(&c->work[i].t, &t);
		if (!c->work[i].out)
			at = put(at, &t, sizeof(t));
		n += !c->work[i].out;
	}
	le.n_trees = htole32(n);
	n = 0;
	for (struct idmap_node *node = idmap_any(&g->segments); node != NULL; node = idmap_after(&g->segments, node)) {
		const struct segment *seg = (const struct segment *)node;
		struct checkpoint_segment_le s = {htole64(node->id), htole64(seg->id),
		                                  htole32((uint32_t)(seg->n_live_frozen + seg->n_merged)),
		                                  htole32(seg->has_moved ? SEGMENT_HAS_MOVED : 0)};
		if (is_kept(c, seg))
			at = put(at, &s, sizeof(s));
		n += is_kept(c, seg);
	}
	le.n_segments = htole32(n);
	if (c->is_bare) {
		le.n_extents = htole64(g->frozen.n_extents);
		map_delta_each(&g->frozen, put_extent, &at);
	}
	memcpy(bytes, &le, sizeof(le));
	*ret_bytes = (uint64_t)(at - bytes);
	return bytes;
}

int checkpoint_store(struct quire_volumes *g, const uint8_t *bytes, uint64_t len_bytes)
{
	struct iovec part = {(void *)(uintptr_t)bytes, len_bytes};
	uint64_t id;
	int rc = object_begin(g->store, g->settings.class_no, len_bytes, 0, FORMAT_TAG_VOLUMES, &id);

	if (rc < 0)
		return rc;
	rc = object_append(g->store, id, &part, 1);
	if (rc == 0)
		rc = store_apply(g->store, &id, 1, &g->checkpoint_id, g->checkpoint_id != 0);
	if (rc < 0) {
		(void)object_abort(g->store, id);
		return rc;
	}
	g->checkpoint_id = id;
	return 0;
}

/* ---- read ---- */

static int read_all(struct object *o, uint8_t **ret, uint64_t *ret_bytes)
{
	uint64_t len = object_bytes(o), room = (len + FORMAT_UNIT_BYTES - 1) & ~(uint64_t)(FORMAT_UNIT_BYTES - 1);
	int rc = 0;

	if (len < sizeof(struct checkpoint_le)) /* a blob, from before the tag was the store's */
		return -ENOENT;
	if (len > MAX_CHECKPOINT_BYTES)
		return -EUCLEAN;
	uint8_t *bytes = aligned_alloc(FORMAT_UNIT_BYTES, room);
	if (bytes == NULL)
		return -ENOMEM;
	for (uint64_t at = 0; rc == 0 && at < room; at += OBJECT_READ_MAX_BYTES) {
		uint64_t n = room - at < OBJECT_READ_MAX_BYTES ? room - at : OBJECT_READ_MAX_BYTES;
		rc = object_read_wait(o, at, (uint32_t)n, bytes + at, NULL);
	}
	if (rc < 0) {
		free(bytes);
		return rc;
	}
	*ret = bytes;
	*ret_bytes = len;
	return 0;
}

/* What a check reads of it (store/check_log_unsealed.c). */
static_assert(offsetof(struct checkpoint_le, log_id) == offsetof(struct checkpoint_head_le, log_id) &&
              offsetof(struct checkpoint_le, segment_no) == offsetof(struct checkpoint_head_le, segment_no) &&
              offsetof(struct checkpoint_le, segment_id) == offsetof(struct checkpoint_head_le, segment_id) &&
              sizeof(VOLUME_CHECKPOINT_MAGIC) == sizeof(FORMAT_CHECKPOINT_MAGIC), "layout");

static bool is_ours(const struct quire_volumes *g, const struct checkpoint_le *le)
{
	return memcmp(le->magic, VOLUME_CHECKPOINT_MAGIC, sizeof(le->magic)) == 0 && le64toh(le->log_id) == g->log_id;
}

/* The store's list says where a segment is, which must not be a number's already. */
static int take_segment(struct quire_volumes *g, const struct checkpoint_segment_le *le)
{
	struct segment *seg = NULL;

	for (unsigned i = 0; i < g->n_young; i++)
		if (g->young[i]->id == le64toh(le->id))
			seg = g->young[i];
	/* It was cleaned since, and removed: what it had is superseded by records behind the checkpoint's place. */
	if (seg == NULL && le64toh(le->no) < g->from_no)
		return 0;
	if (seg == NULL || seg->state != SEGMENT_SPARE || segment_find(g, le64toh(le->no)) != NULL)
		return -EUCLEAN;
	seg->n_live = le32toh(le->n_live);
	g->n_live += seg->n_live;
	seg->has_moved = (le32toh(le->flags) & SEGMENT_HAS_MOVED) != 0;
	seg->is_listed = true;
	seg->node.id = le64toh(le->no);
	/* Those that records are read of are bound as these come. */
	if (le64toh(le->no) >= g->from_no)
		return 0;
	int rc = segment_bind(g, seg, le64toh(le->no));
	if (rc == 0)
		segment_is_sealed(g, seg);
	return rc;
}

static int take_extent(struct quire_volumes *g, const struct checkpoint_extent_le *le)
{
	struct map_extent e = {le64toh(le->lba), le64toh(le->n), le64toh(le->place), le64toh(le->birth)};

	if (e.n > MAP_DELTA_MAX_N || !map_is_possible(&e, g->generation) || tree_find(g, le32toh(le->tree)) == NULL)
		return -EUCLEAN;
	return map_delta_set(&g->active, le32toh(le->tree), &e, NULL, NULL);
}

static int take_all(struct quire_volumes *g, const uint8_t *bytes, uint64_t len_bytes)
{
	const struct checkpoint_le *le = (const struct checkpoint_le *)bytes;
	uint64_t n_volumes = le32toh(le->n_volumes), n_trees = le32toh(le->n_trees), n_segments = le32toh(le->n_segments);
	uint64_t n_extents = le64toh(le->n_extents);
	const uint8_t *at = bytes + sizeof(*le);
	int rc = 0;

	if (le32toh(le->version) != VOLUME_CHECKPOINT_VERSION)
		return -ENOTSUP;
	if (n_extents > len_bytes / sizeof(struct checkpoint_extent_le) ||
	    len_bytes != sizeof(*le) + n_volumes * sizeof(struct volume_le) + n_trees * sizeof(struct tree_le) +
	                         n_segments * sizeof(struct checkpoint_segment_le) +
	                         n_extents * sizeof(struct checkpoint_extent_le))
		return -EUCLEAN;
	g->generation = le64toh(le->generation);
	g->next_id = le32toh(le->next_id);
	g->from_no = le64toh(le->segment_no);
	g->from_id = le64toh(le->segment_id);
	g->from_offset = le32toh(le->offset);
	g->is_bare = n_extents > 0;
	for (uint64_t i = 0; rc == 0 && i < n_volumes; i++, at += sizeof(struct volume_le))
		rc = table_put_volume(g, (const struct volume_le *)at);
	for (uint64_t i = 0; rc == 0 && i < n_trees; i++, at += sizeof(struct tree_le))
		rc = table_put_tree(g, (const struct tree_le *)at, true);
	for (uint64_t i = 0; rc == 0 && i < n_segments; i++, at += sizeof(struct checkpoint_segment_le))
		rc = take_segment(g, (const struct checkpoint_segment_le *)at);
	for (uint64_t i = 0; rc == 0 && i < n_extents; i++, at += sizeof(struct checkpoint_extent_le))
		rc = take_extent(g, (const struct checkpoint_extent_le *)at);
	return rc;
}

static int load(struct quire_volumes *g, uint64_t id)
{
	struct object *o;
	uint8_t *bytes = NULL;
	uint64_t len_bytes = 0;
	int rc = object_get(g->store, id, &o);

	if (rc < 0)
		return rc;
	/* A group's is in its own class: another's is nothing to it, readable or not. */
	rc = object_class(o) == g->settings.class_no ? read_all(o, &bytes, &len_bytes) : -ENOENT;
	object_put(o);
	if (rc == 0 && !is_ours(g, (const struct checkpoint_le *)bytes))
		rc = -ENOENT;
	if (rc == 0)
		rc = take_all(g, bytes, len_bytes);
	if (rc == 0)
		g->checkpoint_id = id;
	free(bytes);
	return rc;
}

int checkpoint_load(struct quire_volumes *g, struct quire_error *err)
{
	int rc = -ENOENT;

	/* One for each class that has volumes. */
	for (uint64_t id = 0; rc == -ENOENT && object_list_tagged(g->store, FORMAT_TAG_VOLUMES, id, &id, 1) == 1;)
		rc = load(g, id);
	return rc < 0 && rc != -ENOENT ? quire_fail(err, rc, "volumes: their checkpoint") : rc;
}
