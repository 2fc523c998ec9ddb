/* Operations: every kind of completion, every place to wait; and very many at a time. */
#include "on_both.h"
#include "loop/op.h"
#include <poll.h>
#include <sys/eventfd.h>

/* ---- a driver that is done at once ---- */

static void at_once_start(struct quire_op *op)
{
	op_complete(op, 7);
}

static const struct op_driver at_once = {.start = at_once_start};

/* ---- kinds of completion ---- */

struct seen {
	unsigned n;
	int64_t result;
	struct quire_loop *loop;
	bool inside_call; /* the call that started it had not returned */
};

static bool inside_call;

static void note(struct quire_op *op, void *arg)
{
	struct seen *seen = arg;
	seen->n++;
	seen->result = op->result;
	seen->loop = quire_loop_self();
	seen->inside_call = inside_call;
	assert_true(quire_op_done(op));
	assert_false(quire_in_coroutine());
}

static void start_at_once(void *arg)
{
	inside_call = true;
	assert_int_equal(op_start(arg, &at_once, NULL), 0);
	inside_call = false;
}

static void callback_runs_on_its_loop_after_the_call(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct seen seen = {0};
	struct quire_op op;
	quire_op_init_callback(&op, loop, note, &seen);
	spawn(loop, start_at_once, &op);
	run(loop);
	assert_int_equal(seen.n, 1);
	assert_int_equal(seen.result, 7);
	assert_ptr_equal(seen.loop, loop);
	assert_false(seen.inside_call);
	destroy(loop);
}

/* Driven by the service, called back here. The loop stays until it was. */
static void callback_comes_home_from_another_loop(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct seen seen = {0};
	struct quire_op op;
	quire_op_init_callback(&op, loop, note, &seen);
	assert_int_equal(quire_sleep_ns(5 * MS, &op), 0);
	assert_int_equal(quire_loop_destroy(loop), -EBUSY);
	run(loop);
	assert_int_equal(seen.n, 1);
	assert_int_equal(seen.result, 0);
	assert_ptr_equal(seen.loop, loop);
	destroy(loop);
}

static void sleep_to(void *arg)
{
	assert_int_equal(quire_sleep_ns(1 * MS, arg), 0);
}

static bool readable(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, timeout_ms) == 1;
}

static void queue_hands_out_tags_in_batches(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct quire_queue *queue;
	assert_int_equal(quire_queue_create(&queue), 0);
	struct quire_op ops[10];
	for (unsigned i = 0; i < 10; i++) {
		quire_op_init_queue(&ops[i], queue, 100 + i);
		spawn(loop, start_at_once, &ops[i]);
	}
	assert_false(readable(quire_queue_fd(queue), 0));
	run(loop);
	assert_true(readable(quire_queue_fd(queue), 0));
	struct quire_completion done[8];
	assert_int_equal(quire_queue_harvest(queue, done, 8), 8);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(done[i].tag, 100 + i);
		assert_int_equal(done[i].result, 7);
	}
	assert_true(readable(quire_queue_fd(queue), 0));
	assert_int_equal(quire_queue_destroy(queue), -EBUSY);
	assert_int_equal(quire_queue_harvest(queue, done, 8), 2);
	assert_false(readable(quire_queue_fd(queue), 0));
	assert_int_equal(quire_queue_harvest(queue, done, 8), 0);
	assert_int_equal(quire_queue_destroy(queue), 0);
	destroy(loop);
}

static void queue_can_not_go_while_an_op_names_it(void **state)
{
	struct quire_queue *queue;
	assert_int_equal(quire_queue_create(&queue), 0);
	struct quire_op op;
	quire_op_init_queue(&op, queue, 1);
	assert_int_equal(quire_sleep_ns(HOUR_NS, &op), 0);
	assert_int_equal(quire_queue_destroy(queue), -EBUSY);
	assert_int_equal(quire_op_cancel(&op), 0);
	assert_true(readable(quire_queue_fd(queue), 5000));
	struct quire_completion done;
	assert_int_equal(quire_queue_harvest(queue, &done, 1), 1);
	assert_int_equal(done.result, -ECANCELED);
	assert_int_equal(quire_queue_destroy(queue), 0);
}

static void eventfd_counts_completions(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	int efd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct quire_op ops[3];
	for (unsigned i = 0; i < 3; i++) {
		quire_op_init_eventfd(&ops[i], efd);
		spawn(loop, sleep_to, &ops[i]);
	}
	run(loop);
	uint64_t count = 0;
	assert_int_equal(read(efd, &count, sizeof(count)), sizeof(count));
	assert_int_equal(count, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_true(quire_op_done(&ops[i]));
	close(efd);
	destroy(loop);
}

static void done_now_completes_through_the_op(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct seen seen = {0};
	struct quire_op called, awaited;
	quire_op_init_callback(&called, loop, note, &seen);
	op_complete_now(&called, 3);
	assert_int_equal(seen.n, 0);
	run(loop);
	assert_int_equal(seen.n, 1);
	assert_int_equal(seen.result, 3);
	quire_op_init(&awaited);
	op_complete_now(&awaited, 4);
	assert_int_equal(quire_await(&awaited), 4);
	destroy(loop);
}

/* ---- op == NULL, and await, everywhere ---- */

static void null_in_coroutine(void *arg)
{
	uint64_t before = loop_now_ns();
	assert_int_equal(quire_sleep_ns(2 * MS, NULL), 0);
	assert_true(loop_now_ns() - before >= 2 * MS);
	++*(int *)arg;
}

static void null_op_suspends_a_coroutine(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	int n = 0;
	for (int i = 0; i < 50; i++)
		spawn(loop, null_in_coroutine, &n);
	run(loop);
	assert_int_equal(n, 50);
	destroy(loop);
}

static void null_op_blocks_a_thread(void **state)
{
	uint64_t before = loop_now_ns();
	assert_int_equal(quire_sleep_ns(2 * MS, NULL), 0);
	assert_true(loop_now_ns() - before >= 2 * MS);
	int fds[2];
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(quire_poll_fd(fds[1], POLLOUT, NULL), POLLOUT);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(quire_poll_fd(fds[0], POLLIN, NULL), -EBADF);
	assert_int_equal(quire_poll_fd(-1, POLLIN, NULL), -EBADF);
}

static void block_in_callback(struct quire_op *op, void *arg)
{
	struct quire_op other;
	quire_op_init(&other);
	assert_int_equal(quire_sleep_ns(1, NULL), -EDEADLK);
	assert_int_equal(quire_poll_fd(0, POLLIN, NULL), -EDEADLK);
	op_complete_now(&other, 1);
	assert_int_equal(quire_await(&other), -EDEADLK);
	assert_int_equal(quire_co_yield(), -EPERM);
	++*(int *)arg;
}

static void null_op_is_refused_in_a_callback(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	int n = 0;
	struct quire_op op;
	quire_op_init_callback(&op, loop, block_in_callback, &n);
	spawn(loop, sleep_to, &op);
	run(loop);
	assert_int_equal(n, 1);
	destroy(loop);
}

static void await_in_coroutine(void *arg)
{
	struct quire_op op, early;
	quire_op_init(&op);
	quire_op_init(&early);
	assert_int_equal(quire_await(&op), -EINVAL);
	assert_int_equal(quire_sleep_ns(1 * MS, &op), 0);
	assert_int_equal(quire_sleep_ns(1, &op), -EBUSY);
	assert_int_equal(op_start(&early, &at_once, NULL), 0);
	assert_int_equal(quire_await(&early), 7);
	assert_int_equal(quire_await(&op), 0);
	assert_int_equal(quire_await(&op), 0);
	++*(int *)arg;
}

static void await_suspends_a_coroutine(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	int n = 0;
	spawn(loop, await_in_coroutine, &n);
	run(loop);
	assert_int_equal(n, 1);
	destroy(loop);
}

static void await_blocks_a_thread(void **state)
{
	struct quire_op op;
	quire_op_init(&op);
	assert_int_equal(quire_sleep_ns(2 * MS, &op), 0);
	assert_int_equal(quire_await(&op), 0);
	assert_true(quire_op_done(&op));
	assert_int_equal(quire_op_cancel(&op), -EALREADY);
}

static void await_given(void *arg)
{
	struct quire_op *op = arg;
	assert_int_equal(quire_await(op), 0);
	op->tag = 1;
}

/* The home is the service, the waiter a coroutine of another loop. */
static void await_of_an_op_driven_elsewhere(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct quire_op ops[20];
	for (int i = 0; i < 20; i++) {
		quire_op_init(&ops[i]);
		assert_int_equal(quire_sleep_ns((uint64_t)i * MS / 4, &ops[i]), 0);
		spawn(loop, await_given, &ops[i]);
	}
	run(loop);
	for (int i = 0; i < 20; i++)
		assert_int_equal(ops[i].tag, 1);
	destroy(loop);
}

/* ---- very many ---- */

static struct quire_op *many;
static unsigned n_many;
static struct quire_queue *many_queue;

static void start_many(void *arg)
{
	for (unsigned i = 0; i < n_many; i++) {
		quire_op_init_queue(&many[i], many_queue, i);
		assert_int_equal(quire_sleep_ns(i % 2 ? HOUR_NS : 1000 + i % 1000, &many[i]), 0);
	}
	for (unsigned i = 1; i < n_many; i += 2)
		assert_int_equal(quire_op_cancel(&many[i]), 0);
}

static void a_hundred_thousand_operations_outstanding(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	n_many = SLOW || getenv("QUIRE_TEST_LONG") == NULL ? 100000 : 1000000;
	many = malloc(n_many * sizeof(*many));
	uint8_t *seen = calloc(n_many, 1);
	assert_non_null(many);
	assert_non_null(seen);
	assert_int_equal(quire_queue_create(&many_queue), 0);
	spawn(loop, start_many, NULL);
	run(loop);
	unsigned total = 0;
	static struct quire_completion done[4096];
	for (int n; (n = quire_queue_harvest(many_queue, done, 4096)) > 0;) {
		for (int i = 0; i < n; i++) {
			assert_int_equal(done[i].result, done[i].tag % 2 ? -ECANCELED : 0);
			assert_int_equal(seen[done[i].tag]++, 0);
		}
		total += (unsigned)n;
	}
	assert_int_equal(total, n_many);
	assert_int_equal(quire_queue_destroy(many_queue), 0);
	free(many);
	free(seen);
	destroy(loop);
}

static int poll_pipe[2];

static void poll_many(void *arg)
{
	for (unsigned i = 0; i < n_many; i++) {
		quire_op_init_queue(&many[i], many_queue, i);
		assert_int_equal(quire_poll_fd(poll_pipe[0], POLLIN, &many[i]), 0);
	}
	/* More polls than the depth hold up nothing else. */
	assert_int_equal(quire_sleep_ns(1 * MS, NULL), 0);
	assert_int_equal(write(poll_pipe[1], "x", 1), 1);
}

static void more_polls_than_the_depth(void **state)
{
	struct quire_loop_options o = {.depth = 8};
	struct quire_loop *loop = loop_of(state, &o);
	n_many = 20000;
	many = malloc(n_many * sizeof(*many));
	assert_non_null(many);
	assert_int_equal(pipe(poll_pipe), 0);
	assert_int_equal(quire_queue_create(&many_queue), 0);
	spawn(loop, poll_many, NULL);
	run(loop);
	unsigned total = 0;
	static struct quire_completion done[4096];
	for (int n; (n = quire_queue_harvest(many_queue, done, 4096)) > 0; total += (unsigned)n)
		assert_int_equal(done[0].result, POLLIN);
	assert_int_equal(total, n_many);
	assert_int_equal(quire_queue_destroy(many_queue), 0);
	close(poll_pipe[0]);
	close(poll_pipe[1]);
	free(many);
	destroy(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_BOTH(callback_runs_on_its_loop_after_the_call),
		ON_BOTH(callback_comes_home_from_another_loop),
		ON_BOTH(queue_hands_out_tags_in_batches),
		cmocka_unit_test(queue_can_not_go_while_an_op_names_it),
		ON_BOTH(eventfd_counts_completions),
		ON_BOTH(done_now_completes_through_the_op),
		ON_BOTH(null_op_suspends_a_coroutine),
		cmocka_unit_test(null_op_blocks_a_thread),
		ON_BOTH(null_op_is_refused_in_a_callback),
		ON_BOTH(await_suspends_a_coroutine),
		cmocka_unit_test(await_blocks_a_thread),
		ON_BOTH(await_of_an_op_driven_elsewhere),
		ON_BOTH(a_hundred_thousand_operations_outstanding),
		ON_BOTH(more_polls_than_the_depth),
	};
	return cmocka_run_group_tests_name("op", tests, NULL, NULL);
}
