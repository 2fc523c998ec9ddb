/* region.h - a cache and a region for each test, and what pages of it should hold. */
#ifndef TESTS_ANON_REGION_H
#define TESTS_ANON_REGION_H

#include "../support/files.h"

#include <errno.h>
#include <quire/anon.h>
#include <quire/cache.h>
#include <quire/error.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern struct quire_cache *cache;
extern struct quire_anon *region;
extern char *base; /* of the region */

#define BUDGET (8 * MIB)

int region_setup(void **state);    /* a cache with that budget, no region */
int region_teardown(void **state); /* fails where something is left */
#define IN_CACHE(test) cmocka_unit_test_setup_teardown(test, region_setup, region_teardown)

/* skip() with a word, and without ending the cache. */
void skip_because(const char *why);

/* Skips where this process can't have one. */
void region_make(size_t len_bytes, const struct quire_anon_options *opts);
void region_end(void);

struct quire_anon_stat region_stat(void);
struct quire_cache_stat cache_stat(void);

/* The n-th page from p on holds what belongs to `seed`: text that compresses, or noise that doesn't. */
void page_fill(char *p, uint64_t seed);
void page_fill_noise(char *p, uint64_t seed);
bool page_is(const char *p, uint64_t seed);
bool page_is_noise(const char *p, uint64_t seed);

/* Of pages [first, first + n) of the region. */
int want_pages(size_t first, size_t n, unsigned flags);
int unwant_pages(size_t first, size_t n);
int advise_pages(size_t first, size_t n, enum quire_anon_advice advice);
/* They leave, as far as they can; a page whose load has just gone on may not have arrived, so they are wanted before. */
int away(size_t first, size_t n);
static inline char *page_at(size_t i)
{
	return base + i * page_size();
}

#endif
