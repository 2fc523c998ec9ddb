/* How much of the memory is for compressed copies: what the split makes of fills as a simulated cache would have them. */
#include "../base/cmocka_env.h"

#include "../../src/cache/split.h"

#define PAGES 16384u /* that memory holds */
#define PAGE 4096u
#define LIMIT ((uint64_t)PAGES * PAGE)

/* Random pages, all alike, in an arena and copies; fills of them have any rank. */
struct world {
	struct split split;
	double n_data;      /* pages, */
	double ratio;       /* that go into a page of copies; 0: they don't get smaller */
	uint64_t read_ns, copy_ns;
	uint64_t random, copies_bytes;
};

static double chance_of(struct world *w)
{
	w->random ^= w->random << 13, w->random ^= w->random >> 7, w->random ^= w->random << 17;
	return (double)(w->random >> 11) / 9007199254740992.0;
}

static struct world world(double n_data, double ratio, uint64_t read_ns)
{
	struct world w = {.n_data = n_data, .ratio = ratio, .read_ns = read_ns, .copy_ns = 2000, .random = 88172645463325252u};

	split_init(&w.split, LIMIT);
	return w;
}

/* Until the next look. */
static void live(struct world *w)
{
	double arena = PAGES - (double)w->split.target_bytes / PAGE, away = w->n_data - arena;
	double copies = (double)w->split.target_bytes / PAGE * w->ratio;

	copies = copies < w->n_data ? copies : w->n_data;
	/* Copies of pages that are there as well are of no use just now. */
	double served = copies * (away > 0 ? away / w->n_data : 0);
	if (w->ratio > 0)
		w->copies_bytes = (uint64_t)(copies / w->ratio * PAGE);
	while (!split_is_due(&w->split, PAGES / 4) && away > 0) {
		double rank = chance_of(w) * away;
		bool copied = chance_of(w) < served / away;

		split_fill(&w->split, copied, (uint64_t)rank, PAGES);
		split_left(&w->split, 1, w->ratio > 0);
		split_spent(&w->split, SPLIT_READ, w->read_ns);
		split_spent(&w->split, SPLIT_COPY, w->copy_ns);
		split_spent(&w->split, SPLIT_COMPRESS, 4000);
	}
	const struct split_facts facts = {LIMIT, PAGE, (uint64_t)copies, w->copies_bytes};
	split_look(&w->split, &facts);
}

static double part_after(struct world *w, unsigned n_looks)
{
	for (unsigned i = 0; i < n_looks; i++)
		live(w);
	return (double)w->split.target_bytes / (double)LIMIT;
}

static void begins_with_next_to_nothing(void **state)
{
	struct world w = world(2 * PAGES, 3, 50000);

	assert_int_equal(w.split.target_bytes, LIMIT / 256);
}

/* Twice the memory at a third: two thirds of it, and what goes on with it. */
static void takes_what_the_data_need(void **state)
{
	struct world w = world(2 * PAGES, 3, 11000);
	double part = part_after(&w, 80);

	assert_true(part > 0.6 && part < 0.75);
}

static void keeps_still_then(void **state)
{
	struct world w = world(2 * PAGES, 3, 11000);
	double first = part_after(&w, 80), low = first, high = first;

	for (unsigned i = 0; i < 200; i++) {
		double part = part_after(&w, 1);
		low = part < low ? part : low;
		high = part > high ? part : high;
	}
	assert_true(high - low < 0.08);
}

/* Where every page has a copy, nothing is read, and nobody sees how far copies would reach. */
static void keeps_all_that_there_is(void **state)
{
	struct world w = world(2 * PAGES, 3, 50000);

	part_after(&w, 80);
	for (unsigned i = 0; i < 200; i++)
		assert_true(part_after(&w, 1) > 2. / 3);
}

static void takes_nothing_where_data_get_no_smaller(void **state)
{
	struct world w = world(2 * PAGES, 0, 50000);

	part_after(&w, 50);
	assert_int_equal(w.split.target_bytes, LIMIT / 256);
}

static void takes_nothing_where_a_read_is_as_fast(void **state)
{
	struct world w = world(2 * PAGES, 3, 1500);

	part_after(&w, 50);
	assert_int_equal(w.split.target_bytes, LIMIT / 256);
}

/* What was needed is given back when the data have become fewer, as long as somebody asks. */
static void gives_back_what_is_not_needed(void **state)
{
	struct world w = world(2 * PAGES, 3, 11000);

	assert_true(part_after(&w, 80) > 0.6);
	w.n_data = 0.6 * PAGES;
	assert_true(part_after(&w, 80) < 0.45);
}

static void follows_what_changes(void **state)
{
	struct world w = world(2 * PAGES, 3, 11000);

	assert_true(part_after(&w, 80) > 0.6);
	w.ratio = 0;
	w.copies_bytes = 0;
	assert_true(part_after(&w, 80) < 0.01);
	w.ratio = 3;
	assert_true(part_after(&w, 120) > 0.6);
}

static void does_nothing_where_nothing_comes_again(void **state)
{
	struct world w = world(2 * PAGES, 3, 11000);

	for (unsigned i = 0; i < 20; i++) {
		while (!split_is_due(&w.split, PAGES / 4))
			split_fill(&w.split, false, UINT64_MAX, PAGES);
		const struct split_facts facts = {LIMIT, PAGE, 0, 0};
		split_look(&w.split, &facts);
	}
	assert_int_equal(w.split.target_bytes, LIMIT / 256);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(begins_with_next_to_nothing),
		cmocka_unit_test(takes_what_the_data_need),
		cmocka_unit_test(keeps_still_then),
		cmocka_unit_test(keeps_all_that_there_is),
		cmocka_unit_test(takes_nothing_where_data_get_no_smaller),
		cmocka_unit_test(takes_nothing_where_a_read_is_as_fast),
		cmocka_unit_test(gives_back_what_is_not_needed),
		cmocka_unit_test(follows_what_changes),
		cmocka_unit_test(does_nothing_where_nothing_comes_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
