/* promote.c - see promote.h. A promotion is a fill like those of fault handlers: it has no loop, begins and ends on the thread
 * that needs it, and ends without help, so whoever wants the page meanwhile may wait for it. */
#include "promote.h"

#include "../base/assert.h"
#include "evict.h"
#include "filler.h"
#include "unit.h"
#include "want.h"

#include <errno.h>

/* Of filler 0, behind those of fault handlers. */
#define FIRST_FILL 64u
#define N_FILLS 64u
static_assert(FIRST_FILL + N_FILLS <= FILLER_FILLS, "filler 0 has them");

uint64_t promote_run(const struct range *r, uint64_t page, uint64_t n, bool resident)
{
	uint64_t k = 0;

	while (k < n && (page_state(page_load(range_word(r, page + k))) == PAGE_RESIDENT) == resident)
		k++;
	return k;
}

static int pin_one(struct range *r, uint64_t page)
{
	int rc;

	do {
		uint32_t now = page_load(range_word(r, page));
		if (page_state(now) != PAGE_RESIDENT)
			return -EAGAIN;
		rc = evict_pin(r, page, now);
		if (rc == 0)
			page_touch(range_word(r, page), page_load(range_word(r, page)));
	} while (rc == -EAGAIN);
	return rc;
}

int promote_pin(struct range *r, uint64_t page, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		int rc = pin_one(r, page + i);
		if (rc == 0)
			continue;
		while (i-- > 0)
			quire_assert(evict_unpin(r, page + i));
		return rc;
	}
	stripes_add(&r->n_hits, n);
	return 0;
}

bool promote_is_due(struct range *r, uint64_t page)
{
	uint32_t now = page_load(range_word(r, page));

	if (page_state(now) == PAGE_RESIDENT)
		page_touch(range_word(r, page), now);
	return page_state(now) == PAGE_ABSENT && evict_use_absent(r, page);
}

/* NULL: all are in use. */
static struct fill *fill_get(struct quire_cache *c)
{
	uint64_t used = atomic_load(&c->promoting);

	while (used != UINT64_MAX) {
		unsigned i = (unsigned)__builtin_ctzll(~used);
		if (!atomic_compare_exchange_weak(&c->promoting, &used, used | UINT64_C(1) << i))
			continue;
		struct fill *fill = &atomic_load(&c->fillers[0])->fills[FIRST_FILL + i];
		fill->n_pages = 1;
		fill->n_good = 0;
		fill->result = 0;
		fill->from_copy = fill->from_chance = fill->vague = fill->staged = fill->dup = fill->ahead = false;
		fill->promoted = true;
		fill->error_at = 0;
		fill->waiters = NULL;
		return fill;
	}
	return NULL;
}

static void fill_put(struct quire_cache *c, const struct fill *fill)
{
	atomic_fetch_and(&c->promoting, ~(UINT64_C(1) << (fill->id - FIRST_FILL)));
}

/* The page is the fill's. */
static int fill_page(struct fill *fill, promote_copy_fn copy, void *arg)
{
	struct range *r = fill->range;
	int rc = copy(arg, fill->page - r->first_page, arena_address(r->arena, fill->page));

	fill->result = rc;
	fill->n_good = rc == 0;
	for (struct want *w = fill_settle(fill), *next; w != NULL; w = next) {
		next = w->next;
		want_continue(w, NULL);
	}
	return rc;
}

int promote_page(struct range *r, uint64_t page, promote_copy_fn copy, void *arg)
{
	struct fill *fill = fill_get(r->cache);

	quire_assert(r->arena->kind == ARENA_PINNED);
	if (fill == NULL)
		return -EAGAIN;
	int rc = r->ops->locate(r->owner, page - r->first_page, &fill->source);
	if (rc == 0)
		rc = fill_claim(r, page, UNIT_PAGE, fill->id, false);
	if (rc == 0) {
		fill->range = r;
		fill->page = page;
		rc = fill_page(fill, copy, arg);
	}
	fill_put(r->cache, fill);
	return rc;
}
