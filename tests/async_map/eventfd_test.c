/* Requests that end in an eventfd: no loop, no op. */
#include "async_env.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

static int new_eventfd(void)
{
	int efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(efd >= 0);
	return efd;
}

static void wait_count(int efd, uint64_t n)
{
	while (n != 0) {
		struct pollfd p = {.fd = efd, .events = POLLIN};
		uint64_t count;
		assert_int_equal(poll(&p, 1, 30000), 1);
		assert_int_equal(read(efd, &count, sizeof(count)), sizeof(count));
		assert_true(count <= n);
		n -= count;
	}
}

static void a_cold_range_signals(void **state)
{
	int efd = new_eventfd();
	char *p = map_cold("cold", 64);
	assert_int_equal(quire_mlock_eventfd(p, pages(64), efd), 0);
	wait_count(efd, 1);
	assert_bytes(p, 7, 0, pages(64));
	assert_int_equal(quire_eventfd_failures(efd, NULL, 0), 0);
	munmap(p, pages(64));
	close(efd);
}

static void a_resident_range_signals_too(void **state)
{
	int efd = new_eventfd();
	int32_t status = 5;
	uint64_t count;
	char *p = map_cold("resident", 4);
	assert_int_equal(quire_populate(p, pages(4), 0, NULL), 0);
	assert_int_equal(quire_mlock_eventfd(p, 1, efd), 0);
	assert_int_equal(quire_mlock_eventfd_status(p, pages(4), 0, efd, &status), 0);
	assert_int_equal(quire_mlock_eventfd(p, 0, efd), 0);
	if (!RUNNING_ON_VALGRIND) {
		assert_int_equal(__atomic_load_n(&status, __ATOMIC_ACQUIRE), 0);
		assert_int_equal(read(efd, &count, sizeof(count)), sizeof(count));
		assert_int_equal(count, 3);
	}
	munmap(p, pages(4));
	close(efd);
}

static void failures_are_collected(void **state)
{
	struct bad_range bad[N_BAD_RANGES];
	struct quire_eventfd_failure failure[N_BAD_RANGES + 1];
	int efd = new_eventfd(), other = new_eventfd(), n = 0;
	bad_ranges(bad);
	assert_int_equal(quire_mlock_eventfd(bad[0].addr, bad[0].len, other), 0);
	for (int i = 0; i < N_BAD_RANGES; i++) {
		int rc = quire_mlock_eventfd(bad[i].addr, bad[i].len, efd);
		assert_int_equal(rc, bad[i].error == -EINVAL ? -EINVAL : 0);
		n += rc == 0;
	}
	wait_count(efd, (uint64_t)n);
	int got = quire_eventfd_failures(efd, failure, 2);
	assert_int_equal(got, 2);
	assert_int_equal(quire_eventfd_failures(efd, failure + 2, N_BAD_RANGES), n - 2);
	for (int i = 0; i < n; i++) {
		int found = 0;
		for (int k = 0; k < N_BAD_RANGES; k++)
			found += failure[i].addr == bad[k].addr && failure[i].len_bytes == bad[k].len &&
			         failure[i].error == bad[k].error && failure[i].fd == -1;
		assert_int_equal(found, 1);
	}
	wait_count(other, 1);
	assert_int_equal(quire_eventfd_failures(other, failure, 9), 1);
	assert_int_equal(quire_eventfd_failures(other, failure, 9), 0);
	close(efd);
	close(other);
}

static void status_words(void **state)
{
	struct bad_range bad[N_BAD_RANGES];
	struct quire_eventfd_failure failure;
	int32_t status[N_BAD_RANGES] = {0};
	int efd = new_eventfd(), n = 0;
	bad_ranges(bad);
	for (int i = 0; i < N_BAD_RANGES; i++)
		n += quire_mlock_eventfd_status(bad[i].addr, bad[i].len, 0, efd, &status[i]) == 0;
	wait_count(efd, (uint64_t)n);
	for (int i = 0; i < N_BAD_RANGES; i++)
		assert_int_equal(__atomic_load_n(&status[i], __ATOMIC_ACQUIRE), bad[i].error == -EINVAL ? 0 : bad[i].error);
	assert_int_equal(quire_eventfd_failures(efd, &failure, 1), 0);
	assert_int_equal(quire_mlock_eventfd_status(bad[0].addr, 1, 8, efd, status), -EINVAL);
	close(efd);
}

static void a_closed_eventfd(void **state)
{
	int efd = new_eventfd(), watched = new_eventfd();
	char *p = map_cold("closed", 64);
	int32_t status;
	close(efd);
	assert_int_equal(quire_mlock_eventfd(p, pages(64), efd), -EBADF);
	assert_int_equal(quire_mlock_eventfd(p, pages(64), -1), -EBADF);
	assert_int_equal(quire_mlock_eventfd(p, 0, efd), -EBADF);
	assert_int_equal(quire_fdatasync_eventfd(watched, efd), -EBADF);
	assert_int_equal(quire_fdatasync_eventfd(efd, watched), -EBADF);
	/* Closed while the request is under way: it ends all the same. */
	efd = new_eventfd();
	assert_int_equal(quire_mlock_eventfd_status(p, pages(64), 0, efd, &status), 0);
	close(efd);
	while (__atomic_load_n(&status, __ATOMIC_ACQUIRE) == QUIRE_STATUS_PENDING)
		sched_yield();
	assert_int_equal(status, 0);
	munmap(p, pages(64));
	close(watched);
}

/* One that blocks would stop the service thread for good. */
static void a_full_eventfd(void **state)
{
	const uint64_t full = UINT64_MAX - 1;
	int efd = eventfd(0, EFD_CLOEXEC), efd_of_op = eventfd(0, EFD_CLOEXEC);
	char *p = map_empty(8, PROT_READ);
	struct quire_op op;
	int32_t status;
	uint64_t count;
	assert_int_equal(write(efd, &full, sizeof(full)), sizeof(full));
	assert_int_equal(write(efd_of_op, &full, sizeof(full)), sizeof(full));
	assert_int_equal(quire_mlock_eventfd_status(p, pages(8), 0, efd, &status), 0);
	while (__atomic_load_n(&status, __ATOMIC_ACQUIRE) == QUIRE_STATUS_PENDING)
		sched_yield();
	assert_int_equal(status, 0);
	assert_int_equal(((volatile char *)p)[0], 0);
	assert_int_equal(quire_mlock_eventfd(p, 1, efd), 0);
	quire_op_init_eventfd(&op, efd_of_op);
	assert_int_equal(quire_fdatasync(efd, &op), 0);
	while (!quire_op_done(&op))
		sched_yield();
	assert_int_equal(quire_populate(p, pages(8), 0, NULL), 0);
	assert_int_equal(read(efd, &count, sizeof(count)), sizeof(count));
	assert_true(count == full);
	munmap(p, pages(8));
	close(efd);
	close(efd_of_op);
}

static void files_are_synced(void **state)
{
	struct quire_eventfd_failure failure;
	int32_t status;
	int efd = new_eventfd(), fd = open(file_path("synced"), O_RDWR | O_CREAT, 0600), pair[2];
	assert_int_equal(pipe(pair), 0);
	assert_int_equal(write(fd, "x", 1), 1);
	assert_int_equal(quire_fdatasync_eventfd(fd, efd), 0);
	assert_int_equal(quire_fdatasync_eventfd_status(pair[1], efd, &status), 0);
	assert_int_equal(quire_fdatasync_eventfd(pair[0], efd), 0);
	wait_count(efd, 3);
	assert_int_equal(__atomic_load_n(&status, __ATOMIC_ACQUIRE), -EINVAL);
	assert_int_equal(quire_eventfd_failures(efd, &failure, 1), 1);
	assert_int_equal(failure.error, -EINVAL);
	assert_int_equal(failure.fd, pair[0]);
	assert_null(failure.addr);
	close(pair[0]);
	close(pair[1]);
	close(fd);
	close(efd);
}

/* On a loop of this thread, which can't end any before this coroutine lets it. */
static void limit_body(void *n_done)
{
	struct quire_eventfd_failure failures[64];
	char *none = map_empty(1, PROT_NONE);
	int efd = new_eventfd(), n;
	for (unsigned i = 0; i < QUIRE_EVENTFD_REQUESTS_MAX; i++)
		assert_int_equal(quire_mlock_eventfd(none, 1, efd), 0);
	assert_int_equal(quire_mlock_eventfd(none, 1, efd), -EAGAIN);
	assert_int_equal(quire_fdatasync_eventfd(efd, efd), -EAGAIN);
	unsigned n_signals = 0, n_failures = 0;
	while (n_signals < QUIRE_EVENTFD_REQUESTS_MAX) {
		uint64_t count;
		assert_int_equal(quire_poll_fd(efd, POLLIN, NULL), POLLIN);
		assert_int_equal(read(efd, &count, sizeof(count)), sizeof(count));
		n_signals += (unsigned)count;
	}
	assert_int_equal(quire_mlock_eventfd(none, 1, efd), -EAGAIN);
	while ((n = quire_eventfd_failures(efd, failures, 64)) > 0)
		n_failures += (unsigned)n;
	assert_int_equal(n_failures, QUIRE_EVENTFD_REQUESTS_MAX);
	assert_int_equal(quire_mlock_eventfd(none, 0, efd), 0);
	munmap(none, pages(1));
	close(efd);
	++*(int *)n_done;
}

static void more_than_may_be_under_way(void **state)
{
	if (SLOW) {
		print_message("skipped: takes too long here\n");
		skip();
	}
	in_coroutine(state, NULL, limit_body);
}

static void *ask_main(void *arg)
{
	char *p = arg;
	int efd = new_eventfd();
	struct quire_eventfd_failure failure;
	for (int i = 0; i < (SLOW ? 20 : 200); i++) {
		assert_int_equal(quire_mlock_eventfd(p + pages((size_t)i % 8), pages(8), efd), 0);
		wait_count(efd, 1);
		if (i % 16 == 0)
			(void)madvise(p, pages(16), MADV_DONTNEED);
	}
	assert_int_equal(quire_eventfd_failures(efd, &failure, 1), 0);
	close(efd);
	return NULL;
}

static void many_threads(void **state)
{
	pthread_t threads[4];
	char *p = map_cold("threads", 16);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ask_main, p), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	munmap(p, pages(16));
}

/* A child starts anew, whatever its parent had under way. */
static void a_child_has_its_own(void **state)
{
	skip_if_emulated();
	if (SANITIZED_THREADS) {
		print_message("skipped: ThreadSanitizer has no threads after a fork\n");
		skip();
	}
	int efd = new_eventfd(), status;
	char *p = map_cold("child", 64);
	assert_int_equal(quire_mlock_eventfd(p, pages(64), efd), 0);
	pid_t pid = fork();
	if (pid == 0) {
		uint64_t count;
		int own = eventfd(0, EFD_CLOEXEC);
		char *q = map_empty(3, PROT_READ);
		bool good = quire_mlock_eventfd(q, pages(3), own) == 0 && read(own, &count, sizeof(count)) == 8;
		_exit(good && count == 1 ? 0 : 1);
	}
	wait_count(efd, 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	munmap(p, pages(64));
	close(efd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cold_range_signals),
		cmocka_unit_test(a_resident_range_signals_too),
		cmocka_unit_test(failures_are_collected),
		cmocka_unit_test(status_words),
		cmocka_unit_test(a_closed_eventfd),
		cmocka_unit_test(a_full_eventfd),
		cmocka_unit_test(files_are_synced),
		ON_BOTH(more_than_may_be_under_way),
		cmocka_unit_test(many_threads),
		cmocka_unit_test(a_child_has_its_own),
	};
	return cmocka_run_group_tests_name("eventfd", tests, files_setup, files_teardown);
}
