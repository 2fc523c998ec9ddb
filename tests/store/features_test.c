/* features_test.c - features that this library does not know, bit by bit, of each class: one of `compat` changes nothing, and stays; one of
 * `ro_compat` allows to read, and nothing is written; one of `incompat` is refused, by one line that says which. In one copy of the
 * superblock or both: who was newer decides. */
#include "store_env.h"

#include "../../src/base/crc32c.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define N_OF_OBJECTS 2u /* classes: objects are not put into the third, which is persistent memory */
#define PMEM 2u

enum mask { MASK_COMPAT, MASK_RO_COMPAT, MASK_INCOMPAT, N_MASKS };
static const uint32_t known[N_MASKS] = {FORMAT_COMPAT_POWER | FORMAT_COMPAT_PROCESS, FORMAT_KNOWN_RO_COMPAT, FORMAT_KNOWN_INCOMPAT};

struct scene {
	struct env e;
	struct sim *good[STORE_N_CLASSES];
	uint64_t ids[N_OF_OBJECTS];
	unsigned cls;
	enum mask mask;
	uint32_t bit;
	struct superblock_le marked[2]; /* of that class */
};
static struct scene scene;
static const uint64_t n_units[STORE_N_CLASSES] = {600, 400, 400};

static void build(struct env *e, void *arg)
{
	assert_int_equal(env_format(e), 0);
	assert_int_equal(env_open(e), 0);
	for (unsigned i = 0; i < N_OF_OBJECTS; i++)
		scene.ids[i] = (uint64_t)env_put(e, i, 5000);
	env_close(e);
}

static int set_up(void **state)
{
	static const uint64_t of_disks[STORE_N_CLASSES] = {600, 400};

	env_init(&scene.e, 5, of_disks, NULL);
	assert_int_equal(sim_create_pmem(n_units[PMEM] * PAGE, 7, NULL, &scene.e.sims[PMEM]), 0);
	env_run(&scene.e, build, NULL);
	for (unsigned i = 0; i < STORE_N_CLASSES; i++) {
		scene.good[i] = scene.e.sims[i];
		scene.e.sims[i] = NULL;
	}
	return 0;
}

static int tear_down(void **state)
{
	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		sim_destroy(scene.good[i]);
	env_fini(&scene.e);
	return 0;
}

static uint32_t *mask_of(struct superblock_le *sb)
{
	return scene.mask == MASK_COMPAT ? &sb->compat : scene.mask == MASK_RO_COMPAT ? &sb->ro_compat : &sb->incompat;
}

static void peek(unsigned copy, struct superblock_le *ret)
{
	sim_peek(scene.e.sims[scene.cls], copy * FORMAT_SUPERBLOCK_STEP, ret, sizeof(*ret));
}

/* But for the superblocks of the one class, everything is as it was made; those are as they were marked. */
static void is_untouched(struct env *e)
{
	static uint8_t now[PAGE], then[PAGE];

	for (unsigned i = 0; i < STORE_N_CLASSES; i++) {
		for (uint64_t at = 0; at < n_units[i] * PAGE; at += PAGE) {
			sim_peek(e->sims[i], at, now, PAGE);
			sim_peek(scene.good[i], at, then, PAGE);
			bool marked = i == scene.cls && at % FORMAT_SUPERBLOCK_STEP == 0 && at / FORMAT_SUPERBLOCK_STEP < 2;
			if (marked)
				memcpy(then, &scene.marked[at / FORMAT_SUPERBLOCK_STEP], PAGE);
			assert_memory_equal(now, then, PAGE);
		}
	}
}

static void set_bit(unsigned copy)
{
	size_t from = offsetof(struct superblock_le, version);
	struct superblock_le sb;

	peek(copy, &sb);
	*mask_of(&sb) |= htole32(scene.bit);
	sb.zeros[100] = 7; /* what such a feature may have there */
	sb.crc = htole32(crc32c(0, (uint8_t *)&sb + from, sizeof(sb) - from));
	sim_poke(scene.e.sims[scene.cls], copy * FORMAT_SUPERBLOCK_STEP, &sb, sizeof(sb));
}

/* Each unknown bit of a mask, in each class. */
static void each(enum mask mask, unsigned copies, void (*fn)(struct env *e, void *arg))
{
	for (unsigned i = 0; i < STORE_N_CLASSES * 32; i++) {
		scene.cls = i / 32;
		scene.mask = mask;
		scene.bit = 1u << i % 32;
		if ((scene.bit & known[mask]) != 0)
			continue;
		for (unsigned c = 0; c < STORE_N_CLASSES; c++)
			assert_int_equal(sim_clone(scene.good[c], 1, &scene.e.sims[c]), 0);
		for (unsigned copy = 0; copy < 2; copy++)
			if (copies >> copy & 1)
				set_bit(copy);
		for (unsigned copy = 0; copy < 2; copy++)
			peek(copy, &scene.marked[copy]);
		env_run(&scene.e, fn, NULL);
		for (unsigned c = 0; c < STORE_N_CLASSES; c++) {
			sim_destroy(scene.e.sims[c]);
			scene.e.sims[c] = NULL;
		}
	}
}

static void expect_whole(struct env *e)
{
	for (unsigned i = 0; i < N_OF_OBJECTS; i++)
		assert_int_equal(env_verify(e, scene.ids[i], 5000), 0);
	assert_int_equal(env_check(e, true), 0);
}

static void refused(struct env *e, const char *why)
{
	char bits[32];

	snprintf(bits, sizeof(bits), "features 0x%x", scene.bit);
	assert_true(strstr(e->err.text, bits) != NULL && strstr(e->err.text, why) != NULL && strchr(e->err.text, '\n') == NULL);
	assert_null(e->store);
}

/* ---- each mask ---- */

static void goes_on(struct env *e, void *arg)
{
	struct superblock_le sb;

	assert_int_equal(env_open(e), 0);
	expect_whole(e);
	assert_true(env_put(e, scene.cls % N_OF_OBJECTS, 3000) > 0);
	assert_int_equal(store_class_grow(e->store, scene.cls, 0, NULL), 0); /* writes the superblock anew */
	env_close(e);
	for (unsigned copy = 0; copy < 2; copy++) {
		peek(copy, &sb);
		assert_true((le32toh(sb.compat) & scene.bit) != 0);
	}
	assert_int_equal(env_open_read_only(e), 0);
	expect_whole(e);
	env_close(e);
}

static void test_a_compatible_feature_changes_nothing(void **state)
{
	each(MASK_COMPAT, 3, goes_on);
}

static void only_reads(struct env *e, void *arg)
{
	assert_int_equal(env_open(e), -ENOTSUP);
	refused(e, "read only");
	assert_int_equal(env_open_read_only(e), 0);
	expect_whole(e);
	assert_int_equal(env_put(e, scene.cls % N_OF_OBJECTS, 100), -EROFS);
	env_close(e);
	is_untouched(e);
}

static void test_a_feature_that_allows_to_read_allows_that_alone(void **state)
{
	each(MASK_RO_COMPAT, 3, only_reads);
}

static void is_refused(struct env *e, void *arg)
{
	assert_int_equal(env_open(e), -ENOTSUP);
	refused(e, "does not know");
	assert_int_equal(env_open_read_only(e), -ENOTSUP);
	refused(e, "does not know");
	is_untouched(e);
}

static void test_an_incompatible_feature_is_refused(void **state)
{
	each(MASK_INCOMPAT, 3, is_refused);
}

static void test_the_newer_copy_decides(void **state)
{
	each(MASK_INCOMPAT, 1, is_refused);
	each(MASK_INCOMPAT, 2, is_refused);
}

/* ---- and a repair ---- */

static void is_repaired(struct env *e, void *arg)
{
	const struct store_check how = {.repair = STORE_REPAIR_DO};
	struct superblock_le good, damaged, mended;

	peek(0, &good);
	damaged = good;
	damaged.generation ^= 1;
	sim_poke(e->sims[scene.cls], FORMAT_SUPERBLOCK_STEP, &damaged, sizeof(damaged));
	assert_int_equal(env_open(e), 0);
	assert_int_equal(store_check(e->store, &how), 1);
	env_close(e);
	peek(1, &mended);
	assert_memory_equal(&mended, &good, sizeof(good));
}

static void test_a_repair_keeps_what_it_does_not_know(void **state)
{
	each(MASK_COMPAT, 3, is_repaired);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_compatible_feature_changes_nothing),
		cmocka_unit_test(test_a_feature_that_allows_to_read_allows_that_alone),
		cmocka_unit_test(test_an_incompatible_feature_is_refused),
		cmocka_unit_test(test_the_newer_copy_decides),
		cmocka_unit_test(test_a_repair_keeps_what_it_does_not_know),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
