/* Claims of whole units, and who waits for what is claimed. */
#include "../support/maps.h"

#include "../../src/cache/filler.h"
#include "../../src/cache/unit.h"

#include <pthread.h>

/* A claim that is to be made by another thread. */
struct claim {
	struct range *range;
	uint64_t first;
	unsigned n;
	struct fill *fill;
	int rc;
};

static void *claims(void *arg)
{
	struct claim *c = arg;

	c->rc = fill_claim_unit(c->range, c->first, c->n, UNIT_2M, c->fill);
	return NULL;
}

static unsigned count_state(const struct claim *c, enum page_state state)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->n; i++)
		n += page_state(page_load(range_word(c->range, c->first + i))) == state;
	return n;
}

/* Nothing was read: all words are ABSENT again. */
static void take_back(struct claim *c)
{
	c->fill->range = c->range;
	c->fill->page = c->first;
	c->fill->n_pages = (uint16_t)c->n;
	assert_null(fill_settle(c->fill));
}

static struct quire_map *map_unit(struct claim *ret_claim)
{
	file_sparse("unit", UNIT_2M_BYTES);
	struct quire_map *m = map_item_of((struct quire_item){.path = file_path("unit"), .page_bytes = QUIRE_PAGE_2M});
	uint64_t first = (uintptr_t)item_ptr(m, 0) >> cache->page_shift;

	if (quire_map_item_page_bytes(m, 0) != UNIT_2M_BYTES) {
		map_end(m);
		skip_because("pages are not moved here");
	}
	*ret_claim = (struct claim){
		.range = range_find(cache, first),
		.first = first,
		.n = 1u << unit_shift(cache, UNIT_2M),
		.fill = atomic_load(&cache->fillers[0])->fills,
	};
	return m;
}

/* Who parks does so under the fill's lock. Were words to name it before all are claimed, and one of them were
 * not to be had, whoever had parked meanwhile would wait for a fill that never was. */
static void a_unit_is_claimed_under_its_fills_lock(void **state)
{
	struct claim c;
	struct quire_map *m = map_unit(&c);
	pthread_t thread;

	pthread_mutex_lock(&c.fill->lock);
	assert_int_equal(pthread_create(&thread, NULL, claims, &c), 0);
	usleep(30000);
	unsigned n_early = count_state(&c, PAGE_FILLING);
	pthread_mutex_unlock(&c.fill->lock);
	pthread_join(thread, NULL);
	assert_int_equal(n_early, 0);
	assert_int_equal(c.rc, 0);
	assert_int_equal(count_state(&c, PAGE_FILLING), c.n);
	assert_int_equal(cache_stat().frames, UNIT_2M_BYTES);
	take_back(&c);
	range_put(c.range);
	map_end(m);
}

/* All of a unit, or nothing: neither words nor charges are left. */
static void a_unit_that_is_in_use_is_not_claimed(void **state)
{
	struct claim c;
	struct quire_map *m = map_unit(&c);

	assert_int_equal(fill_claim(c.range, c.first + 300 % c.n, UNIT_2M, c.fill[1].id, false), 0);
	claims(&c);
	assert_int_equal(c.rc, -EBUSY);
	assert_int_equal(count_state(&c, PAGE_ABSENT), c.n - 1);
	assert_int_equal(cache_stat().frames, cache_page_bytes(cache));
	struct claim one = {c.range, c.first + 300 % c.n, 1, &c.fill[1], 0};
	take_back(&one);
	assert_int_equal(cache_stat().frames, 0);
	range_put(c.range);
	map_end(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_SERVICE(a_unit_is_claimed_under_its_fills_lock),
		ON_SERVICE(a_unit_that_is_in_use_is_not_claimed),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
