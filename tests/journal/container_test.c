/* container_test.c - the two-log container: appended, read, compacted, full, damaged, beside others. */
#include "fixture.h"

#include <errno.h>
#include <string.h>

static uint64_t first[2];
static uint64_t capacity;

static struct container_options options(void)
{
	return (struct container_options){.journal = env_options(&e), .capacity_bytes = capacity};
}

static struct container *create(void)
{
	struct container_options o = options();
	struct container *c;

	first[0] = env_extent(&e);
	first[1] = env_extent(&e);
	assert_int_equal(container_create(&o, first, &c, NULL), 0);
	return c;
}

static int open_it(bool read_only, struct container **ret)
{
	struct container_options o = options();

	seen.n = seen.n_wrong = 0;
	int rc = container_open(&o, first, read_only, seen_add, &seen, NULL, ret, NULL);
	assert_int_equal(seen.n_wrong, 0);
	return rc;
}

static struct container *reopen(struct container *c)
{
	container_close(c);
	assert_int_equal(open_it(false, &c), 0);
	return c;
}

static void append(struct container *c, uint32_t from, uint32_t n)
{
	uint64_t no = 0;

	for (uint32_t id = from; id < from + n; id++)
		assert_int_equal(record_append_container(c, id, &no), 0);
	assert_int_equal(container_sync(c, no, NULL), 0);
}

static void expect_seen(uint32_t from, uint64_t n)
{
	assert_int_equal(seen.n, n);
	for (uint64_t i = 0; i < n; i++)
		assert_int_equal(seen.ids[i], from + i);
}

/* Every second record goes over: even ids. */
static void compact_even(struct container *c, uint32_t n)
{
	uint64_t no;

	assert_int_equal(container_cstart(c), 0);
	assert_int_equal(container_cstart(c), -EBUSY);
	for (uint32_t id = 0; id < n; id += 2)
		assert_int_equal(record_append_container(c, id, &no), 0);
	assert_int_equal(container_cend(c), 0);
}

static void header(unsigned log, void *block)
{
	sim_peek(e.sim, first[log], block, DEVICE_BLOCK_BYTES);
}

/* ---- as it is meant to be used ---- */

static void run_read_again(void *arg)
{
	struct container *c = create();
	struct container_usage usage;

	(void)arg;
	append(c, 0, 100);
	seen.n = 0;
	assert_int_equal(container_read(c, seen_add, &seen), 0);
	expect_seen(0, 100);
	container_usage(c, &usage);
	assert_int_equal(usage.n_records, 100);
	assert_int_equal(usage.generation, 1);
	assert_true(usage.used_bytes > 100 * 512 && usage.used_bytes <= usage.allocated_bytes);
	container_close(c);
}

static void run_reopened_every_32(void *arg)
{
	struct container *c = create();

	(void)arg;
	for (uint32_t id = 0; id < 32 * 20; id += 32) {
		append(c, id, 32);
		c = reopen(c);
		expect_seen(0, id + 32);
	}
	container_close(c);
}

static void run_compacted(void *arg)
{
	struct container *c = create();
	struct container_usage usage;

	(void)arg;
	append(c, 0, 400);
	assert_int_equal(container_cend(c), -EINVAL);
	compact_even(c, 400);
	container_usage(c, &usage);
	assert_int_equal(usage.generation, 2);
	assert_int_equal(usage.n_records, 200);
	append(c, 1000, 3);
	c = reopen(c);
	assert_int_equal(seen.n, 203);
	assert_int_equal(seen.ids[199], 398);
	assert_int_equal(seen.ids[202], 1002);
	container_usage(c, &usage);
	assert_int_equal(usage.n_records, 203);
	container_close(c);
}

static void run_given_up(void *arg)
{
	struct container *c = create();
	uint64_t old, new, later;

	(void)arg;
	append(c, 0, 10);
	assert_int_equal(record_append_container(c, 10, &old), 0);
	assert_int_equal(container_cstart(c), 0);
	assert_int_equal(record_append_container(c, 500, &new), 0);
	assert_int_equal(container_cabort(c), 0);
	assert_int_equal(record_append_container(c, 11, &later), 0);
	assert_true(old < new && new < later);
	assert_int_equal(container_sync(c, old, NULL), 0);
	assert_int_equal(container_sync(c, later, NULL), 0);
	assert_int_equal(container_sync(c, later + 1, NULL), -EINVAL);
	compact_even(c, 4);
	container_close(c);
	assert_int_equal(open_it(true, &c), 0);
	assert_int_equal(seen.n, 2);
	assert_int_equal(record_append_container(c, 1, NULL), -EROFS);
	assert_int_equal(container_cstart(c), -EROFS);
	container_close(c);
}

static void run_too_full(void *arg)
{
	capacity = 2 * SEGMENT;
	struct container *c = create();
	struct container_usage usage;
	uint64_t no;
	uint32_t n = 0;
	int rc;

	(void)arg;
	while ((rc = record_append_container(c, n, &no)) == 0)
		n++;
	assert_int_equal(rc, -EFBIG);
	assert_int_equal(container_error(c), 0);
	container_usage(c, &usage);
	assert_int_equal(usage.allocated_bytes, capacity);
	assert_int_equal(usage.n_records, n);
	compact_even(c, n);
	assert_int_equal(record_append_container(c, n, &no), 0);
	/* A live set that is too large leaves the compaction open. */
	assert_int_equal(container_cstart(c), 0);
	while ((rc = record_append_container(c, 0, &no)) == 0)
		;
	assert_int_equal(rc, -EFBIG);
	assert_int_equal(container_cabort(c), 0);
	c = reopen(c);
	assert_int_equal(seen.n, (n + 1) / 2 + 1);
	container_close(c);
	capacity = 0;
}

static void run_four_side_by_side(void *arg)
{
	struct container *c[4];
	uint64_t firsts[4][2];

	(void)arg;
	for (unsigned i = 0; i < 4; i++) {
		e.o.log_no = 10 * i;
		c[i] = create();
		memcpy(firsts[i], first, sizeof(first));
	}
	for (uint32_t round = 0; round < 200; round++)
		for (unsigned i = 0; i < 4; i++)
			append(c[i], i * 1000 + round, 1);
	for (unsigned i = 0; i < 4; i++) {
		container_close(c[i]);
		e.o.log_no = 10 * i;
		memcpy(first, firsts[i], sizeof(first));
		assert_int_equal(open_it(false, &c[i]), 0);
		expect_seen(i * 1000, 200);
		container_close(c[i]);
	}
}

/* ---- crashes and damage ---- */

/* END is durable, the old log is not erased: the new one is the active one, and the old one never comes back. */
static void run_not_erased(void *arg)
{
	uint8_t old[DEVICE_BLOCK_BYTES], new[DEVICE_BLOCK_BYTES];
	struct container *c = create();
	struct container_usage usage;

	(void)arg;
	append(c, 0, 10);
	header(0, old);
	compact_even(c, 10);
	container_close(c);
	sim_poke(e.sim, first[0], old, sizeof(old));
	assert_int_equal(open_it(true, &c), 0);
	container_usage(c, &usage);
	assert_int_equal(usage.generation, 2);
	assert_int_equal(seen.n, 5);
	container_close(c);
	assert_int_equal(open_it(false, &c), 0);
	append(c, 100, 1);
	container_close(c);
	header(1, new);
	new[20] ^= 1;
	sim_poke(e.sim, first[1], new, sizeof(new));
	assert_int_equal(open_it(false, &c), -EBADMSG);
}

static const struct journal_ops *plain_ops;

static int get(void *owner, uint64_t *ret_offset)
{
	return plain_ops->segment_get(owner, ret_offset);
}

static void put_when_erased(void *owner, uint64_t offset)
{
	static const uint8_t zeros[DEVICE_BLOCK_BYTES];
	uint8_t block[DEVICE_BLOCK_BYTES];

	header(0, block);
	assert_memory_equal(block, zeros, sizeof(zeros));
	plain_ops->segment_put(owner, offset);
}

/* Or whoever reads beside the writer would take another's bytes for the log's. */
static void run_put_only_when_erased(void *arg)
{
	static const struct journal_ops ops = {.segment_get = get, .segment_put = put_when_erased};

	(void)arg;
	plain_ops = e.o.ops;
	e.o.ops = &ops;
	struct container *c = create();
	append(c, 0, 400);
	compact_even(c, 400);
	assert_true(e.n_puts > 0);
	container_close(c);
}

/* A compaction that did not end: the other log may hold anything. */
static void run_other_damaged(void *arg)
{
	uint8_t block[DEVICE_BLOCK_BYTES];
	struct container *c = create();

	(void)arg;
	append(c, 0, 10);
	assert_int_equal(container_cstart(c), 0);
	append(c, 500, 10);
	append(c, 510, 10);
	container_close(c);
	sim_peek(e.sim, first[1] + DEVICE_BLOCK_BYTES, block, sizeof(block));
	block[600] ^= 1;
	sim_poke(e.sim, first[1] + DEVICE_BLOCK_BYTES, block, sizeof(block));
	assert_int_equal(open_it(true, &c), 0);
	expect_seen(0, 10);
	container_close(c);
	memset(block, 0xff, sizeof(block));
	sim_poke(e.sim, first[1], block, sizeof(block));
	assert_int_equal(open_it(false, &c), 0);
	expect_seen(0, 10);
	compact_even(c, 10);
	c = reopen(c);
	assert_int_equal(seen.n, 5);
	container_close(c);
}

/* The active log's header is damaged while the other is there and incomplete. */
static void run_active_damaged(void *arg)
{
	uint8_t block[DEVICE_BLOCK_BYTES];
	struct container *c = create();

	(void)arg;
	append(c, 0, 10);
	assert_int_equal(container_cstart(c), 0);
	append(c, 500, 10);
	container_close(c);
	header(0, block);
	block[30] ^= 1;
	sim_poke(e.sim, first[0], block, sizeof(block));
	assert_int_equal(open_it(false, &c), -EBADMSG);
	memset(block, 0, sizeof(block));
	sim_poke(e.sim, first[0], block, sizeof(block));
	assert_int_equal(open_it(false, &c), -EUCLEAN);
}

static struct container *writer;

static int compact_meanwhile(void *arg, const struct journal_place *at, uint16_t type, const void *payload,
                             uint32_t len_bytes)
{
	(void)at;
	(void)type;
	(void)payload;
	(void)len_bytes;
	if (*(bool *)arg)
		compact_even(writer, 10);
	*(bool *)arg = false;
	return 0;
}

static void run_beside_writer(void *arg)
{
	struct container_options o = options();
	struct container *c;
	bool compact = true;

	(void)arg;
	writer = create();
	append(writer, 0, 10);
	assert_int_equal(container_open(&o, first, true, compact_meanwhile, &compact, NULL, &c, NULL), -ESTALE);
	assert_int_equal(open_it(true, &c), 0);
	assert_int_equal(seen.n, 5);
	append(writer, 100, 3);
	container_close(c);
	container_close(writer);
}

/* The active log could not be read, and the other is absent: nothing is known to be damaged. */
static void run_unreadable(void *arg)
{
	static const struct sim_faults often = {.cut_ends_io = true, .eio_read = 1u << 31}, none = {.cut_ends_io = true};
	struct container_options o = options();
	unsigned n_failed = 0;

	(void)arg;
	writer = create();
	append(writer, 0, 10);
	container_close(writer);
	sim_set_faults(e.sim, &often);
	for (unsigned i = 0; i < 64; i++) {
		struct container *c;
		int rc = container_open(&o, first, true, NULL, NULL, NULL, &c, NULL);
		assert_true(rc == 0 || rc == -EIO);
		n_failed += rc < 0;
		if (rc == 0)
			container_close(c);
	}
	assert_true(n_failed > 0);
	sim_set_faults(e.sim, &none);
}

/* ---- ---- */

static int set_up(void **state)
{
	(void)state;
	fixture_make(32, 3, NULL);
	return 0;
}

IN_COROUTINE(read_again)
IN_COROUTINE(reopened_every_32)
IN_COROUTINE(compacted)
IN_COROUTINE(given_up)
IN_COROUTINE(too_full)
IN_COROUTINE(four_side_by_side)
IN_COROUTINE(not_erased)
IN_COROUTINE(put_only_when_erased)
IN_COROUTINE(other_damaged)
IN_COROUTINE(active_damaged)
IN_COROUTINE(beside_writer)
IN_COROUTINE(unreadable)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_read_again), T(test_reopened_every_32), T(test_compacted), T(test_given_up), T(test_too_full), T(test_four_side_by_side),
		T(test_not_erased), T(test_put_only_when_erased), T(test_other_damaged), T(test_active_damaged), T(test_beside_writer), T(test_unreadable),
	};
	return cmocka_run_group_tests(tests, NULL, end);
}
