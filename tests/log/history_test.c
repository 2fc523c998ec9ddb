/* history_test.c - random histories of a log against a model: coroutines append, read, trim and more at once, segments are
 * sealed beside them; the power is cut at a random event, the process dies, writes, reads and flushes fail, the medium is
 * full; and after each opening nothing that was promised is missing, nothing is there that was torn, all is in order, and what is
 * appended then is reached.
 *
 * QUIRE_TEST_SEED repeats one; QUIRE_TEST_COUNT says how many; QUIRE_TEST_LONG: 20,000. Built once for a disk, once for
 * persistent memory, whose cache lines are watched: none may be told durable that is not, none be flushed for nothing.
 */
#include "history.h"
#include "log_env.h"
#include "../support/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef TEST_PMEM
#define MEDIUM "pmem"
#else
#define MEDIUM "disk"
#endif

#define N_WORKERS 3u
#define N_IMAGES 4u

static struct env e;
static struct history h;

/* Of a process that died: the media, which go on. */
static struct sim *heirs[2];
static bool left_behind;   /* a process has died, and the power was not gone since then */
static uint64_t n_missing; /* by the shadow's account, so far */

/* Formatted once: large and small, and with logs that keep little. */
static struct image {
	struct sim *sim, *pmem;
	uint64_t n_units, retain_records, retain_bytes;
} images[N_IMAGES] = {
	{.n_units = 600},
	{.n_units = 256},
	{.n_units = 500, .retain_records = 40},
	{.n_units = 500, .retain_bytes = 2 * SEGMENT},
};

/* ---- what the history asks for ---- */

/* One medium without power: no other has any. */
static bool power_is_gone(void *arg)
{
	struct env *env = arg;

	if (env->pmem != NULL && sim_is_cut(env->pmem) != sim_is_cut(env->sim))
		sim_cut(sim_is_cut(env->sim) ? env->pmem : env->sim, random_next(&h.random));
	return sim_is_cut(env->sim);
}

/* The media go on from here, with what the process had under way. */
static void die(void *arg)
{
	struct env *env = arg;

	assert_int_equal(sim_clone(env->sim, random_next(&h.random), &heirs[0]), 0);
	if (env->pmem != NULL)
		assert_int_equal(sim_clone(env->pmem, random_next(&h.random), &heirs[1]), 0);
	h.n_deaths++;
	sim_cut(env->sim, 0);
}

static int open_log(bool read_only)
{
	int rc = env_open_log(&e, read_only);

	h.store = e.store;
	h.log = e.log;
	return rc;
}

static int close_log(void)
{
	h.store = NULL;
	h.log = NULL;
	return env_close(&e);
}

/* ---- a life ---- */

static void worker(void *arg)
{
	(void)arg;
	while (!h.dead && !h.broken && h.n_steps > 0) {
		h.n_steps--;
		log_step(&h);
	}
	h.n_working--;
}

static bool find_other(void)
{
	struct quire_log_info info;
	int there = quire_log_find(store_public(e.store), "other", &info) == 0;

	want(&h, h.other < 0 || h.other == there);
	h.other = there;
	return there;
}

/* As others read beside a process that has died, or is to come: nothing is written. */
static void look_read_only(struct env *env, void *arg)
{
	uint64_t n_events = sim_n_events(env->sim) + (env->pmem != NULL ? sim_n_events(env->pmem) : 0);

	(void)arg;
	if (!was_done(&h, open_log(true)))
		return;
	(void)settle(&h, false);
	want(&h, close_log() == 0);
	want(&h, n_events == sim_n_events(env->sim) + (env->pmem != NULL ? sim_n_events(env->pmem) : 0));
}

static void open_and_settle(struct env *env, void *arg)
{
	(void)arg;
	int rc = open_log(false);
	look_at_power(&h);
	if (rc < 0 && !h.dead && !h.faulty)
		log_history_fail(&h, __FILE__, __LINE__, "open: %d, %s", rc, env->err.text);
	if (rc < 0) {
		h.broken = true;
		return;
	}
	(void)find_other();
	if (!settle(&h, true))
		h.broken = true; /* a read failed: the next life is to tell */
	else if (rnd(&h, 3) == 0)
		seek_times(&h);
}

static void end_life(struct env *env, void *arg)
{
	(void)arg;
	if (env->log == NULL)
		return;
	struct quire_log_stat s;
	uint64_t n = quire_log_visible(env->log), first = quire_log_first(env->log);
	want(&h, quire_log_stat(env->log, &s) == 0 && s.durable <= s.visible && s.n_cursors == 0);
	h.n_segments += s.n_seals;
	if (!h.dead && h.first < first)
		h.first = first;
	int rc = close_log();
	look_at_power(&h);
	want(&h, rc == 0 || h.dead || h.faulty);
	if (rc == 0 && !h.dead)
		h.n_durable = n;
}

/* What a dead process had stored and not flushed is in the caches until the power goes: a flush of the whole medium, which is for
 * what was done, tells of that too. */
static void note_shadow(struct sim *sim)
{
	struct sim_shadow shadow;

	if (sim == NULL)
		return;
	sim_shadow_get(sim, &shadow);
	if ((shadow.n_missing_bytes != n_missing && !left_behind) || shadow.n_wasted_flushes + shadow.n_wasted_fences != 0)
		log_history_fail(&h, __FILE__, __LINE__, "%llu bytes missing at %llu; %llu flushes wasted at %llu, %llu fences",
		             (unsigned long long)shadow.n_missing_bytes, (unsigned long long)shadow.missing_at,
		             (unsigned long long)shadow.n_wasted_flushes, (unsigned long long)shadow.wasted_at,
		             (unsigned long long)shadow.n_wasted_fences);
	n_missing = shadow.n_missing_bytes;
	left_behind &= !h.dead;
	if (heirs[0] != NULL) {
		n_missing = 0;
		left_behind = true;
	}
}

static struct sim_faults draw_faults(bool peace)
{
	struct sim_faults f = {.cut_ends_io = true, .max_delay_turns = (unsigned)rnd(&h, 4)};

	f.tear_4k = rnd(&h, 4) == 0;
	f.ordered = rnd(&h, 4) == 0;
	f.shorten = rnd(&h, 4) == 0 ? 1u << 30 : 0;
	h.faulty = !peace && rnd(&h, 6) == 0;
	if (h.faulty) {
		uint32_t rate = 1u << (25 + rnd(&h, 4));
		f.eio_write = rnd(&h, 2) == 0 ? rate : 0;
		f.eio_flush = rnd(&h, 2) == 0 ? rate : 0;
		f.eio_read = rnd(&h, 3) == 0 ? rate / 2 : 0;
		f.enospc = rnd(&h, 3) == 0 ? rate : 0;
	}
	return f;
}

static void plan(bool peace)
{
	struct sim_faults f = draw_faults(peace);
	struct sim *sim = e.pmem != NULL && rnd(&h, 3) != 0 ? e.pmem : e.sim;

	h.dead = h.broken = false;
	sim_set_faults(e.sim, &f);
	if (e.pmem != NULL)
		sim_set_faults(e.pmem, &f);
	if (!peace && rnd(&h, 5) < 3)
		sim_cut_at(sim, sim_n_events(sim) + rnd(&h, e.pmem != NULL ? 100 : 50), rnd(&h, 3) == 0 ? rnd(&h, 2) : rnd(&h, 1u << 30));
}

/* Nothing of a life's I/O is left; the next begins with the media as they are now, or as a dead process left them. */
static void pass_on(void)
{
	if (h.dead && heirs[0] == NULL)
		h.n_cuts++;
	sim_cut_at(e.sim, UINT64_MAX, 0);
	if (e.pmem != NULL)
		sim_cut_at(e.pmem, UINT64_MAX, 0);
	note_shadow(e.pmem);
	h.hash = h.hash * 31 + sim_history_hash(e.sim) + (e.pmem != NULL ? sim_history_hash(e.pmem) : 0);
	if (heirs[0] == NULL)
		return;
	sim_destroy(e.sim);
	sim_destroy(e.pmem);
	e.sim = heirs[0];
	e.pmem = heirs[1];
	heirs[0] = heirs[1] = NULL;
}

static void live(bool peace)
{
	struct sim_faults none = {.cut_ends_io = true};

	h.n_lives++;
	if (rnd(&h, 6) == 0) {
		h.dead = h.broken = h.faulty = false;
		sim_set_faults(e.sim, &none);
		if (e.pmem != NULL)
			sim_set_faults(e.pmem, &none);
		env_run(&e, look_read_only, NULL);
	}
	plan(peace);
	env_run(&e, open_and_settle, NULL);
	h.n_steps = peace ? 2 : 3 + (unsigned)rnd(&h, 24);
	h.n_working = N_WORKERS;
	for (unsigned i = 0; i < N_WORKERS; i++)
		if (e.log != NULL)
			assert_int_equal(quire_co_spawn(e.loop, worker, NULL), 0);
	assert_int_equal(quire_loop_run(e.loop), 0);
	/* Power that goes while nothing is under way. */
	if (!peace && !h.dead && e.log != NULL && rnd(&h, 5) == 0) {
		sim_cut(e.sim, rnd(&h, 1u << 30));
		look_at_power(&h);
	}
	env_run(&e, end_life, NULL);
	if (e.log == NULL && e.store != NULL)
		want(&h, false);
	pass_on();
}

static void last_look(struct env *env, void *arg)
{
	(void)arg;
	open_and_settle(env, NULL);
	int64_t n = rnd(&h, 4) == 0 ? env_check(env, true) : 0;
	want(&h, n == 0);
	want(&h, close_log() == 0);
}

static void one_history(uint64_t seed)
{
	struct sim_faults none = {.cut_ends_io = true};

	log_history_begin(&h, seed, 0);
	n_missing = 0;
	left_behind = false;
	struct image *image = &images[rnd(&h, N_IMAGES)];
	static const uint32_t sizes[] = {60, 400, 2000, 2000, 6000, 6000, 20000, 61000};
	h.max_len = sizes[rnd(&h, 8)];
	h.retain_records = image->retain_records;
	h.retain_bytes = image->retain_bytes;
	e.seed = seed;
	e.slack_bytes = rnd(&h, 2) == 0 ? 1 + rnd(&h, 8000) : 0;
	assert_int_equal(sim_clone(image->sim, seed, &e.sim), 0);
	if (image->pmem != NULL)
		assert_int_equal(sim_clone(image->pmem, seed, &e.pmem), 0);
	for (unsigned i = 1 + (unsigned)rnd(&h, 4); i > 0; i--)
		live(false);
	live(true);
	h.faulty = h.dead = h.broken = false;
	h.n_settled = 0; /* all */
	sim_set_faults(e.sim, &none);
	env_run(&e, last_look, NULL);
	pass_on();
	sim_destroy(e.sim);
	sim_destroy(e.pmem);
	e.sim = e.pmem = NULL;
}

/* ---- the tests ---- */

static void test_histories(void **state)
{
	uint64_t seed = random_seed(), n = random_count(getenv("QUIRE_TEST_SEED") != NULL ? 1 : getenv("QUIRE_SANITIZED") != NULL ? 150 : 300, 20000);
	double begin_s = seconds_now();

	(void)state;
	print_message("log on " MEDIUM ": %llu histories from seed %llu\n", (unsigned long long)n, (unsigned long long)seed);
	for (uint64_t i = 0; i < n; i++) {
		if (getenv("QUIRE_TEST_VERBOSE") != NULL)
			fprintf(stderr, "seed %llu\n", (unsigned long long)(seed + i));
		one_history(seed + i);
	}
	double s = seconds_now() - begin_s;
	print_message("%llu lives, %llu cuts, %llu deaths, %llu errors; %llu records, %llu lost that were not promised; %llu segments "
	              "sealed, %llu compactions; %.1f s, %.0f histories a second\n",
	              (unsigned long long)h.n_lives, (unsigned long long)h.n_cuts, (unsigned long long)h.n_deaths,
	              (unsigned long long)h.n_errors, (unsigned long long)h.n_records, (unsigned long long)h.n_lost,
	              (unsigned long long)h.n_segments, (unsigned long long)h.n_compactions, s, (double)n / s);
	if (n >= 100)
		assert_true(h.n_cuts > 0 && h.n_deaths > 0 && h.n_errors > 0 && h.n_lost > 0 && h.n_segments > 0 && h.n_compactions > 0);
}

static void test_a_seed_repeats_a_history(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 8; seed++) {
		h.hash = 0;
		one_history(seed);
		uint64_t hash = h.hash;
		h.hash = 0;
		one_history(seed);
		assert_int_equal(hash, h.hash);
	}
}

static void format(struct env *env, void *arg)
{
	const struct image *image = arg;
	struct quire_log_options o = {.size = sizeof(o), .segment_bytes = SEGMENT};

	o.retain_records = image->retain_records;
	o.retain_bytes = image->retain_bytes;
	assert_int_equal(env_format(env), 0);
	o.cls = env->pmem != NULL ? QUIRE_CLASS_PMEM : QUIRE_CLASS_CAPACITY;
	assert_int_equal(env_open_store(env, false), 0);
	assert_int_equal(quire_log_rm(store_public(env->store), NAME, NULL), 0);
	assert_int_equal(quire_log_create(store_public(env->store), NAME, &o, NULL), 0);
	assert_int_equal(env_close(env), 0);
}

static int begin(void **state)
{
	struct sim_faults none = {.cut_ends_io = true};

	(void)state;
	h.power_is_gone = power_is_gone;
	h.die = die;
	h.arg = &e;
	h.segment_bytes = SEGMENT;
	h.cls = strcmp(MEDIUM, "pmem") == 0 ? QUIRE_CLASS_PMEM : QUIRE_CLASS_CAPACITY;
	h.other_cls = QUIRE_CLASS_CAPACITY;
	env_init(&e, 5, 0, NULL);
	for (unsigned i = 0; i < N_IMAGES; i++) {
		struct image *image = &images[i];
		bool pmem = strcmp(MEDIUM, "pmem") == 0;
		assert_int_equal(sim_create((pmem ? 300 : image->n_units) * FORMAT_UNIT_BYTES, 1, &none, &e.sim), 0);
		if (pmem)
			assert_int_equal(sim_create_pmem(image->n_units * FORMAT_UNIT_BYTES, 1, &none, &e.pmem), 0);
		env_run(&e, format, image);
		image->sim = e.sim;
		image->pmem = e.pmem;
		e.sim = e.pmem = NULL;
	}
	return 0;
}

static int end(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_IMAGES; i++) {
		sim_destroy(images[i].sim);
		sim_destroy(images[i].pmem);
	}
	env_fini(&e);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_seed_repeats_a_history),
		cmocka_unit_test(test_histories),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
