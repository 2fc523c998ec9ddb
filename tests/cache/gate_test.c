/* The gate: nobody enters once it is closed, and the last one out says so once. */
#include "../support/files.h"

#include "../../src/cache/gate.h"

#include <pthread.h>

static unsigned n_idle;

static void idle(struct loop_task *task)
{
	n_idle++;
}

static struct quire_loop *loop;
static struct loop_task task;

static int make_loop(void **state)
{
	n_idle = 0;
	loop_task_init(&task, idle);
	return quire_loop_create(NULL, &loop, NULL);
}

static int drop_loop(void **state)
{
	return quire_loop_destroy(loop);
}

static unsigned idle_after_polling(void)
{
	for (unsigned i = 0; i < 3; i++)
		quire_loop_poll(loop);
	return n_idle;
}

static void idle_at_once_where_nobody_is_inside(void **state)
{
	struct gate g = {0};

	gate_close(&g);
	assert_int_equal(idle_after_polling(), 0);
	gate_when_idle(&g, loop, &task);
	assert_int_equal(idle_after_polling(), 1);
}

static void idle_when_the_last_has_left(void **state)
{
	struct gate g = {0};

	assert_true(gate_enter(&g));
	assert_true(gate_enter(&g));
	assert_false(gate_is_closed(&g));
	gate_close(&g);
	assert_true(gate_is_closed(&g));
	assert_false(gate_enter(&g));
	gate_leave(&g);
	gate_when_idle(&g, loop, &task);
	assert_int_equal(idle_after_polling(), 0);
	gate_leave(&g);
	assert_int_equal(idle_after_polling(), 1);
}

/* A raw load of a map that is being destroyed knocks as late as that. */
static void a_late_knock_is_no_second_end(void **state)
{
	struct gate g = {0};

	gate_close(&g);
	gate_when_idle(&g, loop, &task);
	assert_int_equal(idle_after_polling(), 1);
	loop_task_init(&task, idle);
	assert_false(gate_enter(&g));
	assert_int_equal(idle_after_polling(), 1);
}

static void *knock(void *arg)
{
	struct gate *g = arg;

	while (gate_enter(g))
		gate_leave(g);
	return NULL;
}

static void one_end_whoever_races(void **state)
{
	for (unsigned round = 0; round < 300; round++) {
		struct gate g = {0};
		pthread_t threads[3];

		n_idle = 0;
		loop_task_init(&task, idle);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, knock, &g), 0);
		gate_close(&g);
		gate_when_idle(&g, loop, &task);
		for (unsigned i = 0; i < 3; i++)
			pthread_join(threads[i], NULL);
		assert_int_equal(idle_after_polling(), 1);
	}
}

#define WITH_LOOP(test) cmocka_unit_test_setup_teardown(test, make_loop, drop_loop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_LOOP(idle_at_once_where_nobody_is_inside),
		WITH_LOOP(idle_when_the_last_has_left),
		WITH_LOOP(a_late_knock_is_no_second_end),
		WITH_LOOP(one_end_whoever_races),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
