/* sim_faults_test.c - the simulated device fails, lies and forgets, each in its way, as often as told. */
#include "sim_env.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define HALF (UINT32_MAX / 2)
#define ALWAYS UINT32_MAX

static unsigned n_ok, n_failed;
static int error_now;

static void count(int rc)
{
	assert_true(rc == 0 || rc == error_now);
	n_ok += rc == 0;
	n_failed += rc != 0;
}

/* Runs fn on a device of these faults; counts from 0. */
static struct env with(const struct sim_faults *faults, uint64_t seed, int error, void (*fn)(struct env *e))
{
	struct env e = env_make(64, seed, faults);
	error_now = error;
	n_ok = n_failed = 0;
	env_run(&e, fn);
	return e;
}

/* ---- fails ---- */

static void read_often(struct env *e)
{
	for (unsigned i = 0; i < 1000; i++)
		count(device_read(e->device, 0, env_memory(0), BLOCK));
}

static void write_often(struct env *e)
{
	for (unsigned i = 0; i < 1000; i++)
		count(device_write(e->device, i % 8 * BLOCK, env_memory(0), BLOCK, i & 1));
}

static void flush_often(struct env *e)
{
	for (unsigned i = 0; i < 1000; i++)
		count(device_flush(e->device));
}

static void test_each_verb_fails_at_its_rate(void **state)
{
	const struct {
		struct sim_faults faults;
		int error;
		void (*fails)(struct env *e);
	} cases[] = {
		{{.eio_read = HALF}, -EIO, read_often},
		{{.eio_write = HALF}, -EIO, write_often},
		{{.eio_flush = HALF}, -EIO, flush_often},
		{{.enospc = HALF}, -ENOSPC, write_often},
	};
	void (*const all[])(struct env *e) = {read_often, write_often, flush_often};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned j = 0; j < 3; j++) {
			struct env e = with(&cases[i].faults, i, cases[i].error, all[j]);
			if (all[j] == cases[i].fails)
				assert_true(n_failed > 400 && n_ok > 400);
			else
				assert_int_equal(n_failed, 0);
			env_end(&e);
		}
	}
}

static void fail_to_overwrite(struct env *e)
{
	struct sim_faults none = {0}, fail = {.eio_write = ALWAYS};
	sim_set_faults(e->sim, &none);
	env_write(e, 5, 1, 1, true);
	sim_set_faults(e->sim, &fail);
	env_fill(env_memory(0), 1, 2);
	assert_int_equal(device_write(e->device, 5 * BLOCK, env_memory(0), BLOCK, true), -EIO);
}

static void test_a_failed_write_leaves_old_and_new_sectors(void **state)
{
	unsigned n_torn = 0;
	for (uint64_t seed = 0; seed < 100; seed++) {
		struct env e = with(NULL, seed, 0, fail_to_overwrite);
		int tags[BLOCK / SECTOR];
		env_tags(&e, 5, 1, tags);
		for (unsigned i = 0; i < BLOCK / SECTOR; i++)
			assert_in_range(tags[i], 1, 2);
		n_torn += env_one_tag(&e, 5, 1) == -2;
		sim_cut(e.sim, 0);
		assert_int_equal(env_one_tag(&e, 5, 1), 1); /* and promises nothing */
		env_end(&e);
	}
	assert_true(n_torn > 30);
}

/* After a flush that failed, one that did not. */
static void flush_twice(struct env *e)
{
	struct sim_faults none = {0}, fail = {.eio_flush = ALWAYS};
	for (unsigned i = 0; i < 32; i++)
		env_write(e, i, 1, 1, false);
	sim_set_faults(e->sim, &fail);
	assert_int_equal(device_flush(e->device), -EIO);
	struct env c = *e;
	assert_int_equal(sim_clone(e->sim, 0, &c.sim), 0);
	sim_cut(c.sim, 0);
	for (unsigned i = 0; i < 32; i++)
		n_ok += env_one_tag(&c, i, 1) == 1;
	sim_destroy(c.sim);
	sim_set_faults(e->sim, &none);
	env_flush(e);
}

static void test_a_failed_flush_forgets_some_for_ever(void **state)
{
	struct env e = with(NULL, 3, 0, flush_twice);
	unsigned n_kept_by_first = n_ok, n_kept = 0;
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(env_one_tag(&e, i, 1), 1); /* reads find all of it */
	sim_cut(e.sim, 0);
	for (unsigned i = 0; i < 32; i++)
		n_kept += env_one_tag(&e, i, 1) == 1;
	assert_true(n_kept_by_first > 0 && n_kept > n_kept_by_first && n_kept < 32);
	env_end(&e);
}

/* ---- lies ---- */

static void overwrite_all(struct env *e)
{
	for (unsigned i = 0; i < 32; i++)
		env_write(e, i, 1, 1 + i, true);
}

static void test_a_lost_write_says_done(void **state)
{
	struct sim_faults faults = {.lose = HALF};
	struct env e = with(&faults, 1, 0, overwrite_all);
	unsigned n_lost = 0;
	for (unsigned i = 0; i < 32; i++) {
		int tag = env_one_tag(&e, i, 1);
		assert_true(tag == 0 || tag == (int)i + 1);
		n_lost += tag == 0;
	}
	assert_true(n_lost > 5 && n_lost < 27);
	assert_int_equal(sim_n_damaged(e.sim), n_lost);
	env_end(&e);
}

static void write_one(struct env *e)
{
	env_write(e, 5, 2, 7, true);
}

static void test_a_misdirected_write_is_elsewhere(void **state)
{
	struct sim_faults faults = {.misdirect = ALWAYS};
	unsigned n_places = 0;
	bool seen[64] = {false};
	for (uint64_t seed = 0; seed < 100; seed++) {
		struct env e = with(&faults, seed, 0, write_one);
		unsigned at = 0;
		while (at < 63 && env_one_tag(&e, at, 2) != 7)
			at++;
		assert_true(at < 63 && at != 5);
		n_places += !seen[at];
		seen[at] = true;
		assert_int_equal(sim_n_damaged(e.sim), 1);
		env_end(&e);
	}
	assert_true(n_places > 20);
}

static void rot(struct env *e)
{
	struct sim_faults none = {0}, rotting = {.bit_rot = ALWAYS};
	unsigned char *first = env_memory(0), *again = env_memory(1), *was = env_memory(7);
	unsigned n_bits = 0;
	env_write(e, 5, 4, 1, true);
	sim_set_faults(e->sim, &rotting);
	assert_int_equal(device_read(e->device, 5 * BLOCK, first, 4 * BLOCK), 0);
	sim_set_faults(e->sim, &none);
	assert_int_equal(device_read(e->device, 5 * BLOCK, again, 4 * BLOCK), 0);
	assert_memory_equal(first, again, 4 * BLOCK);
	for (unsigned i = 0; i < 4 * BLOCK; i++)
		n_bits += (unsigned)__builtin_popcount(first[i] ^ was[i]);
	assert_int_equal(n_bits, 1);
}

static void test_a_bit_rots_for_good(void **state)
{
	struct env e = with(NULL, 1, 0, rot);
	unsigned char *rotten = env_memory(0), *left = env_memory(2);
	sim_cut(e.sim, 0);
	sim_peek(e.sim, 5 * BLOCK, left, 4 * BLOCK);
	assert_memory_equal(left, rotten, 4 * BLOCK);
	env_end(&e);
}

/* ---- full ---- */

static void fill_up(struct env *e)
{
	for (unsigned i = 0; i < 10; i++)
		env_write(e, 2 * i, 1, 1, i & 1);
	env_fill(env_memory(0), 4, 2);
	assert_int_equal(device_write(e->device, 40 * BLOCK, env_memory(0), BLOCK, true), -ENOSPC);
	env_write(e, 2, 1, 2, true); /* has its space */
	assert_int_equal(device_discard(e->device, 0, BLOCK), 0);
	assert_int_equal(device_discard(e->device, BLOCK, BLOCK), 0); /* nothing was there */
	/* One block fits, of four. */
	assert_int_equal(device_write(e->device, 40 * BLOCK, env_memory(0), 4 * BLOCK, true), -ENOSPC);
	assert_int_equal(env_one_tag(e, 40, 1), 2);
	assert_int_equal(env_one_tag(e, 41, 3), 0);
}

static void test_full_at_its_capacity(void **state)
{
	struct sim_faults faults = {.capacity_bytes = 10 * BLOCK};
	struct env e = with(&faults, 1, 0, fill_up);
	env_end(&e);
}

static void write_after_cut(struct env *e)
{
	for (unsigned i = 0; i < 5; i++)
		env_write(e, 30 + i, 1, 1, false);
	env_fill(env_memory(0), 1, 2);
	assert_int_equal(device_write(e->device, 40 * BLOCK, env_memory(0), BLOCK, true), -ENOSPC);
}

static void write_five_durable_five_not(struct env *e)
{
	for (unsigned i = 0; i < 10; i++)
		env_write(e, i, 1, 1, i < 5);
}

static void test_what_a_cut_took_takes_no_space(void **state)
{
	struct sim_faults faults = {.capacity_bytes = 10 * BLOCK};
	struct env e = with(&faults, 1, 0, write_five_durable_five_not);
	sim_cut(e.sim, 0);
	env_reopen(&e);
	env_run(&e, write_after_cut);
	env_end(&e);
}

/* ---- in parts, and never ---- */

static struct env_io io;

static void write_long(struct env *e)
{
	env_fill(env_memory(0), 32, 1);
	env_submit(e, &io, DEVICE_WRITE_DURABLE, 0, 32, env_memory(0));
	while (io.n_done == 0) {
		unsigned n = 0;
		while (n < 32 && env_one_tag(e, n, 1) == 1)
			n++;
		n_failed += n > 0 && n < 32; /* parts that were seen */
		assert_int_equal(quire_co_yield(), 0);
	}
	assert_int_equal(io.result, 0);
	assert_int_equal(env_one_tag(e, 0, 32), 1);
	memset(env_memory(1), 0, 32 * BLOCK);
	assert_int_equal(device_read(e->device, 0, env_memory(1), 32 * BLOCK), 0);
	assert_memory_equal(env_memory(0), env_memory(1), 32 * BLOCK);
}

static void test_short_transfers_are_continued(void **state)
{
	struct sim_faults faults = {.shorten = HALF, .max_delay_turns = 4};
	unsigned n_parts = 0;
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct env e = with(&faults, seed, 0, write_long);
		n_parts += n_failed;
		assert_int_equal(sim_n_events(e.sim), 1);
		env_end(&e);
	}
	assert_true(n_parts > 20);
}

static void submit_never(struct env *e)
{
	env_submit(e, &io, DEVICE_READ, 0, 1, env_memory(0));
}

static void test_some_io_never_ends(void **state)
{
	struct sim_faults faults = {.never = HALF};
	unsigned n_ended = 0;
	for (uint64_t seed = 0; seed < 100; seed++) {
		struct env e = with(&faults, seed, 0, submit_never);
		n_ended += io.n_done;
		env_end(&e);
	}
	assert_true(n_ended > 20 && n_ended < 80);
}

/* ---- who uses it ---- */

static void change_under_io(struct env *e)
{
	env_fill(env_memory(0), 1, 1);
	env_submit(e, &io, DEVICE_WRITE, 0, 1, env_memory(0));
	((char *)env_memory(0))[100] ^= 1;
}

static void test_memory_that_changes_under_io_ends_the_process(void **state)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		const struct rlimit no_core = {0};
		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		with(NULL, 1, 0, change_under_io);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_verb_fails_at_its_rate),
		cmocka_unit_test(test_a_failed_write_leaves_old_and_new_sectors),
		cmocka_unit_test(test_a_failed_flush_forgets_some_for_ever),
		cmocka_unit_test(test_a_lost_write_says_done),
		cmocka_unit_test(test_a_misdirected_write_is_elsewhere),
		cmocka_unit_test(test_a_bit_rots_for_good),
		cmocka_unit_test(test_full_at_its_capacity),
		cmocka_unit_test(test_what_a_cut_took_takes_no_space),
		cmocka_unit_test(test_short_transfers_are_continued),
		cmocka_unit_test(test_some_io_never_ends),
		cmocka_unit_test(test_memory_that_changes_under_io_ends_the_process),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
