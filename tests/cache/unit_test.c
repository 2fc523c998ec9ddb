/* Units by their words: what may be claimed, what is put back, what the policy is told. */
#include "../../src/cache/core.h"
#include "../../src/cache/evict.h"
#include "../../src/cache/fill.h"
#include "../../src/cache/unit.h"
#include "../support/maps.h"

#define N_PAGES 1024u
#define FILL_ID 3u /* of no filler that is at work */

static struct range *range;
static uint64_t first; /* of the range: aligned to every unit */

static int locate(void *owner, uint64_t page, struct page_source *ret)
{
	return -EFAULT;
}

static void failed(void *owner, uint64_t item, uint64_t item_offset, int error)
{
}

static const struct range_ops ops = {.locate = locate, .failed = failed};

static void begin(void)
{
	assert_int_equal(range_create(cache, ARENA_PINNED, N_PAGES, &ops, NULL, &range, NULL), 0);
	first = range->first_page;
}

static void end(void)
{
	assert_int_equal(range_kill(range), 0);
	range_free(range);
}

static unsigned n_of(enum unit_size size)
{
	return 1u << unit_shift(cache, size);
}

/* Claimed, as by a fill, and nothing yet. */
static void fill_pages(uint64_t at, unsigned n, enum unit_size size)
{
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(fill_claim(range, first + at + i, size, FILL_ID, false), 0);
}

static void enter_pages(uint64_t at, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		assert_true(evict_enter(range, first + at + i, FILL_ID, 0));
}

static void bring(uint64_t at, unsigned n, enum unit_size size)
{
	fill_pages(at, n, size);
	enter_pages(at, n);
}

static enum page_state state_of(uint64_t at)
{
	return page_state(page_load(range_word(range, first + at)));
}

static unsigned n_in(uint64_t at, unsigned n, enum page_state state)
{
	unsigned found = 0;

	for (unsigned i = 0; i < n; i++)
		found += state_of(at + i) == state;
	return found;
}

static bool is_queued(uint64_t at)
{
	return (page_load(range_word(range, first + at)) & PAGE_QUEUED) != 0;
}

/* The policy's question, as the shard's owner asks it. */
static enum policy_answer ask(uint64_t at, enum unit_size size, unsigned threshold, bool spare_hot, struct victim *ret)
{
	struct shard *s = cache_shard(cache, first + at);

	pthread_mutex_lock(&s->lock);
	enum policy_answer answer = unit_ask(cache, unit_entry(first + at, size), threshold, spare_hot, ret);
	pthread_mutex_unlock(&s->lock);
	return answer;
}

static void put_back(const struct victim *v)
{
	for (unsigned i = 0; i < v->n_pages; i++)
		if (victim_has(v, i))
			page_move(arena_word(v->arena, v->first + i), PAGE_RESIDENT, 0, PAGE_QUEUED | PAGE_UNIT_MASK);
}

/* ---- entries ---- */

static void entries_name_page_and_size(void **state)
{
	const uint64_t numbers[] = {0, 1, 511, UINT64_C(1) << 52};

	for (unsigned i = 0; i < 4; i++) {
		for (int size = UNIT_PAGE; size < N_UNIT_SIZES; size++) {
			uint64_t entry = unit_entry(numbers[i], (enum unit_size)size);

			assert_int_equal(unit_entry_page(entry), numbers[i]);
			assert_int_equal(unit_entry_size(entry), size);
		}
	}
}

static void units_are_aligned(void **state)
{
	begin();
	for (int size = UNIT_PAGE; size < N_UNIT_SIZES; size++) {
		unsigned shift = unit_shift(cache, (enum unit_size)size), n = 1u << shift;

		assert_true(n <= UNIT_MAX_PAGES);
		for (unsigned at = 0; at < N_PAGES; at += 37)
			assert_int_equal(unit_first(range->arena, first + at, shift), first + at / n * n);
	}
	end();
}

/* ---- claims ---- */

static void all_that_is_there_is_claimed(void **state)
{
	unsigned n = n_of(UNIT_64K);
	struct victim v;

	begin();
	bring(0, n - 1, UNIT_64K); /* the item ends in it */
	bring(n, n, UNIT_64K);
	assert_true(unit_claim(cache, range->arena, first + n / 2, &v));
	assert_int_equal(v.first, first);
	assert_int_equal(v.n_claimed, n - 1);
	assert_int_equal(n_in(0, n, PAGE_EVICTING), n - 1);
	assert_int_equal(n_in(n, n, PAGE_RESIDENT), n); /* its neighbour */
	assert_false(unit_claim(cache, range->arena, first, &v));
	put_back(&v);
	end();
}

/* Of a unit of which one page can't leave, none does; each is as it was. */
static void none_is_claimed_if_one_cannot_be(void **state)
{
	unsigned n = n_of(UNIT_64K);
	struct victim v;

	begin();
	if (n == 1)
		skip_because("pages of 64 KiB");
	bring(0, n - 1, UNIT_64K);
	fill_pages(n - 1, 1, UNIT_64K);
	assert_false(unit_claim(cache, range->arena, first, &v));
	assert_int_equal(n_in(0, n - 1, PAGE_RESIDENT), n - 1);
	assert_int_equal(ask(0, UNIT_64K, 0, false, &v), POLICY_BUSY);
	enter_pages(n - 1, 1);
	assert_int_equal(evict_pin(range, first + n - 1, page_load(range_word(range, first + n - 1))), 0);
	assert_false(unit_claim(cache, range->arena, first, &v));
	assert_int_equal(ask(0, UNIT_64K, 0, false, &v), POLICY_BUSY);
	assert_int_equal(n_in(0, n, PAGE_RESIDENT), n);
	assert_true(is_queued(0));
	assert_true(evict_unpin(range, first + n - 1));
	assert_int_equal(evict_range(range, first, 1), n);
	end();
}

/* ---- what the policy is told ---- */

static void the_most_used_page_speaks_for_its_unit(void **state)
{
	unsigned n = n_of(UNIT_16K);
	struct victim v;

	begin();
	bring(0, n, UNIT_16K);
	for (unsigned i = 0; i < 2; i++)
		page_touch(range_word(range, first + n - 1), page_load(range_word(range, first + n - 1)));
	assert_int_equal(ask(0, UNIT_16K, 2, false, &v), POLICY_USED);
	assert_int_equal(page_uses(page_load(range_word(range, first + n - 1))), 1);
	assert_int_equal(ask(0, UNIT_16K, 2, false, &v), POLICY_TAKEN);
	assert_int_equal(v.n_claimed, n);
	assert_false(is_queued(0));
	put_back(&v);
	end();
}

static void what_is_gone_is_forgotten(void **state)
{
	unsigned n = n_of(UNIT_64K);
	struct victim v;

	begin();
	bring(0, n, UNIT_64K);
	bring(n, 1, UNIT_64K); /* keeps the words of the region */
	assert_int_equal(evict_range(range, first, n), n);
	assert_true(is_queued(0));
	assert_int_equal(ask(0, UNIT_64K, 0, false, &v), POLICY_GONE);
	assert_false(is_queued(0));
	end();
}

/* An entry of an earlier map names a page inside of a unit: nothing of it may be taken. */
static void entry_inside_of_a_larger_unit(void **state)
{
	unsigned n = n_of(UNIT_64K);
	struct victim v;

	begin();
	bring(0, n, UNIT_64K);
	for (unsigned i = 1; i < n; i++) {
		assert_int_equal(ask(i, UNIT_PAGE, 0, false, &v), POLICY_GONE);
		if (i % n_of(UNIT_16K) == 0)
			assert_int_equal(ask(i, UNIT_16K, 0, false, &v), POLICY_GONE);
	}
	assert_int_equal(n_in(0, n, PAGE_RESIDENT), n);
	assert_true(is_queued(0));
	assert_int_equal(ask(0, UNIT_PAGE, 0, false, &v), POLICY_TAKEN); /* where the unit begins, it is the unit's */
	assert_int_equal(v.n_claimed, n);
	put_back(&v);
	end();
}

/* And one of a unit that was larger takes no more than the unit that begins there now. */
static void entry_over_smaller_units(void **state)
{
	unsigned n = n_of(UNIT_16K), large = n_of(UNIT_64K);
	struct victim v;

	begin();
	if (large == n)
		skip_because("pages of 64 KiB");
	bring(n, n, UNIT_16K);
	assert_int_equal(ask(0, UNIT_64K, 0, false, &v), POLICY_GONE);
	assert_int_equal(n_in(n, n, PAGE_RESIDENT), n);
	bring(0, n, UNIT_16K);
	assert_int_equal(ask(0, UNIT_64K, 0, false, &v), POLICY_TAKEN);
	assert_int_equal(v.first, first);
	assert_int_equal(v.n_claimed, n);
	assert_int_equal(n_in(n, n, PAGE_RESIDENT), n);
	put_back(&v);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_AUTO(entries_name_page_and_size),
		ON_AUTO(units_are_aligned),
		ON_AUTO(all_that_is_there_is_claimed),
		ON_AUTO(none_is_claimed_if_one_cannot_be),
		ON_AUTO(the_most_used_page_speaks_for_its_unit),
		ON_AUTO(what_is_gone_is_forgotten),
		ON_AUTO(entry_inside_of_a_larger_unit),
		ON_AUTO(entry_over_smaller_units),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
