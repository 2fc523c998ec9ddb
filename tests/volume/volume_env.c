/* volume_env.c - see volume_env.h. */
#include "volume_env.h"
#include "../support/env_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void env_init(struct env *e, uint64_t seed, uint64_t n_units, const struct sim_faults *faults)
{
	struct quire_loop_options opts = {.size = sizeof(opts), .engine = QUIRE_ENGINE_THREADS, .n_threads = 1};
	struct quire_cache_options cache = {.size = sizeof(cache), .budget_bytes = 64u << 20, .reserve_bytes = 1u << 30};

	*e = (struct env){.seed = seed, .segment_bytes = ENV_SEGMENT_BYTES};
	assert_int_equal(quire_loop_create(&opts, &e->loop, NULL), 0);
	assert_int_equal(quire_cache_open(&cache, &e->cache, NULL), 0);
	assert_int_equal(sim_create(n_units * FORMAT_UNIT_BYTES, seed, faults, &e->sim), 0);
}

void env_fini(struct env *e)
{
	assert_null(e->volumes);
	assert_null(e->store);
	sim_destroy(e->sim);
	assert_int_equal(quire_loop_run(e->loop), 0);
	assert_int_equal(quire_loop_destroy(e->loop), 0);
	assert_int_equal(quire_cache_close(e->cache), 0);
}

static struct store_config config_of(struct env *e)
{
	return (struct store_config){
		.budget = &e->cache->budget,
		.service = e->loop,
		.cache = e->cache,
		.seed = random_next(&e->seed) | 1,
		.segment_bytes = ENV_SEGMENT_BYTES,
	};
}

static struct store_media open_media(struct env *e)
{
	struct store_media media = {{NULL}};

	assert_int_equal(sim_open(e->sim, e->loop, &media.classes[QUIRE_CLASS_CAPACITY]), 0);
	if (e->failing != NULL)
		failing_put(e->failing, &media.classes[QUIRE_CLASS_CAPACITY]);
	return media;
}

int env_format(struct env *e)
{
	struct store_media media = open_media(e);
	struct store_config config = config_of(e);
	int rc = store_format(&media, &config, &e->err);

	device_close(media.classes[0]);
	return rc;
}

int env_open_store(struct env *e)
{
	struct store_media media = open_media(e);
	struct store_config config = config_of(e);

	memset(&e->err, 0, sizeof(e->err));
	int rc = store_open(&media, &config, &e->store, &e->err);
	if (rc < 0) {
		device_close(media.classes[0]);
		e->store = NULL;
	}
	return rc;
}

int env_open(struct env *e)
{
	struct quire_volumes_options o = {.size = sizeof(o), .segment_bytes = e->segment_bytes, .map_bytes = 1u << 20,
	                                  .checkpoint_bytes = e->checkpoint_bytes};
	int rc = env_open_store(e);

	if (rc < 0)
		return rc;
	rc = quire_volumes_open(store_public(e->store), &o, &e->volumes, &e->err);
	if (rc < 0) {
		assert_int_equal(store_close(e->store), 0);
		e->store = NULL;
		e->volumes = NULL;
	}
	return rc;
}

int env_close(struct env *e)
{
	int rc = quire_volumes_close(e->volumes);

	assert_int_not_equal(rc, -EBUSY);
	e->volumes = NULL;
	assert_int_equal(store_close(e->store), 0);
	e->store = NULL;
	return rc;
}

/* ---- volumes in it ---- */

void fill(uint8_t *buf, size_t len, uint64_t what)
{
	for (size_t i = 0; i < len; i += 8) {
		uint64_t word = what * 0x9e3779b97f4a7c15u + i;
		memcpy(buf + i, &word, 8);
	}
}

int put(struct quire_volume *v, uint64_t offset, size_t len, uint64_t what, unsigned flags)
{
	uint8_t *buf = malloc(len);
	struct iovec iov = {buf, len};

	fill(buf, len, what);
	int rc = quire_volume_write(v, offset, &iov, 1, flags, NULL);
	free(buf);
	return rc;
}

bool holds(struct quire_volume *v, uint64_t offset, size_t len, uint64_t what)
{
	uint8_t *buf = malloc(len), *want = calloc(1, len);
	struct iovec iov = {buf, len};

	memset(buf, 0x77, len);
	assert_int_equal(quire_volume_read(v, offset, &iov, 1, NULL), 0);
	if (what != 0)
		fill(want, len, what);
	bool same = memcmp(buf, want, len) == 0;
	free(buf);
	free(want);
	return same;
}

struct quire_volume *open_volume(struct env *e, const char *name)
{
	struct quire_volume *v = NULL;

	assert_int_equal(quire_volume_open(e->volumes, name, &v), 0);
	return v;
}

void begin(struct env *e)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = VOLUME_BYTES};

	assert_int_equal(env_format(e), 0);
	assert_int_equal(env_open(e), 0);
	assert_int_equal(quire_volume_create(e->volumes, "a", &o), 0);
}

void reopen(struct env *e)
{
	assert_int_equal(env_close(e), 0);
	int rc = env_open(e);
	if (rc < 0)
		print_message("  %s\n", e->err.text);
	assert_int_equal(rc, 0);
}

uint64_t live_blocks(struct env *e)
{
	struct quire_volumes_stat stat;

	assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	assert_int_equal(quire_volumes_stat(e->volumes, &stat), 0);
	return stat.live_bytes / BLOCK;
}

unsigned unseal(struct sim *medium, uint64_t n_units)
{
	static const uint8_t zeros[BLOCK];
	uint8_t block[BLOCK];
	unsigned n = 0;

	for (uint64_t at = 0; at < n_units * BLOCK; at += BLOCK) {
		sim_peek(medium, at, block, BLOCK);
		if (memcmp(block, "QuireEnd", 8) != 0)
			continue;
		sim_poke(medium, at, zeros, BLOCK);
		n++;
	}
	return n;
}
