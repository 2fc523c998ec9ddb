/* Reads by a loop, on each engine: bytes, ends, changes, and descriptors that run short. */
#include "loop_env.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *numbered(unsigned i)
{
	static _Thread_local char name[32];
	snprintf(name, sizeof(name), "n%u", i);
	return name;
}

static void all_fine(const struct env_read *reads, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(reads[i].result, 0);
		assert_int_equal(reads[i].checked, 0);
	}
}

static void read_whole_file_in_pieces(struct media_pool *pool, const char *path, unsigned seed,
                                      uint64_t len_bytes)
{
	enum { N = 64 };
	struct env_read reads[N] = {0};
	struct media_file *file;
	uint64_t page = env_page();
	assert_int_equal(media_file_open(pool, path, -1, 0, &file, NULL), 0);
	unsigned n = 0;
	for (uint64_t at = 0; at < len_bytes && n < N; at += (n % 3 + 1) * page, n++) {
		uint64_t left = len_bytes - at;
		reads[n] = (struct env_read){.file = file, .seed = seed, .offset = at};
		reads[n].len_bytes = (uint32_t)(left < 3 * page ? left : 3 * page - n);
	}
	env_run(reads, n, NULL);
	all_fine(reads, n);
	media_file_close(file);
}

static void bytes_are_those_of_the_file(void **state)
{
	for (unsigned buffered = 0; buffered <= 1; buffered++) {
		struct media_pool *pool = env_pool(8, buffered);
		static const uint64_t lens[] = {1, 511, 512, 513, 4095, 4096, 4097, 12345, 262144};
		for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
			env_write("f", i, lens[i]);
			read_whole_file_in_pieces(pool, env_path("f"), i, lens[i]);
		}
		media_pool_destroy(pool);
	}
}

static void files_in_memory_work_too(void **state)
{
	char path[] = "/dev/shm/quire-media-XXXXXX";
	int fd = mkstemp(path);
	if (fd < 0) {
		print_message("/dev/shm is not to be written\n");
		skip();
	}
	for (unsigned i = 0; i < 9000; i++) {
		char byte = (char)env_byte(5, i);
		assert_int_equal(write(fd, &byte, 1), 1);
	}
	close(fd);
	struct media_pool *pool = env_pool(8, false);
	read_whole_file_in_pieces(pool, path, 5, 9000);
	media_pool_destroy(pool);
	unlink(path);
}

static void past_the_end_is_stale(void **state)
{
	struct media_pool *pool = env_pool(8, false);
	env_write("f", 1, 5000);
	struct media_file *file = env_open(pool, "f", 0);
	struct env_read reads[] = {
		{.file = file, .seed = 1, .len_bytes = 5000},
		{.file = file, .seed = 1, .len_bytes = 5001},
		{.file = file, .seed = 1, .len_bytes = 100000},
		{.file = file, .seed = 1, .offset = 1 << 20, .len_bytes = 1},
	};
	env_run(reads, 4, NULL);
	assert_int_equal(reads[0].result, 0);
	for (unsigned i = 1; i < 4; i++)
		assert_int_equal(reads[i].result, -ESTALE);
	media_file_close(file);
	media_pool_destroy(pool);
}

static void few_descriptors_serve_many_files(void **state)
{
	enum { N_FILES = 60, N = 600 };
	static struct env_read reads[N];
	struct media_file *files[N_FILES];
	struct media_pool *pool = env_pool(3, false);
	for (unsigned i = 0; i < N_FILES; i++) {
		env_write(numbered(i), i, 9000);
		files[i] = env_open(pool, numbered(i), 0);
	}
	for (unsigned i = 0; i < N; i++) {
		unsigned n = i * 7 % N_FILES;
		reads[i] = (struct env_read){.file = files[n], .seed = n, .len_bytes = 9000};
	}
	env_run(reads, N, NULL);
	all_fine(reads, N);
	assert_true(media_pool_n_open(pool) <= 3);
	for (unsigned i = 0; i < N_FILES; i++)
		media_file_close(files[i]);
	media_pool_destroy(pool);
}

/* Two files, one descriptor, so that `victim` is closed. */
static struct media_file *open_closed(struct media_pool *pool, struct media_file **ret_other)
{
	env_write("victim", 1, 9000);
	env_age("victim");
	env_write("other", 2, 100);
	struct media_file *victim = env_open(pool, "victim", 0);
	*ret_other = env_open(pool, "other", 0);
	return victim;
}

static void replaced_while_closed_is_stale_for_all(void **state)
{
	enum { N = 20 };
	struct env_read reads[N] = {0};
	struct media_pool *pool = env_pool(1, false);
	struct media_file *other, *file = open_closed(pool, &other);
	env_write("new", 3, 9000);
	assert_int_equal(rename(env_path("new"), env_path("victim")), 0);
	for (unsigned i = 0; i < N; i++)
		reads[i] = (struct env_read){.file = file, .len_bytes = 4096};
	env_run(reads, N, NULL);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(reads[i].result, -ESTALE);
	assert_true(media_pool_n_open(pool) <= 1);
	media_file_close(file);
	media_file_close(other);
	media_pool_destroy(pool);
}

static void missing_or_special_on_reopening_is_stale(void **state)
{
	for (unsigned kind = 0; kind < 3; kind++) {
		struct media_pool *pool = env_pool(1, false);
		struct media_file *other, *file = open_closed(pool, &other);
		unlink(env_path("victim"));
		if (kind == 1)
			assert_int_equal(mkfifo(env_path("victim"), 0600), 0);
		if (kind == 2)
			assert_int_equal(mkdir(env_path("victim"), 0700), 0);
		struct env_read read = {.file = file, .len_bytes = 4096};
		env_run(&read, 1, NULL);
		assert_int_equal(read.result, -ESTALE);
		media_file_close(file);
		media_file_close(other);
		media_pool_destroy(pool);
		if (kind == 2)
			rmdir(env_path("victim"));
		else
			unlink(env_path("victim"));
	}
}

static void change_before_the_check_is_stale(void **state)
{
	struct media_pool *pool = env_pool(8, false);
	env_write("f", 1, 9000);
	env_age("f");
	struct media_file *file = env_open(pool, "f", 0);
	env_write("f", 2, 9000);
	struct env_read read = {.file = file, .seed = 2, .len_bytes = 9000};
	env_run(&read, 1, NULL);
	assert_int_equal(read.result, 0);
	assert_int_equal(read.checked, -ESTALE);
	media_file_close(file);
	media_pool_destroy(pool);
}

static void rewrite_file(struct env_read *read)
{
	env_write("f", 9, 9000);
}

/* A check answers for what was read before it, never for what is read after. */
static void check_does_not_cover_later_reads(void **state)
{
	struct media_pool *pool = env_pool(8, false);
	env_write("f", 1, 9000);
	env_age("f");
	struct media_file *file = env_open(pool, "f", 0);
	struct env_read first = {.file = file, .seed = 1, .len_bytes = 9000};
	env_run(&first, 1, rewrite_file);
	assert_int_equal(first.checked, 0);
	/* A new loop, perhaps at the same address, in the same turn. */
	struct env_read second = {.file = file, .seed = 9, .len_bytes = 9000};
	env_run(&second, 1, NULL);
	assert_int_equal(second.result, 0);
	assert_int_equal(second.checked, -ESTALE);
	media_file_close(file);
	media_pool_destroy(pool);
}

/* ---- the process has no descriptor left ---- */

static int taken[512];
static unsigned n_taken;
static struct rlimit limit_before;
static bool took;

static void take_all_descriptors(void)
{
	struct rlimit limit;
	int fd;
	getrlimit(RLIMIT_NOFILE, &limit_before);
	limit = limit_before;
	limit.rlim_cur = 256;
	setrlimit(RLIMIT_NOFILE, &limit);
	while ((fd = dup(2)) >= 0)
		taken[n_taken++] = fd;
}

static void give_all_back(void)
{
	while (n_taken > 0)
		close(taken[--n_taken]);
	setrlimit(RLIMIT_NOFILE, &limit_before);
	took = false;
}

static void take_all_once_running(struct env_read *read)
{
	if (!took)
		take_all_descriptors();
	took = true;
}

/* The first read takes what is left away from the others, which are opened by then, or wait
 * for its descriptor. */
static void exhaustion_is_waited_out(void **state)
{
	enum { N_FILES = 20 };
	struct env_read reads[N_FILES] = {0};
	struct media_file *files[N_FILES];
	struct media_pool *pool = env_pool(2, false);
	for (unsigned i = 0; i < N_FILES; i++) {
		env_write(numbered(i), i, 9000);
		files[i] = env_open(pool, numbered(i), 0);
		reads[i] = (struct env_read){.file = files[i], .seed = i, .len_bytes = 9000};
	}
	env_run(reads, N_FILES, take_all_once_running);
	give_all_back();
	all_fine(reads, N_FILES);
	for (unsigned i = 0; i < N_FILES; i++)
		media_file_close(files[i]);
	media_pool_destroy(pool);
}

/* ---- a fault handler on a loop's own thread ---- */

static struct media_file *faulted;
static int fault_result;

static void read_another_now(struct env_read *read)
{
	fault_result |= env_read_now(faulted, 2, 0, 100);
}

/* All descriptors are in use by this very loop, which can't give one back meanwhile. */
static void reading_at_once_does_not_wait_for_ones_own_loop(void **state)
{
	enum { N = 30 };
	struct env_read reads[N] = {0};
	struct media_pool *pool = env_pool(1, false);
	struct media_file *other, *file = open_closed(pool, &other);
	faulted = other;
	fault_result = 0;
	for (unsigned i = 0; i < N; i++)
		reads[i] = (struct env_read){.file = file, .seed = 1, .len_bytes = 9000};
	env_run(reads, N, read_another_now);
	all_fine(reads, N);
	assert_int_equal(fault_result, 0);
	media_file_close(file);
	media_file_close(other);
	media_pool_destroy(pool);
}

/* ---- several loops ---- */

#define N_SHARED 24
#define N_LOOPS 3
static struct media_file *shared[N_SHARED];

struct runner {
	pthread_t thread;
	struct quire_loop *loop;
	unsigned seed;
	unsigned n_wrong;
};

static void *run_a_loop(void *arg)
{
	enum { N = 200 };
	struct runner *runner = arg;
	struct env_read *reads = calloc(N, sizeof(*reads));
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < N; i++) {
			unsigned n = (unsigned)rand_r(&runner->seed) % N_SHARED;
			reads[i] = (struct env_read){.file = shared[n], .seed = n, .len_bytes = 5000};
		}
		env_run_on(runner->loop, reads, N, NULL);
		for (unsigned i = 0; i < N; i++)
			runner->n_wrong += reads[i].result != 0 || reads[i].checked != 0;
	}
	free(reads);
	return NULL;
}

static atomic_bool reading_at_once;

/* As fault handlers of other threads do, and with an eye on the pool. */
static void *read_at_once(void *arg)
{
	struct media_pool *pool = arg;
	unsigned seed = 99;
	uintptr_t n_wrong = 0;
	void *buf = env_buffer(5000);
	while (reading_at_once) {
		unsigned n = (unsigned)rand_r(&seed) % N_SHARED;
		n_wrong += media_read_now(shared[n], 0, 5000, buf) != 0 ||
		           ((unsigned char *)buf)[4999] != env_byte(n, 4999) ||
		           !media_pool_check(pool);
	}
	free(buf);
	return (void *)n_wrong;
}

static void loops_and_faults_share_two_descriptors(void **state)
{
	pthread_t faulting;
	void *n_wrong;
	struct runner runners[N_LOOPS];
	struct media_pool *pool = env_pool(2, false);
	for (unsigned i = 0; i < N_SHARED; i++) {
		env_write(numbered(i), i, 5000);
		shared[i] = env_open(pool, numbered(i), 0);
	}
	for (unsigned i = 0; i < N_LOOPS; i++)
		runners[i] = (struct runner){.loop = env_loop(), .seed = i};
	for (unsigned i = 0; i < N_LOOPS; i++)
		pthread_create(&runners[i].thread, NULL, run_a_loop, &runners[i]);
	reading_at_once = true;
	pthread_create(&faulting, NULL, read_at_once, pool);
	for (unsigned i = 0; i < N_LOOPS; i++) {
		pthread_join(runners[i].thread, NULL);
		assert_int_equal(runners[i].n_wrong, 0);
		assert_int_equal(quire_loop_destroy(runners[i].loop), 0);
	}
	reading_at_once = false;
	pthread_join(faulting, &n_wrong);
	assert_null(n_wrong);
	assert_true(media_pool_n_open(pool) <= 2);
	for (unsigned i = 0; i < N_SHARED; i++)
		media_file_close(shared[i]);
	media_pool_destroy(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_are_those_of_the_file),
		cmocka_unit_test(files_in_memory_work_too),
		cmocka_unit_test(past_the_end_is_stale),
		cmocka_unit_test(few_descriptors_serve_many_files),
		cmocka_unit_test(replaced_while_closed_is_stale_for_all),
		cmocka_unit_test(missing_or_special_on_reopening_is_stale),
		cmocka_unit_test(change_before_the_check_is_stale),
		cmocka_unit_test(check_does_not_cover_later_reads),
		cmocka_unit_test(exhaustion_is_waited_out),
		cmocka_unit_test(reading_at_once_does_not_wait_for_ones_own_loop),
		cmocka_unit_test(loops_and_faults_share_two_descriptors),
	};
	return env_on_each_engine(tests);
}
