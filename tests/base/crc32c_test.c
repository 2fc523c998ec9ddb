/* crc32c_test.c - known sums, and both ways to a sum against each other. */
#include "cmocka_env.h"

#include "../../src/base/crc32c.h"
#include "../../src/base/crc32c_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* RFC 3720, appendix B.4. */
static void test_known_sums(void **state)
{
	unsigned char bytes[32];

	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x8a9136aa);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x62a8ab43);
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)i;
	assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x46dd794e);
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(31 - i);
	assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x113fdb5c);
}

static void test_table_knows_the_same_sum(void **state)
{
	assert_int_equal(crc32c_by_table(0, "123456789", 9), 0xe3069283);
}

static void test_nothing_changes_nothing(void **state)
{
	assert_int_equal(crc32c(0, "", 0), 0);
	assert_int_equal(crc32c(0x12345678, NULL, 0), 0x12345678);
}

/* Every length across the borders of the interleaved streams, at each alignment. */
static void test_each_length_and_alignment(void **state)
{
	static unsigned char bytes[9000 + 16];
	uint64_t x = 0x9e3779b97f4a7c15u;

	for (size_t i = 0; i < sizeof(bytes); i++) {
		x = x * 6364136223846793005u + 1;
		bytes[i] = (unsigned char)(x >> 56);
	}
	for (size_t len = 0; len <= 9000; len += len < 1100 ? 1 : 61) {
		unsigned char *p = bytes + len % 16;
		assert_int_equal(crc32c((uint32_t)x, p, len), crc32c_by_table((uint32_t)x, p, len));
	}
}

static void test_goes_on_from_a_sum(void **state)
{
	static unsigned char bytes[20000];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(i * i >> 3);
	uint32_t whole = crc32c(0, bytes, sizeof(bytes));
	for (size_t cut = 0; cut <= sizeof(bytes); cut += 517) {
		uint32_t part = crc32c(0, bytes, cut);
		assert_int_equal(crc32c(part, bytes + cut, sizeof(bytes) - cut), whole);
	}
}

/* Pages one by one, each from a sum of its own: as they are by themselves, and joined. */
static void test_pages_join(void **state)
{
	static unsigned char bytes[100 + 5 * CRC32C_PAGE_BYTES];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(i * i >> 5);
	for (size_t before = 0; before <= 100; before += 50) {
		uint32_t joined = crc32c(0, bytes, before), by_table = joined;
		for (unsigned n = 0; n < 5; n++) {
			const unsigned char *page = bytes + before + n * CRC32C_PAGE_BYTES;
			uint32_t sum = crc32c_page(0, page, n < 4 ? page + CRC32C_PAGE_BYTES : NULL);
			assert_int_equal(sum, crc32c_by_table(0, page, CRC32C_PAGE_BYTES));
			assert_int_equal(crc32c_page(0xabcd, page, page), crc32c_by_table(0xabcd, page, CRC32C_PAGE_BYTES));
			joined = crc32c_join_page(joined, sum);
			by_table = crc32c_join_page_by_table(by_table, sum);
		}
		uint32_t whole = crc32c_by_table(0, bytes, before + 5 * (size_t)CRC32C_PAGE_BYTES);
		assert_int_equal(joined, whole);
		assert_int_equal(by_table, whole);
	}
}

/* What lies behind may not be there at all. */
static void test_reads_no_byte_too_many(void **state)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *p = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	memset(p, 7, 3 * page);
	assert_int_equal(mprotect(p, page, PROT_NONE), 0);
	assert_int_equal(mprotect(p + 2 * page, page, PROT_NONE), 0);
	for (size_t len = 0; len <= page; len += len < 600 ? 1 : 97) {
		uint32_t sum = crc32c_by_table(0, p + page, len);
		assert_int_equal(crc32c(0, p + page, len), sum);
		assert_int_equal(crc32c(0, p + 2 * page - len, len), sum);
	}
	munmap(p, 3 * page);
}

static void test_each_flipped_bit_shows(void **state)
{
	static unsigned char page[4096];
	uint32_t whole = crc32c(0, page, sizeof(page));

	for (unsigned bit = 0; bit < 8 * sizeof(page); bit += 31) {
		page[bit / 8] ^= (unsigned char)(1u << bit % 8);
		assert_int_not_equal(crc32c(0, page, sizeof(page)), whole);
		page[bit / 8] ^= (unsigned char)(1u << bit % 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_sums),
		cmocka_unit_test(test_table_knows_the_same_sum),
		cmocka_unit_test(test_nothing_changes_nothing),
		cmocka_unit_test(test_each_length_and_alignment),
		cmocka_unit_test(test_goes_on_from_a_sum),
		cmocka_unit_test(test_pages_join),
		cmocka_unit_test(test_reads_no_byte_too_many),
		cmocka_unit_test(test_each_flipped_bit_shows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
