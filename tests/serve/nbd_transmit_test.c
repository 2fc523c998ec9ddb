/* nbd_transmit_test.c - requests and replies by bytes: what is right, and everything that is not. */
#include "nbd_env.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define MIB (1u << 20)

static uint8_t pattern[65536];

static void fill_pattern(void)
{
	for (unsigned i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 2654435761u >> 13);
}

static void begin(struct env *env, const char *name, bool structured)
{
	env_start(env, NULL, 1);
	go(env, name, structured);
}

/* Asks for them, and expects them; structured or not. */
static void expect_bytes(struct env *env, bool structured, uint64_t offset, uint32_t n_bytes, const uint8_t *bytes)
{
	uint8_t *got = malloc(n_bytes + 8ul);

	ask(env, NBD_CMD_READ, structured ? NBD_DF : 0, 77, offset, n_bytes);
	if (structured) {
		assert_int_equal(expect_chunk(env, 77, NBD_CHUNK_OFFSET_DATA, true), 8 + n_bytes);
		hear(env, got, 8);
		assert_true(nbd_get64(got) == offset);
	} else {
		assert_int_equal(answer(env, 77), 0);
	}
	hear(env, got, n_bytes);
	assert_memory_equal(got, bytes, n_bytes);
	free(got);
}

static void write_read(bool structured)
{
	uint32_t (*const result)(struct env *, uint64_t) = structured ? answer_structured : answer;
	static const uint8_t zeros[4096];
	struct env env;

	begin(&env, "disk", structured);
	ask_write(&env, NBD_FUA, 1, 1000, pattern, sizeof(pattern));
	assert_int_equal(result(&env, 1), 0);
	expect_bytes(&env, structured, 1000, sizeof(pattern), pattern);
	expect_bytes(&env, structured, 1001, 1, pattern + 1);
	ask(&env, NBD_CMD_FLUSH, 0, 2, 0, 0);
	assert_int_equal(result(&env, 2), 0);
	ask(&env, NBD_CMD_CACHE, 0, 3, 0, MIB);
	assert_int_equal(result(&env, 3), 0);
	ask(&env, NBD_CMD_WRITE_ZEROES, NBD_NO_HOLE | NBD_FUA, 4, 4096, 4096);
	assert_int_equal(result(&env, 4), 0);
	expect_bytes(&env, structured, 4096, 4096, zeros);
	ask(&env, NBD_CMD_TRIM, NBD_FUA, 5, 8192, 8192);
	assert_int_equal(result(&env, 5), 0);
	expect_bytes(&env, structured, 16384, 1024, pattern + 16384 - 1000);
	env_stop(&env);
}

static void test_write_and_read_by_simple_replies(void **state)
{
	write_read(false);
}

static void test_write_and_read_by_structured_replies(void **state)
{
	write_read(true);
}

static void test_requests_of_nothing(void **state)
{
	static const uint16_t types[] = {NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES};
	struct env env;

	begin(&env, "disk", true);
	for (unsigned i = 0; i < 5; i++) {
		ask(&env, types[i], NBD_FUA, i, MIB, 0);
		assert_int_equal(answer_structured(&env, i), 0);
	}
	env_stop(&env);
}

/* Each refused, and the next understood. */
static void test_what_is_refused(void **state)
{
	static const struct {
		uint16_t type, flags;
		uint64_t offset;
		uint32_t n_bytes, error;
	} bad[] = {
		{NBD_CMD_READ, 0, MIB, 1, NBD_EINVAL},          {NBD_CMD_READ, 0, 0, MIB + 1, NBD_EINVAL},
		{NBD_CMD_READ, 0, UINT64_MAX, 1, NBD_EINVAL},   {NBD_CMD_READ, 0, UINT64_MAX - 10, 4096, NBD_EINVAL},
		{NBD_CMD_READ, 0, 0, 0xffffffff, NBD_EINVAL},   {NBD_CMD_READ, 0, 0, 33 * MIB, NBD_EINVAL},
		{NBD_CMD_READ, NBD_NO_HOLE, 0, 1, NBD_EINVAL},  {NBD_CMD_READ, 0x8000, 0, 1, NBD_EINVAL},
		{NBD_CMD_READ, NBD_REQ_ONE, 0, 1, NBD_EINVAL},  {NBD_CMD_FLUSH, 0, 1, 0, NBD_EINVAL},
		{NBD_CMD_FLUSH, 0, 0, 1, NBD_EINVAL},           {NBD_CMD_FLUSH, NBD_DF, 0, 0, NBD_EINVAL},
		{NBD_CMD_TRIM, 0, MIB - 1, 2, NBD_EINVAL},      {NBD_CMD_TRIM, NBD_NO_HOLE, 0, 1, NBD_EINVAL},
		{NBD_CMD_TRIM, 0, 0, 0xffffffff, NBD_EINVAL},   {NBD_CMD_CACHE, 0, MIB, 1, NBD_EINVAL},
		{NBD_CMD_CACHE, NBD_FAST_ZERO, 0, 1, NBD_EINVAL}, {NBD_CMD_WRITE_ZEROES, 0, MIB, 1, NBD_ENOSPC},
		{NBD_CMD_WRITE_ZEROES, NBD_DF, 0, 1, NBD_EINVAL}, {NBD_CMD_WRITE_ZEROES, 0, 0, 0xffffffff, NBD_ENOSPC},
		{NBD_CMD_BLOCK_STATUS, 0, 0, 1, NBD_EINVAL},    {8, 0, 0, 1, NBD_EINVAL},
		{0xffff, 0, 0, 0, NBD_EINVAL},                  {9, 0xffff, UINT64_MAX, 0xffffffff, NBD_EINVAL},
	};
	struct env env;

	begin(&env, "disk", true);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ask(&env, bad[i].type, bad[i].flags, i, bad[i].offset, bad[i].n_bytes);
		assert_int_equal(answer_structured(&env, i), bad[i].error);
	}
	env_stop(&env);
}

static void test_df_without_structured_replies_is_refused(void **state)
{
	struct env env;

	begin(&env, "disk", false);
	ask(&env, NBD_CMD_READ, NBD_DF, 1, 0, 512);
	assert_int_equal(answer(&env, 1), NBD_EINVAL);
	env_stop(&env);
}

/* Their payload is passed over, so that the next request is found. */
static void test_refused_writes(void **state)
{
	static const struct {
		uint16_t flags;
		uint64_t offset;
		uint32_t n_bytes, error;
	} bad[] = {{0, MIB - 512, 1024, NBD_ENOSPC}, {0, MIB, 1, NBD_ENOSPC}, {0, UINT64_MAX, 65536, NBD_ENOSPC},
	           {NBD_NO_HOLE, 0, 65536, NBD_EINVAL}, {0, 0, 33 * MIB, NBD_EINVAL}};
	static uint8_t huge[33 * MIB];
	struct env env;

	begin(&env, "disk", false);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ask_write(&env, bad[i].flags, i, bad[i].offset, huge, bad[i].n_bytes);
		assert_int_equal(answer(&env, i), bad[i].error);
	}
	env_stop(&env);
}

static void test_a_write_of_more_than_is_passed_over_ends_it(void **state)
{
	struct env env;

	begin(&env, "disk", false);
	ask(&env, NBD_CMD_WRITE, 0, 1, 0, 65 * MIB);
	assert_int_equal(answer(&env, 1), NBD_EINVAL);
	expect_end(&env);
	env_stop(&env);
}

static void test_unaligned_requests_are_refused(void **state)
{
	struct env env;

	begin(&env, "fake", false);
	ask(&env, NBD_CMD_READ, 0, 1, 1, 512);
	assert_int_equal(answer(&env, 1), NBD_EINVAL);
	ask_write(&env, 0, 2, 512, pattern, 511);
	assert_int_equal(answer(&env, 2), NBD_EINVAL);
	/* Not offered by it. */
	ask(&env, NBD_CMD_TRIM, 0, 3, 0, 512);
	assert_int_equal(answer(&env, 3), NBD_EINVAL);
	ask(&env, NBD_CMD_WRITE_ZEROES, 0, 4, 0, 512);
	assert_int_equal(answer(&env, 4), NBD_EINVAL);
	env_stop(&env);
}

static void test_read_only(void **state)
{
	struct env env;

	env_start(&env, NULL, 1);
	env_fake->flags = EXPORT_READ_ONLY | EXPORT_TRIM | EXPORT_ZERO;
	go(&env, "fake", true);
	ask_write(&env, 0, 1, 0, pattern, 512);
	assert_int_equal(answer_structured(&env, 1), NBD_EPERM);
	ask(&env, NBD_CMD_TRIM, 0, 2, 0, 512);
	assert_int_equal(answer_structured(&env, 2), NBD_EPERM);
	ask(&env, NBD_CMD_WRITE_ZEROES, 0, 3, 0, 512);
	assert_int_equal(answer_structured(&env, 3), NBD_EPERM);
	ask(&env, NBD_CMD_FLUSH, 0, 4, 0, 0);
	assert_int_equal(answer_structured(&env, 4), 0);
	env_stop(&env);
}

static void test_errors_of_the_export(void **state)
{
	static const struct {
		int result;
		uint32_t error;
	} table[] = {{-EIO, NBD_EIO}, {-EBADMSG, NBD_EIO}, {-ENOSPC, NBD_ENOSPC}, {-EDQUOT, NBD_ENOSPC}, {-EFBIG, NBD_ENOSPC},
	             {-EROFS, NBD_EPERM}, {-EPERM, NBD_EPERM}, {-ENOMEM, NBD_ENOMEM}, {-EINVAL, NBD_EINVAL}, {-EUCLEAN, NBD_EIO},
	             {-ESHUTDOWN, NBD_ESHUTDOWN}, {-ENOTSUP, NBD_EIO}};
	struct env env;

	env_start(&env, NULL, 1);
	env_fake->flags = EXPORT_ZERO | EXPORT_FAST_ZERO;
	go(&env, "fake", true);
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		env_fake->result = table[i].result;
		ask_write(&env, 0, 1, 0, pattern, 512);
		assert_int_equal(answer_structured(&env, 1), table[i].error);
		ask(&env, NBD_CMD_READ, 0, 2, 0, 512);
		assert_int_equal(answer_structured(&env, 2), table[i].error);
		ask(&env, NBD_CMD_FLUSH, 0, 3, 0, 0);
		assert_int_equal(answer_structured(&env, 3), table[i].error);
	}
	ask(&env, NBD_CMD_WRITE_ZEROES, NBD_FAST_ZERO, 4, 0, 512);
	assert_int_equal(answer_structured(&env, 4), NBD_ENOTSUP);
	env_stop(&env);
}

static void test_replies_come_as_they_are_ready(void **state)
{
	struct env env;

	begin(&env, "fake", false);
	env_fake->wanted = 2;
	ask(&env, NBD_CMD_READ, 0, 1, 0, 512);
	ask(&env, NBD_CMD_READ, 0, 2, 0, 512);
	uint8_t bytes[512];
	assert_int_equal(answer(&env, 2), 0);
	hear(&env, bytes, 512);
	assert_int_equal(answer(&env, 1), 0);
	hear(&env, bytes, 512);
	assert_true(bytes[0] == 'f' && bytes[511] == 'f');
	env_stop(&env);
}

static void test_holes_are_chunks_of_their_own(void **state)
{
	struct env env;
	uint8_t bytes[8 + 4096];

	begin(&env, "disk", true);
	ask_write(&env, 0, 1, 4096, pattern, 4096);
	assert_int_equal(answer_structured(&env, 1), 0);
	ask(&env, NBD_CMD_READ, 0, 2, 0, 16384);
	assert_int_equal(expect_chunk(&env, 2, NBD_CHUNK_OFFSET_HOLE, false), 12);
	hear(&env, bytes, 12);
	assert_true(nbd_get64(bytes) == 0 && nbd_get32(bytes + 8) == 4096);
	assert_int_equal(expect_chunk(&env, 2, NBD_CHUNK_OFFSET_DATA, false), 8 + 4096);
	hear(&env, bytes, 8 + 4096);
	assert_true(nbd_get64(bytes) == 4096);
	assert_memory_equal(bytes + 8, pattern, 4096);
	assert_int_equal(expect_chunk(&env, 2, NBD_CHUNK_OFFSET_HOLE, true), 12);
	hear(&env, bytes, 12);
	assert_true(nbd_get64(bytes) == 8192 && nbd_get32(bytes + 8) == 8192);
	env_stop(&env);
}

static void test_wrong_magic_ends_it_and_what_came_before_is_answered(void **state)
{
	struct env env;

	begin(&env, "disk", false);
	ask(&env, NBD_CMD_FLUSH, 0, 1, 0, 0);
	say(&env, "\x25\x60\x95\x14                        ", 28);
	assert_int_equal(answer(&env, 1), 0);
	expect_end(&env);
	env_stop(&env);
}

static void test_disconnect_answers_what_came_before(void **state)
{
	struct env env;

	begin(&env, "disk", false);
	ask_write(&env, 0, 1, 0, pattern, 4096);
	ask(&env, NBD_CMD_DISC, 0, 2, 0, 0);
	env.ends = true;
	ask(&env, NBD_CMD_FLUSH, 0, 3, 0, 0);
	assert_int_equal(answer(&env, 1), 0);
	expect_end(&env);
	env_stop(&env);
}

static void test_a_write_that_is_cut_writes_nothing(void **state)
{
	static const uint8_t zeros[4096];
	struct env env;

	env_start(&env, NULL, 2);
	go(&env, "disk", false);
	ask(&env, NBD_CMD_WRITE, 0, 1, 0, 4096);
	say(&env, pattern, 4095);
	hang_up(&env, 0);
	env_talk_to(&env, 1);
	go(&env, "disk", false);
	expect_bytes(&env, false, 0, 4096, zeros);
	env_stop(&env);
}

static void test_many_more_requests_than_may_be_under_way(void **state)
{
	struct quire_nbd_options opts = {.size = sizeof(opts), .requests = 3};
	bool seen[90] = {false};
	struct env env;

	env_start(&env, &opts, 1);
	go(&env, "disk", false);
	for (unsigned i = 0; i < 90; i++)
		ask_write(&env, 0, i, i * 64, pattern + i, 8);
	for (unsigned i = 0; i < 90; i++) {
		uint8_t head[NBD_SIMPLE_REPLY_BYTES];
		hear(&env, head, sizeof(head));
		uint64_t cookie = nbd_get64(head + 8);
		assert_true(cookie < 90 && !seen[cookie] && nbd_get32(head + 4) == 0);
		seen[cookie] = true;
	}
	for (unsigned i = 0; i < 90; i += 9)
		expect_bytes(&env, false, i * 64, 8, pattern + i);
	env_stop(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write_and_read_by_simple_replies),
		cmocka_unit_test(test_write_and_read_by_structured_replies),
		cmocka_unit_test(test_requests_of_nothing),
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_df_without_structured_replies_is_refused),
		cmocka_unit_test(test_refused_writes),
		cmocka_unit_test(test_a_write_of_more_than_is_passed_over_ends_it),
		cmocka_unit_test(test_unaligned_requests_are_refused),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_errors_of_the_export),
		cmocka_unit_test(test_replies_come_as_they_are_ready),
		cmocka_unit_test(test_holes_are_chunks_of_their_own),
		cmocka_unit_test(test_wrong_magic_ends_it_and_what_came_before_is_answered),
		cmocka_unit_test(test_disconnect_answers_what_came_before),
		cmocka_unit_test(test_a_write_that_is_cut_writes_nothing),
		cmocka_unit_test(test_many_more_requests_than_may_be_under_way),
	};
	fill_pattern();
	return cmocka_run_group_tests_name("nbd transmission", tests, NULL, NULL);
}
