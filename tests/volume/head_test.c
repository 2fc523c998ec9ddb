/* What heads pass on of those before them: as many as there is room for, the oldest left out first; nothing that is not so. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../src/base/crc32c.h"
#include "../../src/volume/head.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define N_HEADS 200u
#define TAIL_BYTES ((uint32_t)sizeof(struct head_tail_le))

static uint8_t heads[N_HEADS][VOLUME_HEAD_BYTES] __attribute__((aligned(8)));
static uint16_t types[N_HEADS];
static uint8_t blocks[8 * MAP_BLOCK_BYTES];

/* Head i, of one entry of so many blocks. Bytes that it says itself. */
static uint32_t make_data(struct head_before *before, unsigned i, uint32_t n_blocks)
{
	const struct data_le data = {.n_entries = htole32(1), .n_blocks = htole32(n_blocks)};
	const struct entry_le entry = {.lba = htole64(1000 * i), .n = htole64(n_blocks), .tree = htole32(1)};
	const struct iovec part = {blocks, n_blocks * MAP_BLOCK_BYTES};

	memset(heads[i], 0, VOLUME_HEAD_BYTES);
	memset(blocks, (int)i, sizeof(blocks));
	memcpy(heads[i], &data, sizeof(data));
	memcpy(heads[i] + sizeof(data), &entry, sizeof(entry));
	types[i] = VOLUME_DATA;
	head_finish(before, VOLUME_DATA, heads[i], &part);
	head_remember(before, VOLUME_DATA, heads[i]);
	return (uint32_t)(sizeof(data) + sizeof(entry) + n_blocks * sizeof(uint32_t));
}

static uint32_t make_table(struct head_before *before, unsigned i, uint16_t n_volumes, uint16_t n_trees)
{
	const struct table_le table = {.generation = htole64(i), .n_volumes = htole16(n_volumes), .n_trees = htole16(n_trees)};
	uint32_t bytes = (uint32_t)(n_volumes * sizeof(struct volume_le) + n_trees * sizeof(struct tree_le));

	memset(heads[i], 0, VOLUME_HEAD_BYTES);
	memcpy(heads[i], &table, sizeof(table));
	memset(heads[i] + sizeof(table), (int)i, bytes);
	types[i] = VOLUME_TABLE;
	head_finish(before, VOLUME_TABLE, heads[i], NULL);
	head_remember(before, VOLUME_TABLE, heads[i]);
	return (uint32_t)sizeof(table) + bytes;
}

/* How many of those before it the head tells; each as it was. */
static unsigned count_told(unsigned i, uint32_t (*bytes)[N_HEADS])
{
	static uint8_t said[VOLUME_HEAD_BYTES];
	uint16_t type;
	unsigned n = 0;

	assert_true(head_is_whole(heads[i]));
	while (n < i && head_read_before(types[i], heads[i], n + 1, &type, said) == 0) {
		n++;
		assert_int_equal(type, types[i - n]);
		assert_memory_equal(said, heads[i - n], (*bytes)[i - n]);
	}
	for (unsigned k = n + 1; k < n + 4; k++)
		assert_int_equal(head_read_before(types[i], heads[i], k, &type, said), -ENODATA);
	return n;
}

/* What fits, by arithmetic. */
static unsigned count_fitting(unsigned i, uint32_t (*bytes)[N_HEADS])
{
	uint32_t room = VOLUME_HEAD_BYTES - (*bytes)[i];
	unsigned n = 0;

	while (n < i && room >= (*bytes)[i - n - 1] + TAIL_BYTES) {
		n++;
		room -= (*bytes)[i - n] + TAIL_BYTES;
	}
	return n;
}

static void as_many_are_told_as_there_is_room_for(void **state)
{
	uint32_t bytes[N_HEADS];
	struct head_before before = {.n_bytes = 0};

	(void)state;
	for (unsigned i = 0; i < N_HEADS; i++) {
		bytes[i] = make_data(&before, i, i % 9 == 8 ? 8 : i % 3);
		assert_int_equal(count_told(i, &bytes), count_fitting(i, &bytes));
	}
	assert_true(count_told(N_HEADS - 1, &bytes) > 50);
}

static void one_that_has_no_room_ends_what_is_told(void **state)
{
	uint32_t bytes[N_HEADS];
	struct head_before before = {.n_bytes = 0};
	const uint16_t most = (VOLUME_HEAD_ROOM - sizeof(struct table_le)) / sizeof(struct tree_le);

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		bytes[i] = make_data(&before, i, 1);
	bytes[10] = make_table(&before, 10, 0, most);
	assert_int_equal(count_told(10, &bytes), count_fitting(10, &bytes));
	assert_int_equal(count_told(10, &bytes), 0);
	bytes[11] = make_data(&before, 11, 8); /* which has no room for that table */
	assert_int_equal(count_told(11, &bytes), 0);
	bytes[12] = make_data(&before, 12, 1);
	assert_int_equal(count_told(12, &bytes), 1);
	bytes[13] = make_table(&before, 13, 2, 3);
	assert_int_equal(count_told(13, &bytes), 2);
}

/* As libraries of before have written them: one is told, and zeros are before that. */
static void of_one_alone_nothing_more_is_read(void **state)
{
	uint32_t bytes[N_HEADS];
	struct head_before before = {.n_bytes = 0};

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		bytes[i] = make_data(&before, i, 2);
		uint32_t last = bytes[i] + TAIL_BYTES;
		memmove(before.bytes, before.bytes + before.n_bytes - last, last);
		before.n_bytes = last;
		assert_int_equal(count_told(i, &bytes), i > 0);
	}
}

/* Who is asked for what one that is not whole has said knows nothing of those before it either. */
static void one_that_is_not_whole_is_forgotten(void **state)
{
	uint32_t bytes[N_HEADS];
	struct head_before before = {.n_bytes = 0};

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		bytes[i] = make_data(&before, i, 1);
	heads[3][100] ^= 1;
	head_remember(&before, VOLUME_DATA, heads[3]);
	bytes[4] = make_data(&before, 4, 1);
	assert_int_equal(count_told(4, &bytes), 0);
}

/* One that is made longer is as one that was written so. */
static void one_that_is_made_longer_is_as_if_written_so(void **state)
{
	uint32_t bytes[N_HEADS];
	struct head_before before = {.n_bytes = 0}, none = {.n_bytes = 0};
	uint8_t more[VOLUME_HEAD_BYTES] __attribute__((aligned(8)));
	const struct iovec part = {blocks, sizeof(blocks)};
	static uint8_t all[512 * MAP_BLOCK_BYTES];
	unsigned n_entries = 1, n_blocks = 1;
	uint32_t crc, want;

	(void)state;
	bytes[0] = make_data(&before, 0, 2);
	bytes[1] = make_data(&none, 1, 1);
	head_finish(&before, VOLUME_DATA, heads[1], &part);
	memcpy(all, blocks, MAP_BLOCK_BYTES);
	for (uint32_t n = 3;; n = n == 3 ? 0 : 3) {
		const struct data_le data = {.n_entries = htole32(1), .n_blocks = htole32(n)};
		const struct entry_le entry = {.lba = htole64(n_entries), .n = htole64(n), .tree = htole32(1)};
		memset(more, 0, sizeof(more));
		memcpy(more, &data, sizeof(data));
		memcpy(more + sizeof(data), &entry, sizeof(entry));
		memset(blocks, (int)n_entries, sizeof(blocks));
		memcpy(heads[2], heads[1], VOLUME_HEAD_BYTES);
		if (!head_join(&before, heads[1], more, &part))
			break;
		n_entries++;
		bytes[1] += (uint32_t)sizeof(entry) + n * (uint32_t)sizeof(uint32_t);
		assert_int_equal(le32toh(((const struct data_le *)heads[1])->n_entries), n_entries);
		assert_int_equal(count_told(1, &bytes), 1);
		for (uint32_t i = 1; i < n_entries; i++)
			assert_int_equal(heads[1][sizeof(data) + i * sizeof(entry)], i);
		assert_true(head_knows_crc(VOLUME_DATA, heads[1], &crc));
		memcpy(all + n_blocks * MAP_BLOCK_BYTES, blocks, n * MAP_BLOCK_BYTES);
		n_blocks += n;
		assert_int_equal(head_n_blocks(VOLUME_DATA, heads[1]), n_blocks);
		want = crc32c(crc32c(0, heads[1], VOLUME_HEAD_BYTES), all, n_blocks * MAP_BLOCK_BYTES);
		assert_int_equal(crc, want);
	}
	assert_memory_equal(heads[1], heads[2], VOLUME_HEAD_BYTES); /* nothing was done */
	assert_true(n_entries > 30 && bytes[1] <= VOLUME_HEAD_ROOM / 3);
}

/* Two long records, and one behind them that grows: what it told at first it tells in the end, and what the next one is told of it is all. */
static void one_that_grows_goes_on_telling_of_two(void **state)
{
	const struct data_le data = {.n_entries = htole32(1), .n_blocks = htole32(1)};
	const struct iovec part = {blocks, MAP_BLOCK_BYTES};
	uint8_t more[VOLUME_HEAD_BYTES] __attribute__((aligned(8))) = {0};
	unsigned n_told[3] = {0};
	uint32_t bytes[N_HEADS];

	(void)state;
	memcpy(more, &data, sizeof(data));
	for (uint16_t a = 1; a < 56; a += 6) {
		for (uint16_t b = 1; b < 56; b += 6) {
			struct head_before before = {.n_bytes = 0}, none = {.n_bytes = 0};
			bytes[0] = make_table(&before, 0, 0, a);
			bytes[1] = make_table(&before, 1, 0, b);
			bytes[2] = make_data(&none, 2, 1);
			head_finish(&before, VOLUME_DATA, heads[2], &part);
			unsigned n = count_told(2, &bytes);
			while (head_join(&before, heads[2], more, &part))
				bytes[2] += (uint32_t)(sizeof(struct entry_le) + sizeof(uint32_t));
			assert_int_equal(count_told(2, &bytes), n);
			n_told[n]++;
			head_remember(&before, VOLUME_DATA, heads[2]);
			bytes[3] = make_data(&before, 3, 8);
			assert_true(count_told(3, &bytes) >= 1);
		}
	}
	assert_true(n_told[1] > 0 && n_told[2] > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_many_are_told_as_there_is_room_for),
		cmocka_unit_test(one_that_has_no_room_ends_what_is_told),
		cmocka_unit_test(of_one_alone_nothing_more_is_read),
		cmocka_unit_test(one_that_is_not_whole_is_forgotten),
		cmocka_unit_test(one_that_is_made_longer_is_as_if_written_so),
		cmocka_unit_test(one_that_grows_goes_on_telling_of_two),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
