/* sim.c - the simulated device as a device, and a sim's own life; sim_lane.c tells how its I/O goes. */
#include "sim_internal.h"
#include "sim_shown.h"

#include "../base/assert.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the device ---- */

static int sim_grow(struct device *d, uint64_t size_bytes)
{
	struct sim *s = ((struct sim_device *)d)->sim;
	sim_lock(s);
	int rc = s->cut ? -EIO : 0;
	if (rc == 0) {
		medium_grow(&s->medium, size_bytes / SIM_BLOCK_BYTES);
		__atomic_store_n(&d->size_bytes, size_bytes, __ATOMIC_RELEASE);
	}
	sim_unlock(s);
	return rc;
}

static int sim_read_now(struct device *d, uint64_t offset, void *buf, uint64_t len_bytes)
{
	struct sim *s = ((struct sim_device *)d)->sim;
	sim_lock(s);
	int rc = s->cut ? -EIO : 0;
	if (rc == 0)
		medium_read(&s->medium, offset, buf, len_bytes);
	sim_unlock(s);
	return rc;
}

static const void *sim_borrow(struct device *d, uint64_t offset, uint64_t len_bytes)
{
	struct sim *s = ((struct sim_device *)d)->sim;
	sim_lock(s);
	const void *at = s->cut || s->medium.lines == NULL ? NULL : sim_pmem_borrow(s, offset, len_bytes);
	sim_unlock(s);
	return at;
}

static void sim_close(struct device *d)
{
	struct sim *s = ((struct sim_device *)d)->sim;
	sim_lock(s);
	sim_capture(s, &s->medium);
	sim_lanes_orphan(s);
	shown_end(&s->medium);
	s->device = NULL;
	sim_unlock(s);
	free(d->name);
	free(d);
}

static const struct device_ops sim_device_ops = {.submit = sim_lane_submit, .read_now = sim_read_now,
                                                 .write_now = sim_lane_write_now, .grow = sim_grow, .borrow = sim_borrow, .close = sim_close};

int sim_open(struct sim *s, struct quire_loop *service, struct device **ret_device)
{
	struct sim_device *d = calloc(1, sizeof(*d));
	char *name = strdup("sim");
	sim_lock(s);
	int rc = s->device != NULL ? -EBUSY : d == NULL || name == NULL ? -ENOMEM : 0;
	if (rc == 0) {
		medium_settle(&s->medium);
		s->cut = false;
		s->device = d;
		d->sim = s;
		d->base.ops = &sim_device_ops;
		d->base.name = name;
		d->base.size_bytes = s->medium.n_blocks * SIM_BLOCK_BYTES;
		d->base.discards = true;
		d->base.service = service;
		d->base.medium = s->medium.lines != NULL ? DEVICE_MEDIUM_PMEM : DEVICE_MEDIUM_DIRECT;
		d->base.durable = DEVICE_DURABLE_POWER;
		d->base.now = s->medium.lines != NULL ? DEVICE_NOW_COPIES : DEVICE_NOW_BLOCKS;
		d->base.align_bytes = s->medium.lines != NULL ? DEVICE_STORE_BYTES : DEVICE_BLOCK_BYTES;
		d->base.granularity_bytes = s->medium.lines != NULL ? DEVICE_LINE_BYTES : DEVICE_BLOCK_BYTES;
		*ret_device = &d->base;
	}
	sim_unlock(s);
	if (rc < 0) {
		free(name);
		free(d);
	}
	return rc;
}

/* ---- the sim ---- */

static void set_faults(struct sim *s, const struct sim_faults *faults)
{
	static const struct sim_faults none;
	s->faults = faults != NULL ? *faults : none;
	s->medium.tear_4k = s->faults.tear_4k;
	s->medium.ordered = s->faults.ordered;
}

int sim_create(uint64_t size_bytes, uint64_t seed, const struct sim_faults *faults, struct sim **ret_sim)
{
	if (size_bytes == 0 || size_bytes % SIM_BLOCK_BYTES != 0 || size_bytes / SIM_BLOCK_BYTES > UINT32_MAX)
		return -EINVAL;
	struct sim *s = calloc(1, sizeof(*s));
	struct sim_family *family = calloc(1, sizeof(*family));
	if (s == NULL || family == NULL) {
		free(s);
		free(family);
		return -ENOMEM;
	}
	pthread_mutex_init(&family->lock, NULL);
	family->n_refs = 1;
	s->family = family;
	s->random = seed;
	s->history = 0xcbf29ce484222325u;
	medium_init(&s->medium, &family->pool, size_bytes / SIM_BLOCK_BYTES, sim_random(&s->random));
	set_faults(s, faults);
	*ret_sim = s;
	return 0;
}

int sim_create_pmem(uint64_t size_bytes, uint64_t seed, const struct sim_faults *faults, struct sim **ret_sim)
{
	int rc = sim_create(size_bytes, seed, faults, ret_sim);
	if (rc < 0)
		return rc;
	lines_init(&(*ret_sim)->medium);
	sim_pmem_init(*ret_sim);
	return 0;
}

int sim_clone(const struct sim *s, uint64_t seed, struct sim **ret_sim)
{
	struct sim *clone = calloc(1, sizeof(*clone));
	if (clone == NULL)
		return -ENOMEM;
	sim_lock(s);
	s->family->n_refs++;
	clone->family = s->family;
	clone->faults = s->faults;
	clone->random = seed;
	clone->history = s->history;
	medium_copy(&clone->medium, &s->medium, sim_random(&clone->random));
	if (clone->medium.lines != NULL)
		sim_pmem_init(clone);
	sim_capture(s, &clone->medium);
	sim_unlock(s);
	*ret_sim = clone;
	return 0;
}

void sim_family_put_locked(struct sim_family *family)
{
	bool last = --family->n_refs == 0;
	pthread_mutex_unlock(&family->lock);
	if (!last)
		return;
	sim_pool_fini(&family->pool);
	pthread_mutex_destroy(&family->lock);
	free(family);
}

void sim_destroy(struct sim *s)
{
	if (s == NULL)
		return;
	quire_assert(s->device == NULL);
	struct sim_family *family = s->family;
	pthread_mutex_lock(&family->lock);
	medium_fini(&s->medium);
	free(s);
	sim_family_put_locked(family);
}

void sim_cut(struct sim *s, uint64_t choice)
{
	sim_lock(s);
	sim_cut_locked(s, choice);
	sim_unlock(s);
}

uint64_t sim_n_events(const struct sim *s)
{
	sim_lock(s);
	uint64_t n = s->n_events;
	sim_unlock(s);
	return n;
}

void sim_cut_at(struct sim *s, uint64_t event, uint64_t choice)
{
	sim_lock(s);
	s->planned = true;
	s->plan_event = event;
	s->plan_choice = choice;
	sim_unlock(s);
}

bool sim_is_cut(const struct sim *s)
{
	sim_lock(s);
	bool cut = s->cut;
	sim_unlock(s);
	return cut;
}

void sim_set_faults(struct sim *s, const struct sim_faults *faults)
{
	sim_lock(s);
	set_faults(s, faults);
	sim_unlock(s);
}

void sim_peek(const struct sim *s, uint64_t offset, void *buf, uint64_t len_bytes)
{
	sim_lock(s);
	medium_read(&s->medium, offset, buf, len_bytes);
	sim_unlock(s);
}

void sim_poke(struct sim *s, uint64_t offset, const void *buf, uint64_t len_bytes)
{
	sim_lock(s);
	medium_poke(&s->medium, offset, buf, len_bytes);
	sim_unlock(s);
}

uint64_t sim_n_damaged(const struct sim *s)
{
	sim_lock(s);
	uint64_t n = s->n_damaged;
	sim_unlock(s);
	return n;
}

uint64_t sim_n_written_bytes(const struct sim *s)
{
	sim_lock(s);
	uint64_t n = s->n_written_bytes;
	sim_unlock(s);
	return n;
}

void sim_shadow_get(const struct sim *s, struct sim_shadow *ret)
{
	quire_assert(s->medium.lines != NULL);
	sim_lock(s);
	*ret = s->medium.lines->shadow;
	sim_unlock(s);
}

void sim_check(const struct sim *s)
{
	sim_lock(s);
	medium_check(&s->medium);
	sim_lanes_check(s);
	sim_unlock(s);
}

uint64_t sim_history_hash(const struct sim *s)
{
	sim_lock(s);
	uint64_t hash = s->history;
	sim_unlock(s);
	return hash;
}
