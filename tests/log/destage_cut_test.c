/* destage_cut_test.c - segments move between two devices, and the power goes: at every event of either while some move, and at
 * random in histories of everything else besides. Afterwards each segment is in the one place or in the other, whole,
 * and no space is lost.
 *
 * A cut is planned of one device; what the program does until it notices, the other device has. Then that is cut too. */
#include "model.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define N_UNITS 700u

/* Where the log's segments begin, and where to they move. */
struct places {
	enum quire_class home, away;
	bool pmem; /* staging is */
	bool rule;
};

static struct env e;
static struct model m, initial_model;
static struct sim *initial[2];
static struct places at;

/* False: the power is gone. */
static bool goes_on(int rc)
{
	if (rc != -EIO && rc != -ENOSPC)
		assert_int_equal(rc, 0);
	return rc != -EIO;
}

static bool destage(uint64_t lsn, enum quire_class cls)
{
	int64_t rc = env_destage(&e, lsn, cls);

	return goes_on(rc < 0 ? (int)rc : 0);
}

static void close_log_and_store(struct env *env)
{
	uint64_t n = quire_log_visible(env->log);

	if (env_close(env) == 0)
		m.n_durable = n;
}

/* ---- the media ---- */

static void build(struct env *env, void *arg)
{
	assert_int_equal(env_format(env), 0);
	assert_int_equal(env_open(env), 0);
	for (unsigned i = 0; i < 450; i++)
		assert_int_equal(model_append(&m, env, i % 50 == 49), 0);
	close_log_and_store(env);
}

static void make_initial(void)
{
	static const struct sim_faults faults = {.max_delay_turns = 3, .cut_ends_io = true};

	assert_int_equal(sim_create(N_UNITS * FORMAT_UNIT_BYTES, 1, &faults, &initial[0]), 0);
	assert_int_equal((at.pmem ? sim_create_pmem : sim_create)(N_UNITS * FORMAT_UNIT_BYTES, 2, &faults, &initial[1]), 0);
	e.sim = initial[0];
	e.other = initial[1];
	model_init(&m, 1);
	env_run(&e, build, NULL);
	initial_model = m;
	e.sim = e.other = NULL;
}

static void begin_with(uint64_t seed)
{
	assert_int_equal(sim_clone(initial[0], seed, &e.sim), 0);
	assert_int_equal(sim_clone(initial[1], seed + 1, &e.other), 0);
	m = initial_model;
	m.salt = seed << 16;
}

static void end_with(void)
{
	sim_destroy(e.sim);
	sim_destroy(e.other);
	e.sim = e.other = NULL;
}

static void cut_both(uint64_t choice)
{
	if (!sim_is_cut(e.sim))
		sim_cut(e.sim, choice);
	if (!sim_is_cut(e.other))
		sim_cut(e.other, choice);
}

static void calm(void)
{
	static const struct sim_faults none = {.max_delay_turns = 3, .cut_ends_io = true};

	sim_cut_at(e.sim, UINT64_MAX, 0);
	sim_cut_at(e.other, UINT64_MAX, 0);
	sim_set_faults(e.sim, &none);
	sim_set_faults(e.other, &none);
}

/* ---- afterwards ---- */

static void look(struct env *env, void *arg)
{
	int rc = env_open(env);

	if (rc < 0)
		fail_msg("open: %d, %s", rc, env->err.text);
	model_settle(&m, env);
	model_verify(&m, env);
	store_settle(env->store);
	assert_int_equal(env_check(env, true), 0);
	/* Room, then all of it there, and back. */
	assert_int_equal(model_trim(&m, env, m.n - m.n / 4), 0);
	assert_int_equal(model_append(&m, env, true), 0);
	assert_true(destage(m.n, at.away));
	model_verify(&m, env);
	assert_int_equal(env_close(env), 0);
	assert_int_equal(env_open(env), 0);
	model_settle(&m, env);
	model_verify(&m, env);
	assert_true(destage(m.n, at.home));
	model_verify(&m, env);
	store_settle(env->store);
	assert_int_equal(env_check(env, true), 0);
	close_log_and_store(env);
}

/* ---- a script ---- */

static void script(struct env *env, void *arg)
{
	int rc = env_open(env);

	if (!goes_on(rc))
		return;
	model_settle(&m, env);
	uint64_t third = m.n / 3;
	if (destage(third, at.away) && goes_on(model_append(&m, env, true)) &&
	    destage(2 * third, at.away) && destage(third / 2, at.home) &&
	    goes_on(model_trim(&m, env, third)) && destage(m.n, at.away))
		model_verify(&m, env);
	close_log_and_store(env);
}

/* Returns how many events that device had. */
static uint64_t run_script(unsigned device, uint64_t event, uint64_t choice)
{
	e.seed = 99;
	begin_with(7 + choice);
	struct sim *cut = device == 0 ? e.sim : e.other;
	sim_cut_at(cut, event, choice);
	env_run(&e, script, NULL);
	uint64_t n = sim_n_events(cut);
	if (env_is_cut(&e) || event == UINT64_MAX) {
		if (env_is_cut(&e))
			cut_both(choice);
		calm();
		env_run(&e, look, NULL);
	}
	end_with();
	return n;
}

static void test_cut_at_every_event_of_either(void **state)
{
	uint64_t n_choices = random_count(2, 6), n_cuts = 0;

	for (unsigned device = 0; device < 2; device++) {
		uint64_t n = run_script(device, UINT64_MAX, 0);
		assert_true(n > 3);
		for (uint64_t event = 0; event < n; event++)
			for (uint64_t k = 0; k < n_choices; k++, n_cuts++)
				run_script(device, event, (event + k) % 5);
	}
	print_message("%llu cuts\n", (unsigned long long)n_cuts);
}

/* ---- histories ---- */

/* A reader that stands somewhere, and looks at what it holds now and then. */
struct reader {
	struct quire_log_cursor *cursor;
	struct quire_log_record at;
	bool holds;
};

static bool reader_step(struct reader *r, uint64_t random)
{
	if (r->holds && !record_is(m.salts[r->at.lsn], &r->at))
		fail_msg("record %llu changed in its reader's hands", (unsigned long long)r->at.lsn);
	if (r->cursor == NULL)
		assert_int_equal(quire_log_cursor_open(e.log, QUIRE_LOG_VISIBLE, &r->cursor), 0);
	uint64_t first = quire_log_first(e.log);
	if (quire_log_cursor_lsn(r->cursor) < first || random % 4 == 0) {
		assert_int_equal(quire_log_seek(r->cursor, first + random / 4 % (quire_log_visible(e.log) - first + 1)), 0);
		r->holds = false;
	}
	int64_t rc = quire_log_next(r->cursor, &r->at, NULL);
	r->holds = rc == 1;
	return rc >= 0 || goes_on((int)rc);
}

static bool random_step(uint64_t *random, struct reader *reader)
{
	uint64_t r = random_next(random) % 100;

	if (r < 25)
		return goes_on(model_append(&m, &e, true));
	if (r < 45)
		return goes_on(model_append(&m, &e, false));
	if (r < 60)
		return goes_on(model_batch(&m, &e, 1 + (unsigned)(random_next(random) % 16)));
	if (r < 65)
		return goes_on(model_sync(&m, &e));
	if (r < 70)
		return goes_on(model_trim(&m, &e, m.first + random_next(random) % (m.n - m.first + 1)));
	if (r < 80)
		return destage(random_next(random) % (m.n + 1), at.away);
	if (r < 84)
		return destage(random_next(random) % (m.n + 1), at.home);
	if (r < 85)
		return goes_on(store_compact(e.store));
	if (r < 97)
		return reader_step(reader, random_next(random));
	model_verify(&m, &e);
	return true;
}

static void round_of(struct env *env, void *arg)
{
	struct reader reader = {.cursor = NULL};
	uint64_t *random = arg;
	int rc = env_open(env);

	/* A cut while it was opened. */
	if (rc == -EIO)
		return;
	if (rc < 0)
		fail_msg("open: %d, %s", rc, env->err.text);
	model_settle(&m, env);
	model_verify(&m, env);
	unsigned n = (unsigned)(random_next(random) % 60);
	while (n > 0 && random_step(random, &reader))
		n--;
	quire_log_cursor_close(reader.cursor);
	close_log_and_store(env);
}

static void plan_cuts(uint64_t *random)
{
	struct sim *cut = random_next(random) % 2 == 0 ? e.sim : e.other;
	uint64_t event = random_next(random) % (cut == e.sim ? 150 : 60), choice = random_next(random);

	sim_cut_at(e.sim, UINT64_MAX, 0);
	sim_cut_at(e.other, UINT64_MAX, 0);
	/* Some rounds end in peace. */
	if (random_next(random) % 5 != 0)
		sim_cut_at(cut, sim_n_events(cut) + event, choice);
}

static void one_history(uint64_t seed)
{
	uint64_t random = seed;
	struct sim_faults faults = {.max_delay_turns = (unsigned)(random_next(&random) % 6),
	                            .tear_4k = random_next(&random) % 3 == 0,
	                            .ordered = random_next(&random) % 3 == 0,
	                            .cut_ends_io = true};

	e.seed = seed;
	begin_with(seed);
	sim_set_faults(e.sim, &faults);
	sim_set_faults(e.other, &faults);
	for (unsigned i = 0; i < 5; i++) {
		plan_cuts(&random);
		env_run(&e, round_of, &random);
		uint64_t choice = random_next(&random);
		if (env_is_cut(&e) || choice % 3 == 0)
			cut_both(choice);
		m.n_cuts += env_is_cut(&e);
	}
	calm();
	env_run(&e, look, NULL);
	end_with();
}

static void test_random_histories(void **state)
{
	uint64_t seed = random_seed(), n = random_count(15, 1000), n_cuts = 0;
	time_t began = time(NULL);

	for (uint64_t i = 0; i < n; i++) {
		if (getenv("QUIRE_TEST_VERBOSE") != NULL)
			print_message("seed %llu\n", (unsigned long long)(seed + i));
		one_history(seed + i);
		n_cuts += m.n_cuts;
	}
	print_message("%llu histories from seed %llu, %llu cuts, %lld s\n", (unsigned long long)n,
	              (unsigned long long)seed, (unsigned long long)n_cuts, (long long)(time(NULL) - began));
	assert_true(n_cuts > 0);
}

static struct quire_log_options options;

static int begin(void **state)
{
	at = *(const struct places *)*state;
	options = (struct quire_log_options){
		.size = sizeof(options), .cls = at.home, .segment_bytes = SEGMENT, .destage = at.rule, .destage_to = at.away,
		.destage_keep_bytes = SEGMENT,
	};
	record_max_len = 1500;
	env_init(&e, 5, 0, NULL);
	e.options = &options;
	make_initial();
	return 0;
}

static int end(void **state)
{
	sim_destroy(initial[0]);
	sim_destroy(initial[1]);
	env_fini(&e);
	return 0;
}

#define T(name, test, places) {name, test, begin, end, &(places)}

int main(void)
{
	static struct places to_disk = {.home = QUIRE_CLASS_CAPACITY, .away = QUIRE_CLASS_STAGING};
	static struct places to_pmem = {.home = QUIRE_CLASS_CAPACITY, .away = QUIRE_CLASS_STAGING, .pmem = true};
	static struct places off_pmem = {.home = QUIRE_CLASS_STAGING, .away = QUIRE_CLASS_CAPACITY, .pmem = true};
	static struct places by_rule = {.home = QUIRE_CLASS_CAPACITY, .away = QUIRE_CLASS_STAGING, .rule = true};
	static struct places off_pmem_by_rule = {
		.home = QUIRE_CLASS_STAGING, .away = QUIRE_CLASS_CAPACITY, .pmem = true, .rule = true};
	const struct CMUnitTest tests[] = {
		T("test_cut_at_every_event_to_a_disk", test_cut_at_every_event_of_either, to_disk),
		T("test_cut_at_every_event_to_pmem", test_cut_at_every_event_of_either, to_pmem),
		T("test_cut_at_every_event_off_pmem", test_cut_at_every_event_of_either, off_pmem),
		T("test_random_histories_to_a_disk", test_random_histories, to_disk),
		T("test_random_histories_to_pmem", test_random_histories, to_pmem),
		T("test_random_histories_by_a_rule", test_random_histories, by_rule),
		T("test_random_histories_off_pmem_by_a_rule", test_random_histories, off_pmem_by_rule),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
