/* signals_test.c - a timer's signals, without SA_RESTART, while each of the faces works: whatever a system call says to that, nobody sees it. */
#include "journeys.h"

#include "../blob/blob_env.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>

#define EACH_US 700

static _Atomic unsigned n_signals;

static void on_signal(int number)
{
	(void)number;
	atomic_fetch_add(&n_signals, 1);
}

static void rain(bool on)
{
	const struct itimerval each = {.it_interval = {.tv_usec = on ? EACH_US : 0}, .it_value = {.tv_usec = on ? EACH_US : 0}};

	assert_int_equal(setitimer(ITIMER_REAL, &each, NULL), 0);
}

static void test_each_face_in_the_rain(void **state)
{
	static const struct journey *const journeys[] = {&journey_blobs,   &journey_new_log, &journey_log,
	                                                 &journey_volumes, &journey_maps,    &journey_pools};
	const struct sigaction act = {.sa_handler = on_signal}; /* no SA_RESTART */
	unsigned n_rounds = getenv("QUIRE_TEST_LONG") != NULL ? 100 : 3;

	sigaction(SIGALRM, &act, NULL);
	for (unsigned i = 0; i < n_rounds; i++)
		for (unsigned j = 0; j < sizeof(journeys) / sizeof(journeys[0]); j++) {
			unsigned before = atomic_load(&n_signals);
			rain(true);
			journey_once(journeys[j]);
			rain(false);
			print_message("%s: %u signals\n", journeys[j]->name, atomic_load(&n_signals) - before);
			assert_true(atomic_load(&n_signals) > before);
		}
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_each_face_in_the_rain, env_teardown),
	};

	return cmocka_run_group_tests(tests, journeys_setup, journeys_teardown);
}
