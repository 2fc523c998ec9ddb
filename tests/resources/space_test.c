/* space_test.c - the file system is full, over the quota, or a file at its limit, at each single write in turn, or at it and all behind it, while a store
 * is opened, used by each of the faces, and closed. Afterwards there is space again.
 *
 * The seam is the C library's, so what writes is the thread engine (QUIRE_MASK=io_uring, set by the build). A file system that is really
 * full is in command_test.py. */
#include "journeys.h"

#include "../blob/blob_env.h"
#include "../support/refuse.h"

static const int no_space[] = {-ENOSPC, -EFBIG, 0};

static void refuse_with_each_error(uint64_t n, bool lasting)
{
	static const int errors[] = {ENOSPC, EDQUOT, EFBIG};

	refuse_nth_write(n, errors[n % 3], lasting);
}

static void begin_one(uint64_t n)
{
	refuse_with_each_error(n, false);
}

static void begin_all(uint64_t n)
{
	refuse_with_each_error(n, true);
}

static const struct shortage one = {"write", begin_one, refuse_writes_off, 11, no_space, true};
static const struct shortage all = {"write and all behind", begin_all, refuse_writes_off, 13, no_space, true};

static void on_both(const struct journey *j)
{
	journey_run(j, &one);
	journey_run(j, &all);
}

static void test_blobs(void **state)
{
	on_both(&journey_blobs);
}

static void test_a_log(void **state)
{
	on_both(&journey_new_log);
	on_both(&journey_log);
}

static void test_volumes(void **state)
{
	on_both(&journey_volumes);
}

static void test_pools(void **state)
{
	on_both(&journey_pools);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_blobs, env_teardown),
		cmocka_unit_test_teardown(test_a_log, env_teardown),
		cmocka_unit_test_teardown(test_volumes, env_teardown),
		cmocka_unit_test_teardown(test_pools, env_teardown),
	};

	return cmocka_run_group_tests(tests, journeys_setup, journeys_teardown);
}
