/* face_test.c - logs in a real store: many threads append and read at once; segments in maps; operations; damage. */
#include "../blob/blob_env.h"

#include <quire/log.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#define SEGMENT 65536u
#define N_THREADS 4u
#define N_EACH 400u

struct record {
	uint32_t thread, no;
	char text[120];
};

static struct quire_log *log_;

static void open_log(void)
{
	struct quire_log_options o = {.size = sizeof(o), .segment_bytes = SEGMENT};
	struct quire_log_info info;

	if (quire_log_find(store, "log", &info) == -ENOENT)
		assert_int_equal(quire_log_create(store, "log", &o, &err), 0);
	assert_int_equal(quire_log_open(store, "log", NULL, &log_, &err), 0);
}

static void close_log(void)
{
	assert_int_equal(quire_log_close(log_), 0);
}

/* ---- threads ---- */

static void *append_some(void *arg)
{
	uint32_t thread = *(uint32_t *)arg;
	uint64_t lsn = 0, last = 0;

	for (uint32_t i = 0; i < N_EACH; i++) {
		struct record r = {.thread = thread, .no = i};
		memset(r.text, (int)('a' + i % 26), sizeof(r.text));
		struct iovec iov = {&r, sizeof(r)};
		int rc = i % 8 == 0 ? quire_log_append(log_, &iov, 1, &lsn, NULL) : quire_log_append_nowait(log_, &iov, 1, &lsn);
		if (rc < 0 || (i > 0 && lsn <= last) || (i % 8 == 0 && quire_log_durable(log_) <= lsn))
			return (void *)1;
		last = lsn;
	}
	return quire_log_sync(log_, last, NULL) == 0 ? NULL : (void *)1;
}

static void *follow_all(void *arg)
{
	uint32_t next[N_THREADS] = {0};
	struct quire_log_cursor *c;
	struct quire_log_record r;
	uint64_t n = 0;

	if (quire_log_cursor_open(log_, *(bool *)arg ? QUIRE_LOG_DURABLE : QUIRE_LOG_VISIBLE, &c) < 0)
		return (void *)1;
	while (n < N_THREADS * N_EACH) {
		int64_t rc = quire_log_next(c, &r, NULL);
		if (rc == 0 && quire_log_wait(log_, *(bool *)arg ? QUIRE_LOG_DURABLE : QUIRE_LOG_VISIBLE, n, NULL) == 0)
			continue;
		const struct record *got = r.data;
		if (rc != 1 || r.len_bytes != sizeof(*got) || r.lsn != n++ || got->thread >= N_THREADS ||
		    got->no != next[got->thread]++ || got->text[119] != (char)('a' + got->no % 26))
			return (void *)1;
	}
	quire_log_cursor_close(c);
	return NULL;
}

static void test_threads_append_and_follow(void **state)
{
	pthread_t threads[2 * N_THREADS];
	uint32_t numbers[N_THREADS];
	bool durable[N_THREADS];
	void *wrong;

	open_log();
	for (uint32_t i = 0; i < N_THREADS; i++) {
		numbers[i] = i;
		durable[i] = i % 2;
		assert_int_equal(pthread_create(&threads[i], NULL, append_some, &numbers[i]), 0);
		assert_int_equal(pthread_create(&threads[N_THREADS + i], NULL, follow_all, &durable[i]), 0);
	}
	for (uint32_t i = 0; i < 2 * N_THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], &wrong), 0);
		assert_null(wrong);
	}
	assert_int_equal(quire_log_visible(log_), N_THREADS * N_EACH);
	close_log();
	open_log();
	assert_null(follow_all(&durable[0]));
	close_log();
	assert_int_equal(check(), 0);
}

/* ---- operations ---- */

static void fill_log(unsigned n)
{
	char buf[1000];
	uint64_t lsn = 0;

	for (unsigned i = 0; i < n; i++) {
		memset(buf, (int)i, sizeof(buf));
		assert_int_equal(quire_log_append_nowait(log_, &(struct iovec){buf, sizeof(buf)}, 1, &lsn), 0);
	}
	assert_int_equal(quire_log_sync(log_, lsn, NULL), 0);
}

static void test_operations_and_eventfds(void **state)
{
	struct quire_op append_op, wait_op, next_op;
	struct quire_log_cursor *c;
	struct quire_log_record r;
	int efd = eventfd(0, 0);
	uint64_t n, lsn;

	open_log();
	quire_op_init_eventfd(&wait_op, efd);
	assert_int_equal(quire_log_wait(log_, QUIRE_LOG_DURABLE, 0, &wait_op), 0);
	assert_false(quire_op_done(&wait_op));
	quire_op_init(&append_op);
	assert_int_equal(quire_log_append(log_, &(struct iovec){"x", 1}, 1, &lsn, &append_op), 0);
	assert_int_equal(quire_await(&append_op), 0);
	assert_int_equal(read(efd, &n, sizeof(n)), sizeof(n));
	assert_int_equal(n, 1);
	fill_log(300);
	close_log();
	open_log();
	assert_int_equal(quire_log_cursor_open(log_, QUIRE_LOG_DURABLE, &c), 0);
	for (unsigned i = 0; i < 301; i++) {
		quire_op_init(&next_op);
		assert_int_equal(quire_log_next(c, &r, &next_op), 0);
		assert_int_equal(quire_await(&next_op), 1);
		assert_int_equal(r.lsn, i);
		assert_int_equal(*(const char *)r.data, i == 0 ? 'x' : (char)(i - 1));
	}
	assert_int_equal(quire_log_close(log_), -EBUSY);
	quire_log_cursor_close(c);
	close_log();
	close(efd);
}

/* ---- maps ---- */

static void test_sealed_segments_in_a_map(void **state)
{
	struct quire_log_segment s[16];
	struct quire_item items[2];
	struct quire_map *map;

	open_log();
	fill_log(300);
	close_log();
	open_log();
	assert_true(quire_log_segments(log_, s, 16) >= 3);
	assert_true(s[0].sealed && s[1].sealed);
	for (unsigned i = 0; i < 2; i++)
		items[i] = (struct quire_item){.store = store, .blob = s[i].id, .fd = -1};
	assert_int_equal(quire_map_create(cache, items, 2, NULL, &map, &err), 0);
	const char *at = quire_map_base(map);
	struct iovec all = {(void *)(uintptr_t)at, quire_map_bytes(map)};
	assert_int_equal(quire_map_want(map, &all, 1, QUIRE_WANT_PIN, NULL), 0);
	assert_memory_equal(at, "QuireSeg", 8);
	assert_int_equal(quire_log_trim(log_, s[1].end_lsn), 2);
	assert_memory_equal(at, "QuireSeg", 8); /* held */
	assert_int_equal(quire_map_unwant(map, &all, 1), 0);
	assert_int_equal(quire_map_destroy(map, NULL), 0);
	/* The last segment that has no successor is none. */
	unsigned n = quire_log_segments(log_, s, 16);
	items[0].blob = s[n - 1].id;
	assert_int_equal(quire_map_create(cache, items, 1, NULL, &map, &err), -EAGAIN);
	assert_int_equal(quire_blob_delete(store, &s[0].id, 1, NULL), -ESTALE);
	close_log();
}

static void test_a_map_keeps_a_segment_that_moves(void **state)
{
	struct quire_log_segment s[16], now[16];
	struct quire_item item = {.store = store, .fd = -1};
	struct quire_map *old, *new;

	assert_int_equal(quire_store_class_add(store, QUIRE_CLASS_STAGING, NULL, 4u << 20, &err), 0);
	open_log();
	fill_log(300);
	close_log();
	open_log();
	assert_true(quire_log_segments(log_, s, 16) >= 3);
	item.blob = s[0].id;
	assert_int_equal(quire_map_create(cache, &item, 1, NULL, &old, &err), 0);
	assert_int_equal(quire_log_destage(log_, s[1].end_lsn, QUIRE_CLASS_STAGING, &err), 2);
	assert_true(quire_log_segments(log_, now, 16) >= 3);
	assert_int_equal(quire_map_create(cache, &item, 1, NULL, &new, &err), -ESTALE);
	item.blob = now[0].id;
	assert_int_equal(quire_map_create(cache, &item, 1, NULL, &new, &err), 0);
	assert_int_equal(quire_map_bytes(old), quire_map_bytes(new));
	struct iovec a = {(void *)(uintptr_t)quire_map_base(old), s[0].len_bytes};
	struct iovec b = {(void *)(uintptr_t)quire_map_base(new), s[0].len_bytes};
	assert_int_equal(quire_map_want(old, &a, 1, QUIRE_WANT_PIN, NULL), 0); /* for the first time */
	assert_int_equal(quire_map_want(new, &b, 1, QUIRE_WANT_PIN, NULL), 0);
	assert_memory_equal(a.iov_base, b.iov_base, s[0].len_bytes);
	assert_int_equal(quire_map_unwant(old, &a, 1), 0);
	assert_int_equal(quire_map_unwant(new, &b, 1), 0);
	assert_int_equal(quire_map_destroy(old, NULL), 0);
	assert_int_equal(quire_map_destroy(new, NULL), 0);
	close_log();
	assert_int_equal(check(), 0);
}

/* Another thread follows the log, from its start again and again, while its segments go to and fro. */
static void *read_again_and_again(void *arg)
{
	_Atomic bool *stop = arg;
	struct quire_log_record r;

	while (!atomic_load(stop)) {
		struct quire_log_cursor *c;
		uint64_t n = 0;
		int64_t rc;
		if (quire_log_cursor_open(log_, QUIRE_LOG_DURABLE, &c) < 0)
			return (void *)1;
		for (; (rc = quire_log_next(c, &r, NULL)) == 1; n++)
			if (r.len_bytes != 1000 || *(const char *)r.data != (char)n || memcmp(r.data, (const char *)r.data + 1, 999) != 0)
				return (void *)1;
		quire_log_cursor_close(c);
		if (rc < 0 || n < 300)
			return (void *)1;
	}
	return NULL;
}

static void test_threads_read_while_segments_move(void **state)
{
	_Atomic bool stop = false;
	pthread_t threads[2];
	void *wrong;

	assert_int_equal(quire_store_class_add(store, QUIRE_CLASS_STAGING, NULL, 4u << 20, &err), 0);
	open_log();
	fill_log(300);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_again_and_again, &stop), 0);
	for (unsigned i = 0; i < 20; i++)
		assert_true(quire_log_destage(log_, UINT64_MAX, i % 2 == 0 ? QUIRE_CLASS_STAGING : QUIRE_CLASS_CAPACITY, &err) > 1);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(threads[i], &wrong), 0);
		assert_null(wrong);
	}
	close_log();
	assert_int_equal(check(), 0);
}

/* ---- damage ---- */

static void flip(uint64_t offset)
{
	int fd = open(in_dir("capacity"), O_RDWR);
	char byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
	close(fd);
}

/* Where the first segment of the log lies: found by its header. */
static uint64_t first_segment(uint64_t id)
{
	int fd = open(in_dir("capacity"), O_RDONLY);
	uint64_t block[512], at = 0;

	assert_true(fd >= 0);
	for (; pread(fd, block, sizeof(block), (off_t)at) == sizeof(block); at += sizeof(block))
		if (memcmp(block, "QuireSeg", 8) == 0 && (uint32_t)block[4] == 32 && block[5] == 0)
			break;
	close(fd);
	return at;
}

static int read_through(void)
{
	struct quire_log_cursor *c;
	struct quire_log_record r;
	int64_t rc;

	assert_int_equal(quire_log_cursor_open(log_, QUIRE_LOG_VISIBLE, &c), 0);
	while ((rc = quire_log_next(c, &r, NULL)) == 1)
		;
	quire_log_cursor_close(c);
	return (int)rc;
}

static void test_damage_is_an_error_or_is_mended(void **state)
{
	open_log();
	fill_log(300);
	close_log();
	env_close();
	uint64_t at = first_segment(0);
	uint64_t footer = at + SEGMENT + 2 * 4096, sums = at + SEGMENT, record = at + 5000;
	/* A footer: made again from the records. */
	flip(footer + 60);
	assert_int_equal(env_open(0), 0);
	open_log();
	assert_int_equal(read_through(), 0);
	close_log();
	env_close();
	/* A record of a sealed segment; then its checksums. */
	flip(record);
	assert_int_equal(env_open(0), 0);
	open_log();
	assert_int_equal(read_through(), -EBADMSG);
	close_log();
	assert_true(check() > 0);
	env_close();
	flip(record);
	flip(sums + 9);
	assert_int_equal(env_open(0), 0);
	open_log();
	assert_int_equal(read_through(), -EBADMSG);
	close_log();
	assert_true(check() > 0);
	env_close();
	/* Footer and record: nothing is left to read it by. */
	flip(sums + 9);
	flip(record);
	flip(footer + 60);
	assert_int_equal(env_open(0), 0);
	assert_int_equal(quire_log_open(store, "log", NULL, &log_, &err), -EBADMSG);
	assert_true(strlen(err.text) > 0);
	assert_true(check() > 0);
}

static char *capacity_bytes(size_t *ret_len)
{
	int fd = open(in_dir("capacity"), O_RDONLY);
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	char *bytes = malloc((size_t)st.st_size);
	*ret_len = (size_t)st.st_size;
	assert_int_equal(pread(fd, bytes, *ret_len, 0), st.st_size);
	close(fd);
	return bytes;
}

/* The store is open to write; the log, to look at it, is not. */
static void test_a_log_is_read_only_though_the_store_is_not(void **state)
{
	const struct quire_log_open_options o = {.size = sizeof(o), .read_only = true};
	struct quire_log *other;
	size_t len, len_then;
	uint64_t lsn;

	open_log();
	fill_log(300);
	close_log();
	env_close();
	uint64_t footer = first_segment(0) + SEGMENT + 2 * 4096;
	flip(footer + 60);
	assert_int_equal(env_open(0), 0);
	char *then = capacity_bytes(&len_then);
	assert_int_equal(quire_log_open(store, "log", &o, &log_, &err), 0);
	assert_int_equal(quire_log_open(store, "log", NULL, &other, &err), -EBUSY);
	assert_int_equal(read_through(), 0);
	assert_int_equal(quire_log_durable(log_), 300);
	assert_int_equal(quire_log_append(log_, &(struct iovec){"x", 1}, 1, &lsn, NULL), -EROFS);
	assert_int_equal(quire_log_append_nowait(log_, &(struct iovec){"x", 1}, 1, &lsn), -EROFS);
	assert_int_equal(quire_log_trim(log_, 300), -EROFS);
	assert_int_equal(quire_log_retain(log_), -EROFS);
	assert_int_equal(quire_log_destage(log_, 300, QUIRE_CLASS_CAPACITY, &err), -EROFS);
	close_log();
	char *now = capacity_bytes(&len);
	assert_int_equal(len, len_then);
	assert_memory_equal(then, now, len);
	free(then);
	free(now);
	assert_true(check() > 0);
	open_log();
	close_log();
	assert_int_equal(check(), 0);
}

/* ---- a class that is mapped: groups are written as long as they are ---- */

static void open_mapped_log(void)
{
	struct quire_log_options o = {.size = sizeof(o), .cls = QUIRE_CLASS_PMEM, .segment_bytes = SEGMENT};

	assert_int_equal(quire_log_create(store, "mapped", &o, &err), 0);
	assert_int_equal(quire_log_open(store, "mapped", NULL, &log_, &err), 0);
}

static void test_what_lay_behind_the_last_record_of_a_segment(void **state)
{
	const struct quire_class_options o = {.size = sizeof(o), .bytes = 4 * MIB, .durable = QUIRE_DURABLE_PROCESS};
	char block[4096];
	int fd;

	memset(block, 'x', sizeof(block));
	if (quire_store_class_add_with(store, QUIRE_CLASS_PMEM, &o, &err) == -ENOTSUP) {
		print_message("%s\n", err.text);
		skip();
	}
	/* The first segment is what the medium held, or what an append that was killed had begun. */
	fd = open(in_dir("pmem"), O_RDWR);
	assert_true(fd >= 0);
	for (off_t at = 128 * 1024; at < (off_t)(4 * MIB); at += sizeof(block))
		assert_int_equal(pwrite(fd, block, sizeof(block), at), sizeof(block));
	close(fd);
	open_mapped_log();
	fill_log(300);
	close_log();
	assert_int_equal(quire_log_open(store, "mapped", NULL, &log_, &err), 0);
	assert_int_equal(read_through(), 0);
	close_log();
	assert_int_equal(check(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_STORE(test_threads_append_and_follow),
		WITH_STORE(test_operations_and_eventfds),
		WITH_STORE(test_sealed_segments_in_a_map),
		WITH_STORE(test_a_map_keeps_a_segment_that_moves),
		WITH_STORE(test_threads_read_while_segments_move),
		WITH_STORE(test_damage_is_an_error_or_is_mended),
		WITH_STORE(test_a_log_is_read_only_though_the_store_is_not),
		WITH_STORE(test_what_lay_behind_the_last_record_of_a_segment),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
