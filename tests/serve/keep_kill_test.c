/* keep_kill_test.c - services that keep pools are killed, and clients that save: what was saved is there. */
#include "keep_env.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define N_PAGES 200u

/* ---- a service in a process of its own, which is killed ---- */

static pid_t start_service(void)
{
	int ready[2];
	char byte;

	assert_int_equal(pipe(ready), 0);
	pid_t pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		keep_up(0);
		byte = (char)keep_n_told;
		(void)!write(ready[1], &byte, 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(byte, 0);
	close(ready[0]);
	return pid;
}

static void kill_service(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void what_was_saved_is_there_after_a_kill(void **state)
{
	keep_make();
	pid_t service = start_service();
	struct quire_tmem_client *c = env_connect(&keep_env, NULL);
	struct quire_tmem_remote *pool = keep_make_pool(c, QUIRE_TMEM_PERSISTENT, 9);

	for (uint32_t i = 0; i < N_PAGES; i++)
		assert_int_equal(env_put(pool, i, i % 150), 0);
	assert_int_equal(quire_tmem_remote_save(pool), 0);
	for (uint32_t i = 0; i < N_PAGES; i += 4)
		assert_int_equal(env_put(pool, i, 1000 + i), 0);
	for (uint32_t i = 1; i < N_PAGES; i += 4)
		assert_int_equal(quire_tmem_remote_flush(pool, &(struct quire_tmem_key){.object = {1, 2, 3}, .index = i}), 1);
	assert_int_equal(env_put(pool, N_PAGES, 1), 0);
	kill_service(service);
	quire_tmem_disconnect(c);

	service = start_service();
	c = env_connect(&keep_env, NULL);
	pool = keep_open_pool(c, 9);
	for (uint32_t i = 0; i < N_PAGES; i++)
		assert_int_equal(env_get(pool, i, i % 150), 1);
	assert_int_equal(env_get(pool, N_PAGES, 1), -ENOENT);
	kill_service(service);
	quire_tmem_disconnect(c);
	keep_unmake();
}

/* What pages are there, of 0 to 15: which version; 0: none. */
struct versions {
	uint32_t of[16];
};

static pid_t kill_later(pid_t service, uint64_t us)
{
	pid_t pid = fork();

	if (pid == 0) {
		nanosleep(&(struct timespec){.tv_nsec = (long)us * 1000}, NULL);
		kill(service, SIGKILL);
		_exit(0);
	}
	return pid;
}

static bool holds(struct quire_tmem_remote *pool, const struct versions *v)
{
	for (uint32_t i = 0; i < 16; i++)
		if (env_get(pool, i, v->of[i]) != (v->of[i] == 0 ? -ENOENT : 1))
			return false;
	return true;
}

/* Puts, and saves now and then, until the service is gone. */
static void work(struct quire_tmem_remote *pool, uint64_t *random, struct versions *now, struct versions *saved, struct versions *saving)
{
	for (;;) {
		uint32_t i = (uint32_t)random_below(random, 16);
		if (env_put(pool, i, now->of[i] + 1) < 0)
			return;
		now->of[i]++;
		if (random_below(random, 10) > 0)
			continue;
		*saving = *now;
		if (quire_tmem_remote_save(pool) < 0)
			return;
		*saved = *saving;
	}
}

/* It is what was saved last, or what was being saved; and as a whole. */
static void a_kill_at_any_moment_leaves_one_moment_s_pages(void **state)
{
	uint64_t random = env_seed();
	struct versions now = {0}, saved = {0}, saving = {0};

	keep_make();
	for (unsigned round = 0; round < (env_is_quick() ? 6u : 500u); round++) {
		pid_t service = start_service();
		struct quire_tmem_client *c = env_connect(&keep_env, NULL);
		struct quire_tmem_remote *pool = round == 0 ? keep_make_pool(c, QUIRE_TMEM_PERSISTENT, 9) : keep_open_pool(c, 9);
		if (round == 0)
			assert_int_equal(quire_tmem_remote_save(pool), 0);
		else if (!holds(pool, &saved)) {
			assert_true(holds(pool, &saving));
			saved = saving;
		}
		now = saving = saved;
		pid_t killer = kill_later(service, random_below(&random, 12000));
		work(pool, &random, &now, &saved, &saving);
		assert_int_equal(waitpid(killer, NULL, 0), killer);
		kill_service(service);
		quire_tmem_disconnect(c);
	}
	keep_unmake();
}

/* ---- clients ---- */

static void clients_die_while_they_save(void **state)
{
	uint64_t random = env_seed();

	keep_make();
	keep_up(0);
	struct quire_tmem_client *c = env_connect(&keep_env, NULL);
	struct quire_tmem_remote *pool = keep_make_pool(c, QUIRE_TMEM_PERSISTENT, 1);
	for (uint32_t i = 0; i < 50; i++)
		assert_int_equal(env_put(pool, i, i), 0);
	for (unsigned round = 0; round < (env_is_quick() ? 6u : 1000u); round++) {
		pid_t pid = fork();
		if (pid == 0) {
			struct quire_tmem_client *child;
			struct quire_tmem_remote *mine;
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (quire_tmem_connect(keep_env.path, NULL, &child, NULL) < 0 ||
			    quire_tmem_remote_open(child, (const uint8_t[16]){1}, &mine) < 0)
				_exit(1);
			for (;;)
				if (quire_tmem_remote_save(mine) < 0 || quire_tmem_remote_forget(mine) < 0)
					_exit(2);
		}
		uint64_t end = env_now_ms() + 1 + random_below(&random, 10);
		for (uint32_t i = 0; env_now_ms() < end; i++)
			assert_int_equal(env_get(pool, i % 50, i % 50), 1);
		kill(pid, SIGKILL);
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		env_await_clients(&keep_env, 1);
	}
	assert_int_equal(quire_tmem_remote_save(pool), 0);
	keep_down();
	quire_tmem_disconnect(c);
	keep_up(0);
	c = env_connect(&keep_env, NULL);
	pool = keep_open_pool(c, 1);
	for (uint32_t i = 0; i < 50; i++)
		assert_int_equal(env_get(pool, i, i), 1);
	quire_tmem_disconnect(c);
	keep_down();
	keep_unmake();
}

int main(void)
{
	/* Those that fork services first: from a process that has had no threads. */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_saved_is_there_after_a_kill),
		cmocka_unit_test(a_kill_at_any_moment_leaves_one_moment_s_pages),
		cmocka_unit_test(clients_die_while_they_save),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
