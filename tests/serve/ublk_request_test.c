/* ublk_request_test.c - what the driver asks for, as an export hears it: which call, where, how much, how; and what is refused before it is asked. */
#include "../base/cmocka_env.h"
#include "serve/ublk_internal.h"

#include <errno.h>

#define SIZE_BYTES (1u << 20)
#define BUF_BYTES (64u << 10)

enum heard { NOTHING, READ, WRITE, FLUSH, TRIM, ZERO };

struct fake {
	struct export base;
	enum heard heard;
	uint64_t offset;
	uint32_t n_bytes;
	unsigned how;
	const void *buf;
	int result;
};

static int hear(struct export *e, enum heard heard, const void *buf, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	struct fake *f = (struct fake *)(void *)e;

	assert_int_equal(f->heard, NOTHING);
	f->heard = heard;
	f->buf = buf;
	f->offset = offset;
	f->n_bytes = n_bytes;
	f->how = how;
	return f->result;
}

static int fake_read(struct export *e, void *buf, uint64_t offset, uint32_t n_bytes)
{
	return hear(e, READ, buf, offset, n_bytes, 0);
}

static int fake_write(struct export *e, const void *buf, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	return hear(e, WRITE, buf, offset, n_bytes, how);
}

static int fake_flush(struct export *e)
{
	return hear(e, FLUSH, NULL, 0, 0, 0);
}

static int fake_trim(struct export *e, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	return hear(e, TRIM, NULL, offset, n_bytes, how);
}

static int fake_zero(struct export *e, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	return hear(e, ZERO, NULL, offset, n_bytes, how);
}

static const struct export_ops fake_ops = {
	.read = fake_read, .write = fake_write, .flush = fake_flush, .trim = fake_trim, .zero = fake_zero};

static char buf[BUF_BYTES];
static struct fake fake;
static struct export_description about;
static unsigned always;

static int32_t ask(uint32_t operation, uint64_t sector, uint32_t n_sectors)
{
	const struct ublk_descriptor d = {.operation = operation, .sector = sector, .n_sectors = n_sectors};
	int result = fake.result;

	fake = (struct fake){.base.ops = &fake_ops, .result = result};
	return ublk_carry_out(&fake.base, &about, &d, buf, BUF_BYTES, always);
}

static void expect(enum heard heard, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	assert_int_equal(fake.heard, heard);
	assert_int_equal(fake.offset, offset);
	assert_int_equal(fake.n_bytes, n_bytes);
	assert_int_equal(fake.how, how);
}

static int begin(void **state)
{
	fake.result = 0;
	always = 0;
	about = (struct export_description){
		.size_bytes = SIZE_BYTES, .least_block = 1, .preferred_block = 4096, .flags = EXPORT_TRIM | EXPORT_ZERO};
	return 0;
}

static void test_what_is_asked(void **state)
{
	assert_int_equal(ask(UBLK_READ, 3, 8), 4096);
	expect(READ, 1536, 4096, 0);
	assert_ptr_equal(fake.buf, buf);
	assert_int_equal(ask(UBLK_WRITE | UBLK_WITH_FUA, 2047, 1), 512);
	expect(WRITE, SIZE_BYTES - 512, 512, EXPORT_FUA);
	assert_int_equal(ask(UBLK_WRITE | 1u << 8 | 1u << 16, 0, 128), BUF_BYTES); /* flags that say nothing here */
	expect(WRITE, 0, BUF_BYTES, 0);
	assert_int_equal(ask(UBLK_FLUSH, 0, 0), 0);
	expect(FLUSH, 0, 0, 0);
	assert_int_equal(ask(UBLK_DISCARD, 0, 2048), 0);
	expect(TRIM, 0, SIZE_BYTES, 0);
	assert_int_equal(ask(UBLK_WRITE_ZEROES, 8, 2040), 0);
	expect(ZERO, 4096, SIZE_BYTES - 4096, 0);
	assert_int_equal(ask(UBLK_WRITE_ZEROES | UBLK_WITH_NO_UNMAP | UBLK_WITH_FUA, 8, 8), 0);
	expect(ZERO, 4096, 4096, EXPORT_NO_HOLE | EXPORT_FUA);
}

static void test_what_is_always_durable(void **state)
{
	always = EXPORT_FUA;
	assert_int_equal(ask(UBLK_WRITE, 0, 1), 512);
	expect(WRITE, 0, 512, EXPORT_FUA);
	assert_int_equal(ask(UBLK_DISCARD, 0, 8), 0);
	expect(TRIM, 0, 4096, EXPORT_FUA);
	assert_int_equal(ask(UBLK_WRITE_ZEROES | UBLK_WITH_NO_UNMAP, 0, 8), 0);
	expect(ZERO, 0, 4096, EXPORT_FUA | EXPORT_NO_HOLE);
}

static void refuse(uint32_t operation, uint64_t sector, uint32_t n_sectors, int32_t error)
{
	assert_int_equal(ask(operation, sector, n_sectors), error);
	assert_int_equal(fake.heard, NOTHING);
}

static void test_what_is_not_there(void **state)
{
	refuse(UBLK_READ, 2048, 1, -EIO);
	refuse(UBLK_READ, 2047, 2, -EIO);
	refuse(UBLK_READ, UINT64_MAX, 1, -EIO);
	refuse(UBLK_WRITE, UINT64_C(1) << 55, 1, -EIO); /* in bytes it would be 0 */
	refuse(UBLK_WRITE, 0, 0, -EIO);
	refuse(UBLK_READ, 0, 129, -EIO); /* more than the memory of a request */
	refuse(UBLK_DISCARD, 0, UINT32_MAX, -EIO);
	refuse(UBLK_WRITE_ZEROES, 1, 2048, -EIO);
	refuse(99, 0, 8, -EOPNOTSUPP);
}

static void test_what_is_cut_to_whole_sectors(void **state)
{
	about.size_bytes = SIZE_BYTES - 100;
	refuse(UBLK_READ, 2047, 1, -EIO);
	assert_int_equal(ask(UBLK_READ, 2046, 1), 512);
}

static void test_what_this_export_does_not_do(void **state)
{
	about.flags = 0;
	refuse(UBLK_DISCARD, 0, 8, -EOPNOTSUPP);
	refuse(UBLK_WRITE_ZEROES, 0, 8, -EOPNOTSUPP);
	about.flags = EXPORT_READ_ONLY | EXPORT_TRIM | EXPORT_ZERO;
	refuse(UBLK_WRITE, 0, 8, -EIO);
	refuse(UBLK_DISCARD, 0, 8, -EIO);
	refuse(UBLK_WRITE_ZEROES, 0, 8, -EIO);
	assert_int_equal(ask(UBLK_READ, 0, 8), 4096);
	about = (struct export_description){.size_bytes = SIZE_BYTES, .least_block = 4096, .preferred_block = 4096};
	refuse(UBLK_READ, 1, 8, -EIO);
	refuse(UBLK_READ, 0, 7, -EIO);
}

static void test_errors_are_those_of_a_disk(void **state)
{
	static const int table[][2] = {{-ENOSPC, -ENOSPC},   {-EDQUOT, -ENOSPC}, {-EFBIG, -ENOSPC}, {-ENOMEM, -ENOMEM},
	                               {-EBADMSG, -EIO},     {-EINVAL, -EIO},    {-EAGAIN, -EIO},   {-ENODEV, -EIO},
	                               {-ECANCELED, -EIO},   {-EIO, -EIO}};

	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		fake.result = table[i][0];
		assert_int_equal(ask(UBLK_READ, 0, 8), table[i][1]);
		assert_int_equal(ask(UBLK_WRITE, 0, 8), table[i][1]);
		assert_int_equal(ask(UBLK_FLUSH, 0, 0), table[i][1]);
		assert_int_equal(ask(UBLK_DISCARD, 0, 8), table[i][1]);
		assert_int_equal(ask(UBLK_WRITE_ZEROES, 0, 8), table[i][1]);
	}
}

static void test_an_identity_is_of_all_that_is_in_it(void **state)
{
	const uint64_t one[] = {1, 2, 3}, other[] = {1, 2, 4};

	assert_true(ublk_identity('f', one, sizeof(one)) == ublk_identity('f', one, sizeof(one)));
	assert_true(ublk_identity('f', one, sizeof(one)) != ublk_identity('f', other, sizeof(other)));
	assert_true(ublk_identity('f', one, sizeof(one)) != ublk_identity('v', one, sizeof(one)));
	assert_true(ublk_identity(UINT64_C(0xcbf29ce484222325), NULL, 0) != 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_what_is_asked, begin),
		cmocka_unit_test_setup(test_what_is_always_durable, begin),
		cmocka_unit_test_setup(test_what_is_not_there, begin),
		cmocka_unit_test_setup(test_what_is_cut_to_whole_sectors, begin),
		cmocka_unit_test_setup(test_what_this_export_does_not_do, begin),
		cmocka_unit_test_setup(test_errors_are_those_of_a_disk, begin),
		cmocka_unit_test_setup(test_an_identity_is_of_all_that_is_in_it, begin),
	};
	return cmocka_run_group_tests_name("ublk requests", tests, NULL, NULL);
}
