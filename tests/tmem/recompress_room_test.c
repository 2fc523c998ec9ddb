/* Recompression when memory is short: in puts, and where it finds none for itself. */
#include "cold.h"
#include "failing.h"
#include "with_pages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>

/* How many pages a persistent pool takes. */
static uint32_t n_accepted(uint32_t flags)
{
	uint64_t budget = with_pages(7 * MIB / 2, BEGUN_PAGES);
	struct quire_tmem *t = cold_make(budget);
	struct quire_tmem_pool *pool = cold_make_pool(t, QUIRE_TMEM_PERSISTENT, flags);
	uint32_t n = 0;

	while (cold_put(pool, n, n) == 0)
		n++;
	cold_get_all(pool, n);
	assert_true(cold_stat(t).held_bytes <= budget);
	quire_tmem_destroy(t);
	return n;
}

static void puts_recompress_before_they_are_refused(void **state)
{
	uint32_t n = n_accepted(0);

	assert_true(n_accepted(QUIRE_TMEM_COLD) > n + n / 3);
}

static void a_cap_is_recompressed_for_as_well(void **state)
{
	struct quire_tmem *t = cold_make(64 * MIB);
	uint32_t n[2] = {0, 0};

	for (unsigned k = 0; k < 2; k++) {
		struct quire_tmem_pool *pool = cold_make_pool(t, QUIRE_TMEM_PERSISTENT, k == 0 ? 0 : QUIRE_TMEM_COLD);
		assert_int_equal(quire_tmem_pool_set_cap(pool, MIB / 2), 0);
		while (cold_put(pool, n[k], n[k]) == 0)
			n[k]++;
		cold_get_all(pool, n[k]);
	}
	assert_true(n[1] > n[0] + n[0] / 2);
	/* Nor does anything leave before. */
	for (unsigned k = 0; k < 2; k++) {
		struct quire_tmem_pool *pool = cold_make_pool(t, QUIRE_TMEM_EPHEMERAL, k == 0 ? 0 : QUIRE_TMEM_COLD);
		struct quire_tmem_pool_stat s;
		assert_int_equal(quire_tmem_pool_set_cap(pool, with_pages(MIB / 2, POOL_PAGES)), 0);
		cold_put_all(pool, n[0] + n[0] / 4);
		quire_tmem_pool_stat(pool, &s);
		assert_true(k == 0 ? s.n_evicted > 0 : s.n_evicted == 0);
	}
	quire_tmem_destroy(t);
}

static void a_budget_that_leaves_no_room_loses_nothing(void **state)
{
	struct quire_tmem *t = cold_make(16 * MIB);
	struct quire_tmem_pool *pool = cold_make_pool(t, QUIRE_TMEM_PERSISTENT, BOTH);
	uint64_t least = 0;

	cold_put_all(pool, 600);
	cold_rounds(t, 3);
	/* What it holds now is all it may: of one page more, and two, … and as many as it takes for all to go on. */
	uint64_t held = cold_stat(t).held_bytes;
	(void)quire_tmem_set_budget(t, held, &least);
	int64_t rc = quire_tmem_recompress(t, UINT32_MAX);
	assert_int_equal(rc, -ENOMEM);
	bool changed = false;
	for (uint64_t more = 0; !changed || more < 2 * MIB; more += 61440) {
		assert_int_equal(quire_tmem_set_budget(t, held + more, NULL), 0);
		rc = quire_tmem_recompress(t, 16);
		assert_true(rc == -ENOMEM || rc >= 0);
		changed = changed || rc > 0;
		assert_true(cold_stat(t).held_bytes <= held + more);
		assert_int_equal(cold_stat(t).n_pages, 600);
		cold_get_all(pool, 20);
	}
	cold_get_all(pool, 600);
	quire_tmem_destroy(t);
}

static void memory_for_recompression_is_given_back(void **state)
{
	struct quire_tmem *t = cold_make(4 * MIB);
	struct quire_tmem_pool *pool = cold_make_pool(t, QUIRE_TMEM_PERSISTENT, QUIRE_TMEM_COLD);
	uint32_t n = 0;

	for (; t->recompressor.packer == NULL; n++)
		assert_int_equal(cold_put(pool, n, n), 0);
	uint64_t held = cold_stat(t).held_bytes;
	/* Nobody but recompression can give that much. */
	assert_int_equal(quire_tmem_set_budget(t, held - 300000, NULL), 0);
	assert_null(t->recompressor.packer);
	cold_get_all(pool, n);
	quire_tmem_destroy(t);
}

/* Pages go cold, are used again, and go cold once more, while the nth allocation is refused. False: there are not so many. */
static bool go_through(uint64_t n)
{
	struct quire_tmem *t = cold_make(16 * MIB);
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .flags = BOTH, .cold_rounds = 1};
	struct quire_tmem_pool *pool;

	assert_int_equal(quire_tmem_pool_create(t, &o, &pool, NULL), 0);
	cold_put_all(pool, 12);
	failing_nth(n);
	for (unsigned i = 0; i < 6; i++) {
		int64_t rc = quire_tmem_recompress(t, UINT32_MAX);
		assert_true(rc >= 0 || rc == -ENOMEM);
		if (i == 2 || i == 3)
			cold_get_all(pool, 12);
	}
	bool refused = failing_n_refused() > 0;
	failing_off();
	cold_get_all(pool, 12);
	assert_int_equal(cold_stat(t).n_pages, 12);
	assert_int_equal(cold_stat(t).held_bytes, budget_used(t->budget));
	/* And with memory it goes on. */
	cold_rounds(t, 3);
	assert_true(cold_stat(t).recompress_saved_bytes > 0);
	cold_get_all(pool, 12);
	quire_tmem_destroy(t);
	assert_int_equal(failing_mapped_bytes(), 0);
	return refused;
}

static void each_single_refusal_loses_nothing(void **state)
{
	uint64_t n = 1;

	while (go_through(n))
		n++;
	assert_true(n > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(puts_recompress_before_they_are_refused),
		cmocka_unit_test(a_cap_is_recompressed_for_as_well),
		cmocka_unit_test(a_budget_that_leaves_no_room_loses_nothing),
		cmocka_unit_test(memory_for_recompression_is_given_back),
		cmocka_unit_test(each_single_refusal_loses_nothing),
	};
	return cmocka_run_group_tests_name("tmem-recompress-room", tests, NULL, NULL);
}
