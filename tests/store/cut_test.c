/* cut_test.c - a script of some hundred transactions, with compactions, a class that is added and two that grow, cut at
 * every event of either device, with one of three choices of what is left; QUIRE_TEST_LONG: with each; under a sanitizer: at each second. */
#include "model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define N_STEPS 200u
#define CAPACITY_UNITS 1200u

struct run {
	struct env e;
	struct model m;
	struct sim *initial[2]; /* formatted */
	bool ended;             /* the script came to its end */
	uint64_t n_events[2], n_compactions, n_transactions;
	uint64_t seed;
	uint64_t staging_event, choice; /* where staging will be cut */
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
		assert_int_equal(sim_open(r->e.sims[1], r->e.loop, &d), 0);
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
	for (unsigned i = 0; i < 2; i++) {
		sim_destroy(e->sims[i]);
		e->sims[i] = NULL;
	}
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
	for (uint64_t event = 0; event < n_events; event += getenv("QUIRE_SANITIZED") != NULL ? 2 : 1)
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
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
