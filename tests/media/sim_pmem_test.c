/* sim_pmem_test.c - simulated persistent memory: what a cut leaves of lines, what the shadow's account says. */
#include "sim_env.h"
#include "../../src/media/sim_internal.h"

#include <errno.h>
#include <string.h>

#define N_CHOICES 400u
#define LINE DEVICE_LINE_BYTES
#define WORD DEVICE_STORE_BYTES

static struct env e;
static struct sim_medium *m; /* of e.sim */

static int set_up(void **state)
{
	struct quire_loop_options opts = {.size = sizeof(opts), .engine = QUIRE_ENGINE_THREADS, .n_threads = 1};

	(void)state;
	assert_int_equal(quire_loop_create(&opts, &e.loop, NULL), 0);
	assert_int_equal(sim_create_pmem(64 * BLOCK, 3, NULL, &e.sim), 0);
	assert_int_equal(sim_open(e.sim, NULL, &e.device), 0);
	m = &e.sim->medium;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	sim_check(e.sim);
	env_end(&e);
	return 0;
}

static const unsigned char *bytes_of(int tag)
{
	static unsigned char bytes[4 * BLOCK] __attribute__((aligned(BLOCK)));

	memset(bytes, tag, sizeof(bytes));
	return bytes;
}

static struct sim_shadow shadow(void)
{
	struct sim_shadow s;

	sim_shadow_get(e.sim, &s);
	return s;
}

/* ---- what a cut leaves of two lines ---- */

struct left {
	unsigned n_old, n_new, n_torn; /* of lines */
	unsigned n_of[2][2];           /* whole lines: first new, second new */
};

/* Of the words of a line, how many have the tag; all others must be zeros. */
static unsigned n_words(const struct sim *s, uint64_t offset, int tag)
{
	static const unsigned char zeros[WORD];
	unsigned char line[LINE];
	unsigned n = 0;

	sim_peek(s, offset, line, LINE);
	for (unsigned i = 0; i < LINE; i += WORD) {
		bool is_new = memcmp(line + i, bytes_of(tag), WORD) == 0;
		assert_true(is_new || memcmp(line + i, zeros, WORD) == 0);
		n += is_new;
	}
	return n;
}

static struct left cut_all(uint64_t offset)
{
	struct left left = {0};

	for (uint64_t choice = 0; choice < N_CHOICES; choice++) {
		struct sim *c;
		unsigned n[2];
		assert_int_equal(sim_clone(e.sim, choice, &c), 0);
		sim_cut(c, choice);
		sim_check(c);
		for (unsigned i = 0; i < 2; i++) {
			n[i] = n_words(c, offset + i * LINE, 7);
			left.n_old += n[i] == 0;
			left.n_new += n[i] == LINE / WORD;
			left.n_torn += n[i] % (LINE / WORD) != 0;
		}
		if (n[0] % (LINE / WORD) == 0 && n[1] % (LINE / WORD) == 0)
			left.n_of[n[0] != 0][n[1] != 0]++;
		sim_destroy(c);
	}
	return left;
}

static void expect_anything(uint64_t offset)
{
	struct left left = cut_all(offset);

	assert_true(left.n_old > 40 && left.n_new > 40 && left.n_torn > 40);
	assert_true(left.n_of[0][0] > 10 && left.n_of[0][1] > 10 && left.n_of[1][0] > 10 && left.n_of[1][1] > 10);
}

static void test_stored_may_be_lost_kept_or_torn(void **state)
{
	lines_store(m, 4096, bytes_of(7), 2 * LINE);
	assert_int_equal(n_words(e.sim, 4096, 7), LINE / WORD);
	expect_anything(4096);
}

static void test_flushed_and_not_fenced_the_same(void **state)
{
	lines_store(m, 4096, bytes_of(7), 2 * LINE);
	lines_flush(m, 4096, 2 * LINE);
	expect_anything(4096);
}

static void test_stored_past_the_caches_and_not_fenced_the_same(void **state)
{
	lines_store_past(m, 4096, bytes_of(7), 2 * LINE);
	expect_anything(4096);
}

static void test_fenced_without_a_flush_the_same(void **state)
{
	lines_store(m, 4096, bytes_of(7), 2 * LINE);
	lines_fence(m);
	expect_anything(4096);
}

static void test_flushed_and_fenced_stays(void **state)
{
	lines_store(m, 4096, bytes_of(7), 2 * LINE);
	lines_flush(m, 4096, 2 * LINE);
	lines_fence(m);
	assert_int_equal(cut_all(4096).n_new, 2 * N_CHOICES);
}

static void test_a_copy_that_is_fenced_stays(void **state)
{
	lines_copy(m, 4096 - 24, bytes_of(7), 24 + 2 * LINE + 16);
	lines_fence(m);
	assert_int_equal(cut_all(4096).n_new, 2 * N_CHOICES);
}

static void test_what_was_fenced_stays_beside_a_store_in_its_line(void **state)
{
	lines_copy(m, 4096, bytes_of(7), 2 * LINE - WORD);
	lines_fence(m);
	lines_store(m, 4096 + 2 * LINE - WORD, bytes_of(7), WORD);
	struct left left = cut_all(4096);
	assert_int_equal(left.n_old, 0);
	assert_int_equal(left.n_new + left.n_torn, 2 * N_CHOICES);
	assert_true(left.n_torn > 40 && left.n_new > N_CHOICES + 40);
}

/* ---- the account, of mistakes ---- */

static unsigned char rotten[BLOCK] __attribute__((aligned(BLOCK)));

static void read_what_rots(struct env *env)
{
	struct sim_faults rotting = {.bit_rot = UINT32_MAX};

	sim_set_faults(env->sim, &rotting);
	assert_int_equal(device_read(env->device, 0, rotten, BLOCK), 0);
}

static void test_a_bit_rots_for_good(void **state)
{
	unsigned char left[BLOCK];
	unsigned n_bits = 0;

	(void)state;
	/* What is durable, and, in the same block, what is not. */
	lines_copy(m, 0, bytes_of(1), BLOCK);
	lines_fence(m);
	lines_store(m, LINE, bytes_of(1), WORD);
	env_run(&e, read_what_rots);
	sim_check(e.sim);
	sim_cut(e.sim, 1);
	sim_peek(e.sim, 0, left, BLOCK);
	assert_memory_equal(left, rotten, BLOCK);
	for (unsigned i = 0; i < BLOCK; i++)
		n_bits += (unsigned)__builtin_popcount(left[i] ^ 1);
	assert_int_equal(n_bits, 1);
}

static void test_a_missing_flush_is_counted(void **state)
{
	lines_store(m, 4096, bytes_of(7), 3 * LINE);
	lines_flush(m, 4096, LINE);
	lines_flush(m, 4096 + 2 * LINE, LINE);
	lines_fence(m);
	lines_claim(m, 4096, 3 * LINE);
	assert_int_equal(shadow().n_missing_bytes, LINE);
	assert_int_equal(shadow().missing_at, 4096 + LINE);
}

static void test_a_missing_fence_is_counted(void **state)
{
	lines_copy(m, 4096, bytes_of(7), 3 * LINE);
	lines_claim(m, 4096 + LINE, LINE);
	assert_int_equal(shadow().n_missing_bytes, LINE);
	lines_claim_all(m);
	assert_int_equal(shadow().n_missing_bytes, 4 * LINE);
	assert_int_equal(shadow().missing_at, 4096);
}

static void test_a_store_after_the_flush_is_missing(void **state)
{
	lines_store(m, 4096, bytes_of(7), LINE);
	lines_flush(m, 4096, LINE);
	lines_store(m, 4096 + 16, bytes_of(8), WORD);
	lines_fence(m);
	lines_claim(m, 4096, LINE);
	assert_int_equal(shadow().n_missing_bytes, WORD);
	assert_int_equal(shadow().missing_at, 4096 + 16);
}

static void test_flushes_for_nothing_are_counted(void **state)
{
	lines_flush(m, 8192, 1); /* was never stored */
	assert_int_equal(shadow().n_wasted_flushes, 1);
	assert_int_equal(shadow().wasted_at, 8192);
	lines_store(m, 4096, bytes_of(7), LINE);
	lines_flush(m, 4096, LINE);
	lines_flush(m, 4096, LINE); /* twice */
	assert_int_equal(shadow().n_wasted_flushes, 2);
	lines_fence(m);
	lines_flush(m, 4096, 2 * LINE); /* long durable */
	assert_int_equal(shadow().n_wasted_flushes, 4);
	lines_store_past(m, 4096, bytes_of(8), LINE);
	lines_flush(m, 4096, LINE); /* needs none */
	assert_int_equal(shadow().n_wasted_flushes, 5);
	assert_int_equal(shadow().n_missing_bytes, 0);
}

static void test_fences_for_nothing_are_counted(void **state)
{
	lines_fence(m);
	assert_int_equal(shadow().n_wasted_fences, 1);
	lines_copy(m, 4096, bytes_of(7), 8);
	lines_fence(m);
	lines_fence(m);
	assert_int_equal(shadow().n_wasted_fences, 2);
	assert_int_equal(shadow().n_fences, 3);
}

static void test_a_copy_flushes_parts_of_lines_only(void **state)
{
	lines_copy(m, 4096 - 24, bytes_of(7), 24 + 2 * LINE + 16);
	lines_fence(m);
	lines_claim(m, 4096 - 24, 24 + 2 * LINE + 16);
	assert_int_equal(shadow().n_stored_bytes, 24 + 2 * LINE + 16);
	assert_int_equal(shadow().n_flushed_lines, 2);
	assert_int_equal(shadow().n_missing_bytes, 0);
	assert_int_equal(shadow().n_wasted_flushes, 0);
}

/* ---- the device ---- */

static struct env_io ios[6];

static void submit(unsigned i, enum device_verb verb, uint64_t offset, uint64_t len_bytes)
{
	env_submit(&e, &ios[i], verb, 0, 0, NULL);
	assert_int_equal(quire_loop_run(e.loop), 0);
	ios[i].io.offset = offset;
	ios[i].io.len_bytes = len_bytes;
	ios[i].io.buf = (void *)(uintptr_t)bytes_of(7);
	ios[i].n_done = 0;
}

static void resubmit_all(struct env *env)
{
	for (unsigned i = 0; i < 6; i++)
		device_submit(env->device, env->loop, &ios[i].io);
}

static void prepare_writes(void)
{
	for (unsigned i = 0; i < 6; i++)
		submit(i, i % 2 == 0 ? DEVICE_WRITE_DURABLE : DEVICE_WRITE, 4096 + 24 * i, 24);
}

static void test_writes_of_a_turn_share_a_fence(void **state)
{
	prepare_writes();
	struct sim_shadow old = shadow();
	env_run(&e, resubmit_all);
	for (unsigned i = 0; i < 6; i++)
		assert_true(ios[i].n_done == 1 && ios[i].result == 0);
	assert_int_equal(shadow().n_fences - old.n_fences, 1);
	assert_int_equal(shadow().n_stored_bytes - old.n_stored_bytes, 6 * 24);
	assert_int_equal(shadow().n_missing_bytes, 0);
	assert_int_equal(cut_all(4096).n_new, 2 * N_CHOICES);
}

/* Six copies and a fence: seven events. Who was told has his bytes. */
static void test_a_cut_within_a_batch_tells_nobody(void **state)
{
	static const struct sim_faults ends = {.cut_ends_io = true};

	sim_set_faults(e.sim, &ends);
	prepare_writes();
	for (uint64_t at = 0; at < 7; at++) {
		sim_cut_at(e.sim, sim_n_events(e.sim) + at, 2 + at);
		env_run(&e, resubmit_all);
		assert_true(sim_is_cut(e.sim));
		for (unsigned i = 0; i < 6; i++)
			assert_int_equal(ios[i].result, -EIO);
		assert_true(n_words(e.sim, 4096, 7) <= LINE / WORD);
		assert_int_equal(shadow().n_missing_bytes, 0);
		env_reopen(&e);
	}
}

static void read_and_write_words(struct env *env)
{
	unsigned char buf[24] __attribute__((aligned(8)));

	assert_int_equal(device_write(env->device, 4096 + 8, bytes_of(7), 24, true), 0);
	assert_int_equal(device_read(env->device, 4096 + 8, buf, 24), 0);
	assert_memory_equal(buf, bytes_of(7), 24);
	assert_int_equal(device_read(env->device, 4096, buf, 8), 0);
	assert_int_equal(buf[0], 0);
	assert_int_equal(device_read(env->device, 4096 + 4, buf, 8), -EINVAL);
	assert_int_equal(device_write(env->device, 4096, bytes_of(7), 12, true), -EINVAL);
	assert_int_equal(device_write(env->device, 4096, bytes_of(7) + 4, 8, true), -EINVAL);
	assert_int_equal(device_discard(env->device, 8, BLOCK), -EINVAL);
	assert_int_equal(device_discard(env->device, BLOCK, BLOCK), 0);
	assert_int_equal(device_flush(env->device), 0);
}

static void test_multiples_of_eight_bytes(void **state)
{
	assert_int_equal(e.device->medium, DEVICE_MEDIUM_PMEM);
	assert_int_equal(e.device->align_bytes, 8);
	assert_int_equal(e.device->granularity_bytes, LINE);
	env_run(&e, read_and_write_words);
}

static void test_what_is_written_now_is_fenced(void **state)
{
	struct sim_shadow old = shadow();

	assert_int_equal(device_write_now(e.device, 4096 + 8, bytes_of(7), 24), 0);
	assert_int_equal(shadow().n_fences - old.n_fences, 1);
	assert_int_equal(shadow().n_stored_bytes - old.n_stored_bytes, 24);
	assert_int_equal(device_write_now(e.device, 4096 + 4, bytes_of(7), 24), -EINVAL);
	assert_int_equal(device_write_now(e.device, 4096, bytes_of(7), 0), 0);
	assert_int_equal(shadow().n_missing_bytes + shadow().n_wasted_fences + shadow().n_wasted_flushes, 0);
}

/* A copy and a fence. What is told to have failed may be there, whole or in part. */
static void test_a_cut_fails_what_is_written_now(void **state)
{
	for (uint64_t at = 0; at < 2; at++) {
		unsigned n_there = 0;
		for (uint64_t choice = 1; choice < 40; choice++) {
			sim_cut_at(e.sim, sim_n_events(e.sim) + at, choice);
			assert_int_equal(device_write_now(e.device, 8192 + 64 * choice, bytes_of(7), 64), -EIO);
			assert_true(sim_is_cut(e.sim));
			assert_int_equal(device_write_now(e.device, 4096, bytes_of(7), 64), -EIO);
			env_reopen(&e);
			n_there += n_words(e.sim, 8192 + 64 * choice, 7);
		}
		assert_in_range(n_there, 1, 39 * LINE / WORD - 1);
	}
	assert_int_equal(n_words(e.sim, 4096, 7), 0);
	assert_int_equal(shadow().n_missing_bytes, 0);
}

/* Where I/O may be late, some are to be submitted. */
static void test_not_all_are_written_now(void **state)
{
	static const struct sim_faults late = {.max_delay_turns = 2};
	unsigned n_now = 0;

	sim_set_faults(e.sim, &late);
	for (unsigned i = 0; i < 100; i++) {
		int rc = device_write_now(e.device, 4096, bytes_of(7), 8);
		assert_true(rc == 0 || rc == -EAGAIN);
		n_now += rc == 0;
	}
	assert_in_range(n_now, 20, 80);
}

static void test_a_process_that_dies_loses_nothing(void **state)
{
	lines_store(m, 4096, bytes_of(7), 2 * LINE);
	env_reopen(&e);
	assert_int_equal(n_words(e.sim, 4096, 7) + n_words(e.sim, 4096 + LINE, 7), 2 * LINE / WORD);
}

/* ---- a mapping of it ---- */

static void write_under_a_pointer(struct env *env)
{
	const unsigned char *at = device_borrow(env->device, 3 * BLOCK + 8, 2 * BLOCK);

	assert_non_null(at);
	assert_int_equal(at[0], 0);
	assert_int_equal(device_write(env->device, 3 * BLOCK + 16, bytes_of(6), 64, true), 0);
	assert_int_equal(at[0], 0);
	assert_memory_equal(at + 8, bytes_of(6), 64);
	sim_poke(env->sim, 4 * BLOCK, "damage", 6);
	assert_memory_equal(at + BLOCK - 8, "damage", 6);
	assert_ptr_equal(device_borrow(env->device, 3 * BLOCK, 8) + 8, at);
}

static void test_a_pointer_shows_what_a_read_finds(void **state)
{
	env_run(&e, write_under_a_pointer);
}

static void test_where_there_is_no_pointer(void **state)
{
	struct sim_faults faults = {.eio_read = UINT32_MAX};

	assert_non_null(device_borrow(e.device, 63 * BLOCK, BLOCK));
	assert_null(device_borrow(e.device, 63 * BLOCK, BLOCK + 1));
	assert_null(device_borrow(e.device, UINT64_MAX - 1, 8));
	sim_set_faults(e.sim, &faults);
	assert_null(device_borrow(e.device, 0, BLOCK));
	sim_set_faults(e.sim, NULL);
	sim_cut(e.sim, 1);
	assert_null(device_borrow(e.device, 0, BLOCK));
	struct env disk = env_make(8, 1, NULL);
	assert_null(device_borrow(disk.device, 0, BLOCK));
	env_end(&disk);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_stored_may_be_lost_kept_or_torn),
		T(test_flushed_and_not_fenced_the_same),
		T(test_stored_past_the_caches_and_not_fenced_the_same),
		T(test_fenced_without_a_flush_the_same),
		T(test_flushed_and_fenced_stays),
		T(test_a_copy_that_is_fenced_stays),
		T(test_what_was_fenced_stays_beside_a_store_in_its_line),
		T(test_a_bit_rots_for_good),
		T(test_a_missing_flush_is_counted),
		T(test_a_missing_fence_is_counted),
		T(test_a_store_after_the_flush_is_missing),
		T(test_flushes_for_nothing_are_counted),
		T(test_fences_for_nothing_are_counted),
		T(test_a_copy_flushes_parts_of_lines_only),
		T(test_writes_of_a_turn_share_a_fence),
		T(test_a_cut_within_a_batch_tells_nobody),
		T(test_multiples_of_eight_bytes),
		T(test_what_is_written_now_is_fenced),
		T(test_a_cut_fails_what_is_written_now),
		T(test_not_all_are_written_now),
		T(test_a_process_that_dies_loses_nothing),
		T(test_a_pointer_shows_what_a_read_finds),
		T(test_where_there_is_no_pointer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
