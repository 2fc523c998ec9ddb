/* The map by itself, at size: every block of a volume lies somewhere else, as after random writes, and some have been written again. How
 * much memory, media and reading a mapping costs then, and that a cap is a cap. Pages are in a file.
 *
 * Quick, that is a small volume and a small cap; long, 1 TiB (or QUIRE_MAP_GIB) and 8 MiB. Its pages take some 4 GiB below $TMPDIR then. */
#include "../../src/volume/map_tree.h"
#include "volume_env.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define N_AGEINGS 8u

struct scale {
	struct map_owner owner;
	struct budget budget;
	struct map_cache *cache;
	struct map_delta delta;
	struct map_root root;
	FILE *file;
	uint64_t cap_bytes; /* half of it pages, a quarter a delta, and one is being merged */
	unsigned n_lookups;
	uint64_t n_places, n_live, n_written, n_read;
	uint64_t n_blocks, birth, random;
};

static struct scale *scale_of(struct map_owner *owner)
{
	return (struct scale *)(void *)owner;
}

static int read_page(struct map_owner *owner, uint64_t place, void *page)
{
	struct scale *s = scale_of(owner);

	s->n_read++;
	ssize_t n = pread(fileno(s->file), page, MAP_BLOCK_BYTES, (off_t)((place - MAP_FIRST_PLACE) * MAP_BLOCK_BYTES));
	return n == MAP_BLOCK_BYTES ? 0 : -EIO;
}

static int write_pages(struct map_owner *owner, const void *pages, unsigned n, uint64_t *ret_places)
{
	struct scale *s = scale_of(owner);

	for (unsigned i = 0; i < n; i++) {
		uint64_t at = s->n_places++;
		ret_places[i] = MAP_FIRST_PLACE + at;
		ssize_t done = pwrite(fileno(s->file), (const uint8_t *)pages + (size_t)i * MAP_BLOCK_BYTES, MAP_BLOCK_BYTES,
		                      (off_t)(at * MAP_BLOCK_BYTES));
		if (done != MAP_BLOCK_BYTES)
			return -EIO;
	}
	s->n_live += n;
	s->n_written += n;
	return 0;
}

/* Places of data are made up, beyond all of pages. */
#define FIRST_DATA (UINT64_C(1) << 34)

static void dead(struct map_owner *owner, uint64_t place, uint64_t n)
{
	if (place < FIRST_DATA)
		scale_of(owner)->n_live -= n;
}

static uint64_t place_of(uint64_t lba, uint64_t birth)
{
	uint64_t state = lba * 16 + birth;

	return FIRST_DATA + random_next(&state) % (UINT64_C(1) << 30);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool is_full(const struct scale *s)
{
	return map_delta_bytes(&s->delta) >= s->cap_bytes / 4;
}

static void merge(struct scale *s)
{
	struct map_merge m = {.env = {s->cache, &s->owner}, .delta = &s->delta, .tree = 1, .birth = s->birth};

	assert_int_equal(map_merge(&m, &s->root, &s->root), 0);
	map_delta_fini(&s->delta);
}

static void set(struct scale *s, uint64_t lba)
{
	struct map_extent e = {.lba = lba, .n = 1, .place = place_of(lba, s->birth), .birth = s->birth};

	assert_int_equal(map_delta_set(&s->delta, 1, &e, NULL, NULL), 0);
	if (is_full(s))
		merge(s);
}

static void look(struct scale *s, uint64_t lba)
{
	struct map_tree_env env = {s->cache, &s->owner};
	struct map_extent e;
	bool gap;

	assert_int_equal(map_tree_look(&env, &s->root, lba, lba + 1, 0, &e, &gap), 0);
	assert_true(!gap && e.n == 1 && e.place == place_of(lba, e.birth));
}

static void choose_size(struct scale *s)
{
	const char *given = getenv("QUIRE_MAP_GIB");
	bool is_long = getenv("QUIRE_TEST_LONG") != NULL || given != NULL;
	uint64_t mib = !is_long ? 256 : given != NULL ? strtoull(given, NULL, 0) << 10 : UINT64_C(1) << 20;

	s->cap_bytes = is_long ? UINT64_C(8) << 20 : 256u << 10;
	s->n_lookups = is_long ? 200000 : 10000;
	s->n_blocks = mib << (20 - MAP_BLOCK_SHIFT);
	print_message("  %llu MiB in blocks of 4 KiB, cap %llu KiB\n", (unsigned long long)mib, (unsigned long long)(s->cap_bytes >> 10));
}

static FILE *open_pages(void)
{
	const char *dir = getenv("TMPDIR");
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/quire-map-XXXXXX", dir != NULL ? dir : "/tmp");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	(void)unlink(path);
	return fdopen(fd, "r+");
}

static void report(struct scale *s, const char *when, double seconds, uint64_t n_writes)
{
	print_message("  %s: %.1f bytes on media for each mapping; %.2f us of processor and %.0f bytes of pages for each write\n", when,
	              (double)s->n_live * MAP_BLOCK_BYTES / (double)s->n_blocks, seconds * 1e6 / (double)n_writes,
	              (double)s->n_written * MAP_BLOCK_BYTES / (double)n_writes);
	s->n_written = 0;
}

static void measure_lookups(struct scale *s)
{
	struct map_cache_stat before, stat;

	for (unsigned i = 0; i < s->n_lookups / 2; i++)
		look(s, random_next(&s->random) % s->n_blocks);
	map_cache_stat(s->cache, &before);
	s->n_read = 0;
	double from = now();
	for (unsigned i = 0; i < s->n_lookups; i++)
		look(s, random_next(&s->random) % s->n_blocks);
	double us = (now() - from) * 1e6 / s->n_lookups;
	map_cache_stat(s->cache, &stat);
	/* Leaves hold as many on average as there are mappings for each page. */
	double per_page = (double)s->n_blocks / (double)s->n_live, n_cached = (double)stat.n_pages * per_page;
	double n_delta = (double)s->cap_bytes / 66;
	double per_mapping = (double)(stat.bytes + s->cap_bytes / 2) / (n_cached + n_delta);
	print_message("  a lookup at random reads %.2f pages, %.2f us of processor; %.1f bytes of memory for each mapping in pages, %.1f with deltas\n",
	              (double)s->n_read / s->n_lookups, us, (double)stat.bytes / n_cached, per_mapping);
	assert_true(stat.bytes <= s->cap_bytes / 2);
	assert_true(budget_used(&s->budget) <= s->cap_bytes / 2);
	assert_true(per_mapping <= 16);
	assert_true((double)s->n_read / s->n_lookups <= 2.5); /* a leaf, and what is above it if that does not fit */
}

static void map_of_a_large_volume(void **state)
{
	struct scale s = {.owner = {map_cache_new_owner(), read_page, write_pages, dead}, .birth = 1, .random = 7};

	(void)state;
	choose_size(&s);
	s.file = open_pages();
	assert_non_null(s.file);
	budget_init(&s.budget, UINT64_MAX / 2);
	assert_int_equal(map_cache_create(s.cap_bytes / 2, &s.budget, &s.cache), 0);
	double from = now();
	for (uint64_t lba = 0; lba < s.n_blocks; lba++)
		set(&s, lba);
	merge(&s);
	report(&s, "each block somewhere else", now() - from, s.n_blocks);
	uint64_t n = 0;
	from = now();
	for (unsigned i = 0; i < N_AGEINGS; i++) {
		s.birth++;
		for (bool ended = false; !ended; n++) {
			uint64_t before = s.n_written;
			set(&s, random_next(&s.random) % s.n_blocks);
			ended = s.n_written != before;
		}
	}
	report(&s, "some written again at random", now() - from, n);
	assert_true((double)s.n_live * MAP_BLOCK_BYTES / (double)s.n_blocks <= 24);
	measure_lookups(&s);
	map_cache_destroy(s.cache);
	map_delta_fini(&s.delta);
	(void)fclose(s.file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(map_of_a_large_volume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
