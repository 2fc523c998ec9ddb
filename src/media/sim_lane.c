/* sim_lane.c - I/O under way at a simulated device: delays, order, faults.
 *
 * Purpose: to be the worst device that a store may be given, the same way each time.
 *
 * An I/O under way is in the lane of its loop, sorted by the turn in which it is due, or among those
 * that never end. A lane's task runs once a turn while something is due, and carries out what is:
 * at that moment, in one go, the medium changes or the buffer is filled (sim_medium.c). With `shorten`
 * a part is carried out, and the rest is due again. So the order is: submit → due → carried out →
 * done().
 *
 * Numbers. The seed gives delays, order and faults at submission and when carried out. All draws come
 * from one sequence, so what a history does depends on all before it, on one thread repeatably.
 *
 * Life. A sim outlives its device. close, and cut, take from the lanes what is under way, and the medium
 * keeps what may still come of it. A lane's task may be queued in its loop then: such a lane is
 * orphaned, and freed by its task.
 *
 * Invariants:
 *   1. Lanes that are not orphaned exist only while a device is open; an I/O under way is in one lane.
 *   2. A lane whose queue is not empty has its task queued, unless the task runs.
 *   3. After a cut, until the next open, nothing reaches the medium.
 *
 * Threads: one lock for the family of a sim and its clones, which share blocks. A leaf.
 */
#include "sim_internal.h"

#include "../base/assert.h"
#include "../base/crc32c.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool sim_happens(struct sim *s, uint32_t rate)
{
	return rate != 0 && (uint32_t)(sim_random(&s->random) >> 32) < rate;
}

static void note(struct sim *s, uint64_t word)
{
	for (unsigned i = 0; i < 64; i += 8)
		s->history = (s->history ^ (word >> i & 0xff)) * 0x100000001b3u;
}

/* ---- lanes ---- */

static void lane_run(struct loop_task *task);

static struct sim_lane *lane_of(struct sim *s, struct quire_loop *loop)
{
	for (struct sim_lane *lane = s->lanes; lane != NULL; lane = lane->next) {
		if (lane->loop == loop)
			return lane;
	}
	struct sim_lane *lane = calloc(1, sizeof(*lane));
	quire_assert(lane != NULL);
	lane->family = s->family;
	s->family->n_refs++;
	lane->sim = s;
	lane->loop = loop;
	lane->next = s->lanes;
	s->lanes = lane;
	return lane;
}

static void lane_queue(struct sim_lane *lane)
{
	if (lane->queued || lane->due == NULL)
		return;
	lane->queued = true;
	loop_task_init(&lane->task, lane_run);
	if (loop_is_mine(lane->loop))
		loop_defer(lane->loop, &lane->task);
	else
		loop_post(lane->loop, &lane->task);
}

static void lane_insert(struct sim_lane *lane, struct sim_io *sio)
{
	struct sim_io **place = &lane->due;
	while (*place != NULL && ((*place)->due_turn < sio->due_turn ||
	                          ((*place)->due_turn == sio->due_turn && (*place)->order <= sio->order)))
		place = &(*place)->next;
	sio->next = *place;
	*place = sio;
}

static void lane_schedule(struct sim *s, struct sim_lane *lane, struct sim_io *sio)
{
	uint64_t r = sim_random(&s->random);
	sio->order = r >> 32;
	sio->due_turn = lane->turn + 1 + (uint32_t)r % (s->faults.max_delay_turns + 1u);
	lane_insert(lane, sio);
}

/* ---- carried out: SIM_RUNNING if a part is left, else the result ---- */

static bool is_write(const struct device_io *io)
{
	return io->verb == DEVICE_WRITE || io->verb == DEVICE_WRITE_DURABLE;
}

static uint64_t part_bytes(struct sim *s, struct device_io *io)
{
	uint64_t left = io->len_bytes - sim_io_of(io)->progress_bytes;
	if (left > SIM_BLOCK_BYTES && sim_happens(s, s->faults.shorten))
		left = SIM_BLOCK_BYTES * (1 + sim_random(&s->random) % (left / SIM_BLOCK_BYTES - 1));
	return left;
}

static int carry_out_read(struct sim *s, struct device_io *io)
{
	struct sim_io *sio = sim_io_of(io);
	if (sim_happens(s, s->faults.eio_read))
		return -EIO;
	if (sim_happens(s, s->faults.bit_rot)) {
		medium_flip(&s->medium, io->offset * 8 + sim_random(&s->random) % (io->len_bytes * 8));
		s->n_damaged++;
	}
	uint64_t n = part_bytes(s, io);
	medium_read(&s->medium, io->offset + sio->progress_bytes, (char *)io->buf + sio->progress_bytes, n);
	sio->progress_bytes += n;
	return sio->progress_bytes < io->len_bytes ? SIM_RUNNING : 0;
}

/* Where a write lands; elsewhere if it is misdirected. */
static uint64_t landing(struct sim *s, uint64_t block, uint64_t n)
{
	uint64_t n_places = s->medium.n_blocks - n + 1;
	if (n_places == 1 || !sim_happens(s, s->faults.misdirect))
		return block;
	s->n_damaged++;
	return (block + 1 + sim_random(&s->random) % (n_places - 1)) % n_places;
}

static int carry_out_write(struct sim *s, struct device_io *io)
{
	struct sim_io *sio = sim_io_of(io);
	struct sim_medium *m = &s->medium;
	uint64_t n = part_bytes(s, io) / SIM_BLOCK_BYTES;
	uint64_t block = (io->offset + sio->progress_bytes) / SIM_BLOCK_BYTES;
	const char *data = (const char *)io->buf + sio->progress_bytes;

	quire_assert(crc32c(0, io->buf, io->len_bytes) == sio->sum); /* memory under I/O may not change */
	if (sim_happens(s, s->faults.eio_write)) {
		medium_write_torn(m, block, n, data);
		return -EIO;
	}
	if (sim_happens(s, s->faults.lose)) {
		s->n_damaged++;
		return 0;
	}
	block = landing(s, block, n);
	uint64_t room = n;
	if (sim_happens(s, s->faults.enospc))
		room = sim_random(&s->random) % n;
	else if (s->faults.capacity_bytes != 0)
		room = medium_room(m, block, n, s->faults.capacity_bytes / SIM_BLOCK_BYTES);
	if (room != 0)
		medium_write(m, block, room, data, io->verb == DEVICE_WRITE_DURABLE);
	s->n_written_bytes += room * SIM_BLOCK_BYTES;
	if (room < n)
		return -ENOSPC;
	sio->progress_bytes += n * SIM_BLOCK_BYTES;
	return sio->progress_bytes < io->len_bytes ? SIM_RUNNING : 0;
}

static int carry_out_flush(struct sim *s, struct device_io *io)
{
	if (sim_happens(s, s->faults.eio_flush)) {
		medium_flush_failed(&s->medium, sim_io_of(io)->n_changes);
		return -EIO;
	}
	medium_flush(&s->medium, sim_io_of(io)->n_changes);
	return 0;
}

static int carry_out(struct sim *s, struct device_io *io)
{
	switch (io->verb) {
	case DEVICE_READ:
		return carry_out_read(s, io);
	case DEVICE_WRITE:
	case DEVICE_WRITE_DURABLE:
		return carry_out_write(s, io);
	case DEVICE_FLUSH:
		return carry_out_flush(s, io);
	case DEVICE_DISCARD:
		medium_discard(&s->medium, io->offset / SIM_BLOCK_BYTES, io->len_bytes / SIM_BLOCK_BYTES);
		return 0;
	}
	return -EINVAL;
}

static void note_done(struct sim *s, struct device_io *io, int result)
{
	note(s, (uint64_t)io->verb << 32 | (uint32_t)result);
	note(s, io->offset);
	note(s, io->len_bytes);
	if (io->verb == DEVICE_READ && result == 0)
		note(s, crc32c(0, io->buf, io->len_bytes));
	else if (is_write(io))
		note(s, sim_io_of(io)->sum);
}

/* ---- cut, and closed ---- */

/* Gives the medium what may still come of it. */
static void capture(struct sim_medium *m, struct sim_io *list)
{
	for (; list != NULL; list = list->next) {
		struct device_io *io = sim_io_outside(list);
		uint64_t at = io->offset + list->progress_bytes, n = io->len_bytes - list->progress_bytes;
		if (list->result != SIM_RUNNING || (!is_write(io) && io->verb != DEVICE_DISCARD))
			continue;
		if (m->lines != NULL) {
			medium_capture_stores(m, at, is_write(io) ? n : 0, io->buf);
			continue;
		}
		medium_capture(m, at / SIM_BLOCK_BYTES, n / SIM_BLOCK_BYTES,
		               is_write(io) ? (const char *)io->buf + list->progress_bytes : NULL);
	}
}

void sim_capture(const struct sim *s, struct sim_medium *m)
{
	capture(m, s->now);
	for (struct sim_lane *lane = s->lanes; lane != NULL; lane = lane->next) {
		capture(m, lane->due);
		capture(m, lane->endless);
	}
}

/* One list behind the other, whatever is due when. */
static struct sim_io *take_all(struct sim_lane *lane)
{
	struct sim_io *list = lane->ended, **end = &list;
	while (*end != NULL)
		end = &(*end)->next;
	*end = lane->due;
	while (*end != NULL)
		end = &(*end)->next;
	*end = lane->endless;
	lane->due = lane->endless = lane->ended = NULL;
	return list;
}

static void fail_all(struct sim_lane *lane)
{
	struct sim_io *next;
	for (struct sim_io *sio = take_all(lane); sio != NULL; sio = next) {
		next = sio->next;
		sio->result = -EIO;
		sio->due_turn = lane->turn + 1;
		lane_insert(lane, sio);
	}
	lane_queue(lane);
}

void sim_cut_locked(struct sim *s, uint64_t choice)
{
	note(s, choice);
	s->cut = true;
	s->planned = false;
	sim_capture(s, &s->medium);
	medium_cut(&s->medium, choice);
	for (struct sim_lane *lane = s->lanes; lane != NULL; lane = lane->next) {
		if (s->faults.cut_ends_io)
			fail_all(lane);
		else
			(void)take_all(lane);
	}
}

/* ---- a turn of a lane ---- */

/* True if the cut that was planned is due: before this one. */
static bool cut_if_planned(struct sim *s, const struct device_io *io)
{
	if (!s->planned || io->verb == DEVICE_READ || io->verb == DEVICE_DISCARD || s->n_events < s->plan_event)
		return false;
	sim_cut_locked(s, s->plan_choice);
	return true;
}

/* The same of persistent memory, where all of this turn were carried out together. */
static struct device_io *lane_next_ended(struct sim *s, struct sim_lane *lane, int *ret_result)
{
	if (lane->ended == NULL)
		sim_pmem_turn(s, lane);
	struct sim_io *sio = lane->ended;
	if (sio == NULL)
		return NULL;
	lane->ended = sio->next;
	*ret_result = sio->result;
	note_done(s, sim_io_outside(sio), sio->result);
	return sim_io_outside(sio);
}

/* The next I/O of this turn that is done, with its result; NULL: none. */
static struct device_io *lane_next_done(struct sim *s, struct sim_lane *lane, int *ret_result)
{
	if (s->medium.lines != NULL)
		return lane_next_ended(s, lane, ret_result);
	while (lane->due != NULL && lane->due->due_turn <= lane->turn) {
		struct sim_io *sio = lane->due;
		struct device_io *io = sim_io_outside(sio);
		if (sio->result == SIM_RUNNING && cut_if_planned(s, io))
			continue;
		lane->due = sio->next;
		*ret_result = sio->result == SIM_RUNNING ? carry_out(s, io) : sio->result;
		if (*ret_result == SIM_RUNNING) {
			lane_schedule(s, lane, sio);
			continue;
		}
		if (sio->result == SIM_RUNNING && io->verb != DEVICE_READ && io->verb != DEVICE_DISCARD)
			s->n_events++;
		note_done(s, io, *ret_result);
		return io;
	}
	return NULL;
}

/* While done() runs, and once it has woken another thread, the sim may be closed, and gone: what is
 * left then is the lane, this task's own, and the family. */
static void lane_run(struct loop_task *task)
{
	struct sim_lane *lane = (struct sim_lane *)task;
	struct sim_family *family = lane->family;

	pthread_mutex_lock(&family->lock);
	lane->turn++;
	while (lane->sim != NULL) {
		int result = 0;
		struct device_io *io = lane_next_done(lane->sim, lane, &result);
		if (io == NULL) {
			lane->queued = false;
			lane_queue(lane);
			pthread_mutex_unlock(&family->lock);
			return;
		}
		pthread_mutex_unlock(&family->lock);
		io->done(io, result);
		pthread_mutex_lock(&family->lock);
	}
	free(lane);
	sim_family_put_locked(family);
}

void sim_lane_submit(struct device *d, struct quire_loop *loop, struct device_io *io)
{
	struct sim *s = ((struct sim_device *)d)->sim;
	struct sim_io *sio = sim_io_of(io);

	memset(sio, 0, sizeof(*sio));
	sim_lock(s);
	struct sim_lane *lane = lane_of(s, loop);
	sio->result = s->cut ? -EIO : SIM_RUNNING;
	sio->n_changes = s->medium.n_changes;
	if (is_write(io))
		sio->sum = crc32c(0, io->buf, io->len_bytes);
	if (!s->cut && sim_happens(s, s->faults.never)) {
		sio->next = lane->endless;
		lane->endless = sio;
	} else {
		lane_schedule(s, lane, sio);
	}
	lane_queue(lane);
	sim_unlock(s);
}

/* Half of those that might be late are to be submitted, so that callers go both ways. */
int sim_lane_write_now(struct device *d, uint64_t offset, const void *buf, uint64_t len_bytes)
{
	struct sim *s = ((struct sim_device *)d)->sim;
	struct device_io io = {.verb = DEVICE_WRITE_DURABLE, .offset = offset, .len_bytes = len_bytes,
	                       .buf = (void *)(uintptr_t)buf};
	int rc = -EIO;

	sim_io_of(&io)->sum = crc32c(0, buf, len_bytes);
	sim_io_of(&io)->result = SIM_RUNNING;
	sim_lock(s);
	s->now = sim_io_of(&io);
	if (!s->cut && (s->faults.never != 0 || (s->faults.max_delay_turns != 0 && sim_random(&s->random) % 2 == 0)))
		rc = -EAGAIN;
	else if (!s->cut && s->medium.lines != NULL)
		rc = sim_pmem_write_now(s, &io);
	else if (!s->cut && !cut_if_planned(s, &io)) {
		do
			rc = carry_out_write(s, &io);
		while (rc == SIM_RUNNING);
		s->n_events++;
	}
	if (rc == SIM_RUNNING)
		rc = -EIO;
	else if (rc != -EAGAIN && !s->cut)
		note_done(s, &io, rc);
	s->now = NULL;
	sim_unlock(s);
	return rc;
}

void sim_lanes_orphan(struct sim *s)
{
	while (s->lanes != NULL) {
		struct sim_lane *lane = s->lanes;
		s->lanes = lane->next;
		lane->sim = NULL;
		if (lane->queued)
			continue;
		free(lane);
		s->family->n_refs--;
	}
}

void sim_lanes_check(const struct sim *s)
{
	quire_assert(s->device != NULL || s->lanes == NULL);
	for (const struct sim_lane *lane = s->lanes; lane != NULL; lane = lane->next) {
		quire_assert(lane->sim == s && (lane->due == NULL || lane->queued));
		for (const struct sim_io *sio = lane->due; sio != NULL; sio = sio->next) {
			quire_assert(!s->cut || sio->result != SIM_RUNNING); /* 3 */
			quire_assert(sio->next == NULL || sio->due_turn <= sio->next->due_turn);
		}
	}
}
