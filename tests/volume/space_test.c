/* Space of volumes: used again, cleaned, and full. */
#include "volume_env.h"

#include "../../src/volume/volume_internal.h"

#include <errno.h>
#include <string.h>

static void run(void (*fn)(struct env *e, void *arg))
{
	struct env e;

	env_init(&e, 5, ENV_UNITS, NULL);
	env_run(&e, fn, NULL);
	env_fini(&e);
}

static void overwrite(struct env *e, void *arg)
{
	struct quire_volumes_stat stat;

	(void)arg;
	e->checkpoint_bytes = 1u << 20;
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	/* Some times the class. */
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(put(v, 0, VOLUME_BYTES, i + 1, 0), 0);
	assert_true(holds(v, 0, VOLUME_BYTES, 40));
	assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	assert_int_equal(quire_volumes_stat(e->volumes, &stat), 0);
	assert_true(stat.n_checkpoints > 10 && stat.live_bytes <= VOLUME_BYTES + 8 * BLOCK);
	quire_volume_close(v);
	reopen(e);
	v = open_volume(e, "a");
	assert_true(holds(v, 0, VOLUME_BYTES, 40));
	quire_volume_close(v);
	assert_int_equal(env_check(e, true), 0);
	assert_int_equal(env_close(e), 0);
}

static void dead_segments_are_used_again(void **state)
{
	(void)state;
	run(overwrite);
}

/* Every other block is overwritten, under a snapshot or not: no segment is ever dead by itself. */
static void scatter(struct env *e, void *arg)
{
	bool snapshot = arg != NULL;
	const uint64_t n = snapshot ? 500 : 1000;
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = n * BLOCK};
	uint64_t tags[1000] = {0}, old[1000] = {0}, state = 9;

	e->checkpoint_bytes = 1u << 20;
	begin(e);
	assert_int_equal(quire_volume_create(e->volumes, "b", &o), 0);
	struct quire_volume *v = open_volume(e, "b"), *s = NULL;
	for (uint64_t i = 0; i < 6 * n; i++) {
		uint64_t k = random_next(&state) % n;
		if (i == 2 * n && snapshot) {
			assert_int_equal(quire_volume_snapshot(e->volumes, "b", "b@1"), 0);
			memcpy(old, tags, sizeof(old));
		}
		tags[k] = i + 1;
		int rc = put(v, k * BLOCK, BLOCK, tags[k], 0);
		assert_int_equal(rc, 0);
	}
	quire_volume_close(v);
	reopen(e);
	v = open_volume(e, "b");
	for (uint64_t k = 0; k < n; k++)
		assert_true(holds(v, k * BLOCK, BLOCK, tags[k]));
	if (snapshot) {
		s = open_volume(e, "b@1");
		for (uint64_t k = 0; k < n; k++)
			assert_true(holds(s, k * BLOCK, BLOCK, old[k]));
		quire_volume_close(s);
	}
	quire_volume_close(v);
	assert_int_equal(env_check(e, true), 0);
	if (snapshot)
		assert_int_equal(quire_volume_rm(e->volumes, "b@1"), 0);
	assert_int_equal(quire_volume_rm(e->volumes, "b"), 0);
	assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	assert_int_equal(live_blocks(e), 0);
	assert_int_equal(env_close(e), 0);
}

static void half_dead_segments_are_cleaned(void **state)
{
	(void)state;
	run(scatter);
}

static void scatter_under_snapshot(struct env *e, void *arg)
{
	(void)arg;
	scatter(e, e);
}

static void what_a_snapshot_has_is_moved_too(void **state)
{
	(void)state;
	run(scatter_under_snapshot);
}

static void fill_up(struct env *e, void *arg)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = UINT64_C(64) << 20};
	uint64_t i = 0;
	int rc;

	(void)arg;
	begin(e);
	assert_int_equal(quire_volume_create(e->volumes, "b", &o), 0);
	struct quire_volume *v = open_volume(e, "b");
	do
		rc = put(v, i * 8 * BLOCK, 8 * BLOCK, i + 1, 0);
	while (rc == 0 && ++i < 10000);
	assert_int_equal(rc, -ENOSPC);
	for (uint64_t k = 0; k < i; k++)
		assert_true(holds(v, k * 8 * BLOCK, 8 * BLOCK, k + 1));
	/* What is given up is there for others, at once. */
	assert_int_equal(quire_volume_discard(v, 0, i / 2 * 8 * BLOCK, 0, NULL), 0);
	for (uint64_t k = 0; k < i / 4; k++)
		assert_int_equal(put(v, k * 8 * BLOCK, 8 * BLOCK, 7000 + k, 0), 0);
	for (uint64_t k = 0; k < i; k++)
		assert_true(holds(v, k * 8 * BLOCK, 8 * BLOCK, k < i / 4 ? 7000 + k : k < i / 2 ? 0 : k + 1));
	quire_volume_close(v);
	reopen(e);
	assert_int_equal(quire_volume_rm(e->volumes, "b"), 0);
	assert_int_equal(live_blocks(e), 0);
	assert_int_equal(env_close(e), 0);
}

static void full_is_an_error_until_there_is_space(void **state)
{
	(void)state;
	run(fill_up);
}

/* Not one segment is left, in the class or kept: what is removed then needs none. */
static void empty_without_space(struct env *e, void *arg)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = UINT64_C(64) << 20};
	uint64_t ids[64], tables, n = 0, i = 0, bytes = ENV_UNITS * BLOCK;

	(void)arg;
	begin(e);
	assert_int_equal(quire_volume_create(e->volumes, "b", &o), 0);
	struct quire_volume *v = open_volume(e, "b");
	while (put(v, i * 8 * BLOCK, 8 * BLOCK, i + 1, 0) == 0)
		i++;
	assert_int_equal(quire_volume_flush(v, NULL), 0);
	quire_volume_close(v);
	assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	v = open_volume(e, "a");
	(void)put(v, 0, BLOCK, 1, 0); /* not in pages */
	quire_volume_close(v);
	store_log_pledge(e->volumes->space, 0);
	while (group_release_spare(e->volumes))
		;
	assert_int_equal(object_begin(e->store, 0, 8 * BLOCK, 0, 1, &tables), 0); /* for the checkpoint's, which are an object */
	for (; n < 64 && bytes > 4 * BLOCK; bytes -= bytes / 4)
		n += object_begin(e->store, 0, bytes, 0, 1, &ids[n]) == 0;
	assert_int_equal(quire_volume_rm(e->volumes, "b"), 0);
	assert_int_equal(quire_volume_rm(e->volumes, "a"), 0);
	assert_int_equal(object_abort(e->store, tables), 0);
	assert_int_equal(live_blocks(e), 0);
	for (; n > 0; n--)
		assert_int_equal(object_abort(e->store, ids[n - 1]), 0);
	assert_int_equal(env_close(e), 0);
}

static void what_is_emptied_needs_no_space(void **state)
{
	(void)state;
	run(empty_without_space);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dead_segments_are_used_again),
		cmocka_unit_test(half_dead_segments_are_cleaned),
		cmocka_unit_test(what_a_snapshot_has_is_moved_too),
		cmocka_unit_test(full_is_an_error_until_there_is_space),
		cmocka_unit_test(what_is_emptied_needs_no_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
