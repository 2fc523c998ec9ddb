/* fixture.h - what stands around each test of a program: one env, made before it and ended behind it, and what was read of it. */
#ifndef TESTS_JOURNAL_FIXTURE_H
#define TESTS_JOURNAL_FIXTURE_H

#include "journal_env.h"

extern struct env e;
extern struct seen seen;

/* For a set_up: a device with these faults (NULL: none), records all of one length, nothing seen. */
void fixture_make(unsigned n_extents, uint64_t seed, const struct sim_faults *faults);
int tear_down(void **state);
int end(void **state); /* of the group */

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

/* A test that is run_NAME in a coroutine. */
#define IN_COROUTINE(name)                \
	static void test_##name(void **state) \
	{                                     \
		(void)state;                      \
		env_run(&e, run_##name, NULL);    \
	}

#endif
