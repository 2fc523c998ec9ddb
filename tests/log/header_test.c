/* header_test.c - the header of the segment where a log is opened, the first that is not sealed, is damaged: it is made again of what the segment
 * before says. What that can't be done of is refused, and nothing is written. */
#include "destage_env.h"

#include "../../src/journal/frame.h"
#include "../../src/store/logs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MAX_SEGMENTS 16u

static struct store_log_segment list[MAX_SEGMENTS];
static unsigned n_segments, tail; /* tail: the first that has no footer */

/* Where segments lie, of a log that is closed. */
static void learn(struct env *env)
{
	struct store_log_info info;
	struct store_log_footer f;
	struct store_log *space;

	assert_int_equal(env_open_store(env, true), 0);
	assert_int_equal(store_log_find(env->store, NAME, &info), 0);
	assert_int_equal(store_log_open(env->store, info.id, &space), 0);
	n_segments = store_log_segments(space, list, MAX_SEGMENTS);
	assert_true(n_segments <= MAX_SEGMENTS);
	for (tail = 0; store_log_sealed(space, list[tail].id, &f) == 0; tail++)
		free(f.marks);
	assert_true(tail < n_segments);
	store_log_close(space);
	assert_int_equal(env_close(env), 0);
}

static void zero_header(unsigned segment)
{
	static const uint8_t zeros[FRAME_BLOCK_BYTES];

	sim_poke(list[segment].class_no == QUIRE_CLASS_STAGING ? e.other : e.sim, list[segment].offset, zeros, sizeof(zeros));
}

static void flip(unsigned segment, uint32_t offset)
{
	struct sim *sim = list[segment].class_no == QUIRE_CLASS_STAGING ? e.other : e.sim;
	uint8_t byte;

	sim_peek(sim, list[segment].offset + offset, &byte, 1);
	byte ^= 4;
	sim_poke(sim, list[segment].offset + offset, &byte, 1);
}

/* Records until n segments are sealed, and the one behind them has some, too. */
static void fill(struct env *env, unsigned n)
{
	struct quire_log_segment s[MAX_SEGMENTS];
	uint64_t elsewhere;

	assert_int_equal(env_open(env), 0);
	do {
		append_to(env, quire_log_visible(env->log) + 1);
	} while (quire_log_segments(env->log, s, MAX_SEGMENTS) <= n || s[n].len_bytes < SEGMENT / 4);
	reopen(env);
	assert_int_equal(n_sealed(env, &elsewhere), n);
}

/* Twice read only, from memory alone; then written to, and once more. */
static void all_is_there(struct env *env, int64_t n)
{
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(env_open_log(env, true), 0);
		assert_int_equal(env_read_all(env, SALT), n);
		assert_int_equal(env_close(env), 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(env_open(env), 0);
		assert_int_equal(env_read_all(env, SALT), n + i);
		append_to(env, (uint64_t)n + i + 1);
		assert_int_equal(env_close(env), 0);
	}
	assert_int_equal(env_open_store(env, true), 0);
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(env_close(env), 0);
}

static void refused(struct env *env, unsigned segment)
{
	char place[32];

	snprintf(place, sizeof(place), "at %llu", (unsigned long long)list[segment].offset);
	for (unsigned i = 0; i < 2; i++) {
		int rc = env_open_log(env, i == 0);
		assert_true(rc == -EBADMSG || rc == -EUCLEAN);
		assert_non_null(strstr(env->err.text, place));
	}
}

static void made_again(struct env *env, void *arg)
{
	(void)arg;
	fill(env, 2);
	int64_t n = (int64_t)quire_log_visible(env->log);
	assert_int_equal(env_close(env), 0);
	learn(env);
	assert_int_equal(tail, 2);
	zero_header(tail);
	all_is_there(env, n);
	flip(tail, 100);
	all_is_there(env, n + 2);
}

static void test_it_is_made_again(void **state)
{
	env_run(&e, made_again, NULL);
}

/* The one before was moved: once to another class, once back. */
static void of_moved(struct env *env, void *arg)
{
	(void)arg;
	fill(env, 2);
	int64_t n = (int64_t)quire_log_visible(env->log);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(env_destage(env, (uint64_t)n, i == 0 ? STAGING : QUIRE_CLASS_CAPACITY), 2);
		assert_int_equal(env_close(env), 0);
		learn(env);
		assert_int_equal(list[1].class_no, i == 0 ? STAGING : QUIRE_CLASS_CAPACITY);
		zero_header(tail);
		all_is_there(env, n);
		n += 2;
		assert_int_equal(env_open(env), 0);
	}
	assert_int_equal(env_close(env), 0);
}

static void test_of_one_that_was_moved(void **state)
{
	env_run(&e, of_moved, NULL);
}

/* Records of the one before are damaged: they are lost, and stay as they are; all others are there. */
static void beside_other_damage(struct env *env, void *arg)
{
	struct quire_log_record record;
	struct quire_log_cursor *c;
	uint64_t n_lost = 0;
	static uint8_t before[SEGMENT], after[SEGMENT];

	(void)arg;
	fill(env, 2);
	uint64_t n = quire_log_visible(env->log);
	assert_int_equal(env_close(env), 0);
	learn(env);
	zero_header(tail);
	flip(tail - 1, 2 * FRAME_BLOCK_BYTES + 100);
	sim_peek(env->sim, list[tail - 1].offset, before, SEGMENT);
	assert_int_equal(env_open(env), 0);
	assert_int_equal(quire_log_visible(env->log), n);
	assert_int_equal(quire_log_cursor_open(env->log, QUIRE_LOG_DURABLE, &c), 0);
	for (uint64_t lsn = 0; lsn < n; lsn++) {
		assert_int_equal(quire_log_seek(c, lsn), 0);
		int64_t rc = quire_log_next(c, &record, NULL);
		assert_true(rc == 1 ? record_is(SALT, &record) : rc == -EBADMSG);
		n_lost += rc != 1;
	}
	quire_log_cursor_close(c);
	assert_in_range(n_lost, 1, 30);
	assert_int_equal(env_close(env), 0);
	sim_peek(env->sim, list[tail - 1].offset, after, SEGMENT);
	assert_memory_equal(before, after, SEGMENT);
}

static void test_beside_records_of_the_one_before(void **state)
{
	env_run(&e, beside_other_damage, NULL);
}

/* Its NEXT is gone, too, or the header by which that is read: nobody knows the salt. */
static void without_next(struct env *env, void *arg)
{
	struct frame_record_le r;
	uint32_t at = FRAME_BLOCK_BYTES;

	(void)arg;
	fill(env, 2);
	assert_int_equal(env_close(env), 0);
	learn(env);
	zero_header(tail);
	for (;;) {
		sim_peek(env->sim, list[tail - 1].offset + at, &r, sizeof(r));
		if (r.type == FRAME_NEXT)
			break;
		at += (uint32_t)frame_bytes(r.len_bytes);
	}
	flip(tail - 1, at + 40);
	refused(env, tail);
	flip(tail - 1, at + 40);
	flip(tail - 1, 30);
	refused(env, tail);
}

static void test_not_without_the_record_that_names_it(void **state)
{
	env_run(&e, without_next, NULL);
}

/* Of the first of all nobody knows anything. */
static void first_of_all(struct env *env, void *arg)
{
	(void)arg;
	assert_int_equal(env_open(env), 0);
	append_to(env, 10);
	assert_int_equal(env_close(env), 0);
	learn(env);
	assert_int_equal(tail, 0);
	zero_header(0);
	refused(env, 0);
}

static void test_not_that_of_the_first_segment(void **state)
{
	env_run(&e, first_of_all, NULL);
}

static void nothing_left(struct env *env, void *arg)
{
	static const uint8_t zeros[SEGMENT];

	(void)arg;
	fill(env, 2);
	assert_int_equal(env_close(env), 0);
	learn(env);
	sim_poke(env->sim, list[tail].offset, zeros, SEGMENT);
	refused(env, tail);
}

/* Of the first group alone nobody knows but by its header that it was not torn. */
static void one_group_left(struct env *env, void *arg)
{
	static const uint8_t zeros[SEGMENT];
	struct frame_record_le r;

	(void)arg;
	fill(env, 2);
	assert_int_equal(env_close(env), 0);
	learn(env);
	sim_peek(env->sim, list[tail].offset + FRAME_BLOCK_BYTES, &r, sizeof(r));
	assert_int_equal(r.group_start, 0);
	uint32_t end = FRAME_BLOCK_BYTES + (uint32_t)frame_bytes(r.len_bytes);
	sim_poke(env->sim, list[tail].offset + end, zeros, SEGMENT - end);
	assert_int_equal(env_open_log(env, true), 0);
	assert_int_equal(env_close(env), 0);
	zero_header(tail);
	refused(env, tail);
}

static void test_not_where_nothing_proves_what_is_behind_it(void **state)
{
	env_run(&e, one_group_left, NULL);
}

static void test_not_where_nothing_is_left_behind_it(void **state)
{
	env_run(&e, nothing_left, NULL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_it_is_made_again),
		T(test_of_one_that_was_moved),
		T(test_beside_records_of_the_one_before),
		T(test_not_without_the_record_that_names_it),
		T(test_not_that_of_the_first_segment),
		T(test_not_where_nothing_proves_what_is_behind_it),
		T(test_not_where_nothing_is_left_behind_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
