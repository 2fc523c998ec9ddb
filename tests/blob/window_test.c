/* A read of many pieces, several under way at once: what it tells when some of them are damaged. */
#include "blob_env.h"

#include <fcntl.h>

#define PAGE 4096u
#define LEN (5 * MIB + 1234)

static char buf[LEN + 3 * PAGE] __attribute__((aligned(4096)));
static uint64_t id;

/* Where a page of the blob lies in the class file. */
static off_t place_of(int fd, uint64_t page)
{
	char want[64], got[64];

	fill(id, page * PAGE, want, sizeof(want));
	for (off_t at = lseek(fd, 0, SEEK_DATA); at >= 0; at = lseek(fd, at + PAGE, SEEK_DATA))
		if (pread(fd, got, sizeof(got), at) == sizeof(got) && memcmp(got, want, sizeof(got)) == 0)
			return at;
	fail_msg("page %llu is nowhere", (unsigned long long)page);
	return -1;
}

static void damage(uint64_t page)
{
	int fd = open(in_dir("capacity"), O_RDWR | O_CLOEXEC);
	off_t at = place_of(fd, page);
	char byte;

	assert_int_equal(pread(fd, &byte, 1, at + 777), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, at + 777), 1);
	assert_int_equal(fsync(fd), 0);
	close(fd);
}

static struct quire_op last; /* of read_op */

static int64_t read_op(uint64_t offset, const struct iovec *iov, unsigned n)
{
	quire_op_init(&last);
	assert_int_equal(quire_blob_read(store, id, offset, iov, n, &last), 0);
	return quire_await(&last);
}

static void assert_right(uint64_t offset, const char *got, uint64_t len_bytes)
{
	static char want[LEN];

	fill(id, offset, want, len_bytes);
	assert_memory_equal(got, want, len_bytes);
}

static void blob_setup(void)
{
	id = put(LEN);
}

/* ---- no damage ---- */

static void longer_than_what_is_under_way(void **state)
{
	blob_setup();
	for (unsigned skip = 0; skip < 2; skip++) {
		memset(buf, 0, sizeof(buf));
		assert_int_equal(read_op(0, &(struct iovec){buf + skip, LEN + PAGE}, 1), LEN);
		assert_right(0, buf + skip, LEN);
		memset(buf, 0, sizeof(buf));
		assert_int_equal(read_op(PAGE + 5, &(struct iovec){buf + skip, LEN}, 1), LEN - PAGE - 5);
		assert_right(PAGE + 5, buf + skip, LEN - PAGE - 5);
	}
}

/* Some of them copied, some not, in any order. */
static void into_pieces_of_every_kind(void **state)
{
	enum { N = 40 };
	struct iovec iov[N];
	uint64_t random = 5, at = 0;

	blob_setup();
	for (unsigned i = 0; i < N; i++) {
		uint64_t n = i % 3 == 0 ? (random_next(&random) % 60) * PAGE : random_next(&random) % 200000;
		iov[i] = (struct iovec){buf + at, n};
		at += n;
		if (at > LEN)
			iov[i].iov_len -= at - LEN, at = LEN;
	}
	assert_int_equal(read_op(0, iov, N), at);
	assert_right(0, buf, at);
}

/* ---- damage ---- */

static void the_foremost_bad_page_is_told(void **state)
{
	static const uint64_t bad[] = {1200, 61, 700, 62, 1023};

	blob_setup();
	env_reopen();
	for (unsigned i = 0; i < 5; i++) {
		damage(bad[i]);
		uint64_t first = i == 0 ? 1200 : 61;
		for (unsigned skip = 0; skip < 2; skip++) {
			assert_int_equal(read_op(0, &(struct iovec){buf + skip, LEN}, 1), -EBADMSG);
			assert_int_equal(last.error_offset, first * PAGE);
			assert_int_equal(read_op(PAGE * 3 + 100, &(struct iovec){buf + skip, LEN}, 1), -EBADMSG);
			assert_int_equal(last.error_offset, first * PAGE);
		}
	}
	/* From behind each, the next. */
	assert_int_equal(read_op(62 * PAGE, &(struct iovec){buf, LEN}, 1), -EBADMSG);
	assert_int_equal(last.error_offset, 62 * PAGE);
	assert_int_equal(read_op(63 * PAGE + 1, &(struct iovec){buf, LEN}, 1), -EBADMSG);
	assert_int_equal(last.error_offset, 700 * PAGE);
	assert_int_equal(read_op(701 * PAGE, &(struct iovec){buf, LEN}, 1), -EBADMSG);
	assert_int_equal(last.error_offset, 1023 * PAGE);
}

static void what_is_between_bad_pages_reads_well(void **state)
{
	blob_setup();
	env_reopen();
	damage(200);
	damage(1000);
	assert_int_equal(read_op(0, &(struct iovec){buf, 200 * PAGE}, 1), 200 * PAGE);
	assert_right(0, buf, 200 * PAGE);
	assert_int_equal(read_op(201 * PAGE, &(struct iovec){buf + 1, 799 * PAGE}, 1), 799 * PAGE);
	assert_right(201 * PAGE, buf + 1, 799 * PAGE);
	assert_int_equal(read_op(1001 * PAGE, &(struct iovec){buf, LEN}, 1), LEN - 1001 * PAGE);
	assert_right(1001 * PAGE, buf, LEN - 1001 * PAGE);
	assert_int_equal(check(), 2);
}

/* The same from a coroutine, and many at once. */
struct readers {
	unsigned n_bad, n_right;
};

static void reader(void *arg)
{
	struct readers *r = arg;
	char *mine = aligned_alloc(PAGE, 3 * MIB);

	for (unsigned i = 0; i < 3; i++) {
		int64_t n = read_at(id, (i % 3) * MIB, mine, 3 * MIB - 1);
		r->n_bad += n == -EBADMSG;
		r->n_right += n == (int64_t)(LEN - 2 * MIB < 3 * MIB - 1 ? LEN - 2 * MIB : 3 * MIB - 1);
	}
	free(mine);
}

static void many_readers_meet_it(void **state)
{
	struct readers all = {0};
	struct quire_loop *loop;

	blob_setup();
	env_reopen();
	damage(300); /* in the first two of three reads */
	assert_int_equal(quire_loop_create(NULL, &loop, NULL), 0);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(quire_co_spawn(loop, reader, &all), 0);
	assert_int_equal(quire_loop_run(loop), 0);
	assert_int_equal(quire_loop_destroy(loop), 0);
	assert_int_equal(all.n_bad, 10);
	assert_int_equal(all.n_right, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_STORE(longer_than_what_is_under_way),
		WITH_STORE(into_pieces_of_every_kind),
		WITH_STORE(the_foremost_bad_page_is_told),
		WITH_STORE(what_is_between_bad_pages_reads_well),
		WITH_STORE(many_readers_meet_it),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
