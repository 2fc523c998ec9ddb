/* history_steps.c - what a coroutine of a history does next, by chance. A kind of step is a row of the table at the end, and a
 * function: it may suspend, and asks was_done() of what a call has returned. */
#include "history.h"
#include "../support/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
#define MAX_BATCH 12u

/* ---- appending ---- */

/* In a log with keys half of them have one. */
static struct note *note_with_key(struct history *h)
{
	struct note *n = note_new(h, 0);

	if (h->has_keys && rnd(h, 2) == 0)
		n->key = (uint8_t)(1 + rnd(h, HISTORY_KEYS));
	return n;
}

static void append_durable(struct history *h)
{
	uint64_t lsn = NO_LSN;

	if (!has_ids(h, 1))
		return;
	struct note *n = note_with_key(h);
	char key[16];
	size_t key_bytes = key_of(n->key, key);
	int rc = n->key == 0 ? quire_log_append(h->log, n->parts, 2, &lsn, NULL)
	                     : quire_log_append_key(h->log, key, key_bytes, n->parts, 2, &lsn, NULL);
	(void)note_returned(h, n, rc, lsn, true);
}

static bool append_one(struct history *h, uint64_t *ret_lsn)
{
	if (!has_ids(h, 1))
		return false;
	struct note *n = note_with_key(h);
	char key[16];
	size_t key_bytes = key_of(n->key, key);
	int rc = n->key == 0 ? quire_log_append_nowait(h->log, n->parts, 2, ret_lsn)
	                     : quire_log_append_key_nowait(h->log, key, key_bytes, n->parts, 2, ret_lsn);
	return note_returned(h, n, rc, *ret_lsn, false);
}

static bool append_some(struct history *h, uint64_t *ret_lsn)
{
	unsigned n = 1 + (unsigned)rnd(h, 8);

	while (n > 0 && append_one(h, ret_lsn))
		n--;
	return n == 0;
}

static void append_nowait(struct history *h)
{
	uint64_t lsn = NO_LSN;

	(void)append_some(h, &lsn);
}

static void append_and_sync(struct history *h)
{
	uint64_t lsn = NO_LSN;

	if (append_some(h, &lsn) && was_done(h, quire_log_sync(h->log, lsn, NULL)))
		note_promised(h, lsn);
}

/* Operations, all under way at once. */
static void append_with_ops(struct history *h)
{
	struct quire_op ops[4];
	struct note *notes[4];
	uint64_t lsns[4];
	int begun[4];

	if (!has_ids(h, 4))
		return;
	h->n_late++;
	for (unsigned i = 0; i < 4; i++) {
		notes[i] = note_new(h, 0);
		notes[i]->late = true;
		quire_op_init(&ops[i]);
		begun[i] = quire_log_append(h->log, notes[i]->parts, 2, &lsns[i], &ops[i]);
	}
	for (unsigned i = 0; i < 4; i++) {
		int64_t rc = begun[i] < 0 ? begun[i] : quire_await(&ops[i]);
		(void)note_returned(h, notes[i], rc, lsns[i], true);
	}
	h->n_late--;
}

/* Each has a name in its bytes, since others may come between them. */
static void append_batch(struct history *h)
{
	struct iovec records[MAX_BATCH];
	uint8_t *bytes[MAX_BATCH];
	struct note *notes[MAX_BATCH];
	unsigned n = 1 + (unsigned)rnd(h, MAX_BATCH);
	uint64_t first = NO_LSN, last = NO_LSN;

	if (!has_ids(h, n))
		return;
	h->n_batches++;
	h->n_late++;
	for (unsigned i = 0; i < n; i++) {
		notes[i] = note_new(h, HISTORY_OWN_BYTES);
		notes[i]->batch = h->n_batches;
		notes[i]->late = true;
		bytes[i] = malloc(notes[i]->len_bytes);
		memcpy(bytes[i], notes[i]->parts[0].iov_base, HISTORY_OWN_BYTES);
		memcpy(bytes[i] + HISTORY_OWN_BYTES, notes[i]->parts[1].iov_base, notes[i]->parts[1].iov_len);
		records[i] = (struct iovec){bytes[i], notes[i]->len_bytes};
	}
	int64_t taken = quire_log_append_many(h->log, records, n, &first, &last);
	h->n_late--;
	for (unsigned i = 0; i < n; i++)
		free(bytes[i]);
	bool full = taken == -ENOSPC || (taken > 0 && taken < n);
	if (was_done(h, taken)) {
		want(h, taken > 0 && taken <= n && last - first >= (uint64_t)taken - 1);
		for (unsigned i = 0; i < taken; i++)
			if (i == 0 || i + 1 == taken || last - first == (uint64_t)taken - 1)
				note_taken(h, notes[i], i + 1 == taken ? last : first + i);
	}
	for (unsigned i = taken < 0 ? 0 : (unsigned)taken; i < n && full && quire_log_error(h->log) == 0; i++)
		note_refused(h, notes[i]);
	if (taken > 0 && rnd(h, 2) == 0 && was_done(h, quire_log_sync(h->log, last, NULL)))
		note_promised(h, last);
}

static void append_too_much(struct history *h)
{
	static const uint8_t zeros[1u << 17];
	uint64_t lsn = 7;
	struct iovec iov = {(void *)(uintptr_t)zeros, quire_log_max_record(h->log) + 1 + rnd(h, 2000)};

	want(h, iov.iov_len <= sizeof(zeros));

	note_stamp(h);
	want(h, quire_log_append(h->log, &iov, 1, &lsn, NULL) == -EMSGSIZE && lsn == 7);
}

/* ---- removing ---- */

static void trim(struct history *h)
{
	uint64_t visible = quire_log_visible(h->log), first = quire_log_first(h->log);
	uint64_t lsn = first + rnd(h, visible - first + 1);

	if (h->first_max < lsn)
		h->first_max = lsn;
	int64_t n = quire_log_trim(h->log, lsn);
	if (was_done(h, n))
		want(h, h->retain_records != 0 || h->retain_bytes != 0 || quire_log_first(h->log) <= h->first_max);
}

static void retain(struct history *h)
{
	(void)was_done(h, quire_log_retain(h->log));
}

/* To the other class, or back; where there is one class alone there is nothing to do. */
static void destage(struct history *h)
{
	uint64_t lsn = rnd(h, quire_log_visible(h->log) + 1);
	bool away = rnd(h, 4) != 0 || h->other_cls == h->cls;

	(void)was_done(h, quire_log_destage(h->log, lsn, away ? h->other_cls : h->cls, NULL));
}

/* ---- reading ---- */

static void read_about(struct history *h)
{
	struct quire_log *log = h->log;
	enum quire_log_mark mark = rnd(h, 2) == 0 ? QUIRE_LOG_VISIBLE : QUIRE_LOG_DURABLE;
	struct quire_log_cursor *c;
	struct quire_log_record r;
	uint64_t first = quire_log_first(log), end = mark == QUIRE_LOG_DURABLE ? quire_log_durable(log) : quire_log_visible(log);

	want(h, quire_log_cursor_open(log, mark, &c) == 0);
	int64_t rc = quire_log_seek(c, first + rnd(h, end - first + 1));
	for (unsigned n = (unsigned)rnd(h, 20); n > 0 && rc >= 0; n--) {
		uint64_t lsn = quire_log_cursor_lsn(c);
		bool back = rnd(h, 3) == 0;
		rc = back ? quire_log_prev(c, &r, NULL) : quire_log_next(c, &r, NULL);
		if (rc != 1)
			continue;
		want(h, r.lsn == (back ? lsn - 1 : lsn) && r.lsn < quire_log_visible(log));
		want(h, mark == QUIRE_LOG_VISIBLE || r.lsn < quire_log_durable(log));
		expect(h, &r);
		/* Another may change the log while what it pins is looked at again. */
		if (rnd(h, 8) == 0) {
			quire_co_yield();
			expect(h, &r);
		}
	}
	quire_log_cursor_close(c);
	if (rc != -ESTALE)
		(void)was_done(h, rc);
}

static void find_key(struct history *h)
{
	enum quire_log_mark mark = rnd(h, 2) == 0 ? QUIRE_LOG_VISIBLE : QUIRE_LOG_DURABLE;
	unsigned key = 1 + (unsigned)rnd(h, HISTORY_KEYS);
	uint64_t end = mark == QUIRE_LOG_DURABLE ? quire_log_durable(h->log) : quire_log_visible(h->log), lsn = NO_LSN;
	char bytes[16];
	size_t key_bytes = key_of(key, bytes);

	if (!h->has_keys)
		return;
	int rc = quire_log_find_key(h->log, mark, bytes, key_bytes, &lsn, NULL);
	if (rc == -ENOENT || was_done(h, rc))
		expect_newest(h, key, end, rc == 0 ? lsn : NO_LSN);
}

static void wait_for_mark(struct history *h)
{
	struct quire_log *log = h->log;
	uint64_t lsn = quire_log_visible(log);
	struct quire_op op;

	if (lsn == 0)
		return;
	want(h, quire_log_wait(log, QUIRE_LOG_VISIBLE, lsn - 1, NULL) == 0);
	quire_op_init(&op);
	int64_t rc = quire_log_wait(log, QUIRE_LOG_DURABLE, lsn + rnd(h, 3), &op);
	quire_co_yield();
	if (rc == 0) {
		(void)quire_op_cancel(&op);
		rc = quire_await(&op);
	}
	if (rc != -ECANCELED)
		(void)was_done(h, rc);
}

/* ---- around it ---- */

static void compact(struct history *h)
{
	int rc = store_compact(h->store);

	h->n_compactions += rc == 0;
	(void)was_done(h, rc);
}

/* A store has any number of logs; the others' segments come out of the same space. */
static void make_or_remove_other(struct history *h)
{
	struct quire_log_options o = {.size = sizeof(o), .segment_bytes = h->segment_bytes, .cls = h->cls};
	struct quire_store *s = store_public(h->store);
	int was = h->other;

	if (was < 0) /* another coroutine is at it */
		return;
	h->other = -1;
	int rc = was ? quire_log_rm(s, "other", NULL) : quire_log_create(s, "other", &o, NULL);
	if (was_done(h, rc))
		h->other = !was;
	else if (rc == -ENOSPC && store_error(h->store) == 0)
		h->other = was;
}

/* Back by years, or on by years and back with a later step. */
static void set_clock(struct history *h)
{
	static const uint64_t steps[] = {1, SECOND, 3600 * SECOND, 5 * 365 * 86400 * SECOND};
	uint64_t step = steps[rnd(h, 4)], now = clock_real();

	log_history_set_clock(h, rnd(h, 2) == 0 && now > 2 * step ? now - step : now < UINT64_MAX / 4 ? now + step : now);
}

static void found(void *arg, int error, uint64_t id, unsigned class_no, uint64_t offset, const char *text)
{
	(void)fprintf(stderr, "found %d, object %llu, class %u, offset %llu: %s\n", error, (unsigned long long)id, class_no,
	              (unsigned long long)offset, text);
	(void)arg;
}

static void check(struct history *h)
{
	struct store_check quiet = {.found = NULL}, loud = {.found = found};
	int64_t n = store_check(h->store, &quiet);

	look_at_power(h);
	if (n != 0 && !h->dead && !h->faulty)
		log_history_fail(h, __FILE__, __LINE__, "%lld findings, %lld again", (long long)n,
		                 (long long)store_check(h->store, &loud));
}

static void die(struct history *h)
{
	if (h->dead || h->die == NULL)
		return;
	h->die(h->arg);
	look_at_power(h);
}

static void pause_a_turn(struct history *h)
{
	quire_co_yield();
	look_at_power(h);
}

/* What the log says is durable is promised as well as what a call has answered. */
static void note_watermark(struct history *h)
{
	look_at_power(h);
	uint64_t n = h->dead ? 0 : quire_log_durable(h->log);

	if (n > 0)
		note_promised(h, n - 1);
}

/* ---- by chance ---- */

struct step_kind {
	unsigned weight;
	void (*run)(struct history *h);
};

static const struct step_kind kinds[] = {
	{30, append_durable},
	{24, append_nowait},
	{12, append_and_sync},
	{6, append_with_ops},
	{10, append_batch},
	{1, append_too_much},
	{4, trim},
	{1, retain},
	{4, destage},
	{8, read_about},
	{4, find_key},
	{2, wait_for_mark},
	{2, compact},
	{2, make_or_remove_other},
	{2, set_clock},
	{1, check},
	{1, die},
	{8, pause_a_turn},
};

void log_step(struct history *h)
{
	unsigned all = 0, i = 0;

	for (unsigned k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		all += kinds[k].weight;
	for (unsigned at = (unsigned)rnd(h, all); at >= kinds[i].weight; i++)
		at -= kinds[i].weight;
	kinds[i].run(h);
	note_watermark(h);
	log_history_set_clock(h, clock_real() + rnd(h, 3));
}
