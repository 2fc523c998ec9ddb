/* keep_env.c - a store in a directory of its own, and a service that keeps pools in it. */
#include "keep_env.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORE_BYTES (64 * MIB)

struct env keep_env;
struct quire_store *keep_store;
unsigned keep_n_told;
char keep_told[QUIRE_ERROR_TEXT_BYTES];
static struct quire_cache *cache;

static void on_trouble(void *arg, const struct quire_error *err)
{
	keep_n_told++;
	memcpy(keep_told, err->text, sizeof(keep_told));
}

void keep_in_dir(char path[256], const char *name)
{
	snprintf(path, 256, "%s/%s", keep_env.dir, name);
}

/* ---- a store, and a service beside it ---- */

static void open_store(void)
{
	struct quire_cache_options o = {.size = sizeof(o), .budget_bytes = 64 * MIB};
	struct quire_error err;
	char path[256];

	keep_in_dir(path, "store");
	if (quire_cache_open(&o, &cache, &err) < 0 || quire_store_open(cache, path, 0, &keep_store, &err) < 0)
		fail_msg("%s", err.text);
}

static void close_store(void)
{
	assert_int_equal(quire_store_close(keep_store), 0);
	assert_int_equal(quire_cache_close(cache), 0);
	keep_store = NULL;
	cache = NULL;
}

void keep_make(void)
{
	struct quire_store_options o = {.size = sizeof(o), .capacity_bytes = STORE_BYTES};
	const char *tmp = getenv("TMPDIR");
	struct quire_error err;
	char path[256];

	snprintf(keep_env.dir, sizeof(keep_env.dir), "%s/quire-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(keep_env.dir));
	snprintf(keep_env.path, sizeof(keep_env.path), "%s/tmem", keep_env.dir);
	keep_in_dir(path, "store");
	if (quire_store_create(path, &o, &err) < 0)
		fail_msg("%s", err.text);
}

void keep_unmake(void)
{
	char command[256];

	snprintf(command, sizeof(command), "rm -rf '%s'", keep_env.dir);
	assert_int_equal(system(command), 0);
}

void keep_up_with(struct quire_tmem_service_options *o)
{
	open_store();
	o->store = keep_store;
	o->cls = QUIRE_CLASS_CAPACITY;
	o->trouble = on_trouble;
	keep_n_told = 0;
	env_restart(&keep_env, o);
}

void keep_up(uint64_t kept_bytes)
{
	struct quire_tmem_service_options o = {.kept_bytes = kept_bytes};

	keep_up_with(&o);
}

void keep_down(void)
{
	struct quire_tmem_stat stat;

	quire_tmem_service_destroy(keep_env.service);
	quire_tmem_stat(keep_env.tmem, &stat);
	assert_int_equal(stat.n_pages, 0);
	quire_tmem_destroy(keep_env.tmem);
	close_store();
}

struct quire_tmem_remote *keep_make_pool(struct quire_tmem_client *c, enum quire_tmem_kind kind, uint8_t uuid)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = kind, .flags = QUIRE_TMEM_SHARED, .cap_bytes = 4 * MIB, .uuid = {uuid}};
	struct quire_tmem_remote *pool = NULL;

	assert_int_equal(quire_tmem_remote_create(c, &o, &pool, NULL), 0);
	return pool;
}

struct quire_tmem_remote *keep_open_pool(struct quire_tmem_client *c, uint8_t uuid)
{
	struct quire_tmem_remote *pool = NULL;

	assert_int_equal(quire_tmem_remote_open(c, (const uint8_t[16]){uuid}, &pool), 0);
	return pool;
}

int keep_try_pool(struct quire_tmem_client *c, uint8_t uuid)
{
	struct quire_tmem_remote *pool;
	int rc = quire_tmem_remote_open(c, (const uint8_t[16]){uuid}, &pool);

	if (rc == 0)
		quire_tmem_remote_destroy(pool);
	return rc;
}
