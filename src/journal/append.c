/* append.c - records are taken in; segments are changed.
 *
 * The common case: nobody has the turn, the record fits into the open group. A small record is put together on the caller's
 * stack, so that his memory is read once, and without the lock: it may fault. Then, under the lock, it gets its
 * place, its number and what is the journal's to say, and is copied to its group. Many small ones go in by the stackful.
 * A larger one gets its place and number under the lock, its bytes are copied without it, and the group is not submitted before all
 * copies are done (group->n_filling). Where a group is full, or long, and the other one free, it is handed on by who finds it so (commit.c).
 *
 * Everything else is for who has the turn, one at a time, in order of arrival: while somebody has it, all
 * others queue for it. He may
 *   - carry a record over several groups: `partial` is its offset until its last byte is in; groups that begin
 *     meanwhile say in their records that only what is before it was durable;
 *   - name the next segment (NEXT), once three quarters of this one are full. If there is none to be
 *     had then, he asks again when it is needed;
 *   - end the segment: NEXT is durable first, then LINK goes into the open group, which is the segment's last.
 * Room for NEXT and LINK is always kept. A change of segments costs no durable write of its own if NEXT
 * was named early enough: the next segment's header goes out with its first group.
 *
 * Order: numbers are given in order of places. Calls that do not overlap are numbered in their order.
 */
#include "journal_internal.h"
#include "source.h"

#include "../base/assert.h"

#include <errno.h>
#include <string.h>

#define LONG_PART 4u /* of a long group's capacity: so much is worth a write, if nothing is being written */

/* ---- places; lock held ---- */

static uint32_t tail(struct journal *j)
{
	return journal_open_group(j)->end;
}

static uint32_t reserve_bytes(const struct journal *j)
{
	return FRAME_LINK_BYTES + (j->next_known ? 0 : frame_next_bytes(&j->o));
}

static bool fits_segment(struct journal *j, uint64_t bytes)
{
	return !j->ending && tail(j) + bytes + reserve_bytes(j) <= j->o.segment_bytes;
}

uint32_t journal_room(struct journal *j)
{
	pthread_mutex_lock(&j->waits.lock);
	uint32_t used = tail(j) + reserve_bytes(j) + JOURNAL_RECORD_HEADER_BYTES;
	uint32_t left = j->ending || used > j->o.segment_bytes ? 0 : j->o.segment_bytes - used;
	pthread_mutex_unlock(&j->waits.lock);
	return left & ~(FRAME_ALIGN - 1);
}

static bool should_name_next(struct journal *j, uint64_t bytes)
{
	return !j->next_known && !j->next_failed && tail(j) + bytes > j->o.segment_bytes / 4 * 3;
}

static uint64_t room(struct journal *j)
{
	return journal_open_group(j)->capacity - (tail(j) - journal_open_group(j)->base);
}

/* Gives `r` what is the journal's to say, for a record at the tail. */
static void make_header(struct journal *j, struct frame_record *r, struct frame_record_le *ret)
{
	r->session = j->session;
	r->flags = (uint16_t)(j->session_begun ? 0 : FRAME_FLAG_FIRST);
	r->index = (uint32_t)(j->next_no - j->segment.first_record_no);
	r->group_start = journal_open_group(j)->group_start;
	j->session_begun = true;
	if (r->ret_place != NULL)
		*r->ret_place = (struct journal_place){.segment = j->segment.offset, .segment_no = j->segment.no,
		                                       .offset = tail(j), .record_no = j->next_no};
	journal_note_last(j, r);
	frame_record_encode(&j->segment, tail(j), r, ret);
}

/* A record is complete: it counts, and has a number if it is not the journal's own. */
static uint64_t count_record(struct journal *j, uint16_t type, uint64_t bytes)
{
	j->used_bytes += bytes;
	return type < FRAME_FIRST_FOREIGN_TYPE ? j->next_no : j->next_no++;
}

/* Where the owner's memory has them besides; NULL: nowhere. */
static uint8_t *kept_at(const struct journal *j, uint32_t offset)
{
	return j->memory != NULL && !journal_in_place(j) ? j->memory + offset : NULL;
}

/* Copies the next n bytes to the tail; the lock is released meanwhile. */
static void fill(struct journal *j, struct source *s, uint64_t n)
{
	struct group *g = journal_open_group(j);
	uint8_t *to = g->bytes + (g->end - g->base), *kept = kept_at(j, g->end);

	g->end += (uint32_t)n;
	g->n_filling++;
	pthread_mutex_unlock(&j->waits.lock);
	source_copy(s, to, n);
	if (kept != NULL)
		memcpy(kept, to, n);
	pthread_mutex_lock(&j->waits.lock);
	g->n_filling--;
}

/* After a record was counted and filled in. Whoever fills the group still will say so himself. */
static void note_visible(struct journal *j)
{
	if (journal_open_group(j)->n_filling == 0)
		atomic_store_explicit(&j->n_visible, j->next_no, memory_order_release);
}

void journal_push_long(struct journal *j)
{
	const struct group *g = journal_open_group(j);

	if (journal_has_long_groups(j) && g->end - g->start >= g->capacity / LONG_PART)
		(void)journal_push(j);
}

/* ---- with the turn; lock held, but released meanwhile ---- */

/* Waits until kind and target are so. */
static int turn_wait(struct journal *j, enum journal_wait kind, uint64_t target)
{
	pthread_mutex_unlock(&j->waits.lock);
	int rc = wait_for(&j->waits, kind, target, NULL);
	pthread_mutex_lock(&j->waits.lock);
	return rc;
}

/* The open group is another one. */
static int turn_group(struct journal *j)
{
	return journal_push(j) ? 0 : turn_wait(j, WAIT_TAKEN, j->n_taken);
}

/* Appends a record that fits into the segment. */
static int put(struct journal *j, struct frame_record *r, const struct iovec *parts, unsigned n, uint64_t *ret_no)
{
	struct source s = {.parts = parts, .n = n, .len_bytes = r->len_bytes};
	uint64_t left = frame_bytes(r->len_bytes);

	quire_assert(j->turn && j->partial == 0);
	make_header(j, r, &s.header);
	j->partial = tail(j);
	while (left > 0) {
		uint64_t k = room(j) < left ? room(j) : left;
		if (k != 0)
			fill(j, &s, k);
		left -= k;
		if (left == 0)
			break;
		int rc = turn_group(j);
		if (rc < 0)
			return rc; /* only after an error: `partial` can stay */
	}
	j->partial = 0;
	uint64_t no = count_record(j, r->type, frame_bytes(r->len_bytes));
	if (ret_no != NULL)
		*ret_no = no;
	note_visible(j);
	journal_kick(&j->waits);
	return 0;
}

static int put_own(struct journal *j, uint16_t type, void *payload, uint32_t len_bytes, uint32_t padded_bytes)
{
	static const uint8_t zeros[FRAME_NEXT_BLOCK_PAYLOAD];
	struct iovec parts[2] = {{payload, len_bytes}, {(void *)(uintptr_t)zeros, padded_bytes - len_bytes}};
	struct frame_record r = {.type = type, .len_bytes = padded_bytes, .payload_crc = source_crc(parts, 2, padded_bytes)};

	return put(j, &r, parts, 2, NULL);
}

/* Gets the next segment and names it. */
static int name_next(struct journal *j)
{
	struct frame_segment next = {.no = j->segment.no + 1};
	struct frame_next_le payload;

	int rc = segment_list_reserve(&j->segments, 2);
	if (rc < 0)
		return rc;
	pthread_mutex_unlock(&j->waits.lock);
	rc = j->o.ops->segment_get(j->o.owner, &next.offset);
	pthread_mutex_lock(&j->waits.lock);
	if (rc < 0)
		return rc;
	quire_assert(frame_offset_fits(&j->o, next.offset));
	next.salt = journal_random(j);
	next.key = journal_random(j);
	/* From here on it is ours to give back, whether the NEXT gets through or not. */
	j->next = next;
	j->next_known = true;
	frame_next_encode(&next, &payload);
	rc = put_own(j, FRAME_NEXT, &payload, sizeof(payload), frame_next_bytes(&j->o) - JOURNAL_RECORD_HEADER_BYTES);
	j->next_settled = tail(j);
	return rc;
}

/* Ends the segment; the open group is then of the next one. */
static int change_segment(struct journal *j)
{
	int rc = j->next_known ? 0 : name_next(j);

	if (rc == 0)
		rc = turn_wait(j, WAIT_SETTLED, j->next_settled);
	if (rc == 0)
		rc = put_own(j, FRAME_LINK, NULL, 0, 0);
	if (rc < 0)
		return rc;
	j->ending = true;
	return turn_group(j);
}

static int append_in_turn(struct journal *j, struct frame_record *r, const struct iovec *parts, unsigned n,
                          uint64_t *ret_no)
{
	uint64_t bytes = frame_bytes(r->len_bytes);
	int rc = atomic_load(&j->error);

	if (rc == 0 && should_name_next(j, bytes) && fits_segment(j, bytes)) {
		rc = name_next(j);
		j->next_failed = rc < 0;
		rc = atomic_load(&j->error); /* what else there was is for when it is needed */
	}
	if (rc == 0 && !fits_segment(j, bytes))
		rc = change_segment(j);
	if (rc == 0)
		rc = put(j, r, parts, n, ret_no);
	if (rc == 0)
		journal_push_long(j);
	return rc;
}

/* ---- without the turn; lock held ---- */

bool journal_has_place(struct journal *j, uint64_t bytes)
{
	if (j->turn || j->partial != 0 || !fits_segment(j, bytes) || should_name_next(j, bytes))
		return false;
	return bytes <= room(j) || (journal_push(j) && bytes <= room(j));
}

static void copy_in(struct journal *j, const uint8_t *from, uint32_t n)
{
	struct group *g = journal_open_group(j);
	uint8_t *kept = kept_at(j, g->end);

	memcpy(g->bytes + (g->end - g->base), from, n);
	if (kept != NULL)
		memcpy(kept, from, n);
	g->end += n;
}

/* Takes in what is staged, as far as there is place at once: how many. */
static int append_staged(struct journal *j, struct stage *s, uint64_t *ret_first, uint64_t *ret_last)
{
	uint32_t at = 0;
	int n = 0;

	while (at < s->used) {
		struct frame_record r = stage_record(s, at);
		uint32_t bytes = (uint32_t)frame_bytes(r.len_bytes);
		struct frame_record_le header;

		if (!journal_has_place(j, bytes))
			break;
		make_header(j, &r, &header);
		memcpy(s->bytes + at, &header, sizeof(header));
		copy_in(j, s->bytes + at, bytes);
		*ret_last = count_record(j, r.type, bytes);
		if (n++ == 0)
			*ret_first = *ret_last;
		at += bytes;
	}
	if (n > 0) {
		note_visible(j);
		journal_kick(&j->waits);
	}
	return n;
}

static bool append_large(struct journal *j, struct frame_record *r, const struct iovec *parts, unsigned n,
                         uint64_t *ret_no)
{
	uint64_t bytes = frame_bytes(r->len_bytes);
	struct source s = {.parts = parts, .n = n, .len_bytes = r->len_bytes};

	if (!journal_has_place(j, bytes))
		return false;
	make_header(j, r, &s.header);
	*ret_no = count_record(j, r->type, bytes);
	fill(j, &s, bytes);
	note_visible(j);
	journal_kick(&j->waits);
	journal_push_long(j);
	return true;
}

/* ---- appending ---- */

/* Waiting is not possible in a loop's callback. */
static bool may_wait(void)
{
	return quire_loop_self() == NULL || quire_in_coroutine();
}

static int append_waiting(struct journal *j, struct frame_record *r, const struct iovec *parts, unsigned n,
                          uint64_t *ret_no)
{
	if (!may_wait())
		return -EDEADLK;
	int rc = wait_for(&j->waits, WAIT_TURN, 0, NULL);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&j->waits.lock);
	rc = append_in_turn(j, r, parts, n, ret_no);
	j->turn = false;
	journal_unlock(j);
	journal_moved(j);
	return rc;
}

enum how {
	AND_WAIT,
	NOW,    /* or not at all */
	DURABLY /* if that is but copying; or just taken in */
};

/* At least the first that is staged: how many. */
static int append_stage(struct journal *j, struct stage *s, enum how how, uint64_t *ret_first, uint64_t *ret_last)
{
	pthread_mutex_lock(&j->waits.lock);
	int n = append_staged(j, s, ret_first, ret_last);
	if (n > 0 && how == DURABLY && journal_commit_copying(j))
		return n;
	pthread_mutex_unlock(&j->waits.lock);
	if (n > 0) {
		journal_moved(j);
		return n;
	}
	if (how == NOW)
		return -EAGAIN;
	struct frame_record r = stage_record(s, 0);
	struct iovec payload = {s->bytes + JOURNAL_RECORD_HEADER_BYTES, r.len_bytes};
	int rc = append_waiting(j, &r, &payload, 1, ret_first);
	if (rc < 0)
		return rc;
	*ret_last = *ret_first;
	return 1;
}

static int append_alone(struct journal *j, struct frame_record *r, const struct iovec *parts, unsigned n, enum how how,
                        uint64_t *ret_no)
{
	pthread_mutex_lock(&j->waits.lock);
	bool done = append_large(j, r, parts, n, ret_no);
	pthread_mutex_unlock(&j->waits.lock);
	if (done)
		journal_moved(j);
	return done ? 0 : how == NOW ? -EAGAIN : append_waiting(j, r, parts, n, ret_no);
}

/* Of the payload; or why it can't be taken in. */
static int64_t length_of(const struct journal *j, const struct iovec *parts, unsigned n)
{
	uint64_t len_bytes = 0;

	for (unsigned i = 0; i < n; i++) {
		if (parts[i].iov_len > journal_max_payload(j) - len_bytes)
			return -EMSGSIZE;
		len_bytes += parts[i].iov_len;
	}
	return (int64_t)len_bytes;
}

static int append(struct journal *j, uint16_t type, const struct iovec *parts, unsigned n, uint64_t *ret_no,
                  enum how how)
{
	struct stage s;
	uint64_t no, last;
	int64_t len_bytes = length_of(j, parts, n);
	int rc = len_bytes < 0 ? (int)len_bytes : j->read_only ? -EROFS : journal_error(j);

	if (rc < 0)
		return rc;
	if (frame_bytes((uint64_t)len_bytes) > STAGE_BYTES) {
		struct frame_record r = {.type = type, .len_bytes = (uint32_t)len_bytes,
		                         .payload_crc = source_crc(parts, n, (uint32_t)len_bytes)};
		rc = append_alone(j, &r, parts, n, how, &no);
	} else {
		s.used = 0;
		stage_add(&s, type, parts, n, (uint32_t)len_bytes);
		rc = append_stage(j, &s, how, &no, &last);
	}
	if (rc >= 0 && ret_no != NULL)
		*ret_no = no;
	return rc < 0 ? rc : 0;
}

int journal_append_any(struct journal *j, uint16_t type, const struct iovec *parts, unsigned n, uint64_t *ret_no)
{
	return append(j, type, parts, n, ret_no, AND_WAIT);
}

int journal_append_now(struct journal *j, uint16_t type, const struct iovec *parts, unsigned n,
                       uint64_t *ret_record_no)
{
	return type < JOURNAL_FIRST_TYPE ? -EINVAL : append(j, type, parts, n, ret_record_no, NOW);
}

int journal_append(struct journal *j, uint16_t type, const struct iovec *parts, unsigned n, uint64_t *ret_record_no)
{
	return type < JOURNAL_FIRST_TYPE ? -EINVAL : journal_append_any(j, type, parts, n, ret_record_no);
}

int journal_append_placed(struct journal *j, uint16_t type, const struct iovec *parts, unsigned n, const uint32_t *crc,
                          struct journal_place *ret_place)
{
	struct journal_place place;
	uint64_t no;
	int64_t len_bytes = length_of(j, parts, n);
	int rc = len_bytes < 0 ? (int)len_bytes : j->read_only ? -EROFS : journal_error(j);

	if (rc == 0 && (type < JOURNAL_FIRST_TYPE || frame_bytes((uint64_t)len_bytes) <= STAGE_BYTES ||
	                (crc != NULL && len_bytes % FRAME_ALIGN != 0)))
		rc = -EINVAL;
	if (rc < 0)
		return rc;
	struct frame_record r = {.type = type, .len_bytes = (uint32_t)len_bytes, .ret_place = &place,
	                         .payload_crc = crc != NULL ? *crc : source_crc(parts, n, (uint32_t)len_bytes)};
	rc = append_alone(j, &r, parts, n, AND_WAIT, &no);
	if (rc == 0)
		*ret_place = place;
	return rc;
}

int journal_append_durably(struct journal *j, uint16_t type, const struct iovec *parts, unsigned n,
                           uint64_t *ret_record_no)
{
	uint64_t no;
	int rc = type < JOURNAL_FIRST_TYPE ? -EINVAL : append(j, type, parts, n, &no, DURABLY);

	if (rc < 0)
		return rc;
	if (ret_record_no != NULL)
		*ret_record_no = no;
	return journal_sync(j, no, NULL);
}

/* As many as are small and go on the stage together; 0: the first does not. */
static int stage_some(const struct journal *j, struct stage *s, uint16_t type, const struct iovec *head,
                      const struct iovec *records, unsigned n)
{
	unsigned i = 0;

	s->used = 0;
	for (; i < n; i++) {
		struct iovec parts[2] = {*head, records[i]};
		int64_t len_bytes = length_of(j, parts, 2);
		if (len_bytes < 0 || frame_bytes((uint64_t)len_bytes) > STAGE_BYTES - s->used)
			break;
		stage_add(s, type, parts, 2, (uint32_t)len_bytes);
	}
	return (int)i;
}

int64_t journal_append_many(struct journal *j, uint16_t type, const struct iovec *head, const struct iovec *records,
                            unsigned n, uint64_t *ret_first, uint64_t *ret_last)
{
	struct stage s;
	unsigned done = 0;
	int rc = type < JOURNAL_FIRST_TYPE ? -EINVAL : j->read_only ? -EROFS : journal_error(j);

	while (rc >= 0 && done < n) {
		uint64_t first, last;
		if (stage_some(j, &s, type, head, records + done, n - done) > 0) {
			rc = append_stage(j, &s, AND_WAIT, &first, &last);
		} else {
			struct iovec parts[2] = {*head, records[done]};
			rc = append(j, type, parts, 2, &first, AND_WAIT);
			last = first;
			rc = rc < 0 ? rc : 1;
		}
		if (rc < 0)
			break;
		if (done == 0)
			*ret_first = first;
		*ret_last = last;
		done += (unsigned)rc;
	}
	return done > 0 ? (int64_t)done : rc;
}
