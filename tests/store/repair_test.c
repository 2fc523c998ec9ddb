/* repair_test.c - what there is twice is made again, what there is once is lost exactly; a plan writes nothing and says the same; a cut
 * anywhere in a repair leaves what the next one finishes; and nothing that could be read can't be read afterwards. */
#include "store_env.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define N_UNITS 2048u
#define N_OBJECTS 4u
#define GROUP FORMAT_SUMS_PER_PAGE

static const uint64_t lens[N_OBJECTS] = {100, 20000, 90000, (GROUP + 8) * PAGE - 7};

struct seen {
	unsigned n, n_lost, n_rebuilt;
	uint64_t lost_bytes, lost_from, lost_id;
};

struct scene {
	struct env e;
	struct sim *good;     /* as it was made */
	uint64_t ids[N_OBJECTS];
	struct seen seen;     /* of the last repair or plan */
	unsigned n_cuts;
	bool structure_only;
};

/* ---- made once ---- */

static void build(struct env *e, void *arg)
{
	struct scene *s = arg;

	assert_int_equal(env_format(e), 0);
	assert_int_equal(env_open(e), 0);
	for (unsigned i = 0; i < N_OBJECTS; i++) {
		s->ids[i] = (uint64_t)env_put(e, 0, lens[i]);
		assert_true((int64_t)s->ids[i] > 0);
	}
	env_close(e);
}

static struct scene scene;

static int set_up_all(void **state)
{
	static const struct sim_faults faults = {.cut_ends_io = true};
	const uint64_t n_units[STORE_N_CLASSES] = {N_UNITS};

	env_init(&scene.e, 11, n_units, &faults);
	env_run(&scene.e, build, &scene);
	scene.good = scene.e.sims[0];
	scene.e.sims[0] = NULL;
	return 0;
}

static int tear_down_all(void **state)
{
	sim_destroy(scene.good);
	env_fini(&scene.e);
	return 0;
}

static int fresh(void **state)
{
	scene.structure_only = false;
	return sim_clone(scene.good, 1, &scene.e.sims[0]);
}

static int drop(void **state)
{
	sim_destroy(scene.e.sims[0]);
	scene.e.sims[0] = NULL;
	return 0;
}

/* ---- where things are: found by their bytes ---- */

static uint64_t page_at(const struct scene *s, unsigned object, uint64_t page)
{
	static uint8_t block[PAGE], want[PAGE];
	uint64_t left = lens[object] - page * PAGE;

	memset(want, 0, PAGE);
	env_fill(s->ids[object], page * PAGE, want, left < PAGE ? left : PAGE);
	for (uint64_t u = 0; u < N_UNITS; u++) {
		sim_peek(s->good, u * PAGE, block, PAGE);
		if (memcmp(block, want, PAGE) == 0)
			return u * PAGE;
	}
	fail();
	return 0;
}

/* Behind the last page of its group. */
static uint64_t sums_at(const struct scene *s, unsigned object, uint64_t group)
{
	uint64_t n = format_n_pages(lens[object]), last = (group + 1) * GROUP < n ? (group + 1) * GROUP - 1 : n - 1;

	return page_at(s, object, last) + PAGE;
}

static void flip(struct sim *sim, uint64_t at)
{
	uint8_t byte;

	sim_peek(sim, at, &byte, 1);
	byte ^= 0x10;
	sim_poke(sim, at, &byte, 1);
}

static bool is_as_made(const struct scene *s, uint64_t at)
{
	uint8_t now[PAGE], then[PAGE];

	sim_peek(s->e.sims[0], at, now, PAGE);
	sim_peek(s->good, at, then, PAGE);
	return memcmp(now, then, PAGE) == 0;
}

static uint8_t *image(const struct sim *sim)
{
	uint8_t *all = malloc(N_UNITS * PAGE);

	sim_peek(sim, 0, all, N_UNITS * PAGE);
	return all;
}

/* ---- repairing ---- */

static void settled(void *arg, const struct store_finding *f)
{
	struct seen *seen = arg;

	seen->n++;
	*(f->remedy == STORE_REBUILT ? &seen->n_rebuilt : &seen->n_lost) += 1;
	assert_true(f->error < 0 && f->text[0] != '\0' && f->offset < N_UNITS * PAGE);
	if (f->remedy == STORE_LOST) {
		seen->lost_bytes += f->n_bytes;
		seen->lost_from = f->from;
		seen->lost_id = f->id;
	}
}

static int64_t run(struct env *e, struct seen *seen, enum store_repair repair)
{
	struct store_check check = {.structure_only = scene.structure_only, .repair = repair, .settled = settled, .arg = seen};

	*seen = (struct seen){0};
	return store_check(e->store, &check);
}

static void plan(struct env *e, void *arg)
{
	struct scene *s = arg;

	assert_int_equal(env_open_read_only(e), 0);
	assert_int_equal(run(e, &s->seen, STORE_REPAIR_DO), -EROFS);
	int64_t n = run(e, &s->seen, STORE_REPAIR_PLAN);
	assert_int_equal(n, s->seen.n);
	env_close(e);
}

static void repair(struct env *e, void *arg)
{
	struct scene *s = arg;

	assert_int_equal(env_open(e), 0);
	int64_t n = run(e, &s->seen, STORE_REPAIR_DO);
	assert_int_equal(n, s->seen.n);
	/* What was lost is found again, and nothing else. */
	assert_int_equal(run(e, &(struct seen){0}, STORE_REPAIR_NO), s->seen.n_lost);
	env_close(e);
}

/* Which pages of all objects can be read; what is read is right. */
static unsigned readable(struct env *e, const struct scene *s, bool *ret)
{
	uint8_t *page = aligned_alloc(PAGE, PAGE), *want = malloc(PAGE);
	unsigned n = 0;

	for (unsigned i = 0; i < N_OBJECTS; i++) {
		struct object *o;
		assert_int_equal(object_get(e->store, s->ids[i], &o), 0);
		for (uint64_t at = 0; at < lens[i]; at += PAGE, n++) {
			uint32_t len = lens[i] - at < PAGE ? (uint32_t)(lens[i] - at) : PAGE;
			int rc = object_read_wait(o, at, len, page, NULL);
			assert_true(rc == 0 || rc == -EBADMSG);
			env_fill(s->ids[i], at, want, len);
			ret[n] = rc == 0;
			assert_true(rc < 0 || memcmp(page, want, len) == 0);
		}
		object_put(o);
	}
	free(page);
	free(want);
	return n;
}

static bool before[2000], after[2000];

static void look_before(struct env *e, void *arg)
{
	assert_int_equal(env_open_read_only(e), 0);
	assert_true(readable(e, arg, before) < 2000);
	env_close(e);
}

static void look_after(struct env *e, void *arg)
{
	assert_int_equal(env_open_read_only(e), 0);
	unsigned n = readable(e, arg, after);
	for (unsigned i = 0; i < n; i++)
		assert_true(after[i] || !before[i]);
	env_close(e);
}

/* Plan, then do: the plan writes nothing, and foresees what is done. */
static void plan_and_repair(struct scene *s)
{
	uint8_t *then = image(s->e.sims[0]);

	env_run(&s->e, look_before, s);
	env_run(&s->e, plan, s);
	uint8_t *now = image(s->e.sims[0]);
	assert_memory_equal(then, now, N_UNITS * PAGE);
	free(then);
	free(now);
	struct seen planned = s->seen;
	env_run(&s->e, repair, s);
	assert_memory_equal(&planned, &s->seen, sizeof(planned));
	env_run(&s->e, look_after, s);
}

static void expect(unsigned n_rebuilt, unsigned n_lost, uint64_t lost_bytes)
{
	assert_int_equal(scene.seen.n_rebuilt, n_rebuilt);
	assert_int_equal(scene.seen.n_lost, n_lost);
	assert_int_equal(scene.seen.lost_bytes, lost_bytes);
}

/* ---- superblocks ---- */

static void test_a_sound_store_is_left_alone(void **state)
{
	uint8_t *then = image(scene.e.sims[0]);

	plan_and_repair(&scene);
	expect(0, 0, 0);
	uint8_t *now = image(scene.e.sims[0]);
	assert_memory_equal(then, now, N_UNITS * PAGE);
	free(then);
	free(now);
}

static void test_a_superblock_is_made_of_the_other(void **state)
{
	for (unsigned copy = 0; copy < 2; copy++) {
		for (uint64_t at = 0; at < PAGE; at += at < 96 ? 1 : 571) {
			flip(scene.e.sims[0], copy * FORMAT_SUPERBLOCK_STEP + at);
			scene.structure_only = true;
			env_run(&scene.e, plan, &scene);
			expect(1, 0, 0);
			assert_false(is_as_made(&scene, copy * FORMAT_SUPERBLOCK_STEP));
			env_run(&scene.e, repair, &scene);
			expect(1, 0, 0);
			assert_true(is_as_made(&scene, copy * FORMAT_SUPERBLOCK_STEP));
		}
	}
}

static void lose_both_superblocks(struct env *e, void *arg)
{
	struct scene *s = arg;

	assert_int_equal(env_open(e), 0);
	flip(e->sims[0], 5);
	flip(e->sims[0], FORMAT_SUPERBLOCK_STEP + 70);
	assert_int_equal(run(e, &s->seen, STORE_REPAIR_DO), 2);
	expect(2, 0, 0);
	assert_int_equal(env_check(e, false), 0);
	env_close(e);
}

static void test_an_open_store_knows_both_superblocks(void **state)
{
	env_run(&scene.e, lose_both_superblocks, &scene);
	assert_true(is_as_made(&scene, 0) && is_as_made(&scene, FORMAT_SUPERBLOCK_STEP));
}

/* ---- pages of checksums ---- */

static void test_a_damaged_checksum_is_known_by_its_page(void **state)
{
	for (uint64_t i = 0; i < 3; i++)
		flip(scene.e.sims[0], sums_at(&scene, 2, 0) + 4 + 40 * i);
	plan_and_repair(&scene);
	expect(1, 0, 0);
	assert_true(is_as_made(&scene, sums_at(&scene, 2, 0)));
}

static void test_a_damaged_crc_is_made_again(void **state)
{
	flip(scene.e.sims[0], sums_at(&scene, 3, 0) + 2);
	flip(scene.e.sims[0], sums_at(&scene, 3, 1) + 1);
	plan_and_repair(&scene);
	expect(2, 0, 0);
	assert_true(is_as_made(&scene, sums_at(&scene, 3, 0)) && is_as_made(&scene, sums_at(&scene, 3, 1)));
}

static void test_of_a_group_with_damage_twice_only_that_is_lost(void **state)
{
	/* The checksum of page 3, and page 5: both pages can't be known any more. */
	flip(scene.e.sims[0], sums_at(&scene, 2, 0) + 4 + 4 * 3);
	flip(scene.e.sims[0], page_at(&scene, 2, 5) + 1000);
	plan_and_repair(&scene);
	expect(1, 2, 2 * PAGE);
	assert_int_equal(scene.seen.lost_from, 5 * PAGE);
	assert_int_equal(scene.seen.lost_id, scene.ids[2]);
}

static void test_checksums_that_are_none_stay_and_lose_their_group(void **state)
{
	static uint8_t zeros[PAGE];
	uint64_t at = sums_at(&scene, 3, 1);

	sim_poke(scene.e.sims[0], at, zeros, PAGE);
	plan_and_repair(&scene);
	expect(0, 1, lens[3] - GROUP * PAGE);
	assert_int_equal(scene.seen.lost_from, GROUP * PAGE);
	uint8_t now[PAGE];
	sim_peek(scene.e.sims[0], at, now, PAGE);
	assert_memory_equal(now, zeros, PAGE);
}

static void test_what_there_is_once_is_lost(void **state)
{
	flip(scene.e.sims[0], page_at(&scene, 0, 0) + 50);
	plan_and_repair(&scene);
	expect(0, 1, lens[0]);
	flip(scene.e.sims[0], page_at(&scene, 1, 4) + 3);
	plan_and_repair(&scene);
	expect(0, 2, lens[0] + lens[1] - 4 * PAGE);
}

/* ---- the catalogue ---- */

static void damage_catalogue(struct env *e, void *arg)
{
	struct scene *s = arg;
	uint64_t first;

	assert_int_equal(env_open(e), 0);
	sim_peek(e->sims[0], offsetof(struct superblock_le, catalogue_first), &first, sizeof(first));
	flip(e->sims[0], first + PAGE + 100);
	assert_int_equal(run(e, &s->seen, STORE_REPAIR_PLAN), 1);
	expect(1, 0, 0);
	assert_int_equal(env_check(e, false), 1);
	assert_int_equal(run(e, &s->seen, STORE_REPAIR_DO), 1);
	expect(1, 0, 0);
	assert_int_equal(env_check(e, false), 0);
	env_close(e);
	assert_int_equal(env_open(e), 0);
	assert_int_equal(env_check(e, false), 0);
	env_close(e);
}

static void test_the_catalogue_of_an_open_store_is_made_again(void **state)
{
	env_run(&scene.e, look_before, &scene);
	env_run(&scene.e, damage_catalogue, &scene);
	env_run(&scene.e, look_after, &scene);
}

/* ---- cuts ---- */

static void damage_all_kinds(struct sim *sim)
{
	flip(sim, FORMAT_SUPERBLOCK_STEP + 33);
	flip(sim, sums_at(&scene, 1, 0) + 4);
	flip(sim, sums_at(&scene, 3, 0) + 400);
	flip(sim, sums_at(&scene, 3, 1));
	flip(sim, page_at(&scene, 3, 77) + 9);
}

static void repair_until_cut(struct env *e, void *arg)
{
	struct scene *s = arg;

	if (env_open(e) < 0)
		return;
	(void)run(e, &s->seen, STORE_REPAIR_DO);
	env_close(e);
}

static void test_a_repair_that_is_cut_off_is_finished_by_the_next(void **state)
{
	struct sim *damaged = scene.e.sims[0];
	bool cut = true;

	damage_all_kinds(damaged);
	env_run(&scene.e, look_before, &scene);
	for (uint64_t event = 0; cut; event++) {
		for (uint64_t choice = 0; choice < 5; choice++) {
			assert_int_equal(sim_clone(damaged, 100 + choice, &scene.e.sims[0]), 0);
			sim_cut_at(scene.e.sims[0], event, choice);
			env_run(&scene.e, repair_until_cut, &scene);
			cut = sim_is_cut(scene.e.sims[0]);
			scene.n_cuts += cut;
			sim_cut_at(scene.e.sims[0], UINT64_MAX, 0);
			env_run(&scene.e, look_after, &scene);
			env_run(&scene.e, repair, &scene);
			assert_int_equal(scene.seen.n_lost, 2); /* page 77 of the last object, and a page of which the checksum is */
			env_run(&scene.e, look_after, &scene);
			assert_true(is_as_made(&scene, FORMAT_SUPERBLOCK_STEP) && is_as_made(&scene, sums_at(&scene, 1, 0)));
			sim_destroy(scene.e.sims[0]);
		}
	}
	scene.e.sims[0] = damaged;
	print_message("%u cuts\n", scene.n_cuts);
	assert_true(scene.n_cuts >= 5 * 4);
}

/* ---- media that fail ---- */

static void repair_on_a_failing_medium(struct env *e, void *arg)
{
	struct scene *s = arg;

	assert_int_equal(env_open(e), 0);
	sim_set_faults(e->sims[0], &(struct sim_faults){.eio_write = UINT32_MAX});
	assert_int_equal(run(e, &s->seen, STORE_REPAIR_DO), 2);
	expect(0, 2, lens[1]);
	sim_set_faults(e->sims[0], &(struct sim_faults){0});
	assert_int_equal(run(e, &s->seen, STORE_REPAIR_DO), 2);
	expect(2, 0, 0);
	env_close(e);
}

static void test_what_can_not_be_written_is_not_called_rebuilt(void **state)
{
	flip(scene.e.sims[0], FORMAT_SUPERBLOCK_STEP + 33);
	flip(scene.e.sims[0], sums_at(&scene, 1, 0) + 4);
	env_run(&scene.e, repair_on_a_failing_medium, &scene);
}

#define SCENE(name) cmocka_unit_test_setup_teardown(name, fresh, drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE(test_a_sound_store_is_left_alone),
		SCENE(test_a_superblock_is_made_of_the_other),
		SCENE(test_an_open_store_knows_both_superblocks),
		SCENE(test_a_damaged_checksum_is_known_by_its_page),
		SCENE(test_a_damaged_crc_is_made_again),
		SCENE(test_of_a_group_with_damage_twice_only_that_is_lost),
		SCENE(test_checksums_that_are_none_stay_and_lose_their_group),
		SCENE(test_what_there_is_once_is_lost),
		SCENE(test_the_catalogue_of_an_open_store_is_made_again),
		SCENE(test_a_repair_that_is_cut_off_is_finished_by_the_next),
		SCENE(test_what_can_not_be_written_is_not_called_rebuilt),
	};
	return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
