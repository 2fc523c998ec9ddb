/* sim_cut_test.c - what a cut of the power leaves: each rule of the fault model, over many choices. */
#include "sim_env.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define N_CHOICES 400u

/* Cuts copies of the medium as it is now, once for each choice; look() sees each. */
static void each_cut(struct env *e, void (*look)(struct env *e, void *arg), void *arg)
{
	for (uint64_t choice = 0; choice < N_CHOICES; choice++) {
		struct env c = *e;
		assert_int_equal(sim_clone(e->sim, choice, &c.sim), 0);
		sim_cut(c.sim, choice);
		look(&c, arg);
		sim_destroy(c.sim);
	}
}

/* How often a block of those in question was wholly old, wholly new, torn between both. */
struct seen {
	unsigned n_old, n_new, n_torn;
	uint64_t block;
	int old_tag, new_tag;
};

static void count(struct env *e, void *arg)
{
	struct seen *seen = arg;
	int tags[BLOCK / SECTOR];
	unsigned n_new = 0;
	env_tags(e, seen->block, 1, tags);
	for (unsigned i = 0; i < BLOCK / SECTOR; i++) {
		assert_true(tags[i] == seen->old_tag || tags[i] == seen->new_tag);
		n_new += tags[i] == seen->new_tag;
	}
	if (n_new == 0)
		seen->n_old++;
	else if (n_new == BLOCK / SECTOR)
		seen->n_new++;
	else
		seen->n_torn++;
}

static struct seen counted(struct env *e, uint64_t block, int old_tag, int new_tag)
{
	struct seen seen = {.block = block, .old_tag = old_tag, .new_tag = new_tag};
	each_cut(e, count, &seen);
	return seen;
}

static void write_durable(struct env *e)
{
	env_write(e, 3, 4, 1, true);
}

static void test_durable_stays(void **state)
{
	struct env e = env_make(64, 1, NULL);
	env_run(&e, write_durable);
	for (uint64_t b = 3; b < 7; b++)
		assert_int_equal(counted(&e, b, 0, 1).n_new, N_CHOICES);
	env_end(&e);
}

static void write_and_flush(struct env *e)
{
	env_write(e, 3, 4, 1, false);
	env_flush(e);
}

static void test_flushed_stays(void **state)
{
	struct env e = env_make(64, 1, NULL);
	env_run(&e, write_and_flush);
	for (uint64_t b = 3; b < 7; b++)
		assert_int_equal(counted(&e, b, 0, 1).n_new, N_CHOICES);
	env_end(&e);
}

static void overwrite(struct env *e)
{
	env_write(e, 5, 1, 1, true);
	env_write(e, 5, 1, 2, false);
}

static void test_done_is_old_new_or_torn(void **state)
{
	struct env e = env_make(64, 1, NULL);
	env_run(&e, overwrite);
	struct seen seen = counted(&e, 5, 1, 2);
	assert_true(seen.n_old > 20 && seen.n_new > 20 && seen.n_torn > 20);
	env_end(&e);
}

static void test_tears_at_4k_where_told_to(void **state)
{
	struct sim_faults faults = {.tear_4k = true};
	struct env e = env_make(64, 1, &faults);
	env_run(&e, overwrite);
	struct seen seen = counted(&e, 5, 1, 2);
	assert_true(seen.n_old > 20 && seen.n_new > 20 && seen.n_torn == 0);
	env_end(&e);
}

static void overwrite_durably(struct env *e)
{
	env_write(e, 5, 1, 1, false);
	env_write(e, 5, 1, 2, true);
}

static void test_durable_is_not_undone_by_what_came_before(void **state)
{
	struct env e = env_make(64, 1, NULL);
	env_run(&e, overwrite_durably);
	assert_int_equal(counted(&e, 5, 0, 2).n_new, N_CHOICES);
	env_end(&e);
}

static void write_three_versions(struct env *e)
{
	for (unsigned tag = 1; tag <= 3; tag++)
		env_write(e, 5, 1, tag, false);
}

static void count_versions(struct env *e, void *arg)
{
	unsigned *n = arg;
	int tags[BLOCK / SECTOR];
	env_tags(e, 5, 1, tags);
	for (unsigned i = 0; i < BLOCK / SECTOR; i++) {
		assert_in_range(tags[i], 0, 3);
		n[tags[i]]++;
	}
}

static void test_any_version_since_the_last_durable_one(void **state)
{
	struct env e = env_make(64, 1, NULL);
	unsigned n[4] = {0};
	env_run(&e, write_three_versions);
	each_cut(&e, count_versions, n);
	for (unsigned i = 0; i < 4; i++)
		assert_true(n[i] > 50);
	env_end(&e);
}

static void write_two(struct env *e)
{
	env_write(e, 5, 1, 1, false);
	env_write(e, 6, 1, 2, false);
}

static void count_order(struct env *e, void *arg)
{
	unsigned(*n)[2] = arg;
	int first = env_one_tag(e, 5, 1), second = env_one_tag(e, 6, 1);
	if (first >= 0 && second >= 0)
		n[first != 0][second != 0]++;
}

static void test_later_without_earlier(void **state)
{
	struct env e = env_make(64, 1, NULL);
	unsigned n[2][2] = {{0}};
	env_run(&e, write_two);
	each_cut(&e, count_order, n);
	assert_true(n[0][0] > 10 && n[0][1] > 10 && n[1][0] > 10 && n[1][1] > 10);
	env_end(&e);
}

/* ---- ordered ---- */

static void write_eight(struct env *e)
{
	for (unsigned i = 0; i < 8; i++)
		env_write(e, 8 + i, 1, 1 + i, false);
}

struct prefixes {
	unsigned n_of[9]; /* by how many were whole */
	unsigned n_torn;
};

static void check_prefix(struct env *e, void *arg)
{
	struct prefixes *p = arg;
	unsigned i = 0;
	while (i < 8 && env_one_tag(e, 8 + i, 1) == (int)i + 1)
		i++;
	p->n_of[i]++;
	if (i < 8 && env_one_tag(e, 8 + i, 1) == -2) {
		p->n_torn++;
		i++;
	}
	for (i = i < 8 && env_one_tag(e, 8 + i, 1) == 0 ? i + 1 : i; i < 8; i++)
		assert_int_equal(env_one_tag(e, 8 + i, 1), 0);
}

static void test_ordered_leaves_a_prefix(void **state)
{
	struct sim_faults faults = {.ordered = true};
	struct env e = env_make(64, 1, &faults);
	struct prefixes p = {0};
	env_run(&e, write_eight);
	each_cut(&e, check_prefix, &p);
	for (unsigned i = 0; i <= 8; i++)
		assert_true(p.n_of[i] > 10);
	assert_true(p.n_torn > 50);
	env_end(&e);
}

static void write_eight_one_durable(struct env *e)
{
	for (unsigned i = 0; i < 8; i++)
		env_write(e, 8 + i, 1, 1 + i, i == 6);
}

static void check_durable_seventh(struct env *e, void *arg)
{
	unsigned *n_first_lost = arg;
	assert_int_equal(env_one_tag(e, 14, 1), 7);
	*n_first_lost += env_one_tag(e, 8, 1) != 1;
}

static void test_ordered_keeps_durable_beside_the_prefix(void **state)
{
	struct sim_faults faults = {.ordered = true};
	struct env e = env_make(64, 1, &faults);
	unsigned n_first_lost = 0;
	env_run(&e, write_eight_one_durable);
	each_cut(&e, check_durable_seventh, &n_first_lost);
	assert_true(n_first_lost > 10);
	env_end(&e);
}

/* ---- under way ---- */

static struct env_io under_way, under_way_too;

static void leave_write_under_way(struct env *e)
{
	struct sim_faults never = {.never = UINT32_MAX};
	env_write(e, 5, 1, 1, true);
	sim_set_faults(e->sim, &never);
	env_fill(env_memory(0), 1, 2);
	env_submit(e, &under_way, DEVICE_WRITE_DURABLE, 5, 1, env_memory(0));
}

static void test_under_way_is_old_new_or_torn(void **state)
{
	struct env e = env_make(64, 1, NULL);
	env_run(&e, leave_write_under_way);
	assert_int_equal(under_way.n_done, 0);
	assert_int_equal(env_one_tag(&e, 5, 1), 1);
	struct seen seen = counted(&e, 5, 1, 2);
	assert_true(seen.n_old > 20 && seen.n_new > 20 && seen.n_torn > 20);
	env_end(&e);
}

static void leave_flush_under_way(struct env *e)
{
	struct sim_faults never = {.never = UINT32_MAX};
	env_write(e, 5, 1, 1, false);
	sim_set_faults(e->sim, &never);
	env_submit(e, &under_way, DEVICE_FLUSH, 0, 0, NULL);
}

static void test_flush_under_way_promises_nothing(void **state)
{
	struct env e = env_make(64, 1, NULL);
	env_run(&e, leave_flush_under_way);
	struct seen seen = counted(&e, 5, 0, 1);
	assert_true(seen.n_old > 20 && seen.n_new > 20 && seen.n_torn > 20);
	env_end(&e);
}

/* The write is done after the flush has started, and before it ends. */
static void flush_beside_a_write(struct env *e)
{
	env_write(e, 4, 1, 1, false);
	env_fill(env_memory(0), 1, 2);
	env_submit(e, &under_way, DEVICE_FLUSH, 0, 0, NULL);
	env_submit(e, &under_way_too, DEVICE_WRITE, 5, 1, env_memory(0));
	while (under_way.n_done == 0 || under_way_too.n_done == 0)
		assert_int_equal(quire_co_yield(), 0);
}

static void test_flush_covers_only_what_was_done_before_it_started(void **state)
{
	struct sim_faults faults = {.max_delay_turns = 8};
	unsigned n_old = 0;
	for (uint64_t seed = 0; seed < 8; seed++) {
		struct env e = env_make(64, seed, &faults);
		env_run(&e, flush_beside_a_write);
		assert_int_equal(counted(&e, 4, 0, 1).n_new, N_CHOICES);
		struct seen seen = counted(&e, 5, 0, 2);
		n_old += seen.n_old > 20 && seen.n_torn > 20;
		env_end(&e);
	}
	assert_int_equal(n_old, 8);
}

static void test_a_cut_ends_nothing(void **state)
{
	struct env e = env_make(64, 1, NULL);
	env_run(&e, leave_write_under_way);
	sim_cut(e.sim, 5);
	assert_int_equal(quire_loop_run(e.loop), 0);
	assert_int_equal(under_way.n_done, 0);
	env_end(&e);
}

static void test_a_cut_ends_all_where_told_to(void **state)
{
	struct sim_faults ends = {.cut_ends_io = true};
	struct env e = env_make(64, 1, NULL);
	env_run(&e, leave_write_under_way);
	sim_set_faults(e.sim, &ends);
	sim_cut(e.sim, 5);
	assert_int_equal(quire_loop_run(e.loop), 0);
	assert_int_equal(under_way.n_done, 1);
	assert_int_equal(under_way.result, -EIO);
	env_end(&e);
}

/* ---- choices, and after ---- */

static void test_choice_0_leaves_only_what_is_durable(void **state)
{
	struct env e = env_make(64, 1, NULL);
	env_run(&e, overwrite);
	sim_cut(e.sim, 0);
	assert_int_equal(env_one_tag(&e, 5, 1), 1);
	env_end(&e);
}

static void test_choice_1_leaves_everything(void **state)
{
	struct env e = env_make(64, 1, NULL);
	env_run(&e, overwrite);
	env_run(&e, leave_write_under_way);
	sim_cut(e.sim, 1);
	assert_int_equal(env_one_tag(&e, 5, 1), 2);
	env_end(&e);
}

static void test_one_choice_one_outcome(void **state)
{
	struct env e = env_make(64, 1, NULL);
	env_run(&e, write_eight);
	for (uint64_t choice = 0; choice < 50; choice++) {
		int tags[2][64];
		for (unsigned i = 0; i < 2; i++) {
			struct env c = e;
			assert_int_equal(sim_clone(e.sim, i, &c.sim), 0);
			sim_cut(c.sim, choice);
			env_tags(&c, 8, 8, tags[i]);
			sim_destroy(c.sim);
		}
		assert_memory_equal(tags[0], tags[1], sizeof(tags[0]));
	}
	env_end(&e);
}

static void use_after_cut(struct env *e)
{
	assert_true(sim_is_cut(e->sim));
	assert_int_equal(device_read(e->device, 0, env_memory(0), BLOCK), -EIO);
	assert_int_equal(device_write(e->device, 0, env_memory(0), BLOCK, false), -EIO);
	assert_int_equal(device_flush(e->device), -EIO);
	assert_int_equal(device_discard(e->device, 0, BLOCK), -EIO);
	assert_int_equal(device_grow(e->device, e->device->size_bytes + BLOCK), -EIO);
}

static void test_eio_after_a_cut(void **state)
{
	struct env e = env_make(64, 1, NULL);
	env_run(&e, overwrite);
	sim_cut(e.sim, 0);
	env_run(&e, use_after_cut);
	assert_int_equal(env_one_tag(&e, 5, 1), 1);
	env_reopen(&e);
	assert_false(sim_is_cut(e.sim));
	env_run(&e, overwrite);
	assert_int_equal(env_one_tag(&e, 5, 1), 2);
	env_end(&e);
}

static void test_no_second_outcome(void **state)
{
	struct env e = env_make(64, 1, NULL);
	env_run(&e, overwrite);
	sim_cut(e.sim, 0);
	env_reopen(&e);
	assert_int_equal(counted(&e, 5, 2, 1).n_new, N_CHOICES);
	env_end(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_durable_stays),
		cmocka_unit_test(test_flushed_stays),
		cmocka_unit_test(test_done_is_old_new_or_torn),
		cmocka_unit_test(test_tears_at_4k_where_told_to),
		cmocka_unit_test(test_durable_is_not_undone_by_what_came_before),
		cmocka_unit_test(test_any_version_since_the_last_durable_one),
		cmocka_unit_test(test_later_without_earlier),
		cmocka_unit_test(test_ordered_leaves_a_prefix),
		cmocka_unit_test(test_ordered_keeps_durable_beside_the_prefix),
		cmocka_unit_test(test_under_way_is_old_new_or_torn),
		cmocka_unit_test(test_flush_under_way_promises_nothing),
		cmocka_unit_test(test_flush_covers_only_what_was_done_before_it_started),
		cmocka_unit_test(test_a_cut_ends_nothing),
		cmocka_unit_test(test_a_cut_ends_all_where_told_to),
		cmocka_unit_test(test_choice_0_leaves_only_what_is_durable),
		cmocka_unit_test(test_choice_1_leaves_everything),
		cmocka_unit_test(test_one_choice_one_outcome),
		cmocka_unit_test(test_eio_after_a_cut),
		cmocka_unit_test(test_no_second_outcome),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
