/* outcome_test.c - what is found where a log ends: never written, stale, torn, corrupt; in every position. Damage is
 * poked into the medium. */
#include "journal_env.h"

#include <errno.h>
#include <string.h>

static struct env e;
static struct seen seen;
static uint64_t first;
static struct journal_recovery recovery;
static uint8_t image[SEGMENT];

/* ---- steps, each in a coroutine ---- */

struct step {
	int rc;
	bool read_only;
	uint32_t ids[8];      /* to append, then one sync */
	unsigned n;
	uint32_t fill_from;   /* append from here on until the log has n_segments */
	unsigned n_segments;
	bool keep;            /* do not open: begin the log */
	bool sync_each;
};

static void append_all(struct journal *j, struct step *s)
{
	uint64_t no = 0;

	for (unsigned i = 0; i < s->n && s->rc == 0; i++) {
		s->rc = record_append(j, s->ids[i], &no);
		if (s->rc == 0 && s->sync_each)
			s->rc = journal_sync(j, no, NULL);
	}
	for (uint32_t id = s->fill_from; s->n_segments != 0 && s->rc == 0 && e.n_gets < s->n_segments; id++)
		s->rc = record_append(j, id, &no);
	if (s->rc == 0 && (s->n != 0 || s->n_segments != 0))
		s->rc = journal_sync(j, no, NULL);
}

static void run_begin(void *arg)
{
	struct step *s = arg;
	struct journal_options o = env_options(&e);
	struct journal *j;

	s->rc = journal_create(&o, first, &j, NULL);
	assert_int_equal(s->rc, 0);
	append_all(j, s);
	journal_close(j);
}

static void run_open(void *arg)
{
	struct step *s = arg;
	struct journal_options o = env_options(&e);
	struct journal *j;

	seen.n = seen.n_wrong = 0;
	s->rc = journal_open(&o, first, s->read_only, seen_add, &seen, &recovery, &j, NULL);
	if (s->rc < 0)
		return;
	append_all(j, s);
	journal_close(j);
}

/* Begins a log with these records, each durable by itself, or all in one group. */
static void begin_with(unsigned n, bool sync_each)
{
	struct step s = {.n = n, .sync_each = sync_each};

	for (unsigned i = 0; i < n; i++)
		s.ids[i] = i;
	env_run(&e, run_begin, &s);
	assert_int_equal(s.rc, 0);
}

static int look(void)
{
	struct step s = {.read_only = true};

	env_run(&e, run_open, &s);
	assert_int_equal(seen.n_wrong, 0);
	return s.rc;
}

static int open_and_append(unsigned n, uint32_t from)
{
	struct step s = {.n = n};

	for (unsigned i = 0; i < n; i++)
		s.ids[i] = from + i;
	env_run(&e, run_open, &s);
	return s.rc;
}

static uint64_t place_of(unsigned record)
{
	return seen.places[record].segment + seen.places[record].offset;
}

static void damage(uint64_t at)
{
	uint8_t byte;

	sim_peek(e.sim, at, &byte, 1);
	byte ^= 0x10;
	sim_poke(e.sim, at, &byte, 1);
}

static void expect_end(enum journal_outcome end, uint64_t n, uint64_t segment, uint32_t offset)
{
	int rc = look();

	assert_int_equal(rc, end == JOURNAL_CORRUPT ? -EBADMSG : 0);
	assert_int_equal(recovery.end, end);
	assert_int_equal(seen.n, n);
	assert_int_equal(recovery.n_records, n);
	assert_int_equal(recovery.at.segment, segment);
	assert_int_equal(recovery.at.offset, offset);
	assert_int_equal(recovery.at.record_no, n);
}

/* The first record of that type in the segment: its offset. */
static uint32_t find_own(uint64_t segment, uint16_t type)
{
	struct frame_segment s;
	struct frame_record r;

	sim_peek(e.sim, segment, image, sizeof(image));
	assert_int_equal(frame_segment_decode(&e.o, segment, (void *)image, &s, NULL), 0);
	for (uint32_t at = DEVICE_BLOCK_BYTES; at + 32 <= SEGMENT; at += 8)
		if (frame_record_decode(&s, at, SEGMENT, image + at, &r) == FRAME_VALID && r.type == type)
			return at;
	fail_msg("no record of type %u", type);
	return 0;
}

static int set_up(void **state)
{
	static const struct sim_faults none = {.cut_ends_io = true};

	(void)state;
	env_make(&e, 16, 7, &none);
	seen_init(&seen);
	record_sizes(SIZES_EQUAL);
	first = env_extent(&e);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	seen_fini(&seen);
	env_end(&e);
	return 0;
}

/* ---- ends that are none of damage ---- */

static void test_zeros_are_never(void **state)
{
	(void)state;
	begin_with(0, false);
	expect_end(JOURNAL_NEVER, 0, first, DEVICE_BLOCK_BYTES);
	begin_with(3, true);
	expect_end(JOURNAL_NEVER, 3, first, DEVICE_BLOCK_BYTES + 3 * 512);
}

static void test_noise_is_stale(void **state)
{
	(void)state;
	memset(image, 0xa5, sizeof(image));
	sim_poke(e.sim, first, image, sizeof(image));
	begin_with(8, true); /* to a block's end */
	expect_end(JOURNAL_STALE, 8, first, DEVICE_BLOCK_BYTES + 8 * 512);
}

static void test_an_earlier_life_is_stale(void **state)
{
	(void)state;
	begin_with(8, false);
	begin_with(0, false);
	expect_end(JOURNAL_STALE, 0, first, DEVICE_BLOCK_BYTES);
	assert_int_equal(open_and_append(1, 50), 0);
	expect_end(JOURNAL_NEVER, 1, first, DEVICE_BLOCK_BYTES + 512);
}

static void test_zeros_in_payloads_are_content(void **state)
{
	struct step s = {.n = 4, .ids = {0, 7, 14, 21}}; /* all zeros: see record_fill */

	(void)state;
	env_run(&e, run_begin, &s);
	expect_end(JOURNAL_NEVER, 4, first, DEVICE_BLOCK_BYTES + 4 * 512);
}

static void test_a_foreign_place_is_refused(void **state)
{
	(void)state;
	assert_int_equal(look(), -EUCLEAN);
	begin_with(2, true);
	e.o.log_no++;
	assert_int_equal(look(), -EUCLEAN);
}

/* ---- damage to records ---- */

static void test_damage_before_a_later_group_is_corrupt(void **state)
{
	static const uint32_t places[] = {0, 4, 8, 12, 16, 20, 24, 28, 32, 100, 511};

	(void)state;
	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		begin_with(6, true);
		for (unsigned record = 0; record < 5; record++) {
			look();
			damage(place_of(record) + places[i]);
			expect_end(JOURNAL_CORRUPT, record, first, DEVICE_BLOCK_BYTES + record * 512);
			assert_int_equal(open_and_append(1, 50), -EBADMSG);
			damage(first + DEVICE_BLOCK_BYTES + record * 512 + places[i]);
		}
	}
}

static void test_damage_to_the_last_group_is_torn(void **state)
{
	(void)state;
	begin_with(6, true);
	look();
	damage(place_of(5) + 40);
	expect_end(JOURNAL_TORN, 5, first, DEVICE_BLOCK_BYTES + 5 * 512);
	begin_with(6, false);
	look();
	damage(place_of(2) + 28);
	expect_end(JOURNAL_TORN, 2, first, DEVICE_BLOCK_BYTES + 2 * 512);
}

static void test_zeros_over_what_was_acknowledged_are_corrupt(void **state)
{
	uint8_t zeros[512] = {0};

	(void)state;
	begin_with(6, true);
	look();
	sim_poke(e.sim, place_of(3), zeros, sizeof(zeros));
	expect_end(JOURNAL_CORRUPT, 3, first, DEVICE_BLOCK_BYTES + 3 * 512);
}

static void test_zeros_in_the_last_group_are_torn_if_the_group_is_seen(void **state)
{
	uint8_t zeros[512] = {0};

	(void)state;
	begin_with(6, false);
	look();
	sim_poke(e.sim, place_of(3), zeros, sizeof(zeros));
	expect_end(JOURNAL_TORN, 3, first, DEVICE_BLOCK_BYTES + 3 * 512);
}

static void test_an_older_content_of_a_sector_is_corrupt_if_acknowledged(void **state)
{
	uint8_t old[512];

	(void)state;
	begin_with(8, false);
	sim_peek(e.sim, first + DEVICE_BLOCK_BYTES + 2 * 512, old, sizeof(old));
	begin_with(8, true);
	sim_poke(e.sim, first + DEVICE_BLOCK_BYTES + 2 * 512, old, sizeof(old));
	expect_end(JOURNAL_CORRUPT, 2, first, DEVICE_BLOCK_BYTES + 2 * 512);
}

/* ---- going on ---- */

static void test_appending_goes_on_where_the_log_was_torn(void **state)
{
	(void)state;
	begin_with(6, false);
	look();
	damage(place_of(4));
	assert_int_equal(open_and_append(2, 50), 0);
	expect_end(JOURNAL_NEVER, 6, first, DEVICE_BLOCK_BYTES + 6 * 512);
	assert_int_equal(seen.ids[4], 50);
	assert_int_equal(seen.ids[5], 51);
}

/* Behind the torn record there are whole ones; the record written over it is of the same size. */
static void test_what_a_torn_group_left_is_never_read_later(void **state)
{
	uint8_t group[3 * 512], zeros[512] = {0};

	(void)state;
	begin_with(6, false);
	look();
	sim_peek(e.sim, place_of(3), group, sizeof(group));
	sim_poke(e.sim, place_of(3), zeros, sizeof(zeros));
	uint64_t at = first + DEVICE_BLOCK_BYTES + 3 * 512;
	assert_int_equal(open_and_append(1, 50), 0);
	/* The group's other blocks reach the medium, as if the cut had left them and not the zeros behind. */
	sim_poke(e.sim, at + 512, group + 512, 1024);
	expect_end(JOURNAL_STALE, 4, first, DEVICE_BLOCK_BYTES + 4 * 512);
	assert_int_equal(seen.ids[3], 50);
	assert_int_equal(open_and_append(1, 51), 0);
	sim_poke(e.sim, at + 1024, group + 1024, 512);
	expect_end(JOURNAL_STALE, 5, first, DEVICE_BLOCK_BYTES + 5 * 512);
	assert_int_equal(seen.ids[4], 51);
}

static void append_image(void *arg)
{
	struct journal_options o = env_options(&e);
	struct journal *j;
	uint64_t no;

	(void)arg;
	assert_int_equal(journal_open(&o, first, false, NULL, NULL, NULL, &j, NULL), 0);
	sim_peek(e.sim, first, image, sizeof(image));
	struct iovec part = {.iov_base = image, .iov_len = 20000};
	assert_int_equal(journal_append(j, 16, &part, 1, &no), 0);
	assert_int_equal(journal_sync(j, no, NULL), 0);
	journal_close(j);
}

/* The log's own image is a payload of it: whole records of this life, none of which is at its place. */
static void test_records_in_payloads_are_no_witness(void **state)
{
	(void)state;
	begin_with(8, true);
	env_run(&e, append_image, NULL);
	damage(first + DEVICE_BLOCK_BYTES + 8 * 512 + 8); /* header of the last record */
	expect_end(JOURNAL_TORN, 8, first, DEVICE_BLOCK_BYTES + 8 * 512);
	assert_int_equal(open_and_append(1, 50), 0);
	int rc = look();
	assert_int_equal(rc, 0);
	assert_int_equal(seen.n, 9);
}

/* ---- segments ---- */

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

/* All in one burst: NEXT must have been durable before LINK, or its damage would pass for a torn tail. */
static void test_next_is_durable_before_link(void **state)
{
	struct step s = {.fill_from = 0, .n_segments = 2};

	(void)state;
	env_run(&e, run_begin, &s);
	assert_int_equal(s.rc, 0);
	uint32_t next = find_own(first, FRAME_NEXT), link = find_own(first, FRAME_LINK);
	struct frame_segment segment;
	struct frame_record r;

	assert_int_equal(frame_segment_decode(&e.o, first, (void *)image, &segment, NULL), 0);
	assert_int_equal(frame_record_decode(&segment, link, SEGMENT, image + link, &r), FRAME_VALID);
	assert_true(r.group_start > next);
}

static void run_scan(void *arg)
{
	struct step *s = arg;
	struct journal_options o = env_options(&e);

	seen.n = 0;
	s->rc = journal_scan_segment(&o, s->keep ? first : s->fill_from, seen_add, &seen, &recovery, NULL);
}

static void test_a_segment_alone(void **state)
{
	struct step s = {.keep = true};

	(void)state;
	uint64_t second = two_segments(3), n = n_in_first(), n_all = seen.n;
	env_run(&e, run_scan, &s);
	assert_int_equal(s.rc, JOURNAL_VALID);
	assert_int_equal(seen.n, n);
	s = (struct step){.fill_from = (uint32_t)second};
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

static int end(void **state)
{
	(void)state;
	return e.loop == NULL ? 0 : quire_loop_destroy(e.loop);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_zeros_are_never),
		T(test_noise_is_stale),
		T(test_an_earlier_life_is_stale),
		T(test_zeros_in_payloads_are_content),
		T(test_a_foreign_place_is_refused),
		T(test_damage_before_a_later_group_is_corrupt),
		T(test_damage_to_the_last_group_is_torn),
		T(test_zeros_over_what_was_acknowledged_are_corrupt),
		T(test_zeros_in_the_last_group_are_torn_if_the_group_is_seen),
		T(test_an_older_content_of_a_sector_is_corrupt_if_acknowledged),
		T(test_appending_goes_on_where_the_log_was_torn),
		T(test_what_a_torn_group_left_is_never_read_later),
		T(test_records_in_payloads_are_no_witness),
		T(test_damage_to_the_first_header_is_told_from_a_foreign_place),
		T(test_damage_to_a_later_header_is_corrupt),
		T(test_a_later_header_lost_with_its_first_group_is_torn),
		T(test_a_header_that_was_never_written_behind_a_link),
		T(test_damage_to_the_end_of_a_full_segment_is_corrupt),
		T(test_a_segment_is_witness_though_its_header_is_damaged),
		T(test_a_torn_link_is_an_end_that_goes_on_into_the_named_segment),
		T(test_next_is_durable_before_link),
		T(test_a_segment_alone),
	};
	return cmocka_run_group_tests(tests, NULL, end);
}
