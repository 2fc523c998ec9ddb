/* When the pool takes no more, and when what it had is damaged. */
#include "region.h"

#include "../../src/cache/anon.h"
#include "../../src/cache/evict.h"
#include "../../src/tmem/tmem_internal.h"
#include "../support/trap.h"

#define CAP (2 * MIB)
#define SOME (MIB / 4) /* what a pool may have taken before it said no */

static size_t large(void) /* pages */
{
	return 4 * BUDGET / page_size();
}

/* Want after want, each page filled with noise, until one is refused; how many were not. */
static size_t fill_with_noise(size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int rc = want_pages(i, 1, QUIRE_ANON_WRITE);

		if (rc < 0) {
			assert_int_equal(rc, -ENOMEM);
			return i;
		}
		page_fill_noise(page_at(i), i);
	}
	return n;
}

static void a_want_is_refused_what_has_no_room(void **state)
{
	region_make(pages(large()), NULL);
	size_t n = fill_with_noise(large());

	assert_true(n > BUDGET / page_size() / 2 && n < large());
	assert_true(cache_stat().used <= BUDGET + SOME);
	assert_true(region_stat().n_refused > 0);
	for (size_t i = 0; i < n; i++)
		assert_true(page_is_noise(page_at(i), i));
	/* There is room again where some is given up. */
	assert_int_equal(advise_pages(0, 128, QUIRE_ANON_DISCARD), 0);
	assert_int_equal(want_pages(large() - 8, 8, QUIRE_ANON_WRITE), 0);
}

static void a_store_passes_the_budget_and_loses_nothing(void **state)
{
	size_t n = 3 * BUDGET / 2 / page_size();

	region_make(pages(large()), NULL);
	for (size_t i = 0; i < n; i++)
		page_fill_noise(page_at(i), i);
	assert_true(cache_stat().used > BUDGET);
	for (size_t i = 0; i < n; i++)
		assert_true(page_is_noise(page_at(i), i));
	/* What comes back into the budget is what can leave. */
	for (size_t i = 0; i < n; i++)
		page_fill(page_at(i), i);
	assert_int_equal(want_pages(n, 256, QUIRE_ANON_WRITE), 0);
	assert_true(cache_stat().used <= BUDGET + SOME);
	for (size_t i = 0; i < n; i++)
		assert_true(page_is(page_at(i), i));
}

static void strictly_a_store_traps_instead(void **state)
{
	trap_install(); /* in each test: cmocka has handlers of its own */
	region_make(pages(large()), &(struct quire_anon_options){.flags = QUIRE_ANON_STRICT});
	size_t n = fill_with_noise(large()), trapped = 0;

	for (size_t i = n; i < n + 64; i++)
		trapped += load_traps(page_at(i));
	assert_true(trapped > 0);
	assert_true(cache_stat().used <= BUDGET + SOME);
	for (size_t i = 0; i < n; i++)
		assert_true(page_is_noise(page_at(i), i));
	/* Touched again when there is room: wanted, since what trapped stays so until then. */
	assert_int_equal(advise_pages(0, n / 2, QUIRE_ANON_DISCARD), 0);
	assert_int_equal(want_pages(n, 64, 0), 0);
	assert_true(bytes_are_zero(page_at(n), pages(64)));
}

static void a_cap_holds_and_others_leave_instead(void **state)
{
	region_make(pages(large()), &(struct quire_anon_options){.cap_bytes = CAP});
	size_t n = 2 * BUDGET / page_size(), n_zero = n / 2;

	for (size_t i = 0; i < n; i++)
		page_fill(page_at(i), i);
	assert_true(region_stat().pool_held <= CAP);
	/* Clean pages can always leave. */
	assert_int_equal(advise_pages(0, n_zero, QUIRE_ANON_DISCARD), 0);
	assert_int_equal(want_pages(n, n_zero, 0), 0);
	for (size_t i = n_zero; i < n; i++)
		assert_true(page_is(page_at(i), i));
	assert_true(region_stat().pool_held <= CAP);
}

/* As if another thread came just then. */
static size_t stays;

void __real_evict_stay(struct range *r, uint64_t page);
void __wrap_evict_stay(struct range *r, uint64_t page);

void __wrap_evict_stay(struct range *r, uint64_t page)
{
	__real_evict_stay(r, page);
	if (stays > 0 && --stays == 0)
		assert_int_equal(advise_pages(0, 1, QUIRE_ANON_DISCARD), 0);
}

/* The only page there is: frames of others would hide one that is given back before it is taken again. */
static void what_stays_may_be_dropped_at_once(void **state)
{
	region_make(pages(4), &(struct quire_anon_options){.cap_bytes = page_size()});
	page_fill_noise(base, 1);
	assert_int_equal(want_pages(0, 1, 0), 0);
	stays = 1;
	assert_int_equal(advise_pages(0, 1, QUIRE_ANON_AWAY), 0);
	assert_int_equal(stays, 0);
	assert_true(region_stat().n_refused > 0);
	assert_true(bytes_are_zero(base, page_size()));
}

static void a_budget_may_shrink_under_it(void **state)
{
	size_t n = BUDGET * 3 / 2 / page_size();

	region_make(pages(large()), NULL);
	assert_int_equal(quire_cache_set_budget(cache, 2 * BUDGET), 0);
	for (size_t i = 0; i < n; i++)
		page_fill(page_at(i), i);
	assert_int_equal(want_pages(0, n, 0), 0);
	assert_int_equal(quire_cache_set_budget(cache, QUIRE_BUDGET_MIN_BYTES), 0);
	assert_true(cache_stat().used <= QUIRE_BUDGET_MIN_BYTES);
	for (size_t i = 0; i < n; i++)
		assert_true(page_is(page_at(i), i));
}

/* Flips a bit of all that the only content of a pool is. */
static void damage(struct quire_tmem_pool *pool, size_t page)
{
	struct quire_tmem *t = pool->tmem;

	for (uint64_t serial = 1; serial < 64; serial++) {
		const struct quire_tmem_key key = {{serial, 0, ANON_OBJECT}, (uint32_t)page};
		uint64_t word;

		pthread_mutex_lock(&t->lock);
		struct where at = tmem_page_find(pool, &key);
		if (at.value != VALUE_NONE)
			((unsigned char *)storage_at(&t->storage, content_place(t, at.value, &word)))[sizeof(struct slot_head) + 9] ^= 4;
		pthread_mutex_unlock(&t->lock);
	}
}

static void damage_is_one_pages_and_an_error(void **state)
{
	const struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .page_bytes = (uint32_t)page_size()};
	struct quire_tmem_pool *pool = NULL;
	struct quire_tmem *t = NULL;

	trap_install();
	assert_int_equal(quire_cache_tmem(cache, &t, NULL), 0);
	assert_int_equal(quire_tmem_pool_create(t, &o, &pool, NULL), 0);
	region_make(pages(8), &(struct quire_anon_options){.pool = pool});
	for (size_t i = 0; i < 8; i++)
		page_fill(page_at(i), i);
	assert_int_equal(away(0, 8), 0);
	damage(pool, 3);
	assert_int_equal(want_pages(3, 1, 0), -EBADMSG);
	assert_int_equal(want_pages(0, 8, QUIRE_ANON_WRITE), -EBADMSG);
	assert_true(load_traps(page_at(3)));
	for (size_t i = 0; i < 8; i++)
		assert_true(i == 3 || page_is(page_at(i), i));
	assert_true(region_stat().n_errors > 0);
	assert_int_equal(advise_pages(3, 1, QUIRE_ANON_DISCARD), 0);
	assert_true(bytes_are_zero(page_at(3), page_size()));
	region_end();
	quire_tmem_pool_destroy(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_CACHE(a_want_is_refused_what_has_no_room), IN_CACHE(a_store_passes_the_budget_and_loses_nothing),
		IN_CACHE(strictly_a_store_traps_instead), IN_CACHE(a_cap_holds_and_others_leave_instead),
		IN_CACHE(what_stays_may_be_dropped_at_once),
		IN_CACHE(a_budget_may_shrink_under_it), IN_CACHE(damage_is_one_pages_and_an_error),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
