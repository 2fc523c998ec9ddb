/* pmem_test.c - what a journal costs on persistent memory, by the account of the cache-line shadow; and that the account
 * tells, if the way there has a mistake. */
#include "journal_env.h"
#include "../../src/media/sim_lines.h"

static struct env e;
static struct journal *j;

/* ---- mistakes, planted by the linker in the way from the journal to the memory ---- */

static enum { NO_MISTAKE, NO_FENCE, NO_FLUSH, FLUSH_MORE } mistake;

void __real_lines_fence(struct sim_medium *m);
void __wrap_lines_fence(struct sim_medium *m);
void __wrap_lines_fence(struct sim_medium *m)
{
	if (mistake != NO_FENCE)
		__real_lines_fence(m);
}

void __real_lines_copy(struct sim_medium *m, uint64_t offset, const void *from, uint64_t len_bytes);
void __wrap_lines_copy(struct sim_medium *m, uint64_t offset, const void *from, uint64_t len_bytes);
void __wrap_lines_copy(struct sim_medium *m, uint64_t offset, const void *from, uint64_t len_bytes)
{
	if (mistake == NO_FLUSH)
		lines_store(m, offset, from, len_bytes);
	else
		__real_lines_copy(m, offset, from, len_bytes);
	if (mistake == FLUSH_MORE)
		lines_flush(m, offset, len_bytes);
}

/* ---- appending ---- */

static struct sim_shadow before, after;

static void create(void *arg)
{
	struct journal_options o = env_options(&e);

	(void)arg;
	assert_int_equal(journal_create(&o, env_extent(&e), &j, NULL), 0);
}

static void append_one_by_one(void *n)
{
	for (uintptr_t i = 0; i < (uintptr_t)n; i++) {
		uint64_t no;
		assert_int_equal(record_append(j, (uint32_t)i, &no), 0);
		assert_int_equal(journal_sync(j, no, NULL), 0);
	}
}

static void append_together(void *n)
{
	uint64_t no = 0;

	for (uintptr_t i = 0; i < (uintptr_t)n; i++)
		assert_int_equal(record_append(j, (uint32_t)i, &no), 0);
	assert_int_equal(journal_sync(j, no, NULL), 0);
}

static void close_it(void *arg)
{
	(void)arg;
	journal_close(j);
}

static void run_with(enum record_sizes sizes, void (*append)(void *), uintptr_t n)
{
	static const struct sim_faults none = {.cut_ends_io = true};

	env_make(&e, 16, 7, &none);
	record_sizes(sizes);
	env_run(&e, create, NULL);
	sim_shadow_get(e.sim, &before);
	env_run(&e, append, (void *)n);
	sim_shadow_get(e.sim, &after);
}

static void end_of_run(void)
{
	env_run(&e, close_it, NULL);
	device_close(e.device);
	sim_destroy(e.sim);
	assert_int_equal(quire_loop_run(e.loop), 0);
}

static void test_a_group_is_stored_exactly_and_fenced_once(void **state)
{
	(void)state;
	run_with(SIZES_SMALL, append_one_by_one, 40);
	assert_int_equal(after.n_stored_bytes - before.n_stored_bytes, journal_used_bytes(j));
	assert_int_equal(after.n_fences - before.n_fences, 40);
	end_of_run();
	run_with(SIZES_SMALL, append_together, 40);
	assert_int_equal(after.n_stored_bytes - before.n_stored_bytes, journal_used_bytes(j));
	assert_int_equal(after.n_fences - before.n_fences, 1);
	end_of_run();
}

/* Over several segments: their headers, and what the journal adds of its own, but nothing twice. */
static void test_segments_cost_their_headers(void **state)
{
	(void)state;
	run_with(SIZES_EQUAL, append_one_by_one, 400);
	uint64_t n_segments = e.n_gets;
	assert_true(n_segments > 2);
	assert_in_range(after.n_stored_bytes - before.n_stored_bytes,
	                journal_used_bytes(j) + (n_segments - 1) * DEVICE_BLOCK_BYTES,
	                journal_used_bytes(j) + n_segments * DEVICE_BLOCK_BYTES);
	assert_int_equal(after.n_missing_bytes, 0);
	assert_int_equal(after.n_wasted_flushes + after.n_wasted_fences, 0);
	end_of_run();
}

static void test_a_missing_fence_is_told(void **state)
{
	(void)state;
	mistake = NO_FENCE;
	run_with(SIZES_EQUAL, append_one_by_one, 1);
	assert_int_equal(after.n_missing_bytes - before.n_missing_bytes, journal_used_bytes(j));
	end_of_run();
}

static void test_a_missing_flush_is_told(void **state)
{
	(void)state;
	mistake = NO_FLUSH;
	run_with(SIZES_EQUAL, append_one_by_one, 1);
	assert_int_equal(after.n_missing_bytes - before.n_missing_bytes, journal_used_bytes(j));
	end_of_run();
}

static void test_a_flush_for_nothing_is_told(void **state)
{
	(void)state;
	mistake = FLUSH_MORE;
	run_with(SIZES_EQUAL, append_one_by_one, 1);
	assert_int_equal(after.n_missing_bytes, 0);
	assert_int_equal(after.n_wasted_flushes - before.n_wasted_flushes, journal_used_bytes(j) / DEVICE_LINE_BYTES);
	end_of_run();
}

static int no_mistake(void **state)
{
	(void)state;
	mistake = NO_MISTAKE;
	return 0;
}

static int end(void **state)
{
	(void)state;
	return e.loop == NULL ? 0 : quire_loop_destroy(e.loop);
}

#define T(name) cmocka_unit_test_setup(name, no_mistake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_a_group_is_stored_exactly_and_fenced_once),
		T(test_segments_cost_their_headers),
		T(test_a_missing_fence_is_told),
		T(test_a_missing_flush_is_told),
		T(test_a_flush_for_nothing_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, end);
}
