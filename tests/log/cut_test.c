/* cut_test.c - a scripted run, cut at every event of each of its media, with several choices of what is left; then opened, looked
 * at, appended to, and opened again. Built once for a disk, once for persistent memory with a disk for the store. */
#include "model.h"

#include <errno.h>
#include <stdlib.h>

#define N_UNITS 600u

static struct env e;
static struct model m;
static struct sim *initial, *initial_pmem;

/* False: the power is gone. Anything else but space that is not there is an error of the test. */
static bool goes_on(int rc)
{
	if (rc != -EIO && rc != -ENOSPC)
		assert_int_equal(rc, 0);
	return rc != -EIO;
}

static void format(struct env *env, void *arg)
{
	assert_int_equal(env_format(env), 0);
}

static void make_initial(const struct sim_faults *faults)
{
	assert_int_equal(sim_create(N_UNITS * FORMAT_UNIT_BYTES, 1, faults, &e.sim), 0);
#ifdef TEST_PMEM
	assert_int_equal(sim_create_pmem(N_UNITS * FORMAT_UNIT_BYTES, 1, faults, &e.pmem), 0);
#endif
	env_run(&e, format, NULL);
	initial = e.sim;
	initial_pmem = e.pmem;
	e.sim = e.pmem = NULL;
}

/* ---- the script ---- */

static bool script_step(unsigned i)
{
	if (i % 50 == 49)
		return goes_on(model_trim(&m, &e, m.n - m.n / 3));
	if (i % 7 == 3)
		return goes_on(model_batch(&m, &e, 1 + i % 5));
	if (i % 11 == 5)
		return goes_on(model_sync(&m, &e));
	return goes_on(model_append(&m, &e, i % 3 == 0));
}

static void script(struct env *env, void *arg)
{
	unsigned n_steps = *(unsigned *)arg, i = 0;

	int rc = env_open(env);
	if (!goes_on(rc))
		return;
	while (i < n_steps && script_step(i)) {
		i++;
		if (i != n_steps / 2)
			continue;
		uint64_t n = quire_log_visible(env->log);
		rc = env_close(env);
		if (rc == 0)
			m.n_durable = n;
		if (!goes_on(rc) || !goes_on(rc = env_open(env)))
			return;
		model_settle(&m, env);
	}
	if (i == n_steps)
		model_verify(&m, env);
	uint64_t n = quire_log_visible(env->log);
	if (env_close(env) == 0)
		m.n_durable = n;
}

/* After a cut, or a clean end. */
static void look(struct env *env, void *arg)
{
	int rc = env_open(env);
	if (rc < 0)
		fail_msg("open: %d, %s", rc, env->err.text);
	model_settle(&m, env);
	model_verify(&m, env);
	/* Room for them. */
	assert_int_equal(model_trim(&m, env, m.n - m.n / 4), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(model_append(&m, env, i == 2), 0);
	assert_int_equal(env_close(env), 0);
	assert_int_equal(env_open(env), 0);
	model_settle(&m, env);
	assert_int_equal(m.n_durable, quire_log_visible(env->log));
	model_verify(&m, env);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

/* When one medium has no power, none has. */
static bool is_cut(uint64_t choice)
{
	bool cut = sim_is_cut(e.sim) || (e.pmem != NULL && sim_is_cut(e.pmem));

	if (cut && !sim_is_cut(e.sim))
		sim_cut(e.sim, choice);
	if (cut && e.pmem != NULL && !sim_is_cut(e.pmem))
		sim_cut(e.pmem, choice);
	return cut;
}

/* Returns how many events there were on that medium. */
static uint64_t run_script(unsigned n_steps, bool of_pmem, uint64_t event, uint64_t choice)
{
	struct sim_faults none = {.max_delay_turns = 3, .cut_ends_io = true};

	e.seed = 99;
	if (getenv("QUIRE_TEST_VERBOSE") != NULL)
		print_message("event %lld, choice %llu\n", (long long)event, (unsigned long long)choice);
	assert_int_equal(sim_clone(initial, 7 + choice, &e.sim), 0);
	if (initial_pmem != NULL)
		assert_int_equal(sim_clone(initial_pmem, 8 + choice, &e.pmem), 0);
	model_init(&m, 1);
	struct sim *cut = of_pmem ? e.pmem : e.sim;
	sim_cut_at(cut, event, choice);
	env_run(&e, script, &n_steps);
	uint64_t n = sim_n_events(cut);
	if (is_cut(choice) || event == UINT64_MAX) {
		sim_set_faults(cut, &none);
		sim_cut_at(cut, UINT64_MAX, 0);
		env_run(&e, look, NULL);
	}
	sim_destroy(e.sim);
	sim_destroy(e.pmem);
	e.sim = e.pmem = NULL;
	return n;
}

static void cut_at_every_event(bool of_pmem)
{
	unsigned n_steps = (unsigned)random_count(300, 1200);
	uint64_t n_choices = random_count(2, 6), n_cuts = 0, n = run_script(n_steps, of_pmem, UINT64_MAX, 0);
	double begin_s = seconds_now();

	for (uint64_t event = 0; event < n; event++)
		for (uint64_t k = 0; k < n_choices; k++, n_cuts++)
			run_script(n_steps, of_pmem, event, (event + k) % 5);
	print_message("%llu events of the %s, %llu cuts, %.1f s\n", (unsigned long long)n, of_pmem ? "memory" : "disk",
	              (unsigned long long)n_cuts, seconds_now() - begin_s);
	assert_true(n > 10);
}

static void test_cut_at_every_event(void **state)
{
	cut_at_every_event(false);
}

#ifdef TEST_PMEM
static void test_cut_at_every_event_of_memory(void **state)
{
	cut_at_every_event(true);
}
#endif

static int begin(void **state)
{
	static const struct sim_faults faults = {.max_delay_turns = 3, .cut_ends_io = true};

	env_init(&e, 5, 0, NULL);
	make_initial(&faults);
	return 0;
}

static int end(void **state)
{
	sim_destroy(initial);
	sim_destroy(initial_pmem);
	env_fini(&e);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut_at_every_event),
#ifdef TEST_PMEM
		cmocka_unit_test(test_cut_at_every_event_of_memory),
#endif
	};

	return cmocka_run_group_tests(tests, begin, end);
}
