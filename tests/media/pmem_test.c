/* long: one device, all that may happen to it, and each of it on two media */
/* pmem_test.c - a mapped file as a device: on tmpfs and on a disk, where nothing of it outlives the power, and as if it did
 * (PMEM2_FORCE_GRANULARITY, given from outside: libpmem2 looks at it once). On a disk that has DAX, if $TMPDIR is one of those:
 * QUIRE_EXPECT_GRANULARITY says which.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../src/media/device_pmem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK ((uint64_t)DEVICE_BLOCK_BYTES)
#define DEVICE_BYTES (5 * PMEM_CHUNK_BYTES + 3 * BLOCK)

static struct quire_loop *loop;
static char dir[PATH_MAX / 2], path[PATH_MAX];
static struct device *d;
static struct quire_error err;
static unsigned char memory[64 * DEVICE_BLOCK_BYTES] __attribute__((aligned(DEVICE_BLOCK_BYTES)));

static const char *dax; /* "line", "byte": the directory's file system has it, as whoever started us knows */

/* What is stored there outlives the power, or libpmem2 is made to believe so. */
static bool by_the(const char *granularity, const char *word)
{
	const char *forced = getenv("PMEM2_FORCE_GRANULARITY");

	return forced != NULL ? strcmp(forced, word) == 0 : dax != NULL && strcmp(dax, granularity) == 0;
}

static int make_loop(enum quire_engine engine)
{
	struct quire_loop_options opts = {.size = sizeof(opts), .engine = engine, .n_threads = 1};

	return quire_loop_create(&opts, &loop, NULL);
}

static int set_up_in(const char *where)
{
	if (make_loop(QUIRE_ENGINE_URING) < 0 && make_loop(QUIRE_ENGINE_THREADS) < 0)
		return -1;
	snprintf(dir, sizeof(dir), "%s/quire-pmem-XXXXXX", where);
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/device", dir);
	return 0;
}

static int set_up(void **state)
{
	dax = NULL;
	return set_up_in("/dev/shm");
}

static int set_up_on_disk(void **state)
{
	const char *tmp = getenv("TMPDIR");

	dax = getenv("QUIRE_EXPECT_GRANULARITY");
	return set_up_in(tmp != NULL ? tmp : "/tmp");
}

static int tear_down(void **state)
{
	device_close(d);
	d = NULL;
	int rc = quire_loop_destroy(loop);
	(void)unlink(path);
	(void)umount(dir); /* of the one test that mounts */
	return rmdir(dir) < 0 ? -1 : rc;
}

static int open_it(unsigned flags, enum device_durable durable)
{
	device_close(d);
	d = NULL;
	return device_open_pmem(path, flags, DEVICE_BYTES, durable, NULL, &d, &err);
}

static void create(void)
{
	if (open_it(DEVICE_CREATE, DEVICE_DURABLE_PROCESS) < 0)
		fail_msg("%s", err.text);
}

static void run_in_coroutine(void *fn)
{
	((void (*)(void))fn)();
}

/* fn() in a coroutine, until the loop has nothing left to do. */
static void run(void (*fn)(void))
{
	assert_int_equal(quire_co_spawn(loop, run_in_coroutine, (void *)fn), 0);
	assert_int_equal(quire_loop_run(loop), 0);
}

static const void *bytes_of(int tag)
{
	memset(memory, tag, sizeof(memory));
	return memory;
}

static bool holds(uint64_t offset, uint64_t len_bytes, int tag)
{
	static unsigned char buf[64 * DEVICE_BLOCK_BYTES] __attribute__((aligned(DEVICE_BLOCK_BYTES)));

	assert_int_equal(device_read_now(d, offset, buf, len_bytes), 0);
	return buf[0] == tag && memcmp(buf, buf + 1, len_bytes - 1) == 0;
}

/* ---- what it is ---- */

static void test_what_it_is(void **state)
{
	create();
	bool line = by_the("line", "CACHE_LINE"), byte = by_the("byte", "BYTE");
	assert_int_equal(d->medium, DEVICE_MEDIUM_PMEM);
	assert_int_equal(d->align_bytes, 8);
	assert_int_equal(d->granularity_bytes, byte ? 1 : line ? 64 : sysconf(_SC_PAGESIZE));
	assert_int_equal(d->durable, byte || line ? DEVICE_DURABLE_POWER : DEVICE_DURABLE_PROCESS);
	assert_int_equal(d->size_bytes, DEVICE_BYTES);
	assert_string_equal(d->name, path);
}

static void test_without_dax_there_is_no_power(void **state)
{
	if (by_the("line", "CACHE_LINE") || by_the("byte", "BYTE")) {
		create();
		assert_int_equal(open_it(0, DEVICE_DURABLE_POWER), 0);
		return;
	}
	assert_int_equal(open_it(DEVICE_CREATE, DEVICE_DURABLE_POWER), -ENOTSUP);
	assert_non_null(strstr(err.text, "no DAX"));
	assert_non_null(strstr(err.text, "durable=process"));
	assert_int_equal(access(path, F_OK), -1);
	create();
	assert_int_equal(open_it(0, DEVICE_DURABLE_POWER), -ENOTSUP);
	assert_int_equal(access(path, F_OK), 0);
}

static void test_what_is_no_file_is_refused(void **state)
{
	assert_int_equal(open_it(0, DEVICE_DURABLE_PROCESS), -ENOENT);
	assert_int_equal(device_open_pmem(dir, 0, 0, DEVICE_DURABLE_PROCESS, NULL, &d, &err), -EISDIR);
	assert_int_equal(device_open_pmem("/dev/null", 0, 0, DEVICE_DURABLE_PROCESS, NULL, &d, &err), -EINVAL);
	create();
	assert_int_equal(open_it(DEVICE_CREATE, DEVICE_DURABLE_PROCESS), -EEXIST);
	assert_int_equal(truncate(path, 100), 0);
	assert_int_equal(open_it(0, DEVICE_DURABLE_PROCESS), -EINVAL);
}

/* ---- reading and writing ---- */

static void write_pieces(void)
{
	assert_int_equal(device_write(d, 8, bytes_of(1), 24, true), 0);
	assert_int_equal(device_write(d, 32, bytes_of(2), 8, false), 0);
	assert_int_equal(device_write(d, PMEM_CHUNK_BYTES - 16, bytes_of(3), 40, true), 0);
	assert_int_equal(device_write(d, DEVICE_BYTES - 16 * BLOCK, bytes_of(4), 16 * BLOCK, true), 0);
	assert_int_equal(device_write(d, 0, memory, 0, true), 0);
	assert_int_equal(device_flush(d), 0);
	assert_int_equal(device_read(d, PMEM_CHUNK_BYTES - 24, memory, 64), 0);
	assert_int_equal(memory[7], 0);
	assert_int_equal(memory[8], 3);
	assert_int_equal(memory[47], 3);
	assert_int_equal(memory[48], 0);
}

static void check_pieces(void)
{
	assert_true(holds(0, 8, 0) && holds(8, 24, 1) && holds(32, 8, 2) && holds(40, 4096, 0));
	assert_true(holds(PMEM_CHUNK_BYTES - 16, 40, 3));
	assert_true(holds(DEVICE_BYTES - 16 * BLOCK, 16 * BLOCK, 4));
}

static void test_what_is_written_is_read(void **state)
{
	create();
	run(write_pieces);
	check_pieces();
	assert_int_equal(open_it(0, DEVICE_DURABLE_PROCESS), 0);
	check_pieces();
	/* It is a file like any other. */
	device_close(d);
	assert_int_equal(device_open(path, DEVICE_BUFFERED, 0, NULL, &d, &err), 0);
	assert_true(holds(DEVICE_BYTES - 16 * BLOCK, 16 * BLOCK, 4));
}

static void use_wrongly(void)
{
	assert_int_equal(device_read(d, 4, memory, 8), -EINVAL);
	assert_int_equal(device_read(d, 0, memory, 12), -EINVAL);
	assert_int_equal(device_write(d, 0, memory + 4, 8, true), -EINVAL);
	assert_int_equal(device_write(d, DEVICE_BYTES - 8, memory, 16, true), -EINVAL);
	assert_int_equal(device_discard(d, 8, BLOCK), -EINVAL);
}

static void test_wrong_arguments_are_refused(void **state)
{
	create();
	run(use_wrongly);
}

static void write_read_only(void)
{
	assert_int_equal(device_write(d, 0, memory, 8, true), -EROFS);
	assert_int_equal(device_flush(d), 0);
}

static void test_read_only_writes_nothing(void **state)
{
	create();
	run(write_pieces);
	assert_int_equal(open_it(DEVICE_READ_ONLY, DEVICE_DURABLE_PROCESS), 0);
	check_pieces();
	run(write_read_only);
}

static void test_a_shorter_file_is_an_error(void **state)
{
	create();
	assert_int_equal(truncate(path, (off_t)(4 * BLOCK)), 0);
	assert_int_equal(device_read_now(d, 4 * BLOCK, memory, BLOCK), -EIO);
}

static void write_at_bad(void)
{
	assert_int_equal(device_write(d, BLOCK - 8, memory, 16, true), -EIO);
	assert_int_equal(device_read(d, BLOCK, memory, BLOCK), -EIO);
	assert_int_equal(device_write(d, BLOCK - 8, memory, 8, true), 0);
	assert_int_equal(device_read(d, BLOCK + 512, memory, 8), 0);
}

static void test_a_block_that_is_known_as_bad_is_an_error(void **state)
{
	create();
	struct device_pmem *p = (struct device_pmem *)d;
	p->bad = malloc(sizeof(*p->bad));
	assert_non_null(p->bad);
	*p->bad = (struct pmem_range){.offset = BLOCK, .len_bytes = 512};
	p->n_bad = 1;
	run(write_at_bad);
	assert_int_equal(device_read_now(d, BLOCK, memory, 8), -EIO);
}

/* ---- many at once ---- */

#define N_IOS 200u

static struct device_io ios[N_IOS];
static unsigned n_done, n_fences;
static void (*fence_of_device)(struct pmem_memory *memory);

static void io_done(struct device_io *io, int result)
{
	assert_int_equal(result, 0);
	n_done++;
}

static void count_fence(struct pmem_memory *m)
{
	assert_int_equal(n_done, 0); /* nobody is told before */
	n_fences++;
	fence_of_device(m);
}

static void write_all(void)
{
	bytes_of(9);
	for (unsigned i = 0; i < N_IOS; i++) {
		ios[i] = (struct device_io){.verb = DEVICE_WRITE_DURABLE, .offset = i * 72, .len_bytes = 48, .buf = memory,
		                            .buffer_slot = -1, .done = io_done};
		device_submit(d, quire_loop_self(), &ios[i]);
	}
	assert_int_equal(n_done, 0);
}

static void test_writes_of_a_turn_share_a_fence(void **state)
{
	create();
	struct device_pmem *p = (struct device_pmem *)d;
	fence_of_device = p->memory.fence;
	p->memory.fence = count_fence;
	n_done = n_fences = 0;
	run(write_all);
	assert_int_equal(n_done, N_IOS);
	assert_int_equal(n_fences, 1);
	for (unsigned i = 0; i < N_IOS; i++)
		assert_true(holds(i * 72, 48, 9) && holds(i * 72 + 48, 24, 0));
}

static void *write_from_thread(void *arg)
{
	unsigned char buf[40] __attribute__((aligned(8)));
	unsigned no = (unsigned)(uintptr_t)arg;

	memset(buf, (int)no, sizeof(buf));
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(device_write(d, (i * 4 + no) * 40, buf, 40, true), 0);
	return NULL;
}

static void test_plain_threads(void **state)
{
	pthread_t threads[4];
	struct quire_loop *service;

	create();
	assert_int_equal(service_get(&service, NULL), 0);
	d->service = service;
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_from_thread, (void *)(uintptr_t)i), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < 800; i++)
		assert_true(holds(i * 40, 40, (int)(i % 4)));
	device_close(d);
	d = NULL;
	service_put();
}

/* ---- space ---- */

static void discard_and_write(void)
{
	assert_int_equal(device_write(d, 0, bytes_of(5), 8 * BLOCK, true), 0);
	assert_int_equal(device_discard(d, BLOCK, 6 * BLOCK), 0);
	assert_true(holds(0, BLOCK, 5) && holds(7 * BLOCK, BLOCK, 5) && holds(BLOCK, 6 * BLOCK, 0));
	assert_int_equal(device_write(d, 2 * BLOCK + 8, bytes_of(6), 16, true), 0);
	assert_true(holds(2 * BLOCK + 8, 16, 6) && holds(BLOCK, BLOCK + 8, 0));
}

/* Runs that begin and end anywhere in lines. */
static void test_written_now(void **state)
{
	create();
	assert_int_equal(d->now, DEVICE_NOW_COPIES);
	for (uint64_t at = 8, len = 8; len <= 1024; at += len, len += 8)
		assert_int_equal(device_write_now(d, at, bytes_of((int)(len / 8)), len), 0);
	for (uint64_t at = 8, len = 8; len <= 1024; at += len, len += 8)
		assert_true(holds(at, len, (int)(len / 8)) && holds(at + len, 8, len == 1024 ? 0 : (int)(len / 8) + 1));
}

static void test_what_is_discarded_can_be_written_again(void **state)
{
	struct stat before, after;

	create();
	assert_true(d->discards);
	run(discard_and_write);
	assert_int_equal(stat(path, &before), 0);
	assert_true(before.st_blocks * 512 >= (off_t)PMEM_CHUNK_BYTES);
	assert_int_equal(quire_co_spawn(loop, run_in_coroutine, (void *)discard_and_write), 0);
	assert_int_equal(quire_loop_run(loop), 0);
	assert_int_equal(stat(path, &after), 0);
	assert_true(after.st_blocks <= before.st_blocks);
}

static void write_beyond(void)
{
	assert_int_equal(device_write(d, DEVICE_BYTES - 8, bytes_of(7), 16, true), 0);
	assert_int_equal(device_write(d, DEVICE_BYTES + PMEM_CHUNK_BYTES - 8, bytes_of(8), 8, true), 0);
}

static void test_it_grows(void **state)
{
	create();
	run(write_pieces);
	assert_int_equal(device_grow(d, DEVICE_BYTES + PMEM_CHUNK_BYTES), 0);
	assert_int_equal(d->size_bytes, DEVICE_BYTES + PMEM_CHUNK_BYTES);
	check_pieces();
	run(write_beyond);
	assert_true(holds(DEVICE_BYTES - 8, 16, 7) && holds(DEVICE_BYTES + PMEM_CHUNK_BYTES - 8, 8, 8));
}

static void fill_up(void)
{
	int rc = 0;
	uint64_t at = 0;

	bytes_of(5);
	for (; rc == 0 && at < DEVICE_BYTES - 64 * BLOCK; at += 64 * BLOCK)
		rc = device_write(d, at, memory, 64 * BLOCK, true);
	assert_int_equal(rc, -ENOSPC);
	assert_true(at >= PMEM_CHUNK_BYTES);
	assert_true(holds(0, 64 * BLOCK, 5) && holds(at - 128 * BLOCK, 64 * BLOCK, 5));
	/* What is there can be written still. */
	assert_int_equal(device_write(d, 64, bytes_of(6), 8, true), 0);
}

static void test_a_full_medium_is_an_error(void **state)
{
	if (mount("tmpfs", dir, "tmpfs", 0, "size=3m") < 0) {
		print_message("mounting: %s\n", strerror(errno));
		skip();
	}
	create();
	run(fill_up);
}

/* ---- loads from where it lies ---- */

static bool shows(const void *at, uint64_t len_bytes, int tag)
{
	const unsigned char *p = at;

	return p != NULL && p[0] == tag && memcmp(p, p + 1, len_bytes - 1) == 0;
}

static void borrow_some(void)
{
	assert_int_equal(device_write(d, BLOCK, bytes_of(7), 4 * BLOCK, true), 0);
	const void *at = device_borrow(d, BLOCK + 24, 3 * BLOCK);
	assert_true(shows(at, 3 * BLOCK, 7));
	assert_int_equal(device_grow(d, DEVICE_BYTES + 8 * BLOCK), 0);
	assert_true(shows(at, 3 * BLOCK, 7)); /* borrowed until the device is closed */
	assert_int_equal(device_write(d, DEVICE_BYTES, bytes_of(8), 8 * BLOCK, true), 0);
	assert_true(shows(device_borrow(d, DEVICE_BYTES, 8 * BLOCK), 8 * BLOCK, 8));
	assert_null(device_borrow(d, DEVICE_BYTES, 8 * BLOCK + 1));
}

static void test_loads_from_where_it_lies(void **state)
{
	create();
	run(borrow_some);
	assert_int_equal(open_it(DEVICE_READ_ONLY, DEVICE_DURABLE_PROCESS), 0);
	assert_true(shows(device_borrow(d, BLOCK, 4 * BLOCK), 4 * BLOCK, 7));
	/* Not a SIGBUS: there is no pointer to what is not there. */
	assert_int_equal(truncate(path, (off_t)(2 * BLOCK)), 0);
	assert_null(device_borrow(d, BLOCK, 4 * BLOCK));
	assert_int_equal(device_read_now(d, BLOCK, memory, 4 * BLOCK), -EIO);
	device_close(d);
	d = NULL;
	assert_int_equal(device_open(path, DEVICE_BUFFERED, 0, NULL, &d, &err), 0);
	assert_null(device_borrow(d, 0, BLOCK));
}

static bool is_there(void)
{
	const struct pmem_lib *lib;

	return pmem_lib_get(&lib, &err) == 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define ON_DISK(name) {#name " on disk", name, set_up_on_disk, tear_down, NULL}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_what_it_is),
		T(test_without_dax_there_is_no_power),
		T(test_what_is_no_file_is_refused),
		T(test_what_is_written_is_read),
		T(test_wrong_arguments_are_refused),
		T(test_read_only_writes_nothing),
		T(test_a_shorter_file_is_an_error),
		T(test_a_block_that_is_known_as_bad_is_an_error),
		T(test_writes_of_a_turn_share_a_fence),
		T(test_plain_threads),
		T(test_written_now),
		T(test_what_is_discarded_can_be_written_again),
		T(test_it_grows),
		T(test_a_full_medium_is_an_error),
		T(test_loads_from_where_it_lies),
		ON_DISK(test_what_it_is),
		ON_DISK(test_without_dax_there_is_no_power),
		ON_DISK(test_what_is_written_is_read),
		ON_DISK(test_what_is_discarded_can_be_written_again),
	};
	if (!is_there()) {
		print_message("skipped: %s\n", err.text);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
