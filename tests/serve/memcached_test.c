/* Evicted pages on real memcached servers, which are killed, paused and started again. */
#include "memcached_env.h"
#include "../tmem/fake_remote.h"
#include "../tmem/pools.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <quire/tmem_memcached.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define CAP (UINT64_C(600) << 10) /* of some 130 pages, and the policy's own */
#define N_PAGES 600u
#define TIMEOUT_MS 40u
#define PATIENT_MS 60000u /* where no server is silent, so that no page is given up because the machine is slow */
#define SLACK_MS 5000u /* other tests have the machine as well */

struct env {
	struct servers servers;
	struct quire_tmem *tmem;
	struct quire_tmem_pool *pool;
};

static struct quire_tmem_pool *make_pool(struct quire_tmem *t)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_EPHEMERAL, .flags = QUIRE_TMEM_REMOTE, .cap_bytes = CAP};
	struct quire_tmem_pool *pool = NULL;

	assert_int_equal(quire_tmem_pool_create(t, &o, &pool, NULL), 0);
	return pool;
}

static int set_up_with(void **state, uint32_t timeout_ms)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = 6 * MIB, .n_threads = 1};
	struct quire_tmem_memcached_options m = {.size = sizeof(m), .timeout_ms = timeout_ms, .retry_s = 1, .queue_bytes = 2 * MIB};
	struct env *e = calloc(1, sizeof(*e));

	servers_start_all(&e->servers);
	assert_int_equal(quire_tmem_create(&o, &e->tmem, NULL), 0);
	assert_int_equal(quire_tmem_set_memcached(e->tmem, e->servers.words, &m, NULL), 0);
	e->pool = make_pool(e->tmem);
	*state = e;
	return 0;
}

static int set_up(void **state)
{
	return set_up_with(state, TIMEOUT_MS);
}

static int set_up_patient(void **state)
{
	return set_up_with(state, PATIENT_MS);
}

static int tear_down(void **state)
{
	struct env *e = *state;

	quire_tmem_destroy(e->tmem);
	servers_stop_all(&e->servers);
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

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* 1: that content; 0: another. In time. */
static int get(struct quire_tmem_pool *pool, uint32_t index, uint32_t content)
{
	uint8_t page[4096], expected[4096];
	struct quire_tmem_key k = key(index);
	uint64_t before = now_ms();
	int rc = quire_tmem_get(pool, &k, page, QUIRE_TMEM_GET_USUAL);

	assert_true(now_ms() - before <= TIMEOUT_MS + SLACK_MS);
	fill(content, expected);
	return rc < 0 ? rc : memcmp(page, expected, sizeof(page)) == 0;
}

static struct quire_tmem_stat stat_of(struct quire_tmem *t)
{
	struct quire_tmem_stat s;

	quire_tmem_stat(t, &s);
	return s;
}

/* Pages from..from + N_PAGES - 1, most of which are remote then. */
static void fill_pool(struct env *e, uint32_t from)
{
	for (uint32_t i = from; i < from + N_PAGES; i++)
		assert_int_equal(put(e->pool, i, i), 0);
	/* However busy the machine: until all that was evicted is sent. */
	fake_remote_settle(e->tmem);
}

/* Until so many were sent altogether. */
static void await_sent(struct env *e, uint64_t n)
{
	uint64_t end = now_ms() + PATIENT_MS;

	while (stat_of(e->tmem).n_remote_sent < n && now_ms() < end)
		usleep(1000);
	assert_true(stat_of(e->tmem).n_remote_sent >= n);
}

/* Gets all that fill_pool put; how many were there. Nothing else was. */
static uint64_t get_all(struct env *e, uint32_t from)
{
	uint64_t n = 0;

	for (uint32_t i = from; i < from + N_PAGES; i++) {
		int rc = get(e->pool, i, i);
		assert_true(rc == 1 || rc == -ENOENT);
		n += rc == 1;
	}
	return n;
}

static void pages_travel_to_all_servers_and_back(void **state)
{
	struct env *e = *state;

	fill_pool(e, 0);
	await_sent(e, stat_of(e->tmem).n_remote);
	struct quire_tmem_stat s = stat_of(e->tmem);
	assert_true(s.n_remote > N_PAGES / 2 && s.n_remote_errors == 0);
	uint64_t n = 0;
	for (unsigned i = 0; i < N_SERVERS; i++) {
		uint64_t there = server_n_values(&e->servers, i);
		assert_true(there > N_PAGES / 20);
		n += there;
	}
	assert_int_equal(n, s.n_remote);
	assert_int_equal(get_all(e, 0), s.n_pages);
	assert_int_equal(stat_of(e->tmem).n_remote_hits, s.n_remote);
	assert_int_equal(stat_of(e->tmem).n_remote_errors, 0);
}

static void a_killed_servers_pages_are_misses(void **state)
{
	struct env *e = *state;

	fill_pool(e, 0);
	await_sent(e, stat_of(e->tmem).n_remote);
	struct quire_tmem_stat s = stat_of(e->tmem);
	uint64_t lost = server_n_values(&e->servers, 0);
	server_kill(&e->servers, 0);
	assert_int_equal(get_all(e, 0), s.n_pages - lost);
	assert_true(stat_of(e->tmem).n_remote_errors > 0);
	/* The others get its part. */
	uint64_t before = stat_of(e->tmem).n_remote_sent;
	fill_pool(e, N_PAGES);
	await_sent(e, before + N_PAGES / 2 + 1);
	s = stat_of(e->tmem);
	uint64_t n = get_all(e, N_PAGES);
	assert_true(n > s.n_pages * 9 / 10);
}

static void a_paused_server_costs_its_timeouts_and_comes_back_without_old_pages(void **state)
{
	struct env *e = *state;

	fill_pool(e, 0);
	server_pause(&e->servers, 1);
	/* It has old ones of these from now on, as nobody can tell it. */
	for (uint32_t i = 0; i < N_PAGES; i++)
		assert_int_equal(put(e->pool, i, N_PAGES + i), 0);
	uint64_t before = stat_of(e->tmem).n_remote_errors;
	for (uint32_t i = 0; i < N_PAGES / 2; i++)
		assert_int_not_equal(get(e->pool, i, N_PAGES + i), 0);
	/* It was asked a few times, not for each of its pages. */
	assert_true(stat_of(e->tmem).n_remote_errors - before < N_PAGES / 20);
	server_resume(&e->servers, 1);
	for (uint32_t i = 0; i < N_PAGES; i++)
		assert_int_not_equal(get(e->pool, i, N_PAGES + i), 0);
}

/* ---- in mid-run ---- */

struct runner {
	struct env *env;
	struct quire_tmem_pool *pool;
	_Atomic bool *stop;
	uint64_t random, n_hits;
	uint32_t contents[N_PAGES]; /* what may be there; 0: nothing */
	pthread_t thread;
};

static void *run(void *arg)
{
	struct runner *r = arg;

	/* Until it has found something, however little time it is given. */
	for (uint32_t content = 1; !atomic_load(r->stop) || r->n_hits == 0; content++) {
		uint32_t i = (uint32_t)random_next(&r->random) % N_PAGES;
		uint64_t kind = random_next(&r->random) % 16;
		struct quire_tmem_key k = key(i);
		if (kind < 9) {
			r->contents[i] = put(r->pool, i, content) == 0 ? content : 0;
		} else if (kind < 15) {
			int rc = get(r->pool, i, r->contents[i]);
			assert_true(rc == -ENOENT || (rc == 1 && r->contents[i] != 0));
			r->n_hits += rc == 1;
			r->contents[i] = 0;
		} else {
			int rc = quire_tmem_flush(r->pool, &k);
			assert_true(rc == 0 || r->contents[i] != 0);
			r->contents[i] = 0;
		}
	}
	return NULL;
}

/* Something befalls each in turn. */
static void torment(struct servers *s, unsigned n, unsigned each_ms)
{
	for (unsigned k = 0; k < n; k++) {
		unsigned i = k % N_SERVERS;
		if (k % 2 == 0)
			server_pause(s, i);
		else
			server_kill(s, i);
		usleep(each_ms * 1000);
		if (k % 2 == 0)
			server_resume(s, i);
		else
			server_start(s, i);
		usleep(each_ms * 500);
	}
}

/* Those that were started again are empty, until they are tried again. */
static void wait_for_use(const struct servers *s)
{
	uint64_t end = now_ms() + 10000;

	for (unsigned i = 0; i < N_SERVERS; i++)
		while (server_n_values(s, i) == 0) {
			assert_true(now_ms() < end);
			usleep(10000);
		}
}

static void no_byte_is_wrong_and_all_are_used_again_whatever_befalls_servers(void **state)
{
	struct env *e = *state;
	bool is_long = getenv("QUIRE_TEST_LONG") != NULL;
	struct runner *r = calloc(2, sizeof(*r));
	_Atomic bool stop = false;

	for (unsigned i = 0; i < 2; i++) {
		r[i].env = e;
		r[i].pool = make_pool(e->tmem);
		r[i].stop = &stop;
		r[i].random = i + 1;
		assert_int_equal(pthread_create(&r[i].thread, NULL, run, &r[i]), 0);
	}
	torment(&e->servers, is_long ? 60 : 4, is_long ? 700 : 80);
	wait_for_use(&e->servers);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(r[i].thread, NULL);
	struct quire_tmem_stat s = stat_of(e->tmem);
	print_message("%u sent, %u hits, %u misses, %u errors\n", (unsigned)s.n_remote_sent, (unsigned)s.n_remote_hits,
	              (unsigned)s.n_remote_misses, (unsigned)s.n_remote_errors);
	assert_true(s.n_remote_hits > 0 && s.n_remote_errors > 0);
	free(r);
}

static void what_names_no_servers_is_refused(void **state)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = 4 * MIB};
	struct quire_tmem_memcached_options m = {.size = sizeof(m), .timeout_ms = 1};
	struct quire_tmem *t = NULL;
	static const char *const bad[] = {"",           ",",        "127.0.0.1,", ",127.0.0.1", "127.0.0.1,,127.0.0.2", "127.0.0.1:",     "127.0.0.1:0",
	                                  "127.0.0.1:x", ":11211",  "unix:",      "[::1",       "[::1]x",               "127.0.0.1:65536"};

	assert_int_equal(quire_tmem_create(&o, &t, NULL), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(quire_tmem_set_memcached(t, bad[i], NULL, NULL), -EINVAL);
	assert_int_equal(quire_tmem_set_memcached(t, "127.0.0.1", &m, NULL), -EINVAL);
	m = (struct quire_tmem_memcached_options){.size = sizeof(m), .queue_bytes = 1};
	assert_int_equal(quire_tmem_set_memcached(t, "127.0.0.1", &m, NULL), -EINVAL);
	m.queue_bytes = 100 * MIB;
	assert_int_equal(quire_tmem_set_memcached(t, "127.0.0.1", &m, NULL), -ENOMEM);
	assert_int_equal(quire_tmem_clear_memcached(t), -ENOENT);
	assert_int_equal(quire_tmem_set_memcached(t, "127.0.0.1:1,[::1]:1,127.0.0.2", NULL, NULL), 0);
	assert_int_equal(quire_tmem_set_memcached(t, "127.0.0.1", NULL, NULL), -EBUSY);
	assert_int_equal(quire_tmem_clear_memcached(t), 0);
	quire_tmem_destroy(t);
	(void)state;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_names_no_servers_is_refused),
		cmocka_unit_test_setup_teardown(pages_travel_to_all_servers_and_back, set_up_patient, tear_down),
		cmocka_unit_test_setup_teardown(a_killed_servers_pages_are_misses, set_up_patient, tear_down),
		TEST(a_paused_server_costs_its_timeouts_and_comes_back_without_old_pages),
		TEST(no_byte_is_wrong_and_all_are_used_again_whatever_befalls_servers),
	};

	if (!servers_can_run())
		return 77;
	return cmocka_run_group_tests_name("serve-memcached", tests, NULL, NULL);
}
