/* idle.c - virtual time: where a loop would wait for a timer, the clock passes; where it would wait for ever, the world is asked. So it is
 * after an hour of timers alone: some are set again as often as they run, while what they watch never ends. Who has no answer, and after
 * real seconds of more such hours nothing else has happened, is stuck.
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

int __real_epoll_wait(int fd, struct epoll_event *events, int n_events, int timeout_ms);

static __thread bool (*on_idle)(void *arg);
static __thread void *on_idle_arg;
static __thread uint64_t passed_ns;     /* since the world was asked */
static __thread uint64_t unanswered_ns; /* the real time when it had no answer first, and nothing but timers since; 0: not so */

void idle_watch(bool (*idle)(void *arg), void *arg)
{
	clock_virtual();
	on_idle = idle;
	on_idle_arg = arg;
	passed_ns = unanswered_ns = 0;
}

static uint64_t real_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_BOOTTIME, &ts); /* which is not virtual */
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void stuck(const char *how)
{
	(void)fprintf(stderr, "stuck: %s\n", how);
	abort();
}

static void pass(uint64_t ns)
{
	clock_pass(ns);
	passed_ns += ns;
	if (passed_ns < HOUR_NS)
		return;
	passed_ns = 0;
	if (on_idle(on_idle_arg))
		unanswered_ns = 0;
	else if (unanswered_ns == 0)
		unanswered_ns = real_now_ns();
	else if (real_now_ns() - unanswered_ns > PATIENCE_MS * UINT64_C(1000000))
		stuck("nothing but timers will ever happen any more");
}

/* What has come, if anything has. */
static int look(int fd, struct epoll_event *events, int n_events)
{
	int n = __real_epoll_wait(fd, events, n_events, 0);

	if (n != 0)
		unanswered_ns = 0;
	return n;
}

int __wrap_epoll_wait(int fd, struct epoll_event *events, int n_events, int timeout_ms);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int n_events, int timeout_ms)
{
	if (on_idle == NULL || timeout_ms == 0)
		return __real_epoll_wait(fd, events, n_events, timeout_ms);
	int n = look(fd, events, n_events);
	if (n != 0)
		return n;
	if (timeout_ms > 0) {
		pass((uint64_t)timeout_ms * 1000000u);
		return 0;
	}
	if (on_idle(on_idle_arg))
		return 0;
	n = __real_epoll_wait(fd, events, n_events, PATIENCE_MS);
	if (n == 0)
		stuck("nothing will ever happen any more");
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
		int n = look((int)a, (struct epoll_event *)b, (int)c);
		if (n == 0)
			pass((uint64_t)wait->tv_sec * 1000000000u + (uint64_t)wait->tv_nsec);
		return n;
	}
#endif
	return __real_syscall(number, a, b, c, d, e, f);
}
