/* log_env.h - a log in a store on a simulated device, with a cache; records that tell what they are. */
#ifndef TESTS_LOG_LOG_ENV_H
#define TESTS_LOG_LOG_ENV_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../src/cache/core.h"
#include "../../src/media/sim.h"
#include "../../src/store/format.h"
#include "../../src/store/store.h"
#include "../support/random.h"

#include <quire/log.h>

#define SEGMENT 65536u
#define NAME "events"

struct env {
	struct quire_loop *loop;
	struct quire_cache *cache;
	struct sim *sim;
	struct sim *pmem;        /* the medium of the class pmem, and the log's then; NULL: there is none */
	struct sim *other;       /* the class staging; NULL: there is none */
	const struct quire_log_options *options; /* of the log that format makes; NULL: only segments of that size */
	struct store *store;     /* open, or NULL */
	struct quire_log *log;   /* open, or NULL */
	uint64_t seed;           /* another for each open */
	uint64_t slack_bytes;    /* of the catalogue; 0: as it comes */
	struct quire_error err;  /* of the last open */
	int (*open_device)(struct env *e, struct device **ret); /* NULL: the sim */
	const struct quire_log_open_options *opts;              /* for env_open */
};

void env_init(struct env *e, uint64_t seed, uint64_t n_units, const struct sim_faults *faults);
void env_fini(struct env *e); /* store and log are closed */
bool env_is_cut(const struct env *e); /* one of its devices is */

/* Runs fn in a coroutine until the loop has nothing left to do. */
void env_run(struct env *e, void (*fn)(struct env *e, void *arg), void *arg);

/* In a coroutine, these: */
int env_format(struct env *e); /* and makes the log */
int env_open_store(struct env *e, bool read_only);
int env_open_log(struct env *e, bool read_only); /* both; neither, if it fails */
int env_open(struct env *e);
int env_close_log(struct env *e);
int64_t env_destage(struct env *e, uint64_t lsn, enum quire_class cls);
int env_close(struct env *e);  /* what close of the log said */
int64_t env_check(struct env *e, bool print);

/* The record that has number lsn: its length and bytes follow from salt and lsn. */
uint32_t record_len(uint64_t salt, uint64_t lsn);
void record_fill(uint64_t salt, uint64_t lsn, void *buf);
bool record_is(uint64_t salt, const struct quire_log_record *r);
extern uint32_t record_max_len; /* lengths are below it; as tests set it */

int env_append(struct env *e, uint64_t salt, uint64_t lsn, bool durable); /* must get that number */
/* Reads all records forward, then backward: from first to visible, each what it should be. How many, or what went wrong. */
int64_t env_read_all(struct env *e, uint64_t salt);

double seconds_now(void);

#endif
