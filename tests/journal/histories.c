/* histories.c - see histories.h. */
#include "histories.h"

#include <stdio.h>
#include <stdlib.h>

struct played played;

static const struct sim_faults none = {.cut_ends_io = true};

/* ---- one history ---- */

static void begin(const struct histories *kind, uint64_t seed, bool scripted)
{
	played.seed = seed;
	played.refused = false;
	played.faults = none;
	kind->begin(seed, scripted);
}

static void session(const struct histories *kind)
{
	env_run(&e, kind->session, NULL);
	played.n_cuts += sim_is_cut(e.sim);
	played.n_sessions++;
}

static void reopen_device(void)
{
	env_close_device(&e);
	env_open_device(&e);
}

static void play(const struct histories *kind, uint64_t seed)
{
	begin(kind, seed, false);
	unsigned n_sessions = 2 + (unsigned)env_below(&e, kind->n_sessions);

	for (unsigned i = 0; i < n_sessions && !played.refused; i++) {
		bool last = i + 1 == n_sessions;
		played.faults = last ? none : kind->draw_faults();
		sim_set_faults(e.sim, &played.faults);
		if (!last && env_below(&e, 3) != 0)
			sim_cut_at(e.sim, sim_n_events(e.sim) + env_below(&e, kind->n_events), env_below(&e, 8) < 2 ? env_below(&e, 2) : env_random(&e));
		session(kind);
		if (env_below(&e, 2) == 0 && !sim_is_cut(e.sim) && !last) {
			sim_cut(e.sim, env_random(&e));
			played.n_cuts++;
		}
		reopen_device();
	}
	env_end(&e);
}

/* Three sessions, the first cut before its event `cut` is done. Returns how many events that one has. */
static uint64_t script(const struct histories *kind, uint64_t seed, uint64_t cut, uint64_t choice)
{
	begin(kind, seed, true);
	sim_cut_at(e.sim, cut, choice);
	session(kind);
	uint64_t n = sim_n_events(e.sim);
	for (int i = 0; i < 2; i++) {
		reopen_device();
		session(kind);
	}
	env_end(&e);
	return n;
}

/* ---- many ---- */

static double run_begin(const struct histories *kind, const char *what, uint64_t seed, bool damage)
{
	print_message("%s%s: seed %llu\n", kind->name, what, (unsigned long long)seed);
	played = (struct played){.damage = damage};
	kind->forget();
	seen_init(&seen);
	return seconds_now();
}

static void run_end(const struct histories *kind, uint64_t n, double begin_s)
{
	double s = seconds_now() - begin_s;

	print_message("%llu histories: %llu sessions, %llu cuts, %llu records; %llu refused, %llu cut short; ", (unsigned long long)n,
	              (unsigned long long)played.n_sessions, (unsigned long long)played.n_cuts, (unsigned long long)played.n_records,
	              (unsigned long long)played.n_refused, (unsigned long long)played.n_short);
	kind->tell();
	print_message("; %.1f s, %.0f a minute\n", s, (double)n / s * 60);
	seen_fini(&seen);
	assert_true(played.damage || (played.n_refused == 0 && played.n_short == 0));
}

static void play_many(const struct histories *kind, bool damage)
{
	uint64_t seed = random_seed(), n = damage ? env_count(300, kind->n_long_damaged) : env_count(600, kind->n_long);
	double begin_s = run_begin(kind, damage ? ", damaged" : "", seed, damage);

	for (uint64_t i = 0; i < n; i++) {
		if (getenv("QUIRE_TEST_VERBOSE") != NULL)
			fprintf(stderr, "seed %llu\n", (unsigned long long)(seed + i));
		play(kind, seed + i);
	}
	run_end(kind, n, begin_s);
}

/* ---- the tests ---- */

static void test_every_cut(void **state)
{
	const struct histories *kind = *state;
	uint64_t n = 0, n_scripts = 1 + env_count(600, 60000) / 1000, seed = random_seed();
	uint64_t each = getenv("QUIRE_SANITIZED") != NULL ? 4 : 1; /* then one choice of four, another with each cut */
	double begin_s = run_begin(kind, ", every cut", seed, false);

	for (uint64_t i = 0; i < n_scripts; i++) {
		uint64_t n_events = script(kind, seed + i, UINT64_MAX, 0);
		for (uint64_t cut = 0; cut < n_events; cut++)
			for (uint64_t choice = cut % each; choice < 8; choice += each, n++)
				(void)script(kind, seed + i, cut, choice);
	}
	run_end(kind, n, begin_s);
}

static void test_histories(void **state)
{
	play_many(*state, false);
}

static void test_histories_with_damage(void **state)
{
	play_many(*state, true);
}

int histories_main(struct histories *kind)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(test_every_cut, kind),
		cmocka_unit_test_prestate(test_histories, kind),
		cmocka_unit_test_prestate(test_histories_with_damage, kind),
	};

	return cmocka_run_group_tests(tests, NULL, end);
}
