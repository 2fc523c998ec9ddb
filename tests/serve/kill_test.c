/* kill_test.c - processes that end at any instruction: clients, and services. */
#include "serve_env.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct env e;

static void pause_us(uint64_t us)
{
	nanosleep(&(struct timespec){.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000}, NULL);
}

/* A child that runs fn until it is killed; it dies with this process, too. */
static pid_t start_child(void (*fn)(uint64_t seed, int ready), uint64_t seed, int ready)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		fn(seed, ready);
		_exit(0);
	}
	return pid;
}

static void reap(pid_t pid)
{
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* It runs no more when this returns. */
static void stop(pid_t pid)
{
	int status;

	kill(pid, SIGSTOP);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
}

/* ---- clients ---- */

/* All calls, for ever. */
static void work(uint64_t seed, int ready)
{
	enum { N = 40 };
	struct quire_tmem_client *c;
	static uint8_t pages[N][PAGE];
	struct quire_tmem_remote_request r[N];
	struct quire_tmem_pool_options shared = {
		.size = sizeof(shared), .kind = QUIRE_TMEM_EPHEMERAL, .flags = QUIRE_TMEM_SHARED, .uuid = {7}};
	struct quire_tmem_remote *pools[2];

	if (quire_tmem_connect(e.path, NULL, &c, NULL) < 0)
		_exit(1);
	for (;;) {
		struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = (enum quire_tmem_kind)(1 + random_below(&seed, 2))};
		if (quire_tmem_remote_create(c, &o, &pools[0], NULL) < 0 || quire_tmem_remote_open(c, shared.uuid, &pools[1]) < 0)
			_exit(1);
		for (unsigned turn = 0; turn < 20; turn++) {
			unsigned n = 1 + (unsigned)random_below(&seed, N);
			for (unsigned i = 0; i < n; i++)
				r[i] = (struct quire_tmem_remote_request){
					.pool = pools[random_below(&seed, 2)], .key = env_key(1 + random_below(&seed, 3), (uint32_t)random_below(&seed, 99)),
					.verb = (enum quire_tmem_verb)(1 + random_below(&seed, 4)), .page = pages[i]};
			(void)quire_tmem_remote_batch(c, r, n);
		}
		quire_tmem_remote_destroy(pools[0]);
		quire_tmem_remote_destroy(pools[1]);
	}
}

static void clients_are_killed_at_any_moment(void **state)
{
	uint64_t random = env_seed();
	struct quire_tmem_pool_options shared = {
		.size = sizeof(shared), .kind = QUIRE_TMEM_EPHEMERAL, .flags = QUIRE_TMEM_SHARED, .uuid = {7}};
	struct quire_tmem_remote *common;

	env_start(&e, NULL);
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_PERSISTENT);
	assert_int_equal(quire_tmem_remote_create(c, &shared, &common, NULL), 0);
	for (uint32_t i = 0; i < 50; i++)
		assert_int_equal(env_put(pool, i, i), 0);
	for (unsigned round = 0; round < (env_is_quick() ? 25u : 2000u); round++) {
		pid_t pid = start_child(work, random_below(&random, UINT64_MAX), -1);
		uint64_t end = env_now_ms() + 1 + random_below(&random, 12);
		/* The others are served meanwhile. */
		for (uint32_t i = 0; env_now_ms() < end; i++)
			assert_int_equal(env_get(pool, i % 50, i % 50), 1);
		pause_us(random_below(&random, 1000));
		kill(pid, SIGKILL);
		reap(pid);
		env_await_clients(&e, 1);
	}
	/* Of theirs nothing is left but what they put into the shared pool. */
	quire_tmem_remote_destroy(common);
	env_await_pages(&e, 50);
	quire_tmem_disconnect(c);
	env_stop(&e);
}

/* Puts a page, has a child that keeps the socket, and waits. */
static void leave_a_child(uint64_t seed, int ready)
{
	struct quire_tmem_client *c;
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT};
	struct quire_tmem_remote *pool;

	if (quire_tmem_connect(e.path, NULL, &c, NULL) < 0 || quire_tmem_remote_create(c, &o, &pool, NULL) < 0 ||
	    env_put(pool, 1, 1) < 0)
		_exit(1);
	pid_t pid = fork();
	if (pid == 0) {
		pause_us(30000000);
		_exit(0);
	}
	(void)!write(ready, &pid, sizeof(pid));
	for (;;)
		pause();
}

static void pools_go_with_their_process_whoever_keeps_the_socket(void **state)
{
	int ready[2];
	pid_t grandchild;

	env_start(&e, NULL);
	assert_int_equal(pipe(ready), 0);
	pid_t pid = start_child(leave_a_child, 0, ready[1]);
	assert_int_equal(read(ready[0], &grandchild, sizeof(grandchild)), sizeof(grandchild));
	env_await_pages(&e, 1);
	kill(pid, SIGKILL);
	reap(pid);
	env_await_clients(&e, 0);
	env_await_pages(&e, 0);
	kill(grandchild, SIGKILL);
	close(ready[0]);
	close(ready[1]);
	env_stop(&e);
}

static void a_stopped_client_holds_nobody_up(void **state)
{
	env_start(&e, NULL);
	struct quire_tmem_pool_options shared = {
		.size = sizeof(shared), .kind = QUIRE_TMEM_EPHEMERAL, .flags = QUIRE_TMEM_SHARED, .uuid = {7}};
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_PERSISTENT), *common;
	assert_int_equal(quire_tmem_remote_create(c, &shared, &common, NULL), 0);
	assert_int_equal(env_put(pool, 1, 1), 0);
	pid_t pids[4];
	for (unsigned i = 0; i < 4; i++) {
		pids[i] = start_child(work, i, -1);
		pause_us(3000 + 777 * i);
		stop(pids[i]);
	}
	for (uint32_t i = 0; i < 500; i++)
		assert_int_equal(env_get(pool, 1, 1), 1);
	for (unsigned i = 0; i < 4; i++) {
		kill(pids[i], SIGKILL);
		reap(pids[i]);
	}
	quire_tmem_disconnect(c);
	env_stop(&e);
}

/* ---- services ---- */

static void serve(uint64_t seed, int ready)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = 64 * MIB, .n_threads = 1};
	struct quire_tmem_service *service;
	struct quire_tmem *tmem;

	if (quire_tmem_create(&o, &tmem, NULL) < 0 || quire_tmem_serve(tmem, e.path, NULL, &service, NULL) < 0)
		_exit(1);
	(void)!write(ready, "", 1);
	for (;;)
		pause();
}

static pid_t start_service(void)
{
	int ready[2];
	char byte;

	assert_int_equal(pipe(ready), 0);
	pid_t pid = start_child(serve, 0, ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void make_dir(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(e.dir, sizeof(e.dir), "%s/quire-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(e.dir));
	snprintf(e.path, sizeof(e.path), "%s/tmem", e.dir);
}

static void remove_dir(void)
{
	assert_int_equal(unlink(e.path), 0);
	assert_int_equal(rmdir(e.dir), 0);
}

/* A child that kills the service some time from now. */
static pid_t kill_later(pid_t service, uint64_t us)
{
	pid_t pid = fork();

	if (pid == 0) {
		pause_us(us);
		kill(service, SIGKILL);
		_exit(0);
	}
	return pid;
}

static void a_killed_service_is_told_at_once(void **state)
{
	uint64_t random = env_seed(), longest = 0;

	make_dir();
	for (unsigned round = 0; round < (env_is_quick() ? 12u : 500u); round++) {
		pid_t service = start_service(), killer = kill_later(service, random_below(&random, 8000));
		struct quire_tmem_client *c = NULL;
		struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT};
		struct quire_tmem_remote *pool = NULL;
		int rc = quire_tmem_connect(e.path, NULL, &c, NULL);
		if (rc == 0)
			rc = quire_tmem_remote_create(c, &o, &pool, NULL);
		for (uint32_t i = 0; rc == 0; i++) {
			uint64_t begin = env_now_ms();
			rc = env_put(pool, i, i);
			uint64_t took = env_now_ms() - begin;
			longest = took > longest ? took : longest;
			rc = rc == -ENOSPC ? 0 : rc;
		}
		assert_true(rc == -EPIPE || rc == -ECONNRESET || rc == -ECONNREFUSED || rc == -EPROTO);
		if (pool != NULL) {
			assert_int_equal(rc, -EPIPE);
			assert_int_equal(env_get(pool, 1, 1), -EPIPE);
		}
		quire_tmem_remote_destroy(pool);
		quire_tmem_disconnect(c);
		reap(service);
		reap(killer);
	}
	print_message("a call took %llu ms at most\n", (unsigned long long)longest);
	assert_true(longest < 2000);
	remove_dir();
}

static void who_waits_for_a_stopped_service_is_told_when_it_is_killed(void **state)
{
	make_dir();
	pid_t service = start_service();
	struct quire_tmem_client *c = env_connect(&e, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_PERSISTENT);

	assert_int_equal(env_put(pool, 1, 1), 0);
	stop(service);
	pid_t killer = kill_later(service, 20000);
	assert_int_equal(env_get(pool, 1, 1), -EPIPE);
	reap(service);
	reap(killer);
	quire_tmem_disconnect(c);
	remove_dir();
}

static void clients_come_back_to_a_new_service(void **state)
{
	make_dir();
	for (unsigned i = 0; i < 3; i++) {
		pid_t service = start_service();
		struct quire_tmem_client *c = env_connect(&e, NULL);
		struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_EPHEMERAL);
		assert_int_equal(env_get(pool, 1, 1), -ENOENT);
		assert_int_equal(env_put(pool, 1, 1), 0);
		kill(service, SIGKILL);
		reap(service);
		assert_int_equal(env_get(pool, 1, 1), -EPIPE);
		quire_tmem_disconnect(c);
	}
	remove_dir();
}

int main(void)
{
	/* Services first: they are forked from a process that has had no threads. */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_killed_service_is_told_at_once),
		cmocka_unit_test(who_waits_for_a_stopped_service_is_told_when_it_is_killed),
		cmocka_unit_test(clients_come_back_to_a_new_service),
		cmocka_unit_test(pools_go_with_their_process_whoever_keeps_the_socket),
		cmocka_unit_test(a_stopped_client_holds_nobody_up),
		cmocka_unit_test(clients_are_killed_at_any_moment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
