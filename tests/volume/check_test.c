/* A check of volumes whose segments have lost what says that they are sealed: nothing of it passes for a spare, what is told is made again by a repair
 * where all of it is there, and of a sound medium nothing is told. */
#include "volume_env.h"

#include "../../src/journal/frame.h"

#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define MOST_SEGMENTS 32u
#define N_UNITS 1024u
#define N_WRITES 60u

static const struct sim_faults dying = {.cut_ends_io = true};

struct found {
	struct sim *medium;  /* when the volumes were closed: all but the tail is sealed */
	bool checkpoint;     /* the last thing that it made */
	bool at_once;        /* a checkpoint as soon as it is written, and nothing behind it */
	bool refused;        /* the volumes are not opened, or not all of it can be read: either */
	uint64_t segments[MOST_SEGMENTS], footers[MOST_SEGMENTS]; /* of sealed ones, in order; footers: offsets */
	uint64_t tail;       /* the newest; with a checkpoint, what was between was removed, and its space is used again */
	unsigned n;
	enum store_repair how;
	int64_t n_found;
	unsigned n_lost, n_rebuilt;
};

/* ---- a life ---- */

static void write_all(struct env *e, void *arg)
{
	struct found *f = arg;
	struct quire_volume *v;

	begin(e);
	v = open_volume(e, "a");
	for (unsigned i = 0; i < N_WRITES; i++)
		assert_int_equal(put(v, i * BLOCK, BLOCK, i + 1, QUIRE_VOLUME_FUA), 0);
	/* The place of the last one is in the tail, behind the pages of the first. */
	if (f->at_once)
		assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	for (unsigned i = 0; i < 2 * f->checkpoint; i++) {
		assert_int_equal(put(v, 0, 2 * BLOCK, 0, QUIRE_VOLUME_FUA), 0);
		assert_int_equal(put(v, 0, BLOCK, 1, QUIRE_VOLUME_FUA), 0);
		assert_int_equal(put(v, BLOCK, BLOCK, 2, QUIRE_VOLUME_FUA), 0);
		assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	}
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
	assert_int_equal(sim_clone(e->sim, 9, &f->medium), 0);
}

static void find_segments(struct found *f)
{
	struct frame_segment_le header;
	struct log_footer_le footer;
	uint64_t newest = 0, n_footers = 0, headers[MOST_SEGMENTS] = {0};

	for (uint64_t at = 0; at < N_UNITS * BLOCK; at += BLOCK) {
		sim_peek(f->medium, at, &footer, sizeof(footer));
		if (memcmp(footer.magic, FORMAT_LOG_FOOTER_MAGIC, sizeof(footer.magic)) == 0) {
			uint64_t no = le64toh(footer.segment_no);
			assert_true(no < MOST_SEGMENTS);
			f->footers[no] = at;
			f->segments[no] = le64toh(footer.offset);
			f->n = no + 1 > f->n ? (unsigned)no + 1 : f->n;
			n_footers++;
		}
		memcpy(&header, &footer, sizeof(header));
		if (memcmp(header.magic, "QuireSeg", 8) == 0 && le32toh(header.log_no) > 2 && le64toh(header.segment_no) < MOST_SEGMENTS) {
			headers[le64toh(header.segment_no)] = at;
			newest = le64toh(header.segment_no) > newest ? le64toh(header.segment_no) : newest;
		}
	}
	f->tail = headers[newest];
	assert_true(f->n > 4 && n_footers == f->n && newest >= f->n);
}

static void live_as(struct found *f, const struct found *how)
{
	struct env e;

	*f = *how;
	env_init(&e, 31, N_UNITS, &dying);
	env_run(&e, write_all, f);
	env_fini(&e);
	find_segments(f);
}

static void live(struct found *f, bool checkpoint)
{
	live_as(f, &(struct found){.checkpoint = checkpoint});
}

/* ---- looking ---- */

static void settled(void *arg, const struct store_finding *finding)
{
	struct found *f = arg;

	f->n_lost += finding->remedy == STORE_LOST;
	f->n_rebuilt += finding->remedy == STORE_REBUILT;
}

static void check_it(struct env *e, void *arg)
{
	struct found *f = arg;
	struct store_check check = {.settled = settled, .arg = f, .repair = f->how};

	f->n_lost = f->n_rebuilt = 0;
	assert_int_equal(env_open_store(e), 0);
	f->n_found = store_check(e->store, &check);
	assert_int_equal(store_close(e->store), 0);
	e->store = NULL;
}

static void read_it(struct env *e, void *arg)
{
	struct found *f = arg;
	struct quire_volume *v;
	bool right = true;

	f->refused = env_open(e) < 0;
	if (f->refused)
		return;
	v = open_volume(e, "a");
	for (unsigned i = 0; i < N_WRITES; i++)
		right &= holds(v, i * BLOCK, BLOCK, i + 1);
	f->refused = !right;
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

static struct env copy_of(const struct found *f)
{
	struct env e;

	env_init(&e, 1, N_UNITS, &dying);
	sim_destroy(e.sim);
	assert_int_equal(sim_clone(f->medium, 1, &e.sim), 0);
	return e;
}

static void wipe(struct env *e, uint64_t at, uint64_t n_bytes)
{
	static const uint8_t zeros[BLOCK];

	for (; n_bytes > 0; at += BLOCK, n_bytes -= BLOCK)
		sim_poke(e->sim, at, zeros, BLOCK);
}

static void flip(struct env *e, uint64_t at)
{
	uint8_t byte;

	sim_peek(e->sim, at, &byte, 1);
	byte ^= 4;
	sim_poke(e->sim, at, &byte, 1);
}

static void check_as(struct env *e, struct found *f, enum store_repair how)
{
	f->how = how;
	env_run(e, check_it, f);
}

/* Nothing is told, and all is read. */
static void expect_sound(struct env *e, struct found *f)
{
	check_as(e, f, STORE_REPAIR_NO);
	assert_int_equal(f->n_found, 0);
	env_run(e, read_it, f);
	assert_false(f->refused);
	check_as(e, f, STORE_REPAIR_NO);
	assert_int_equal(f->n_found, 0);
}

/* Told; a plan says what the repair does; then nothing is told, and all is read. */
static void expect_rebuilt(struct env *e, struct found *f)
{
	check_as(e, f, STORE_REPAIR_NO);
	assert_int_equal(f->n_found, 1);
	check_as(e, f, STORE_REPAIR_PLAN);
	assert_int_equal(f->n_rebuilt, 1);
	check_as(e, f, STORE_REPAIR_DO);
	assert_int_equal(f->n_rebuilt, 1);
	assert_int_equal(f->n_lost, 0);
	expect_sound(e, f);
}

/* ---- all of it ---- */

static void footers(bool checkpoint)
{
	struct found f;

	live(&f, checkpoint);
	unsigned n_told = checkpoint ? f.n : f.n - 1;
	for (unsigned i = 0; i < 2 * f.n; i++) {
		struct env e = copy_of(&f);
		bool is_flip = i % 2 == 1;
		if (is_flip)
			flip(&e, f.footers[i / 2] + 60);
		else
			wipe(&e, f.footers[i / 2], BLOCK);
		/* Behind the checkpoint's place the newest is as if its process had died before it was sealed. */
		if (i / 2 < n_told || is_flip) {
			expect_rebuilt(&e, &f);
		} else {
			expect_sound(&e, &f);
		}
		env_fini(&e);
	}
	sim_destroy(f.medium);
}

static void a_footer_is_made_again(void **state)
{
	(void)state;
	footers(false);
}

static void so_it_is_behind_a_checkpoint(void **state)
{
	(void)state;
	footers(true);
}

/* Its id is the one before that of the checkpoint's segment, and nothing newer is sealed. */
static void so_it_is_right_before_a_checkpoint(void **state)
{
	struct found f;

	(void)state;
	live_as(&f, &(struct found){.at_once = true});
	struct env e = copy_of(&f);
	wipe(&e, f.footers[f.n - 1], BLOCK);
	expect_sound(&e, &f); /* the checkpoint's */
	wipe(&e, f.footers[f.n - 2], BLOCK);
	expect_rebuilt(&e, &f);
	env_fini(&e);
	sim_destroy(f.medium);
}

static void expect_lost(struct env *e, struct found *f)
{
	check_as(e, f, STORE_REPAIR_NO);
	assert_true(f->n_found > 0);
	check_as(e, f, STORE_REPAIR_DO);
	assert_true(f->n_lost > 0);
	assert_int_equal(f->n_rebuilt, 0);
}

static void what_was_sealed_is_no_spare(void **state)
{
	(void)state;
	for (unsigned checkpoint = 0; checkpoint < 2; checkpoint++) {
		struct found f;
		live(&f, checkpoint == 1);
		/* With neither the newest may be the first of the chain. */
		for (unsigned i = 0; i < 3 * f.n; i++) {
			unsigned which = i / 3;
			struct env e = copy_of(&f);
			uint64_t extent = f.footers[which] + BLOCK - f.segments[which];
			uint8_t *other = malloc(extent);
			if (i % 3 == 0) { /* data and footer */
				wipe(&e, f.footers[which], BLOCK);
				flip(&e, f.segments[which] + BLOCK + 2000);
			} else if (i % 3 == 1) { /* all of it */
				wipe(&e, f.segments[which], extent);
			} else { /* another one over it */
				sim_peek(e.sim, f.segments[which == 0 ? 1 : which - 1], other, extent);
				sim_poke(e.sim, f.segments[which], other, extent);
			}
			free(other);
			expect_lost(&e, &f);
			env_fini(&e);
		}
		sim_destroy(f.medium);
	}
}

/* The header of the tail, alone, and with more and more behind it, up to all of it. */
static void so_is_the_tail(void **state)
{
	(void)state;
	for (unsigned checkpoint = 0; checkpoint < 2; checkpoint++) {
		struct found f;
		live(&f, checkpoint == 1);
		for (uint64_t n = 1; n <= ENV_SEGMENT_BYTES / BLOCK; n += 3) {
			struct env e = copy_of(&f);
			wipe(&e, f.tail, n * BLOCK);
			check_as(&e, &f, STORE_REPAIR_NO);
			assert_true(f.n_found > 0);
			env_fini(&e);
		}
		sim_destroy(f.medium);
	}
}

/* The newest footer is made again, and what it leads to was read before it was: nothing more is told behind the repair. It is damaged, or, where a
 * checkpoint says that there was one, not there. */
static void a_repair_uncovers_nothing(void **state)
{
	(void)state;
	for (unsigned checkpoint = 0; checkpoint < 2; checkpoint++) {
		struct found f;
		live(&f, checkpoint == 1);
		for (uint64_t n = 1; n <= 4; n++) {
			struct env e = copy_of(&f);
			wipe(&e, f.tail, n * BLOCK);
			if (checkpoint == 1)
				wipe(&e, f.footers[f.n - 1], BLOCK);
			else
				flip(&e, f.footers[f.n - 1] + 60);
			flip(&e, f.segments[f.n - 2] + 16);
			check_as(&e, &f, STORE_REPAIR_DO);
			assert_int_equal(f.n_rebuilt, 1);
			int64_t n_left = f.n_found - 1;
			check_as(&e, &f, STORE_REPAIR_NO);
			assert_int_equal(f.n_found, n_left);
			env_fini(&e);
		}
		sim_destroy(f.medium);
	}
}

/* The id comes last: see log_seal.c. */
static void a_footer_without_its_id_is_none(void **state)
{
	static const uint64_t none = 0;
	struct found f;

	(void)state;
	live(&f, false);
	for (unsigned i = 0; i < f.n; i++) {
		struct env e = copy_of(&f);
		sim_poke(e.sim, f.footers[i] + offsetof(struct log_footer_le, id), &none, sizeof(none));
		if (i + 1 < f.n) { /* sealed before another one was: it was there */
			expect_rebuilt(&e, &f);
		} else {
			expect_sound(&e, &f);
		}
		env_fini(&e);
	}
	sim_destroy(f.medium);
}

static void what_is_sound_is_not_told(void **state)
{
	(void)state;
	for (unsigned checkpoint = 0; checkpoint < 2; checkpoint++) {
		struct found f;
		live(&f, checkpoint == 1);
		for (unsigned n_unsealed = 0; n_unsealed <= (checkpoint ? 0 : f.n); n_unsealed++) {
			struct env e = copy_of(&f);
			for (unsigned i = 0; i < n_unsealed; i++)
				wipe(&e, f.footers[f.n - 1 - i], BLOCK);
			expect_sound(&e, &f);
			env_fini(&e);
		}
		sim_destroy(f.medium);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_sound_is_not_told),
		cmocka_unit_test(a_footer_is_made_again),
		cmocka_unit_test(a_footer_without_its_id_is_none),
		cmocka_unit_test(so_it_is_behind_a_checkpoint),
		cmocka_unit_test(so_it_is_right_before_a_checkpoint),
		cmocka_unit_test(what_was_sealed_is_no_spare),
		cmocka_unit_test(so_is_the_tail),
		cmocka_unit_test(a_repair_uncovers_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
