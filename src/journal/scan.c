/* scan.c - the chain of records as it is on the medium, and what it means where it ends.
 *
 * The chain. A record belongs to it if its header is valid at its place (frame.h), its number is the
 * next one, its payload's checksum holds, and it is of the same session as the record before it, or the first of
 * its session. A session is what one opening of the log for writing appends. So a group that was torn in an
 * earlier session, of which whole records may still lie beyond the place where the next session went on,
 * can never be reached: the records written over its beginning are of another session, and a session's
 * first record stands only where recovery ended. Nor can it come back to life by the new session's first write being
 * torn in its turn, which might bring just what was missing if the records are alike: recovery clears
 * the place where it ended before anything is appended. If recovery ended at a missing header, the records of the torn
 * group may be whole behind it, and a header would make them valid: so the new session writes its
 * own, durably, before anything else.
 *
 * What an end means. Let P be the first place without a record of the chain, in a segment of which we know the salt.
 *   1. Every record says up to where the log was durable when it was submitted (group_start). So a
 *      valid header of this life, anywhere behind P, whose group_start lies beyond P, proves that
 *      what is missing at P was durable: CORRUPT.
 *   2. The next segment is written to only when all of this one is durable. It is named by a NEXT record
 *      that stands before P (a LINK is submitted only when the NEXT is durable, so a NEXT that is
 *      damaged falls under 1, while that LINK or another record that was submitted later is whole). If anything of the next
 *      segment's life is in it: CORRUPT. The same if the owner knows a segment whose header says that it comes later, whatever has become of
 *      NEXT and LINK.
 *   3. A header that is missing behind a LINK: the header travels with the segment's first group, which says
 *      group_start 0, later ones more. So 1 holds for it with P = 0.
 *   4. Otherwise nothing shows that it was ever acknowledged, and what lies at the place gives the name:
 *      NEVER, STALE or TORN.
 *
 * No legal cut makes CORRUPT. Where a session goes on, everything before is durable (recovery sees to it), so
 * durable ends only grow, and the chain's end after a cut is never before the last of them. Every
 * group_start ever written into the segment, by whatever session, is such a durable end: not beyond P.
 *
 * What is CORRUPT ends the chain as well, unless its owner can live with damage: see salvage.c.
 *
 * No damage of what was acknowledged passes for an end, unless it takes everything that was written after
 * it as well: the last group of all leaves no witness, and is TORN. What was written after it is found as long as a NEXT leads there, or the owner knows
 * the segments and one header of them is whole.
 *
 * Bounded: each segment is read once, in windows of at most 1 MiB, or into its owner's memory, as much again as was of
 * use so far, at most 4 MiB, on its way while the last quarter of that is looked at (of mapped memory, 256 KiB at a time); at the end the rest of the last one is looked through and at most one more; if the first has no header, the one before it is read; memory is taken for a payload only when its header was valid, at most a segment. A chain can't
 * loop, since segment numbers grow by one. Beside a writer a window may be older than what is read
 * next: before a place is called CORRUPT it is read again.
 */
#include "scan.h"

#include "../base/canary.h"
#include "../base/crc32c.h"
#include "../base/fail.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_MAX_BYTES (1u << 20)

/* ---- the list of segments ---- */

int segment_list_reserve(struct segment_list *list, uint64_t n_more)
{
	if (list->n + n_more <= list->capacity)
		return 0;
	uint64_t capacity = 2 * (list->n + n_more);
	uint64_t *grown = reallocarray(list->offsets, capacity, sizeof(*grown));
	if (grown == NULL)
		return -ENOMEM;
	list->offsets = grown;
	list->capacity = capacity;
	return 0;
}

int segment_list_add(struct segment_list *list, uint64_t offset)
{
	int rc = segment_list_reserve(list, 1);
	if (rc == 0)
		list->offsets[list->n++] = offset;
	return rc;
}

void segment_list_fini(struct segment_list *list)
{
	free(list->offsets);
	*list = (struct segment_list){0};
}

/* ---- reading ---- */

int scan_check_options(const struct journal_options *o, uint64_t segment, struct quire_error *err)
{
	bool power_of_two = (o->segment_bytes & (o->segment_bytes - 1)) == 0;

	if (o->device == NULL)
		return quire_fail(err, -EINVAL, "log: no device");
	if (!power_of_two || o->segment_bytes < FRAME_MIN_SEGMENT_BYTES || o->segment_bytes > FRAME_MAX_SEGMENT_BYTES)
		return quire_fail(err, -EINVAL, "%s: log segments of %u bytes", o->device->name, o->segment_bytes);
	if (!frame_offset_fits(o, segment))
		return quire_fail(err, -EINVAL, "%s: no place for a log segment at %llu", o->device->name,
		                  (unsigned long long)segment);
	return 0;
}

/* ---- evidence ---- */

/* Looks through `segment` from offset on. */
static int look(struct scan *s, const struct frame_segment *segment, uint32_t offset, struct frame_sighting *sighting)
{
	uint32_t end = s->o->segment_bytes;

	while (offset + JOURNAL_RECORD_HEADER_BYTES <= end) {
		int rc = scan_read_window(s, segment->offset, offset, NULL);
		if (rc < 0)
			return rc;
		uint32_t window_end = s->window_offset + s->window_len;
		frame_look(segment, s->session, end, scan_in_window(s, offset), offset, window_end - offset, sighting);
		if (window_end == end)
			break;
		/* A header may lie across the windows' border. */
		offset = window_end - JOURNAL_RECORD_HEADER_BYTES + FRAME_ALIGN;
	}
	s->window_len = 0; /* it is perhaps another segment's */
	return 0;
}

int scan_peek_header(struct scan *s, uint64_t segment, struct frame_segment *ret)
{
	int rc = scan_read_header(s, segment);

	return rc < 0 ? rc : frame_segment_decode(s->o, segment, (const void *)s->window, ret, NULL) == 0;
}

int scan_next_was_begun(struct scan *s)
{
	struct frame_segment found;
	struct frame_sighting sighting = {0};
	int rc = scan_peek_header(s, s->next.offset, &found);

	if (rc < 0 || (rc == 1 && found.salt == s->next.salt && found.key == s->next.key))
		return rc;
	rc = look(s, &s->next, FRAME_BLOCK_BYTES, &sighting);
	return rc < 0 ? rc : sighting.any;
}

/* The chain ends at s->at, where `named` was found: what is it? */
static int judge(struct scan *s, enum journal_outcome named)
{
	struct frame_sighting sighting = {0};
	uint32_t from = s->at.offset == 0 ? FRAME_BLOCK_BYTES : s->at.offset + FRAME_ALIGN;

	/* Once is enough, however many places are damaged. */
	if (s->at.offset < s->proof_end)
		return JOURNAL_CORRUPT;
	int rc = look(s, &s->segment, from, &sighting);
	if (rc == 0 && sighting.max_group_start <= s->at.offset && s->next_known)
		rc = scan_next_was_begun(s);
	if (rc == 0 && sighting.max_group_start <= s->at.offset)
		rc = scan_later_is_known(s);
	if (rc < 0)
		return rc;
	s->group_proof = sighting.max_group_start;
	s->proof_end = rc == 1 ? UINT32_MAX : sighting.max_group_start;
	if (s->at.offset < s->proof_end)
		return JOURNAL_CORRUPT;
	return sighting.of_session && (named == JOURNAL_NEVER || named == JOURNAL_STALE) ? JOURNAL_TORN : named;
}

/* ---- the chain ---- */

/* What stands at s->at, with its payload read and checked. An outcome, or a negative errno. */
static int examine(struct scan *s, struct frame_record *ret, const uint8_t **ret_payload)
{
	if (s->at.offset + JOURNAL_RECORD_HEADER_BYTES > s->o->segment_bytes)
		return JOURNAL_TORN;
	int rc = scan_need(s, s->at.offset, JOURNAL_RECORD_HEADER_BYTES);
	if (rc < 0)
		return rc;
	switch (frame_record_decode(&s->segment, s->at.offset, s->o->segment_bytes, scan_in_window(s, s->at.offset), ret)) {
	case FRAME_ZERO:
		return JOURNAL_NEVER;
	case FRAME_FOREIGN:
		return JOURNAL_STALE;
	case FRAME_BAD:
		return JOURNAL_TORN;
	case FRAME_VALID:
		break;
	}
	if (ret->session != s->session && !(ret->flags & FRAME_FLAG_FIRST))
		return JOURNAL_STALE;
	if (ret->index != s->at.record_no - s->segment.first_record_no)
		return JOURNAL_TORN;

	uint32_t padded = (uint32_t)(frame_bytes(ret->len_bytes) - JOURNAL_RECORD_HEADER_BYTES);
	rc = scan_payload(s, padded, ret_payload);
	if (rc < 0)
		return rc;
	return crc32c(0, *ret_payload, padded) == ret->payload_crc || CANARY(torn_payload_accepted) ? JOURNAL_VALID : JOURNAL_TORN;
}

/* Is what the window holds the header of s->segment? */
static bool take_header(struct scan *s)
{
	struct frame_segment found;

	if (frame_segment_decode(s->o, s->segment.offset, (const void *)s->window, &found, NULL) < 0)
		return false;
	s->segment.session = found.session;
	if (!frame_segment_same(&found, &s->segment))
		return false;
	s->session = found.session;
	s->at.offset = FRAME_BLOCK_BYTES;
	return true;
}

/* The header of s->next, which a LINK led to. JOURNAL_VALID: we are in it now. */
static int enter_next(struct scan *s)
{
	struct frame_segment want = s->next;
	const struct frame_segment_le *block = (const void *)s->window;
	static const struct frame_segment_le zeros;

	want.first_record_no = s->at.record_no;
	int rc = segment_list_add(&s->segments, want.offset);
	if (rc < 0)
		return rc;
	s->before.segment = s->segment.offset;
	s->before.proven = s->proven;
	s->before.end = s->at.offset;
	s->segment = want;
	s->proven = s->proof_end = s->group_proof = 0;
	s->next_known = false;
	s->next_header_is = s->next_behind_is = SCAN_NOT_ASKED;
	scan_known_entered(s, want.offset);
	s->at = (struct journal_place){.segment = want.offset, .segment_no = want.no, .record_no = s->at.record_no};
	rc = scan_read_window(s, want.offset, 0, scan_kept_memory(s, want.offset));
	if (rc < 0)
		return rc;
	if (take_header(s))
		return JOURNAL_VALID;
	if (memcmp(block, &zeros, sizeof(zeros)) == 0)
		return JOURNAL_NEVER;
	return block->salt == htole32(want.salt) ? JOURNAL_TORN : JOURNAL_STALE;
}

bool scan_is_in_chain(const struct scan *s, uint64_t segment)
{
	for (uint64_t i = 0; i < s->segments.n; i++)
		if (s->segments.offsets[i] == segment)
			return true;
	return false;
}

int scan_take_own(struct scan *s, uint16_t type, const void *payload)
{
	/* What it says is of another device, and for who asks alone. */
	if (type == FRAME_NEXT && s->o->elsewhere) {
		(void)frame_next_decode(s->o, payload, &s->named);
		return JOURNAL_VALID;
	}
	if (type == FRAME_NEXT) {
		int rc = s->next_known ? -EUCLEAN : frame_next_decode(s->o, payload, &s->next);
		if (rc == 0 && (s->next.no != s->segment.no + 1 || scan_is_in_chain(s, s->next.offset)))
			rc = -EUCLEAN;
		if (rc < 0)
			return quire_fail(s->err, rc, "%s: the log segment at %llu names an impossible next one",
			                  s->o->device->name, (unsigned long long)s->segment.offset);
		s->next_known = true;
		s->next_header_is = SCAN_NOT_ASKED;
		return JOURNAL_VALID;
	}
	s->linked = true;
	if (s->single)
		return JOURNAL_VALID;
	/* Without a salt nobody can tell what is there. */
	if (s->next_known && s->next.salt == 0)
		return scan_fail_next(s);
	if (!s->next_known)
		return quire_fail(s->err, -EUCLEAN, "%s: the log segment at %llu ends and names no next one",
		                  s->o->device->name, (unsigned long long)s->segment.offset);
	s->linked = false;
	return enter_next(s);
}

/* One step: VALID with ret->type 0 for the journal's own. */
static int step(struct scan *s, struct scan_record *ret)
{
	struct frame_record r;
	const uint8_t *payload = NULL;
	int rc = examine(s, &r, &payload);

	if (rc != JOURNAL_VALID)
		return rc;
	*ret = (struct scan_record){.at = s->at, .type = r.type, .len_bytes = r.len_bytes, .payload = payload};
	s->session = r.session;
	s->proven = r.group_start;
	s->n_bytes += frame_bytes(r.len_bytes);
	s->at.offset += (uint32_t)frame_bytes(r.len_bytes);
	if (r.type < FRAME_FIRST_FOREIGN_TYPE) {
		ret->type = 0;
		return scan_take_own(s, r.type, payload);
	}
	s->at.record_no++;
	s->n_records++;
	return JOURNAL_VALID;
}

/* A place was called CORRUPT. Beside a writer it may have been read before what proves so was: looks anew. */
static int step_again(struct scan *s, struct scan_record *ret)
{
	if (s->at.offset != 0) {
		int rc = step(s, ret);
		return rc > JOURNAL_VALID ? JOURNAL_CORRUPT : rc;
	}
	int rc = scan_read_window(s, s->segment.offset, 0, scan_kept_memory(s, s->segment.offset));
	if (rc < 0)
		return rc;
	return take_header(s) ? JOURNAL_VALID : JOURNAL_CORRUPT;
}

/* The next record, the journal's own left out: JOURNAL_VALID. Another outcome: the end, at s->at. A negative
 * errno: reading failed. At the end of a single segment that is full: JOURNAL_VALID with s->linked. */
static int scan_next(struct scan *s, struct scan_record *ret)
{
	int rc = JOURNAL_VALID;

	ret->type = 0;
	ret->at.damaged = false;
	while (rc == JOURNAL_VALID && ret->type == 0 && !ret->at.damaged && !s->linked) {
		rc = s->n_lost > 0 || s->link_lost ? scan_give_lost(s, ret) : step(s, ret);
		if (rc > JOURNAL_VALID)
			rc = judge(s, (enum journal_outcome)rc);
		if (rc == JOURNAL_CORRUPT)
			rc = step_again(s, ret);
		if (rc == JOURNAL_CORRUPT && (s->o->damaged_too || s->o->lost_type != 0))
			rc = scan_salvage(s, ret);
	}
	return rc;
}

/* ---- the first segment ---- */

/* What that segment says of the one behind it. 1; 0: it can't be read; or a negative errno. */
static int ask_before(const struct journal_before *b, struct frame_segment *ret)
{
	struct scan x;
	int rc = scan_init(&x, b->o, b->segment, true, NULL);

	if (rc == 0)
		rc = scan_all(&x, UINT64_MAX, NULL, NULL);
	*ret = x.named;
	ret->first_record_no = b->end_no;
	ret->session = x.session;
	scan_fini(&x);
	if (rc == -ENOMEM || rc == -EIO)
		return rc;
	return ret->salt != 0 && ret->no == b->segment_no + 1;
}

/* Its header is damaged: as if a LINK had led to it. That there was one, what stands behind it must prove: a torn group may have stood there when
 * a session began that wrote nothing but a header. */
static int begin_without_header(struct scan *s, int error)
{
	const struct journal_options *o = s->o;
	uint64_t segment = s->at.segment;

	if (o->before == NULL || o->lost_type == 0 || !frame_segment_is_damaged((const void *)s->window))
		return error;
	int rc = ask_before(o->before, &s->segment);
	if (rc < 0)
		return quire_fail(s->err, rc, "%s: the log segment before that at %llu", o->device->name, (unsigned long long)segment);
	if (rc == 0 || s->segment.offset != segment)
		return error;
	s->first = s->segment;
	s->session = s->segment.session;
	s->at = (struct journal_place){.segment = segment, .segment_no = s->segment.no, .record_no = s->segment.first_record_no};
	rc = segment_list_add(&s->segments, segment);
	if (rc == 0)
		rc = judge(s, JOURNAL_TORN);
	if (rc == JOURNAL_CORRUPT)
		rc = scan_mend_header(s);
	else if (rc >= 0)
		rc = error; /* and what was said of it stands */
	s->first = s->segment;
	return rc;
}

/* ---- whole logs ---- */

int scan_init(struct scan *s, const struct journal_options *o, uint64_t segment, bool single,
              struct quire_error *err)
{
	*s = (struct scan){.o = o, .err = err, .single = single};
	int rc = scan_check_options(o, segment, err);
	if (rc < 0)
		return rc;
	s->window_capacity = o->segment_bytes < WINDOW_MAX_BYTES ? o->segment_bytes : WINDOW_MAX_BYTES;
	s->own_window = aligned_alloc(FRAME_BLOCK_BYTES, s->window_capacity);
	if (s->own_window == NULL)
		return quire_fail(err, -ENOMEM, "%s: reading a log", o->device->name);
	s->at.segment = segment;
	rc = scan_read_window(s, segment, 0, scan_kept_memory(s, segment));
	if (rc == 0)
		rc = frame_segment_decode(o, segment, (const void *)s->window, &s->segment, err);
	if (rc == -EBADMSG || rc == -EUCLEAN)
		return begin_without_header(s, rc);
	if (rc < 0)
		return rc;
	s->first = s->segment;
	s->session = s->segment.session;
	s->proven = FRAME_BLOCK_BYTES; /* a log is nobody's before it was created */
	s->at = (struct journal_place){.segment = segment, .segment_no = s->segment.no,
	                               .offset = FRAME_BLOCK_BYTES, .record_no = s->segment.first_record_no};
	return segment_list_add(&s->segments, segment);
}

void scan_fini(struct scan *s)
{
	scan_drop_ahead(s);
	free(s->own_window);
	free(s->big);
	free(s->mends);
	free(s->known);
	segment_list_fini(&s->segments);
}

int scan_all(struct scan *s, uint64_t end_no, journal_record_fn fn, void *arg)
{
	struct scan_record r;
	int rc = JOURNAL_VALID;

	while (s->at.record_no < end_no) {
		rc = scan_next(s, &r);
		if (rc != JOURNAL_VALID || s->linked)
			break;
		rc = fn != NULL ? fn(arg, &r.at, r.type, r.payload, r.len_bytes) : 0;
		if (CANARY(record_replayed_twice) && rc == 0 && fn != NULL && r.at.record_no % 16 == 15)
			rc = fn(arg, &r.at, r.type, r.payload, r.len_bytes);
		if (rc < 0)
			return rc;
		rc = JOURNAL_VALID;
	}
	if (rc == JOURNAL_CORRUPT)
		return quire_fail(s->err, -EBADMSG, "%s: record %llu of a log, in its segment at %llu, offset %u",
		                  s->o->device->name, (unsigned long long)s->at.record_no,
		                  (unsigned long long)s->at.segment, s->at.offset);
	return rc;
}

void scan_report(const struct scan *s, int outcome, struct journal_recovery *ret)
{
	if (ret == NULL)
		return;
	*ret = (struct journal_recovery){
		.end = outcome == -EBADMSG ? JOURNAL_CORRUPT : (enum journal_outcome)(outcome < 0 ? JOURNAL_VALID : outcome),
		.at = s->at,
		.n_records = s->n_records,
		.n_segments = s->segments.n,
		.n_bytes = s->n_bytes,
		.n_mended = s->n_mended,
		.mended_segment = s->mended_segment,
	};
}
