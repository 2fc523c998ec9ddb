/* sim_internal.h - a sim from the inside. For src/media/sim*.c alone. */
#ifndef MEDIA_SIM_INTERNAL_H
#define MEDIA_SIM_INTERNAL_H

#include "sim.h"
#include "pmem_batch.h"
#include "sim_lines.h"
#include "sim_tear.h"

#include <pthread.h>
#include <stddef.h>

#define SIM_RUNNING 1 /* of a result: there is none yet */

struct sim_family {
	pthread_mutex_t lock;
	struct sim_pool pool;
	unsigned n_refs; /* sims and lanes */
};

/* In io->driver. */
struct sim_io {
	struct sim_io *next;
	uint64_t due_turn;
	uint64_t order;     /* among those of one turn */
	uint64_t n_changes; /* a flush: of the medium, when it started */
	uint64_t progress_bytes;
	uint32_t sum;       /* of what is written, as it was submitted */
	int result;         /* decided before it was carried out; or SIM_RUNNING */
};
static_assert(sizeof(struct sim_io) <= sizeof(((struct device_io *)0)->driver), "fits");

struct sim_lane {
	struct loop_task task;
	struct sim_lane *next;
	struct sim_family *family;
	struct sim *sim;         /* NULL: orphaned */
	struct quire_loop *loop; /* borrowed */
	struct sim_io *due, *endless;
	struct sim_io *ended; /* of persistent memory: carried out, not done yet */
	uint64_t turn;
	bool queued;
};

struct sim {
	struct sim_family *family;
	struct sim_medium medium;
	struct pmem_memory memory; /* how a batch reaches it, if it is persistent memory */
	struct sim_faults faults;
	uint64_t random;
	uint64_t n_events, n_damaged, n_written_bytes, history;
	uint64_t plan_event, plan_choice;
	bool planned, cut;
	struct sim_device *device;
	struct sim_lane *lanes; /* owned */
	struct sim_io *now;     /* borrowed: while it is written; NULL */
};

struct sim_device {
	struct device base;
	struct sim *sim; /* borrowed */
};

static inline struct sim_io *sim_io_of(struct device_io *io)
{
	return (struct sim_io *)io->driver;
}

static inline struct device_io *sim_io_outside(struct sim_io *sio)
{
	return (struct device_io *)((char *)sio - offsetof(struct device_io, driver));
}

static inline void sim_lock(const struct sim *s)
{
	pthread_mutex_lock(&s->family->lock);
}

static inline void sim_unlock(const struct sim *s)
{
	pthread_mutex_unlock(&s->family->lock);
}

/* Unlocks, and ends the family with the last of it. */
void sim_family_put_locked(struct sim_family *family);

/* ---- sim_lane.c; all but what the device is asked for under the lock ---- */

/* What the device's submit is. */
void sim_lane_submit(struct device *d, struct quire_loop *loop, struct device_io *io);

/* And its write_now. */
int sim_lane_write_now(struct device *d, uint64_t offset, const void *buf, uint64_t len_bytes);

/* Gives a medium (of s, or a clone's) what may still come of the I/O under way. */
void sim_capture(const struct sim *s, struct sim_medium *m);

void sim_cut_locked(struct sim *s, uint64_t choice);

/* By a chance in 2^32. */
bool sim_happens(struct sim *s, uint32_t rate);

/* The device is closed: what is under way is forgotten. */
void sim_lanes_orphan(struct sim *s);

void sim_lanes_check(const struct sim *s);

/* ---- sim_pmem.c; under the lock ---- */

void sim_pmem_init(struct sim *s);

/* A pointer to what is there, or NULL; damages it first, or refuses, by the rates of reads. */
const void *sim_pmem_borrow(struct sim *s, uint64_t offset, uint64_t len_bytes);

/* A durable write by itself, with its fence. SIM_RUNNING: a cut came. */
int sim_pmem_write_now(struct sim *s, struct device_io *io);

/* Carries out what is due, as one batch: to lane->ended, unless it ends with a cut. */
void sim_pmem_turn(struct sim *s, struct sim_lane *lane);

#endif
