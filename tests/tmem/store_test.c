/* Pools and a store on simulated media: what is spilled is where it should be, whatever the medium does, and its space is nobody's
 * afterwards. */
#include "model.h"
#include "with_pages.h"
#include "../store/store_env.h"
#include "../../src/blob/tmem_store.h"
#include "../../src/tmem/backing.h"
#include "../support/random.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define UNITS 4096u
#define SEGMENT (256u << 10)

static const struct quire_tmem_backing_options backing = {
	.size = sizeof(backing), .segment_bytes = SEGMENT, .page_most_bytes = 16384,
};

static struct quire_tmem *make(uint64_t budget_bytes)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = budget_bytes, .n_threads = 1};
	struct quire_tmem *t = NULL;

	assert_int_equal(quire_tmem_create(&o, &t, NULL), 0);
	return t;
}

struct job {
	void (*run)(struct env *e, void *arg);
	void *arg;
};

/* The store is made anew, in a coroutine, and fn runs there with it open. */
static void formatted(struct env *e, void *arg)
{
	struct job *job = arg;

	assert_int_equal(env_format(e), 0);
	assert_int_equal(env_open(e), 0);
	job->run(e, job->arg);
	if (e->store != NULL)
		env_close(e);
}

static void on_a_store(uint64_t seed, const struct sim_faults *faults, void (*run)(struct env *e, void *arg), void *arg)
{
	struct job job = {run, arg};
	struct env e;

	env_init(&e, seed, (const uint64_t[]){UNITS, 0, 0}, faults);
	env_run(&e, formatted, &job);
	env_fini(&e);
}

/* ---- spilling ---- */

static void run_model(struct env *e, void *arg)
{
	struct model *m = arg;
	struct sim_faults faults = {.eio_read = UINT32_MAX / 8, .eio_write = UINT32_MAX / 8, .shorten = UINT32_MAX / 8, .max_delay_turns = 3};
	struct store_stat before, after;

	store_stat(e->store, &before);
	m->tmem = make(with_pages(MIB + 3 * MIB / 4, BEGUN_PAGES));
	assert_int_equal(tmem_store_set_backing(m->tmem, e->store, 0, &backing, NULL), 0);
	for (unsigned i = 0; i < MODEL_POOLS; i++)
		do
			model_make_pool(m, i);
		while (i == 0 && (m->options[0].flags & QUIRE_TMEM_SPILL) == 0);
	if (m->io_fails)
		sim_set_faults(e->sims[0], &faults);
	unsigned n_steps = getenv("QUIRE_TEST_LONG") != NULL ? 1000000 : 8000;
	for (unsigned i = 0; m->n_steps < n_steps; i++) {
		model_step(m);
		if (i == n_steps / 2)
			assert_int_equal(store_close(e->store), -EBUSY);
	}
	sim_set_faults(e->sims[0], &(struct sim_faults){0});
	m->io_fails = false;
	model_compare(m);
	assert_int_equal(env_check(e, true), 0);
	quire_tmem_destroy(m->tmem);
	store_settle(e->store);
	store_stat(e->store, &after);
	assert_int_equal(after.classes[0].free_bytes, before.classes[0].free_bytes);
	assert_int_equal(env_check(e, true), 0);
}

static void random_calls(bool io_fails)
{
	struct model m = {.random = random_seed(), .spills = true, .io_fails = io_fails, .page = malloc(2 << 20)};

	printf("seed %llu\n", (unsigned long long)m.random);
	on_a_store(m.random, NULL, run_model, &m);
	free(m.page);
}

static void random_calls_agree_with_the_model(void **state)
{
	random_calls(false);
	(void)state;
}

static void random_calls_agree_though_io_fails(void **state)
{
	random_calls(true);
	(void)state;
}

static struct quire_tmem_key key(uint32_t index)
{
	return (struct quire_tmem_key){.object = {1, 2, 3}, .index = index};
}

/* Of noise, or of one word. */
static int put(struct quire_tmem_pool *pool, uint32_t index, uint32_t content)
{
	uint8_t page[4096];
	struct quire_tmem_key k = key(index);

	model_fill(content * 5, page, sizeof(page));
	return quire_tmem_put(pool, &k, page);
}

static int get(struct quire_tmem_pool *pool, uint32_t index, uint32_t content)
{
	uint8_t page[4096], expected[4096];
	struct quire_tmem_key k = key(index);
	int rc = quire_tmem_get(pool, &k, page, QUIRE_TMEM_GET_USUAL);

	model_fill(content * 5, expected, sizeof(expected));
	return rc < 0 ? rc : memcmp(page, expected, sizeof(page)) == 0;
}

static struct quire_tmem_pool *make_pool(struct quire_tmem *t, uint32_t flags)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .flags = flags};
	struct quire_tmem_pool *pool = NULL;

	assert_int_equal(quire_tmem_pool_create(t, &o, &pool, NULL), 0);
	return pool;
}

static void fill_class(struct env *e, void *arg)
{
	struct quire_tmem *t = make(2 * MIB);
	struct quire_tmem_stat s;
	uint32_t n = 0;

	assert_int_equal(tmem_store_set_backing(t, e->store, 0, &backing, NULL), 0);
	struct quire_tmem_pool *pool = make_pool(t, QUIRE_TMEM_SPILL);
	while (put(pool, n, n) == 0)
		n++;
	quire_tmem_stat(t, &s);
	assert_true(s.spill_segment_bytes > UNITS * 4096 / 2);
	assert_true(s.n_spill_errors > 0);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(get(pool, i, i), 1);
	quire_tmem_destroy(t);
	(void)arg;
}

static void a_full_class_refuses_puts_and_loses_nothing(void **state)
{
	on_a_store(1, NULL, fill_class, NULL);
	(void)state;
}

/* The process dies, or the power fails, with much spilled: the space is free at the next open. */
static void die(struct env *e, void *arg)
{
	bool cut = *(bool *)arg;
	struct quire_tmem *t = make(2 * MIB);
	struct store_stat before, after;
	struct sim *left;

	store_stat(e->store, &before);
	assert_int_equal(tmem_store_set_backing(t, e->store, 0, &backing, NULL), 0);
	struct quire_tmem_pool *pool = make_pool(t, QUIRE_TMEM_SPILL);
	for (uint32_t i = 0; i < 1500; i++)
		assert_int_equal(put(pool, i, i), 0);
	assert_int_equal(sim_clone(e->sims[0], 7, &left), 0);
	quire_tmem_destroy(t);
	env_close(e);
	sim_destroy(e->sims[0]);
	e->sims[0] = left;
	if (cut)
		sim_cut(left, 2);
	assert_int_equal(env_open(e), 0);
	store_stat(e->store, &after);
	assert_int_equal(after.classes[0].free_bytes, before.classes[0].free_bytes);
	assert_int_equal(env_check(e, true), 0);
}

static void what_is_spilled_takes_no_space_after_a_crash(void **state)
{
	bool cut = false;

	on_a_store(2, NULL, die, &cut);
	cut = true;
	on_a_store(3, NULL, die, &cut);
	(void)state;
}

/* ---- who may not wait ---- */

struct callback {
	struct quire_tmem_pool *pool;
	int get_rc, put_rc;
	struct quire_op op;
};

static void in_callback(struct quire_op *op, void *arg)
{
	struct callback *c = arg;

	c->get_rc = get(c->pool, 0, 0);
	c->put_rc = put(c->pool, 100000, 6);
	(void)op;
}

static void call_back(struct env *e, void *arg)
{
	struct quire_tmem *t = make(2 * MIB);
	struct callback c = {0};

	assert_int_equal(tmem_store_set_backing(t, e->store, 0, &backing, NULL), 0);
	c.pool = make_pool(t, QUIRE_TMEM_SPILL | QUIRE_TMEM_NO_DEDUP);
	for (uint32_t i = 0; i < 1500; i++)
		assert_int_equal(put(c.pool, i, 5), 0);
	quire_op_init_callback(&c.op, e->loop, in_callback, &c);
	assert_int_equal(quire_sleep_ns(1, &c.op), 0);
	assert_int_equal(quire_sleep_ns(2000000, NULL), 0);
	assert_int_equal(c.get_rc, -EDEADLK);
	assert_true(c.put_rc == 0 || c.put_rc == -ENOSPC);
	assert_int_equal(get(c.pool, 0, 5), 1);
	quire_tmem_destroy(t);
	(void)arg;
}

static void a_callback_is_told_that_it_would_block(void **state)
{
	on_a_store(4, NULL, call_back, NULL);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_calls_agree_with_the_model),
		cmocka_unit_test(random_calls_agree_though_io_fails),
		cmocka_unit_test(a_full_class_refuses_puts_and_loses_nothing),
		cmocka_unit_test(what_is_spilled_takes_no_space_after_a_crash),
		cmocka_unit_test(a_callback_is_told_that_it_would_block),
	};
	return cmocka_run_group_tests_name("tmem-store", tests, NULL, NULL);
}
