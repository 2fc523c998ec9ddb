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
#include "journal_env.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_WRITERS_MAX 4u

struct history {
	struct env e;
	uint64_t seed;
	bool damage;
	unsigned n_steps_max;         /* of a writer in a session */
	unsigned sync_one_in;         /* appends */
	struct journal *journal;
	uint64_t first_segment;
	bool created;                 /* journal_create has returned */
	/* the model */
	uint32_t by_number[MAX_IDS];  /* id + 1, 0: not known */
	uint64_t n_numbers, n_acked;
	uint32_t under_way[N_WRITERS_MAX]; /* id + 1 of an append that has not returned */
	uint32_t next_id;
	struct seen seen;
	/* this session */
	unsigned n_writers;
	bool refused;
	/* totals */
	uint64_t n_records, n_sessions, n_cuts, n_refused, n_outcomes[5], n_segments, n_short;
};

static struct history h; /* coroutines name it */

/* ---- writers ---- */

struct writer {
	unsigned index, n_steps;
};

static void acked(uint64_t no)
{
	if (!sim_is_cut(h.e.sim) && h.n_acked <= no)
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
	h.n_records++;
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
		if (rc == 0 && (env_below(&h.e, h.sync_one_in) == 0 || i + 1 == w->n_steps)) {
			rc = journal_sync(h.journal, no, NULL);
			if (rc == 0)
				acked(no);
		}
		if (env_below(&h.e, 8) == 0)
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
	struct seen *s = &h.seen;

	assert_int_equal(s->n_wrong, 0);
	for (uint64_t i = 0; i < s->n; i++) {
		assert_int_equal(s->places[i].record_no, i);
		if (h.by_number[i] != 0)
			assert_int_equal(h.by_number[i], s->ids[i] + 1);
		else
			assert_true(id_is_under_way(s->ids[i]));
	}
	if (s->n < h.n_acked && h.damage)
		h.n_short++;
	else
		assert_true(s->n >= h.n_acked);
}

/* What was read is what there is from now on. */
static void model_follows(void)
{
	for (uint64_t i = 0; i < h.n_numbers || i < h.seen.n; i++)
		h.by_number[i] = i < h.seen.n ? h.seen.ids[i] + 1 : 0;
	h.n_numbers = h.n_acked = h.seen.n;
	memset(h.under_way, 0, sizeof(h.under_way));
}

static int reopen(void)
{
	struct journal_options o = env_options(&h.e);
	struct journal_recovery recovery;
	struct quire_error err = {0};

	h.seen.n = h.seen.n_wrong = 0;
	int rc = journal_open(&o, h.first_segment, false, seen_add, &h.seen, &recovery, &h.journal, &err);
	if (rc < 0)
		h.journal = NULL;
	if (sim_is_cut(h.e.sim))
		return rc < 0 ? rc : -EIO;
	if (rc == -EBADMSG || rc == -EUCLEAN) {
		if (!h.damage && h.created)
			fail_msg("seed %llu: %s", (unsigned long long)h.seed, err.text);
		h.refused = true;
		h.n_refused++;
		return rc;
	}
	if (rc < 0)
		return rc;
	h.n_outcomes[recovery.end]++;
	judge_seen();
	model_follows();
	env_forget(&h.e);
	journal_segments(h.journal, env_take, &h.e);
	return 0;
}

static int begin(void)
{
	struct journal_options o = env_options(&h.e);

	env_forget(&h.e);
	h.e.next_extent = (unsigned)env_below(&h.e, h.e.n_extents); /* often where an earlier log was */
	h.first_segment = env_extent(&h.e);
	h.created = false;
	int rc = journal_create(&o, h.first_segment, &h.journal, NULL);
	if (rc < 0)
		h.journal = NULL;
	h.created = rc == 0 && !sim_is_cut(h.e.sim);
	memset(h.by_number, 0, sizeof(h.by_number[0]) * (h.n_numbers + 1));
	memset(h.under_way, 0, sizeof(h.under_way));
	h.n_numbers = h.n_acked = 0;
	return rc;
}

/* ---- sessions ---- */

static void read_back(void)
{
	h.seen.n = h.seen.n_wrong = 0;
	uint64_t n = journal_n_durable(h.journal);
	int rc = journal_read(h.journal, seen_add, &h.seen, NULL);
	if (rc == 0) {
		assert_int_equal(h.seen.n, n);
		judge_seen();
	} else {
		assert_true(h.damage || sim_is_cut(h.e.sim) || rc == -EIO);
	}
}

static void session(void *arg)
{
	struct writer writers[N_WRITERS_MAX];
	int rc = h.created ? reopen() : begin();

	(void)arg;
	if (rc == 0) {
		unsigned n = 1 + (unsigned)env_below(&h.e, N_WRITERS_MAX);
		h.n_writers = n;
		for (unsigned i = 0; i < n; i++) {
			writers[i] = (struct writer){.index = i, .n_steps = (unsigned)env_below(&h.e, h.n_steps_max)};
			assert_int_equal(quire_co_spawn(h.e.loop, write_records, &writers[i]), 0);
		}
		while (h.n_writers > 0)
			quire_co_yield();
		assert_true(h.n_acked <= journal_n_durable(h.journal) || sim_is_cut(h.e.sim));
		if (env_below(&h.e, 16) == 0)
			read_back();
	}
	h.n_segments += h.e.n_gets;
	h.e.n_gets = 0;
	if (h.journal != NULL && rc == 0 && env_below(&h.e, 12) == 0 && !sim_is_cut(h.e.sim)) {
		journal_destroy(h.journal);
		h.created = false;
		for (unsigned i = 0; i < h.e.n_extents; i++)
			assert_false(h.e.taken[i]);
	} else {
		journal_close(h.journal);
	}
	h.journal = NULL;
}

static struct sim_faults draw_faults(void)
{
	struct sim_faults f = {.cut_ends_io = true, .max_delay_turns = (unsigned)env_below(&h.e, 4)};

	f.tear_4k = env_below(&h.e, 4) == 0;
	f.ordered = env_below(&h.e, 4) == 0;
	if (env_below(&h.e, 4) == 0)
		f.shorten = 1u << 30;
	if (env_below(&h.e, 6) == 0)
		f.eio_write = f.eio_flush = 1u << 27;
	if (env_below(&h.e, 6) == 0)
		f.enospc = 1u << 26;
	if (env_below(&h.e, 8) == 0)
		f.eio_read = 1u << 26;
	if (h.damage) {
		unsigned kind = (unsigned)env_below(&h.e, 4);
		f.lose = kind != 1 && kind != 2 ? 1u << 28 : 0;
		f.misdirect = kind == 1 || kind == 3 ? 1u << 28 : 0;
		f.bit_rot = kind == 2 || kind == 3 ? 1u << 28 : 0;
	}
	return f;
}

static void history_begin(uint64_t seed, unsigned n_extents)
{
	struct sim_faults none = {.cut_ends_io = true};

	h.seed = seed;
	h.created = h.refused = false;
	memset(h.by_number, 0, sizeof(h.by_number[0]) * (h.n_numbers + 1));
	h.n_numbers = h.n_acked = 0;
	env_make(&h.e, n_extents, seed, &none);
	/* Ids are drawn too, so that lengths differ between histories. */
	h.next_id = (uint32_t)env_below(&h.e, MAX_IDS / 2);
	record_sizes_draw(&h.e);
	h.sync_one_in = env_below(&h.e, 2) == 0 ? 3 : 100;
}

static void next_session(void)
{
	env_run(&h.e, session, NULL);
	h.n_cuts += sim_is_cut(h.e.sim);
	h.n_sessions++;
}

static void reopen_device(void)
{
	env_close_device(&h.e);
	env_open_device(&h.e);
}

static void history(uint64_t seed)
{
	static const struct sim_faults none = {.cut_ends_io = true};

	history_begin(seed, 4 + (unsigned)(seed % 12));
	h.n_steps_max = env_below(&h.e, 4) == 0 ? 200 : 24;
	unsigned n_sessions = 2 + (unsigned)env_below(&h.e, 6);

	for (unsigned i = 0; i < n_sessions && !h.refused; i++) {
		struct sim_faults f = i + 1 < n_sessions ? draw_faults() : none;
		sim_set_faults(h.e.sim, &f);
		if (i + 1 < n_sessions && env_below(&h.e, 3) != 0)
			sim_cut_at(h.e.sim, sim_n_events(h.e.sim) + env_below(&h.e, 20), env_below(&h.e, 8) < 2
			           ? env_below(&h.e, 2) : env_random(&h.e));
		next_session();
		if (env_below(&h.e, 2) == 0 && !sim_is_cut(h.e.sim) && i + 1 < n_sessions) {
			sim_cut(h.e.sim, env_random(&h.e));
			h.n_cuts++;
		}
		reopen_device();
	}
	env_end(&h.e);
}

/* Three sessions, the first cut before its event `cut` is done. Returns how many events that one has. */
static uint64_t script(uint64_t seed, uint64_t cut, uint64_t choice)
{
	history_begin(seed, 12);
	h.n_steps_max = 120;
	sim_cut_at(h.e.sim, cut, choice);
	next_session();
	uint64_t n = sim_n_events(h.e.sim);
	for (int i = 0; i < 2; i++) {
		reopen_device();
		next_session();
	}
	env_end(&h.e);
	return n;
}

static void totals_begin(bool damage)
{
	struct quire_loop *loop = h.e.loop;

	memset(&h, 0, sizeof(h));
	h.e.loop = loop;
	h.damage = damage;
	seen_init(&h.seen);
}

static void totals_end(const char *name, uint64_t n, uint64_t seed, double begin_s)
{
	double s = seconds_now() - begin_s;

	print_message("%s: %llu histories, seed %llu: %llu sessions, %llu cuts, %llu records, %llu segments; ends: %llu "
	              "never, %llu stale, %llu torn; %llu refused, %llu cut short; %.1f s, %.0f a minute\n", name,
	              (unsigned long long)n, (unsigned long long)seed, (unsigned long long)h.n_sessions,
	              (unsigned long long)h.n_cuts, (unsigned long long)h.n_records, (unsigned long long)h.n_segments,
	              (unsigned long long)h.n_outcomes[JOURNAL_NEVER], (unsigned long long)h.n_outcomes[JOURNAL_STALE],
	              (unsigned long long)h.n_outcomes[JOURNAL_TORN], (unsigned long long)h.n_refused,
	              (unsigned long long)h.n_short, s, (double)n / s * 60);
	seen_fini(&h.seen);
}

static void run(const char *name, uint64_t n, bool damage)
{
	uint64_t seed = random_seed();
	double begin_s = seconds_now();

	print_message("%s: seed %llu\n", name, (unsigned long long)seed);
	totals_begin(damage);
	for (uint64_t i = 0; i < n; i++) {
		if (getenv("QUIRE_TEST_VERBOSE") != NULL)
			fprintf(stderr, "seed %llu\n", (unsigned long long)(seed + i));
		history(seed + i);
	}
	totals_end(name, n, seed, begin_s);
}

static void test_every_cut(void **state)
{
	uint64_t n = 0, n_scripts = 1 + env_count(600, 60000) / 1000, seed = random_seed();
	double begin_s = seconds_now();

	(void)state;
	print_message("seed %llu\n", (unsigned long long)seed);
	totals_begin(false);
	for (uint64_t i = 0; i < n_scripts; i++) {
		uint64_t n_events = script(seed + i, UINT64_MAX, 0);
		for (uint64_t cut = 0; cut < n_events; cut++)
			for (uint64_t choice = 0; choice < 8; choice++, n++)
				(void)script(seed + i, cut, choice);
	}
	totals_end("journal, every cut", n, seed, begin_s);
	assert_true(h.n_refused == 0 && h.n_short == 0);
}

static void test_histories(void **state)
{
	(void)state;
	run("journal", env_count(600, 40000), false);
	assert_true(h.n_refused == 0 && h.n_short == 0);
}

static void test_histories_with_damage(void **state)
{
	(void)state;
	run("journal, damaged", env_count(300, 30000), true);
}

static int end(void **state)
{
	(void)state;
	return h.e.loop == NULL ? 0 : quire_loop_destroy(h.e.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_histories),
		cmocka_unit_test(test_histories_with_damage),
	};
	return cmocka_run_group_tests(tests, NULL, end);
}
