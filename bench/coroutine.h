/* coroutine.h - what a benchmark does in a coroutine, on a loop of its own. */
#ifndef BENCH_COROUTINE_H
#define BENCH_COROUTINE_H

#include "fail.h"

#include <quire/loop.h>

/* Returns when fn, and all that it has spawned, has ended: 0, or a negative errno, which was told. */
static inline int run_in_coroutine(quire_co_fn fn, void *arg)
{
	struct quire_loop *loop;
	int rc = quire_loop_create(NULL, &loop, NULL);

	if (rc < 0)
		return failed("loop", rc);
	rc = quire_co_spawn(loop, fn, arg);
	if (rc == 0)
		rc = quire_loop_run(loop);
	quire_loop_destroy(loop);
	return rc < 0 ? failed("loop", rc) : 0;
}

#endif
