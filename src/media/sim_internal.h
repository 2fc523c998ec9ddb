/* sim_internal.h - a sim from the inside. For src/media/sim*.c alone. */
#ifndef MEDIA_SIM_INTERNAL_H
#define MEDIA_SIM_INTERNAL_H

#include "sim.h"
#include "sim_medium.h"

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
	uint64_t turn;
	bool queued;
};

struct sim {
	struct sim_family *family;
	struct sim_medium medium;
	struct sim_faults faults;
	uint64_t random;
	uint64_t n_events, n_damaged, history;
	uint64_t plan_event, plan_choice;
	bool planned, cut;
	struct sim_device *device;
	struct sim_lane *lanes; /* owned */
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

/* ---- sim_lane.c; all but sim_lane_submit under the lock ---- */

/* What the device's submit is. */
void sim_lane_submit(struct device *d, struct quire_loop *loop, struct device_io *io);

/* Gives a medium (of s, or a clone's) what may still come of the I/O under way. */
void sim_capture(const struct sim *s, struct sim_medium *m);

void sim_cut_locked(struct sim *s, uint64_t choice);

/* The device is closed: what is under way is forgotten. */
void sim_lanes_orphan(struct sim *s);

void sim_lanes_check(const struct sim *s);

#endif
