/* Policies on traces that were worked out by hand, and what the readers of traces take and refuse. */
#include "../base/cmocka_env.h"

#include "../../bench/replay_read.h"
#include "../../bench/replay_sim.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- traces ---- */

static struct trace trace_of(const uint64_t *ids, size_t n)
{
	struct trace_builder b = { 0 };
	struct trace t;
	for (size_t i = 0; i < n; i++)
		assert_int_equal(trace_add(&b, ids[i]), 0);
	trace_finish(&b, &t);
	return t;
}

static uint64_t misses(enum sim sim, const struct trace *t, uint32_t n_frames)
{
	uint64_t n = 0;
	assert_int_equal(sim_run(sim, t, n_frames, &n), 0);
	return n;
}

static uint64_t random_state;

static uint64_t random_below(uint64_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (random_state >> 33) % n;
}

/* Skewed: page k about 1/k as often as the first. */
static uint64_t skewed_below(uint64_t n)
{
	return (uint64_t)pow((double)n, (double)random_below(1u << 20) / (1u << 20)) - 1;
}

static void pages_are_numbered_as_they_come(void **state)
{
	const uint64_t ids[] = { UINT64_MAX, 0, UINT64_MAX, 7, 0 };
	struct trace t = trace_of(ids, COUNT(ids));
	const uint32_t pages[] = { 0, 1, 0, 2, 1 };
	assert_int_equal(t.n, 5);
	assert_int_equal(t.n_pages, 3);
	assert_memory_equal(t.pages, pages, sizeof(pages));
	assert_true(t.ids[0] == UINT64_MAX && t.ids[1] == 0 && t.ids[2] == 7);
	trace_free(&t);
}

static void many_ids_keep_their_numbers(void **state)
{
	enum { N = 50000 };
	struct trace_builder b = { 0 };
	struct trace t;
	for (uint64_t i = 0; i < 2 * N; i++)
		assert_int_equal(trace_add(&b, (i % N) << 40), 0);
	trace_finish(&b, &t);
	assert_int_equal(t.n_pages, N);
	for (uint32_t i = 0; i < 2 * N; i++)
		assert_int_equal(t.pages[i], i % N);
	trace_free(&t);
}

static void folded_ids_meet(void **state)
{
	const uint64_t ids[] = { 3, 19, 4, 20, 3 };
	struct trace folded, t = trace_of(ids, COUNT(ids));
	const uint32_t pages[] = { 0, 0, 1, 1, 0 };
	assert_int_equal(trace_fold(&t, 16, &folded), 0);
	assert_int_equal(folded.n_pages, 2);
	assert_memory_equal(folded.pages, pages, sizeof(pages));
	trace_free(&folded);
	trace_free(&t);
}

/* ---- policies ---- */

/* The textbooks' example of Belady's anomaly. */
static void textbook_misses(void **state)
{
	const uint64_t ids[] = { 1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5 };
	struct trace t = trace_of(ids, COUNT(ids));
	assert_int_equal(misses(SIM_FIFO, &t, 3), 9);
	assert_int_equal(misses(SIM_FIFO, &t, 4), 10);
	assert_int_equal(misses(SIM_LRU, &t, 3), 10);
	assert_int_equal(misses(SIM_LRU, &t, 4), 8);
	assert_int_equal(misses(SIM_MIN, &t, 3), 7);
	assert_int_equal(misses(SIM_MIN, &t, 4), 6);
	trace_free(&t);
}

static void one_frame_hits_repeats_alone(void **state)
{
	const uint64_t ids[] = { 1, 1, 2, 1, 1, 1, 3, 3 };
	struct trace t = trace_of(ids, COUNT(ids));
	for (enum sim s = 0; s < N_SIMS; s++)
		assert_int_equal(misses(s, &t, 1), 4);
	trace_free(&t);
}

static void room_for_all_misses_each_page_once(void **state)
{
	const uint64_t ids[] = { 4, 3, 2, 1, 4, 3, 2, 1, 1 };
	struct trace t = trace_of(ids, COUNT(ids));
	for (enum sim s = 0; s < N_SIMS; s++) {
		assert_int_equal(misses(s, &t, 4), 4);
		assert_int_equal(misses(s, &t, UINT32_MAX - 1), 4);
	}
	trace_free(&t);
}

/* Small queue 1, main 9, ghost 9. 0 goes to the small queue, 1 to 9 to the main one; 10 pushes 0 out;
 * 0 is known and enters the main queue in place of 10; 11 pushes 1 out of that, and 1, which the
 * ghost does not know, 11. Then 0 and 2 are there, 10 is not. */
static void s3fifo_remembers_what_left_the_small_queue(void **state)
{
	const uint64_t ids[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 11, 1, 0, 2, 10 };
	struct trace t = trace_of(ids, COUNT(ids));
	assert_int_equal(misses(SIM_S3FIFO, &t, 10), 15);
	trace_free(&t);
}

/* Used twice, 0 moves on as 10 comes, and 1 leaves the main queue. Used once, it would have left. */
static void s3fifo_keeps_what_was_used_twice(void **state)
{
	const uint64_t twice[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 10, 0, 1 };
	const uint64_t once[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 10, 0, 2 };
	struct trace t = trace_of(twice, COUNT(twice));
	assert_int_equal(misses(SIM_S3FIFO, &t, 10), 12);
	trace_free(&t);
	t = trace_of(once, COUNT(once));
	assert_int_equal(misses(SIM_S3FIFO, &t, 10), 12);
	trace_free(&t);
}

/* Looks ahead at each miss. */
static uint64_t slow_min(const struct trace *t, uint32_t n_frames)
{
	uint32_t held[16], n_held = 0;
	uint64_t n_misses = 0;
	for (size_t i = 0; i < t->n; i++) {
		size_t farthest = 0;
		uint32_t slot = 0, victim = 0;
		while (slot < n_held && held[slot] != t->pages[i])
			slot++;
		if (slot < n_held)
			continue;
		n_misses++;
		for (slot = 0; n_held == n_frames && slot < n_held; slot++) {
			size_t at = i + 1;
			while (at < t->n && t->pages[at] != held[slot])
				at++;
			if (at > farthest) {
				farthest = at;
				victim = slot;
			}
		}
		held[n_held < n_frames ? n_held++ : victim] = t->pages[i];
	}
	return n_misses;
}

static void min_is_what_looking_ahead_gives(void **state)
{
	random_state = 7;
	for (unsigned round = 0; round < 50; round++) {
		uint64_t ids[300];
		for (size_t i = 0; i < COUNT(ids); i++)
			ids[i] = random_below(4 + round);
		struct trace t = trace_of(ids, COUNT(ids));
		for (uint32_t n_frames = 1; n_frames <= 16; n_frames++)
			assert_int_equal(misses(SIM_MIN, &t, n_frames), slow_min(&t, n_frames));
		trace_free(&t);
	}
}

/* Skewed accesses, and a loop over 2,000 pages now and then. */
static struct trace mixed_trace(void)
{
	struct trace_builder b = { 0 };
	struct trace t;
	random_state = 12345;
	for (uint64_t i = 0; i < 200000; i++) {
		uint64_t at = i % 40000;
		bool scans = at >= 36000 && at % 2 == 0;
		assert_int_equal(trace_add(&b, scans ? 50000 + (at - 36000) / 2 : skewed_below(20000)), 0);
	}
	trace_finish(&b, &t);
	return t;
}

static void quire_is_s3fifo_within_one_per_cent(void **state)
{
	const uint32_t sizes[] = { 100, 300, 1000, 2000, 3000, 5000, 8000, 12000 };
	struct trace t = mixed_trace();
	for (size_t i = 0; i < COUNT(sizes); i++) {
		double ours = (double)misses(SIM_QUIRE, &t, sizes[i]);
		double theirs = (double)misses(SIM_S3FIFO, &t, sizes[i]);
		double lru = (double)misses(SIM_LRU, &t, sizes[i]), min = (double)misses(SIM_MIN, &t, sizes[i]);
		print_message("%u frames: misses %.0f, s3-fifo %.0f, lru %.0f, min %.0f\n", sizes[i], ours, theirs, lru, min);
		assert_true(ours <= 1.01 * theirs);
		assert_true(ours <= lru);
		assert_true(min <= ours && min <= theirs);
	}
	trace_free(&t);
}

/* ---- readers ---- */

struct input {
	char path[64];
	struct trace trace;
	char why[TRACE_WHY_BYTES];
};

static int read_bytes(struct input *in, const void *bytes, size_t len, struct trace_options opts, const char *suffix)
{
	snprintf(in->path, sizeof(in->path), "/tmp/replay-test-XXXXXX%s", suffix);
	int fd = mkstemps(in->path, (int)strlen(suffix));
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), len);
	close(fd);
	int rc = trace_read(in->path, &opts, &in->trace, in->why);
	unlink(in->path);
	return rc;
}

static void takes(const char *text, const char *column, const char *expected)
{
	struct input in;
	char got[200] = "";
	assert_int_equal(read_bytes(&in, text, strlen(text), (struct trace_options){ .column = column }, ".csv"), 0);
	for (size_t i = 0; i < in.trace.n; i++)
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%llu", i == 0 ? "" : " ",
		         (unsigned long long)in.trace.ids[in.trace.pages[i]]);
	assert_string_equal(got, expected);
	trace_free(&in.trace);
}

static void refuses(const char *text, const char *column, const char *reason)
{
	struct input in = { 0 };
	assert_int_equal(read_bytes(&in, text, strlen(text), (struct trace_options){ .column = column }, ".csv"), -EINVAL);
	if (strstr(in.why, reason) == NULL)
		fail_msg("'%s' does not say '%s'", in.why, reason);
}

static void forms_of_text(void **state)
{
	takes("5\n6\n5\n", NULL, "5 6 5");
	takes("0.1,5\n0.2,6\n", NULL, "5 6");
	takes("1,5,4096,read\n2,6,512,write\n", NULL, "5 6");
	takes("1\t5\t4096\r\n\r\n2\t6\t512\r\n", NULL, "5 6");
	takes("1 ; 5 ; 4096\n2 ; 18446744073709551615 ; 1", NULL, "5 18446744073709551615");
}

static void lines_of_names(void **state)
{
	takes("id\n5\n", NULL, "5");
	takes("time,size,LBA\n1,4096,5\n", NULL, "5");
	takes("time,id\n1,5\n", NULL, "5");
	takes("time,what,where\n1,2,5\n", "where", "5");
	takes("time,what,where\n1,2,5\n", "3", "5");
	takes("1,2,5\n", "1", "1");
}

static void text_that_is_no_trace(void **state)
{
	refuses("", NULL, "empty");
	refuses("\n\n", NULL, "empty");
	refuses("time,id\n", NULL, "empty");
	refuses("1,5\n2,x5\n", NULL, "line 2: 'x5': not a number");
	refuses("1,5\n2,-5\n", NULL, "line 2: '-5': not a number");
	refuses("1,5\n2,5.5\n", NULL, "line 2: '5.5': not a number");
	refuses("1,5\n2,\n", NULL, "line 2: '': not a number");
	refuses("1,5\n\n3\n", NULL, "line 3: no column 2");
	refuses("1,5\n2,18446744073709551616\n", NULL, "does not fit into 64 bits");
	refuses("18446744073709551616\n", NULL, "does not fit into 64 bits");
	refuses("when,where\n1,5\n", NULL, "line 1: 'where': not a number, and no column has a known name");
	refuses("time,id\n1,5\n", "page", "line 1: no column 'page'");
	refuses("1,5\n", "9", "line 1: no column 9");
}

static void put_record(unsigned char *record, uint64_t id, uint32_t size)
{
	memset(record, 0, 24);
	for (unsigned i = 0; i < 8; i++)
		record[4 + i] = (unsigned char)(id >> 8 * i);
	for (unsigned i = 0; i < 4; i++)
		record[12 + i] = (unsigned char)(size >> 8 * i);
}

static void oracle_records(void **state)
{
	unsigned char bytes[96];
	struct input in;
	put_record(bytes, 0x0102030405060708, 4096);
	put_record(bytes + 24, 9, 1);
	put_record(bytes + 48, 10, 0); /* of size 0: no access */
	put_record(bytes + 72, 9, UINT32_MAX);
	assert_int_equal(read_bytes(&in, bytes, sizeof(bytes), (struct trace_options){ 0 }, ".oracleGeneral.bin"), 0);
	assert_int_equal(in.trace.n, 3);
	assert_int_equal(in.trace.n_pages, 2);
	assert_true(in.trace.ids[0] == 0x0102030405060708 && in.trace.ids[1] == 9);
	trace_free(&in.trace);

	assert_int_equal(read_bytes(&in, bytes, 50, (struct trace_options){ .format = TRACE_ORACLE }, ""), -EINVAL);
	assert_string_equal(in.why, "truncated: 2 bytes of a 24-byte record after 2 whole ones");
	assert_int_equal(read_bytes(&in, bytes, 0, (struct trace_options){ .format = TRACE_ORACLE }, ""), -EINVAL);
	assert_string_equal(in.why, "empty: no accesses");
}

static void formats_that_are_unknown(void **state)
{
	struct input in;
	assert_int_equal(read_bytes(&in, "\1\0\2", 3, (struct trace_options){ 0 }, ""), -EINVAL);
	assert_non_null(strstr(in.why, "unknown format"));
	assert_int_equal(read_bytes(&in, "\x28\xb5\x2f\xfd..", 6, (struct trace_options){ 0 }, ".oracleGeneral.zst"), -EINVAL);
	assert_non_null(strstr(in.why, "compressed"));
	assert_int_equal(trace_read("/nonexistent/trace", &(struct trace_options){ 0 }, &in.trace, in.why), -ENOENT);
	assert_int_equal(trace_read("/", &(struct trace_options){ 0 }, &in.trace, in.why), -EISDIR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_are_numbered_as_they_come),
		cmocka_unit_test(many_ids_keep_their_numbers),
		cmocka_unit_test(folded_ids_meet),
		cmocka_unit_test(textbook_misses),
		cmocka_unit_test(one_frame_hits_repeats_alone),
		cmocka_unit_test(room_for_all_misses_each_page_once),
		cmocka_unit_test(s3fifo_remembers_what_left_the_small_queue),
		cmocka_unit_test(s3fifo_keeps_what_was_used_twice),
		cmocka_unit_test(min_is_what_looking_ahead_gives),
		cmocka_unit_test(quire_is_s3fifo_within_one_per_cent),
		cmocka_unit_test(forms_of_text),
		cmocka_unit_test(lines_of_names),
		cmocka_unit_test(text_that_is_no_trace),
		cmocka_unit_test(oracle_records),
		cmocka_unit_test(formats_that_are_unknown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
