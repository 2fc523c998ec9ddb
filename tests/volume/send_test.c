/* Snapshots sent and received: whole and in part, cut off and gone on with, and what is refused. */
#include "stream_env.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct sim_faults faults = {.cut_ends_io = true};

static void run(void (*fn)(struct env *e, void *arg), void *arg, uint64_t seed)
{
	struct env e;

	env_init(&e, seed, ENV_UNITS, &faults);
	env_run(&e, fn, arg);
	env_fini(&e);
}

/* a@1, and a@2 with some of it changed, some discarded, and a part of a block written. */
static void begin_two(struct env *e)
{
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	assert_int_equal(put(v, 0, 90 * BLOCK, 1, 0), 0);
	assert_int_equal(put(v, 200 * BLOCK, 7 * BLOCK, 2, 0), 0);
	assert_int_equal(quire_volume_snapshot(e->volumes, "a", "a@1"), 0);
	assert_int_equal(put(v, 20 * BLOCK, 3 * BLOCK, 3, 0), 0);
	assert_int_equal(put(v, 300 * BLOCK + 512, 512, 4, 0), 0);
	assert_int_equal(quire_volume_discard(v, 50 * BLOCK, 10 * BLOCK, 0, NULL), 0);
	assert_int_equal(quire_volume_zero(v, 70 * BLOCK, 5 * BLOCK, QUIRE_VOLUME_NO_HOLE, NULL), 0);
	assert_int_equal(quire_volume_snapshot(e->volumes, "a", "a@2"), 0);
	quire_volume_close(v);
}

static unsigned n_volumes(struct env *e)
{
	struct quire_volume_info info = {.id = 0};
	unsigned n = 0;

	while (quire_volume_ls(e->volumes, info.id, &info) == 1)
		n++;
	return n;
}

/* ---- as it should be ---- */

static void whole_then_rest(struct env *e, void *arg)
{
	struct pipe_bytes one, two;

	(void)arg;
	begin_two(e);
	assert_int_equal(stream_send(e, "a@1", NULL, NULL, &one), 0);
	assert_int_equal(stream_send(e, "a@2", "a@1", NULL, &two), 0);
	assert_true(two.len < 20 * BLOCK); /* what is other, and no more */
	assert_int_equal(stream_receive(e, &one, "b"), 0);
	assert_true(is_same(e, "a@1", "b@1") && is_same(e, "a@1", "b"));
	assert_int_equal(stream_receive(e, &two, "b"), 0);
	for (unsigned round = 0; round < 2; round++) {
		assert_true(is_same(e, "a@1", "b@1") && is_same(e, "a@2", "b@2") && is_same(e, "a@2", "b"));
		assert_int_equal(n_volumes(e), 6);
		reopen(e);
	}
	/* What was received knows what has changed, and since when nobody can tell. */
	struct quire_volume *b = open_volume(e, "b"), *s = open_volume(e, "b@1");
	struct quire_volume_diff *d;
	struct quire_volume_extent x[8];
	assert_int_equal(quire_volume_diff_begin(s, b, 0, &d), 0);
	assert_int_equal(quire_volume_diff_next(d, x, 8), 4);
	assert_true(x[0].offset == 20 * BLOCK && x[1].offset == 50 * BLOCK && x[1].len_bytes == 10 * BLOCK);
	assert_true(x[2].kind == QUIRE_VOLUME_ZERO && x[3].offset == 300 * BLOCK && x[3].len_bytes == BLOCK);
	quire_volume_diff_end(d);
	assert_int_equal(put(b, 0, 512, 9, 0), 0); /* it is as any other */
	quire_volume_close(b);
	quire_volume_close(s);
	stream_free(&one);
	stream_free(&two);
	assert_int_equal(env_close(e), 0);
}

static void a_whole_stream_then_what_has_changed(void **state)
{
	(void)state;
	run(whole_then_rest, NULL, 1);
}

static void sizes(struct env *e, void *arg)
{
	static const uint64_t blocks[] = {3, 0, 400, 1};
	struct pipe_bytes s;
	char name[8] = "a@0", before[8] = "a@0", copy[8] = "b@0";

	(void)arg;
	begin(e);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(quire_volume_resize(e->volumes, "a", blocks[i] * BLOCK), 0);
		struct quire_volume *v = open_volume(e, "a");
		if (blocks[i] > 0)
			assert_int_equal(put(v, (blocks[i] - 1) * BLOCK, BLOCK, i + 1, 0), 0);
		quire_volume_close(v);
		name[2] = copy[2] = (char)('0' + i);
		assert_int_equal(quire_volume_snapshot(e->volumes, "a", name), 0);
		assert_int_equal(stream_send(e, name, i == 0 ? NULL : before, NULL, &s), 0);
		assert_int_equal(stream_receive(e, &s, "b"), 0);
		assert_true(is_same(e, name, copy) && is_same(e, name, "b"));
		stream_free(&s);
		before[2] = name[2];
	}
	assert_int_equal(env_close(e), 0);
}

static void sizes_change_as_well(void **state)
{
	(void)state;
	run(sizes, NULL, 2);
}

/* ---- to another store, and back ---- */

static struct pipe_bytes there[2], back;

static void send_two(struct env *e, void *arg)
{
	(void)arg;
	begin_two(e);
	assert_int_equal(stream_send(e, "a@1", NULL, NULL, &there[0]), 0);
	assert_int_equal(stream_send(e, "a@2", "a@1", NULL, &there[1]), 0);
	assert_int_equal(env_close(e), 0);
}

static void take_two(struct env *e, void *arg)
{
	struct pipe_bytes s;

	(void)arg;
	begin(e);
	assert_int_equal(stream_receive(e, &there[1], "b"), -ESTALE); /* no such volume */
	assert_int_equal(stream_receive(e, &there[1], "a"), -ESTALE); /* a volume, and not that snapshot */
	assert_int_equal(stream_receive(e, &there[0], "a"), -EEXIST);
	assert_int_equal(n_volumes(e), 1);
	assert_int_equal(stream_receive(e, &there[0], "b"), 0);
	assert_int_equal(stream_receive(e, &there[0], "b"), -EEXIST);
	reopen(e);
	assert_int_equal(stream_receive(e, &there[1], "b"), 0);
	/* b@2 is what a@2 is there, so what is made here goes back. */
	struct quire_volume *b = open_volume(e, "b");
	assert_int_equal(put(b, 400 * BLOCK, BLOCK, 77, 0), 0);
	quire_volume_close(b);
	assert_int_equal(quire_volume_snapshot(e->volumes, "b", "b@3"), 0);
	assert_int_equal(stream_send(e, "b@3", "b@2", NULL, &back), 0);
	/* But b@3 is nobody's else, though it has that of b@2 from it. */
	assert_int_equal(stream_send(e, "b@3", NULL, NULL, &s), 0);
	assert_int_equal(stream_receive(e, &s, "c"), 0);
	stream_free(&s);
	assert_int_equal(stream_send(e, "b@3", "b@2", NULL, &s), 0);
	assert_int_equal(stream_receive(e, &s, "c"), -EEXIST);
	stream_free(&s);
	assert_int_equal(env_close(e), 0);
}

static void take_back(struct env *e, void *arg)
{
	(void)arg;
	begin_two(e); /* of the same seed: it is the same store */
	assert_int_equal(stream_receive(e, &back, "a"), 0);
	struct quire_volume *a = open_volume(e, "a@3");
	assert_true(holds(a, 400 * BLOCK, BLOCK, 77));
	assert_true(is_same(e, "a", "a@3"));
	quire_volume_close(a);
	assert_int_equal(env_close(e), 0);
}

static void there_and_back(void **state)
{
	(void)state;
	run(send_two, NULL, 3);
	run(take_two, NULL, 4);
	run(take_back, NULL, 3);
	for (unsigned i = 0; i < 2; i++)
		stream_free(&there[i]);
	stream_free(&back);
}

/* ---- what is refused ---- */

static void not_as_it_was(struct env *e, void *arg)
{
	struct pipe_bytes one, two;
	struct quire_volume_receive_options drop = {.size = sizeof(drop), .snapshot = "x", .drop = true};

	(void)arg;
	begin_two(e);
	assert_int_equal(stream_send(e, "a", NULL, NULL, &one), -EINVAL); /* no snapshot */
	assert_int_equal(stream_send(e, "a@1", NULL, NULL, &one), 0);
	assert_int_equal(stream_send(e, "a@2", "a@1", NULL, &two), 0);
	assert_int_equal(stream_receive(e, &one, ".b"), -EINVAL);
	assert_int_equal(stream_receive(e, &one, "b"), 0);
	struct quire_volume *b = open_volume(e, "b");
	assert_int_equal(stream_receive(e, &two, "b"), -EBUSY); /* it is open */
	assert_int_equal(put(b, 512, 512, 5, 0), 0);
	quire_volume_close(b);
	assert_int_equal(quire_volume_rm(e->volumes, ".b"), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(stream_receive(e, &two, "b"), -EBUSY); /* it was written to */
		assert_int_equal(n_volumes(e), 5);
		assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	}
	two.at = 0;
	assert_int_equal(quire_volume_receive(e->volumes, "b", &drop, stream_get, &two, &e->err), 0);
	assert_true(is_same(e, "b@x", "a@2") && is_same(e, "b", "a@2"));
	stream_free(&one);
	stream_free(&two);
	assert_int_equal(env_close(e), 0);
}

static void what_was_written_here_is_not_lost(void **state)
{
	(void)state;
	run(not_as_it_was, NULL, 5);
}

/* Each byte of it: whatever it becomes, it is refused, and nothing is to be seen of it. */
static void every_byte(struct env *e, void *arg)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = 8 * BLOCK};
	struct pipe_bytes s;
	unsigned n;

	(void)arg;
	assert_int_equal(env_format(e), 0);
	assert_int_equal(env_open(e), 0);
	assert_int_equal(quire_volume_create(e->volumes, "a", &o), 0);
	struct quire_volume *v = open_volume(e, "a");
	assert_int_equal(put(v, BLOCK, BLOCK, 1, 0), 0);
	quire_volume_close(v);
	assert_int_equal(quire_volume_snapshot(e->volumes, "a", "a@1"), 0);
	assert_int_equal(stream_send(e, "a@1", NULL, NULL, &s), 0);
	n = n_volumes(e);
	for (size_t i = 0; i < s.len; i += i < 320 || i + 40 > s.len ? 1 : 97) { /* of the data, some */
		s.bytes[i] ^= (uint8_t)(1u << i % 8);
		int rc = stream_receive(e, &s, "b");
		assert_true(rc == -EUCLEAN || rc == -EBADMSG || rc == -ENOTSUP);
		s.bytes[i] ^= (uint8_t)(1u << i % 8);
		if (n_volumes(e) > n)
			assert_int_equal(quire_volume_rm(e->volumes, ".b"), 0);
		assert_int_equal(n_volumes(e), n);
	}
	assert_int_equal(stream_receive(e, &s, "b"), 0);
	assert_true(is_same(e, "a@1", "b@1"));
	stream_free(&s);
	assert_int_equal(env_close(e), 0);
}

static void a_changed_byte_is_refused(void **state)
{
	(void)state;
	run(every_byte, NULL, 6);
}

/* ---- cut off ---- */

static void cut_off(struct env *e, void *arg)
{
	char token[QUIRE_VOLUME_TOKEN_BYTES];
	struct pipe_bytes all, rest;
	unsigned n_resumed = 0;

	(void)arg;
	begin_two(e);
	assert_int_equal(quire_volume_receive_token(e->volumes, "b", token), -ENOENT);
	assert_int_equal(stream_send(e, "a@1", NULL, NULL, &all), 0);
	for (size_t stop = 1; stop < all.len; stop += 1 + all.len / 6) {
		all.stop = stop;
		assert_int_equal(stream_receive(e, &all, "b"), -EPIPE);
		if (quire_volume_receive_token(e->volumes, "b", token) == -ENOENT)
			continue; /* not even its head */
		struct quire_volume *v;
		assert_int_equal(quire_volume_open(e->volumes, ".b", &v), -EBUSY);
		assert_int_equal(quire_volume_clone(e->volumes, ".b", "c"), -EBUSY);
		if (stop % 2 == 0)
			reopen(e);
		assert_int_equal(stream_send(e, "a@2", NULL, token, &rest), -ESTALE);
		assert_int_equal(stream_send(e, "a@1", NULL, "00", &rest), -EBADMSG);
		assert_int_equal(stream_send(e, "a@1", NULL, token, &rest), 0);
		assert_true(rest.len <= all.len);
		n_resumed += rest.len < all.len;
		assert_int_equal(stream_receive(e, &rest, "c"), rest.len < all.len ? -ESTALE : 0); /* that has not what is before */
		if (rest.len == all.len) {
			assert_int_equal(quire_volume_rm(e->volumes, "c@1"), 0);
			assert_int_equal(quire_volume_rm(e->volumes, "c"), 0);
		}
		assert_int_equal(stream_receive(e, &rest, "b"), 0);
		assert_true(is_same(e, "a@1", "b@1"));
		assert_int_equal(quire_volume_rm(e->volumes, "b@1"), 0);
		assert_int_equal(quire_volume_rm(e->volumes, "b"), 0);
		stream_free(&rest);
	}
	assert_true(n_resumed > 1);
	/* Another stream does not go on with it. */
	all.stop = all.len - 1;
	assert_int_equal(stream_receive(e, &all, "b"), -EPIPE);
	assert_int_equal(stream_send(e, "a@2", NULL, NULL, &rest), 0);
	assert_int_equal(stream_receive(e, &rest, "b"), -EEXIST);
	assert_int_equal(quire_volume_rm(e->volumes, ".b"), 0);
	assert_int_equal(stream_receive(e, &rest, "b"), 0);
	assert_true(is_same(e, "a@2", "b@2"));
	stream_free(&rest);
	stream_free(&all);
	assert_int_equal(env_close(e), 0);
}

static void what_was_cut_off_goes_on(void **state)
{
	(void)state;
	run(cut_off, NULL, 7);
}

/* The power is cut somewhere while a stream is received: after that there is a whole snapshot, or none, and the rest may come. */
static void power(struct env *e, void *arg)
{
	uint64_t random = e->seed;
	char token[QUIRE_VOLUME_TOKEN_BYTES];
	struct pipe_bytes one, two, rest;
	struct quire_volume_info info;
	unsigned *n_cuts = arg;
	int rc;

	begin_two(e);
	assert_int_equal(stream_send(e, "a@1", NULL, NULL, &one), 0);
	assert_int_equal(stream_send(e, "a@2", "a@1", NULL, &two), 0);
	for (unsigned round = 0; round < 2; round++) {
		struct pipe_bytes *s = round == 0 ? &one : &two;
		sim_cut_at(e->sim, sim_n_events(e->sim) + random_next(&random) % 16, random_next(&random) % 4);
		rc = stream_receive(e, s, "b");
		bool was_cut = sim_is_cut(e->sim);
		assert_true(rc == 0 || was_cut);
		*n_cuts += was_cut;
		(void)env_close(e);
		sim_cut_at(e->sim, UINT64_MAX, 0);
		assert_int_equal(env_open(e), 0);
		bool there_is = quire_volume_find(e->volumes, round == 0 ? "b@1" : "b@2", &info) == 0;
		assert_true(there_is || rc != 0);
		if (!there_is && quire_volume_receive_token(e->volumes, "b", token) == 0) {
			assert_int_equal(stream_send(e, round == 0 ? "a@1" : "a@2", round == 0 ? NULL : "a@1", token, &rest), 0);
			assert_int_equal(stream_receive(e, &rest, "b"), 0);
			stream_free(&rest);
		} else if (!there_is) {
			assert_int_equal(stream_receive(e, s, "b"), 0);
		}
		assert_true(is_same(e, "a@1", "b@1") && is_same(e, "b", round == 0 ? "a@1" : "a@2"));
	}
	assert_true(is_same(e, "a@2", "b@2"));
	assert_int_equal(env_check(e, true), 0);
	stream_free(&one);
	stream_free(&two);
	assert_int_equal(env_close(e), 0);
}

static void a_power_cut_leaves_all_or_nothing(void **state)
{
	uint64_t seed = random_seed(), n = random_count(5, 1000);
	unsigned n_cuts = 0;

	(void)state;
	print_message("seed %llu\n", (unsigned long long)seed);
	for (uint64_t i = 0; i < n; i++)
		run(power, &n_cuts, seed + i);
	print_message("  %u cuts\n", n_cuts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_stream_then_what_has_changed),
		cmocka_unit_test(sizes_change_as_well),
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(what_was_written_here_is_not_lost),
		cmocka_unit_test(a_changed_byte_is_refused),
		cmocka_unit_test(what_was_cut_off_goes_on),
		cmocka_unit_test(a_power_cut_leaves_all_or_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
