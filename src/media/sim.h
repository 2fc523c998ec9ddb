/* sim.h - a simulated device: deterministic from a seed, with a written fault model.
 *
 * Content lives in memory (sparse). I/O completes in later turns of the loop, in an order and after
 * delays (in turns) that the seed decides, so I/Os that are under way together may complete, and
 * reach the medium, in any order.
 *
 * What a cut leaves, block by block of each write that was not durable when it came:
 *   - a write that was done, but neither durable nor followed by a flush that is done: each
 *     sector (512 B) has the old or the new content, by the seed; in `ordered` mode, a prefix
 *     of such writes in the order of completion, the last of it torn;
 *   - a write under way: the same, or nothing;
 *   - what was durable: as written. Always.
 * A discarded range that was not written again reads as zeros, old content or noise, by the seed.
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
void sim_destroy(struct sim *s); /* its device is closed; NULL allowed */

/* Opens the device that the medium is now; one at a time. Closing it forgets what is under way
 * as a process's death does: done writes stay in the device's cache. */
int sim_open(struct sim *s, struct quire_loop *service, struct device **ret_device);

/* Power: all I/O under way vanishes (done() never runs), the medium is left as the model says, the open
 * device gives -EIO from then on. choice selects among the outcomes; 0: nothing that was not durable
 * is there, 1: all of it is, whole, and all that was under way too; else by chance. */
void sim_cut(struct sim *s, uint64_t choice);

/* Every write, durable write and flush that was done, with whatever result, is an event; a cut may be
 * planned: `event` of them are done, the next vanishes (then sim_is_cut, until the next sim_open).
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

/* Writes that were lost or misdirected, reads that found a bit flipped. */
uint64_t sim_n_damaged(const struct sim *s);

/* Aborts if an invariant of the sim does not hold. Slow: looks at each block. */
void sim_check(const struct sim *s);

/* FNV of everything that happened: equal seeds, equal histories. */
uint64_t sim_history_hash(const struct sim *s);

#endif
