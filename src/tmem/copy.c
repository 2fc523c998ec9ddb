/* copy.c - a pool page by page, while calls on it go on.
 *
 * Purpose: whoever receives the pages ends with exactly what the pool holds, though others put and flush meanwhile.
 *
 * At the beginning the pool's spans are listed, by their numbers. The walk goes through that list. Each page that comes or goes after
 * the beginning is noted in a log of its keys; before the walk goes on, what the log has is handed out: the page as it is now, or that it
 * is gone. So when the walk has ended and the log is empty, under the lock, the receiver has what the pool has.
 *
 * A span of the list may have gone since, and its number may be another's: its pages are handed out all the same, if it is the pool's;
 * what is handed out is always what is there now. All of its pages that were not there at the beginning are in the log as well.
 *
 * The log is bounded. If it overflows, the copy has failed.
 *
 * Threads: the tmem's lock guards the log; all else is of who copies, one at a time.
 */
#include "copy.h"

#include "../base/crc32c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_LOG_ENTRIES 4096u
#define MOST_LOG_ENTRIES (1u << 24)

struct quire_tmem_copy {
	struct quire_tmem_pool *pool; /* borrowed */
	bool shares;
	uint32_t *spans;              /* owned */
	uint32_t n_spans, at_span, spans_capacity;
	struct {
		struct tmem_object object;
		uint16_t high;
		uint16_t *lows;           /* owned */
		uint32_t n, at, capacity;
	} span;                       /* the one that the walk is in */
	struct quire_tmem_key *log;   /* owned; a ring */
	uint32_t log_first, n_log, log_entries, log_capacity; /* entries: that were asked for */
	bool overflowed;
	uint16_t stamp;               /* of shares that were handed out */
	uint32_t *ordinals;           /* owned: by a share's number, if it has the stamp */
	uint32_t n_ordinals, ordinals_capacity;
	uint64_t charged_bytes;
	struct workspace *w;          /* owned; NULL until it is needed */
};

/* ---- memory ---- */

/* At least n elements; false: no memory. */
static bool reserve(struct quire_tmem_copy *c, void *array, uint32_t *capacity, uint64_t n, size_t element_bytes)
{
	void **at = array;
	uint64_t wanted = n + n / 4 + 16;

	if (n <= *capacity)
		return true;
	uint64_t more = (wanted - *capacity) * element_bytes;
	if (wanted > UINT32_MAX || !budget_try_charge(c->pool->tmem->budget, BUDGET_TMEM, more))
		return false;
	void *grown = realloc(*at, wanted * element_bytes);
	if (grown == NULL) {
		budget_uncharge(c->pool->tmem->budget, BUDGET_TMEM, more);
		return false;
	}
	*at = grown;
	*capacity = (uint32_t)wanted;
	c->charged_bytes += more;
	return true;
}

static void free_copy(struct quire_tmem_copy *c)
{
	budget_uncharge(c->pool->tmem->budget, BUDGET_TMEM, c->charged_bytes);
	free(c->spans);
	free(c->span.lows);
	free(c->log);
	free(c->ordinals);
	if (c->w != NULL)
		tmem_put_workspace(c->pool->tmem, c->w);
	free(c);
}

/* ---- the log; lock held ---- */

static bool same_key(const struct quire_tmem_key *a, const struct quire_tmem_key *b)
{
	return a->index == b->index && memcmp(a->object, b->object, sizeof(a->object)) == 0;
}

void tmem_copy_note(struct quire_tmem_pool *pool, uint32_t span, uint16_t low)
{
	struct quire_tmem_copy *c = pool->copy;
	const struct span *s = span_at(&pool->tmem->spans, span);
	struct quire_tmem_key key = {.index = (uint32_t)s->high << 16 | low};

	memcpy(key.object, s->object.words, sizeof(key.object));
	if (c->n_log > 0 && same_key(&c->log[(c->log_first + c->n_log - 1) % c->log_capacity], &key))
		return;
	if (c->n_log == c->log_entries) {
		c->overflowed = true;
		return;
	}
	c->log[(c->log_first + c->n_log++) % c->log_capacity] = key;
}

/* ---- the walk; lock held ---- */

static void add_low(void *arg, uint16_t low, uint32_t value)
{
	struct quire_tmem_copy *c = arg;

	(void)value;
	c->span.lows[c->span.n++] = low;
}

/* 1: there are pages; 0: the walk has ended; -ENOMEM. */
static int enter_next_span(struct quire_tmem_copy *c)
{
	const struct spans *x = &c->pool->tmem->spans;

	for (; c->at_span < c->n_spans; c->at_span++) {
		uint32_t no = c->spans[c->at_span];
		if (!records_there(&x->records, no))
			continue;
		const struct span *s = span_at(x, no);
		if (s->pool != c->pool->no || s->n_pages == 0)
			continue;
		if (!reserve(c, &c->span.lows, &c->span.capacity, s->n_pages, sizeof(c->span.lows[0])))
			return -ENOMEM;
		c->span.object = s->object;
		c->span.high = s->high;
		c->span.n = c->span.at = 0;
		spans_each(x, no, add_low, c);
		c->at_span++;
		return 1;
	}
	return 0;
}

static int next_key(struct quire_tmem_copy *c, struct quire_tmem_key *ret, bool *ret_logged)
{
	*ret_logged = c->n_log > 0;
	if (c->n_log > 0) {
		*ret = c->log[c->log_first];
		c->log_first = (c->log_first + 1) % c->log_capacity;
		c->n_log--;
		return 1;
	}
	if (c->span.at == c->span.n) {
		int rc = enter_next_span(c);
		if (rc <= 0)
			return rc;
	}
	memcpy(ret->object, c->span.object.words, sizeof(ret->object));
	ret->index = (uint32_t)c->span.high << 16 | c->span.lows[c->span.at++];
	return 1;
}

/* ---- a step ---- */

/* True: it is to be handed out; else it was before, as ret says. */
static bool look_at_share(struct quire_tmem_copy *c, uint32_t value, struct copied *ret)
{
	struct share *s = records_at(&c->pool->tmem->shares, value & VALUE_NO);

	if (s->copied == c->stamp) {
		ret->kind = COPIED_AGAIN;
		ret->word = c->ordinals[value & VALUE_NO];
		return false;
	}
	s->copied = c->stamp;
	ret->shared = true;
	ret->word = c->ordinals[value & VALUE_NO] = c->n_ordinals++;
	return true;
}

static void pin_value(struct quire_tmem_copy *c, uint32_t value, uint16_t low, struct copied *ret)
{
	struct quire_tmem *t = c->pool->tmem;

	ret->kind = COPIED_CONTENT;
	if (c->shares && value_is_share(value) && !look_at_share(c, value, ret))
		return;
	uint64_t word = 0;
	ret->place = content_place(t, value, &word);
	if (ret->place == PLACE_NONE) {
		ret->kind = COPIED_WORD;
		ret->word = word;
		return;
	}
	const struct slot_head *h = storage_at(&t->storage, ret->place);
	storage_pin(&t->storage, ret->place);
	ret->is_away = h->codec == CODEC_AWAY;
	if (ret->is_away)
		ret->from = tmem_away_pin(t, ret->place);
	ret->codec = ret->is_away ? ret->from.codec : (enum slot_codec)h->codec;
	ret->is_cold = ret->codec == CODEC_ZSTD;
	if (ret->is_cold)
		ret->packed = tmem_packed(t, h, low);
	ret->bytes = (const uint8_t *)(h + 1);
	ret->len = slot_len(h);
	ret->check = h->check;
}

/* The next page that there is something to say of, pinned. */
static int find_next(struct quire_tmem_copy *c, struct copied *ret)
{
	struct where at = {.value = VALUE_NONE};
	bool logged = false;
	int rc = 1;

	if (c->overflowed)
		return -EOVERFLOW;
	*ret = (struct copied){.place = PLACE_NONE};
	uint32_t n_shares = c->shares ? c->pool->tmem->shares.n : 0;
	if (!reserve(c, &c->ordinals, &c->ordinals_capacity, n_shares, sizeof(c->ordinals[0])))
		return -ENOMEM;
	while (at.value == VALUE_NONE && !logged) {
		rc = next_key(c, &ret->key, &logged);
		ret->word = rc == 0 ? c->pool->n_pages : 0;
		if (rc <= 0)
			return rc;
		at = tmem_page_find(c->pool, &ret->key);
		/* What is remote is none of the copy. */
		if (at.value != VALUE_NONE && tmem_is_stub(c->pool->tmem, at.value))
			at.value = VALUE_NONE;
	}
	if (at.value != VALUE_NONE)
		pin_value(c, at.value, at.low, ret);
	return 1;
}

/* Memory for the copy, of what may leave. */
static bool make_room(struct quire_tmem *t)
{
	return tmem_evict_for(t) || tmem_spill_any(t);
}

/* What zstd packed, perhaps with neighbours, is packed by itself. */
static int repack(struct quire_tmem_copy *c, struct copied *ret)
{
	struct quire_tmem *t = c->pool->tmem;
	uint32_t n_bytes = c->pool->o.page_bytes;

	if (c->w == NULL)
		c->w = tmem_get_workspace(t, n_bytes);
	if (c->w == NULL)
		return -ENOMEM;
	if (!tmem_unpack(t, &ret->packed, c->w->page, n_bytes))
		return -EBADMSG;
	ret->len = codec_pack(c->w, c->w->page, n_bytes);
	ret->codec = ret->len > 0 ? CODEC_LZ4 : CODEC_RAW;
	ret->bytes = ret->len > 0 ? c->w->packed : c->w->page;
	if (ret->len == 0)
		ret->len = n_bytes;
	ret->check = crc32c(0, ret->bytes, ret->len);
	return 0;
}

/* Its bytes, to be handed out. */
static int fetch(struct quire_tmem_copy *c, struct copied *ret)
{
	int rc = 0;

	if (ret->place == PLACE_NONE)
		return 0;
	if (ret->is_cold)
		return repack(c, ret);
	if (ret->is_away) {
		rc = tmem_away_read(c->pool->tmem, &ret->from, ret->len, &ret->away);
		ret->bytes = ret->away.bytes;
	}
	return rc == 0 && crc32c(0, ret->bytes, ret->len) != ret->check ? -EBADMSG : rc;
}

int tmem_copy_step(struct quire_tmem_copy *c, struct copied *ret)
{
	struct quire_tmem *t = c->pool->tmem;

	pthread_mutex_lock(&t->lock);
	int rc;
	do
		rc = find_next(c, ret);
	while (rc == -ENOMEM && make_room(t));
	pthread_mutex_unlock(&t->lock);
	if (rc <= 0)
		return rc;
	rc = fetch(c, ret);
	if (rc < 0)
		tmem_copy_done(c, ret);
	return rc < 0 ? rc : 1;
}

void tmem_copy_done(struct quire_tmem_copy *c, struct copied *copied)
{
	struct quire_tmem *t = c->pool->tmem;

	if (copied->place == PLACE_NONE)
		return;
	if (copied->is_away)
		tmem_away_read_end(t, &copied->away);
	pthread_mutex_lock(&t->lock);
	if (copied->is_away)
		tmem_away_unpin(t, &copied->from);
	storage_unpin(&t->storage, copied->place);
	pthread_mutex_unlock(&t->lock);
}

/* ---- life ---- */

static void new_stamp(struct quire_tmem_copy *c)
{
	struct quire_tmem *t = c->pool->tmem;

	if (++t->copy_stamp == 0) {
		for (uint32_t i = 0; i < t->shares.n; i++)
			if (records_there(&t->shares, i))
				((struct share *)records_at(&t->shares, i))->copied = 0;
		t->copy_stamp = 1;
	}
	c->stamp = t->copy_stamp;
}

/* 0, or -ENOMEM: once more. */
static int prepare(struct quire_tmem_copy *c)
{
	const struct spans *x = &c->pool->tmem->spans;
	uint32_t n = 0;

	for (uint32_t no = c->pool->spans; no != SPAN_NONE; no = span_at(x, no)->older)
		n++;
	if (!reserve(c, &c->log, &c->log_capacity, c->log_entries, sizeof(c->log[0])) ||
	    !reserve(c, &c->spans, &c->spans_capacity, n, sizeof(c->spans[0])))
		return -ENOMEM;
	for (uint32_t no = c->pool->spans; no != SPAN_NONE; no = span_at(x, no)->older)
		c->spans[c->n_spans++] = no;
	return 0;
}

int tmem_copy_begin(struct quire_tmem_pool *pool, const struct quire_tmem_copy_options *opts, bool shares,
                    struct quire_tmem_copy **ret_copy)
{
	struct quire_tmem_copy_options o = {0};
	struct quire_tmem *t = pool->tmem;

	if (opts != NULL && (opts->size == 0 || opts->size > sizeof(o)))
		return -EINVAL;
	if (opts != NULL)
		memcpy(&o, opts, opts->size);
	if (o.log_entries > MOST_LOG_ENTRIES)
		return -EINVAL;
	/* Nothing should leave for what can't be had. */
	if (o.log_entries * sizeof(struct quire_tmem_key) > budget_limit(t->budget) / 4)
		return -ENOMEM;
	struct quire_tmem_copy *c = calloc(1, sizeof(*c));
	if (c == NULL)
		return -ENOMEM;
	c->pool = pool;
	c->shares = shares;
	c->log_entries = o.log_entries != 0 ? o.log_entries : DEFAULT_LOG_ENTRIES;
	pthread_mutex_lock(&t->lock);
	int rc;
	do
		rc = pool->copy != NULL ? -EBUSY : prepare(c);
	while (rc == -ENOMEM && make_room(t));
	if (rc == 0) {
		new_stamp(c);
		pool->copy = c;
	}
	pthread_mutex_unlock(&t->lock);
	if (rc < 0) {
		free_copy(c);
		return rc;
	}
	*ret_copy = c;
	return 0;
}

int quire_tmem_copy_begin(struct quire_tmem_pool *pool, const struct quire_tmem_copy_options *opts,
                          struct quire_tmem_copy **ret_copy)
{
	return tmem_is_of_parent(pool->tmem) ? -ECHILD : tmem_copy_begin(pool, opts, false, ret_copy);
}

int quire_tmem_copy_next(struct quire_tmem_copy *c, struct quire_tmem_key *ret_key, void *page)
{
	uint32_t n_bytes = c->pool->o.page_bytes;
	struct copied copied;
	if (tmem_is_of_parent(c->pool->tmem))
		return -ECHILD;
	int rc = tmem_copy_step(c, &copied);

	if (rc != 0)
		*ret_key = copied.key;
	if (rc <= 0)
		return rc;
	if (copied.kind == COPIED_WORD)
		codec_fill(page, n_bytes, copied.word);
	else if (copied.kind == COPIED_CONTENT && !codec_unpack(copied.codec, copied.bytes, copied.len, page, n_bytes))
		rc = -EBADMSG;
	tmem_copy_done(c, &copied);
	return rc < 0 ? rc : copied.kind == COPIED_GONE ? QUIRE_TMEM_COPY_GONE : QUIRE_TMEM_COPY_PAGE;
}

void quire_tmem_copy_end(struct quire_tmem_copy *c)
{
	if (c == NULL || tmem_is_of_parent(c->pool->tmem))
		return;
	pthread_mutex_lock(&c->pool->tmem->lock);
	c->pool->copy = NULL;
	pthread_mutex_unlock(&c->pool->tmem->lock);
	free_copy(c);
}
