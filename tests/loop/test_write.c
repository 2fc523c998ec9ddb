/* I/O of a loop that changes a file: writes, durable ones, fdatasync, holes. */
#include "on_both.h"
#include "loop/io.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define BLOCK 4096u

static char path[] = "/tmp/quire-loop-write-XXXXXX";
static int file = -1;

static int make_file(void **state)
{
	file = mkstemp(path);
	return file < 0 || ftruncate(file, 64 * BLOCK) < 0;
}

static int remove_file(void **state)
{
	close(file);
	return unlink(path);
}

/* ---- one I/O, from a coroutine ---- */

struct step {
	struct io io;
	struct quire_loop *loop;
	int64_t result;
	unsigned n_done;
};

static void step_done(struct io *io, int64_t result)
{
	struct step *step = (struct step *)io;
	step->result = result;
	step->n_done++;
}

static void submit(void *arg)
{
	struct step *step = arg;
	loop_io_submit(step->loop, &step->io);
	assert_int_equal(step->n_done, 0);
}

static int64_t run_from(struct quire_loop *loop, struct io io, int buffer_slot)
{
	struct step step = {.io = io, .loop = loop};
	step.io.done = step_done;
	step.io.buffer_slot = buffer_slot;
	spawn(loop, submit, &step);
	run(loop);
	assert_int_equal(step.n_done, 1);
	return step.result;
}

static int64_t run_one(struct quire_loop *loop, struct io io)
{
	return run_from(loop, io, -1);
}

static char block[BLOCK] __attribute__((aligned(BLOCK)));

static void check_block(unsigned at, char expected)
{
	char found[BLOCK];
	assert_int_equal(pread(file, found, BLOCK, at * BLOCK), BLOCK);
	for (unsigned i = 0; i < BLOCK; i++)
		assert_int_equal(found[i], expected);
}

static void writes_and_syncs(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct io io = {.op = IO_WRITE, .fd = file, .buf = block, .len = BLOCK};
	memset(block, 'a', BLOCK);
	assert_int_equal(run_one(loop, io), BLOCK);
	memset(block, 'b', BLOCK);
	io.offset = 2 * BLOCK;
	io.flags = RWF_DSYNC;
	assert_int_equal(run_one(loop, io), BLOCK);
	check_block(0, 'a');
	check_block(1, 0);
	check_block(2, 'b');
	assert_int_equal(run_one(loop, (struct io){.op = IO_FDATASYNC, .fd = file}), 0);
	destroy(loop);
}

static void direct_writes(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	int direct = open(path, O_RDWR | O_DIRECT);
	if (direct < 0) {
		print_message("no direct I/O here: %s\n", strerror(errno));
		destroy(loop);
		skip();
	}
	struct io io = {.op = IO_WRITE, .fd = direct, .buf = block, .len = BLOCK, .flags = RWF_DSYNC, .offset = 8 * BLOCK};
	memset(block, 'd', BLOCK);
	assert_int_equal(run_one(loop, io), BLOCK);
	close(direct);
	check_block(8, 'd');
	destroy(loop);
}

static void registered_memory_is_written(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	int slot = loop_buffers_register(loop, block, BLOCK);
	if (slot < 0) {
		print_message("this engine registers no memory\n");
		destroy(loop);
		skip();
	}
	memset(block, 'r', BLOCK);
	struct io io = {.op = IO_WRITE, .fd = file, .buf = block, .len = BLOCK, .offset = 9 * BLOCK};
	assert_int_equal(run_from(loop, io, slot), BLOCK);
	io.flags = RWF_DSYNC;
	io.offset = 10 * BLOCK;
	assert_int_equal(run_from(loop, io, slot), BLOCK);
	check_block(9, 'r');
	check_block(10, 'r');
	loop_buffers_unregister(loop, slot);
	destroy(loop);
}

static void a_hole_is_punched(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct io io = {
		.op = IO_FALLOCATE,
		.fd = file,
		.offset = 20 * BLOCK,
		.len = BLOCK,
		.flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	};
	memset(block, 'h', BLOCK);
	for (unsigned i = 19; i < 22; i++)
		assert_int_equal(pwrite(file, block, BLOCK, i * BLOCK), BLOCK);
	assert_int_equal(run_one(loop, io), 0);
	check_block(19, 'h');
	check_block(20, 0);
	check_block(21, 'h');
	destroy(loop);
}

static void errors_are_told(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	int read_only = open(path, O_RDONLY);
	struct io io = {.op = IO_WRITE, .fd = read_only, .buf = block, .len = BLOCK};
	assert_int_equal(run_one(loop, io), -EBADF);
	io.fd = -1;
	assert_int_equal(run_one(loop, io), -EBADF);
	assert_int_equal(run_one(loop, (struct io){.op = IO_FDATASYNC, .fd = -1}), -EBADF);
	assert_int_equal(run_one(loop, (struct io){.op = IO_FALLOCATE, .fd = read_only, .len = BLOCK}), -EBADF);
	io = (struct io){.op = IO_FALLOCATE, .fd = file, .len = 0};
	assert_int_equal(run_one(loop, io), -EINVAL);
	close(read_only);
	destroy(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_BOTH(writes_and_syncs),
		ON_BOTH(direct_writes),
		ON_BOTH(registered_memory_is_written),
		ON_BOTH(a_hole_is_punched),
		ON_BOTH(errors_are_told),
	};
	return cmocka_run_group_tests(tests, make_file, remove_file);
}
