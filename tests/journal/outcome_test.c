/* outcome_test.c - what is found where a log ends: never written, stale, torn, corrupt; and going on there. Damage is
 * poked into the medium. */
#include "outcome_env.h"

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

/* A torn record whose header is whole must not be completed by the next session's first write, torn in its turn. */
static void test_the_place_where_a_log_was_torn_is_cleared(void **state)
{
	uint8_t zeros[512] = {0}, found[512];

	(void)state;
	for (unsigned record = 4; record < 9; record += 4) { /* in a block, and at its beginning */
		begin_with(10, false);
		look();
		damage(place_of(record) + 300);
		expect_end(JOURNAL_TORN, record, first, DEVICE_BLOCK_BYTES + record * 512);
		assert_int_equal(open_and_append(0, 0), 0);
		sim_peek(e.sim, first + DEVICE_BLOCK_BYTES + record * 512, found, sizeof(found));
		assert_memory_equal(found, zeros, sizeof(zeros));
	}
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
		T(test_the_place_where_a_log_was_torn_is_cleared),
		T(test_what_a_torn_group_left_is_never_read_later),
		T(test_records_in_payloads_are_no_witness),
	};
	return cmocka_run_group_tests(tests, NULL, end);
}
