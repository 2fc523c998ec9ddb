/* append_test.c - taking records in: who shares a write, who waits, what is refused, what stops a journal. */
#include "fixture.h"

#include "../../src/journal/journal_internal.h"

#include <errno.h>
#include <string.h>

static struct journal *j;
static uint64_t first;

static int set_up(void **state)
{
	static const struct sim_faults slow = {.cut_ends_io = true, .max_delay_turns = 3};

	(void)state;
	fixture_make(40, 5, &slow);
	first = env_extent(&e);
	return 0;
}

static void create(void *arg)
{
	struct journal_options o = env_options(&e);

	(void)arg;
	assert_int_equal(journal_create(&o, first, &j, NULL), 0);
}

/* Nobody writes himself: each waits for the loop. */
static void create_for_loops(void *arg)
{
	e.device->now = DEVICE_NOW_BLOCKS;
	create(arg);
}

static void close_it(void *arg)
{
	(void)arg;
	journal_close(j);
	j = NULL;
}

static void reopen(void *arg)
{
	struct journal_options o = env_options(&e);

	(void)arg;
	assert_int_equal(journal_open(&o, first, false, seen_add, &seen, NULL, &j, NULL), 0);
}

/* ---- who shares a write ---- */

static unsigned n_durable_seen;

static void append_and_sync(void *arg)
{
	uint64_t no;

	assert_int_equal(record_append(j, (uint32_t)(uintptr_t)arg, &no), 0);
	assert_int_equal(journal_sync(j, no, NULL), 0);
	assert_true(journal_n_durable(j) > no);
	n_durable_seen++;
}

static void test_a_turns_waiters_share_one_write(void **state)
{
	(void)state;
	env_run(&e, create_for_loops, NULL);
	uint64_t before = sim_n_events(e.sim);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(quire_co_spawn(e.loop, append_and_sync, (void *)(uintptr_t)i), 0);
	assert_int_equal(quire_loop_run(e.loop), 0);
	assert_int_equal(n_durable_seen, 20);
	assert_int_equal(sim_n_events(e.sim) - before, ENV_WRITE_EVENTS);
	env_run(&e, close_it, NULL);
}

/* What is appended during a write goes with the next: two writes for however many come then. */
static void test_what_comes_during_a_write_shares_the_next(void **state)
{
	(void)state;
	env_run(&e, create_for_loops, NULL);
	uint64_t before = sim_n_events(e.sim);
	assert_int_equal(quire_co_spawn(e.loop, append_and_sync, NULL), 0);
	while (sim_n_events(e.sim) == before) {
		assert_int_equal(quire_co_spawn(e.loop, append_and_sync, (void *)1), 0);
		quire_loop_poll(e.loop);
	}
	assert_int_equal(quire_loop_run(e.loop), 0);
	assert_true(sim_n_events(e.sim) - before <= 3);
	env_run(&e, close_it, NULL);
}

static void run_op(void *arg)
{
	struct quire_op op;
	uint64_t no;

	(void)arg;
	assert_int_equal(record_append(j, 1, &no), 0);
	quire_op_init(&op);
	assert_int_equal(journal_sync(j, no, &op), 0);
	assert_int_equal(quire_op_done(&op), ENV_IS_PMEM);
	assert_int_equal(quire_await(&op), 0);
	assert_int_equal(journal_n_durable(j), 1);
	journal_close(j);
}

/* Where it is but copying; and a disk lets it wait. */
static void test_who_would_wait_writes(void **state)
{
	static const struct sim_faults none = {.cut_ends_io = true};

	(void)state;
	sim_set_faults(e.sim, &none);
	env_run(&e, create, NULL);
	env_run(&e, run_op, NULL);
}

static void run_until_full(void *arg)
{
	struct device_io *io = &j->io;
	uint64_t no;

	(void)arg;
	while (!j->writing)
		assert_int_equal(record_append(j, 1, &no), 0);
	/* What is taken is what was full, and nobody waited for that. */
	assert_true(io->len_bytes > j->buffer_bytes - 2 * DEVICE_BLOCK_BYTES);
	assert_int_equal(journal_n_durable(j), 0);
	assert_int_equal(journal_append_now(j, JOURNAL_FIRST_TYPE, NULL, 0, &no), 0);
	journal_close(j);
}

static void test_a_full_group_is_handed_on(void **state)
{
	(void)state;
	env_run(&e, create, NULL);
	env_run(&e, run_until_full, NULL);
}

static void run_nothing_new(void *arg)
{
	uint64_t no, before;

	(void)arg;
	assert_int_equal(record_append(j, 1, &no), 0);
	assert_int_equal(no, 0);
	assert_int_equal(journal_n_durable(j), 0);
	assert_int_equal(journal_sync(j, 0, NULL), 0);
	before = sim_n_events(e.sim);
	assert_int_equal(journal_sync(j, 0, NULL), 0);
	assert_int_equal(sim_n_events(e.sim), before);
	assert_int_equal(journal_sync(j, 1, NULL), -EINVAL);
	journal_close(j);
}

static void test_what_is_durable_costs_no_write(void **state)
{
	(void)state;
	env_run(&e, create, NULL);
	env_run(&e, run_nothing_new, NULL);
}

/* ---- sizes ---- */

static void run_largest(void *arg)
{
	static uint8_t payload[MAX_LEN + 1];
	struct iovec part = {.iov_base = payload, .iov_len = sizeof(payload)};
	uint64_t no;

	(void)arg;
	assert_int_equal(journal_max_payload(j), MAX_LEN);
	assert_int_equal(journal_append(j, 16, &part, 1, &no), -EMSGSIZE);
	struct iovec many[2] = {{.iov_base = payload, .iov_len = SIZE_MAX}, {.iov_base = payload, .iov_len = 2}};
	assert_int_equal(journal_append(j, 16, many, 2, &no), -EMSGSIZE);
	assert_int_equal(journal_append(j, 15, &part, 0, &no), -EINVAL);
	part.iov_len = MAX_LEN;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(journal_append(j, 16, NULL, 0, &no), 0);
		assert_int_equal(journal_append(j, 16, &part, 1, &no), 0);
	}
	assert_int_equal(journal_sync(j, no, NULL), 0);
	assert_int_equal(journal_bytes(j), 6 * SEGMENT);
	journal_close(j);
}

static int count_bytes(void *arg, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes)
{
	(void)at;
	(void)type;
	(void)payload;
	*(uint64_t *)arg += len_bytes;
	return 0;
}

static void run_count(void *arg)
{
	struct journal_options o = env_options(&e);

	assert_int_equal(journal_open(&o, first, true, count_bytes, arg, NULL, &j, NULL), 0);
	assert_int_equal(journal_append(j, 16, NULL, 0, NULL), -EROFS);
	journal_close(j);
}

static void test_records_from_nothing_to_a_segment(void **state)
{
	uint64_t n_bytes = 0;

	(void)state;
	env_run(&e, create, NULL);
	env_run(&e, run_largest, NULL);
	env_run(&e, run_count, &n_bytes);
	assert_int_equal(n_bytes, 3 * MAX_LEN);
}

/* ---- what is refused ---- */

static void run_full(void *arg)
{
	uint64_t no, n = 0;
	int rc;

	(void)arg;
	for (unsigned i = 0; i < e.n_extents; i++)
		e.taken[i] = true;
	while ((rc = record_append(j, 1, &no)) == 0)
		n++;
	assert_int_equal(rc, -ENOSPC);
	assert_int_equal(journal_n_records(j), n);
	assert_int_equal(journal_error(j), 0);
	/* Smaller ones still fit, and once there is space everything does. */
	assert_int_equal(journal_append(j, 16, NULL, 0, &no), 0);
	assert_int_equal(no, n);
	e.taken[5] = false;
	assert_int_equal(record_append(j, 1, &no), 0);
	assert_int_equal(journal_sync(j, no, NULL), 0);
	assert_int_equal(journal_bytes(j), 2 * SEGMENT);
	journal_close(j);
}

static void test_without_space_nothing_is_taken(void **state)
{
	(void)state;
	env_run(&e, create, NULL);
	env_run(&e, run_full, NULL);
}

static int callback_rc;

static void call_back(struct quire_op *op, void *arg)
{
	uint64_t no;
	int rc = 0;

	(void)op;
	(void)arg;
	for (unsigned i = 0; i < 1000 && rc == 0; i++)
		rc = record_append(j, 1, &no);
	callback_rc = rc;
}

static void test_a_callback_may_append_until_it_would_wait(void **state)
{
	struct quire_op op;

	(void)state;
	env_run(&e, create, NULL);
	quire_op_init_callback(&op, e.loop, call_back, NULL);
	assert_int_equal(quire_sleep_ns(1, &op), 0);
	assert_int_equal(quire_loop_run(e.loop), 0);
	quire_loop_run(e.loop);
	env_run(&e, close_it, NULL);
	assert_int_equal(callback_rc, -EDEADLK);
}

static void run_cancel(void *arg)
{
	struct quire_op op, other;
	uint64_t no;

	(void)arg;
	assert_int_equal(record_append(j, 1, &no), 0);
	quire_op_init(&op);
	quire_op_init(&other);
	assert_int_equal(journal_sync(j, no, &op), 0);
	assert_int_equal(journal_sync(j, no, &op), -EBUSY);
	assert_int_equal(journal_sync(j, no, &other), 0);
	assert_int_equal(quire_op_cancel(&op), 0);
	assert_int_equal(quire_await(&op), -ECANCELED);
	assert_int_equal(quire_await(&other), 0);
	assert_int_equal(journal_n_durable(j), 1);
	journal_close(j);
}

static void test_a_sync_can_be_cancelled(void **state)
{
	(void)state;
	env_run(&e, create_for_loops, NULL);
	env_run(&e, run_cancel, NULL);
}

/* ---- failure ---- */

static void run_failure(void *arg)
{
	struct sim_faults faults = {.cut_ends_io = true, .eio_write = UINT32_MAX};
	uint64_t no, kept;

	(void)arg;
	assert_int_equal(record_append(j, 1, &kept), 0);
	assert_int_equal(journal_sync(j, kept, NULL), 0);
	sim_set_faults(e.sim, &faults);
	assert_int_equal(record_append(j, 2, &no), 0);
	assert_int_equal(journal_sync(j, no, NULL), -EIO);
	faults.eio_write = 0;
	sim_set_faults(e.sim, &faults);
	/* Never tried again; the reason is kept. */
	assert_int_equal(journal_error(j), -EIO);
	assert_int_equal(record_append(j, 3, &no), -EIO);
	assert_int_equal(journal_sync(j, 1, NULL), -EIO);
	assert_int_equal(journal_sync(j, kept, NULL), 0);
	journal_close(j);
}

static void test_a_failed_write_stops_the_journal(void **state)
{
	(void)state;
	env_run(&e, create, NULL);
	env_run(&e, run_failure, NULL);
}

/* ---- many at once, small buffers, changing segments ---- */

static void run_writer(void *arg)
{
	uint32_t from = (uint32_t)(uintptr_t)arg;
	uint64_t no;

	for (uint32_t id = from; id < from + 30; id++) {
		assert_int_equal(record_append(j, id, &no), 0);
		if (id % 3 == 0)
			assert_int_equal(journal_sync(j, no, NULL), 0);
	}
	assert_int_equal(journal_sync(j, no, NULL), 0);
}

/* Small ones and large ones, over several segments. */
static void run_many(void *arg)
{
	static uint8_t bytes[64][6000];
	struct iovec head = {.iov_base = (void *)(uintptr_t)"head", .iov_len = 4}, records[64];
	uint64_t first_no, last_no;

	(void)arg;
	for (unsigned i = 0; i < 64; i++) {
		memset(bytes[i], (int)i, sizeof(bytes[i]));
		records[i] = (struct iovec){bytes[i], i % 9 == 8 ? 6000 - i : i * 3};
	}
	for (unsigned round = 0; round < 10; round++) {
		assert_int_equal(journal_append_many(j, JOURNAL_FIRST_TYPE, &head, records, 64, &first_no, &last_no), 64);
		assert_int_equal(first_no, round * 64);
		assert_int_equal(last_no, round * 64 + 63);
	}
	records[5].iov_len = SEGMENT;
	assert_int_equal(journal_append_many(j, JOURNAL_FIRST_TYPE, &head, records, 64, &first_no, &last_no), 5);
	assert_int_equal(journal_append_many(j, JOURNAL_FIRST_TYPE, &head, records + 5, 2, &first_no, &last_no), -EMSGSIZE);
	assert_int_equal(last_no, 644);
	assert_int_equal(journal_sync(j, last_no, NULL), 0);
	journal_close(j);
}

static int is_of_many(void *arg, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes)
{
	unsigned i = (unsigned)(at->record_no % 64);
	const uint8_t *p = payload;

	assert_int_equal(type, JOURNAL_FIRST_TYPE);
	assert_int_equal(len_bytes, 4 + (i % 9 == 8 ? 6000 - i : i * 3));
	assert_memory_equal(p, "head", 4);
	for (unsigned k = 4; k < len_bytes; k++)
		assert_int_equal(p[k], i);
	++*(unsigned *)arg;
	return 0;
}

static void reopen_many(void *n)
{
	struct journal_options o = env_options(&e);

	assert_int_equal(journal_open(&o, first, false, is_of_many, n, NULL, &j, NULL), 0);
	journal_close(j);
}

static void test_many_at_once(void **state)
{
	unsigned n = 0;

	(void)state;
	env_run(&e, create, NULL);
	env_run(&e, run_many, NULL);
	env_run(&e, reopen_many, &n);
	assert_int_equal(n, 645);
}

static void test_each_ones_records_are_in_its_order(void **state)
{
	uint32_t last[8] = {0};

	(void)state;
	record_sizes(SIZES_MIXED);
	env_run(&e, create, NULL);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(quire_co_spawn(e.loop, run_writer, (void *)(uintptr_t)(i * 1000 + 1)), 0);
	assert_int_equal(quire_loop_run(e.loop), 0);
	env_run(&e, close_it, NULL);
	env_run(&e, reopen, NULL);
	env_run(&e, close_it, NULL);
	assert_int_equal(seen.n, 240);
	assert_int_equal(seen.n_wrong, 0);
	for (unsigned i = 0; i < seen.n; i++) {
		assert_true(seen.ids[i] > last[seen.ids[i] / 1000]);
		last[seen.ids[i] / 1000] = seen.ids[i];
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_a_turns_waiters_share_one_write),
		T(test_what_comes_during_a_write_shares_the_next),
		T(test_who_would_wait_writes),
		T(test_a_full_group_is_handed_on),
		T(test_what_is_durable_costs_no_write),
		T(test_records_from_nothing_to_a_segment),
		T(test_without_space_nothing_is_taken),
		T(test_a_callback_may_append_until_it_would_wait),
		T(test_a_sync_can_be_cancelled),
		T(test_a_failed_write_stops_the_journal),
		T(test_many_at_once),
		T(test_each_ones_records_are_in_its_order),
	};
	return cmocka_run_group_tests(tests, NULL, end);
}
