/* face_tmem.c - pools of pages over a store: what outgrows their memory is spilled to a class, and one pool is saved and restored.
 *
 * The pools of tests/tmem/model.h live as long as the store is open, since nothing that they hold outlives that; their calls and what
 * these must have done is the model's. In half of the lives there are two models, each with its worker and its pools, so that one spills, and makes room
 * there, while the other reads what it has spilled; then none of them makes pools anew, for which it might have to wait for the other's
 * pages to go, and there is a pool that both use. Beside them is one pool of few pages, of which images are saved: after a crash
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
#define RACED_PAGES 16u
#define RACED_CAP_BYTES (5u * PAGE_MOST)

struct kept {
	bool there;
	uint32_t contents[KEPT_PAGES]; /* 0: none */
};

/* Of large pages that do not compress, of which few find room in memory. */
struct raced {
	struct quire_tmem_pool *pool;    /* owned by the tmem */
	uint32_t contents[RACED_PAGES];  /* 0: none */
	uint32_t n_changes[RACED_PAGES]; /* each counted as it begins, and as it ends */
	uint32_t n_puts;
	uint8_t expected[PAGE_MOST];
};

struct tmem_state {
	struct quire_tmem *tmem;       /* owned */
	struct model models[PLAN_WORKERS];
	unsigned n_models;
	struct quire_tmem_pool *pool;  /* owned by the tmem */
	struct kept now, saved;
	struct kept unsure[UNSURE_MOST]; /* what became of them is not known */
	unsigned n_unsure;
	struct raced raced;
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

/* ---- the pool that both use at once: one changes it, while the other reads what has left memory ---- */

static struct quire_tmem_key raced_key(unsigned i)
{
	return (struct quire_tmem_key){.object = {8, 8, 8}, .index = i};
}

/* Of no other put; all noise, as model_fill has it. */
static uint32_t raced_content(struct raced *r, unsigned i)
{
	return (++r->n_puts * RACED_PAGES + i) * 35 + 5;
}

static void empty_raced(struct world *w)
{
	struct raced *r = &state_of(w)->raced;
	int n = 0;

	for (unsigned i = 0; i < RACED_PAGES; i++) {
		n += r->contents[i] != 0;
		r->contents[i] = 0;
		r->n_changes[i] += 2;
	}
	must(w, quire_tmem_flush_object(r->pool, raced_key(0).object) == n);
}

static void change_raced(struct world *w)
{
	struct tmem_state *s = state_of(w);
	struct raced *r = &s->raced;

	for (unsigned k = 0; k < 2 * RACED_PAGES; k++) {
		unsigned i = (unsigned)random_below(&s->random, RACED_PAGES);
		struct quire_tmem_key key = raced_key(i);
		uint32_t content = raced_content(r, i);
		if (random_below(&s->random, RACED_PAGES) == 0)
			empty_raced(w);
		model_fill(content, s->models[0].page, PAGE_MOST);
		r->n_changes[i]++;
		int rc = quire_tmem_put(r->pool, &key, s->models[0].page);
		must(w, rc == 0 || rc == -ENOSPC);
		r->contents[i] = rc == 0 ? content : 0;
		r->n_changes[i]++;
	}
}

/* What changes meanwhile is what it was, or became; or it is not there. */
static void read_raced(struct world *w, unsigned i)
{
	struct tmem_state *s = state_of(w);
	struct raced *r = &s->raced;
	uint8_t *page = s->models[1].page;
	struct quire_tmem_key key = raced_key(i);
	uint32_t content = r->contents[i], n_changes = r->n_changes[i];
	int rc = quire_tmem_get(r->pool, &key, page, QUIRE_TMEM_GET_KEEP);
	bool is_still = n_changes % 2 == 0 && n_changes == r->n_changes[i];

	if (rc == -EIO && world_excuses(w, rc))
		return;
	if (rc == -EBADMSG && w->damaged)
		return;
	must(w, rc == 0 || rc == -ENOENT);
	must(w, !is_still || (rc == 0) == (content != 0));
	if (rc < 0)
		return;
	if (!is_still)
		memcpy(&content, page + PAGE_MOST - sizeof(content), sizeof(content));
	must(w, (content - 5) / 35 % RACED_PAGES == i);
	model_fill(content, r->expected, PAGE_MOST);
	must(w, memcmp(page, r->expected, PAGE_MOST) == 0);
}

static void read_all_raced(struct world *w, uint64_t random)
{
	for (unsigned k = 0; k < 2 * RACED_PAGES && !world_power_is_gone(w); k++) {
		read_raced(w, (unsigned)random_below(&random, RACED_PAGES));
		(void)quire_co_yield();
	}
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
	struct quire_tmem_pool_options raced = {.size = sizeof(raced), .kind = QUIRE_TMEM_PERSISTENT, .flags = QUIRE_TMEM_SPILL,
	                                        .page_bytes = PAGE_MOST, .cap_bytes = RACED_CAP_BYTES};
	struct tmem_state *s = state_of(w);

	s->n_models = 0;
	s->raced = (struct raced){.pool = NULL};
	s->now = (struct kept){.there = true};
	must(w, quire_tmem_create(&o, &s->tmem, NULL) == 0);
	int rc = quire_tmem_set_backing(s->tmem, store_public(w->e.store), class_of(w), &backing, NULL);
	if (rc < 0 || quire_tmem_pool_create(s->tmem, &kept, &s->pool, NULL) < 0 ||
	    quire_tmem_pool_create(s->tmem, &raced, &s->raced.pool, NULL) < 0)
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
	if (worker == 0 && s->n_models > 1)
		change_raced(w);
	else if (worker == 1)
		read_all_raced(w, random);
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
