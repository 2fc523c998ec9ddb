/* store_env.c - see store_env.h. */
#include "store_env.h"

#include "../../src/cache/core.h"
#include "../support/random.h"
#include "../support/env_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUF_BYTES (1u << 20)

uint64_t env_random(uint64_t *state)
{
	return random_next(state);
}

bool env_is_cut(const struct env *e)
{
	bool cut = false;

	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		cut |= e->sims[i] != NULL && sim_is_cut(e->sims[i]);
	return cut;
}

void env_init(struct env *e, uint64_t seed, const uint64_t n_units[STORE_N_CLASSES], const struct sim_faults *faults)
{
	struct quire_loop_options opts = {.size = sizeof(opts), .engine = QUIRE_ENGINE_THREADS, .n_threads = 1};

	*e = (struct env){.seed = seed};
	assert_int_equal(quire_loop_create(&opts, &e->loop, NULL), 0);
	budget_init(&e->budget, 256u << 20);
	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		if (n_units[i] != 0)
			assert_int_equal(sim_create(n_units[i] * PAGE, seed + i, faults, &e->sims[i]), 0);
}

void env_fini(struct env *e)
{
	assert_null(e->store);
	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		sim_destroy(e->sims[i]);
	assert_int_equal(quire_loop_run(e->loop), 0);
	assert_int_equal(quire_loop_destroy(e->loop), 0);
	assert_int_equal(budget_used(&e->budget), 0);
}

struct store_config env_config(struct env *e)
{
	return (struct store_config){
		.budget = e->cache != NULL ? &e->cache->budget : &e->budget,
		.cache = e->cache,
		.face = e->face,
		.service = e->loop,
		.seed = env_random(&e->seed) | 1,
		.segment_bytes = e->segment_bytes != 0 ? e->segment_bytes : 64u << 10,
		.compact_slack_bytes = e->slack_bytes,
	};
}

struct device *env_open_device(struct env *e, unsigned class_no)
{
	struct device *d;

	assert_int_equal(sim_open(e->sims[class_no], e->loop, &d), 0);
	if (e->failing != NULL)
		failing_put(e->failing, &d);
	return d;
}

static struct store_media open_media(struct env *e)
{
	struct store_media media = {{NULL}};

	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		if (e->sims[i] != NULL)
			media.classes[i] = env_open_device(e, i);
	return media;
}

static void close_media(struct store_media *media)
{
	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		device_close(media->classes[i]);
}

int env_format(struct env *e)
{
	struct store_media media = open_media(e);
	struct store_config config = env_config(e);
	int rc = store_format(&media, &config, &e->err);

	close_media(&media);
	return rc;
}

static int open_store(struct env *e, bool read_only)
{
	struct store_media media = open_media(e);
	struct store_config config = env_config(e);

	config.read_only = read_only;
	memset(&e->err, 0, sizeof(e->err));
	int rc = store_open(&media, &config, &e->store, &e->err);
	if (rc < 0)
		close_media(&media);
	return rc;
}

int env_open(struct env *e)
{
	return open_store(e, false);
}

int env_open_read_only(struct env *e)
{
	return open_store(e, true);
}

void env_close(struct env *e)
{
	assert_int_equal(store_close(e->store), 0);
	e->store = NULL;
}

/* ---- content ---- */

void env_fill(uint64_t id, uint64_t offset, void *buf, uint64_t len_bytes)
{
	unsigned char *to = buf;

	for (uint64_t i = 0; i < len_bytes;) {
		uint64_t state = id << 32 ^ (offset + i) / 8, skip = (offset + i) % 8;
		uint64_t word = env_random(&state), n = 8 - skip < len_bytes - i ? 8 - skip : len_bytes - i;
		memcpy(to + i, (unsigned char *)&word + skip, n);
		i += n;
	}
}

int env_append(struct env *e, uint64_t id, uint64_t offset, uint64_t len_bytes)
{
	void *buf = aligned_alloc(PAGE, (len_bytes + PAGE) & ~(uint64_t)(PAGE - 1));
	struct iovec iov[2] = {{buf, len_bytes / 3}, {(char *)buf + len_bytes / 3, len_bytes - len_bytes / 3}};

	env_fill(id, offset, buf, len_bytes);
	/* In one piece if it is aligned, so that it may be written from where it is. */
	int rc = len_bytes % PAGE == 0 ? object_append(e->store, id, &(struct iovec){buf, len_bytes}, 1)
	                               : object_append(e->store, id, iov, 2);
	free(buf);
	return rc;
}

int64_t env_write(struct env *e, unsigned cls, uint64_t len_bytes)
{
	uint64_t id;
	int rc = object_begin(e->store, cls, 0, ENV_SHIFT(cls), ENV_TAG(cls), &id);

	for (uint64_t at = 0; at < len_bytes && rc == 0; at += BUF_BYTES)
		rc = env_append(e, id, at, len_bytes - at < BUF_BYTES ? len_bytes - at : BUF_BYTES);
	return rc < 0 ? rc : (int64_t)id;
}

int64_t env_put(struct env *e, unsigned cls, uint64_t len_bytes)
{
	int64_t id = env_write(e, cls, len_bytes);

	if (id < 0)
		return id;
	int rc = store_apply(e->store, &(uint64_t){(uint64_t)id}, 1, NULL, 0);
	return rc < 0 ? rc : id;
}

int env_verify(struct env *e, uint64_t id, uint64_t len_bytes)
{
	struct object *o;
	int rc = object_get(e->store, id, &o);

	if (rc < 0)
		return rc;
	char *buf = aligned_alloc(PAGE, BUF_BYTES), *want = malloc(BUF_BYTES);
	if (object_bytes(o) != len_bytes)
		rc = -EILSEQ;
	for (uint64_t at = 0; at < len_bytes && rc == 0; at += BUF_BYTES) {
		uint32_t n = len_bytes - at < BUF_BYTES ? (uint32_t)(len_bytes - at) : BUF_BYTES;
		rc = object_read_wait(o, at, n, buf, NULL);
		env_fill(id, at, want, n);
		if (rc == 0 && memcmp(buf, want, n) != 0)
			rc = -EILSEQ;
	}
	free(buf);
	free(want);
	object_put(o);
	return rc;
}
