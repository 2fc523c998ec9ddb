/* stripes.h - a count that all CPUs raise at once: each has a cache line of its own to do so.
 *
 * A line that two CPUs write to in turn takes some 50 ns each time, and all of them together can have it so often and no
 * oftener (docs/scaling.md). Any thread; relaxed, so a sum is of what was counted some moment ago.
 */
#ifndef BASE_STRIPES_H
#define BASE_STRIPES_H

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

#define N_STRIPES 64u
#define STRIPE_BYTES 128 /* CPUs fetch lines in pairs */

struct stripes {
	struct stripe {
		_Atomic uint64_t n;
	} __attribute__((aligned(STRIPE_BYTES))) of_cpu[N_STRIPES];
};

static inline void stripes_add(struct stripes *s, uint64_t n)
{
	/* A few cycles where the kernel has rseq; without, and where it fails, right all the same. */
	unsigned cpu = (unsigned)sched_getcpu();

	atomic_fetch_add_explicit(&s->of_cpu[cpu % N_STRIPES].n, n, memory_order_relaxed);
}

static inline uint64_t stripes_sum(const struct stripes *s)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < N_STRIPES; i++)
		sum += atomic_load_explicit(&s->of_cpu[i].n, memory_order_relaxed);
	return sum;
}

#endif
