/* journal_env.c - see journal_env.h. */
#include "journal_env.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- numbers ---- */

static uint64_t mix(uint64_t z)
{
	return random_next(&z);
}

uint64_t env_random(struct env *e)
{
	return mix(e->random++);
}

uint64_t env_below(struct env *e, uint64_t n)
{
	return env_random(e) % n;
}

uint64_t env_count(uint64_t quick, uint64_t slow)
{
	return random_count(getenv("QUIRE_SANITIZED") != NULL ? (quick + 2) / 3 : quick, slow);
}

double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- segments ---- */

void env_forget(struct env *e)
{
	memset(e->taken, 0, sizeof(e->taken));
}

void env_take(void *env, uint64_t offset)
{
	struct env *e = env;

	assert_true(offset % SEGMENT == 0 && offset / SEGMENT < e->n_extents);
	e->taken[offset / SEGMENT] = true;
}

uint64_t env_extent(struct env *e)
{
	for (unsigned i = 0; i < e->n_extents; i++) {
		unsigned at = (e->next_extent + i) % e->n_extents;
		if (e->taken[at])
			continue;
		e->taken[at] = true;
		e->next_extent = at + 1;
		return (uint64_t)at * SEGMENT;
	}
	return UINT64_MAX;
}

static int segment_get(void *owner, uint64_t *ret_offset)
{
	struct env *e = owner;
	uint64_t offset = env_extent(e);

	if (offset == UINT64_MAX)
		return -ENOSPC;
	e->n_gets++;
	*ret_offset = offset;
	return 0;
}

static void segment_put(void *owner, uint64_t offset)
{
	struct env *e = owner;

	assert_true(offset % SEGMENT == 0 && offset / SEGMENT < e->n_extents && e->taken[offset / SEGMENT]);
	e->taken[offset / SEGMENT] = false;
	e->n_puts++;
}

static const struct journal_ops segment_ops = {.segment_get = segment_get, .segment_put = segment_put};

struct journal_options env_options(struct env *e)
{
	struct journal_options o = e->o;

	o.salt_seed = env_random(e) | 1;
	return o;
}

/* ---- life ---- */

void env_open_device(struct env *e)
{
	assert_int_equal(sim_open(e->sim, NULL, &e->device), 0);
	e->o.device = e->device;
}

void env_close_device(struct env *e)
{
	device_close(e->device);
	e->device = NULL;
}

void env_make(struct env *e, unsigned n_extents, uint64_t seed, const struct sim_faults *faults)
{
	struct quire_loop_options opts = {.size = sizeof(opts), .engine = QUIRE_ENGINE_THREADS, .n_threads = 1};
	struct quire_loop *loop = e->loop;

	assert_true(n_extents <= MAX_SEGMENTS);
	*e = (struct env){.loop = loop, .random = seed, .n_extents = n_extents};
	if (loop == NULL)
		assert_int_equal(quire_loop_create(&opts, &e->loop, NULL), 0);
	assert_int_equal(ENV_SIM_CREATE((uint64_t)n_extents * SEGMENT, seed, faults, &e->sim), 0);
	e->o = (struct journal_options){.ops = &segment_ops, .owner = e, .identity = "the test's log", .log_no = 3,
	                                .segment_bytes = SEGMENT};
	env_open_device(e);
}

/* However it ended, nobody was told that something is durable which was neither flushed nor fenced, and no line
 * was flushed for nothing. */
static void check_shadow(struct env *e)
{
	struct sim_shadow shadow;

	if (!ENV_IS_PMEM)
		return;
	sim_shadow_get(e->sim, &shadow);
	assert_int_equal(shadow.n_missing_bytes, 0);
	assert_int_equal(shadow.n_wasted_flushes, 0);
	assert_int_equal(shadow.n_wasted_fences, 0);
}

void env_end(struct env *e)
{
	check_shadow(e);
	device_close(e->device);
	sim_destroy(e->sim);
	assert_int_equal(quire_loop_run(e->loop), 0);
	e->sim = NULL;
	e->device = NULL;
}

struct running {
	void (*fn)(void *arg);
	void *arg;
};

void env_run(struct env *e, void (*fn)(void *arg), void *arg)
{
	assert_int_equal(quire_co_spawn(e->loop, fn, arg), 0);
	assert_int_equal(quire_loop_run(e->loop), 0);
}

/* ---- records ---- */

static enum record_sizes sizes_now = SIZES_MIXED;

void record_sizes(enum record_sizes sizes)
{
	sizes_now = sizes;
}

void record_sizes_draw(struct env *e)
{
	static const enum record_sizes draws[] = {SIZES_LARGE, SIZES_MIXED, SIZES_MIXED, SIZES_EQUAL, SIZES_EQUAL,
	                                          SIZES_SMALL, SIZES_SMALL, SIZES_SMALL};

	sizes_now = draws[env_below(e, 8)];
}

uint32_t record_len(uint32_t id)
{
	if (sizes_now == SIZES_EQUAL)
		return 480;

	uint64_t r = mix(id * 2654435761u + 17);
	uint32_t class = (uint32_t)(r % 64);
	uint64_t draw = r >> 8;

	if (class < 4)
		return (uint32_t)(draw % 10);
	if (sizes_now == SIZES_SMALL || class < 48)
		return (uint32_t)(draw % 300);
	if (class < 60 && sizes_now != SIZES_LARGE)
		return (uint32_t)(draw % 5000);
	return class == 63 ? MAX_LEN - (uint32_t)(draw % 9) : (uint32_t)(draw % (MAX_LEN / 2));
}

void record_fill(uint32_t id, void *buf)
{
	uint32_t len = record_len(id);
	uint8_t *p = buf;
	uint64_t word = id % 7 == 0 ? 0 : mix(id) | 1;

	for (uint32_t i = 0; i < len; i += 8) {
		uint64_t here = word * (i + 1);
		memcpy(p + i, &here, len - i < 8 ? len - i : 8);
	}
}

bool record_matches(uint32_t id, const void *payload, uint32_t len_bytes)
{
	static uint8_t want[SEGMENT];

	if (len_bytes != record_len(id))
		return false;
	record_fill(id, want);
	return memcmp(want, payload, len_bytes) == 0;
}

/* In three parts, one of them empty. */
static unsigned parts_of(uint32_t id, uint8_t *buf, struct iovec parts[3])
{
	uint32_t len = record_len(id), cut = len / 3;

	record_fill(id, buf);
	parts[0] = (struct iovec){.iov_base = buf, .iov_len = cut};
	parts[1] = (struct iovec){.iov_base = NULL, .iov_len = 0};
	parts[2] = (struct iovec){.iov_base = buf + cut, .iov_len = len - cut};
	return 3;
}

int record_append(struct journal *j, uint32_t id, uint64_t *ret_no)
{
	uint8_t *buf = malloc(SEGMENT);
	struct iovec parts[3];
	unsigned n = parts_of(id, buf, parts);
	int rc = journal_append(j, (uint16_t)(JOURNAL_FIRST_TYPE + id), parts, n, ret_no);

	free(buf);
	return rc;
}

int record_append_container(struct container *c, uint32_t id, uint64_t *ret_no)
{
	uint8_t *buf = malloc(SEGMENT);
	struct iovec parts[3];
	unsigned n = parts_of(id, buf, parts);
	int rc = container_append(c, (uint16_t)(JOURNAL_FIRST_TYPE + id), parts, n, ret_no);

	free(buf);
	return rc;
}

/* ---- what was read ---- */

void seen_init(struct seen *s)
{
	*s = (struct seen){.ids = malloc(MAX_IDS * sizeof(*s->ids)), .places = malloc(MAX_IDS * sizeof(*s->places))};
	assert_non_null(s->ids);
	assert_non_null(s->places);
}

void seen_fini(struct seen *s)
{
	free(s->ids);
	free(s->places);
}

int seen_add(void *seen, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes)
{
	struct seen *s = seen;
	uint32_t id = record_id(type);

	assert_true(type >= JOURNAL_FIRST_TYPE && s->n < MAX_IDS);
	if (s->n == 0)
		s->first_no = at->record_no;
	s->ids[s->n] = id;
	s->places[s->n++] = *at;
	s->n_wrong += !record_matches(id, payload, len_bytes);
	return 0;
}
