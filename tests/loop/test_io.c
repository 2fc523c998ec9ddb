/* I/O of a loop: each kind, its errors, the depth, registered buffers and files, cancelling. */
#include "on_both.h"
#include "loop/io.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>

static char path[] = "/tmp/quire-loop-io-XXXXXX";
static int file = -1;
#define FILE_BYTES (1u << 20)

static uint8_t byte_at(uint64_t offset)
{
	return (uint8_t)(offset * 31 + (offset >> 8) * 7 + (offset >> 16));
}

static int make_file(void **state)
{
	file = mkstemp(path);
	uint8_t *content = malloc(FILE_BYTES);
	if (file < 0 || content == NULL)
		return -1;
	for (uint64_t i = 0; i < FILE_BYTES; i++)
		content[i] = byte_at(i);
	bool good = write(file, content, FILE_BYTES) == FILE_BYTES;
	free(content);
	return good ? 0 : -1;
}

static int remove_file(void **state)
{
	close(file);
	return unlink(path);
}

/* ---- one after the other, from a task on the loop ---- */

struct step {
	struct io io;
	int64_t result;
	unsigned n_done;
	struct quire_loop *loop;
};

static bool inside_submit;

static void step_done(struct io *io, int64_t result)
{
	struct step *step = (struct step *)io;
	assert_false(inside_submit);
	assert_ptr_equal(quire_loop_self(), step->loop);
	step->result = result;
	step->n_done++;
}

static void step_init(struct step *step, struct quire_loop *loop, enum io_op op)
{
	memset(step, 0, sizeof(*step));
	memset(step->io.engine, 0xee, sizeof(step->io.engine)); /* theirs, whatever was in it */
	step->io.op = op;
	step->io.fd = -1;
	step->io.buffer_slot = -1;
	step->io.done = step_done;
	step->loop = loop;
}

static struct step *submit_list;
static unsigned n_submit;
static struct quire_loop *submit_loop;

static void submit_all(struct loop_task *task)
{
	inside_submit = true;
	for (unsigned i = 0; i < n_submit; i++)
		loop_io_submit(submit_loop, &submit_list[i].io);
	inside_submit = false;
}

static void run_steps(struct quire_loop *loop, struct step *steps, unsigned n)
{
	struct loop_task task;
	loop_task_init(&task, submit_all);
	submit_list = steps;
	n_submit = n;
	submit_loop = loop;
	loop_post(loop, &task);
	run(loop);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(steps[i].n_done, 1);
}

static int64_t run_one(struct quire_loop *loop, struct step *step)
{
	run_steps(loop, step, 1);
	return step->result;
}

/* ---- kinds ---- */

static void nop_and_madvise(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct step step;
	step_init(&step, loop, IO_NOP);
	assert_int_equal(run_one(loop, &step), 0);

	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *map = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	map[0] = 1;
	step_init(&step, loop, IO_MADVISE);
	step.io.buf = map;
	step.io.len = page;
	step.io.flags = MADV_DONTNEED;
	assert_int_equal(run_one(loop, &step), 0);
	assert_int_equal(map[0], 0);
	munmap(map, page);

	/* More than the ring's length field holds. */
	uint64_t huge = UINT64_C(5) << 30;
	map = mmap(NULL, huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(map != MAP_FAILED);
	map[0] = map[huge - 1] = map[huge / 2] = 1;
	step_init(&step, loop, IO_MADVISE);
	step.io.buf = map;
	step.io.len = huge;
	step.io.flags = MADV_DONTNEED;
	assert_int_equal(run_one(loop, &step), 0);
	assert_int_equal(map[0] + map[huge - 1] + map[huge / 2], 0);
	munmap(map, huge);
	destroy(loop);
}

static void read_whole_short_and_past_the_end(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct step steps[4];
	uint8_t buf[4][4096];
	const uint64_t offset[] = {0, 12345, FILE_BYTES - 100, FILE_BYTES};
	const int64_t expected[] = {4096, 4096, 100, 0};
	for (int i = 0; i < 4; i++) {
		step_init(&steps[i], loop, IO_READ);
		steps[i].io.fd = file;
		steps[i].io.buf = buf[i];
		steps[i].io.len = 4096;
		steps[i].io.offset = offset[i];
	}
	run_steps(loop, steps, 4);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(steps[i].result, expected[i]);
		for (int64_t k = 0; k < expected[i]; k++)
			assert_int_equal(buf[i][k], byte_at(offset[i] + (uint64_t)k));
	}
	destroy(loop);
}

static void open_and_statx(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct step step;
	struct statx stx;
	step_init(&step, loop, IO_OPEN);
	step.io.path = path;
	step.io.flags = O_RDONLY | O_CLOEXEC;
	int64_t fd = run_one(loop, &step);
	assert_true(fd >= 0);
	close((int)fd);
	step_init(&step, loop, IO_STATX);
	step.io.path = path;
	step.io.statx_buf = &stx;
	assert_int_equal(run_one(loop, &step), 0);
	assert_int_equal(stx.stx_size, FILE_BYTES);
	destroy(loop);
}

static void errors_arrive_as_results(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct step step;
	char byte;
	step_init(&step, loop, IO_READ);
	step.io.buf = &byte;
	step.io.len = 1;
	assert_int_equal(run_one(loop, &step), -EBADF);
	step_init(&step, loop, IO_OPEN);
	step.io.path = "/nonexistent/at/all";
	assert_int_equal(run_one(loop, &step), -ENOENT);
	step_init(&step, loop, IO_POLL);
	step.io.flags = POLLIN;
	assert_int_equal(run_one(loop, &step), -EBADF);
	step_init(&step, loop, IO_MADVISE);
	step.io.buf = (void *)1;
	step.io.len = 4096;
	assert_int_equal(run_one(loop, &step), -EINVAL);
	destroy(loop);
}

/* ---- depth: all end, each once, never more than the depth under way at a time ---- */

static void far_more_than_the_depth(void **state)
{
	struct quire_loop_options o = {.depth = 4};
	struct quire_loop *loop = loop_of(state, &o);
	unsigned n = 3000;
	struct step *steps = calloc(n, sizeof(*steps));
	uint8_t *buf = malloc(n * 512);
	assert_int_equal(loop_depth(loop), 4);
	for (unsigned i = 0; i < n; i++) {
		step_init(&steps[i], loop, IO_READ);
		steps[i].io.fd = file;
		steps[i].io.buf = buf + i * 512;
		steps[i].io.len = 512;
		steps[i].io.offset = i * 331;
	}
	run_steps(loop, steps, n);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(steps[i].result, 512);
		for (unsigned k = 0; k < 512; k++)
			assert_int_equal(buf[i * 512 + k], byte_at(i * 331 + k));
	}
	free(buf);
	free(steps);
	destroy(loop);
}

/* ---- registered buffers ---- */

static void registered_or_refused(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *buf = aligned_alloc(page, 16 * page);
	int buffer_slot = loop_buffers_register(loop, buf, 16 * page);
	if (quire_loop_engine(loop) == QUIRE_ENGINE_THREADS)
		assert_int_equal(buffer_slot, -ENOTSUP);
	struct step step;
	step_init(&step, loop, IO_READ);
	step.io.fd = file;
	step.io.buffer_slot = buffer_slot;
	step.io.buf = buf + page;
	step.io.len = page;
	step.io.offset = 777;
	assert_int_equal(run_one(loop, &step), page);
	for (size_t k = 0; k < page; k++)
		assert_int_equal(buf[page + k], byte_at(777 + k));
	if (buffer_slot >= 0) {
		loop_buffers_unregister(loop, buffer_slot);
		assert_int_equal(loop_buffers_register(loop, buf, 16 * page), buffer_slot);
		loop_buffers_unregister(loop, buffer_slot);
	}
	free(buf);
	destroy(loop);
}

static void slots_run_out_politely(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *buf = aligned_alloc(page, page);
	int n = 0, rc;
	while ((rc = loop_buffers_register(loop, buf, page)) >= 0 && n < 5000)
		assert_int_equal(rc, n++);
	assert_true(rc == -ENOSPC || rc == -ENOTSUP || rc == -ENOMEM); /* the last: RLIMIT_MEMLOCK's */
	while (n-- > 0)
		loop_buffers_unregister(loop, n);
	free(buf);
	destroy(loop);
}

/* ---- poll ---- */

static int polled[2];

static void poll_step(struct step *step, struct quire_loop *loop, int fd, unsigned events)
{
	step_init(step, loop, IO_POLL);
	step->io.fd = fd;
	step->io.flags = events;
}

static void write_later(struct loop_timer *timer)
{
	assert_int_equal(write(polled[1], "x", 1), 1);
}

static void many_polls_of_one_descriptor(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	assert_int_equal(pipe(polled), 0);
	struct step steps[6];
	for (int i = 0; i < 4; i++)
		poll_step(&steps[i], loop, polled[0], i % 2 ? POLLIN : POLLIN | POLLPRI);
	poll_step(&steps[4], loop, polled[1], POLLOUT);
	poll_step(&steps[5], loop, file, POLLIN);
	struct loop_timer timer = {.run = write_later};
	assert_int_equal(loop_timer_arm(loop, &timer, loop_now_ns() + 2 * MS), 0);
	run_steps(loop, steps, 6);
	for (int i = 0; i < 4; i++)
		assert_int_equal(steps[i].result, POLLIN);
	assert_int_equal(steps[4].result, POLLOUT);
	assert_int_equal(steps[5].result, POLLIN);
	/* Level: still there. And the writer's end. */
	poll_step(&steps[0], loop, polled[0], POLLIN);
	assert_int_equal(run_one(loop, &steps[0]), POLLIN);
	char byte;
	assert_int_equal(read(polled[0], &byte, 1), 1);
	close(polled[1]);
	poll_step(&steps[0], loop, polled[0], POLLIN);
	assert_int_equal(run_one(loop, &steps[0]), POLLHUP);
	close(polled[0]);
	destroy(loop);
}

/* ---- cancelling ---- */

static struct step *victims;
static unsigned n_victims;

static void cancel_all(struct loop_task *task)
{
	submit_all(NULL);
	for (unsigned i = 0; i < n_victims; i++) {
		loop_io_cancel(submit_loop, &victims[i].io);
		loop_io_cancel(submit_loop, &victims[i].io);
	}
}

static void cancel_when_queued_and_when_started(void **state)
{
	struct quire_loop_options o = {.depth = 4, .n_threads = 2};
	struct quire_loop *loop = loop_of(state, &o);
	struct step steps[40];
	uint8_t buf[40][64];
	assert_int_equal(pipe(polled), 0);
	for (int i = 0; i < 40; i++) {
		if (i < 4) {
			poll_step(&steps[i], loop, polled[0], POLLIN);
			continue;
		}
		step_init(&steps[i], loop, IO_READ);
		steps[i].io.fd = file;
		steps[i].io.buf = buf[i];
		steps[i].io.len = 64;
	}
	struct loop_task task;
	loop_task_init(&task, cancel_all);
	submit_list = victims = steps;
	n_submit = n_victims = 40;
	submit_loop = loop;
	loop_post(loop, &task);
	run(loop);
	unsigned n_cancelled = 0;
	for (int i = 0; i < 40; i++) {
		assert_int_equal(steps[i].n_done, 1);
		assert_true(steps[i].result == -ECANCELED || (i >= 4 && steps[i].result == 64));
		n_cancelled += steps[i].result == -ECANCELED;
	}
	/* The polls, and what was beyond the depth. */
	assert_true(n_cancelled >= 36);
	close(polled[0]);
	close(polled[1]);
	destroy(loop);
}

/* done() submits the same memory again, while cancels fly about. */
struct churn {
	struct io io;
	unsigned left;
	struct quire_loop *loop;
	uint8_t buf[64];
};

static void churn_done(struct io *io, int64_t result)
{
	struct churn *c = (struct churn *)io;
	assert_true(result == 64 || result == -ECANCELED);
	if (c->left-- == 0)
		return;
	loop_io_submit(c->loop, io);
	if (c->left % 3 == 0)
		loop_io_cancel(c->loop, io);
}

static struct churn churns[64];

static void churn_start(struct loop_task *task)
{
	for (int i = 0; i < 64; i++)
		loop_io_submit(churns[i].loop, &churns[i].io);
}

static void cancel_and_submit_again(void **state)
{
	struct quire_loop_options o = {.depth = 16};
	struct quire_loop *loop = loop_of(state, &o);
	for (int i = 0; i < 64; i++) {
		churns[i] = (struct churn){.left = SLOW ? 50 : 500, .loop = loop};
		churns[i].io = (struct io){.op = IO_READ, .fd = file, .buffer_slot = -1,
		                           .buf = churns[i].buf, .len = 64, .done = churn_done};
	}
	struct loop_task task;
	loop_task_init(&task, churn_start);
	loop_post(loop, &task);
	run(loop);
	destroy(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_BOTH(nop_and_madvise),
		ON_BOTH(read_whole_short_and_past_the_end),
		ON_BOTH(open_and_statx),
		ON_BOTH(errors_arrive_as_results),
		ON_BOTH(far_more_than_the_depth),
		ON_BOTH(registered_or_refused),
		ON_BOTH(slots_run_out_politely),
		ON_BOTH(many_polls_of_one_descriptor),
		ON_BOTH(cancel_when_queued_and_when_started),
		ON_BOTH(cancel_and_submit_again),
	};
	return cmocka_run_group_tests_name("io", tests, make_file, remove_file);
}
