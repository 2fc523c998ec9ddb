/* commit.c - group commit: who submits the open group, when, and what follows.
 *
 * Purpose: whoever waits together shares one durable write, whatever loops and threads they are of; one
 * write is under way at a time, so that a group's start is all that recovery needs to know.
 *
 * States of the pair of groups: one is open and takes records; the other is free, or `writing`.
 *   open, somebody waits → scheduled (a loop was chosen) → taken: it is written, the other is open → free
 *   open, who would wait can write → taken → free
 *   open, and full, or long → taken → free
 *
 * Who waits writes, if nothing is being written, and his thread may be held up so long: a plain thread by any device, everybody,
 * and who passes an op, by one that only copies (persistent memory). It costs no change of threads, which takes as long as the write. On such
 * a device he writes, a few times at most, for those also who came to wait meanwhile, and a plain thread that finds
 * another one writing looks again for a moment before it sleeps.
 *
 * Otherwise a loop does. When a group is wanted and nothing is being written, a loop is chosen: that of all who
 * wait, if it is one, else the service loop. The group is taken at the end of that loop's turn, so all that the
 * turn's coroutines append goes with it. What is appended during the write goes with the next, which
 * is scheduled when the write is done.
 *
 * A group without room for a record is taken by who appends it, and handed to a loop: he goes on with the other one, and
 * waits only if that is being written. A group of whole blocks that lies in the segment's memory takes no memory of its own, so it may be
 * longer than a buffer, which a disk writes much faster. It is taken before it is full, as soon as it has a part of that and nothing is being
 * written: so while the device is slow groups become long, and else nothing waits.
 *
 * Invariants:
 *   1. A taken group's bytes do not change until its write is done. The block that the next group
 *      shares with it is copied, and only ever rewritten with the same bytes before the new ones. Where
 *      a device takes what a record's length is a multiple of (persistent memory; any, if records are whole blocks), nothing is shared: a
 *      group is written exactly as long as it is; and if the owner keeps the segment in memory, straight from there.
 *   2. A group is taken only if nothing is being written: all before its start is durable then.
 *   3. A group is taken only when nobody copies into it (n_filling is 0); the last to end kicks.
 *   4. A group's records are of one segment. The one with the LINK is a segment's last; the next
 *      begins with the next segment's header.
 *   5. After an error nothing is taken any more.
 *
 * Threads: the lock is held for a moment, never over I/O nor while a caller's memory is read.
 * Failure: the first error of a write is kept; everybody who waits gets it, or will.
 */
#include "journal_internal.h"

#include "../base/assert.h"
#include "../base/canary.h"
#include "../base/spin.h"

#include <errno.h>
#include <string.h>

#define ROUNDS_FOR_OTHERS 4u /* of who writes himself */
#define MAX_TRIES 8u         /* to write himself, before a thread sleeps */
#define PAUSES 64u           /* between two of them */

/* ---- what is waited for ---- */

bool journal_ready(struct wait_queue *q, const struct wait *w, int *ret_result)
{
	struct journal *j = container_of_journal(q, waits);
	bool ready = false;

	switch ((enum journal_wait)w->kind) {
	case WAIT_DURABLE:
		ready = w->target < atomic_load_explicit(&j->n_durable, memory_order_relaxed);
		break;
	case WAIT_TURN:
		/* Also after an error: whoever has it gives it back, so everybody gets out. */
		ready = !j->turn;
		if (ready)
			j->turn = true;
		break;
	case WAIT_TAKEN:
		ready = j->n_taken > w->target;
		break;
	case WAIT_SETTLED:
		ready = j->settled >= w->target;
		break;
	case WAIT_IDLE:
		*ret_result = 0;
		return !j->writing && !j->scheduled && !j->telling;
	}
	*ret_result = ready ? 0 : atomic_load_explicit(&j->error, memory_order_relaxed);
	return ready || (*ret_result < 0 && w->kind != WAIT_TURN);
}

/* If it has not stopped yet. Lock held. */
static void journal_stop(struct journal *j, int error)
{
	int none = 0;

	atomic_compare_exchange_strong(&j->error, &none, error);
}

/* One fence for both marks: an owner who notes that somebody waits for a mark, and looks at the mark then, either sees it here
 * or is seen by `moved`. */
void journal_moved(struct journal *j)
{
	if (j->o.ops->moved == NULL)
		return;
	atomic_thread_fence(memory_order_seq_cst);
	j->o.ops->moved(j->o.owner);
}

void journal_begin_memory(struct journal *j, const void *header)
{
	j->memory = j->o.ops->segment_memory != NULL ? j->o.ops->segment_memory(j->o.owner, j->segment.offset) : NULL;
	if (j->memory != NULL && header != NULL)
		memcpy(j->memory, header, FRAME_BLOCK_BYTES);
}

void journal_unlock(struct journal *j)
{
	struct wait *swept = wait_sweep(&j->waits);

	pthread_mutex_unlock(&j->waits.lock);
	wait_finish(swept);
}

/* ---- groups ---- */

void journal_group_begin(struct journal *j, struct group *g, uint32_t tail, bool with_header)
{
	g->segment = j->segment.offset;
	g->segment_no = j->segment.no;
	g->base = with_header ? 0 : tail & ~(j->align - 1);
	g->start = with_header ? 0 : tail;
	g->end = tail;
	g->bytes = journal_in_place(j) ? j->memory + g->base : g->memory;
	g->capacity = journal_has_long_groups(j) ? j->long_bytes : j->buffer_bytes;
	g->group_start = j->partial != 0 ? j->partial : g->start;
	g->n_filling = 0;
	if (with_header)
		frame_segment_encode(&j->o, &j->segment, (struct frame_segment_le *)g->bytes);
}

static void begin_next_segment(struct journal *j, struct group *g)
{
	quire_assert(j->next_known && j->partial == 0);
	segment_list_add(&j->segments, j->next.offset); /* room was made when it was got */
	j->segment = j->next;
	j->segment.first_record_no = j->next_no;
	j->segment.session = j->session;
	j->next_known = j->next_failed = j->ending = false;
	j->settled = 0;
	journal_begin_memory(j, NULL);
	journal_group_begin(j, g, FRAME_BLOCK_BYTES, true);
	if (j->memory != NULL && !journal_in_place(j))
		memcpy(j->memory, g->bytes, FRAME_BLOCK_BYTES);
}

/* Is there something to be taken, and may it be? Invariants 2, 3 and 5. */
static bool may_take(struct journal *j)
{
	const struct group *g = journal_open_group(j);

	return !j->writing && g->n_filling == 0 && g->end != g->start && atomic_load(&j->error) == 0;
}

/* Invariants 1 and 4. What was open is what j->io is to write. */
static void take(struct journal *j)
{
	struct group *full = journal_open_group(j), *fresh = &j->groups[!j->open];
	uint32_t end = full->end;

	full->end_no = j->next_no;
	j->last.offset = 0;
	j->open = !j->open;
	j->n_taken++;
	j->writing = true;
	if (j->ending) {
		begin_next_segment(j, fresh);
	} else {
		journal_group_begin(j, fresh, end, false);
		memcpy(fresh->bytes, full->bytes + (fresh->base - full->base), end - fresh->base);
	}
	uint32_t padded_end = (end + j->align - 1) & ~(j->align - 1);
	memset(full->bytes + (end - full->base), 0, padded_end - end);
	j->io.offset = full->segment + full->base;
	j->io.len_bytes = padded_end - full->base;
	j->io.buf = full->bytes;
	if (CANARY(group_loses_last_block) && j->io.len_bytes > FRAME_BLOCK_BYTES)
		j->io.len_bytes -= FRAME_BLOCK_BYTES;
	if (CANARY(group_acked_when_taken))
		atomic_store(&j->n_durable, full->end_no);
}

/* ---- writing ---- */

static void note_written(struct journal *j, int result)
{
	struct group *g = &j->groups[!j->open];

	j->writing = false;
	if (result < 0) {
		journal_stop(j, result);
		return;
	}
	atomic_store_explicit(&j->n_durable, g->end_no, memory_order_release);
	atomic_store_explicit(&j->segment_durable, g->segment_no, memory_order_release);
	if (g->segment_no == j->segment.no)
		j->settled = g->end;
}

static void commit_done(struct device_io *io, int result)
{
	struct journal *j = container_of_journal(io, io);

	pthread_mutex_lock(&j->waits.lock);
	note_written(j, result);
	j->telling = true;
	pthread_mutex_unlock(&j->waits.lock);
	journal_moved(j);
	pthread_mutex_lock(&j->waits.lock);
	j->telling = false;
	struct wait *swept = wait_sweep(&j->waits);
	journal_kick(&j->waits);
	pthread_mutex_unlock(&j->waits.lock);
	wait_finish(swept);
}

/* On the chosen loop, at the end of a turn of it. */
static void commit(struct journal *j)
{
	pthread_mutex_lock(&j->waits.lock);
	j->scheduled = false;
	bool taken = may_take(j); /* or it was taken meanwhile */
	if (taken)
		take(j);
	struct quire_loop *loop = j->loop;
	struct wait *swept = wait_sweep(&j->waits);
	pthread_mutex_unlock(&j->waits.lock);
	if (taken)
		device_submit(j->o.device, loop, &j->io);
	wait_finish(swept);
}

static void commit_hook(struct loop_turn_hook *hook)
{
	commit(container_of_journal(hook, hook));
}

static void commit_posted(struct loop_task *task)
{
	struct journal *j = container_of_journal(task, task);

	loop_turn_hook_arm(j->loop, &j->hook);
}

/* The loop of all who want the open group written: theirs if it is one, else the service. NULL:
 * nobody does. */
static struct quire_loop *choose_loop(const struct journal *j)
{
	struct quire_loop *loop = NULL;

	for (struct wait *w = j->waits.first; w != NULL; w = w->next) {
		if (w->kind == WAIT_TURN || w->kind == WAIT_IDLE)
			continue;
		struct quire_loop *home = wait_home(w) != NULL ? wait_home(w) : j->waits.service;
		if (loop != NULL && home != loop)
			return j->waits.service != NULL ? j->waits.service : loop;
		loop = home;
	}
	return loop;
}

void journal_kick(struct wait_queue *q)
{
	struct journal *j = container_of_journal(q, waits);

	if (q->first == NULL || j->scheduled || !may_take(j))
		return;
	struct quire_loop *loop = choose_loop(j);
	if (loop == NULL)
		return;
	j->scheduled = true;
	j->loop = loop;
	if (loop_is_mine(loop)) {
		loop_turn_hook_arm(loop, &j->hook);
	} else {
		loop_task_init(&j->task, commit_posted);
		loop_post(loop, &j->task);
	}
}

void journal_commit_init(struct journal *j)
{
	j->hook.run = commit_hook;
	j->hook.armed = false;
	j->io.verb = CANARY(group_not_durable) ? DEVICE_WRITE : DEVICE_WRITE_DURABLE;
	j->io.buffer_slot = -1;
	j->io.done = commit_done;
}

static void submit_taken(struct loop_task *task)
{
	struct journal *j = container_of_journal(task, submit_task);

	device_submit(j->o.device, quire_loop_self(), &j->io);
}

/* A loop writes what was taken: that of this thread, or the service. */
static void submit_later(struct journal *j)
{
	struct quire_loop *mine = quire_loop_self();

	loop_task_init(&j->submit_task, submit_taken);
	if (mine != NULL)
		loop_defer(mine, &j->submit_task);
	else
		loop_post(j->waits.service, &j->submit_task);
}

bool journal_push(struct journal *j)
{
	if (!may_take(j))
		return false;
	take(j);
	submit_later(j);
	return true;
}

/* ---- writing on the thread that waits ---- */

/* waits: the thread itself, and no op. */
static bool may_write_here(const struct journal *j, bool waits)
{
	return j->o.device->now == DEVICE_NOW_COPIES || (waits && quire_loop_self() == NULL);
}

/* What may be taken is, and written here; and so is what those who wait have appended meanwhile. Lock held; not when it
 * returns. */
static void commit_here(struct journal *j)
{
	unsigned n_left = ROUNDS_FOR_OTHERS;
	bool again = j->o.device->now == DEVICE_NOW_COPIES;

	while (may_take(j)) {
		take(j);
		struct wait *swept = wait_sweep(&j->waits);
		pthread_mutex_unlock(&j->waits.lock);
		wait_finish(swept);
		int rc = device_write_now(j->o.device, j->io.offset, j->io.buf, j->io.len_bytes);
		pthread_mutex_lock(&j->waits.lock);
		if (rc == -EAGAIN) {
			submit_later(j);
			pthread_mutex_unlock(&j->waits.lock);
			return;
		}
		note_written(j, rc);
		swept = wait_sweep(&j->waits);
		again = again && n_left-- > 0 && may_take(j) && choose_loop(j) != NULL;
		if (!again)
			journal_kick(&j->waits);
		pthread_mutex_unlock(&j->waits.lock);
		wait_finish(swept);
		journal_moved(j);
		if (!again)
			return;
		pthread_mutex_lock(&j->waits.lock);
	}
	pthread_mutex_unlock(&j->waits.lock);
}

bool journal_commit_copying(struct journal *j)
{
	if (j->o.device->now != DEVICE_NOW_COPIES || !may_take(j))
		return false;
	commit_here(j);
	return true;
}

static bool is_durable(struct journal *j, uint64_t record_no)
{
	return record_no < atomic_load_explicit(&j->n_durable, memory_order_acquire);
}

/* 1: it is durable; 0: it is to be waited for. */
static int sync_here(struct journal *j, uint64_t record_no, bool waits)
{
	/* Who else copies is done sooner than a thread sleeps. */
	bool tries = waits && j->o.device->now == DEVICE_NOW_COPIES && quire_loop_self() == NULL;
	unsigned n_tries = tries ? MAX_TRIES : 1;

	while (!is_durable(j, record_no)) {
		pthread_mutex_lock(&j->waits.lock);
		bool known = record_no < j->next_no;
		bool here = known && may_take(j) && may_write_here(j, waits);
		if (here)
			commit_here(j);
		else
			pthread_mutex_unlock(&j->waits.lock);
		if (!known)
			return -EINVAL;
		if (here || --n_tries == 0 || journal_error(j) < 0)
			return is_durable(j, record_no);
		for (unsigned i = 0; i < PAUSES && !is_durable(j, record_no); i++)
			spin_relax();
	}
	return 1;
}

/* ---- waiting for it ---- */

int journal_sync(struct journal *j, uint64_t record_no, struct quire_op *op)
{
	if (op != NULL && !op_is_idle(op))
		return -EBUSY;
	int rc = sync_here(j, record_no, op == NULL);
	if (rc == 0)
		return wait_for(&j->waits, WAIT_DURABLE, record_no, op);
	if (rc < 0)
		return rc;
	if (op != NULL)
		op_complete_now(op, 0);
	return 0;
}
