/* bad_test.c - what may be wrong with a log's world: clocks, full and failing media, what others have left there, crashes
 * at bad moments; one test each. Built once for a disk, once for persistent memory. Damage: see damage_test.c and mutate_test.c. */
#include "log_env.h"

#include "../../src/log/log_internal.h"
#include "../../src/store/logs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SALT 5
#define SECOND UINT64_C(1000000000)
#define YEAR (365 * 86400 * SECOND)

static struct env e;

/* ---- the clock; the seam is the linker's ---- */

static uint64_t now_ns = 1600000000 * SECOND;

int __real_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
	if (id != CLOCK_REALTIME)
		return __real_clock_gettime(id, ts);
	*ts = (struct timespec){.tv_sec = (time_t)(now_ns / SECOND), .tv_nsec = (long)(now_ns % SECOND)};
	return 0;
}

/* ---- a log to begin with ---- */

static void format(struct env *env, void *arg)
{
	assert_int_equal(env_format(env), 0);
}

static int set_up(void **state)
{
	static const struct sim_faults none = {.max_delay_turns = 3, .cut_ends_io = true};

	record_max_len = 2000;
	env_init(&e, 5, 0, NULL);
	assert_int_equal(sim_create(700 * FORMAT_UNIT_BYTES, 5, &none, &e.sim), 0);
#ifdef TEST_PMEM
	assert_int_equal(sim_create_pmem(700 * FORMAT_UNIT_BYTES, 5, &none, &e.pmem), 0);
#endif
	env_run(&e, format, NULL);
	return 0;
}

static int tear_down(void **state)
{
	env_fini(&e);
	return 0;
}

static struct sim *medium(void)
{
	return e.pmem != NULL ? e.pmem : e.sim;
}

static enum quire_class class_of_log(void)
{
	return e.pmem != NULL ? QUIRE_CLASS_PMEM : QUIRE_CLASS_CAPACITY;
}

static void append_to(struct env *env, uint64_t n, bool durable)
{
	for (uint64_t lsn = quire_log_visible(env->log); lsn < n; lsn++)
		assert_int_equal(env_append(env, SALT, lsn, durable), 0);
}

static unsigned list_segments(struct env *env, struct store_log_segment *ret, unsigned n)
{
	struct store_log_info info;
	struct store_log *space;

	assert_int_equal(env_open_store(env, true), 0);
	assert_int_equal(store_log_find(env->store, NAME, &info), 0);
	assert_int_equal(store_log_open(env->store, info.id, &space), 0);
	n = store_log_segments(space, ret, n);
	store_log_close(space);
	assert_int_equal(env_close(env), 0);
	return n;
}

static void power_off(void)
{
	sim_cut(e.sim, 0);
	if (e.pmem != NULL)
		sim_cut(e.pmem, 0);
}

/* ---- clocks ---- */

static uint64_t time_of(struct env *env, uint64_t lsn)
{
	struct quire_log_cursor *c;
	struct quire_log_record r;

	assert_int_equal(quire_log_cursor_open(env->log, QUIRE_LOG_VISIBLE, &c), 0);
	assert_int_equal(quire_log_seek(c, lsn), 0);
	assert_int_equal(quire_log_next(c, &r, NULL), 1);
	quire_log_cursor_close(c);
	return r.time_ns;
}

static uint64_t lsn_at(struct env *env, uint64_t time_ns)
{
	struct quire_log_cursor *c;

	assert_int_equal(quire_log_cursor_open(env->log, QUIRE_LOG_VISIBLE, &c), 0);
	assert_int_equal(quire_log_seek_time(c, time_ns), 0);
	uint64_t lsn = quire_log_cursor_lsn(c);
	quire_log_cursor_close(c);
	return lsn;
}

static void clocks(struct env *env, void *arg)
{
	uint64_t begin = now_ns;

	assert_int_equal(env_open(env), 0);
	append_to(env, 10, true);
	now_ns = begin - 30 * YEAR;
	append_to(env, 20, true);
	assert_int_equal(time_of(env, 19), begin);
	/* Years on, over segments, and back; also after another opening it stands still. */
	now_ns = begin + 20 * YEAR;
	append_to(env, 200, true);
	now_ns = begin + SECOND;
	append_to(env, 210, true);
	assert_int_equal(env_close(env), 0);
	assert_int_equal(env_open(env), 0);
	append_to(env, 220, true);
	assert_int_equal(time_of(env, 219), begin + 20 * YEAR);
	assert_int_equal(lsn_at(env, begin), 0);
	assert_int_equal(lsn_at(env, begin + 1), 20);
	assert_int_equal(lsn_at(env, begin + 20 * YEAR), 20);
	assert_int_equal(lsn_at(env, begin + 20 * YEAR + 1), 220);
	now_ns = begin + 21 * YEAR;
	append_to(env, 221, true);
	assert_int_equal(lsn_at(env, begin + 20 * YEAR + 1), 220);
	assert_int_equal(env_read_all(env, SALT), 221);
	assert_int_equal(env_close(env), 0);
	now_ns = begin;
}

static void test_a_clock_set_back_and_on_by_years(void **state)
{
	env_run(&e, clocks, NULL);
}

static int make_log(struct env *env, const char *name, struct quire_log_options o, struct quire_log **ret)
{
	o.size = sizeof(o);
	o.segment_bytes = SEGMENT;
	o.cls = class_of_log();
	assert_int_equal(quire_log_create(store_public(env->store), name, &o, NULL), 0);
	return quire_log_open(store_public(env->store), name, NULL, ret, NULL);
}

static uint64_t append_blocks(struct quire_log *log, unsigned n)
{
	static const uint8_t block[4000];
	uint64_t lsn = 0;

	for (unsigned i = 0; i < n; i++)
		assert_int_equal(quire_log_append_nowait(log, &(struct iovec){(void *)(uintptr_t)block, sizeof(block)}, 1, &lsn), 0);
	return lsn;
}

static void age(struct env *env, void *arg)
{
	struct quire_log_options o = {.retain_ns = 3600 * SECOND};
	uint64_t begin = now_ns;
	struct quire_log *log;

	assert_int_equal(env_open_store(env, false), 0);
	assert_int_equal(make_log(env, "aged", o, &log), 0);
	assert_int_equal(quire_log_sync(log, append_blocks(log, 100), NULL), 0);
	/* Not yet; and not because the clock is behind what it was. */
	now_ns = begin + 1800 * SECOND;
	assert_int_equal(quire_log_retain(log), 0);
	now_ns = begin - YEAR;
	assert_int_equal(quire_log_retain(log), 0);
	assert_int_equal(quire_log_first(log), 0);
	now_ns = begin + 3601 * SECOND;
	assert_true(quire_log_retain(log) > 0);
	assert_true(quire_log_first(log) > 0 && quire_log_first(log) < 100);
	assert_int_equal(quire_log_close(log), 0);
	assert_int_equal(env_close(env), 0);
	now_ns = begin;
}

static void test_retention_by_age_and_a_clock_set_back(void **state)
{
	env_run(&e, age, NULL);
}

/* ---- what is kept, after a crash ---- */

struct kept {
	struct quire_log_options o;
	uint64_t first;
};

static void keep_few(struct env *env, void *arg)
{
	struct kept *k = arg;
	struct quire_log *log;

	assert_int_equal(env_open_store(env, false), 0);
	assert_int_equal(make_log(env, "ring", k->o, &log), 0);
	assert_int_equal(quire_log_sync(log, append_blocks(log, 50), NULL), 0);
	/* These are lost with the power. */
	(void)append_blocks(log, 10);
	int64_t n = quire_log_retain(log);
	assert_true(n >= 0);
	k->first = quire_log_first(log);
	power_off();
	assert_int_equal(quire_log_close(log), -EIO);
	assert_int_equal(env_close(env), 0);
}

static void look_at_few(struct env *env, void *arg)
{
	struct kept *k = arg;
	struct quire_log *log;

	assert_int_equal(env_open_store(env, true), 0);
	assert_int_equal(quire_log_open(store_public(env->store), "ring", NULL, &log, NULL), 0);
	uint64_t n = quire_log_visible(log) - quire_log_first(log);
	assert_true(n >= k->o.retain_records && n * 4000 >= k->o.retain_bytes);
	assert_true(quire_log_first(log) >= k->first);
	assert_int_equal(quire_log_close(log), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_retention_keeps_what_it_promised_after_a_crash(void **state)
{
	struct kept records = {.o = {.retain_records = 45}}, bytes = {.o = {.retain_bytes = SEGMENT}};

	env_run(&e, keep_few, &records);
	env_run(&e, look_at_few, &records);
	tear_down(NULL);
	set_up(NULL);
	env_run(&e, keep_few, &bytes);
	env_run(&e, look_at_few, &bytes);
}

/* ---- full and failing media ---- */

static void full_batch(struct env *env, void *arg)
{
	static const uint8_t block[9000];
	struct iovec records[40];
	uint64_t first = 0, last = 0, n = 0;
	int64_t rc;

	for (unsigned i = 0; i < 40; i++)
		records[i] = (struct iovec){(void *)(uintptr_t)block, sizeof(block)};
	assert_int_equal(env_open(env), 0);
	while ((rc = quire_log_append_many(env->log, records, 40, &first, &last)) == 40) {
		assert_int_equal(first, n);
		n += 40;
	}
	/* The first of them are in, in order, and no more than was told. */
	assert_true(rc > 0 || rc == -ENOSPC);
	if (rc > 0) {
		assert_int_equal(first, n);
		assert_int_equal(last, n + (uint64_t)rc - 1);
		n += (uint64_t)rc;
	}
	assert_int_equal(quire_log_visible(env->log), n);
	assert_int_equal(quire_log_error(env->log), 0);
	assert_int_equal(quire_log_append_many(env->log, records, 40, &first, &last), -ENOSPC);
	assert_int_equal(quire_log_sync(env->log, n - 1, NULL), 0);
	assert_true(quire_log_trim(env->log, n / 2) > 0);
	assert_int_equal(quire_log_append_many(env->log, records, 40, &first, &last), 40);
	assert_int_equal(first, n);
	assert_int_equal(env_close(env), 0);
	assert_int_equal(env_open(env), 0);
	assert_int_equal(quire_log_visible(env->log), n + 40);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_a_medium_that_is_full_in_the_middle_of_a_batch(void **state)
{
	env_run(&e, full_batch, NULL);
}

static void failing(struct env *env, void *arg)
{
	const int error = *(const int *)arg;
	struct sim_faults none = {.cut_ends_io = true}, bad = none;
	uint64_t lsn = 0;

	*(error == -EIO ? &bad.eio_write : &bad.enospc) = UINT32_MAX;
	assert_int_equal(env_open(env), 0);
	append_to(env, 10, true);
	sim_set_faults(medium(), &bad);
	assert_int_equal(env_append(env, SALT, 10, false), 0);
	assert_int_equal(quire_log_append(env->log, NULL, 0, &lsn, NULL), error);
	sim_set_faults(medium(), &none);
	/* It isn't tried again: what became of it nobody knows. What is visible can be read. */
	assert_int_equal(quire_log_error(env->log), error);
	assert_int_equal(quire_log_append(env->log, NULL, 0, &lsn, NULL), error);
	assert_int_equal(quire_log_append_nowait(env->log, NULL, 0, &lsn), error);
	assert_int_equal(quire_log_sync(env->log, 10, NULL), error);
	assert_int_equal(quire_log_wait(env->log, QUIRE_LOG_DURABLE, 10, NULL), error);
	assert_int_equal(quire_log_sync(env->log, 9, NULL), 0);
	assert_int_equal(quire_log_durable(env->log), 10);
	assert_int_equal(quire_log_visible(env->log), 12);
	assert_int_equal(env_close(env), error);
	assert_int_equal(env_open(env), 0);
	assert_in_range(quire_log_visible(env->log), 10, 12);
	assert_int_equal(quire_log_trim(env->log, 0), 0);
	uint64_t n = quire_log_visible(env->log);
	assert_int_equal(env_append(env, SALT, n, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_a_durable_write_that_fails(void **state)
{
	int error = -EIO;

	env_run(&e, failing, &error);
}

static void test_a_durable_write_for_which_there_is_no_space(void **state)
{
	int error = -ENOSPC;

	env_run(&e, failing, &error);
}

/* ---- what earlier lives have left ---- */

static void fill_with_noise(struct env *env, void *arg)
{
	struct store_log_segment segments[8];
	uint8_t *noise = malloc(SEGMENT);
	struct quire_log_segment s[8];

	assert_int_equal(env_open(env), 0);
	append_to(env, 5, true);
	assert_int_equal(quire_log_segments(env->log, s, 8), 1);
	assert_int_equal(env_close(env), 0);
	assert_int_equal(list_segments(env, segments, 8), 1);
	/* In the block of the last record no more than recovery clears. */
	uint32_t end = (uint32_t)s[0].len_bytes;
	memset(noise, 0x5a, SEGMENT);
	sim_poke(medium(), segments[0].offset + end, noise, SEGMENT - end);
	free(noise);
	assert_int_equal(env_open(env), 0);
	assert_int_equal(quire_log_visible(env->log), 5);
	append_to(env, 200, false);
	assert_int_equal(env_read_all(env, SALT), 200);
	assert_int_equal(env_close(env), 0);
	assert_int_equal(env_open(env), 0);
	assert_true(quire_log_segments(env->log, s, 8) >= 3 && s[0].sealed);
	assert_int_equal(env_read_all(env, SALT), 200);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void test_what_lay_behind_the_end_is_in_no_sealed_page(void **state)
{
	env_run(&e, fill_with_noise, NULL);
}

/* ---- what is no record of a log ---- */

static const struct odd {
	uint16_t type;
	size_t len_bytes;
} odds[] = {
	{40, 100},                     /* of a type that logs don't have */
	{FORMAT_LOG_RECORD, 7},        /* without the whole of its time */
	{FORMAT_LOG_KEYED_RECORD, 8},  /* without the length of its key */
	{FORMAT_LOG_KEYED_RECORD, 16}, /* whose key is longer than it is */
};

/* By the log's own journal, so that nothing else is wrong with it. */
static void append_odd(struct env *env, void *arg)
{
	const struct odd *odd = arg;
	uint8_t bytes[100];
	struct iovec part = {bytes, odd->len_bytes};
	struct sim *left;
	uint64_t no;

	memset(bytes, 0x55, sizeof(bytes));
	assert_int_equal(env_open(env), 0);
	append_to(env, 3, true);
	assert_int_equal(journal_append(env->log->journal, odd->type, &part, 1, &no), 0);
	assert_int_equal(journal_sync(env->log->journal, no, NULL), 0);
	assert_int_equal(sim_clone(medium(), 1, &left), 0);
	assert_int_equal(env_close(env), 0);
	sim_destroy(medium());
	*(env->pmem != NULL ? &env->pmem : &env->sim) = left;
}

static void refuse_odd(struct env *env, void *arg)
{
	const struct odd *odd = arg;
	char text[64];

	(void)snprintf(text, sizeof(text), "is of type %u, and of %zu bytes", odd->type, odd->len_bytes);
	assert_int_equal(env_open(env), -EUCLEAN);
	assert_non_null(strstr(env->err.text, text));
	assert_int_equal(env_open_store(env, false), 0);
	assert_int_equal(env_check(env, false), 1);
	assert_int_equal(store_close(env->store), 0);
	env->store = NULL;
}

static void test_a_record_that_is_none_of_a_log(void **state)
{
	for (unsigned i = 0; i < sizeof(odds) / sizeof(odds[0]); i++) {
		struct odd odd = odds[i];
		env_run(&e, append_odd, &odd);
		env_run(&e, refuse_odd, &odd);
		(void)tear_down(state);
		(void)set_up(state);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_a_clock_set_back_and_on_by_years),
		T(test_retention_by_age_and_a_clock_set_back),
		T(test_retention_keeps_what_it_promised_after_a_crash),
		T(test_a_medium_that_is_full_in_the_middle_of_a_batch),
		T(test_a_durable_write_that_fails),
		T(test_a_durable_write_for_which_there_is_no_space),
		T(test_what_lay_behind_the_end_is_in_no_sealed_page),
		T(test_a_record_that_is_none_of_a_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
