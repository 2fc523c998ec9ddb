/* S3-FIFO, behaviour by behaviour. The owner is an array of pages. */
#include "../../src/base/policy.h"
#include "cmocka_env.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define N_PAGES 100000u

/* The owner: what a cache knows of each page. */
struct owner {
	struct policy *policy;
	bool resident[N_PAGES];
	bool busy[N_PAGES];
	uint8_t used[N_PAGES];
	size_t n_resident;
	size_t n_asked;
};

static enum policy_answer ask(void *arg, uint64_t page, unsigned threshold)
{
	struct owner *o = arg;
	o->n_asked++;
	if (!o->resident[page])
		return POLICY_GONE;
	if (o->busy[page])
		return POLICY_BUSY;
	if (o->used[page] >= threshold) {
		o->used[page]--;
		return POLICY_USED;
	}
	o->resident[page] = false;
	o->n_resident--;
	return POLICY_TAKEN;
}

static bool is_gone(void *arg, uint64_t page)
{
	struct owner *o = arg;
	return !o->resident[page];
}

static struct owner *owner_create(void)
{
	struct owner *o = calloc(1, sizeof(*o));
	assert_int_equal(policy_create(&o->policy), 0);
	return o;
}

static void owner_destroy(struct owner *o)
{
	assert_true(policy_check(o->policy));
	policy_destroy(o->policy);
	free(o);
}

static void fill(struct owner *o, uint64_t page)
{
	assert_false(o->resident[page]);
	assert_int_equal(policy_insert(o->policy, page), 0);
	o->resident[page] = true;
	o->used[page] = 0;
	o->n_resident++;
}

static void fill_range(struct owner *o, uint64_t from, uint64_t to)
{
	for (uint64_t page = from; page < to; page++)
		fill(o, page);
}

static void hit(struct owner *o, uint64_t page)
{
	if (o->used[page] < 3)
		o->used[page]++;
}

static unsigned evict(struct owner *o, unsigned n)
{
	uint64_t pages[64];
	unsigned n_all = 0;
	while (n_all < n) {
		unsigned batch = n - n_all < 64 ? n - n_all : 64;
		unsigned got = policy_pick(o->policy, pages, batch, ask, o);
		n_all += got;
		if (got == 0)
			break;
	}
	return n_all;
}

/* As a cache of n_frames pages that is asked for `page`. Returns true on a hit. */
static bool reference(struct owner *o, uint64_t page, size_t n_frames)
{
	if (o->resident[page]) {
		hit(o, page);
		return true;
	}
	if (o->n_resident >= n_frames)
		assert_int_equal(evict(o, 1), 1);
	fill(o, page);
	return false;
}

static size_t count_resident(const struct owner *o, uint64_t from, uint64_t to)
{
	size_t n = 0;
	for (uint64_t page = from; page < to; page++)
		n += o->resident[page];
	return n;
}

static void nothing_held_nothing_picked(void **state)
{
	struct owner *o = owner_create();
	assert_int_equal(evict(o, 10), 0);
	assert_int_equal(o->n_asked, 0);
	assert_int_equal(policy_n_entries(o->policy), 0);
	owner_destroy(o);
}

static void gives_each_page_once(void **state)
{
	struct owner *o = owner_create();
	fill_range(o, 0, 5000);
	assert_int_equal(policy_n_entries(o->policy), 5000);
	assert_int_equal(evict(o, 6000), 5000); /* ask() would fail on a second time */
	assert_int_equal(o->n_resident, 0);
	assert_int_equal(policy_n_entries(o->policy), 0);
	owner_destroy(o);
}

static void a_scan_leaves_the_working_set_alone(void **state)
{
	enum { N_FRAMES = 1000, N_HOT = 600 };
	struct owner *o = owner_create();
	for (unsigned round = 0; round < 8; round++) {
		for (uint64_t page = 0; page < N_HOT; page++)
			reference(o, page, N_FRAMES);
		for (uint64_t page = 0; page < 200; page++)
			reference(o, 1000 + round * 200 + page, N_FRAMES);
	}
	for (uint64_t page = 10000; page < 60000; page++)
		reference(o, page, N_FRAMES);
	assert_true(count_resident(o, 0, N_HOT) > N_HOT * 9 / 10);
	owner_destroy(o);
}

static void one_hit_wonders_leave_before_twice_used_ones(void **state)
{
	struct owner *o = owner_create();
	fill_range(o, 0, 1000);
	evict(o, 1); /* from here on new pages enter the small queue */
	fill_range(o, 1000, 2000);
	for (uint64_t page = 1000; page < 1500; page++) {
		hit(o, page);
		hit(o, page);
	}
	assert_int_equal(evict(o, 300), 300);
	assert_int_equal(count_resident(o, 1000, 1500), 500);
	owner_destroy(o);
}

static void used_once_is_not_enough_in_the_small_queue(void **state)
{
	struct owner *o = owner_create();
	fill_range(o, 0, 1000);
	evict(o, 1);
	fill_range(o, 1000, 2000);
	for (uint64_t page = 1000; page < 1500; page++)
		hit(o, page);
	evict(o, 300); /* the hundred small ones of before, then these in order */
	assert_true(count_resident(o, 1000, 1500) <= 310);
	owner_destroy(o);
}

static void what_returns_soon_enters_the_main_queue(void **state)
{
	struct owner *o = owner_create();
	fill_range(o, 0, 1000);
	evict(o, 1);
	fill_range(o, 1000, 1200);
	evict(o, 150); /* the hundred small ones of before, then some of these */
	uint64_t back = 0;
	for (uint64_t page = 1000; page < 1200 && back == 0; page++)
		back = o->resident[page] ? 0 : page;
	assert_int_not_equal(back, 0);
	fill(o, back);

	/* Many new ones come and go, and it is still there. */
	for (uint64_t page = 20000; page < 21000; page++) {
		evict(o, 1);
		fill(o, page);
	}
	assert_true(o->resident[back]);
	owner_destroy(o);
}

static void busy_pages_stay_and_leave_later(void **state)
{
	struct owner *o = owner_create();
	fill_range(o, 0, 1000);
	for (uint64_t page = 0; page < 1000; page += 2)
		o->busy[page] = true;
	assert_int_equal(evict(o, 1000), 500);
	assert_int_equal(policy_n_entries(o->policy), 500);
	memset(o->busy, 0, sizeof(o->busy));
	assert_int_equal(evict(o, 1000), 500);
	owner_destroy(o);
}

static void all_busy_ends_after_bounded_looks(void **state)
{
	uint64_t page;
	struct owner *o = owner_create();
	fill_range(o, 0, 1000);
	memset(o->busy, 1, sizeof(o->busy));
	assert_int_equal(policy_pick(o->policy, &page, 1, ask, o), 0);
	assert_true(o->n_asked <= 2000);
	assert_int_equal(policy_n_entries(o->policy), 1000);
	owner_destroy(o);
}

static void all_hot_still_gives_one(void **state)
{
	uint64_t page;
	struct owner *o = owner_create();
	fill_range(o, 0, 1000);
	memset(o->used, 3, sizeof(o->used));
	assert_int_equal(policy_pick(o->policy, &page, 1, ask, o), 1);
	owner_destroy(o);
}

/* A fault waits for a pick: it must not go round a hundred thousand hot pages. */
static void all_hot_costs_little(void **state)
{
	uint64_t pages[64];
	struct owner *o = owner_create();
	fill_range(o, 0, N_PAGES);
	evict(o, 1);
	for (unsigned round = 0; round < 20; round++) {
		memset(o->used, 3, sizeof(o->used));
		o->n_asked = 0;
		assert_int_equal(policy_pick(o->policy, pages, 1, ask, o), 1);
		assert_true(o->n_asked <= N_PAGES / 10 + 400);
		fill(o, pages[0]);
	}
	owner_destroy(o);
}

static void gone_pages_vanish(void **state)
{
	struct owner *o = owner_create();
	fill_range(o, 0, 1000);
	memset(o->resident, 0, 500); /* purged: the first 500 */
	o->n_resident -= 500;
	assert_int_equal(evict(o, 1000), 500);
	assert_int_equal(policy_n_entries(o->policy), 0);
	owner_destroy(o);
}

/* What one takes that never held more: pages of memory, which may be large. */
static size_t bytes_of_a_hundred(void)
{
	struct owner *o = owner_create();
	fill_range(o, 0, 100);
	size_t bytes = policy_bytes(o->policy);
	owner_destroy(o);
	return bytes;
}

static void forget_drops_just_the_gone(void **state)
{
	struct owner *o = owner_create();
	fill_range(o, 0, 50000);
	size_t before = policy_bytes(o->policy);
	memset(o->resident + 100, 0, 49900);
	o->n_resident -= 49900;
	assert_int_equal(policy_forget(o->policy, is_gone, o), 49900);
	assert_int_equal(policy_n_entries(o->policy), 100);
	size_t least = bytes_of_a_hundred();
	assert_true(policy_bytes(o->policy) <= (least > before / 8 ? least : before / 8));
	assert_int_equal(evict(o, 1000), 100);
	owner_destroy(o);
}

static void memory_is_as_documented(void **state)
{
	enum { N = 90000 };
	struct owner *o = owner_create();
	fill_range(o, 0, N);
	evict(o, 1);
	fill(o, N);
	assert_true(policy_bytes(o->policy) <= 20 * N + 16384);
	evict(o, N);
	evict(o, 1);
	assert_true(policy_bytes(o->policy) <= 3 * 65536 + 4096);
	owner_destroy(o);
}

static void random_steps_lose_and_double_nothing(void **state)
{
	struct owner *o = owner_create();
	unsigned seed = 42;
	print_message("seed %u\n", seed);
	srand(seed);
	for (unsigned i = 0; i < 60000; i++) {
		uint64_t page = (uint64_t)rand() % 5000;
		int dice = rand() % 100;
		if (dice < 50 && !o->resident[page])
			fill(o, page);
		else if (dice < 80 && o->resident[page])
			hit(o, page);
		else if (dice < 85)
			o->busy[page] = !o->busy[page];
		else if (dice < 95)
			evict(o, (unsigned)rand() % 40);
		if (i % 1000 == 0) {
			assert_true(policy_check(o->policy));
			assert_int_equal(policy_n_entries(o->policy), o->n_resident);
		}
	}
	memset(o->busy, 0, sizeof(o->busy));
	assert_int_equal(policy_n_entries(o->policy), o->n_resident);
	evict(o, N_PAGES);
	assert_int_equal(o->n_resident, 0);
	owner_destroy(o);
}

static void used_twice_while_absent_is_told_once(void **state)
{
	struct owner *o = owner_create();
	assert_false(policy_use_absent(o->policy, 50000, 900));
	assert_false(policy_use_absent(o->policy, 50001, 900));
	assert_true(policy_use_absent(o->policy, 50000, 900));
	assert_false(policy_use_absent(o->policy, 50000, 900));
	assert_true(policy_use_absent(o->policy, 50001, 900));
	/* Keys and pages are two things. */
	fill_range(o, 0, 1000);
	evict(o, 50);
	assert_false(policy_use_absent(o->policy, 3, 900));
	owner_destroy(o);
}

static void a_scan_of_absent_pages_is_forgotten(void **state)
{
	struct owner *o = owner_create();
	fill_range(o, 0, 1000);
	size_t bytes = policy_bytes(o->policy);
	assert_false(policy_use_absent(o->policy, 7777, 900));
	assert_true(policy_bytes(o->policy) > bytes);
	for (uint64_t page = 10000; page < 20000; page++)
		assert_false(policy_use_absent(o->policy, page, 900));
	assert_false(policy_use_absent(o->policy, 7777, 900));
	assert_int_equal(policy_n_entries(o->policy), 1000);
	assert_int_equal(count_resident(o, 0, 1000), 1000);
	owner_destroy(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_held_nothing_picked),
		cmocka_unit_test(gives_each_page_once),
		cmocka_unit_test(a_scan_leaves_the_working_set_alone),
		cmocka_unit_test(one_hit_wonders_leave_before_twice_used_ones),
		cmocka_unit_test(used_once_is_not_enough_in_the_small_queue),
		cmocka_unit_test(what_returns_soon_enters_the_main_queue),
		cmocka_unit_test(busy_pages_stay_and_leave_later),
		cmocka_unit_test(all_busy_ends_after_bounded_looks),
		cmocka_unit_test(all_hot_still_gives_one),
		cmocka_unit_test(all_hot_costs_little),
		cmocka_unit_test(gone_pages_vanish),
		cmocka_unit_test(forget_drops_just_the_gone),
		cmocka_unit_test(memory_is_as_documented),
		cmocka_unit_test(random_steps_lose_and_double_nothing),
		cmocka_unit_test(used_twice_while_absent_is_told_once),
		cmocka_unit_test(a_scan_of_absent_pages_is_forgotten),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
