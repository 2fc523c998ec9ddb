/* journal.c - a journal's life: made, opened, closed, destroyed; and what can be asked of it.
 *
 * What it consists of: frame (the bytes), scan (reading them, and what an end means), source and append (taking records in,
 * changing segments), extend (making the last one longer), commit (writing groups), wait (whoever waits). Each has its own essay.
 *
 * Opening for writing. The chain is read to its end. What its last records say was durable when they were submitted is;
 * what is behind may be nowhere but in a cache, and after an error in one that takes it for written: a flush
 * would prove nothing. So that part, a group as a rule, is written once more, durably, with the bytes
 * that are there, and with zeros for what may be left of a record at the end. From then on everything before
 * the end is durable, and records may say so. A header that is missing there is written. The first record of the new
 * session goes to the end of the chain, and makes all that an earlier one may have left behind it unreachable. Reading and going on are
 * two steps, between which an owner may refuse what was read: nothing was changed then.
 *
 * Invariants (all but 4 under the lock):
 *   1. n_durable ≤ next_no; settled ≤ the open group's start or partial record, or the open group is the segment's first.
 *   2. The open group starts where the other ended, in the same segment or with the next's header.
 *   3. Room for LINK, and for NEXT if it is not there, is behind the tail.
 *   4. A read-only journal has no groups, and appends are -EROFS.
 *
 * Threads: create, open, close and destroy by one at a time; everything else by anybody.
 */
#include "journal_internal.h"

#include "../base/assert.h"
#include "../base/canary.h"
#include "../base/fail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BUFFER_MAX_BYTES (1u << 20)
#define LONG_MAX_BYTES (4u << 20)

/* ---- life ---- */

static void journal_free(struct journal *j)
{
	if (j == NULL)
		return;
	wait_queue_fini(&j->waits);
	segment_list_fini(&j->segments);
	free(j->groups[0].memory);
	free(j->groups[1].memory);
	free(j->found.mends);
	free(j);
}

static int need_groups(struct journal *j, struct quire_error *err)
{
	for (int i = 0; i < 2; i++) {
		j->groups[i].memory = aligned_alloc(FRAME_BLOCK_BYTES, j->buffer_bytes);
		if (j->groups[i].memory == NULL)
			return quire_fail(err, -ENOMEM, "%s: a log's buffers", j->o.device->name);
	}
	return 0;
}

/* Of a segment: a group must have room beside NEXT and LINK. */
static uint32_t at_most_quarter(const struct journal_options *o, uint32_t bytes)
{
	return o->segment_bytes / 4 < bytes ? o->segment_bytes / 4 : bytes;
}

/* One that is only read. */
static int journal_new(const struct journal_options *o, struct journal **ret, struct quire_error *err)
{
	struct journal *j = calloc(1, sizeof(*j));

	if (j == NULL)
		return quire_fail(err, -ENOMEM, "%s: a log", o->device->name);
	j->o = *o;
	j->o.known = NULL; /* borrowed until the log is open */
	j->o.before = NULL;
	j->o.n_known = j->o.n_sealed = 0;
	j->read_only = true;
	wait_queue_init(&j->waits, o->device->service);
	j->waits.ready = journal_ready;
	j->waits.parked = journal_kick;
	j->random = o->salt_seed;
	j->align = o->device->align_bytes;
	j->buffer_bytes = at_most_quarter(o, BUFFER_MAX_BYTES);
	j->long_bytes = at_most_quarter(o, LONG_MAX_BYTES);
	journal_commit_init(j);
	*ret = j;
	return 0;
}

int journal_write_block(struct device *d, uint64_t offset, const void *block, void *spare)
{
	int rc = device_write(d, offset, block, FRAME_BLOCK_BYTES, true);

	if (rc == 0)
		rc = device_read(d, offset, spare, FRAME_BLOCK_BYTES);
	return rc == 0 && memcmp(block, spare, FRAME_BLOCK_BYTES) != 0 ? -EIO : rc;
}

int journal_create(const struct journal_options *o, uint64_t first_segment, struct journal **ret_journal,
                   struct quire_error *err)
{
	struct journal *j;
	int rc = scan_check_options(o, first_segment, err);

	if (rc == 0)
		rc = journal_new(o, &j, err);
	if (rc < 0)
		return rc;
	rc = need_groups(j, err);
	if (rc < 0) {
		journal_free(j);
		return rc;
	}
	j->read_only = false;
	j->session = journal_random(j);
	j->segment = (struct frame_segment){.offset = first_segment};
	j->segment.salt = journal_random(j);
	j->segment.key = journal_random(j);
	j->segment.session = j->session;
	j->first = j->segment;
	rc = segment_list_add(&j->segments, first_segment);
	if (rc == 0) {
		frame_segment_encode(o, &j->segment, (struct frame_segment_le *)j->groups[0].memory);
		rc = journal_write_block(o->device, first_segment, j->groups[0].memory, j->groups[1].memory);
	}
	if (rc < 0) {
		journal_free(j);
		return quire_fail(err, rc, "%s: beginning a log at %llu", o->device->name,
		                  (unsigned long long)first_segment);
	}
	j->settled = FRAME_BLOCK_BYTES;
	journal_begin_memory(j, j->groups[0].memory);
	journal_group_begin(j, &j->groups[0], FRAME_BLOCK_BYTES, false);
	*ret_journal = j;
	return 0;
}

/* ---- opening ---- */

/* The journal goes on where the scan ended. */
static void take_over(struct journal *j, struct scan *s, bool clear)
{
	j->found.clear = clear;
	j->found.proven = s->proven;
	j->found.session = s->session;
	j->found.before_segment = s->before.segment;
	j->found.before_proven = s->before.proven;
	j->found.before_end = s->before.end;
	j->found.mends = s->mends;
	j->found.n_mends = s->n_mends;
	s->mends = NULL;
	j->first = s->first;
	j->segment = s->segment;
	j->next = s->next;
	j->next_known = s->next_known;
	j->segments = s->segments;
	s->segments = (struct segment_list){0};
	j->next_no = s->at.record_no;
	j->used_bytes = s->n_bytes;
	j->settled = s->at.offset;
	j->next_settled = 0;
	atomic_store(&j->n_durable, s->at.record_no);
	atomic_store(&j->n_visible, s->at.record_no);
	atomic_store(&j->segment_durable, j->segment.no);
	journal_begin_memory(j, NULL);
	/* Behind the end a scan may have left what it looked at there. */
	if (j->memory != NULL)
		memset(j->memory + s->at.offset, 0, j->o.segment_bytes - s->at.offset);
	journal_mend_memory(j);
}

/* Makes a part of a segment durable as it is, and clears what follows it in its last block; also if there is no part
 * of it in that block, with `clear`. */
static int write_again(struct journal *j, uint64_t segment, uint32_t from, uint32_t end, bool clear)
{
	uint8_t *memory = j->groups[1].memory;
	uint32_t through = end + clear;
	int rc = 0;

	from &= ~(FRAME_BLOCK_BYTES - 1);
	while (rc == 0 && from < through) {
		uint32_t left = (through - from + FRAME_BLOCK_BYTES - 1) & ~(FRAME_BLOCK_BYTES - 1);
		uint32_t n = left < j->buffer_bytes ? left : j->buffer_bytes;

		rc = device_read(j->o.device, segment + from, memory, n);
		if (from + n > end)
			memset(memory + (end - from), 0, from + n - end);
		if (rc == 0)
			rc = device_write(j->o.device, segment + from, memory, n, true);
		from += n;
	}
	return rc;
}

/* The segment that LINK led to has no header. What an earlier session left in it must not be taken for this one's
 * when it gets one, so it is this session's, and by itself: see scan.c. */
static int begin_segment(struct journal *j)
{
	int rc = write_again(j, j->found.before_segment, j->found.before_proven, j->found.before_end, false);

	if (rc < 0)
		return rc;
	j->segment.session = j->session;
	frame_segment_encode(&j->o, &j->segment, (struct frame_segment_le *)j->groups[0].memory);
	journal_begin_memory(j, j->groups[0].memory);
	return journal_write_block(j->o.device, j->segment.offset, j->groups[0].memory, j->groups[1].memory);
}

static int begin_session(struct journal *j, struct quire_error *err)
{
	struct group *g = &j->groups[0];
	uint32_t end = j->settled;
	int rc = segment_list_reserve(&j->segments, 2);

	/* One that differs from the last, since it is told by that. */
	do {
		j->session = journal_random(j);
	} while (j->session == j->found.session);
	if (rc == 0 && end == 0) {
		rc = begin_segment(j);
		j->settled = end = FRAME_BLOCK_BYTES;
	} else if (rc == 0 && !CANARY(recovered_tail_not_made_durable)) {
		rc = write_again(j, j->segment.offset, j->found.proven, end, j->found.clear);
	}
	journal_group_begin(j, g, end, false);
	if (rc == 0 && g->base != end)
		rc = device_read(j->o.device, j->segment.offset + g->base, g->memory, j->align);
	return rc < 0 ? quire_fail(err, rc, "%s: going on with a log", j->o.device->name) : 0;
}

int journal_go_on(struct journal *j, struct quire_error *err)
{
	quire_assert(j->read_only);
	int rc = need_groups(j, err);
	if (rc == 0 && j->found.n_mends > 0 && (rc = journal_mend_medium(j)) < 0)
		return quire_fail(err, rc, "%s: mending a log", j->o.device->name);
	if (rc == 0)
		rc = begin_session(j, err);
	if (rc == 0)
		j->read_only = false;
	return rc;
}

int journal_open(const struct journal_options *o, uint64_t first_segment, bool read_only, journal_record_fn fn,
                 void *arg, struct journal_recovery *ret, struct journal **ret_journal, struct quire_error *err)
{
	struct scan s;
	struct journal *j = NULL;
	int rc = scan_init(&s, o, first_segment, false, err);

	if (rc == 0)
		rc = scan_all(&s, UINT64_MAX, fn, arg);
	scan_report(&s, rc, ret);
	bool clear = rc != JOURNAL_NEVER;
	if (rc >= 0 && o->whole_blocks && s.at.offset % FRAME_BLOCK_BYTES != 0)
		rc = quire_fail(err, -EUCLEAN, "%s: a log of whole blocks ends at %u in its segment at %llu", o->device->name, s.at.offset,
		                (unsigned long long)s.at.segment);
	if (rc >= 0)
		rc = journal_new(o, &j, err);
	if (rc == 0) {
		take_over(j, &s, clear);
		if (!read_only)
			rc = journal_go_on(j, err);
	}
	scan_fini(&s);
	if (rc < 0) {
		journal_free(j);
		return rc;
	}
	*ret_journal = j;
	return 0;
}

/* ---- ending ---- */

static void settle(struct journal *j)
{
	/* A write that an append has started, and nobody waits for. */
	int rc = wait_for(&j->waits, WAIT_IDLE, 0, NULL);
	quire_assert(rc == 0);
}

void journal_close(struct journal *j)
{
	if (j == NULL)
		return;
	settle(j);
	journal_free(j);
}

void journal_give_back(struct journal *j)
{
	settle(j);
	if (j->next_known)
		j->o.ops->segment_put(j->o.owner, j->next.offset);
	j->next_known = false;
	while (j->segments.n > 0)
		j->o.ops->segment_put(j->o.owner, j->segments.offsets[--j->segments.n]);
}

/* ---- random numbers ---- */

uint32_t journal_random(struct journal *j)
{
	uint32_t r = 0;

	while (r == 0) {
		if (j->random != 0) {
			uint64_t z = j->random += 0x9e3779b97f4a7c15u; /* splitmix64 */
			z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
			z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
			r = (uint32_t)(z >> 32);
		} else {
			ssize_t n = getrandom(&r, sizeof(r), 0);
			quire_assert(n == (ssize_t)sizeof(r));
		}
	}
	return r;
}

/* ---- asking ---- */

/* Who asks changes nothing but the lock. */
static pthread_mutex_t *lock_of(const struct journal *j)
{
	return (pthread_mutex_t *)&j->waits.lock;
}

uint32_t journal_max_payload(const struct journal *j)
{
	return frame_max_payload(&j->o);
}

uint64_t journal_n_durable(const struct journal *j)
{
	return atomic_load_explicit(&j->n_durable, memory_order_seq_cst);
}

uint64_t journal_n_visible(const struct journal *j)
{
	return atomic_load_explicit(&j->n_visible, memory_order_seq_cst);
}

uint64_t journal_segment_durable(const struct journal *j)
{
	return atomic_load_explicit(&j->segment_durable, memory_order_acquire);
}

uint64_t journal_n_records(const struct journal *j)
{
	pthread_mutex_lock(lock_of(j));
	uint64_t n = j->next_no;
	pthread_mutex_unlock(lock_of(j));
	return n;
}

uint64_t journal_bytes(const struct journal *j)
{
	pthread_mutex_lock(lock_of(j));
	uint64_t n = (j->segments.n + j->next_known) * j->o.segment_bytes;
	pthread_mutex_unlock(lock_of(j));
	return n;
}

uint64_t journal_used_bytes(const struct journal *j)
{
	pthread_mutex_lock(lock_of(j));
	uint64_t n = j->used_bytes;
	pthread_mutex_unlock(lock_of(j));
	return n;
}

int journal_error(const struct journal *j)
{
	return atomic_load_explicit(&j->error, memory_order_acquire);
}

void journal_segments(const struct journal *j, void (*fn)(void *arg, uint64_t offset), void *arg)
{
	pthread_mutex_lock(lock_of(j));
	for (uint64_t i = 0; i < j->segments.n; i++)
		fn(arg, j->segments.offsets[i]);
	if (j->next_known)
		fn(arg, j->next.offset);
	pthread_mutex_unlock(lock_of(j));
}

void journal_drop_first(struct journal *j)
{
	struct segment_list *list = &j->segments;

	pthread_mutex_lock(&j->waits.lock);
	quire_assert(list->n > 1);
	list->n--;
	memmove(list->offsets, list->offsets + 1, list->n * sizeof(list->offsets[0]));
	j->first.offset = list->offsets[0];
	pthread_mutex_unlock(&j->waits.lock);
}

/* ---- reading ---- */

int journal_read(struct journal *j, journal_record_fn fn, void *arg, struct quire_error *err)
{
	struct scan s;
	struct journal_options o = j->o;
	uint64_t end_no = journal_n_durable(j);
	o.ops = NULL; /* what is kept in memory may be newer */
	int rc = scan_init(&s, &o, j->first.offset, false, err);

	if (rc == 0)
		rc = scan_all(&s, end_no, fn, arg);
	/* What was durable is no tail. */
	if (rc >= 0 && s.at.record_no < end_no)
		rc = quire_fail(err, -EBADMSG, "%s: record %llu of a log, in its segment at %llu, offset %u",
		                j->o.device->name, (unsigned long long)s.at.record_no,
		                (unsigned long long)s.at.segment, s.at.offset);
	scan_fini(&s);
	return rc < 0 ? rc : 0;
}

int journal_scan_segment(const struct journal_options *o, uint64_t segment, journal_record_fn fn, void *arg,
                         struct journal_recovery *ret, struct quire_error *err)
{
	struct scan s;
	int rc = scan_init(&s, o, segment, true, err);

	if (rc == 0)
		rc = scan_all(&s, UINT64_MAX, fn, arg);
	scan_report(&s, rc, ret);
	bool has_header = s.segments.n != 0;
	scan_fini(&s);
	return rc == -EBADMSG && has_header ? JOURNAL_CORRUPT : rc;
}
