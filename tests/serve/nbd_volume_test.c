/* nbd_volume_test.c - volumes as exports: what a client of NBD sees of writes, snapshots and generations. */
#include "nbd_env.h"

#include <errno.h>
#include <quire/volume.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define VOLUME_BYTES (8u << 20)

static struct quire_cache *cache;
static struct quire_store *store;
static struct quire_volumes *volumes;
static char directory[64];

static int open_store(void **state)
{
	const struct quire_cache_options c = {.size = sizeof(c), .budget_bytes = 64u << 20, .reserve_bytes = 1u << 30};
	const struct quire_store_options s = {.size = sizeof(s), .capacity_bytes = 64u << 20};
	const struct quire_volume_options v = {.size = sizeof(v), .size_bytes = VOLUME_BYTES};

	snprintf(directory, sizeof(directory), "/tmp/quire-nbd-XXXXXX");
	assert_non_null(mkdtemp(directory));
	assert_int_equal(quire_store_create(directory, &s, NULL), 0);
	assert_int_equal(quire_cache_open(&c, &cache, NULL), 0);
	assert_int_equal(quire_store_open(cache, directory, 0, &store, NULL), 0);
	assert_int_equal(quire_volumes_open(store, NULL, &volumes, NULL), 0);
	assert_int_equal(quire_volume_create(volumes, "v", &v), 0);
	return 0;
}

static int close_store(void **state)
{
	char command[128];

	assert_int_equal(quire_volumes_close(volumes), 0);
	assert_int_equal(quire_store_close(store), 0);
	assert_int_equal(quire_cache_close(cache), 0);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command);
}

static void *serve(void *nbd)
{
	return (void *)(intptr_t)quire_nbd_run(nbd);
}

/* Volumes of these names, and so many clients. */
static void start(struct env *env, unsigned n_names, const char *const *names, unsigned n_clients)
{
	struct quire_error err;

	memset(env, 0, sizeof(*env));
	assert_int_equal(quire_nbd_create(NULL, &env->nbd, &err), 0);
	for (unsigned i = 0; i < n_names; i++)
		assert_int_equal(quire_nbd_add_volume(env->nbd, names[i], volumes, names[i], 0, &err), 0);
	for (unsigned i = 0; i < n_clients; i++) {
		int pair[2];
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		env->fds[env->n_clients++] = pair[0];
		assert_int_equal(quire_nbd_connect_fd(env->nbd, pair[1], &err), 0);
	}
	env_talk_to(env, 0);
	assert_int_equal(pthread_create(&env->thread, NULL, serve, env->nbd), 0);
}

static void expect_bytes(struct env *env, uint64_t offset, uint32_t n_bytes, uint8_t byte)
{
	uint8_t *got = malloc(n_bytes);

	ask(env, NBD_CMD_READ, 0, 9, offset, n_bytes);
	assert_int_equal(answer(env, 9), 0);
	hear(env, got, n_bytes);
	for (uint32_t i = 0; i < n_bytes; i++)
		assert_int_equal(got[i], byte);
	free(got);
}

static void write_bytes(struct env *env, uint16_t flags, uint64_t offset, uint32_t n_bytes, uint8_t byte)
{
	uint8_t *bytes = malloc(n_bytes);

	memset(bytes, byte, n_bytes);
	ask_write(env, flags, 8, offset, bytes, n_bytes);
	assert_int_equal(answer(env, 8), 0);
	free(bytes);
}

static void test_what_is_written_is_read(void **state)
{
	static const char *const names[] = {"v"};
	struct env env;

	start(&env, 1, names, 1);
	go(&env, "v", false);
	expect_bytes(&env, 0, 100000, 0);
	write_bytes(&env, 0, 1000, 20000, 'a');
	write_bytes(&env, NBD_FUA, 512, 512, 'b');
	expect_bytes(&env, 512, 488, 'b');
	expect_bytes(&env, 1024, 19976, 'a');
	ask(&env, NBD_CMD_WRITE_ZEROES, NBD_FAST_ZERO | NBD_FUA, 3, 4096, 8192);
	assert_int_equal(answer(&env, 3), 0);
	expect_bytes(&env, 4096, 8192, 0);
	ask(&env, NBD_CMD_TRIM, 0, 4, 0, VOLUME_BYTES);
	assert_int_equal(answer(&env, 4), 0);
	ask(&env, NBD_CMD_FLUSH, 0, 5, 0, 0);
	assert_int_equal(answer(&env, 5), 0);
	expect_bytes(&env, 0, 100000, 0);
	env_stop(&env);
}

static void test_a_snapshot_is_read_only_and_stays(void **state)
{
	static const char *const names[] = {"v", "v@then"};
	struct env env;

	assert_int_equal(quire_nbd_create(NULL, &env.nbd, NULL), 0);
	assert_int_equal(quire_nbd_add_volume(env.nbd, "x", volumes, "v@then", 0, NULL), -ENOENT);
	assert_int_equal(quire_nbd_destroy(env.nbd), 0);
	start(&env, 1, names, 1);
	go(&env, "v", false);
	write_bytes(&env, 0, 0, 65536, 'a');
	env_stop(&env);
	assert_int_equal(quire_volume_snapshot(volumes, "v", "v@then"), 0);
	start(&env, 2, names, 2);
	go(&env, "v", false);
	write_bytes(&env, 0, 4096, 4096, 'b');
	env_talk_to(&env, 1);
	go(&env, "v@then", false);
	expect_bytes(&env, 0, 65536, 'a');
	ask_write(&env, 0, 1, 0, "x", 1);
	assert_int_equal(answer(&env, 1), NBD_EPERM);
	env_stop(&env);
	assert_int_equal(quire_volume_rm(volumes, "v@then"), 0);
}

/* What a backup asks: which blocks are others than they were in the snapshot? */
static void test_changed_since_a_snapshot(void **state)
{
	static const char *const names[] = {"v"};
	uint8_t data[8192];
	char since[64];
	const char *const query[] = {since};
	struct quire_volume_info info;
	struct env env;

	start(&env, 1, names, 1);
	go(&env, "v", false);
	write_bytes(&env, 0, 0, 65536, 'a');
	env_stop(&env);
	assert_int_equal(quire_volume_snapshot(volumes, "v", "v@then"), 0);
	assert_int_equal(quire_volume_find(volumes, "v@then", &info), 0);
	snprintf(since, sizeof(since), "qemu:dirty-bitmap:since-%llu", (unsigned long long)info.generation);
	start(&env, 1, names, 1);
	greet(&env, NBD_FIXED_NEWSTYLE);
	say_option(&env, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	expect_ack(&env, NBD_OPT_STRUCTURED_REPLY);
	say_option(&env, NBD_OPT_SET_META_CONTEXT, data, make_queries(data, "v", 1, query));
	expect_reply(&env, NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT, data);
	expect_ack(&env, NBD_OPT_SET_META_CONTEXT);
	say_option(&env, NBD_OPT_GO, data, make_go(data, "v", 1, 0, NULL));
	expect_reply(&env, NBD_OPT_GO, NBD_REP_INFO, data);
	expect_ack(&env, NBD_OPT_GO);
	memset(data, 'b', 4096);
	ask_write(&env, NBD_FUA, 1, 8192, data, 4096);
	assert_int_equal(answer_structured(&env, 1), 0);
	ask(&env, NBD_CMD_BLOCK_STATUS, 0, 2, 0, 65536);
	assert_int_equal(expect_chunk(&env, 2, NBD_CHUNK_BLOCK_STATUS, true), 4 + 3 * 8);
	hear(&env, data, 4 + 3 * 8);
	const uint32_t expected[] = {8192, 0, 4096, 1, 53248, 0};
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(nbd_get32(data + 4 + 4 * i), expected[i]);
	env_stop(&env);
	assert_int_equal(quire_volume_rm(volumes, "v@then"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_written_is_read),
		cmocka_unit_test(test_a_snapshot_is_read_only_and_stays),
		cmocka_unit_test(test_changed_since_a_snapshot),
	};
	return cmocka_run_group_tests_name("nbd volumes", tests, open_store, close_store);
}
