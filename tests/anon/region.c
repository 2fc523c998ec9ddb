/* region.c - see region.h. */
#include "region.h"

struct quire_cache *cache;
struct quire_anon *region;
char *base;

int region_setup(void **state)
{
	const struct quire_cache_options o = {.size = sizeof(o), .budget_bytes = BUDGET};
	return quire_cache_open(&o, &cache, NULL);
}

int region_teardown(void **state)
{
	if (region != NULL)
		quire_anon_destroy(region, NULL);
	region = NULL;
	struct quire_cache_stat s = cache_stat();
	int rc = quire_cache_close(cache);

	cache = NULL;
	if (rc == 0 && s.frames == 0 && s.pinned == 0 && s.n_maps == 0)
		return 0;
	print_error("left in the cache: %d, %llu maps, %llu bytes of frames, %llu pinned\n", rc, (unsigned long long)s.n_maps,
	            (unsigned long long)s.frames, (unsigned long long)s.pinned);
	return -1;
}

void skip_because(const char *why)
{
	print_message("skipped: %s\n", why);
	skip();
}

void region_make(size_t len_bytes, const struct quire_anon_options *opts)
{
	struct quire_anon_options o = {.size = sizeof(o)};
	struct quire_capabilities caps;
	struct quire_error err = {0};

	if (opts != NULL)
		o = *opts;
	o.size = sizeof(o);
	quire_capabilities(&caps);
	if (!caps.anon && (o.flags & QUIRE_ANON_PINNED) == 0)
		skip_because("no UFFDIO_MOVE");
	int rc = quire_anon_create(cache, len_bytes, &o, &region, &err);
	if (rc < 0)
		fail_msg("%s", err.text);
	base = quire_anon_base(region);
}

void region_end(void)
{
	assert_int_equal(quire_anon_destroy(region, NULL), 0);
	region = NULL;
}

struct quire_anon_stat region_stat(void)
{
	struct quire_anon_stat s;

	assert_int_equal(quire_anon_stat(region, &s), 0);
	return s;
}

struct quire_cache_stat cache_stat(void)
{
	struct quire_cache_stat s;

	assert_int_equal(quire_cache_stat(cache, &s), 0);
	return s;
}

/* One word of sixteen is noise: LZ4 makes it an eighth. */
static uint64_t word_of(uint64_t seed, size_t i, bool noise)
{
	uint64_t x = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15) + i * UINT64_C(0xD6E8FEB86659FD93);

	x ^= x >> 31, x *= UINT64_C(0xBF58476D1CE4E5B9), x ^= x >> 29;
	return noise || i % 16 == 0 ? x : seed;
}

static void fill(char *p, uint64_t seed, bool noise)
{
	for (size_t i = 0; i < page_size() / sizeof(uint64_t); i++)
		((uint64_t *)(void *)p)[i] = word_of(seed, i, noise);
}

static bool is(const char *p, uint64_t seed, bool noise)
{
	for (size_t i = 0; i < page_size() / sizeof(uint64_t); i++)
		if (((const uint64_t *)(const void *)p)[i] != word_of(seed, i, noise))
			return false;
	return true;
}

void page_fill(char *p, uint64_t seed)
{
	fill(p, seed, false);
}

void page_fill_noise(char *p, uint64_t seed)
{
	fill(p, seed, true);
}

bool page_is(const char *p, uint64_t seed)
{
	return is(p, seed, false);
}

bool page_is_noise(const char *p, uint64_t seed)
{
	return is(p, seed, true);
}

static struct iovec run(size_t first, size_t n)
{
	return (struct iovec){page_at(first), pages(n)};
}

int want_pages(size_t first, size_t n, unsigned flags)
{
	struct iovec v = run(first, n);

	return quire_anon_want(region, &v, 1, flags, NULL);
}

int unwant_pages(size_t first, size_t n)
{
	struct iovec v = run(first, n);

	return quire_anon_unwant(region, &v, 1);
}

int advise_pages(size_t first, size_t n, enum quire_anon_advice advice)
{
	return quire_anon_advise(region, page_at(first), pages(n), advice);
}

int away(size_t first, size_t n)
{
	int rc = want_pages(first, n, 0);

	return rc < 0 ? rc : advise_pages(first, n, QUIRE_ANON_AWAY);
}
