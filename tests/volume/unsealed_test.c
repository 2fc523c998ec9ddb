/* A check of a store whose volumes nobody has opened since their process died: all that is not sealed is read, and nothing else is. */
#include "volume_env.h"

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
	for (unsigned i = 0; i < 40; i++)
		write_one(e, i, i + 1);
	assert_int_equal(sim_clone(e->sim, 9, &k->medium), 0);
	assert_int_equal(env_close(e), 0);
}

static void each_is_read(void **state)
{
	struct looking k = {.medium = NULL};

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
		assert_int_equal(k.n_there, k.numbers[i] == 0);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_is_read),
		cmocka_unit_test(what_was_is_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
