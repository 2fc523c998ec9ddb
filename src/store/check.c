/* check.c - whether everything is as it should be, on the media and in memory, while the store is in use.
 *
 * Looked at: both copies of each superblock; the catalogue, record by record as it is on the medium; each page of
 * each object that is committed when its turn comes, and each page of checksums; the space: that nothing is in two
 * places, nor in use for nobody, nor free though somebody's. Containers: their logs are read if they are not open. Logs:
 * see check_logs.c.
 *
 * Space and catalogue are looked at with the latch held exclusively, so that accounts stand still; objects without
 * any lock, each held while it is read.
 *
 * A superblock of which a copy is merely older is what a crash leaves. It is found here while the store is open read-only, and no plan of a
 * repair speaks of it: the opening that a repair begins with has mended it, without a word.
 *
 * What becomes of what is found, where there is to be a repair: repair.c.
 */
#include "check_internal.h"

#include "checksum.h"
#include "../base/fail.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What was said by somebody who has said the error too: that comes with each finding. */
static void cut_error(char *text, int error)
{
	size_t n = strlen(text);
	char why[96];

	int n_why = snprintf(why, sizeof(why), ": %s", strerror(-error));
	if (n_why > 0 && n > (size_t)n_why && strcmp(text + n - (size_t)n_why, why) == 0)
		text[n - (size_t)n_why] = '\0';
}

__attribute__((format(printf, 3, 0)))
static void tell(struct checking *c, struct store_finding *f, const char *format, va_list args)
{
	char text[QUIRE_ERROR_TEXT_BYTES + 64];

	vsnprintf(text, sizeof(text), format, args);
	cut_error(text, f->error);
	f->text = text;
	c->n_found++;
	if (c->how->found != NULL)
		c->how->found(c->how->arg, f->error, f->id, f->class_no, f->offset, text);
	if (c->how->settled != NULL)
		c->how->settled(c->how->arg, f);
}

void check_settled(struct checking *c, struct store_finding finding, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	tell(c, &finding, format, args);
	va_end(args);
}

void check_found(struct checking *c, int error, uint64_t id, unsigned class_no, uint64_t offset, const char *format, ...)
{
	struct store_finding finding = {.error = error, .id = id, .class_no = class_no, .offset = offset};
	va_list args;

	va_start(args, format);
	tell(c, &finding, format, args);
	va_end(args);
}

/* -ECANCELED */
static int check_progress(struct checking *c, uint64_t bytes)
{
	c->done_bytes += bytes;
	if (c->how->progress == NULL || c->how->progress(c->how->arg, c->done_bytes, c->all_bytes) == 0)
		return 0;
	return -ECANCELED;
}

/* ---- superblocks ---- */

/* What a crash between the two copies leaves is brought up by whoever opens the store to write, a repair too, and so is not foretold. */
static bool is_for_the_opening(const struct checking *c, const struct superblock *sb, const struct store_class *cls)
{
	return c->store->config.read_only && c->how->repair != STORE_REPAIR_NO && sb->generation < cls->superblock.generation;
}

/* Memory that is short is no damage, here and below: it ends the check, and nothing is repaired for it. */
static int check_copy(struct checking *c, unsigned class_no, unsigned copy)
{
	const struct store_class *cls = &c->store->classes[class_no];
	uint64_t offset = (uint64_t)copy * FORMAT_SUPERBLOCK_STEP;
	struct quire_error err = {0};
	struct superblock sb;
	int rc = device_read(cls->device, offset, c->buf, FORMAT_UNIT_BYTES);

	if (rc == -ENOMEM)
		return rc;
	if (rc < 0) {
		quire_fail(&err, rc, "can't be read");
	} else {
		rc = superblock_decode((const struct superblock_le *)c->buf, cls->device->name, &sb, &err);
		bool ours = rc == 0 && superblock_is_of(&sb, class_no, cls->superblock.uuid);
		if (ours && is_for_the_opening(c, &sb, cls))
			return 0;
		if (rc == 0 && !ours)
			rc = quire_fail(&err, -EUCLEAN, "is another class's");
		else if (rc == 0 && sb.generation != cls->superblock.generation)
			rc = quire_fail(&err, -EUCLEAN, "is not this class's latest");
	}
	if (rc == 0)
		return 0;
	struct store_finding f = {.error = rc, .class_no = class_no, .offset = offset};
	f.remedy = repair_superblock(c, class_no, copy);
	check_settled(c, f, "superblock %u: %s", copy, err.text);
	return 0;
}

/* ---- catalogue ---- */

int check_record(void *arg, const struct journal_place *at, uint16_t type, const void *payload,
                         uint32_t len_bytes)
{
	struct checking *c = arg;

	return check_progress(c, JOURNAL_RECORD_HEADER_BYTES + len_bytes);
}

static int check_catalogue(struct checking *c)
{
	int rc = container_read(c->store->catalogue, check_record, c);

	if (rc == -ECANCELED || rc == -ENOMEM)
		return rc;
	c->catalogue_error = rc;
	return 0;
}

/* ---- space ---- */

struct accounts {
	struct checking *checking;
	struct freemap spaces[STORE_N_CLASSES];
	int rc;
};

static void take(struct accounts *a, uint64_t id, unsigned class_no, uint64_t start, uint64_t n, const char *what)
{
	if (n == 0 || a->rc < 0)
		return;
	int rc = freemap_take(&a->spaces[class_no], start, n);
	if (rc == -EUCLEAN)
		check_found(a->checking, rc, id, class_no, start * FORMAT_UNIT_BYTES, "%s and something else overlap", what);
	else if (rc < 0)
		a->rc = rc;
}

static void take_list(struct accounts *a, uint64_t id, unsigned class_no, const struct extent *extents, unsigned n,
                      const char *what)
{
	for (unsigned i = 0; i < n; i++)
		take(a, id, class_no, extents[i].start, extents[i].n_units, what);
}

static void take_segment(void *arg, uint64_t offset)
{
	struct accounts *a = arg;

	take(a, 0, 0, offset / FORMAT_UNIT_BYTES, a->checking->store->segment_bytes / FORMAT_UNIT_BYTES, "the catalogue");
}

static void take_objects_locked(struct accounts *a)
{
	struct store *s = a->checking->store;
	struct index_entry *e;

	for (uint64_t after = 0; (e = index_next(&s->index, after)) != NULL; after = e->id) {
		struct extent one;
		unsigned n;
		const struct extent *extents = index_entry_extents(e, &one, &n);
		if (!e->hidden) /* its writer's */
			take_list(a, e->id, e->class_no, extents, n, "an object");
	}
	for (struct idmap_node *node = idmap_any(&s->writers); node != NULL; node = idmap_after(&s->writers, node)) {
		const struct writer *w = (const struct writer *)node;
		if (!w->busy)
			take_list(a, node->id, w->class_no, w->extents.extents, w->extents.n, "an object being written");
	}
	for (struct idmap_node *node = idmap_any(&s->containers); node != NULL;
	     node = idmap_after(&s->containers, node)) {
		const struct store_container *c = (const struct store_container *)node;
		take_list(a, node->id, c->class_no, c->extents.extents, c->extents.n, "a container");
	}
	for (struct idmap_node *node = idmap_any(&s->log_segments); node != NULL;
	     node = idmap_after(&s->log_segments, node)) {
		const struct store_log_extent *x = (const struct store_log_extent *)node;
		take(a, node->id, x->class_no, x->start,
		     store_log_extent_units(x->log), "a segment of a log");
	}
	for (const struct store_scratch *x = s->scratch; x != NULL; x = x->next)
		for (const struct idmap_node *node = idmap_any(&x->extents); node != NULL; node = idmap_after(&x->extents, node))
			take(a, 0, x->class_no, node->id, x->n_units, "scratch space");
	for (const struct object *o = s->deleted; o != NULL; o = o->next_deleted)
		take_list(a, o->node.id, o->class_no, o->reclaim->extents, o->reclaim->n, "a removed object");
}

/* What is in use now, held against what should be. Not if somebody is just changing that. */
static void compare_locked(struct accounts *a)
{
	struct store *s = a->checking->store;
	bool quiet = s->n_ops <= 1;

	for (struct idmap_node *node = idmap_any(&s->writers); node != NULL; node = idmap_after(&s->writers, node))
		quiet &= !((const struct writer *)node)->busy;
	for (unsigned i = 0; i < STORE_N_CLASSES && quiet && a->rc == 0; i++) {
		const struct freemap *real = &s->classes[i].space;
		if (s->classes[i].device == NULL)
			continue;
		if (real->n_free != a->spaces[i].n_free)
			check_found(a->checking, -EUCLEAN, 0, i, 0, "%llu units are free, it should be %llu",
			      (unsigned long long)real->n_free, (unsigned long long)a->spaces[i].n_free);
		if (!freemap_check(real))
			check_found(a->checking, -EUCLEAN, 0, i, 0, "the map of free space contradicts itself");
	}
	if (!index_check(&s->index))
		check_found(a->checking, -EUCLEAN, 0, 0, 0, "the index contradicts itself");
}

static int check_space(struct checking *c)
{
	struct accounts a = {.checking = c};
	struct store *s = c->store;

	reclaim_settle(s);
	for (unsigned i = 0; i < STORE_N_CLASSES && a.rc == 0; i++) {
		a.rc = freemap_init(&a.spaces[i], s->classes[i].space.n_units);
		if (s->classes[i].device != NULL)
			take(&a, 0, i, 0, FORMAT_RESERVED_UNITS, "a superblock");
	}
	container_segments(s->catalogue, take_segment, &a);
	store_lock(s);
	take_objects_locked(&a);
	if (!s->reclaimer.running)
		compare_locked(&a);
	store_unlock(s);
	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		freemap_fini(&a.spaces[i]);
	return a.rc;
}

/* ---- objects ---- */

uint64_t check_place(const struct object *o, uint64_t unit)
{
	const struct extent *e = extents_find(o->extents, o->n_extents, unit);

	return (e->start + (unit - e->logical)) * FORMAT_UNIT_BYTES;
}

void check_page_is_lost(struct checking *c, int error, const struct object *o, uint64_t page)
{
	uint64_t at = page * FORMAT_UNIT_BYTES, left = o->len_bytes - at;
	struct store_finding f = {.error = error, .id = o->node.id, .class_no = o->class_no,
	                          .offset = check_place(o, object_page_unit(o, page)), .from = at,
	                          .n_bytes = left < FORMAT_UNIT_BYTES ? left : FORMAT_UNIT_BYTES};

	check_settled(c, f, "object %llu: offset %llu", (unsigned long long)o->node.id, (unsigned long long)at);
}

/* Pages of a piece one by one: which of them are wrong. */
static int name_pages(struct checking *c, struct object *o, uint64_t offset, uint64_t len_bytes)
{
	for (uint64_t at = offset; at < offset + len_bytes; at += FORMAT_UNIT_BYTES) {
		int rc = object_read_wait(o, at, FORMAT_UNIT_BYTES, c->buf, NULL);
		if (rc == -ENOMEM)
			return rc;
		if (rc < 0)
			check_page_is_lost(c, rc, o, at / FORMAT_UNIT_BYTES);
	}
	return 0;
}

/* The pages of checksums, off the medium: what is in the cache was good once. 1: one is damaged, and that was told. */
static int check_sums(struct checking *c, struct object *o, uint64_t group)
{
	uint64_t at = check_place(o, object_sums_unit(o, group));
	int rc = device_read(c->store->classes[o->class_no].device, at, c->buf, FORMAT_UNIT_BYTES);

	if (rc == 0)
		rc = checksum_pick(o->node.id, group, (const struct sums_le *)c->buf, 0, 0, NULL);
	if (rc == 0)
		return 0;
	rc = repair_sums(c, o, group, rc);
	return rc < 0 ? rc : 1;
}

int check_object(struct checking *c, struct object *o)
{
	uint64_t all = o->n_pages * FORMAT_UNIT_BYTES, group_bytes = FORMAT_SUMS_PER_PAGE * (uint64_t)FORMAT_UNIT_BYTES;
	int rc = 0;

	for (uint64_t at = 0; at < all && rc == 0;) {
		uint64_t group = at / group_bytes, end = (group + 1) * group_bytes;
		uint64_t n = all - at < CHECK_PIECE_BYTES ? all - at : CHECK_PIECE_BYTES;
		n = end - at < n ? end - at : n;
		if (o->n_pages > 1 && at % group_bytes == 0)
			rc = check_sums(c, o, group);
		if (rc == 1) {
			n = (end < all ? end : all) - at; /* that is what was said of its pages */
			rc = 0;
		} else if (rc == 0) {
			rc = object_read_wait(o, at, (uint32_t)n, c->buf, NULL);
			if (rc < 0)
				rc = name_pages(c, o, at, n);
		}
		if (rc == 0)
			rc = check_progress(c, n);
		at += n;
	}
	return rc;
}

static int check_objects(struct checking *c)
{
	uint64_t id = 0;

	while (object_list(c->store, id, &id, 1) == 1) {
		struct object *o;
		int rc = object_get(c->store, id, &o);
		if (rc == -ESTALE)
			continue;
		if (rc == 0) {
			rc = check_object(c, o);
			object_put(o);
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- containers ---- */

static int next_container(struct store *s, uint64_t *id)
{
	uint64_t next = UINT64_MAX;

	store_lock(s);
	for (struct idmap_node *node = idmap_any(&s->containers); node != NULL; node = idmap_after(&s->containers, node))
		if (node->id > *id && node->id < next)
			next = node->id;
	store_unlock(s);
	*id = next;
	return next != UINT64_MAX;
}

static int check_containers(struct checking *c)
{
	uint64_t id = 0;

	while (next_container(c->store, &id)) {
		struct container *container;
		struct quire_error err = {0};
		int rc = store_container_open(c->store, id, true, check_record, c, &container, &err);
		if (rc == 0)
			rc = store_container_close(c->store, id);
		else if (rc == -ECANCELED || rc == -ENOMEM)
			return rc;
		else if (rc != -EBUSY && rc != -ESTALE) /* its user knows it; it was destroyed */
			check_found(c, rc, id, 0, 0, "container %llu: %s", (unsigned long long)id, err.text);
	}
	return 0;
}

/* ---- all ---- */

static uint64_t all_bytes(struct store *s, bool structure_only)
{
	struct container_usage usage;
	struct index_entry *e;
	uint64_t n = 0;

	container_usage(s->catalogue, &usage);
	store_lock(s);
	for (uint64_t after = 0; !structure_only && (e = index_next(&s->index, after)) != NULL; after = e->id)
		n += format_n_pages(e->len_bytes) * FORMAT_UNIT_BYTES;
	store_unlock(s);
	return n + usage.used_bytes;
}

static int check_structure(struct checking *c)
{
	struct store *s = c->store;
	int rc = latch_exclude(&s->latch);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		for (unsigned copy = 0; copy < SUPERBLOCK_COPIES && s->classes[i].device != NULL && rc == 0; copy++)
			rc = check_copy(c, i, copy);
	if (rc == 0)
		rc = check_catalogue(c);
	if (rc == 0)
		rc = check_space(c);
	latch_unexclude(&s->latch);
	if (c->catalogue_error < 0)
		repair_catalogue(c);
	return rc == 0 ? check_containers(c) : rc;
}

int64_t store_check(struct store *s, const struct store_check *how)
{
	struct checking c = {.store = s, .how = how, .all_bytes = all_bytes(s, how->structure_only)};

	if (how->repair == STORE_REPAIR_DO && s->config.read_only)
		return -EROFS;
	c.buf = aligned_alloc(FORMAT_UNIT_BYTES, CHECK_PIECE_BYTES);
	if (c.buf == NULL)
		return -ENOMEM;
	store_lock(s);
	s->n_ops++;
	store_unlock(s);
	int rc = check_structure(&c);
	if (rc == 0 && !how->structure_only)
		rc = check_objects(&c);
	if (rc == 0)
		rc = check_logs(&c);
	store_leave(s);
	free(c.buf);
	return rc < 0 ? rc : c.n_found;
}
