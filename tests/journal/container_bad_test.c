/* container_bad_test.c - the two-log container: asked for what can't be, of logs that contradict each other or themselves, and as each change of
 * the medium fails. */
#include "fixture.h"
#include "../../src/journal/container_internal.h"
#include "../support/failing_device.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

static uint64_t first[2];

static struct container_options options(void)
{
	return (struct container_options){.journal = env_options(&e)};
}

static void take_two(void)
{
	env_forget(&e);
	first[0] = env_extent(&e);
	first[1] = env_extent(&e);
}

/* ---- what no container can be ---- */

static void run_asked_wrongly(void *arg)
{
	struct container_options o = options();
	struct quire_error err;
	struct container *c;

	(void)arg;
	take_two();
	const uint64_t twice[2] = {first[0], first[0]}, outside[2] = {first[0], e.device->size_bytes};
	assert_int_equal(container_create(&o, twice, &c, &err), -EINVAL);
	assert_int_equal(container_create(&o, outside, &c, &err), -EINVAL);
	o.capacity_bytes = SEGMENT - 1;
	assert_int_equal(container_create(&o, first, &c, &err), -EINVAL);
	o = options();
	o.journal.segment_bytes = 3 * SEGMENT / 2;
	assert_int_equal(container_create(&o, first, &c, &err), -EINVAL);
	assert_non_null(strstr(err.text, "segments of"));
	o.journal.device = NULL;
	assert_int_equal(container_create(&o, first, &c, &err), -EINVAL);
}

/* One log's records, each by itself as it should be. */
struct told {
	char kind; /* 'S' a START, 'C' one of a log that is complete, 'E' an END, 's', 'e' one that is too short, 'r' any record */
	uint64_t generation;
};

static void write_log(unsigned index, const struct told *told)
{
	struct container_options o = options();
	struct container *c;
	uint64_t no;

	assert_int_equal(container_new(&o, first, &c, NULL), 0);
	struct journal_options of_log = container_log_options(c, index);
	assert_int_equal(journal_create(&of_log, first[index], &c->logs[index].journal, NULL), 0);
	for (; told->kind != 0; told++) {
		struct container_start_le start = {.generation = htole64(told->generation), .complete = htole32(told->kind == 'C')};
		bool is_start = told->kind == 'S' || told->kind == 'C' || told->kind == 's', is_short = told->kind == 's' || told->kind == 'e';
		struct iovec part = {&start, (is_start ? sizeof(struct container_start_le) : sizeof(struct container_end_le)) - (is_short ? 8 : 0)};
		uint16_t type = told->kind == 'r' ? JOURNAL_FIRST_TYPE : is_start ? FRAME_CONTAINER_START : FRAME_CONTAINER_END;
		assert_int_equal(journal_append_any(c->logs[index].journal, type, &part, 1, &no), 0);
		assert_int_equal(journal_sync(c->logs[index].journal, no, NULL), 0);
	}
	container_close(c);
}

/* Of two logs: open it, or what is told. */
static void run_contradictory(void *arg)
{
	static const struct {
		struct told logs[2][4];
		int rc;
	} cases[] = {
		{{{{'C', 1}, {'r', 0}}, {{'S', 2}, {'E', 2}}}, 0},
		{{{{'C', 1}}, {{'C', 1}}}, -EUCLEAN},                 /* of one generation */
		{{{{'S', 1}}, {{'S', 2}}}, -EUCLEAN},                 /* none is complete */
		{{{{'r', 0}}, {{'r', 0}}}, -EUCLEAN},                 /* without a START */
		{{{{'S', 1}, {'S', 1}}, {{'S', 2}}}, -EUCLEAN},       /* with two */
		{{{{'s', 1}}, {{'S', 2}}}, -EUCLEAN},
		{{{{'S', 1}, {'e', 1}}, {{'S', 2}}}, -EUCLEAN},
		{{{{'S', 1}, {'E', 2}}, {{'S', 2}}}, -EUCLEAN},       /* of another's end */
		{{{{'C', 1}, {'E', 1}}, {{'S', 2}}}, -EUCLEAN},       /* that was complete */
		{{{{'C', 1}, {'E', 1}}, {{'S', 2}, {'E', 2}}}, 0},    /* the other is not asked */
	};

	(void)arg;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct container_options o = options();
		struct quire_error err = {0};
		struct container *c;
		take_two();
		for (unsigned k = 0; k < 2; k++)
			write_log(k, cases[i].logs[k]);
		int rc = container_open(&o, first, false, NULL, NULL, NULL, &c, &err);
		if (rc != cases[i].rc)
			fail_msg("case %u: %d, %s", i, rc, err.text);
		assert_true(rc == 0 || err.text[0] != '\0');
		if (rc == 0)
			container_close(c);
	}
}

/* ---- as each I/O fails ---- */

#define N_STAGES 5u

/* What is in it after each stage. */
static const struct {
	uint32_t ids[16];
	uint64_t n;
} stages[N_STAGES] = {
	{{0}, 0},
	{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 10},
	{{0, 2, 4, 6, 8}, 5},
	{{0, 2, 4, 6, 8}, 5},
	{{0, 2, 4, 6, 8, 20, 21, 22}, 8},
};

static int append_some(struct container *c, uint32_t from, uint32_t n, uint32_t step)
{
	uint64_t no = 0;
	int rc = 0;

	for (uint32_t id = from; rc == 0 && id < from + n * step; id += step)
		rc = record_append_container(c, id, &no);
	return rc == 0 ? container_sync(c, no, NULL) : rc;
}

static int do_stage(struct container *c, unsigned stage)
{
	int rc = stage == 2 || stage == 3 ? container_cstart(c) : 0;

	if (rc == 0)
		rc = stage == 1 ? append_some(c, 0, 10, 1) : stage == 2 ? append_some(c, 0, 5, 2) : stage == 3 ? append_some(c, 100, 3, 1)
		                                                                                              : append_some(c, 20, 3, 1);
	if (rc == 0 && stage == 2)
		rc = container_cend(c);
	if (rc == 0 && stage == 3)
		rc = container_cabort(c);
	return rc;
}

static bool seen_begins(unsigned stage)
{
	return seen.n <= stages[stage].n && memcmp(seen.ids, stages[stage].ids, seen.n * sizeof(seen.ids[0])) == 0;
}

/* All stages, as the nth change fails (0: none); then what is there is what the last stage that was done has left, or the next may have. */
static bool run_stages(struct failing *f, uint64_t n)
{
	struct container_options o = options();
	struct container *c = NULL;
	unsigned done = 0;

	take_two();
	failing_begin(f, 1u << DEVICE_WRITE | 1u << DEVICE_WRITE_DURABLE | 1u << DEVICE_FLUSH, n, false);
	int rc = container_create(&o, first, &c, NULL);
	bool is_made = rc == 0;
	while (rc == 0 && done + 1 < N_STAGES && (rc = do_stage(c, done + 1)) == 0)
		done++;
	bool failed = failing_end(f);
	assert_true(rc == 0 || (rc == -EIO && failed));
	assert_int_equal(failed, n != 0);
	if (!is_made)
		return failed;
	container_close(c);
	seen.n = seen.n_wrong = 0;
	assert_int_equal(container_open(&o, first, false, seen_add, &seen, NULL, &c, NULL), 0);
	assert_int_equal(seen.n_wrong, 0);
	bool as_left = seen.n == stages[done].n && seen_begins(done);
	assert_true(as_left || (done + 1 < N_STAGES && seen.n >= (done + 1 == 2 ? 5 : stages[done].n) && seen_begins(done + 1)));
	assert_int_equal(append_some(c, 300, 2, 1), 0);
	container_close(c);
	return failed;
}

static void run_each_change_fails(void *arg)
{
	struct failing f = {0};

	(void)arg;
	failing_put(&f, &e.device);
	e.o.device = e.device;
	assert_false(run_stages(&f, 0));
	uint64_t n_ios = atomic_load(&f.n_ios);
	assert_true(n_ios > 8);
	for (uint64_t n = 1; n <= n_ios; n++)
		assert_true(run_stages(&f, n));
	env_close_device(&e);
	env_open_device(&e);
}

/* ---- ---- */

static int set_up(void **state)
{
	(void)state;
	fixture_make(32, 3, NULL);
	return 0;
}

IN_COROUTINE(asked_wrongly)
IN_COROUTINE(contradictory)
IN_COROUTINE(each_change_fails)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_asked_wrongly), T(test_contradictory), T(test_each_change_fails),
	};
	return cmocka_run_group_tests(tests, NULL, end);
}
