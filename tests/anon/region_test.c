/* A region by its contract: what it holds, what it costs, what it answers. */
#include "region.h"
#include "../../src/cache/core.h"

#include <signal.h>
#include <sys/wait.h>

#define SMALL 64 /* pages */

static size_t large(void) /* pages: some three times the budget */
{
	return 3 * BUDGET / page_size();
}

static void is_zeros_at_first(void **state)
{
	region_make(pages(SMALL), NULL);
	assert_true(bytes_are_zero(base, pages(SMALL)));
	assert_int_equal(away(0, SMALL), 0);
	assert_true(bytes_are_zero(base, pages(SMALL)));
	assert_int_equal(region_stat().n_errors, 0);
}

static void keeps_what_is_stored(void **state)
{
	region_make(pages(large()), NULL);
	for (size_t i = 0; i < large(); i++)
		page_fill(page_at(i), i);
	for (size_t i = 0; i < large(); i++)
		assert_true(page_is(page_at(i), i));
	assert_true(cache_stat().used <= BUDGET);
	assert_true(region_stat().resident + region_stat().pooled >= quire_anon_bytes(region));
}

static void its_size_is_free(void **state)
{
	region_make(2 * GIB, NULL);
	uint64_t before = cache_stat().used;

	base[GIB] = 1;
	assert_true(cache_stat().used - before < 16 * page_size() + MIB);
	assert_int_equal(base[GIB], 1);
}

static void a_clean_page_leaves_for_nothing(void **state)
{
	struct quire_capabilities caps;

	region_make(pages(SMALL), NULL);
	quire_capabilities(&caps);
	if (!caps.anon_tracks_writes)
		skip_because("no write protection by userfaultfd");
	for (size_t i = 0; i < SMALL; i++)
		page_fill(page_at(i), i);
	assert_int_equal(away(0, SMALL), 0);
	assert_int_equal(region_stat().n_moved, SMALL);
	assert_int_equal(want_pages(0, SMALL, 0), 0);
	assert_int_equal(region_stat().dirty, 0);
	assert_int_equal(away(0, SMALL), 0);
	assert_int_equal(region_stat().n_moved, SMALL);
	assert_int_equal(region_stat().n_evictions, 2 * SMALL);
	assert_true(page_is(page_at(7), 7));
}

static void a_write_to_a_clean_page_is_seen(void **state)
{
	region_make(pages(SMALL), NULL);
	page_fill(base, 1);
	assert_int_equal(away(0, 1), 0);
	assert_true(page_is(base, 1));
	page_fill(base, 2);
	assert_int_equal(want_pages(0, 1, 0), 0);
	assert_int_equal(region_stat().dirty, page_size());
	assert_int_equal(region_stat().pooled, 0);
	assert_int_equal(away(0, 1), 0);
	assert_int_equal(region_stat().resident, 0);
	assert_true(page_is(base, 2));
}

static void wanted_to_write_it_does_not_fault(void **state)
{
	region_make(pages(SMALL), NULL);
	page_fill(base, 1);
	assert_int_equal(away(0, 1), 0);
	uint64_t n_faults = region_stat().n_faults;
	assert_int_equal(want_pages(0, 1, 0), 0);
	assert_int_equal(want_pages(0, 2, QUIRE_ANON_WRITE), 0);
	page_fill(base, 3);
	page_fill(page_at(1), 4);
	assert_int_equal(region_stat().n_faults, n_faults);
	assert_int_equal(away(0, 2), 0);
	assert_int_equal(want_pages(0, 2, 0), 0);
	assert_true(page_is(base, 3) && page_is(page_at(1), 4));
	assert_int_equal(region_stat().n_faults, n_faults);
}

static void what_is_pinned_stays(void **state)
{
	region_make(pages(SMALL), NULL);
	page_fill(base, 1);
	assert_int_equal(want_pages(0, 2, QUIRE_ANON_PIN), 0);
	assert_int_equal(away(0, SMALL), 0);
	assert_true(quire_anon_resident(region, base, pages(2)));
	assert_int_equal(advise_pages(0, 2, QUIRE_ANON_DISCARD), -EBUSY);
	assert_int_equal(quire_anon_destroy(region, NULL), -EBUSY);
	assert_true(page_is(base, 1));
	assert_int_equal(unwant_pages(0, 2), 0);
	assert_int_equal(unwant_pages(0, 2), -EINVAL);
	assert_int_equal(away(0, SMALL), 0);
	assert_false(quire_anon_resident(region, base, 1));
}

static void discarded_it_is_zeros(void **state)
{
	region_make(pages(SMALL), NULL);
	for (size_t i = 0; i < SMALL; i++)
		page_fill(page_at(i), i);
	assert_int_equal(away(0, SMALL / 2), 0);
	assert_true(page_is(base, 0)); /* clean, and in the pool */
	/* But for the first byte of the one and the last of the other: only whole pages go. */
	assert_int_equal(quire_anon_advise(region, base + 1, pages(SMALL) - 2, QUIRE_ANON_DISCARD), 0);
	assert_true(page_is(base, 0));
	assert_true(page_is(page_at(SMALL - 1), SMALL - 1));
	assert_true(bytes_are_zero(page_at(1), pages(SMALL - 2)));
	assert_int_equal(advise_pages(0, SMALL, QUIRE_ANON_DISCARD), 0);
	assert_int_equal(region_stat().pooled, 0);
	assert_int_equal(region_stat().resident, 0);
	assert_true(bytes_are_zero(base, pages(SMALL)));
}

static void a_zero_page_costs_next_to_nothing(void **state)
{
	region_make(pages(1024), NULL);
	assert_int_equal(want_pages(0, 1024, QUIRE_ANON_WRITE), 0);
	memset(base, 0, pages(1024));
	assert_int_equal(away(0, 1024), 0);
	assert_int_equal(region_stat().resident, 0);
	assert_true(region_stat().pool_held < pages(1024) / 32);
	assert_true(bytes_are_zero(base, pages(1024)));
}

static void two_regions_are_apart(void **state)
{
	region_make(pages(SMALL), NULL);
	struct quire_anon *other = NULL;
	assert_int_equal(quire_anon_create(cache, pages(SMALL), NULL, &other, NULL), 0);
	char *b = quire_anon_base(other);
	page_fill(base, 1);
	page_fill(b, 2);
	assert_int_equal(away(0, 1), 0);
	assert_int_equal(quire_anon_advise(other, b, 1, QUIRE_ANON_AWAY), 0);
	assert_true(page_is(base, 1) && page_is(b, 2));
	region_end();
	assert_true(page_is(b, 2));
	assert_int_equal(quire_anon_destroy(other, NULL), 0);
}

static void a_pool_may_be_handed_in(void **state)
{
	const struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .page_bytes = (uint32_t)page_size()};
	struct quire_tmem_pool *pool = NULL;
	struct quire_tmem_pool_stat s;
	struct quire_tmem *t = NULL;

	assert_int_equal(quire_cache_tmem(cache, &t, NULL), 0);
	assert_int_equal(quire_tmem_pool_create(t, &o, &pool, NULL), 0);
	region_make(pages(SMALL), &(struct quire_anon_options){.pool = pool});
	for (size_t i = 0; i < SMALL; i++)
		page_fill_noise(page_at(i), i);
	assert_int_equal(away(0, SMALL), 0);
	quire_tmem_pool_stat(pool, &s);
	assert_int_equal(s.n_pages, SMALL);
	assert_true(page_is_noise(page_at(5), 5));
	region_end();
	quire_tmem_pool_stat(pool, &s);
	assert_int_equal(s.n_pages, 0);
	quire_tmem_pool_destroy(pool);
}

static void it_leaves_no_room_behind(void **state)
{
	region_make(pages(large()), NULL);
	for (size_t i = 0; i < large(); i++)
		page_fill(page_at(i), i);
	uint64_t before = cache_stat().tmem;
	region_end();
	assert_true(cache_stat().tmem < before * 3 / 4);
	assert_int_equal(cache_stat().frames, 0);
}

static void a_child_has_no_part_in_it(void **state)
{
	region_make(pages(SMALL), NULL);
	page_fill(base, 1);
	pid_t child = fork();
	if (child == 0) {
		signal(SIGSEGV, SIG_DFL); /* not the test runner's */
		_exit(quire_anon_destroy(region, NULL) == -ECHILD ? *(volatile char *)base & 0 : 1);
	}
	int status = 0;
	assert_int_equal(waitpid(child, &status, 0), child);
	if (!SANITIZED)
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	assert_true(page_is(base, 1));
}

static void what_is_wrong_is_refused(void **state)
{
	struct quire_error err;
	struct quire_anon *a = NULL;
	struct iovec v;

	assert_int_equal(quire_anon_create(cache, 0, NULL, &a, &err), -EINVAL);
	assert_int_equal(quire_anon_create(cache, 1, &(struct quire_anon_options){.size = sizeof(struct quire_anon_options), .flags = 64},
	                                   &a, &err), -EINVAL);
	region_make(1, NULL);
	assert_int_equal(quire_anon_bytes(region), page_size());
	v = (struct iovec){base, page_size() + 1};
	assert_int_equal(quire_anon_want(region, &v, 1, 0, NULL), -EFAULT);
	assert_int_equal(quire_anon_unwant(region, &v, 1), -EFAULT);
	assert_int_equal(quire_anon_advise(region, v.iov_base, v.iov_len, QUIRE_ANON_COLD), -EFAULT);
	v.iov_len = 1;
	assert_int_equal(quire_anon_want(region, &v, 1, 8, NULL), -EINVAL);
	assert_int_equal(quire_anon_advise(region, base, 1, (enum quire_anon_advice)9), -EINVAL);
	assert_int_equal(quire_cache_close(cache), -EBUSY);
}

static void done(struct quire_op *op, void *arg)
{
	*(int *)arg = (int)op->result;
}

static void a_loop_may_ask_for_it(void **state)
{
	struct quire_loop *loop = NULL;
	struct quire_op op;
	int result = 1;

	region_make(pages(SMALL), NULL);
	page_fill(page_at(3), 3);
	assert_int_equal(away(0, SMALL), 0);
	assert_int_equal(quire_loop_create(NULL, &loop, NULL), 0);
	quire_op_init_callback(&op, loop, done, &result);
	const struct iovec v[2] = {{page_at(3), 1}, {page_at(9), 5}};
	assert_int_equal(quire_anon_want(region, v, 2, QUIRE_ANON_PIN | QUIRE_ANON_WRITE, &op), 0);
	while (result == 1)
		quire_loop_poll(loop);
	assert_int_equal(result, 0);
	assert_true(page_is(page_at(3), 3));
	assert_int_equal(quire_anon_unwant(region, v, 2), 0);
	result = 1;
	quire_op_init_callback(&op, loop, done, &result);
	assert_int_equal(quire_anon_destroy(region, &op), 0);
	region = NULL;
	while (result == 1)
		quire_loop_poll(loop);
	assert_int_equal(result, 0);
	quire_loop_destroy(loop);
}

static void cold_pages_leave_first_and_hot_ones_last(void **state)
{
	size_t n = BUDGET / page_size() / 2;

	region_make(pages(large()), NULL);
	assert_int_equal(want_pages(0, n, QUIRE_ANON_WRITE), 0);
	for (size_t i = 0; i < n; i++)
		page_fill(page_at(i), i);
	assert_int_equal(advise_pages(0, 64, QUIRE_ANON_COLD), 0);
	assert_int_equal(advise_pages(64, 64, QUIRE_ANON_HOT), 0);
	for (size_t i = n; i < large(); i++)
		page_fill(page_at(i), i);
	assert_false(quire_anon_resident(region, page_at(0), 1));
	assert_true(quire_anon_resident(region, page_at(64), pages(64)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_CACHE(is_zeros_at_first), IN_CACHE(keeps_what_is_stored), IN_CACHE(its_size_is_free),
		IN_CACHE(a_clean_page_leaves_for_nothing), IN_CACHE(a_write_to_a_clean_page_is_seen),
		IN_CACHE(wanted_to_write_it_does_not_fault), IN_CACHE(what_is_pinned_stays), IN_CACHE(discarded_it_is_zeros),
		IN_CACHE(a_zero_page_costs_next_to_nothing), IN_CACHE(two_regions_are_apart), IN_CACHE(a_pool_may_be_handed_in),
		IN_CACHE(it_leaves_no_room_behind), IN_CACHE(a_child_has_no_part_in_it), IN_CACHE(what_is_wrong_is_refused),
		IN_CACHE(a_loop_may_ask_for_it), IN_CACHE(cold_pages_leave_first_and_hot_ones_last),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
