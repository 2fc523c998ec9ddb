/* evidence_test.c - what is behind damage is believed as far as something proves it, and no further: neither what a torn group has left, nor a number that a
 * header states. */
#include "outcome_env.h"

#include "../../src/base/crc32c.h"
#include "../../src/journal/frame.h"

#include <stdlib.h>

#define LOST 65000u
#define OURS 100u
#define MOST 400u
#define MOST_BYTES 60000u
#define KEPT_SEGMENTS 16u

static struct {
	uint64_t n, n_damaged;
	bool damaged[MOST];
	uint8_t bytes[MOST]; /* of which the record is full */
	uint32_t offsets[MOST];
	uint64_t segments[MOST];
} found;

static int note(void *arg, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes)
{
	const uint8_t *bytes = payload;

	(void)arg;
	assert_true(found.n < MOST);
	assert_int_equal(at->record_no, found.n);
	for (uint32_t i = 0; type == OURS && i < len_bytes; i++)
		assert_int_equal(bytes[i], bytes[0]);
	found.damaged[found.n] = type == LOST;
	found.n_damaged += type == LOST;
	found.bytes[found.n] = type == OURS && len_bytes > 0 ? bytes[0] : 0;
	found.offsets[found.n] = at->offset;
	found.segments[found.n++] = at->segment;
	return 0;
}

/* ---- a log of records as they are asked for ---- */

static struct journal *open_log(bool create)
{
	struct journal_options o = env_options(&e);
	struct journal *j = NULL;
	int rc = create ? journal_create(&o, first, &j, NULL) : journal_open(&o, first, false, NULL, NULL, &recovery, &j, NULL);

	assert_int_equal(rc, 0);
	return j;
}

static void put(struct journal *j, uint8_t what, uint32_t len_bytes, bool sync)
{
	static uint8_t bytes[MOST_BYTES];
	uint64_t no;

	memset(bytes, what, len_bytes);
	assert_int_equal(journal_append(j, OURS, &(struct iovec){bytes, len_bytes}, 1, &no), 0);
	if (sync)
		assert_int_equal(journal_sync(j, no, NULL), 0);
}

static void put_some(struct journal *j, unsigned n, uint8_t what, uint32_t len_bytes)
{
	for (unsigned i = 0; i < n; i++)
		put(j, what, len_bytes, true);
}

static void fill_two(void *arg)
{
	struct journal *j = open_log(true);

	(void)arg;
	while (e.n_gets < 2)
		put(j, 1, 480, true);
	put_some(j, 4, 2, 480);
	journal_close(j);
}

/* ---- looking ---- */

struct opening {
	bool read_only, keeps_images;
	int rc;
};

static uint8_t *kept[KEPT_SEGMENTS];

static uint8_t *segment_memory(void *owner, uint64_t offset)
{
	uint8_t **image_of = &kept[offset / SEGMENT % KEPT_SEGMENTS];

	(void)owner;
	if (*image_of == NULL)
		*image_of = aligned_alloc(DEVICE_BLOCK_BYTES, SEGMENT);
	return *image_of;
}

static void run_opening(void *arg)
{
	struct opening *how = arg;
	struct journal_options o = env_options(&e);
	struct journal_ops ops = *o.ops;
	uint64_t known[MAX_SEGMENTS];
	struct journal *j;

	for (unsigned i = 0; i < e.n_extents; i++)
		known[i] = i * SEGMENT;
	o.lost_type = LOST;
	o.known = known;
	o.n_known = e.n_extents;
	if (how->keeps_images)
		ops.segment_memory = segment_memory;
	o.ops = &ops;
	found.n = found.n_damaged = 0;
	how->rc = journal_open(&o, first, how->read_only, note, NULL, &recovery, &j, NULL);
	if (how->rc == 0)
		journal_close(j);
}

static int open_with(struct opening how)
{
	env_run(&e, run_opening, &how);
	for (unsigned i = 0; i < KEPT_SEGMENTS; i++) {
		free(kept[i]);
		kept[i] = NULL;
	}
	return how.rc;
}

static int look_over(void)
{
	return open_with((struct opening){.read_only = true});
}

/* n records, of which those from `from` to `end` are lost; also when it was written to since, and read again. */
static void expect(uint64_t n, uint64_t from, uint64_t end)
{
	for (unsigned round = 0; round < 4; round++) {
		assert_int_equal(open_with((struct opening){.read_only = round != 2, .keeps_images = round == 1}), 0);
		assert_int_equal(found.n, n);
		for (uint64_t i = 0; i < n; i++)
			assert_int_equal(found.damaged[i], i >= from && i < end);
	}
	assert_int_equal(recovery.n_mended, 0);
}

/* ---- what a torn group has left ---- */

static unsigned n_small;

static void begin_sixteen(void *arg)
{
	struct journal *j = open_log(true);

	(void)arg;
	put_some(j, 16, 1, 480);
	journal_close(j);
}

static void begin_group(void *arg)
{
	struct journal *j = open_log(false);

	(void)arg;
	for (unsigned i = 0; i < 20; i++)
		put(j, 2, 480, i == 19);
	journal_close(j);
}

static void go_on_small(void *arg)
{
	struct journal *j = open_log(false);

	(void)arg;
	put_some(j, n_small, 3, 32);
	put(j, 4, MOST_BYTES, true); /* for which there is no room: the segment ends early */
	put_some(j, 3, 5, 100);
	journal_close(j);
}

/* A group of which the first block was not written when the power went; the next session's records stand there, NEXT and LINK too, and behind
 * LINK what the group has left. */
static void make_leavings(unsigned n)
{
	n_small = n;
	env_run(&e, begin_sixteen, NULL);
	env_run(&e, begin_group, NULL);
	zero(first + 12288, DEVICE_BLOCK_BYTES);
	assert_int_equal(look_over(), 0);
	assert_int_equal(found.n, 16);
	env_run(&e, go_on_small, NULL);
	assert_int_equal(look_over(), 0);
	assert_int_equal(found.n, 16 + n + 4);
	assert_int_equal(find_own(first, FRAME_LINK) / DEVICE_BLOCK_BYTES, 3);
	for (uint64_t i = 0; i < found.n; i++)
		assert_true(found.bytes[i] != 2);
}

static void test_leavings_behind_a_link_are_no_records(void **state)
{
	(void)state;
	make_leavings(20);
	zero(first + 12288, DEVICE_BLOCK_BYTES);
	expect(40, 16, 36);
}

static void test_nor_where_fewer_are_lost_than_were_left(void **state)
{
	(void)state;
	make_leavings(10);
	zero(first + 12288, DEVICE_BLOCK_BYTES);
	expect(30, 16, 26);
}

static void test_a_link_before_leavings_is_made_again(void **state)
{
	(void)state;
	make_leavings(10);
	damage(first + find_own(first, FRAME_LINK) + 5);
	assert_int_equal(look_over(), 0);
	assert_int_equal(recovery.n_mended, 1);
	expect(30, 30, 30);
}

/* ---- NEXT ---- */

static void end_by_a_group(void *arg)
{
	struct journal *j = open_log(true);

	(void)arg;
	put_some(j, 44, 1, 992); /* three quarters of the segment: */
	put(j, 2, 96, true);     /* before this one comes NEXT */
	for (unsigned i = 0; i < 5; i++)
		put(j, 3, 96, false);
	put(j, 4, MOST_BYTES, true);
	put(j, 5, 96, true);
	journal_close(j);
}

/* Of the last group none but the first says where it began, and that one is lost with NEXT: the rest is kept. */
static void test_the_last_group_of_a_segment_is_kept(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		forget_log();
		env_run(&e, end_by_a_group, NULL);
		assert_int_equal(look_over(), 0);
		assert_int_equal(found.n, 52);
		uint32_t next = find_own(first, FRAME_NEXT), link = find_own(first, FRAME_LINK);
		assert_true(next < found.offsets[44]);
		zero(first + next, found.offsets[46] - next);
		if (i == 1)
			damage(first + link + 5);
		expect(52, 44, 46);
	}
}

static void begin_three_quarters(void *arg)
{
	struct journal *j = open_log(true);

	(void)arg;
	put_some(j, 44, 1, 992);
	journal_close(j);
}

static void go_on_by_next(void *arg)
{
	struct journal *j = open_log(false);

	(void)arg;
	put_some(j, 4, 2, 96);
	journal_close(j);
}

static void test_a_next_that_was_first_of_its_session(void **state)
{
	static const uint32_t places[] = {5, 40};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		forget_log();
		env_run(&e, begin_three_quarters, NULL);
		env_run(&e, go_on_by_next, NULL);
		assert_int_equal(look_over(), 0);
		assert_int_equal(found.n, 48);
		uint32_t next = find_own(first, FRAME_NEXT);
		assert_true(next < found.offsets[44] && next > found.offsets[43]);
		damage(first + next + places[i]);
		assert_int_equal(look_over(), 0);
		assert_int_equal(recovery.n_mended, 1);
		expect(48, 48, 48);
	}
}

/* A record somewhere, and NEXT behind it: two damages. */
static void test_a_next_is_made_again_where_it_was(void **state)
{
	(void)state;
	env_run(&e, fill_two, NULL);
	assert_int_equal(look_over(), 0);
	uint64_t n = found.n, k = 0;
	uint32_t next = find_own(first, FRAME_NEXT);
	while (found.offsets[k] < next)
		k++;
	damage(first + found.offsets[k - 3] + 5);
	damage(first + next + 5);
	expect(n, k - 3, k - 2);
}

static void test_a_next_into_the_chain_is_refused(void **state)
{
	uint8_t block[JOURNAL_RECORD_HEADER_BYTES + FRAME_NEXT_BLOCK_PAYLOAD];
	struct journal_options o = env_options(&e);
	struct frame_segment s;
	struct frame_record r;

	(void)state;
	env_run(&e, fill_two, NULL);
	uint32_t next = find_own(first, FRAME_NEXT);
	assert_int_equal(frame_segment_decode(&o, first, (void *)image, &s, NULL), 0);
	memcpy(block, image + next, sizeof(block));
	assert_int_equal(frame_record_decode(&s, next, SEGMENT, block, &r), FRAME_VALID);
	s.no++; /* it is its own successor */
	frame_next_encode(&s, (struct frame_next_le *)(block + JOURNAL_RECORD_HEADER_BYTES));
	s.no--;
	r.payload_crc = crc32c(0, block + JOURNAL_RECORD_HEADER_BYTES, (uint32_t)frame_bytes(r.len_bytes) - JOURNAL_RECORD_HEADER_BYTES);
	frame_record_encode(&s, next, &r, (struct frame_record_le *)block);
	sim_poke(e.sim, first + next, block, (uint32_t)frame_bytes(r.len_bytes));
	assert_int_equal(look_over(), -EUCLEAN);
	assert_int_equal(open_with((struct opening){.read_only = false}), -EUCLEAN);
}

/* ---- numbers that a header states ---- */

static void raise_first_record(uint64_t segment, uint64_t by)
{
	struct journal_options o = env_options(&e);
	struct frame_segment s;

	sim_peek(e.sim, segment, image, DEVICE_BLOCK_BYTES);
	assert_int_equal(frame_segment_decode(&o, segment, (void *)image, &s, NULL), 0);
	s.first_record_no += by;
	frame_segment_encode(&o, &s, (void *)image);
	sim_poke(e.sim, segment, image, DEVICE_BLOCK_BYTES);
}

/* So many records cannot be lost: 2^59 headers take no bytes, counted in 64 bits. */
static void test_an_impossible_number_is_damage(void **state)
{
	static const uint8_t foreign[32] = {0xab, 0xcd};
	uint8_t there[32];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		forget_log();
		env_run(&e, fill_two, NULL);
		assert_int_equal(look_over(), 0);
		uint64_t second = found.segments[found.n - 1], k = 0, n_first = 0, other = 12 * SEGMENT;
		uint32_t next = find_own(first, FRAME_NEXT), link = find_own(first, FRAME_LINK);
		while (found.segments[n_first] == first)
			n_first++;
		while (found.offsets[k] < next)
			k++;
		/* LINK alone, or all from NEXT on: as many more records as would be lost there. */
		zero(first + (i == 0 ? link : next), SEGMENT - (i == 0 ? link : next));
		raise_first_record(second, (UINT64_C(1) << 59) - (i == 0 ? 0 : n_first - k));
		sim_poke(e.sim, other + 64, foreign, sizeof(foreign));
		for (unsigned how = 0; how < 3; how++)
			assert_int_equal(open_with((struct opening){.read_only = how != 0, .keeps_images = how == 2}), -EBADMSG);
		sim_peek(e.sim, other + 64, there, sizeof(there));
		assert_memory_equal(there, foreign, sizeof(foreign));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_leavings_behind_a_link_are_no_records),
		T(test_nor_where_fewer_are_lost_than_were_left),
		T(test_a_link_before_leavings_is_made_again),
		T(test_the_last_group_of_a_segment_is_kept),
		T(test_a_next_that_was_first_of_its_session),
		T(test_a_next_is_made_again_where_it_was),
		T(test_a_next_into_the_chain_is_refused),
		T(test_an_impossible_number_is_damage),
	};

	return cmocka_run_group_tests(tests, NULL, end);
}
