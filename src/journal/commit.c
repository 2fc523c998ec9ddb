/* commit.c - group commit: who submits the open group, when, and what follows.
 *
 * Purpose: whoever waits together shares one durable write, whatever loops and threads they are of; one
 * write is under way at a time, so that a group's start is all that recovery needs to know.
 *
 * States of the pair of groups: one is open and takes records; the other is free, or `writing`.
 *   open, somebody waits → scheduled (a loop was chosen) → taken: it is written, the other is open → free
 *
 * The loop. When a group is wanted and nothing is being written, a loop is chosen: that of all who
 * wait, if it is one, else the service loop. The group is taken at the end of that loop's turn, so all that the
 * turn's coroutines append goes with it. What is appended during the write goes with the next, which
 * is scheduled when the write is done.
 *
 * Invariants:
 *   1. A taken group's memory does not change until its write is done. The block that the next group
 *      shares with it is copied, and only ever rewritten with the same bytes before the new ones.
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

#include <errno.h>
#include <string.h>

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
		return !j->writing && !j->scheduled;
	}
	*ret_result = ready ? 0 : atomic_load_explicit(&j->error, memory_order_relaxed);
	return ready || (*ret_result < 0 && w->kind != WAIT_TURN);
}

void journal_stop(struct journal *j, int error)
{
	int none = 0;

	atomic_compare_exchange_strong(&j->error, &none, error);
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
	g->base = with_header ? 0 : tail & ~(FRAME_BLOCK_BYTES - 1);
	g->start = with_header ? 0 : tail;
	g->end = tail;
	g->group_start = j->partial != 0 ? j->partial : g->start;
	g->n_filling = 0;
	if (with_header)
		frame_segment_encode(&j->o, &j->segment, (struct frame_segment_le *)g->memory);
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
	journal_group_begin(j, g, FRAME_BLOCK_BYTES, true);
}

/* Invariants 1, 2 and 4. Returns the group that was open. */
static struct group *take(struct journal *j)
{
	struct group *full = journal_open_group(j), *fresh = &j->groups[!j->open];
	uint32_t end = full->end;

	full->end_no = j->next_no;
	j->open = !j->open;
	j->n_taken++;
	j->writing = true;
	if (j->ending) {
		begin_next_segment(j, fresh);
	} else {
		journal_group_begin(j, fresh, end, false);
		memcpy(fresh->memory, full->memory + (fresh->base - full->base), end - fresh->base);
	}
	uint32_t padded_end = (end + FRAME_BLOCK_BYTES - 1) & ~(FRAME_BLOCK_BYTES - 1);
	memset(full->memory + (end - full->base), 0, padded_end - end);
	return full;
}

/* ---- writing ---- */

static void commit_done(struct device_io *io, int result)
{
	struct journal *j = container_of_journal(io, io);
	struct group *g = &j->groups[!j->open];

	pthread_mutex_lock(&j->waits.lock);
	j->writing = false;
	if (result < 0) {
		journal_stop(j, result);
	} else {
		atomic_store_explicit(&j->n_durable, g->end_no, memory_order_release);
		if (g->segment_no == j->segment.no)
			j->settled = g->end;
	}
	struct wait *swept = wait_sweep(&j->waits);
	journal_kick(&j->waits);
	pthread_mutex_unlock(&j->waits.lock);
	wait_finish(swept);
}

/* On the chosen loop, at the end of a turn of it. */
static void commit(struct journal *j)
{
	struct group *g = NULL;

	pthread_mutex_lock(&j->waits.lock);
	j->scheduled = false;
	if (atomic_load(&j->error) == 0 && journal_open_group(j)->n_filling == 0)
		g = take(j);
	if (g != NULL)
		j->io = (struct device_io){
			.verb = DEVICE_WRITE_DURABLE,
			.offset = g->segment + g->base,
			.len_bytes = (g->end - g->base + FRAME_BLOCK_BYTES - 1) & ~(FRAME_BLOCK_BYTES - 1),
			.buf = g->memory,
			.buffer_slot = -1,
			.done = commit_done,
		};
	struct quire_loop *loop = j->loop;
	struct wait *swept = wait_sweep(&j->waits);
	pthread_mutex_unlock(&j->waits.lock);
	if (g != NULL)
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
		if (loop != NULL && wait_home(w) != loop)
			return j->waits.service != NULL ? j->waits.service : loop;
		loop = wait_home(w);
	}
	return loop;
}

void journal_kick(struct wait_queue *q)
{
	struct journal *j = container_of_journal(q, waits);
	struct group *g = journal_open_group(j);

	if (j->writing || j->scheduled || g->n_filling != 0 || g->end == g->start || atomic_load(&j->error) != 0)
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
}

/* ---- waiting for it ---- */

int journal_sync(struct journal *j, uint64_t record_no, struct quire_op *op)
{
	pthread_mutex_lock(&j->waits.lock);
	bool known = record_no < j->next_no;
	pthread_mutex_unlock(&j->waits.lock);
	return known ? wait_for(&j->waits, WAIT_DURABLE, record_no, op) : -EINVAL;
}
