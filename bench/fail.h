/* fail.h - what a benchmark says that can't go on: one line on stderr, with its name. rc: a negative errno. */
#ifndef BENCH_FAIL_H
#define BENCH_FAIL_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Returns rc. */
static inline int failed(const char *what, int rc)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(-rc));
	return rc;
}

_Noreturn static inline void die(const char *what, int rc)
{
	(void)failed(what, rc);
	exit(1);
}

static inline void check(int64_t rc, const char *what)
{
	if (rc < 0)
		die(what, (int)rc);
}

#endif
