/* nbd_context_test.c - metadata contexts: negotiated and asked, rightly and not. */
#include "nbd_env.h"

#include <stdio.h>
#include <stdlib.h>

static void say_queries(struct env *env, uint32_t option, const char *name, unsigned n, const char *const *queries)
{
	static uint8_t data[65536];

	say_option(env, option, data, make_queries(data, name, n, queries));
}

static void expect_context(struct env *env, uint32_t option, uint32_t id, const char *name)
{
	uint8_t data[8192];
	uint32_t n_bytes = expect_reply(env, option, NBD_REP_META_CONTEXT, data);

	assert_int_equal(n_bytes, 4 + strlen(name));
	assert_int_equal(nbd_get32(data), id);
	assert_memory_equal(data + 4, name, strlen(name));
}

static void begin(struct env *env)
{
	env_start(env, NULL, 1);
	greet(env, NBD_FIXED_NEWSTYLE);
	say_option(env, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	expect_ack(env, NBD_OPT_STRUCTURED_REPLY);
}

static void enter(struct env *env, const char *name)
{
	uint8_t data[8192];

	say_option(env, NBD_OPT_GO, data, make_go(data, name, strlen(name), 0, NULL));
	expect_reply(env, NBD_OPT_GO, NBD_REP_INFO, data);
	expect_ack(env, NBD_OPT_GO);
}

static void select_contexts(struct env *env, const char *name, unsigned n, const char *const *queries)
{
	say_queries(env, NBD_OPT_SET_META_CONTEXT, name, n, queries);
	for (unsigned i = 0; i < n; i++)
		expect_context(env, NBD_OPT_SET_META_CONTEXT, i, queries[i]);
	expect_ack(env, NBD_OPT_SET_META_CONTEXT);
}

static void test_only_after_structured_replies(void **state)
{
	static const char *const all[] = {"base:allocation"};
	uint8_t text[8192];
	struct env env;

	env_start(&env, NULL, 1);
	greet(&env, NBD_FIXED_NEWSTYLE);
	say_queries(&env, NBD_OPT_SET_META_CONTEXT, "disk", 1, all);
	expect_reply(&env, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID, text);
	say_queries(&env, NBD_OPT_LIST_META_CONTEXT, "disk", 0, NULL);
	expect_reply(&env, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_INVALID, text);
	env_stop(&env);
}

static void test_list_with_wildcards(void **state)
{
	static const char *const all[] = {"base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:since-7",
	                                  "qemu:dirty-bitmap:since-8", "qemu:dirty-bitmap:since-9"};
	static const struct {
		const char *query;
		unsigned first, n;
	} table[] = {{NULL, 0, 5}, {"base:", 0, 1}, {"qemu:", 1, 4}, {"qemu:dirty-bitmap:", 2, 3}, {"base:allocation", 0, 1},
	             {"qemu:dirty-bitmap:since-8", 3, 1}, {"base:alloc", 0, 0}, {"x-mine:", 0, 0}, {"other:base:", 0, 0}};
	struct env env;

	begin(&env);
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		say_queries(&env, NBD_OPT_LIST_META_CONTEXT, "fake", table[i].query != NULL, &table[i].query);
		for (unsigned k = 0; k < table[i].n; k++)
			expect_context(&env, NBD_OPT_LIST_META_CONTEXT, 0, all[table[i].first + k]);
		expect_ack(&env, NBD_OPT_LIST_META_CONTEXT);
	}
	env_stop(&env);
}

/* Names that are none select nothing; wildcards neither; the same twice is one. */
static void test_set_selects_whole_names(void **state)
{
	static const char *const queries[] = {
		"base:",  "qemu:",  "base:allocation2", "Base:allocation", "qemu:dirty-bitmap:", "qemu:dirty-bitmap:since-",
		"qemu:dirty-bitmap:since-0", "qemu:dirty-bitmap:since-31", "qemu:dirty-bitmap:since-07", "qemu:dirty-bitmap:since--7",
		"qemu:dirty-bitmap:since-+7", "qemu:dirty-bitmap:since-7 ", "qemu:dirty-bitmap:since-18446744073709551623",
		"qemu:dirty-bitmap:since-7", "qemu:dirty-bitmap:since-7", "qemu:allocation-depth",
	};
	struct env env;

	begin(&env);
	say_queries(&env, NBD_OPT_SET_META_CONTEXT, "fake", 16, queries);
	expect_context(&env, NBD_OPT_SET_META_CONTEXT, 0, "qemu:dirty-bitmap:since-7");
	expect_context(&env, NBD_OPT_SET_META_CONTEXT, 1, "qemu:allocation-depth");
	expect_ack(&env, NBD_OPT_SET_META_CONTEXT);
	/* Memory has no generations. */
	say_queries(&env, NBD_OPT_SET_META_CONTEXT, "disk", 16, queries);
	expect_context(&env, NBD_OPT_SET_META_CONTEXT, 0, "qemu:allocation-depth");
	expect_ack(&env, NBD_OPT_SET_META_CONTEXT);
	env_stop(&env);
}

static void test_malformed_queries_are_invalid(void **state)
{
	static const struct {
		uint32_t name_bytes, n, query_bytes;
		size_t n_bytes;
	} bad[] = {{4, 1, 5, 0}, {4, 1, 5, 7}, {4, 1, 5, 11}, {4, 1, 5, 20}, {4, 1, 5, 22}, {4, 2, 5, 21}, {4, 0, 5, 21},
	           {4, 0xffffffff, 5, 21}, {5, 1, 5, 21}, {0xffffffff, 1, 5, 21}, {4, 1, 0xffffffff, 21}, {4, 1, 4, 21}};
	static const char *const without_colon[] = {"base"};
	uint8_t text[8192];
	struct env env;

	begin(&env);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint8_t data[64] = {0};
		nbd_put32(data, bad[i].name_bytes);
		memcpy(data + 4, "fake", 4);
		nbd_put32(nbd_put32(data + 8, bad[i].n), bad[i].query_bytes);
		memcpy(data + 16, "base:", 5);
		uint32_t option = i % 2 ? NBD_OPT_LIST_META_CONTEXT : NBD_OPT_SET_META_CONTEXT;
		say_option(&env, option, data, bad[i].n_bytes);
		expect_reply(&env, option, NBD_REP_ERR_INVALID, text);
	}
	say_queries(&env, NBD_OPT_SET_META_CONTEXT, "fake", 1, without_colon);
	expect_reply(&env, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID, text);
	say_queries(&env, NBD_OPT_SET_META_CONTEXT, "nobody", 0, NULL);
	expect_reply(&env, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_UNKNOWN, text);
	env_stop(&env);
}

static void test_too_many_contexts(void **state)
{
	static char names[300][32];
	static const char *queries[300];
	uint8_t text[8192];
	struct env env;

	for (unsigned i = 0; i < 300; i++) {
		snprintf(names[i], sizeof(names[i]), "qemu:dirty-bitmap:since-%u", i + 1);
		queries[i] = names[i];
	}
	begin(&env);
	select_contexts(&env, "fake", NBD_CONTEXTS, queries);
	say_queries(&env, NBD_OPT_SET_META_CONTEXT, "fake", NBD_CONTEXTS + 1, queries);
	expect_reply(&env, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_TOO_BIG, text);
	say_queries(&env, NBD_OPT_LIST_META_CONTEXT, "fake", 300, queries);
	expect_reply(&env, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_TOO_BIG, text);
	/* What failed has left nothing selected. */
	enter(&env, "fake");
	ask(&env, NBD_CMD_BLOCK_STATUS, 0, 1, 0, 512);
	assert_int_equal(answer_structured(&env, 1), NBD_EINVAL);
	env_stop(&env);
}

static void test_contexts_of_another_export_are_none(void **state)
{
	static const char *const queries[] = {"base:allocation"};
	struct env env;

	begin(&env);
	select_contexts(&env, "big", 1, queries);
	enter(&env, "disk");
	ask(&env, NBD_CMD_BLOCK_STATUS, 0, 1, 0, 512);
	assert_int_equal(answer_structured(&env, 1), NBD_EINVAL);
	env_stop(&env);
}

static void expect_extents(struct env *env, uint64_t cookie, uint32_t id, bool done, unsigned n, const uint32_t (*extents)[2])
{
	uint8_t data[1024];
	uint32_t n_bytes = expect_chunk(env, cookie, NBD_CHUNK_BLOCK_STATUS, done);

	assert_int_equal(n_bytes, 4 + 8 * n);
	hear(env, data, n_bytes);
	assert_int_equal(nbd_get32(data), id);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(nbd_get32(data + 4 + 8 * i), extents[i][0]);
		assert_int_equal(nbd_get32(data + 8 + 8 * i), extents[i][1]);
	}
}

static void test_block_status_of_memory(void **state)
{
	static const char *const queries[] = {"base:allocation", "qemu:allocation-depth"};
	static const uint8_t bytes[4096] = {1};
	struct env env;

	begin(&env);
	select_contexts(&env, "disk", 2, queries);
	enter(&env, "disk");
	ask_write(&env, 0, 1, 8192, bytes, 4096);
	assert_int_equal(answer_structured(&env, 1), 0);
	ask(&env, NBD_CMD_BLOCK_STATUS, 0, 2, 4096, 65536);
	expect_extents(&env, 2, 0, false, 3, (const uint32_t[][2]){{4096, 3}, {4096, 0}, {57344, 3}});
	expect_extents(&env, 2, 1, true, 3, (const uint32_t[][2]){{4096, 0}, {4096, 1}, {57344, 0}});
	ask(&env, NBD_CMD_BLOCK_STATUS, NBD_REQ_ONE, 3, 100, 65536);
	expect_extents(&env, 3, 0, false, 1, (const uint32_t[][2]){{8092, 3}});
	expect_extents(&env, 3, 1, true, 1, (const uint32_t[][2]){{8092, 0}});
	/* No longer than what was asked for. */
	ask(&env, NBD_CMD_BLOCK_STATUS, NBD_REQ_ONE, 4, 100, 1);
	expect_extents(&env, 4, 0, false, 1, (const uint32_t[][2]){{1, 3}});
	expect_extents(&env, 4, 1, true, 1, (const uint32_t[][2]){{1, 0}});
	env_stop(&env);
}

static void test_changed_since_a_generation(void **state)
{
	static const char *const queries[] = {"qemu:dirty-bitmap:since-2"};
	struct env env;

	begin(&env);
	select_contexts(&env, "fake", 1, queries);
	enter(&env, "fake");
	ask(&env, NBD_CMD_BLOCK_STATUS, 0, 5, 512, 1536);
	expect_extents(&env, 5, 0, true, 3, (const uint32_t[][2]){{512, 0}, {512, 1}, {512, 0}});
	env_stop(&env);
}

/* The map of the fake has an extent for each block; what is told at once has a limit, neighbours that are alike are one. */
static void test_long_maps(void **state)
{
	static const char *const queries[] = {"base:allocation"};
	struct env env;

	begin(&env);
	select_contexts(&env, "fake", 1, queries);
	enter(&env, "fake");
	ask(&env, NBD_CMD_BLOCK_STATUS, 0, 5, 0, DISK_BYTES);
	expect_extents(&env, 5, 0, true, 1, (const uint32_t[][2]){{DISK_BYTES, 1}});
	ask(&env, NBD_CMD_BLOCK_STATUS, 0, 6, 0, 0);
	assert_int_equal(answer_structured(&env, 6), NBD_EINVAL);
	ask(&env, NBD_CMD_BLOCK_STATUS, 0, 7, DISK_BYTES - 512, 1024);
	assert_int_equal(answer_structured(&env, 7), NBD_EINVAL);
	env_stop(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_after_structured_replies),
		cmocka_unit_test(test_list_with_wildcards),
		cmocka_unit_test(test_set_selects_whole_names),
		cmocka_unit_test(test_malformed_queries_are_invalid),
		cmocka_unit_test(test_too_many_contexts),
		cmocka_unit_test(test_contexts_of_another_export_are_none),
		cmocka_unit_test(test_block_status_of_memory),
		cmocka_unit_test(test_changed_since_a_generation),
		cmocka_unit_test(test_long_maps),
	};
	return cmocka_run_group_tests_name("nbd contexts", tests, NULL, NULL);
}
