/* log_env.c - see log_env.h. */
#include "log_env.h"
#include "../support/env_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint32_t record_max_len = 2000;

double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- the store ---- */

void env_init(struct env *e, uint64_t seed, uint64_t n_units, const struct sim_faults *faults)
{
	struct quire_loop_options opts = {.size = sizeof(opts), .engine = QUIRE_ENGINE_THREADS, .n_threads = 1};
	uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	/* Room for 256 segments, each of which takes as many pages as there are words in one. */
	struct quire_cache_options cache = {.size = sizeof(cache), .budget_bytes = 64u << 20, .reserve_bytes = 256 * page_bytes * page_bytes / 4};

	if (getenv("QUIRE_EMULATED") != NULL && page_bytes > 4096) {
		print_message("a segment takes a GiB of address space with such pages, and the emulator has few\n");
		exit(77);
	}
	*e = (struct env){.seed = seed};
	assert_int_equal(quire_loop_create(&opts, &e->loop, NULL), 0);
	assert_int_equal(quire_cache_open(&cache, &e->cache, NULL), 0);
	if (n_units != 0)
		assert_int_equal(sim_create(n_units * FORMAT_UNIT_BYTES, seed, faults, &e->sim), 0);
}

void env_fini(struct env *e)
{
	assert_null(e->log);
	assert_null(e->store);
	sim_destroy(e->sim);
	sim_destroy(e->pmem);
	sim_destroy(e->other);
	assert_int_equal(quire_loop_run(e->loop), 0);
	assert_int_equal(quire_loop_destroy(e->loop), 0);
	assert_int_equal(quire_cache_close(e->cache), 0);
}

bool env_is_cut(const struct env *e)
{
	return sim_is_cut(e->sim) || (e->pmem != NULL && sim_is_cut(e->pmem)) || (e->other != NULL && sim_is_cut(e->other));
}

static struct store_config config_of(struct env *e)
{
	return (struct store_config){
		.budget = &e->cache->budget,
		.service = e->loop,
		.cache = e->cache,
		.seed = random_next(&e->seed) | 1,
		.segment_bytes = SEGMENT,
		.compact_slack_bytes = e->slack_bytes,
	};
}

static struct store_media open_media(struct env *e)
{
	struct store_media media = {{NULL}};
	struct device **capacity = &media.classes[QUIRE_CLASS_CAPACITY];

	assert_int_equal(e->open_device != NULL ? e->open_device(e, capacity) : sim_open(e->sim, e->loop, capacity), 0);
	if (e->pmem != NULL)
		assert_int_equal(sim_open(e->pmem, e->loop, &media.classes[QUIRE_CLASS_PMEM]), 0);
	if (e->other != NULL)
		assert_int_equal(sim_open(e->other, e->loop, &media.classes[QUIRE_CLASS_STAGING]), 0);
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
	struct store_config config = config_of(e);
	struct quire_log_options o = {.size = sizeof(o), .segment_bytes = SEGMENT};

	o.cls = e->pmem != NULL ? QUIRE_CLASS_PMEM : QUIRE_CLASS_CAPACITY;
	int rc = store_format(&media, &config, &e->err);
	close_media(&media);
	if (rc == 0)
		rc = env_open_store(e, false);
	if (rc < 0)
		return rc;
	rc = quire_log_create(store_public(e->store), NAME, e->options != NULL ? e->options : &o, &e->err);
	assert_int_equal(env_close(e), 0);
	return rc;
}

int env_open_store(struct env *e, bool read_only)
{
	struct store_media media = open_media(e);
	struct store_config config = config_of(e);

	config.read_only = read_only;
	memset(&e->err, 0, sizeof(e->err));
	int rc = store_open(&media, &config, &e->store, &e->err);
	if (rc < 0) {
		close_media(&media);
		e->store = NULL;
	}
	return rc;
}

int env_open_log(struct env *e, bool read_only)
{
	int rc = env_open_store(e, read_only);

	if (rc == 0) {
		rc = quire_log_open(store_public(e->store), NAME, e->opts, &e->log, &e->err);
		if (rc < 0)
			(void)env_close(e);
	}
	return rc;
}

int env_open(struct env *e)
{
	return env_open_log(e, false);
}

int env_close_log(struct env *e)
{
	int rc = quire_log_close(e->log);

	assert_int_not_equal(rc, -EBUSY);
	e->log = NULL;
	return rc;
}

int64_t env_destage(struct env *e, uint64_t lsn, enum quire_class cls)
{
	memset(&e->err, 0, sizeof(e->err));
	return quire_log_destage(e->log, lsn, cls, &e->err);
}

int env_close(struct env *e)
{
	int rc = env_close_log(e);

	assert_int_equal(store_close(e->store), 0);
	e->store = NULL;
	return rc;
}

/* ---- records ---- */

uint32_t record_len(uint64_t salt, uint64_t lsn)
{
	uint64_t state = salt ^ lsn << 20;
	uint64_t r = random_next(&state);

	return r % 7 == 0 ? 0 : r % 11 == 0 ? record_max_len - 1 : (uint32_t)((r >> 8) % record_max_len);
}

/* Bytes that nothing else has, from where the record's own number says; and that number. */
#define PATTERN_BYTES 65536u
static uint8_t pattern[2 * PATTERN_BYTES];

static const uint8_t *pattern_of(uint64_t salt, uint64_t lsn, uint64_t *ret_own)
{
	uint64_t state = 1;

	if (pattern[0] == 0) {
		for (uint32_t i = 0; i < sizeof(pattern); i += 8) {
			uint64_t word = random_next(&state) | 1;
			memcpy(pattern + i, &word, sizeof(word));
		}
	}
	state = salt << 7 ^ lsn;
	*ret_own = random_next(&state);
	return pattern + *ret_own % PATTERN_BYTES;
}

void record_fill(uint64_t salt, uint64_t lsn, void *buf)
{
	uint64_t own;
	const uint8_t *bytes = pattern_of(salt, lsn, &own);
	uint32_t len = record_len(salt, lsn), n = len < sizeof(own) ? len : (uint32_t)sizeof(own);

	memcpy(buf, &own, n);
	memcpy((uint8_t *)buf + n, bytes + n, len - n);
}

bool record_is(uint64_t salt, const struct quire_log_record *r)
{
	uint64_t own;
	const uint8_t *bytes = pattern_of(salt, r->lsn, &own);
	size_t n = r->len_bytes < sizeof(own) ? r->len_bytes : sizeof(own);

	return r->len_bytes == record_len(salt, r->lsn) && memcmp(r->data, &own, n) == 0 &&
	       memcmp((const uint8_t *)r->data + n, bytes + n, r->len_bytes - n) == 0;
}

int env_append(struct env *e, uint64_t salt, uint64_t lsn, bool durable)
{
	uint32_t len = record_len(salt, lsn);
	uint8_t *buf = malloc(len + 1);
	struct iovec iov[2] = {{buf, len / 3}, {buf + len / 3, len - len / 3}};
	uint64_t got = UINT64_MAX;

	record_fill(salt, lsn, buf);
	int rc = durable ? quire_log_append(e->log, iov, 2, &got, NULL) : quire_log_append_nowait(e->log, iov, 2, &got);
	free(buf);
	if (rc == 0)
		assert_int_equal(got, lsn);
	return rc;
}

static int64_t read_forward(struct quire_log_cursor *c, uint64_t salt, uint64_t first)
{
	struct quire_log_record r;
	uint64_t time = 0, lsn = first;
	int64_t rc;

	while ((rc = quire_log_next(c, &r, NULL)) == 1) {
		if (r.lsn != lsn || !record_is(salt, &r) || r.time_ns < time)
			return -EILSEQ;
		time = r.time_ns;
		lsn++;
	}
	return rc < 0 ? rc : (int64_t)(lsn - first);
}

static int64_t read_backward(struct quire_log_cursor *c, uint64_t salt)
{
	struct quire_log_record r;
	uint64_t lsn = quire_log_cursor_lsn(c);
	int64_t rc, n = 0;

	while ((rc = quire_log_prev(c, &r, NULL)) == 1) {
		if (r.lsn != --lsn || !record_is(salt, &r))
			return -EILSEQ;
		n++;
	}
	return rc < 0 ? rc : n;
}

/* From the start, several at a time: as many as one by one. */
static int64_t read_many(struct quire_log_cursor *c, uint64_t salt, uint64_t first)
{
	struct quire_log_record r[7];
	uint64_t lsn = first;
	int64_t n;

	assert_int_equal(quire_log_seek(c, first), 0);
	for (unsigned at_once = 1; (n = quire_log_next_many(c, r, at_once, NULL)) > 0; at_once = at_once % 7 + 1) {
		assert_true(n <= at_once);
		for (int64_t i = 0; i < n; i++, lsn++)
			if (r[i].lsn != lsn || !record_is(salt, &r[i]))
				return -EILSEQ;
		assert_int_equal(quire_log_cursor_lsn(c), lsn);
	}
	return n < 0 ? n : (int64_t)(lsn - first);
}

int64_t env_read_all(struct env *e, uint64_t salt)
{
	struct quire_log_cursor *c;

	assert_int_equal(quire_log_cursor_open(e->log, QUIRE_LOG_VISIBLE, &c), 0);
	int64_t n = read_forward(c, salt, quire_log_first(e->log));
	int64_t back = n < 0 ? n : read_backward(c, salt);
	if (back >= 0) {
		assert_int_equal(n, back);
		assert_int_equal(read_many(c, salt, quire_log_first(e->log)), n);
	}
	quire_log_cursor_close(c);
	return back;
}
