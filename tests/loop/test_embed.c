/* A loop in somebody else's event loop: its descriptor becomes readable for every cause, and quiet
 * after. */
#include "on_both.h"
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>

static bool readable(struct quire_loop *loop, int timeout_ms)
{
	/* In a foreign epoll, as an embedder has it. */
	int foreign = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN};
	assert_int_equal(epoll_ctl(foreign, EPOLL_CTL_ADD, quire_loop_fd(loop), &event), 0);
	int n;
	do {
		n = epoll_wait(foreign, &event, 1, timeout_ms);
	} while (n < 0 && errno == EINTR);
	close(foreign);
	return n == 1;
}

static void poll_until_quiet(struct quire_loop *loop)
{
	for (int i = 0; i < 100; i++) {
		assert_true(quire_loop_poll(loop) >= 0);
		if (!readable(loop, 0))
			return;
	}
	fail_msg("the descriptor stays readable");
}

static unsigned n_embedded;

static void embedded_done(struct quire_op *op, void *arg)
{
	n_embedded++;
}

static void poll_until_done(struct quire_loop *loop, unsigned n)
{
	while (n_embedded < n) {
		assert_true(readable(loop, 5000));
		assert_true(quire_loop_poll(loop) >= 0);
	}
}

static void embedded_sleep_body(void *arg)
{
	assert_int_equal(quire_sleep_ns(3 * MS, NULL), 0);
	n_embedded++;
}

static void embedded_timer(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	uint64_t before = loop_now_ns();
	n_embedded = 0;
	spawn(loop, embedded_sleep_body, NULL);
	assert_true(quire_loop_poll(loop) >= 0);
	poll_until_done(loop, 1);
	assert_true(loop_now_ns() - before >= 3 * MS);
	poll_until_quiet(loop);
	assert_false(readable(loop, 10));
	destroy(loop);
}

static int embedded_pipe[2];

static void embedded_poll_body(void *arg)
{
	char byte;
	assert_int_equal(quire_poll_fd(embedded_pipe[0], POLLIN, NULL), POLLIN);
	assert_int_equal(read(embedded_pipe[0], &byte, 1), 1);
	n_embedded++;
}

static void *write_pipe_main(void *arg)
{
	assert_int_equal(quire_sleep_ns(5 * MS, NULL), 0);
	assert_int_equal(write(embedded_pipe[1], "x", 1), 1);
	return NULL;
}

static void embedded_descriptor(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	assert_int_equal(pipe(embedded_pipe), 0);
	for (unsigned i = 1; i <= 10; i++) {
		pthread_t thread;
		n_embedded = 0;
		spawn(loop, embedded_poll_body, NULL);
		poll_until_quiet(loop);
		pthread_create(&thread, NULL, write_pipe_main, NULL);
		poll_until_done(loop, 1);
		pthread_join(thread, NULL);
		poll_until_quiet(loop);
	}
	close(embedded_pipe[0]);
	close(embedded_pipe[1]);
	destroy(loop);
}

/* A post, here by the service, that lands before the first poll, and after. */
static void embedded_post(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	n_embedded = 0;
	for (unsigned i = 1; i <= 10; i++) {
		struct quire_op op;
		quire_op_init_callback(&op, loop, embedded_done, NULL);
		assert_int_equal(quire_sleep_ns(MS / 2, &op), 0);
		poll_until_done(loop, i);
		poll_until_quiet(loop);
	}
	destroy(loop);
}

static void yield_for_long(void *arg)
{
	for (int i = 0; i < 1000; i++)
		assert_int_equal(quire_co_yield(), 0);
	n_embedded++;
}

static void embedded_work_left_over(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	n_embedded = 0;
	spawn(loop, yield_for_long, NULL);
	quire_loop_poll(loop);
	assert_int_equal(n_embedded, 0);
	poll_until_done(loop, 1);
	poll_until_quiet(loop);
	destroy(loop);
}

static void embedded_then_run_then_embedded(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	assert_int_equal(pipe(embedded_pipe), 0);
	for (int i = 0; i < 5; i++) {
		n_embedded = 0;
		spawn(loop, embedded_sleep_body, NULL);
		poll_until_quiet(loop);
		run(loop);
		assert_int_equal(n_embedded, 1);
		spawn(loop, embedded_sleep_body, NULL);
		quire_loop_poll(loop);
		poll_until_done(loop, 2);
		struct quire_op op;
		quire_op_init_callback(&op, loop, embedded_done, NULL);
		assert_int_equal(quire_sleep_ns(1, &op), 0);
		poll_until_done(loop, 3);
		poll_until_quiet(loop);
	}
	close(embedded_pipe[0]);
	close(embedded_pipe[1]);
	destroy(loop);
}

/* A handler of the program's interrupts waits; nothing is lost. */
static void on_alarm(int sig)
{
}

static void signals_do_not_disturb(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct sigaction sa = {.sa_handler = on_alarm};
	sigaction(SIGALRM, &sa, NULL);
	ualarm(1000, 1000);
	n_embedded = 0;
	for (int i = 0; i < 20; i++)
		spawn(loop, embedded_sleep_body, NULL);
	run(loop);
	ualarm(0, 0);
	assert_int_equal(n_embedded, 20);
	destroy(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_BOTH(embedded_timer),
		ON_BOTH(embedded_descriptor),
		ON_BOTH(embedded_post),
		ON_BOTH(embedded_work_left_over),
		ON_BOTH(embedded_then_run_then_embedded),
		ON_BOTH(signals_do_not_disturb),
	};
	return cmocka_run_group_tests_name("embed", tests, NULL, NULL);
}
