/* keys_threads_test.c - a log with keys in a real store: threads append the same keys, others look for them and read what they
 * are told, while segments are sealed and trimmed. */
#include "../blob/blob_env.h"

#include <quire/log.h>

#include <pthread.h>
#include <stdatomic.h>

#define SEGMENT 65536u
#define N_THREADS 2u
#define N_EACH 800u
#define N_KEYS 50u

struct record {
	uint32_t thread, no;
	char text[120];
};

static struct quire_log *log_;
static atomic_uint n_done;

static void open_log(void)
{
	struct quire_log_options o = {.size = sizeof(o), .segment_bytes = SEGMENT, .keys = true};
	struct quire_log_info info;

	if (quire_log_find(store, "log", &info) == -ENOENT)
		assert_int_equal(quire_log_create(store, "log", &o, &err), 0);
	assert_int_equal(quire_log_open(store, "log", NULL, &log_, &err), 0);
}

static int name_key(unsigned no, char key[16])
{
	return snprintf(key, 16, "key %u", no);
}

static void *append_some(void *arg)
{
	uint64_t state = *(uint32_t *)arg, lsn = 0;
	char key[16];
	int rc = 0;

	for (uint32_t i = 0; i < N_EACH && rc == 0; i++) {
		struct record r = {.thread = *(uint32_t *)arg, .no = i};
		struct iovec iov = {&r, sizeof(r)};
		size_t n = (size_t)name_key((unsigned)(random_next(&state) % N_KEYS), key);
		memcpy(r.text, key, n);
		rc = i % 8 == 0 ? quire_log_append_key(log_, key, n, &iov, 1, &lsn, NULL)
		                : quire_log_append_key_nowait(log_, key, n, &iov, 1, &lsn);
		if (i % 300 == 299 && quire_log_trim(log_, lsn / 2) < 0)
			rc = -EILSEQ;
	}
	if (rc == 0)
		rc = quire_log_sync(log_, lsn, NULL);
	atomic_fetch_add(&n_done, 1);
	return rc == 0 ? NULL : (void *)1;
}

/* One key: what is found has that key, and is never older than what was found before. -ESTALE: trimmed since. */
static int look_for(unsigned no, enum quire_log_mark mark, struct quire_log_cursor *c, uint64_t *last)
{
	struct quire_log_record r;
	char key[16];
	size_t n = (size_t)name_key(no, key);
	uint64_t lsn, end;
	int rc = quire_log_find_key(log_, mark, key, n, &lsn, NULL);

	end = mark == QUIRE_LOG_DURABLE ? quire_log_durable(log_) : quire_log_visible(log_);
	if (rc == -ENOENT)
		return *last == 0 || *last < quire_log_first(log_) ? 0 : -EILSEQ;
	if (rc < 0)
		return rc;
	if (lsn < *last || lsn >= end)
		return -EILSEQ;
	*last = lsn;
	rc = quire_log_seek(c, lsn);
	if (rc == 0)
		rc = (int)quire_log_next(c, &r, NULL);
	if (rc == -ESTALE)
		return 0;
	const struct record *got = r.data;
	return rc != 1 ? rc - 1000
	       : r.lsn == lsn && r.key_bytes == n && memcmp(r.key, key, n) == 0 && memcmp(got->text, key, n) == 0 ? 0 : -EILSEQ;
}

static void *look_for_some(void *arg)
{
	enum quire_log_mark mark = *(uint32_t *)arg % 2 == 0 ? QUIRE_LOG_DURABLE : QUIRE_LOG_VISIBLE;
	uint64_t last[N_KEYS] = {0}, state = 3;
	struct quire_log_cursor *c;
	int rc = quire_log_cursor_open(log_, mark, &c);

	for (unsigned n = 0; rc == 0 && (n < N_KEYS || atomic_load(&n_done) < N_THREADS); n++) {
		unsigned no = (unsigned)(random_next(&state) % N_KEYS);
		rc = look_for(no, mark, c, &last[no]);
	}
	if (rc != 0)
		print_message("looking: %d\n", rc);
	quire_log_cursor_close(c);
	return rc == 0 ? NULL : (void *)1;
}

static void look_for_all(uint64_t found[N_KEYS])
{
	char key[16];

	for (unsigned no = 0; no < N_KEYS; no++) {
		found[no] = UINT64_MAX;
		int rc = quire_log_find_key(log_, QUIRE_LOG_VISIBLE, key, (size_t)name_key(no, key), &found[no], NULL);
		assert_true(rc == 0 || rc == -ENOENT);
	}
}

static void test_threads_append_and_look_for_keys(void **state)
{
	uint64_t before[N_KEYS], after[N_KEYS];
	pthread_t threads[2 * N_THREADS];
	uint32_t numbers[N_THREADS];
	void *wrong;

	open_log();
	for (uint32_t i = 0; i < N_THREADS; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, append_some, &numbers[i]), 0);
		assert_int_equal(pthread_create(&threads[N_THREADS + i], NULL, look_for_some, &numbers[i]), 0);
	}
	for (uint32_t i = 0; i < 2 * N_THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], &wrong), 0);
		assert_null(wrong);
	}
	assert_int_equal(quire_log_visible(log_), N_THREADS * N_EACH);
	look_for_all(before);
	assert_int_equal(quire_log_close(log_), 0);
	open_log();
	look_for_all(after);
	assert_memory_equal(before, after, sizeof(before));
	assert_int_equal(quire_log_close(log_), 0);
	assert_int_equal(check(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_STORE(test_threads_append_and_look_for_keys),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
