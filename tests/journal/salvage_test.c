/* salvage_test.c - over what was durable and is damaged: what is lost is exactly what was damaged, what is not is read, and once the log
 * was written to nobody needs to salvage anything any more. */
#include "outcome_env.h"

#define LOST 65000u
#define RECORD 512u /* each, its header included */
#define MOST 400u

static struct {
	uint64_t n;
	uint16_t types[MOST];
	bool damaged[MOST];
	struct journal_place places[MOST];
} found;

static int note(void *arg, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes)
{
	(void)arg;
	assert_true(found.n < MOST);
	assert_int_equal(at->record_no, found.n);
	assert_true(type == LOST || record_matches(record_id(type), payload, len_bytes));
	found.types[found.n] = type;
	found.places[found.n] = *at;
	found.damaged[found.n++] = at->damaged;
	return 0;
}

/* Opens the log, and appends n records; the last look's error. */
static void run_salvage(void *arg)
{
	uint64_t known[MAX_SEGMENTS], no = 0;
	struct step *s = arg;
	struct journal_options o = env_options(&e);
	struct journal *j;

	for (unsigned i = 0; i < e.n_extents; i++)
		known[i] = i * SEGMENT;
	o.lost_type = s->sync_each ? 0 : LOST;
	o.known = known;
	o.n_known = e.n_extents;
	found.n = 0;
	s->rc = journal_open(&o, first, s->read_only, note, NULL, &recovery, &j, NULL);
	if (s->rc < 0)
		return;
	for (unsigned i = 0; i < s->n && s->rc == 0; i++)
		s->rc = record_append(j, s->ids[i], &no);
	for (uint32_t id = s->fill_from; s->rc == 0 && e.n_gets < s->n_segments; id++)
		s->rc = record_append(j, id, &no);
	if (s->rc == 0 && (s->n != 0 || s->n_segments != 0))
		s->rc = journal_sync(j, no, NULL);
	journal_close(j);
}

static int salvage(void)
{
	struct step s = {.read_only = true};

	env_run(&e, run_salvage, &s);
	return s.rc;
}

/* Once it was written to, a look without salvage finds the same: all of n records, and in the place of those from `from` to `end` something else. */
static void expect_lost(uint64_t n, uint64_t from, uint64_t end)
{
	struct step append = {.n = 1, .ids = {300}}, plain = {.read_only = true, .sync_each = true};

	for (unsigned round = 0; round < 3; round++) {
		struct step *s = round == 0 ? &(struct step){.read_only = true} : round == 1 ? &append : &plain;
		env_run(&e, run_salvage, s);
		assert_int_equal(s->rc, 0);
		assert_int_equal(found.n, n + (round == 2));
		for (uint64_t i = 0; i < n; i++) {
			assert_int_equal(found.types[i] == LOST, i >= from && i < end);
			assert_int_equal(found.damaged[i], round < 2 && i >= from && i < end);
		}
	}
}

static void test_a_damaged_record_is_lost_alone(void **state)
{
	static const uint32_t places[] = {0, 8, 12, 16, 20, 28, 32, 511};

	(void)state;
	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		begin_with(8, true);
		assert_int_equal(salvage(), 0);
		damage(found.places[3].segment + found.places[3].offset + places[i]);
		expect_lost(8, 3, 4);
	}
}

static void test_a_run_without_headers_is_counted_by_the_next_one(void **state)
{
	(void)state;
	begin_with(10, true);
	zero(first + DEVICE_BLOCK_BYTES + 2 * RECORD + 8, 3 * RECORD - 16);
	expect_lost(10, 2, 5);
	/* The last group, of which the first record is behind what is lost. */
	begin_with(10, true);
	zero(first + DEVICE_BLOCK_BYTES + 7 * RECORD, 2 * RECORD);
	expect_lost(10, 7, 9);
}

static void test_what_the_last_group_lacks_is_torn(void **state)
{
	(void)state;
	begin_with(10, true);
	zero(first + DEVICE_BLOCK_BYTES + 9 * RECORD, RECORD);
	expect_lost(9, 9, 9);
}

/* The first of a session is lost: those behind it are of another one than those before. */
static void test_the_first_of_a_session_may_be_lost(void **state)
{
	struct step s = {.n = 1, .ids = {5}};

	(void)state;
	begin_with(4, true);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(open_and_append(1, 50 + i), 0);
	env_run(&e, run_salvage, &s);
	assert_int_equal(s.rc, 0);
	zero(first + DEVICE_BLOCK_BYTES + 4 * RECORD, RECORD);
	expect_lost(8, 4, 5);
	begin_with(4, true);
	s = (struct step){.n = 3, .ids = {50, 51, 52}};
	env_run(&e, run_salvage, &s);
	assert_int_equal(open_and_append(1, 53), 0);
	zero(first + DEVICE_BLOCK_BYTES + 4 * RECORD, RECORD);
	expect_lost(8, 4, 5);
}

/* What a torn group has left, behind the end of all that followed it, is not taken for records when all between is lost. */
static void test_leavings_are_no_records(void **state)
{
	(void)state;
	begin_with(2, true);
	assert_int_equal(open_and_append(12, 50), 0);
	damage(first + DEVICE_BLOCK_BYTES + 2 * RECORD);
	assert_int_equal(open_and_append(2, 70), 0); /* over the first two of the twelve; what a block of them leaves is whole */
	assert_int_equal(salvage(), 0);
	assert_int_equal(found.n, 4);
	zero(first + DEVICE_BLOCK_BYTES + RECORD, 3 * RECORD);
	assert_int_equal(salvage(), -EBADMSG);
	assert_int_equal(recovery.at.record_no, 1);
}

/* ---- where segments change ---- */

static uint64_t second;

static void begin_anew(struct step *s)
{
	forget_log();
	env_run(&e, run_begin, s);
	assert_int_equal(s->rc, 0);
}

static uint64_t begin_two(void)
{
	struct step s = {.n_segments = 2, .fill_from = 1};

	begin_anew(&s);
	s = (struct step){.n = 6, .ids = {1, 2, 3, 4, 5, 6}};
	for (unsigned i = 0; i < 3; i++)
		env_run(&e, run_open, &s);
	assert_int_equal(salvage(), 0);
	second = found.places[found.n - 1].segment;
	assert_true(second != first);
	return found.n;
}

static uint64_t first_of_second(void)
{
	uint64_t i = 0;

	while (found.places[i].segment == first)
		i++;
	return i;
}

static void test_the_end_of_a_segment_is_counted_by_the_next(void **state)
{
	(void)state;
	for (uint64_t k = 0; k < 4; k++) {
		uint64_t n = begin_two(), end = first_of_second();
		uint32_t from = k == 0 ? find_own(first, FRAME_LINK) : found.places[end - k].offset;
		assert_true(from > find_own(first, FRAME_NEXT));
		zero(first + from, SEGMENT - from);
		expect_lost(n, end - k, end);
	}
}

static void test_a_header_is_made_again(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		uint64_t n = begin_two();
		if (i == 0)
			zero(second, DEVICE_BLOCK_BYTES);
		else
			damage(second + (i == 1 ? 3 : i == 2 ? 60 : 75));
		assert_int_equal(salvage(), 0);
		assert_int_equal(recovery.n_mended, 1);
		expect_lost(n, n, n);
	}
	/* And the first record is gone with it. */
	uint64_t n = begin_two(), k = first_of_second();
	zero(second, DEVICE_BLOCK_BYTES + RECORD);
	expect_lost(n, k, k + 1);
}

static void test_a_next_is_made_again(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		uint64_t n = begin_two();
		uint32_t at = find_own(first, FRAME_NEXT);
		if (i == 0)
			zero(first + at, FRAME_NEXT_BYTES);
		else
			damage(first + at + (i == 1 ? 5 : 40));
		assert_int_equal(salvage(), 0);
		assert_int_equal(recovery.n_mended, 1);
		expect_lost(n, n, n);
	}
}

/* The segment that it named was not begun: any will do, and the log goes on there. */
static void test_a_next_to_nowhere_is_made_again(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct step s = {.n_segments = 1, .fill_from = 1};
		begin_anew(&s);
		s = (struct step){.n = 1, .ids = {9}};
		for (unsigned k = 0; k < 3; k++)
			env_run(&e, run_open, &s);
		assert_int_equal(salvage(), 0);
		uint64_t n = found.n;
		damage(first + find_own(first, FRAME_NEXT) + (i == 0 ? 5 : 40));
		expect_lost(n, n, n);
		e.n_gets = 0;
		s = (struct step){.n = 1, .ids = {9}, .n_segments = 1, .fill_from = 1};
		env_run(&e, run_salvage, &s);
		assert_int_equal(s.rc, 0);
		assert_int_equal(salvage(), 0);
		assert_true(found.places[found.n - 1].segment != first);
	}
}

static void test_a_next_that_nobody_knows_is_damage(void **state)
{
	unsigned n = e.n_extents;

	(void)state;
	(void)begin_two();
	uint32_t next = find_own(first, FRAME_NEXT);
	damage(first + next + 5);
	e.n_extents = 0;
	assert_int_equal(salvage(), -EBADMSG);
	/* Nor if two of them come next. */
	e.n_extents = n;
	sim_peek(e.sim, second, image, sizeof(image));
	struct frame_segment s;
	assert_int_equal(frame_segment_decode(&e.o, second, (void *)image, &s, NULL), 0);
	s.offset = second + 4 * SEGMENT;
	frame_segment_encode(&e.o, &s, (void *)image);
	assert_int_equal(salvage(), 0);
	sim_poke(e.sim, s.offset, image, DEVICE_BLOCK_BYTES);
	assert_int_equal(salvage(), -EBADMSG);
	/* Nor if none does, though there must be one. */
	zero(s.offset, DEVICE_BLOCK_BYTES);
	zero(second, DEVICE_BLOCK_BYTES);
	assert_int_equal(salvage(), -EBADMSG);
	assert_int_equal(recovery.at.segment, first);
	assert_int_equal(recovery.at.offset, next);
}

/* The next segment's header says that this one did not end here. */
static void test_a_next_and_its_link_are_made_again(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		uint64_t n = begin_two();
		uint32_t next = find_own(first, FRAME_NEXT), link = find_own(first, FRAME_LINK);
		damage(first + link + 5);
		if (i == 0)
			zero(first + next, FRAME_NEXT_BYTES);
		else
			damage(first + next + (i == 1 ? 5 : 40));
		assert_int_equal(salvage(), 0);
		assert_int_equal(recovery.n_mended, 2);
		expect_lost(n, n, n);
	}
}

static void test_the_end_of_a_segment_is_lost_with_its_next(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		uint64_t n = begin_two(), end = first_of_second(), from = 0;
		uint32_t next = find_own(first, FRAME_NEXT);
		while (found.places[from].offset < next)
			from++;
		assert_true(from < end);
		from -= i; /* and the record before NEXT */
		uint32_t at = i == 0 ? next : found.places[from].offset;
		zero(first + at, SEGMENT - at);
		expect_lost(n, from, end);
	}
}

static void test_records_are_lost_with_the_next_between_them(void **state)
{
	(void)state;
	uint64_t n = begin_two(), from = 0;
	while (found.places[from].offset < find_own(first, FRAME_NEXT))
		from++;
	uint32_t at = found.places[from - 1].offset;
	assert_int_equal(found.places[from + 1].segment, first);
	zero(first + at, found.places[from + 1].offset - at);
	expect_lost(n, from - 1, from + 1);
}

/* Nor does a log end there where nobody knows which one comes next, but one that comes later is known. */
static void test_what_comes_later_proves_that_it_went_on(void **state)
{
	struct step s = {.n_segments = 3, .fill_from = 1};

	(void)state;
	begin_anew(&s);
	assert_int_equal(salvage(), 0);
	second = found.places[first_of_second()].segment;
	uint32_t next = find_own(first, FRAME_NEXT);
	zero(first + next, SEGMENT - next);
	zero(second, SEGMENT);
	assert_int_equal(salvage(), -EBADMSG);
	assert_int_equal(recovery.at.segment, first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_a_damaged_record_is_lost_alone),
		T(test_a_run_without_headers_is_counted_by_the_next_one),
		T(test_what_the_last_group_lacks_is_torn),
		T(test_the_first_of_a_session_may_be_lost),
		T(test_leavings_are_no_records),
		T(test_the_end_of_a_segment_is_counted_by_the_next),
		T(test_a_header_is_made_again),
		T(test_a_next_is_made_again),
		T(test_a_next_to_nowhere_is_made_again),
		T(test_a_next_that_nobody_knows_is_damage),
		T(test_a_next_and_its_link_are_made_again),
		T(test_the_end_of_a_segment_is_lost_with_its_next),
		T(test_records_are_lost_with_the_next_between_them),
		T(test_what_comes_later_proves_that_it_went_on),
	};

	return cmocka_run_group_tests(tests, NULL, end);
}
