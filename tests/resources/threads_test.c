/* threads_test.c - each single thread is refused in turn, while a cache and a store are opened, used by each of the faces, and closed. With the
 * thread engine (QUIRE_MASK=io_uring) there are many; the first one of a loop must be had, others make it faster. */
#include "journeys.h"

#include "../blob/blob_env.h"
#include "../support/refuse.h"

static const int no_thread[] = {-EAGAIN, 0};
static const struct shortage threads = {"thread", refuse_nth_thread, refuse_threads_off, 1, no_thread, true};

static void test_each_face(void **state)
{
	static const struct journey *const journeys[] = {&journey_blobs, &journey_log, &journey_volumes, &journey_maps, &journey_pools};

	for (unsigned j = 0; j < sizeof(journeys) / sizeof(journeys[0]); j++)
		journey_run(journeys[j], &threads);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_each_face, env_teardown),
	};

	return cmocka_run_group_tests(tests, journeys_setup, journeys_teardown);
}
