/* history_model.c - see history.h: which record has which number, and what was promised. */
#include "history.h"
#include "../support/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PATTERN_BYTES 65536u

static uint8_t pattern[2 * PATTERN_BYTES];

/* ---- life ---- */

void log_history_set_clock(struct history *h, uint64_t time_ns)
{
	clock_set_real(time_ns);
	if (h->n_late > 0 && h->last_max < time_ns)
		h->last_max = time_ns;
}

void log_history_begin(struct history *h, uint64_t seed, uint32_t max_len)
{
	memset(h->by_lsn, 0, (h->n_known + 1) * sizeof(h->by_lsn[0]));
	memset(h->times, 0, (h->n_known + 1) * sizeof(h->times[0]));
	h->seed = h->random = seed;
	h->max_len = max_len;
	h->dead = h->broken = h->faulty = h->settling = false;
	h->n_ids = h->n_batches = h->n_under_way = h->n_late = 0;
	h->n_known = h->n_settled = h->n_durable = h->first = h->first_max = h->last_min = h->last_max = 0;
	h->other = 0;
	log_history_set_clock(h, UINT64_C(1600000000000000000));
}

/* ---- failing ---- */

/* Told before anything else: a failed assertion in a coroutine may not come back. */
void log_history_fail(const struct history *h, const char *file, int line, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fprintf(stderr, "%s:%d: seed %llu: %s\n", file, line, (unsigned long long)h->seed, text);
	fflush(stderr);
	abort();
}

void look_at_power(struct history *h)
{
	h->dead |= h->power_is_gone(h->arg);
}

bool was_done(struct history *h, int64_t rc)
{
	look_at_power(h);
	if (rc >= 0 || rc == -ENOSPC || h->dead)
		return rc >= 0;
	if (!h->faulty)
		log_history_fail(h, __FILE__, __LINE__, "error %lld", (long long)rc);
	h->n_errors++;
	h->broken = true;
	return false;
}

/* ---- records ---- */

bool has_ids(const struct history *h, unsigned n)
{
	return h->n_ids + n <= HISTORY_IDS && h->n_under_way + n <= HISTORY_UNDER_WAY;
}

static uint64_t hash_of(const struct history *h, uint32_t id)
{
	uint64_t state = h->seed << 20 ^ id;

	return random_next(&state);
}

static uint32_t draw_len(struct history *h)
{
	uint64_t r = rnd(h, 64);

	return r < 4 ? (uint32_t)rnd(h, 9) : r == 4 ? h->max_len : (uint32_t)rnd(h, h->max_len);
}

void note_stamp(struct history *h)
{
	uint64_t now_ns = clock_real();

	h->last_min = h->last_min > now_ns ? h->last_min : now_ns;
	h->last_max = h->last_max > now_ns ? h->last_max : now_ns;
}

size_t key_of(unsigned key, char ret[16])
{
	return (size_t)snprintf(ret, 16, "%.*s%u", (int)(key % 7), "a key ", key);
}

struct note *note_new(struct history *h, uint32_t min_len)
{
	uint32_t id = h->n_ids++, len = draw_len(h);
	struct note *n = &h->notes[id];
	uint64_t hash = hash_of(h, id), state = 1;

	for (uint32_t i = 0; i < sizeof(pattern) && pattern[sizeof(pattern) - 1] == 0; i += 8) {
		uint64_t word = random_next(&state) | 1u | UINT64_C(1) << 63;
		memcpy(pattern + i, &word, sizeof(word));
	}
	if (len < min_len)
		len = min_len;
	*n = (struct note){.len_bytes = len, .own = id | hash << 32, .lsn = NO_LSN};
	uint32_t own = len < HISTORY_OWN_BYTES ? len : HISTORY_OWN_BYTES;
	n->parts[0] = (struct iovec){&n->own, own};
	n->parts[1] = (struct iovec){pattern + hash % PATTERN_BYTES, len - own};
	h->under_way[h->n_under_way++] = id;
	h->n_records++;
	note_stamp(h);
	n->time_min = h->last_min;
	n->time_max = h->last_max;
	return n;
}

static uint32_t id_of(const struct history *h, const struct note *n)
{
	return (uint32_t)(n - h->notes);
}

static void no_longer_under_way(struct history *h, uint32_t id)
{
	for (unsigned i = 0; i < h->n_under_way; i++) {
		if (h->under_way[i] != id)
			continue;
		h->under_way[i] = h->under_way[--h->n_under_way];
		return;
	}
}

/* Records of one batch are in its order. */
static void place(struct history *h, struct note *n, uint64_t lsn)
{
	uint32_t id = id_of(h, n);

	want(h, lsn < HISTORY_IDS && n->state != NOTE_GONE);
	want(h, h->by_lsn[lsn] == 0 || h->by_lsn[lsn] == id + 1);
	want(h, n->lsn == NO_LSN || n->lsn == lsn);
	for (uint32_t i = id; n->batch != 0 && i-- > 0 && n[(int)i - (int)id].batch == n->batch;)
		want(h, h->notes[i].lsn == NO_LSN || h->notes[i].lsn < lsn);
	for (uint32_t i = id + 1; n->batch != 0 && i < h->n_ids && h->notes[i].batch == n->batch; i++)
		want(h, h->notes[i].lsn == NO_LSN || h->notes[i].lsn > lsn);
	n->lsn = lsn;
	h->by_lsn[lsn] = id + 1;
	if (lsn >= h->n_known)
		h->n_known = lsn + 1;
}

void note_taken(struct history *h, struct note *n, uint64_t lsn)
{
	place(h, n, lsn);
	n->state = NOTE_TAKEN;
	no_longer_under_way(h, id_of(h, n));
}

void note_refused(struct history *h, struct note *n)
{
	want(h, n->lsn == NO_LSN);
	n->state = NOTE_GONE;
	no_longer_under_way(h, id_of(h, n));
}

void note_promised(struct history *h, uint64_t lsn)
{
	if (h->dead)
		return;
	want(h, quire_log_durable(h->log) > lsn);
	if (h->n_durable <= lsn)
		h->n_durable = lsn + 1;
}

bool note_returned(struct history *h, struct note *n, int64_t rc, uint64_t lsn, bool durable)
{
	bool done = was_done(h, rc);

	if (rc == 0) {
		note_taken(h, n, lsn);
		if (durable)
			note_promised(h, lsn);
	} else if (rc == -ENOSPC && quire_log_error(h->log) == 0) {
		note_refused(h, n);
	}
	/* Else it may be there. */
	return done;
}

/* ---- what is read ---- */

static bool is_same(const struct note *n, const struct quire_log_record *r)
{
	size_t own = n->parts[0].iov_len;
	char key[16];
	size_t key_bytes = n->key == 0 ? 0 : key_of(n->key, key);

	return r->key_bytes == key_bytes && (key_bytes == 0 || memcmp(r->key, key, key_bytes) == 0) &&
	       r->len_bytes == n->len_bytes && memcmp(r->data, &n->own, own) == 0 &&
	       memcmp((const uint8_t *)r->data + own, n->parts[1].iov_base, r->len_bytes - own) == 0;
}

static struct note *find(struct history *h, const struct quire_log_record *r)
{
	uint64_t own;

	if (h->by_lsn[r->lsn] != 0)
		return &h->notes[h->by_lsn[r->lsn] - 1];
	if (r->len_bytes >= sizeof(own)) {
		memcpy(&own, r->data, sizeof(own));
		want(h, (uint32_t)own < h->n_ids);
		return &h->notes[(uint32_t)own];
	}
	for (unsigned i = 0; i < h->n_under_way; i++) {
		struct note *n = &h->notes[h->under_way[i]];
		if (n->lsn == NO_LSN && is_same(n, r) && r->time_ns >= n->time_min &&
		    r->time_ns <= (n->late ? h->last_max : n->time_max))
			return n;
	}
	return NULL;
}

void expect(struct history *h, const struct quire_log_record *r)
{
	want(h, r->lsn < HISTORY_IDS);
	struct note *n = find(h, r);
	want(h, n != NULL);
	if (!is_same(n, r))
		log_history_fail(h, __FILE__, __LINE__, "record %llu, id %u, is not what was appended",
		             (unsigned long long)r->lsn, id_of(h, n));
	/* Two that are too short to say who they are may be taken for each other, while their calls are under way. */
	if (r->len_bytes < HISTORY_OWN_BYTES && h->by_lsn[r->lsn] == 0 && !h->settling)
		return;
	place(h, n, r->lsn);
	uint64_t time_max = n->late ? h->last_max : n->time_max;
	want(h, r->time_ns >= n->time_min && r->time_ns <= time_max);
	want(h, h->times[r->lsn] == 0 || h->times[r->lsn] == r->time_ns);
	h->times[r->lsn] = r->time_ns;
}

/* What was trimmed is not looked for. Records whose number isn't known yet were not there before, or may be anywhere. */
void expect_newest(struct history *h, unsigned key, uint64_t end, uint64_t lsn)
{
	uint64_t first = quire_log_first(h->log), at = end < h->n_known ? end : h->n_known;

	want(h, lsn == NO_LSN || lsn < HISTORY_IDS);
	want(h, lsn == NO_LSN || h->by_lsn[lsn] == 0 || h->notes[h->by_lsn[lsn] - 1].key == key);
	for (uint64_t from = lsn == NO_LSN || lsn < first ? first : lsn + 1; at > from; at--)
		want(h, h->by_lsn[at - 1] == 0 || h->notes[h->by_lsn[at - 1] - 1].key != key);
}

bool log_history_has(const struct history *h, const struct quire_log_record *r)
{
	uint64_t own;

	if (r->len_bytes < sizeof(own))
		return true;
	memcpy(&own, r->data, sizeof(own));
	if ((uint32_t)own >= h->n_ids)
		return false;
	const struct note *n = &h->notes[(uint32_t)own];
	return is_same(n, r) && (n->lsn == NO_LSN || n->lsn == r->lsn);
}

/* One after the other until there is none. -ESTALE: its place was trimmed. */
static int64_t read_on(struct history *h, struct quire_log_cursor *c, bool back)
{
	struct quire_log_record r;
	uint64_t lsn = quire_log_cursor_lsn(c);
	int64_t rc;

	while ((rc = back ? quire_log_prev(c, &r, NULL) : quire_log_next(c, &r, NULL)) == 1) {
		want(h, r.lsn == (back ? lsn - 1 : lsn));
		expect(h, &r);
		lsn = quire_log_cursor_lsn(c);
	}
	return rc;
}

bool read_all(struct history *h, uint64_t from, bool back, uint64_t *ret_end)
{
	struct quire_log_cursor *c;
	int64_t rc;

	want(h, quire_log_cursor_open(h->log, QUIRE_LOG_VISIBLE, &c) == 0);
	(void)quire_log_seek(c, from);
	while ((rc = read_on(h, c, false)) == -ESTALE)
		(void)quire_log_seek(c, quire_log_first(h->log));
	*ret_end = quire_log_cursor_lsn(c);
	if (rc == 0 && back) {
		rc = read_on(h, c, true);
		want(h, rc != 0 || quire_log_cursor_lsn(c) == quire_log_first(h->log));
		rc = rc == -ESTALE ? 0 : rc;
	}
	quire_log_cursor_close(c);
	return was_done(h, rc);
}

/* ---- after an opening ---- */

/* The model is what there is. */
static void take_over(struct history *h, uint64_t first, uint64_t n)
{
	uint64_t last = 0;

	for (uint64_t lsn = n; lsn < h->n_known; lsn++) {
		h->n_lost += h->by_lsn[lsn] != 0;
		h->by_lsn[lsn] = 0;
		h->times[lsn] = 0;
	}
	for (uint32_t id = 0; id < h->n_ids; id++)
		if (h->notes[id].lsn == NO_LSN || h->notes[id].lsn >= n || h->notes[id].lsn < first)
			h->notes[id].state = NOTE_GONE;
	for (uint64_t lsn = first; lsn < n; lsn++) {
		struct note *note = &h->notes[h->by_lsn[lsn] - 1];
		note->state = NOTE_TAKEN;
		note->time_min = note->time_max = h->times[lsn];
		note->late = false;
		last = h->times[lsn] > last ? h->times[lsn] : last;
	}
	h->n_under_way = 0;
	h->n_known = h->n_durable = h->n_settled = n;
	h->first = h->first_max = first;
	h->last_min = last;
	h->last_max = last > h->last_max ? last : h->last_max;
}

bool settle(struct history *h, bool for_good)
{
	struct quire_log *log = h->log;
	uint64_t n = quire_log_visible(log), first = quire_log_first(log), end;

	bool retains = h->retain_records != 0 || h->retain_bytes != 0;
	if (n < h->n_durable || first < h->first || (first > h->first_max && !retains) || first > n)
		log_history_fail(h, __FILE__, __LINE__, "%llu to %llu: promised %llu, trimmed %llu, perhaps %llu",
		             (unsigned long long)first, (unsigned long long)n, (unsigned long long)h->n_durable,
		             (unsigned long long)h->first, (unsigned long long)h->first_max);
	want(h, quire_log_durable(log) == n && quire_log_error(log) == 0);
	/* What retention leaves is not less than it was told, whatever was lost. */
	unsigned n_full = quire_log_segments(log, NULL, 0) - 1;
	want(h, first <= h->first_max || (n - first >= h->retain_records && n_full * (uint64_t)h->segment_bytes >= h->retain_bytes));
	/* What was read in an earlier life not in each again. */
	uint64_t from = rnd(h, 2) == 0 && h->n_settled > first ? h->n_settled : first;
	h->settling = for_good;
	bool all = read_all(h, from, rnd(h, 5) == 0, &end);
	h->settling = false;
	if (!all)
		return false;
	want(h, end == n);
	if (for_good)
		take_over(h, first, n);
	return true;
}

/* Nobody appends meanwhile, and all was read. */
void seek_times(struct history *h)
{
	struct quire_log *log = h->log;
	uint64_t first = quire_log_first(log), n = quire_log_visible(log);
	struct quire_log_cursor *c;

	if (n == first)
		return;
	want(h, quire_log_cursor_open(log, QUIRE_LOG_VISIBLE, &c) == 0);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t time = h->times[first + rnd(h, n - first)] + rnd(h, 2), lsn = first;
		while (lsn < n && h->times[lsn] < time)
			lsn++;
		if (!was_done(h, quire_log_seek_time(c, time)))
			break;
		want(h, quire_log_cursor_lsn(c) == lsn);
	}
	quire_log_cursor_close(c);
}
