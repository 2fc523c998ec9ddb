/* memory_test.c - memory is refused, each single time in turn, while a store is opened, used by each of its faces, and closed. */
#include "journeys.h"

#include "../blob/blob_env.h"
#include "../support/refuse.h"

static const int no_memory[] = {-ENOMEM, 0};
static const int no_memory_or_room[] = {-ENOMEM, -ENOSPC, 0};
static const struct shortage memory = {"request", refuse_nth, refuse_off, 11, no_memory, false};
static const struct shortage memory_of_pools = {"request", refuse_nth, refuse_off, 11, no_memory_or_room, false};

static void test_blobs(void **state)
{
	journey_run(&journey_blobs, &memory);
}

static void test_a_log(void **state)
{
	journey_run(&journey_new_log, &memory);
	journey_run(&journey_log, &memory);
}

static void test_volumes(void **state)
{
	journey_run(&journey_volumes, &memory);
}

static void test_containers(void **state)
{
	journey_run(&journey_containers, &memory);
}

static void test_checks(void **state)
{
	journey_run(&journey_checks, &memory);
}

static void test_maps(void **state)
{
	journey_run(&journey_maps, &memory);
}

static void test_pools(void **state)
{
	journey_run(&journey_pools, &memory_of_pools);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_blobs, env_teardown),
		cmocka_unit_test_teardown(test_a_log, env_teardown),
		cmocka_unit_test_teardown(test_volumes, env_teardown),
		cmocka_unit_test_teardown(test_containers, env_teardown),
		cmocka_unit_test_teardown(test_checks, env_teardown),
		cmocka_unit_test_teardown(test_maps, env_teardown),
		cmocka_unit_test_teardown(test_pools, env_teardown),
	};

	return cmocka_run_group_tests(tests, journeys_setup, journeys_teardown);
}
