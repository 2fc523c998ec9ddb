/* Regions whose pages leave memory for a backing, and come back: what they hold, what waits for it, what becomes of it when I/O fails. */
#include "region.h"

#include "../support/trap.h"
#include "../tmem/fake_backing.h"

#include <quire/loop.h>
#include <semaphore.h>

#define SOME (MIB / 4)
#define SEGMENT (256u << 10)
#define N_SEGMENTS 80u

static struct fake_backing backing;
static struct quire_tmem *tmem;

static int setup(void **state)
{
	if (region_setup(state) < 0)
		return -1;
	backing = (struct fake_backing){0};
	fake_backing_init(&backing, N_SEGMENTS, SEGMENT);
	assert_int_equal(quire_cache_tmem(cache, &tmem, NULL), 0);
	assert_int_equal(fake_backing_set(&backing, tmem, (uint32_t)page_size()), 0);
	return 0;
}

static int teardown(void **state)
{
	int rc = region_teardown(state); /* the tmem with it */

	fake_backing_fini(&backing);
	return rc;
}

#define SPILLING(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#define RUN 64

static size_t large(void) /* pages: more than the budget */
{
	return 3 * BUDGET / 2 / page_size();
}

static void make(void)
{
	region_make(pages(large()), &(struct quire_anon_options){.flags = QUIRE_ANON_SPILL});
}

static uint64_t n_spilled(void)
{
	struct quire_tmem_stat s;

	quire_tmem_stat(tmem, &s);
	return s.n_spilled;
}

/* By wants, which don't pass the budget. */
static void fill_all(void)
{
	for (size_t i = 0; i < large(); i++) {
		if (i % RUN == 0)
			assert_int_equal(want_pages(i, RUN, QUIRE_ANON_WRITE), 0);
		page_fill_noise(page_at(i), i);
	}
}

static void check_all(void)
{
	for (size_t i = 0; i < large(); i++) {
		if (i % RUN == 0)
			assert_int_equal(want_pages(i, RUN, 0), 0);
		if (i % 4 == 0)
			assert_true(page_is_noise(page_at(i), i));
	}
}

static void noise_beyond_the_budget_is_held(void **state)
{
	make();
	fill_all();
	assert_true(cache_stat().used <= BUDGET + SOME);
	assert_true(n_spilled() > large() / 8);
	check_all();
	/* By raw loads, too. */
	for (size_t i = 0; i < large(); i += 16)
		assert_true(page_is_noise(page_at(i), i));
	assert_true(cache_stat().used <= BUDGET + SOME);
	assert_true(region_stat().pool_held <= BUDGET / 2 + SOME);
	assert_int_equal(region_stat().n_errors, 0);
}

static void what_was_spilled_may_be_changed_and_discarded(void **state)
{
	make();
	fill_all();
	for (size_t i = 0; i < RUN; i += 3)
		page_fill_noise(page_at(i), i + 7);
	assert_int_equal(advise_pages(1, 1, QUIRE_ANON_DISCARD), 0);
	assert_int_equal(advise_pages(0, RUN, QUIRE_ANON_AWAY), 0);
	for (size_t i = 0; i < RUN; i++)
		assert_true(i == 1 ? bytes_are_zero(page_at(i), page_size()) : page_is_noise(page_at(i), i % 3 == 0 ? i + 7 : i));
	assert_int_equal(advise_pages(0, large(), QUIRE_ANON_DISCARD), 0);
	assert_int_equal(n_spilled(), 0);
}

static void without_userfaultfd_too(void **state)
{
	size_t n = BUDGET / 4 / page_size();

	region_make(pages(large()), &(struct quire_anon_options){.flags = QUIRE_ANON_SPILL | QUIRE_ANON_PINNED});
	for (unsigned turn = 0; turn < 2; turn++)
		for (size_t first = 0; first < large(); first += n) {
			assert_int_equal(want_pages(first, n, QUIRE_ANON_PIN | (turn == 0 ? QUIRE_ANON_WRITE : 0)), 0);
			for (size_t i = first; i < first + n; i++) {
				if (turn == 0)
					page_fill_noise(page_at(i), i);
				else
					assert_true(page_is_noise(page_at(i), i));
			}
			assert_int_equal(unwant_pages(first, n), 0);
		}
	assert_true(n_spilled() > 0);
}

static void a_pool_may_be_handed_in(void **state)
{
	const struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .flags = QUIRE_TMEM_SPILL,
	                                          .page_bytes = (uint32_t)page_size(), .cap_bytes = MIB};
	struct quire_tmem_pool *pool = NULL;

	assert_int_equal(quire_tmem_pool_create(tmem, &o, &pool, NULL), 0);
	region_make(pages(large()), &(struct quire_anon_options){.pool = pool});
	fill_all();
	assert_true(region_stat().pool_held <= MIB);
	check_all();
	region_end();
	assert_int_equal(n_spilled(), 0);
	quire_tmem_pool_destroy(pool);
	assert_int_equal(quire_anon_create(cache, 1, &(struct quire_anon_options){.size = sizeof(struct quire_anon_options), .flags = QUIRE_ANON_SPILL, .pool = pool},
	                                   &region, NULL), -EINVAL);
}

/* ---- who waits ---- */

struct asker {
	struct quire_loop *loop;
	sem_t others_ran;
	size_t page;
	int rc;
	_Atomic bool ended;
};

static void wait_for_others(void *arg)
{
	struct asker *a = arg;

	sem_wait(&a->others_ran);
}

static void ask(void *arg)
{
	struct asker *a = arg;

	a->rc = want_pages(a->page, 1, 0);
	a->ended = true;
}

/* The read ends when this has run: behind the one that asked. */
static void other(void *arg)
{
	struct asker *a = arg;

	quire_co_yield();
	assert_false(a->ended);
	sem_post(&a->others_ran);
}

/* One that left memory. */
static size_t find_spilled(void)
{
	for (size_t i = 0; i < large(); i++) {
		unsigned n_reads = backing.n_reads;

		assert_int_equal(want_pages(i, 1, 0), 0);
		if (backing.n_reads > n_reads) {
			assert_int_equal(advise_pages(i, 1, QUIRE_ANON_AWAY), 0);
			return i;
		}
	}
	fail_msg("all in memory");
	return 0;
}

static void a_coroutine_is_suspended_and_its_loop_goes_on(void **state)
{
	struct asker a = {0};
	struct quire_capabilities caps;

	make();
	quire_capabilities(&caps);
	if (!caps.anon_tracks_writes)
		skip_because("no write protection by userfaultfd: the page would be put anew");
	fill_all();
	a.page = find_spilled();
	sem_init(&a.others_ran, 0, 0);
	assert_int_equal(quire_loop_create(NULL, &a.loop, NULL), 0);
	pthread_mutex_lock(&backing.lock);
	backing.hook_arg = &a;
	backing.hook = wait_for_others;
	pthread_mutex_unlock(&backing.lock);
	assert_int_equal(quire_co_spawn(a.loop, ask, &a), 0);
	assert_int_equal(quire_co_spawn(a.loop, other, &a), 0);
	assert_int_equal(quire_loop_run(a.loop), 0);
	assert_int_equal(a.rc, 0);
	assert_true(page_is_noise(page_at(a.page), a.page));
	assert_int_equal(quire_loop_destroy(a.loop), 0);
	sem_destroy(&a.others_ran);
}

/* ---- I/O that fails ---- */

static void where_nothing_can_be_written_it_is_full(void **state)
{
	size_t i;
	int rc = 0;

	make();
	backing.fail_writes = true;
	for (i = 0; i < large() && (rc = want_pages(i, 1, QUIRE_ANON_WRITE)) == 0; i++)
		page_fill_noise(page_at(i), i);
	assert_int_equal(rc, -ENOMEM);
	assert_true(i > BUDGET / page_size() / 2);
	assert_true(cache_stat().used <= BUDGET + SOME);
	for (size_t k = 0; k < i; k += 4)
		assert_true(page_is_noise(page_at(k), k));
	backing.fail_writes = false;
	/* It is tried again soon. */
	while (want_pages(i, 1, QUIRE_ANON_WRITE) == -ENOMEM)
		usleep(10000);
	for (size_t k = 0; k < i; k += 4)
		assert_true(page_is_noise(page_at(k), k));
}

static void what_cannot_be_read_is_its_pages_error(void **state)
{
	struct quire_capabilities caps;

	trap_install();
	make();
	quire_capabilities(&caps);
	if (!caps.anon_tracks_writes)
		skip_because("no write protection by userfaultfd: the page would be put anew");
	fill_all();
	size_t page = find_spilled();
	backing.fail_reads = true;
	assert_int_equal(want_pages(page, 1, 0), -EIO);
	assert_true(load_traps(page_at(page)));
	backing.fail_reads = false;
	assert_int_equal(want_pages(page, 1, 0), 0);
	check_all();
}

static void it_ends_while_pages_are_on_their_way(void **state)
{
	struct iovec all;
	struct quire_op op;

	make();
	fill_all();
	all = (struct iovec){base, pages(large())};
	quire_op_init(&op);
	int rc = quire_anon_want(region, &all, 1, 0, &op);
	region_end();
	assert_true(rc == 0);
	int64_t result = quire_await(&op);
	assert_true(result == -ECANCELED || result == 0);
	assert_int_equal(n_spilled(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SPILLING(noise_beyond_the_budget_is_held),
		SPILLING(what_was_spilled_may_be_changed_and_discarded), SPILLING(without_userfaultfd_too),
		SPILLING(a_pool_may_be_handed_in), SPILLING(a_coroutine_is_suspended_and_its_loop_goes_on),
		SPILLING(where_nothing_can_be_written_it_is_full), SPILLING(what_cannot_be_read_is_its_pages_error),
		SPILLING(it_ends_while_pages_are_on_their_way),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
