/* door_test.c - who is let in, and how many; the socket; idleness; the end of a service. */
#include "serve_env.h"

#include "../../src/serve/address.h"
#include "../../src/serve/ring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct env e;

/* ---- who ---- */

/* What fn gives somebody else. */
static int as_user(uid_t uid, int (*fn)(struct quire_tmem_client *c))
{
	pid_t pid = fork();

	if (pid == 0) {
		struct quire_tmem_client *c = NULL;
		int rc = setresuid(uid, uid, uid) < 0 ? -errno : quire_tmem_connect(e.path, NULL, &c, NULL);
		if (rc == 0 && fn != NULL)
			rc = fn(c);
		quire_tmem_disconnect(c);
		_exit(-rc);
	}
	int status = -1;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

static int connect_as(uid_t uid)
{
	return as_user(uid, NULL);
}

static int ask_for_all(struct quire_tmem_client *c)
{
	struct quire_tmem_service_stat service;
	struct quire_tmem_stat tmem;

	return quire_tmem_remote_service_stat(c, &tmem, &service);
}

static void need_root(void)
{
	if (geteuid() == 0)
		return;
	print_message("only root can be somebody else\n");
	skip();
}

static void another_user_is_refused(void **state)
{
	need_root();
	env_start(&e, NULL);
	assert_int_equal(chmod(e.dir, 0755), 0);
	assert_int_equal(connect_as(12345), -EACCES);
	/* Nor is he let in where the mode of the socket doesn't keep him out. */
	assert_int_equal(chmod(e.path, 0666), 0);
	assert_int_equal(connect_as(12345), -EACCES);
	assert_int_equal(env_stat(&e).n_refused, 1);
	assert_int_equal(connect_as(0), 0);
	env_stop(&e);
}

static void users_on_the_list_are_let_in(void **state)
{
	const uint32_t uids[] = {12344, 12345};
	struct quire_tmem_service_options o = {.uids = uids, .n_uids = 2};

	need_root();
	env_start(&e, &o);
	assert_int_equal(chmod(e.dir, 0755), 0);
	assert_int_equal(connect_as(12345), 0);
	assert_int_equal(connect_as(12346), -EACCES);
	env_stop(&e);
}

static void what_all_hold_is_for_the_service_s_user(void **state)
{
	const uint32_t uids[] = {12345};
	struct quire_tmem_service_options o = {.uids = uids, .n_uids = 1};

	need_root();
	env_start(&e, &o);
	assert_int_equal(chmod(e.dir, 0755), 0);
	assert_int_equal(as_user(12345, ask_for_all), -EPERM);
	assert_int_equal(as_user(0, ask_for_all), 0);
	env_stop(&e);
}

/* ---- the socket ---- */

static void the_socket_is_its_user_s(void **state)
{
	struct stat st;

	env_start(&e, NULL);
	assert_int_equal(stat(e.path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0600);
	env_stop(&e);
}

static void a_place_that_is_taken_is_refused(void **state)
{
	struct quire_tmem_service *second = NULL;
	struct quire_error err;

	env_start(&e, NULL);
	assert_int_equal(quire_tmem_serve(e.tmem, e.path, NULL, &second, &err), -EADDRINUSE);
	/* A file is not replaced. */
	char path[200];
	snprintf(path, sizeof(path), "%s/file", e.dir);
	fclose(fopen(path, "w"));
	assert_int_equal(quire_tmem_serve(e.tmem, path, NULL, &second, &err), -EADDRINUSE);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(quire_tmem_serve(e.tmem, "/nowhere/at/all", NULL, &second, &err), -ENOENT);
	env_stop(&e);
}

static void a_dead_service_s_socket_is_replaced(void **state)
{
	struct sockaddr_un address;

	env_start(&e, NULL);
	quire_tmem_service_destroy(e.service);
	quire_tmem_destroy(e.tmem);
	int at = address_of(e.path, &address), fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	close(at);
	env_restart(&e, NULL);
	quire_tmem_disconnect(env_connect(&e, NULL));
	env_stop(&e);
}

static void a_long_path_will_do(void **state)
{
	struct quire_tmem_service *second = NULL;
	struct quire_tmem_client *c = NULL;
	char dir[300], path[400];

	env_start(&e, NULL);
	snprintf(dir, sizeof(dir), "%s/%0150d", e.dir, 0);
	snprintf(path, sizeof(path), "%s/s", dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(quire_tmem_serve(e.tmem, path, NULL, &second, NULL), 0);
	assert_int_equal(quire_tmem_connect(path, NULL, &c, NULL), 0);
	quire_tmem_disconnect(c);
	quire_tmem_service_destroy(second);
	assert_int_equal(rmdir(dir), 0);
	env_stop(&e);
}

static void options_are_looked_at(void **state)
{
	struct quire_tmem_service_options o = {.size = sizeof(o), .n_threads = 1000};
	struct quire_tmem_client_options co = {.size = sizeof(co), .n_slots = 3};
	struct quire_tmem_service *second = NULL;
	struct quire_tmem_client *c = NULL;

	env_start(&e, NULL);
	assert_int_equal(quire_tmem_serve(e.tmem, e.path, &o, &second, NULL), -EINVAL);
	assert_int_equal(quire_tmem_connect(e.path, &co, &c, NULL), -EINVAL);
	co = (struct quire_tmem_client_options){.size = sizeof(co), .slot_bytes = 5000};
	assert_int_equal(quire_tmem_connect(e.path, &co, &c, NULL), -EINVAL);
	assert_int_equal(quire_tmem_connect("/nowhere/at/all", NULL, &c, NULL), -ENOENT);
	env_stop(&e);
}

/* ---- how many ---- */

static void there_are_as_many_clients_as_may_be(void **state)
{
	struct quire_tmem_service_options o = {.n_clients = 3};
	struct quire_tmem_client *c[3], *more = NULL;

	env_start(&e, &o);
	for (unsigned i = 0; i < 3; i++)
		c[i] = env_connect(&e, NULL);
	assert_int_equal(quire_tmem_connect(e.path, NULL, &more, NULL), -EUSERS);
	quire_tmem_disconnect(c[1]);
	env_await_clients(&e, 2);
	c[1] = env_connect(&e, NULL);
	for (unsigned i = 0; i < 3; i++)
		quire_tmem_disconnect(c[i]);
	env_stop(&e);
}

static void one_process_can_t_take_all_places(void **state)
{
	struct quire_tmem_service_options o = {.n_clients = 8, .n_process_clients = 2};
	struct quire_tmem_client *c[2], *more = NULL;

	env_start(&e, &o);
	for (unsigned i = 0; i < 2; i++)
		c[i] = env_connect(&e, NULL);
	assert_int_equal(quire_tmem_connect(e.path, NULL, &more, NULL), -EUSERS);
	assert_int_equal(connect_as(geteuid()), 0);
	for (unsigned i = 0; i < 2; i++)
		quire_tmem_disconnect(c[i]);
	env_stop(&e);
}

static void a_ring_is_as_large_as_may_be(void **state)
{
	struct quire_tmem_service_options o = {.ring_bytes = 1 * MIB};
	struct quire_tmem_client_options co = {.size = sizeof(co), .n_slots = 4, .slot_bytes = 256 << 10};
	struct quire_tmem_client *c = NULL;

	env_start(&e, &o);
	assert_int_equal(quire_tmem_connect(e.path, &co, &c, NULL), -ENOSPC);
	co.n_slots = 2;
	quire_tmem_disconnect(env_connect(&e, &co));
	env_stop(&e);
}

/* ---- who speaks another language, or none ---- */

static int dial(void)
{
	struct sockaddr_un address;
	int at = address_of(e.path, &address), fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(at);
	return fd;
}

static int32_t answer_to(const void *hello, size_t n_bytes)
{
	struct ring_welcome w = {0};
	int fd = dial();

	assert_int_equal(send(fd, hello, n_bytes, 0), n_bytes);
	assert_int_equal(recv(fd, &w, sizeof(w), 0), sizeof(w));
	close(fd);
	return w.result;
}

static void nonsense_is_refused(void **state)
{
	struct ring_hello h = {RING_MAGIC, RING_VERSION + 1, 8, 1 << 17};
	static const char noise[5000] = "GET / HTTP/1.0\r\n\r\n";

	env_start(&e, NULL);
	assert_int_equal(answer_to(noise, 1), -EPROTO);
	assert_int_equal(answer_to(noise, sizeof(h)), -EPROTO);
	assert_int_equal(answer_to(noise, sizeof(noise)), -EPROTO);
	assert_int_equal(answer_to(&h, sizeof(h)), -EPROTO);
	h = (struct ring_hello){RING_MAGIC, RING_VERSION, 0, 1 << 17};
	assert_int_equal(answer_to(&h, sizeof(h)), -EINVAL);
	h = (struct ring_hello){RING_MAGIC, RING_VERSION, 32, UINT32_MAX};
	assert_int_equal(answer_to(&h, sizeof(h)), -EINVAL);
	assert_int_equal(env_stat(&e).n_connected, 0);
	env_stop(&e);
}

static void the_silent_keep_nobody_out(void **state)
{
	int silent[40];

	env_start(&e, NULL);
	for (unsigned i = 0; i < 40; i++)
		silent[i] = dial();
	quire_tmem_disconnect(env_connect(&e, NULL));
	for (unsigned i = 0; i < 40; i++)
		close(silent[i]);
	env_stop(&e);
}

/* ---- idleness ---- */

static uint64_t cpu_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void who_has_nothing_to_do_sleeps(void **state)
{
	env_start(&e, NULL);
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_PERSISTENT);

	assert_int_equal(env_put(pool, 1, 11), 0);
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	uint64_t n_sleeps = env_stat(&e).n_sleeps, before = cpu_us();
	nanosleep(&(struct timespec){.tv_nsec = 150000000}, NULL);
	uint64_t used = cpu_us() - before;
	print_message("%llu us of CPU in 150 ms\n", (unsigned long long)used);
	assert_int_equal(env_stat(&e).n_sleeps, n_sleeps);
	assert_true(used < 15000);
	/* And wakes. */
	assert_int_equal(env_get(pool, 1, 11), 1);
	quire_tmem_disconnect(c);
	env_stop(&e);
}

/* ---- the end ---- */

static void a_stopped_service_has_its_pools_still(void **state)
{
	struct quire_tmem_stat stat;

	env_start(&e, NULL);
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_PERSISTENT);

	assert_int_equal(env_put(pool, 1, 11), 0);
	quire_tmem_service_stop(e.service);
	assert_int_equal(env_get(pool, 1, 11), -EPIPE);
	quire_tmem_stat(e.tmem, &stat);
	assert_int_equal(stat.n_pages, 1);
	quire_tmem_remote_destroy(pool);
	quire_tmem_disconnect(c);
	env_stop(&e);
}

static void a_forked_child_is_told(void **state)
{
	env_start(&e, NULL);
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_PERSISTENT);
	pid_t pid = fork();

	if (pid == 0) {
		int rc = env_put(pool, 1, 11);
		quire_tmem_remote_destroy(pool);
		quire_tmem_disconnect(c);
		_exit(-rc);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), ECHILD);
	assert_int_equal(env_put(pool, 1, 11), 0);
	quire_tmem_disconnect(c);
	env_stop(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(another_user_is_refused),
		cmocka_unit_test(users_on_the_list_are_let_in),
		cmocka_unit_test(what_all_hold_is_for_the_service_s_user),
		cmocka_unit_test(the_socket_is_its_user_s),
		cmocka_unit_test(a_place_that_is_taken_is_refused),
		cmocka_unit_test(a_dead_service_s_socket_is_replaced),
		cmocka_unit_test(a_long_path_will_do),
		cmocka_unit_test(options_are_looked_at),
		cmocka_unit_test(there_are_as_many_clients_as_may_be),
		cmocka_unit_test(one_process_can_t_take_all_places),
		cmocka_unit_test(a_ring_is_as_large_as_may_be),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(the_silent_keep_nobody_out),
		cmocka_unit_test(who_has_nothing_to_do_sleeps),
		cmocka_unit_test(a_stopped_service_has_its_pools_still),
		cmocka_unit_test(a_forked_child_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
