/* nbd_limits_test.c - what is large, what is slow, and what is too much: nobody is held up by another. */
#include "nbd_env.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MIB (1u << 20)

/* A reply and what comes with it, thrown away. */
static void take_read(struct env *env, uint64_t cookie, uint32_t n_bytes)
{
	uint8_t *bytes = malloc(n_bytes);

	assert_int_equal(answer(env, cookie), 0);
	hear(env, bytes, n_bytes);
	free(bytes);
}

static void test_32_mib_at_once(void **state)
{
	uint8_t *bytes = malloc(32 * MIB), *got = malloc(32 * MIB);
	struct env env;

	for (unsigned i = 0; i < 32 * MIB; i += 4096)
		memset(bytes + i, (int)(i / 4096 * 2654435761u >> 17 & 0xff), 4096);
	env_start(&env, NULL, 1);
	go(&env, "big", false);
	ask_write(&env, 0, 1, MIB, bytes, 32 * MIB);
	assert_int_equal(answer(&env, 1), 0);
	ask(&env, NBD_CMD_READ, 0, 2, MIB, 32 * MIB);
	assert_int_equal(answer(&env, 2), 0);
	hear(&env, got, 32 * MIB);
	assert_memory_equal(got, bytes, 32 * MIB);
	env_stop(&env);
	free(bytes);
	free(got);
}

/* The first client asks for more than there is memory for, and takes nothing. */
static void test_who_takes_no_replies_holds_nobody(void **state)
{
	struct quire_nbd_options opts = {.size = sizeof(opts), .bytes = 32 * MIB, .connection_bytes = 64 * MIB, .stall_ms = 100};
	struct env env;

	env_start(&env, &opts, 2);
	go(&env, "disk", false);
	for (unsigned i = 0; i < 40; i++)
		ask(&env, NBD_CMD_READ, 0, i, 0, MIB);
	env_talk_to(&env, 1);
	go(&env, "disk", false);
	/* What is small goes on at once. */
	for (unsigned i = 0; i < 10; i++) {
		ask(&env, NBD_CMD_READ, 0, i, 0, 65536);
		take_read(&env, i, 65536);
	}
	/* What is large, as soon as the other has stood still for so long. */
	ask(&env, NBD_CMD_READ, 0, 50, 0, MIB);
	ask(&env, NBD_CMD_READ, 0, 51, 0, MIB);
	ask(&env, NBD_CMD_READ, 0, 52, 0, MIB);
	for (unsigned i = 50; i < 53; i++)
		take_read(&env, i, MIB);
	env_stop(&env);
}

/* The first client announces what it does not send. */
static void test_who_sends_no_payload_holds_nobody(void **state)
{
	struct quire_nbd_options opts = {.size = sizeof(opts), .bytes = 32 * MIB, .stall_ms = 100};
	struct env env;

	env_start(&env, &opts, 2);
	go(&env, "big", false);
	ask(&env, NBD_CMD_WRITE, 0, 1, 0, 32 * MIB);
	say(&env, "abc", 3);
	env_talk_to(&env, 1);
	go(&env, "big", false);
	ask(&env, NBD_CMD_READ, 0, 2, 0, 16 * MIB);
	take_read(&env, 2, 16 * MIB);
	env_talk_to(&env, 0);
	expect_end(&env);
	env_stop(&env);
}

/* Nobody waits, so it may stand still as long as it likes. */
static void test_who_is_alone_may_take_his_time(void **state)
{
	struct quire_nbd_options opts = {.size = sizeof(opts), .bytes = 32 * MIB, .stall_ms = 1};
	const struct timespec a_while = {.tv_nsec = 150000000};
	struct env env;

	env_start(&env, &opts, 1);
	go(&env, "big", false);
	ask(&env, NBD_CMD_READ, 0, 1, 0, 16 * MIB);
	nanosleep(&a_while, NULL);
	take_read(&env, 1, 16 * MIB);
	env_stop(&env);
}

/* Whatever comes for any of them, until all have got so much. */
static void take_all(struct env *env, uint64_t each_bytes)
{
	uint64_t left[CLIENTS_MOST];
	struct pollfd polls[CLIENTS_MOST];
	uint8_t *bytes = malloc(MIB);
	unsigned n_left = env->n_clients;

	for (unsigned i = 0; i < env->n_clients; i++) {
		left[i] = each_bytes;
		polls[i] = (struct pollfd){.fd = env->fds[i], .events = POLLIN};
	}
	while (n_left > 0) {
		assert_true(poll(polls, env->n_clients, 60000) > 0);
		for (unsigned i = 0; i < env->n_clients; i++) {
			if (polls[i].revents == 0)
				continue;
			ssize_t n = recv(polls[i].fd, bytes, MIB, 0);
			assert_true(n > 0 && (uint64_t)n <= left[i]);
			left[i] -= (uint64_t)n;
			if (left[i] == 0) {
				polls[i].fd = -1;
				n_left--;
			}
		}
	}
	free(bytes);
}

/* Several connections, each asking for as much as there is: all get it, one after the other. */
static void test_all_get_their_turn(void **state)
{
	struct quire_nbd_options opts = {.size = sizeof(opts), .bytes = 32 * MIB, .connection_bytes = 32 * MIB};
	struct env env;

	env_start(&env, &opts, 3);
	for (unsigned i = 0; i < 3; i++) {
		env_talk_to(&env, i);
		go(&env, "big", false);
		for (unsigned k = 0; k < 2; k++)
			ask(&env, NBD_CMD_READ, 0, k, 0, 18 * MIB);
	}
	take_all(&env, 2 * (NBD_SIMPLE_REPLY_BYTES + 18 * MIB));
	env_stop(&env);
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(strlen(path) < sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void *serve(void *nbd)
{
	return (void *)(intptr_t)quire_nbd_run(nbd);
}

static void test_more_connections_than_allowed_wait(void **state)
{
	struct quire_nbd_options opts = {.size = sizeof(opts), .connections = 1};
	char path[] = "/tmp/quire-nbd-XXXXXX", socket_path[64];
	struct quire_error err;
	struct env env = {0};

	assert_non_null(mkdtemp(path));
	snprintf(socket_path, sizeof(socket_path), "%s/socket", path);
	assert_int_equal(quire_nbd_create(&opts, &env.nbd, &err), 0);
	assert_int_equal(quire_nbd_add_memory(env.nbd, "disk", DISK_BYTES, &err), 0);
	assert_int_equal(quire_nbd_listen_unix(env.nbd, socket_path, &err), 0);
	assert_int_equal(pthread_create(&env.thread, NULL, serve, env.nbd), 0);
	env.fds[0] = connect_to(socket_path);
	env.fds[1] = connect_to(socket_path);
	env.n_clients = 2;
	env_talk_to(&env, 0);
	go(&env, "disk", false);
	struct pollfd second = {.fd = env.fds[1], .events = POLLIN};
	assert_int_equal(poll(&second, 1, 50), 0);
	hang_up(&env, 0);
	env_talk_to(&env, 1);
	go(&env, "", false);
	env_stop(&env);
	assert_int_equal(access(socket_path, F_OK), -1);
	assert_int_equal(rmdir(path), 0);
}

static void test_exports_come_and_go_meanwhile(void **state)
{
	const struct timespec a_moment = {.tv_nsec = 1000000};
	uint8_t text[8192];
	struct env env;

	env_start(&env, NULL, 2);
	go(&env, "disk", false);
	assert_int_equal(quire_nbd_remove(env.nbd, "disk"), -EBUSY);
	assert_int_equal(quire_nbd_remove(env.nbd, "fake"), 0);
	assert_int_equal(quire_nbd_remove(env.nbd, "fake"), -ENOENT);
	assert_int_equal(quire_nbd_add_memory(env.nbd, "disk", 4096, NULL), -EEXIST);
	assert_int_equal(quire_nbd_add_memory(env.nbd, "new", 4096, NULL), 0);
	env_talk_to(&env, 1);
	greet(&env, NBD_FIXED_NEWSTYLE);
	for (unsigned i = 0; i < 3; i++) {
		static const char *const names[] = {"disk", "big", "new"};
		say_option(&env, NBD_OPT_INFO, text, make_go(text, names[i], strlen(names[i]), 0, NULL));
		expect_reply(&env, NBD_OPT_INFO, NBD_REP_INFO, text);
		expect_ack(&env, NBD_OPT_INFO);
	}
	say_option(&env, NBD_OPT_GO, text, make_go(text, "fake", 4, 0, NULL));
	expect_reply(&env, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN, text);
	hang_up(&env, 0);
	int rc = -EBUSY;
	for (unsigned i = 0; rc == -EBUSY && i < 10000; i++) {
		nanosleep(&a_moment, NULL);
		rc = quire_nbd_remove(env.nbd, "disk");
	}
	assert_int_equal(rc, 0);
	env_stop(&env);
}

static void test_stop_ends_every_connection(void **state)
{
	struct env env;

	env_start(&env, NULL, 3);
	go(&env, "disk", false);
	env_talk_to(&env, 1);
	greet(&env, NBD_FIXED_NEWSTYLE);
	quire_nbd_stop(env.nbd);
	for (unsigned i = 0; i < 2; i++) {
		env_talk_to(&env, i);
		expect_end(&env);
	}
	env_stop(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_32_mib_at_once),
		cmocka_unit_test(test_who_takes_no_replies_holds_nobody),
		cmocka_unit_test(test_who_sends_no_payload_holds_nobody),
		cmocka_unit_test(test_who_is_alone_may_take_his_time),
		cmocka_unit_test(test_all_get_their_turn),
		cmocka_unit_test(test_more_connections_than_allowed_wait),
		cmocka_unit_test(test_exports_come_and_go_meanwhile),
		cmocka_unit_test(test_stop_ends_every_connection),
	};
	return cmocka_run_group_tests_name("nbd limits", tests, NULL, NULL);
}
