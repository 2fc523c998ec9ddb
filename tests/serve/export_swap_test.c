/* export_swap_test.c - a disk that is a pool of pages, against an array of bytes: what was accepted is read, what was refused is an
 * error until it is written or discarded, and nothing else is. Random; QUIRE_TEST_SEED repeats. */
#include "export_env.h"
#include "serve/export.h"
#include "../support/random.h"

#include <errno.h>
#include <quire/tmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK 4096u
#define N_BLOCKS 1500u /* three objects, the last not whole */
#define LONGEST 700u
#define STEPS 250u

struct world {
	struct quire_tmem *tmem;
	struct quire_tmem_pool *pool;
	struct export *e;
	uint64_t seed;
	unsigned n_refused;
	bool lost[N_BLOCKS];
	uint8_t model[N_BLOCKS][BLOCK];
	uint8_t buf[LONGEST * BLOCK];
};

static struct world *new_world(uint64_t budget_bytes)
{
	const struct quire_tmem_options t = {.size = sizeof(t), .budget_bytes = budget_bytes};
	const struct quire_tmem_pool_options p = {.size = sizeof(p), .kind = QUIRE_TMEM_PERSISTENT};
	struct world *w = calloc(1, sizeof(*w));

	w->seed = random_seed();
	print_message("seed %llu\n", (unsigned long long)w->seed);
	assert_int_equal(quire_tmem_create(&t, &w->tmem, NULL), 0);
	assert_int_equal(quire_tmem_pool_create(w->tmem, &p, &w->pool, NULL), 0);
	assert_int_equal(export_swap_open(w->pool, N_BLOCKS * BLOCK, &w->e, NULL), 0);
	return w;
}

static void end_world(struct world *w)
{
	assert_int_equal(w->e->ops->close(w->e), 0);
	quire_tmem_pool_destroy(w->pool);
	quire_tmem_destroy(w->tmem);
	free(w);
}

/* ---- against the model ---- */

static void check_block(struct world *w, unsigned block)
{
	int rc = w->e->ops->read(w->e, w->buf, (uint64_t)block * BLOCK, BLOCK);

	assert_int_equal(rc, w->lost[block] ? -EIO : 0);
	if (rc == 0)
		assert_memory_equal(w->buf, w->model[block], BLOCK);
}

/* Pages that compress, pages that don't, pages of one word, pages that are there already. */
static void make_page(struct world *w, uint8_t *page)
{
	unsigned kind = (unsigned)(random_next(&w->seed) % 4);

	memset(page, (int)(random_next(&w->seed) % 4), BLOCK);
	for (unsigned i = 0; i < BLOCK / 8 && kind > 0; i += kind == 1 ? 64 : 1) {
		uint64_t word = random_next(&w->seed) << 32 ^ random_next(&w->seed) << 4;
		memcpy(page + i * 8, &word, 8);
	}
}

/* What was refused is somewhere in the range: the rest is what it should be, or what it was. */
static void learn(struct world *w, unsigned at, unsigned n)
{
	static uint8_t now[BLOCK];

	for (unsigned i = 0; i < n; i++) {
		int rc = w->e->ops->read(w->e, now, (uint64_t)(at + i) * BLOCK, BLOCK);
		assert_true(rc == 0 || rc == -EIO);
		bool is_new = rc == 0 && memcmp(now, w->buf + i * BLOCK, BLOCK) == 0;
		bool is_old = rc == 0 && !w->lost[at + i] && memcmp(now, w->model[at + i], BLOCK) == 0;
		assert_true(rc == -EIO || is_new || is_old);
		w->lost[at + i] = rc == -EIO;
		if (rc == 0)
			memcpy(w->model[at + i], now, BLOCK);
	}
}

static void write_some(struct world *w, unsigned at, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		make_page(w, w->buf + i * BLOCK);
	int rc = w->e->ops->write(w->e, w->buf, (uint64_t)at * BLOCK, n * BLOCK, 0);
	if (rc < 0) {
		assert_int_equal(rc, -ENOSPC);
		w->n_refused++;
		learn(w, at, n);
		return;
	}
	memcpy(w->model[at], w->buf, (size_t)n * BLOCK);
	memset(w->lost + at, 0, n);
}

static void drop_some(struct world *w, unsigned at, unsigned n)
{
	unsigned how = random_next(&w->seed) % 2 ? EXPORT_NO_HOLE : 0;
	bool trims = random_next(&w->seed) % 2;
	int rc = trims ? w->e->ops->trim(w->e, (uint64_t)at * BLOCK, n * BLOCK, 0)
	               : w->e->ops->zero(w->e, (uint64_t)at * BLOCK, n * BLOCK, how);

	if (rc < 0) {
		assert_false(trims);
		assert_int_equal(rc, -ENOSPC);
		memset(w->buf, 0, (size_t)n * BLOCK);
		learn(w, at, n);
		return;
	}
	memset(w->model[at], 0, (size_t)n * BLOCK);
	memset(w->lost + at, 0, n);
}

static void random_steps(void *arg)
{
	struct world *w = arg;

	for (unsigned i = 0; i < STEPS; i++) {
		unsigned at = (unsigned)(random_next(&w->seed) % N_BLOCKS);
		unsigned most = random_next(&w->seed) % 8 == 0 ? LONGEST : 16;
		unsigned n = (unsigned)(1 + random_next(&w->seed) % most);
		n = n > N_BLOCKS - at ? N_BLOCKS - at : n;
		if (random_next(&w->seed) % 4 == 0)
			drop_some(w, at, n);
		else
			write_some(w, at, n);
		check_block(w, (unsigned)(random_next(&w->seed) % N_BLOCKS));
	}
	for (unsigned i = 0; i < N_BLOCKS; i++)
		check_block(w, i);
}

static void test_a_disk_with_room(void **state)
{
	struct world *w = new_world(32u << 20);

	run_in_coroutine(random_steps, w);
	assert_int_equal(w->n_refused, 0);
	end_world(w);
}

static void test_a_disk_that_gets_full(void **state)
{
	struct world *w = new_world(2u << 20);

	run_in_coroutine(random_steps, w);
	assert_true(w->n_refused > 0);
	end_world(w);
}

/* ---- one by one ---- */

static void refuse_one(void *arg)
{
	struct world *w = arg;

	memset(w->buf, 'a', 2 * BLOCK);
	assert_int_equal(w->e->ops->write(w->e, w->buf, 0, 2 * BLOCK, 0), 0);
	quire_tmem_pool_freeze(w->pool, true);
	assert_int_equal(w->e->ops->write(w->e, w->buf, 0, BLOCK, 0), -EROFS);
	quire_tmem_pool_freeze(w->pool, false);
	assert_int_equal(w->e->ops->read(w->e, w->buf, 0, BLOCK), -EIO);
	assert_int_equal(w->e->ops->read(w->e, w->buf, BLOCK, BLOCK), 0);
	assert_int_equal(w->e->ops->trim(w->e, 0, BLOCK, 0), 0);
	assert_int_equal(w->e->ops->read(w->e, w->buf, 0, BLOCK), 0);
	assert_int_equal(w->buf[0], 0);
}

static void test_a_block_that_was_refused_is_an_error_until_it_is_discarded(void **state)
{
	struct world *w = new_world(32u << 20);

	run_in_coroutine(refuse_one, w);
	end_world(w);
}

static void fill_and_discard(void *arg)
{
	struct world *w = arg;
	struct quire_tmem_pool_stat stat;

	for (unsigned at = 0; at < N_BLOCKS; at += 100)
		write_some(w, at, 100);
	quire_tmem_pool_stat(w->pool, &stat);
	assert_int_equal(stat.n_pages, N_BLOCKS);
	assert_int_equal(w->e->ops->trim(w->e, BLOCK, (N_BLOCKS - 2) * BLOCK, 0), 0);
	quire_tmem_pool_stat(w->pool, &stat);
	assert_int_equal(stat.n_pages, 2);
}

static void test_what_is_discarded_takes_nothing(void **state)
{
	struct world *w = new_world(32u << 20);

	run_in_coroutine(fill_and_discard, w);
	end_world(w);
}

static void test_memory_may_be_locked(void **state)
{
	bool may = mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0;
	/* With a limit of it, what comes later is refused. */
	void *much = mmap(NULL, 1u << 30, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (much != MAP_FAILED)
		munmap(much, 1u << 30);
	if (!may || much == MAP_FAILED) {
		munlockall();
		print_message("this process may not lock its memory\n");
		skip();
	}
	struct world *w = new_world(32u << 20);
	run_in_coroutine(fill_and_discard, w);
	end_world(w);
	assert_int_equal(munlockall(), 0);
}

static void test_pools_that_are_none_for_it(void **state)
{
	const struct quire_tmem_pool_options ephemeral = {.size = sizeof(ephemeral), .kind = QUIRE_TMEM_EPHEMERAL};
	const struct quire_tmem_pool_options large = {
		.size = sizeof(large), .kind = QUIRE_TMEM_PERSISTENT, .page_bytes = 65536};
	struct world *w = new_world(32u << 20);
	struct quire_tmem_pool *pool;
	struct quire_error err;
	struct export *e;

	assert_int_equal(export_swap_open(w->pool, 0, &e, &err), -EINVAL);
	assert_int_equal(export_swap_open(w->pool, 5000, &e, &err), -EINVAL);
	assert_int_equal(export_swap_open(w->pool, (UINT64_C(1) << 48) + BLOCK, &e, &err), -EINVAL);
	assert_int_equal(quire_tmem_pool_create(w->tmem, &ephemeral, &pool, NULL), 0);
	assert_int_equal(export_swap_open(pool, BLOCK, &e, &err), -EINVAL);
	quire_tmem_pool_destroy(pool);
	assert_int_equal(quire_tmem_pool_create(w->tmem, &large, &pool, NULL), 0);
	assert_int_equal(export_swap_open(pool, 65536, &e, &err), -EINVAL);
	quire_tmem_pool_destroy(pool);
	end_world(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_disk_with_room),
		cmocka_unit_test(test_a_disk_that_gets_full),
		cmocka_unit_test(test_a_block_that_was_refused_is_an_error_until_it_is_discarded),
		cmocka_unit_test(test_what_is_discarded_takes_nothing),
		cmocka_unit_test(test_memory_may_be_locked),
		cmocka_unit_test(test_pools_that_are_none_for_it),
	};
	return cmocka_run_group_tests_name("swap exports", tests, NULL, NULL);
}
