/* Every way to complete: queue, callback, coroutine, thread; several at once. */
#include "blob_env.h"

#include <poll.h>
#include <pthread.h>

#define N 16
#define LEN 10000

static uint64_t ids[N];
static char contents[N][LEN];

static struct iovec content(unsigned i)
{
	fill(ids[i], 0, contents[i], LEN);
	return (struct iovec){contents[i], LEN};
}

static void harvest(struct quire_queue *q, unsigned n, int64_t result)
{
	struct quire_completion c[N];
	struct pollfd pfd = {.fd = quire_queue_fd(q), .events = POLLIN};

	for (unsigned got = 0; got < n;) {
		assert_int_equal(poll(&pfd, 1, 60000), 1);
		int k = quire_queue_harvest(q, c, N);
		for (int i = 0; i < k; i++)
			assert_int_equal(c[i].result, result);
		got += (unsigned)k;
	}
}

static void by_queue(void **state)
{
	struct quire_op ops[N];
	struct quire_queue *q;
	struct iovec iov[N];

	assert_int_equal(quire_queue_create(&q), 0);
	for (unsigned i = 0; i < N; i++) {
		ids[i] = begin(0);
		iov[i] = content(i);
		quire_op_init_queue(&ops[i], q, i);
		assert_int_equal(quire_blob_write(store, ids[i], &iov[i], 1, &ops[i]), 0);
	}
	harvest(q, N, 0);
	for (unsigned i = 0; i < N; i++) {
		quire_op_init_queue(&ops[i], q, i);
		assert_int_equal(quire_blob_commit(store, &ids[i], 1, &ops[i]), 0);
	}
	harvest(q, N, 0);
	for (unsigned i = 0; i < N; i++) {
		memset(contents[i], 0, LEN);
		quire_op_init_queue(&ops[i], q, i);
		assert_int_equal(quire_blob_read(store, ids[i], 0, &iov[i], 1, &ops[i]), 0);
	}
	harvest(q, N, LEN);
	for (unsigned i = 0; i < N; i++) {
		static char want[LEN];
		fill(ids[i], 0, want, LEN);
		assert_memory_equal(contents[i], want, LEN);
	}
	quire_op_init_queue(&ops[0], q, 0);
	assert_int_equal(quire_blob_read(store, 99999, 0, &iov[0], 1, &ops[0]), 0);
	harvest(q, 1, -ESTALE);
	assert_int_equal(quire_queue_destroy(q), 0);
}

static struct quire_loop *make_loop(void)
{
	struct quire_loop *loop;

	assert_int_equal(quire_loop_create(NULL, &loop, NULL), 0);
	return loop;
}

/* ---- by callback ---- */

struct chain {
	struct quire_loop *loop;
	struct quire_op op;
	struct iovec iov;
	unsigned step;
};

static void next(struct quire_op *op, void *arg)
{
	struct chain *c = arg;
	uint64_t id;

	assert_int_equal(op->result, c->step == 3 ? LEN : 0);
	/* What would have to wait says so. */
	assert_int_equal(commit(ids[0]), -EDEADLK);
	assert_int_equal(quire_blob_alloc(store, NULL, &id), -EDEADLK);
	assert_int_equal(quire_store_close(store), -EDEADLK);
	quire_op_init_callback(op, c->loop, next, c);
	c->step++;
	if (c->step == 2)
		assert_int_equal(quire_blob_commit(store, ids, 1, op), 0);
	else if (c->step == 3)
		assert_int_equal(quire_blob_read(store, ids[0], 0, &c->iov, 1, op), 0);
	else if (c->step == 4)
		assert_int_equal(quire_blob_delete(store, ids, 1, op), 0);
}

static void by_callback(void **state)
{
	struct chain c = {.loop = make_loop(), .step = 1};

	ids[0] = begin(0);
	c.iov = content(0);
	quire_op_init_callback(&c.op, c.loop, next, &c);
	assert_int_equal(quire_blob_write(store, ids[0], &c.iov, 1, &c.op), 0);
	while (c.step < 5)
		assert_int_equal(quire_loop_run(c.loop), 0);
	assert_int_equal(quire_loop_destroy(c.loop), 0);
	assert_int_equal(commit(ids[0]), -ESTALE);
}

/* ---- in coroutines ---- */

static unsigned n_done;

static void put_and_verify(void *arg)
{
	uint64_t len = *(uint64_t *)arg, id = put(len);

	assert_int_equal(verify(id, len), 0);
	assert_int_equal(delete(id), 0);
	n_done++;
}

static void in_coroutines(void **state)
{
	struct quire_loop *loop = make_loop();
	uint64_t lens[N];

	n_done = 0;
	for (unsigned i = 0; i < N; i++) {
		lens[i] = 50000 * i;
		assert_int_equal(quire_co_spawn(loop, put_and_verify, &lens[i]), 0);
	}
	assert_int_equal(quire_loop_run(loop), 0);
	assert_int_equal(n_done, N);
	assert_int_equal(quire_loop_destroy(loop), 0);
	assert_int_equal(check(), 0);
}

static void awaited(void *arg)
{
	struct quire_op ops[N];
	uint64_t id = *(uint64_t *)arg;
	struct iovec iov[N];

	for (unsigned i = 0; i < N; i++) {
		iov[i] = (struct iovec){contents[i], LEN};
		quire_op_init(&ops[i]);
		assert_int_equal(quire_blob_read(store, id, i * 100, &iov[i], 1, &ops[i]), 0);
	}
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(quire_await(&ops[i]), LEN);
	n_done++;
}

static void many_ops_of_one_coroutine(void **state)
{
	struct quire_loop *loop = make_loop();
	uint64_t id = put(3 * LEN);

	n_done = 0;
	assert_int_equal(quire_co_spawn(loop, awaited, &id), 0);
	assert_int_equal(quire_loop_run(loop), 0);
	assert_int_equal(n_done, 1);
	assert_int_equal(quire_loop_destroy(loop), 0);
}

/* ---- on threads ---- */

static void *thread_body(void *arg)
{
	for (unsigned i = 0; i < 10; i++) {
		uint64_t len = 1 + (uint64_t)(uintptr_t)arg * 3000 * i, id = put(len);
		if (verify(id, len) < 0 || (i % 2 == 0 && delete(id) < 0))
			return (void *)1;
	}
	return NULL;
}

static void on_threads(void **state)
{
	pthread_t threads[4];
	void *result;

	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, thread_body, (void *)(uintptr_t)i), 0);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], &result), 0);
		assert_null(result);
	}
	assert_int_equal(check(), 0);
}

static void check_in_a_coroutine(void *arg)
{
	assert_int_equal(check(), 0);
	n_done++;
}

static void checked_in_a_coroutine(void **state)
{
	struct quire_loop *loop = make_loop();

	n_done = 0;
	put(300000);
	assert_int_equal(quire_co_spawn(loop, check_in_a_coroutine, NULL), 0);
	assert_int_equal(quire_loop_run(loop), 0);
	assert_int_equal(n_done, 1);
	assert_int_equal(quire_loop_destroy(loop), 0);
}

static void an_op_under_way_is_refused(void **state)
{
	struct quire_op op;
	struct iovec iov = {contents[0], LEN};
	uint64_t id = put(LEN);

	quire_op_init(&op);
	assert_int_equal(quire_blob_read(store, id, 0, &iov, 1, &op), 0);
	assert_int_equal(quire_blob_read(store, id, 0, &iov, 1, &op), -EBUSY);
	assert_int_equal(quire_await(&op), LEN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_STORE(by_queue),
		WITH_STORE(by_callback),
		WITH_STORE(in_coroutines),
		WITH_STORE(many_ops_of_one_coroutine),
		WITH_STORE(on_threads),
		WITH_STORE(checked_in_a_coroutine),
		WITH_STORE(an_op_under_way_is_refused),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
