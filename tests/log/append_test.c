/* append_test.c - appends to logs in a real store, in a class of files and in one that is mapped: from threads, coroutines and
 * callbacks, one by one and many at once; and what a forked child may not. */
#include "../blob/blob_env.h"

#include <quire/log.h>

#include <pthread.h>
#include <sys/wait.h>

#define SEGMENT 65536u
#define N_THREADS 6u
#define N_EACH 300u

static struct quire_log *log_;

/* False: the test was skipped. */
static bool open_in(enum quire_class cls)
{
	struct quire_log_options o = {.size = sizeof(o), .cls = cls, .segment_bytes = SEGMENT};
	struct quire_class_options mapped = {.size = sizeof(mapped), .bytes = 64 * MIB, .durable = QUIRE_DURABLE_PROCESS};

	if (cls == QUIRE_CLASS_PMEM) {
		int rc = quire_store_class_add_with(store, cls, &mapped, &err);
		if (rc == -ENOTSUP) {
			print_message("%s\n", err.text);
			return false;
		}
		assert_int_equal(rc, 0);
	}
	assert_int_equal(quire_log_create(store, "log", &o, &err), 0);
	assert_int_equal(quire_log_open(store, "log", NULL, &log_, &err), 0);
	return true;
}

/* All records are there, also when it is opened again. */
static void check_all(uint64_t n)
{
	struct quire_log_cursor *c;
	struct quire_log_record r;
	uint64_t n_read = 0;

	assert_int_equal(quire_log_close(log_), 0);
	assert_int_equal(quire_log_open(store, "log", NULL, &log_, &err), 0);
	assert_int_equal(quire_log_cursor_open(log_, QUIRE_LOG_DURABLE, &c), 0);
	while (quire_log_next(c, &r, NULL) == 1) {
		const unsigned char *p = r.data;
		for (size_t i = 1; i < r.len_bytes; i++)
			assert_int_equal(p[i], p[0]);
		n_read++;
	}
	assert_int_equal(n_read, n);
	quire_log_cursor_close(c);
	assert_int_equal(quire_log_close(log_), 0);
	assert_int_equal(check(), 0);
}

/* ---- threads, each of which writes if nobody else does ---- */

static void *append_durably(void *tag)
{
	char buf[3000];
	uint64_t lsn;

	memset(buf, (int)(uintptr_t)tag, sizeof(buf));
	for (unsigned i = 0; i < N_EACH; i++) {
		struct iovec iov[2] = {{buf, i % 100}, {buf, i % 50 == 49 ? sizeof(buf) : i}};
		if (quire_log_append(log_, iov, 2, &lsn, NULL) != 0 || quire_log_durable(log_) <= lsn)
			return (void *)1;
	}
	return NULL;
}

static void *follow(void *arg)
{
	(void)arg;
	for (uint64_t lsn = 0; lsn < N_THREADS * N_EACH; lsn = quire_log_durable(log_))
		if (quire_log_wait(log_, QUIRE_LOG_DURABLE, lsn, NULL) != 0 || quire_log_durable(log_) <= lsn)
			return (void *)1;
	return NULL;
}

static void threads_in(enum quire_class cls)
{
	pthread_t threads[N_THREADS + 2];
	void *wrong;

	if (!open_in(cls))
		skip();
	for (uintptr_t i = 0; i < N_THREADS + 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, i < 2 ? follow : append_durably, (void *)i), 0);
	for (unsigned i = 0; i < N_THREADS + 2; i++) {
		assert_int_equal(pthread_join(threads[i], &wrong), 0);
		assert_null(wrong);
	}
	check_all(N_THREADS * N_EACH);
}

static void test_threads_on_files(void **state)
{
	(void)state;
	threads_in(QUIRE_CLASS_CAPACITY);
}

static void test_threads_on_a_mapping(void **state)
{
	(void)state;
	threads_in(QUIRE_CLASS_PMEM);
}

/* ---- a loop ---- */

static void append_in_coroutine(void *tag)
{
	assert_null(append_durably(tag));
}

static void coroutines_in(enum quire_class cls)
{
	struct quire_loop *loop;

	if (!open_in(cls))
		skip();
	assert_int_equal(quire_loop_create(NULL, &loop, NULL), 0);
	for (uintptr_t i = 0; i < 3; i++)
		assert_int_equal(quire_co_spawn(loop, append_in_coroutine, (void *)i), 0);
	assert_int_equal(quire_loop_run(loop), 0);
	assert_int_equal(quire_loop_destroy(loop), 0);
	check_all(3 * N_EACH);
}

static void test_coroutines_on_files(void **state)
{
	(void)state;
	coroutines_in(QUIRE_CLASS_CAPACITY);
}

static void test_coroutines_on_a_mapping(void **state)
{
	(void)state;
	coroutines_in(QUIRE_CLASS_PMEM);
}

/* ---- many at once ---- */

static void test_many_at_once(void **state)
{
	static char bytes[20][5000];
	struct iovec records[20];
	uint64_t first = 99, last = 99;

	(void)state;
	open_in(QUIRE_CLASS_CAPACITY);
	for (unsigned i = 0; i < 20; i++) {
		memset(bytes[i], (int)i, sizeof(bytes[i]));
		records[i] = (struct iovec){bytes[i], i % 7 == 6 ? 5000 : 10 * i};
	}
	for (unsigned i = 0; i < 30; i++) {
		assert_int_equal(quire_log_append_many(log_, records, 20, &first, &last), 20);
		assert_true(first == 20 * i && last == 20 * i + 19);
	}
	assert_int_equal(quire_log_append_many(log_, records, 0, &first, NULL), 0);
	assert_int_equal(first, 580);
	records[3].iov_len = quire_log_max_record(log_) + 1;
	assert_int_equal(quire_log_append_many(log_, records, 20, NULL, &last), 3);
	assert_int_equal(last, 602);
	assert_int_equal(quire_log_append_many(log_, records + 3, 1, NULL, &last), -EMSGSIZE);
	check_all(603);
}

/* ---- a child ---- */

static int try_in_child(void)
{
	struct iovec iov = {(void *)(uintptr_t)"child", 5};
	uint64_t lsn;

	if (quire_log_append(log_, &iov, 1, &lsn, NULL) != -ECHILD)
		return 1;
	if (quire_log_append_many(log_, &iov, 1, &lsn, &lsn) != -ECHILD)
		return 2;
	if (quire_log_sync(log_, 0, NULL) != -ECHILD)
		return 3;
	return quire_log_wait(log_, QUIRE_LOG_DURABLE, 0, NULL) == -ECHILD ? 0 : 4;
}

/* With something appended that a sync would write. */
static void test_a_child_writes_nothing(void **state)
{
	uint64_t lsn;
	int status;

	(void)state;
	if (!open_in(QUIRE_CLASS_PMEM))
		skip();
	assert_int_equal(quire_log_append_nowait(log_, &(struct iovec){(void *)(uintptr_t)"aa", 2}, 1, &lsn), 0);
	pid_t pid = fork();
	if (pid == 0)
		_exit(try_in_child());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(quire_log_durable(log_), 0);
	check_all(1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_STORE(test_threads_on_files),
		WITH_STORE(test_threads_on_a_mapping),
		WITH_STORE(test_coroutines_on_files),
		WITH_STORE(test_coroutines_on_a_mapping),
		WITH_STORE(test_many_at_once),
		WITH_STORE(test_a_child_writes_nothing),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
