/* Miss ratios of S3-FIFO beside those of a FIFO and of LRU, on the same made-up traces. */
#include "../../src/base/policy.h"
#include "cmocka_env.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#define N_PAGES 20000u
#define N_REFERENCES 400000u

/* ---- traces: the same in every run ---- */

static uint64_t random_state;

static double random_unit(void)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (double)(random_state >> 11) / 9007199254740992.0;
}

/* By the inverse of the cumulated weights 1/rank^s. */
static void zipf_trace(uint32_t *trace, double s)
{
	static double cumulated[N_PAGES];
	double sum = 0;
	for (unsigned i = 0; i < N_PAGES; i++)
		cumulated[i] = sum += 1 / pow(i + 1, s);
	random_state = 12345;
	for (unsigned i = 0; i < N_REFERENCES; i++) {
		double at = random_unit() * sum;
		unsigned low = 0, high = N_PAGES - 1;
		while (low < high) {
			unsigned middle = (low + high) / 2;
			if (cumulated[middle] < at)
				low = middle + 1;
			else
				high = middle;
		}
		trace[i] = low;
	}
}

/* Every so often a run over many pages in order, as a backup would. */
static void add_scans(uint32_t *trace)
{
	for (unsigned start = 50000; start + 10000 <= N_REFERENCES; start += 70000) {
		for (unsigned i = 0; i < 10000; i++)
			trace[start + i] = (start / 7 + i) % N_PAGES;
	}
}

/* ---- caches ---- */

static bool resident[N_PAGES];
static uint8_t used[N_PAGES];

static void reset(void)
{
	for (unsigned i = 0; i < N_PAGES; i++) {
		resident[i] = false;
		used[i] = 0;
	}
}

static enum policy_answer ask(void *arg, uint64_t page, unsigned threshold)
{
	if (used[page] >= threshold) {
		used[page]--;
		return POLICY_USED;
	}
	resident[page] = false;
	return POLICY_TAKEN;
}

/* batch: pages that leave at once, as a cache does it. */
static unsigned misses_of_policy(const uint32_t *trace, unsigned n_frames, unsigned batch)
{
	uint64_t gone[64];
	unsigned n_misses = 0, n_resident = 0;
	struct policy *p;
	assert_int_equal(policy_create(&p), 0);
	reset();
	for (unsigned i = 0; i < N_REFERENCES; i++) {
		uint32_t page = trace[i];
		if (resident[page]) {
			if (used[page] < 3)
				used[page]++;
			continue;
		}
		n_misses++;
		if (n_resident == n_frames) {
			unsigned n = policy_pick(p, gone, batch, ask, NULL);
			assert_int_equal(n, batch);
			n_resident -= n;
		}
		assert_int_equal(policy_insert(p, page), 0);
		resident[page] = true;
		used[page] = 0;
		n_resident++;
	}
	policy_destroy(p);
	return n_misses;
}

static unsigned misses_of_fifo(const uint32_t *trace, unsigned n_frames)
{
	static uint32_t queue[N_PAGES];
	unsigned n_misses = 0;
	reset();
	for (unsigned i = 0; i < N_REFERENCES; i++) {
		uint32_t page = trace[i];
		if (resident[page])
			continue;
		if (n_misses >= n_frames)
			resident[queue[n_misses % n_frames]] = false;
		queue[n_misses % n_frames] = page;
		resident[page] = true;
		n_misses++;
	}
	return n_misses;
}

/* A list through arrays; its head stands behind the pages. */
static unsigned misses_of_lru(const uint32_t *trace, unsigned n_frames)
{
	static uint32_t next[N_PAGES + 1], prev[N_PAGES + 1];
	unsigned n_misses = 0, n_resident = 0;
	const uint32_t head = N_PAGES;
	next[head] = prev[head] = head;
	reset();
	for (unsigned i = 0; i < N_REFERENCES; i++) {
		uint32_t page = trace[i];
		if (resident[page]) {
			next[prev[page]] = next[page];
			prev[next[page]] = prev[page];
		} else {
			n_misses++;
			if (n_resident == n_frames) {
				uint32_t oldest = prev[head];
				prev[head] = prev[oldest];
				next[prev[oldest]] = head;
				resident[oldest] = false;
				n_resident--;
			}
			resident[page] = true;
			n_resident++;
		}
		next[page] = next[head];
		prev[page] = head;
		prev[next[page]] = page;
		next[head] = page;
	}
	return n_misses;
}

static uint32_t trace_of_test[N_REFERENCES];

static void compare(const char *name, unsigned n_frames, double over_lru)
{
	unsigned ours = misses_of_policy(trace_of_test, n_frames, 1);
	unsigned batched = misses_of_policy(trace_of_test, n_frames, 64);
	unsigned fifo = misses_of_fifo(trace_of_test, n_frames);
	unsigned lru = misses_of_lru(trace_of_test, n_frames);
	print_message("%s, %u frames: misses %u, in batches %u, fifo %u, lru %u\n", name, n_frames,
	              ours, batched, fifo, lru);
	assert_true(ours <= fifo);
	assert_true(batched <= fifo);
	assert_true(ours <= lru * over_lru);
}

static void zipf(void **state)
{
	zipf_trace(trace_of_test, 1.0);
	compare("zipf 1.0", 500, 1.0);
	compare("zipf 1.0", 2000, 1.0);
	compare("zipf 1.0", 8000, 1.0);
}

static void flat_zipf(void **state)
{
	zipf_trace(trace_of_test, 0.6);
	compare("zipf 0.6", 2000, 1.0);
	compare("zipf 0.6", 8000, 1.0);
}

static void zipf_with_scans(void **state)
{
	zipf_trace(trace_of_test, 1.0);
	add_scans(trace_of_test);
	compare("zipf 1.0 with scans", 500, 1.0);
	compare("zipf 1.0 with scans", 2000, 1.0);
	compare("zipf 1.0 with scans", 8000, 1.0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zipf),
		cmocka_unit_test(flat_zipf),
		cmocka_unit_test(zipf_with_scans),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
