/* Answers that a healthy disk never gives: each I/O of the layer goes through here first. */
#include "loop_env.h"
#include "../../src/media/media_internal.h"

#include "../../src/loop/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void __real_loop_io_submit(struct quire_loop *loop, struct io *io);
void __wrap_loop_io_submit(struct quire_loop *loop, struct io *io);

enum { READS, OPENS, N_IO_KINDS };

/* In a plan: the answer 0. */
#define NO_BYTES INT64_MIN

/* What is to happen to the next I/Os of a kind: 0 nothing, an error, or, for a read, a result
 * that is capped. */
static int64_t planned[N_IO_KINDS][8];
static unsigned n_seen[N_IO_KINDS];

/* The one that answers wrongly; one at a time is enough. */
static struct {
	struct io *io;
	void (*done)(struct io *io, int64_t result);
	enum io_op op;
	int64_t result;
} faked;

static void fake_done(struct io *io, int64_t result)
{
	assert_ptr_equal(io, faked.io);
	io->op = faked.op;
	io->done = faked.done;
	faked.io = NULL;
	io->done(io, faked.result);
}

void __wrap_loop_io_submit(struct quire_loop *loop, struct io *io)
{
	if (io->op != IO_READ && io->op != IO_OPEN) {
		__real_loop_io_submit(loop, io);
		return;
	}
	unsigned kind = io->op == IO_READ ? READS : OPENS;
	unsigned n = n_seen[kind]++;
	int64_t plan = n < 8 ? planned[kind][n] : 0;
	if (plan != 0) {
		assert_null(faked.io);
		faked.io = io;
		faked.done = io->done;
		faked.op = io->op;
		faked.result = plan == NO_BYTES ? 0 : plan;
		io->op = plan > 0 ? io->op : IO_NOP;
		io->done = fake_done;
	}
	__real_loop_io_submit(loop, io);
}

static struct media_pool *pool;
static struct media_file *file, *other;
static uint32_t page_bytes, len_bytes; /* reads are aligned to a page where the kernel tells nothing less; of the file */

/* file: closed; other: open, and idle. */
static int make_files(void **state)
{
	for (unsigned kind = 0; kind < N_IO_KINDS; kind++) {
		n_seen[kind] = 0;
		for (unsigned i = 0; i < 8; i++)
			planned[kind][i] = 0;
	}
	page_bytes = (uint32_t)sysconf(_SC_PAGESIZE);
	len_bytes = 10 * page_bytes - 960;
	pool = env_pool(1, false);
	env_write("f", 1, len_bytes);
	env_write("other", 2, 100);
	file = env_open(pool, "f", 0);
	other = env_open(pool, "other", 0);
	return 0;
}

static int drop_files(void **state)
{
	media_file_close(file);
	media_file_close(other);
	media_pool_destroy(pool);
	return 0;
}

static int read_file(void)
{
	struct env_read read = {.file = file, .seed = 1, .len_bytes = len_bytes};
	env_run(&read, 1, NULL);
	return read.result;
}

static void many_reads_open_once(void **state)
{
	enum { N = 50 };
	struct env_read reads[N] = {0};
	for (unsigned i = 0; i < N; i++)
		reads[i] = (struct env_read){.file = file, .seed = 1, .len_bytes = len_bytes};
	env_run(reads, N, NULL);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(reads[i].result, 0);
	assert_int_equal(n_seen[OPENS], 1);
	assert_int_equal(n_seen[READS], N);
}

static void medium_error_is_passed_on(void **state)
{
	planned[READS][0] = -EIO;
	assert_int_equal(read_file(), -EIO);
	assert_int_equal(n_seen[READS], 1);
	assert_int_equal(read_file(), 0);
}

static void interrupted_reads_are_repeated(void **state)
{
	planned[READS][0] = -EINTR;
	planned[READS][1] = -EAGAIN;
	assert_int_equal(read_file(), 0);
	assert_int_equal(n_seen[READS], 3);
}

static void short_reads_go_on(void **state)
{
	planned[READS][0] = page_bytes;
	planned[READS][1] = 2 * page_bytes;
	assert_int_equal(read_file(), 0);
	assert_int_equal(n_seen[READS], 3);
}

/* Direct I/O never ends within a block but at the end of a file: the kernel reads all that is
 * asked, and then only the answer is made smaller. */
static void oddly_short_reads_go_on_at_an_aligned_place(void **state)
{
	planned[READS][0] = page_bytes + 904;
	planned[READS][1] = 2 * page_bytes + 1809;
	assert_int_equal(read_file(), 0);
	assert_int_equal(n_seen[READS], 3);
}

static void no_bytes_means_the_file_has_ended(void **state)
{
	planned[READS][0] = NO_BYTES;
	assert_int_equal(read_file(), -ESTALE);
}

static void refused_direct_reads_become_buffered(void **state)
{
	planned[READS][0] = -EINVAL;
	assert_int_equal(read_file(), 0);
	assert_int_equal(media_file_alignment(file), 1);
	assert_int_equal(n_seen[READS], 2);
}

static void invalid_reads_are_not_repeated_for_ever(void **state)
{
	planned[READS][0] = -EINVAL;
	planned[READS][1] = -EINVAL;
	assert_int_equal(read_file(), -EINVAL);
}

static void refused_direct_open_becomes_buffered(void **state)
{
	if (media_file_alignment(file) == 1) {
		print_message("no direct I/O here\n");
		skip();
	}
	planned[OPENS][0] = -EINVAL;
	assert_int_equal(read_file(), 0);
	assert_int_equal(media_file_alignment(file), 1);
	assert_int_equal(n_seen[OPENS], 2);
}

static void errors_of_open_reach_the_reader(void **state)
{
	planned[OPENS][0] = -EACCES;
	assert_int_equal(read_file(), -EACCES);
	planned[OPENS][1] = -ENOENT;
	assert_int_equal(read_file(), -ESTALE);
	planned[OPENS][2] = -EAGAIN;
	assert_int_equal(read_file(), -EAGAIN);
	planned[OPENS][3] = -EINTR;
	assert_int_equal(read_file(), 0);
	assert_int_equal(n_seen[READS], 1);
}

/* Two descriptors for three files: `closed` has none, and its next open finds that the process has none left. */
static struct {
	struct media_pool *pool;
	struct media_file *closed, *first, *second;
} few;

static void few_begin(void)
{
	few.pool = env_pool(2, false);
	few.closed = env_open(few.pool, "f", 0);
	few.first = env_open(few.pool, "other", 0);
	few.second = env_open(few.pool, "other", 0); /* closes `closed` */
	planned[OPENS][0] = -EMFILE;
}

/* So that the open is not for want of a place. */
static void few_make_room(void)
{
	media_file_close(few.first);
	few.first = NULL;
}

static void few_end(void)
{
	media_file_close(few.closed);
	if (few.first != NULL)
		media_file_close(few.first);
	media_file_close(few.second);
	media_pool_destroy(few.pool);
}

static void exhausted_process_gives_up_an_idle_descriptor(void **state)
{
	few_begin();
	struct env_read read = {.file = few.closed, .seed = 1, .len_bytes = len_bytes};
	env_run(&read, 1, NULL);
	assert_int_equal(read.result, 0);
	assert_int_equal(n_seen[OPENS], 2);
	assert_int_equal(media_pool_n_open(few.pool), 1);
	few_end();
}

static void exhausted_process_without_any_of_ours_is_an_error(void **state)
{
	planned[OPENS][0] = -ENFILE; /* `other` was closed for this one */
	assert_int_equal(read_file(), -EMFILE);
	assert_int_equal(read_file(), 0);
}

static void exhausted_process_waits_for_a_descriptor_in_use(void **state)
{
	few_begin();
	struct env_read reads[] = {
		{.file = few.second, .seed = 2, .len_bytes = 100},
		{.file = few.closed, .seed = 1, .len_bytes = len_bytes},
	};
	few_make_room();
	env_run(reads, 2, NULL);
	assert_int_equal(reads[0].result, 0);
	assert_int_equal(reads[1].result, 0);
	assert_int_equal(n_seen[OPENS], 2);
	few_end();
}

/* Whose descriptors are in use may be waiting for this very read. */
static void exhausted_process_keeps_no_independent_read_waiting(void **state)
{
	few_begin();
	struct env_read reads[] = {
		{.file = few.closed, .seed = 1, .len_bytes = 40000, .independent = true},
		{.file = few.closed, .seed = 1, .offset = 8192, .len_bytes = 100},
	};
	assert_true(descriptor_get(few.second) >= 0); /* in use all the time */
	few_make_room();
	env_run(reads, 2, NULL);
	assert_int_equal(reads[0].result, 0);
	assert_int_equal(reads[1].result, 0);
	descriptor_put(few.second);
	few_end();
}

#define WITH_FILES(test) cmocka_unit_test_setup_teardown(test, make_files, drop_files)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FILES(many_reads_open_once),
		WITH_FILES(medium_error_is_passed_on),
		WITH_FILES(interrupted_reads_are_repeated),
		WITH_FILES(short_reads_go_on),
		WITH_FILES(oddly_short_reads_go_on_at_an_aligned_place),
		WITH_FILES(no_bytes_means_the_file_has_ended),
		WITH_FILES(refused_direct_reads_become_buffered),
		WITH_FILES(invalid_reads_are_not_repeated_for_ever),
		WITH_FILES(refused_direct_open_becomes_buffered),
		WITH_FILES(errors_of_open_reach_the_reader),
		WITH_FILES(exhausted_process_gives_up_an_idle_descriptor),
		WITH_FILES(exhausted_process_without_any_of_ours_is_an_error),
		WITH_FILES(exhausted_process_waits_for_a_descriptor_in_use),
		WITH_FILES(exhausted_process_keeps_no_independent_read_waiting),
	};
	return env_on_each_engine(tests);
}
