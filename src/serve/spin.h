/* spin.h - looking again for a while, before one sleeps.
 *
 * To wake a thread costs tens of microseconds, more than a call takes; to look costs a CPU. So who waits looks for as long as a sleep
 * would cost, if the last wait would have been over by then; else hardly. After a while it gives way between looks, to whoever wants
 * the CPU. If somebody did, which is seen by the time it took, it gives way sooner the next time, since that may be
 * the other side, on the same CPU.
 *
 * The habit is what is learned from one wait to the next; threads may share it.
 */
#ifndef SERVE_SPIN_H
#define SERVE_SPIN_H

#include "../base/spin.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define SPIN_MOST_NS 60000u
#define SPIN_LEAST_NS 4000u
#define SPIN_EAGER_NS 20000u /* before it gives way; a call that takes longer is not slowed by that */
#define SPIN_CROWDED_EAGER_NS 500u
#define SPIN_CROWDED_NS 1500u /* a sched_yield that took longer was somebody's chance */
#define SPIN_LOOKS 16u       /* between two looks at the clock */

struct spin_habit {
	_Atomic uint32_t limit_ns;
	_Atomic uint32_t eager_ns;
};

struct spin {
	struct spin_habit *habit; /* borrowed */
	uint64_t begin_ns, elapsed_ns;
	uint32_t limit_ns, eager_ns;
	unsigned n;
};

static inline uint64_t spin_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline void spin_habit_init(struct spin_habit *habit)
{
	atomic_init(&habit->limit_ns, SPIN_MOST_NS);
	atomic_init(&habit->eager_ns, SPIN_EAGER_NS);
}

static inline void spin_begin(struct spin *s, struct spin_habit *habit)
{
	*s = (struct spin){
		.habit = habit,
		.begin_ns = spin_now_ns(),
		.limit_ns = atomic_load_explicit(&habit->limit_ns, memory_order_relaxed),
		.eager_ns = atomic_load_explicit(&habit->eager_ns, memory_order_relaxed),
	};
}

/* Between two looks. False: it is time to sleep. */
static inline bool spin_again(struct spin *s)
{
	if (++s->n % SPIN_LOOKS != 0) {
		spin_relax();
		return true;
	}
	s->elapsed_ns = spin_now_ns() - s->begin_ns;
	if (s->elapsed_ns >= s->limit_ns)
		return false;
	if (s->elapsed_ns < s->eager_ns)
		return true;
	(void)sched_yield();
	bool crowded = spin_now_ns() - s->begin_ns - s->elapsed_ns > SPIN_CROWDED_NS;
	s->eager_ns = crowded ? SPIN_CROWDED_EAGER_NS : SPIN_EAGER_NS;
	return true;
}

/* The wait is over, slept or not. */
static inline void spin_end(struct spin *s)
{
	if (s->n < SPIN_LOOKS)
		return;
	bool was_long = spin_now_ns() - s->begin_ns >= SPIN_MOST_NS;
	atomic_store_explicit(&s->habit->limit_ns, was_long ? SPIN_LEAST_NS : SPIN_MOST_NS, memory_order_relaxed);
	atomic_store_explicit(&s->habit->eager_ns, s->eager_ns, memory_order_relaxed);
}

#endif
