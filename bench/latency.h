/* latency.h - a histogram of nanoseconds in buckets of constant relative width, as HdrHistogram's: 64 in each power of
 * two, so what it says is at most 1.6 % too high. One thread adds.
 */
#ifndef BENCH_LATENCY_H
#define BENCH_LATENCY_H

#include <stdint.h>

#define LATENCY_SUB_BITS 6u
#define LATENCY_TOP_BITS 40u /* 18 minutes: longer counts as that */
#define LATENCY_BUCKETS ((LATENCY_TOP_BITS - LATENCY_SUB_BITS + 1) << LATENCY_SUB_BITS)

struct latency {
	uint64_t n, max_ns;
	uint32_t buckets[LATENCY_BUCKETS];
};

static inline unsigned latency_bucket(uint64_t ns)
{
	if (ns >> LATENCY_TOP_BITS)
		ns = (UINT64_C(1) << LATENCY_TOP_BITS) - 1;
	if (ns >> LATENCY_SUB_BITS == 0)
		return (unsigned)ns;
	unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - LATENCY_SUB_BITS;

	return (shift << LATENCY_SUB_BITS) + (unsigned)(ns >> shift);
}

/* The largest time that falls into the bucket. */
static inline uint64_t latency_bucket_ns(unsigned bucket)
{
	unsigned power = bucket >> LATENCY_SUB_BITS, shift = power == 0 ? 0 : power - 1;
	uint64_t low = bucket - ((uint64_t)shift << LATENCY_SUB_BITS);

	return ((low + 1) << shift) - 1;
}

static inline void latency_add(struct latency *l, uint64_t ns)
{
	l->n++;
	l->max_ns = ns > l->max_ns ? ns : l->max_ns;
	l->buckets[latency_bucket(ns)]++;
}

static inline void latency_merge(struct latency *to, const struct latency *from)
{
	to->n += from->n;
	to->max_ns = from->max_ns > to->max_ns ? from->max_ns : to->max_ns;
	for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
		to->buckets[i] += from->buckets[i];
}

/* What a share of all, 0 to 1, is not above. */
static inline uint64_t latency_quantile(const struct latency *l, double share)
{
	uint64_t want = (uint64_t)(share * (double)l->n), seen = 0;

	for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
		seen += l->buckets[i];
		if (seen > want)
			return latency_bucket_ns(i) < l->max_ns ? latency_bucket_ns(i) : l->max_ns;
	}
	return l->max_ns;
}

#endif
