/* object_test.c - objects of all sizes, written, committed, read, removed; each behaviour once. */
#include "store_env.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t one_class[STORE_N_CLASSES] = {8192};

static void make(struct env *e, void (*fn)(struct env *e, void *arg))
{
	env_init(e, 1, one_class, NULL);
	env_run(e, fn, NULL);
	env_fini(e);
}

static void begin(struct env *e)
{
	assert_int_equal(env_format(e), 0);
	int rc = env_open(e);
	if (rc < 0)
		fail_msg("%s", e->err.text);
}

static void reopen(struct env *e)
{
	env_close(e);
	int rc = env_open(e);
	if (rc < 0)
		fail_msg("%s", e->err.text);
}

static const uint64_t sizes[] = {0, 1, 4095, 4096, 4097, 8192, 65535, 65536, 65537, 100000, 262144, 300001,
                                 1023 * 4096 - 1, 1023 * 4096, 1023 * 4096 + 1, 5 * 1000 * 1000};

static void of_all_sizes(struct env *e, void *arg)
{
	int64_t ids[sizeof(sizes) / sizeof(sizes[0])];

	begin(e);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		ids[i] = env_put(e, 0, sizes[i]);
		assert_true(ids[i] > 0);
		assert_int_equal(env_verify(e, (uint64_t)ids[i], sizes[i]), 0);
	}
	assert_int_equal(env_check(e, true), 0);
	reopen(e);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		assert_int_equal(env_verify(e, (uint64_t)ids[i], sizes[i]), 0);
	assert_int_equal(env_check(e, true), 0);
	env_close(e);
}

static void test_objects_of_all_sizes(void **state)
{
	struct env e;
	make(&e, of_all_sizes);
}

static void in_odd_pieces(struct env *e, void *arg)
{
	static const uint64_t pieces[] = {1, 4095, 10, 70000, 4096, 8192, 131072, 3, 65536, 262144 + 7};
	uint64_t id, at = 0;

	begin(e);
	assert_int_equal(object_begin(e->store, 0, 0, 0, 0, &id), 0);
	for (unsigned i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		assert_int_equal(env_append(e, id, at, pieces[i]), 0);
		at += pieces[i];
	}
	assert_int_equal(store_apply(e->store, &id, 1, NULL, 0), 0);
	assert_int_equal(env_verify(e, id, at), 0);
	env_close(e);
}

static void test_pieces_of_any_size(void **state)
{
	struct env e;
	make(&e, in_odd_pieces);
}

static void dead_ids(struct env *e, void *arg)
{
	struct object *o;
	uint64_t id, aborted;

	begin(e);
	assert_int_equal(object_begin(e->store, 0, 0, 0, 0, &id), 0);
	assert_int_equal(object_get(e->store, id, &o), -EAGAIN);
	assert_int_equal(store_apply(e->store, NULL, 0, &id, 1), -EAGAIN);
	assert_int_equal(store_apply(e->store, &id, 1, NULL, 0), 0);
	assert_int_equal(store_apply(e->store, &id, 1, NULL, 0), -EROFS);
	assert_int_equal(env_append(e, id, 0, 10), -EROFS);
	assert_int_equal(object_abort(e->store, id), -EROFS);
	assert_int_equal(object_begin(e->store, 0, 0, 0, 0, &aborted), 0);
	assert_int_equal(object_abort(e->store, aborted), 0);
	assert_int_equal(object_abort(e->store, aborted), -ESTALE);
	assert_int_equal(store_apply(e->store, &aborted, 1, NULL, 0), -ESTALE);
	assert_int_equal(store_apply(e->store, NULL, 0, &id, 1), 0);
	assert_int_equal(store_apply(e->store, NULL, 0, &id, 1), -ESTALE);
	assert_int_equal(object_get(e->store, id, &o), -ESTALE);
	assert_int_equal(env_append(e, id, 0, 10), -ESTALE);
	env_close(e);
}

static void test_dead_and_committed_ids(void **state)
{
	struct env e;
	make(&e, dead_ids);
}

static void named_twice(struct env *e, void *arg)
{
	begin(e);
	uint64_t a = (uint64_t)env_write(e, 0, 10), b = (uint64_t)env_put(e, 0, 10);
	assert_int_equal(store_apply(e->store, (uint64_t[]){a, a}, 2, NULL, 0), -EINVAL);
	assert_int_equal(store_apply(e->store, &a, 1, (uint64_t[]){b, b}, 2), -EINVAL);
	assert_int_equal(store_apply(e->store, (uint64_t[]){a, 999999}, 2, &b, 1), -ESTALE);
	assert_int_equal(env_verify(e, b, 10), 0);
	assert_int_equal(store_apply(e->store, &a, 1, &b, 1), 0);
	assert_int_equal(env_verify(e, a, 10), 0);
	assert_int_equal(env_verify(e, b, 10), -ESTALE);
	assert_int_equal(env_check(e, true), 0);
	env_close(e);
}

static void test_a_transaction_is_all_or_nothing(void **state)
{
	struct env e;
	make(&e, named_twice);
}

static uint64_t free_bytes(struct env *e)
{
	struct store_stat stat;

	store_settle(e->store);
	store_stat(e->store, &stat);
	return stat.classes[0].free_bytes;
}

static void removed_while_held(struct env *e, void *arg)
{
	struct store_stat stat;
	struct object *o;

	begin(e);
	uint64_t before = free_bytes(e), id = (uint64_t)env_put(e, 0, 100000);
	assert_int_equal(before - free_bytes(e), 26 * PAGE);
	assert_int_equal(object_get(e->store, id, &o), 0);
	assert_int_equal(store_close(e->store), -EBUSY);
	assert_int_equal(store_apply(e->store, NULL, 0, &id, 1), 0);
	assert_int_equal(env_verify(e, id, 100000), -ESTALE);
	store_settle(e->store);
	store_stat(e->store, &stat);
	assert_int_equal(stat.classes[0].pending_bytes, 26 * PAGE);
	assert_int_equal(env_check(e, true), 0);
	void *buf = aligned_alloc(PAGE, PAGE);
	assert_int_equal(object_read_wait(o, 4 * PAGE, PAGE, buf, NULL), 0);
	assert_int_equal(object_read_now(o, 4 * PAGE, PAGE, buf), 0);
	free(buf);
	object_put(o);
	assert_int_equal(free_bytes(e), before);
	env_close(e);
}

static void test_removed_while_held(void **state)
{
	struct env e;
	make(&e, removed_while_held);
}

static void full(struct env *e, void *arg)
{
	uint64_t ids[64];
	unsigned n = 0;
	int64_t id;

	begin(e);
	uint64_t before = free_bytes(e);
	while ((id = env_put(e, 0, 1000000)) > 0)
		ids[n++] = (uint64_t)id;
	assert_int_equal(id, -ENOSPC);
	assert_true(n > 20);
	/* What was begun, and did not get its space, is there still: give it up. */
	for (uint64_t i = ids[n - 1] + 1; i < ids[n - 1] + 3; i++)
		(void)object_abort(e->store, i);
	uint64_t expected;
	assert_int_equal(object_begin(e->store, 0, 1000000, 0, 0, &expected), -ENOSPC);
	assert_int_equal(store_apply(e->store, NULL, 0, ids, n), 0);
	assert_int_equal(free_bytes(e), before);
	assert_int_equal(env_check(e, true), 0);
	env_close(e);
}

static void test_a_full_store_can_delete(void **state)
{
	struct env e;
	make(&e, full);
}

static void expected_space(struct env *e, void *arg)
{
	uint64_t id, other;

	begin(e);
	uint64_t room = free_bytes(e);
	assert_int_equal(object_begin(e->store, 0, room / 2, 0, 0, &id), 0);
	while (env_put(e, 0, 60000) > 0)
		;
	assert_int_equal(object_begin(e->store, 0, 60000, 0, 0, &other), -ENOSPC);
	for (uint64_t at = 0; at < room / 2; at += 1 << 20)
		assert_int_equal(env_append(e, id, at, room / 2 - at < 1 << 20 ? room / 2 - at : 1 << 20), 0);
	assert_int_equal(store_apply(e->store, &id, 1, NULL, 0), 0);
	assert_int_equal(env_verify(e, id, room / 2), 0);
	env_close(e);
}

static void test_what_is_expected_is_kept(void **state)
{
	struct env e;
	make(&e, expected_space);
}

static void many_at_once(struct env *e, void *arg)
{
	uint64_t ids[300];

	begin(e);
	uint64_t before = free_bytes(e), sum = 0;
	for (unsigned i = 0; i < 300; i++) {
		ids[i] = (uint64_t)env_write(e, 0, i * 113);
		sum += format_n_units(format_n_pages(i * 113));
	}
	assert_int_equal(store_apply(e->store, ids, 300, NULL, 0), 0);
	assert_int_equal(before - free_bytes(e), sum * PAGE);
	for (unsigned i = 0; i < 300; i++)
		assert_int_equal(env_verify(e, ids[i], i * 113), 0);
	reopen(e);
	for (unsigned i = 0; i < 300; i++)
		assert_int_equal(env_verify(e, ids[i], i * 113), 0);
	assert_int_equal(store_apply(e->store, NULL, 0, ids, 300), 0);
	reopen(e);
	assert_int_equal(free_bytes(e), before);
	assert_int_equal(store_apply(e->store, ids, FORMAT_MAX_TRANSACTION + 1, NULL, 0), -EMSGSIZE);
	env_close(e);
}

static void test_many_in_one_transaction(void **state)
{
	struct env e;
	make(&e, many_at_once);
}

static void beyond_the_end(struct env *e, void *arg)
{
	struct object *o;

	begin(e);
	uint64_t id = (uint64_t)env_put(e, 0, 5000);
	void *buf = aligned_alloc(PAGE, 4 * PAGE);
	assert_int_equal(object_get(e->store, id, &o), 0);
	assert_int_equal(object_read_wait(o, 0, 2 * PAGE, buf, NULL), 0);
	assert_int_equal(((char *)buf)[5000], 0);
	assert_int_equal(object_read_wait(o, 0, 2 * PAGE + 1, buf, NULL), -EINVAL);
	assert_int_equal(object_read_wait(o, 2 * PAGE, 1, buf, NULL), -EINVAL);
	assert_int_equal(object_read_wait(o, 100, 1, buf, NULL), -EINVAL);
	assert_int_equal(object_read_now(o, 2 * PAGE, 1, buf), -EINVAL);
	object_put(o);
	free(buf);
	env_close(e);
}

static void test_reads_beyond_the_end(void **state)
{
	struct env e;
	make(&e, beyond_the_end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_objects_of_all_sizes),
		cmocka_unit_test(test_pieces_of_any_size),
		cmocka_unit_test(test_dead_and_committed_ids),
		cmocka_unit_test(test_a_transaction_is_all_or_nothing),
		cmocka_unit_test(test_removed_while_held),
		cmocka_unit_test(test_a_full_store_can_delete),
		cmocka_unit_test(test_what_is_expected_is_kept),
		cmocka_unit_test(test_many_in_one_transaction),
		cmocka_unit_test(test_reads_beyond_the_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
