/* aside.c - see aside.h. */
#include "aside.h"

#include <sched.h>

struct quire_map *big;
uint64_t big_at;

void load(const struct quire_map *m, const char *p)
{
	(void)*(const volatile char *)p;
	while (!quire_map_resident(m, p, 1))
		sched_yield();
}

void load_and_compare(const struct quire_map *m, const char *p, uint64_t offset, uint64_t len)
{
	for (uint64_t at = 0; at < len; at += page_size())
		load(m, p + at);
	assert_bytes(p, SEED, offset, len);
}

struct quire_map *map_random(struct quire_item item)
{
	struct quire_map *m = map_item_of(item);

	assert_int_equal(quire_map_stream(m, 0, QUIRE_STREAM_RANDOM), 0);
	return m;
}

struct quire_map *map_sparse(const char *name, uint64_t len_bytes)
{
	file_sparse(name, len_bytes);
	return map_random((struct quire_item){.path = file_path(name)});
}

uint64_t page_of(const struct quire_map *m, const char *p)
{
	return (uint64_t)(uintptr_t)p >> quire_map_page_shift(m);
}

bool is_aside(const struct quire_map *m, const char *p)
{
	return probation_holds(m->range, page_of(m, p));
}

void begin_with(struct quire_cache_options opts)
{
	opts.budget_bytes = BUDGET;
	opts.signal_faults = true;
	cache_anew(&opts);
	big = map_sparse("big", BIG);
	for (big_at = 0; big_at < BIG; big_at += 64 * KIB) {
		if (big_at % MIB == 0)
			load(big, item_ptr(big, 0) + big_at);
		assert_int_equal(want(big, item_ptr(big, 0) + big_at, 64 * KIB), 0);
	}
}

void begin(void)
{
	begin_with((struct quire_cache_options){0});
}

void end(struct quire_map *m)
{
	assert_true(cache->probation == NULL || probation_check(cache->probation));
	map_end(m);
	map_end(big);
	assert_true(cache->probation == NULL || probation_check(cache->probation));
}

void push_out(struct quire_map *m, const char *p)
{
	for (uint64_t done = 0; quire_map_resident(m, p, 1); done += 64 * KIB) {
		assert_true(done < 4 * BUDGET);
		big_at = (big_at + 64 * KIB) % BIG;
		assert_int_equal(want(big, item_ptr(big, 0) + big_at, 64 * KIB), 0);
	}
}

struct quire_map *map_few(struct quire_item item)
{
	file_write("few", SEED, FEW * page_size());
	file_age("few");
	item.path = file_path("few");
	return map_random(item);
}

void read_and_push_out(struct quire_map *m)
{
	size_t n = item_len(m, 0);

	load_and_compare(m, item_ptr(m, 0), 0, n);
	for (size_t at = 0; at < n; at += page_size())
		push_out(m, item_ptr(m, 0) + at);
}

const char *find_aside(struct quire_map *m)
{
	for (size_t at = 0; at < item_len(m, 0); at += page_size())
		if (is_aside(m, item_ptr(m, 0) + at))
			return item_ptr(m, 0) + at;
	fail_msg("none of the pages is aside");
	return NULL;
}

uint64_t offset_of(struct quire_map *m, const char *p)
{
	return (uint64_t)(p - item_ptr(m, 0));
}
