/* face_log.c - a log: appended to in all ways, trimmed, destaged, read by cursors; and a follower, which stays at the durable end. The
 * steps and the model are those of tests/log/history.h. */
#include "world.h"

#include "../log/history.h"

#include <errno.h>
#include <stdlib.h>

#define LOG_NAME "events"
#define SEGMENT_BYTES 65536u
#define MAX_RECORD 61000u
#define MOST_SEGMENTS 128u /* more than the media have room for */

struct log_state {
	struct history h;
	struct quire_log_cursor *follower; /* owned; while the log is open */
	uint64_t follower_lsn;
};

static struct log_state *state_of(struct world *w)
{
	return w->faces[FACE_LOG];
}

/* Where there is persistent memory the log is there, and moves on to staging if that is there. */
static enum quire_class class_of(const struct world *w)
{
	return w->e.sims[QUIRE_CLASS_PMEM] != NULL ? QUIRE_CLASS_PMEM : QUIRE_CLASS_CAPACITY;
}

/* On two of the four layouts, one of them with persistent memory. */
static bool has_keys(const struct world *w)
{
	return w->e.sims[QUIRE_CLASS_STAGING] == NULL;
}

static void format(struct world *w)
{
	struct quire_log_options o = {.size = sizeof(o), .segment_bytes = SEGMENT_BYTES, .cls = class_of(w), .keys = has_keys(w)};

	must(w, quire_log_create(store_public(w->e.store), LOG_NAME, &o, NULL) == 0);
}

static void begin(struct world *w)
{
	static const uint32_t sizes[] = {60, 400, 2000, 6000, 20000, MAX_RECORD};
	uint64_t random = w->plan.seed;

	if (w->faces[FACE_LOG] == NULL)
		w->faces[FACE_LOG] = calloc(1, sizeof(struct log_state));
	struct log_state *s = state_of(w);
	must(w, s != NULL);
	struct history *h = &s->h;
	h->segment_bytes = SEGMENT_BYTES;
	h->power_is_gone = world_power_is_gone;
	h->arg = w;
	h->cls = class_of(w);
	h->has_keys = has_keys(w);
	h->other_cls = w->e.sims[QUIRE_CLASS_STAGING] != NULL ? QUIRE_CLASS_STAGING : QUIRE_CLASS_CAPACITY;
	log_history_begin(h, w->plan.seed, sizes[random_below(&random, 6)]);
}

static bool open_log(struct world *w)
{
	struct history *h = &state_of(w)->h;
	int rc = quire_log_open(store_public(w->e.store), LOG_NAME, NULL, &h->log, &w->e.err);

	if (rc < 0) {
		h->log = NULL;
		world_say(w, "log: %d %s", rc, w->e.err.text);
	}
	h->store = w->e.store;
	return rc == 0 || !world_excuses(w, rc);
}

static void close_log(struct world *w)
{
	struct log_state *s = state_of(w);
	uint64_t n = quire_log_visible(s->h.log), first = quire_log_first(s->h.log);

	struct quire_log_stat stat;

	quire_log_cursor_close(s->follower);
	s->follower = NULL;
	if (quire_log_stat(s->h.log, &stat) == 0) {
		w->sums[SUM_SEALED] += stat.n_seals;
		w->sums[SUM_DESTAGED] += stat.info.n_destaged;
	}
	if (!world_power_is_gone(w) && s->h.first < first)
		s->h.first = first;
	int rc = quire_log_close(s->h.log);
	s->h.log = NULL;
	must(w, rc != -EBUSY);
	if (rc == 0 && !world_power_is_gone(w))
		s->h.n_durable = n;
	else
		(void)world_excuses(w, rc);
}

static void find_other(struct world *w)
{
	struct history *h = &state_of(w)->h;
	struct quire_log_info info;
	int there = quire_log_find(store_public(w->e.store), "other", &info) == 0;

	must(w, h->other < 0 || h->other == there);
	h->other = there;
}

static bool open_face(struct world *w)
{
	struct log_state *s = state_of(w);

	s->h.dead = s->h.broken = false;
	s->h.faulty = w->faulty;
	s->h.random = w->life->random;
	if (!open_log(w))
		return false;
	find_other(w);
	if (!settle(&s->h, true)) {
		close_log(w);
		return false;
	}
	s->follower_lsn = 0;
	return true;
}

/* Reads on to what is durable now. */
static void follow(struct world *w)
{
	struct log_state *s = state_of(w);
	struct history *h = &s->h;
	struct quire_log_record r;
	int64_t rc = 0;

	if (s->follower == NULL) {
		rc = quire_log_cursor_open(h->log, QUIRE_LOG_DURABLE, &s->follower);
		if (rc == 0)
			(void)quire_log_seek(s->follower, quire_log_first(h->log));
		else
			s->follower = NULL;
	}
	for (unsigned n = 0; n < 20 && rc >= 0 && s->follower != NULL; n++) {
		uint64_t lsn = quire_log_cursor_lsn(s->follower);
		rc = quire_log_next(s->follower, &r, NULL);
		if (rc == 0)
			break;
		if (rc == -ESTALE)
			rc = quire_log_seek(s->follower, quire_log_first(h->log));
		else if (rc == 1) {
			must(w, r.lsn == lsn && lsn < quire_log_durable(h->log));
			expect(h, &r);
		}
	}
	if (rc != -ESTALE)
		(void)was_done(h, rc);
}

static bool step(struct world *w, unsigned worker, uint64_t random)
{
	struct log_state *s = state_of(w);

	if (s->h.dead || s->h.broken)
		return false;
	s->h.random = random;
	/* A cursor is used by one at a time. */
	if (worker == 0 && rnd(&s->h, 8) == 0)
		follow(w);
	else
		log_step(&s->h);
	return !world_power_is_gone(w);
}

/* What its segments are told to have, while the log is read from its beginning. */
struct told {
	struct quire_log_segment segments[MOST_SEGMENTS];
	unsigned n, at;
	uint64_t latest_ns; /* of those of segments[at] that were read */
};

static void must_be_as_told(struct world *w, struct told *t, const struct quire_log_record *r)
{
	while (t->at < t->n && t->segments[t->at].end_lsn <= r->lsn)
		t->at++;
	const struct quire_log_segment *s = &t->segments[t->at];
	if (t->at == t->n || !s->sealed)
		return;
	must(w, s->first_lsn <= r->lsn);
	if (r->lsn == s->first_lsn) {
		must(w, r->time_ns == s->first_time_ns);
		t->latest_ns = 0;
	}
	t->latest_ns = r->time_ns > t->latest_ns ? r->time_ns : t->latest_ns;
	must(w, t->latest_ns <= s->last_time_ns);
	must(w, r->lsn + 1 != s->end_lsn || t->latest_ns == s->last_time_ns);
}

/* Records that are there are such as were appended, and segments have of them what they are told to have. */
static unsigned look(struct world *w)
{
	struct history *h = &state_of(w)->h;
	struct quire_log_cursor *c;
	struct quire_log_record r;
	struct told told = {.n = 0};
	int64_t rc = quire_log_open(store_public(w->e.store), LOG_NAME, NULL, &h->log, &w->e.err);

	if (rc < 0) {
		world_say(w, "log: %lld %s", (long long)rc, w->e.err.text);
		h->log = NULL;
		return 1;
	}
	told.n = quire_log_segments(h->log, told.segments, MOST_SEGMENTS);
	must(w, told.n <= MOST_SEGMENTS);
	must(w, quire_log_cursor_open(h->log, QUIRE_LOG_VISIBLE, &c) == 0);
	while ((rc = quire_log_next(c, &r, NULL)) == 1) {
		must(w, log_history_has(h, &r));
		must_be_as_told(w, &told, &r);
	}
	quire_log_cursor_close(c);
	(void)quire_log_close(h->log);
	h->log = NULL;
	return rc < 0;
}

static void end(struct world *w)
{
	struct history *h = &state_of(w)->h;

	w->sums[SUM_RECORDS] += h->n_records;
	w->sums[SUM_LOST] += h->n_lost;
	h->n_records = h->n_lost = 0;
}

const struct face_ops log_face = {.begin = begin, .format = format, .open = open_face, .step = step, .close = close_log, .look = look, .end = end};
