/* long_test.c - groups that are written from the segment's memory, and may be longer than a buffer. */
#include "journal_env.h"

#include "../../src/journal/journal_internal.h"

static struct env e;
static struct journal *j;

static _Alignas(DEVICE_BLOCK_BYTES) uint8_t memory[MAX_SEGMENTS][SEGMENT];

static uint8_t *memory_of(void *owner, uint64_t offset)
{
	(void)owner;
	return memory[offset / SEGMENT];
}

static uint64_t append_block(void)
{
	static uint8_t payload[DEVICE_BLOCK_BYTES - JOURNAL_RECORD_HEADER_BYTES];
	struct iovec part = {.iov_base = payload, .iov_len = sizeof(payload)};
	uint64_t no;

	assert_int_equal(journal_append(j, JOURNAL_FIRST_TYPE, &part, 1, &no), 0);
	return no;
}

/* What a part of the capacity has been filled of is written at once; what comes meanwhile, together. */
static void run_long_groups(void *arg)
{
	struct journal_options o = env_options(&e);
	struct journal_ops ops = *o.ops;
	const uint64_t part = SEGMENT / 16, n_parts = 4;
	uint64_t first = env_extent(&e), no = 0;

	(void)arg;
	ops.segment_memory = memory_of;
	o.ops = &ops;
	o.whole_blocks = true;
	assert_int_equal(journal_create(&o, first, &j, NULL), 0);
	assert_int_equal(part, DEVICE_BLOCK_BYTES);
	(void)append_block();
	assert_true(j->writing);
	assert_int_equal(j->io.len_bytes, part);
	assert_ptr_equal(j->io.buf, memory_of(NULL, first) + FRAME_BLOCK_BYTES);
	uint64_t before = sim_n_events(e.sim);
	for (uint64_t i = 0; i < n_parts; i++)
		no = append_block();
	assert_int_equal(j->n_taken, 1);
	assert_int_equal(journal_sync(j, no, NULL), 0);
	assert_int_equal(j->n_taken, 2);
	assert_int_equal(j->io.len_bytes, n_parts * part);
	assert_true(sim_n_events(e.sim) - before <= 2);
	journal_close(j);
}

static void test_long_groups_are_written_as_they_come(void **state)
{
	(void)state;
	env_run(&e, run_long_groups, NULL);
}

int main(void)
{
	static const struct sim_faults none = {.cut_ends_io = true, .max_delay_turns = 3};
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_long_groups_are_written_as_they_come)};

	env_make(&e, 40, 5, &none);
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	env_end(&e);
	return rc != 0 || quire_loop_destroy(e.loop) != 0;
}
