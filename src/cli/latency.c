/* latency.c - a histogram of durations. */
#include "latency.h"

#include <math.h>

/* Below 64 ns one step a nanosecond; above, the six bits behind the leading one. */
static unsigned step_of(uint64_t ns)
{
	if (ns < LATENCY_STEPS)
		return (unsigned)ns;
	unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - 6u;
	unsigned step = (shift + 1) * LATENCY_STEPS + (unsigned)((ns >> shift) & (LATENCY_STEPS - 1));
	return step < LATENCY_OCTAVES * LATENCY_STEPS ? step : LATENCY_OCTAVES * LATENCY_STEPS - 1;
}

static uint64_t upper_ns(unsigned step)
{
	unsigned octave = step / LATENCY_STEPS, low = step % LATENCY_STEPS;

	if (octave == 0)
		return low;
	return ((uint64_t)(LATENCY_STEPS + low + 1) << (octave - 1)) - 1;
}

void latency_add(struct latency *l, uint64_t ns)
{
	l->counts[step_of(ns)]++;
	l->n++;
	if (ns > l->max_ns)
		l->max_ns = ns;
}

uint64_t latency_quantile_ns(const struct latency *l, double share)
{
	uint64_t want = (uint64_t)ceil(share * (double)l->n), seen = 0;

	if (l->n == 0)
		return 0;
	for (unsigned i = 0; i < LATENCY_OCTAVES * LATENCY_STEPS; i++) {
		seen += l->counts[i];
		if (seen >= want && l->counts[i] != 0)
			return upper_ns(i) < l->max_ns ? upper_ns(i) : l->max_ns;
	}
	return l->max_ns;
}
