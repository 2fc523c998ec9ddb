/* Saved pools in a store on a simulated device: a script of saves, cut at every event, with several choices of what is left each time. What
 * is restored then is the last that was acknowledged, or the one that was under way, whole. */
#include "model.h"
#include "../store/store_env.h"
#include "../../src/blob/tmem_store.h"

#include <errno.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define UNITS 2048u
#define N_VERSIONS 6u

struct run {
	struct env e;
	struct sim *initial;   /* formatted */
	unsigned done, trying; /* versions of what was saved; 0: nothing is */
	uint64_t n_events;
};

/* Of some versions the image is written before it is committed, of others with that. */
static uint32_t n_pages_of(unsigned version)
{
	return version * 17 % 40 + (version % 2 == 1 ? 150 : 0);
}

static uint32_t content_of(unsigned version, uint32_t index)
{
	return version * 1000 + (index % 3 == 0 ? index / 9 : index);
}

static struct quire_tmem *make(void)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = 8 * MIB, .n_threads = 1};
	struct quire_tmem *t = NULL;

	assert_int_equal(quire_tmem_create(&o, &t, NULL), 0);
	return t;
}

static struct quire_tmem_key key(uint32_t index)
{
	return (struct quire_tmem_key){.object = {index % 4, 2, 3}, .index = index};
}

static struct quire_tmem_pool *make_version(struct quire_tmem *t, unsigned version)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .weight = version};
	struct quire_tmem_pool *pool = NULL;
	uint8_t page[4096];

	assert_int_equal(quire_tmem_pool_create(t, &o, &pool, NULL), 0);
	for (uint32_t i = 0; i < n_pages_of(version); i++) {
		struct quire_tmem_key k = key(i);
		model_fill(content_of(version, i), page, sizeof(page));
		assert_int_equal(quire_tmem_put(pool, &k, page), 0);
	}
	return pool;
}

/* Which version it is; each page is looked at. */
static unsigned version_of(struct quire_tmem_pool *pool)
{
	struct quire_tmem_pool_stat s;
	uint8_t page[4096], expected[4096];

	quire_tmem_pool_stat(pool, &s);
	assert_int_equal(s.n_pages, n_pages_of(s.weight));
	for (uint32_t i = 0; i < s.n_pages; i++) {
		struct quire_tmem_key k = key(i);
		model_fill(content_of(s.weight, i), expected, sizeof(expected));
		assert_int_equal(quire_tmem_get(pool, &k, page, QUIRE_TMEM_GET_USUAL), 0);
		assert_memory_equal(page, expected, sizeof(page));
	}
	return s.weight;
}

/* ---- the script; false: the power is gone ---- */

static bool goes_on(struct run *r, int rc)
{
	if (rc != -EIO)
		assert_int_equal(rc, 0);
	if (rc == 0)
		r->done = r->trying;
	return rc == 0;
}

static bool step(struct run *r, struct quire_tmem *t, unsigned version)
{
	struct quire_tmem_pool *pool = make_version(t, version), *other = make_version(t, version + 1);

	r->trying = version;
	bool on = goes_on(r, tmem_store_save(pool, r->e.store, 0, "image", NULL));
	/* Another's name is another image. */
	if (on && version == 2)
		on = goes_on(r, tmem_store_save(other, r->e.store, 0, "images", NULL));
	if (on && version == 4) {
		r->trying = 0;
		on = goes_on(r, tmem_store_forget(r->e.store, "image"));
	}
	quire_tmem_pool_destroy(pool);
	quire_tmem_pool_destroy(other);
	return on;
}

static void script(struct env *e, void *arg)
{
	struct run *r = arg;
	struct quire_tmem *t = make();

	r->done = r->trying = 0;
	if (env_open(e) == 0) {
		unsigned version = 1;
		while (version <= N_VERSIONS && step(r, t, version))
			version++;
		env_close(e);
	}
	quire_tmem_destroy(t);
}

static unsigned restore(struct env *e, const char *name)
{
	struct quire_tmem *t = make();
	struct quire_tmem_pool *pool = NULL;
	struct quire_error err = {0};
	int rc = tmem_store_restore(t, e->store, name, NULL, &pool, &err);

	if (rc != 0 && rc != -ENOENT)
		fail_msg("%d: %s", rc, err.text);
	unsigned version = rc == 0 ? version_of(pool) : 0;
	quire_tmem_destroy(t);
	return version;
}

static void look(struct env *e, void *arg)
{
	struct run *r = arg;
	struct store_stat before, after;

	assert_int_equal(env_open(e), 0);
	unsigned found = restore(e, "image");
	assert_true(found == r->done || found == r->trying);
	if (r->done > 2)
		assert_int_equal(restore(e, "images"), 3);
	/* It goes on from there, and nothing is left over. */
	struct quire_tmem *t = make();
	struct quire_tmem_pool *pool = make_version(t, 5);
	assert_int_equal(tmem_store_save(pool, e->store, 0, "image", NULL), 0);
	store_settle(e->store);
	store_stat(e->store, &before);
	assert_int_equal(tmem_store_save(pool, e->store, 0, "image", NULL), 0);
	store_settle(e->store);
	store_stat(e->store, &after);
	assert_int_equal(restore(e, "image"), 5);
	assert_int_equal(before.n_objects, after.n_objects);
	assert_true(after.n_objects <= 2);
	assert_int_equal(env_check(e, true), 0);
	quire_tmem_destroy(t);
	env_close(e);
}

/* ---- once for each cut ---- */

static void run_script(struct run *r, uint64_t event, uint64_t choice)
{
	struct env *e = &r->e;

	e->seed = 77;
	assert_int_equal(sim_clone(r->initial, 5, &e->sims[0]), 0);
	sim_cut_at(e->sims[0], event, choice);
	env_run(e, script, r);
	r->n_events = sim_n_events(e->sims[0]);
	sim_cut_at(e->sims[0], UINT64_MAX, 0);
	if (event != UINT64_MAX && !sim_is_cut(e->sims[0]))
		sim_cut(e->sims[0], choice);
	env_run(e, look, r);
	sim_destroy(e->sims[0]);
	e->sims[0] = NULL;
}

static void format(struct env *e, void *arg)
{
	assert_int_equal(env_format(e), 0);
	(void)arg;
}

static void a_cut_at_any_point_leaves_the_old_or_the_new(void **state)
{
	const struct sim_faults faults = {.cut_ends_io = true, .max_delay_turns = 2};
	static struct run r;

	env_init(&r.e, 5, (const uint64_t[]){UNITS, 0, 0}, &faults);
	env_run(&r.e, format, NULL);
	r.initial = r.e.sims[0];
	run_script(&r, UINT64_MAX, 0);
	assert_int_equal(r.done, N_VERSIONS);
	uint64_t n_events = r.n_events;
	assert_true(n_events > 20);
	for (uint64_t event = 0; event < n_events; event++)
		for (uint64_t choice = 0; choice < 3; choice++)
			run_script(&r, event, choice < 2 ? choice : 1000 + event);
	print_message("%llu events\n", (unsigned long long)n_events);
	sim_destroy(r.initial);
	env_fini(&r.e);
	(void)state;
}

/* ---- what fails ---- */

static void fail_now_and_then(struct env *e, void *arg)
{
	const struct sim_faults faults = {.enospc = UINT32_MAX / 4};
	struct quire_tmem *t = make();
	unsigned saved = 1, n_failed = 0;

	assert_int_equal(env_format(e), 0);
	assert_int_equal(env_open(e), 0);
	struct quire_tmem_pool *pool = make_version(t, 1);
	assert_int_equal(tmem_store_save(pool, e->store, 0, "image", NULL), 0);
	quire_tmem_pool_destroy(pool);
	for (unsigned i = 2; i < 40 && store_error(e->store) == 0; i++) {
		pool = make_version(t, i);
		sim_set_faults(e->sims[0], &faults);
		int rc = tmem_store_save(pool, e->store, 0, "image", NULL);
		sim_set_faults(e->sims[0], &(struct sim_faults){0});
		n_failed += rc < 0;
		if (store_error(e->store) == 0) {
			saved = rc == 0 ? i : saved;
			assert_int_equal(restore(e, "image"), saved);
		}
		quire_tmem_pool_destroy(pool);
	}
	assert_true(n_failed > 0);
	quire_tmem_destroy(t);
	env_close(e);
	(void)arg;
}

static void a_save_that_fails_leaves_what_was_saved(void **state)
{
	struct env e;

	env_init(&e, 9, (const uint64_t[]){UNITS, 0, 0}, NULL);
	env_run(&e, fail_now_and_then, NULL);
	env_fini(&e);
	(void)state;
}

static void save_beside_what_cannot_be_read(struct env *e, void *arg)
{
	const struct sim_faults faults = {.eio_read = UINT32_MAX};
	struct quire_tmem *t = make();
	struct quire_tmem_pool *first = make_version(t, 1), *second = make_version(t, 2);
	struct quire_error err = {0};
	struct store_stat s;

	assert_int_equal(env_format(e), 0);
	assert_int_equal(env_open(e), 0);
	assert_int_equal(tmem_store_save(first, e->store, 0, "image", NULL), 0);
	sim_set_faults(e->sims[0], &faults);
	assert_int_equal(tmem_store_save(second, e->store, 0, "image", &err), -EIO);
	assert_true(err.text[0] != 0);
	sim_set_faults(e->sims[0], &(struct sim_faults){0});
	assert_int_equal(restore(e, "image"), 1);
	assert_int_equal(tmem_store_save(second, e->store, 0, "image", NULL), 0);
	store_settle(e->store);
	store_stat(e->store, &s);
	assert_int_equal(s.n_objects, 1);
	quire_tmem_destroy(t);
	env_close(e);
	(void)arg;
}

/* Else an image that could not be read for a while would be there again beside the newer one. */
static void nothing_is_saved_beside_what_cannot_be_read(void **state)
{
	struct env e;

	env_init(&e, 11, (const uint64_t[]){UNITS, 0, 0}, NULL);
	env_run(&e, save_beside_what_cannot_be_read, NULL);
	env_fini(&e);
	(void)state;
}

static void refuse(struct env *e, void *arg)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_EPHEMERAL};
	struct quire_tmem_pool *pool, *ephemeral;
	struct quire_tmem *t = make();
	struct quire_error err;
	char name[65];

	assert_int_equal(env_format(e), 0);
	assert_int_equal(env_open(e), 0);
	pool = make_version(t, 1);
	assert_int_equal(quire_tmem_pool_create(t, &o, &ephemeral, NULL), 0);
	memset(name, 'x', sizeof(name));
	name[64] = 0;
	assert_int_equal(tmem_store_save(pool, e->store, 0, name, NULL), -EINVAL);
	assert_int_equal(tmem_store_save(pool, e->store, 0, "", NULL), -EINVAL);
	name[63] = 0;
	assert_int_equal(tmem_store_save(pool, e->store, 0, name, NULL), 0);
	assert_int_equal(restore(e, name), 1);
	assert_int_equal(tmem_store_save(ephemeral, e->store, 0, "image", NULL), -EINVAL);
	assert_int_equal(tmem_store_save(pool, e->store, 1, "image", NULL), -ENOENT);
	assert_int_equal(tmem_store_forget(e->store, "image"), -ENOENT);
	assert_int_equal(tmem_store_restore(t, e->store, "image", NULL, &pool, &err), -ENOENT);
	/* A blob that has the tag and is no image is nobody's, and stays. */
	uint64_t id;
	assert_int_equal(object_begin(e->store, 0, 0, 0, QUIRE_TMEM_IMAGE_TAG, &id), 0);
	assert_int_equal(store_apply(e->store, &id, 1, NULL, 0), 0);
	assert_int_equal(tmem_store_restore(t, e->store, "image", NULL, &pool, &err), -EUCLEAN);
	assert_int_equal(tmem_store_save(pool, e->store, 0, "image", NULL), 0);
	assert_int_equal(restore(e, "image"), 1);
	assert_int_equal(tmem_store_forget(e->store, "image"), 0);
	struct object_properties p;
	assert_int_equal(object_properties(e->store, id, &p), 0);
	quire_tmem_destroy(t);
	env_close(e);
	(void)arg;
}

static void what_is_not_of_the_form_is_refused(void **state)
{
	struct env e;

	env_init(&e, 10, (const uint64_t[]){UNITS, 0, 0}, NULL);
	env_run(&e, refuse, NULL);
	env_fini(&e);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cut_at_any_point_leaves_the_old_or_the_new),
		cmocka_unit_test(a_save_that_fails_leaves_what_was_saved),
		cmocka_unit_test(nothing_is_saved_beside_what_cannot_be_read),
		cmocka_unit_test(what_is_not_of_the_form_is_refused),
	};
	return cmocka_run_group_tests_name("tmem-save", tests, NULL, NULL);
}
