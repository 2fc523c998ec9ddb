/* want and unwant: every form of range, every way to complete. */
#include "../support/maps.h"

#include <poll.h>
#include <sys/eventfd.h>

#define LEN pages(64)

static struct quire_map *map_of_64_pages(void)
{
	file_write("f", 1, LEN - 10);
	return map_name("f");
}

static void makes_resident(void **state)
{
	struct quire_map *m = map_of_64_pages();
	const char *p = item_ptr(m, 0);

	if (fault != QUIRE_FAULT_KERNEL)
		assert_false(quire_map_resident(m, p, LEN));
	assert_int_equal(want(m, p, LEN), 0);
	assert_true(quire_map_resident(m, p, LEN));
	assert_true(quire_map_resident(m, p + 5, 0));
	assert_int_equal(map_stat(m).resident, LEN);
	assert_bytes(p, 1, 0, LEN - 10);
	map_end(m);
}

static void unaligned_ranges(void **state)
{
	struct quire_map *m = map_of_64_pages();
	const char *p = item_ptr(m, 0);

	assert_int_equal(want(m, p + pages(3) - 1, 2), 0);
	assert_true(quire_map_resident(m, p + pages(2), pages(2)));
	assert_int_equal(want(m, p + pages(9) + 77, 1), 0);
	assert_true(quire_map_resident(m, p + pages(9), pages(1)));
	if (fault != QUIRE_FAULT_KERNEL) {
		assert_false(quire_map_resident(m, p + pages(1), pages(2)));
		assert_false(quire_map_resident(m, p + pages(3), pages(2)));
		assert_int_equal(map_stat(m).resident, pages(3));
	}
	map_end(m);
}

static void scattered_ranges(void **state)
{
	enum { N = 1000 };
	static struct iovec v[N];

	file_write("f", 1, pages(2 * N));
	struct quire_map *m = map_name("f");
	const char *p = item_ptr(m, 0);
	for (unsigned i = 0; i < N; i++) /* in no order, some empty */
		v[i] = io(p + pages(2 * (i * 7 % N)) + i, i % 10 == 0 ? 0 : 100);
	assert_int_equal(quire_map_want(m, v, N, QUIRE_WANT_PIN, NULL), 0);
	for (unsigned i = 0; i < N; i++)
		assert_bytes(v[i].iov_base, 1, (uint64_t)((const char *)v[i].iov_base - p), v[i].iov_len);
	if (fault != QUIRE_FAULT_KERNEL)
		assert_int_equal(map_stat(m).pinned, pages(N - N / 10));
	assert_int_equal(quire_map_unwant(m, v, N), 0);
	map_end(m);
}

static void overlapping_ranges(void **state)
{
	struct quire_map *m = map_of_64_pages();
	const char *p = item_ptr(m, 0);
	struct iovec v[] = {io(p, pages(40)), io(p + pages(20), pages(44)), io(p, LEN), io(p + 1, 1)};

	assert_int_equal(quire_map_want(m, v, 4, QUIRE_WANT_PIN, NULL), 0);
	assert_bytes(p, 1, 0, LEN - 10);
	assert_int_equal(quire_map_unwant(m, v, 4), 0);
	assert_int_equal(map_stat(m).pinned, 0);
	map_end(m);
}

static void empty_ranges_ask_for_nothing(void **state)
{
	struct quire_map *m = map_of_64_pages();
	const char *p = item_ptr(m, 0);
	struct iovec v[] = {io(p, 0), io(p + LEN, 0), io(p + 77, 0)};

	assert_int_equal(quire_map_want(m, v, 3, 0, NULL), 0);
	assert_int_equal(quire_map_want(m, v, 3, QUIRE_WANT_PIN, NULL), 0);
	assert_int_equal(quire_map_want(m, NULL, 0, 0, NULL), 0);
	assert_int_equal(quire_map_unwant(m, v, 3), 0);
	assert_int_equal(map_stat(m).n_fills, 0);
	map_end(m);
}

static void outside(void **state)
{
	struct quire_map *m = map_of_64_pages();
	const char *p = item_ptr(m, 0);
	struct iovec v[] = {io(p, 1), io(p + LEN, 1)};

	assert_int_equal(want(m, p, LEN + 1), -EFAULT);
	assert_int_equal(want(m, p + LEN, 1), -EFAULT);
	assert_int_equal(want(m, p - 1, 1), -EFAULT);
	assert_int_equal(want(m, p + 10, SIZE_MAX), -EFAULT);
	assert_int_equal(want(m, p + 10, SIZE_MAX - 9), -EFAULT);
	assert_int_equal(want(m, NULL, 1), -EFAULT);
	assert_int_equal(want(m, (void *)UINTPTR_MAX, 1), -EFAULT);
	assert_int_equal(quire_map_want(m, v, 2, 0, NULL), -EFAULT);
	assert_int_equal(quire_map_unwant(m, v, 2), -EFAULT);
	assert_int_equal(quire_map_purge(m, p, LEN + 1), -EFAULT);
	assert_false(quire_map_resident(m, p, LEN + 1));
	assert_false(quire_map_resident(m, NULL, 1));
	assert_int_equal(quire_map_want(m, v, 1, 2, NULL), -EINVAL);
	assert_int_equal(quire_map_want(m, NULL, 1, 0, NULL), -EINVAL);
	map_end(m);
}

/* ---- ways to complete ---- */

static void by_queue(void **state)
{
	struct quire_map *m = map_of_64_pages();
	struct quire_queue *q;
	struct quire_op ops[64];
	bool seen[64] = {false};
	struct iovec v;

	assert_int_equal(quire_queue_create(&q), 0);
	for (unsigned i = 0; i < 64; i++) {
		v = io(item_ptr(m, 0) + pages(i), 1);
		quire_op_init_queue(&ops[i], q, i);
		assert_int_equal(quire_map_want(m, &v, 1, 0, &ops[i]), 0);
	}
	for (unsigned n = 0; n < 64;) {
		struct quire_completion c[10];
		struct pollfd p = {.fd = quire_queue_fd(q), .events = POLLIN};

		assert_int_equal(poll(&p, 1, 10000), 1);
		unsigned got = quire_queue_harvest(q, c, 10);
		for (unsigned i = 0; i < got; i++) {
			assert_int_equal(c[i].result, 0);
			assert_false(seen[c[i].tag]);
			seen[c[i].tag] = true;
		}
		n += got;
	}
	assert_int_equal(quire_queue_destroy(q), 0);
	map_end(m);
}

static void by_eventfd(void **state)
{
	struct quire_map *m = map_of_64_pages();
	int efd = eventfd(0, EFD_CLOEXEC);
	struct quire_op op;
	struct iovec v = io(item_ptr(m, 0), LEN);
	uint64_t n = 0;

	quire_op_init_eventfd(&op, efd);
	assert_int_equal(quire_map_want(m, &v, 1, 0, &op), 0);
	assert_int_equal(read(efd, &n, sizeof(n)), sizeof(n));
	assert_int_equal(n, 1);
	assert_true(quire_op_done(&op));
	assert_int_equal(op.result, 0);
	close(efd);
	map_end(m);
}

static void by_await(void **state)
{
	struct quire_map *m = map_of_64_pages();
	struct quire_op op;
	struct iovec v = io(item_ptr(m, 0), LEN);

	for (unsigned i = 0; i < 2; i++) { /* cold, then resident */
		quire_op_init(&op);
		assert_int_equal(quire_map_want(m, &v, 1, 0, &op), 0);
		assert_int_equal(quire_await(&op), 0);
	}
	map_end(m);
}

/* ---- in a loop, on both engines ---- */

static struct quire_loop *loop_of(enum quire_engine engine)
{
	struct quire_loop_options o = {.size = sizeof(o), .engine = engine, .n_threads = 4};
	struct quire_loop *loop = NULL;
	int rc = quire_loop_create(&o, &loop, NULL);

	if (rc == -ENOTSUP)
		return NULL;
	assert_int_equal(rc, 0);
	return loop;
}

static void on_both_engines(void (*test)(struct quire_map *m, struct quire_loop *loop))
{
	for (enum quire_engine e = QUIRE_ENGINE_URING; e <= QUIRE_ENGINE_THREADS; e++) {
		struct quire_map *m = map_of_64_pages();
		struct quire_loop *loop = loop_of(e);

		if (loop != NULL) {
			test(m, loop);
			assert_int_equal(quire_loop_destroy(loop), 0);
		}
		map_end(m);
	}
}

struct asked {
	struct quire_map *map;
	struct quire_op op;
	struct iovec v;
	int64_t result;
	unsigned n_calls;
};

static void ask_and_wait(void *arg)
{
	struct asked *a = arg;

	a->result = quire_map_want(a->map, &a->v, 1, QUIRE_WANT_PIN, NULL);
	a->n_calls++;
}

static void coroutine_waits(struct quire_map *m, struct quire_loop *loop)
{
	struct asked a[8];

	for (unsigned i = 0; i < 8; i++) {
		a[i] = (struct asked){.map = m, .v = io(item_ptr(m, 0) + pages(i * 8), pages(8)), .result = 1};
		assert_int_equal(quire_co_spawn(loop, ask_and_wait, &a[i]), 0);
	}
	assert_int_equal(quire_loop_run(loop), 0);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(a[i].result, 0);
		assert_int_equal(a[i].n_calls, 1);
	}
	assert_bytes(item_ptr(m, 0), 1, 0, LEN - 10);
	assert_int_equal(unpin(m, item_ptr(m, 0), LEN), 0);
}

static void in_a_coroutine(void **state)
{
	on_both_engines(coroutine_waits);
}

static void called_back(struct quire_op *op, void *arg)
{
	struct asked *a = arg;

	assert_non_null(quire_loop_self());
	a->result = op->result;
	a->n_calls++;
}

static void ask_with_callback(void *arg)
{
	struct asked *a = arg;

	quire_op_init_callback(&a->op, quire_loop_self(), called_back, a);
	assert_int_equal(quire_map_want(a->map, &a->v, 1, 0, &a->op), 0);
}

static void callback_comes(struct quire_map *m, struct quire_loop *loop)
{
	struct asked a = {.map = m, .v = io(item_ptr(m, 0), LEN), .result = 1};

	for (unsigned i = 0; i < 2; i++) { /* cold, then resident */
		assert_int_equal(quire_co_spawn(loop, ask_with_callback, &a), 0);
		assert_int_equal(quire_loop_run(loop), 0);
		assert_int_equal(a.result, 0);
		assert_int_equal(a.n_calls, i + 1);
	}
	/* From another thread than the loop's. */
	quire_map_purge(m, item_ptr(m, 0), LEN);
	quire_op_init_callback(&a.op, loop, called_back, &a);
	assert_int_equal(quire_map_want(m, &a.v, 1, 0, &a.op), 0);
	assert_int_equal(quire_loop_run(loop), 0);
	assert_int_equal(a.n_calls, 3);
}

static void by_callback(void **state)
{
	on_both_engines(callback_comes);
}

static void ask_to_block(struct quire_op *op, void *arg)
{
	struct asked *a = arg;

	a->result = quire_map_want(a->map, &a->v, 1, QUIRE_WANT_PIN, NULL);
	a->n_calls++;
}

static void blocking_in_a_callback(struct quire_map *m, struct quire_loop *loop)
{
	struct asked a = {.map = m, .v = io(item_ptr(m, 0), LEN)};
	struct iovec nothing = {(void *)(uintptr_t)item_ptr(m, 0), 0};

	if (fault != QUIRE_FAULT_KERNEL) /* its half is resident: that must not stay pinned */
		assert_int_equal(want(m, a.v.iov_base, LEN / 2), 0);
	quire_op_init_callback(&a.op, loop, ask_to_block, &a);
	assert_int_equal(quire_map_want(m, &nothing, 1, 0, &a.op), 0);
	assert_int_equal(quire_loop_run(loop), 0);
	assert_int_equal(a.n_calls, 1);
	assert_int_equal(a.result, -EDEADLK);
	assert_int_equal(map_stat(m).pinned, 0);
	if (fault == QUIRE_FAULT_KERNEL)
		return; /* it can't tell that it need not wait */

	assert_int_equal(want(m, a.v.iov_base, LEN), 0);
	quire_op_init_callback(&a.op, loop, ask_to_block, &a);
	assert_int_equal(quire_map_want(m, &nothing, 1, 0, &a.op), 0);
	assert_int_equal(quire_loop_run(loop), 0);
	assert_int_equal(a.result, 0); /* had not to wait */
	assert_int_equal(unpin(m, a.v.iov_base, LEN), 0);
}

static void no_blocking_in_a_callback(void **state)
{
	on_both_engines(blocking_in_a_callback);
}

static void start_twice(void *arg)
{
	struct asked *a = arg;

	quire_op_init(&a->op);
	assert_int_equal(quire_map_want(a->map, &a->v, 1, 0, &a->op), 0);
	assert_int_equal(quire_map_want(a->map, &a->v, 1, 0, &a->op), -EBUSY);
	assert_int_equal(quire_map_destroy(a->map, &a->op), -EBUSY);
	a->result = quire_await(&a->op);
	assert_int_equal(quire_map_want(a->map, &a->v, 1, 0, &a->op), -EBUSY);
}

static void same_op_twice(struct quire_map *m, struct quire_loop *loop)
{
	struct asked a = {.map = m, .v = io(item_ptr(m, 0), LEN), .result = 1};

	assert_int_equal(quire_co_spawn(loop, start_twice, &a), 0);
	assert_int_equal(quire_loop_run(loop), 0);
	assert_int_equal(a.result, 0);
}

static void an_op_once_only(void **state)
{
	on_both_engines(same_op_twice);
}

static void hits_are_counted(void **state)
{
	struct quire_map *m = map_of_64_pages();
	const char *p = item_ptr(m, 0);

	assert_int_equal(want(m, p, LEN), 0);
	assert_int_equal(map_stat(m).n_hits, 0);
	assert_int_equal(map_stat(m).n_fills, 64);
	assert_int_equal(want(m, p, pages(10)), 0);
	assert_int_equal(map_stat(m).n_hits, 10);
	quire_map_purge(m, p + pages(5), pages(1));
	assert_int_equal(want(m, p, pages(10)), 0);
	assert_int_equal(map_stat(m).n_hits, 19);
	assert_int_equal(cache_stat().n_fills, 65);
	map_end(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_EACH(makes_resident),
		ON_EACH(unaligned_ranges),
		ON_EACH(scattered_ranges),
		ON_EACH(overlapping_ranges),
		ON_EACH(empty_ranges_ask_for_nothing),
		ON_EACH(outside),
		ON_EACH(by_queue),
		ON_EACH(by_eventfd),
		ON_EACH(by_await),
		ON_EACH(in_a_coroutine),
		ON_EACH(by_callback),
		ON_EACH(no_blocking_in_a_callback),
		ON_EACH(an_op_once_only),
		ON_CHECKED(hits_are_counted),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
