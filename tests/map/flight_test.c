/* Fills that are under way: shared, repeated, cancelled, by the hundred thousand, and destroyed under. */
#include "../support/stalled.h"

#include <stdatomic.h>

#define FAR pages(64) /* further apart than one read reaches */

static struct quire_map *map_of(unsigned n_far)
{
	file_write("f", 1, n_far * FAR);
	return map_name("f");
}

#define EACH_ENGINE(e) const enum quire_engine *e = both_engines; e < both_engines + 2; e++

static void two_askers_cause_one_read(void **state)
{
	for (EACH_ENGINE(e)) {
		struct quire_map *m = map_of(1);
		struct quire_op mine, other;
		struct iovec v = io(item_ptr(m, 0), 1);
		struct stalled s = {.map = m, .ops = &mine, .ranges = &v, .n = 1};

		quire_op_init(&mine);
		stalled_start(&s, *e);
		assert_false(quire_op_done(&mine));
		quire_op_init(&other);
		assert_int_equal(quire_map_want(m, &v, 1, QUIRE_WANT_PIN, &other), 0);
		stalled_end(&s);
		assert_int_equal(mine.result, 0);
		assert_int_equal(quire_await(&other), 0);
		assert_int_equal(map_stat(m).n_fills, 1);
		assert_int_equal(cache_stat().n_duplicate, 0);
		assert_bytes(v.iov_base, 1, 0, pages(1));
		assert_int_equal(unpin(m, v.iov_base, 1), 0);
		map_end(m);
	}
}

/* The thread that runs the loop is the one that would have to end the fill. */
static void touch_what_is_under_way(struct stalled *s)
{
	const char *p = s->ranges[0].iov_base;
	bool *right = s->arg;

	*right = !quire_op_done(&s->ops[0]) && bytes_are(p + 3, 1, 3, 10) &&
	         bytes_are(p + pages(15) + 7, 1, pages(15) + 7, 10) && !quire_op_done(&s->ops[0]);
}

static void own_fill_is_repeated_by_a_fault(void **state)
{
	for (EACH_ENGINE(e)) {
		struct quire_map *m = map_of(1);
		struct quire_op op;
		const char *p = item_ptr(m, 0);
		struct iovec v = io(p, pages(20));
		bool right = false;
		struct stalled s = {.map = m, .ops = &op, .ranges = &v, .n = 1,
		                    .body = touch_what_is_under_way, .arg = &right};
		uint64_t n_duplicate = cache_stat().n_duplicate;

		quire_op_init(&op);
		stalled_start(&s, *e);
		assert_true(right);
		assert_int_equal(cache_stat().n_duplicate, n_duplicate + 2);
		stalled_end(&s);
		assert_int_equal(op.result, 0);
		assert_bytes(p, 1, 0, pages(20));
		assert_int_equal(map_stat(m).resident, pages(20));
		/* What a repeat has in hand still can't be purged. */
		for (int64_t n = 0; n < 20;)
			n += quire_map_purge(m, p, pages(20));
		assert_int_equal(map_stat(m).resident, 0);
		assert_bytes(p, 1, 0, pages(20)); /* none was left behind for good */
		map_end(m);
	}
}

struct toucher {
	const char *p;
	bool right;
};

static void *touch(void *arg)
{
	struct toucher *t = arg;

	t->right = bytes_are(t->p, 1, 0, 64);
	return NULL;
}

static void many_threads_fault_on_a_stalled_fill(void **state)
{
	struct quire_map *m = map_of(1);
	struct quire_op op;
	struct iovec v = io(item_ptr(m, 0), 1);
	struct stalled s = {.map = m, .ops = &op, .ranges = &v, .n = 1};
	struct toucher t = {.p = v.iov_base};
	struct toucher all[8];
	pthread_t threads[8];

	quire_op_init(&op);
	stalled_start(&s, QUIRE_ENGINE_URING);
	for (unsigned i = 0; i < 8; i++) {
		all[i] = t;
		assert_int_equal(pthread_create(&threads[i], NULL, touch, &all[i]), 0);
	}
	for (unsigned i = 0; i < 8; i++) {
		pthread_join(threads[i], NULL);
		assert_true(all[i].right);
	}
	stalled_end(&s);
	assert_int_equal(op.result, 0);
	map_end(m);
}

/* ---- cancelling ---- */

static void cancel_parked_on_an_own_fill(void **state)
{
	for (EACH_ENGINE(e)) {
		struct quire_map *m = map_of(1);
		struct quire_op op;
		struct iovec v = io(item_ptr(m, 0), pages(3));
		struct stalled s = {
			.map = m, .ops = &op, .ranges = &v, .n = 1, .flags = QUIRE_WANT_PIN};

		quire_op_init(&op);
		stalled_start(&s, *e);
		assert_int_equal(quire_op_cancel(&op), 0);
		stalled_end(&s);
		assert_true(quire_op_done(&op));
		assert_int_equal(op.result, -ECANCELED);
		assert_int_equal(map_stat(m).pinned, 0);
		assert_int_equal(quire_op_cancel(&op), -EALREADY);
		map_end(m);
	}
}

static void cancel_in_the_queue(void **state)
{
	for (EACH_ENGINE(e)) {
		struct quire_map *m = map_of(3);
		struct quire_op ops[3];
		struct iovec v[3];
		struct stalled s = {.map = m,
		                    .ops = ops,
		                    .ranges = v,
		                    .n = 3,
		                    .flags = QUIRE_WANT_PIN,
		                    .depth = 1};

		for (unsigned i = 0; i < 3; i++) {
			v[i] = io(item_ptr(m, 0) + i * FAR, 1);
			quire_op_init(&ops[i]);
		}
		stalled_start(&s, *e);
		assert_int_equal(quire_op_cancel(&ops[1]), 0);
		stalled_end(&s);
		assert_int_equal(ops[0].result, 0);
		assert_int_equal(ops[1].result, -ECANCELED);
		assert_int_equal(ops[2].result, 0);
		assert_int_equal(map_stat(m).pinned, pages(2));
		assert_int_equal(unpin(m, v[0].iov_base, 1), 0);
		assert_int_equal(unpin(m, v[2].iov_base, 1), 0);
		map_end(m);
	}
}

static void cancel_parked_on_a_foreign_fill(void **state)
{
	for (EACH_ENGINE(e)) {
		struct quire_map *m = map_of(1);
		struct quire_op mine, other;
		struct iovec v = io(item_ptr(m, 0), 1);
		struct stalled s = {.map = m, .ops = &mine, .ranges = &v, .n = 1};

		quire_op_init(&mine);
		stalled_start(&s, *e);
		quire_op_init(&other);
		assert_int_equal(quire_map_want(m, &v, 1, QUIRE_WANT_PIN, &other), 0);
		assert_int_equal(quire_op_cancel(&other), 0);
		assert_int_equal(quire_await(&other), -ECANCELED); /* while that fill is under way */
		stalled_end(&s);
		assert_int_equal(mine.result, 0);
		assert_int_equal(map_stat(m).pinned, 0);
		map_end(m);
	}
}

static void cancel_at_any_time(void **state)
{
	enum { N = 64, ROUNDS = 40 };
	struct quire_map *m = map_of(N);
	static struct quire_op ops[N];

	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < N; i++) {
			struct iovec v = io(item_ptr(m, 0) + i * FAR, pages(2));

			quire_op_init(&ops[i]);
			assert_int_equal(quire_map_want(m, &v, 1, QUIRE_WANT_PIN, &ops[i]), 0);
			if (i >= round)
				quire_op_cancel(&ops[i - round]);
		}
		for (unsigned i = 0; i < N; i++) {
			int64_t result = quire_await(&ops[i]);

			assert_true(result == 0 || result == -ECANCELED);
			if (result == 0) {
				assert_bytes(item_ptr(m, 0) + i * FAR, 1, i * FAR, pages(2));
				assert_int_equal(unpin(m, item_ptr(m, 0) + i * FAR, pages(2)), 0);
			}
		}
		assert_int_equal(map_stat(m).pinned, 0);
		quire_map_purge(m, quire_map_base(m), quire_map_bytes(m));
	}
	map_end(m);
}

/* ---- a hundred thousand ---- */

static void many(bool destroy)
{
	const unsigned n = getenv("QUIRE_TEST_LONG") != NULL ? 1000000 : SANITIZED_THREADS ? 8000 : SANITIZED ? 20000 : 100000;
	struct quire_op *ops = malloc(n * sizeof(*ops));
	struct iovec *v = malloc(n * sizeof(*v));
	struct quire_queue *q;
	struct quire_op end;
	static struct quire_completion c[4096];

	file_sparse("many", pages(n / 10));
	struct quire_map *m = map_name("many");
	assert_int_equal(quire_queue_create(&q), 0);
	for (unsigned i = 0; i < n; i++) {
		v[i] = io(item_ptr(m, 0) + pages(i / 10), 1);
		quire_op_init_queue(&ops[i], q, i);
	}
	struct stalled s = {.map = m, .ops = ops, .ranges = v, .n = n};
	stalled_start(&s, QUIRE_ENGINE_AUTO);
	assert_true(cache_stat().used <= cache_stat().budget);
	quire_op_init(&end);
	if (destroy)
		assert_int_equal(quire_map_destroy(m, &end), 0);
	stalled_end(&s);
	unsigned total = 0, n_canceled = 0, got;
	while ((got = quire_queue_harvest(q, c, 4096)) > 0) {
		for (unsigned i = 0; i < got; i++) {
			assert_true(c[i].result == 0 || (destroy && c[i].result == -ECANCELED));
			n_canceled += c[i].result != 0;
			assert_true(v[c[i].tag].iov_len == 1);
			v[c[i].tag].iov_len = 0; /* once only */
		}
		total += got;
	}
	assert_int_equal(total, n);
	assert_int_equal(quire_queue_destroy(q), 0);
	if (destroy) {
		assert_int_equal(quire_await(&end), 0);
		assert_true(n_canceled > n / 2);
	} else {
		assert_true(cache_stat().used <= cache_stat().budget);
		map_end(m);
	}
	free(ops);
	free(v);
}

static void a_hundred_thousand_wants(void **state)
{
	many(false);
}

static void destroy_under_a_hundred_thousand_wants(void **state)
{
	many(true);
}

/* ---- destroying ---- */

static void destroy_with_wants_under_way(void **state)
{
	enum { N = 100, ROUNDS = 50 };
	static struct quire_op ops[N];

	for (unsigned round = 0; round < ROUNDS; round++) {
		struct quire_map *m = map_of(8);
		struct quire_queue *q;
		struct quire_completion c[N];
		unsigned n = 0;

		assert_int_equal(quire_queue_create(&q), 0);
		for (unsigned i = 0; i < N; i++) {
			struct iovec v = io(item_ptr(m, 0) + pages(i * 5), pages(1 + i % 3));

			quire_op_init_queue(&ops[i], q, i);
			assert_int_equal(quire_map_want(m, &v, 1, 0, &ops[i]), 0);
		}
		assert_int_equal(quire_map_destroy(m, NULL), 0);
		n = quire_queue_harvest(q, c, N); /* all of them came before */
		assert_int_equal(n, N);
		for (unsigned i = 0; i < n; i++)
			assert_true(c[i].result == 0 || c[i].result == -ECANCELED);
		assert_int_equal(quire_queue_destroy(q), 0);
	}
}

/* A destroy that was accepted leaves no want that says it has pinned. */
static void destroy_races_with_pins(void **state)
{
	enum { N = 16, ROUNDS = 300 };
	struct quire_op ops[N];

	file_write("f", 1, N * FAR);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct quire_map *m = map_name("f");
		const char *p = item_ptr(m, 0);
		int64_t results[N];
		uint64_t until = now_ns() + round * 700;

		for (unsigned i = 0; i < N; i++) {
			struct iovec v = io(p + i * FAR, 1);

			quire_op_init(&ops[i]);
			assert_int_equal(quire_map_want(m, &v, 1, QUIRE_WANT_PIN, &ops[i]), 0);
		}
		while (now_ns() < until)
			;
		int rc = quire_map_destroy(m, NULL);
		for (unsigned i = 0; i < N; i++)
			results[i] = quire_await(&ops[i]);
		assert_true(rc == 0 || rc == -EBUSY);
		for (unsigned i = 0; i < N; i++) {
			if (rc == 0)
				assert_int_equal(results[i], -ECANCELED);
			else if (results[i] == 0)
				assert_int_equal(unpin(m, p + i * FAR, 1), 0);
		}
		if (rc < 0)
			map_end(m);
	}
}

static _Atomic bool stop;

static void *use_a_map(void *arg)
{
	struct quire_map *m = arg;
	bool right = true;

	for (unsigned i = 0; !atomic_load(&stop) && right; i++) {
		const char *p = item_ptr(m, 0) + i % 8 * FAR;

		right = pin(m, p, pages(2)) == 0 && bytes_are(p, 1, i % 8 * FAR, pages(2)) &&
		        unpin(m, p, pages(2)) == 0;
		quire_map_purge(m, p, pages(1));
	}
	return right ? m : NULL;
}

static void destroy_while_others_are_used(void **state)
{
	struct quire_map *m = map_of(8);
	pthread_t thread;
	void *right;

	file_write("g", 2, FAR);
	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&thread, NULL, use_a_map, m), 0);
	for (unsigned i = 0; i < 300; i++) {
		struct quire_map *other = map_name("g");

		read_and_compare(other, item_ptr(other, 0), 2, 0, pages(10));
		map_end(other);
	}
	atomic_store(&stop, true);
	pthread_join(thread, &right);
	assert_non_null(right);
	map_end(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_CHECKED(two_askers_cause_one_read),
		ON_FAULTING(own_fill_is_repeated_by_a_fault),
		ON_FAULTING(many_threads_fault_on_a_stalled_fill),
		ON_CHECKED(cancel_parked_on_an_own_fill),
		ON_CHECKED(cancel_in_the_queue),
		ON_CHECKED(cancel_parked_on_a_foreign_fill),
		ON_EACH(cancel_at_any_time),
		ON_SERVICE(a_hundred_thousand_wants),
		ON_PINNED(destroy_under_a_hundred_thousand_wants),
		ON_EACH(destroy_with_wants_under_way),
		ON_CHECKED(destroy_races_with_pins),
		ON_EACH(destroy_while_others_are_used),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
