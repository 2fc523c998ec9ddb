/* Pages that leave stay as compressed copies where that is worth while: a copy is read instead of the file, stays when its page
 * comes back, and what is out of date never comes. */
#include "copies.h"
#include "../../src/cache/fill.h"
#include "../../src/cache/unit.h"
#include "../support/trap.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#define SEED 5u
#define FEW 16u

/* Everything is counted: the loading thread may be woken a moment before that. */
static void settle(struct quire_map *m, const char *p)
{
	while (fault != QUIRE_FAULT_PINNED && !quire_map_resident(m, p, 1))
		sched_yield();
}

static void a_copy_is_read_instead_of_the_file(void **state)
{
	struct quire_map *m = map_soft("f", SEED, FEW);
	const char *p = item_ptr(m, 0) + pages(3);

	leave_copy(m, p);
	struct quire_map_stat before = map_stat(m);
	soft_read(m, p, SEED, pages(3), page_size());
	settle(m, p);
	assert_int_equal(map_stat(m).n_fills, before.n_fills);
	assert_int_equal(map_stat(m).n_second_chance_hits, before.n_second_chance_hits + 1);
	assert_int_equal(cache_stat().n_second_chance_hits, before.n_second_chance_hits + 1);
	assert_true(has_copy(m, p));
	map_end(m);
}

static void leaving_again_costs_nothing(void **state)
{
	struct quire_map *m = map_soft("f", SEED, FEW);
	const char *p = item_ptr(m, 0);

	leave_copy(m, p);
	uint64_t n_puts = cache_stat().n_second_chance_puts, n_fills = map_stat(m).n_fills;
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(want(m, p, 1), 0);
		leave(m, p);
	}
	assert_int_equal(cache_stat().n_second_chance_puts, n_puts);
	assert_int_equal(map_stat(m).n_fills, n_fills);
	assert_int_equal(cache_stat().second_chance_pages, 1);
	map_end(m);
}

/* All pages of a unit have left, and there are copies of all. */
static struct quire_map *map_of_a_unit(void)
{
	if (page_size() != QUIRE_PAGE_4K)
		skip_because("units are of one page or few here");
	soft_write("f", SEED, 0, FEW * page_size());
	struct quire_map *m = map_item_of((struct quire_item){.path = file_path("f"), .page_bytes = QUIRE_PAGE_64K});
	const char *p = item_ptr(m, 0);

	assert_int_equal(quire_map_stream(m, 0, QUIRE_STREAM_RANDOM), 0);
	for (unsigned i = 0; i < 64 && cache_stat().second_chance_pages < FEW; i++) {
		assert_int_equal(want(m, p, FEW * page_size()), 0);
		leave(m, p);
	}
	assert_int_equal(cache_stat().second_chance_pages, FEW);
	return m;
}

static void a_unit_comes_back_together(void **state)
{
	struct quire_map *m = map_of_a_unit();
	const char *p = item_ptr(m, 0);

	uint64_t n_fills = map_stat(m).n_fills;
	soft_read(m, p + pages(5), SEED, pages(5), page_size());
	settle(m, p + pages(FEW - 1));
	soft_read(m, p, SEED, 0, FEW * page_size());
	assert_int_equal(map_stat(m).n_fills, n_fills);
	map_end(m);
}

/* Where the budget has room for half of it and nothing else may leave: the page that is asked for would come, leave for the others, and be
 * asked for again, for ever. */
static void a_unit_does_not_push_itself_out(void **state)
{
	struct quire_map *m = map_of_a_unit();

	while (chance_reserve(cache) > 0) { /* for copies that are to come: there are no more */
		assert_int_equal(want(m, item_ptr(m, 0), FEW * page_size()), 0);
		leave(m, item_ptr(m, 0));
	}
	uint64_t rest = budget_limit(&cache->budget) - budget_used(&cache->budget) - FEW / 2 * page_size();

	budget_charge(&cache->budget, BUDGET_OTHER, rest);
	soft_read(m, item_ptr(m, 0) + pages(5), SEED, pages(5), page_size());
	assert_int_equal(want(m, item_ptr(m, 0) + pages(2), 1), 0);
	budget_uncharge(&cache->budget, BUDGET_OTHER, rest);
	map_end(m);
}

/* ---- what goes ---- */

static void purged_copies_are_gone(void **state)
{
	struct quire_map *m = map_soft("f", SEED, FEW);

	leave_copy(m, item_ptr(m, 0));
	assert_int_equal(quire_map_purge(m, item_ptr(m, 0), item_len(m, 0)), 0);
	assert_false(has_copy(m, item_ptr(m, 0)));
	assert_int_equal(cache_stat().second_chance_pages, 0);
	map_end(m);
}

static void purging_a_page_leaves_its_neighbours(void **state)
{
	struct quire_map *m = map_soft("f", SEED, 1100);
	const size_t at[] = {0, 1, 1023, 1024, 1025, 1099};

	for (unsigned i = 0; i < 6; i++)
		leave_copy(m, item_ptr(m, 0) + pages(at[i]));
	assert_int_equal(quire_map_purge(m, item_ptr(m, 0) + pages(1), pages(1024)), 0);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(has_copy(m, item_ptr(m, 0) + pages(at[i])), i == 0 || i >= 4);
	map_end(m);
}

static void copies_of_a_cold_item_are_gone(void **state)
{
	struct quire_map *m = map_soft("f", SEED, FEW);

	leave_copy(m, item_ptr(m, 0));
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_COLD), 0);
	assert_int_equal(cache_stat().second_chance_pages, 0);
	map_end(m);
}

static void copies_go_with_their_map(void **state)
{
	struct quire_map *m = map_soft("f", SEED, FEW);

	leave_copy(m, item_ptr(m, 0));
	map_end(m);
	assert_int_equal(cache_stat().second_chance_pages, 0);
}

/* ---- what is out of date ---- */

static void a_copy_of_a_changed_file_is_not_shown(void **state)
{
	struct quire_map *m = map_soft("f", SEED, FEW);
	const char *p = item_ptr(m, 0);

	leave_copy(m, p);
	soft_write("f", SEED + 1, 0, FEW * page_size());
	assert_int_equal(want(m, p, 1), -ESTALE);
	assert_false(has_copy(m, p));
	assert_int_equal(map_stat(m).n_second_chance_hits, 0);
	map_end(m);
}

static void a_fault_on_such_a_copy_traps(void **state)
{
	struct quire_map *m = map_soft("f", SEED, FEW);
	const char *p = item_ptr(m, 0);

	leave_copy(m, p);
	soft_write("f", SEED + 1, 0, FEW * page_size());
	assert_true(load_traps(p));
	map_end(m);
}

static void extending_drops_the_copy_of_the_last_page(void **state)
{
	uint64_t len = FEW * page_size() - 100;

	soft_write("grows", SEED, 0, len);
	struct quire_map *m = map_item_of((struct quire_item){
		.path = file_path("grows"), .flags = QUIRE_ITEM_APPEND, .reserve_bytes = 2 * FEW * page_size()});
	const char *p = item_ptr(m, 0), *last = p + pages(FEW - 1);

	leave_copy(m, p);
	leave_copy(m, last);
	soft_write("grows", SEED, len, 500);
	size_t now;
	assert_int_equal(quire_map_extend(m, 0, &now), 0);
	assert_int_equal(now, len + 500);
	assert_true(has_copy(m, p));
	assert_false(has_copy(m, last));
	soft_read(m, p, SEED, 0, len + 500);
	map_end(m);
}

/* Whoever loads a page asks where it comes from, and stops there while the item grows and its new last page leaves, as a copy, too. */
static struct {
	const struct range_ops *ops;
	const char *page;
	_Atomic bool asked, grown, read;
} growth;

static int locate_and_stop(void *owner, uint64_t page, struct page_source *ret)
{
	int rc = growth.ops->locate(owner, page, ret);

	if (!atomic_exchange(&growth.asked, true))
		while (!atomic_load(&growth.grown))
			sched_yield();
	return rc;
}

static void *load_what_grows(void *arg)
{
	(void)*(const volatile char *)growth.page;
	atomic_store(&growth.read, true);
	return NULL;
}

static void a_load_that_began_before_its_item_grew_ends(void **state)
{
	uint64_t len = FEW * page_size() - 1000;

	soft_write("grows", SEED, 0, len);
	struct quire_map *m = map_item_of((struct quire_item){
		.path = file_path("grows"), .flags = QUIRE_ITEM_APPEND, .reserve_bytes = 2 * FEW * page_size()});
	struct range_ops stopping = *m->range->ops;
	const char *last = item_ptr(m, 0) + pages(FEW - 1);
	pthread_t thread;
	size_t now;

	leave_copy(m, last);
	growth.ops = m->range->ops;
	growth.page = last;
	atomic_store(&growth.asked, false);
	atomic_store(&growth.grown, false);
	atomic_store(&growth.read, false);
	stopping.locate = locate_and_stop;
	m->range->ops = &stopping;
	assert_int_equal(pthread_create(&thread, NULL, load_what_grows, NULL), 0);
	while (!atomic_load(&growth.asked))
		sched_yield();
	soft_write("grows", SEED, len, 500);
	assert_int_equal(quire_map_extend(m, 0, &now), 0);
	leave_copy(m, last);
	atomic_store(&growth.grown, true);
	for (unsigned i = 0; i < 10000 && !atomic_load(&growth.read); i++)
		usleep(1000);
	assert_true(atomic_load(&growth.read));
	pthread_join(thread, NULL);
	soft_read(m, last, SEED, pages(FEW - 1), page_size() - 500);
	m->range->ops = growth.ops;
	map_end(m);
}

static void a_copy_in_the_making_is_dropped(void **state)
{
	struct quire_map *m = map_soft("f", SEED, FEW);
	const char *p = item_ptr(m, 0);

	for (unsigned i = 0; i < 64; i++) {
		uint64_t epoch = chance_epoch(cache);
		struct victim v;

		assert_int_equal(want(m, p, 1), 0);
		atomic_store(&m->range->chance_credit, 1);
		assert_true(unit_claim(cache, m->range->arena, page_no(m, p), &v));
		chance_drop(m->range, page_no(m, p), 1);
		pthread_rwlock_rdlock(&cache->ranges_lock);
		chance_admit(cache, epoch, &v, 1);
		pthread_rwlock_unlock(&cache->ranges_lock);
		page_move(range_word(m->range, page_no(m, p)), PAGE_RESIDENT, 0, PAGE_UNVERIFIED | PAGE_QUEUED);
		assert_false(has_copy(m, p));
	}
	assert_true(cache_stat().n_second_chance_puts > 0);
	map_end(m);
}

/* A copy that was fetched is not shown once anything has been dropped. */
static void a_copy_in_hand_is_not_shown(void **state)
{
	struct quire_map *m = map_soft("f", SEED, FEW);
	const char *p = item_ptr(m, 0);
	struct fill fill = {.range = m->range, .page = page_no(m, p), .n_pages = 1, .buf = malloc(page_size())};

	leave_copy(m, p);
	assert_true(chance_fetch(&fill, m->range, fill.page));
	assert_true(soft_is(fill.buf, SEED, 0, page_size()));
	chance_drop(m->range, page_no(m, p), 1);
	assert_false(chance_show(&fill));
	free(fill.buf);
	map_end(m);
}

/* ---- what is not compressed ---- */

static void what_gets_no_smaller_is_soon_left_alone(void **state)
{
	file_write("hard", SEED, 512 * page_size());
	struct quire_map *m = map_name("hard");

	for (unsigned i = 0; i < 5000; i++) {
		const char *p = item_ptr(m, 0) + pages(i * 7 % 512);

		assert_int_equal(want(m, p, 1), 0);
		leave(m, p);
	}
	struct quire_cache_stat s = cache_stat();
	assert_true(s.n_second_chance_puts > 0);
	assert_in_range(s.n_second_chance_puts, 1, 40);
	assert_int_equal(s.n_second_chance_refused, s.n_second_chance_puts);
	assert_int_equal(s.second_chance_pages, 0);
	map_end(m);
}

static void what_is_read_once_is_not_compressed(void **state)
{
	cache_anew(&(struct quire_cache_options){.size = sizeof(struct quire_cache_options), .budget_bytes = 8 * MIB});
	file_sparse("long", 40 * MIB);
	struct quire_map *m = map_name("long");

	for (uint64_t at = 0; at < 40 * MIB; at += MIB)
		assert_int_equal(want(m, item_ptr(m, 0) + at, MIB), 0);
	assert_true(cache_stat().n_evictions > 0);
	assert_int_equal(cache_stat().n_second_chance_puts, 0);
	map_end(m);
}

static void not_where_it_is_not_wanted(void **state)
{
	cache_anew(&(struct quire_cache_options){.size = sizeof(struct quire_cache_options), .no_second_chance = true});
	struct quire_map *m = map_soft("f", SEED, FEW);

	soft_read(m, item_ptr(m, 0), SEED, 0, FEW * page_size());
	leave(m, item_ptr(m, 0));
	assert_false(has_copy(m, item_ptr(m, 0)));
	assert_int_equal(cache_stat().tmem, 0);
	map_end(m);
}

static unsigned n_hooked;

static int hook(void *arg, const void *raw, size_t len_bytes, uint64_t offset, void *page)
{
	n_hooked++;
	memcpy(page, raw, len_bytes);
	return 0;
}

/* What the owner has accepted, or made of what was read, is not his to look at again. */
static void the_hook_sees_it_once(void **state)
{
	soft_write("f", SEED, 0, FEW * page_size());
	struct quire_map *m = map_item_of((struct quire_item){.path = file_path("f"), .fill = hook});
	const char *p = item_ptr(m, 0);

	leave_copy(m, p);
	n_hooked = 0;
	soft_read(m, p, SEED, 0, page_size());
	settle(m, p);
	assert_int_equal(n_hooked, 0);
	assert_int_equal(map_stat(m).unverified, 0);
	map_end(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_CHECKED(a_copy_is_read_instead_of_the_file),
		ON_SERVICE(leaving_again_costs_nothing),
		ON_FAULTING(a_unit_comes_back_together),
		ON_FAULTING(a_unit_does_not_push_itself_out),
		ON_SERVICE(purged_copies_are_gone),
		ON_SERVICE(purging_a_page_leaves_its_neighbours),
		ON_SERVICE(copies_of_a_cold_item_are_gone),
		ON_CHECKED(copies_go_with_their_map),
		ON_CHECKED(a_copy_of_a_changed_file_is_not_shown),
		ON_FAULTING(a_fault_on_such_a_copy_traps),
		ON_CHECKED(extending_drops_the_copy_of_the_last_page),
		ON_SIGNAL(a_load_that_began_before_its_item_grew_ends),
		ON_SIGNAL(a_copy_in_the_making_is_dropped),
		ON_SIGNAL(a_copy_in_hand_is_not_shown),
		ON_SERVICE(what_gets_no_smaller_is_soon_left_alone),
		ON_SERVICE(what_is_read_once_is_not_compressed),
		ON_SERVICE(not_where_it_is_not_wanted),
		ON_FAULTING(the_hook_sees_it_once),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
