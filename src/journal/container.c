/* container.c - the two-log container: see container.h for what it promises.
 *
 * What is on the medium. A log is
 *   gone        no valid header at its first segment: erased, or never begun
 *   incomplete  valid header, without an END of its START's generation
 *   complete    START says born complete, or END is there
 *
 * What is done, in order, each step durable before the next:
 *   create  erase log 1; begin log 0; START (generation 1, complete)
 *   cstart  begin the other log; START (generation + 1); what the old log has taken in
 *   cend    END in the other log; erase the old log's header; give its segments back
 *   abort   erase the other log's header; give its segments back
 *
 * Invariants:
 *   1. At every moment a complete log is on the medium. It has the highest generation of the complete ones.
 *   2. A log whose header is there and which is complete misses nothing that was promised: cend returns
 *      only when the old log is erased, so while the old one is there nothing was promised
 *      by the new one alone. That is why, of two logs, one may be damaged: the other, if complete, is right.
 *      And why a lone log that is incomplete is refused: the active one's header is damaged.
 *   3. Segments of an old log are given back only after its header is gone: whoever reads beside the
 *      writer and still finds the header at the end has read no segment that had become another's.
 *   4. Numbers that append returns grow, also across logs: each log has a base. Those below n_settled are durable.
 *
 * Recovery (container_open.c) picks the complete log of the highest generation, and, if it may write, erases the other's header
 * before it returns (invariant 2 again); also one that seems to be erased, since that may be only in a cache.
 *
 * Threads: any number at once may append, sync and read; one may compact. The lock is held for a moment. A log is
 * given back when nobody is inside; its memory stays until the next compaction has ended, since an op
 * that is just completing may still be asked to cancel.
 *
 * Failure: when a durable write fails, END may be there or not; so nothing is appended to either log any more. What
 * fails without having been written (no space, a live set that is too large) can be followed by an abort.
 */
#include "container_internal.h"

#include "../base/assert.h"
#include "../base/canary.h"
#include "../base/fail.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum container_wait { WAIT_LEFT /* target: index of the log in which nobody is */ };

/* ---- the journals' owner ---- */

static int log_segment_get(void *owner, uint64_t *ret_offset)
{
	struct container_log *log = owner;
	const struct container_options *o = &log->container->o;

	if (o->capacity_bytes != 0 && journal_bytes(log->journal) + o->journal.segment_bytes > o->capacity_bytes)
		return -EFBIG;
	return o->journal.ops->segment_get(o->journal.owner, ret_offset);
}

static void log_segment_put(void *owner, uint64_t offset)
{
	struct container_log *log = owner;
	const struct container_options *o = &log->container->o;

	if (offset != log->first_segment)
		o->journal.ops->segment_put(o->journal.owner, offset);
}

static const struct journal_ops log_ops = {.segment_get = log_segment_get, .segment_put = log_segment_put};

struct journal_options container_log_options(struct container *c, unsigned index)
{
	struct journal_options o = c->o.journal;

	o.ops = &log_ops;
	o.owner = &c->logs[index];
	o.log_no += index;
	if (o.salt_seed != 0)
		o.salt_seed += 0xd1342543de82ef95u * ++c->n_begun;
	return o;
}

/* ---- inside and outside ---- */

static bool container_ready(struct wait_queue *q, const struct wait *w, int *ret_result)
{
	struct container *c = (struct container *)((char *)q - offsetof(struct container, waits));

	*ret_result = 0;
	return c->logs[w->target].n_inside == 0;
}

static void lock(struct container *c)
{
	pthread_mutex_lock(&c->waits.lock);
}

static void unlock(struct container *c)
{
	struct wait *swept = wait_sweep(&c->waits);

	pthread_mutex_unlock(&c->waits.lock);
	wait_finish(swept);
}

static struct container_log *enter(struct container *c, unsigned index)
{
	c->logs[index].n_inside++;
	return &c->logs[index];
}

static void leave(struct container *c, struct container_log *log)
{
	lock(c);
	log->n_inside--;
	unlock(c);
}

static int wait_until_left(struct container *c, unsigned index)
{
	return wait_for(&c->waits, WAIT_LEFT, index, NULL);
}

/* The error is kept: what is on the medium is not known any more. */
static int stop(struct container *c, int error)
{
	lock(c);
	if (c->error == 0)
		c->error = error;
	unlock(c);
	return error;
}

/* ---- steps ---- */

int container_erase_header(struct container *c, unsigned index)
{
	uint8_t *zeros = aligned_alloc(FRAME_BLOCK_BYTES, (size_t)2 * FRAME_BLOCK_BYTES);

	if (zeros == NULL)
		return -ENOMEM;
	memset(zeros, 0, FRAME_BLOCK_BYTES);
	int rc = journal_write_block(c->o.journal.device, c->logs[index].first_segment, zeros,
	                             zeros + FRAME_BLOCK_BYTES);
	free(zeros);
	return rc;
}

static int append_own(struct container_log *log, uint16_t type, void *payload, size_t len_bytes)
{
	struct iovec part = {.iov_base = payload, .iov_len = len_bytes};
	uint64_t no;
	int rc = journal_append_any(log->journal, type, &part, 1, &no);

	if (rc < 0)
		return rc;
	log->n_own++;
	return journal_sync(log->journal, no, NULL);
}

/* Begins the log anew, with a START. On failure it is gone. */
static int begin_log(struct container *c, unsigned index, uint64_t generation, bool complete,
                     struct quire_error *err)
{
	struct container_log *log = &c->logs[index];
	struct journal_options o = container_log_options(c, index);
	struct container_start_le start = {.generation = htole64(generation), .complete = htole32(complete)};
	int rc = journal_create(&o, log->first_segment, &log->journal, err);

	if (rc < 0)
		return rc;
	log->generation = generation;
	log->n_own = 0;
	rc = append_own(log, FRAME_CONTAINER_START, &start, sizeof(start));
	if (rc < 0) {
		journal_close(log->journal);
		log->journal = NULL;
		return quire_fail(err, rc, "%s: beginning a container's log", o.device->name);
	}
	return 0;
}

/* ---- life ---- */

void container_free(struct container *c)
{
	if (c == NULL)
		return;
	journal_close(c->logs[0].journal);
	journal_close(c->logs[1].journal);
	journal_close(c->retired);
	wait_queue_fini(&c->waits);
	free(c);
}

int container_new(const struct container_options *o, const uint64_t first[2], struct container **ret,
                         struct quire_error *err)
{
	int rc = scan_check_options(&o->journal, first[0], err);

	if (rc == 0)
		rc = scan_check_options(&o->journal, first[1], err);
	if (rc < 0)
		return rc;
	if (first[0] == first[1] || (o->capacity_bytes != 0 && o->capacity_bytes < o->journal.segment_bytes))
		return quire_fail(err, -EINVAL, "%s: a container of %llu bytes at %llu and %llu", o->journal.device->name,
		                  (unsigned long long)o->capacity_bytes, (unsigned long long)first[0],
		                  (unsigned long long)first[1]);
	struct container *c = calloc(1, sizeof(*c));
	if (c == NULL)
		return quire_fail(err, -ENOMEM, "%s: a container", o->journal.device->name);
	c->o = *o;
	wait_queue_init(&c->waits, o->journal.device->service);
	c->waits.ready = container_ready;
	c->waits.parked = NULL;
	for (int i = 0; i < 2; i++) {
		c->logs[i].container = c;
		c->logs[i].first_segment = first[i];
	}
	*ret = c;
	return 0;
}

int container_create(const struct container_options *o, const uint64_t first[2],
                     struct container **ret_container, struct quire_error *err)
{
	struct container *c;
	int rc = container_new(o, first, &c, err);

	if (rc < 0)
		return rc;
	rc = container_erase_header(c, 1);
	if (rc < 0)
		quire_fail(err, rc, "%s: erasing a container's log", o->journal.device->name);
	else
		rc = begin_log(c, 0, 1, true, err);
	if (rc < 0) {
		container_free(c);
		return rc;
	}
	*ret_container = c;
	return 0;
}

void container_close(struct container *c)
{
	container_free(c);
}

/* ---- records ---- */

int container_append(struct container *c, uint16_t type, const struct iovec *parts, unsigned n, uint64_t *ret_no)
{
	uint64_t no;

	lock(c);
	int rc = c->error;
	struct container_log *log = enter(c, c->target);
	unlock(c);
	if (rc == 0)
		rc = journal_append(log->journal, type, parts, n, &no);
	lock(c);
	if (rc == 0 && ret_no != NULL)
		*ret_no = log->base + no;
	log->n_inside--;
	unlock(c);
	return rc;
}

int container_sync(struct container *c, uint64_t no, struct quire_op *op)
{
	lock(c);
	bool settled = no < c->n_settled;
	struct container_log *log = &c->logs[no < c->logs[c->target].base ? c->active : c->target];
	struct journal *j = log->journal;
	uint64_t base = log->base;
	unlock(c);
	if (!settled)
		return no < base ? -EINVAL : journal_sync(j, no - base, op);
	if (op != NULL && !op_is_idle(op))
		return -EBUSY;
	if (op != NULL)
		op_complete_now(op, 0);
	return 0;
}

/* Makes durable what a log has taken in so far. */
static int log_sync_all(struct container_log *log)
{
	uint64_t n = journal_n_records(log->journal);

	return n == 0 ? 0 : journal_sync(log->journal, n - 1, NULL);
}

int container_read(struct container *c, journal_record_fn fn, void *arg)
{
	struct container_log_state state = {0};
	struct container_delivery d = {.container = c, .state = &state, .fn = fn, .arg = arg};

	lock(c);
	struct container_log *log = enter(c, c->active);
	unlock(c);
	int rc = c->read_only ? 0 : log_sync_all(log);
	if (rc == 0)
		rc = journal_read(log->journal, container_deliver, &d, NULL);
	leave(c, log);
	return rc;
}

/* ---- compaction ---- */

/* Above every number that those who are in the log have got or will get. Lock held. */
static uint64_t end_number(const struct container_log *log)
{
	return log->base + journal_n_records(log->journal) + log->n_inside;
}

int container_cstart(struct container *c)
{
	lock(c);
	int rc = c->read_only ? -EROFS : c->error != 0 ? c->error : c->compacting ? -EBUSY : 0;
	unsigned old = c->active, new = !old;
	if (rc == 0)
		c->compacting = true;
	unlock(c);
	if (rc < 0)
		return rc;
	rc = begin_log(c, new, c->logs[old].generation + 1, false, NULL);
	if (rc < 0) {
		lock(c);
		c->compacting = false;
		unlock(c);
		return rc;
	}
	lock(c);
	c->logs[new].base = end_number(&c->logs[old]);
	c->target = new;
	unlock(c);
	rc = wait_until_left(c, old);
	if (rc == 0)
		rc = log_sync_all(&c->logs[old]);
	return rc < 0 ? stop(c, rc) : 0;
}

/* The log `index` is erased, and nobody's any more. */
static void give_up_log(struct container *c, unsigned index)
{
	struct container_log *log = &c->logs[index];

	journal_give_back(log->journal);
	journal_close(c->retired);
	lock(c);
	c->retired = log->journal;
	log->journal = NULL;
	unlock(c);
}

int container_cend(struct container *c)
{
	lock(c);
	bool begun = c->target != c->active;
	int rc = c->error != 0 ? c->error : begun ? 0 : -EINVAL;
	unsigned old = c->active, new = !old;
	unlock(c);
	if (rc < 0)
		return rc;
	struct container_end_le end = {.generation = htole64(c->logs[new].generation)};
	if (CANARY(old_log_erased_first))
		(void)container_erase_header(c, old);
	rc = append_own(&c->logs[new], FRAME_CONTAINER_END, &end, sizeof(end));
	/* Without room for END nothing was written. */
	if (rc < 0 && journal_error(c->logs[new].journal) == 0)
		return rc;
	if (rc == 0)
		rc = container_erase_header(c, old);
	if (rc < 0)
		return stop(c, rc);
	lock(c);
	c->active = new;
	c->n_settled = c->logs[new].base;
	unlock(c);
	rc = wait_until_left(c, old);
	quire_assert(rc == 0);
	give_up_log(c, old);
	lock(c);
	c->compacting = false;
	unlock(c);
	return 0;
}

int container_cabort(struct container *c)
{
	lock(c);
	bool begun = c->target != c->active;
	int rc = c->error != 0 ? c->error : begun ? 0 : -EINVAL;
	unsigned old = c->active, new = !old;
	if (rc == 0) {
		c->target = old;
		c->n_settled = c->logs[old].base = end_number(&c->logs[new]);
	}
	unlock(c);
	if (rc < 0)
		return rc;
	rc = wait_until_left(c, new);
	quire_assert(rc == 0);
	rc = container_erase_header(c, new);
	if (rc < 0)
		return stop(c, rc);
	give_up_log(c, new);
	lock(c);
	c->compacting = false;
	unlock(c);
	return 0;
}

/* ---- asking ---- */

void container_usage(struct container *c, struct container_usage *ret)
{
	lock(c);
	struct container_log *log = enter(c, c->active);
	unlock(c);
	*ret = (struct container_usage){
		.used_bytes = journal_used_bytes(log->journal),
		.allocated_bytes = journal_bytes(log->journal),
		.capacity_bytes = c->o.capacity_bytes,
		.n_records = journal_n_records(log->journal) - log->n_own,
		.generation = log->generation,
	};
	leave(c, log);
}

int container_error(struct container *c)
{
	lock(c);
	int error = c->error;
	for (int i = 0; i < 2 && error == 0; i++)
		error = c->logs[i].journal != NULL ? journal_error(c->logs[i].journal) : 0;
	unlock(c);
	return error;
}

uint32_t container_max_payload(const struct container *c)
{
	return frame_max_payload(&c->o.journal);
}

void container_segments(struct container *c, void (*fn)(void *arg, uint64_t offset), void *arg)
{
	for (unsigned i = 0; i < 2; i++) {
		lock(c);
		struct container_log *log = enter(c, i);
		unlock(c);
		if (log->journal != NULL)
			journal_segments(log->journal, fn, arg);
		else
			fn(arg, log->first_segment);
		leave(c, log);
	}
}
