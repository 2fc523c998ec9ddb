/* memory.c - one budget for pages in arenas and pages in pools.
 *
 * Frames, compressed copies of them, and the program's own pools charge the same budget. Who gets what:
 *
 *   frames | copies     by what each saves, measured (split.h). Copies have a cap that follows; frames leave free what copies are about
 *                       to take (chance_reserve)
 *   both   | ephemeral  by weight: frames and copies together count TMEM_OWNER_WEIGHT, each pool its own (tmem/room.c). A pool below its part has
 *                       frames leave for its puts, one beyond it yields first when frames are needed
 *   all    | persistent what was accepted stays; puts have copies and ephemeral pages leave, and frames down to an eighth of the budget
 *
 * So memory that nobody else asks for is anybody's, none of them can starve another for good, and all stop at one limit. In the last resort,
 * when no frame may leave (pins), any ephemeral page does.
 *
 * Who is refused memory calls memory_reclaim, without tmem's lock; that leads to puts of copies, but never from one to the next, since for
 * the pool of copies nobody makes room.
 */
#include "memory.h"

#include "chance.h"
#include "core.h"
#include "evict.h"

#include <quire/cache.h>

#define MOST_SHRINKS 4u /* before frames leave as well */

static struct quire_tmem *tmem_made_first(struct quire_cache *c, struct quire_tmem *made)
{
	struct quire_tmem *there = NULL;

	if (atomic_compare_exchange_strong(&c->tmem, &there, made))
		return made;
	quire_tmem_destroy(made);
	return there;
}

int memory_tmem(struct quire_cache *c, struct quire_tmem **ret_tmem, struct quire_error *err)
{
	struct quire_tmem *t = atomic_load(&c->tmem);

	if (t == NULL) {
		int rc = tmem_create(&c->budget, 0, &t, err);

		if (rc < 0)
			return rc;
		/* As arenas are. */
		if (arena_swap_is_on())
			tmem_lock(t);
		t = tmem_made_first(c, t);
	}
	*ret_tmem = t;
	return 0;
}

int quire_cache_tmem(struct quire_cache *c, struct quire_tmem **ret_tmem, struct quire_error *err)
{
	return memory_tmem(c, ret_tmem, err);
}

bool memory_yield(struct quire_cache *c)
{
	struct quire_tmem *t = atomic_load(&c->tmem);

	return t != NULL && tmem_yield(t);
}

bool memory_reclaim(void *cache)
{
	struct quire_cache *c = cache;
	struct quire_tmem *t = atomic_load(&c->tmem);

	for (unsigned i = 0; i < MOST_SHRINKS && chance_shrink(c); i++)
		if (budget_used(&c->budget) + (ARENA_ZAP_MAX << c->page_shift) <= budget_limit(&c->budget))
			return true;
	if (t != NULL && tmem_yield_surplus(t))
		return true;
	return evict_some(c, ARENA_ZAP_MAX) > 0 || memory_yield(c);
}
