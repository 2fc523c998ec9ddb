/* history_steps.c - what may happen to objects of a store. */
#include "history.h"

#include <errno.h>
#include <stdlib.h>

/* True if it is the cut's doing, or that of I/O that fails. */
static bool broken(struct history *h, int rc)
{
	bool is_full = rc == -ENOSPC && store_error(h->e->store) == 0;
	bool is_broken = rc == -EIO || (rc < 0 && h->faulty && !is_full);

	if (is_broken && !h->faulty && !env_is_cut(h->e))
		fail_msg("-EIO without a cut");
	h->failed |= is_broken;
	return is_broken;
}

static uint64_t random_len(struct history *h)
{
	switch (rnd(h, 8)) {
	case 0:
		return 0;
	case 1:
		return rnd(h, 64) * 1024;
	case 2:
		return rnd(h, 2) * 70000 + rnd(h, 60000);
	default:
		return rnd(h, 9000);
	}
}

/* ---- steps ---- */

struct model_object *store_history_pick(struct history *h, enum model_state state)
{
	if (h->m.n == 0)
		return NULL;
	for (unsigned n = 0, i = (unsigned)rnd(h, h->m.n); n < h->m.n; n++, i++) {
		struct model_object *o = &h->m.objects[i % h->m.n];
		if (o->state == state && o->tx < 0)
			return o;
	}
	return NULL;
}

static void step_begin(struct history *h)
{
	uint64_t id, max_id = h->m.max_id, expected = rnd(h, 4) == 0 ? rnd(h, 100000) : 0;
	unsigned cls = h->e->sims[1] != NULL && rnd(h, 3) == 0;
	int rc = object_begin(h->e->store, cls, expected, ENV_SHIFT(cls), ENV_TAG(cls), &id);

	if (broken(h, rc) || rc == -ENOSPC)
		return;
	assert_int_equal(rc, 0);
	(void)max_id;
	model_begun(&h->m, id, cls);
}

/* The object must not be used by another worker meanwhile: it is marked as if by a transaction. */
static void step_append(struct history *h)
{
	struct model_object *o = store_history_pick(h, MODEL_WRITING);

	if (o == NULL)
		return;
	uint64_t id = o->id, len = random_len(h), at = o->len_bytes;
	if (at > 300000)
		return;
	o->tx = 1000;
	int rc = env_append(h->e, id, at, len);
	o = model_find(&h->m, id);
	if (broken(h, rc))
		return;
	o->tx = -1;
	assert_true(rc == 0 || rc == -ENOSPC);
	if (rc == 0)
		o->len_bytes += len;
}

static void step_abort(struct history *h)
{
	struct model_object *o = store_history_pick(h, MODEL_WRITING);

	if (o == NULL)
		return;
	o->state = MODEL_GONE;
	assert_int_equal(object_abort(h->e->store, o->id), 0);
}

static void step_apply(struct history *h)
{
	uint64_t commit[MODEL_MAX_NAMED], remove[MODEL_MAX_NAMED];
	unsigned n_commit = 0, n_remove = 0;
	unsigned want_commit = (unsigned)rnd(h, rnd(h, 4) == 0 ? MODEL_MAX_NAMED : 4);
	unsigned want_remove = (unsigned)rnd(h, rnd(h, 4) == 0 ? MODEL_MAX_NAMED : 3);
	struct model_object *o;

	while (n_commit < want_commit && (o = store_history_pick(h, MODEL_WRITING)) != NULL) {
		o->tx = 1000;
		commit[n_commit++] = o->id;
	}
	while (n_remove < want_remove && (o = store_history_pick(h, MODEL_COMMITTED)) != NULL) {
		o->tx = 1000;
		remove[n_remove++] = o->id;
	}
	int tx = model_asked(&h->m, commit, n_commit, remove, n_remove);
	int rc = store_apply(h->e->store, commit, n_commit, remove, n_remove);
	if (broken(h, rc))
		return;
	assert_true(rc == 0 || rc == -ENOSPC);
	model_answered(&h->m, tx, rc == 0);
	h->n_transactions++;
}

static void step_read(struct history *h)
{
	struct model_object *o = store_history_pick(h, MODEL_COMMITTED);

	if (o == NULL)
		return;
	uint64_t id = o->id;
	int rc = env_verify(h->e, id, o->len_bytes);
	if (broken(h, rc))
		return;
	/* Another worker may have removed it just before it was looked for. */
	assert_int_equal(rc, 0);
}

void store_history_let_go(struct history *h)
{
	for (unsigned i = 0; i < STORE_HISTORY_HELD; i++) {
		object_put(h->held[i]);
		h->held[i] = NULL;
	}
}

static void step_hold(struct history *h)
{
	struct model_object *o = store_history_pick(h, MODEL_COMMITTED);
	unsigned slot = (unsigned)rnd(h, STORE_HISTORY_HELD);

	if (h->held[slot] != NULL) {
		struct object *held = h->held[slot];
		void *buf = aligned_alloc(PAGE, PAGE);
		h->held[slot] = NULL;
		int rc = h->held_len[slot] == 0 ? 0 : object_read_wait(held, 0, 1, buf, NULL);
		if (!broken(h, rc))
			assert_int_equal(rc, 0);
		free(buf);
		object_put(held);
		return;
	}
	if (o == NULL)
		return;
	assert_int_equal(object_get(h->e->store, o->id, &h->held[slot]), 0);
	h->held_len[slot] = o->len_bytes;
}

static void step_grow(struct history *h)
{
	unsigned cls = h->e->sims[1] != NULL && rnd(h, 2) == 0;
	struct store_stat stat;

	store_stat(h->e->store, &stat);
	uint64_t bytes = stat.classes[cls].bytes + rnd(h, 64) * PAGE;
	if (bytes > h->most_units * PAGE)
		return;
	int rc = store_class_grow(h->e->store, cls, bytes, NULL);
	if (broken(h, rc) || (rc == -ENOSPC && h->faulty))
		return;
	/* Another worker was quicker, and made it larger. */
	assert_true(rc == 0 || (rc == -EINVAL && h->m.n_units[cls] > bytes / PAGE));
	if (rc == 0)
		h->m.n_units[cls] = bytes / PAGE;
}

void store_step(struct history *h)
{
	unsigned what = (unsigned)rnd(h, 100);

	if (what < 25)
		step_begin(h);
	else if (what < 55)
		step_append(h);
	else if (what < 80)
		step_apply(h);
	else if (what < 85)
		step_abort(h);
	else if (what < 92)
		step_read(h);
	else if (what < 98)
		step_hold(h);
	else
		step_grow(h);
}
