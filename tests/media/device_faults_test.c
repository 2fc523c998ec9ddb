/* device_faults_test.c - answers that a healthy disk never gives: each I/O of a device goes through here. */
#include "device_env.h"

#include "../../src/loop/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

void __real_loop_io_submit(struct quire_loop *loop, struct io *io);
void __wrap_loop_io_submit(struct quire_loop *loop, struct io *io);

#define NO_BYTES INT64_MAX

/* What is to happen to the next I/Os: 0 nothing, an error, that many bytes at most, or none. */
static int64_t plan[100];
static unsigned n_seen;
static bool seen_durable;

static struct {
	struct io *io; /* the one that answers wrongly */
	void (*done)(struct io *io, int64_t result);
	enum io_op op;
	int64_t result;
} faked;

static void fake_done(struct io *io, int64_t result)
{
	io->op = faked.op;
	io->done = faked.done;
	io->done(io, faked.result);
}

void __wrap_loop_io_submit(struct quire_loop *loop, struct io *io)
{
	int64_t planned = n_seen < 100 ? plan[n_seen] : 0;
	n_seen++;
	if (io->op == IO_WRITE)
		seen_durable = io->flags & RWF_DSYNC;
	if (planned > 0 && planned != NO_BYTES && io->len > (uint64_t)planned) {
		io->len = (uint64_t)planned; /* really short */
	} else if (planned < 0 || planned == NO_BYTES) {
		faked.io = io;
		faked.done = io->done;
		faked.op = io->op;
		faked.result = planned == NO_BYTES ? 0 : planned;
		io->op = IO_NOP;
		io->done = fake_done;
	}
	__real_loop_io_submit(loop, io);
}

static void plan_is(unsigned n, const int64_t *answers)
{
	memset(plan, 0, sizeof(plan));
	memcpy(plan, answers, n * sizeof(*answers));
	n_seen = 0;
}

#define PLAN(...) plan_is(sizeof((int64_t[]){__VA_ARGS__}) / 8, (int64_t[]){__VA_ARGS__})

static void plan_always(int64_t answer)
{
	for (unsigned i = 0; i < 100; i++)
		plan[i] = answer;
	n_seen = 0;
}

/* ---- short, and told to try again ---- */

static void write_and_read_in_parts(struct device *d)
{
	char *buf = device_env_memory(8 * BLOCK);
	device_env_fill(buf, 0, 8, 1);
	PLAN(3 * (int64_t)BLOCK, -EINTR, 1 * (int64_t)BLOCK, -EAGAIN);
	assert_int_equal(device_write(d, 0, buf, 8 * BLOCK, true), 0);
	assert_int_equal(n_seen, 5);
	assert_true(seen_durable);
	memset(buf, 0, 8 * BLOCK);
	PLAN(-EAGAIN, 2 * (int64_t)BLOCK, 5 * (int64_t)BLOCK, -EINTR);
	assert_int_equal(device_read(d, 0, buf, 8 * BLOCK), 0);
	assert_int_equal(n_seen, 5);
	device_env_check(buf, 0, 8, 1);
	free(buf);
}

static void test_short_transfers_are_continued(void **state)
{
	struct device *d = device_env_open(0);
	device_env_run(write_and_read_in_parts, d);
	device_close(d);
}

/* What is no multiple of a block is done again where it must be. */
static void write_and_read_odd_parts(struct device *d)
{
	char *buf = device_env_memory(8 * BLOCK);
	device_env_fill(buf, 0, 8, 2);
	PLAN(3 * (int64_t)BLOCK + 512, 512);
	assert_int_equal(device_write(d, 0, buf, 8 * BLOCK, false), 0);
	assert_false(seen_durable);
	memset(buf, 0, 8 * BLOCK);
	PLAN(512, 2 * (int64_t)BLOCK + 1024);
	assert_int_equal(device_read(d, 0, buf, 8 * BLOCK), 0);
	device_env_check(buf, 0, 8, 2);
	free(buf);
}

static void test_odd_transfers_are_continued(void **state)
{
	struct device *d = device_env_open(0);
	device_env_run(write_and_read_odd_parts, d);
	device_close(d);
}

static void use_without_progress(struct device *d)
{
	char *buf = device_env_memory(8 * BLOCK);
	const int64_t answers[] = {NO_BYTES, -EAGAIN, -EINTR};
	for (unsigned i = 0; i < 3; i++) {
		plan_always(answers[i]);
		assert_int_equal(device_read(d, 0, buf, 8 * BLOCK), -EIO);
		plan_always(answers[i]);
		assert_int_equal(device_write(d, 0, buf, 8 * BLOCK, true), -EIO);
		assert_true(n_seen < 100);
	}
	free(buf);
}

static void test_no_progress_is_an_error(void **state)
{
	struct device *d = device_env_open(0);
	device_env_run(use_without_progress, d);
	device_close(d);
}

/* ---- errors ---- */

static void fail_each(struct device *d)
{
	char *buf = device_env_memory(8 * BLOCK);
	PLAN(-EIO);
	assert_int_equal(device_read(d, 0, buf, 8 * BLOCK), -EIO);
	PLAN(4096, -EIO);
	assert_int_equal(device_write(d, 0, buf, 8 * BLOCK, true), -EIO);
	PLAN(4096, -ENOSPC);
	assert_int_equal(device_write(d, 0, buf, 8 * BLOCK, false), -ENOSPC);
	PLAN(-EDQUOT);
	assert_int_equal(device_write(d, 0, buf, 8 * BLOCK, false), -ENOSPC);
	PLAN(-EIO);
	assert_int_equal(device_flush(d), -EIO);
	assert_int_equal(n_seen, 1); /* never a second time */
	PLAN(0);
	free(buf);
}

static void test_errors_are_passed_on(void **state)
{
	struct device *d = device_env_open(0);
	device_env_run(fail_each, d);
	device_close(d);
}

static void discard_in_vain(struct device *d)
{
	PLAN(-EIO);
	assert_int_equal(device_discard(d, 0, BLOCK), -EIO);
	assert_true(d->discards);
	PLAN(-EOPNOTSUPP);
	assert_int_equal(device_discard(d, 0, BLOCK), 0);
	assert_false(d->discards);
	assert_int_equal(device_discard(d, 0, BLOCK), 0);
	assert_int_equal(n_seen, 1); /* it is not asked again */
}

static void test_a_device_that_turns_out_not_to_discard(void **state)
{
	struct device *d = device_env_open(0);
	if (d->discards)
		device_env_run(discard_in_vain, d);
	device_close(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_short_transfers_are_continued),
		cmocka_unit_test(test_odd_transfers_are_continued),
		cmocka_unit_test(test_no_progress_is_an_error),
		cmocka_unit_test(test_errors_are_passed_on),
		cmocka_unit_test(test_a_device_that_turns_out_not_to_discard),
	};
	return device_env_main(tests);
}
