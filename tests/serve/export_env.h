/* export_env.h - a test of an export runs in a coroutine, of a loop of its own. */
#ifndef TESTS_SERVE_EXPORT_ENV_H
#define TESTS_SERVE_EXPORT_ENV_H

#include "../base/cmocka_env.h"

#include <quire/loop.h>

static inline void run_in_coroutine(void (*test)(void *world), void *world)
{
	struct quire_loop *loop;

	assert_int_equal(quire_loop_create(NULL, &loop, NULL), 0);
	assert_int_equal(quire_co_spawn(loop, test, world), 0);
	assert_int_equal(quire_loop_run(loop), 0);
	assert_int_equal(quire_loop_destroy(loop), 0);
}

#endif
