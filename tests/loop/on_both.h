/* on_both.h - every test of a loop runs on both engines. */
#ifndef TESTS_LOOP_ON_BOTH_H
#define TESTS_LOOP_ON_BOTH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <quire/loop.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "loop/loop.h"
#include "../support/sanitized.h"

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif
/* Fewer rounds where each takes long. */
#define SLOW (SANITIZED || RUNNING_ON_VALGRIND)

static enum quire_engine test_engines[] __attribute__((unused)) = {QUIRE_ENGINE_URING, QUIRE_ENGINE_THREADS};

#define ON_BOTH(test) \
	{#test " (io_uring)", test, NULL, NULL, &test_engines[0]}, {#test " (threads)", test, NULL, NULL, &test_engines[1]}

/* A loop on the engine of this test. Skips where the process may not have io_uring. */
static inline struct quire_loop *loop_of(void **state, const struct quire_loop_options *more)
{
	struct quire_loop_options o = {0};
	if (more != NULL)
		o = *more;
	o.size = sizeof(o);
	o.engine = *(enum quire_engine *)*state;
	if (o.n_threads == 0)
		o.n_threads = 4;
	struct quire_loop *loop = NULL;
	int rc = quire_loop_create(&o, &loop, NULL);
	if (rc == -ENOTSUP && o.engine == QUIRE_ENGINE_URING) {
		print_message("skipped: io_uring is not to be had here\n");
		skip();
	}
	assert_int_equal(rc, 0);
	assert_int_equal(quire_loop_engine(loop), o.engine);
	return loop;
}

static inline void run(struct quire_loop *loop)
{
	assert_int_equal(quire_loop_run(loop), 0);
}

static inline void destroy(struct quire_loop *loop)
{
	assert_int_equal(quire_loop_destroy(loop), 0);
}

static inline void spawn(struct quire_loop *loop, quire_co_fn fn, void *arg)
{
	assert_int_equal(quire_co_spawn(loop, fn, arg), 0);
}

/* qemu-user does not survive a fork of a process with threads. */
static inline void skip_if_emulated(void)
{
	if (getenv("QUIRE_EMULATED") != NULL) {
		print_message("skipped: the emulator can not fork a process with threads\n");
		skip();
	}
}

#define MS UINT64_C(1000000)
#define HOUR_NS (UINT64_C(3600) * 1000 * MS)

#endif
