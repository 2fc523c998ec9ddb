/* nbd_handshake_test.c - negotiation by bytes: what is right, and everything that is not. */
#include "nbd_env.h"

#include <sys/socket.h>

#include <stdlib.h>
#include <unistd.h>

#define FLAGS (NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES)

/* Still there, and talking sense. */
static void expect_alive(struct env *env)
{
	uint8_t data[8192];

	say_option(env, NBD_OPT_LIST, NULL, 0);
	for (int i = 0; i < 3; i++)
		expect_reply(env, NBD_OPT_LIST, NBD_REP_SERVER, data);
	expect_ack(env, NBD_OPT_LIST);
}

static void refused_option(struct env *env, uint32_t option, const void *data, size_t n_bytes, uint32_t error)
{
	uint8_t text[8192];

	say_option(env, option, data, n_bytes);
	expect_reply(env, option, error, text);
}

static void test_unknown_client_flags_end_it(void **state)
{
	static const uint32_t flags[] = {4, 0x80000000u, 0xffffffffu, 0x7};
	struct env env;

	env_start(&env, NULL, 4);
	for (unsigned i = 0; i < 4; i++) {
		env_talk_to(&env, i);
		greet(&env, flags[i]);
		expect_end(&env);
	}
	env_stop(&env);
}

static void test_wrong_option_magic_ends_it(void **state)
{
	struct env env;

	env_start(&env, NULL, 1);
	greet(&env, FLAGS);
	say(&env, "IHAVEOPU\0\0\0\3\0\0\0\0", 16);
	expect_end(&env);
	env_stop(&env);
}

static void test_unknown_options_are_refused_and_passed_over(void **state)
{
	static const uint32_t options[] = {0, 4, 11, 12, 0x7fffffff, 0xffffffff};
	struct env env;

	env_start(&env, NULL, 1);
	greet(&env, FLAGS);
	for (unsigned i = 0; i < 6; i++) {
		refused_option(&env, options[i], "any data at all", i * 3, NBD_REP_ERR_UNSUP);
		expect_alive(&env);
	}
	env_stop(&env);
}

static void test_long_options_are_refused_and_passed_over(void **state)
{
	static uint8_t data[1u << 20];
	struct env env;

	env_start(&env, NULL, 2);
	greet(&env, FLAGS);
	refused_option(&env, NBD_OPT_GO, data, 65537, NBD_REP_ERR_TOO_BIG);
	refused_option(&env, 99, data, sizeof(data), NBD_REP_ERR_TOO_BIG);
	expect_alive(&env);
	env_talk_to(&env, 1);
	greet(&env, FLAGS);
	nbd_put32(nbd_put32(nbd_put64(data, NBD_OPTION_MAGIC), NBD_OPT_GO), (1u << 20) + 1);
	say(&env, data, NBD_OPTION_BYTES);
	expect_end(&env);
	env_stop(&env);
}

static void test_options_that_take_no_data(void **state)
{
	static const uint32_t options[] = {NBD_OPT_LIST, NBD_OPT_STRUCTURED_REPLY, NBD_OPT_STARTTLS};
	struct env env;

	env_start(&env, NULL, 1);
	greet(&env, FLAGS);
	for (unsigned i = 0; i < 3; i++)
		refused_option(&env, options[i], "x", 1, NBD_REP_ERR_INVALID);
	expect_alive(&env);
	env_stop(&env);
}

static void test_list_names_each_export(void **state)
{
	static const char *const names[] = {"disk", "big", "fake"};
	uint8_t data[8192];
	struct env env;

	env_start(&env, NULL, 1);
	greet(&env, FLAGS);
	say_option(&env, NBD_OPT_LIST, NULL, 0);
	for (int i = 0; i < 3; i++) {
		size_t len = strlen(names[i]);
		assert_int_equal(expect_reply(&env, NBD_OPT_LIST, NBD_REP_SERVER, data), 4 + len);
		assert_int_equal(nbd_get32(data), len);
		assert_memory_equal(data + 4, names[i], len);
	}
	expect_ack(&env, NBD_OPT_LIST);
	env_stop(&env);
}

static void test_info_tells_what_is_asked_for_once(void **state)
{
	static const uint16_t infos[] = {NBD_INFO_BLOCK_SIZE, 77, NBD_INFO_NAME, NBD_INFO_BLOCK_SIZE, NBD_INFO_DESCRIPTION};
	uint8_t data[8192];
	struct env env;

	env_start(&env, NULL, 1);
	greet(&env, FLAGS);
	say_option(&env, NBD_OPT_INFO, data, make_go(data, "fake", 4, 5, infos));
	assert_int_equal(expect_reply(&env, NBD_OPT_INFO, NBD_REP_INFO, data), 12);
	assert_int_equal(nbd_get16(data), NBD_INFO_EXPORT);
	assert_int_equal(nbd_get64(data + 2), DISK_BYTES);
	assert_int_equal(nbd_get16(data + 10), NBD_HAS_FLAGS | NBD_SEND_FLUSH | NBD_SEND_FUA | NBD_CAN_MULTI_CONN);
	assert_int_equal(expect_reply(&env, NBD_OPT_INFO, NBD_REP_INFO, data), 14);
	assert_int_equal(nbd_get16(data), NBD_INFO_BLOCK_SIZE);
	assert_true(nbd_get32(data + 2) == 512 && nbd_get32(data + 6) == 4096 && nbd_get32(data + 10) == 32u << 20);
	assert_int_equal(expect_reply(&env, NBD_OPT_INFO, NBD_REP_INFO, data), 6);
	assert_memory_equal(data, "\0\1fake", 6);
	expect_ack(&env, NBD_OPT_INFO);
	expect_alive(&env);
	env_stop(&env);
}

/* INFO and GO whose parts don't fit into them. */
static void test_malformed_go_is_invalid(void **state)
{
	static const struct {
		uint32_t name_bytes;
		uint16_t n;
		size_t n_bytes;
	} bad[] = {{4, 0, 0}, {4, 0, 5}, {5, 0, 10}, {4, 0, 11}, {4, 1, 10}, {4, 1, 11}, {4, 0, 12}, {4, 0xffff, 12},
	           {0xffffffff, 0, 10}, {0xfffffffa, 0, 10}, {3, 0, 10}};
	struct env env;

	env_start(&env, NULL, 1);
	greet(&env, FLAGS);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint8_t data[64] = {0};
		nbd_put32(data, bad[i].name_bytes);
		memcpy(data + 4, "disk", 4);
		nbd_put16(data + 8, bad[i].n);
		refused_option(&env, i % 2 ? NBD_OPT_GO : NBD_OPT_INFO, data, bad[i].n_bytes, NBD_REP_ERR_INVALID);
	}
	expect_alive(&env);
	env_stop(&env);
}

static void test_odd_names(void **state)
{
	static const struct {
		const char *name;
		size_t n_bytes;
		uint32_t error;
	} names[] = {{"", 0, NBD_REP_ERR_UNKNOWN},          {"Disk", 4, NBD_REP_ERR_UNKNOWN},  {"disk ", 5, NBD_REP_ERR_UNKNOWN},
	             {"../disk", 7, NBD_REP_ERR_UNKNOWN},   {"disk\0", 5, NBD_REP_ERR_INVALID}, {"\0disk", 5, NBD_REP_ERR_INVALID},
	             {"\xff\xfe", 2, NBD_REP_ERR_INVALID},  {"\xc0\x80", 2, NBD_REP_ERR_INVALID}, {"\xe2\x82", 2, NBD_REP_ERR_INVALID},
	             {"\xed\xa0\x80", 3, NBD_REP_ERR_INVALID}, {"\xf4\x90\x80\x80", 4, NBD_REP_ERR_INVALID},
	             {"\xe2\x82\xac", 3, NBD_REP_ERR_UNKNOWN}, {"\xf0\x9f\x92\xbe", 4, NBD_REP_ERR_UNKNOWN}};
	static uint8_t data[8192];
	static char longest[4097];
	struct env env;

	memset(longest, 'a', sizeof(longest));
	env_start(&env, NULL, 1);
	greet(&env, FLAGS);
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		refused_option(&env, NBD_OPT_GO, data, make_go(data, names[i].name, names[i].n_bytes, 0, NULL), names[i].error);
	refused_option(&env, NBD_OPT_GO, data, make_go(data, longest, 4096, 0, NULL), NBD_REP_ERR_UNKNOWN);
	refused_option(&env, NBD_OPT_GO, data, make_go(data, longest, 4097, 0, NULL), NBD_REP_ERR_INVALID);
	expect_alive(&env);
	env_stop(&env);
}

static void test_go_after_a_refused_go(void **state)
{
	uint8_t data[8192];
	struct env env;

	env_start(&env, NULL, 1);
	greet(&env, FLAGS);
	refused_option(&env, NBD_OPT_GO, data, make_go(data, "no", 2, 0, NULL), NBD_REP_ERR_UNKNOWN);
	say_option(&env, NBD_OPT_GO, data, make_go(data, "disk", 4, 0, NULL));
	expect_reply(&env, NBD_OPT_GO, NBD_REP_INFO, data);
	expect_ack(&env, NBD_OPT_GO);
	ask(&env, NBD_CMD_FLUSH, 0, 1, 0, 0);
	assert_int_equal(answer(&env, 1), 0);
	env_stop(&env);
}

static void test_export_name_with_and_without_zeroes(void **state)
{
	struct env env;

	env_start(&env, NULL, 3);
	for (unsigned i = 0; i < 3; i++) {
		uint8_t text[134], zeros[124] = {0};
		env_talk_to(&env, i);
		greet(&env, i == 0 ? FLAGS : i == 1 ? NBD_FIXED_NEWSTYLE : 0);
		say_option(&env, NBD_OPT_EXPORT_NAME, "disk", 4);
		hear(&env, text, i == 0 ? 10 : 134);
		assert_int_equal(nbd_get64(text), DISK_BYTES);
		assert_true(nbd_get16(text + 8) & NBD_HAS_FLAGS);
		if (i > 0)
			assert_memory_equal(text + 10, zeros, 124);
		ask(&env, NBD_CMD_FLUSH, 0, 1, 0, 0);
		assert_int_equal(answer(&env, 1), 0);
	}
	env_stop(&env);
}

static void test_export_name_that_is_not_there_ends_it(void **state)
{
	static char longest[4097];
	struct env env;

	env_start(&env, NULL, 4);
	for (unsigned i = 0; i < 4; i++) {
		env_talk_to(&env, i);
		greet(&env, FLAGS);
		say_option(&env, NBD_OPT_EXPORT_NAME, i == 3 ? longest : "nobody", i == 3 ? 4097 : 2 * i);
		expect_end(&env);
	}
	env_stop(&env);
}

static void test_without_fixed_newstyle_only_a_name(void **state)
{
	struct env env;

	env_start(&env, NULL, 2);
	for (unsigned i = 0; i < 2; i++) {
		env_talk_to(&env, i);
		greet(&env, i == 0 ? 0 : NBD_NO_ZEROES);
		say_option(&env, i == 0 ? NBD_OPT_LIST : NBD_OPT_STARTTLS, NULL, 0);
		expect_end(&env);
	}
	env_stop(&env);
}

static void test_abort_is_acknowledged(void **state)
{
	struct env env;

	env_start(&env, NULL, 1);
	greet(&env, FLAGS);
	say_option(&env, NBD_OPT_ABORT, NULL, 0);
	expect_ack(&env, NBD_OPT_ABORT);
	expect_end(&env);
	env_stop(&env);
}

/* A whole conversation, byte by byte in sending, and cut off after each of them. */
static size_t conversation(uint8_t *text)
{
	uint8_t *at = nbd_put32(text, FLAGS);

	at = nbd_put32(nbd_put32(nbd_put64(at, NBD_OPTION_MAGIC), NBD_OPT_STRUCTURED_REPLY), 0);
	at = nbd_put32(nbd_put32(nbd_put64(at, NBD_OPTION_MAGIC), NBD_OPT_GO), 10);
	at += make_go(at, "disk", 4, 0, NULL);
	at = nbd_put16(nbd_put16(nbd_put32(at, NBD_REQUEST_MAGIC), 0), NBD_CMD_WRITE);
	at = nbd_put32(nbd_put64(nbd_put64(at, 9), 0), 16);
	memcpy(at, "sixteen bytes of", 16);
	return (size_t)(at + 16 - text);
}

static void test_cut_after_each_byte(void **state)
{
	uint8_t text[256];
	size_t n_bytes = conversation(text);
	struct quire_nbd_options opts = {.size = sizeof(opts), .connections = CLIENTS_MOST};
	struct env env;

	env_start(&env, &opts, (unsigned)n_bytes + 1);
	for (unsigned i = 0; i < n_bytes; i++) {
		env_talk_to(&env, i);
		say(&env, text, i);
		hang_up(&env, i);
	}
	env_talk_to(&env, (unsigned)n_bytes);
	for (size_t i = 0; i < n_bytes; i++)
		say(&env, text + i, 1);
	hear(&env, text, NBD_GREETING_BYTES);
	expect_ack(&env, NBD_OPT_STRUCTURED_REPLY);
	expect_reply(&env, NBD_OPT_GO, NBD_REP_INFO, text);
	expect_ack(&env, NBD_OPT_GO);
	assert_int_equal(answer_structured(&env, 9), 0);
	env_stop(&env);
}

/* As far as the transmission phase; false: it was ended before. */
static bool gets_in(struct env *env)
{
	const size_t said = NBD_GREETING_BYTES + NBD_OPTION_REPLY_BYTES + (NBD_OPTION_REPLY_BYTES + 12) + NBD_OPTION_REPLY_BYTES;
	uint8_t text[256];

	say(env, text, conversation(text) - NBD_REQUEST_BYTES - 16);
	return recv(env->fd, text, said, MSG_WAITALL) == (ssize_t)said;
}

static void test_silence_in_the_handshake_ends_it(void **state)
{
	struct quire_nbd_options opts = {.size = sizeof(opts), .handshake_ms = 50};
	struct env env;

	/* The second client is in time; where all is slow, there is more of it. */
	for (;; opts.handshake_ms *= 4) {
		env_start(&env, &opts, 3);
		env.ends = true;
		greet(&env, FLAGS);
		env_talk_to(&env, 1);
		if (gets_in(&env))
			break;
		assert_true(opts.handshake_ms < 60000);
		env_stop(&env);
	}
	env.ends = false;
	env_talk_to(&env, 0);
	expect_end(&env);
	env_talk_to(&env, 2);
	uint8_t text[NBD_GREETING_BYTES];
	hear(&env, text, sizeof(text));
	expect_end(&env);
	/* In the transmission phase it is no fault. */
	env_talk_to(&env, 1);
	ask(&env, NBD_CMD_FLUSH, 0, 1, 0, 0);
	assert_int_equal(answer_structured(&env, 1), 0);
	env_stop(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unknown_client_flags_end_it),
		cmocka_unit_test(test_wrong_option_magic_ends_it),
		cmocka_unit_test(test_unknown_options_are_refused_and_passed_over),
		cmocka_unit_test(test_long_options_are_refused_and_passed_over),
		cmocka_unit_test(test_options_that_take_no_data),
		cmocka_unit_test(test_list_names_each_export),
		cmocka_unit_test(test_info_tells_what_is_asked_for_once),
		cmocka_unit_test(test_malformed_go_is_invalid),
		cmocka_unit_test(test_odd_names),
		cmocka_unit_test(test_go_after_a_refused_go),
		cmocka_unit_test(test_export_name_with_and_without_zeroes),
		cmocka_unit_test(test_export_name_that_is_not_there_ends_it),
		cmocka_unit_test(test_without_fixed_newstyle_only_a_name),
		cmocka_unit_test(test_abort_is_acknowledged),
		cmocka_unit_test(test_cut_after_each_byte),
		cmocka_unit_test(test_silence_in_the_handshake_ends_it),
	};
	return cmocka_run_group_tests_name("nbd handshake", tests, NULL, NULL);
}
