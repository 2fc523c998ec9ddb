/* Volumes, one thing at a time. */
#include "volume_env.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void run(void (*fn)(struct env *e, void *arg))
{
	struct env e;

	env_init(&e, 5, ENV_UNITS, NULL);
	env_run(&e, fn, NULL);
	env_fini(&e);
}

/* ---- what is written is read ---- */

static void write_and_read(struct env *e, void *arg)
{
	(void)arg;
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	assert_true(holds(v, 0, VOLUME_BYTES, 0));
	assert_int_equal(put(v, 8 * BLOCK, 3 * BLOCK, 1, 0), 0);
	assert_true(holds(v, 8 * BLOCK, 3 * BLOCK, 1));
	assert_true(holds(v, 11 * BLOCK, BLOCK, 0));
	assert_int_equal(put(v, 512, 512, 2, 0), 0); /* a part of a block */
	assert_true(holds(v, 512, 512, 2) && holds(v, 0, 512, 0) && holds(v, 1024, 4096, 0));
	assert_int_equal(put(v, 100000, 300000, 3, 0), 0);
	assert_true(holds(v, 100000, 300000, 3));
	assert_int_equal(put(v, VOLUME_BYTES - 512, 1024, 4, 0), -EINVAL);
	assert_int_equal(quire_volume_zero(v, 100000, 5000, 0, NULL), 0);
	assert_true(holds(v, 100000, 5000, 0));
	assert_int_equal(quire_volume_discard(v, 8 * BLOCK, 2 * BLOCK, 0, NULL), 0);
	assert_true(holds(v, 8 * BLOCK, 2 * BLOCK, 0));
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

struct part {
	struct quire_volume *v;
	unsigned sector, n;
	unsigned *n_working;
};

static void write_part(void *arg)
{
	struct part *p = arg;

	for (unsigned i = 1; i <= p->n; i++)
		assert_int_equal(put(p->v, p->sector * 512, 512, p->sector * 1000 + i, 0), 0);
	--*p->n_working;
}

/* Eight who each write a sector of one block, again and again, while checkpoints move it into pages. */
static void write_parts(struct env *e, void *arg)
{
	struct part parts[8];
	unsigned n_working = 8;

	(void)arg;
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	for (unsigned i = 0; i < 8; i++) {
		parts[i] = (struct part){v, i, 20 + i, &n_working};
		assert_int_equal(quire_co_spawn(e->loop, write_part, &parts[i]), 0);
	}
	while (n_working > 0)
		assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	for (unsigned i = 0; i < 8; i++)
		assert_true(holds(v, i * 512, 512, i * 1000 + 20 + i));
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

static void parts_of_a_block_are_not_lost(void **state)
{
	(void)state;
	run(write_parts);
}

static void what_is_written_is_read(void **state)
{
	(void)state;
	run(write_and_read);
}

static void survive(struct env *e, void *arg)
{
	(void)arg;
	begin(e);
	for (unsigned round = 1; round <= 6; round++) {
		struct quire_volume *v = open_volume(e, "a");
		for (unsigned i = 0; i < 60; i++)
			assert_int_equal(put(v, (uint64_t)(i * 13 % 100) * 5 * BLOCK, 5 * BLOCK, round * 1000 + i * 13 % 100, 0), 0);
		quire_volume_close(v);
		if (round % 2 == 0)
			assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
		reopen(e);
		v = open_volume(e, "a");
		for (unsigned i = 0; i < 60; i++)
			assert_true(holds(v, (uint64_t)(i * 13 % 100) * 5 * BLOCK, 5 * BLOCK, round * 1000 + i * 13 % 100));
		quire_volume_close(v);
	}
	assert_int_equal(env_check(e, true), 0);
	assert_int_equal(env_close(e), 0);
}

static void it_is_there_when_opened_again(void **state)
{
	(void)state;
	run(survive);
}

/* ---- snapshots and clones ---- */

static void snapshots(struct env *e, void *arg)
{
	(void)arg;
	begin(e);
	struct quire_volume *v = open_volume(e, "a"), *s, *c, *cc;
	assert_int_equal(put(v, 0, 10 * BLOCK, 1, 0), 0);
	assert_int_equal(quire_volume_snapshot(e->volumes, "a", "a@1"), 0);
	assert_int_equal(put(v, 2 * BLOCK, BLOCK, 2, 0), 0);
	assert_int_equal(quire_volume_clone(e->volumes, "a@1", "c"), 0);
	assert_int_equal(quire_volume_clone(e->volumes, "a", "d"), 0);
	assert_int_equal(quire_volume_clone(e->volumes, "c", "cc"), 0);
	for (unsigned round = 0; round < 3; round++) {
		s = open_volume(e, "a@1");
		c = open_volume(e, "c");
		cc = open_volume(e, "cc");
		assert_true(holds(s, 0, 10 * BLOCK, 1));
		assert_true(holds(c, 0, 10 * BLOCK, 1));
		assert_true(holds(cc, 0, 10 * BLOCK, 1));
		assert_true(holds(v, 2 * BLOCK, BLOCK, 2));
		assert_int_equal(put(s, 0, BLOCK, 3, 0), -EROFS);
		assert_int_equal(put(c, 20 * BLOCK, BLOCK, 4 + round, 0), 0);
		assert_true(holds(cc, 20 * BLOCK, BLOCK, 0));
		quire_volume_close(s);
		quire_volume_close(c);
		quire_volume_close(cc);
		if (round == 0)
			assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
		if (round == 1) {
			quire_volume_close(v);
			reopen(e);
			v = open_volume(e, "a");
		}
	}
	assert_int_equal(quire_volume_rollback(e->volumes, "a", "a@1"), 0);
	assert_true(holds(v, 0, 10 * BLOCK, 1));
	assert_int_equal(quire_volume_rm(e->volumes, "a"), -EBUSY);
	quire_volume_close(v);
	assert_int_equal(quire_volume_rm(e->volumes, "a"), -ENOTEMPTY);
	assert_int_equal(quire_volume_rm(e->volumes, "a@1"), 0);
	assert_int_equal(quire_volume_rm(e->volumes, "a"), 0);
	assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	c = open_volume(e, "c");
	assert_true(holds(c, 0, 10 * BLOCK, 1));
	quire_volume_close(c);
	assert_int_equal(env_close(e), 0);
}

static void snapshots_and_clones_hold_what_they_began_with(void **state)
{
	(void)state;
	run(snapshots);
}

static void removal(struct env *e, void *arg)
{
	(void)arg;
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	assert_int_equal(put(v, 0, 40 * BLOCK, 1, 0), 0);
	assert_int_equal(live_blocks(e), 41); /* and a page of the map */
	assert_int_equal(quire_volume_snapshot(e->volumes, "a", "a@1"), 0);
	assert_int_equal(put(v, 0, 30 * BLOCK, 2, 0), 0);
	assert_int_equal(live_blocks(e), 72);
	assert_int_equal(quire_volume_snapshot(e->volumes, "a", "a@2"), 0);
	assert_int_equal(put(v, 0, 20 * BLOCK, 3, 0), 0);
	assert_int_equal(live_blocks(e), 93);
	assert_int_equal(quire_volume_rm(e->volumes, "a@2"), 0);
	assert_int_equal(live_blocks(e), 72); /* its 20 blocks, and its page */
	assert_int_equal(quire_volume_rm(e->volumes, "a@1"), 0);
	assert_int_equal(live_blocks(e), 41);
	assert_int_equal(quire_volume_discard(v, 0, VOLUME_BYTES, 0, NULL), 0);
	assert_int_equal(live_blocks(e), 1);
	quire_volume_close(v);
	assert_int_equal(quire_volume_rm(e->volumes, "a"), 0);
	assert_int_equal(live_blocks(e), 0);
	assert_int_equal(env_close(e), 0);
}

static void removal_frees_what_only_it_had(void **state)
{
	(void)state;
	run(removal);
}

/* ---- sizes ---- */

static void resize(struct env *e, void *arg)
{
	(void)arg;
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	assert_int_equal(put(v, 0, VOLUME_BYTES, 1, 0), 0);
	assert_int_equal(quire_volume_resize(e->volumes, "a", BLOCK), 0);
	assert_int_equal(quire_volume_bytes(v), BLOCK);
	assert_int_equal(put(v, BLOCK, BLOCK, 1, 0), -EINVAL);
	assert_int_equal(quire_volume_resize(e->volumes, "a", 2 * VOLUME_BYTES), 0);
	assert_true(holds(v, 0, BLOCK, 1) && holds(v, BLOCK, 2 * VOLUME_BYTES - BLOCK, 0));
	assert_int_equal(quire_volume_resize(e->volumes, "a", 1000), -EINVAL);
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

static void what_was_cut_off_is_zeros(void **state)
{
	(void)state;
	run(resize);
}

/* ---- what has changed ---- */

static void status(struct env *e, void *arg)
{
	struct quire_volume_extent x[8];

	(void)arg;
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	assert_int_equal(put(v, 0, 10 * BLOCK, 1, 0), 0);
	assert_int_equal(quire_volume_snapshot(e->volumes, "a", "a@1"), 0);
	assert_int_equal(put(v, 2 * BLOCK, BLOCK, 2, 0), 0);
	assert_int_equal(quire_volume_zero(v, 5 * BLOCK, BLOCK, QUIRE_VOLUME_NO_HOLE, NULL), 0);
	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(quire_volume_status(v, 0, 20 * BLOCK, 0, x, 8, NULL), 6);
		assert_true(x[0].len_bytes == 2 * BLOCK && x[0].kind == QUIRE_VOLUME_DATA && x[0].shared && x[0].generation == 1);
		assert_true(x[1].len_bytes == BLOCK && !x[1].shared && x[1].generation == 2);
		assert_true(x[3].offset == 5 * BLOCK && x[3].kind == QUIRE_VOLUME_ZERO && x[3].generation == 2);
		assert_true(x[5].offset == 10 * BLOCK && x[5].len_bytes == 10 * BLOCK && x[5].kind == QUIRE_VOLUME_HOLE);
		assert_int_equal(quire_volume_status(v, 0, 20 * BLOCK, 0, x, 2, NULL), 2);
		assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	}
	assert_int_equal(quire_volume_rollback(e->volumes, "a", "a@1"), 0);
	assert_int_equal(quire_volume_status(v, 0, BLOCK, 2, x, 8, NULL), -ESTALE);
	assert_int_equal(quire_volume_status(v, 0, BLOCK, 1, x, 8, NULL), 1);
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

static void blocks_know_what_they_are(void **state)
{
	(void)state;
	run(status);
}

/* ---- names ---- */

static void names(struct env *e, void *arg)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = BLOCK};
	struct quire_volume_info info;
	struct quire_volume *v;

	(void)arg;
	begin(e);
	assert_int_equal(quire_volume_create(e->volumes, "a", &o), -EEXIST);
	assert_int_equal(quire_volume_create(e->volumes, "a@b", &o), -EINVAL);
	assert_int_equal(quire_volume_create(e->volumes, "", &o), -EINVAL);
	o.size_bytes = 5000;
	assert_int_equal(quire_volume_create(e->volumes, "b", &o), -EINVAL);
	assert_int_equal(quire_volume_snapshot(e->volumes, "a", "b@1"), -EINVAL);
	assert_int_equal(quire_volume_snapshot(e->volumes, "b", "b@1"), -ENOENT);
	assert_int_equal(quire_volume_rm(e->volumes, "b"), -ENOENT);
	assert_int_equal(quire_volume_open(e->volumes, "b", &v), -ENOENT);
	assert_int_equal(quire_volume_ls(e->volumes, 0, &info), 1);
	assert_string_equal(info.name, "a");
	assert_int_equal(quire_volume_ls(e->volumes, info.id, &info), 0);
	assert_int_equal(env_close(e), 0);
}

static void names_are_looked_at(void **state)
{
	(void)state;
	run(names);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(parts_of_a_block_are_not_lost),
		cmocka_unit_test(it_is_there_when_opened_again),
		cmocka_unit_test(snapshots_and_clones_hold_what_they_began_with),
		cmocka_unit_test(removal_frees_what_only_it_had),
		cmocka_unit_test(what_was_cut_off_is_zeros),
		cmocka_unit_test(blocks_know_what_they_are),
		cmocka_unit_test(names_are_looked_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
