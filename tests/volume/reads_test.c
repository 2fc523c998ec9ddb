/* reads_test.c - volumes, snapshots and clones of a process that died behind its last checkpoint: opened, read, compared, scrubbed, written and
 * checkpointed, as each read of the medium fails in its turn, or all from one on. Who asks is told, what is given out is right, and in the next life
 * all is there. */
#include "volume_env.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define N_BLOCKS 64u
#define N_NAMES 4u
#define NEW_BLOCK 60u /* what each life writes */
#define N_FAILURES 80u

static const char *const names[N_NAMES] = {"a", "a@1", "c", "r"};
static uint64_t content[N_NAMES][N_BLOCKS]; /* as put() has it */
static struct sim *left;                    /* by the process that died */
static struct failing failing;
static uint64_t n_refused, n_unread;
static uint64_t n_used; /* reads of the life up to the last that anybody waited for */

/* ---- what is left ---- */

static void write_some(struct env *e, unsigned name, unsigned from, unsigned step, uint64_t what)
{
	struct quire_volume *v = open_volume(e, names[name]);

	for (unsigned i = from; i < NEW_BLOCK; i += step) {
		content[name][i] = what + i;
		assert_int_equal(put(v, i * BLOCK, BLOCK, what + i, 0), 0);
	}
	assert_int_equal(quire_volume_flush(v, NULL), 0);
	quire_volume_close(v);
}

static void die(struct env *e, void *arg)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = N_BLOCKS * BLOCK}, reserved = o;

	(void)arg;
	reserved.reserve = true;
	assert_int_equal(env_format(e), 0);
	assert_int_equal(env_open(e), 0);
	assert_int_equal(quire_volume_create(e->volumes, "a", &o), 0);
	assert_int_equal(quire_volume_create(e->volumes, "r", &reserved), 0);
	write_some(e, 0, 0, 1, 1000);
	write_some(e, 3, 0, 3, 2000);
	assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	assert_int_equal(quire_volume_snapshot(e->volumes, "a", "a@1"), 0);
	memcpy(content[1], content[0], sizeof(content[0]));
	write_some(e, 0, 1, 2, 3000);
	assert_int_equal(quire_volume_clone(e->volumes, "a@1", "c"), 0);
	memcpy(content[2], content[1], sizeof(content[0]));
	write_some(e, 2, 0, 7, 4000);
	assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	write_some(e, 0, 3, 5, 5000);
	write_some(e, 2, 2, 11, 6000);
	assert_int_equal(sim_clone(e->sim, 1, &left), 0);
	assert_int_equal(env_close(e), 0);
}

/* ---- a life in which reads fail ---- */

/* How many blocks could not be read. */
static unsigned read_blocks(struct quire_volume *v, unsigned name)
{
	static uint8_t block[BLOCK], want[BLOCK];
	struct iovec iov = {block, BLOCK};
	unsigned n = 0;

	for (unsigned i = 0; i < N_BLOCKS; i++) {
		memset(want, 0, BLOCK);
		if (content[name][i] != 0)
			fill(want, BLOCK, content[name][i]);
		int rc = quire_volume_read(v, i * BLOCK, &iov, 1, NULL);
		assert_true(rc == 0 || rc == -EIO);
		if (rc == 0)
			assert_memory_equal(block, want, BLOCK);
		n += rc < 0;
	}
	return n;
}

static unsigned compare(struct quire_volume *from, struct quire_volume *to)
{
	struct quire_volume_extent x[8];
	struct quire_volume_diff *diff;
	int64_t rc = quire_volume_diff_begin(from, to, 0, &diff);

	if (rc == 0) {
		while ((rc = quire_volume_diff_next(diff, x, 8)) > 0)
			;
		quire_volume_diff_end(diff);
	}
	assert_true(rc == 0 || rc == -EIO);
	return rc < 0;
}

/* A whole block, and a part of one, of which the rest is read. What was not done may be there or not: it is asked. */
static void write_new(struct quire_volume *v)
{
	static uint8_t block[BLOCK];
	struct iovec iov = {block, 512};
	int rc = put(v, NEW_BLOCK * BLOCK, BLOCK, 7000, QUIRE_VOLUME_FUA);

	assert_int_equal(rc, 0);
	content[0][NEW_BLOCK] = 7000;
	fill(block, BLOCK, content[0][8]);
	rc = quire_volume_write(v, 8 * BLOCK, &iov, 1, QUIRE_VOLUME_FUA, NULL);
	assert_true(rc == 0 || rc == -EIO);
	n_unread += rc < 0;
}

static void use(struct env *e)
{
	struct quire_volume *all[N_NAMES];
	struct quire_volume_scrub scrub = {.size = sizeof(scrub), .len_bytes = N_BLOCKS * BLOCK};

	for (unsigned i = 0; i < N_NAMES; i++) {
		all[i] = open_volume(e, names[i]);
		n_unread += read_blocks(all[i], i);
	}
	n_unread += compare(all[1], all[0]);
	n_unread += compare(all[0], all[2]);
	int64_t rc = quire_volume_scrub(all[2], &scrub);
	assert_true(rc >= 0 || rc == -EIO);
	n_unread += rc != 0;
	write_new(all[0]);
	for (unsigned i = 0; i < N_NAMES; i++)
		quire_volume_close(all[i]);
	rc = quire_volumes_checkpoint(e->volumes);
	assert_true(rc == 0 || rc == -EIO);
	n_unread += rc < 0;
}

static void live(struct env *e, void *arg)
{
	int rc = env_open(e);

	(void)arg;
	if (rc < 0) {
		if (rc != -EIO || e->err.text[0] == '\0')
			fail_msg("%d, %s", rc, e->err.text);
		n_refused++;
		return;
	}
	use(e);
	n_unread += env_check(e, false) != 0;
	n_used = atomic_load(&failing.n_ios);
	rc = env_close(e);
	assert_true(rc == 0 || rc == -EIO);
	n_unread += rc < 0;
}

/* The next life: everything. */
static void look(struct env *e, void *arg)
{
	(void)arg;
	assert_int_equal(env_open(e), 0);
	for (unsigned i = 0; i < N_NAMES; i++) {
		struct quire_volume *v = open_volume(e, names[i]);
		assert_int_equal(read_blocks(v, i), 0);
		quire_volume_close(v);
	}
	assert_int_equal(env_check(e, true), 0);
	assert_int_equal(env_close(e), 0);
}

/* ---- the test ---- */

static uint64_t one_life(void *arg, uint64_t n, bool lasting)
{
	struct env *e = arg;
	uint64_t n_told = n_refused + n_unread;

	n_used = UINT64_MAX;
	content[0][NEW_BLOCK] = 0;
	assert_int_equal(sim_clone(left, 1, &e->sim), 0);
	failing_begin(&failing, 1u << DEVICE_READ, n, lasting);
	env_run(e, live, NULL);
	uint64_t n_ios = atomic_load(&failing.n_ios);
	assert_int_equal(failing_end(&failing), n != 0);
	/* What failed once may be read again; nothing else is told. */
	if (n == 0)
		assert_int_equal(n_refused + n_unread, n_told);
	else
		assert_true(!lasting || n > n_used || n_refused + n_unread > n_told);
	env_run(e, look, NULL);
	sim_destroy(e->sim);
	e->sim = NULL;
	return n_ios;
}

static void each_read_fails(void **state)
{
	static const struct sim_faults faults = {.cut_ends_io = true};
	struct env e;

	(void)state;
	env_init(&e, 1, ENV_UNITS, &faults);
	e.failing = &failing;
	env_run(&e, die, NULL);
	sim_destroy(e.sim);
	failing_each(&(struct failing_sweep){.play = one_life, .arg = &e, .n_quick = N_FAILURES});
	assert_true(n_refused > 0 && n_unread > 0);
	sim_destroy(left);
	env_fini(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_read_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
