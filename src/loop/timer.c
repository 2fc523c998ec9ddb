/* timer.c - timers of a loop: a binary heap, from index 1, so that 0 means "not armed". */
#include "loop_internal.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>

uint64_t loop_now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void place(struct quire_loop *loop, uint32_t index, struct loop_timer *timer)
{
	loop->timers[index] = timer;
	timer->heap_index = index;
}

static void sift_up(struct quire_loop *loop, uint32_t index, struct loop_timer *timer)
{
	while (index > 1 && loop->timers[index / 2]->when_ns > timer->when_ns) {
		place(loop, index, loop->timers[index / 2]);
		index /= 2;
	}
	place(loop, index, timer);
}

static void sift_down(struct quire_loop *loop, uint32_t index, struct loop_timer *timer)
{
	for (;;) {
		uint32_t child = index * 2;
		if (child > loop->n_timers)
			break;
		if (child < loop->n_timers && loop->timers[child + 1]->when_ns < loop->timers[child]->when_ns)
			child++;
		if (loop->timers[child]->when_ns >= timer->when_ns)
			break;
		place(loop, index, loop->timers[child]);
		index = child;
	}
	place(loop, index, timer);
}

static int reserve(struct quire_loop *loop)
{
	if (loop->n_timers + 1 < loop->timers_capacity)
		return 0;
	if (loop->timers_capacity > UINT32_MAX / 4)
		return -ENOMEM;
	uint32_t capacity = loop->timers_capacity != 0 ? loop->timers_capacity * 2 : 64;
	struct loop_timer **timers = realloc(loop->timers, capacity * sizeof(*timers));
	if (timers == NULL)
		return -ENOMEM;
	loop->timers = timers;
	loop->timers_capacity = capacity;
	return 0;
}

int loop_timer_arm(struct quire_loop *loop, struct loop_timer *timer, uint64_t when_ns)
{
	loop_timer_disarm(loop, timer);
	int rc = reserve(loop);
	if (rc < 0)
		return rc;
	timer->when_ns = when_ns;
	sift_up(loop, ++loop->n_timers, timer);
	return 0;
}

void loop_timer_disarm(struct quire_loop *loop, struct loop_timer *timer)
{
	uint32_t index = timer->heap_index;
	if (index == 0)
		return;
	quire_assert(index <= loop->n_timers && loop->timers[index] == timer);
	timer->heap_index = 0;
	struct loop_timer *moved = loop->timers[loop->n_timers--];
	if (moved == timer)
		return;
	if (index > 1 && loop->timers[index / 2]->when_ns > moved->when_ns)
		sift_up(loop, index, moved);
	else
		sift_down(loop, index, moved);
}

uint64_t timers_next_ns(const struct quire_loop *loop)
{
	return loop->n_timers != 0 ? loop->timers[1]->when_ns : NEVER_NS;
}

/* As many as are armed now at most: a timer that arms itself anew in the past does not keep the
 * loop from the rest of its turn. */
unsigned timers_run(struct quire_loop *loop)
{
	unsigned limit = loop->n_timers, n = 0;
	if (limit == 0)
		return 0;
	uint64_t now = loop_now_ns();
	while (n < limit && timers_next_ns(loop) <= now && loop->n_timers != 0) {
		struct loop_timer *timer = loop->timers[1];
		loop_timer_disarm(loop, timer);
		timer->run(timer);
		n++;
	}
	return n;
}

static void set_fd(struct quire_loop *loop, uint64_t when_ns)
{
	if (when_ns == loop->timer_fd_ns)
		return;
	struct itimerspec spec = {
		.it_value = {.tv_sec = (time_t)(when_ns / 1000000000u), .tv_nsec = (long)(when_ns % 1000000000u)},
	};
	int rc = timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
	quire_assert(rc == 0);
	loop->timer_fd_ns = when_ns;
}

void timers_set_fd(struct quire_loop *loop)
{
	uint64_t next = timers_next_ns(loop);
	set_fd(loop, next == NEVER_NS ? 0 : next == 0 ? 1 : next);
}

/* quire_loop_run waits with a timeout; timer_fd would stay readable. */
void timers_clear_fd(struct quire_loop *loop)
{
	set_fd(loop, 0);
}
