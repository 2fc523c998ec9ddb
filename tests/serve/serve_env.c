/* serve_env.c - a service in this process, and clients of it. */
#include "serve_env.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 20000u

void env_restart(struct env *e, struct quire_tmem_service_options *options)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = 64 * MIB, .n_threads = 1};
	struct quire_error err;

	assert_int_equal(quire_tmem_create(&o, &e->tmem, NULL), 0);
	if (options != NULL)
		options->size = sizeof(*options);
	if (quire_tmem_serve(e->tmem, e->path, options, &e->service, &err) < 0)
		fail_msg("%s", err.text);
}

void env_start(struct env *e, struct quire_tmem_service_options *options)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(e->dir, sizeof(e->dir), "%s/quire-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(e->dir));
	snprintf(e->path, sizeof(e->path), "%s/tmem", e->dir);
	env_restart(e, options);
}

void env_stop(struct env *e)
{
	struct quire_tmem_stat stat;

	quire_tmem_service_destroy(e->service);
	quire_tmem_stat(e->tmem, &stat);
	assert_int_equal(stat.n_pages, 0);
	quire_tmem_destroy(e->tmem);
	assert_int_equal(access(e->path, F_OK), -1);
	assert_int_equal(rmdir(e->dir), 0);
}

struct quire_tmem_client *env_connect(const struct env *e, const struct quire_tmem_client_options *options)
{
	struct quire_tmem_client *c = NULL;
	struct quire_error err;

	if (quire_tmem_connect(e->path, options, &c, &err) < 0)
		fail_msg("%s", err.text);
	return c;
}

struct quire_tmem_remote *env_pool(struct quire_tmem_client *c, enum quire_tmem_kind kind)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = kind};
	struct quire_tmem_remote *pool = NULL;

	assert_int_equal(quire_tmem_remote_create(c, &o, &pool, NULL), 0);
	return pool;
}

struct quire_tmem_service_stat env_stat(const struct env *e)
{
	struct quire_tmem_service_stat stat;

	quire_tmem_service_stat(e->service, &stat);
	return stat;
}

uint64_t env_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

void env_await_clients(const struct env *e, uint64_t n)
{
	uint64_t end = env_now_ms() + PATIENCE_MS;

	while (env_stat(e).n_clients != n && env_now_ms() < end)
		pause_ms(1);
	assert_int_equal(env_stat(e).n_clients, n);
}

void env_await_pages(const struct env *e, uint64_t n)
{
	uint64_t end = env_now_ms() + PATIENCE_MS;
	struct quire_tmem_stat stat;

	for (quire_tmem_stat(e->tmem, &stat); stat.n_pages != n && env_now_ms() < end; quire_tmem_stat(e->tmem, &stat))
		pause_ms(1);
	assert_int_equal(stat.n_pages, n);
}

struct quire_tmem_key env_key(uint64_t object, uint32_t index)
{
	return (struct quire_tmem_key){.object = {object, 2, 3}, .index = index};
}

void env_noise(uint8_t *page, uint32_t n_bytes, uint64_t content)
{
	uint64_t state = content * 0xbf58476d1ce4e5b9u;

	for (uint32_t i = 0; i < n_bytes; i += 8) {
		uint64_t word = random_below(&state, UINT64_MAX);
		memcpy(page + i, &word, 8);
	}
}

void env_fill(uint8_t *page, uint32_t n_bytes, uint64_t content)
{
	env_noise(page, n_bytes / 2, content);
	memset(page + n_bytes / 2, (int)(content & 0xff), n_bytes / 2);
}

int env_put(struct quire_tmem_remote *pool, uint32_t index, uint64_t content)
{
	struct quire_tmem_key key = env_key(1, index);
	uint8_t page[PAGE];

	env_fill(page, PAGE, content);
	return quire_tmem_remote_put(pool, &key, page);
}

int env_get(struct quire_tmem_remote *pool, uint32_t index, uint64_t content)
{
	struct quire_tmem_key key = env_key(1, index);
	uint8_t page[PAGE], expected[PAGE];
	int rc = quire_tmem_remote_get(pool, &key, page, QUIRE_TMEM_GET_USUAL);

	env_fill(expected, PAGE, content);
	return rc < 0 ? rc : memcmp(page, expected, PAGE) == 0;
}

uint64_t env_seed(void)
{
	uint64_t seed = random_seed();

	print_message("QUIRE_TEST_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

bool env_is_quick(void)
{
	return getenv("QUIRE_TEST_LONG") == NULL;
}
