/* long_test.c - groups that are written from the segment's memory, and may be longer than a buffer. */
#include "journal_env.h"

#include "../../src/base/crc32c.h"
#include "../../src/journal/journal_internal.h"

#include <errno.h>
#include <string.h>

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

static struct journal_options options_in(struct journal_ops *ops)
{
	struct journal_options o = env_options(&e);

	*ops = *o.ops;
	ops->segment_memory = memory_of;
	o.ops = ops;
	o.whole_blocks = true;
	return o;
}

/* What a part of the capacity has been filled of is written at once; what comes meanwhile, together. */
static void run_long_groups(void *arg)
{
	struct journal_ops ops;
	struct journal_options o = options_in(&ops);
	const uint64_t part = SEGMENT / 16, n_parts = 4;
	uint64_t first = env_extent(&e), no = 0;

	(void)arg;
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

/* ---- the last record is made longer ---- */

#define N_MORE 3u

static uint8_t whole[DEVICE_BLOCK_BYTES * (1 + N_MORE)]; /* with a header's bytes in front, of which nothing is looked at */
static const uint8_t *const payload = whole + JOURNAL_RECORD_HEADER_BYTES;
static unsigned n_found;

static int found(void *arg, const struct journal_place *at, uint16_t type, const void *bytes, uint32_t len_bytes)
{
	(void)arg;
	(void)type;
	if (at->record_no != 1)
		return 0;
	assert_int_equal(len_bytes, sizeof(whole) - JOURNAL_RECORD_HEADER_BYTES);
	assert_memory_equal(bytes, payload, len_bytes);
	n_found++;
	return 0;
}

/* So many bytes behind the record's, and the first block changed with them. */
static int extend_by(uint64_t no, uint32_t bytes, uint32_t len_bytes, uint8_t what)
{
	struct iovec head = {whole + JOURNAL_RECORD_HEADER_BYTES, DEVICE_BLOCK_BYTES - JOURNAL_RECORD_HEADER_BYTES};
	struct iovec more = {whole + JOURNAL_RECORD_HEADER_BYTES + len_bytes, bytes};

	memset(head.iov_base, what, head.iov_len);
	return journal_extend(j, no, &head, &more, 1, crc32c(0, payload, len_bytes + bytes));
}

static void run_longer_records(void *arg)
{
	struct journal_ops ops;
	struct journal_options o = options_in(&ops);
	uint64_t first = env_extent(&e), no;
	uint32_t len_bytes = DEVICE_BLOCK_BYTES - JOURNAL_RECORD_HEADER_BYTES;
	struct iovec head = {whole + JOURNAL_RECORD_HEADER_BYTES, len_bytes};

	(void)arg;
	for (size_t i = 0; i < sizeof(whole); i++)
		whole[i] = (uint8_t)(i / 100);
	assert_int_equal(journal_create(&o, first, &j, NULL), 0);
	(void)append_block(); /* which is being written from now on */
	assert_int_equal(journal_append(j, JOURNAL_FIRST_TYPE, &head, 1, &no), 0);
	assert_int_equal(no, 1);
	assert_int_equal(extend_by(no, 12, len_bytes, 1), -EINVAL);
	assert_int_equal(extend_by(no - 1, DEVICE_BLOCK_BYTES, len_bytes, 1), -EAGAIN);
	assert_int_equal(extend_by(no + 1, DEVICE_BLOCK_BYTES, len_bytes, 1), -EAGAIN);
	for (unsigned i = 0; i < N_MORE; i++, len_bytes += DEVICE_BLOCK_BYTES)
		assert_int_equal(extend_by(no, DEVICE_BLOCK_BYTES, len_bytes, (uint8_t)(10 + i)), 0);
	assert_int_equal(journal_n_records(j), 2);
	assert_int_equal(journal_sync(j, no, NULL), 0);
	assert_int_equal(extend_by(no, DEVICE_BLOCK_BYTES, 0, 9 + N_MORE), -EAGAIN); /* it is on the medium */
	assert_int_equal(append_block(), 2);
	assert_int_equal(extend_by(no, DEVICE_BLOCK_BYTES, 0, 9 + N_MORE), -EAGAIN); /* another came */
	assert_int_equal(journal_sync(j, 2, NULL), 0);
	journal_close(j);
	assert_int_equal(journal_open(&o, first, true, found, NULL, NULL, &j, NULL), 0);
	assert_int_equal(n_found, 1);
	journal_close(j);
}

static void test_records_are_made_longer(void **state)
{
	(void)state;
	env_run(&e, run_longer_records, NULL);
}

int main(void)
{
	static const struct sim_faults none = {.cut_ends_io = true, .max_delay_turns = 3};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_long_groups_are_written_as_they_come),
		cmocka_unit_test(test_records_are_made_longer),
	};

	env_make(&e, 40, 5, &none);
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	env_end(&e);
	return rc != 0 || quire_loop_destroy(e.loop) != 0;
}
