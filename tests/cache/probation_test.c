/* Pages that only raw loads use are copied aside as they leave: a fault on one reads nothing, advice applies to copies, and
 * what is out of date never comes back. */
#include "../support/trap.h"
#include "aside.h"

static void a_fault_on_a_copy_reads_nothing(void **state)
{
	begin();
	struct quire_map *m = map_few((struct quire_item){0});
	read_and_push_out(m);
	const char *p = find_aside(m);
	struct quire_map_stat before = map_stat(m);

	load_and_compare(m, p, offset_of(m, p), page_size());
	struct quire_map_stat after = map_stat(m);
	assert_int_equal(after.n_fills, before.n_fills);
	assert_true(after.n_faults > before.n_faults);
	assert_int_equal(after.n_probation_hits, before.n_probation_hits + 1);
	assert_int_equal(after.probation, before.probation - page_size());
	assert_int_equal(after.resident, before.resident + page_size());
	assert_false(is_aside(m, p));
	end(m);
}

static void a_want_of_a_copy_reads_nothing(void **state)
{
	begin();
	struct quire_map *m = map_few((struct quire_item){0});
	read_and_push_out(m);
	const char *p = find_aside(m);
	struct quire_map_stat before = map_stat(m);

	assert_int_equal(pin(m, p, 1), 0);
	load_and_compare(m, p, offset_of(m, p), page_size());
	assert_int_equal(unpin(m, p, 1), 0);
	assert_int_equal(map_stat(m).n_fills, before.n_fills);
	assert_int_equal(map_stat(m).n_hits, before.n_hits);
	assert_int_equal(map_stat(m).n_probation_hits, before.n_probation_hits + 1);
	end(m);
}

/* What came back was in use: it outlasts what comes after it once. */
static void what_comes_back_stays_longer(void **state)
{
	begin();
	struct quire_map *m = map_few((struct quire_item){0});
	read_and_push_out(m);
	const char *p = find_aside(m);

	load(m, p);
	for (unsigned i = 0; i < 32; i++) {
		big_at = (big_at + 64 * KIB) % BIG;
		assert_int_equal(want(big, item_ptr(big, 0) + big_at, 64 * KIB), 0);
	}
	assert_true(quire_map_resident(m, p, 1));
	end(m);
}

static void a_unit_comes_back_together(void **state)
{
	if (page_size() != QUIRE_PAGE_4K)
		skip_because("units are of one page or few here");
	begin();
	struct quire_map *m = map_few((struct quire_item){.page_bytes = QUIRE_PAGE_64K});
	const char *p = item_ptr(m, 0);
	read_and_push_out(m);
	struct quire_map_stat before = map_stat(m);

	assert_int_equal(before.probation, FEW * page_size());
	load(m, p + pages(5));
	load_and_compare(m, p, 0, FEW * page_size());
	assert_true(map_stat(m).n_faults > before.n_faults);
	assert_int_equal(map_stat(m).n_fills, before.n_fills);
	assert_int_equal(map_stat(m).n_probation_hits, before.n_probation_hits + FEW);
	assert_int_equal(map_stat(m).probation, 0);
	end(m);
}

static void of_a_unit_what_is_missing_is_read(void **state)
{
	if (page_size() != QUIRE_PAGE_4K)
		skip_because("units are of one page or few here");
	begin();
	struct quire_map *m = map_few((struct quire_item){.page_bytes = QUIRE_PAGE_64K});
	const char *p = item_ptr(m, 0);
	read_and_push_out(m);
	uint64_t n_fills = map_stat(m).n_fills;

	probation_drop(m->range, page_of(m, p) + 3, 4);
	load_and_compare(m, p, 0, FEW * page_size());
	assert_int_equal(map_stat(m).n_fills, n_fills + 4);
	assert_true(quire_map_resident(m, p, FEW * page_size()));
	assert_int_equal(quire_map_purge(m, p + pages(4), 1), FEW); /* it leaves together still */
	end(m);
}

static void what_is_wanted_leaves_no_copies(void **state)
{
	cache_anew(&(struct quire_cache_options){.budget_bytes = BUDGET, .signal_faults = true});
	big = map_sparse("big", BIG);
	for (uint64_t at = 0; at < BIG; at += MIB)
		assert_int_equal(want(big, item_ptr(big, 0) + at, MIB), 0);
	assert_true(cache_stat().n_evictions > 0);
	assert_int_equal(cache_stat().probation, 0);
	map_end(big);
}

static void not_where_it_is_not_wanted(void **state)
{
	begin_with((struct quire_cache_options){.no_probation = true});
	assert_true(map_stat(big).n_faults > 0);
	assert_true(cache_stat().n_evictions > 0);
	assert_int_equal(cache_stat().probation, 0);
	struct quire_map *m = map_few((struct quire_item){0});
	uint64_t n_fills = map_stat(m).n_fills;
	read_and_push_out(m);
	load_and_compare(m, item_ptr(m, 0), 0, FEW * page_size());
	assert_int_equal(map_stat(m).n_fills, n_fills + 2 * FEW);
	assert_int_equal(cache_stat().n_probation_hits, 0);
	end(m);
}

/* ---- advice ---- */

static void purged_copies_are_gone(void **state)
{
	begin();
	struct quire_map *m = map_few((struct quire_item){0});
	read_and_push_out(m);
	find_aside(m);
	uint64_t n_fills = map_stat(m).n_fills;

	assert_int_equal(quire_map_purge(m, item_ptr(m, 0), item_len(m, 0)), 0);
	assert_int_equal(map_stat(m).probation, 0);
	load_and_compare(m, item_ptr(m, 0), 0, FEW * page_size());
	assert_int_equal(map_stat(m).n_fills, n_fills + FEW);
	end(m);
}

static void copies_of_a_cold_item_are_gone(void **state)
{
	begin();
	struct quire_map *m = map_few((struct quire_item){0});
	read_and_push_out(m);
	find_aside(m);
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_COLD), 0);
	assert_int_equal(map_stat(m).probation, 0);
	end(m);
}

static void a_cold_item_leaves_without_copies(void **state)
{
	begin();
	struct quire_map *m = map_few((struct quire_item){0});
	load_and_compare(m, item_ptr(m, 0), 0, FEW * page_size());
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_COLD), 0);
	for (size_t at = 0; at < FEW * page_size(); at += page_size())
		push_out(m, item_ptr(m, 0) + at);
	assert_int_equal(map_stat(m).probation, 0);
	end(m);
}

/* Only where nothing else is left, copies included, do hot pages leave. */
static void copies_leave_before_hot_pages(void **state)
{
	begin();
	assert_true(cache_stat().probation > 0);
	struct quire_map *m = map_sparse("hot", BUDGET);
	uint64_t n_evictions = 0;

	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_HOT), 0);
	for (uint64_t at = 0; at < BUDGET && n_evictions == 0; at += page_size()) {
		load(m, item_ptr(m, 0) + at);
		n_evictions = map_stat(m).n_evictions;
		assert_true(n_evictions == 0 || cache_stat().probation == 0);
	}
	assert_true(n_evictions > 0);
	end(m);
}

static void a_pinned_item_never_leaves(void **state)
{
	begin();
	struct quire_map *m = map_few((struct quire_item){0});
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_PINNED), 0);
	for (unsigned i = 0; i < 2 * BUDGET / (64 * KIB); i++) {
		big_at = (big_at + 64 * KIB) % BIG;
		load(big, item_ptr(big, 0) + big_at);
		assert_int_equal(want(big, item_ptr(big, 0) + big_at, 64 * KIB), 0);
	}
	assert_true(quire_map_resident(m, item_ptr(m, 0), item_len(m, 0)));
	assert_int_equal(map_stat(m).n_evictions + map_stat(m).probation, 0);
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_WARM), 0);
	end(m);
}

/* ---- what is out of date ---- */

static void a_copy_of_a_changed_file_is_not_shown(void **state)
{
	begin();
	struct quire_map *m = map_few((struct quire_item){0});
	read_and_push_out(m);
	const char *p = find_aside(m);

	file_rewrite_in_place("few", SEED + 1, 0, FEW * page_size());
	assert_int_equal(want(m, p, 1), -ESTALE);
	assert_false(is_aside(m, p));
	assert_true(load_traps(p));
	assert_int_equal(map_stat(m).n_probation_hits, 0);
	end(m);
}

static void a_copy_of_a_replaced_file_is_not_shown(void **state)
{
	begin();
	struct quire_map *m = map_few((struct quire_item){0});
	read_and_push_out(m);
	const char *p = find_aside(m);

	file_write("new", SEED + 1, FEW * page_size());
	assert_int_equal(rename(file_path("new"), file_path("few")), 0);
	assert_int_equal(want(m, p, 1), -ESTALE);
	assert_int_equal(map_stat(m).n_probation_hits, 0);
	end(m);
}

/* As anywhere else, the page that an item ended in is read anew, and no other. */
static void extending_drops_the_copy_of_the_last_page(void **state)
{
	uint64_t len = FEW * page_size() - 100;

	begin();
	file_write("grows", SEED, len);
	struct quire_map *m = map_random((struct quire_item){
		.path = file_path("grows"), .flags = QUIRE_ITEM_APPEND, .reserve_bytes = 2 * FEW * page_size()});
	const char *last = item_ptr(m, 0) + (FEW - 1) * page_size();
	read_and_push_out(m);
	assert_true(is_aside(m, last));
	uint64_t n_aside = map_stat(m).probation / page_size();

	file_append("grows", SEED, len, 500);
	size_t now;
	assert_int_equal(quire_map_extend(m, 0, &now), 0);
	assert_int_equal(now, len + 500);
	assert_false(is_aside(m, last));
	uint64_t n_fills = map_stat(m).n_fills;
	load_and_compare(m, item_ptr(m, 0), 0, len + 500);
	assert_int_equal(map_stat(m).n_probation_hits, n_aside - 1);
	assert_int_equal(map_stat(m).n_fills, n_fills + FEW + 1 - (n_aside - 1));
	end(m);
}

/* Who drops copies while one is being made of a page that was chosen before has it dropped, too. */
static void a_copy_in_the_making_is_dropped(void **state)
{
	begin();
	struct quire_map *m = map_few((struct quire_item){0});
	const char *p = item_ptr(m, 0);
	load(m, p);
	for (int drops = 0; drops < 2; drops++) {
		uint64_t epoch = probation_epoch(cache);
		struct victim v;

		assert_true(unit_claim(cache, m->range->arena, page_of(m, p), &v));
		if (drops)
			probation_drop(m->range, page_of(m, p), 1);
		pthread_rwlock_rdlock(&cache->ranges_lock);
		probation_admit(cache, epoch, &v, 1);
		pthread_rwlock_unlock(&cache->ranges_lock);
		page_move(range_word(m->range, page_of(m, p)), PAGE_RESIDENT, 0, PAGE_UNVERIFIED | PAGE_QUEUED);
		assert_int_equal(is_aside(m, p), !drops);
		probation_drop(m->range, page_of(m, p), 1);
	}
	end(m);
}

static unsigned n_hooked;

static int hook(void *arg, const void *raw, size_t len_bytes, uint64_t offset, void *page)
{
	n_hooked++;
	memcpy(page, raw, len_bytes);
	return 0;
}

/* What the owner has accepted, or made of what was read, is not his to look at again. */
static void the_hook_has_seen_it(void **state)
{
	begin();
	struct quire_map *m = map_few((struct quire_item){.fill = hook});
	n_hooked = 0;
	read_and_push_out(m);
	const char *p = find_aside(m);

	assert_int_equal(n_hooked, FEW);
	load_and_compare(m, p, offset_of(m, p), page_size());
	assert_int_equal(n_hooked, FEW);
	assert_int_equal(map_stat(m).unverified, 0);
	end(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_FAULTING(a_fault_on_a_copy_reads_nothing),
		ON_FAULTING(a_want_of_a_copy_reads_nothing),
		ON_FAULTING(what_comes_back_stays_longer),
		ON_FAULTING(a_unit_comes_back_together),
		ON_FAULTING(of_a_unit_what_is_missing_is_read),
		ON_SERVICE(what_is_wanted_leaves_no_copies),
		ON_SERVICE(not_where_it_is_not_wanted),
		ON_SERVICE(purged_copies_are_gone),
		ON_SERVICE(copies_of_a_cold_item_are_gone),
		ON_SERVICE(a_cold_item_leaves_without_copies),
		ON_SIGNAL(copies_leave_before_hot_pages),
		ON_SIGNAL(a_pinned_item_never_leaves),
		ON_FAULTING(a_copy_of_a_changed_file_is_not_shown),
		ON_FAULTING(a_copy_of_a_replaced_file_is_not_shown),
		ON_FAULTING(extending_drops_the_copy_of_the_last_page),
		ON_SIGNAL(a_copy_in_the_making_is_dropped),
		ON_SIGNAL(the_hook_has_seen_it),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
