/* At most so many descriptors, whatever happens; and what if the process has none left. */
#include "media_env.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static const char *numbered(unsigned i)
{
	static _Thread_local char name[32];
	snprintf(name, sizeof(name), "n%u", i);
	return name;
}

static void make_numbered(unsigned n, uint64_t len_bytes)
{
	for (unsigned i = 0; i < n; i++)
		env_write(numbered(i), i, len_bytes);
}

static void ten_thousand_files_through_eight_descriptors(void **state)
{
	enum { N = 10000 };
	static struct media_file *files[N];
	struct media_pool *pool = env_pool(8, false);
	env_write("one", 1, 100);
	for (unsigned i = 0; i < N; i++) {
		files[i] = env_open(pool, "one", 0);
		assert_true(media_pool_n_open(pool) <= 8);
	}
	assert_int_equal(media_pool_n_open(pool), 8);
	for (unsigned i = 0; i < N; i += 7) {
		assert_int_equal(env_read_now(files[i], 1, 0, 100), 0);
		assert_true(media_pool_n_open(pool) <= 8);
	}
	for (unsigned i = 0; i < N; i++)
		media_file_close(files[i]);
	assert_int_equal(media_pool_n_open(pool), 0);
	media_pool_destroy(pool);
}

static void each_file_keeps_its_own_bytes(void **state)
{
	enum { N = 40 };
	struct media_file *files[N];
	struct media_pool *pool = env_pool(3, false);
	make_numbered(N, 5000);
	for (unsigned i = 0; i < N; i++)
		files[i] = env_open(pool, numbered(i), 0);
	srand(1);
	for (unsigned i = 0; i < 500; i++) {
		unsigned n = (unsigned)rand() % N;
		assert_int_equal(env_read_now(files[n], n, 0, 5000), 0);
		assert_true(media_pool_check(pool));
	}
	for (unsigned i = 0; i < N; i++)
		media_file_close(files[i]);
	media_pool_destroy(pool);
}

/* With the folder out of reach only what is open can be read: so it is seen who stays. */
static void often_used_ones_stay_open(void **state)
{
	enum { N = 20 };
	struct media_file *files[N];
	struct media_pool *pool = env_pool(4, false);
	unsigned n_readable = 0;
	make_numbered(N, 100);
	for (unsigned i = 0; i < N; i++)
		files[i] = env_open(pool, numbered(i), 0);
	for (unsigned i = 1; i < N; i++) {
		assert_int_equal(env_read_now(files[0], 0, 0, 100), 0);
		assert_int_equal(env_read_now(files[i], i, 0, 100), 0);
	}

	env_hide(true);
	assert_int_equal(env_read_now(files[0], 0, 0, 100), 0);
	for (unsigned i = 0; i < N; i++)
		n_readable += env_read_now(files[i], i, 0, 100) == 0;
	env_hide(false);
	assert_int_equal(n_readable, 4);
	for (unsigned i = 0; i < N; i++)
		media_file_close(files[i]);
	media_pool_destroy(pool);
}

static void held_files_stand_outside_the_bound(void **state)
{
	enum { N = 20 };
	struct media_file *held[N], *plain[N];
	struct media_pool *pool = env_pool(2, false);
	make_numbered(N, 100);
	for (unsigned i = 0; i < N; i++) {
		held[i] = env_open(pool, numbered(i), MEDIA_HOLD);
		plain[i] = env_open(pool, numbered(i), 0);
		assert_true(media_pool_n_open(pool) <= i + 1 + 2);
	}
	for (unsigned i = 0; i < N; i++) {
		unlink(env_path(numbered(i)));
		assert_int_equal(env_read_now(held[i], i, 0, 100), 0);
		assert_int_equal(env_read_now(plain[i], i, 0, 100), -ESTALE);
	}
	for (unsigned i = 0; i < N; i++) {
		media_file_close(held[i]);
		media_file_close(plain[i]);
	}
	assert_int_equal(media_pool_n_open(pool), 0);
	media_pool_destroy(pool);
}

/* ---- no descriptor left ---- */

static int taken[4096];
static unsigned n_taken;
static struct rlimit limit_before;

/* A low limit, so that there is little to take. */
static void limit_descriptors(void)
{
	struct rlimit limit;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit_before), 0);
	limit = limit_before;
	limit.rlim_cur = 128;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void take_all_descriptors(void)
{
	int fd;
	while ((fd = dup(2)) >= 0)
		taken[n_taken++] = fd;
	assert_int_equal(errno, EMFILE);
}

static void give_all_back(void)
{
	while (n_taken > 0)
		close(taken[--n_taken]);
	setrlimit(RLIMIT_NOFILE, &limit_before);
}

static void with_none_left_an_idle_one_is_closed(void **state)
{
	struct media_pool *pool = env_pool(8, false);
	struct media_file *files[4];
	make_numbered(4, 100);
	limit_descriptors();
	for (unsigned i = 0; i < 2; i++)
		files[i] = env_open(pool, numbered(i), 0);
	take_all_descriptors();
	for (unsigned i = 2; i < 4; i++)
		files[i] = env_open(pool, numbered(i), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(env_read_now(files[i], i, 0, 100), 0);
	assert_true(media_pool_n_open(pool) <= 2);
	give_all_back();
	for (unsigned i = 0; i < 4; i++)
		media_file_close(files[i]);
	media_pool_destroy(pool);
}

/* A fault can't wait: it gets the pool's spare descriptor. */
static void with_none_left_and_none_idle_a_read_still_works(void **state)
{
	struct media_pool *pool = env_pool(8, false);
	make_numbered(2, 100);
	limit_descriptors();
	take_all_descriptors();
	struct media_file *first = env_open(pool, numbered(0), 0);
	struct media_file *second = env_open(pool, numbered(1), 0);
	assert_int_equal(media_pool_n_open(pool), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(env_read_now(first, 0, 0, 100), 0);
		assert_int_equal(env_read_now(second, 1, 0, 100), 0);
	}
	give_all_back();
	assert_int_equal(env_read_now(first, 0, 0, 100), 0);
	assert_int_equal(media_pool_n_open(pool), 1);
	media_file_close(first);
	media_file_close(second);
	media_pool_destroy(pool);
}

static void with_none_left_nothing_can_be_held(void **state)
{
	struct media_file *file = NULL;
	struct media_pool *pool = env_pool(8, false);
	make_numbered(1, 100);
	int fd = open(env_path(numbered(0)), O_RDONLY);
	limit_descriptors();
	take_all_descriptors();
	int rc = media_file_open(pool, env_path(numbered(0)), -1, MEDIA_HOLD, &file, NULL);
	int rc_fd = media_file_open(pool, NULL, fd, 0, &file, NULL);
	give_all_back();
	close(fd);
	assert_int_equal(rc, -EMFILE);
	assert_int_equal(rc_fd, -EMFILE);
	assert_null(file);
	media_pool_destroy(pool);
}

/* ---- threads ---- */

#define N_FILES 32
#define N_THREADS 6
#define N_READS 400
static struct media_pool *shared_pool;
static struct media_file *shared[N_FILES];
static atomic_uint n_wrong;

static void *read_at_random(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	void *buf = env_buffer(3000);
	for (unsigned i = 0; i < N_READS; i++) {
		unsigned n = (unsigned)rand_r(&seed) % N_FILES;
		if (media_read_now(shared[n], 0, 3000, buf) != 0 ||
		    ((unsigned char *)buf)[2999] != env_byte(n, 2999) ||
		    media_pool_n_open(shared_pool) > 4 || !media_pool_check(shared_pool) || media_file_look(shared[n], NULL) != 0)
			n_wrong++;
	}
	free(buf);
	return NULL;
}

static void threads_share_four_descriptors(void **state)
{
	pthread_t threads[N_THREADS];
	shared_pool = env_pool(4, false);
	make_numbered(N_FILES, 3000);
	for (unsigned i = 0; i < N_FILES; i++)
		shared[i] = env_open(shared_pool, numbered(i), 0);
	for (unsigned i = 0; i < N_THREADS; i++)
		pthread_create(&threads[i], NULL, read_at_random, (void *)(uintptr_t)i);
	for (unsigned i = 0; i < N_THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(n_wrong, 0);
	for (unsigned i = 0; i < N_FILES; i++)
		media_file_close(shared[i]);
	media_pool_destroy(shared_pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ten_thousand_files_through_eight_descriptors),
		cmocka_unit_test(each_file_keeps_its_own_bytes),
		cmocka_unit_test(often_used_ones_stay_open),
		cmocka_unit_test(held_files_stand_outside_the_bound),
		cmocka_unit_test(with_none_left_an_idle_one_is_closed),
		cmocka_unit_test(with_none_left_and_none_idle_a_read_still_works),
		cmocka_unit_test(with_none_left_nothing_can_be_held),
		cmocka_unit_test(threads_share_four_descriptors),
	};
	return cmocka_run_group_tests(tests, env_setup, env_teardown);
}
