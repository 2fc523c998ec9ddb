/* sim_env.h - a simulated device and a loop to use it on; content that tells where it belongs. */
#ifndef TESTS_MEDIA_SIM_ENV_H
#define TESTS_MEDIA_SIM_ENV_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../src/media/sim.h"

#define BLOCK DEVICE_BLOCK_BYTES
#define SECTOR 512u

struct env {
	struct quire_loop *loop;
	struct sim *sim;
	struct device *device; /* open */
};

struct env env_make(uint64_t n_blocks, uint64_t seed, const struct sim_faults *faults);
void env_end(struct env *e);

/* Closes the device and opens it again. */
void env_reopen(struct env *e);

/* Runs fn in a coroutine, until the loop has nothing left to do. */
void env_run(struct env *e, void (*fn)(struct env *e));

/* Fills n blocks: each sector says what it is (tag) and which of how many. */
void env_fill(void *buf, unsigned n_blocks, unsigned tag);

/* The tag of the sector, -1 if it is nothing that env_fill made, 0 if it is zeros. */
int env_tag(const void *buf, unsigned sector);

/* In a coroutine: these must succeed. */
void env_write(struct env *e, uint64_t block, unsigned n_blocks, unsigned tag, bool durable);
void env_flush(struct env *e);

/* Tags of the medium's sectors, one each. */
void env_tags(const struct env *e, uint64_t block, unsigned n_blocks, int *ret_tags);

/* The same tag all over; -2 if they are not the same. */
int env_one_tag(const struct env *e, uint64_t block, unsigned n_blocks);

/* Aligned memory of a test, one for each slot (of 8), 256 KiB. */
void *env_memory(unsigned slot);

/* An I/O started by hand. */
struct env_io {
	struct device_io io;
	int result;
	unsigned n_done;
};
void env_submit(struct env *e, struct env_io *io, enum device_verb verb, uint64_t block, unsigned n_blocks, void *buf);

#endif
