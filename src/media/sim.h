/* sim.h - a simulated device: deterministic from a seed, with a written fault model.
 *
 * Content lives in memory (sparse). I/O completes in later turns of the loop, in an order and after
 * delays (in turns) that the seed decides, so I/Os that are under way together may complete, and
 * reach the medium, in any order.
 *
 * device_write_now is done at once, or, where I/O may be late, by the seed to be submitted. One that a cut falls into is -EIO.
 *
 * What a cut leaves, block by block of each write that was not durable when it came:
 *   - a write that was done, but neither durable nor followed by a flush that is done: each
 *     sector (512 B) has the old or the new content, by the seed; in `ordered` mode, a prefix
 *     of such writes in the order of completion, the last of it torn;
 *   - a write under way: the same, or nothing;
 *   - what was durable: as written. Always.
 * A discarded range that was not written again reads as zeros, old content or noise, by the seed.
 *
 * A sim may be persistent memory (sim_create_pmem): I/O of any multiples of 8 bytes, which becomes stores, flushes and
 * fences of lines of 64 bytes, a fence a turn of a loop. A cut then leaves each line that was stored and not
 * flushed and fenced old, new, or torn at 8 bytes, in any combination; an account is kept of both what
 * was missing and what was for nothing (sim_shadow). `shorten`, `tear_4k` and `ordered` mean nothing there; a discard is durable when done.
 *
 * What else: memory that changes between the start and the end of its write ends the process. A write that
 * fails leaves each sector old or new. After a flush that failed, some of what it covered is durable,
 * some will be by the next, some is found by reads and made durable by none. Without memory the
 * process ends: this is a double for tests.
 *
 * A sim and its clones may be used by any threads (one lock, never held across done()); histories
 * repeat only where one thread does everything. They hold one lot of memory: clone, don't copy.
 */
#ifndef MEDIA_SIM_H
#define MEDIA_SIM_H

#include "device.h"

struct sim;

/* Rates are chances in 2^32 for each I/O. */
struct sim_faults {
	uint32_t eio_read, eio_write, eio_flush, enospc;
	uint32_t lose;      /* a write that says done, and is not; counted as damage, not as a cut */
	uint32_t misdirect; /* a write that lands on another block */
	uint32_t bit_rot;   /* a read that finds one bit flipped, for good */
	uint32_t never;     /* an I/O that never completes */
	uint32_t shorten;   /* the medium does part of it: the device continues, as real ones must */
	unsigned max_delay_turns;
	bool tear_4k;       /* tears at 4 KiB, not at 512 B */
	bool ordered;
	uint64_t capacity_bytes; /* full beyond this many blocks written: -ENOSPC; 0: never */
	bool cut_ends_io; /* what a cut finds under way ends with -EIO in a later turn, so that whoever waits
	                   * for it can be torn down; otherwise it never ends. What the medium holds is the same */
};

int sim_create(uint64_t size_bytes, uint64_t seed, const struct sim_faults *faults, struct sim **ret_sim);
int sim_create_pmem(uint64_t size_bytes, uint64_t seed, const struct sim_faults *faults, struct sim **ret_sim);
void sim_destroy(struct sim *s); /* its device is closed; NULL allowed */

/* Opens the device that the medium is now; one at a time. Closing it forgets what is under way
 * as a process's death does: done writes stay in the device's cache. */
int sim_open(struct sim *s, struct quire_loop *service, struct device **ret_device);

/* Power: all I/O under way vanishes (done() never runs), the medium is left as the model says, the open
 * device gives -EIO from then on. choice selects among the outcomes; 0: nothing that was not durable
 * is there, 1: all of it is, whole, and all that was under way too; else by chance. */
void sim_cut(struct sim *s, uint64_t choice);

/* Every write, durable write and flush that was done, with whatever result, is an event; a cut may be
 * planned: `event` of them are done, the next vanishes (then sim_is_cut, until the next sim_open). Of persistent memory
 * each copy and each fence is one.
 * Counting starts at sim_create, and at sim_clone. */
uint64_t sim_n_events(const struct sim *s);
void sim_cut_at(struct sim *s, uint64_t event, uint64_t choice);
bool sim_is_cut(const struct sim *s);

void sim_set_faults(struct sim *s, const struct sim_faults *faults);

/* A copy of the medium as it is now; for trying many cuts from one state. I/O under way is copied as far
 * as a cut or a death of the process may leave something of it: sim_cut of the clone, or sim_open. */
int sim_clone(const struct sim *s, uint64_t seed, struct sim **ret_sim);

/* Direct looks at the medium, beside all I/O: for damage in tests. Any bytes. peek sees what a read would;
 * blocks that are poked are durable. */
void sim_peek(const struct sim *s, uint64_t offset, void *buf, uint64_t len_bytes);
void sim_poke(struct sim *s, uint64_t offset, const void *buf, uint64_t len_bytes);

/* Of persistent memory: what its cache-line shadow has counted since the sim was created, or cloned. */
struct sim_shadow {
	uint64_t n_stored_bytes, n_flushed_lines, n_fences;
	uint64_t n_missing_bytes;  /* told to be durable (a durable write, or a flush, was done), and not flushed or not fenced */
	uint64_t missing_at;       /* the first of these on the medium; UINT64_MAX: none */
	uint64_t n_wasted_flushes; /* of lines of which nothing was dirty */
	uint64_t wasted_at;        /* the first of these in time; UINT64_MAX: none */
	uint64_t n_wasted_fences;  /* with nothing to wait for */
};
void sim_shadow_get(const struct sim *s, struct sim_shadow *ret);

/* Writes that were lost or misdirected, reads that found a bit flipped. */
uint64_t sim_n_damaged(const struct sim *s);

/* Bytes that writes have brought to the medium; not of persistent memory. */
uint64_t sim_n_written_bytes(const struct sim *s);

/* Aborts if an invariant of the sim does not hold. Slow: looks at each block. */
void sim_check(const struct sim *s);

/* FNV of everything that happened: equal seeds, equal histories. */
uint64_t sim_history_hash(const struct sim *s);

#endif
