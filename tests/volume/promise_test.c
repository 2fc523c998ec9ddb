/* Space that is promised: to reserved volumes, to what is allocated; what stat says of it. Promotion of clones. */
#include "volume_env.h"
#include "../../src/volume/volume_internal.h"

#include <errno.h>
#include <stdio.h>

static void run(void (*fn)(struct env *e, void *arg))
{
	struct env e;

	env_init(&e, 11, ENV_UNITS, NULL);
	env_run(&e, fn, NULL);
	env_fini(&e);
}

static void create(struct env *e, const char *name, uint64_t size_bytes, bool reserve)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = size_bytes, .reserve = reserve};

	assert_int_equal(quire_volume_create(e->volumes, name, &o), 0);
}

/* Writes to a volume of its own until there is no space; how many times 8 blocks. */
static uint64_t fill_class(struct env *e, struct quire_volume **ret_volume)
{
	uint64_t i = 0;
	int rc;

	create(e, "filler", UINT64_C(64) << 20, false);
	*ret_volume = open_volume(e, "filler");
	do
		rc = put(*ret_volume, i * 8 * BLOCK, 8 * BLOCK, i + 1, 0);
	while (rc == 0 && ++i < 10000);
	assert_int_equal(rc, -ENOSPC);
	return i;
}

static void overwrite_at_random(struct quire_volume *v, uint64_t n_blocks, unsigned n, uint64_t tag)
{
	uint64_t state = tag;

	for (unsigned i = 0; i < n; i++)
		assert_int_equal(put(v, random_next(&state) % n_blocks * BLOCK, BLOCK, tag + i, 0), 0);
}

static struct quire_volume_stat stat_of(struct env *e, const char *name)
{
	struct quire_volume_stat s;

	assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	assert_int_equal(quire_volume_stat(e->volumes, name, &s), 0);
	return s;
}

/* ---- promises ---- */

static void write_reserved(struct env *e, void *arg)
{
	struct quire_volume *filler;

	(void)arg;
	begin(e);
	create(e, "r", 200 * BLOCK, true);
	struct quire_volume *v = open_volume(e, "r");
	assert_int_equal(put(v, 0, 100 * BLOCK, 1, 0), 0);
	assert_int_equal(quire_volume_snapshot(e->volumes, "r", "r@1"), 0);
	(void)fill_class(e, &filler);
	overwrite_at_random(v, 200, 400, 1000);
	assert_int_equal(put(v, 0, 200 * BLOCK, 2, 0), 0);
	assert_true(holds(v, 0, 200 * BLOCK, 2));
	quire_volume_close(v);
	quire_volume_close(filler);
	reopen(e);
	v = open_volume(e, "r@1");
	assert_true(holds(v, 0, 100 * BLOCK, 1));
	quire_volume_close(v);
	v = open_volume(e, "r");
	overwrite_at_random(v, 200, 200, 5000);
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

static void a_reserved_volume_can_be_written_when_nothing_else_can(void **state)
{
	(void)state;
	run(write_reserved);
}

static void refuse_promises(struct env *e, void *arg)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = UINT64_C(64) << 20, .reserve = true};
	struct quire_volume *filler;

	(void)arg;
	begin(e);
	assert_int_equal(quire_volume_create(e->volumes, "big", &o), -ENOSPC);
	create(e, "r", 300 * BLOCK, true);
	struct quire_volume *v = open_volume(e, "r");
	assert_int_equal(put(v, 0, 300 * BLOCK, 1, 0), 0);
	(void)fill_class(e, &filler);
	/* It would need as much again. */
	assert_int_equal(quire_volume_snapshot(e->volumes, "r", "r@1"), -ENOSPC);
	assert_int_equal(quire_volume_clone(e->volumes, "r", "c"), -ENOSPC);
	assert_int_equal(quire_volume_resize(e->volumes, "r", 600 * BLOCK), -ENOSPC);
	assert_int_equal(quire_volume_reserve(e->volumes, "filler", true), -ENOSPC);
	assert_true(holds(v, 0, 300 * BLOCK, 1));
	assert_int_equal(quire_volume_reserve(e->volumes, "r", false), 0);
	assert_int_equal(quire_volume_snapshot(e->volumes, "r", "r@1"), 0);
	quire_volume_close(v);
	quire_volume_close(filler);
	assert_int_equal(env_close(e), 0);
}

static void what_cannot_be_promised_is_refused(void **state)
{
	(void)state;
	run(refuse_promises);
}

static void overwrite_thin(struct env *e, void *arg)
{
	struct quire_volume *filler;

	(void)arg;
	begin(e);
	struct quire_volume *a = open_volume(e, "a");
	assert_int_equal(put(a, 0, 64 * BLOCK, 1, 0), 0);
	assert_int_equal(quire_volume_zero(a, 100 * BLOCK, 32 * BLOCK, QUIRE_VOLUME_NO_HOLE, NULL), 0);
	uint64_t n = fill_class(e, &filler);
	/* What is allocated can be written, zeros too if they are no hole; the rest cannot. */
	overwrite_at_random(a, 64, 300, 100);
	assert_int_equal(put(a, 100 * BLOCK, 32 * BLOCK, 3, 0), 0);
	assert_int_equal(put(a, 200 * BLOCK, 32 * BLOCK, 4, 0), -ENOSPC);
	assert_true(holds(a, 200 * BLOCK, 32 * BLOCK, 0));
	overwrite_at_random(filler, n * 8, 300, 9000);
	/* What is given up is there for others. */
	assert_int_equal(quire_volume_discard(filler, 0, 64 * BLOCK, 0, NULL), 0);
	assert_int_equal(put(a, 200 * BLOCK, 32 * BLOCK, 4, 0), 0);
	assert_true(holds(a, 200 * BLOCK, 32 * BLOCK, 4));
	assert_true(holds(a, 100 * BLOCK, 32 * BLOCK, 3));
	quire_volume_close(a);
	quire_volume_close(filler);
	assert_int_equal(env_close(e), 0);
}

static void what_is_allocated_can_be_overwritten(void **state)
{
	(void)state;
	run(overwrite_thin);
}

static void keep_from_others(struct env *e, void *arg)
{
	struct store_stat s;
	uint64_t id;

	(void)arg;
	begin(e);
	create(e, "r", 1000 * BLOCK, true);
	store_stat(e->store, &s);
	/* An object may have what is not kept for it, and no more. */
	assert_int_equal(object_begin(e->store, 0, s.classes[0].free_bytes - 500 * BLOCK, 0, 1, &id), -ENOSPC);
	assert_int_equal(quire_volume_reserve(e->volumes, "r", false), 0);
	assert_int_equal(object_begin(e->store, 0, s.classes[0].free_bytes - 500 * BLOCK, 0, 1, &id), 0);
	assert_int_equal(object_abort(e->store, id), 0);
	assert_int_equal(env_close(e), 0);
}

#define N_OTHERS 256u

/* What objects of others can have beyond the n that they are; how many they are then. */
static unsigned others_take_all(struct env *e, uint64_t ids[N_OTHERS], unsigned n)
{
	for (uint64_t bytes = 4096 * BLOCK; bytes >= BLOCK; bytes /= 2)
		while (n < N_OTHERS - 1 && object_begin(e->store, 0, bytes, 0, 1, &ids[n]) == 0)
			n++;
	assert_int_equal(object_begin(e->store, 0, BLOCK, 0, 1, &ids[n]), -ENOSPC);
	return n;
}

static void give_back(struct env *e, const uint64_t *ids, unsigned n)
{
	for (; n > 0; n--)
		assert_int_equal(object_abort(e->store, ids[n - 1]), 0);
}

/* A checkpoint's list has its part of what is kept: no segment has to be given up for it, which others would take. */
static void checkpoint_what_is_full(struct env *e, void *arg)
{
	uint64_t ids[N_OTHERS];

	(void)arg;
	begin(e);
	create(e, "r", 1000 * BLOCK, true);
	unsigned n = others_take_all(e, ids, 0);
	assert_int_equal(object_begin(e->store, 0, BLOCK, 0, FORMAT_TAG_VOLUMES, &ids[n]), 0);
	give_back(e, ids, n + 1);
	assert_int_equal(env_close(e), 0);
}

static void overwrite_parts(struct quire_volume *v, unsigned n_blocks, unsigned n)
{
	uint64_t state = n;

	for (unsigned i = 0; i < n; i++)
		assert_int_equal(put(v, random_next(&state) % (n_blocks * 8) * 512, 512, i, 0), 0);
}

/* Its segments are there, and others take all that it does not need any more: what the store itself needs must be left as well. */
static void write_beside_others(struct env *e, void *arg)
{
	uint64_t ids[N_OTHERS];

	(void)arg;
	begin(e);
	create(e, "r", 16 * BLOCK, true);
	struct quire_volume *v = open_volume(e, "r");
	assert_int_equal(put(v, 0, 16 * BLOCK, 1, 0), 0);
	overwrite_at_random(v, 16, 1000, 3);
	unsigned n = 0;
	for (unsigned i = 0; i < 8; i++) {
		n = others_take_all(e, ids, n);
		assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
		store_settle(e->store);
	}
	overwrite_at_random(v, 16, 3000, 7);
	overwrite_parts(v, 16, 3000);
	give_back(e, ids, n);
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

static void a_reserved_volume_can_be_written_in_a_store_full_of_objects(void **state)
{
	(void)state;
	run(write_beside_others);
}

/* Before anything was promised: whoever writes then is told so, also if it is a part of a block, which cleaning may move while he waits. */
static void write_where_nothing_is_left(struct env *e, void *arg)
{
	uint64_t ids[N_OTHERS], i = 0;
	int rc;

	(void)arg;
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	unsigned n = others_take_all(e, ids, 0);
	do
		rc = put(v, i % 64 * 512, 512, i + 1, 0);
	while (rc == 0 && ++i < 100000);
	assert_int_equal(rc, -ENOSPC);
	give_back(e, ids, n);
	assert_int_equal(put(v, 0, 512, 1, 0), 0);
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

static void a_part_of_a_block_is_refused_where_nothing_is_left(void **state)
{
	(void)state;
	run(write_where_nothing_is_left);
}

static void a_checkpoint_has_its_part_of_what_is_kept(void **state)
{
	(void)state;
	run(checkpoint_what_is_full);
}

/* Deleted, and held by somebody still. */
static struct object *hold_deleted(struct env *e, uint64_t bytes)
{
	static uint8_t block[BLOCK];
	struct object *held;
	uint64_t id;

	assert_int_equal(object_begin(e->store, 0, bytes, 0, 1, &id), 0);
	for (uint64_t at = 0; at < bytes; at += BLOCK)
		assert_int_equal(object_append(e->store, id, &(struct iovec){block, BLOCK}, 1), 0);
	assert_int_equal(store_apply(e->store, &id, 1, NULL, 0), 0);
	assert_int_equal(object_get(e->store, id, &held), 0);
	assert_int_equal(store_apply(e->store, NULL, 0, &id, 1), 0);
	return held;
}

static void promise_what_others_took(struct env *e, void *arg)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = 1000 * BLOCK, .reserve = true};
	struct store_stat s;
	uint64_t id;

	(void)arg;
	begin(e);
	store_stat(e->store, &s);
	assert_int_equal(object_begin(e->store, 0, s.classes[0].free_bytes - 500 * BLOCK, 0, 1, &id), 0);
	assert_int_equal(quire_volume_create(e->volumes, "r", &o), -ENOSPC);
	assert_int_equal(quire_volume_reserve(e->volumes, "a", true), -ENOSPC);
	assert_int_equal(object_abort(e->store, id), 0);
	struct object *held = hold_deleted(e, s.classes[0].free_bytes - 500 * BLOCK);
	assert_int_equal(quire_volume_create(e->volumes, "r", &o), -ENOSPC);
	object_put(held);
	create(e, "r", 1000 * BLOCK, true);
	struct quire_volume *v = open_volume(e, "r");
	assert_int_equal(put(v, 0, 1000 * BLOCK, 1, 0), 0);
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

static void what_objects_have_taken_is_not_promised(void **state)
{
	(void)state;
	run(promise_what_others_took);
}

/* A segment of the group's own that is read when it is removed: it counts as free. */
static void read_what_is_removed(struct env *e, void *arg)
{
	struct object *held = NULL;
	struct store_stat s;

	(void)arg;
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	struct quire_volumes *g = e->volumes;
	overwrite_at_random(v, 64, 200, 1);
	for (struct idmap_node *n = idmap_any(&g->segments); n != NULL && held == NULL; n = idmap_after(&g->segments, n))
		if (((struct segment *)n)->state == SEGMENT_SEALED)
			assert_int_equal(object_get(e->store, ((struct segment *)n)->id, &held), 0);
	assert_non_null(held);
	do {
		overwrite_at_random(v, 64, 64, 2);
		assert_int_equal(quire_volumes_checkpoint(g), 0);
		store_stat(e->store, &s);
	} while (s.classes[0].pending_bytes == 0);
	store_settle(e->store);
	promise_settle(g);
	int64_t most = g->most_blocks;
	object_put(held);
	store_settle(e->store);
	promise_settle(g);
	store_stat(e->store, &s);
	assert_int_equal(s.classes[0].pending_bytes, 0);
	assert_int_equal(g->most_blocks, most);
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

static void what_is_read_when_it_is_removed_counts_as_free(void **state)
{
	(void)state;
	run(read_what_is_removed);
}

static void what_is_promised_is_kept_from_objects(void **state)
{
	(void)state;
	run(keep_from_others);
}

/* ---- figures ---- */

static void look_at_figures(struct env *e, void *arg)
{
	struct quire_volume_stat s;
	struct quire_volumes_stat all;

	(void)arg;
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	assert_int_equal(put(v, 0, 100 * BLOCK, 1, 0), 0);
	s = stat_of(e, "a");
	assert_true(s.size_bytes == VOLUME_BYTES && s.unique_bytes == 100 * BLOCK && s.shared_bytes == 0 && s.reserved_bytes == 0);
	assert_int_equal(quire_volume_snapshot(e->volumes, "a", "a@1"), 0);
	assert_int_equal(put(v, 0, 30 * BLOCK, 2, 0), 0);
	s = stat_of(e, "a");
	assert_true(s.unique_bytes == 30 * BLOCK && s.shared_bytes == 70 * BLOCK);
	s = stat_of(e, "a@1");
	assert_true(s.unique_bytes == 30 * BLOCK && s.shared_bytes == 70 * BLOCK);
	assert_int_equal(quire_volume_clone(e->volumes, "a@1", "c"), 0);
	s = stat_of(e, "a@1");
	assert_true(s.unique_bytes == 0 && s.shared_bytes == 100 * BLOCK);
	s = stat_of(e, "c");
	assert_true(s.unique_bytes == 0 && s.shared_bytes == 100 * BLOCK);
	assert_int_equal(quire_volume_rm(e->volumes, "c"), 0);
	assert_int_equal(quire_volume_rm(e->volumes, "a@1"), 0);
	s = stat_of(e, "a");
	assert_true(s.unique_bytes == 100 * BLOCK && s.shared_bytes == 0);
	assert_int_equal(quire_volume_reserve(e->volumes, "a", true), 0);
	s = stat_of(e, "a");
	assert_true(s.reserved_bytes == VOLUME_BYTES - 100 * BLOCK);
	assert_int_equal(quire_volumes_stat(e->volumes, &all), 0);
	assert_true(all.reserved_bytes == s.reserved_bytes && all.live_bytes < 104 * BLOCK);
	quire_volume_close(v);
	reopen(e);
	assert_int_equal(quire_volume_stat(e->volumes, "a", &s), 0);
	assert_true(s.unique_bytes == 100 * BLOCK && s.reserved_bytes == VOLUME_BYTES - 100 * BLOCK);
	assert_int_equal(quire_volume_stat(e->volumes, "b", &s), -ENOENT);
	assert_int_equal(env_close(e), 0);
}

static void stat_tells_unique_shared_and_reserved(void **state)
{
	(void)state;
	run(look_at_figures);
}

/* ---- promotion ---- */

#define N_SNAPSHOTS 40u /* more than a record takes */

static void promote_a_clone(struct env *e, void *arg)
{
	struct quire_volume_info a, c, s;
	char name[32];

	(void)arg;
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	for (unsigned i = 0; i < N_SNAPSHOTS; i++) {
		(void)snprintf(name, sizeof(name), "a@s%u", i);
		assert_int_equal(put(v, 0, BLOCK, i + 1, 0), 0);
		assert_int_equal(quire_volume_snapshot(e->volumes, "a", name), 0);
	}
	quire_volume_close(v);
	assert_int_equal(quire_volume_promote(e->volumes, "a"), -EINVAL);
	assert_int_equal(quire_volume_clone(e->volumes, "a@s30", "c"), 0);
	assert_int_equal(quire_volume_snapshot(e->volumes, "c", "c@s7"), 0);
	assert_int_equal(quire_volume_promote(e->volumes, "c"), -EEXIST);
	assert_int_equal(quire_volume_rm(e->volumes, "c@s7"), 0);
	assert_int_equal(quire_volume_promote(e->volumes, "c"), 0);
	reopen(e);
	assert_int_equal(quire_volume_find(e->volumes, "a", &a), 0);
	assert_int_equal(quire_volume_find(e->volumes, "c", &c), 0);
	assert_true(a.origin == c.id && c.origin == 0);
	for (unsigned i = 0; i < N_SNAPSHOTS; i++) {
		(void)snprintf(name, sizeof(name), "%c@s%u", i <= 30 ? 'c' : 'a', i);
		assert_int_equal(quire_volume_find(e->volumes, name, &s), 0);
		assert_int_equal(s.origin, i <= 30 ? c.id : a.id);
	}
	assert_int_equal(quire_volume_rollback(e->volumes, "c", "c@s3"), 0);
	v = open_volume(e, "c");
	assert_true(holds(v, 0, BLOCK, 4));
	quire_volume_close(v);
	assert_int_equal(quire_volume_rollback(e->volumes, "a", "c@s3"), -EINVAL);
	assert_int_equal(env_close(e), 0);
}

static void a_promoted_clone_has_the_snapshots(void **state)
{
	(void)state;
	run(promote_a_clone);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_reserved_volume_can_be_written_when_nothing_else_can),
		cmocka_unit_test(what_cannot_be_promised_is_refused),
		cmocka_unit_test(what_is_allocated_can_be_overwritten),
		cmocka_unit_test(what_is_promised_is_kept_from_objects),
		cmocka_unit_test(a_checkpoint_has_its_part_of_what_is_kept),
		cmocka_unit_test(a_reserved_volume_can_be_written_in_a_store_full_of_objects),
		cmocka_unit_test(a_part_of_a_block_is_refused_where_nothing_is_left),
		cmocka_unit_test(what_objects_have_taken_is_not_promised),
		cmocka_unit_test(what_is_read_when_it_is_removed_counts_as_free),
		cmocka_unit_test(stat_tells_unique_shared_and_reserved),
		cmocka_unit_test(a_promoted_clone_has_the_snapshots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
