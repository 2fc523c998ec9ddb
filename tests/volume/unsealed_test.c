/* A check of a store whose volumes nobody has opened since their process died: all that is not sealed is read, and nothing else is. */
#include "volume_env.h"

#include "../../src/base/crc32c.h"
#include "../../src/journal/frame.h"
#include "../../src/volume/volume_format.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MOST_SEGMENTS 64u
#define N_UNITS 1024u /* 4 MiB: space is used again soon */
#define FIRST_LOG 3u /* 1 and 2 are the catalogue's */

static const struct sim_faults dying = {.cut_ends_io = true};

struct looking {
	struct sim *medium;    /* as the process left it */
	uint64_t segments[MOST_SEGMENTS], numbers[MOST_SEGMENTS]; /* of the volumes', by what is on the medium */
	unsigned n;
	unsigned n_writes;
	uint64_t at;           /* of the segment that is damaged */
	int64_t n_found, n_there;
};

/* ---- what there is ---- */

static void find_segments(struct looking *k)
{
	struct frame_segment_le header;

	k->n = 0;
	for (uint64_t at = 0; at < N_UNITS * BLOCK; at += BLOCK) {
		sim_peek(k->medium, at, &header, sizeof(header));
		if (memcmp(header.magic, "QuireSeg", 8) != 0 || le32toh(header.log_no) < FIRST_LOG)
			continue;
		assert_true(k->n < MOST_SEGMENTS);
		k->segments[k->n] = at;
		k->numbers[k->n++] = le64toh(header.segment_no);
	}
}

/* The first record of data in a segment. */
static uint64_t find_head(const struct looking *k, uint64_t segment)
{
	struct frame_segment_le header;
	struct frame_record_le record;

	sim_peek(k->medium, segment, &header, sizeof(header));
	for (uint64_t at = segment + BLOCK; at < segment + ENV_SEGMENT_BYTES; at += BLOCK) {
		sim_peek(k->medium, at, &record, sizeof(record));
		if (record.salt == header.salt && le16toh(record.type) == VOLUME_DATA)
			return at;
	}
	fail();
	return 0;
}

/* ---- looking ---- */

static void take_finding(void *arg, int error, uint64_t id, unsigned class_no, uint64_t offset, const char *text)
{
	struct looking *k = arg;

	(void)id;
	(void)class_no;
	(void)text;
	assert_int_equal(error, -EBADMSG);
	k->n_there += offset >= k->at && offset < k->at + ENV_SEGMENT_BYTES;
}

static void check_alone(struct env *e, void *arg)
{
	struct looking *k = arg;
	struct store_check check = {.found = take_finding, .arg = k};

	k->n_there = 0;
	assert_int_equal(env_open_store(e), 0);
	k->n_found = store_check(e->store, &check);
	assert_int_equal(store_close(e->store), 0);
	e->store = NULL;
}

/* With a byte of the segment changed; 0: with none. */
static void look(struct looking *k, uint64_t segment, uint64_t damaged)
{
	struct env e;
	uint8_t byte;

	env_init(&e, 1, N_UNITS, &dying);
	sim_destroy(e.sim);
	assert_int_equal(sim_clone(k->medium, 1, &e.sim), 0);
	k->at = segment;
	if (damaged != 0) {
		sim_peek(e.sim, damaged, &byte, 1);
		byte ^= 4;
		sim_poke(e.sim, damaged, &byte, 1);
	}
	env_run(&e, check_alone, k);
	env_fini(&e);
}

static void write_one(struct env *e, uint64_t block, uint64_t what)
{
	struct quire_volume *v = open_volume(e, "a");

	assert_int_equal(put(v, block * BLOCK, BLOCK, what, QUIRE_VOLUME_FUA), 0);
	quire_volume_close(v);
}

static void live(struct looking *k, void (*life)(struct env *e, void *arg))
{
	struct env e;

	env_init(&e, 31, N_UNITS, &dying);
	env_run(&e, life, k);
	env_fini(&e);
	find_segments(k);
}

/* ---- all of it ---- */

static void write_some(struct env *e, void *arg)
{
	struct looking *k = arg;

	begin(e);
	for (unsigned i = 0; i < k->n_writes; i++)
		write_one(e, i, i + 1);
	assert_int_equal(sim_clone(e->sim, 9, &k->medium), 0);
	assert_int_equal(env_close(e), 0);
}

static void each_is_read(void **state)
{
	struct looking k = {.n_writes = 40};

	(void)state;
	live(&k, write_some);
	assert_true(unseal(k.medium, N_UNITS) >= 3);
	assert_true(k.n > 4);
	look(&k, 0, 0);
	assert_int_equal(k.n_found, 0);
	for (unsigned i = 0; i < k.n; i++) {
		uint64_t head = find_head(&k, k.segments[i]);
		look(&k, k.segments[i], head + BLOCK + 2000);
		assert_int_equal(k.n_found, 1);
		assert_int_equal(k.n_there, 1);
		look(&k, k.segments[i], head + 2000);
		assert_int_equal(k.n_found, 1);
		assert_int_equal(k.n_there, 1);
		/* Of one that others lead to it is made again of what these say. */
		look(&k, k.segments[i], k.segments[i] + 2000);
		assert_int_equal(k.n_found, 1);
		assert_int_equal(k.n_there, 1);
	}
	sim_destroy(k.medium);
}

/* ---- and nothing else ---- */

/* Segments are removed, and their space is got for others, that are not used yet. */
static void use_again(struct env *e, void *arg)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = VOLUME_BYTES};
	struct looking *k = arg;

	begin(e);
	for (unsigned round = 0; round < 8; round++) {
		for (unsigned i = 0; i < 40; i++)
			write_one(e, i, 100 * round + i + 1);
		assert_int_equal(quire_volume_rm(e->volumes, "a"), 0);
		assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
		assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
		assert_int_equal(quire_volume_create(e->volumes, "a", &o), 0);
	}
	assert_int_equal(sim_clone(e->sim, 9, &k->medium), 0);
	assert_int_equal(env_close(e), 0);
}

static void what_was_is_not(void **state)
{
	struct looking k = {.medium = NULL};
	uint64_t newest = 0;

	(void)state;
	live(&k, use_again);
	for (unsigned i = 0; i < k.n; i++)
		newest = k.numbers[i] > newest ? k.numbers[i] : newest;
	for (unsigned i = 0; i < k.n; i++) {
		uint8_t block[BLOCK];
		if (k.numbers[i] == newest)
			continue;
		memset(block, 0x55, sizeof(block));
		sim_poke(k.medium, k.segments[i] + 3 * BLOCK, block, sizeof(block));
	}
	look(&k, 0, 0);
	assert_int_equal(k.n_found, 0);
	sim_destroy(k.medium);
}

/* ---- where a NEXT leads that nobody of ours has written ---- */

static uint64_t segment_of(const struct looking *k, uint64_t number)
{
	for (unsigned i = 0; i < k->n; i++)
		if (k->numbers[i] == number)
			return k->segments[i];
	fail();
	return 0;
}

/* Makes the NEXT of a segment name another one. False: it has none yet. */
static bool lead(const struct looking *k, uint64_t segment, uint64_t to, bool as_itself)
{
	struct frame_segment_le header;
	struct frame_record r;
	uint8_t block[BLOCK];

	sim_peek(k->medium, segment, &header, sizeof(header));
	struct frame_segment s = {.offset = segment, .no = le64toh(header.segment_no), .salt = le32toh(header.salt), .key = le32toh(header.key)};
	struct frame_segment next = {.offset = to, .no = s.no + 1, .salt = as_itself ? s.salt : 77, .key = as_itself ? s.key : 77};
	for (uint32_t at = BLOCK; at < ENV_SEGMENT_BYTES; at += BLOCK) {
		sim_peek(k->medium, segment + at, block, BLOCK);
		if (frame_record_decode(&s, at, ENV_SEGMENT_BYTES, block, &r) != FRAME_VALID || r.type != FRAME_NEXT)
			continue;
		frame_next_encode(&next, (struct frame_next_le *)(block + JOURNAL_RECORD_HEADER_BYTES));
		r.payload_crc = crc32c(0, block + JOURNAL_RECORD_HEADER_BYTES, BLOCK - JOURNAL_RECORD_HEADER_BYTES);
		frame_record_encode(&s, at, &r, (struct frame_record_le *)block);
		sim_poke(k->medium, segment + at, block, BLOCK);
		return true;
	}
	return false;
}

static void open_it(struct env *e, void *arg)
{
	(void)arg;
	assert_int_equal(env_open(e), -EUCLEAN);
}

/* The volumes are refused, and nothing was written. */
static void expect_refusal(const struct looking *k)
{
	static uint8_t before[N_UNITS * BLOCK], after[N_UNITS * BLOCK];
	struct env e;

	env_init(&e, 1, N_UNITS, &dying);
	sim_destroy(e.sim);
	assert_int_equal(sim_clone(k->medium, 1, &e.sim), 0);
	env_run(&e, open_it, NULL);
	sim_peek(e.sim, segment_of(k, 0), after, ENV_SEGMENT_BYTES);
	sim_peek(k->medium, segment_of(k, 0), before, ENV_SEGMENT_BYTES);
	assert_memory_equal(before, after, ENV_SEGMENT_BYTES);
	env_fini(&e);
}

static void a_next_to_its_own_segment_is_refused(void **state)
{
	struct looking k = {.n_writes = 40};

	(void)state;
	live(&k, write_some);
	assert_true(unseal(k.medium, N_UNITS) >= 3);
	uint64_t segment = segment_of(&k, 0);
	assert_true(lead(&k, segment, segment, true));
	expect_refusal(&k);
	sim_destroy(k.medium);
}

/* The next segment was not begun; it would be written over what is not the volumes'. */
static void a_next_to_what_is_not_theirs_is_refused(void **state)
{
	struct looking k = {.n_writes = 30};
	bool led = false;

	(void)state;
	for (; !led; k.n_writes++) {
		assert_true(k.n_writes < 50);
		live(&k, write_some);
		led = lead(&k, segment_of(&k, k.n - 1), (N_UNITS - 32) * BLOCK, false);
		if (led)
			expect_refusal(&k);
		sim_destroy(k.medium);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_is_read),
		cmocka_unit_test(what_was_is_not),
		cmocka_unit_test(a_next_to_its_own_segment_is_refused),
		cmocka_unit_test(a_next_to_what_is_not_theirs_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
