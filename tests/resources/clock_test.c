/* clock_test.c - the time of day jumps, by a year to and fro, at each look at it. Only logs look at it, for the times of their records, which
 * never go back; everything that waits, expires or is measured goes by CLOCK_MONOTONIC.
 *
 * The seam is the linker's: clock_gettime is this program's (meson.build). That nothing else in the source tells the time of
 * day is a rule of the structure test. */
#include "journeys.h"

#include "../blob/blob_env.h"

#include <quire/log.h>
#include <stdatomic.h>
#include <time.h>

#define YEAR_S (365 * 24 * 3600L)

static _Atomic unsigned n_looks;

int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
	int rc = __real_clock_gettime(clock, ret);

	if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI)
		ret->tv_sec += atomic_fetch_add(&n_looks, 1) % 2 == 0 ? YEAR_S : -YEAR_S;
	return rc;
}

static void test_who_never_looks(void **state)
{
	static const struct journey *const journeys[] = {&journey_blobs, &journey_volumes, &journey_maps, &journey_pools};

	for (unsigned j = 0; j < sizeof(journeys) / sizeof(journeys[0]); j++) {
		atomic_store(&n_looks, 0);
		journey_once(journeys[j]);
		if (atomic_load(&n_looks) != 0)
			fail_msg("%s: looked %u times", journeys[j]->name, atomic_load(&n_looks));
	}
	(void)state;
}

static void test_a_log_does_its_work(void **state)
{
	atomic_store(&n_looks, 0);
	journey_once(&journey_log);
	assert_true(atomic_load(&n_looks) > 0);
	(void)state;
}

static void test_records_never_go_back(void **state)
{
	struct quire_log_options o = {.size = sizeof(o), .segment_bytes = 65536};
	struct quire_log_cursor *c;
	struct quire_log_record r;
	struct quire_log *log;
	uint64_t last = 0, n = 0;

	assert_int_equal(env_setup(NULL), 0);
	assert_int_equal(quire_log_create(store, "l", &o, NULL), 0);
	for (unsigned life = 0; life < 3; life++) {
		assert_int_equal(quire_log_open(store, "l", NULL, &log, NULL), 0);
		for (unsigned i = 0; i < 50; i++) {
			uint64_t lsn;
			assert_int_equal(quire_log_append(log, &(struct iovec){&i, sizeof(i)}, 1, &lsn, NULL), 0);
		}
		assert_int_equal(quire_log_close(log), 0);
		env_reopen();
	}
	assert_int_equal(quire_log_open(store, "l", NULL, &log, NULL), 0);
	assert_int_equal(quire_log_cursor_open(log, QUIRE_LOG_VISIBLE, &c), 0);
	while (n < 150 && quire_log_next(c, &r, NULL) == 1) {
		assert_true(r.time_ns >= last);
		last = r.time_ns;
		n++;
	}
	assert_int_equal(n, 150);
	quire_log_cursor_close(c);
	assert_int_equal(quire_log_close(log), 0);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_who_never_looks, env_teardown),
		cmocka_unit_test_teardown(test_a_log_does_its_work, env_teardown),
		cmocka_unit_test_teardown(test_records_never_go_back, env_teardown),
	};

	return cmocka_run_group_tests(tests, journeys_setup, journeys_teardown);
}
