/* probation.c - what pages on probation are worth to raw loads, and what they cost.
 *
 *   bench-probation zipf|hot|scan raw|want service|signal on|off FILE BYTES BUDGET ACCESSES
 *
 * One thread touches pages of the first BYTES of FILE, one by one: as many to warm up, then those that count.
 *   zipf  by a zipfian distribution, exponent 0.99, its ranks scattered over the file
 *   hot   in turn one of a hot set of a quarter of the budget, and the next of a scan through the file; other pages
 *         are hot as soon as each was touched ten times, on average
 *   scan  all in their order: no page is ever worth a copy
 * raw: loads and nothing else. want: asked for before, which tells the cache of each.
 * Page n of the file begins with n, and ends with its complement: both are looked at. Prints one line of JSON.
 */
#include "random.h"
#include "clock.h"
#include "fail.h"

#include <quire/quire.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THETA 0.99

struct bench {
	const char *pattern;
	bool wants;
	struct quire_cache *cache;
	struct quire_map *map;
	const unsigned char *base;
	uint64_t n_pages, n_hot, scan_at, n_done, random, n_wrong;
	double zeta, zeta2; /* of n_pages, of 2 */
};

struct sample {
	double seconds, cpu_seconds;
	struct quire_cache_stat stat;
};

/* Scatters ranks over the file. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
	x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
	return x ^ (x >> 31);
}

/* The least page is rank 0 (Gray et al., Quickly generating billion-record synthetic databases, 1994). */
static uint64_t zipf_rank(struct bench *b)
{
	double u = (double)(random_next(&b->random) >> 11) / 9007199254740992.0, uz = u * b->zeta, n = (double)b->n_pages;
	double eta = (1 - pow(2 / n, 1 - THETA)) / (1 - b->zeta2 / b->zeta);

	if (uz < 1)
		return 0;
	if (uz < 1 + pow(0.5, THETA))
		return 1;
	return (uint64_t)(n * pow(eta * u - eta + 1, 1 / (1 - THETA))) % b->n_pages;
}

static uint64_t next_page(struct bench *b)
{
	uint64_t n = b->n_done++;

	if (b->pattern[0] == 'z')
		return mix(zipf_rank(b) + 1) % b->n_pages;
	if (b->pattern[0] == 'h' && n % 2 == 0)
		return mix(n / (20 * b->n_hot) * b->n_hot + random_below(&b->random, b->n_hot) + 1) % b->n_pages;
	b->scan_at = (b->scan_at + 1) % b->n_pages;
	return b->scan_at;
}

static void touch(struct bench *b, uint64_t page)
{
	size_t page_bytes = (size_t)1 << quire_map_page_shift(b->map);
	const unsigned char *p = b->base + page * page_bytes;

	if (b->wants) {
		struct iovec v = { (void *)(uintptr_t)p, 1 };
		int rc = quire_map_want(b->map, &v, 1, 0, NULL);
		if (rc < 0)
			die("want", rc);
	}
	uint64_t head = *(const volatile uint64_t *)(const void *)p;
	uint64_t tail = *(const volatile uint64_t *)(const void *)(p + page_bytes - sizeof(tail));
	b->n_wrong += head != page || tail != ~page;
}

static struct sample sample(struct bench *b)
{
	struct sample s = {
		.seconds = now_seconds(),
		.cpu_seconds = cpu_seconds(),
	};

	if (quire_cache_stat(b->cache, &s.stat) < 0)
		die("statistics", -EIO);
	return s;
}

static void open_all(struct bench *b, char **argv)
{
	const struct quire_cache_options cache_options = {
		.size = sizeof(cache_options),
		.budget_bytes = strtoull(argv[7], NULL, 10),
		.signal_faults = true,
		.no_probation = strcmp(argv[4], "off") == 0,
	};
	const struct quire_map_options map_options = {
		.size = sizeof(map_options),
		.fault = strcmp(argv[3], "signal") == 0 ? QUIRE_FAULT_SIGNAL : QUIRE_FAULT_SERVICE,
	};
	const struct quire_item item = {
		.path = argv[5],
		.len_bytes = strtoull(argv[6], NULL, 10),
		.page_bytes = QUIRE_PAGE_4K,
	};
	struct quire_error err = { 0 };
	int rc = quire_cache_open(&cache_options, &b->cache, &err);

	if (rc == 0)
		rc = quire_map_create(b->cache, &item, 1, &map_options, &b->map, &err);
	if (rc < 0)
		die(err.text, rc);
	b->base = quire_map_base(b->map);
	b->n_pages = quire_map_bytes(b->map) >> quire_map_page_shift(b->map);
	b->n_hot = (cache_options.budget_bytes >> quire_map_page_shift(b->map)) / 4;
	for (uint64_t i = 1; i <= b->n_pages && b->pattern[0] == 'z'; i++)
		b->zeta += pow(1.0 / (double)i, THETA);
	b->zeta2 = 1 + pow(0.5, THETA);
}

int main(int argc, char **argv)
{
	struct bench b = { .random = 1 };
	uint64_t n = argc == 9 ? strtoull(argv[8], NULL, 10) : 0;

	if (n == 0) {
		fprintf(stderr, "usage: bench-probation zipf|hot|scan raw|want service|signal on|off FILE BYTES BUDGET "
		                "ACCESSES\n");
		return 2;
	}
	b.pattern = argv[1];
	b.wants = strcmp(argv[2], "want") == 0;
	open_all(&b, argv);
	for (uint64_t i = 0; i < n; i++)
		touch(&b, next_page(&b));
	struct sample before = sample(&b);
	for (uint64_t i = 0; i < n; i++)
		touch(&b, next_page(&b));
	struct sample after = sample(&b);

	double seconds = after.seconds - before.seconds, accesses = (double)n;
	printf("{\"misses\": %.6f, \"came_back\": %.6f, \"accesses_per_s\": %.0f, \"cpu_us\": %.4f, "
	       "\"copies_bytes\": %llu, \"used_bytes\": %llu, \"wrong\": %llu}\n",
	       (double)(after.stat.n_fills - before.stat.n_fills) / accesses,
	       (double)(after.stat.n_probation_hits - before.stat.n_probation_hits) / accesses, accesses / seconds,
	       (after.cpu_seconds - before.cpu_seconds) * 1e6 / accesses, (unsigned long long)after.stat.probation,
	       (unsigned long long)after.stat.used, (unsigned long long)b.n_wrong);
	quire_map_destroy(b.map, NULL);
	quire_cache_close(b.cache);
	return 0;
}
