/* sim_medium.h - what a simulated device holds: the medium, what its cache has not put there yet, and
 * what a cut makes of both. For src/media/sim*.c alone. Nothing here fails or locks: see sim.c. */
#ifndef MEDIA_SIM_MEDIUM_H
#define MEDIA_SIM_MEDIUM_H

#include "sim_blocks.h"

enum pend_flags { PEND_DISCARD = 1, PEND_UNDER_WAY = 2, PEND_FORGOTTEN = 4 };

struct sim_pend {
	uint64_t number;
	struct sim_block *data; /* one reference; NULL: zeros */
	uint32_t block;
	uint32_t flags;
};

struct sim_lines;
struct sim_shown;

struct sim_medium {
	struct sim_pool *pool; /* borrowed: of the family */
	struct sim_map base;   /* durable */
	struct sim_map view;   /* what a read finds */
	uint64_t n_blocks;
	uint64_t n_written;    /* blocks of the view that take space */
	uint64_t n_changes;    /* writes and discards so far: each has a number, from 1 */
	struct sim_pend *pends; /* owned; done ones in order, then those under way */
	uint32_t n_pends, pends_capacity;
	struct sim_lines *lines; /* owned; of persistent memory, which has no pends; else NULL: see sim_lines.h */
	struct sim_shown *shown; /* owned; while a device is open; NULL: nobody has asked for a pointer */
	bool tear_4k, ordered;
	uint64_t random;
};

/* The next of a sequence. */
uint64_t sim_random(uint64_t *state);

void medium_init(struct sim_medium *m, struct sim_pool *pool, uint64_t n_blocks, uint64_t seed);
void medium_copy(struct sim_medium *ret, const struct sim_medium *m, uint64_t seed);
void medium_fini(struct sim_medium *m);
void medium_grow(struct sim_medium *m, uint64_t n_blocks);

void medium_read(const struct sim_medium *m, uint64_t offset, void *buf, uint64_t len_bytes); /* bytes */
void medium_write(struct sim_medium *m, uint64_t block, uint64_t n, const void *data, bool durable);
void medium_write_torn(struct sim_medium *m, uint64_t block, uint64_t n, const void *data); /* a write that failed */
void medium_discard(struct sim_medium *m, uint64_t block, uint64_t n);

/* How many of the blocks from there on may be written, if no more than `capacity` take space. */
uint64_t medium_room(const struct sim_medium *m, uint64_t block, uint64_t n, uint64_t capacity);

/* All changes up to that one are durable; or, if it failed, some are, some may be by a later flush, and
 * some by none. */
void medium_flush(struct sim_medium *m, uint64_t upto);
void medium_flush_failed(struct sim_medium *m, uint64_t upto);

/* Beside all I/O; durable. Any bytes. */
void medium_poke(struct sim_medium *m, uint64_t offset, const void *buf, uint64_t len_bytes);
void medium_flip(struct sim_medium *m, uint64_t bit);

/* A change under way as its process, or the power, goes. data NULL: a discard. */
void medium_capture(struct sim_medium *m, uint64_t block, uint64_t n, const void *data);
/* The same of persistent memory, in bytes: the process was about to copy. */
void medium_capture_stores(struct sim_medium *m, uint64_t offset, uint64_t len_bytes, const void *data);

/* The process died, the power did not: what was captured is done now, or never was. */
void medium_settle(struct sim_medium *m);

void medium_cut(struct sim_medium *m, uint64_t choice);

/* Aborts if an invariant does not hold. */
void medium_check(const struct sim_medium *m);

/* ---- for sim_cut.c and sim_tear.c ---- */

const unsigned char *medium_bytes_of(const struct sim_block *block);
struct sim_block *medium_block_of(struct sim_medium *m, const void *data);

/* These two take over the reference. */
void medium_set_view(struct sim_medium *m, uint64_t at, struct sim_block *block, bool written, uint64_t number);
void medium_set_base(struct sim_medium *m, const struct sim_pend *p, struct sim_block *block, uint64_t number);

/* Something newer is durable there. */
bool medium_is_void(const struct sim_medium *m, const struct sim_pend *p);

/* Takes over the reference. */
void medium_push(struct sim_medium *m, uint64_t at, struct sim_block *data, uint64_t number, uint32_t flags);

/* Keeps the entries that keep() wants kept, in order; the rest is let go. */
void medium_sweep(struct sim_medium *m, bool (*keep)(struct sim_medium *, struct sim_pend *, void *), void *arg);
void medium_forget_pends(struct sim_medium *m);

#endif
