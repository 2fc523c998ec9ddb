/* latency.h - a histogram of durations: 64 steps to each power of two, so 1.6 % wide.
 *
 * Not thread-safe. Fixed memory; adding is a few instructions.
 */
#ifndef CLI_LATENCY_H
#define CLI_LATENCY_H

#include <stdint.h>

#define LATENCY_STEPS 64u
#define LATENCY_OCTAVES 36u /* 64 ns × 2^30 and more: above an hour is an hour */

struct latency {
	uint64_t n, max_ns;
	uint32_t counts[LATENCY_OCTAVES * LATENCY_STEPS];
};

void latency_add(struct latency *l, uint64_t ns);

/* The least duration that `share` (0 to 1) of those added do not exceed; 0 if there is none. */
uint64_t latency_quantile_ns(const struct latency *l, double share);

#endif
