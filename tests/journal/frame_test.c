/* frame_test.c - the bytes, against vectors that stand in docs/format.md and may never change. */
#include "journal_env.h"

#include "../../src/base/crc32c.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

static struct device device = {.name = (char *)"vector", .size_bytes = 1u << 30};

static const struct journal_options options = {
	.device = &device,
	.identity = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
	.log_no = 7,
	.segment_bytes = SEGMENT,
};

static const struct frame_segment segment = {
	.offset = 0x30000, .no = 5, .first_record_no = 1000, .salt = 0x11223344, .key = 0x55667788,
	.session = 0xaabbccdd};

static const uint8_t segment_vector[76] = {
	0x51, 0x75, 0x69, 0x72, 0x65, 0x53, 0x65, 0x67, 0x70, 0xaf, 0xd6, 0x29, 0x01, 0x00, 0x00, 0x00,
	0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f,
	0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0xe8, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x44, 0x33, 0x22, 0x11, 0x88, 0x77, 0x66, 0x55,
	0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0xdd, 0xcc, 0xbb, 0xaa,
};

/* At offset 4128, type 16, the payload "quire". */
static const uint8_t record_vector[40] = {
	0xcd, 0x09, 0x56, 0xc9, 0x44, 0x33, 0x22, 0x11, 0xdd, 0xcc, 0xbb, 0xaa, 0x05, 0x00, 0x00, 0x00,
	0x10, 0x00, 0x01, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0xff, 0x70, 0xed, 0x4d,
	'q',  'u',  'i',  'r',  'e',  0x00, 0x00, 0x00,
};

static const uint8_t next_vector[24] = {
	0x00, 0x00, 0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x06, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x04, 0x03, 0x02, 0x01, 0x08, 0x07, 0x06, 0x05,
};

static struct frame_record record(void)
{
	uint32_t crc = frame_pad_crc(crc32c(0, "quire", 5), 5);

	return (struct frame_record){.session = 0xaabbccdd, .len_bytes = 5, .type = 16, .flags = FRAME_FLAG_FIRST,
	                             .index = 2, .group_start = 4096, .payload_crc = crc};
}

static void test_segment_header_is_as_documented(void **state)
{
	struct frame_segment_le block;
	uint8_t zeros[sizeof(block) - sizeof(segment_vector)] = {0};

	(void)state;
	frame_segment_encode(&options, &segment, &block);
	assert_memory_equal(&block, segment_vector, sizeof(segment_vector));
	assert_memory_equal((uint8_t *)&block + sizeof(segment_vector), zeros, sizeof(zeros));
}

static void test_segment_header_comes_back(void **state)
{
	struct frame_segment_le block;
	struct frame_segment back;

	(void)state;
	frame_segment_encode(&options, &segment, &block);
	assert_int_equal(frame_segment_decode(&options, segment.offset, &block, &back, NULL), 0);
	assert_true(frame_segment_same(&back, &segment));
}

static void test_every_flipped_bit_of_a_segment_header_is_noticed(void **state)
{
	struct frame_segment_le block;
	struct frame_segment back;

	(void)state;
	frame_segment_encode(&options, &segment, &block);
	for (unsigned bit = 0; bit < 8 * sizeof(block); bit++) {
		((uint8_t *)&block)[bit / 8] ^= (uint8_t)(1u << bit % 8);
		int rc = frame_segment_decode(&options, segment.offset, &block, &back, NULL);
		assert_int_equal(rc, bit < 64 ? -EUCLEAN : -EBADMSG);
		((uint8_t *)&block)[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

static void test_a_segment_header_of_another_log_or_place_is_refused(void **state)
{
	struct frame_segment_le block;
	struct frame_segment back;
	struct journal_options other = options;
	struct quire_error err;

	(void)state;
	frame_segment_encode(&options, &segment, &block);
	assert_int_equal(frame_segment_decode(&options, 0x40000, &block, &back, &err), -EUCLEAN);
	assert_non_null(strstr(err.text, "not made for this place"));
	other.log_no++;
	assert_int_equal(frame_segment_decode(&other, segment.offset, &block, &back, &err), -EUCLEAN);
	assert_non_null(strstr(err.text, "belongs to another log"));
	other = options;
	other.identity[15]++;
	assert_int_equal(frame_segment_decode(&other, segment.offset, &block, &back, NULL), -EUCLEAN);
	other = options;
	other.segment_bytes *= 2;
	assert_int_equal(frame_segment_decode(&other, segment.offset, &block, &back, NULL), -EUCLEAN);
}

static void test_a_segment_header_of_a_later_version_is_refused(void **state)
{
	struct frame_segment_le block;
	struct frame_segment back;
	struct quire_error err;

	(void)state;
	frame_segment_encode(&options, &segment, &block);
	block.version = htole32(FRAME_VERSION + 1);
	assert_int_equal(frame_segment_decode(&options, segment.offset, &block, &back, &err), -EBADMSG);
	/* Its checksum covers all behind it. */
	size_t from = offsetof(struct frame_segment_le, crc) + sizeof(block.crc);
	block.crc = htole32(crc32c(0, (const uint8_t *)&block + from, sizeof(block) - from));
	assert_int_equal(frame_segment_decode(&options, segment.offset, &block, &back, &err), -EUCLEAN);
	assert_non_null(strstr(err.text, "format version 2"));
}

static void test_record_is_as_documented(void **state)
{
	struct frame_record_le header;
	struct frame_record r = record();

	(void)state;
	frame_record_encode(&segment, 4128, &r, &header);
	assert_memory_equal(&header, record_vector, sizeof(header));
	assert_int_equal(frame_bytes(5), sizeof(record_vector));
	assert_int_equal(crc32c(0, record_vector + sizeof(header), 8), r.payload_crc);
}

static void test_record_comes_back(void **state)
{
	struct frame_record r = record(), back;

	(void)state;
	assert_int_equal(frame_record_decode(&segment, 4128, SEGMENT, record_vector, &back), FRAME_VALID);
	assert_memory_equal(&back, &r, sizeof(r));
}

static void test_every_flipped_bit_of_a_record_header_is_noticed(void **state)
{
	uint8_t bytes[sizeof(record_vector)];
	struct frame_record back;

	(void)state;
	memcpy(bytes, record_vector, sizeof(bytes));
	for (unsigned bit = 0; bit < 8 * JOURNAL_RECORD_HEADER_BYTES; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		bool in_salt = bit >= 32 && bit < 64;
		assert_int_equal(frame_record_decode(&segment, 4128, SEGMENT, bytes, &back),
		                 in_salt ? FRAME_FOREIGN : FRAME_BAD);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

static void test_a_record_is_valid_at_its_place_only(void **state)
{
	struct frame_record back;
	struct frame_segment other = segment;

	(void)state;
	for (uint32_t offset = 4096; offset < SEGMENT - 64; offset += 8)
		if (offset != 4128)
			assert_int_equal(frame_record_decode(&segment, offset, SEGMENT, record_vector, &back), FRAME_BAD);
	other.key++;
	assert_int_equal(frame_record_decode(&other, 4128, SEGMENT, record_vector, &back), FRAME_BAD);
	other.salt++;
	assert_int_equal(frame_record_decode(&other, 4128, SEGMENT, record_vector, &back), FRAME_FOREIGN);
}

static void test_zeros_are_no_record(void **state)
{
	uint8_t zeros[JOURNAL_RECORD_HEADER_BYTES] = {0};
	struct frame_record back;

	(void)state;
	assert_int_equal(frame_record_decode(&segment, 4096, SEGMENT, zeros, &back), FRAME_ZERO);
}

/* A checksum that happens to be 0 is a checksum: a record that has one. */
static void test_a_checksum_of_zero_is_valid(void **state)
{
	struct frame_segment s = segment;
	struct frame_record r = {.session = 1, .type = 20, .group_start = 4096}, back;
	struct frame_record_le header;

	(void)state;
	/* The header's checksum is linear in the session, so some session of 2^32 makes it 0; solved bit by bit. */
	uint32_t base, columns[32], solution = 0;
	r.session = 0;
	frame_record_encode(&s, 4096, &r, &header);
	base = le32toh(header.crc);
	for (unsigned i = 0; i < 32; i++) {
		r.session = 1u << i;
		frame_record_encode(&s, 4096, &r, &header);
		columns[i] = le32toh(header.crc) ^ base;
	}
	uint32_t combos[32];
	for (unsigned i = 0; i < 32; i++)
		combos[i] = 1u << i;
	for (unsigned bit = 0, row = 0; bit < 32; bit++) {
		unsigned pivot = row;
		while (pivot < 32 && !(columns[pivot] >> bit & 1))
			pivot++;
		if (pivot == 32)
			continue;
		uint32_t c = columns[pivot], k = combos[pivot];
		columns[pivot] = columns[row];
		combos[pivot] = combos[row];
		columns[row] = c;
		combos[row] = k;
		for (unsigned i = row + 1; i < 32; i++) {
			if (columns[i] >> bit & 1) {
				columns[i] ^= c;
				combos[i] ^= k;
			}
		}
		if (base >> bit & 1) {
			base ^= c;
			solution ^= k;
		}
		row++;
	}
	r.session = solution;
	frame_record_encode(&s, 4096, &r, &header);
	assert_int_equal(header.crc, 0);
	assert_int_equal(frame_record_decode(&s, 4096, SEGMENT, &header, &back), FRAME_VALID);
}

static void test_impossible_records_are_refused_though_their_checksum_holds(void **state)
{
	static const struct frame_record bad[] = {
		{.type = 16, .len_bytes = SEGMENT, .group_start = 4096},        /* longer than the segment */
		{.type = 16, .len_bytes = UINT32_MAX - 8, .group_start = 4096},
		{.type = 16, .len_bytes = 8, .group_start = 4136},              /* durable before it was there */
		{.type = 16, .len_bytes = 8, .group_start = 4095},
		{.type = FRAME_LINK, .len_bytes = 8, .group_start = 4096},
		{.type = FRAME_NEXT, .len_bytes = 8, .group_start = 4096},
		{.type = 0, .group_start = 4096},
		{.type = 7, .group_start = 4096},
	};
	struct frame_record_le header;
	struct frame_record back;

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		frame_record_encode(&segment, 4128, &bad[i], &header);
		assert_int_equal(frame_record_decode(&segment, 4128, SEGMENT, &header, &back), FRAME_BAD);
	}
	/* No room for the LINK behind it. */
	struct frame_record last = {.type = 16, .len_bytes = SEGMENT - 4128 - 64, .group_start = 4096};
	frame_record_encode(&segment, 4128, &last, &header);
	assert_int_equal(frame_record_decode(&segment, 4128, SEGMENT, &header, &back), FRAME_VALID);
	last.len_bytes++;
	frame_record_encode(&segment, 4128, &last, &header);
	assert_int_equal(frame_record_decode(&segment, 4128, SEGMENT, &header, &back), FRAME_BAD);
}

static void test_next_is_as_documented(void **state)
{
	struct frame_segment next = {.offset = 0x50000, .no = 6, .salt = 0x01020304, .key = 0x05060708}, back;
	struct frame_next_le payload;

	(void)state;
	frame_next_encode(&next, &payload);
	assert_memory_equal(&payload, next_vector, sizeof(payload));
	assert_int_equal(frame_next_decode(&options, next_vector, &back), 0);
	assert_true(frame_segment_same(&back, &next));
}

static void test_next_that_lies_outside_the_device_is_refused(void **state)
{
	static const uint64_t offsets[] = {1, 4097, 1u << 30, (1u << 30) - 4096, UINT64_MAX - 4095};
	struct frame_segment back;
	struct frame_next_le payload;

	(void)state;
	for (unsigned i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		struct frame_segment next = {.offset = offsets[i], .no = 6, .salt = 1};
		frame_next_encode(&next, &payload);
		assert_int_equal(frame_next_decode(&options, &payload, &back), -EUCLEAN);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_segment_header_is_as_documented),
		cmocka_unit_test(test_segment_header_comes_back),
		cmocka_unit_test(test_every_flipped_bit_of_a_segment_header_is_noticed),
		cmocka_unit_test(test_a_segment_header_of_another_log_or_place_is_refused),
		cmocka_unit_test(test_a_segment_header_of_a_later_version_is_refused),
		cmocka_unit_test(test_record_is_as_documented),
		cmocka_unit_test(test_record_comes_back),
		cmocka_unit_test(test_every_flipped_bit_of_a_record_header_is_noticed),
		cmocka_unit_test(test_a_record_is_valid_at_its_place_only),
		cmocka_unit_test(test_zeros_are_no_record),
		cmocka_unit_test(test_a_checksum_of_zero_is_valid),
		cmocka_unit_test(test_impossible_records_are_refused_though_their_checksum_holds),
		cmocka_unit_test(test_next_is_as_documented),
		cmocka_unit_test(test_next_that_lies_outside_the_device_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
