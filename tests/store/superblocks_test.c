/* superblocks_test.c - the two copies of a superblock, one of which is damaged, older, or another's: which of them counts, what is written over,
 * and when. */
#include "store_env.h"

#include "../../src/base/crc32c.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

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

/* As an addition of a class leaves it that did not end. */
static void make_older(struct superblock_le *sb)
{
	sb->generation = htole64(le64toh(sb->generation) - 1);
	sb->classes = htole32(1);
	seal(sb);
}

static void make_damaged(struct superblock_le *sb)
{
	sb->generation ^= 1;
}

static void test_both_superblocks_damaged(void **state)
{
	struct env e = make(1);
	damage_copies(&e, 2, make_damaged);
	refused(&e, -EBADMSG, "damaged");
}

static void one_copy(struct env *e, void *arg)
{
	assert_int_equal(env_open(e), 0);
	assert_int_equal(env_check(e, false), 1);
	env_close(e);
}

static void test_one_superblock_is_enough_and_a_check_names_the_other(void **state)
{
	struct env e = make(1);
	damage_copies(&e, 1, make_damaged);
	env_run(&e, one_copy, NULL);
	env_fini(&e);
}

static void newer_counts(struct env *e, void *arg)
{
	struct store_stat stat;

	(void)arg;
	assert_int_equal(env_open_read_only(e), 0);
	assert_int_equal(env_check(e, false), 1);
	env_close(e);
	assert_int_equal(env_open(e), 0); /* who may write makes it again */
	assert_int_equal(env_check(e, true), 0);
	store_stat(e->store, &stat);
	assert_true(stat.classes[1].present);
	assert_int_equal(stat.n_objects, 2);
	env_close(e);
}

static void test_the_newer_superblock_counts_and_the_other_is_named_or_mended(void **state)
{
	struct env e = make(1);
	damage_copies(&e, 1, make_older);
	env_run(&e, newer_counts, NULL);
	env_fini(&e);
}

/* ---- copies that contradict each other ---- */

static uint64_t foreign_generation;

static void be_of_generation(struct superblock_le *sb)
{
	sb->generation = htole64(foreign_generation);
	seal(sb);
}

/* A copy is another store's, as a write gone astray leaves it. */
static struct env make_with_foreign(unsigned cls, unsigned copy, uint64_t generation)
{
	struct env e = make(1), other = make(2);
	static struct superblock_le sb;

	sim_peek(other.sims[cls], 0, &sb, sizeof(sb));
	foreign_generation = generation;
	be_of_generation(&sb);
	sim_poke(e.sims[cls], copy * FORMAT_SUPERBLOCK_STEP, &sb, sizeof(sb));
	env_fini(&other);
	return e;
}

static void peek_copies(struct env *e, unsigned cls, struct superblock_le *ret)
{
	for (unsigned i = 0; i < 2; i++)
		sim_peek(e->sims[cls], i * FORMAT_SUPERBLOCK_STEP, &ret[i], sizeof(ret[i]));
}

static void repaired(void *arg, const struct store_finding *f)
{
	assert_int_equal(f->remedy, STORE_REBUILT);
	*(unsigned *)arg += 1;
}

static unsigned repair(struct env *e, enum store_repair repair)
{
	unsigned n = 0;
	struct store_check check = {.repair = repair, .settled = repaired, .arg = &n};

	int64_t n_found = store_check(e->store, &check);
	assert_int_equal(n_found, n);
	return n;
}

/* Nothing is written over until a repair is asked for, and that tells what a plan has told. */
static void repair_foreign(struct env *e, void *arg)
{
	static struct superblock_le before[2], now[2];
	unsigned cls = *(const unsigned *)arg;
	struct store_stat stat;

	peek_copies(e, cls, before);
	assert_int_equal(env_open_read_only(e), 0);
	assert_int_equal(env_check(e, false), 1);
	assert_int_equal(repair(e, STORE_REPAIR_PLAN), 1);
	env_close(e);
	assert_int_equal(env_open(e), 0);
	store_stat(e->store, &stat);
	assert_int_equal(stat.n_objects, 2);
	assert_int_equal(repair(e, STORE_REPAIR_PLAN), 1);
	peek_copies(e, cls, now);
	assert_memory_equal(before, now, sizeof(now));
	assert_int_equal(repair(e, STORE_REPAIR_DO), 1);
	assert_int_equal(env_check(e, true), 0);
	peek_copies(e, cls, now);
	assert_memory_equal(&now[0], &now[1], sizeof(now[0]));
	env_close(e);
}

static void test_a_foreign_superblock_is_told_by_the_catalogue_or_the_uuid(void **state)
{
	(void)state;
	for (unsigned cls = 0; cls < 2; cls++) {
		for (unsigned copy = 0; copy < 2; copy++) {
			for (uint64_t generation = 0; generation < 4; generation++) {
				struct env e = make_with_foreign(cls, copy, generation);
				env_run(&e, repair_foreign, &cls);
				env_fini(&e);
			}
		}
	}
}

static void be_class_1(struct superblock_le *sb)
{
	sb->class_no = htole32(1);
	sb->generation = htole64(9);
	seal(sb);
}

static void test_a_superblock_of_another_class_is_told_by_its_number(void **state)
{
	struct env e = make(1);
	unsigned cls = 0;

	(void)state;
	damage_copies(&e, 1, be_class_1);
	env_run(&e, repair_foreign, &cls);
	env_fini(&e);
}

/* Of two stores, and neither can be opened: nobody can tell, and nothing is written. */
static void test_two_superblocks_and_neither_store_are_left_alone(void **state)
{
	struct env e = make_with_foreign(0, 0, 7);
	static struct superblock_le before[2], now[2];
	static const uint8_t zeros[PAGE];
	struct refusal r = {-EUCLEAN, ""};

	(void)state;
	peek_copies(&e, 0, before);
	for (int i = 0; i < 2; i++)
		sim_poke(e.sims[0], le64toh(before[1].catalogue_first[i]), zeros, PAGE);
	env_run(&e, refuse, &r);
	peek_copies(&e, 0, now);
	assert_memory_equal(before, now, sizeof(now));
	env_fini(&e);
}

/* The catalogue is gone: the older copy stays as it was. */
static void test_an_older_copy_is_brought_up_only_in_a_store_that_opens(void **state)
{
	struct env e = make(1);
	static struct superblock_le before[2], now[2];
	static const uint8_t zeros[PAGE];
	struct refusal r = {-EUCLEAN, ""};

	(void)state;
	damage_copies(&e, 1, make_older);
	peek_copies(&e, 0, before);
	for (int i = 0; i < 2; i++)
		sim_poke(e.sims[0], le64toh(before[1].catalogue_first[i]), zeros, PAGE);
	env_run(&e, refuse, &r);
	peek_copies(&e, 0, now);
	assert_memory_equal(before, now, sizeof(now));
	env_fini(&e);
}

struct cut {
	uint64_t event, choice;
	unsigned copy;
};

static void grow_until_cut(struct env *e, void *arg)
{
	const struct cut *cut = arg;
	uint8_t byte = 0xff;

	assert_int_equal(env_open(e), 0);
	sim_poke(e->sims[1], cut->copy * FORMAT_SUPERBLOCK_STEP + 900, &byte, 1);
	env_close(e);
	assert_int_equal(env_open(e), 0);
	sim_cut_at(e->sims[1], sim_n_events(e->sims[1]) + cut->event, cut->choice);
	(void)store_class_grow(e->store, 1, 0, NULL);
	env_close(e);
}

/* The good one has changed only if the damaged one has before. */
static void expect_order(struct env *e, unsigned damaged)
{
	static struct superblock_le now[2];

	peek_copies(e, 1, now);
	assert_true(le64toh(now[damaged ^ 1].generation) == 1 || ((const uint8_t *)&now[damaged])[900] == 0);
}

static void open_and_close(struct env *e, void *arg)
{
	(void)arg;
	assert_int_equal(env_open(e), 0);
	env_close(e);
}

static void test_of_a_damaged_copy_and_a_good_one_the_good_one_is_written_last(void **state)
{
	static const struct sim_faults faults = {.cut_ends_io = true};
	unsigned n_cuts = 0;

	(void)state;
	for (unsigned copy = 0; copy < 2; copy++) {
		bool cut = true;
		for (uint64_t event = 0; cut; event++) {
			for (uint64_t choice = 0; choice < 5; choice++) {
				struct cut at = {event, choice, copy};
				struct env e;
				env_init(&e, 1, two_classes, &faults);
				env_run(&e, format_and_close, NULL);
				env_run(&e, grow_until_cut, &at);
				cut = sim_is_cut(e.sims[1]);
				n_cuts += cut;
				sim_cut_at(e.sims[1], UINT64_MAX, 0);
				expect_order(&e, copy);
				env_run(&e, open_and_close, NULL);
				env_fini(&e);
			}
		}
	}
	assert_true(n_cuts >= 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_newer_superblock_counts_and_the_other_is_named_or_mended),
		cmocka_unit_test(test_both_superblocks_damaged),
		cmocka_unit_test(test_one_superblock_is_enough_and_a_check_names_the_other),
		cmocka_unit_test(test_a_foreign_superblock_is_told_by_the_catalogue_or_the_uuid),
		cmocka_unit_test(test_a_superblock_of_another_class_is_told_by_its_number),
		cmocka_unit_test(test_two_superblocks_and_neither_store_are_left_alone),
		cmocka_unit_test(test_an_older_copy_is_brought_up_only_in_a_store_that_opens),
		cmocka_unit_test(test_of_a_damaged_copy_and_a_good_one_the_good_one_is_written_last),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
