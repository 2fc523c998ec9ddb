/* Evicted pages in a remote tier: they come back as they were, or not at all. */
#include "fake_remote.h"
#include "pools.h"
#include "sums.h"
#include "with_pages.h"
#include "../../src/tmem/remote_tier.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <quire/loop.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define QUEUE (256u << 10)
#define N_PAGES 600u
#define CAP with_pages(600 << 10, POOL_PAGES) /* of some 130 pages, and the policy's own */

struct env {
	struct quire_tmem *tmem;
	struct quire_tmem_pool *pool;
	struct fake_remote remote;
};

static struct quire_tmem_pool *make_pool(struct quire_tmem *t, uint32_t flags)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_EPHEMERAL, .flags = flags, .cap_bytes = CAP};
	struct quire_tmem_pool *pool = NULL;

	o.uuid[0] = (flags & QUIRE_TMEM_SHARED) != 0;
	assert_int_equal(quire_tmem_pool_create(t, &o, &pool, NULL), 0);
	return pool;
}

static int set_up(void **state)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = with_pages(4 * MIB, BEGUN_PAGES), .n_threads = 1};
	struct env *e = calloc(1, sizeof(*e));

	assert_int_equal(quire_tmem_create(&o, &e->tmem, NULL), 0);
	fake_remote_init(&e->remote);
	assert_int_equal(fake_remote_set(&e->remote, e->tmem, QUEUE), 0);
	e->pool = make_pool(e->tmem, QUIRE_TMEM_REMOTE);
	*state = e;
	return 0;
}

static int tear_down(void **state)
{
	struct env *e = *state;

	quire_tmem_destroy(e->tmem);
	fake_remote_fini(&e->remote);
	free(e);
	return 0;
}

static int put(struct quire_tmem_pool *pool, uint32_t index, uint32_t content)
{
	uint8_t page[4096];
	struct quire_tmem_key k = key(index);

	fill(content, page);
	return quire_tmem_put(pool, &k, page);
}

/* 1: that content; 0: another. */
static int get(struct quire_tmem_pool *pool, uint32_t index, uint32_t content)
{
	uint8_t page[4096], expected[4096];
	struct quire_tmem_key k = key(index);
	int rc = quire_tmem_get(pool, &k, page, QUIRE_TMEM_GET_USUAL);

	fill(content, expected);
	return rc < 0 ? rc : memcmp(page, expected, sizeof(page)) == 0;
}

static bool is_remote(struct quire_tmem_pool *pool, uint32_t index)
{
	struct quire_tmem_key k = key(index);

	pthread_mutex_lock(&pool->tmem->lock);
	struct where at = tmem_page_find(pool, &k);
	bool remote = at.value != VALUE_NONE && tmem_is_stub(pool->tmem, at.value);
	pthread_mutex_unlock(&pool->tmem->lock);
	return remote;
}

static struct quire_tmem_stat stat_of(struct quire_tmem *t)
{
	struct quire_tmem_stat s = sums_stat(t);

	assert_int_equal(s.recompress_saved_bytes, 0);
	return s;
}

/* Pages 0 to N_PAGES - 1, most of which are remote then; sends have ended, unless they are held. */
static void fill_pool(struct env *e, bool settle)
{
	for (uint32_t i = 0; i < N_PAGES; i++) {
		assert_int_equal(put(e->pool, i, i), 0);
		if (settle && i % 8 == 0)
			fake_remote_settle(e->tmem);
	}
	if (settle)
		fake_remote_settle(e->tmem);
}

/* Any page that is remote, from `from` on. */
static uint32_t some_remote(struct env *e, uint32_t from)
{
	while (from < N_PAGES && !is_remote(e->pool, from))
		from++;
	assert_true(from < N_PAGES);
	return from;
}

static void what_is_evicted_comes_back(void **state)
{
	struct env *e = *state;
	unsigned n_there = 0;

	fill_pool(e, true);
	struct quire_tmem_stat s = stat_of(e->tmem);
	assert_true(s.n_remote > N_PAGES / 2);
	assert_int_equal(s.n_remote_sent, s.n_remote);
	for (uint32_t i = 0; i < N_PAGES; i++) {
		int rc = get(e->pool, i, i);
		assert_true(rc == 1 || rc == -ENOENT);
		n_there += rc == 1;
		assert_int_equal(get(e->pool, i, i), -ENOENT);
	}
	assert_int_equal(n_there, s.n_pages);
	assert_int_equal(stat_of(e->tmem).n_remote_hits, s.n_remote);
	assert_int_equal(stat_of(e->tmem).n_remote, 0);
	fake_remote_settle(e->tmem);
	assert_int_equal(e->remote.n_drops, s.n_remote);
}

static void a_shared_pools_page_stays_there(void **state)
{
	struct env *e = *state;

	quire_tmem_pool_destroy(e->pool);
	e->pool = make_pool(e->tmem, QUIRE_TMEM_REMOTE | QUIRE_TMEM_SHARED);
	fill_pool(e, true);
	uint32_t i = some_remote(e, 0);
	for (unsigned k = 0; k < 3; k++)
		assert_int_equal(get(e->pool, i, i), 1);
	assert_true(is_remote(e->pool, i));
	assert_int_equal(stat_of(e->tmem).n_remote_hits, 3);
}

static void a_put_over_a_remote_page_replaces_it(void **state)
{
	struct env *e = *state;

	fill_pool(e, true);
	uint32_t i = some_remote(e, 0);
	assert_int_equal(put(e->pool, i, 5000), 0);
	assert_int_equal(get(e->pool, i, 5000), 1);
	assert_int_equal(get(e->pool, i, 5000), -ENOENT);
}

static void a_flushed_page_is_gone(void **state)
{
	struct env *e = *state;

	fill_pool(e, true);
	uint32_t i = some_remote(e, 0);
	struct quire_tmem_key k = key(i);
	assert_int_equal(quire_tmem_flush(e->pool, &k), 1);
	assert_int_equal(quire_tmem_flush(e->pool, &k), 0);
	assert_int_equal(get(e->pool, i, i), -ENOENT);
	assert_int_equal(stat_of(e->tmem).n_remote_misses, 0);
	fake_remote_settle(e->tmem);
	assert_int_equal(e->remote.n_drops, 1);
}

static void what_is_lost_is_a_miss_and_stays_one(void **state)
{
	struct env *e = *state;
	uint8_t page[4096], before[4096];

	fill_pool(e, true);
	uint32_t i = some_remote(e, 0);
	struct quire_tmem_key k = key(i);
	memset(page, 7, sizeof(page));
	memcpy(before, page, sizeof(page));
	e->remote.fail_fetches = true;
	assert_int_equal(quire_tmem_get(e->pool, &k, page, QUIRE_TMEM_GET_KEEP), -ENOENT);
	assert_memory_equal(page, before, sizeof(page));
	e->remote.fail_fetches = false;
	assert_int_equal(get(e->pool, i, i), -ENOENT);
	assert_int_equal(stat_of(e->tmem).n_remote_misses, 1);
	assert_int_equal(stat_of(e->tmem).n_remote_errors, 1);
	i = some_remote(e, 0);
	fake_remote_lose(&e->remote);
	assert_int_equal(get(e->pool, i, i), -ENOENT);
	assert_int_equal(stat_of(e->tmem).n_remote_misses, 2);
	assert_int_equal(stat_of(e->tmem).n_remote_errors, 1);
}

static void what_is_damaged_or_cut_is_a_miss(void **state)
{
	struct env *e = *state;

	fill_pool(e, true);
	uint32_t i = some_remote(e, 0);
	e->remote.damage = true;
	assert_int_equal(get(e->pool, i, i), -ENOENT);
	e->remote.damage = false;
	assert_int_equal(get(e->pool, i, i), -ENOENT);
	i = some_remote(e, i);
	e->remote.cut = true;
	assert_int_equal(get(e->pool, i, i), -ENOENT);
	assert_int_equal(stat_of(e->tmem).n_remote_errors, 2);
}

/* Of a page that is remote. */
static uint64_t version_of(struct quire_tmem_pool *pool, uint32_t index)
{
	struct quire_tmem_key k = key(index);

	pthread_mutex_lock(&pool->tmem->lock);
	uint64_t version = stub_at(pool->tmem, tmem_page_find(pool, &k).value)->version;
	pthread_mutex_unlock(&pool->tmem->lock);
	return version;
}

static void a_value_by_another_name_is_a_miss_though_its_bytes_are_the_same(void **state)
{
	struct env *e = *state;

	quire_tmem_pool_destroy(e->pool);
	e->pool = make_pool(e->tmem, QUIRE_TMEM_REMOTE | QUIRE_TMEM_NO_DEDUP);
	assert_int_equal(put(e->pool, 1000, 5), 0);
	assert_int_equal(put(e->pool, 1001, 5), 0);
	fill_pool(e, true);
	assert_true(is_remote(e->pool, 1000) && is_remote(e->pool, 1001));
	e->remote.instead = version_of(e->pool, 1001);
	assert_int_equal(get(e->pool, 1000, 5), -ENOENT);
	assert_int_equal(get(e->pool, 1001, 5), 1);
	assert_int_equal(stat_of(e->tmem).n_remote_errors, 1);
}

static void an_older_value_of_the_same_page_is_a_miss(void **state)
{
	struct env *e = *state;

	fill_pool(e, true);
	uint32_t i = some_remote(e, 0);
	uint64_t old = version_of(e->pool, i);
	/* It isn't deleted there, as by a server that was away. */
	struct tmem_remote_head *kept = e->remote.values[old % FAKE_VALUES].value;
	e->remote.values[old % FAKE_VALUES].value = NULL;
	assert_int_equal(put(e->pool, i, 5000), 0);
	for (uint32_t n = N_PAGES; !is_remote(e->pool, i); n++) {
		assert_int_equal(put(e->pool, n, n), 0);
		fake_remote_settle(e->tmem);
	}
	e->remote.values[old % FAKE_VALUES] = (struct fake_value){.version = old, .value = kept};
	e->remote.instead = old;
	assert_int_equal(get(e->pool, i, 5000), -ENOENT);
	assert_int_equal(stat_of(e->tmem).n_remote_errors, 1);
}

static void pages_on_their_way_are_found(void **state)
{
	struct env *e = *state;

	fake_remote_hold(&e->remote, true);
	fill_pool(e, false);
	struct quire_tmem_stat s = stat_of(e->tmem);
	assert_true(s.n_remote > 20 && s.remote_bytes <= QUEUE);
	assert_true(s.n_evicted > N_PAGES / 3); /* which the queue had no room for */
	unsigned n_hits = 0;
	for (uint32_t i = 0; i < N_PAGES; i++)
		if (is_remote(e->pool, i)) {
			assert_int_equal(get(e->pool, i, i), 1);
			n_hits++;
		}
	assert_int_equal(n_hits, s.n_remote);
	assert_int_equal(e->remote.n_fetches, 0);
	fake_remote_hold(&e->remote, false);
	fake_remote_settle(e->tmem);
	assert_true(e->remote.n_sends <= 1); /* nobody wants the others */
}

static void what_cant_be_sent_is_gone(void **state)
{
	struct env *e = *state;

	e->remote.fail_sends = true;
	fill_pool(e, true);
	struct quire_tmem_stat s = stat_of(e->tmem);
	assert_int_equal(s.n_remote, 0);
	assert_int_equal(s.n_remote_sent, 0);
	assert_true(s.n_remote_errors > N_PAGES / 2);
	assert_int_equal(s.n_pages + s.n_evicted, N_PAGES);
}

static void stubs_have_a_bounded_part(void **state)
{
	struct env *e = *state;

	for (uint32_t i = 0; i < 8000; i++) {
		assert_int_equal(put(e->pool, i, i), 0);
		if (i % 8 == 0)
			fake_remote_settle(e->tmem);
	}
	struct quire_tmem_stat s = stat_of(e->tmem);
	assert_true(s.n_remote > 1000);
	assert_true(s.n_remote * 40 <= CAP / 8 + 16 * 40);
	assert_true(is_remote(e->pool, 7500));
	assert_int_equal(get(e->pool, 0, 0), -ENOENT);
}

struct putter {
	struct env *env;
	uint32_t index;
};

static void put_meanwhile(void *arg)
{
	struct putter *p = arg;

	assert_int_equal(put(p->env->pool, p->index, 7000), 0);
}

static void a_put_during_a_get_is_what_it_takes(void **state)
{
	struct env *e = *state;

	fill_pool(e, true);
	uint32_t i = some_remote(e, 0);
	struct putter p = {.env = e, .index = i};
	e->remote.hook = put_meanwhile;
	e->remote.hook_arg = &p;
	assert_int_equal(get(e->pool, i, 7000), 1);
	assert_int_equal(get(e->pool, i, 7000), -ENOENT);
}

static void flush_meanwhile(void *arg)
{
	struct putter *p = arg;
	struct quire_tmem_key k = key(p->index);

	assert_int_equal(quire_tmem_flush(p->env->pool, &k), 1);
}

static void a_page_flushed_during_a_get_is_a_miss(void **state)
{
	struct env *e = *state;

	fill_pool(e, true);
	uint32_t i = some_remote(e, 0);
	struct putter p = {.env = e, .index = i};
	e->remote.hook = flush_meanwhile;
	e->remote.hook_arg = &p;
	assert_int_equal(get(e->pool, i, i), -ENOENT);
}

static void clear_meanwhile(void *arg)
{
	struct putter *p = arg;

	assert_int_equal(tmem_remote_clear(p->env->tmem), -EBUSY);
}

static void cleared_pages_are_gone(void **state)
{
	struct env *e = *state;

	fill_pool(e, true);
	uint32_t i = some_remote(e, 0);
	struct putter p = {.env = e, .index = i};
	e->remote.hook = clear_meanwhile;
	e->remote.hook_arg = &p;
	assert_int_equal(get(e->pool, i, i), 1);
	assert_int_equal(fake_remote_set(&e->remote, e->tmem, QUEUE), -EBUSY);
	struct quire_tmem_stat s = stat_of(e->tmem);
	assert_int_equal(tmem_remote_clear(e->tmem), 0);
	assert_int_equal(tmem_remote_clear(e->tmem), -ENOENT);
	struct quire_tmem_stat after = stat_of(e->tmem);
	assert_int_equal(after.n_remote, 0);
	assert_int_equal(after.n_pages, s.n_pages - s.n_remote);
	/* Tables that are shorter now are of other classes, which begin a page each. */
	assert_true(after.held_bytes < s.held_bytes - QUEUE + with_pages(0, 2));
	/* Evictions go on as if there had never been one; and there may be another. */
	for (uint32_t k = 0; k < 300; k++)
		assert_int_equal(put(e->pool, N_PAGES + k, k), 0);
	assert_int_equal(fake_remote_set(&e->remote, e->tmem, QUEUE), 0);
}

struct on_loop {
	struct env *env;
	uint32_t index;
	int result, in_batch;
};

static void get_in_coroutine(void *arg)
{
	struct on_loop *o = arg;
	uint8_t page[4096], expected[4096];
	struct quire_tmem_request r = {.pool = o->env->pool, .key = key(o->index), .verb = QUIRE_TMEM_GET, .page = page};
	struct quire_op op;

	o->result = get(o->env->pool, o->index, o->index);
	quire_op_init(&op);
	assert_int_equal(quire_tmem_batch(o->env->tmem, &r, 1, &op), 0);
	assert_int_equal(quire_await(&op), 0);
	fill(o->index, expected);
	o->in_batch = r.result < 0 ? (int)r.result : memcmp(page, expected, sizeof(page)) == 0;
}

static void a_loops_thread_doesnt_wait(void **state)
{
	struct env *e = *state;
	struct quire_loop *loop = NULL;

	fill_pool(e, true);
	struct on_loop o = {.env = e, .index = some_remote(e, 0)};
	assert_int_equal(quire_loop_create(NULL, &loop, NULL), 0);
	assert_int_equal(quire_co_spawn(loop, get_in_coroutine, &o), 0);
	assert_int_equal(quire_loop_run(loop), 0);
	quire_loop_destroy(loop);
	assert_int_equal(o.result, -EDEADLK);
	assert_int_equal(o.in_batch, 1);
}

static void a_copy_has_no_remote_pages(void **state)
{
	struct env *e = *state;
	struct quire_tmem_copy *c = NULL;
	struct quire_tmem_key k;
	uint8_t page[4096], expected[4096];
	uint64_t n = 0;
	int rc;

	fill_pool(e, true);
	struct quire_tmem_stat s = stat_of(e->tmem);
	assert_int_equal(quire_tmem_copy_begin(e->pool, NULL, &c), 0);
	while ((rc = quire_tmem_copy_next(c, &k, page)) == QUIRE_TMEM_COPY_PAGE || rc == QUIRE_TMEM_COPY_GONE) {
		if (rc == QUIRE_TMEM_COPY_GONE)
			continue;
		fill(k.index, expected);
		assert_memory_equal(page, expected, sizeof(page));
		n++;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(n, s.n_pages - s.n_remote);
	quire_tmem_copy_end(c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_evicted_comes_back),
		TEST(a_shared_pools_page_stays_there),
		TEST(a_put_over_a_remote_page_replaces_it),
		TEST(a_flushed_page_is_gone),
		TEST(what_is_lost_is_a_miss_and_stays_one),
		TEST(what_is_damaged_or_cut_is_a_miss),
		TEST(a_value_by_another_name_is_a_miss_though_its_bytes_are_the_same),
		TEST(an_older_value_of_the_same_page_is_a_miss),
		TEST(pages_on_their_way_are_found),
		TEST(what_cant_be_sent_is_gone),
		TEST(stubs_have_a_bounded_part),
		TEST(a_put_during_a_get_is_what_it_takes),
		TEST(a_page_flushed_during_a_get_is_a_miss),
		TEST(cleared_pages_are_gone),
		TEST(a_loops_thread_doesnt_wait),
		TEST(a_copy_has_no_remote_pages),
	};
	return cmocka_run_group_tests_name("tmem-remote", tests, NULL, NULL);
}
