/* history_test.c - random histories of a journal against a model, under power cuts, deaths of the process,
 * failing writes, full media, and damage.
 *
 * The model: which record has which number, and up to where they were acknowledged. After each reopening what is
 * read must be the model's records from the first on: at least the acknowledged ones, and no other
 * than was appended. What comes after is appended behind it.
 *
 * Scripted runs are histories without faults, in which the first session is cut at every event in turn, torn in several
 * ways each.
 *
 * With damage (writes lost or misdirected, bits flipped) a log may also be refused, or end early; what it gives must
 * still be the model's, in order.
 */
#include "histories.h"

#include <errno.h>
#include <string.h>

#define N_WRITERS_MAX 4u

static struct history {
	unsigned sync_one_in;         /* appends */
	struct journal *journal;
	uint64_t first_segment;
	bool created;                 /* journal_create has returned */
	/* the model */
	uint32_t by_number[MAX_IDS];  /* id + 1, 0: not known */
	uint64_t n_numbers, n_acked;
	uint32_t under_way[N_WRITERS_MAX]; /* id + 1 of an append that has not returned */
	uint32_t next_id;
	/* this session */
	unsigned n_writers;
	/* totals */
	uint64_t n_outcomes[5], n_segments;
} h;

/* ---- writers ---- */

struct writer {
	unsigned index, n_steps;
};

static void acked(uint64_t no)
{
	if (!sim_is_cut(e.sim) && h.n_acked <= no)
		h.n_acked = no + 1;
}

static int writer_append(unsigned index, uint64_t *ret_no)
{
	uint32_t id = h.next_id++;

	h.under_way[index] = id + 1;
	int rc = record_append(h.journal, id, ret_no);
	h.under_way[index] = 0;
	if (rc < 0) {
		/* What did not get in for lack of space left no trace; after another error all is open. */
		if (rc != -ENOSPC || journal_error(h.journal) < 0)
			h.under_way[index] = id + 1;
		return rc;
	}
	assert_int_equal(h.by_number[*ret_no], 0);
	h.by_number[*ret_no] = id + 1;
	if (h.n_numbers <= *ret_no)
		h.n_numbers = *ret_no + 1;
	played.n_records++;
	return 0;
}

static void write_records(void *arg)
{
	struct writer *w = arg;
	uint64_t no = 0;
	int rc = 0;

	for (unsigned i = 0; i < w->n_steps && h.next_id < MAX_IDS && rc == 0; i++) {
		rc = writer_append(w->index, &no);
		if (rc == -ENOSPC && journal_error(h.journal) == 0)
			break;
		/* Large groups as well, or what a torn one leaves behind lies in the block that is written next. */
		if (rc == 0 && (env_below(&e, h.sync_one_in) == 0 || i + 1 == w->n_steps)) {
			rc = journal_sync(h.journal, no, NULL);
			if (rc == 0)
				acked(no);
		}
		if (env_below(&e, 8) == 0)
			quire_co_yield();
	}
	h.n_writers--;
}

/* ---- reopening ---- */

static bool id_is_under_way(uint32_t id)
{
	for (unsigned i = 0; i < N_WRITERS_MAX; i++)
		if (h.under_way[i] == id + 1)
			return true;
	return false;
}

static void judge_seen(void)
{
	struct seen *s = &seen;

	assert_int_equal(s->n_wrong, 0);
	for (uint64_t i = 0; i < s->n; i++) {
		assert_int_equal(s->places[i].record_no, i);
		if (h.by_number[i] != 0)
			assert_int_equal(h.by_number[i], s->ids[i] + 1);
		else
			assert_true(id_is_under_way(s->ids[i]));
	}
	if (s->n < h.n_acked && played.damage)
		played.n_short++;
	else
		assert_true(s->n >= h.n_acked);
}

/* What was read is what there is from now on. */
static void model_follows(void)
{
	for (uint64_t i = 0; i < h.n_numbers || i < seen.n; i++)
		h.by_number[i] = i < seen.n ? seen.ids[i] + 1 : 0;
	h.n_numbers = h.n_acked = seen.n;
	memset(h.under_way, 0, sizeof(h.under_way));
}

static int reopen(void)
{
	struct journal_options o = env_options(&e);
	struct journal_recovery recovery;
	struct quire_error err = {0};

	seen.n = seen.n_wrong = 0;
	int rc = journal_open(&o, h.first_segment, false, seen_add, &seen, &recovery, &h.journal, &err);
	if (rc < 0)
		h.journal = NULL;
	if (sim_is_cut(e.sim))
		return rc < 0 ? rc : -EIO;
	if (rc == -EBADMSG || rc == -EUCLEAN) {
		if (!played.damage && h.created)
			fail_msg("seed %llu: %s", (unsigned long long)played.seed, err.text);
		played.refused = true;
		played.n_refused++;
		return rc;
	}
	if (rc < 0)
		return rc;
	h.n_outcomes[recovery.end]++;
	judge_seen();
	model_follows();
	env_forget(&e);
	journal_segments(h.journal, env_take, &e);
	return 0;
}

static int begin(void)
{
	struct journal_options o = env_options(&e);

	env_forget(&e);
	e.next_extent = (unsigned)env_below(&e, e.n_extents); /* often where an earlier log was */
	h.first_segment = env_extent(&e);
	h.created = false;
	int rc = journal_create(&o, h.first_segment, &h.journal, NULL);
	if (rc < 0)
		h.journal = NULL;
	h.created = rc == 0 && !sim_is_cut(e.sim);
	memset(h.by_number, 0, sizeof(h.by_number[0]) * (h.n_numbers + 1));
	memset(h.under_way, 0, sizeof(h.under_way));
	h.n_numbers = h.n_acked = 0;
	return rc;
}

/* ---- sessions ---- */

static void read_back(void)
{
	seen.n = seen.n_wrong = 0;
	uint64_t n = journal_n_durable(h.journal);
	int rc = journal_read(h.journal, seen_add, &seen, NULL);
	if (rc == 0) {
		assert_int_equal(seen.n, n);
		judge_seen();
	} else {
		assert_true(played.damage || sim_is_cut(e.sim) || rc == -EIO);
	}
}

static void session(void *arg)
{
	struct writer writers[N_WRITERS_MAX];
	int rc = h.created ? reopen() : begin();

	(void)arg;
	if (rc == 0) {
		unsigned n = 1 + (unsigned)env_below(&e, N_WRITERS_MAX);
		h.n_writers = n;
		for (unsigned i = 0; i < n; i++) {
			writers[i] = (struct writer){.index = i, .n_steps = (unsigned)env_below(&e, played.n_steps_max)};
			assert_int_equal(quire_co_spawn(e.loop, write_records, &writers[i]), 0);
		}
		while (h.n_writers > 0)
			quire_co_yield();
		assert_true(h.n_acked <= journal_n_durable(h.journal) || sim_is_cut(e.sim));
		if (env_below(&e, 16) == 0)
			read_back();
	}
	h.n_segments += e.n_gets;
	e.n_gets = 0;
	if (h.journal != NULL && rc == 0 && env_below(&e, 12) == 0 && !sim_is_cut(e.sim)) {
		journal_give_back(h.journal);
		h.created = false;
		for (unsigned i = 0; i < e.n_extents; i++)
			assert_false(e.taken[i]);
	}
	journal_close(h.journal);
	h.journal = NULL;
}

static struct sim_faults draw_faults(void)
{
	struct sim_faults f = {.cut_ends_io = true, .max_delay_turns = (unsigned)env_below(&e, 4)};

	f.tear_4k = env_below(&e, 4) == 0;
	f.ordered = env_below(&e, 4) == 0;
	if (env_below(&e, 4) == 0)
		f.shorten = 1u << 30;
	if (env_below(&e, 6) == 0)
		f.eio_write = f.eio_flush = 1u << 27;
	if (env_below(&e, 6) == 0)
		f.enospc = 1u << 26;
	if (env_below(&e, 8) == 0)
		f.eio_read = 1u << 26;
	if (played.damage) {
		unsigned kind = (unsigned)env_below(&e, 4);
		f.lose = kind != 1 && kind != 2 ? 1u << 28 : 0;
		f.misdirect = kind == 1 || kind == 3 ? 1u << 28 : 0;
		f.bit_rot = kind == 2 || kind == 3 ? 1u << 28 : 0;
	}
	return f;
}

static void history_begin(uint64_t seed, bool scripted)
{
	static const struct sim_faults none = {.cut_ends_io = true};

	h.created = false;
	memset(h.by_number, 0, sizeof(h.by_number[0]) * (h.n_numbers + 1));
	h.n_numbers = h.n_acked = 0;
	env_make(&e, scripted ? 12 : 4 + (unsigned)(seed % 12), seed, &none);
	/* Ids are drawn too, so that lengths differ between histories. */
	h.next_id = (uint32_t)env_below(&e, MAX_IDS / 2);
	record_sizes_draw(&e);
	h.sync_one_in = env_below(&e, 2) == 0 ? 3 : 100;
	played.n_steps_max = scripted ? 120 : env_below(&e, 4) == 0 ? 200 : 24;
}

/* ---- many ---- */

static void forget(void)
{
	memset(&h, 0, sizeof(h));
}

static void tell(void)
{
	print_message("%llu segments; ends: %llu never, %llu stale, %llu torn", (unsigned long long)h.n_segments,
	              (unsigned long long)h.n_outcomes[JOURNAL_NEVER], (unsigned long long)h.n_outcomes[JOURNAL_STALE],
	              (unsigned long long)h.n_outcomes[JOURNAL_TORN]);
}

static struct histories kind = {
	.name = "journal",
	.n_long = 20000,
	.n_long_damaged = 15000,
	.n_sessions = 6,
	.n_events = 20,
	.forget = forget,
	.begin = history_begin,
	.session = session,
	.draw_faults = draw_faults,
	.tell = tell,
};

int main(void)
{
	return histories_main(&kind);
}
