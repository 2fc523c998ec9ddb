/* warm_replay.c - brings back what a warm list names, hottest first, behind whoever asks by himself.
 *
 * 1. At most max_pages are under way, or one unit that is larger, on the service loop, whose ring has room for more: what
 *    threads fault on, and what other loops want, finds the device with a short queue.
 * 2. It takes memory that is free, never a page's place, and leaves a tenth of what was free when it began: it ends where
 *    less is left, whoever took it.
 * 3. The file decides nothing: a run counts only for an item that is what it was, and inside it.
 * 4. A run is asked for by units of the size that its item has now: what comes is what is counted as under way.
 */
#include "warm.h"

#include "../base/fail.h"
#include "../cache/fill.h"
#include "../cache/hot.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

struct slot {
	struct quire_op op;
	uint64_t page;     /* of the arena */
	uint32_t n_pages, n_coming; /* that were asked for; that come, with their units */
	unsigned uses;
};

struct replay {
	struct warm *w;
	struct quire_queue *queue; /* owned */
	struct slot *slots;        /* owned; as many as pages may be under way */
	unsigned *idle;            /* owned; stack of slots not under way */
	unsigned n_idle;
	uint64_t n_coming;         /* pages under way */
	bool *same;                /* owned; of each item: it is what it was */
	uint64_t least_free_bytes;
	bool ending;               /* the map is */
	uint64_t at, end;          /* the rest of the current run, in pages of the arena */
	unsigned uses, shift;      /* of it; pages of a unit, as log2 */
	uint64_t n_listed, n_stale, n_replayed; /* since the figures were last published */
};

static uint64_t free_bytes(const struct quire_cache *c)
{
	uint64_t limit = budget_limit(&c->budget), used = budget_used(&c->budget);

	return limit > used ? limit - used : 0;
}

static void replay_publish(struct replay *p)
{
	pthread_mutex_lock(&p->w->lock);
	p->w->stat.n_listed += p->n_listed;
	p->w->stat.n_stale += p->n_stale;
	p->w->stat.n_replayed += p->n_replayed;
	pthread_mutex_unlock(&p->w->lock);
	p->n_listed = p->n_stale = p->n_replayed = 0;
}

/* ---- what is listed ---- */

static bool identity_holds(const struct warm_identity *then, const struct warm_identity *now)
{
	if (then->kind != now->kind || then->offset != now->offset)
		return false;
	return now->kind == WARM_GROWING ? then->bytes <= now->bytes
	                                 : then->bytes == now->bytes && then->id == now->id &&
	                                           then->mtime_ns == now->mtime_ns;
}

static int replay_read_items(struct replay *p)
{
	const struct quire_map *m = p->w->map;
	struct warm_identity then, now;
	int rc;

	for (size_t i = 0; (rc = warm_list_get_item(&p->w->list, &then)) > 0; i++) {
		if (i >= m->n_items)
			continue;
		warm_identify(&m->items[i], &now);
		p->same[i] = identity_holds(&then, &now);
	}
	return rc;
}

/* The next run as pages of the arena; 1, 0 at the end, or a negative errno. One that is stale is empty. */
static int replay_next_run(struct replay *p)
{
	const struct quire_map *m = p->w->map;
	unsigned shift = m->cache->page_shift;
	struct warm_run run;
	int rc = warm_list_get_run(&p->w->list, &run);

	p->at = p->end = 0;
	if (rc <= 0)
		return rc;
	uint64_t first = (uint64_t)run.first << WARM_UNIT_SHIFT, bytes = (uint64_t)run.n << WARM_UNIT_SHIFT;
	uint64_t n_listed = map_pages(m, bytes);
	p->n_listed += n_listed;
	if (run.item < m->n_items && p->same[run.item]) {
		const struct item *it = &m->items[run.item];
		uint64_t page = first >> shift, end = map_pages(m, first + bytes);
		uint64_t end_of_item = map_pages(m, atomic_load(&it->len_bytes));

		if (end > end_of_item)
			end = end_of_item;
		if (page < end) {
			p->at = m->range->first_page + it->first_page + page;
			p->end = m->range->first_page + it->first_page + end;
			p->uses = run.uses;
			p->shift = unit_shift(m->cache, (enum unit_size)it->unit);
		}
	}
	if (p->end - p->at < n_listed)
		p->n_stale += n_listed - (p->end - p->at);
	return 1;
}

/* ---- asking for it ---- */

/* The next part of the current run: to which page, and how many come with it. False: what is under way has to end
 * first. */
static bool replay_part(const struct replay *p, uint64_t *ret_end, uint64_t *ret_n_coming)
{
	uint64_t unit = UINT64_C(1) << p->shift;
	uint64_t first = unit_first(p->w->map->range->arena, p->at, p->shift);
	uint64_t most = p->w->max_pages > p->n_coming ? (p->w->max_pages - p->n_coming) >> p->shift << p->shift : 0;
	uint64_t n = (p->end - first + unit - 1) >> p->shift << p->shift;

	if (p->n_idle == 0 || (most == 0 && p->n_coming > 0))
		return false;
	if (most > FILL_MAX_PAGES)
		most = FILL_MAX_PAGES;
	if (most < unit)
		most = unit;
	*ret_n_coming = n < most ? n : most;
	*ret_end = first + *ret_n_coming < p->end ? first + *ret_n_coming : p->end;
	return true;
}

/* Invariant 2: what is under way may not have been charged yet. */
static bool replay_has_room(const struct replay *p, uint64_t n_coming)
{
	unsigned shift = p->w->map->cache->page_shift;

	return free_bytes(p->w->map->cache) > p->least_free_bytes + ((p->n_coming + n_coming - 1) << shift);
}

static int replay_submit(struct replay *p, uint64_t end, uint64_t n_coming)
{
	struct range *r = p->w->map->range;
	unsigned index = p->idle[p->n_idle - 1];
	struct slot *s = &p->slots[index];

	s->page = p->at;
	s->n_pages = (uint32_t)(end - p->at);
	s->n_coming = (uint32_t)n_coming;
	s->uses = p->uses;
	struct iovec v = {arena_address(r->arena, s->page), (size_t)s->n_pages << r->arena->page_shift};
	quire_op_init_queue(&s->op, p->queue, index);
	int rc = want_submit(r, &v, 1, WANT_LISTED, &s->op);
	if (rc < 0)
		return rc;
	p->n_idle--;
	p->n_coming += n_coming;
	p->at = end;
	return 0;
}

static void replay_harvest(struct replay *p)
{
	struct quire_completion c[64];
	int n;

	while ((n = quire_queue_harvest(p->queue, c, 64)) > 0) {
		for (int i = 0; i < n; i++) {
			struct slot *s = &p->slots[c[i].tag];

			if (c[i].result == 0) {
				hot_restore(p->w->map->range, s->page, s->n_pages, s->uses);
				p->n_replayed += s->n_pages;
			} else if (c[i].result == -ECANCELED) {
				p->ending = true;
			} else {
				p->n_stale += s->n_pages;
			}
			p->n_coming -= s->n_coming;
			p->idle[p->n_idle++] = (unsigned)c[i].tag;
		}
	}
	replay_publish(p);
}

static void replay_wait(struct replay *p)
{
	struct pollfd fd = {.fd = quire_queue_fd(p->queue), .events = POLLIN};

	poll(&fd, 1, -1); /* the map's end ends them too */
	replay_harvest(p);
}

/* 1: go on; 0: the list or the memory is at its end; or a negative errno, of the list or the map. */
static int replay_step(struct replay *p)
{
	uint64_t end, n_coming;

	if (p->ending || range_dying(p->w->map->range))
		return -ECANCELED;
	if (p->at == p->end) {
		int rc = replay_next_run(p);

		if (rc <= 0)
			return rc;
	}
	if (p->at == p->end)
		return 1;
	if (!replay_part(p, &end, &n_coming) || (p->n_coming > 0 && !replay_has_room(p, n_coming))) {
		replay_wait(p);
		return 1;
	}
	if (!replay_has_room(p, n_coming))
		return 0;
	int rc = replay_submit(p, end, n_coming);
	return rc < 0 ? rc : 1;
}

static int replay_run(struct replay *p)
{
	int rc = replay_read_items(p);

	if (rc == 0)
		do
			rc = replay_step(p);
		while (rc > 0);
	while (p->n_coming > 0)
		replay_wait(p);
	replay_publish(p);
	return p->ending ? -ECANCELED : rc;
}

static uint64_t replay_bytes(const struct warm *w)
{
	return w->max_pages * (sizeof(struct slot) + sizeof(unsigned)) + w->map->n_items * sizeof(bool);
}

static bool replay_init(struct replay *p, struct warm *w)
{
	*p = (struct replay){.w = w, .least_free_bytes = free_bytes(w->map->cache) / 10};
	budget_charge(&w->map->cache->budget, BUDGET_OTHER, replay_bytes(w));
	p->slots = calloc(w->max_pages, sizeof(*p->slots));
	p->idle = calloc(w->max_pages, sizeof(*p->idle));
	p->same = calloc(w->map->n_items, sizeof(*p->same));
	while (p->idle != NULL && p->n_idle < w->max_pages) {
		p->idle[p->n_idle] = p->n_idle;
		p->n_idle++;
	}
	return quire_queue_create(&p->queue) == 0 && p->slots != NULL && p->idle != NULL && p->same != NULL;
}

static void replay_fini(struct replay *p)
{
	if (p->queue != NULL)
		quire_queue_destroy(p->queue);
	free(p->slots);
	free(p->idle);
	free(p->same);
	budget_uncharge(&p->w->map->cache->budget, BUDGET_OTHER, replay_bytes(p->w));
}

bool warm_replay(struct warm *w)
{
	struct quire_error err = {0};
	struct replay p;
	int rc = warm_list_open(&w->list, w->dir_fd, w->name, &err);

	if (rc == 0) {
		rc = replay_init(&p, w) ? replay_run(&p) : -ENOMEM;
		replay_fini(&p);
		warm_list_close(&w->list);
		if (rc < 0 && rc != -ECANCELED)
			quire_fail(&err, rc, "%s", w->name);
	}
	pthread_mutex_lock(&w->lock);
	w->stat.load_error = err;
	pthread_mutex_unlock(&w->lock);
	return rc != -ECANCELED;
}
