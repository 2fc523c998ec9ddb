/* follow_test.c - hundreds follow one log: in coroutines of one loop, and on threads; and threads read anywhere in a class that is
 * mapped, while others append to it and trim. */
#include "../blob/blob_env.h"

#include <quire/log.h>

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define SEGMENT 65536u
#define N_FOLLOWERS 300u
#define N_THREADS 6u
#define N_RECORDS 200u

static struct quire_log *log_;

static void open_log(enum quire_class cls)
{
	struct quire_log_options o = {.size = sizeof(o), .segment_bytes = SEGMENT, .cls = cls};
	struct quire_log_info info;

	if (quire_log_find(store, "log", &info) == -ENOENT)
		assert_int_equal(quire_log_create(store, "log", &o, &err), 0);
	assert_int_equal(quire_log_open(store, "log", NULL, &log_, &err), 0);
}

static void close_log(void)
{
	assert_int_equal(quire_log_close(log_), 0);
}

/* ---- records ---- */

#define RECORD_MAX 1500u

static uint32_t record_bytes(uint64_t lsn)
{
	return 8 + (uint32_t)(lsn * 2654435761u % (RECORD_MAX - 8));
}

static int append_next(uint64_t lsn)
{
	uint8_t buf[RECORD_MAX];
	uint64_t got = UINT64_MAX;

	memset(buf, (int)(lsn % 251), sizeof(buf));
	memcpy(buf, &lsn, sizeof(lsn));
	int rc = quire_log_append_nowait(log_, &(struct iovec){buf, record_bytes(lsn)}, 1, &got);
	return rc == 0 && got != lsn ? -EILSEQ : rc;
}

static bool is_right(const struct quire_log_record *r, uint64_t lsn)
{
	const uint8_t *at = r->data;
	uint64_t said;

	if (r->lsn != lsn || r->len_bytes != record_bytes(lsn))
		return false;
	memcpy(&said, at, sizeof(said));
	for (size_t i = sizeof(said); i < r->len_bytes; i++)
		if (at[i] != lsn % 251)
			return false;
	return said == lsn;
}

/* ---- one loop ---- */

static unsigned n_whole;

static void follow(void *arg)
{
	enum quire_log_mark mark = *(unsigned *)arg % 2 ? QUIRE_LOG_DURABLE : QUIRE_LOG_VISIBLE;
	struct quire_log_cursor *c;
	struct quire_log_record r;
	uint64_t n = 0;

	assert_int_equal(quire_log_cursor_open(log_, mark, &c), 0);
	while (n < N_RECORDS) {
		int64_t rc = quire_log_next(c, &r, NULL);
		if (rc == 0) {
			assert_int_equal(quire_log_wait(log_, mark, n, NULL), 0);
			continue;
		}
		assert_int_equal(rc, 1);
		assert_true(is_right(&r, n++));
	}
	quire_log_cursor_close(c);
	n_whole++;
}

static void write_some(void *arg)
{
	for (uint64_t lsn = 0; lsn < N_RECORDS; lsn++) {
		assert_int_equal(append_next(lsn), 0);
		if (lsn % 16 == 15 || lsn + 1 == N_RECORDS)
			assert_int_equal(quire_log_sync(log_, lsn, NULL), 0);
	}
}

static void test_hundreds_follow_on_one_loop(void **state)
{
	static unsigned numbers[N_FOLLOWERS];
	struct quire_loop *loop;

	open_log(QUIRE_CLASS_CAPACITY);
	assert_int_equal(quire_loop_create(NULL, &loop, NULL), 0);
	n_whole = 0;
	for (unsigned i = 0; i < N_FOLLOWERS; i++) {
		numbers[i] = i;
		assert_int_equal(quire_co_spawn(loop, follow, &numbers[i]), 0);
	}
	assert_int_equal(quire_co_spawn(loop, write_some, NULL), 0);
	assert_int_equal(quire_loop_run(loop), 0);
	assert_int_equal(n_whole, N_FOLLOWERS);
	assert_int_equal(quire_loop_destroy(loop), 0);
	close_log();
}

/* ---- threads ---- */

/* One step of each of its cursors in turn; waits for the one that is behind all. */
static void *follow_many(void *arg)
{
	enum quire_log_mark mark = *(unsigned *)arg % 2 ? QUIRE_LOG_DURABLE : QUIRE_LOG_VISIBLE;
	struct quire_log_cursor *cursors[N_FOLLOWERS / N_THREADS];
	uint64_t n = 0;

	for (unsigned i = 0; i < N_FOLLOWERS / N_THREADS; i++)
		if (quire_log_cursor_open(log_, mark, &cursors[i]) < 0)
			return (void *)1;
	for (; n < N_RECORDS; n++) {
		if (quire_log_wait(log_, mark, n, NULL) < 0)
			return (void *)1;
		for (unsigned i = 0; i < N_FOLLOWERS / N_THREADS; i++) {
			struct quire_log_record r;
			if (quire_log_next(cursors[i], &r, NULL) != 1 || !is_right(&r, n))
				return (void *)1;
		}
	}
	for (unsigned i = 0; i < N_FOLLOWERS / N_THREADS; i++)
		quire_log_cursor_close(cursors[i]);
	return NULL;
}

static void test_hundreds_follow_on_threads(void **state)
{
	pthread_t threads[N_THREADS];
	unsigned numbers[N_THREADS];
	void *wrong;

	open_log(QUIRE_CLASS_CAPACITY);
	for (unsigned i = 0; i < N_THREADS; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, follow_many, &numbers[i]), 0);
	}
	write_some(NULL);
	for (unsigned i = 0; i < N_THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], &wrong), 0);
		assert_null(wrong);
	}
	close_log();
}

/* ---- a class that is mapped ---- */

#define N_READERS 3u
#define N_APPENDED 1500u

static atomic_bool over;

/* Anywhere, a few records in one direction; what is trimmed is gone. */
static void *read_anywhere(void *arg)
{
	uint64_t random = *(unsigned *)arg + 1;
	struct quire_log_cursor *c;
	struct quire_log_record r;
	bool wrong = false;

	if (quire_log_cursor_open(log_, QUIRE_LOG_VISIBLE, &c) < 0)
		return (void *)1;
	while (!wrong && !atomic_load(&over)) {
		uint64_t first = quire_log_first(log_), end = quire_log_visible(log_), which = random_next(&random);
		if (first == end || quire_log_seek(c, first + which % (end - first)) == -ESTALE)
			continue;
		uint64_t lsn = quire_log_cursor_lsn(c);
		for (unsigned i = 0; i < 1 + which % 40 && !wrong; i++) {
			int64_t rc = quire_log_next(c, &r, NULL);
			wrong = rc == 1 ? !is_right(&r, lsn++) : rc != 0 && rc != -ESTALE;
			if (rc != 1)
				break;
		}
	}
	quire_log_cursor_close(c);
	return wrong ? (void *)1 : NULL;
}

static void append_and_trim(void)
{
	for (uint64_t lsn = 0; lsn < N_APPENDED; lsn++) {
		assert_int_equal(append_next(lsn), 0);
		if (lsn % 50 == 49)
			assert_int_equal(quire_log_sync(log_, lsn, NULL), 0);
		if (lsn % 200 == 199)
			assert_true(quire_log_trim(log_, lsn - 199) >= 0);
	}
}

static uint64_t n_promoted(void)
{
	struct quire_log_stat s;

	assert_int_equal(quire_log_stat(log_, &s), 0);
	return s.n_promoted;
}

static void test_threads_read_where_it_lies(void **state)
{
	struct quire_class_options class = {.size = sizeof(class), .bytes = 16 * MIB, .durable = QUIRE_DURABLE_PROCESS};
	pthread_t threads[N_READERS];
	unsigned numbers[N_READERS];
	struct quire_log_stat s;
	void *wrong;

	int rc = quire_store_class_add_with(store, QUIRE_CLASS_PMEM, &class, &err);
	if (rc == -ENOTSUP) {
		print_message("skipped: %s\n", err.text);
		skip();
	}
	assert_int_equal(rc, 0);
	open_log(QUIRE_CLASS_PMEM);
	atomic_store(&over, false);
	for (unsigned i = 0; i < N_READERS; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, read_anywhere, &numbers[i]), 0);
	}
	append_and_trim();
	/* However little time they were given so far. */
	for (unsigned i = 0; i < 60000 && n_promoted() == 0; i++)
		usleep(1000);
	atomic_store(&over, true);
	for (unsigned i = 0; i < N_READERS; i++) {
		assert_int_equal(pthread_join(threads[i], &wrong), 0);
		assert_null(wrong);
	}
	assert_int_equal(quire_log_stat(log_, &s), 0);
	print_message("%llu where they lie, %llu in RAM, %llu pages promoted\n", (unsigned long long)s.n_direct_reads,
	              (unsigned long long)s.n_ram_reads, (unsigned long long)s.n_promoted);
	assert_true(s.n_direct_reads > 0);
	assert_true(s.n_promoted > 0);
	close_log();
	assert_int_equal(check(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_STORE(test_hundreds_follow_on_one_loop),
		WITH_STORE(test_hundreds_follow_on_threads),
		WITH_STORE(test_threads_read_where_it_lies),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
