/* Pages that only raw loads use are copied aside as they leave: a fault on one reads nothing, what is out of date never
 * comes back, and the copies stay within their share of the budget. */
#include "../../src/cache/probation.h"
#include "../../src/map/map_internal.h"
#include "../support/maps.h"
#include "../support/trap.h"

#include <quire/map.h>
#include <sched.h>

#define BUDGET (16 * MIB)
#define BIG (3 * BUDGET)
#define FEW 16 /* pages of the file that is looked at */
#define SEED 7

static struct quire_map *big; /* whose pages push out the others' */
static uint64_t big_at;

/* A raw load, after which everything is counted: the loading thread may be woken a moment before that. */
static void load(const struct quire_map *m, const char *p)
{
	(void)*(const volatile char *)p;
	while (!quire_map_resident(m, p, 1))
		sched_yield();
}

static void load_and_compare(const struct quire_map *m, const char *p, uint64_t offset, uint64_t len)
{
	for (uint64_t at = 0; at < len; at += page_size())
		load(m, p + at);
	assert_bytes(p, SEED, offset, len);
}

/* Nothing of which comes unasked. */
static struct quire_map *map_random(struct quire_item item)
{
	struct quire_map *m = map_item_of(item);

	assert_int_equal(quire_map_stream(m, 0, QUIRE_STREAM_RANDOM), 0);
	return m;
}

static struct quire_map *map_sparse(const char *name, uint64_t len_bytes)
{
	file_sparse(name, len_bytes);
	return map_random((struct quire_item){.path = file_path(name)});
}

static uint64_t page_of(const struct quire_map *m, const char *p)
{
	return (uint64_t)(uintptr_t)p >> quire_map_page_shift(m);
}

static bool is_aside(const struct quire_map *m, const char *p)
{
	return probation_holds(m->range, page_of(m, p));
}

/* A cache that is full of another map's pages, some of which raw loads have asked for, so that there is room for copies. */
static void begin_with(struct quire_cache_options opts)
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

static void begin(void)
{
	begin_with((struct quire_cache_options){0});
}

static void end(struct quire_map *m)
{
	assert_true(cache->probation == NULL || probation_check(cache->probation));
	map_end(m);
	map_end(big);
	assert_true(cache->probation == NULL || probation_check(cache->probation));
}

/* Pages of the other map come until this one has left. */
static void push_out(struct quire_map *m, const char *p)
{
	for (uint64_t done = 0; quire_map_resident(m, p, 1); done += 64 * KIB) {
		assert_true(done < 4 * BUDGET);
		big_at = (big_at + 64 * KIB) % BIG;
		assert_int_equal(want(big, item_ptr(big, 0) + big_at, 64 * KIB), 0);
	}
}

static struct quire_map *map_few(struct quire_item item)
{
	file_write("few", SEED, FEW * page_size());
	file_age("few");
	item.path = file_path("few");
	return map_random(item);
}

/* Reads the pages by raw loads, and has them leave. */
static void read_and_push_out(struct quire_map *m)
{
	size_t n = item_len(m, 0);

	load_and_compare(m, item_ptr(m, 0), 0, n);
	for (size_t at = 0; at < n; at += page_size())
		push_out(m, item_ptr(m, 0) + at);
}

/* One that is aside now. */
static const char *find_aside(struct quire_map *m)
{
	for (size_t at = 0; at < item_len(m, 0); at += page_size())
		if (is_aside(m, item_ptr(m, 0) + at))
			return item_ptr(m, 0) + at;
	fail_msg("none of the pages is aside");
	return NULL;
}

static uint64_t offset_of(struct quire_map *m, const char *p)
{
	return (uint64_t)(p - item_ptr(m, 0));
}

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

/* Of what is never asked for again, few copies are made. */
static void a_scan_gets_less_and_less(void **state)
{
	begin();
	assert_true(cache_stat().probation > BUDGET / 16 / 2);
	for (unsigned i = 0; i < 4; i++)
		for (uint64_t at = 0; at < BIG; at += 64 * KIB) {
			load(big, item_ptr(big, 0) + at);
			assert_int_equal(want(big, item_ptr(big, 0) + at, 64 * KIB), 0);
		}
	assert_in_range(cache_stat().probation, 1, BUDGET / 16 / 8);
	assert_true(probation_check(cache->probation));
	map_end(big);
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

/* ---- accounts ---- */

static void the_budget_includes_copies(void **state)
{
	begin();
	struct quire_cache_stat s = cache_stat();

	assert_int_equal(s.used, s.frames + s.page_tables + s.tables + s.buffers + s.other + s.probation);
	assert_true(s.used <= s.budget);
	assert_in_range(s.probation, 1, BUDGET / 16);
	assert_in_range(map_stat(big).probation, page_size(), s.probation);
	assert_int_equal(quire_cache_set_budget(cache, QUIRE_BUDGET_MIN_BYTES), 0);
	assert_true(cache_stat().used <= QUIRE_BUDGET_MIN_BYTES);
	assert_in_range(cache_stat().probation, 0, QUIRE_BUDGET_MIN_BYTES / 16);
	assert_true(probation_check(cache->probation));
	map_end(big);
}

static void pins_take_what_copies_have(void **state)
{
	begin();
	struct quire_map *m = map_sparse("pinned", BUDGET);
	uint64_t n = 0;

	while (pin(m, item_ptr(m, 0) + pages(n), 1) == 0)
		n++;
	assert_true(n * page_size() > BUDGET / 2);
	assert_int_equal(cache_stat().pinned, n * page_size());
	assert_true(cache_stat().used <= BUDGET);
	assert_int_equal(unpin(m, item_ptr(m, 0), n * page_size()), 0);
	end(m);
}

static void copies_go_with_their_map(void **state)
{
	begin();
	struct quire_map *few = map_few((struct quire_item){0});
	read_and_push_out(few);
	find_aside(few);
	end(few);
	/* No copy is left: all that was theirs is free for others to take. */
	struct quire_map *m = map_sparse("hot", BUDGET);
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_HOT), 0);
	for (uint64_t at = 0; at < BUDGET; at += MIB)
		assert_int_equal(want(m, item_ptr(m, 0) + at, MIB), 0);
	assert_int_equal(cache_stat().probation, 0);
	map_end(m);
}

/* Every page that was asked for is counted once, by how it came; every page that came is there or has left. */
static void statistics_add_up(void **state)
{
	uint64_t n_wanted, n_faulted = 0, random = 1;

	begin();
	n_wanted = BIG / page_size();
	n_faulted = BIG / MIB;
	for (unsigned i = 0; i < 3000; i++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		/* Mostly of a few, which thus come back. */
		uint64_t page = (random >> 33) % (i % 4 == 0 ? BIG / page_size() : BUDGET / page_size() * 5 / 4);
		const char *p = item_ptr(big, 0) + pages(page);

		if (random >> 62 == 0) {
			n_wanted++;
			assert_int_equal(want(big, p, 1), 0);
		} else {
			n_faulted += !quire_map_resident(big, p, 1);
			load(big, p);
		}
	}
	struct quire_map_stat s = map_stat(big);
	/* The kernel may tell the service of a fault more than once. */
	assert_in_range(s.n_faults, n_faulted, fault == QUIRE_FAULT_SIGNAL ? n_faulted : UINT64_MAX);
	assert_int_equal(s.n_errors, 0);
	assert_true(s.n_probation_hits > 0);
	assert_int_equal(s.n_hits + s.n_fills + s.n_probation_hits, n_wanted + n_faulted);
	assert_int_equal((s.n_fills + s.n_probation_hits - s.n_evictions) * page_size(), s.resident);
	assert_int_equal(s.unverified, s.resident);
	assert_int_equal(s.resident, cache_stat().frames);
	assert_int_equal(cache_stat().n_fills, s.n_fills);
	assert_int_equal(cache_stat().n_faults, s.n_faults);
	assert_int_equal(cache_stat().n_evictions, s.n_evictions);
	assert_int_equal(cache_stat().n_probation_hits, s.n_probation_hits);
	assert_true(probation_check(cache->probation));
	map_end(big);
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
		ON_SIGNAL(a_scan_gets_less_and_less),
		ON_SERVICE(purged_copies_are_gone),
		ON_SERVICE(copies_of_a_cold_item_are_gone),
		ON_SERVICE(a_cold_item_leaves_without_copies),
		ON_SIGNAL(copies_leave_before_hot_pages),
		ON_SIGNAL(a_pinned_item_never_leaves),
		ON_FAULTING(a_copy_of_a_changed_file_is_not_shown),
		ON_FAULTING(a_copy_of_a_replaced_file_is_not_shown),
		ON_FAULTING(extending_drops_the_copy_of_the_last_page),
		ON_SIGNAL(the_hook_has_seen_it),
		ON_SIGNAL(the_budget_includes_copies),
		ON_SIGNAL(pins_take_what_copies_have),
		ON_SIGNAL(copies_go_with_their_map),
		ON_SIGNAL(statistics_add_up),
		ON_SERVICE(statistics_add_up),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
