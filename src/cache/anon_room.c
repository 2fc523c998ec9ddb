/* anon_room.c - room in pools that spill: what they hold leaves for the backing, beside whoever needs the room.
 *
 * A page that leaves the arena is put by whoever evicts: a loop's thread, a thread in a fault, a store that makes room under its own lock. None
 * of them may wait for I/O. So they put at once (tmem/beside.c), and what has to be written is written by a coroutine of the service loop,
 * which is started when a pool holds more than HIGH of its part, or has refused a page; it goes on down to LOW. While it is at it, who finds no
 * memory waits for it as for any memory, faults as well: they pass the budget only where nothing comes of that.
 *
 * A pool's part is its cap, and half of the budget at most; with more in it no page is put. For a page that doesn't compress takes as much there as
 * it did in the arena: frames would leave for it until none is left, and nothing would have been gained.
 *
 *   1. `spilling` is set while the coroutine is due or runs; who sets it has referenced the range, the coroutine alone clears it.
 *   2. n_spilling counts them, and whoever waits for memory is told (fillers_feed) after each write, and after it has been counted down.
 *   3. Where a write fails, or there is nothing to write, none is begun for REST_NS: pages are refused meanwhile, as by any pool that is full.
 */
#include "anon_room.h"

#include "evict.h"
#include "fill.h"

#define REST_NS UINT64_C(100000000)

static uint64_t part_of(const struct quire_cache *c, uint64_t cap_bytes)
{
	uint64_t half = budget_limit(&c->budget) / 2;

	return cap_bytes < half ? cap_bytes : half;
}

static bool holds_more(struct range *r, unsigned eighths)
{
	uint64_t cap_bytes, held = tmem_pool_held(r->anon->pool, &cap_bytes);

	return held > part_of(r->cache, cap_bytes) / 8 * eighths;
}

static void end(struct range *r, bool gained)
{
	struct quire_cache *c = r->cache;
	struct anon *a = r->anon;

	if (!gained)
		atomic_store(&a->rest_until_ns, loop_now_ns() + REST_NS);
	atomic_store(&a->spilling, false);
	atomic_fetch_sub(&c->n_spilling, 1);
	fillers_feed(c);
	range_put(r);
}

static void make_room(void *arg)
{
	struct range *r = arg;
	struct quire_cache *c = r->cache;
	bool gained = false, more;

	do {
		more = tmem_spill_more(r->anon->pool);
		gained |= more;
		if (more) {
			atomic_store(&c->anon_refused, false);
			evict_to_budget(c);
			fillers_feed(c);
		}
	} while (more && (holds_more(r, LOW_EIGHTHS) || budget_excess(&c->budget) > 0));
	end(r, gained);
}

static void begin(struct loop_task *task)
{
	struct anon *a = (struct anon *)((char *)task - offsetof(struct anon, room_task));

	if (quire_co_spawn(a->room_range->cache->service, make_room, a->room_range) < 0)
		end(a->room_range, false);
}

void anon_room_begin(struct range *r)
{
	struct anon *a = r->anon;

	if (!a->spills || loop_now_ns() < atomic_load(&a->rest_until_ns) || atomic_exchange(&a->spilling, true))
		return;
	if (!range_get(r)) {
		atomic_store(&a->spilling, false);
		return;
	}
	atomic_fetch_add(&r->cache->n_spilling, 1);
	a->room_range = r;
	loop_task_init(&a->room_task, begin);
	loop_post(r->cache->service, &a->room_task);
}

bool anon_room_is_short(struct range *r)
{
	if (!r->anon->spills || !holds_more(r, 8))
		return false;
	anon_room_begin(r);
	return true;
}

void anon_room_look(struct range *r)
{
	if (r->anon->spills && !atomic_load_explicit(&r->anon->spilling, memory_order_relaxed) && holds_more(r, HIGH_EIGHTHS))
		anon_room_begin(r);
}
