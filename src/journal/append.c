/* append.c - records are taken in; segments are changed.
 *
 * The common case: nobody has the turn, the record fits into the open group. Its place and number are
 * taken under the lock, its bytes are copied without it (the caller's memory may fault), and the group is not
 * submitted before all copies are done (group->n_filling).
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

#include "../base/assert.h"
#include "../base/crc32c.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

/* ---- the bytes of a record, in order ---- */

struct source {
	struct frame_record_le header;
	const struct iovec *parts;
	unsigned n;
	uint64_t len_bytes; /* payload */
	unsigned part;      /* where we are */
	uint64_t done;      /* bytes of the whole */
	size_t part_done;
};

static void source_copy(struct source *s, uint8_t *to, uint64_t n)
{
	uint64_t payload_end = JOURNAL_RECORD_HEADER_BYTES + s->len_bytes;

	while (n > 0) {
		uint64_t k = n;

		if (s->done < JOURNAL_RECORD_HEADER_BYTES) {
			if (k > JOURNAL_RECORD_HEADER_BYTES - s->done)
				k = JOURNAL_RECORD_HEADER_BYTES - s->done;
			memcpy(to, (const uint8_t *)&s->header + s->done, k);
		} else if (s->done < payload_end) {
			const struct iovec *v = &s->parts[s->part];
			if (k > v->iov_len - s->part_done)
				k = v->iov_len - s->part_done;
			if (k != 0)
				memcpy(to, (const uint8_t *)v->iov_base + s->part_done, k);
			s->part_done += k;
			if (s->part_done == v->iov_len) {
				s->part++;
				s->part_done = 0;
			}
		} else {
			memset(to, 0, k);
		}
		to += k;
		s->done += k;
		n -= k;
	}
}

/* The payload's checksum; reads the caller's memory. */
static uint32_t payload_crc(const struct iovec *parts, unsigned n, uint64_t len_bytes)
{
	uint32_t crc = 0;

	for (unsigned i = 0; i < n; i++)
		if (parts[i].iov_len != 0)
			crc = crc32c(crc, parts[i].iov_base, parts[i].iov_len);
	return frame_pad_crc(crc, len_bytes);
}

/* ---- places; lock held ---- */

static uint32_t tail(struct journal *j)
{
	return journal_open_group(j)->end;
}

static uint32_t reserve_bytes(const struct journal *j)
{
	return FRAME_LINK_BYTES + (j->next_known ? 0 : FRAME_NEXT_BYTES);
}

static bool fits_segment(struct journal *j, uint64_t bytes)
{
	return !j->ending && tail(j) + bytes + reserve_bytes(j) <= j->o.segment_bytes;
}

static bool should_name_next(struct journal *j, uint64_t bytes)
{
	return !j->next_known && !j->next_failed && tail(j) + bytes > j->o.segment_bytes / 4 * 3;
}

static uint64_t room(struct journal *j)
{
	struct group *g = journal_open_group(j);

	return j->group_bytes - (g->end - g->base);
}

/* Gives `r` what is the journal's to say, for a record at the tail. */
static void make_header(struct journal *j, struct frame_record *r, struct frame_record_le *ret)
{
	r->session = j->session;
	r->flags = (uint16_t)(j->session_begun ? 0 : FRAME_FLAG_FIRST);
	r->index = (uint32_t)(j->next_no - j->segment.first_record_no);
	r->group_start = journal_open_group(j)->group_start;
	j->session_begun = true;
	frame_record_encode(&j->segment, tail(j), r, ret);
}

/* A record is complete: it counts, and has a number if it is not the journal's own. */
static uint64_t count_record(struct journal *j, uint16_t type, uint64_t bytes)
{
	j->used_bytes += bytes;
	return type < FRAME_FIRST_FOREIGN_TYPE ? j->next_no : j->next_no++;
}

/* Copies the next n bytes to the tail; the lock is released meanwhile. */
static void fill(struct journal *j, struct source *s, uint64_t n)
{
	struct group *g = journal_open_group(j);
	uint8_t *to = g->memory + (g->end - g->base);

	g->end += (uint32_t)n;
	g->n_filling++;
	pthread_mutex_unlock(&j->waits.lock);
	source_copy(s, to, n);
	pthread_mutex_lock(&j->waits.lock);
	g->n_filling--;
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
		int rc = turn_wait(j, WAIT_TAKEN, j->n_taken);
		if (rc < 0)
			return rc; /* only after an error: `partial` can stay */
	}
	j->partial = 0;
	uint64_t no = count_record(j, r->type, frame_bytes(r->len_bytes));
	if (ret_no != NULL)
		*ret_no = no;
	journal_kick(&j->waits);
	return 0;
}

static int put_own(struct journal *j, uint16_t type, void *payload, uint32_t len_bytes)
{
	struct iovec part = {.iov_base = payload, .iov_len = len_bytes};
	struct frame_record r = {.type = type, .len_bytes = len_bytes, .payload_crc = payload_crc(&part, 1, len_bytes)};

	return put(j, &r, &part, 1, NULL);
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
	rc = put_own(j, FRAME_NEXT, &payload, sizeof(payload));
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
		rc = put_own(j, FRAME_LINK, NULL, 0);
	if (rc < 0)
		return rc;
	j->ending = true;
	return turn_wait(j, WAIT_TAKEN, j->n_taken);
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
	return rc < 0 ? rc : put(j, r, parts, n, ret_no);
}

/* ---- appending ---- */

static bool append_fast(struct journal *j, struct frame_record *r, const struct iovec *parts, unsigned n,
                        uint64_t *ret_no)
{
	uint64_t bytes = frame_bytes(r->len_bytes);
	struct source s = {.parts = parts, .n = n, .len_bytes = r->len_bytes};

	if (j->turn || j->ending || bytes > room(j) || !fits_segment(j, bytes) || should_name_next(j, bytes))
		return false;
	make_header(j, r, &s.header);
	uint64_t no = count_record(j, r->type, bytes);
	fill(j, &s, bytes);
	journal_kick(&j->waits);
	if (ret_no != NULL)
		*ret_no = no;
	return true;
}

/* Waiting is not possible in a loop's callback. */
static bool may_wait(void)
{
	return quire_loop_self() == NULL || quire_in_coroutine();
}

int journal_append_any(struct journal *j, uint16_t type, const struct iovec *parts, unsigned n, uint64_t *ret_no)
{
	uint64_t len_bytes = 0;

	for (unsigned i = 0; i < n; i++) {
		if (parts[i].iov_len > journal_max_payload(j) - len_bytes)
			return -EMSGSIZE;
		len_bytes += parts[i].iov_len;
	}
	if (j->read_only)
		return -EROFS;
	struct frame_record r = {.type = type, .len_bytes = (uint32_t)len_bytes,
	                         .payload_crc = payload_crc(parts, n, len_bytes)};
	int rc = atomic_load(&j->error);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&j->waits.lock);
	if (append_fast(j, &r, parts, n, ret_no)) {
		pthread_mutex_unlock(&j->waits.lock);
		return 0;
	}
	pthread_mutex_unlock(&j->waits.lock);
	if (!may_wait())
		return -EDEADLK;
	rc = wait_for(&j->waits, WAIT_TURN, 0, NULL);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&j->waits.lock);
	rc = append_in_turn(j, &r, parts, n, ret_no);
	j->turn = false;
	journal_unlock(j);
	return rc;
}

int journal_append(struct journal *j, uint16_t type, const struct iovec *parts, unsigned n, uint64_t *ret_record_no)
{
	return type < JOURNAL_FIRST_TYPE ? -EINVAL : journal_append_any(j, type, parts, n, ret_record_no);
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
