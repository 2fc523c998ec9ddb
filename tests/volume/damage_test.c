/* Damage: an error for what it is in, and for nothing else. */
#include "volume_env.h"

#include <errno.h>
#include <string.h>

#define N_BLOCKS 100u

/* Flips a bit of each block on the medium that begins with these bytes: how many. */
static unsigned damage(struct env *e, uint64_t first_word)
{
	uint8_t block[BLOCK];
	unsigned n = 0;

	for (uint64_t unit = 0; unit < ENV_UNITS; unit++) {
		sim_peek(e->sim, unit * BLOCK, block, BLOCK);
		if (memcmp(block, &first_word, sizeof(first_word)) != 0)
			continue;
		block[2000] ^= 8;
		sim_poke(e->sim, unit * BLOCK, block, BLOCK);
		n++;
	}
	return n;
}

static int read_block(struct quire_volume *v, uint64_t k)
{
	uint8_t block[BLOCK];
	struct iovec iov = {block, BLOCK};

	return quire_volume_read(v, k * BLOCK, &iov, 1, NULL);
}

static void damage_a_block(struct env *e, void *arg)
{
	(void)arg;
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	for (uint64_t k = 0; k < N_BLOCKS; k++)
		assert_int_equal(put(v, k * BLOCK, BLOCK, k + 1, 0), 0);
	assert_int_equal(quire_volumes_checkpoint(e->volumes), 0); /* what is before it is sealed */
	quire_volume_close(v);
	reopen(e);
	assert_int_equal(damage(e, 8 * 0x9e3779b97f4a7c15u), 1);
	v = open_volume(e, "a");
	for (uint64_t k = 0; k < N_BLOCKS; k++)
		assert_int_equal(read_block(v, k), k == 7 ? -EBADMSG : 0);
	assert_int_equal(env_check(e, false), 1);
	/* It is whole again when it is written again. */
	assert_int_equal(put(v, 7 * BLOCK, BLOCK, 5, 0), 0);
	assert_true(holds(v, 7 * BLOCK, BLOCK, 5));
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

static void a_damaged_block_is_an_error_by_itself(void **state)
{
	struct env e;

	(void)state;
	env_init(&e, 5, ENV_UNITS, NULL);
	env_run(&e, damage_a_block, NULL);
	env_fini(&e);
}

/* A page of the map: all that is looked up by it, and nothing else. */
static void damage_a_page(struct env *e, void *arg)
{
	uint8_t block[BLOCK];
	unsigned n = 0;

	(void)arg;
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	assert_int_equal(put(v, 0, 40 * BLOCK, 1, 0), 0);
	assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	assert_int_equal(put(v, 100 * BLOCK, 40 * BLOCK, 2, QUIRE_VOLUME_FUA), 0); /* it is in a segment that is sealed then */
	quire_volume_close(v);
	reopen(e);
	for (uint64_t unit = 0; unit < ENV_UNITS; unit++) {
		sim_peek(e->sim, unit * BLOCK, block, BLOCK);
		if (memcmp(block + 4, "QvmN", 4) != 0)
			continue;
		block[60] ^= 1;
		sim_poke(e->sim, unit * BLOCK, block, BLOCK);
		n++;
	}
	assert_int_equal(n, 1);
	v = open_volume(e, "a");
	int rc = read_block(v, 3);
	assert_int_equal(rc, -EBADMSG);
	assert_int_equal(read_block(v, 100), 0); /* it is not in a page yet */
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

static void a_damaged_page_is_an_error_for_what_it_has(void **state)
{
	struct env e;

	(void)state;
	env_init(&e, 6, ENV_UNITS, NULL);
	env_run(&e, damage_a_page, NULL);
	env_fini(&e);
}

/* What says that a segment is sealed is no more: neither are its checksums of any use then. */
static void damage_footers(struct env *e, void *arg)
{
	uint8_t block[BLOCK];
	unsigned n = 0, n_bad = 0;

	(void)arg;
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	for (uint64_t k = 0; k < N_BLOCKS; k++)
		assert_int_equal(put(v, k * BLOCK, BLOCK, k + 1, 0), 0);
	assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
	for (uint64_t unit = 0; unit < ENV_UNITS; unit++) {
		sim_peek(e->sim, unit * BLOCK, block, BLOCK);
		if (memcmp(block, "QuireEnd", 8) != 0)
			continue;
		sim_poke(e->sim, unit * BLOCK, "none", 4);
		n++;
	}
	assert_true(n > 0);
	assert_int_equal(env_open(e), 0);
	v = open_volume(e, "a");
	for (uint64_t k = 0; k < N_BLOCKS; k++) {
		int rc = read_block(v, k);
		assert_true(rc == 0 || rc == -EBADMSG);
		n_bad += rc != 0;
	}
	assert_true(n_bad > 0);
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

static void a_damaged_footer_is_damage_to_who_reads(void **state)
{
	struct env e;

	(void)state;
	env_init(&e, 8, ENV_UNITS, NULL);
	env_run(&e, damage_footers, NULL);
	env_fini(&e);
}

struct findings {
	unsigned n;
	uint64_t offset, len_bytes, done_bytes, all_bytes;
	int error;
};

static void found(void *arg, uint64_t offset, uint64_t len_bytes, int error)
{
	struct findings *f = arg;

	f->n++;
	f->offset = offset;
	f->len_bytes = len_bytes;
	f->error = error;
}

static int advance(void *arg, uint64_t done_bytes, uint64_t all_bytes)
{
	struct findings *f = arg;

	assert_true(done_bytes > f->done_bytes && done_bytes <= all_bytes);
	f->done_bytes = done_bytes;
	f->all_bytes = all_bytes;
	return 0;
}

static int refuse(void *arg, uint64_t done_bytes, uint64_t all_bytes)
{
	(void)arg;
	(void)done_bytes;
	(void)all_bytes;
	return -ECANCELED;
}

static void scrub_one(struct env *e, const char *name, int64_t n_damaged, struct findings *f)
{
	struct quire_volume_scrub o = {.size = sizeof(o), .damaged = found, .progress = advance, .arg = f};
	struct quire_volume *v = open_volume(e, name);

	*f = (struct findings){0};
	assert_int_equal(quire_volume_scrub(v, &o), n_damaged);
	assert_true(f->done_bytes == VOLUME_BYTES && f->all_bytes == VOLUME_BYTES);
	o.progress = refuse;
	assert_int_equal(quire_volume_scrub(v, &o), -ECANCELED);
	quire_volume_close(v);
}

/* In the volume and in its snapshot, where it is; not in one that has something else there. */
static void scrub_all(struct env *e, void *arg)
{
	struct findings f;

	(void)arg;
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	for (uint64_t k = 0; k < N_BLOCKS; k++)
		assert_int_equal(put(v, k * BLOCK, BLOCK, k + 1, 0), 0);
	assert_int_equal(quire_volume_snapshot(e->volumes, "a", "a@1"), 0);
	assert_int_equal(quire_volume_clone(e->volumes, "a@1", "c"), 0);
	struct quire_volume *c = open_volume(e, "c");
	assert_int_equal(put(c, 5 * BLOCK, 20 * BLOCK, 500, 0), 0);
	quire_volume_close(c);
	quire_volume_close(v);
	assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	reopen(e);
	assert_int_equal(damage(e, 8 * 0x9e3779b97f4a7c15u) + damage(e, 9 * 0x9e3779b97f4a7c15u), 2);
	scrub_one(e, "a", 2 * BLOCK, &f);
	assert_true(f.n == 1 && f.offset == 7 * BLOCK && f.len_bytes == 2 * BLOCK && f.error == -EBADMSG);
	scrub_one(e, "a@1", 2 * BLOCK, &f);
	assert_true(f.n == 1 && f.offset == 7 * BLOCK && f.len_bytes == 2 * BLOCK);
	scrub_one(e, "c", 0, &f);
	assert_int_equal(f.n, 0);
	assert_int_equal(env_close(e), 0);
}

static void scrubbing_tells_what_is_damaged_of_whom(void **state)
{
	struct env e;

	(void)state;
	env_init(&e, 7, ENV_UNITS, NULL);
	env_run(&e, scrub_all, NULL);
	env_fini(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_damaged_block_is_an_error_by_itself),
		cmocka_unit_test(a_damaged_page_is_an_error_for_what_it_has),
		cmocka_unit_test(a_damaged_footer_is_damage_to_who_reads),
		cmocka_unit_test(scrubbing_tells_what_is_damaged_of_whom),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
