/* Pools of pages and a store in a real directory, through the public face: spilled, saved, restored, killed. */
#include "blob_env.h"

#include <signal.h>
#include <sys/wait.h>

enum { N_PAGES = 1500, N_ROUNDS = 5 };

static struct quire_tmem *make(uint64_t budget_bytes)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = budget_bytes, .n_threads = 2};
	struct quire_tmem *t = NULL;

	assert_int_equal(quire_tmem_create(&o, &t, NULL), 0);
	return t;
}

static struct quire_tmem_pool *make_pool(struct quire_tmem *t, uint32_t flags)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .flags = flags};
	struct quire_tmem_pool *pool = NULL;

	assert_int_equal(quire_tmem_pool_create(t, &o, &pool, NULL), 0);
	return pool;
}

static struct quire_tmem_key key(uint32_t index)
{
	return (struct quire_tmem_key){.object = {1, 2, index % 3}, .index = index};
}

static int put_page(struct quire_tmem_pool *pool, uint32_t index, uint64_t content)
{
	uint8_t page[4096];
	struct quire_tmem_key k = key(index);

	fill(content + 1, 0, page, sizeof(page));
	return quire_tmem_put(pool, &k, page);
}

/* 1: it is that content. */
static int get_page(struct quire_tmem_pool *pool, uint32_t index, uint64_t content)
{
	uint8_t page[4096], expected[4096];
	struct quire_tmem_key k = key(index);
	int rc = quire_tmem_get(pool, &k, page, QUIRE_TMEM_GET_USUAL);

	fill(content + 1, 0, expected, sizeof(expected));
	return rc < 0 ? rc : memcmp(page, expected, sizeof(page)) == 0;
}

static void pools_spill_to_a_class(void **state)
{
	struct quire_tmem_backing_options o = {.size = sizeof(o), .segment_bytes = MIB};
	struct quire_tmem *t = make(2 * MIB);
	struct quire_tmem_stat s;

	assert_int_equal(quire_tmem_set_backing(t, store, QUIRE_CLASS_STAGING, &o, &err), -ENOENT);
	o.segment_bytes = 5000;
	assert_int_equal(quire_tmem_set_backing(t, store, QUIRE_CLASS_CAPACITY, &o, &err), -EINVAL);
	o.segment_bytes = MIB;
	assert_int_equal(quire_tmem_set_backing(t, store, QUIRE_CLASS_CAPACITY, &o, &err), 0);
	struct quire_tmem_pool *pool = make_pool(t, QUIRE_TMEM_SPILL);
	for (uint32_t i = 0; i < N_PAGES; i++)
		assert_int_equal(put_page(pool, i, i), 0);
	quire_tmem_stat(t, &s);
	assert_true(s.n_spilled > N_PAGES / 2);
	for (uint32_t i = 0; i < N_PAGES; i++)
		assert_int_equal(get_page(pool, i, i), 1);
	assert_int_equal(quire_store_close(store), -EBUSY);
	assert_int_equal(quire_tmem_clear_backing(t), -EBUSY);
	assert_int_equal(check(), 0);
	quire_tmem_pool_destroy(pool);
	assert_int_equal(quire_tmem_clear_backing(t), 0);
	env_reopen();
	quire_tmem_destroy(t);
	(void)state;
}

static void a_batch_waits_for_what_is_spilled(void **state)
{
	static struct quire_tmem_request requests[200];
	static uint8_t pages[200][4096], expected[4096];
	struct quire_tmem *t = make(2 * MIB);
	struct quire_op op;

	assert_int_equal(quire_tmem_set_backing(t, store, QUIRE_CLASS_CAPACITY, NULL, &err), 0);
	struct quire_tmem_pool *pool = make_pool(t, QUIRE_TMEM_SPILL);
	for (uint32_t i = 0; i < N_PAGES; i++)
		assert_int_equal(put_page(pool, i, i), 0);
	for (uint32_t i = 0; i < 200; i++)
		requests[i] = (struct quire_tmem_request){.pool = pool, .key = key(i), .verb = QUIRE_TMEM_GET, .page = pages[i]};
	quire_op_init(&op);
	assert_int_equal(quire_tmem_batch(t, requests, 200, &op), 0);
	assert_int_equal(quire_await(&op), 0);
	for (uint32_t i = 0; i < 200; i++) {
		assert_int_equal(requests[i].result, 0);
		fill(i + 1, 0, expected, sizeof(expected));
		assert_memory_equal(pages[i], expected, sizeof(expected));
	}
	quire_tmem_destroy(t);
	(void)state;
}

static void a_saved_pool_outlives_the_process(void **state)
{
	struct quire_tmem *t = make(2 * MIB), *u = make(16 * MIB);
	struct quire_tmem_pool *pool, *back = NULL;

	assert_int_equal(quire_tmem_set_backing(t, store, QUIRE_CLASS_CAPACITY, NULL, &err), 0);
	pool = make_pool(t, QUIRE_TMEM_SPILL);
	for (uint32_t i = 0; i < N_PAGES; i++)
		assert_int_equal(put_page(pool, i, i % 1000), 0);
	assert_int_equal(quire_tmem_pool_save(pool, store, QUIRE_CLASS_CAPACITY, "pool", &err), 0);
	quire_tmem_destroy(t);
	env_reopen();
	assert_int_equal(quire_tmem_pool_restore(u, store, "pool", NULL, &back, &err), 0);
	for (uint32_t i = 0; i < N_PAGES; i++)
		assert_int_equal(get_page(back, i, i % 1000), 1);
	assert_int_equal(quire_tmem_pool_forget(store, "pool"), 0);
	assert_int_equal(quire_tmem_pool_forget(store, "pool"), -ENOENT);
	quire_tmem_destroy(u);
	(void)state;
}

/* ---- killed ---- */

/* Saves versions one after the other, and says which are. */
static void child(int fd, uint32_t version)
{
	if (env_open(0) < 0)
		_exit(1);
	struct quire_tmem *t = make(2 * MIB);
	if (quire_tmem_set_backing(t, store, QUIRE_CLASS_CAPACITY, NULL, &err) < 0)
		_exit(2);
	struct quire_tmem_pool *pool = make_pool(t, QUIRE_TMEM_SPILL);
	for (;; version++) {
		for (uint32_t i = 0; i < 900; i++)
			if (put_page(pool, i, version * 10000 + i) < 0)
				_exit(3);
		if (quire_tmem_pool_save(pool, store, QUIRE_CLASS_CAPACITY, "pool", &err) < 0)
			_exit(4);
		if (write(fd, &version, sizeof(version)) != sizeof(version))
			_exit(0);
	}
}

static uint32_t version_there(void)
{
	struct quire_tmem *t = make(16 * MIB);
	struct quire_tmem_pool *pool = NULL;
	uint8_t page[4096];
	struct quire_tmem_key k = key(0);
	uint32_t version = 0;

	assert_int_equal(env_open(0), 0);
	int rc = quire_tmem_pool_restore(t, store, "pool", NULL, &pool, &err);
	if (rc == 0) {
		assert_int_equal(quire_tmem_get(pool, &k, page, QUIRE_TMEM_GET_USUAL), 0);
		for (version = 1; get_page(pool, 0, version * 10000) != 1;)
			assert_true(++version < 100000);
		for (uint32_t i = 0; i < 900; i++)
			assert_int_equal(get_page(pool, i, version * UINT64_C(10000) + i), 1);
	} else {
		assert_int_equal(rc, -ENOENT);
	}
	assert_int_equal(check(), 0);
	quire_tmem_destroy(t);
	env_close();
	assert_int_equal(quire_cache_close(cache), 0);
	cache = NULL;
	return version;
}

static void what_was_saved_outlives_a_kill(void **state)
{
	uint64_t random = random_seed();
	uint32_t said = 0;

	print_message("seed %llu\n", (unsigned long long)random);
	assert_int_equal(env_create(CAPACITY_BYTES), 0);
	for (unsigned round = 0; round < N_ROUNDS; round++) {
		unsigned n_before_kill = (unsigned)(random_next(&random) % 4);
		uint32_t heard;
		int fds[2], status;
		assert_int_equal(pipe(fds), 0);
		pid_t pid = fork();
		if (pid == 0) {
			close(fds[0]);
			signal(SIGPIPE, SIG_IGN);
			child(fds[1], said + 1);
		}
		close(fds[1]);
		for (unsigned n = 0; n < n_before_kill && read(fds[0], &heard, sizeof(heard)) == sizeof(heard); n++)
			said = heard;
		usleep((unsigned)(random_next(&random) % 30000));
		kill(pid, SIGKILL);
		while (read(fds[0], &heard, sizeof(heard)) == sizeof(heard))
			said = heard;
		close(fds[0]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		uint32_t found = version_there();
		assert_true(found == said || found == said + 1);
		said = found;
	}
	print_message("%u versions\n", said);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* First: it forks before there are threads. */
		WITH_NAME(what_was_saved_outlives_a_kill),
		WITH_STORE(pools_spill_to_a_class),
		WITH_STORE(a_batch_waits_for_what_is_spilled),
		WITH_STORE(a_saved_pool_outlives_the_process),
	};

	return cmocka_run_group_tests_name("blob-tmem", tests, files_setup, files_teardown);
}
