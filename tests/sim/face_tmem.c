/* face_tmem.c - pools of pages over a store: what outgrows their memory is spilled to a class, and one pool is saved and restored.
 *
 * The pools of tests/tmem/model.h live as long as the store is open, since nothing that they hold outlives that; their calls and what
 * these must have done is the model's. In half of the lives there are two models, each with its worker and its pools, so that one spills, and makes room
 * there, while the other reads what it has spilled; then none of them makes pools anew, for which it might have to wait for the other's
 * pages to go. Beside them is one pool of few pages, of which images are saved: after a crash
 * there is the image that was saved last, or one of those whose saving has ended in an error since, or in nothing. */
#include "world.h"

#include "../tmem/model.h"

#include <errno.h>
#include <quire/tmem_store.h>
#include <stdlib.h>
#include <string.h>

#define BUDGET_BYTES (7u << 18)
#define SEGMENT_BYTES (256u << 10)
#define PAGE_MOST 16384u
#define STEPS 40u
#define IMAGE_NAME "pool"
#define KEPT_PAGES 24u
#define UNSURE_MOST 4u

struct kept {
	bool there;
	uint32_t contents[KEPT_PAGES]; /* 0: none */
};

struct tmem_state {
	struct quire_tmem *tmem;       /* owned */
	struct model models[PLAN_WORKERS];
	unsigned n_models;
	struct quire_tmem_pool *pool;  /* owned by the tmem */
	struct kept now, saved;
	struct kept unsure[UNSURE_MOST]; /* what became of them is not known */
	unsigned n_unsure;
	uint64_t random;
};

static struct tmem_state *state_of(struct world *w)
{
	return w->faces[FACE_TMEM];
}

static enum quire_class class_of(const struct world *w)
{
	return w->e.sims[QUIRE_CLASS_STAGING] != NULL ? QUIRE_CLASS_STAGING : QUIRE_CLASS_CAPACITY;
}

static void begin(struct world *w)
{
	if (w->faces[FACE_TMEM] == NULL)
		w->faces[FACE_TMEM] = calloc(1, sizeof(struct tmem_state));
	struct tmem_state *s = state_of(w);
	must(w, s != NULL);
	s->saved.there = false;
	s->n_unsure = 0;
}

/* ---- the pool that is saved: some puts are refused, often of a page that is there ---- */

static struct quire_tmem_key key_of(unsigned i)
{
	return (struct quire_tmem_key){.object = {7, 7, 7}, .index = i};
}

static void put_some(struct world *w)
{
	struct tmem_state *s = state_of(w);
	uint8_t page[4096];

	for (unsigned k = 0; k < 6; k++) {
		unsigned i = (unsigned)random_below(&s->random, KEPT_PAGES);
		uint32_t content = 1 + (uint32_t)random_below(&s->random, 1000);
		struct quire_tmem_key key = key_of(i);
		model_fill(content, page, sizeof(page));
		int rc = quire_tmem_put(s->pool, &key, page);
		must(w, rc == 0 || rc == -ENOSPC || rc == -E2BIG);
		s->now.contents[i] = rc == 0 ? content : 0;
	}
}

static void must_hold(struct world *w, struct quire_tmem_pool *pool, const struct kept *kept)
{
	uint8_t page[4096], expected[4096];

	for (unsigned i = 0; i < KEPT_PAGES; i++) {
		struct quire_tmem_key key = key_of(i);
		int rc = quire_tmem_get(pool, &key, page, QUIRE_TMEM_GET_KEEP);
		must(w, rc == (kept->contents[i] == 0 ? -ENOENT : 0));
		if (rc < 0)
			continue;
		model_fill(kept->contents[i], expected, sizeof(expected));
		must(w, memcmp(page, expected, sizeof(page)) == 0);
	}
}

static bool is_of(struct quire_tmem_pool *pool, const struct kept *kept)
{
	uint8_t page[4096], expected[4096];

	for (unsigned i = 0; i < KEPT_PAGES; i++) {
		struct quire_tmem_key key = key_of(i);
		int rc = quire_tmem_get(pool, &key, page, QUIRE_TMEM_GET_KEEP);
		if ((rc == 0) != (kept->contents[i] != 0))
			return false;
		if (rc < 0)
			continue;
		model_fill(kept->contents[i], expected, sizeof(expected));
		if (memcmp(page, expected, sizeof(page)) != 0)
			return false;
	}
	return true;
}

static void save(struct world *w)
{
	struct tmem_state *s = state_of(w);

	if (s->n_unsure == UNSURE_MOST)
		return;
	struct kept *saving = &s->unsure[s->n_unsure++];
	*saving = s->now;
	int rc = quire_tmem_pool_save(s->pool, store_public(w->e.store), class_of(w), IMAGE_NAME, NULL);
	if (rc == -ENOSPC || rc == -ENOMEM) { /* nothing happened */
		s->n_unsure--;
		return;
	}
	if (rc < 0) {
		(void)world_excuses(w, rc);
		return;
	}
	s->saved = *saving;
	s->n_unsure = 0;
	w->sums[SUM_SAVED]++;
}

/* Beside the pool, to be looked at. */
static bool restore(struct world *w)
{
	struct tmem_state *s = state_of(w);
	struct quire_tmem_pool *pool;
	int rc = quire_tmem_pool_restore(s->tmem, store_public(w->e.store), IMAGE_NAME, NULL, &pool, &w->e.err);

	if (rc == -ENOENT) {
		must(w, !s->saved.there);
		s->n_unsure = 0;
		return true;
	}
	if (rc == -ENOSPC) /* of the budget: the others hold it */
		return true;
	if (rc < 0) {
		(void)world_excuses(w, rc);
		return false;
	}
	for (unsigned i = 0; i < s->n_unsure; i++)
		if (is_of(pool, &s->unsure[i]))
			s->saved = s->unsure[i];
	s->n_unsure = 0;
	must(w, s->saved.there);
	must_hold(w, pool, &s->saved);
	quire_tmem_pool_destroy(pool);
	return true;
}

/* ---- open ---- */

static void make_model(struct world *w, unsigned i, unsigned n_models)
{
	struct tmem_state *s = state_of(w);
	struct model *m = &s->models[i];

	*m = (struct model){.tmem = s->tmem, .random = w->life->random + i, .salt = i, .spills = true, .io_fails = true, .is_damaged = w->damaged,
	                    .alone = true, .keeps_pools = n_models > 1, .page = malloc(PAGE_MOST)};
	must(w, m->page != NULL);
	for (unsigned k = 0; k < MODEL_POOLS; k++)
		model_make_pool(m, k);
}

static bool make(struct world *w)
{
	const struct quire_tmem_backing_options backing = {.size = sizeof(backing), .segment_bytes = SEGMENT_BYTES, .page_most_bytes = PAGE_MOST};
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = BUDGET_BYTES, .n_threads = 1};
	unsigned n_models = 1 + (unsigned)(w->life->random >> 8) % PLAN_WORKERS;
	struct quire_tmem_pool_options kept = {.size = sizeof(kept), .kind = QUIRE_TMEM_PERSISTENT, .flags = QUIRE_TMEM_REFUSE_INCOMPRESSIBLE};
	struct tmem_state *s = state_of(w);

	s->n_models = 0;
	s->now = (struct kept){.there = true};
	must(w, quire_tmem_create(&o, &s->tmem, NULL) == 0);
	int rc = quire_tmem_set_backing(s->tmem, store_public(w->e.store), class_of(w), &backing, NULL);
	if (rc < 0 || quire_tmem_pool_create(s->tmem, &kept, &s->pool, NULL) < 0)
		return false;
	while (s->n_models < n_models)
		make_model(w, s->n_models++, n_models);
	return true;
}

static void close_face(struct world *w)
{
	struct tmem_state *s = state_of(w);
	struct quire_tmem_stat stat;

	quire_tmem_stat(s->tmem, &stat);
	w->sums[SUM_SPILLED] += stat.n_spilled;
	quire_tmem_destroy(s->tmem);
	for (unsigned i = 0; i < s->n_models; i++)
		free(s->models[i].page);
	s->n_models = 0;
}

static bool open_face(struct world *w)
{
	if ((w->life->faults & 1u << FAULT_MEMORY) != 0) /* the model knows only of caps and budgets */
		return false;
	if (make(w) && restore(w) && !world_power_is_gone(w))
		return true;
	close_face(w);
	return false;
}

static bool step(struct world *w, unsigned worker, uint64_t random)
{
	struct tmem_state *s = state_of(w);

	if (worker >= s->n_models)
		return false;
	s->models[worker].random = random;
	if (worker == 0) {
		s->random = random;
		put_some(w);
		must_hold(w, s->pool, &s->now);
	}
	for (unsigned i = 0; i < STEPS; i++)
		model_step(&s->models[worker]);
	if (worker == 0 && random % 4 == 0)
		save(w);
	return !world_power_is_gone(w);
}

static unsigned look(struct world *w)
{
	(void)w;
	return 0;
}

static void end(struct world *w)
{
	(void)w;
}

const struct face_ops tmem_face = {.begin = begin, .open = open_face, .step = step, .close = close_face, .look = look, .end = end};
