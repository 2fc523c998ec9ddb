/* Ranges of any mapping populated, and files synced, through operations. */
#include "async_env.h"
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* ---- what it is for ---- */

static void cold_body(void *n_done)
{
	char *p = map_cold("cold", 600);
	assert_int_equal(quire_populate(p + 5, pages(600) - 5, 0, NULL), 0);
	assert_bytes(p, 7, 0, pages(600));
	munmap(p, pages(600));
	++*(int *)n_done;
}

static void a_cold_range_is_read(void **state)
{
	in_coroutine(state, NULL, cold_body);
}

static void one_page_body(void *n_done)
{
	char *p = map_cold("one", 256);
	if (!in_page_cache(p + pages(100))) {
		assert_int_equal(quire_populate(p + pages(100) + 1, 1, 0, NULL), 0);
		for (size_t i = 0; i < 256; i++)
			assert_int_equal(in_page_cache(p + pages(i)), i == 100);
	} else {
		print_message("this file system has no cold files\n");
	}
	munmap(p, pages(256));
	++*(int *)n_done;
}

/* A mapping without advice would be read around. */
static void nothing_but_the_range_is_read(void **state)
{
	in_coroutine(state, NULL, one_page_body);
}

static void what_is_resident_completes_at_once(void **state)
{
	const size_t n_pages[] = {1, 2, 17, 400};
	char *p = map_cold("resident", 400);
	assert_int_equal(quire_populate(p, pages(400), 0, NULL), 0);
	for (size_t i = 0; i < 4; i++) {
		struct quire_op op;
		quire_op_init(&op);
		assert_int_equal(quire_populate(p, pages(n_pages[i]), 0, &op), 0);
		assert_true(quire_op_done(&op) || RUNNING_ON_VALGRIND);
		assert_int_equal(quire_await(&op), 0);
	}
	munmap(p, pages(400));
}

static void private_memory_and_nothing(void **state)
{
	char *p = map_empty(8, PROT_READ | PROT_WRITE);
	assert_int_equal(quire_populate(p, pages(8), 0, NULL), 0);
	assert_int_equal(quire_populate(p, pages(8), 0, NULL), 0); /* zero pages */
	p[0] = 1;
	assert_int_equal(quire_populate(p, pages(1), 0, NULL), 0);
	munmap(p, pages(8));
	assert_int_equal(quire_populate(p, 0, 0, NULL), 0);
	assert_int_equal(quire_populate(NULL, 0, 0, NULL), 0);
}

/* ---- errors ---- */

static void bad_body(void *n_done)
{
	struct bad_range bad[N_BAD_RANGES];
	bad_ranges(bad);
	for (int i = 0; i < N_BAD_RANGES; i++) {
		int rc = quire_populate(bad[i].addr, bad[i].len, 0, NULL);
		if (rc != bad[i].error)
			fail_msg("%s: %d instead of %d", bad[i].what, rc, bad[i].error);
	}
	assert_int_equal(quire_populate(bad[0].addr, 1, 2, NULL), -EINVAL);
	++*(int *)n_done;
}

static void bad_ranges_are_errors(void **state)
{
	in_coroutine(state, NULL, bad_body);
}

static void on_callback(struct quire_op *op, void *arg)
{
	*(int *)arg = quire_populate(NULL, 1, 0, NULL) == -EDEADLK && quire_fdatasync(0, NULL) == -EDEADLK;
}

static void a_callback_may_not_wait(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct quire_op op;
	int good = 0;
	quire_op_init_callback(&op, loop, on_callback, &good);
	assert_int_equal(quire_sleep_ns(1, &op), 0);
	run(loop);
	assert_true(good);
	destroy(loop);
}

static void busy_body(void *n_done)
{
	struct quire_op op;
	char *p = map_empty(4, PROT_READ);
	quire_op_init(&op);
	assert_int_equal(quire_populate(p, pages(4), 0, &op), 0);
	assert_int_equal(quire_populate(p, pages(4), 0, &op), -EBUSY);
	assert_int_equal(quire_fdatasync(0, &op), -EBUSY);
	assert_int_equal(quire_await(&op), 0);
	munmap(p, pages(4));
	++*(int *)n_done;
}

static void an_op_under_way_is_busy(void **state)
{
	in_coroutine(state, NULL, busy_body);
}

/* What is started in a turn reaches the kernel at its end. The hole is one page, for which nothing else
 * is mapped meanwhile. */
static void unmap_body(void *n_done)
{
	struct quire_op first, second;
	char *p = map_cold("unmapped", 3), *large = map_cold("large", 2048);
	quire_op_init(&first);
	quire_op_init(&second);
	assert_int_equal(quire_populate(p, pages(3), 0, &first), 0);
	assert_int_equal(munmap(p + pages(1), pages(1)), 0);
	assert_int_equal(quire_populate(large, pages(2048), 0, &second), 0);
	assert_int_equal(quire_co_yield(), 0);
	assert_int_equal(munmap(large, pages(2048)), 0);
	assert_int_equal(quire_await(&first), -ENOMEM);
	int64_t result = quire_await(&second);
	assert_true(result == 0 || result == -ENOMEM);
	++*(int *)n_done;
}

static void unmapped_under_way(void **state)
{
	in_coroutine(state, NULL, unmap_body);
}

/* ---- locking ---- */

static long locked_kib(void)
{
	char line[128];
	long kib = -1;
	FILE *f = fopen("/proc/self/status", "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL)
		sscanf(line, "VmLck: %ld", &kib);
	fclose(f);
	return kib;
}

/* Sanitizers make munlock(2) do nothing. */
static int unlock(void *p, size_t len)
{
	return (int)syscall(SYS_munlock, p, len);
}

static void lock_body(void *n_done)
{
	char *p = map_cold("locked", 300);
	long before = locked_kib();
	int rc = quire_populate(p, pages(300), QUIRE_POPULATE_LOCK, NULL);
	if (rc == -ENOMEM || rc == -EPERM) {
		print_message("this process may not lock that much\n");
	} else {
		assert_int_equal(rc, 0);
		assert_int_equal(locked_kib() - before, (long)(pages(300) / 1024));
		assert_int_equal(unlock(p, pages(300)), 0);
		assert_int_equal(locked_kib(), before);
	}
	munmap(p, pages(300));
	++*(int *)n_done;
}

static void locked_on_request(void **state)
{
	in_coroutine(state, NULL, lock_body);
}

/* Takes the right to lock without limit from this thread alone, where the loop runs that locks. */
static void limit_body(void *n_done)
{
	struct rlimit old, tight;
	char *p = map_empty(8, PROT_READ);
	bool root = geteuid() == 0;
	assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &old), 0);
	tight = old;
	if (root)
		assert_int_equal(syscall(SYS_setresuid, -1, 65534, -1), 0);
	tight.rlim_cur = pages(2);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &tight), 0);
	assert_int_equal(quire_populate(p, pages(8), QUIRE_POPULATE_LOCK, NULL), -ENOMEM);
	assert_int_equal(quire_populate(p, pages(2), QUIRE_POPULATE_LOCK, NULL), 0);
	assert_int_equal(unlock(p, pages(2)), 0);
	tight.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &tight), 0);
	assert_int_equal(quire_populate(p, pages(1), QUIRE_POPULATE_LOCK, NULL), -EPERM);
	if (root)
		assert_int_equal(syscall(SYS_setresuid, -1, 0, -1), 0);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &old), 0);
	munmap(p, pages(8));
	++*(int *)n_done;
}

static void the_limit_of_locked_memory(void **state)
{
	in_coroutine(state, NULL, limit_body);
}

/* ---- cancelling ---- */

static void cancel_body(void *n_done)
{
	struct quire_op ops[3];
	char *p = map_empty(1u << 18, PROT_READ), *q = map_empty(2, PROT_READ);
	for (int i = 0; i < 3; i++)
		quire_op_init(&ops[i]);
	/* The loop's depth is 1: the others are queued. */
	assert_int_equal(quire_populate(p, pages(1u << 18), 0, &ops[0]), 0);
	assert_int_equal(quire_populate(q, pages(2), 0, &ops[1]), 0);
	assert_int_equal(quire_fdatasync(0, &ops[2]), 0);
	assert_int_equal(quire_op_cancel(&ops[1]), 0);
	assert_int_equal(quire_op_cancel(&ops[2]), 0);
	/* Of one piece each: whichever a worker had taken up ends as if nothing was asked. */
	for (int i = 1; i < 3; i++) {
		int64_t rc = quire_await(&ops[i]);
		assert_true(rc == -ECANCELED || rc == 0 || (i == 2 && rc == -EINVAL));
	}
	/* A gibibyte in a thousand pieces: some are read, others to come. */
	assert_int_equal(quire_co_yield(), 0);
	assert_int_equal(quire_op_cancel(&ops[0]), 0);
	assert_int_equal(quire_await(&ops[0]), -ECANCELED);
	assert_int_equal(quire_op_cancel(&ops[0]), -EALREADY);
	/* Handed over already, or about to be: either way it ends, once. */
	for (int i = 0; i < 8; i++) {
		quire_op_init(&ops[0]);
		assert_int_equal(quire_populate(p + pages(1u << 17), pages(600), 0, &ops[0]), 0);
		if (i & 1)
			assert_int_equal(quire_co_yield(), 0);
		assert_int_equal(quire_op_cancel(&ops[0]), 0);
		int64_t result = quire_await(&ops[0]);
		assert_true(result == 0 || result == -ECANCELED);
		assert_int_equal(madvise(p + pages(1u << 17), pages(600), MADV_DONTNEED), 0);
	}
	munmap(p, pages(1u << 18));
	munmap(q, pages(2));
	++*(int *)n_done;
}

static void cancelled_at_each_stage(void **state)
{
	const struct quire_loop_options one_at_a_time = {.depth = 1};
	in_coroutine(state, &one_at_a_time, cancel_body);
}

/* ---- many; sync; fork ---- */

static void many_body(void *n_done)
{
	size_t n = SLOW ? 2000 : 20000;
	struct quire_op *ops = calloc(n, sizeof(*ops));
	char *none = map_empty(1, PROT_NONE), *empty = map_empty(n, PROT_READ);
	for (size_t i = 0; i < n; i++) {
		quire_op_init(&ops[i]);
		assert_int_equal(quire_populate(i % 2 != 0 ? none : empty + pages(i), 1, 0, &ops[i]), 0);
	}
	for (size_t i = 0; i < n; i++)
		assert_int_equal(quire_await(&ops[i]), i % 2 != 0 ? -EACCES : 0);
	munmap(empty, pages(n));
	munmap(none, pages(1));
	free(ops);
	++*(int *)n_done;
}

static void many_under_way(void **state)
{
	in_coroutine(state, NULL, many_body);
}

static void sync_body(void *n_done)
{
	int fds[2], fd = open(file_path("synced"), O_RDWR | O_CREAT, 0600);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fd, "x", 1), 1);
	assert_int_equal(quire_fdatasync(fd, NULL), 0);
	assert_int_equal(quire_fdatasync(fds[0], NULL), -EINVAL);
	close(fds[0]);
	close(fds[1]);
	close(fd);
	assert_int_equal(quire_fdatasync(fd, NULL), -EBADF);
	assert_int_equal(quire_fdatasync(-1, NULL), -EBADF);
	++*(int *)n_done;
}

static void files_are_synced(void **state)
{
	in_coroutine(state, NULL, sync_body);
}

/* In a child, with one byte of its exit status for each failure. */
static void fork_body(void *n_done)
{
	char *p = map_empty(2, PROT_READ);
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(quire_populate(p, pages(2), 0, NULL) == -ECHILD && quire_fdatasync(0, NULL) == -ECHILD ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	munmap(p, pages(2));
	++*(int *)n_done;
}

static void a_child_in_its_parents_loop(void **state)
{
	skip_if_emulated();
	in_coroutine(state, NULL, fork_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_BOTH(a_cold_range_is_read),
		ON_BOTH(nothing_but_the_range_is_read),
		cmocka_unit_test(what_is_resident_completes_at_once),
		cmocka_unit_test(private_memory_and_nothing),
		ON_BOTH(bad_ranges_are_errors),
		ON_BOTH(a_callback_may_not_wait),
		ON_BOTH(an_op_under_way_is_busy),
		ON_BOTH(unmapped_under_way),
		ON_BOTH(locked_on_request),
		ON_BOTH(the_limit_of_locked_memory),
		ON_BOTH(cancelled_at_each_stage),
		ON_BOTH(many_under_way),
		ON_BOTH(files_are_synced),
		ON_BOTH(a_child_in_its_parents_loop),
	};
	return cmocka_run_group_tests_name("populate", tests, files_setup, files_teardown);
}
