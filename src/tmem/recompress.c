/* recompress.c - what went cold, in fewer bytes.
 *
 * Purpose: idle processor time for memory. A page is put at the price of LZ4's fast compressor; most are then not looked at for
 * long. LZ4's slow one makes them a fourteenth to a fifth smaller at ten times the time, and they come out as fast or faster. zstd on units
 * of neighbours makes them half as large, at ten times the time to get one. docs/performance.md has the figures.
 *
 * States of a content, where its pool asks for both:
 *
 *   fresh ──a round untouched──▶ tight ──cold_rounds untouched──▶ cold, alone or in a unit
 *     ▲                            ▲                                │
 *     └── a new put                └── used in two rounds in turn ──┘
 *
 * A hand goes over all slots of the storage, a round, and makes every content it passes a round older; a get makes it
 * young again. What is due is packed anew and takes the old one's place; what doesn't gain is marked, and left alone. A unit of
 * which half has left is taken apart, and its pages may find new neighbours.
 *
 * The hand moves when quire_tmem_recompress is called, so whoever calls it says how long a round is; and in puts, a few pages
 * each, when less than a PRESSED_PART of the budget or of the pool's cap is left: that part is what new slots need until the old ones
 * are free. (Of the budget so much more is to be left as the packer takes; one of less than SMALL_BUDGETS times that is none for this.) When
 * rounds have been in vain, puts let it rest a while, and the packer goes.
 *
 * Invariants:
 *   1. A content that zstd packed is there only if an unpacker is that can unpack it.
 *   2. A unit has a page; its pages are its pool's alone, and none of them is found by dedup.
 *   3. Bytes that are read without the lock are pinned and don't change: members, marks and age stand beside them.
 *
 * Threads: one at a time recompresses, whoever finds nobody at it. He holds the lock to choose and to replace, 64 slots or one job
 * at a time, not while he packs.
 *
 * Failure: without memory nothing is replaced, and all stays as it was. What is damaged stays where it is, for gets to tell.
 */
#include "recompress.h"

#include <errno.h>

#define SLOTS_AT_ONCE 64u  /* that are looked at under the lock */
#define PRESSED_PART 64u
#define SMALL_BUDGETS 4u
#define PRESSED_PAGES 8u   /* for each put, */
#define PRESSED_LOOKS 16u  /* or so many times SLOTS_AT_ONCE, whichever is first: MOST_AGE rounds end before that part is used up */
#define MOST_AGE 15u
#define MOVES 16u
#define MOST_ROOM_TRIES 1024u

/* 0: it has none. */
static uint32_t unit_bytes_of(const struct quire_tmem_pool *pool)
{
	return (pool->o.flags & QUIRE_TMEM_COLD) != 0 ? pool->o.unit_bytes : 0;
}

static uint32_t raw_bytes_of(const struct quire_tmem_pool *pool)
{
	return pool->o.page_bytes > unit_bytes_of(pool) ? pool->o.page_bytes : unit_bytes_of(pool);
}

/* ---- what to do; the lock held ---- */

static struct piece *add_piece(struct quire_tmem *t, struct job *j, uint32_t place, uint16_t low)
{
	struct piece *piece = &j->pieces[j->n++];

	*piece = (struct piece){.place = place, .low = low, .packed = tmem_packed(t, storage_at(&t->storage, place), low)};
	return piece;
}

/* May it go into a unit with neighbours that are cold? It may be that the hand has not passed it in this round. */
static bool is_cold(const struct quire_tmem_pool *pool, const struct slot_head *h)
{
	bool failed = h->codec != CODEC_ZSTD && (h->marks & MARK_COLD) != 0;

	return h->kind == SLOT_PAGE && (h->codec == CODEC_LZ4 || h->codec == CODEC_ZSTD) && !failed && h->age + 1u >= pool->o.cold_rounds;
}

/* The content at `place`, with its neighbours if they are cold too. */
static void gather(struct quire_tmem *t, struct quire_tmem_pool *pool, uint32_t place, struct job *j)
{
	const struct slot_head *h = storage_at(&t->storage, place);
	uint32_t n_pages = pool->o.unit_bytes / pool->o.page_bytes;

	if (h->kind == SLOT_PAGE && h->codec != CODEC_RAW)
		for (uint32_t i = 0, first = h->low & ~(n_pages - 1); i < n_pages; i++) {
			uint32_t value = spans_get(&t->spans, h->span, (uint16_t)(first + i));
			if (value == place || (value != VALUE_NONE && (value & VALUE_SHARE) == 0 &&
			                       is_cold(pool, storage_at(&t->storage, value))))
				(void)add_piece(t, j, value, (uint16_t)(first + i));
		}
	if (j->n == 0)
		(void)add_piece(t, j, place, h->low);
	j->kind = j->n > 1 ? JOB_UNIT : JOB_COLD;
}

static void take_apart(struct quire_tmem *t, struct quire_tmem_pool *pool, uint32_t place, bool warm, struct job *j)
{
	const struct slot_head *h = storage_at(&t->storage, place);

	j->kind = h->kind == SLOT_UNIT ? JOB_DISSOLVE : JOB_WARM;
	j->warm = warm;
	j->known = (pool->o.flags & QUIRE_TMEM_NO_DEDUP) == 0;
	if (h->kind != SLOT_UNIT)
		(void)add_piece(t, j, place, h->low);
	else
		for (uint32_t left = h->members; left != 0; left &= left - 1)
			(void)add_piece(t, j, place, (uint16_t)(h->low + __builtin_ctz(left)));
}

/* What zstd has packed: is it in use again, or half empty? */
static void judge_cold(struct quire_tmem *t, struct quire_tmem_pool *pool, uint32_t place, bool pressed, struct job *j)
{
	struct slot_head *h = storage_at(&t->storage, place);
	bool used = h->age == 0, warm = used && (h->marks & MARK_USED) != 0;
	bool sparse = h->kind == SLOT_UNIT && 2 * (uint32_t)__builtin_popcount(h->members) <= slot_n_packed(h);

	h->marks = used ? MARK_COLD | MARK_USED : MARK_COLD;
	if ((warm && !pressed) || sparse)
		take_apart(t, pool, place, warm, j);
}

/* Sets what is to be done about what lies at `place`, if anything is. */
static void judge(struct quire_tmem *t, uint32_t place, bool pressed, struct job *j)
{
	struct slot_head *h = storage_at(&t->storage, place);

	if (h->kind == SLOT_TABLE || h->codec > CODEC_ZSTD)
		return;
	struct quire_tmem_pool *pool = content_pool(t, h);
	bool tight = (pool->o.flags & QUIRE_TMEM_RECOMPRESS) != 0, cold = (pool->o.flags & QUIRE_TMEM_COLD) != 0;
	/* Of a pool that came after he began who is at it: next time. */
	bool fits = raw_bytes_of(pool) <= t->recompressor.packer->raw_bytes && unit_bytes_of(pool) <= t->unpacker_bytes;
	if ((!tight && !cold) || !fits)
		return;
	unsigned age = h->age;
	j->page_bytes = pool->o.page_bytes;
	if (h->codec == CODEC_ZSTD) {
		judge_cold(t, pool, place, pressed, j);
	} else if (cold && (h->marks & MARK_COLD) == 0 && age >= pool->o.cold_rounds) {
		gather(t, pool, place, j);
	} else if (tight && (h->marks & MARK_TIGHT) == 0 && age >= 1 && !(cold && pressed)) {
		j->kind = JOB_TIGHT;
		(void)add_piece(t, j, place, h->low);
	} else if ((cold && (h->marks & MARK_COLD) == 0) || (tight && (h->marks & MARK_TIGHT) == 0)) {
		t->recompressor.n_waiting++;
	}
	if (age < MOST_AGE)
		h->age = (age + 1) & MOST_AGE;
}

enum looked { FOUND, NOT_YET, ROUND_OVER };

static enum looked look(struct quire_tmem *t, bool pressed, struct job *j)
{
	struct recompressor *r = &t->recompressor;

	*j = (struct job){0};
	for (unsigned i = 0; i < SLOTS_AT_ONCE; i++) {
		uint32_t place = storage_next(&t->storage, r->hand);
		if (place == PLACE_NONE) {
			r->hand = 0;
			return ROUND_OVER;
		}
		r->hand = place + 1;
		judge(t, place, pressed, j);
		if (j->kind == JOB_NONE)
			continue;
		r->n_jobs++;
		for (unsigned k = 0; k < (j->kind == JOB_DISSOLVE ? 1 : j->n); k++)
			storage_pin(&t->storage, j->pieces[k].place);
		return FOUND;
	}
	return NOT_YET;
}

/* ---- what it takes ---- */

static void free_packer(struct quire_tmem *t)
{
	struct packer *p = t->recompressor.packer;

	if (p == NULL)
		return;
	t->recompressor.packer = NULL;
	budget_uncharge(t->budget, BUDGET_TMEM, p->bytes);
	packer_free(p);
}

/* One is there, and unpackers; false: no memory. Whoever is at it, without the lock. */
static bool need_packer(struct quire_tmem *t)
{
	struct recompressor *r = &t->recompressor;
	uint32_t raw_bytes = atomic_load(&r->raw_bytes);
	size_t most = packer_most_bytes(raw_bytes);

	if (!tmem_unpackers_reserve(t, r->unit_bytes))
		return false;
	if (r->packer != NULL && r->packer->raw_bytes >= raw_bytes)
		return true;
	free_packer(t);
	if (!budget_try_charge(t->budget, BUDGET_TMEM, most))
		return false;
	struct packer *p = packer_new(raw_bytes);
	if (p != NULL && p->bytes > most)
		budget_charge(t->budget, BUDGET_TMEM, p->bytes - most);
	else
		budget_uncharge(t->budget, BUDGET_TMEM, p == NULL ? most : most - p->bytes);
	r->packer = p;
	return p != NULL;
}

/* Is it nobody else? Then it is the caller, until he says he is done. */
static bool begin(struct quire_tmem *t)
{
	pthread_mutex_lock(&t->lock);
	bool mine = !t->recompressor.busy;
	t->recompressor.busy = true;
	pthread_mutex_unlock(&t->lock);
	return mine;
}

static void done(struct quire_tmem *t)
{
	pthread_mutex_lock(&t->lock);
	t->recompressor.busy = false;
	pthread_mutex_unlock(&t->lock);
}

/* ---- doing it ---- */

/* The lock held; released meanwhile. How many pages it was. */
static unsigned do_job(struct quire_tmem *t, struct job *j)
{
	pthread_mutex_unlock(&t->lock);
	job_run(t, j, t->recompressor.packer);
	pthread_mutex_lock(&t->lock);
	t->recompressor.n_repacked += job_finish(t, j);
	return j->n;
}

static void let_others(struct quire_tmem *t)
{
	pthread_mutex_unlock(&t->lock);
	pthread_mutex_lock(&t->lock);
}

static void end_round(struct quire_tmem *t)
{
	struct recompressor *r = &t->recompressor;

	r->n_vain = r->n_jobs > 0 ? 0 : r->n_vain + 1;
	/* Nothing is left to be tried, or what is left is in use. */
	if (r->n_vain > 0 && (r->n_waiting == 0 || r->n_vain > MOST_AGE))
		r->rest_until = r->n_events + t->n_contents / 8 + SLOTS_AT_ONCE;
	r->n_jobs = r->n_waiting = 0;
}

/* It is worth it that a few pages leave, if none else can. */
static void make_room(struct quire_tmem *t)
{
	uint64_t wanted = t->recompressor.room_bytes;

	pthread_mutex_lock(&t->lock);
	for (unsigned i = 0; i < MOST_ROOM_TRIES && budget_used(t->budget) + wanted > budget_limit(t->budget); i++)
		if (!tmem_evict_for(t))
			break;
	pthread_mutex_unlock(&t->lock);
}

int64_t quire_tmem_recompress(struct quire_tmem *t, uint32_t n_pages)
{
	enum looked looked = NOT_YET;
	struct job j;
	int64_t n = 0;

	if (tmem_is_of_parent(t))
		return -ECHILD;
	if (atomic_load(&t->recompressor.raw_bytes) == 0)
		return 0;
	if (!begin(t))
		return -EBUSY;
	make_room(t);
	if (!need_packer(t)) {
		done(t);
		return -ENOMEM;
	}
	pthread_mutex_lock(&t->lock);
	while (n < n_pages && looked != ROUND_OVER) {
		looked = look(t, false, &j);
		if (looked == FOUND)
			n += do_job(t, &j);
		else
			let_others(t);
	}
	if (looked == ROUND_OVER)
		end_round(t);
	/* What moves behind the hand is not seen in this round: so all that can only between rounds. */
	for (uint32_t moved = 0; moved < n_pages && (looked == ROUND_OVER || storage_is_loose(&t->storage)); moved += MOVES) {
		if (!storage_compact(&t->storage, MOVES, content_moved, t))
			break;
		let_others(t);
	}
	pthread_mutex_unlock(&t->lock);
	free_packer(t);
	done(t);
	return n;
}

/* ---- in puts ---- */

static bool is_pressed(struct quire_tmem_pool *pool)
{
	struct quire_tmem *t = pool->tmem;
	uint64_t limit = budget_limit(t->budget), room = t->recompressor.room_bytes;

	if (limit / SMALL_BUDGETS < room)
		return false;
	if (budget_used(t->budget) + limit / PRESSED_PART + room > limit)
		return true;
	if ((pool->o.flags & (QUIRE_TMEM_RECOMPRESS | QUIRE_TMEM_COLD)) == 0)
		return false;
	pthread_mutex_lock(&t->lock);
	uint64_t cap = pool->o.cap_bytes;
	bool near = cap != 0 && pool->held_bytes + cap / PRESSED_PART > cap;
	pthread_mutex_unlock(&t->lock);
	return near;
}

static bool rests(const struct quire_tmem *t)
{
	return t->recompressor.n_events < t->recompressor.rest_until;
}

/* As begin, unless it rests. */
static bool begin_again(struct quire_tmem *t)
{
	struct recompressor *r = &t->recompressor;

	pthread_mutex_lock(&t->lock);
	bool mine = !r->busy && !rests(t);
	if (mine)
		r->busy = true;
	else
		r->n_events++;
	pthread_mutex_unlock(&t->lock);
	return mine;
}

/* A few pages. The lock held; released meanwhile. */
static void do_some(struct quire_tmem *t)
{
	unsigned n = 0;
	struct job j;

	for (unsigned i = 0; i < PRESSED_LOOKS && n < PRESSED_PAGES; i++) {
		enum looked looked = look(t, true, &j);
		if (looked == FOUND)
			n += do_job(t, &j);
		if (looked == ROUND_OVER)
			end_round(t);
		if (rests(t))
			break;
	}
	/* What came free is of other sizes than what is wanted next. */
	for (unsigned i = 0; i < n; i++)
		if (!storage_compact(&t->storage, MOVES, content_moved, t))
			break;
}

void tmem_recompress_pressed(struct quire_tmem_pool *pool)
{
	struct quire_tmem *t = pool->tmem;
	struct recompressor *r = &t->recompressor;

	if (atomic_load_explicit(&r->raw_bytes, memory_order_relaxed) == 0 || !is_pressed(pool) || !begin_again(t))
		return;
	bool ready = need_packer(t);
	pthread_mutex_lock(&t->lock);
	if (ready)
		do_some(t);
	else
		r->rest_until = r->n_events + SLOTS_AT_ONCE;
	if (rests(t))
		free_packer(t);
	r->busy = false;
	pthread_mutex_unlock(&t->lock);
}

/* ---- life ---- */

void tmem_recompress_enter(struct quire_tmem_pool *pool)
{
	struct recompressor *r = &pool->tmem->recompressor;
	uint32_t raw_bytes = raw_bytes_of(pool);

	if ((pool->o.flags & (QUIRE_TMEM_RECOMPRESS | QUIRE_TMEM_COLD)) == 0)
		return;
	if (raw_bytes > atomic_load(&r->raw_bytes))
		atomic_store(&r->raw_bytes, raw_bytes);
	if (unit_bytes_of(pool) > atomic_load(&r->unit_bytes))
		atomic_store(&r->unit_bytes, unit_bytes_of(pool));
	atomic_store(&r->room_bytes, packer_most_bytes(r->raw_bytes) + unpacker_most_bytes(r->unit_bytes));
}

bool tmem_recompress_yield(struct quire_tmem *t)
{
	bool idle = !t->recompressor.busy && t->recompressor.packer != NULL;

	if (idle)
		free_packer(t);
	return idle;
}

void tmem_recompress_fini(struct quire_tmem *t)
{
	free_packer(t);
}
