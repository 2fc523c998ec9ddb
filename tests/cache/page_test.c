/* The word of a page: what its bits say, and what each step keeps of them. */
#include "../support/files.h"

#include "../../src/cache/page.h"

static void zero_is_absent(void **state)
{
	assert_int_equal(page_state(0), PAGE_ABSENT);
	assert_int_equal(page_uses(0), 0);
	assert_int_equal(page_value(0), 0);
}

/* Programs in any language look at this bit. */
static void resident_is_the_public_bit_and_no_other_state_has_it(void **state)
{
	static const enum page_state others[] = {PAGE_ABSENT, PAGE_FILLING, PAGE_EVICTING, PAGE_POISONED,
	                                         PAGE_ORPHAN};

	assert_int_equal(QUIRE_RESIDENT, 1);
	assert_int_equal(PAGE_RESIDENT, QUIRE_RESIDENT);
	for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_int_equal(others[i] & QUIRE_RESIDENT, 0);
}

static void fields_do_not_overlap(void **state)
{
	const uint32_t fields[] = {PAGE_STATE_MASK, PAGE_USES_MASK, PAGE_QUEUED, PAGE_DUP, PAGE_HOT,
	                           PAGE_UNVERIFIED, PAGE_VALUE_MAX << PAGE_VALUE_SHIFT};
	uint32_t all = 0;

	for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		assert_int_equal(all & fields[i], 0);
		all |= fields[i];
	}
}

static void move_keeps_what_it_is_told_to(void **state)
{
	page_word word = PAGE_RESIDENT | PAGE_QUEUED | PAGE_HOT | PAGE_UNVERIFIED | PAGE_USES_MASK |
	                 7u << PAGE_VALUE_SHIFT;

	page_move(&word, PAGE_ABSENT, 0, PAGE_QUEUED);
	assert_int_equal(word, PAGE_QUEUED);
	page_move(&word, PAGE_FILLING, PAGE_VALUE_MAX, PAGE_QUEUED);
	assert_int_equal(page_state(word), PAGE_FILLING);
	assert_int_equal(page_value(word), PAGE_VALUE_MAX);
	assert_true(word & PAGE_QUEUED);
	page_move(&word, PAGE_POISONED, 5, 0);
	assert_int_equal(word, PAGE_POISONED | 5u << PAGE_VALUE_SHIFT);
}

static void touches_count_to_three(void **state)
{
	page_word word = PAGE_RESIDENT | PAGE_DUP | 9u << PAGE_VALUE_SHIFT;

	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(page_uses(word), i < 3 ? i : 3);
		page_touch(&word, word);
	}
	assert_int_equal(word & ~PAGE_USES_MASK, PAGE_RESIDENT | PAGE_DUP | 9u << PAGE_VALUE_SHIFT);
}

static void touch_of_a_word_that_moved_on_is_lost(void **state)
{
	page_word word = PAGE_RESIDENT;
	uint32_t seen = word;

	page_move(&word, PAGE_EVICTING, 0, 0);
	page_touch(&word, seen);
	assert_int_equal(word, PAGE_EVICTING);
}

static void filled_by_names_one_fill(void **state)
{
	uint32_t w = PAGE_FILLING | 12u << PAGE_VALUE_SHIFT | PAGE_DUP | PAGE_QUEUED;

	assert_true(page_is_filled_by(w, 12));
	assert_false(page_is_filled_by(w, 13));
	assert_false(page_is_filled_by(PAGE_RESIDENT | 12u << PAGE_VALUE_SHIFT, 12));
	assert_false(page_is_filled_by(PAGE_POISONED | 12u << PAGE_VALUE_SHIFT, 12));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zero_is_absent),
		cmocka_unit_test(resident_is_the_public_bit_and_no_other_state_has_it),
		cmocka_unit_test(fields_do_not_overlap),
		cmocka_unit_test(move_keeps_what_it_is_told_to),
		cmocka_unit_test(touches_count_to_three),
		cmocka_unit_test(touch_of_a_word_that_moved_on_is_lost),
		cmocka_unit_test(filled_by_names_one_fill),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
