/* Cancelling an operation: at each stage, from any thread, however it races. */
#include "on_both.h"
#include "loop/op.h"
#include <poll.h>
#include <stdatomic.h>

/* ---- a driver whose operation ends when the test says so ---- */

static unsigned n_started, n_cancelled;
static struct quire_op *last_started;

static void manual_start(struct quire_op *op)
{
	n_started++;
	last_started = op;
}

static void manual_cancel(struct quire_op *op)
{
	n_cancelled++;
	op_complete(op, -ECANCELED);
}

static const struct op_driver manual = {.start = manual_start, .cancel = manual_cancel};

/* ---- cancelling ---- */

static void cancel_under_way_body(void *arg)
{
	struct quire_op op;
	n_started = n_cancelled = 0;
	quire_op_init(&op);
	assert_int_equal(quire_op_cancel(&op), -EINVAL);
	assert_int_equal(op_start(&op, &manual, NULL), 0);
	assert_int_equal(quire_op_cancel(&op), 0);
	assert_int_equal(quire_op_cancel(&op), 0);
	assert_int_equal(n_cancelled, 0);
	assert_int_equal(quire_await(&op), -ECANCELED);
	assert_int_equal(n_cancelled, 1);
	assert_int_equal(quire_op_cancel(&op), -EALREADY);
	++*(int *)arg;
}

static void cancel_while_under_way(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	int n = 0;
	spawn(loop, cancel_under_way_body, &n);
	run(loop);
	assert_int_equal(n, 1);
	destroy(loop);
}

/* The completion comes between asking and the message's arrival: it is held back, once. */
static void complete_despite_cancel_body(void *arg)
{
	struct quire_op op;
	n_started = n_cancelled = 0;
	quire_op_init(&op);
	assert_int_equal(op_start(&op, &manual, NULL), 0);
	assert_int_equal(quire_op_cancel(&op), 0);
	op_complete(&op, 42);
	assert_false(quire_op_done(&op));
	assert_int_equal(quire_await(&op), 42);
	assert_int_equal(n_cancelled, 0);
	++*(int *)arg;
}

static void completion_waits_for_a_cancel_on_its_way(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	int n = 0;
	spawn(loop, complete_despite_cancel_body, &n);
	run(loop);
	assert_int_equal(n, 1);
	destroy(loop);
}

/* Started and cancelled from here before the loop, held but not running, had a look. The driver
 * learns of it all the same: it alone knows what the op holds. */
static void cancel_before_start_is_processed(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct quire_op op;
	n_started = n_cancelled = 0;
	quire_op_init(&op);
	assert_int_equal(op_start(&op, &manual, loop), 0);
	assert_int_equal(op_start(&op, &manual, loop), -EBUSY);
	assert_int_equal(quire_op_cancel(&op), 0);
	run(loop);
	assert_int_equal(quire_await(&op), -ECANCELED);
	assert_int_equal(n_started, 1);
	assert_int_equal(n_cancelled, 1);
	destroy(loop);
}

static void end_it(struct loop_task *task)
{
	op_complete(last_started, 5);
}

static void cancel_of_what_can_not_be_cancelled(void **state)
{
	static const struct op_driver stubborn = {.start = manual_start};
	struct quire_loop *loop = loop_of(state, NULL);
	struct quire_op op;
	quire_op_init(&op);
	assert_int_equal(op_start(&op, &stubborn, loop), 0);
	assert_true(quire_loop_poll(loop) >= 1);
	assert_ptr_equal(op_home(&op), loop);
	assert_ptr_equal(op_of_task(op_task(&op)), &op);
	assert_int_equal(quire_op_cancel(&op), 0);
	assert_true(quire_loop_poll(loop) >= 1);
	assert_false(quire_op_done(&op));
	assert_int_equal(quire_loop_destroy(loop), -EBUSY);
	struct loop_task end;
	loop_task_init(&end, end_it);
	loop_post(loop, &end);
	run(loop);
	assert_int_equal(quire_await(&op), 5);
	destroy(loop);
}

/* Sleeps and polls of the service, cancelled by another thread at random moments; the memory is
 * used again at once. Every op ends exactly once. */
struct racer {
	struct quire_op op;
	atomic_bool started;
};

static void *cancel_main(void *arg)
{
	struct racer *r = arg;
	while (!atomic_load(&r->started))
		;
	int rc = quire_op_cancel(&r->op);
	assert_true(rc == 0 || rc == -EALREADY);
	return NULL;
}

static void cancel_races_with_completion(void **state)
{
	int n_rounds = SLOW ? 100 : 400, n_cancels = 0;
	struct racer *r = calloc(1, sizeof(*r));
	for (int i = 0; i < n_rounds; i++) {
		pthread_t thread;
		atomic_store(&r->started, false);
		assert_int_equal(pthread_create(&thread, NULL, cancel_main, r), 0);
		quire_op_init(&r->op);
		assert_int_equal(quire_sleep_ns((uint64_t)(i % 20) * 15000, &r->op), 0);
		atomic_store(&r->started, true);
		int64_t result = quire_await(&r->op);
		assert_true(result == 0 || result == -ECANCELED);
		n_cancels += result != 0;
		pthread_join(thread, NULL);
	}
	print_message("%d of %d were cancelled in time\n", n_cancels, n_rounds);
	free(r);
}

static void poll_cancel_body(void *arg)
{
	int fds[2];
	struct quire_op op;
	assert_int_equal(pipe(fds), 0);
	/* At once; while it waits; when it is ready. */
	for (int stage = 0; stage < 3; stage++) {
		quire_op_init(&op);
		assert_int_equal(quire_poll_fd(fds[0], POLLIN, &op), 0);
		if (stage == 1)
			assert_int_equal(quire_sleep_ns(2 * MS, NULL), 0);
		if (stage == 2)
			assert_int_equal(write(fds[1], "x", 1), 1);
		assert_int_equal(quire_op_cancel(&op), 0);
		int64_t result = quire_await(&op);
		if (stage == 2)
			assert_true(result == POLLIN || result == -ECANCELED);
		else
			assert_int_equal(result, -ECANCELED);
	}
	close(fds[0]);
	close(fds[1]);
	++*(int *)arg;
}

static void poll_is_cancelled_at_each_stage(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	int n = 0;
	spawn(loop, poll_cancel_body, &n);
	run(loop);
	assert_int_equal(n, 1);
	destroy(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_BOTH(cancel_while_under_way),
		ON_BOTH(completion_waits_for_a_cancel_on_its_way),
		ON_BOTH(cancel_before_start_is_processed),
		ON_BOTH(cancel_of_what_can_not_be_cancelled),
		cmocka_unit_test(cancel_races_with_completion),
		ON_BOTH(poll_is_cancelled_at_each_stage),
	};
	return cmocka_run_group_tests_name("cancel", tests, NULL, NULL);
}
