/* sim_pmem.c - a simulated device that is persistent memory: how its lanes carry I/O out.
 *
 * What is due in one turn of a lane is one batch, as with the real one (device_pmem.c): each write is copied in its turn, then
 * one fence, and then they are done, one after the other. Each copy and each fence is an event, so a cut may
 * come between them; what follows in the batch then does nothing any more, and nobody is told.
 */
#include "sim_internal.h"
#include "sim_shown.h"

#include "../base/assert.h"
#include "../base/crc32c.h"
#include <errno.h>
#include <string.h>

/* ---- the memory, as pmem_batch.c sees it ---- */

/* False: the power is off. */
static bool event(struct sim *s)
{
	if (s->cut)
		return false;
	if (s->planned && s->n_events >= s->plan_event) {
		sim_cut_locked(s, s->plan_choice);
		return false;
	}
	s->n_events++;
	return true;
}

static struct sim *sim_of(struct pmem_memory *memory)
{
	return (struct sim *)((char *)memory - offsetof(struct sim, memory));
}

static void copy(struct pmem_memory *memory, uint64_t offset, const void *from, uint64_t len_bytes)
{
	struct sim *s = sim_of(memory);

	if (event(s))
		lines_copy(&s->medium, offset, from, len_bytes);
}

static void fence(struct pmem_memory *memory)
{
	struct sim *s = sim_of(memory);

	if (event(s))
		lines_fence(&s->medium);
}

void sim_pmem_init(struct sim *s)
{
	s->memory = (struct pmem_memory){.copy = copy, .fence = fence};
}

/* ---- I/O ---- */

static uint64_t below(struct sim *s, uint64_t n)
{
	return sim_random(&s->random) % n;
}

static int carry_out_read(struct sim *s, struct device_io *io)
{
	if (sim_happens(s, s->faults.eio_read))
		return -EIO;
	if (sim_happens(s, s->faults.bit_rot)) {
		medium_flip(&s->medium, io->offset * 8 + below(s, io->len_bytes * 8));
		s->n_damaged++;
	}
	medium_read(&s->medium, io->offset, io->buf, io->len_bytes);
	return 0;
}

const void *sim_pmem_borrow(struct sim *s, uint64_t offset, uint64_t len_bytes)
{
	if (sim_happens(s, s->faults.eio_read))
		return NULL;
	if (sim_happens(s, s->faults.bit_rot)) {
		medium_flip(&s->medium, offset * 8 + below(s, len_bytes * 8));
		s->n_damaged++;
	}
	return shown_get(&s->medium, offset, len_bytes);
}

static bool has_room(struct sim *s, const struct device_io *io)
{
	uint64_t block = io->offset / SIM_BLOCK_BYTES;
	uint64_t n = (io->offset + io->len_bytes + SIM_BLOCK_BYTES - 1) / SIM_BLOCK_BYTES - block;

	return s->faults.capacity_bytes == 0 ||
	       medium_room(&s->medium, block, n, s->faults.capacity_bytes / SIM_BLOCK_BYTES) == n;
}

/* Where a write lands; elsewhere if it is misdirected. */
static uint64_t landing(struct sim *s, const struct device_io *io)
{
	uint64_t n_places = (s->medium.n_blocks * SIM_BLOCK_BYTES - io->len_bytes) / SIM_WORD_BYTES + 1;

	if (n_places == 1 || !sim_happens(s, s->faults.misdirect))
		return io->offset;
	s->n_damaged++;
	return (io->offset / SIM_WORD_BYTES + 1 + below(s, n_places - 1)) % n_places * SIM_WORD_BYTES;
}

static int carry_out_write(struct sim *s, struct pmem_batch *batch, struct device_io *io)
{
	uint64_t len_bytes = io->len_bytes;
	int rc = 0;

	quire_assert(crc32c(0, io->buf, io->len_bytes) == sim_io_of(io)->sum); /* memory under I/O may not change */
	if (sim_happens(s, s->faults.lose)) {
		s->n_damaged++;
		return 0;
	}
	if (!has_room(s, io))
		return -ENOSPC;
	if (sim_happens(s, s->faults.eio_write))
		rc = -EIO;
	else if (sim_happens(s, s->faults.enospc))
		rc = -ENOSPC;
	if (rc < 0)
		len_bytes = below(s, len_bytes / SIM_WORD_BYTES) * SIM_WORD_BYTES;
	pmem_batch_copy(batch, landing(s, io), io->buf, len_bytes);
	return rc;
}

static void discard(struct sim_medium *m, uint64_t block)
{
	struct sim_block *b = sim_discarded(m, sim_map_get(&m->view, block), &m->random);

	lines_forget(m, block);
	medium_set_view(m, block, sim_block_ref(b), false, ++m->n_changes);
	sim_map_set(&m->base, m->pool, block, b, false, m->n_changes);
}

static int carry_out(struct sim *s, struct pmem_batch *batch, struct device_io *io)
{
	switch (io->verb) {
	case DEVICE_READ:
		return carry_out_read(s, io);
	case DEVICE_WRITE:
	case DEVICE_WRITE_DURABLE:
		return carry_out_write(s, batch, io);
	case DEVICE_FLUSH:
		return sim_happens(s, s->faults.eio_flush) ? -EIO : 0;
	case DEVICE_DISCARD:
		for (uint64_t i = 0; i < io->len_bytes / SIM_BLOCK_BYTES; i++)
			discard(&s->medium, io->offset / SIM_BLOCK_BYTES + i);
		return 0;
	}
	return -EINVAL;
}

/* What is told to be durable, by an I/O that is about to be done. */
static void claim(struct sim *s, const struct device_io *io)
{
	if (io->verb == DEVICE_WRITE_DURABLE)
		lines_claim(&s->medium, io->offset, io->len_bytes);
	else if (io->verb == DEVICE_FLUSH)
		lines_claim_all(&s->medium);
}

int sim_pmem_write_now(struct sim *s, struct device_io *io)
{
	struct pmem_batch batch = {.memory = &s->memory};
	int rc = carry_out_write(s, &batch, io);

	if (!s->cut)
		pmem_batch_end(&batch);
	if (s->cut)
		return SIM_RUNNING;
	if (rc == 0)
		claim(s, io);
	return rc;
}

void sim_pmem_turn(struct sim *s, struct sim_lane *lane)
{
	struct pmem_batch batch = {.memory = &s->memory};
	struct sim_io **end = &lane->ended;

	while (lane->due != NULL && lane->due->due_turn <= lane->turn) {
		struct sim_io *sio = lane->due;
		lane->due = sio->next;
		sio->next = NULL;
		*end = sio;
		end = &sio->next;
		if (sio->result != SIM_RUNNING)
			continue;
		int result = carry_out(s, &batch, sim_io_outside(sio));
		if (s->cut)
			return; /* and it is in no list of this lane, or in another */
		sio->result = result;
	}
	pmem_batch_end(&batch);
	for (struct sim_io *sio = lane->ended; sio != NULL && !s->cut; sio = sio->next)
		if (sio->result == 0)
			claim(s, sim_io_outside(sio));
}
