/* journal_env.h - a journal on a simulated device, an owner of segments, and records that tell what they are.
 *
 * The device is a disk, or persistent memory.
 *
 * A record's type says which of the test's records it is (its id); length and content follow from the id, so
 * what comes back can be judged without keeping what went in. */
#ifndef TESTS_JOURNAL_ENV_H
#define TESTS_JOURNAL_ENV_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../src/journal/container.h"
#include "../../src/journal/frame.h"
#include "../../src/media/sim.h"
#include "../support/random.h"

/* Each test is built twice, for a disk and for persistent memory (TEST_PMEM). */
#ifdef TEST_PMEM
#define ENV_IS_PMEM true
#define ENV_WRITE_EVENTS 2u /* a copy and a fence */
#define ENV_SIM_CREATE sim_create_pmem
#else
#define ENV_IS_PMEM false
#define ENV_WRITE_EVENTS 1u
#define ENV_SIM_CREATE sim_create
#endif

#define SEGMENT (64u << 10)
#define MAX_SEGMENTS 64u

struct env {
	struct quire_loop *loop;
	struct sim *sim;
	struct device *device;       /* open, or NULL */
	uint64_t random;
	unsigned n_extents;
	bool taken[MAX_SEGMENTS];
	unsigned next_extent;        /* where segment_get looks first */
	struct journal_options o;
	unsigned n_gets, n_puts;
};

void env_make(struct env *e, unsigned n_extents, uint64_t seed, const struct sim_faults *faults);
void env_end(struct env *e);
void env_close_device(struct env *e);
void env_open_device(struct env *e);

/* fn(arg) in a coroutine, until the loop has nothing left to do. */
void env_run(struct env *e, void (*fn)(void *arg), void *arg);

uint64_t env_random(struct env *e);
uint64_t env_below(struct env *e, uint64_t n);
struct journal_options env_options(struct env *e); /* with a salt of its own */

/* Only these extents are taken. */
void env_forget(struct env *e);
void env_take(void *env, uint64_t offset); /* for journal_segments */
uint64_t env_extent(struct env *e);        /* takes a free one; -1: none */

/* ---- records ---- */

#define MAX_IDS 60000u
#define MAX_LEN (SEGMENT - DEVICE_BLOCK_BYTES - 56 - 32 - 32)

/* Bytes of the id's record: they follow from the id. */
uint32_t record_len(uint32_t id);
void record_fill(uint32_t id, void *buf);
bool record_matches(uint32_t id, const void *payload, uint32_t len_bytes);
int record_append(struct journal *j, uint32_t id, uint64_t *ret_no);
int record_append_container(struct container *c, uint32_t id, uint64_t *ret_no);
static inline uint32_t record_id(uint16_t type)
{
	return type - JOURNAL_FIRST_TYPE;
}

/* Length classes: of small ones, of all, of the largest; all the same, so that what an earlier session left may
 * stand exactly where the next record is looked for. */
enum record_sizes { SIZES_SMALL, SIZES_MIXED, SIZES_LARGE, SIZES_EQUAL };
void record_sizes_draw(struct env *e);
void record_sizes(enum record_sizes sizes);

/* ---- what was read ---- */

struct seen {
	uint32_t *ids; /* by position */
	struct journal_place *places;
	uint64_t n;
	uint64_t n_wrong;  /* content that is not the id's */
	uint64_t first_no;
};
int seen_add(void *seen, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes);
void seen_init(struct seen *s);
void seen_fini(struct seen *s);

uint64_t env_count(uint64_t quick, uint64_t slow); /* as random_count(); a third of the quick ones under a sanitizer */
double seconds_now(void);

#endif
