/* The service loop: for threads that have none, as long as somebody uses it. */
#include "on_both.h"
#include "loop/op.h"
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

static bool thread_exists(const char *name)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	bool found = false;
	while ((entry = readdir(dir)) != NULL) {
		char path[300], comm[32] = "";
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		FILE *f = fopen(path, "r");
		if (f == NULL)
			continue;
		if (fgets(comm, sizeof(comm), f) != NULL)
			comm[strcspn(comm, "\n")] = 0;
		fclose(f);
		found = found || strcmp(comm, name) == 0;
	}
	closedir(dir);
	return found;
}

/* A joined thread is still listed for a moment. */
static void expect_gone(const char *name)
{
	while (thread_exists(name))
		sched_yield();
}

struct mask_check {
	struct loop_task task;
	atomic_int done;
	bool blocked;
	struct quire_loop *self;
};

static void check_mask(struct loop_task *task)
{
	struct mask_check *check = (struct mask_check *)task;
	sigset_t mask;
	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	check->blocked = sigismember(&mask, SIGTERM) && sigismember(&mask, SIGUSR1) && sigismember(&mask, SIGALRM);
	check->self = quire_loop_self();
	atomic_store(&check->done, 1);
}

static void lives_from_first_get_to_last_put(void **state)
{
	struct quire_loop *first, *second;
	expect_gone("quire-service");
	assert_int_equal(service_get(&first, NULL), 0);
	assert_int_equal(service_get(&second, NULL), 0);
	assert_ptr_equal(first, second);
	struct mask_check check = {0};
	loop_task_init(&check.task, check_mask);
	loop_post(first, &check.task);
	while (!atomic_load(&check.done))
		sched_yield();
	assert_true(thread_exists("quire-service"));
	assert_true(check.blocked);
	assert_ptr_equal(check.self, first);
	service_put();
	assert_true(thread_exists("quire-service"));
	service_put();
	expect_gone("quire-service");
	service_put();
}

static void *get_and_put(void *arg)
{
	for (int i = 0; i < 20; i++) {
		struct quire_loop *loop;
		assert_int_equal(service_get(&loop, NULL), 0);
		struct mask_check check = {0};
		loop_task_init(&check.task, check_mask);
		loop_post(loop, &check.task);
		while (!atomic_load(&check.done))
			sched_yield();
		service_put();
	}
	return NULL;
}

static void many_threads_get_and_put(void **state)
{
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, get_and_put, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	expect_gone("quire-service");
}

/* The child forgets its parent's; starts one of its own if asked. */
static void a_child_forgets_it_and_may_start_its_own(void **state)
{
	skip_if_emulated();
	struct quire_loop *loop;
	assert_int_equal(service_get(&loop, NULL), 0);
	pid_t pid = fork();
	if (pid == 0) {
		service_put();
		if (SANITIZED_THREADS)
			_exit(0); /* which lets no forked child start threads */
		struct quire_op op;
		quire_op_init(&op);
		bool good = quire_sleep_ns(1000, &op) == 0 && quire_await(&op) == 0;
		_exit(good ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(thread_exists("quire-service"));
	service_put();
	expect_gone("quire-service");
}

/* Plain threads, one op after the other, all at once. */
static void *sleep_main(void *arg)
{
	for (int i = 0; i < 100; i++) {
		struct quire_op op;
		quire_op_init(&op);
		assert_int_equal(quire_sleep_ns((uint64_t)i * 1000, &op), 0);
		assert_int_equal(quire_await(&op), 0);
	}
	return NULL;
}

static void plain_threads_share_it(void **state)
{
	pthread_t threads[8];
	for (int i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, sleep_main, NULL);
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lives_from_first_get_to_last_put),
		cmocka_unit_test(many_threads_get_and_put),
		cmocka_unit_test(a_child_forgets_it_and_may_start_its_own),
		cmocka_unit_test(plain_threads_share_it),
	};
	return cmocka_run_group_tests_name("service", tests, NULL, NULL);
}
