/* corpus.c - the life of the store: see corpus.h. */
#include "corpus.h"

#include "../../src/cache/core.h"
#include "../../src/store/format.h"

#include <errno.h>
#include <string.h>

#define CAPACITY_UNITS 2048u
#define PMEM_UNITS 512u

static const unsigned classes[CORPUS_N_SIMS] = {QUIRE_CLASS_CAPACITY, QUIRE_CLASS_PMEM};

static struct store_config config_of(struct corpus *c, bool read_only)
{
	return (struct store_config){
		.budget = &c->cache->budget,
		.service = c->loop,
		.cache = c->cache,
		.read_only = read_only,
		.seed = random_next(&c->seed) | 1,
		.segment_bytes = 65536,
	};
}

static struct store_media open_media(struct corpus *c)
{
	struct store_media media = {{NULL}};

	for (unsigned i = 0; i < CORPUS_N_SIMS; i++)
		assert_int_equal(sim_open(c->sims[i], c->loop, &media.classes[classes[i]]), 0);
	return media;
}

static void close_media(struct store_media *media)
{
	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		device_close(media->classes[i]);
}

int corpus_open(struct corpus *c, bool read_only)
{
	struct store_media media = open_media(c);
	struct store_config config = config_of(c, read_only);

	memset(&c->err, 0, sizeof(c->err));
	int rc = store_open(&media, &config, &c->store, &c->err);
	if (rc < 0) {
		close_media(&media);
		c->store = NULL;
	}
	return rc;
}

void corpus_close(struct corpus *c)
{
	assert_int_equal(store_close(c->store), 0);
	c->store = NULL;
}

static void make(struct corpus *c, void *arg)
{
	struct store_media media = open_media(c);
	struct store_config config = config_of(c, false);
	struct view view;

	assert_int_equal(store_format(&media, &config, &c->err), 0);
	close_media(&media);
	assert_int_equal(corpus_open(c, false), 0);
	corpus_write(c);
	corpus_close(c);
	/* Once more, so that all is sealed that can be. */
	assert_int_equal(corpus_open(c, false), 0);
	corpus_look(c, &view);
	assert_int_equal(view.n_of[SEEN_RIGHT], view.n);
	corpus_close(c);
}

struct running {
	struct corpus *corpus;
	void (*fn)(struct corpus *c, void *arg);
	void *arg;
};

static void run_in_coroutine(void *arg)
{
	struct running *r = arg;

	r->fn(r->corpus, r->arg);
}

void corpus_run(struct corpus *c, void (*fn)(struct corpus *c, void *arg), void *arg)
{
	struct running r = {.corpus = c, .fn = fn, .arg = arg};

	assert_int_equal(quire_co_spawn(c->loop, run_in_coroutine, &r), 0);
	assert_int_equal(quire_loop_run(c->loop), 0);
}

struct sim **corpus_sim(struct corpus *c, unsigned class_no)
{
	for (unsigned i = 0; i < CORPUS_N_SIMS; i++)
		if (classes[i] == class_no)
			return &c->sims[i];
	return NULL;
}

void corpus_init(struct corpus *c)
{
	struct quire_loop_options loop = {.size = sizeof(loop), .engine = QUIRE_ENGINE_THREADS, .n_threads = 1};
	struct quire_cache_options cache = {.size = sizeof(cache), .budget_bytes = 64u << 20, .reserve_bytes = 1u << 30};
	struct quire_tmem_options tmem = {.size = sizeof(tmem), .budget_bytes = 8u << 20, .n_threads = 1};

	*c = (struct corpus){.seed = 8};
	assert_int_equal(quire_loop_create(&loop, &c->loop, NULL), 0);
	assert_int_equal(quire_cache_open(&cache, &c->cache, NULL), 0);
	assert_int_equal(quire_tmem_create(&tmem, &c->tmem, NULL), 0);
	assert_int_equal(sim_create(CAPACITY_UNITS * FORMAT_UNIT_BYTES, 1, NULL, &c->sims[0]), 0);
	assert_int_equal(sim_create_pmem(PMEM_UNITS * FORMAT_UNIT_BYTES, 2, NULL, &c->sims[1]), 0);
	corpus_run(c, make, NULL);
	memcpy(c->good, c->sims, sizeof(c->good));
	memset(c->sims, 0, sizeof(c->sims));
}

void corpus_begin(struct corpus *c)
{
	for (unsigned i = 0; i < CORPUS_N_SIMS; i++)
		assert_int_equal(sim_clone(c->good[i], 1, &c->sims[i]), 0);
}

void corpus_end(struct corpus *c)
{
	assert_null(c->store);
	for (unsigned i = 0; i < CORPUS_N_SIMS; i++) {
		sim_destroy(c->sims[i]);
		c->sims[i] = NULL;
	}
}

void corpus_fini(struct corpus *c)
{
	for (unsigned i = 0; i < CORPUS_N_SIMS; i++)
		sim_destroy(c->good[i]);
	quire_tmem_destroy(c->tmem);
	assert_int_equal(quire_loop_run(c->loop), 0);
	assert_int_equal(quire_loop_destroy(c->loop), 0);
	assert_int_equal(quire_cache_close(c->cache), 0);
}
