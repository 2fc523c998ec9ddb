/* container_face.c - metadata containers for those above: made, opened, destroyed; the container itself is
 * src/journal's.
 *
 * All segments that it can ever have are its own from the start, so that it is not without space when it is
 * needed, and the store knows its space without opening it. Which of them are in use is known while it is open.
 */
#include "store_internal.h"

#include "../base/fail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIN_SEGMENT_BYTES (64u << 10)
#define MAX_SEGMENT_BYTES (16u << 20)
#define WANTED_SEGMENTS 8u /* a log */

void store_container_free(struct store_container *c)
{
	extents_fini(&c->extents);
	free(c->used);
	free(c);
}

static uint64_t n_segments(const struct store_container *c)
{
	return c->extents.n_units / (c->segment_bytes / FORMAT_UNIT_BYTES);
}

static uint64_t segment_offset(const struct store_container *c, uint64_t i)
{
	uint64_t unit = i * (c->segment_bytes / FORMAT_UNIT_BYTES);
	const struct extent *e = extents_find(c->extents.extents, c->extents.n, unit);

	return (e->start + (unit - e->logical)) * FORMAT_UNIT_BYTES;
}

/* ---- its segments ---- */

static int segment_get(void *owner, uint64_t *ret_offset)
{
	struct store_container *c = owner;
	int rc = -ENOSPC;

	store_lock(c->store);
	for (uint64_t i = 2; i < n_segments(c) && rc < 0; i++) {
		if (c->used[i])
			continue;
		c->used[i] = 1;
		*ret_offset = segment_offset(c, i);
		rc = 0;
	}
	store_unlock(c->store);
	return rc;
}

static void segment_mark(struct store_container *c, uint64_t offset, uint8_t used)
{
	for (uint64_t i = 0; i < n_segments(c); i++)
		if (segment_offset(c, i) == offset)
			c->used[i] = used;
}

static void segment_put(void *owner, uint64_t offset)
{
	struct store_container *c = owner;

	store_lock(c->store);
	segment_mark(c, offset, 0);
	store_unlock(c->store);
}

static void segment_in_use(void *arg, uint64_t offset)
{
	segment_mark(arg, offset, 1);
}

static const struct journal_ops segment_ops = {.segment_get = segment_get, .segment_put = segment_put};

static void options(struct store_container *c, struct container_options *ret, uint64_t first[2])
{
	struct store *s = c->store;
	uint64_t id = c->node.id;

	*ret = (struct container_options){
		.journal = {
			.device = s->classes[c->class_no].device,
			.ops = &segment_ops,
			.owner = c,
			.log_no = FORMAT_CONTAINER_LOG_NO,
			.segment_bytes = c->segment_bytes,
			.salt_seed = store_random(s),
		},
		.capacity_bytes = n_segments(c) / 2 * c->segment_bytes,
	};
	memcpy(ret->journal.identity, s->uuid, sizeof(s->uuid));
	for (unsigned i = 0; i < 8; i++)
		ret->journal.identity[i] ^= (uint8_t)(id >> (8 * i));
	first[0] = segment_offset(c, 0);
	first[1] = segment_offset(c, 1);
}

/* ---- made ---- */

static int allocate(struct store *s, struct store_container *c)
{
	uint64_t units = c->segment_bytes / FORMAT_UNIT_BYTES, start, n;
	/* Each segment has a header, and may have room left at its end that no record fit into. */
	uint64_t a_log = c->capacity_bytes / (c->segment_bytes / 2) + 2;

	if (2 * a_log > FORMAT_MAX_CONTAINER_SEGMENTS)
		return -EINVAL;
	for (uint64_t i = 0; i < 2 * a_log; i++) {
		int rc = store_alloc(s, c->class_no, units, 1, FREEMAP_WHOLE, &start, &n);
		if (rc == 0)
			rc = extents_add(&c->extents, start, n);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int record(struct store *s, struct store_container *c)
{
	uint8_t *buf = malloc(sizeof(struct container_le) + c->extents.n * sizeof(struct extent_le));

	if (buf == NULL)
		return -ENOMEM;
	uint8_t *end = record_put_container(buf, c);
	int rc = catalogue_append(s, FORMAT_CONTAINER, buf, (uint32_t)(end - buf));
	free(buf);
	return rc;
}

/* The latch is excluded. */
static int create(struct store *s, struct store_container *c)
{
	struct container_options o;
	struct container *container;
	uint64_t first[2];
	int rc = allocate(s, c);

	if (rc < 0)
		return rc;
	options(c, &o, first);
	rc = container_create(&o, first, &container, NULL);
	if (rc < 0)
		return rc;
	container_close(container);
	store_lock(s);
	rc = idmap_add(&s->containers, &c->node, c->node.id);
	store_unlock(s);
	if (rc < 0)
		return rc;
	rc = record(s, c);
	store_lock(s);
	if (rc == 0)
		s->live_bytes += sizeof(struct container_le) + record_live_bytes(c->extents.n);
	else
		idmap_remove(&s->containers, &c->node);
	catalogue_account_locked(s);
	store_unlock(s);
	return rc;
}

static uint32_t segment_bytes_for(uint64_t capacity_bytes)
{
	uint32_t bytes = MIN_SEGMENT_BYTES;

	while (bytes < MAX_SEGMENT_BYTES && (uint64_t)bytes * WANTED_SEGMENTS < capacity_bytes)
		bytes *= 2;
	return bytes;
}

int store_container_create(struct store *s, unsigned cls, uint64_t capacity_bytes, uint64_t *ret_id)
{
	int rc = store_enter(s);

	if (rc < 0)
		return rc;
	struct store_container *c = calloc(1, sizeof(*c));
	rc = c == NULL ? -ENOMEM : cls >= STORE_N_CLASSES || capacity_bytes == 0 ? -EINVAL
	     : s->classes[cls].device == NULL ? -ENOENT : 0;
	if (rc == 0)
		rc = next_id(s, &c->node.id);
	if (rc == 0) {
		c->store = s;
		c->class_no = cls;
		c->capacity_bytes = capacity_bytes;
		c->segment_bytes = segment_bytes_for(capacity_bytes);
		rc = latch_exclude(&s->latch);
	}
	if (rc == 0) {
		uint64_t id = c->node.id;
		rc = create(s, c);
		latch_unexclude(&s->latch);
		if (rc == 0)
			*ret_id = id;
	}
	/* If the record may be there, its space is not free. */
	if (rc < 0 && c != NULL) {
		store_lock(s);
		if (container_error(s->catalogue) == 0)
			store_give_list_locked(s, cls, &c->extents, 0);
		store_unlock(s);
		store_container_free(c);
	}
	store_leave(s);
	return rc;
}

/* ---- opened ---- */

static int claim(struct store *s, uint64_t id, struct store_container **ret)
{
	store_lock(s);
	struct store_container *c = (struct store_container *)idmap_find(&s->containers, id);
	int rc = c == NULL ? -ESTALE : c->busy || c->container != NULL ? -EBUSY : 0;
	if (rc == 0) {
		c->busy = true;
		*ret = c;
	}
	store_unlock(s);
	return rc;
}

int store_container_open(struct store *s, uint64_t id, bool read_only, journal_record_fn fn, void *arg,
                         struct container **ret_container, struct quire_error *err)
{
	struct container_options o;
	struct container *container;
	struct store_container *c;
	uint64_t first[2];
	struct quire_error why = {0};
	int rc = claim(s, id, &c);

	if (rc < 0)
		return quire_fail(err, rc, "container %llu", (unsigned long long)id);
	options(c, &o, first);
	free(c->used);
	c->used = calloc(n_segments(c), 1);
	rc = c->used == NULL ? -ENOMEM : container_open(&o, first, read_only || s->config.read_only, fn, arg, NULL, &container, &why);
	if (rc == 0)
		container_segments(container, segment_in_use, c);
	store_lock(s);
	c->busy = false;
	if (rc == 0)
		c->container = *ret_container = container;
	store_unlock(s);
	return rc < 0 ? quire_fail_as(err, rc, &why, "a container") : 0;
}

int store_container_close(struct store *s, uint64_t id)
{
	store_lock(s);
	struct store_container *c = (struct store_container *)idmap_find(&s->containers, id);
	struct container *container = c != NULL ? c->container : NULL;
	if (container != NULL)
		c->busy = true;
	store_unlock(s);
	if (container == NULL)
		return -ESTALE;
	container_close(container);
	store_lock(s);
	c->container = NULL;
	c->busy = false;
	store_unlock(s);
	return 0;
}

/* ---- destroyed ---- */

/* Its segments are discarded like those of any removed object. */
static struct reclaim *make_reclaim(const struct store_container *c)
{
	struct reclaim *r = malloc(sizeof(*r) + c->extents.n * sizeof(r->extents[0]));

	if (r == NULL)
		return NULL;
	*r = (struct reclaim){.class_no = c->class_no, .n = c->extents.n};
	memcpy(r->extents, c->extents.extents, c->extents.n * sizeof(r->extents[0]));
	return r;
}

static int destroy(struct store *s, struct store_container *c)
{
	uint8_t buf[sizeof(struct next_id_le)];
	struct reclaim *r = make_reclaim(c);

	if (r == NULL)
		return -ENOMEM;
	record_put_id(buf, c->node.id);
	int rc = catalogue_append(s, FORMAT_CONTAINER_GONE, buf, sizeof(buf));
	if (rc < 0) {
		free(r);
		return rc;
	}
	store_lock(s);
	s->live_bytes -= sizeof(struct container_le) + record_live_bytes(c->extents.n);
	idmap_remove(&s->containers, &c->node);
	catalogue_account_locked(s);
	store_unlock(s);
	reclaim_enqueue(s, r);
	store_container_free(c);
	return 0;
}

int store_container_destroy(struct store *s, uint64_t id)
{
	struct store_container *c;
	int rc = store_enter(s);

	if (rc < 0)
		return rc;
	rc = claim(s, id, &c);
	if (rc == 0) {
		rc = latch_exclude(&s->latch);
		if (rc == 0) {
			rc = destroy(s, c);
			latch_unexclude(&s->latch);
		}
		if (rc < 0) {
			store_lock(s);
			c->busy = false;
			store_unlock(s);
		}
	}
	store_leave(s);
	return rc;
}
