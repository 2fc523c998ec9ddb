/* face_mdc.c - a metadata container: appended to, synced, compacted, opened again.
 *
 * The model is a list of numbers, each of a record whose bytes follow from it; how many of them are durable; and, while a compaction
 * ends, the list that would take its place. After a crash the container holds a beginning of the one, with all that is durable, or all
 * of the other. */
#include "world.h"

#include <errno.h>
#include <quire/mdc.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_BYTES (48u << 10)
#define MAX_RECORDS 512u
#define MAX_BYTES 2000u

struct list {
	uint32_t numbers[MAX_RECORDS];
	unsigned n;
};

struct mdc_state {
	struct quire_mdc *mdc; /* owned; NULL: not open */
	struct list now, next; /* next: what cend would leave */
	unsigned n_durable;    /* of now */
	bool ending;           /* a cend has been called, and what became of it is not known */
	uint32_t next_number;
	uint64_t random;
};

static uint64_t ids[4]; /* of the containers of each image */

static struct mdc_state *state_of(struct world *w)
{
	return w->faces[FACE_MDC];
}

static uint64_t draw(struct mdc_state *s, uint64_t n)
{
	return random_below(&s->random, n);
}

/* A record: its number, and bytes that follow from it; how long it is does, too. */
static size_t fill(uint32_t number, uint8_t ret[MAX_BYTES])
{
	uint64_t state = number;
	size_t len = sizeof(number) + random_next(&state) % (number % 8 == 0 ? MAX_BYTES - sizeof(number) : 60);

	memcpy(ret, &number, sizeof(number));
	for (size_t i = sizeof(number); i < len; i++)
		ret[i] = (uint8_t)random_next(&state);
	return len;
}

static void format(struct world *w)
{
	enum quire_class cls = w->e.sims[QUIRE_CLASS_PMEM] != NULL ? QUIRE_CLASS_PMEM : QUIRE_CLASS_CAPACITY;

	must(w, quire_mdc_create(store_public(w->e.store), cls, CAPACITY_BYTES, &ids[w->plan.image]) == 0);
}

static void begin(struct world *w)
{
	if (w->faces[FACE_MDC] == NULL)
		w->faces[FACE_MDC] = calloc(1, sizeof(struct mdc_state));
	struct mdc_state *s = state_of(w);
	must(w, s != NULL);
	s->now.n = s->next.n = s->n_durable = 0;
	s->ending = false;
	s->next_number = 1;
}

/* ---- what there is ---- */

struct reading {
	struct world *w;
	struct list found;
};

static int hear(void *arg, const void *record, size_t len_bytes)
{
	struct reading *r = arg;
	uint8_t expected[MAX_BYTES];
	uint32_t number;

	must(r->w, len_bytes >= sizeof(number) && r->found.n < MAX_RECORDS);
	memcpy(&number, record, sizeof(number));
	must(r->w, number != 0 && number < state_of(r->w)->next_number);
	must(r->w, fill(number, expected) == len_bytes && memcmp(expected, record, len_bytes) == 0);
	r->found.numbers[r->found.n++] = number;
	return 0;
}

static bool begins_with(const struct list *list, const struct list *with)
{
	return with->n <= list->n && memcmp(list->numbers, with->numbers, with->n * sizeof(with->numbers[0])) == 0;
}

static void settle(struct world *w, const struct list *found)
{
	struct mdc_state *s = state_of(w);
	bool is_old = begins_with(&s->now, found) && found->n >= s->n_durable;
	bool is_new = s->ending && found->n == s->next.n && begins_with(&s->next, found);

	if (!is_old && !is_new)
		world_fail(w, __FILE__, __LINE__, "mdc: %u records; there were %u, of which %u durable; %s", found->n, s->now.n,
		           s->n_durable, s->ending ? "a compaction was ending" : "no compaction");
	s->now = *found;
	s->n_durable = found->n;
	s->ending = false;
}

static bool open_face(struct world *w)
{
	struct mdc_state *s = state_of(w);
	struct reading r = {.w = w};
	int rc = quire_mdc_open(store_public(w->e.store), ids[w->plan.image], hear, &r, &s->mdc, &w->e.err);

	if (rc < 0) {
		world_say(w, "mdc: %d %s", rc, w->e.err.text);
		s->mdc = NULL;
		(void)world_excuses(w, rc);
		return false;
	}
	settle(w, &r.found);
	return true;
}

/* ---- steps ---- */

static bool is_done(struct world *w, int rc)
{
	return rc == 0 || !world_excuses(w, rc);
}

/* 1: it is there; 0: the container is full; -1: it can't be used any more. */
static int append(struct world *w, uint32_t number, bool sync)
{
	struct mdc_state *s = state_of(w);
	uint8_t record[MAX_BYTES];
	int rc = quire_mdc_append(s->mdc, record, fill(number, record), sync);

	if (rc == -EFBIG)
		return 0;
	return is_done(w, rc) ? 1 : -1;
}

static bool append_some(struct world *w)
{
	struct mdc_state *s = state_of(w);

	for (uint64_t n = 1 + draw(s, 6); n > 0 && s->now.n < MAX_RECORDS; n--) {
		bool sync = draw(s, 3) == 0;
		s->now.numbers[s->now.n++] = s->next_number++;
		int there = append(w, s->next_number - 1, sync);
		if (there < 0)
			return false;
		if (there == 0) {
			s->now.n--;
			return true;
		}
		if (sync && !world_power_is_gone(w))
			s->n_durable = s->now.n;
	}
	return true;
}

static bool sync_all(struct world *w)
{
	struct mdc_state *s = state_of(w);
	unsigned n = s->now.n;

	if (!is_done(w, quire_mdc_sync(s->mdc, NULL)))
		return false;
	s->n_durable = n;
	return true;
}

/* Keeps some of what there is; or gives up half-way. */
static bool compact(struct world *w)
{
	struct mdc_state *s = state_of(w);
	bool gives_up = draw(s, 4) == 0;

	if (!is_done(w, quire_mdc_cstart(s->mdc)))
		return false;
	s->next.n = 0;
	for (unsigned i = 0; i < s->now.n; i++) {
		if (draw(s, 2) == 0)
			continue;
		int there = append(w, s->now.numbers[i], draw(s, 8) == 0);
		if (there < 0)
			return false;
		must(w, there == 1);
		s->next.numbers[s->next.n++] = s->now.numbers[i];
	}
	if (gives_up)
		return is_done(w, quire_mdc_cabort(s->mdc));
	s->ending = true;
	if (!is_done(w, quire_mdc_cend(s->mdc)))
		return false;
	s->ending = false;
	s->now = s->next;
	s->n_durable = s->now.n;
	return true;
}

static bool read_again(struct world *w)
{
	struct mdc_state *s = state_of(w);
	struct reading r = {.w = w};

	if (!is_done(w, quire_mdc_read(s->mdc, hear, &r)))
		return false;
	must(w, r.found.n == s->now.n && begins_with(&s->now, &r.found));
	return true;
}

static bool step(struct world *w, unsigned worker, uint64_t random)
{
	struct mdc_state *s = state_of(w);

	(void)worker;
	s->random = random;
	uint64_t what = draw(s, 8);
	bool goes_on = what < 4 ? append_some(w) : what < 5 ? sync_all(w) : what < 7 ? compact(w) : read_again(w);
	return goes_on && !world_power_is_gone(w);
}

static void close_face(struct world *w)
{
	struct mdc_state *s = state_of(w);
	int rc = quire_mdc_close(s->mdc);

	must(w, rc != -EBUSY);
	s->mdc = NULL;
	if (rc == 0 && !world_power_is_gone(w))
		s->n_durable = s->now.n;
	else
		(void)world_excuses(w, rc);
}

static unsigned look(struct world *w)
{
	struct mdc_state *s = state_of(w);
	struct reading r = {.w = w};
	int rc = quire_mdc_open(store_public(w->e.store), ids[w->plan.image], hear, &r, &s->mdc, &w->e.err);

	if (rc == 0)
		(void)quire_mdc_close(s->mdc);
	s->mdc = NULL;
	return rc < 0;
}

static void end(struct world *w)
{
	(void)w;
}

const struct face_ops mdc_face = {.begin = begin, .format = format, .open = open_face, .step = step, .close = close_face, .look = look, .end = end};
