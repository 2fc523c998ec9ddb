/* idle.c - virtual time: where a loop would wait for a timer, the clock passes; where it would wait for ever, the world is asked. So it is
 * after an hour of timers alone: some are set again as often as they run, while what they watch never ends.
 *
 * What a loop of the thread engine waits by is an epoll descriptor, in one of two system calls; the seam is the linker's. Other
 * threads (the library's own) wait as always. */
#include "world.h"

#include "../support/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HOUR_NS UINT64_C(3600000000000)
#define PATIENCE_MS 20000 /* for the library's own threads: what they were asked for is not virtual */

static __thread bool (*on_idle)(void *arg);
static __thread void *on_idle_arg;
static __thread uint64_t passed_ns; /* since the world was asked */

void idle_watch(bool (*idle)(void *arg), void *arg)
{
	clock_virtual();
	on_idle = idle;
	on_idle_arg = arg;
	passed_ns = 0;
}

static void pass(uint64_t ns)
{
	clock_pass(ns);
	passed_ns += ns;
	if (passed_ns < HOUR_NS)
		return;
	passed_ns = 0;
	(void)on_idle(on_idle_arg);
}

int __real_epoll_wait(int fd, struct epoll_event *events, int n_events, int timeout_ms);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int n_events, int timeout_ms);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int n_events, int timeout_ms)
{
	if (on_idle == NULL || timeout_ms == 0)
		return __real_epoll_wait(fd, events, n_events, timeout_ms);
	int n = __real_epoll_wait(fd, events, n_events, 0);
	if (n != 0)
		return n;
	if (timeout_ms > 0) {
		pass((uint64_t)timeout_ms * 1000000u);
		return 0;
	}
	if (on_idle(on_idle_arg))
		return 0;
	n = __real_epoll_wait(fd, events, n_events, PATIENCE_MS);
	if (n == 0) {
		(void)fputs("stuck: nothing will ever happen any more\n", stderr);
		abort();
	}
	return n;
}

/* As epoll_pwait2 is called where the C library doesn't have it. */
long __real_syscall(long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
#ifdef SYS_epoll_pwait2
	if (number == SYS_epoll_pwait2 && on_idle != NULL) {
		const struct timespec *wait = (const struct timespec *)d;
		int n = __real_epoll_wait((int)a, (struct epoll_event *)b, (int)c, 0);
		if (n == 0)
			pass((uint64_t)wait->tv_sec * 1000000000u + (uint64_t)wait->tv_nsec);
		return n;
	}
#endif
	return __real_syscall(number, a, b, c, d, e, f);
}
