/* cut_test.c - a script of some hundred transactions, with compactions, a class that is added and two that grow, cut at
 * every event of either device, with one of three choices of what is left; QUIRE_TEST_LONG: with each; under a sanitizer: at each fourth. And again, as
 * one I/O fails, or all from one on; then what it left is opened and read, as one read fails. */
#include "model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define N_STEPS 200u
#define CAPACITY_UNITS 1200u
#define N_OF_OPENING 20u /* reads, about */
#define N_FAILURES 40u       /* of each kind */

#define READS (1u << DEVICE_READ)
#define CHANGES (1u << DEVICE_WRITE | 1u << DEVICE_WRITE_DURABLE | 1u << DEVICE_FLUSH | 1u << DEVICE_DISCARD)

struct run {
	struct env e;
	struct model m;
	struct sim *initial[2]; /* formatted */
	bool ended;             /* the script came to its end */
	uint64_t n_events[2], n_compactions, n_transactions;
	uint64_t seed;
	uint64_t staging_event, choice; /* where staging will be cut */
	struct failing failing;
	uint64_t n_refused, n_unread;
};

/* ---- the script; false: the power is gone ---- */

static bool goes_on(int rc)
{
	if (rc != -EIO)
		assert_int_equal(rc, 0);
	return rc == 0;
}

static bool write_some(struct run *r, unsigned i, uint64_t *ids, unsigned n)
{
	for (unsigned k = 0; k < n; k++) {
		unsigned cls = r->e.sims[1] != NULL && i > 60 && (i + k) % 3 == 0;
		uint64_t len = i % 40 == 7 ? 90000 : (i * 37 + k * 1000) % 9001;
		if (!goes_on(object_begin(r->e.store, cls, 0, ENV_SHIFT(cls), ENV_TAG(cls), &ids[k])))
			return false;
		model_begun(&r->m, ids[k], cls)->len_bytes = len;
		if (!goes_on(env_append(&r->e, ids[k], 0, len)))
			return false;
	}
	return true;
}

static bool transact(struct run *r, unsigned i)
{
	uint64_t ids[8], old[8];
	unsigned n = 1 + i % 3, n_old = 0;

	if (!write_some(r, i, ids, n))
		return false;
	for (unsigned k = 0; k < r->m.n && n_old < (i % 5) && i > 30; k++)
		if (r->m.objects[k].state == MODEL_COMMITTED)
			old[n_old++] = r->m.objects[k].id;
	int tx = model_asked(&r->m, ids, n, old, n_old);
	if (!goes_on(store_apply(r->e.store, ids, n, old, n_old)))
		return false;
	model_answered(&r->m, tx, true);
	r->n_transactions++;
	return true;
}

static bool change_classes(struct run *r, unsigned i)
{
	struct device *d;

	if (i == 60) {
		assert_int_equal(sim_clone(r->initial[1], r->seed, &r->e.sims[1]), 0);
		sim_cut_at(r->e.sims[1], r->staging_event, r->choice);
		d = env_open_device(&r->e, 1);
		int rc = store_class_add(r->e.store, 1, d, 0, NULL);
		if (rc < 0)
			device_close(d);
		if (!goes_on(rc))
			return false;
		r->m.n_units[1] = 300;
	}
	if (i == 100 || i == 140) {
		unsigned cls = i == 140;
		uint64_t n_units = i == 100 ? CAPACITY_UNITS + 100 : 400;
		if (!goes_on(store_class_grow(r->e.store, cls, n_units * PAGE, NULL)))
			return false;
		r->m.n_units[cls] = n_units;
	}
	return true;
}

static void script(struct env *e, void *arg)
{
	struct run *r = arg;
	struct store_stat stat;

	r->ended = false;
	if (!goes_on(env_open(e)))
		return;
	unsigned i = 0;
	while (i < N_STEPS && change_classes(r, i) && transact(r, i))
		i++;
	r->ended = i == N_STEPS;
	store_stat(e->store, &stat);
	r->n_compactions = stat.n_compactions;
	env_close(e);
}

static void look(struct env *e, void *arg)
{
	struct run *r = arg;
	int rc = env_open(e);

	if (rc < 0)
		fail_msg("open: %d, %s", rc, e->err.text);
	model_settle(&r->m, e);
	model_verify(&r->m, e, 5);
	env_close(e);
}

/* ---- once for each cut ---- */

static void drop(struct run *r)
{
	for (unsigned i = 0; i < 2; i++) {
		sim_destroy(r->e.sims[i]);
		r->e.sims[i] = NULL;
	}
}

/* Cuts device `which` at an event; UINT64_MAX: never. */
static void run_script(struct run *r, unsigned which, uint64_t event, uint64_t choice)
{
	struct env *e = &r->e;

	e->seed = 77;
	model_init(&r->m);
	assert_int_equal(sim_clone(r->initial[0], r->seed, &e->sims[0]), 0);
	e->sims[1] = NULL;
	if (which == 0)
		sim_cut_at(e->sims[0], event, choice);
	r->staging_event = which == 1 ? event : UINT64_MAX;
	r->choice = choice;
	env_run(e, script, r);
	for (unsigned i = 0; i < 2; i++) {
		if (e->sims[i] == NULL)
			continue;
		r->n_events[i] = sim_n_events(e->sims[i]);
		sim_cut_at(e->sims[i], UINT64_MAX, 0);
		if (event != UINT64_MAX && !sim_is_cut(e->sims[i]))
			sim_cut(e->sims[i], choice);
	}
	env_run(e, look, r);
	drop(r);
}

static void format(struct env *e, void *arg)
{
	assert_int_equal(env_format(e), 0);
}

static void run_init(struct run *r, unsigned delay)
{
	const struct sim_faults faults = {.cut_ends_io = true, .max_delay_turns = delay};
	const uint64_t n_units[STORE_N_CLASSES] = {CAPACITY_UNITS, 300};

	memset(r, 0, sizeof(*r));
	r->seed = 5 + delay;
	env_init(&r->e, r->seed, n_units, &faults);
	r->initial[1] = r->e.sims[1];
	r->e.sims[1] = NULL;
	r->e.slack_bytes = 2048;
	env_run(&r->e, format, NULL);
	r->initial[0] = r->e.sims[0];
	run_script(r, 0, UINT64_MAX, 0);
	assert_true(r->ended && r->n_compactions >= 2 && r->n_transactions == N_STEPS);
}

static void run_fini(struct run *r)
{
	sim_destroy(r->initial[0]);
	sim_destroy(r->initial[1]);
	env_fini(&r->e);
}

static void cut_everywhere(unsigned which)
{
	static struct run r;
	uint64_t n_cuts = 0;

	run_init(&r, 2);
	uint64_t n_events = r.n_events[which];
	for (uint64_t event = 0; event < n_events; event += getenv("QUIRE_SANITIZED") != NULL ? 4 : 1)
		for (uint64_t choice = 0; choice < 3; choice++) {
			if (getenv("QUIRE_TEST_LONG") == NULL && choice != event % 3)
				continue;
			run_script(&r, which, event, choice < 2 ? choice : 1000 + event);
			n_cuts++;
		}
	print_message("device %u: %llu events, %llu cuts\n", which, (unsigned long long)n_events,
	              (unsigned long long)n_cuts);
	run_fini(&r);
}

/* ---- once for each I/O that fails ---- */

/* In one of three the power goes then. */
static uint64_t run_failing(struct run *r, unsigned verbs, uint64_t n, bool lasting)
{
	struct env *e = &r->e;

	e->seed = 77;
	e->failing = &r->failing;
	r->staging_event = UINT64_MAX;
	model_init(&r->m);
	assert_int_equal(sim_clone(r->initial[0], r->seed, &e->sims[0]), 0);
	failing_begin(&r->failing, verbs, n, lasting);
	env_run(e, script, r);
	bool failed = failing_end(&r->failing);
	assert_true(r->ended || failed);
	assert_int_equal(failed, n != 0);
	for (unsigned i = 0; i < 2 && n % 3 == 0 && n != 0; i++)
		if (e->sims[i] != NULL)
			sim_cut(e->sims[i], n);
	env_run(e, look, r);
	return atomic_load(&r->failing.n_ios);
}

static uint64_t script_as_change_fails(void *arg, uint64_t n, bool lasting)
{
	uint64_t n_ios = run_failing(arg, CHANGES, n, lasting);

	drop(arg);
	return n_ios;
}

static uint64_t script_as_read_fails(void *arg, uint64_t n, bool lasting)
{
	uint64_t n_ios = run_failing(arg, READS, n, lasting);

	drop(arg);
	return n_ios;
}

static void test_each_io_fails(void **state)
{
	static struct run r;

	(void)state;
	run_init(&r, 2);
	failing_each(&(struct failing_sweep){.play = script_as_change_fails, .arg = &r, .n_quick = N_FAILURES});
	failing_each(&(struct failing_sweep){.play = script_as_read_fails, .arg = &r, .n_quick = N_FAILURES});
	run_fini(&r);
}

/* What can't be read now: it is told, and nothing else is wrong. */
static void read_all(struct env *e, void *arg)
{
	struct run *r = arg;
	int rc = env_open(e);

	if (rc < 0) {
		assert_int_equal(rc, -EIO);
		assert_true(e->err.text[0] != '\0');
		r->n_refused++;
		return;
	}
	for (unsigned i = 0; i < r->m.n; i++) {
		const struct model_object *o = &r->m.objects[i];
		rc = o->state == MODEL_COMMITTED ? env_verify(e, o->id, o->len_bytes) : 0;
		assert_true(rc == 0 || rc == -EIO);
		r->n_unread += rc < 0;
	}
	r->n_unread += env_check(e, false) != 0;
	env_close(e);
}

static uint64_t look_as_read_fails(void *arg, uint64_t n, bool lasting)
{
	struct run *r = arg;
	uint64_t n_told = r->n_refused + r->n_unread;

	failing_begin(&r->failing, READS, n, lasting);
	env_run(&r->e, read_all, r);
	uint64_t n_ios = atomic_load(&r->failing.n_ios);
	assert_int_equal(failing_end(&r->failing), n != 0);
	/* What failed once may be there a second time, or be read again, page by page. */
	bool is_told = r->n_refused + r->n_unread > n_told;
	assert_true(n == 0 ? !is_told : !lasting || is_told);
	env_run(&r->e, look, r);
	return n_ios;
}

static void test_each_read_fails(void **state)
{
	static struct run r;

	(void)state;
	run_init(&r, 2);
	(void)run_failing(&r, CHANGES, 0, false);
	failing_each(&(struct failing_sweep){.play = look_as_read_fails, .arg = &r, .n_quick = N_FAILURES, .n_first = N_OF_OPENING});
	assert_true(r.n_refused > 0 && r.n_unread > 0);
	drop(&r);
	run_fini(&r);
}

/* ---- the tests ---- */

static void test_cut_at_every_event_of_capacity(void **state)
{
	cut_everywhere(0);
}

static void test_cut_at_every_event_of_staging(void **state)
{
	cut_everywhere(1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut_at_every_event_of_capacity),
		cmocka_unit_test(test_cut_at_every_event_of_staging),
		cmocka_unit_test(test_each_io_fails),
		cmocka_unit_test(test_each_read_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
