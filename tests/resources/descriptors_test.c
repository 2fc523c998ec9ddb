/* descriptors_test.c - descriptors run out, while a cache and a store are opened, used by each of the faces, and closed: once as the nth is
 * refused that is asked for (as somebody else had them all for a moment), once by a limit, all the time, with n left.
 *
 * And what is found out once for a process's life is not found out from that. */
#include "journeys.h"

#include "../blob/blob_env.h"
#include "../support/refuse.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Without what the compiler pads the struct with. */
#define CAPABILITIES_BYTES (offsetof(struct quire_capabilities, anon_tracks_writes) + sizeof(bool))
#define PLENTY 24u /* more than any journey has open */

static const int no_descriptor[] = {-EMFILE, 0};

/* ---- a limit ---- */

static struct rlimit before;
static uint64_t n_left;

/* The least numbers are given first: with n of them not in use below the limit, n can be opened. */
static void leave(uint64_t n)
{
	struct rlimit now;
	int fd = 0;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	n_left = n - 1;
	for (uint64_t free_ones = 0; free_ones < n_left || fcntl(fd, F_GETFD) >= 0; fd++)
		free_ones += fcntl(fd, F_GETFD) < 0;
	now = (struct rlimit){.rlim_cur = (rlim_t)fd, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
}

static bool leave_all(void)
{
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	return n_left < PLENTY;
}

static const struct shortage limited = {"left and one more", leave, leave_all, 7, no_descriptor, true};
static const struct shortage refused = {"descriptor", refuse_nth_descriptor, refuse_descriptors_off, 4, no_descriptor, true};

static void on_both(const struct journey *j)
{
	journey_run(j, &refused);
	journey_run(j, &limited);
}

static void test_blobs(void **state)
{
	on_both(&journey_blobs);
}

static void test_a_log(void **state)
{
	on_both(&journey_log);
}

static void test_volumes(void **state)
{
	on_both(&journey_volumes);
}

static void test_maps(void **state)
{
	on_both(&journey_maps);
}

static void test_pools(void **state)
{
	on_both(&journey_pools);
}

/* ---- what is found out once ---- */

/* In a process of its own, in which nothing was probed yet: with n descriptors, then with all. 0: in the end it knows as much. */
static int probe_twice(uint64_t n, const struct quire_capabilities *right, uint64_t right_budget)
{
	struct quire_capabilities caps;
	struct quire_cache_stat stat;
	struct quire_cache *c;

	leave(n);
	int rc = quire_cache_open(NULL, &c, NULL);
	if (rc == 0)
		quire_cache_close(c);
	(void)leave_all();
	if (rc != 0 && rc != -EMFILE)
		return 1;
	if (quire_capabilities(&caps) != 0 || memcmp(&caps, right, CAPABILITIES_BYTES) != 0)
		return 2;
	if (quire_cache_open(NULL, &c, NULL) != 0)
		return 3;
	quire_cache_stat(c, &stat);
	quire_cache_close(c);
	return stat.budget > right_budget + right_budget / 4 ? 4 : 0;
}

/* What one learns who has all descriptors; asked in a child, so that this process has asked nothing. */
static void learn(struct quire_capabilities *ret_caps, uint64_t *ret_budget)
{
	struct quire_cache_stat stat;
	struct quire_cache *c;
	int ends[2], status;

	assert_int_equal(pipe(ends), 0);
	pid_t pid = fork();
	if (pid == 0) {
		bool good = quire_capabilities(ret_caps) == 0 && quire_cache_open(NULL, &c, NULL) == 0;
		if (good)
			quire_cache_stat(c, &stat);
		good = good && write(ends[1], ret_caps, sizeof(*ret_caps)) == sizeof(*ret_caps) &&
		       write(ends[1], &stat.budget, sizeof(stat.budget)) == sizeof(stat.budget);
		_exit(good ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(read(ends[0], ret_caps, sizeof(*ret_caps)), sizeof(*ret_caps));
	assert_int_equal(read(ends[0], ret_budget, sizeof(*ret_budget)), sizeof(*ret_budget));
	close(ends[0]);
	close(ends[1]);
}

static void test_a_moment_without_them_settles_nothing(void **state)
{
	struct quire_capabilities caps;
	uint64_t budget;
	int status;

	memset(&caps, 0, sizeof(caps));
	learn(&caps, &budget);
	for (uint64_t n = 1; n <= 16; n++) {
		pid_t pid = fork();
		if (pid == 0)
			_exit(probe_twice(n, &caps, budget));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (status != 0)
			fail_msg("with %llu descriptors: status %x", (unsigned long long)n - 1, (unsigned)status);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_moment_without_them_settles_nothing), /* first: the others probe */
		cmocka_unit_test_teardown(test_blobs, env_teardown),
		cmocka_unit_test_teardown(test_a_log, env_teardown),
		cmocka_unit_test_teardown(test_volumes, env_teardown),
		cmocka_unit_test_teardown(test_maps, env_teardown),
		cmocka_unit_test_teardown(test_pools, env_teardown),
	};

	return cmocka_run_group_tests(tests, journeys_setup, journeys_teardown);
}
