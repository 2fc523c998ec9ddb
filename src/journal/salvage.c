/* salvage.c - on, over what was durable and is damaged, for owners who can live with that.
 *
 * At s->at something is missing that was acknowledged (scan.c says how that is known). What may be made of it:
 *
 *   a segment's header    all of it but its session stands in the NEXT that led here, and that in the first record: it is made again. Of the first
 *                         one that is read, the owner knows the segment before it, where that NEXT is (journal_options.before); or nobody does
 *   a record's payload    its header says where it ends: that record is lost, nothing else
 *   records' headers      the next header that is one of the chain tells by its index how many records are lost, and where they end
 *   a NEXT                no record is missing then, since it has no number. The segment that it named is the one of the known ones whose header
 *                         says that it comes next, sealed or not; if none does, it was never begun, and any that is neither sealed nor in the chain will
 *                         do. A LINK that leads there says that it may have been: nobody knows then where the log goes on
 *   a LINK                the next segment's header says with which number it begins, so how many records are lost before it. A NEXT that is
 *                         lost with it is made again before it
 *
 * A header behind the damage is one of the chain if its place was durable and written to since: every group_start is a durable end, so one that
 * lies beyond it proves that. Or it is the first of its group: what a torn group has left behind the end where the next
 * session went on is never that, since the place where that group began is before that end, or was written over. Or it is of the session that began the next
 * segment: all that this one had written here was durable then. Anything else may be what a torn group has left, also where the next segment was begun, which says
 * nothing of what lies behind LINK: nothing is made of it.
 *
 * What is lost is replaced by records of the owner's lost_type, one for each number: headers alone, where the lost ones began, but for the last, whose
 * payload is what is left up to the next record. So the chain is whole again, and each number that is lost says so, now and
 * whenever the log is read. Nothing that is readable is written over. (Where records take whole blocks the owner has his own means.)
 *
 * Invariants:
 *   1. A mend lies within what was found damaged, and is done once the journal is written to (journal.c), in the chain's order. After a
 *      crash in between, what has no mend yet is found damaged again.
 *   2. s->n_lost records are between s->at and s->lost_end.
 */
#include "scan.h"

#include "../base/crc32c.h"
#include "../base/fail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- mends ---- */

static int add_mend(struct scan *s, uint32_t offset, const struct frame_record *r, struct scan_mend **ret)
{
	if (s->n_mends == s->mends_capacity) {
		uint64_t capacity = 2 * s->mends_capacity + 16;
		struct scan_mend *grown = reallocarray(s->mends, capacity, sizeof(*grown));
		if (grown == NULL)
			return quire_fail(s->err, -ENOMEM, "%s: what is to be mended in a log", s->o->device->name);
		s->mends = grown;
		s->mends_capacity = capacity;
	}
	struct scan_mend *m = &s->mends[s->n_mends++];
	*m = (struct scan_mend){.segment = s->segment, .offset = offset, .len_bytes = JOURNAL_RECORD_HEADER_BYTES};
	if (r != NULL)
		frame_record_encode(&s->segment, offset, r, (struct frame_record_le *)m->bytes);
	*ret = m;
	return 0;
}

static uint32_t index_at(const struct scan *s)
{
	return (uint32_t)(s->at.record_no - s->segment.first_record_no);
}

/* What is mended is the journal's own, in s->segment. */
static void count_own(struct scan *s)
{
	s->n_mended++;
	s->mended_segment = s->segment.offset;
}

/* A header of ours at s->at. */
static struct frame_record own_header(const struct scan *s, uint16_t type)
{
	return (struct frame_record){.session = s->session, .type = type, .index = index_at(s), .group_start = s->proven};
}

/* ---- a segment's header ---- */

int scan_mend_header(struct scan *s)
{
	struct frame_record r;
	struct scan_mend *m;

	s->at.offset = FRAME_BLOCK_BYTES;
	int rc = scan_need(s, s->at.offset, JOURNAL_RECORD_HEADER_BYTES);
	if (rc < 0)
		return rc;
	if (frame_record_decode(&s->segment, s->at.offset, s->o->segment_bytes, scan_in_window(s, s->at.offset), &r) == FRAME_VALID)
		s->session = r.session;
	s->segment.session = s->session;
	rc = add_mend(s, 0, NULL, &m);
	count_own(s);
	return rc < 0 ? rc : JOURNAL_VALID;
}

/* ---- what the journal itself has written ---- */

int scan_fail_next(struct scan *s)
{
	for (uint64_t i = 0; i < s->n_mends; i++)
		if (s->mends[i].names_next && s->mends[i].segment.offset == s->segment.offset)
			s->at.offset = s->mends[i].offset;
	return quire_fail(s->err, -EBADMSG, "%s: the log segment at %llu, offset %u, is damaged where it names the next one, which has no header",
	                  s->o->device->name, (unsigned long long)s->segment.offset, s->at.offset);
}

/* first: whose session and flags it has. */
static int mend_next(struct scan *s, uint32_t bytes, const struct frame_record *first)
{
	struct frame_record r = own_header(s, FRAME_NEXT);
	uint8_t payload[FRAME_NEXT_BLOCK_PAYLOAD] = {0};
	struct scan_mend *m;

	if (s->next_known || bytes != frame_next_bytes(s->o) || s->single)
		return JOURNAL_CORRUPT;
	int rc = scan_choose_next(s);
	if (rc != JOURNAL_VALID)
		return rc;
	r.session = first->session;
	r.flags = first->flags;
	r.len_bytes = bytes - JOURNAL_RECORD_HEADER_BYTES;
	frame_next_encode(&s->next, (struct frame_next_le *)payload);
	r.payload_crc = crc32c(0, payload, r.len_bytes);
	rc = add_mend(s, s->at.offset, &r, &m);
	if (rc < 0)
		return rc;
	memcpy(m->bytes + JOURNAL_RECORD_HEADER_BYTES, payload, sizeof(struct frame_next_le));
	m->len_bytes = FRAME_NEXT_BYTES;
	m->n_zeros = bytes - FRAME_NEXT_BYTES;
	m->names_next = s->next.salt == 0;
	count_own(s);
	s->next_known = true;
	s->next_header_is = SCAN_NOT_ASKED;
	s->session = r.session;
	s->at.offset += bytes;
	s->n_bytes += bytes;
	return JOURNAL_VALID;
}

static int mend_link(struct scan *s, uint32_t offset)
{
	struct frame_record r = own_header(s, FRAME_LINK);
	struct scan_mend *m;

	r.index += s->n_lost;
	int rc = add_mend(s, offset, &r, &m);
	count_own(s);
	return rc < 0 ? rc : JOURNAL_VALID;
}

/* Goes over the LINK that is made again. */
static int follow_link(struct scan *s)
{
	s->link_lost = false;
	s->at.offset += FRAME_LINK_BYTES;
	s->n_bytes += FRAME_LINK_BYTES;
	return scan_take_own(s, FRAME_LINK, NULL);
}

/* ---- records ---- */

/* n of them, between s->at and end; the first as `first`. */
static int lose(struct scan *s, uint32_t n, uint32_t end, struct frame_record first)
{
	const struct journal_place at = s->at;
	const uint8_t *payload = NULL;
	struct frame_record last = first;
	struct scan_mend *m = NULL;

	first.type = last.type = s->o->lost_type;
	first.len_bytes = first.payload_crc = last.payload_crc = 0;
	last.index += n - 1;
	last.flags = n == 1 ? first.flags : 0;
	s->at.offset += (n - 1) * JOURNAL_RECORD_HEADER_BYTES;
	last.len_bytes = end - s->at.offset - JOURNAL_RECORD_HEADER_BYTES;
	int rc = last.len_bytes > 0 ? scan_payload(s, last.len_bytes, &payload) : 0;
	if (rc == 0 && last.len_bytes > 0)
		last.payload_crc = crc32c(0, payload, last.len_bytes);
	if (rc == 0)
		rc = add_mend(s, s->at.offset, &last, &m);
	s->at = at;
	if (rc < 0)
		return rc;
	m->offset = at.offset;
	m->n_empty = n - 1;
	m->empty = first;
	s->n_lost = n;
	s->lost_end = end;
	s->session = first.session;
	return JOURNAL_VALID;
}

int scan_give_lost(struct scan *s, struct scan_record *ret)
{
	if (s->n_lost == 0)
		return follow_link(s);
	uint32_t next = s->n_lost > 1 ? s->at.offset + JOURNAL_RECORD_HEADER_BYTES : s->lost_end;

	*ret = (struct scan_record){.at = s->at, .type = s->o->lost_type, .len_bytes = next - s->at.offset - JOURNAL_RECORD_HEADER_BYTES};
	ret->at.damaged = true;
	s->n_bytes += next - s->at.offset;
	s->at.offset = next;
	s->at.record_no++;
	s->n_records++;
	s->n_lost--;
	return JOURNAL_VALID;
}

/* n records of a log of whole blocks; their owner is told. r: the header of one; type 0: of all that is there. */
static int give_damaged(struct scan *s, const struct frame_record *r, uint32_t n, struct scan_record *ret)
{
	const uint8_t *payload;
	int rc = scan_payload(s, (uint32_t)(frame_bytes(r->len_bytes) - JOURNAL_RECORD_HEADER_BYTES), &payload);

	if (rc < 0)
		return rc;
	*ret = (struct scan_record){.at = s->at, .type = r->type, .len_bytes = r->len_bytes, .payload = payload};
	ret->at.damaged = true;
	ret->at.n_more = n - 1;
	s->session = r->session;
	s->proven = r->group_start;
	s->n_bytes += frame_bytes(r->len_bytes);
	s->at.offset += (uint32_t)frame_bytes(r->len_bytes);
	s->at.record_no += n;
	s->n_records += n;
	return JOURNAL_VALID;
}

/* ---- where it goes on ---- */

/* Is that header, which is behind damage, one of the chain? 1; 0: it may be what a torn group has left; or a negative errno. */
static int is_of_chain(struct scan *s, uint32_t at, const struct frame_record *r)
{
	struct frame_segment next;

	if (at < s->group_proof || r->group_start == at)
		return 1;
	int rc = scan_next_header(s, &next);
	return rc == 1 ? next.session == r->session : rc;
}

/* The header of a record at that place of s->segment. 1; 0: there is none; or a negative errno. */
static int header_at(struct scan *s, uint32_t at, struct frame_record *ret)
{
	int rc = scan_need(s, at, JOURNAL_RECORD_HEADER_BYTES);

	return rc < 0 ? rc : frame_record_decode(&s->segment, at, s->o->segment_bytes, scan_in_window(s, at), ret) == FRAME_VALID;
}

/* The first header behind s->at that is one of the chain. 1; 0: there is none, or nobody knows. */
static int find_record(struct scan *s, uint32_t *ret_offset, struct frame_record *ret)
{
	uint32_t step = s->o->whole_blocks ? FRAME_BLOCK_BYTES : FRAME_ALIGN;
	int rc = 0;

	for (uint32_t at = s->at.offset + step; rc == 0 && at + JOURNAL_RECORD_HEADER_BYTES <= s->o->segment_bytes; at += step) {
		rc = header_at(s, at, ret);
		if (rc != 1)
			continue;
		uint32_t n_between = ret->index - index_at(s);
		bool fits = ret->index >= index_at(s) && n_between <= (at - s->at.offset) / JOURNAL_RECORD_HEADER_BYTES;
		rc = fits ? is_of_chain(s, at, ret) : 0;
		*ret_offset = at;
	}
	return rc;
}

/* Nothing is left of the segment's end. The next one's header says with which record that begins. A NEXT that is gone as well is made again behind
 * what is lost: s->at comes there. */
static int lose_end(struct scan *s)
{
	uint32_t own_bytes = FRAME_LINK_BYTES + (s->next_known ? 0 : frame_next_bytes(s->o));
	struct frame_segment found;
	int rc = s->single ? 0 : scan_next_header(s, &found);

	if (rc <= 0)
		return rc < 0 ? rc : JOURNAL_CORRUPT;
	uint64_t n = found.first_record_no - s->at.record_no, bytes = n * JOURNAL_RECORD_HEADER_BYTES;
	if (found.first_record_no < s->at.record_no || (n > 0 && s->o->lost_type == 0) ||
	    n > s->o->segment_bytes / JOURNAL_RECORD_HEADER_BYTES || s->at.offset + bytes + own_bytes > s->o->segment_bytes)
		return JOURNAL_CORRUPT;
	const struct frame_record own = own_header(s, 0);
	if (n == 0 && !s->next_known)
		return mend_next(s, frame_next_bytes(s->o), &own);
	rc = JOURNAL_VALID;
	if (n > 0)
		rc = lose(s, (uint32_t)n, s->at.offset + (uint32_t)bytes, own);
	if (rc != JOURNAL_VALID || !s->next_known)
		return rc;
	rc = mend_link(s, s->at.offset + (uint32_t)bytes);
	s->link_lost = rc == JOURNAL_VALID;
	return rc;
}

/* Where in the segment, from `from` on, a NEXT stands, or what is left of one: as much room as it takes, between two records that follow each other.
 * `index`: of the record at `from`. 1, 0, or a negative errno. */
static int look_for_next(struct scan *s, uint32_t from, uint32_t index, uint32_t *ret)
{
	uint32_t end = from; /* of the last one that is whole */
	struct frame_record r;
	int rc = 0;

	for (uint32_t at = from; at + JOURNAL_RECORD_HEADER_BYTES <= s->o->segment_bytes; at += FRAME_ALIGN) {
		rc = header_at(s, at, &r);
		rc = rc == 1 && r.index >= index ? is_of_chain(s, at, &r) : rc < 0 ? rc : 0;
		if (rc < 0)
			return rc;
		if (rc == 0)
			continue;
		*ret = r.type == FRAME_NEXT ? at : end;
		if (r.type == FRAME_NEXT || (r.index == index && at - end == frame_next_bytes(s->o)))
			return 1;
		index = r.index + (r.type >= FRAME_FIRST_FOREIGN_TYPE);
		end = at + (uint32_t)frame_bytes(r.len_bytes);
		at = end - FRAME_ALIGN;
	}
	return 0;
}

/* The same, of a segment that is asked of once: what stands there is found in one pass, however many places are damaged. */
static int has_next_behind(struct scan *s, uint32_t from, uint32_t index)
{
	if (s->next_behind_is == SCAN_NOT_ASKED) {
		int rc = look_for_next(s, from, index, &s->next_behind);
		if (rc < 0)
			return rc;
		s->next_behind_is = rc == 1 ? SCAN_IS_THERE : SCAN_IS_NOT;
	}
	return s->next_behind_is == SCAN_IS_THERE && from <= s->next_behind;
}

/* Is the NEXT among n records that are lost up to `end`, and is there room for it before theirs? 1, 0, or a negative errno. */
static int next_is_lost(struct scan *s, uint32_t n, uint32_t end)
{
	struct frame_segment found;
	uint64_t bytes = (uint64_t)n * JOURNAL_RECORD_HEADER_BYTES + frame_next_bytes(s->o);

	if (s->next_known || bytes > end - s->at.offset)
		return 0;
	int rc = scan_next_header(s, &found);
	if (rc <= 0)
		return rc;
	rc = has_next_behind(s, end, index_at(s) + n);
	return rc < 0 ? rc : rc == 0;
}

/* Without a header: up to the next one. */
static int lose_up_to(struct scan *s, uint32_t end, const struct frame_record *behind, struct scan_record *ret)
{
	uint32_t n = behind->index - index_at(s), bytes = end - s->at.offset;
	struct frame_record first = own_header(s, 0);

	/* What is lost may have been the first of the session. */
	if (behind->session != s->session && (behind->flags & FRAME_FLAG_FIRST) == 0) {
		first.session = behind->session;
		first.flags = FRAME_FLAG_FIRST;
	}
	if (n == 0)
		return mend_next(s, bytes, &first);
	if (s->o->lost_type != 0) {
		int rc = next_is_lost(s, n, end);
		return rc < 0 ? rc : rc == 1 ? mend_next(s, frame_next_bytes(s->o), &first) : lose(s, n, end, first);
	}
	first.len_bytes = bytes - JOURNAL_RECORD_HEADER_BYTES;
	/* A NEXT that is gone as well is somewhere among them. */
	bool has_next = behind->type == FRAME_LINK && !s->next_known;
	return has_next || n > bytes / FRAME_BLOCK_BYTES ? JOURNAL_CORRUPT : give_damaged(s, &first, n, ret);
}

/* With the header of what is at s->at, if there is one. */
static int lose_here(struct scan *s, const struct frame_record *r, struct scan_record *ret)
{
	uint32_t bytes = (uint32_t)frame_bytes(r->len_bytes);

	if (r->type == FRAME_NEXT)
		return mend_next(s, bytes, r);
	if (r->type < FRAME_FIRST_FOREIGN_TYPE)
		return JOURNAL_CORRUPT;
	return s->o->lost_type != 0 ? lose(s, 1, s->at.offset + bytes, *r) : give_damaged(s, r, 1, ret);
}

int scan_salvage(struct scan *s, struct scan_record *ret)
{
	struct frame_record r;
	uint32_t end = 0;

	if (s->at.offset == 0)
		return scan_mend_header(s);
	int rc = s->at.offset + JOURNAL_RECORD_HEADER_BYTES <= s->o->segment_bytes ? scan_need(s, s->at.offset, JOURNAL_RECORD_HEADER_BYTES)
	                                                                          : -EBADMSG;
	if (rc < 0)
		return rc;
	if (frame_record_decode(&s->segment, s->at.offset, s->o->segment_bytes, scan_in_window(s, s->at.offset), &r) == FRAME_VALID &&
	    (r.session == s->session || (r.flags & FRAME_FLAG_FIRST) != 0) && r.index == index_at(s))
		return lose_here(s, &r, ret);
	rc = find_record(s, &end, &r);
	return rc == 1 ? lose_up_to(s, end, &r, ret) : rc == 0 ? lose_end(s) : rc;
}
