/* volume_env.h - a group of volumes in a store on a simulated device. */
#ifndef TESTS_VOLUME_VOLUME_ENV_H
#define TESTS_VOLUME_VOLUME_ENV_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../src/cache/core.h"
#include "../../src/media/sim.h"
#include "../../src/store/format.h"
#include "../../src/store/store.h"
#include "../support/failing_device.h"
#include "../support/random.h"

#include <quire/volume.h>

#define BLOCK QUIRE_VOLUME_BLOCK_BYTES
#define ENV_SEGMENT_BYTES 65536u

struct env {
	struct quire_loop *loop;
	struct quire_cache *cache;
	struct sim *sim;
	struct store *store;           /* open, or NULL */
	struct quire_volumes *volumes; /* open, or NULL */
	uint64_t seed;                 /* another for each open */
	uint64_t checkpoint_bytes;
	uint32_t segment_bytes;        /* 64 KiB; 0: what the library makes of the class */
	struct failing *failing;       /* borrowed: in front of the sim from the next open on; NULL: nothing is */
	struct quire_error err;        /* of the last open */
};

void env_init(struct env *e, uint64_t seed, uint64_t n_units, const struct sim_faults *faults);
void env_fini(struct env *e);

/* Runs fn in a coroutine until the loop has nothing left to do. */
void env_run(struct env *e, void (*fn)(struct env *e, void *arg), void *arg);

/* In a coroutine, these: */
int env_format(struct env *e);
int env_open_store(struct env *e); /* alone */
int env_open(struct env *e); /* store and group; neither, if it fails */
int env_close(struct env *e); /* what close of the group said */
int64_t env_check(struct env *e, bool print);


/* ---- volumes in it ---- */

#define ENV_UNITS 3072u /* 12 MiB */
#define VOLUME_BYTES (UINT64_C(2) << 20)

void begin(struct env *e); /* formats, opens, makes the volume `a` of VOLUME_BYTES */
void reopen(struct env *e);
struct quire_volume *open_volume(struct env *e, const char *name);
/* Bytes that `what` says, which is not 0. */
void fill(uint8_t *buf, size_t len, uint64_t what);
/* Such bytes; 0: zeros. */
int put(struct quire_volume *v, uint64_t offset, size_t len, uint64_t what, unsigned flags);
bool holds(struct quire_volume *v, uint64_t offset, size_t len, uint64_t what);
/* Takes the footers from a medium, as if the process had died before it sealed anything: of how many segments. */
unsigned unseal(struct sim *medium, uint64_t n_units);
uint64_t live_blocks(struct env *e); /* after a checkpoint */

#endif
