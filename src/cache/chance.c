/* chance.c - the second chance: what leaves the arena stays, compressed, in a pool of the cache's own tmem.
 *
 *   EVICTING ──there already──────────────┐
 *      │                                  ▼
 *      └──worth it──compress──▶ [ copies: a tmem pool, S3-FIFO ] ──a fault, a want──▶ FILLING, from the copy ──▶ RESIDENT
 *                                   │     ▲                                              │
 *                                   │     └─────────── the copy stays where it is ───────┘
 *                                   │ less used than others, purged, advised cold, outdated
 *                                   ▼
 *                                  gone
 *
 * A read takes the disk's time, a copy some µs of this thread's. Pages never change, so a copy is as good after its page came back as before,
 * and when that page leaves again, leaving costs nothing more.
 *
 * Where the memory goes is measured (split.h): of the pages that leave for others a sample, one in four or fewer, is told to a ghost, which
 * their fills ask. The pool's cap follows; frames leave as much free as the pool is about to take (chance_reserve), and give it the memory they don't
 * get.
 *
 * What is compressed. Compressing takes longer than all else that a page costs, so only what will probably be asked for again is:
 * each fill of a page that the ghost knows, and each that came from a copy, pays for the next CREDIT victims of its range. A scan,
 * however long, pays for none. And of data that do not get smaller only a sample is tried: for each region of 2 MiB (by a
 * hash, so of thousands of regions together where there are many) what was refused doubles the number of pages that are passed over before the
 * next try, up to MOST_PASSED, and what was accepted halves it.
 *
 * Beside probation (probation.c). A copy is also the trace of a raw load: the fault that comes to it says that the page was in use, and
 * if it left lately (a ghost of RECENT of the memory) it goes to the main queue. What has a copy here is not copied there, and where most
 * have one, probation gives its memory back. What remains for probation is what can't be compressed: there it does what it always did.
 *
 * Units (unit.h) are kept page by page; those of 2 MiB are not, as there a copy takes as long as a read of the whole unit does, and a
 * load asks for one of its 512 pages. A page's copy is named by its range's serial and its number in it, 1,024 pages an
 * object, so that dropping a run looks at few objects, and holds tmem's lock for as many pages at most.
 *
 * Invariants:
 * 1. Copies are made only of pages in EVICTING, whose range is thus not freed, and used only by the fill that their word names, which
 *    holds a reference. range_free drops what there is under its serial, which no other range ever has: a copy never
 *    outlives its range.
 * 2. A copy is what was in the arena, verified as it was. That of a plain file is shown only if the file is found to be what it was
 *    (in a loop, by a look in the same turn), else it goes, the page is read anew, and whoever asked is told.
 * 3. Content does not change, but for the page that a growing item ends in: fill_outdate drops its copy. A fill fetches a copy before it
 *    claims the page, so that one that is not there costs one look, and then shows it only if nothing was dropped since: the epoch is what
 *    it was. Who drops later finds the page FILLING, and SPOILED is looked at under grow_lock before it appears.
 * 4. Whoever drops copies also stops those that are being made: he raises the epoch, then looks whether the range has any; who makes
 *    one, of a page chosen under an epoch, says so, puts it, then looks at the epoch, and takes back what he has put if it was raised. All
 *    sequentially consistent, so that one of the two sees the other; and until he has looked the page is EVICTING, so no fill sees it.
 *
 * Threads: any, in fault handlers too. tmem's lock is never held while caller memory is touched (tmem.c), nor the one here, so no thread
 * that faults holds either; nor does a put or a get call malloc (tmem/heap.h). So fault handlers do both. The lock here guards ghosts and split; under it tmem's alone is taken.
 *
 * Failure: a put that is refused leaves no copy, damage in memory is a miss; the page is read then.
 */
#include "chance_internal.h"

#include "memory.h"

#include <errno.h>
#include <stdlib.h>

#define SPOT_SHIFT 9u
#define MOST_PASSED 255u
#define SPARSE 16u
#define LEAVING 64u

/* ---- life ---- */

int chance_create(struct quire_cache *c, struct chance **ret_chance, struct quire_error *err)
{
	struct chance *ch = calloc(1, sizeof(*ch));
	uint64_t least = split_least_bytes(budget_limit(&c->budget));
	const struct quire_tmem_pool_options o = {
		.size = sizeof(o),
		.kind = QUIRE_TMEM_EPHEMERAL,
		.page_bytes = (uint32_t)cache_page_bytes(c),
		.flags = QUIRE_TMEM_REFUSE_INCOMPRESSIBLE | QUIRE_TMEM_NO_DEDUP,
		.cap_bytes = least,
	};

	if (ch == NULL)
		return -ENOMEM;
	ch->cache = c;
	int rc = memory_tmem(c, &ch->tmem, err);
	if (rc == 0)
		rc = quire_tmem_pool_create(ch->tmem, &o, &ch->pool, err);
	if (rc < 0) {
		free(ch);
		return rc;
	}
	tmem_pool_steer(ch->pool);
	pthread_mutex_init(&ch->lock, NULL);
	split_init(&ch->split, budget_limit(&c->budget));
	atomic_init(&ch->sample_shift, SAMPLE_SHIFT);
	atomic_init(&ch->sparse, true);
	atomic_init(&ch->cap_bytes, least);
	atomic_init(&ch->target_bytes, least);
	*ret_chance = ch;
	return 0;
}

void chance_destroy(struct chance *ch)
{
	if (ch == NULL)
		return;
	ghost_fini(&ch->recent);
	ghost_fini(&ch->far);
	budget_uncharge(&ch->cache->budget, BUDGET_TABLES, ch->charged_bytes);
	pthread_mutex_destroy(&ch->lock);
	free(ch);
}

uint64_t chance_epoch(struct quire_cache *c)
{
	return c->chance == NULL ? 0 : atomic_load(&c->chance->epoch);
}

/* ---- pages that leave ---- */

static struct spot *spot_of(struct chance *ch, const struct range *r, uint64_t page)
{
	return &ch->spots[(name_of(r, page) >> SPOT_SHIFT) * KEY_GOLDEN >> 52];
}
static_assert(N_SPOTS == 1u << 12, "spot_of takes twelve bits");

/* Is this page of its region to be tried? */
static bool spot_tries(struct spot *spot)
{
	uint8_t left = atomic_load_explicit(&spot->left, memory_order_relaxed);

	if (left > 0)
		atomic_store_explicit(&spot->left, left - 1, memory_order_relaxed);
	return left == 0;
}

static void spot_tell(struct spot *spot, bool accepted)
{
	unsigned most = atomic_load_explicit(&spot->most, memory_order_relaxed);

	if (accepted && most == 0)
		return;
	most = accepted ? most / 2 : 2 * most + 1;
	most = most < MOST_PASSED ? most : MOST_PASSED;
	atomic_store_explicit(&spot->most, (uint8_t)most, memory_order_relaxed);
	atomic_store_explicit(&spot->left, (uint8_t)most, memory_order_relaxed);
}

/* Lost in a race, a little too much is given. */
static bool range_pays(struct range *r)
{
	uint32_t credit = atomic_load_explicit(&r->chance_credit, memory_order_relaxed);

	if (credit > 0)
		atomic_store_explicit(&r->chance_credit, credit - 1, memory_order_relaxed);
	return credit > 0;
}

static bool chance_tries(struct chance *ch)
{
	return !atomic_load_explicit(&ch->sparse, memory_order_relaxed) ||
	       atomic_fetch_add_explicit(&ch->n_tried, 1, memory_order_relaxed) % SPARSE == 0;
}

/* A copy is made, if it is worth while. */
static bool page_admit(struct chance *ch, struct range *r, uint64_t page, const struct quire_tmem_key *key,
                       struct tally *tally)
{
	struct spot *spot = spot_of(ch, r, page);

	if (!range_pays(r) || !chance_tries(ch))
		return false;
	tally->n_wanted++;
	if (!spot_tries(spot))
		return false;
	uint64_t since = is_measured(ch) ? loop_now_ns() : 0;
	atomic_store(&r->has_chance, true);
	int rc = quire_tmem_put(ch->pool, key, arena_address(r->arena, page));
	if (since != 0)
		tally->compress_ns = loop_now_ns() - since;
	count(&r->cache->counters.n_chance_puts, 1);
	count(&r->cache->counters.n_chance_refused, rc < 0);
	if (rc == 0 || rc == -E2BIG)
		spot_tell(spot, rc == 0);
	if (rc == 0 && !atomic_load_explicit(&ch->any, memory_order_relaxed))
		atomic_store_explicit(&ch->any, true, memory_order_relaxed);
	tally->n_kept += rc == 0;
	tally->n_put += rc == 0;
	tally->wants_room |= rc != -E2BIG;
	return rc == 0;
}

/* Pages that leave together, with the victims they belong to. */
struct leaving {
	unsigned n;
	struct range *ranges[LEAVING];
	struct victim *victims[LEAVING];
	uint64_t pages[LEAVING];
	struct quire_tmem_key keys[LEAVING];
};

static void leaving_admit(struct chance *ch, struct leaving *l, struct tally *tally)
{
	uint64_t there = l->n == 0 ? 0 : tmem_holds_each(ch->pool, l->keys, l->n);

	for (unsigned i = 0; i < l->n; i++) {
		bool has = (there >> i & 1) != 0;

		tally->n_wanted += has;
		tally->n_kept += has;
		if (!has && !page_admit(ch, l->ranges[i], l->pages[i], &l->keys[i], tally))
			l->victims[i]->kept = false;
	}
	l->n = 0;
}

static void victim_admit(struct chance *ch, struct leaving *l, struct range *r, struct victim *v, struct tally *tally)
{
	v->kept = true;
	for (unsigned i = 0; i < v->n_pages; i++) {
		if (!victim_has(v, i))
			continue;
		l->ranges[l->n] = r;
		l->victims[l->n] = v;
		l->pages[l->n] = v->first + i;
		l->keys[l->n] = key_of(r, v->first + i);
		if (++l->n == LEAVING)
			leaving_admit(ch, l, tally);
	}
}

static void victims_flush(struct quire_cache *c, const struct victim *victims, unsigned n)
{
	for (const struct victim *v = victims; v < victims + n; v++) {
		struct range *r = range_find_locked(c, v->first);

		for (unsigned i = 0; i < v->n_pages && v->n_pages <= UNIT_PAGES; i++) {
			struct quire_tmem_key key = key_of(r, v->first + i);
			quire_tmem_flush(c->chance->pool, &key);
		}
	}
}

void chance_admit(struct quire_cache *c, uint64_t epoch, struct victim *victims, unsigned n)
{
	struct chance *ch = c->chance;
	struct tally tally = {0};
	struct range *r = NULL;
	struct leaving leaving;
	unsigned n_pages = 0;

	if (ch == NULL || n == 0)
		return;
	leaving.n = 0;
	for (struct victim *v = victims; v < victims + n; v++) {
		n_pages += v->n_claimed;
		if (v->n_pages > UNIT_PAGES)
			continue;
		if (r == NULL || v->first - r->first_page >= r->n_pages)
			r = range_find_locked(c, v->first);
		if (r->anon == NULL) /* those have a pool of their own */
			victim_admit(ch, &leaving, r, v, &tally);
	}
	leaving_admit(ch, &leaving, &tally);
	if (tally.n_put > 0 && atomic_load(&ch->epoch) != epoch)
		victims_flush(c, victims, n);
	chance_victims_left(c, victims, n, n_pages, &tally);
}

/* ---- pages that come back ---- */

static bool has_copies(const struct chance *ch, const struct range *r)
{
	return ch != NULL && atomic_load(&r->has_chance) && atomic_load_explicit(&ch->any, memory_order_relaxed);
}

bool chance_holds(const struct range *r, uint64_t page)
{
	struct chance *ch = r->cache->chance;

	if (!has_copies(ch, r))
		return false;
	struct quire_tmem_key key = key_of(r, page);
	return tmem_holds(ch->pool, &key);
}

bool chance_fetch(struct fill *fill, const struct range *r, uint64_t page)
{
	struct chance *ch = r->cache->chance;

	if (!has_copies(ch, r))
		return false;
	struct quire_tmem_key key = key_of(r, page);
	fill->since_ns = is_measured(ch) ? loop_now_ns() : 0;
	fill->epoch = atomic_load(&ch->epoch);
	return quire_tmem_get(ch->pool, &key, fill->buf, QUIRE_TMEM_GET_KEEP) == 0;
}

/* In a loop one look at a file is enough for all that a turn brings from copies. */
static bool is_as_it_was(const struct fill *fill)
{
	struct filler *f = fill->filler;
	const struct media_file *file = fill->source.file;

	if (f == NULL || file == NULL || !loop_is_mine(f->loop))
		return source_is_as_it_was(&fill->source);
	if (f->looked_at == file)
		return true;
	if (!source_is_as_it_was(&fill->source))
		return false;
	f->looked_at = file;
	loop_turn_hook_arm(f->loop, &f->hook);
	return true;
}

bool chance_show(struct fill *fill)
{
	struct range *r = fill->range;
	struct chance *ch = r->cache->chance;
	struct quire_tmem_key key = key_of(r, fill->page);

	if (atomic_load(&ch->epoch) != fill->epoch)
		return false;
	if (!is_as_it_was(fill)) {
		quire_tmem_flush(ch->pool, &key);
		return false;
	}
	fill->from_copy = fill->from_chance = true;
	fill_install(fill, NULL);
	fill->from_copy = fill->from_chance = fill->result == 0 && fill->n_good == 1;
	fill->result = 0;
	return fill->from_chance;
}

/* ---- copies that go ---- */

void chance_drop(struct range *r, uint64_t page, uint64_t n)
{
	struct chance *ch = r->cache->chance;

	if (ch == NULL)
		return;
	atomic_fetch_add(&ch->epoch, 1);
	if (!atomic_load(&r->has_chance))
		return;
	for (uint64_t end = page + n, mask = (1u << OBJECT_SHIFT) - 1; page < end;) {
		struct quire_tmem_key key = key_of(r, page);

		if (key.index == 0 && (end - page > mask || end == r->first_page + r->n_pages)) {
			quire_tmem_flush_object(ch->pool, key.object);
			page += mask + 1;
		} else {
			quire_tmem_flush(ch->pool, &key);
			page++;
		}
	}
}
