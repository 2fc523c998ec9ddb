/* model.c - see model.h. */
#include "model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void model_init(struct model *m)
{
	memset(m, 0, sizeof(*m));
}

static struct model_object *look_up(struct model *m, uint64_t id)
{
	for (unsigned i = m->n; i-- > 0;)
		if (m->objects[i].id == id)
			return &m->objects[i];
	return NULL;
}

struct model_object *model_find(struct model *m, uint64_t id)
{
	struct model_object *o = look_up(m, id);

	if (o == NULL)
		fail_msg("object %llu was never begun", (unsigned long long)id);
	return o;
}

bool model_knows(struct model *m, uint64_t id)
{
	return look_up(m, id) != NULL;
}

/* Ids grow, so the last is the greatest; nothing that is gone needs to stay but that. */
static void forget_gone(struct model *m)
{
	unsigned n = 0;

	for (unsigned i = 0; i < m->n; i++)
		if (m->objects[i].state != MODEL_GONE)
			m->objects[n++] = m->objects[i];
	m->n = n;
}

struct model_object *model_begun(struct model *m, uint64_t id, unsigned cls)
{
	if (m->n == MODEL_MAX_OBJECTS)
		forget_gone(m);
	assert_true(m->n < MODEL_MAX_OBJECTS);
	for (unsigned i = 0; i < m->n; i++)
		assert_true(m->objects[i].id != id);
	m->objects[m->n] = (struct model_object){.id = id, .cls = cls, .tx = -1};
	if (id > m->max_id)
		m->max_id = id;
	return &m->objects[m->n++];
}

/* ---- transactions ---- */

int model_asked(struct model *m, const uint64_t *commit, unsigned n_commit, const uint64_t *remove, unsigned n_remove)
{
	int tx = 0;

	while (m->transactions[tx].open)
		tx++;
	struct model_transaction *t = &m->transactions[tx];
	*t = (struct model_transaction){.open = true, .n_commit = n_commit, .n_remove = n_remove};
	for (unsigned i = 0; i < n_commit; i++) {
		t->commit[i] = commit[i];
		model_find(m, commit[i])->tx = tx;
	}
	for (unsigned i = 0; i < n_remove; i++) {
		t->remove[i] = remove[i];
		model_find(m, remove[i])->tx = tx;
	}
	return tx;
}

void model_answered(struct model *m, int tx, bool done)
{
	struct model_transaction *t = &m->transactions[tx];

	t->open = false;
	for (unsigned i = 0; i < t->n_commit; i++) {
		struct model_object *o = model_find(m, t->commit[i]);
		o->tx = -1;
		if (done)
			o->state = MODEL_COMMITTED;
	}
	for (unsigned i = 0; i < t->n_remove; i++) {
		struct model_object *o = model_find(m, t->remove[i]);
		o->tx = -1;
		if (done)
			o->state = MODEL_GONE;
	}
}

/* ---- after a cut ---- */

static bool is_there(struct env *e, uint64_t id)
{
	struct object_properties p;
	int rc = object_properties(e->store, id, &p);

	assert_true(rc == 0 || rc == -ESTALE);
	return rc == 0;
}

static void settle_transaction(struct model *m, struct env *e, int tx)
{
	struct model_transaction *t = &m->transactions[tx];
	unsigned n_done = 0;

	for (unsigned i = 0; i < t->n_commit; i++)
		n_done += is_there(e, t->commit[i]);
	for (unsigned i = 0; i < t->n_remove; i++)
		n_done += !is_there(e, t->remove[i]);
	assert_true(n_done == 0 || n_done == t->n_commit + t->n_remove);
	model_answered(m, tx, n_done != 0);
}

void model_settle(struct model *m, struct env *e)
{
	for (int i = 0; i < (int)MODEL_MAX_OPEN; i++)
		if (m->transactions[i].open)
			settle_transaction(m, e, i);
	for (unsigned i = 0; i < m->n; i++)
		if (m->objects[i].state == MODEL_WRITING)
			m->objects[i].state = MODEL_GONE;
}

/* ---- comparing ---- */

void model_verify_objects(struct model *m, struct env *e, unsigned some)
{
	uint64_t after = 0, id;
	unsigned n = 0, n_listed = 0;

	for (unsigned i = 0; i < m->n; i++) {
		const struct model_object *o = &m->objects[i];
		struct object_properties p;
		int rc = object_properties(e->store, o->id, &p);
		if (o->state == MODEL_GONE) {
			assert_int_equal(rc, -ESTALE);
			continue;
		}
		assert_int_equal(rc, 0);
		assert_int_equal(p.committed, o->state == MODEL_COMMITTED);
		assert_int_equal(p.len_bytes, o->len_bytes);
		assert_int_equal(p.class_no, o->cls);
		assert_int_equal(p.page_shift, ENV_SHIFT(o->cls));
		assert_int_equal(p.tag, ENV_TAG(o->cls));
		n += o->state == MODEL_COMMITTED;
		rc = o->state == MODEL_COMMITTED && i % some == 0 ? env_verify(e, o->id, o->len_bytes) : 0;
		if (rc == -EIO && env_is_cut(e))
			return;
		assert_int_equal(rc, 0);
	}
	while (object_list(e->store, after, &id, 1) == 1) {
		assert_true(id > after);
		after = id;
		if (m->is_shared && look_up(m, id) == NULL)
			continue;
		assert_int_equal(model_find(m, id)->state, MODEL_COMMITTED);
		n_listed++;
	}
	assert_int_equal(n, n_listed);
}

static void verify_space(struct model *m, struct env *e)
{
	uint64_t used[STORE_N_CLASSES] = {0};
	struct store_stat stat;

	store_settle(e->store);
	store_stat(e->store, &stat);
	used[0] = stat.catalogue_bytes;
	for (unsigned i = 0; i < m->n; i++) {
		const struct model_object *o = &m->objects[i];
		struct object_properties p;
		if (o->state == MODEL_COMMITTED)
			used[o->cls] += format_n_units(format_n_pages(o->len_bytes)) * PAGE;
		if (o->state == MODEL_WRITING && object_properties(e->store, o->id, &p) == 0 && p.n_extents != 0)
			used[o->cls] += p.allocated_bytes;
	}
	for (unsigned i = 0; i < STORE_N_CLASSES; i++) {
		if (!stat.classes[i].present)
			continue;
		assert_int_equal(stat.classes[i].used_bytes, used[i] + FORMAT_RESERVED_UNITS * PAGE);
		assert_true(stat.classes[i].bytes >= m->n_units[i] * PAGE);
	}
}

void model_verify(struct model *m, struct env *e, unsigned some)
{
	model_verify_objects(m, e, some);
	if (!m->is_shared)
		verify_space(m, e);
	assert_int_equal(env_check(e, true), 0);
}
