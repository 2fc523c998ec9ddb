/* threads_test.c - a journal shared by plain threads and by loops of several threads, on the service loop and theirs. */
#include "journal_env.h"

#include "../../src/loop/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define N_THREADS 4u
#define N_EACH 200u

static struct env e;
static struct journal *j;
static struct quire_loop *service;

static void append_some(uint32_t from)
{
	uint64_t no = 0;

	for (uint32_t id = from; id < from + N_EACH; id++) {
		if (record_append(j, id, &no) != 0 || (id % 7 == 0 && journal_sync(j, no, NULL) != 0) ||
		    (id % 7 == 0 && journal_n_durable(j) <= no))
			abort();
	}
	if (journal_sync(j, no, NULL) != 0)
		abort();
}

static void *plain_thread(void *arg)
{
	append_some((uint32_t)(uintptr_t)arg);
	return NULL;
}

static void co_append(void *arg)
{
	append_some((uint32_t)(uintptr_t)arg);
}

static void *loop_thread(void *arg)
{
	struct quire_loop *loop;

	if (quire_loop_create(NULL, &loop, NULL) != 0 || quire_co_spawn(loop, co_append, arg) != 0 ||
	    quire_co_spawn(loop, co_append, (void *)((uintptr_t)arg + 500)) != 0 || quire_loop_run(loop) != 0 ||
	    quire_loop_destroy(loop) != 0)
		abort();
	return NULL;
}

/* What is read is complete, and each writer's records are in its order. */
static void check(uint64_t n)
{
	struct journal_options o = env_options(&e);
	struct seen seen;
	uint32_t last[2 * N_THREADS + 2] = {0};

	seen_init(&seen);
	assert_int_equal(journal_open(&o, 0, false, seen_add, &seen, NULL, &j, NULL), 0);
	assert_int_equal(seen.n, n);
	assert_int_equal(seen.n_wrong, 0);
	for (uint64_t i = 0; i < n; i++) {
		uint32_t *before = &last[seen.ids[i] / 500];
		assert_true(seen.ids[i] > *before || *before == 0);
		*before = seen.ids[i];
	}
	journal_close(j);
	seen_fini(&seen);
}

static void run(void *(*even)(void *), void *(*odd)(void *), uint64_t n)
{
	pthread_t threads[N_THREADS];
	struct journal_options o = env_options(&e);

	env_forget(&e);
	(void)env_extent(&e);
	assert_int_equal(journal_create(&o, 0, &j, NULL), 0);
	for (uintptr_t i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, i % 2 == 0 ? even : odd, (void *)(i * 1000)), 0);
	for (unsigned i = 0; i < N_THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(journal_n_records(j), n);
	assert_int_equal(journal_n_durable(j), n);
	journal_close(j);
	check(n);
}

static void test_plain_threads(void **state)
{
	(void)state;
	run(plain_thread, plain_thread, N_THREADS * N_EACH);
}

static void test_loops_of_several_threads(void **state)
{
	(void)state;
	run(loop_thread, loop_thread, 2 * N_THREADS * N_EACH);
}

static void test_loops_and_plain_threads(void **state)
{
	(void)state;
	run(loop_thread, plain_thread, 3 * N_THREADS / 2 * N_EACH);
}

static int set_up(void **state)
{
	static const struct sim_faults faults = {.max_delay_turns = 2};

	(void)state;
	env_make(&e, 60, 9, &faults);
	record_sizes(SIZES_SMALL);
	if (service_get(&service, NULL) != 0)
		return -1;
	device_close(e.device);
	if (sim_open(e.sim, service, &e.device) != 0)
		return -1;
	e.o.device = e.device;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	env_end(&e);
	service_put();
	return quire_loop_destroy(e.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_threads),
		cmocka_unit_test(test_loops_of_several_threads),
		cmocka_unit_test(test_loops_and_plain_threads),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
