/* clock.c - see clock.h. */
#include "clock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

static _Atomic uint64_t real_ns = 1600000000000000000u, monotonic_ns = 1000000000u;
static _Atomic bool is_virtual;

void clock_set_real(uint64_t time_ns)
{
	atomic_store(&real_ns, time_ns);
}

uint64_t clock_real(void)
{
	return atomic_load(&real_ns);
}

void clock_virtual(void)
{
	atomic_store(&is_virtual, true);
}

void clock_pass(uint64_t ns)
{
	atomic_fetch_add(&monotonic_ns, ns);
}

int __real_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
	uint64_t now_ns = id == CLOCK_REALTIME ? atomic_load(&real_ns) : atomic_load(&monotonic_ns);

	if (id != CLOCK_REALTIME && (id != CLOCK_MONOTONIC || !atomic_load(&is_virtual)))
		return __real_clock_gettime(id, ts);
	ts->tv_sec = (time_t)(now_ns / 1000000000u);
	ts->tv_nsec = (long)(now_ns % 1000000000u);
	return 0;
}
