/* model.c - random calls, and what they must have done. */
#include "model.h"
#include "with_pages.h"
#include "../support/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_MOST 24u

uint64_t model_random(struct model *m, uint64_t below)
{
	return random_below(&m->random, below);
}

void model_fill(uint32_t content, uint8_t *page, uint32_t n_bytes)
{
	uint64_t state = content * UINT64_C(0x9e3779b97f4a7c15);
	uint32_t dense = content % 5 == 0 ? n_bytes : content % 5 * n_bytes / 8; /* bytes of noise */
	/* Some of it such as better compressors make less of. */
	uint64_t mask = content % 5 == 0 || content % 3 == 0 ? UINT64_MAX : UINT64_C(0x0303030307070707);

	if (content % 7 == 0) {
		memset(page, (int)(content % 3), n_bytes);
		return;
	}
	memset(page, (int)(content & 0xff), n_bytes);
	for (uint32_t i = 0; i < dense; i += 8) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		uint64_t word = (state ^ (state >> 29)) & mask;
		memcpy(page + i, &word, 8);
	}
	memcpy(page + n_bytes - sizeof(content), &content, sizeof(content));
}

struct step {
	unsigned pool, object, index;
	uint32_t content; /* of a put */
};

static struct quire_tmem_key key_of(const struct model *m, const struct step *s)
{
	struct quire_tmem_key key = {.object = {s->object * UINT64_C(0x9e3779b97f4a7c15), m->salt, s->object & 1},
	                             .index = s->index};

	/* In three spans, and far apart in one. */
	if (s->index % 4 == 1)
		key.index = 70000 + s->index;
	if (s->index % 4 == 2)
		key.index = UINT32_MAX - s->index * 1000;
	return key;
}

static void empty_pool(struct model *m, unsigned pool)
{
	for (unsigned i = 0; i < MODEL_OBJECTS && m->pools[pool] != NULL && !m->frozen[pool]; i++) {
		const struct step s = {.pool = pool, .object = i};
		const struct quire_tmem_key key = key_of(m, &s);

		assert_true(quire_tmem_flush_object(m->pools[pool], key.object) >= 0);
		memset(m->pages[pool][i], 0, sizeof(m->pages[pool][i]));
	}
}

void model_make_pool(struct model *m, unsigned pool)
{
	static const uint32_t sizes[] = {4096, 4096, 8192, 16384};
	struct quire_tmem_pool_options *o = &m->options[pool];

	quire_tmem_pool_destroy(m->pools[pool]);
	m->pools[pool] = NULL;
	memset(m->pages[pool], 0, sizeof(m->pages[pool]));
	*o = (struct quire_tmem_pool_options){
		.size = sizeof(*o),
		.kind = model_random(m, 2) != 0 ? QUIRE_TMEM_EPHEMERAL : QUIRE_TMEM_PERSISTENT,
		.page_bytes = sizes[model_random(m, 4)],
		.weight = 1 + (uint32_t)model_random(m, 200),
		.domain = model_random(m, 3) != 0 ? 0 : 7,
		.cap_bytes = model_random(m, 3) != 0 ? 0 : with_pages(50000 + model_random(m, 400000), POOL_PAGES),
	};
	if (model_random(m, 4) == 0)
		o->flags |= QUIRE_TMEM_NO_DEDUP;
	if (model_random(m, 4) == 0)
		o->flags |= QUIRE_TMEM_REFUSE_INCOMPRESSIBLE;
	if (model_random(m, 2) == 0)
		o->flags |= QUIRE_TMEM_RECOMPRESS;
	if (model_random(m, 2) == 0) {
		o->flags |= QUIRE_TMEM_COLD;
		o->unit_bytes = 16384u << model_random(m, 3);
		o->cold_rounds = 1 + (uint32_t)model_random(m, 3);
	}
	if (model_random(m, 3) == 0) {
		o->flags |= QUIRE_TMEM_SHARED;
		for (unsigned i = 0; i < 16; i++)
			o->uuid[i] = (uint8_t)(1 + model_random(m, 255));
	}
	if (m->spills && o->kind == QUIRE_TMEM_PERSISTENT && model_random(m, 4) != 0) {
		o->flags = (o->flags & ~QUIRE_TMEM_COLD) | QUIRE_TMEM_SPILL;
		if (model_random(m, 2) == 0)
			o->cap_bytes = with_pages(60000 + model_random(m, 150000), POOL_PAGES);
	}
	if (m->remotes && o->kind == QUIRE_TMEM_EPHEMERAL && model_random(m, 4) != 0)
		o->flags |= QUIRE_TMEM_REMOTE;
	m->frozen[pool] = false;
	int rc = quire_tmem_pool_create(m->tmem, o, &m->pools[pool], NULL);
	while (m->failing && rc == -ENOMEM)
		rc = quire_tmem_pool_create(m->tmem, o, &m->pools[pool], NULL);
	/* All memory may be persistent pages': of his own he gives up some, and others' he waits for. */
	for (unsigned k = 0; rc == -ENOMEM; k++) {
		if (k < MODEL_POOLS)
			empty_pool(m, k);
		else
			sched_yield();
		rc = quire_tmem_pool_create(m->tmem, o, &m->pools[pool], NULL);
	}
	assert_int_equal(rc, 0);
}

/* ---- one request ---- */

static void after_put(struct model *m, const struct step *s, int64_t rc)
{
	uint32_t *now = &m->pages[s->pool][s->object][s->index].content;

	*now = rc == 0 ? s->content : 0;
	if (m->frozen[s->pool])
		assert_int_equal(rc, -EROFS);
	else if (rc == -E2BIG)
		assert_true((m->options[s->pool].flags & QUIRE_TMEM_REFUSE_INCOMPRESSIBLE) != 0);
	else
		assert_true(rc == 0 || rc == -ENOSPC);
}

static void after_get(struct model *m, const struct step *s, enum quire_tmem_get how, int64_t rc, const uint8_t *page)
{
	const struct quire_tmem_pool_options *o = &m->options[s->pool];
	uint32_t *now = &m->pages[s->pool][s->object][s->index].content;
	bool ephemeral = o->kind == QUIRE_TMEM_EPHEMERAL;

	if ((rc == -EIO && m->io_fails) || (rc == -EBADMSG && m->is_damaged)) {
		assert_true((o->flags & QUIRE_TMEM_SPILL) != 0 && *now != 0);
		return;
	}
	if (rc == -ENOENT) {
		assert_true(ephemeral || *now == 0);
		*now = 0;
		return;
	}
	assert_int_equal(rc, 0);
	assert_int_not_equal(*now, 0);
	uint8_t *expected = malloc(o->page_bytes);
	model_fill(*now, expected, o->page_bytes);
	assert_memory_equal(page, expected, o->page_bytes);
	free(expected);
	bool takes = how == QUIRE_TMEM_GET_TAKE ||
	             (how == QUIRE_TMEM_GET_USUAL && ephemeral && (o->flags & QUIRE_TMEM_SHARED) == 0);
	if (takes && !m->frozen[s->pool])
		*now = 0;
}

static void after_flush(struct model *m, const struct step *s, int64_t rc)
{
	uint32_t *now = &m->pages[s->pool][s->object][s->index].content;

	if (m->options[s->pool].kind == QUIRE_TMEM_PERSISTENT || *now == 0)
		assert_int_equal(rc, *now != 0);
	*now = 0;
}

static void after_flush_object(struct model *m, const struct step *s, int64_t rc)
{
	int64_t n = 0;

	for (unsigned i = 0; i < MODEL_INDEXES; i++) {
		n += m->pages[s->pool][s->object][i].content != 0;
		m->pages[s->pool][s->object][i].content = 0;
	}
	if (m->options[s->pool].kind == QUIRE_TMEM_PERSISTENT)
		assert_int_equal(rc, n);
	else
		assert_true(rc >= 0 && rc <= n);
}

static struct step random_step(struct model *m)
{
	struct step s = {.pool = (unsigned)model_random(m, MODEL_POOLS), .object = (unsigned)model_random(m, MODEL_OBJECTS),
	                 .index = (unsigned)model_random(m, MODEL_INDEXES)};

	/* Many contents, some of them again and again. */
	s.content = 1 + (uint32_t)(model_random(m, 3) == 0 ? model_random(m, 40) : model_random(m, 1000000));
	return s;
}

static void request(struct model *m, const struct step *s, struct quire_tmem_request *r, uint8_t *page)
{
	uint64_t kind = model_random(m, 100);

	*r = (struct quire_tmem_request){.pool = m->pools[s->pool], .key = key_of(m, s), .page = page, .result = -1000};
	r->verb = kind < 45   ? QUIRE_TMEM_PUT
	          : kind < 85 ? QUIRE_TMEM_GET
	          : kind < 98 ? QUIRE_TMEM_FLUSH
	                      : QUIRE_TMEM_FLUSH_OBJECT;
	r->how = (enum quire_tmem_get)model_random(m, 3);
	if (r->verb == QUIRE_TMEM_PUT)
		model_fill(s->content, page, m->options[s->pool].page_bytes);
}

static void after(struct model *m, const struct step *s, const struct quire_tmem_request *r)
{
	if (r->verb == QUIRE_TMEM_PUT)
		after_put(m, s, r->result);
	else if (r->verb == QUIRE_TMEM_GET)
		after_get(m, s, r->how, r->result, r->page);
	else if (r->verb == QUIRE_TMEM_FLUSH)
		after_flush(m, s, r->result);
	else
		after_flush_object(m, s, r->result);
}

static void single(struct model *m)
{
	struct step s = random_step(m);
	struct quire_tmem_request r;

	request(m, &s, &r, m->page);
	if (r.verb == QUIRE_TMEM_PUT)
		r.result = quire_tmem_put(r.pool, &r.key, r.page);
	else if (r.verb == QUIRE_TMEM_GET)
		r.result = quire_tmem_get(r.pool, &r.key, r.page, r.how);
	else if (r.verb == QUIRE_TMEM_FLUSH)
		r.result = quire_tmem_flush(r.pool, &r.key);
	else
		r.result = quire_tmem_flush_object(r.pool, r.key.object);
	after(m, &s, &r);
}

static void batch(struct model *m)
{
	struct quire_tmem_request requests[BATCH_MOST];
	struct step steps[BATCH_MOST];
	unsigned n = 1 + (unsigned)model_random(m, BATCH_MOST);
	uint8_t *pages = malloc((size_t)n * 16384);

	assert_non_null(pages);
	for (unsigned i = 0; i < n; i++) {
		steps[i] = random_step(m);
		/* Often the same page again. */
		if (i > 0 && model_random(m, 3) == 0) {
			uint32_t content = steps[i].content;
			steps[i] = steps[model_random(m, i)];
			steps[i].content = content;
		}
		request(m, &steps[i], &requests[i], pages + (size_t)i * 16384);
	}
	if (model_random(m, 8) == 0) {
		struct quire_op op;
		quire_op_init(&op);
		assert_int_equal(quire_tmem_batch(m->tmem, requests, n, &op), 0);
		assert_int_equal(quire_await(&op), 0);
	} else {
		assert_int_equal(quire_tmem_batch(m->tmem, requests, n, NULL), 0);
	}
	for (unsigned i = 0; i < n; i++)
		after(m, &steps[i], &requests[i]);
	free(pages);
	m->n_steps += n - 1;
}

/* ---- settings ---- */

static void open_again(struct model *m, unsigned pool)
{
	struct quire_tmem_pool *again = NULL;
	bool shared = (m->options[pool].flags & QUIRE_TMEM_SHARED) != 0;

	assert_int_equal(quire_tmem_pool_open(m->tmem, m->options[pool].uuid, &again), shared ? 0 : -ENOENT);
	if (!shared)
		return;
	assert_ptr_equal(again, m->pools[pool]);
	quire_tmem_pool_destroy(again);
}

static void change_budget(struct model *m)
{
	uint64_t least = 0, lowest = with_pages(MODEL_LEAST_BUDGET, BEGUN_PAGES), budget = lowest + model_random(m, m->most_budget - lowest + 1);
	int rc = quire_tmem_set_budget(m->tmem, budget, &least);

	assert_true(rc == 0 || (rc == -EBUSY && least > budget));
}

static void settings(struct model *m)
{
	unsigned pool = (unsigned)model_random(m, MODEL_POOLS);

	switch (model_random(m, 10)) {
	case 0:
		if (!m->keeps_pools)
			model_make_pool(m, pool);
		break;
	case 8:
		open_again(m, pool);
		break;
	case 9:
		if (m->most_budget != 0)
			change_budget(m);
		break;
	case 1:
	case 2:
	case 3:
		m->frozen[pool] = !m->frozen[pool] && model_random(m, 2) == 0;
		quire_tmem_pool_freeze(m->pools[pool], m->frozen[pool]);
		break;
	case 4:
		assert_int_equal(quire_tmem_pool_set_weight(m->pools[pool], 1 + (uint32_t)model_random(m, 1000)), 0);
		break;
	default: {
		uint64_t cap = model_random(m, 2) == 0 ? 0 : with_pages(30000 + model_random(m, 600000), POOL_PAGES);
		int rc = quire_tmem_pool_set_cap(m->pools[pool], cap);
		bool may_refuse = m->failing || m->frozen[pool] || m->options[pool].kind == QUIRE_TMEM_PERSISTENT || m->options[pool].domain != 0;
		assert_true(rc == 0 || (rc == -EBUSY && may_refuse));
	}
	}
}

static void recompress(struct model *m)
{
	int64_t rc = quire_tmem_recompress(m->tmem, (uint32_t)model_random(m, 150));

	assert_true(rc >= 0 || rc == -ENOMEM || rc == -EBUSY);
}

void model_step(struct model *m)
{
	uint64_t kind = model_random(m, 1000);

	m->n_steps++;
	if (kind < 2)
		settings(m);
	else if (kind < 20 && !m->alone)
		batch(m);
	else if (kind < 23)
		recompress(m);
	else
		single(m);
}

void model_compare(struct model *m)
{
	for (unsigned p = 0; p < MODEL_POOLS; p++)
		for (unsigned o = 0; o < MODEL_OBJECTS; o++)
			for (unsigned i = 0; i < MODEL_INDEXES; i++) {
				struct step s = {.pool = p, .object = o, .index = i};
				struct quire_tmem_key key = key_of(m, &s);
				int rc = quire_tmem_get(m->pools[p], &key, m->page, QUIRE_TMEM_GET_KEEP);
				after_get(m, &s, QUIRE_TMEM_GET_KEEP, rc, m->page);
			}
}

struct model *model_create(struct quire_tmem *t, uint64_t seed)
{
	struct model *m = malloc(sizeof(*m));

	assert_non_null(m);
	*m = (struct model){.tmem = t, .random = seed, .salt = seed, .page = malloc(16384)};
	assert_non_null(m->page);
	for (unsigned p = 0; p < MODEL_POOLS; p++)
		model_make_pool(m, p);
	return m;
}

void model_destroy(struct model *m)
{
	for (unsigned p = 0; p < MODEL_POOLS; p++)
		quire_tmem_pool_destroy(m->pools[p]);
	free(m->page);
	free(m);
}

/* ---- side by side ---- */

#define N_THREADS 4u

struct runner {
	struct model m;
	unsigned n_steps;
	pthread_t thread;
};

static void *run(void *arg)
{
	struct runner *r = arg;

	for (unsigned i = 0; i < r->n_steps; i++)
		model_step(&r->m);
	return NULL;
}

void model_run_threads(const struct model *like, unsigned n_steps)
{
	struct runner *r = calloc(N_THREADS, sizeof(*r));

	assert_non_null(r);
	for (unsigned i = 0; i < N_THREADS; i++) {
		r[i] = (struct runner){.m = *like, .n_steps = n_steps};
		r[i].m.random += i;
		r[i].m.salt = i;
		r[i].m.page = malloc(2 << 20);
		assert_non_null(r[i].m.page);
		for (unsigned k = 0; k < MODEL_POOLS; k++)
			model_make_pool(&r[i].m, k);
		assert_int_equal(pthread_create(&r[i].thread, NULL, run, &r[i]), 0);
	}
	for (unsigned i = 0; i < N_THREADS; i++)
		pthread_join(r[i].thread, NULL);
	for (unsigned i = 0; i < N_THREADS; i++) {
		model_compare(&r[i].m);
		free(r[i].m.page);
	}
	free(r);
}
