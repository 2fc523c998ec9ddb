/* device_test.c - devices of each kind: what is written is read, what is wrong is refused. */
#include "device_env.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- reading and writing ---- */

static void write_some(struct device *d)
{
	char *buf = device_env_memory(16 * BLOCK);
	device_env_fill(buf, 8, 16, 1);
	assert_int_equal(device_write(d, 8 * BLOCK, buf, 16 * BLOCK, false), 0);
	device_env_fill(buf, 24, 16, 2);
	assert_int_equal(device_write(d, 24 * BLOCK, buf, 16 * BLOCK, true), 0);
	assert_int_equal(device_flush(d), 0);
	free(buf);
}

static void check_some(struct device *d)
{
	char *buf = device_env_memory(40 * BLOCK);
	static const char zeros[8 * DEVICE_BLOCK_BYTES];
	assert_int_equal(device_read(d, 0, buf, 40 * BLOCK), 0);
	assert_memory_equal(buf, zeros, sizeof(zeros));
	device_env_check(buf + 8 * BLOCK, 8, 16, 1);
	device_env_check(buf + 24 * BLOCK, 24, 16, 2);
	free(buf);
}

static void test_what_is_written_is_read(void **state)
{
	struct device *d = device_env_open(0);
	assert_int_equal(d->size_bytes, DEVICE_BLOCKS * BLOCK);
	assert_string_equal(d->name, device_env_path());
	device_env_run(write_some, d);
	device_env_run(check_some, d);
	device_close(d);
	d = device_env_open(0);
	device_env_run(check_some, d);
	device_close(d);
}

static void test_read_only_reads(void **state)
{
	struct device *d = device_env_open(0);
	device_env_run(write_some, d);
	device_close(d);
	d = device_env_open(DEVICE_READ_ONLY);
	assert_true(d->read_only);
	assert_false(d->discards);
	device_env_run(check_some, d);
	device_close(d);
}

static void write_to_read_only(struct device *d)
{
	void *buf = device_env_memory(BLOCK);
	memset(buf, 1, BLOCK);
	assert_int_equal(device_write(d, 0, buf, BLOCK, false), -EROFS);
	assert_int_equal(device_write(d, 0, buf, BLOCK, true), -EROFS);
	assert_int_equal(device_discard(d, 0, BLOCK), -EROFS);
	assert_int_equal(device_grow(d, (DEVICE_BLOCKS + 1) * BLOCK), -EROFS);
	assert_int_equal(device_flush(d), 0);
	free(buf);
}

static void test_read_only_writes_nothing(void **state)
{
	struct device *d = device_env_open(DEVICE_READ_ONLY);
	device_env_run(write_to_read_only, d);
	device_close(d);
}

static void use_wrongly(struct device *d)
{
	char *buf = device_env_memory(2 * BLOCK);
	uint64_t end = d->size_bytes;
	assert_int_equal(device_read(d, 512, buf, BLOCK), -EINVAL);
	assert_int_equal(device_read(d, 0, buf, 512), -EINVAL);
	assert_int_equal(device_read(d, 0, buf + 512, BLOCK), -EINVAL);
	assert_int_equal(device_read(d, end, buf, BLOCK), -EINVAL);
	assert_int_equal(device_write(d, end - BLOCK, buf, 2 * BLOCK, false), -EINVAL);
	assert_int_equal(device_write(d, UINT64_MAX - BLOCK + 1, buf, 2 * BLOCK, true), -EINVAL);
	assert_int_equal(device_discard(d, BLOCK, UINT64_MAX - BLOCK + 1), -EINVAL);
	assert_int_equal(device_discard(d, 100, BLOCK), -EINVAL);
	free(buf);
}

static void test_wrong_arguments_are_refused(void **state)
{
	struct device *d = device_env_open(0);
	device_env_run(use_wrongly, d);
	device_close(d);
}

static void use_ends(struct device *d)
{
	char *buf = device_env_memory(BLOCK);
	device_env_fill(buf, DEVICE_BLOCKS - 1, 1, 3);
	assert_int_equal(device_write(d, d->size_bytes - BLOCK, buf, BLOCK, true), 0);
	memset(buf, 0, BLOCK);
	assert_int_equal(device_read(d, d->size_bytes - BLOCK, buf, BLOCK), 0);
	device_env_check(buf, DEVICE_BLOCKS - 1, 1, 3);
	assert_int_equal(device_read(d, d->size_bytes, buf, 0), 0);
	assert_int_equal(device_write(d, 0, buf, 0, false), 0);
	assert_int_equal(device_discard(d, 0, 0), 0);
	free(buf);
}

static void test_last_block_and_no_block(void **state)
{
	struct device *d = device_env_open(0);
	device_env_run(use_ends, d);
	device_close(d);
}

/* ---- many at once ---- */

#define N_AT_ONCE 200u

struct one {
	struct device_io io;
	unsigned n_done;
	int result;
};

static bool submitting;

static void one_done(struct device_io *io, int result)
{
	struct one *one = (struct one *)io;
	assert_false(submitting);
	assert_ptr_equal(quire_loop_self(), device_env_loop());
	one->n_done++;
	one->result = result;
}

static void submit_all(struct device *d, enum device_verb verb, struct one *ones, char *memory)
{
	submitting = true;
	for (unsigned i = 0; i < N_AT_ONCE; i++) {
		ones[i] = (struct one){
			.io = {
				.verb = verb,
				.offset = i * 2 * BLOCK,
				.len_bytes = 2 * BLOCK,
				.buf = memory + i * 2 * BLOCK,
				.buffer_slot = -1,
				.done = one_done,
			},
		};
		device_submit(d, quire_loop_self(), &ones[i].io);
	}
	submitting = false;
}

static struct one at_once[N_AT_ONCE];
static char *at_once_memory;

static void write_at_once(struct device *d)
{
	device_env_fill(at_once_memory, 0, 2 * N_AT_ONCE, 4);
	submit_all(d, DEVICE_WRITE_DURABLE, at_once, at_once_memory);
}

static void read_at_once(struct device *d)
{
	submit_all(d, DEVICE_READ, at_once, at_once_memory);
}

static void check_at_once(void)
{
	for (unsigned i = 0; i < N_AT_ONCE; i++) {
		assert_int_equal(at_once[i].n_done, 1);
		assert_int_equal(at_once[i].result, 0);
	}
}

static void test_many_at_once(void **state)
{
	struct device *d = device_env_open(0);
	at_once_memory = device_env_memory(2 * N_AT_ONCE * BLOCK);
	device_env_run(write_at_once, d);
	check_at_once();
	memset(at_once_memory, 0, 2 * N_AT_ONCE * BLOCK);
	device_env_run(read_at_once, d);
	check_at_once();
	device_env_check(at_once_memory, 0, 2 * N_AT_ONCE, 4);
	free(at_once_memory);
	device_close(d);
}

/* ---- plain threads ---- */

static void *use_from_thread(void *arg)
{
	write_some(arg);
	check_some(arg);
	return NULL;
}

static void test_plain_threads(void **state)
{
	struct device *d = device_env_open(0);
	struct quire_loop *service;
	pthread_t threads[3];
	assert_int_equal(service_get(&service, NULL), 0);
	d->service = service;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, use_from_thread, d), 0);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	device_close(d);
	service_put();
}

static int result_in_callback;

static void flush_in_task(struct device_io *io, int result)
{
	result_in_callback = device_flush((struct device *)(uintptr_t)io->offset);
}

static void finish_with_callback(struct device *d)
{
	static struct device_io io;
	io = (struct device_io){.verb = DEVICE_READ, .done = flush_in_task, .buffer_slot = -1};
	io.len_bytes = 0;
	device_submit(d, quire_loop_self(), &io);
	io.offset = (uintptr_t)d;
}

static void test_no_waiting_in_a_callback(void **state)
{
	struct device *d = device_env_open(0);
	result_in_callback = 0;
	device_env_run(finish_with_callback, d);
	assert_int_equal(result_in_callback, -EDEADLK);
	device_close(d);
}

/* ---- discard ---- */

static void discard_some(struct device *d)
{
	assert_int_equal(device_discard(d, 8 * BLOCK, 16 * BLOCK), 0);
}

static void check_rest(struct device *d)
{
	char *buf = device_env_memory(16 * BLOCK);
	assert_int_equal(device_read(d, 24 * BLOCK, buf, 16 * BLOCK), 0);
	device_env_check(buf, 24, 16, 2);
	free(buf);
}

static void test_discard_gives_space_back(void **state)
{
	struct device *d = device_env_open(0);
	struct stat before, after;
	device_env_run(write_some, d);
	assert_int_equal(stat(device_env_backing(), &before), 0);
	device_env_run(discard_some, d);
	device_env_run(check_rest, d);
	assert_int_equal(stat(device_env_backing(), &after), 0);
	if (d->discards)
		assert_int_equal(before.st_blocks - after.st_blocks, 16 * BLOCK / 512);
	else
		print_message("%s does not discard\n", device_env_path());
	device_close(d);
}

static void test_written_now(void **state)
{
	struct device *d = device_env_open(0);
	char *buf = device_env_memory(3 * BLOCK);

	(void)state;
	assert_int_equal(d->now, DEVICE_NOW_BLOCKS);
	device_env_fill(buf, 7, 3, 5);
	int rc = device_write_now(d, 7 * BLOCK, buf, 3 * BLOCK);
	if (rc == -EAGAIN && getenv("QUIRE_EMULATED") != NULL) {
		print_message("the emulator has no pwritev2: it is to be submitted, and nothing was done\n");
		device_close(d);
		free(buf);
		skip();
	}
	assert_int_equal(rc, 0);
	memset(buf, 0, 3 * BLOCK);
	assert_int_equal(device_read_now(d, 7 * BLOCK, buf, 3 * BLOCK), 0);
	device_env_check(buf, 7, 3, 5);
	assert_int_equal(device_write_now(d, d->size_bytes, buf, BLOCK), -EINVAL);
	assert_int_equal(device_write_now(d, 512, buf, BLOCK), -EINVAL);
	device_close(d);
	d = device_env_open(DEVICE_READ_ONLY);
	assert_int_equal(device_write_now(d, 0, buf, BLOCK), -EROFS);
	device_close(d);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_written_is_read),
		cmocka_unit_test(test_read_only_reads),
		cmocka_unit_test(test_read_only_writes_nothing),
		cmocka_unit_test(test_wrong_arguments_are_refused),
		cmocka_unit_test(test_last_block_and_no_block),
		cmocka_unit_test(test_many_at_once),
		cmocka_unit_test(test_plain_threads),
		cmocka_unit_test(test_no_waiting_in_a_callback),
		cmocka_unit_test(test_discard_gives_space_back),
		cmocka_unit_test(test_written_now),
	};
	return device_env_main(tests);
}
