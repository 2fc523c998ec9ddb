/* open_test.c - what is no store, not this store's, or not whole, is refused with a reason; reading beside a writer;
 * classes that are added and grow; containers; a million objects. */
#include "store_env.h"

#include "../../src/base/crc32c.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const uint64_t two_classes[STORE_N_CLASSES] = {600, 400};

static void format_and_close(struct env *e, void *arg)
{
	assert_int_equal(env_format(e), 0);
	assert_int_equal(env_open(e), 0);
	assert_true(env_put(e, 0, 5000) > 0);
	assert_true(env_put(e, 1, 5000) > 0);
	env_close(e);
}

static struct env make(uint64_t seed)
{
	struct env e;

	env_init(&e, seed, two_classes, NULL);
	env_run(&e, format_and_close, NULL);
	return e;
}

struct refusal {
	int error;
	const char *text;
};

static void refuse(struct env *e, void *arg)
{
	const struct refusal *r = arg;
	int rc = env_open(e);

	if (rc != r->error || strstr(e->err.text, r->text) == NULL)
		fail_msg("%d (%s), not %d (%s)", rc, e->err.text, r->error, r->text);
}

static void refused(struct env *e, int error, const char *text)
{
	struct refusal r = {error, text};

	env_run(e, refuse, &r);
	env_fini(e);
}

static void test_a_class_is_missing(void **state)
{
	struct env e = make(1);
	sim_destroy(e.sims[1]);
	e.sims[1] = NULL;
	refused(&e, -ENOENT, "staging");
}

static void test_classes_are_swapped(void **state)
{
	struct env e = make(1);
	struct sim *s = e.sims[0];
	e.sims[0] = e.sims[1];
	e.sims[1] = s;
	refused(&e, -ESTALE, "holds class 1");
}

static void test_a_class_of_another_store(void **state)
{
	struct env e = make(1), other = make(2);
	struct sim *s = e.sims[1];
	e.sims[1] = other.sims[1];
	other.sims[1] = s;
	env_fini(&other);
	refused(&e, -ESTALE, "another store");
}

static void test_a_truncated_class(void **state)
{
	struct env e = make(1);
	struct sim *shorter;
	static uint8_t block[PAGE];
	assert_int_equal(sim_create(300 * PAGE, 1, NULL, &shorter), 0);
	for (uint64_t u = 0; u < 300; u++) {
		sim_peek(e.sims[1], u * PAGE, block, PAGE);
		sim_poke(shorter, u * PAGE, block, PAGE);
	}
	sim_destroy(e.sims[1]);
	e.sims[1] = shorter;
	refused(&e, -EUCLEAN, "too small");
}

static void test_an_empty_device(void **state)
{
	struct env e;
	env_init(&e, 1, two_classes, NULL);
	refused(&e, -EUCLEAN, "no superblock");
}

static void damage_copies(struct env *e, unsigned n, void (*fn)(struct superblock_le *sb))
{
	static struct superblock_le sb;

	for (unsigned i = 0; i < n; i++) {
		sim_peek(e->sims[0], i * FORMAT_SUPERBLOCK_STEP, &sb, sizeof(sb));
		fn(&sb);
		sim_poke(e->sims[0], i * FORMAT_SUPERBLOCK_STEP, &sb, sizeof(sb));
	}
}

static void seal(struct superblock_le *sb)
{
	size_t from = offsetof(struct superblock_le, version);

	sb->crc = crc32c(0, (uint8_t *)sb + from, sizeof(*sb) - from);
}

static void make_newer(struct superblock_le *sb)
{
	sb->version = FORMAT_VERSION + 1;
	seal(sb);
}

static void test_a_newer_format(void **state)
{
	struct env e = make(1);
	damage_copies(&e, 2, make_newer);
	refused(&e, -ENOTSUP, "format version 2");
}

static void make_incompatible(struct superblock_le *sb)
{
	sb->incompat = htole32(0x40000000);
	seal(sb);
}

static void test_an_unknown_feature(void **state)
{
	struct env e = make(1);
	damage_copies(&e, 2, make_incompatible);
	refused(&e, -ENOTSUP, "features 0x40000000");
}

/* ---- what no writer says, with a right checksum ---- */

static void say_many_units(struct superblock_le *sb)
{
	sb->n_units = htole64(FORMAT_MAX_CLASS_UNITS + 1);
	seal(sb);
}

static void say_other_classes(struct superblock_le *sb)
{
	sb->classes = htole32(0x13);
	seal(sb);
}

static void say_one_log(struct superblock_le *sb)
{
	sb->catalogue_first[1] = sb->catalogue_first[0];
	seal(sb);
}

static void say_odd_segments(struct superblock_le *sb)
{
	sb->catalogue_segment_bytes = htole32(98304);
	seal(sb);
}

static void say_outside(struct superblock_le *sb)
{
	sb->catalogue_first[0] = htole64(two_classes[0] * PAGE);
	seal(sb);
}

static void test_a_superblock_that_cannot_be(void **state)
{
	static const struct {
		void (*fn)(struct superblock_le *sb);
		const char *text;
	} cases[] = {
		{say_many_units, "a class of"},
		{say_other_classes, "classes 0x13"},
		{say_one_log, "a catalogue in segments"},
		{say_odd_segments, "a catalogue in segments"},
		{say_outside, "a catalogue in segments"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct env e = make(1);
		damage_copies(&e, 2, cases[i].fn);
		refused(&e, -EUCLEAN, cases[i].text);
	}
}

static void test_a_device_that_is_too_small(void **state)
{
	static const uint64_t n_units[STORE_N_CLASSES] = {200};
	struct env e;

	(void)state;
	env_init(&e, 1, n_units, NULL);
	refused(&e, -EUCLEAN, "too small for a class");
}

static void refuse_to_format(struct env *e, void *arg)
{
	assert_int_equal(env_format(e), -EINVAL);
	assert_non_null(strstr(e->err.text, arg));
}

static void test_what_cannot_be_formatted(void **state)
{
	static const uint64_t small[STORE_N_CLASSES] = {200}, other[STORE_N_CLASSES] = {0, 400};
	struct env e;

	(void)state;
	env_init(&e, 1, small, NULL);
	env_run(&e, refuse_to_format, (void *)(uintptr_t)"bytes for a class");
	env_fini(&e);
	env_init(&e, 1, other, NULL);
	env_run(&e, refuse_to_format, (void *)(uintptr_t)"without the class capacity");
	env_fini(&e);
}

/* ---- read only ---- */

static void read_only(struct env *e, void *arg)
{
	struct store_stat stat;
	uint64_t id, n_events = sim_n_events(e->sims[0]);

	assert_int_equal(env_open_read_only(e), 0);
	store_stat(e->store, &stat);
	assert_int_equal(stat.n_objects, 2);
	assert_int_equal(object_list(e->store, 0, &id, 1), 1);
	assert_int_equal(env_verify(e, id, 5000), 0);
	assert_int_equal(store_apply(e->store, NULL, 0, &id, 1), -EROFS);
	assert_int_equal(object_begin(e->store, 0, 0, 0, 0, &id), -EROFS);
	assert_int_equal(env_check(e, true), 0);
	env_close(e);
	assert_int_equal(sim_n_events(e->sims[0]), n_events);
}

static void test_read_only_writes_nothing(void **state)
{
	struct env e = make(1);
	env_run(&e, read_only, NULL);
	env_fini(&e);
}

/* ---- containers ---- */

struct records {
	unsigned n, next;
};

static int take_record(void *arg, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes)
{
	struct records *r = arg;

	assert_int_equal(type, 20);
	assert_int_equal(len_bytes, sizeof(unsigned));
	assert_int_equal(*(const unsigned *)payload, r->next);
	r->next++;
	r->n++;
	return 0;
}

static void append_one(struct container *c, unsigned i)
{
	uint64_t no;

	assert_int_equal(container_append(c, 20, &(struct iovec){&i, sizeof(i)}, 1, &no), 0);
	if (i % 7 == 0 || i % 32 == 31)
		assert_int_equal(container_sync(c, no, NULL), 0);
}

static uint64_t free_units(struct env *e, unsigned cls)
{
	struct store_stat stat;

	store_settle(e->store);
	store_stat(e->store, &stat);
	return stat.classes[cls].free_bytes / PAGE;
}

/* Four side by side, reopened between every 32 records. */
static void containers(struct env *e, void *arg)
{
	struct container *c[4], *again;
	uint64_t ids[4];

	assert_int_equal(env_open(e), 0);
	uint64_t before = free_units(e, 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(store_container_create(e->store, 0, 10000, &ids[i]), 0);
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < 4; i++) {
			struct records r = {0};
			assert_int_equal(store_container_open(e->store, ids[i], false, take_record, &r, &c[i], NULL), 0);
			assert_int_equal(r.n, round * 32);
			assert_int_equal(store_container_open(e->store, ids[i], false, NULL, NULL, &again, NULL), -EBUSY);
		}
		for (unsigned n = 0; n < 32; n++)
			for (unsigned i = 0; i < 4; i++)
				append_one(c[i], round * 32 + n);
		assert_int_equal(store_container_destroy(e->store, ids[0]), -EBUSY);
		assert_int_equal(store_close(e->store), -EBUSY);
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(store_container_close(e->store, ids[i]), 0);
		if (round == 2)
			assert_int_equal(store_compact(e->store), 0);
		env_close(e);
		assert_int_equal(env_open(e), 0);
		assert_int_equal(env_check(e, true), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(store_container_destroy(e->store, ids[i]), 0);
	assert_int_equal(store_container_destroy(e->store, ids[0]), -ESTALE);
	env_close(e);
	assert_int_equal(env_open(e), 0);
	assert_int_equal(free_units(e, 0), before);
	env_close(e);
}

static void test_four_containers_reopened_often(void **state)
{
	static const uint64_t n_units[STORE_N_CLASSES] = {2000, 400};
	struct env e;

	env_init(&e, 1, n_units, NULL);
	env_run(&e, format_and_close, NULL);
	env_run(&e, containers, NULL);
	env_fini(&e);
}

/* ---- a million ---- */

#define N_MANY 1000000u

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Objects of one byte: their pages take next to no memory of the simulated device if they are not written, so a good
 * part of them is empty. */
static void many(struct env *e, void *arg)
{
	static uint64_t ids[4000];
	struct store_stat stat;

	assert_int_equal(env_format(e), 0);
	assert_int_equal(env_open(e), 0);
	for (unsigned i = 0; i < N_MANY / 4000; i++) {
		for (unsigned k = 0; k < 4000; k++) {
			assert_int_equal(object_begin(e->store, 0, 0, 0, 0, &ids[k]), 0);
			if (k % 16 == 0)
				assert_int_equal(object_append(e->store, ids[k], &(struct iovec){"x", 1}, 1), 0);
		}
		assert_int_equal(store_apply(e->store, ids, 4000, NULL, 0), 0);
	}
	env_close(e);
	double begin = seconds();
	assert_int_equal(env_open(e), 0);
	double end = seconds();
	store_stat(e->store, &stat);
	assert_int_equal(stat.n_objects, N_MANY);
	print_message("%llu objects: open %.2f s, %.1f bytes of memory each\n", (unsigned long long)stat.n_objects,
	              end - begin, (double)(stat.index_bytes + stat.space_bytes) / N_MANY);
	assert_true(stat.index_bytes + stat.space_bytes <= 64 * (uint64_t)N_MANY);
	env_close(e);
}

static void test_a_million_objects(void **state)
{
	static const uint64_t n_units[STORE_N_CLASSES] = {1 << 20};
	struct env e;

	env_init(&e, 1, n_units, NULL);
	e.segment_bytes = 4u << 20;
	env_run(&e, many, NULL);
	env_fini(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_class_is_missing),
		cmocka_unit_test(test_classes_are_swapped),
		cmocka_unit_test(test_a_class_of_another_store),
		cmocka_unit_test(test_a_truncated_class),
		cmocka_unit_test(test_an_empty_device),
		cmocka_unit_test(test_a_newer_format),
		cmocka_unit_test(test_an_unknown_feature),
		cmocka_unit_test(test_a_superblock_that_cannot_be),
		cmocka_unit_test(test_a_device_that_is_too_small),
		cmocka_unit_test(test_what_cannot_be_formatted),
		cmocka_unit_test(test_read_only_writes_nothing),
		cmocka_unit_test(test_four_containers_reopened_often),
		cmocka_unit_test(test_a_million_objects),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
