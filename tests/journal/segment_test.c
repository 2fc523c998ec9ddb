/* segment_test.c - the four outcomes where segments begin and end: headers, the records that name and end a segment. */
#include "outcome_env.h"

static uint64_t second_segment(void)
{
	look();
	return seen.places[seen.n - 1].segment;
}

/* A log whose first segment is full, and n groups in the second. */
static uint64_t two_segments(unsigned n_groups)
{
	struct step s = {.n = 8, .ids = {0, 1, 2, 3, 4, 5, 6, 7}, .fill_from = 8, .n_segments = 1};

	env_run(&e, run_begin, &s);
	assert_int_equal(s.rc, 0);
	/* The next segment has been named; go on until it is in use. */
	uint32_t id = 200;
	do {
		assert_int_equal(open_and_append(1, id++), 0);
		look();
	} while (seen.places[seen.n - 1].segment == first);
	for (unsigned i = 1; i < n_groups; i++)
		assert_int_equal(open_and_append(1, id++), 0);
	return second_segment();
}

static uint64_t n_in_first(void)
{
	uint64_t n = 0;

	look();
	while (n < seen.n && seen.places[n].segment == first)
		n++;
	return n;
}

static void test_damage_to_the_first_header_is_told_from_a_foreign_place(void **state)
{
	(void)state;
	begin_with(2, true);
	damage(first + 30);
	assert_int_equal(look(), -EBADMSG);
	assert_int_equal(recovery.end, JOURNAL_CORRUPT);
	assert_int_equal(recovery.at.segment, first);
	assert_int_equal(recovery.at.offset, 0);
	damage(first);
	assert_int_equal(look(), -EUCLEAN);
}

static void test_damage_to_a_later_header_is_corrupt(void **state)
{
	(void)state;
	uint64_t second = two_segments(3), n = n_in_first();
	damage(second + 40);
	expect_end(JOURNAL_CORRUPT, n, second, 0);
}

static void test_a_later_header_lost_with_its_first_group_is_torn(void **state)
{
	(void)state;
	uint64_t second = two_segments(1), n = n_in_first();
	damage(second + 40);
	expect_end(JOURNAL_TORN, n, second, 0);
	assert_int_equal(open_and_append(1, 500), 0);
	assert_int_equal(look(), 0);
	assert_int_equal(seen.n, n + 1);
	assert_int_equal(seen.ids[n], 500);
	assert_int_equal(seen.places[n].segment, second);
}

static void test_a_header_that_was_never_written_behind_a_link(void **state)
{
	(void)state;
	uint64_t second = two_segments(1), n = n_in_first();
	memset(image, 0, sizeof(image));
	sim_poke(e.sim, second, image, sizeof(image));
	expect_end(JOURNAL_NEVER, n, second, 0);
	assert_int_equal(open_and_append(1, 500), 0);
	memset(image, 0x5a, sizeof(image));
	sim_poke(e.sim, second, image, sizeof(image));
	expect_end(JOURNAL_STALE, n, second, 0);
	assert_int_equal(open_and_append(1, 500), 0);
	assert_int_equal(look(), 0);
	assert_int_equal(seen.n, n + 1);
}

/* The header that was torn goes out once more: what stands whole behind it is not of that session. */
static void test_what_a_torn_first_group_left_is_never_read_later(void **state)
{
	uint8_t left[DEVICE_BLOCK_BYTES];

	(void)state;
	uint64_t second = two_segments(1), n = n_in_first();
	sim_peek(e.sim, second + DEVICE_BLOCK_BYTES, left, sizeof(left));
	damage(second + 40);
	assert_int_equal(open_and_append(1, 500), 0);
	/* As if of the new session's first group only the header had come through. */
	sim_poke(e.sim, second + DEVICE_BLOCK_BYTES, left, sizeof(left));
	expect_end(JOURNAL_STALE, n, second, DEVICE_BLOCK_BYTES);
	assert_int_equal(open_and_append(1, 501), 0);
	assert_int_equal(look(), 0);
	assert_int_equal(seen.n, n + 1);
	assert_int_equal(seen.ids[n], 501);
}

static void test_damage_to_the_end_of_a_full_segment_is_corrupt(void **state)
{
	(void)state;
	(void)two_segments(1);
	uint64_t n = n_in_first();
	uint32_t link = find_own(first, FRAME_LINK), next = find_own(first, FRAME_NEXT);
	uint32_t last = seen.places[n - 1].offset;

	damage(first + link + 8);
	expect_end(JOURNAL_CORRUPT, n, first, link);
	damage(first + link + 8);
	damage(first + last + 50);
	expect_end(JOURNAL_CORRUPT, n - 1, first, last);
	/* The record and the link, so that nothing in the segment is behind it. */
	damage(first + link + 8);
	expect_end(JOURNAL_CORRUPT, n - 1, first, last);
	damage(first + link + 8);
	damage(first + last + 50);
	damage(first + next + 40);
	assert_int_equal(look(), -EBADMSG);
	assert_int_equal(recovery.at.offset, next);
}

/* The same with nothing but records behind the next segment's damaged header. */
static void test_a_segment_is_witness_though_its_header_is_damaged(void **state)
{
	(void)state;
	uint64_t second = two_segments(1), n = n_in_first();
	uint32_t link = find_own(first, FRAME_LINK);

	damage(first + link + 8);
	damage(second + 100);
	expect_end(JOURNAL_CORRUPT, n, first, link);
}

static void test_a_torn_link_is_an_end_that_goes_on_into_the_named_segment(void **state)
{
	(void)state;
	uint64_t second = two_segments(1), n = n_in_first();
	uint32_t link = find_own(first, FRAME_LINK);

	memset(image, 0, sizeof(image));
	sim_poke(e.sim, second, image, sizeof(image)); /* never begun */
	damage(first + link + 8);
	expect_end(JOURNAL_TORN, n, first, link);
	assert_int_equal(open_and_append(2, 500), 0);
	assert_int_equal(look(), 0);
	assert_int_equal(seen.n, n + 2);
	assert_int_equal(seen.places[n + 1].segment, second);
}

/* The space for the next segment comes only when this one is full, so NEXT and LINK are wanted at once. */
static void run_late_space(void *arg)
{
	struct journal_options o = env_options(&e);
	struct journal *j;
	uint64_t no;
	int rc;

	(void)arg;
	for (unsigned i = 0; i < e.n_extents; i++)
		e.taken[i] = true;
	assert_int_equal(journal_create(&o, first, &j, NULL), 0);
	while ((rc = record_append(j, 1, &no)) == 0)
		;
	assert_int_equal(rc, -ENOSPC);
	e.taken[7] = false;
	assert_int_equal(record_append(j, 2, &no), 0);
	assert_int_equal(journal_sync(j, no, NULL), 0);
	journal_close(j);
}

/* Or NEXT's damage would pass for a torn tail. */
static void test_next_is_durable_before_link(void **state)
{
	struct frame_segment segment;
	struct frame_record r;

	(void)state;
	env_run(&e, run_late_space, NULL);
	uint32_t next = find_own(first, FRAME_NEXT), link = find_own(first, FRAME_LINK);
	assert_int_equal(link, next + FRAME_NEXT_BYTES);
	assert_int_equal(frame_segment_decode(&e.o, first, (void *)image, &segment, NULL), 0);
	assert_int_equal(frame_record_decode(&segment, link, SEGMENT, image + link, &r), FRAME_VALID);
	assert_true(r.group_start > next);
	damage(first + next + 40);
	assert_int_equal(look(), -EBADMSG);
	assert_int_equal(recovery.at.offset, next);
}

static void run_scan(void *arg)
{
	struct step *s = arg;
	struct journal_options o = env_options(&e);

	seen.n = 0;
	s->rc = journal_scan_segment(&o, s->n_segments == 0 ? first : s->fill_from, seen_add, &seen, &recovery, NULL);
}

static void test_a_segment_alone(void **state)
{
	struct step s = {0};

	(void)state;
	uint64_t second = two_segments(3), n = n_in_first(), n_all = seen.n;
	env_run(&e, run_scan, &s);
	assert_int_equal(s.rc, JOURNAL_VALID);
	assert_int_equal(seen.n, n);
	s = (struct step){.fill_from = (uint32_t)second, .n_segments = 1};
	env_run(&e, run_scan, &s);
	assert_int_equal(s.rc, JOURNAL_NEVER);
	assert_int_equal(seen.n, n_all - n);
	assert_int_equal(seen.first_no, n);
	damage(second + seen.places[0].offset + 4);
	env_run(&e, run_scan, &s);
	assert_int_equal(s.rc, JOURNAL_CORRUPT);
	damage(second + 500);
	env_run(&e, run_scan, &s);
	assert_int_equal(s.rc, -EBADMSG);
}

static void run_open_as_whole_blocks(void *arg)
{
	struct journal_options o = env_options(&e);
	struct quire_error err = {0};
	struct journal *j;
	int *ret = arg;

	o.whole_blocks = true;
	*ret = journal_open(&o, first, false, NULL, NULL, &recovery, &j, &err);
	if (*ret == 0)
		journal_close(j);
	else
		assert_non_null(strstr(err.text, "whole blocks"));
}

/* Who writes from the segment's memory would otherwise write a block that changes meanwhile. */
static void test_whole_blocks_end_with_a_block(void **state)
{
	(void)state;
	int rc;

	begin_with(0, true);
	env_run(&e, run_open_as_whole_blocks, &rc);
	assert_int_equal(rc, 0);
	assert_int_equal(open_and_append(2, 0), 0);
	assert_int_equal(look(), 0);
	assert_int_not_equal(recovery.at.offset % DEVICE_BLOCK_BYTES, 0);
	env_run(&e, run_open_as_whole_blocks, &rc);
	assert_int_equal(rc, -EUCLEAN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_damage_to_the_first_header_is_told_from_a_foreign_place),
		T(test_damage_to_a_later_header_is_corrupt),
		T(test_a_later_header_lost_with_its_first_group_is_torn),
		T(test_what_a_torn_first_group_left_is_never_read_later),
		T(test_a_header_that_was_never_written_behind_a_link),
		T(test_damage_to_the_end_of_a_full_segment_is_corrupt),
		T(test_a_segment_is_witness_though_its_header_is_damaged),
		T(test_a_torn_link_is_an_end_that_goes_on_into_the_named_segment),
		T(test_next_is_durable_before_link),
		T(test_a_segment_alone),
		T(test_whole_blocks_end_with_a_block),
	};
	return cmocka_run_group_tests(tests, NULL, end);
}
