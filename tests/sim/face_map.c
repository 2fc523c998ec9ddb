/* face_map.c - maps over blobs: wanted and pinned, read, purged, destroyed, while their blobs may be deleted; and blobs read by copying.
 * Pages are filled through the cache; in a small history it evicts none, so purging makes them cold.
 *
 * A raw load of a cold page suspends its coroutine, until the page is there; an error would be a SIGBUS, so that is done only in
 * lives in which no I/O can fail. */
#include "world.h"

#include "../store/history.h"

#include <errno.h>
#include <quire/blob.h>
#include <quire/map.h>
#include <stdlib.h>
#include <string.h>

#define N_MAPS 3u
#define MAX_ITEMS 4u

struct held_map {
	struct quire_map *map; /* owned; NULL: none */
	uint64_t ids[MAX_ITEMS], lens[MAX_ITEMS];
	unsigned n;
	bool is_raw; /* may be touched cold */
};

struct map_state {
	struct held_map maps[N_MAPS];
	uint64_t random;
};

static uint64_t draw(struct world *w, uint64_t n)
{
	struct map_state *s = w->faces[FACE_MAP];

	return random_below(&s->random, n);
}

static void begin(struct world *w)
{
	if (w->faces[FACE_MAP] == NULL)
		w->faces[FACE_MAP] = calloc(1, sizeof(struct map_state));
	must(w, w->faces[FACE_MAP] != NULL);
}

static bool open_face(struct world *w)
{
	return w->is_open[FACE_BLOB];
}

static void is_blob(struct world *w, uint64_t id, uint64_t offset, const void *bytes, uint64_t len)
{
	uint8_t *expected = malloc(len + 1);

	env_fill(id, offset, expected, len);
	if (memcmp(expected, bytes, len) != 0)
		world_fail(w, __FILE__, __LINE__, "object %llu: other bytes at %llu", (unsigned long long)id, (unsigned long long)offset);
	free(expected);
}

/* ---- steps ---- */

static bool is_calm(const struct world *w)
{
	return !w->faulty && (w->life->end == END_CLOSE || w->life->end == END_CUT_IDLE);
}

static void make(struct world *w, struct held_map *m)
{
	static const enum quire_fault kinds[] = {QUIRE_FAULT_PINNED, QUIRE_FAULT_AUTO, QUIRE_FAULT_SIGNAL, QUIRE_FAULT_SIGNAL, QUIRE_FAULT_SIGNAL};
	struct quire_map_options o = {.size = sizeof(o), .fault = kinds[draw(w, is_calm(w) ? 5 : 2)]};
	struct history *objects = w->faces[FACE_BLOB];
	struct quire_item items[MAX_ITEMS];
	struct quire_error err;

	objects->random = draw(w, UINT32_MAX);
	m->n = 0;
	for (unsigned i = 1 + (unsigned)draw(w, MAX_ITEMS); i > 0; i--) {
		struct model_object *object = store_history_pick(objects, MODEL_COMMITTED);
		if (object == NULL || object->len_bytes == 0)
			continue;
		m->ids[m->n] = object->id;
		m->lens[m->n] = object->len_bytes;
		items[m->n++] = (struct quire_item){.store = store_public(w->e.store), .blob = object->id};
	}
	if (m->n == 0)
		return;
	int rc = quire_map_create(w->cache, items, m->n, &o, &m->map, &err);
	if (rc == -ENOTSUP) { /* no userfaultfd */
		o.fault = QUIRE_FAULT_PINNED;
		rc = quire_map_create(w->cache, items, m->n, &o, &m->map, &err);
	}
	w->sums[SUM_MAPS]++;
	m->is_raw = o.fault == QUIRE_FAULT_SIGNAL;
	if (rc < 0) {
		m->map = NULL;
		world_say(w, "map: %d %s", rc, err.text);
		(void)world_excuses(w, rc);
	}
}

static void purge(struct world *w, struct held_map *m)
{
	must(w, quire_map_purge(m->map, quire_map_base(m->map), quire_map_bytes(m->map)) >= 0);
}

/* A page that could not be had shows nothing: what is not resident in a map of that kind reads as zeros. */
static void must_not_show(struct world *w, const struct held_map *m, unsigned i)
{
	static const uint8_t zeros[PAGE];
	const void *base;
	size_t len;

	if (quire_map_fault(m->map) != QUIRE_FAULT_PINNED)
		return;
	must(w, quire_map_item(m->map, i, &base, &len) == 0);
	for (uint64_t at = 0; at < len; at += PAGE) {
		const char *page = (const char *)base + at;
		uint64_t n = len - at < PAGE ? len - at : PAGE;
		if (quire_map_resident(m->map, page, n))
			is_blob(w, m->ids[i], at, page, n);
		else
			must(w, memcmp(page, zeros, n) == 0);
	}
}

static int64_t want(struct quire_map *map, const struct iovec *range, bool with_op)
{
	struct quire_op op;

	if (!with_op)
		return quire_map_want(map, range, 1, QUIRE_WANT_PIN, NULL);
	quire_op_init(&op);
	int rc = quire_map_want(map, range, 1, QUIRE_WANT_PIN, &op);
	return rc < 0 ? rc : quire_await(&op);
}

/* A range of one item is wanted and pinned, and then read as it lies. */
static void want_pinned(struct world *w, struct held_map *m)
{
	unsigned i = (unsigned)draw(w, m->n);
	uint64_t at = draw(w, m->lens[i]), len = 1 + draw(w, m->lens[i] - at);
	const void *base;
	size_t there;

	must(w, quire_map_item(m->map, i, &base, &there) == 0 && there == m->lens[i]);
	struct iovec range = {(char *)(uintptr_t)base + at, len};
	int64_t rc = want(m->map, &range, draw(w, 2) == 0);
	if (rc < 0) {
		(void)world_excuses(w, rc);
		must_not_show(w, m, i);
		return;
	}
	w->sums[SUM_PAGES] += 1 + (at + len - 1) / PAGE - at / PAGE;
	is_blob(w, m->ids[i], at, (const char *)base + at, len);
	if (draw(w, 2) == 0)
		(void)quire_co_yield();
	if (draw(w, 2) == 0)
		purge(w, m);
	must(w, quire_map_resident(m->map, range.iov_base, len));
	is_blob(w, m->ids[i], at, (const char *)base + at, len);
	must(w, quire_map_unwant(m->map, &range, 1) == 0);
}

static void load(struct world *w, struct held_map *m)
{
	unsigned i = (unsigned)draw(w, m->n);
	uint64_t at = draw(w, m->lens[i]), len = 1 + draw(w, m->lens[i] - at);
	const void *base;
	size_t there;

	must(w, quire_map_item(m->map, i, &base, &there) == 0);
	if (draw(w, 2) == 0)
		purge(w, m);
	is_blob(w, m->ids[i], at, (const char *)base + at, len);
	w->sums[SUM_LOADS]++;
}

static void read_copy(struct world *w)
{
	struct history *objects = w->faces[FACE_BLOB];
	struct model_object *object;

	objects->random = draw(w, UINT32_MAX);
	object = store_history_pick(objects, MODEL_COMMITTED);
	if (object == NULL)
		return;
	uint64_t id = object->id, at = draw(w, object->len_bytes + 2), len = draw(w, 20000);
	uint64_t there = at < object->len_bytes ? object->len_bytes - at : 0;
	uint8_t *buf = malloc(len + 1);
	struct iovec iov[2] = {{buf, len / 2}, {buf + len / 2, len - len / 2}};
	int64_t rc = quire_blob_read(store_public(w->e.store), id, at, iov, 2, NULL);
	if (rc >= 0) {
		must(w, (uint64_t)rc == (len < there ? len : there));
		is_blob(w, id, at, buf, (uint64_t)rc);
	} else if (rc != -ESTALE) { /* deleted by another meanwhile */
		(void)world_excuses(w, rc);
	}
	free(buf);
}

static void destroy(struct world *w, struct held_map *m)
{
	must(w, quire_map_destroy(m->map, NULL) == 0);
	m->map = NULL;
}

static bool step(struct world *w, unsigned worker, uint64_t random)
{
	struct map_state *s = w->faces[FACE_MAP];

	(void)worker;
	s->random = random;
	struct held_map *m = &s->maps[draw(w, N_MAPS)];
	uint64_t what = draw(w, 10);
	if (what < 2)
		read_copy(w);
	else if (m->map == NULL)
		make(w, m);
	else if (what < 7 && m->is_raw && what != 3)
		load(w, m);
	else if (what < 7)
		want_pinned(w, m);
	else if (what < 8)
		purge(w, m);
	else if (what < 9)
		destroy(w, m);
	return !world_power_is_gone(w);
}

static void close_face(struct world *w)
{
	struct map_state *s = w->faces[FACE_MAP];

	for (unsigned i = 0; i < N_MAPS; i++)
		if (s->maps[i].map != NULL)
			destroy(w, &s->maps[i]);
}

/* Each page that can be had is right; what can't, shows nothing. */
static unsigned look_at(struct world *w, struct held_map *m)
{
	unsigned n_errors = 0;
	const void *base;
	size_t len;

	must(w, quire_map_item(m->map, 0, &base, &len) == 0);
	for (uint64_t at = 0; at < len; at += PAGE) {
		struct iovec range = {(char *)(uintptr_t)base + at, len - at < PAGE ? len - at : PAGE};
		int64_t rc = want(m->map, &range, false);
		n_errors += rc < 0;
		if (rc < 0)
			continue;
		is_blob(w, m->ids[0], at, range.iov_base, range.iov_len);
		must(w, quire_map_unwant(m->map, &range, 1) == 0);
	}
	must_not_show(w, m, 0);
	return n_errors;
}

static unsigned look(struct world *w)
{
	struct quire_map_options o = {.size = sizeof(o), .fault = QUIRE_FAULT_PINNED};
	struct history *objects = w->faces[FACE_BLOB];
	unsigned n_errors = 0;

	for (uint64_t id = 0; object_list(w->e.store, id, &id, 1) == 1;) {
		struct quire_item item = {.store = store_public(w->e.store), .blob = id};
		struct held_map m = {.ids = {id}, .n = 1};
		if (!model_knows(&objects->m, id))
			continue;
		must(w, quire_map_create(w->cache, &item, 1, &o, &m.map, NULL) == 0);
		n_errors += quire_map_bytes(m.map) == 0 ? 0 : look_at(w, &m);
		must(w, quire_map_destroy(m.map, NULL) == 0);
	}
	return n_errors;
}

static void end(struct world *w)
{
	(void)w;
}

const struct face_ops map_face = {.begin = begin, .open = open_face, .step = step, .close = close_face, .look = look, .end = end};
