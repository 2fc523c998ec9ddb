/* content.c - what pages refer to: words, contents of one page, contents of several.
 *
 * A content lies in a slot behind its head. While one page has it, the head names that page. The second reference makes it
 * a share: a record that has the place and a count, whose number is what its pages have, and the head names the record. So
 * whatever moves, one number is to be changed. A share stays one until its last page goes.
 *
 * Contents that may be found again are in chains by 32 bits of the page's XXH3-128, which the head keeps; whoever finds one
 * compares the pages.
 */
#include "tmem_internal.h"

#include "spill.h"
#include "../base/assert.h"

#include <string.h>

static struct slot_head *head_at(const struct quire_tmem *t, uint32_t place)
{
	return storage_at(&t->storage, place);
}

static struct share *share_at(const struct quire_tmem *t, uint32_t value)
{
	return records_at(&t->shares, value & VALUE_NO);
}

static struct word *word_at(const struct quire_tmem *t, uint32_t no)
{
	return records_at(&t->words, no & VALUE_NO);
}

struct quire_tmem_pool *content_pool(const struct quire_tmem *t, const struct slot_head *h)
{
	uint16_t no = h->kind == SLOT_SHARED ? share_at(t, h->span)->pool : span_at(&t->spans, h->span)->pool;

	return t->pools[no];
}

/* ---- words ---- */

static uint32_t hash_of_word(uint64_t word)
{
	word = (word ^ (word >> 31)) * 0x9e3779b97f4a7c15u;
	return (uint32_t)(word >> 32);
}

static uint32_t word_hash(void *owner, uint32_t no)
{
	return hash_of_word(word_at(owner, no)->word);
}

static uint32_t *word_link(void *owner, uint32_t no)
{
	return &word_at(owner, no)->chain;
}

uint32_t content_same(struct quire_tmem *t, struct quire_tmem_pool *pool, uint64_t word)
{
	uint32_t no = chains_first(&t->by_word, hash_of_word(word));

	while (no != CHAIN_END && word_at(t, no)->word != word)
		no = word_at(t, no)->chain;
	if (no == CHAIN_END) {
		no = records_get(&t->words);
		if (no == RECORD_NONE || no >= VALUE_NO)
			return VALUE_NONE;
		*word_at(t, no) = (struct word){.word = word};
		if (!chains_add(&t->by_word, no)) {
			records_put(&t->words, no);
			return VALUE_NONE;
		}
	}
	word_at(t, no)->refs++;
	t->n_same++;
	t->same_bytes += pool->o.page_bytes;
	return VALUE_SAME | no;
}

static void release_word(struct quire_tmem *t, uint32_t value)
{
	struct word *w = word_at(t, value);

	t->n_same--;
	if (--w->refs > 0)
		return;
	chains_remove(&t->by_word, value & VALUE_NO);
	records_put(&t->words, value & VALUE_NO);
}

/* ---- what there is of them ---- */

static void add(uint64_t *to, uint64_t n, bool more)
{
	*to += more ? n : -n;
}

void content_count(struct quire_tmem *t, struct quire_tmem_pool *pool, uint32_t place, bool more)
{
	const struct slot_head *h = head_at(t, place);
	uint64_t slot_bytes = storage_bytes_of(&t->storage, place), len = slot_len(h), n_pages = 1;
	uint64_t before = h->tail != 0 ? slot_before(h) : len;

	if (h->kind == SLOT_UNIT) {
		/* What was packed for pages that have gone counts as rounding. */
		n_pages = (uint64_t)__builtin_popcount(h->members);
		len = len * n_pages / slot_n_packed(h);
		before = before * n_pages / slot_n_packed(h);
	}
	if (h->codec == CODEC_AWAY)
		len = before = 0;
	add(&t->n_contents, 1, more);
	add(&t->n_raw, h->codec == CODEC_RAW, more);
	add(&t->unpacked_bytes, n_pages * pool->o.page_bytes, more);
	add(&t->packed_bytes, len, more);
	add(&t->repacked_bytes, before - len, more);
	add(&t->tail_bytes, slot_tail_bytes(h), more);
	add(&t->slot_bytes, slot_bytes, more);
	add(&pool->held_bytes, slot_bytes, more);
	add(&pool->n_contents, 1, more);
	if (tmem_is_away(h))
		add(&pool->spilled_bytes, slot_len(h), more);
}

/* ---- contents ---- */

static uint32_t content_hash(void *owner, uint32_t place)
{
	return head_at(owner, place)->hash;
}

static uint32_t *content_link(void *owner, uint32_t place)
{
	return &head_at(owner, place)->next;
}

uint32_t content_find(const struct quire_tmem *t, const struct quire_tmem_pool *pool, uint32_t hash)
{
	uint32_t place = chains_first(&t->by_content, hash);

	for (; place != CHAIN_END; place = head_at(t, place)->next) {
		const struct slot_head *h = head_at(t, place);
		if (h->hash != hash)
			continue;
		const struct quire_tmem_pool *of = content_pool(t, h);
		/* Who doesn't spill must not have to wait for what others have spilled. */
		bool alike = ((of->o.flags ^ pool->o.flags) & QUIRE_TMEM_SPILL) == 0;
		if (of->domain == pool->domain && of->o.page_bytes == pool->o.page_bytes && alike)
			return place;
	}
	return PLACE_NONE;
}

bool content_is_known(const struct quire_tmem *t, uint32_t hash, uint32_t place)
{
	uint32_t at = chains_first(&t->by_content, hash);

	while (at != CHAIN_END && at != place)
		at = head_at(t, at)->next;
	return at == place;
}

uint32_t content_keep(struct quire_tmem *t, struct quire_tmem_pool *pool, const struct prepared *p, bool resident_only)
{
	uint32_t n_bytes = (uint32_t)sizeof(struct slot_head) + p->len;
	uint32_t place = resident_only ? storage_alloc_resident(&t->storage, n_bytes) : storage_alloc(&t->storage, n_bytes);

	if (place == PLACE_NONE)
		return VALUE_NONE;
	struct slot_head *h = head_at(t, place);
	*h = (struct slot_head){.kind = SLOT_PAGE, .check = p->check, .hash = p->hash, .codec = p->codec & 3u};
	slot_set_len(h, p->len);
	memcpy(h + 1, p->bytes, p->len);
	if (p->known && chains_add(&t->by_content, place))
		h->known = 1;
	content_count(t, pool, place, true);
	t->recompressor.n_events++;
	return place;
}

void content_owned(struct quire_tmem *t, uint32_t value, uint32_t span, uint16_t low)
{
	if ((value & VALUE_SHARE) != 0)
		return;
	struct slot_head *h = head_at(t, value);
	h->span = span;
	h->low = low;
}

void content_forget(struct quire_tmem *t, uint32_t place)
{
	struct slot_head *h = head_at(t, place);

	if (h->known)
		chains_remove(&t->by_content, place);
	h->known = 0;
}

static void drop(struct quire_tmem *t, struct quire_tmem_pool *pool, uint32_t place)
{
	content_forget(t, place);
	content_count(t, pool, place, false);
	if (tmem_is_away(head_at(t, place)))
		tmem_away_unlink(t, place);
	else if (tmem_is_stub(t, place))
		tmem_stub_unlink(t, pool, place);
	storage_free(&t->storage, place);
	if (pool->gone && pool->n_contents == 0)
		tmem_pool_free(pool);
}

uint32_t content_share(struct quire_tmem *t, uint32_t place)
{
	struct slot_head *h = head_at(t, place);

	if (h->kind == SLOT_PAGE) {
		uint32_t no = records_get(&t->shares);
		if (no == RECORD_NONE || no >= VALUE_NO)
			return VALUE_NONE;
		uint16_t pool = span_at(&t->spans, h->span)->pool;
		*share_at(t, no) = (struct share){.place = place, .refs = 1, .pool = pool};
		spans_set(&t->spans, h->span, h->low, VALUE_SHARE | no);
		h->kind = SLOT_SHARED;
		h->span = no;
		t->n_share_refs++;
	}
	struct share *s = share_at(t, h->span);
	s->refs++;
	t->n_share_refs++;
	t->shared_bytes += t->pools[s->pool]->o.page_bytes;
	return VALUE_SHARE | h->span;
}

static void release_share(struct quire_tmem *t, uint32_t value)
{
	struct share *s = share_at(t, value);
	struct quire_tmem_pool *charged = t->pools[s->pool];

	t->n_share_refs--;
	if (--s->refs > 0) {
		t->shared_bytes -= charged->o.page_bytes;
		return;
	}
	uint32_t place = s->place;
	records_put(&t->shares, value & VALUE_NO);
	drop(t, charged, place);
}

void content_release(struct quire_tmem *t, struct quire_tmem_pool *pool, uint32_t value)
{
	if (value_is_same(value)) {
		t->same_bytes -= pool->o.page_bytes;
		release_word(t, value);
	} else if (value_is_share(value)) {
		release_share(t, value);
	} else {
		drop(t, pool, value);
	}
}

uint32_t content_place(const struct quire_tmem *t, uint32_t value, uint64_t *ret_word)
{
	if (value_is_same(value)) {
		*ret_word = word_at(t, value)->word;
		return PLACE_NONE;
	}
	return value_is_share(value) ? share_at(t, value)->place : value;
}

/* Its owner, a page or a share, knows the content by that place. */
static void name(struct quire_tmem *t, const struct slot_head *h, uint32_t place)
{
	if (h->kind == SLOT_SHARED)
		share_at(t, h->span)->place = place;
	else
		spans_set(&t->spans, h->span, h->low, place);
}

void content_relink(struct quire_tmem *t, uint32_t from, uint32_t to)
{
	struct slot_head *h = head_at(t, to);

	if (h->kind == SLOT_UNIT) {
		unit_relink(t, to);
		return;
	}
	if (h->kind == SLOT_SPARE) {
		if ((h->marks & MARK_REMOTE) != 0)
			tmem_remote_spare_moved(t, h->span, to);
		else
			t->spill->spares[h->span] = to;
		return;
	}
	if (h->known)
		chains_renamed(&t->by_content, from, to);
	if (tmem_is_away(h))
		tmem_away_moved(t, to);
	else if (tmem_is_stub(t, to))
		tmem_stub_moved(t, content_pool(t, h), to);
	name(t, h, to);
}

void content_leave(struct quire_tmem *t, uint32_t from, uint32_t to)
{
	struct slot_head *h = head_at(t, from), *away = head_at(t, to);
	struct quire_tmem_pool *pool = content_pool(t, h);

	content_forget(t, from);
	content_count(t, pool, from, false);
	*away = *h;
	away->codec = CODEC_AWAY;
	away->tail = 0;
	away->marks = 0;
	name(t, away, to);
	content_count(t, pool, to, true);
	storage_free(&t->storage, from);
}

void content_moved(void *tmem, uint32_t from, uint32_t to)
{
	struct quire_tmem *t = tmem;
	struct slot_head *h = head_at(t, to);

	t->n_moved++;
	if (h->kind == SLOT_TABLE)
		spans_table_moved(&t->spans, h->span, to);
	else
		content_relink(t, from, to);
}

void content_init(struct quire_tmem *t)
{
	records_init(&t->shares, t->budget, sizeof(struct share));
	records_init(&t->words, t->budget, sizeof(struct word));
	chains_init(&t->by_word, t->budget, 1, t, word_hash, word_link);
	chains_init(&t->by_content, t->budget, 2, t, content_hash, content_link);
}

void content_fini(struct quire_tmem *t)
{
	records_fini(&t->shares);
	records_fini(&t->words);
	chains_fini(&t->by_word);
	chains_fini(&t->by_content);
}
