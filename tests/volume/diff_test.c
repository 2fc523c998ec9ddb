/* What has changed: between any two volumes and snapshots, and since a generation; against a model that knows of each block which write
 * it was last hit by. */
#include "volume_env.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_BLOCKS 96u
#define N_OBJECTS 10u
#define TOLD_BLOCKS (VOLUME_BYTES / BLOCK)

static void run(void (*fn)(struct env *e, void *arg), void *arg, uint64_t seed)
{
	const struct sim_faults faults = {.cut_ends_io = true};
	struct env e;

	env_init(&e, seed, ENV_UNITS, &faults);
	env_run(&e, fn, arg);
	env_fini(&e);
}

/* Which blocks are told; each at most once, in order. */
static void collect(struct quire_volume *from, struct quire_volume *to, uint64_t since, unsigned step, bool ret[TOLD_BLOCKS])
{
	struct quire_volume_diff *d;
	struct quire_volume_extent x[8];
	uint64_t at = 0;
	int64_t n;

	memset(ret, 0, TOLD_BLOCKS);
	assert_int_equal(quire_volume_diff_begin(from, to, since, &d), 0);
	while ((n = quire_volume_diff_next(d, x, step)) > 0)
		for (int64_t i = 0; i < n; i++) {
			assert_true(x[i].offset >= at && x[i].len_bytes > 0);
			at = x[i].offset + x[i].len_bytes;
			assert_true(at <= quire_volume_bytes(to));
			for (uint64_t lba = x[i].offset / BLOCK; lba < at / BLOCK; lba++) {
				ret[lba] = true;
				assert_int_equal(holds(to, lba * BLOCK, BLOCK, 0), x[i].kind != QUIRE_VOLUME_DATA);
			}
		}
	assert_int_equal(n, 0);
	quire_volume_diff_end(d);
}

static bool is_exactly(struct quire_volume *from, struct quire_volume *to, uint64_t since, const char *want)
{
	bool told[TOLD_BLOCKS];

	collect(from, to, since, 8, told);
	for (unsigned i = 0; want[i] != 0; i++)
		if (told[i] != (want[i] == '*'))
			return false;
	return true;
}

/* ---- one thing at a time ---- */

static void between_snapshots(struct env *e, void *arg)
{
	(void)arg;
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	assert_int_equal(put(v, 0, 4 * BLOCK, 1, 0), 0);
	assert_int_equal(quire_volume_snapshot(e->volumes, "a", "a@1"), 0);
	assert_int_equal(put(v, BLOCK + 512, 512, 2, 0), 0); /* a part of a block changes it */
	assert_int_equal(quire_volume_discard(v, 3 * BLOCK, BLOCK, 0, NULL), 0);
	assert_int_equal(quire_volume_snapshot(e->volumes, "a", "a@2"), 0);
	assert_int_equal(put(v, 5 * BLOCK, BLOCK, 3, 0), 0);
	struct quire_volume *one = open_volume(e, "a@1"), *two = open_volume(e, "a@2");
	for (unsigned round = 0; round < 2; round++) { /* in deltas, then in pages */
		assert_true(is_exactly(one, two, 0, ".*.*...."));
		assert_true(is_exactly(two, one, 0, ".*.*...."));
		assert_true(is_exactly(two, v, 0, ".....*.."));
		assert_true(is_exactly(one, v, 0, ".*.*.*.."));
		assert_true(is_exactly(v, v, 0, "........"));
		assert_true(is_exactly(NULL, v, 1, ".*.*.*.."));
		assert_true(is_exactly(NULL, v, 2, ".....*.."));
		assert_true(is_exactly(NULL, v, 0, "***..*.."));
		assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	}
	quire_volume_close(one);
	quire_volume_close(two);
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

static void snapshots_are_compared(void **state)
{
	(void)state;
	run(between_snapshots, NULL, 5);
}

static void clones_and_strangers(struct env *e, void *arg)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = 8 * BLOCK};

	(void)arg;
	begin(e);
	struct quire_volume *a = open_volume(e, "a");
	assert_int_equal(put(a, 0, 4 * BLOCK, 1, 0), 0);
	assert_int_equal(quire_volume_clone(e->volumes, "a", "b"), 0);
	assert_int_equal(quire_volume_clone(e->volumes, "a", "c"), 0);
	struct quire_volume *b = open_volume(e, "b"), *c = open_volume(e, "c");
	assert_int_equal(put(b, 0, BLOCK, 2, 0), 0);
	assert_int_equal(put(c, BLOCK, BLOCK, 3, 0), 0);
	assert_true(is_exactly(b, c, 0, "**......"));
	assert_true(is_exactly(a, c, 0, ".*......"));
	/* What they come from is gone, and they know still. */
	quire_volume_close(a);
	assert_int_equal(quire_volume_rm(e->volumes, "a"), 0);
	assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	assert_true(is_exactly(b, c, 0, "**......"));
	assert_int_equal(quire_volume_create(e->volumes, "s", &o), 0);
	struct quire_volume *s = open_volume(e, "s");
	assert_int_equal(put(s, 6 * BLOCK, BLOCK, 1, 0), 0);
	assert_true(is_exactly(s, b, 0, "****..*."));
	/* Smaller meanwhile: what was there is other. */
	assert_int_equal(quire_volume_resize(e->volumes, "b", 2 * BLOCK), 0);
	assert_true(is_exactly(b, c, 0, "****"));
	assert_true(is_exactly(c, b, 0, "**"));
	quire_volume_close(b);
	quire_volume_close(c);
	quire_volume_close(s);
	assert_int_equal(env_close(e), 0);
}

static void clones_and_strangers_are_compared(void **state)
{
	(void)state;
	run(clones_and_strangers, NULL, 6);
}

static void refused(struct env *e, void *arg)
{
	struct quire_volume_diff *d;

	(void)arg;
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	assert_int_equal(quire_volume_snapshot(e->volumes, "a", "a@1"), 0);
	assert_int_equal(quire_volume_snapshot(e->volumes, "a", "a@2"), 0);
	assert_int_equal(quire_volume_rollback(e->volumes, "a", "a@1"), 0);
	assert_int_equal(quire_volume_diff_begin(NULL, v, 2, &d), -ESTALE);
	assert_int_equal(quire_volume_diff_begin(v, v, 1, &d), -EINVAL);
	assert_int_equal(quire_volume_snapshot(e->volumes, "a", "a@3"), 0);
	struct quire_volume_extent x;
	assert_int_equal(quire_volume_diff_begin(NULL, v, 4, &d), 0);
	assert_int_equal(quire_volume_diff_next(d, &x, 1), 0);
	assert_int_equal(quire_volume_rollback(e->volumes, "a", "a@1"), 0);
	assert_int_equal(quire_volume_diff_next(d, &x, 1), -ESTALE); /* left meanwhile */
	quire_volume_diff_end(d);
	assert_int_equal(quire_volume_diff_begin(NULL, v, 1, &d), 0);
	quire_volume_diff_end(d);
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

static void generations_that_were_left_are_refused(void **state)
{
	(void)state;
	run(refused, NULL, 7);
}

/* ---- random ---- */

struct object {
	bool there, snapshot;
	unsigned origin, family, n_blocks;
	uint64_t stamps[N_BLOCKS]; /* of the write that hit it last; 0: none */
	bool holes[N_BLOCKS];
};

struct model {
	struct object objects[N_OBJECTS];
	uint64_t random, next_stamp;
	unsigned n_families, n_compared;
};

static unsigned rnd(struct model *m, unsigned n)
{
	return (unsigned)(random_next(&m->random) % n);
}

static void name_of(const struct model *m, unsigned i, char name[64])
{
	const struct object *o = &m->objects[i];

	if (o->snapshot)
		(void)snprintf(name, 64, "o%u@s%u", o->origin, i);
	else
		(void)snprintf(name, 64, "o%u", i);
}

static struct quire_volume *open_object(struct env *e, const struct model *m, unsigned i)
{
	char name[64];

	name_of(m, i, name);
	return open_volume(e, name);
}

static void write_to(struct env *e, struct model *m, unsigned i)
{
	struct object *o = &m->objects[i];
	unsigned lba = rnd(m, o->n_blocks), n = 1 + rnd(m, 6);
	bool hole = rnd(m, 4) == 0;

	n = n < o->n_blocks - lba ? n : o->n_blocks - lba;
	struct quire_volume *v = open_object(e, m, i);
	if (hole)
		assert_int_equal(quire_volume_discard(v, lba * BLOCK, n * BLOCK, 0, NULL), 0);
	else
		assert_int_equal(put(v, lba * BLOCK, n * BLOCK, ++m->next_stamp, 0), 0);
	quire_volume_close(v);
	for (unsigned k = lba; k < lba + n; k++) {
		o->stamps[k] = ++m->next_stamp;
		o->holes[k] = hole;
	}
}

static void copy_object(struct env *e, struct model *m, unsigned from, bool snapshot)
{
	char name[64], other[64];
	unsigned to = 0;

	while (to < N_OBJECTS && m->objects[to].there)
		to++;
	if (to == N_OBJECTS)
		return;
	name_of(m, from, name);
	m->objects[to] = m->objects[from];
	m->objects[to].snapshot = snapshot;
	m->objects[to].origin = from;
	name_of(m, to, other);
	assert_int_equal(snapshot ? quire_volume_snapshot(e->volumes, name, other) : quire_volume_clone(e->volumes, name, other), 0);
}

static void resize(struct env *e, struct model *m, unsigned i)
{
	struct object *o = &m->objects[i];
	unsigned n = 1 + rnd(m, N_BLOCKS);
	char name[64];

	name_of(m, i, name);
	assert_int_equal(quire_volume_resize(e->volumes, name, n * BLOCK), 0);
	for (unsigned k = n; k < o->n_blocks; k++) {
		o->stamps[k] = ++m->next_stamp;
		o->holes[k] = true;
	}
	o->n_blocks = n;
}

static void remove_object(struct env *e, struct model *m, unsigned i)
{
	char name[64];

	for (unsigned k = 0; k < N_OBJECTS; k++)
		if (m->objects[k].there && m->objects[k].snapshot && m->objects[k].origin == i)
			return;
	name_of(m, i, name);
	assert_int_equal(quire_volume_rm(e->volumes, name), 0);
	m->objects[i] = (struct object){.there = false};
}

static void create(struct env *e, struct model *m)
{
	for (unsigned i = 0; i < N_OBJECTS; i++) {
		struct quire_volume_options o = {.size = sizeof(o), .size_bytes = N_BLOCKS * BLOCK};
		char name[64];
		if (m->objects[i].there)
			continue;
		m->objects[i] = (struct object){.there = true, .family = m->n_families++, .n_blocks = N_BLOCKS};
		for (unsigned k = 0; k < N_BLOCKS; k++)
			m->objects[i].holes[k] = true;
		name_of(m, i, name);
		assert_int_equal(quire_volume_create(e->volumes, name, &o), 0);
		return;
	}
}

/* The power is cut, after all was made durable: then nothing may be forgotten. */
static void cut(struct env *e, struct model *m, unsigned i)
{
	struct quire_volume *v = open_object(e, m, i);

	assert_int_equal(quire_volume_flush(v, NULL), 0);
	quire_volume_close(v);
	sim_cut_at(e->sim, sim_n_events(e->sim), rnd(m, 4));
	(void)env_close(e);
	sim_cut_at(e->sim, UINT64_MAX, 0);
	assert_int_equal(env_open(e), 0);
}

static void compare(struct env *e, struct model *m)
{
	unsigned a = rnd(m, N_OBJECTS), b = rnd(m, N_OBJECTS);
	const struct object *from = &m->objects[a], *to = &m->objects[b];
	bool told[TOLD_BLOCKS];

	if (!from->there || !to->there)
		return;
	struct quire_volume *x = open_object(e, m, a), *y = open_object(e, m, b);
	collect(x, y, 0, 1 + rnd(m, 8), told);
	for (unsigned k = 0; k < to->n_blocks; k++)
		assert_int_equal(told[k], from->family == to->family ? from->stamps[k] != to->stamps[k] : !from->holes[k] || !to->holes[k]);
	quire_volume_close(x);
	quire_volume_close(y);
	m->n_compared++;
}

static void step(struct env *e, struct model *m)
{
	unsigned i = rnd(m, N_OBJECTS), what = rnd(m, 60);
	const struct object *o = &m->objects[i];

	if (what < 2)
		create(e, m);
	else if (!o->there || what < 12)
		compare(e, m);
	else if (o->snapshot && what < 44) /* rarely */
		compare(e, m);
	else if (o->snapshot && what < 47) {
		char name[64], other[64];
		name_of(m, o->origin, name);
		name_of(m, i, other);
		assert_int_equal(quire_volume_rollback(e->volumes, name, other), 0);
		struct object *v = &m->objects[o->origin];
		memcpy(v->stamps, o->stamps, sizeof(v->stamps));
		memcpy(v->holes, o->holes, sizeof(v->holes));
		v->n_blocks = o->n_blocks;
	} else if (!o->snapshot && what < 44)
		write_to(e, m, i);
	else if (!o->snapshot && what < 47)
		resize(e, m, i);
	else if (what < 51)
		copy_object(e, m, i, !o->snapshot);
	else if (what < 53)
		copy_object(e, m, i, false);
	else if (what < 56)
		remove_object(e, m, i);
	else if (what < 58)
		assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	else if (what < 59)
		reopen(e);
	else
		cut(e, m, i);
}

static void random_life(struct env *e, void *arg)
{
	struct model *m = arg;

	assert_int_equal(env_format(e), 0);
	assert_int_equal(env_open(e), 0);
	create(e, m);
	for (unsigned i = 0; i < 400; i++)
		step(e, m);
	assert_int_equal(env_close(e), 0);
}

static void what_has_changed_is_exact(void **state)
{
	uint64_t seed = random_seed(), n = random_count(3, 500);
	unsigned n_compared = 0;

	(void)state;
	print_message("seed %llu\n", (unsigned long long)seed);
	for (uint64_t i = 0; i < n; i++) {
		struct model m = {.random = seed + i};
		run(random_life, &m, seed + i);
		n_compared += m.n_compared;
	}
	print_message("  %u comparisons\n", n_compared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(snapshots_are_compared),
		cmocka_unit_test(clones_and_strangers_are_compared),
		cmocka_unit_test(generations_that_were_left_are_refused),
		cmocka_unit_test(what_has_changed_is_exact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
