/* spill_round.c - room is made: the oldest contents go to the backing, and segments of which little is left are cleaned.
 *
 * A round is one write of new contents, at most half_bytes of them, by whoever needs the room; others who need some wait for it,
 * and look again. Before it, if more than half of the backing's space is of no use any more, a few pieces of the emptiest segments are
 * read, and what is left in them is written elsewhere.
 */
#include "spill.h"
#include "tmem.h"

#include "../base/canary.h"
#include "../base/crc32c.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define LOOSE_SEGMENTS 2u
#define FLOAT_PAGES 8u
#define PIECES_CLEANED 4u /* in a round: of each, less than half is written again */

static struct slot_head *head_at(const struct quire_tmem *t, uint32_t place)
{
	return storage_at(&t->storage, place);
}

static uint32_t aligned(const struct spill *sp, uint32_t n)
{
	return (n + sp->backing.align_bytes - 1) & ~(sp->backing.align_bytes - 1);
}

static uint8_t *output(const struct spill *sp)
{
	return sp->stage + sp->half_bytes;
}

/* ---- writing what is moving ---- */

static void begin_moving(struct spill *sp)
{
	sp->n_moving = 0;
	sp->fill = 0;
}

static struct moving *add_moving(struct quire_tmem *t, uint32_t place)
{
	struct spill *sp = t->spill;
	struct slot_head *h = head_at(t, place);

	storage_pin(&t->storage, place);
	h->going = 1;
	struct moving *m = &sp->moving[sp->n_moving++];
	*m = (struct moving){.place = place, .offset = sp->fill, .len = slot_len(h), .bytes = h + 1};
	sp->fill += m->len;
	return m;
}

/* A segment with room for n bytes. The lock is released meanwhile. */
static int open_segment(struct quire_tmem *t, uint32_t n)
{
	struct spill *sp = t->spill;
	uint64_t at;

	if (sp->open != RECORD_NONE && sp->backing.segment_bytes - segment_at(sp, sp->open)->fill >= n)
		return 0;
	tmem_segment_close(sp);
	uint32_t no = sp->dead;
	if (no != RECORD_NONE) {
		struct segment *s = segment_at(sp, no);
		sp->dead = s->next;
		s->fill = 0;
		s->stuck = false;
		sp->open = no;
		return 0;
	}
	if (sp->spare_no == RECORD_NONE)
		return -ENOMEM;
	pthread_mutex_unlock(&t->lock);
	int rc = sp->backing.ops->take(sp->backing.arg, &at);
	pthread_mutex_lock(&t->lock);
	if (rc < 0)
		return rc;
	no = sp->spare_no;
	*segment_at(sp, no) = (struct segment){.at = at, .first = PLACE_NONE, .taken = true};
	sp->n_taken++;
	sp->open = no;
	sp->spare_no = records_get(&sp->segments);
	return 0;
}

/* What is moving goes to the open segment, from *ret_offset on; the lock is released meanwhile. from_memory: its bytes are to
 * be copied together first. */
static int write_moving(struct quire_tmem *t, bool from_memory, uint32_t *ret_offset)
{
	struct spill *sp = t->spill;
	uint32_t n = aligned(sp, sp->fill);
	int rc = open_segment(t, n);

	if (rc == 0) {
		struct segment *s = segment_at(sp, sp->open);
		uint64_t at = s->at + s->fill;
		*ret_offset = s->fill;
		s->fill += n;
		pthread_mutex_unlock(&t->lock);
		for (unsigned i = 0; i < sp->n_moving && from_memory; i++)
			memcpy(output(sp) + sp->moving[i].offset, sp->moving[i].bytes, sp->moving[i].len);
		memset(output(sp) + sp->fill, 0, n - sp->fill);
		rc = sp->backing.ops->write(sp->backing.arg, at, output(sp), n);
		pthread_mutex_lock(&t->lock);
	}
	if (rc < 0)
		sp->n_errors++;
	return rc;
}

/* ---- out of memory ---- */

static void collect(struct quire_tmem_pool *pool)
{
	struct quire_tmem *t = pool->tmem;
	struct spill *sp = t->spill;

	begin_moving(sp);
	while (sp->n_moving < sp->n_spares && pool->spilled_bytes < pool->most_spilled_bytes) {
		uint64_t number;
		uint32_t place = tmem_age_pick(pool, sp->half_bytes - sp->fill, &number);
		if (place == PLACE_NONE)
			break;
		struct moving *m = add_moving(t, place);
		m->number = number;
		m->pool = pool->no;
	}
}

static void put_away(struct quire_tmem *t, const struct moving *m, uint32_t offset)
{
	struct spill *sp = t->spill;
	uint32_t to = sp->spares[--sp->n_spares];
	struct slot_head *h = head_at(t, to);

	content_leave(t, m->place, to);
	*tmem_away_at(h) = (struct away){.segment = sp->open, .offset = (offset + m->offset) & 0x3fffffffu,
	                                 .codec = head_at(t, m->place)->codec & 3u};
	tmem_away_link(t, to);
}

/* Those that were written are away; if that failed, they are as before, and the youngest. */
static void settle(struct quire_tmem *t, int rc, uint32_t offset)
{
	struct spill *sp = t->spill;

	for (unsigned i = 0; i < sp->n_moving; i++) {
		struct moving *m = &sp->moving[i];
		struct slot_head *h = head_at(t, m->place);
		bool there = !storage_is_freed(&t->storage, m->place);
		h->going = 0;
		if (there && (rc == 0 || CANARY(spilled_though_write_failed)))
			put_away(t, m, offset);
		else
			tmem_age_put_back(t->pools[m->pool], m->number);
		storage_unpin(&t->storage, m->place);
	}
}

/* ---- cleaning ---- */

static uint32_t segment_to_clean(const struct spill *sp)
{
	uint64_t taken_bytes = sp->n_taken * sp->backing.segment_bytes;
	uint32_t best = RECORD_NONE;

	if (taken_bytes <= 2 * sp->live_bytes + LOOSE_SEGMENTS * (uint64_t)sp->backing.segment_bytes)
		return RECORD_NONE;
	for (uint32_t no = 0; no < sp->segments.n; no++) {
		if (!records_there(&sp->segments, no))
			continue;
		const struct segment *s = segment_at(sp, no);
		if (!s->taken || s->stuck || s->n_live == 0 || no == sp->open)
			continue;
		if (best == RECORD_NONE || s->live_bytes < segment_at(sp, best)->live_bytes)
			best = no;
	}
	return best;
}

static uint32_t first_offset(const struct quire_tmem *t, const struct segment *s)
{
	uint32_t least = UINT32_MAX;

	for (uint32_t place = s->first; place != PLACE_NONE; place = head_at(t, place)->next) {
		uint32_t offset = tmem_away_at(head_at(t, place))->offset;
		least = offset < least ? offset : least;
	}
	return least;
}

/* Of the piece [base, base + n) of a segment, which was read: what is whole in it is copied to go. False: something there is damaged. */
static bool gather(struct quire_tmem *t, const struct segment *s, uint32_t base, uint32_t n)
{
	struct spill *sp = t->spill;
	bool good = true;

	begin_moving(sp);
	for (uint32_t place = s->first; place != PLACE_NONE && sp->n_moving < SPILL_MOST_MOVED;) {
		struct slot_head *h = head_at(t, place);
		uint32_t offset = tmem_away_at(h)->offset, len = slot_len(h);
		if (offset >= base && offset + len <= base + n) {
			const uint8_t *from = sp->stage + (offset - base);
			if (crc32c(0, from, len) == h->check) {
				memcpy(output(sp) + sp->fill, from, len);
				add_moving(t, place);
			} else {
				good = false;
			}
		}
		place = h->next;
	}
	return good;
}

static void relocate(struct quire_tmem *t, int rc, uint32_t offset)
{
	struct spill *sp = t->spill;

	for (unsigned i = 0; i < sp->n_moving; i++) {
		struct moving *m = &sp->moving[i];
		struct slot_head *h = head_at(t, m->place);
		if (rc == 0 && !storage_is_freed(&t->storage, m->place)) {
			tmem_away_unlink(t, m->place);
			tmem_away_at(h)->segment = sp->open;
			tmem_away_at(h)->offset = (offset + m->offset) & 0x3fffffffu;
			tmem_away_link(t, m->place);
		}
		h->going = 0;
		storage_unpin(&t->storage, m->place);
	}
}

static void clean(struct quire_tmem *t, uint32_t no)
{
	struct spill *sp = t->spill;
	struct segment *s = segment_at(sp, no);
	uint32_t base = first_offset(t, s) & ~(sp->backing.align_bytes - 1), offset = 0;
	uint32_t n = s->fill - base < sp->half_bytes ? s->fill - base : sp->half_bytes;

	s->n_pins++;
	pthread_mutex_unlock(&t->lock);
	int rc = sp->backing.ops->read(sp->backing.arg, s->at + base, sp->stage, n);
	pthread_mutex_lock(&t->lock);
	if (rc < 0)
		sp->n_errors++;
	bool good = rc == 0 && gather(t, s, base, n);
	if (rc == 0 && sp->n_moving > 0) {
		rc = write_moving(t, false, &offset);
		relocate(t, rc, offset);
	}
	/* What can't be read stays there for its page to say so. */
	s->stuck |= !good;
	tmem_segment_unpin(sp, no);
}

/* ---- a round ---- */

/* Of those that spill, the pool that has most for its weight. */
static struct quire_tmem_pool *heaviest(const struct quire_tmem *t)
{
	struct quire_tmem_pool *best = NULL;

	for (unsigned i = 1; i < t->n_pools; i++) {
		struct quire_tmem_pool *p = t->pools[i];
		if (p == NULL || (p->o.flags & QUIRE_TMEM_SPILL) == 0 || p->ages.count == 0 ||
		    p->spilled_bytes >= p->most_spilled_bytes)
			continue;
		if (best == NULL || (__uint128_t)p->held_bytes * best->o.weight > (__uint128_t)best->held_bytes * p->o.weight)
			best = p;
	}
	return best;
}

/* Slots for the next that go. On a borrowed budget what has come free is others' at once, and later there may be no memory for these; so they are charged
 * first. */
static void settle_and_prepare(struct quire_tmem *t, int rc, uint32_t offset)
{
	bool lends = t->budget != &t->own_budget;

	if (lends)
		budget_lend(t->budget, FLOAT_PAGES * (uint64_t)sysconf(_SC_PAGESIZE));
	settle(t, rc, offset);
	(void)storage_compact(&t->storage, SPILL_MOST_MOVED, content_moved, t);
	tmem_spill_fill_spares(t);
	if (lends)
		budget_end_loan(t->budget);
}

/* pool NULL: of any. True: some have left memory. */
static bool make_round(struct quire_tmem *t, struct quire_tmem_pool *pool)
{
	struct spill *sp = t->spill;
	uint32_t offset = 0, no;

	for (unsigned i = 0; i < PIECES_CLEANED && (no = segment_to_clean(sp)) != RECORD_NONE; i++)
		clean(t, no);
	tmem_spill_fill_spares(t);
	begin_moving(sp);
	if (pool != NULL) {
		collect(pool);
	} else {
		/* One that has nothing to give has an empty queue then. */
		while (sp->n_moving == 0 && sp->n_spares > 0 && (pool = heaviest(t)) != NULL)
			collect(pool);
	}
	if (sp->n_moving == 0)
		return false;
	int rc = write_moving(t, true, &offset);
	settle_and_prepare(t, rc, offset);
	if (rc == 0)
		sp->n_rounds++;
	return rc == 0;
}

/* Of that pool, or of any if it is NULL. */
static bool wait_for_round(struct quire_tmem *t, struct quire_tmem_pool *pool)
{
	struct spill *sp = t->spill;
	uint64_t n_rounds = sp->n_rounds;

	sp->n_users++;
	pthread_mutex_unlock(&t->lock);
	bool inside = sp->backing.ops->begin(sp->backing.arg) == 0;
	pthread_mutex_lock(&t->lock);
	bool gained = sp->n_rounds != n_rounds;
	if (inside && !gained)
		gained = make_round(t, pool);
	if (inside) {
		tmem_spill_tidy(t);
		pthread_mutex_unlock(&t->lock);
		sp->backing.ops->end(sp->backing.arg);
		pthread_mutex_lock(&t->lock);
	}
	sp->n_users--;
	return gained;
}

bool tmem_spill_for(struct quire_tmem_pool *pool, uint64_t more_bytes)
{
	struct quire_tmem *t = pool->tmem;

	if (t->spill == NULL || (pool->o.flags & QUIRE_TMEM_SPILL) == 0)
		return false;
	bool over_cap = pool->o.cap_bytes != 0 && pool->held_bytes + more_bytes > pool->o.cap_bytes;
	return wait_for_round(t, over_cap ? pool : NULL);
}

bool tmem_spill_of(struct quire_tmem_pool *pool)
{
	struct quire_tmem *t = pool->tmem;

	return t->spill != NULL && tmem_pool_spills(pool) && wait_for_round(t, pool);
}

bool tmem_spill_any(struct quire_tmem *t)
{
	return t->spill != NULL && wait_for_round(t, NULL);
}

struct workspace *tmem_spill_for_workspace(struct quire_tmem_pool *pool)
{
	struct quire_tmem *t = pool->tmem;
	struct workspace *w = NULL;
	bool gained = true;

	while (w == NULL && gained) {
		pthread_mutex_lock(&t->lock);
		gained = tmem_spill_for(pool, 0);
		pthread_mutex_unlock(&t->lock);
		if (gained)
			w = tmem_get_workspace(t, pool->o.page_bytes);
	}
	return w;
}
