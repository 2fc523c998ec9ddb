/* spill.c - contents that are in the backing: how they are found there, counted, read, and given up.
 *
 * Purpose: pools that may spill hold more than memory does. What leaves memory is a content's bytes, as they are, compressed; its page
 * stays in the index, and a slot of 32 bytes, which says where the bytes are, takes the place of the one that held them. So neither index
 * nor shares know of it. It is not found by who puts an equal page: to compare them would be I/O; nor by recompression. What zstd packed
 * doesn't leave: pools keep what is cold, or spill it.
 *
 * States of a content:  in memory → going → away → (flushed, or taken)
 *   going   its bytes are being written; it is in memory still, and pinned. Whoever reads it reads it there; if it is dropped
 *           meanwhile, or replaced by a put, what was written is of no use.
 *   away    a struct away follows its head. It may be going as well, to another segment (spill_round.c cleans).
 *
 * The backing's space comes in segments, written from the beginning to the end, a batch of contents by one write. A segment of which
 * no content is left is dead and goes back, or is taken again; one of which few are left is cleaned: they are written elsewhere.
 *
 * Invariants:
 *   1. The contents of a segment are a list through their heads (hash: the one before, next: the one behind), n_live long.
 *   2. A segment is dead once it has no content, no pin, and is not the open one.
 *   3. A content that is going is pinned; who drops or replaces it meanwhile frees its slot, which the pin keeps.
 *   4. live_bytes, n_live: the sums of all segments.
 *   5. A slot of kind SLOT_SPARE is one of `spares`, whose index is its span: they are there before they are needed, for then
 *      there may be no memory.
 *
 * Threads: the tmem's lock guards all but what is between the backing's begin and end. I/O is done without it.
 *
 * Failure: a write that fails leaves its contents in memory, and the put that wanted the room is refused. A read that fails says so
 * of that page alone, which stays. What is read is held against the checksum of the slot.
 */
#include "spill.h"

#include "../base/assert.h"
#include "../base/canary.h"
#include "../base/crc32c.h"
#include "../base/fail.h"

#include <errno.h>
#include <stdlib.h>

#define LEAST_HALF_BYTES (64u << 10)

static struct slot_head *head_at(const struct quire_tmem *t, uint32_t place)
{
	return storage_at(&t->storage, place);
}

/* ---- segments and their contents ---- */

static void bury(struct spill *sp, uint32_t no)
{
	struct segment *s = segment_at(sp, no);

	if (s->n_live > 0 || s->n_pins > 0 || sp->open == no)
		return;
	quire_assert(s->live_bytes == 0 && s->first == PLACE_NONE);
	s->next = sp->dead;
	sp->dead = no;
}

void tmem_away_link(struct quire_tmem *t, uint32_t place)
{
	struct slot_head *h = head_at(t, place);
	struct segment *s = segment_at(t->spill, tmem_away_at(h)->segment);

	h->hash = PLACE_NONE;
	h->next = s->first;
	if (s->first != PLACE_NONE)
		head_at(t, s->first)->hash = place;
	s->first = place;
	s->n_live++;
	s->live_bytes += slot_len(h);
	t->spill->n_live++;
	t->spill->live_bytes += slot_len(h);
}

void tmem_away_unlink(struct quire_tmem *t, uint32_t place)
{
	struct slot_head *h = head_at(t, place);
	uint32_t no = tmem_away_at(h)->segment;
	struct segment *s = segment_at(t->spill, no);

	if (h->hash != PLACE_NONE)
		head_at(t, h->hash)->next = h->next;
	else
		s->first = h->next;
	if (h->next != PLACE_NONE)
		head_at(t, h->next)->hash = h->hash;
	s->n_live--;
	s->live_bytes -= slot_len(h);
	t->spill->n_live--;
	t->spill->live_bytes -= slot_len(h);
	bury(t->spill, no);
}

void tmem_away_moved(struct quire_tmem *t, uint32_t to)
{
	struct slot_head *h = head_at(t, to);

	if (h->hash != PLACE_NONE)
		head_at(t, h->hash)->next = to;
	else
		segment_at(t->spill, tmem_away_at(h)->segment)->first = to;
	if (h->next != PLACE_NONE)
		head_at(t, h->next)->hash = to;
}

void tmem_segment_unpin(struct spill *sp, uint32_t no)
{
	segment_at(sp, no)->n_pins--;
	bury(sp, no);
}

void tmem_segment_close(struct spill *sp)
{
	uint32_t no = sp->open;

	sp->open = RECORD_NONE;
	if (no != RECORD_NONE)
		bury(sp, no);
}

void tmem_spill_tidy(struct quire_tmem *t)
{
	struct spill *sp = t->spill;
	uint32_t no;

	if (sp == NULL || sp->dead == RECORD_NONE)
		return;
	sp->n_users++;
	while ((no = sp->dead) != RECORD_NONE) {
		struct segment *s = segment_at(sp, no);
		uint64_t at = s->at;
		sp->dead = s->next;
		sp->n_taken--;
		s->taken = false;
		records_put(&sp->segments, no);
		pthread_mutex_unlock(&t->lock);
		sp->backing.ops->give(sp->backing.arg, at);
		pthread_mutex_lock(&t->lock);
	}
	sp->n_users--;
}

/* ---- slots for those that go ---- */

void tmem_spill_fill_spares(struct quire_tmem *t)
{
	struct spill *sp = t->spill;

	while (sp->n_spares < SPILL_MOST_MOVED) {
		uint32_t place = storage_alloc(&t->storage, sizeof(struct slot_head) + sizeof(struct away));
		if (place == PLACE_NONE) {
			/* What has come free may lie idle where slots of another size were. */
			storage_trim(&t->storage, true);
			place = storage_alloc(&t->storage, sizeof(struct slot_head) + sizeof(struct away));
		}
		if (place == PLACE_NONE)
			break;
		*head_at(t, place) = (struct slot_head){.kind = SLOT_SPARE, .span = sp->n_spares, .codec = CODEC_AWAY};
		sp->spares[sp->n_spares++] = place;
	}
	if (sp->spare_no == RECORD_NONE)
		sp->spare_no = records_get(&sp->segments);
}

static void free_spares(struct quire_tmem *t)
{
	struct spill *sp = t->spill;

	while (sp->n_spares > 0)
		storage_free(&t->storage, sp->spares[--sp->n_spares]);
}

/* ---- a get, in parts ---- */

void tmem_spill_get_begin(struct get *g, bool take)
{
	struct quire_tmem *t = g->pool->tmem;

	g->pool->counts.n_get_hits++;
	storage_pin(&t->storage, g->place);
	g->packed.head = storage_at(&t->storage, g->place);
	g->away = true;
	g->take_away = take;
	g->from = tmem_away_pin(t, g->place);
	t->spill->n_reads++;
}

struct away_from tmem_away_pin(struct quire_tmem *t, uint32_t place)
{
	const struct away *away = tmem_away_at(head_at(t, place));
	struct segment *s = segment_at(t->spill, away->segment);

	s->n_pins += !CANARY(spill_reused_while_read);
	t->spill->n_users++;
	return (struct away_from){.at = s->at + away->offset, .segment = away->segment, .codec = (enum slot_codec)away->codec};
}

void tmem_away_unpin(struct quire_tmem *t, const struct away_from *from)
{
	struct spill *sp = t->spill;

	sp->n_users--;
	if (CANARY(spill_reused_while_read))
		return;
	segment_at(sp, from->segment)->n_pins--;
	bury(sp, from->segment);
}

int tmem_away_read(struct quire_tmem *t, const struct away_from *from, uint32_t len, struct away_bytes *ret)
{
	const struct tmem_backing *b = &t->spill->backing;
	uint64_t skip = from->at & (b->align_bytes - 1);
	uint64_t n = (skip + len + b->align_bytes - 1) & ~(uint64_t)(b->align_bytes - 1);

	/* For a moment; a get must not fail for it. */
	budget_charge(t->budget, BUDGET_TMEM, n);
	ret->n_charged = n;
	ret->buffer = aligned_alloc(b->align_bytes, n);
	ret->bytes = ret->buffer + skip;
	if (ret->buffer == NULL)
		return -ENOMEM;
	return b->ops->read(b->arg, from->at - skip, ret->buffer, n);
}

void tmem_away_read_end(struct quire_tmem *t, struct away_bytes *bytes)
{
	free(bytes->buffer);
	budget_uncharge(t->budget, BUDGET_TMEM, bytes->n_charged);
}

int tmem_spill_get_copy(struct get *g, void *page)
{
	struct quire_tmem *t = g->pool->tmem;
	uint32_t len = slot_len(g->packed.head);
	struct away_bytes bytes;
	int rc = tmem_away_read(t, &g->from, len, &bytes);

	if (rc == 0 && (crc32c(0, bytes.bytes, len) != g->packed.head->check ||
	                !codec_unpack(g->from.codec, bytes.bytes, len, page, g->pool->o.page_bytes)))
		rc = -EBADMSG;
	tmem_away_read_end(t, &bytes);
	return rc;
}

void tmem_spill_get_end(struct get *g)
{
	struct quire_tmem *t = g->pool->tmem;
	struct pool_counts *c = &g->pool->counts;
	struct where at = {.value = VALUE_NONE};
	uint64_t word;

	if (g->result == 0 && g->take_away) {
		at = tmem_page_find(g->pool, g->key);
		/* Somebody has it, or there is another: it is to be asked for anew. */
		if (at.value == VALUE_NONE || content_place(t, at.value, &word) != g->place) {
			g->result = -EAGAIN;
			c->n_gets--;
		}
	}
	if (g->result < 0)
		c->n_get_hits--;
	if (g->result == -EBADMSG)
		c->n_damaged++;
	if (g->result < 0 && g->result != -EAGAIN && g->result != -EDEADLK)
		t->spill->n_errors++;
	if (g->result == 0 && g->take_away)
		tmem_page_remove(g->pool, &at);
	tmem_away_unpin(t, &g->from);
	storage_unpin(&t->storage, g->place);
	tmem_spill_tidy(t);
}

/* ---- the invariants ---- */

static bool segment_check(const struct quire_tmem *t, uint32_t no)
{
	const struct segment *s = segment_at(t->spill, no);
	uint32_t n = 0, before = PLACE_NONE;
	uint64_t bytes = 0;

	for (uint32_t place = s->first; place != PLACE_NONE; n++) {
		struct slot_head *h = head_at(t, place);
		const struct away *a = tmem_away_at(h);
		if (!tmem_is_away(h) || h->going || h->hash != before || a->segment != no ||
		    a->offset + slot_len(h) > s->fill)
			return false;
		bytes += slot_len(h);
		before = place;
		place = h->next;
	}
	return n == s->n_live && bytes == s->live_bytes && s->fill <= t->spill->backing.segment_bytes;
}

bool tmem_spill_check(const struct quire_tmem *t)
{
	const struct spill *sp = t->spill;
	uint64_t n_taken = 0, n_live = 0, live_bytes = 0, n_dead = 0, n_unused = 0;

	for (uint32_t no = 0; no < sp->segments.n; no++) {
		if (!records_there(&sp->segments, no) || !segment_at(sp, no)->taken)
			continue;
		const struct segment *s = segment_at(sp, no);
		if (!segment_check(t, no))
			return false;
		n_taken++;
		n_live += s->n_live;
		live_bytes += s->live_bytes;
		n_unused += s->n_live == 0 && s->n_pins == 0 && no != sp->open;
	}
	for (uint32_t no = sp->dead; no != RECORD_NONE; no = segment_at(sp, no)->next)
		n_dead++;
	for (uint32_t i = 0; i < sp->n_spares; i++)
		if (head_at(t, sp->spares[i])->kind != SLOT_SPARE || head_at(t, sp->spares[i])->span != i)
			return false;
	return n_taken == sp->n_taken && n_live == sp->n_live && live_bytes == sp->live_bytes && n_dead == n_unused;
}

/* ---- the backing comes and goes ---- */

static struct spill *spill_new(struct quire_tmem *t, const struct tmem_backing *b)
{
	uint32_t half = b->page_most_bytes + 2 * b->align_bytes;

	if (half < LEAST_HALF_BYTES)
		half = LEAST_HALF_BYTES;
	half = (half + b->align_bytes - 1) & ~(b->align_bytes - 1);
	uint64_t bytes = 2 * (uint64_t)half + sizeof(struct spill);
	if (!budget_try_charge(t->budget, BUDGET_TMEM, bytes))
		return NULL;
	struct spill *sp = calloc(1, sizeof(*sp));
	uint8_t *stage = aligned_alloc(b->align_bytes, 2 * (size_t)half);
	if (sp == NULL || stage == NULL) {
		free(sp);
		free(stage);
		budget_uncharge(t->budget, BUDGET_TMEM, bytes);
		return NULL;
	}
	sp->backing = *b;
	sp->open = sp->dead = sp->spare_no = RECORD_NONE;
	sp->half_bytes = half;
	sp->charged_bytes = bytes;
	sp->stage = stage;
	records_init(&sp->segments, t->budget, sizeof(struct segment));
	return sp;
}

static void spill_free(struct quire_tmem *t, struct spill *sp)
{
	records_fini(&sp->segments);
	free(sp->stage);
	budget_uncharge(t->budget, BUDGET_TMEM, sp->charged_bytes);
	free(sp);
}

bool tmem_spill_takes(const struct quire_tmem *t, uint32_t page_bytes)
{
	return t->spill == NULL || page_bytes <= t->spill->backing.page_most_bytes;
}

static int set(struct quire_tmem *t, const struct tmem_backing *b)
{
	if (t->spill != NULL)
		return -EBUSY;
	for (unsigned i = 1; i < t->n_pools; i++)
		if (t->pools[i] != NULL && (t->pools[i]->o.flags & QUIRE_TMEM_SPILL) != 0 &&
		    t->pools[i]->o.page_bytes > b->page_most_bytes)
			return -EINVAL;
	struct spill *sp = spill_new(t, b);
	if (sp == NULL)
		return -ENOMEM;
	t->spill = sp;
	tmem_spill_fill_spares(t);
	if (sp->n_spares == SPILL_MOST_MOVED && sp->spare_no != RECORD_NONE) {
		/* Batches with an op must not block a loop. */
		if (t->n_threads == 0)
			t->n_threads = 1;
		return 0;
	}
	free_spares(t);
	spill_free(t, sp);
	t->spill = NULL;
	return -ENOMEM;
}

int tmem_backing_set(struct quire_tmem *t, const struct tmem_backing *b, struct quire_error *err)
{
	if (b->segment_bytes > TMEM_SEGMENT_MOST || b->segment_bytes % b->align_bytes != 0 ||
	    b->page_most_bytes + 2 * (uint64_t)b->align_bytes > b->segment_bytes || b->segment_bytes < 2 * LEAST_HALF_BYTES)
		return quire_fail(err, -EINVAL, "tmem backing with segments of %u bytes", b->segment_bytes);
	pthread_mutex_lock(&t->lock);
	int rc = set(t, b);
	pthread_mutex_unlock(&t->lock);
	return rc < 0 ? quire_fail(err, rc, "tmem backing") : 0;
}

int tmem_backing_clear(struct quire_tmem *t)
{
	if (tmem_is_of_parent(t))
		return -ECHILD;
	pthread_mutex_lock(&t->lock);
	struct spill *sp = t->spill;
	int rc = sp == NULL ? -ENOENT : sp->n_live > 0 || sp->n_users > 0 ? -EBUSY : 0;
	if (rc == 0) {
		free_spares(t);
		t->spill = NULL;
	}
	pthread_mutex_unlock(&t->lock);
	if (rc < 0)
		return rc;
	sp->backing.ops->close(sp->backing.arg);
	spill_free(t, sp);
	return 0;
}

void tmem_spill_destroy(struct quire_tmem *t)
{
	struct spill *sp = t->spill;

	if (sp == NULL)
		return;
	sp->backing.ops->close(sp->backing.arg);
	spill_free(t, sp);
	t->spill = NULL;
}
