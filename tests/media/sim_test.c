/* sim_test.c - the simulated device as a device, and everything that it can do wrong but a cut. */
#include "sim_env.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define ONE_IN(n) (UINT32_MAX / (n))
#define ALWAYS UINT32_MAX

/* ---- as a device ---- */

static void use_as_device(struct env *e)
{
	void *buf = env_memory(0);
	env_write(e, 3, 4, 1, false);
	env_write(e, 5, 1, 2, true);
	assert_int_equal(device_read(e->device, 0, buf, 8 * BLOCK), 0);
	static const int expected[] = {0, 0, 0, 1, 1, 2, 1, 0};
	for (unsigned b = 0; b < 8; b++) {
		for (unsigned i = 0; i < BLOCK / SECTOR; i++)
			assert_int_equal(env_tag(buf, b * (BLOCK / SECTOR) + i), expected[b]);
	}
}

static void test_reads_what_was_written(void **state)
{
	struct env e = env_make(64, 1, NULL);
	env_run(&e, use_as_device);
	env_end(&e);
}

static void use_wrongly(struct env *e)
{
	char *buf = env_memory(0);
	uint64_t end = e->device->size_bytes;
	assert_int_equal(device_read(e->device, 1, buf, BLOCK), -EINVAL);
	assert_int_equal(device_read(e->device, 0, buf + 8, BLOCK), -EINVAL);
	assert_int_equal(device_write(e->device, end, buf, BLOCK, true), -EINVAL);
	assert_int_equal(device_write(e->device, end - BLOCK, buf, 2 * BLOCK, true), -EINVAL);
	assert_int_equal(device_discard(e->device, 0, 100), -EINVAL);
}

static void test_wrong_arguments_are_refused(void **state)
{
	struct env e = env_make(64, 1, NULL);
	env_run(&e, use_wrongly);
	assert_int_equal(sim_n_events(e.sim), 0);
	env_end(&e);
}

static void grow_it(struct env *e)
{
	assert_int_equal(device_grow(e->device, 200 * BLOCK), 0);
	env_write(e, 199, 1, 1, true);
}

static void test_grows(void **state)
{
	struct env e = env_make(10, 1, NULL);
	env_run(&e, grow_it);
	sim_cut(e.sim, 0);
	env_reopen(&e);
	assert_int_equal(e.device->size_bytes, 200 * BLOCK);
	assert_int_equal(env_one_tag(&e, 199, 1), 1);
	env_end(&e);
}

static void test_one_device_at_a_time(void **state)
{
	struct env e = env_make(10, 1, NULL);
	struct device *second = NULL;
	assert_int_equal(sim_open(e.sim, NULL, &second), -EBUSY);
	assert_null(second);
	env_end(&e);
}

static void test_no_odd_sizes(void **state)
{
	struct sim *s = NULL;
	assert_int_equal(sim_create(0, 1, NULL, &s), -EINVAL);
	assert_int_equal(sim_create(1000, 1, NULL, &s), -EINVAL);
	assert_null(s);
}

static void *use_from_thread(void *arg)
{
	struct device *d = arg;
	void *buf = aligned_alloc(BLOCK, BLOCK);
	for (unsigned i = 0; i < 200; i++) {
		env_fill(buf, 1, 1 + i % 100);
		assert_int_equal(device_write(d, i % 16 * BLOCK, buf, BLOCK, i & 1), 0);
		assert_int_equal(device_read(d, i % 16 * BLOCK, buf, BLOCK), 0);
	}
	free(buf);
	return NULL;
}

/* Closed as soon as the last of them has its answer, while the loop still is about it. */
static void test_plain_threads(void **state)
{
	struct quire_loop *service;
	assert_int_equal(service_get(&service, NULL), 0);
	for (unsigned round = 0; round < 20; round++) {
		struct sim_faults faults = {.max_delay_turns = 3};
		struct sim *s;
		struct device *d;
		pthread_t threads[2];
		assert_int_equal(sim_create(64 * BLOCK, 1, &faults, &s), 0);
		assert_int_equal(sim_open(s, service, &d), 0);
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, use_from_thread, d), 0);
		for (unsigned i = 0; i < 2; i++)
			pthread_join(threads[i], NULL);
		device_close(d);
		sim_destroy(s);
	}
	service_put();
}

/* ---- delays and order ---- */

#define N_IOS 16u

static struct env_io ios[N_IOS];
static unsigned done_order[N_IOS], n_ended;

static void note_end(struct device_io *io, int result)
{
	assert_int_equal(result, 0);
	done_order[n_ended++] = (unsigned)((struct env_io *)io - ios);
}

static void write_all(struct env *e)
{
	n_ended = 0;
	for (unsigned i = 0; i < N_IOS; i++) {
		env_fill(env_memory(i % 4), 1, 1);
		env_submit(e, &ios[i], DEVICE_WRITE, i, 1, env_memory(i % 4));
		ios[i].io.done = note_end;
	}
	assert_int_equal(n_ended, 0);
}

static bool in_order(void)
{
	for (unsigned i = 0; i < N_IOS; i++) {
		if (done_order[i] != i)
			return false;
	}
	return true;
}

static void test_completes_in_any_order(void **state)
{
	unsigned n_first[N_IOS] = {0};
	for (uint64_t seed = 0; seed < 200; seed++) {
		struct sim_faults faults = {.max_delay_turns = (unsigned)seed % 4};
		struct env e = env_make(64, seed, &faults);
		env_run(&e, write_all);
		assert_int_equal(n_ended, N_IOS);
		assert_false(in_order());
		n_first[done_order[0]]++;
		env_end(&e);
	}
	for (unsigned i = 0; i < N_IOS; i++)
		assert_true(n_first[i] > 0);
}

/* Two writes to one place under way together: either may be the last. */
static void write_both(struct env *e)
{
	env_fill(env_memory(0), 1, 1);
	env_fill(env_memory(1), 1, 2);
	env_submit(e, &ios[0], DEVICE_WRITE, 5, 1, env_memory(0));
	env_submit(e, &ios[1], DEVICE_WRITE, 5, 1, env_memory(1));
}

static void test_either_of_two_writes_is_the_last(void **state)
{
	unsigned n[3] = {0};
	for (uint64_t seed = 0; seed < 100; seed++) {
		struct env e = env_make(64, seed, NULL);
		env_run(&e, write_both);
		n[env_one_tag(&e, 5, 1)]++;
		env_end(&e);
	}
	assert_true(n[1] > 20 && n[2] > 20);
}

/* ---- equal seeds, equal histories ---- */

static void worker(void *arg)
{
	struct env *e = arg;
	void *buf = aligned_alloc(BLOCK, 4 * BLOCK);
	for (unsigned i = 0; i < 50; i++) {
		env_fill(buf, 4, 1 + i);
		(void)device_write(e->device, i * 7 % 60 * BLOCK, buf, (1 + i % 4) * BLOCK, i % 3 == 0);
		(void)device_read(e->device, i * 5 % 60 * BLOCK, buf, 2 * BLOCK);
		if (i % 10 == 9)
			(void)device_flush(e->device);
		if (i % 16 == 5)
			(void)device_discard(e->device, i * 3 % 60 * BLOCK, BLOCK);
	}
	free(buf);
}

static uint64_t history(uint64_t seed, const struct sim_faults *faults)
{
	struct env e = env_make(64, seed, faults);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(quire_co_spawn(e.loop, worker, &e), 0);
	assert_int_equal(quire_loop_run(e.loop), 0);
	uint64_t hash = sim_history_hash(e.sim);
	env_end(&e);
	return hash;
}

static void test_equal_seeds_equal_histories(void **state)
{
	const uint32_t rate = ONE_IN(10);
	const struct sim_faults bad = {
		.eio_read = rate, .eio_write = rate, .eio_flush = rate, .enospc = rate, .lose = rate,
		.misdirect = rate, .bit_rot = rate, .shorten = rate, .max_delay_turns = 5,
	};
	for (uint64_t seed = 0; seed < 20; seed++) {
		assert_int_equal(history(seed, NULL), history(seed, NULL));
		assert_int_equal(history(seed, &bad), history(seed, &bad));
		assert_int_not_equal(history(seed, &bad), history(seed + 1, &bad));
	}
}

static void write_five(struct env *e)
{
	for (unsigned i = 0; i < 5; i++)
		env_write(e, i, 1, 1, i & 1);
	env_flush(e);
	assert_int_equal(device_read(e->device, 0, env_memory(0), BLOCK), 0);
}

static void test_events_are_writes_and_flushes(void **state)
{
	struct env e = env_make(64, 1, NULL);
	env_run(&e, write_five);
	assert_int_equal(sim_n_events(e.sim), 6);
	env_end(&e);
}

static void write_until_cut(struct env *e)
{
	int rc = 0;
	for (unsigned i = 0; i < 10 && rc == 0; i++) {
		env_fill(env_memory(0), 1, 1);
		rc = device_write(e->device, i * BLOCK, env_memory(0), BLOCK, true);
		assert_int_equal(rc, i < sim_n_events(e->sim) ? 0 : -EIO);
	}
}

static void test_cut_where_it_was_planned(void **state)
{
	struct sim_faults faults = {.cut_ends_io = true};
	for (unsigned n = 0; n <= 10; n++) {
		struct env e = env_make(64, 1, &faults);
		sim_cut_at(e.sim, n, 0);
		env_run(&e, write_until_cut);
		assert_int_equal(sim_is_cut(e.sim), n < 10);
		assert_int_equal(sim_n_events(e.sim), n);
		for (unsigned i = 0; i < 10; i++)
			assert_int_equal(env_one_tag(&e, i, 1), i < n);
		env_end(&e);
	}
}

/* ---- clones ---- */

static void write_2_at_5(struct env *e)
{
	env_write(e, 5, 1, 2, true);
}

static void test_clones_go_their_own_ways(void **state)
{
	struct env e = env_make(300, 1, NULL);
	env_run(&e, write_five);
	struct env c = e;
	assert_int_equal(sim_clone(e.sim, 2, &c.sim), 0);
	assert_int_equal(sim_n_events(c.sim), 0);
	assert_int_equal(sim_open(c.sim, NULL, &c.device), 0);
	env_run(&c, write_2_at_5);
	assert_int_equal(env_one_tag(&e, 5, 1), 0);
	assert_int_equal(env_one_tag(&c, 5, 1), 2);
	assert_int_equal(env_one_tag(&c, 0, 3), 1);
	device_close(e.device);
	sim_destroy(e.sim);
	assert_int_equal(env_one_tag(&c, 0, 3), 1);
	env_end(&c);
}

/* ---- the process dies ---- */

static void leave_under_way(struct env *e)
{
	struct sim_faults never = {.never = ALWAYS};
	env_write(e, 3, 1, 1, false);
	sim_set_faults(e->sim, &never);
	env_fill(env_memory(0), 8, 2);
	env_submit(e, &ios[0], DEVICE_WRITE, 8, 8, env_memory(0));
}

static void test_death_keeps_what_was_done(void **state)
{
	unsigned n_none = 0, n_all = 0, n_part = 0;
	for (uint64_t seed = 0; seed < 200; seed++) {
		struct env e = env_make(64, seed, NULL);
		env_run(&e, leave_under_way);
		env_reopen(&e);
		assert_int_equal(ios[0].n_done, 0);
		assert_int_equal(env_one_tag(&e, 3, 1), 1);
		int tag = env_one_tag(&e, 8, 8);
		n_none += tag == 0;
		n_all += tag == 2;
		n_part += tag == -2;
		/* It was no cut: what was done is still not durable. */
		sim_cut(e.sim, 0);
		assert_int_equal(env_one_tag(&e, 3, 1), 0);
		env_end(&e);
	}
	assert_true(n_none > 20 && n_all > 20 && n_part > 20);
}

/* ---- discards ---- */

static void discard_one(struct env *e)
{
	env_write(e, 5, 3, 1, true);
	assert_int_equal(device_discard(e->device, 6 * BLOCK, BLOCK), 0);
}

static void test_discarded_is_zeros_old_or_noise(void **state)
{
	unsigned n[3] = {0};
	for (uint64_t seed = 0; seed < 200; seed++) {
		struct env e = env_make(64, seed, NULL);
		env_run(&e, discard_one);
		assert_int_equal(env_one_tag(&e, 5, 1), 1);
		assert_int_equal(env_one_tag(&e, 7, 1), 1);
		assert_in_range(env_one_tag(&e, 6, 1) + 1, 0, 2);
		n[env_one_tag(&e, 6, 1) + 1]++;
		env_end(&e);
	}
	assert_true(n[0] > 20 && n[1] > 20 && n[2] > 20);
}

static void discard_and_write(struct env *e)
{
	discard_one(e);
	env_write(e, 6, 1, 2, true);
}

static void test_a_discard_does_not_outlive_a_write(void **state)
{
	for (uint64_t seed = 0; seed < 200; seed++) {
		struct env e = env_make(64, seed, NULL);
		env_run(&e, discard_and_write);
		sim_cut(e.sim, seed);
		assert_int_equal(env_one_tag(&e, 6, 1), 2);
		env_end(&e);
	}
}

static void test_a_cut_decides_on_a_discard(void **state)
{
	struct env e = env_make(64, 1, NULL);
	unsigned n[3] = {0};
	env_run(&e, discard_one);
	for (uint64_t choice = 0; choice < 200; choice++) {
		struct env c = e;
		assert_int_equal(sim_clone(e.sim, 1, &c.sim), 0);
		sim_cut(c.sim, choice);
		n[env_one_tag(&c, 6, 1) + 1]++;
		sim_destroy(c.sim);
	}
	assert_true(n[0] > 10 && n[1] > 10 && n[2] > 10);
	env_end(&e);
}

/* ---- looks and damage ---- */

static void read_poked(struct env *e)
{
	assert_int_equal(device_read(e->device, 3 * BLOCK, env_memory(0), 2 * BLOCK), 0);
	assert_int_equal(((char *)env_memory(0))[BLOCK - 1], 'a');
	assert_int_equal(((char *)env_memory(0))[BLOCK], 'b');
	assert_int_equal(env_tag(env_memory(0), 0), 1);
}

static void write_at_3(struct env *e)
{
	env_write(e, 3, 2, 1, false);
}

static void test_pokes_are_durable_damage(void **state)
{
	struct env e = env_make(64, 1, NULL);
	unsigned char back[2];
	env_run(&e, write_at_3);
	sim_poke(e.sim, 4 * BLOCK - 1, "ab", 2);
	env_run(&e, read_poked);
	sim_cut(e.sim, 0);
	sim_peek(e.sim, 4 * BLOCK - 1, back, 2);
	assert_memory_equal(back, "ab", 2);
	env_end(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_what_was_written),
		cmocka_unit_test(test_wrong_arguments_are_refused),
		cmocka_unit_test(test_grows),
		cmocka_unit_test(test_one_device_at_a_time),
		cmocka_unit_test(test_no_odd_sizes),
		cmocka_unit_test(test_plain_threads),
		cmocka_unit_test(test_completes_in_any_order),
		cmocka_unit_test(test_either_of_two_writes_is_the_last),
		cmocka_unit_test(test_equal_seeds_equal_histories),
		cmocka_unit_test(test_events_are_writes_and_flushes),
		cmocka_unit_test(test_cut_where_it_was_planned),
		cmocka_unit_test(test_clones_go_their_own_ways),
		cmocka_unit_test(test_death_keeps_what_was_done),
		cmocka_unit_test(test_discarded_is_zeros_old_or_noise),
		cmocka_unit_test(test_a_discard_does_not_outlive_a_write),
		cmocka_unit_test(test_a_cut_decides_on_a_discard),
		cmocka_unit_test(test_pokes_are_durable_damage),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
