/* store_env.h - a store on simulated devices, and a loop to use it on; content that tells what it is. */
#ifndef TESTS_STORE_STORE_ENV_H
#define TESTS_STORE_STORE_ENV_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../src/media/sim.h"
#include "../../src/store/format.h"
#include "../../src/store/store.h"
#include "../support/failing_device.h"

#define PAGE FORMAT_UNIT_BYTES

struct env {
	struct quire_loop *loop;
	struct budget budget;
	struct sim *sims[STORE_N_CLASSES];
	struct store *store; /* open, or NULL */
	uint64_t seed;       /* another for each open */
	uint64_t slack_bytes;
	uint32_t segment_bytes; /* 0: the smallest */
	struct quire_cache *cache; /* borrowed, with its budget, in the place of the one here; NULL */
	void *face;             /* borrowed; of the store's config */
	struct failing *failing; /* borrowed: in front of each sim from the next open on; NULL: nothing is */
	struct quire_error err; /* of the last env_open */
};

/* Sims of n_units (0: none of that class). Nothing is formatted. */
void env_init(struct env *e, uint64_t seed, const uint64_t n_units[STORE_N_CLASSES], const struct sim_faults *faults);
void env_fini(struct env *e); /* the store is closed */
bool env_is_cut(const struct env *e); /* one of its devices is */

/* In a coroutine, these: */
int env_format(struct env *e);
int env_open(struct env *e);
int env_open_read_only(struct env *e);
struct device *env_open_device(struct env *e, unsigned class_no); /* of a class that is to be added */
void env_close(struct env *e); /* must succeed */
/* Findings of a check; each is printed if `print`. */
int64_t env_check(struct env *e, bool print);

/* Runs fn in a coroutine until the loop has nothing left to do. */
void env_run(struct env *e, void (*fn)(struct env *e, void *arg), void *arg);

/* Another turn, until cond() says so. */
struct store_config env_config(struct env *e);

/* What objects of the model are begun with, by their class. */
#define ENV_SHIFT(cls) (12 + 2 * (cls))
#define ENV_TAG(cls) (uint8_t)(FORMAT_TAG_VOLUMES - 1 - (cls))

/* Bytes of object id from offset on. */
void env_fill(uint64_t id, uint64_t offset, void *buf, uint64_t len_bytes);
int env_append(struct env *e, uint64_t id, uint64_t offset, uint64_t len_bytes);
/* A whole object of len_bytes, not committed. Its id, or what went wrong. */
int64_t env_write(struct env *e, unsigned cls, uint64_t len_bytes);
/* The same, committed. */
int64_t env_put(struct env *e, unsigned cls, uint64_t len_bytes);
/* 0: it is there, whole, and has its bytes; what the read said; -EILSEQ: other bytes. */
int env_verify(struct env *e, uint64_t id, uint64_t len_bytes);

uint64_t env_random(uint64_t *state);

#endif
