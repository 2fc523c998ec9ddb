/* depart.c - a dirty page leaves: out of the arena at one stroke, then into a pool.
 *
 *   EVICTING ──moved──▶ staging ──put──▶ pool; ABSENT
 *       │                  └─refused──▶ moved back; RESIDENT
 *       └─I/O has it──▶ RESIDENT
 *
 * A page may be written to until the moment in which it leaves, by threads, by system calls, and by devices that the kernel has told
 * its frame: a copy of it taken before may miss a write that came after. So it is moved (UFFDIO_MOVE), which takes it from all
 * threads at once, and which the kernel refuses (EBUSY) while I/O has it pinned; the copy is made of what nobody can reach. Who
 * touches it meanwhile faults, and waits for the word to change: microseconds.
 *
 * 1. Until a page is in the pool its only copy is in the arena, or in staging while its word says EVICTING.
 * 2. A page whose put is refused goes back. So what can't be stored stays where it is, and another leaves in its place. Once the pool is
 *    full no more of the same victims are tried; nor, where lately nothing could be stored, after FEW_REFUSALS.
 * 3. A put needs memory when there is none. The frames of a group are therefore lent to the pool (budget.h), which may take of them
 *    before they are free: the kernel's count is above ours by up to STAGING_PAGES pages for each thread that evicts. What it took (a
 *    workspace, a table) is beyond the budget where no page left for it.
 * 4. Clean pages don't come here: what the pool has is what they hold, since a write to one would have been told first. They are write-
 *    protected, so no I/O that writes has them pinned: the kernel, too, has to ask for the right to write.
 *
 * In a PINNED arena nobody may touch a page without a pin, so one that is claimed is nobody's: it is stored where it lies, and then dropped.
 * Known to be missed: I/O that holds pages without pinning them (FOLL_GET: old file systems' O_DIRECT, vmsplice). Who does such I/O
 * into a range wants its pages with PIN, and then they don't leave.
 */
#include "depart.h"

#include "anon_room.h"
#include "arena_anon.h"
#include "evict.h"
#include "fill.h"

#include <errno.h>

#define FEW_REFUSALS 2

/* Pages that leave together, of one arena. */
struct group {
	struct arena *arena;
	unsigned n;
	struct range *ranges[STAGING_PAGES];
	uint64_t pages[STAGING_PAGES];
};

static bool is_for_pool(const struct range *r, const struct victim *v)
{
	return r->anon != NULL && !range_dying(r) && (page_load(arena_word(v->arena, v->first)) & PAGE_DIRTY);
}

/* Its frame first: once it is resident, others may drop it and give the frame back. */
static void page_stay(struct range *r, uint64_t page)
{
	budget_recall_frames(&r->cache->budget, cache_page_bytes(r->cache));
	evict_stay(r, page);
}

/* 0: the page is in the pool, and gone from here; -EBUSY: I/O has it, or else what the pool said: it is resident again. */
static int page_leave(struct group *g, struct range *r, uint64_t page, char *slot)
{
	const struct quire_tmem_key key = anon_key(r, page);

	if (anon_room_is_short(r)) {
		count(&r->anon->n_refused, 1);
		page_stay(r, page);
		return -ENOSPC;
	}
	if (slot != NULL && arena_move_out(g->arena, page, slot) < 0) {
		count(&r->anon->n_busy, 1);
		page_stay(r, page);
		return -EBUSY;
	}
	int rc = tmem_put_at_once(r->anon->pool, &key, slot != NULL ? slot : arena_address(g->arena, page));
	if (rc < 0) {
		count(&r->anon->n_refused, 1);
		if (rc == -ENOSPC)
			anon_room_begin(r);
		if (slot != NULL)
			arena_move_back(g->arena, page, slot);
		page_stay(r, page);
		return rc;
	}
	count(&r->anon->n_pooled, 1);
	count(&r->anon->n_moved, 1);
	if (slot == NULL)
		arena_zap_page(g->arena, page);
	evict_settle(r, page);
	return 0;
}

/* Invariant 2. How many left. */
static unsigned group_leave(struct quire_cache *c, struct group *g)
{
	unsigned n_left = 0, n_refused = 0, most = atomic_load(&c->anon_refused) ? FEW_REFUSALS : STAGING_PAGES;
	uint64_t bytes = cache_page_bytes(c);
	char *staging = g->arena->kind == ARENA_ANON ? arena_staging_get(g->arena) : NULL;
	bool full = false;

	budget_lend_frames(&c->budget, g->n * bytes);
	for (unsigned i = 0; i < g->n; i++) {
		int rc = -ENOSPC;

		if (full || n_refused == most)
			page_stay(g->ranges[i], g->pages[i]);
		else
			rc = page_leave(g, g->ranges[i], g->pages[i], staging != NULL ? staging + i * bytes : NULL);
		n_left += rc == 0;
		n_refused += rc < 0 && rc != -EBUSY && n_refused < most;
		full |= rc == -ENOSPC;
	}
	if (staging != NULL)
		arena_staging_put(g->arena, staging);
	budget_end_loan(&c->budget);
	if (n_left > 0 || n_refused > 0)
		atomic_store(&c->anon_refused, n_left == 0);
	for (unsigned i = 0; i < g->n; i++)
		if (i == 0 || g->ranges[i] != g->ranges[i - 1])
			anon_room_look(g->ranges[i]);
	g->n = 0;
	return n_left;
}

unsigned depart(struct quire_cache *c, struct range *known, struct victim *victims, unsigned n, unsigned *n_pages)
{
	struct group g = {.n = 0};
	unsigned n_left = 0;

	if (atomic_load_explicit(&c->n_anons, memory_order_relaxed) == 0)
		return 0;
	for (struct victim *v = victims; v < victims + n; v++) {
		struct range *r = known != NULL ? known : range_find_locked(c, v->first);

		if (!is_for_pool(r, v))
			continue;
		if (g.n == STAGING_PAGES || (g.n > 0 && g.arena != v->arena))
			n_left += group_leave(c, &g);
		g.arena = v->arena;
		g.ranges[g.n] = r;
		g.pages[g.n++] = v->first;
		*n_pages -= v->n_claimed;
		v->n_claimed = 0;
		v->claimed[0] = 0;
	}
	if (g.n > 0)
		n_left += group_leave(c, &g);
	if (n_left > 0)
		fillers_feed(c);
	return n_left;
}
