/* Advice has the effect that it promises: cold leaves first, hot last, pinned never. */
#include "../../src/cache/core.h"
#include "../support/maps.h"

#define ITEM (4 * MIB)

static struct quire_map *map_two(void)
{
	file_sparse("a", ITEM);
	file_sparse("b", ITEM);
	const struct quire_item items[] = {{.path = file_path("a")}, {.path = file_path("b")}};

	return map_items(items, 2);
}

static unsigned n_resident(struct quire_map *m, size_t item)
{
	const uint32_t *words = quire_map_residency(m);
	size_t first = (size_t)(item_ptr(m, item) - item_ptr(m, 0)) / page_size();
	unsigned n = 0;

	for (size_t i = first; i < first + ITEM / page_size(); i++)
		n += words[i] & QUIRE_RESIDENT;
	return n;
}

/* Takes in that many bytes of another file. */
static struct quire_map *push(uint64_t bytes)
{
	file_sparse("push", bytes);
	struct quire_map *m = map_name("push");

	for (uint64_t at = 0; at < bytes; at += MIB)
		assert_int_equal(want(m, item_ptr(m, 0) + at, MIB), 0);
	return m;
}

static void cold_leaves_first(void **state)
{
	struct quire_map *m = map_two();

	assert_int_equal(want(m, quire_map_base(m), 2 * ITEM), 0);
	assert_int_equal(want(m, item_ptr(m, 0), ITEM), 0); /* used twice: worth more than b */
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_COLD), 0);
	assert_int_equal(n_resident(m, 0), ITEM / page_size());
	struct quire_map *other = push(CACHE_BUDGET - 2 * ITEM);
	assert_true(n_resident(m, 0) < ITEM / page_size());
	assert_int_equal(n_resident(m, 1), ITEM / page_size());
	map_end(other);
	map_end(m);
}

static void other_advice_takes_cold_back(void **state)
{
	struct quire_map *m = map_two();

	assert_int_equal(want(m, quire_map_base(m), 2 * ITEM), 0);
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_COLD), 0);
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_HOT), 0);
	struct quire_map *other = push(CACHE_BUDGET - 2 * ITEM);
	assert_int_equal(n_resident(m, 0), ITEM / page_size());
	map_end(other);
	map_end(m);
}

static void cold_again_and_again_takes_no_memory(void **state)
{
	struct quire_map *m = map_two();
	uint64_t before = status_bytes("VmData");

	/* If each took an entry, a MiB and a half (a sanitizer, which is slow at it, looks at how, and not at how much). */
	for (unsigned i = 0; i < (SANITIZED ? 4096 : 65536); i++)
		assert_int_equal(quire_map_advise(m, i % 2, QUIRE_ADVISE_COLD), 0);
	assert_true(status_bytes("VmData") < before + MIB);
	map_end(m);
}

static void hot_leaves_last(void **state)
{
	struct quire_map *m = map_two();

	assert_int_equal(quire_map_advise(m, 1, QUIRE_ADVISE_HOT), 0); /* before it is there */
	assert_int_equal(want(m, quire_map_base(m), 2 * ITEM), 0);
	press();
	assert_int_equal(n_resident(m, 1), ITEM / page_size());
	assert_true(n_resident(m, 0) < ITEM / page_size());
	/* Taken back, and given to one that is there. */
	assert_int_equal(quire_map_advise(m, 1, QUIRE_ADVISE_WARM), 0);
	assert_int_equal(want(m, quire_map_base(m), 2 * ITEM), 0);
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_HOT), 0);
	press();
	assert_int_equal(n_resident(m, 0), ITEM / page_size());
	map_end(m);
}

static void hot_is_no_pin(void **state)
{
	file_sparse("big", 2 * CACHE_BUDGET);
	struct quire_map *m = map_name("big");

	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_HOT), 0);
	for (uint64_t at = 0; at < 2 * CACHE_BUDGET; at += MIB)
		assert_int_equal(want(m, item_ptr(m, 0) + at, MIB), 0);
	assert_true(cache_stat().used <= cache_stat().budget);
	map_end(m);
}

struct loose_word {
	uint64_t value;
} __attribute__((packed, may_alias));

/* Each of the two would come in the place of the other, if nothing else left for it. */
static void hot_leaves_for_a_load_across_pages(void **state)
{
	cache_anew(&(struct quire_cache_options){.size = sizeof(struct quire_cache_options), .budget_bytes = 8 * MIB,
	                                         .no_probation = true, .no_second_chance = true, .signal_faults = true});
	struct quire_map *m = map_two();
	const char *p = item_ptr(m, 0);
	uint64_t n_charged = 0;

	file_sparse("hot", 10 * MIB);
	struct quire_map *hot = map_name("hot");
	assert_int_equal(quire_map_advise(hot, 0, QUIRE_ADVISE_HOT), 0);
	for (uint64_t at = 0; at < 10 * MIB; at += MIB)
		assert_int_equal(want(hot, item_ptr(hot, 0) + at, MIB), 0);
	assert_int_equal(quire_map_stream(m, 0, QUIRE_STREAM_RANDOM), 0);
	assert_int_equal(want(m, p, 1), 0);
	while (budget_try_charge(&cache->budget, BUDGET_OTHER, page_size()))
		n_charged += page_size();
	assert_int_equal(((const volatile struct loose_word *)(p + 2 * page_size() - 4))->value, 0);
	budget_uncharge(&cache->budget, BUDGET_OTHER, n_charged);
	map_end(hot);
	map_end(m);
}

static void pinned_never_leaves(void **state)
{
	struct quire_map *m = map_two();

	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_PINNED), 0);
	assert_int_equal(n_resident(m, 0), ITEM / page_size());
	press();
	assert_int_equal(n_resident(m, 0), ITEM / page_size());
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_COLD), 0);
	press();
	assert_int_equal(n_resident(m, 0), 0);
	map_end(m);
}

static void cold_extents_go_with_their_map(void **state)
{
	for (unsigned i = 0; i < 20; i++) {
		struct quire_map *m = map_two();

		assert_int_equal(want(m, quire_map_base(m), ITEM), 0);
		assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_COLD), 0);
		map_end(m);
	}
	map_end(push(2 * CACHE_BUDGET));
}

static void no_such_advice(void **state)
{
	struct quire_map *m = map_two();

	assert_int_equal(quire_map_advise(m, 0, (enum quire_advice)9), -EINVAL);
	assert_int_equal(quire_map_advise(m, 0, (enum quire_advice)-1), -EINVAL);
	assert_int_equal(quire_map_advise(m, 2, QUIRE_ADVISE_COLD), -EINVAL);
	map_end(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_CHECKED(cold_leaves_first),
		ON_CHECKED(other_advice_takes_cold_back),
		ON_SERVICE(cold_again_and_again_takes_no_memory),
		ON_CHECKED(hot_leaves_last),
		ON_CHECKED(hot_is_no_pin),
		ON_FAULTING(hot_leaves_for_a_load_across_pages),
		ON_CHECKED(pinned_never_leaves),
		ON_CHECKED(cold_extents_go_with_their_map),
		ON_EACH(no_such_advice),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
