/* redo.c - records behind the last checkpoint are done again, in order; of those that are damaged, what can be told of them.
 *
 * A damaged block is one of these (head.c says what is known of each):
 *   data     the head says which: it is noted, so that reading it is an error, and nothing else is
 *   a head   what it said is in the next record's. Until that has come it is lost; if there is none, or that has no room for it, or
 *            is damaged as well, nobody knows what was written, and the group is not opened (-EBADMSG)
 *   pages    nothing refers to them
 * What is noted stays with the segment's image, and goes with it into the checksums when it is sealed; of a segment that is sealed, its
 * checksums know already.
 */
#include "redo.h"

#include "../base/crc32c.h"
#include "../base/fail.h"
#include "../journal/frame.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- whole ones ---- */

static int apply(struct quire_volumes *g, uint16_t type, const uint8_t *head, uint64_t place)
{
	if (type == VOLUME_TABLE)
		return table_apply(g, (const struct table_le *)head, VOLUME_HEAD_BYTES);
	if (type == VOLUME_DATA)
		return group_apply_data(g, head, place + 1);
	return type == VOLUME_PAGES ? 0 : -EUCLEAN;
}

/* The segment that a record is in; bound, if it is the first that is heard of it. */
static int come_to(struct quire_volumes *g, const struct journal_place *at, uint32_t len_bytes)
{
	struct segment *seg = segment_find(g, at->segment_no);

	if (seg == NULL) {
		seg = segment_young_at(g, at->segment);
		if (seg == NULL || (seg->is_listed && seg->node.id != at->segment_no))
			return -EUCLEAN;
		int rc = segment_bind(g, seg, at->segment_no);
		if (rc < 0)
			return rc;
	}
	g->at = seg;
	g->at_offset = at->offset + JOURNAL_RECORD_HEADER_BYTES + len_bytes;
	g->next_no = at->record_no + 1;
	return 0;
}

/* ---- damaged ones ---- */

/* Blocks of which some are not what the head says, by their checksums. */
static int note_blocks(struct quire_volumes *g, const struct journal_place *at, uint16_t type, const uint8_t *head, const uint32_t *found,
                       uint32_t n_found)
{
	struct segment *seg = segment_find(g, at->segment_no);
	const uint8_t *sums = NULL;
	uint32_t n = head_sums(type, head, &sums), want;
	int rc = 0;

	if (type == VOLUME_DATA && n != n_found)
		return -EBADMSG;
	for (uint32_t i = 0; rc == 0 && i < n; i++) {
		memcpy(&want, sums + i * sizeof(want), sizeof(want));
		if (le32toh(want) != found[i] && seg->image != NULL)
			rc = segment_note_damage(g, seg, at->offset / MAP_BLOCK_BYTES + 1 + i);
	}
	return rc;
}

/* Its blocks' checksums as they are; owned by the caller. */
static uint32_t *sums_of(const uint8_t *blocks, uint32_t n)
{
	uint32_t *sums = malloc((n + 1) * sizeof(sums[0]));

	for (uint32_t i = 0; sums != NULL && i < n; i++)
		sums[i] = crc32c(0, blocks + (size_t)i * MAP_BLOCK_BYTES, MAP_BLOCK_BYTES);
	return sums;
}

/* Without a head: it waits for the next record. What seals the segment walks over headers, so this one gets one in memory. */
static int lose(struct redo *r, const struct journal_place *at, const uint8_t *payload, uint32_t len_bytes)
{
	struct quire_volumes *g = r->g;
	struct segment *seg = segment_find(g, at->segment_no);
	const struct frame_record_le le = {.len_bytes = htole32(len_bytes), .type = htole16(VOLUME_PAGES)};

	if (r->lost_sums != NULL)
		return -EBADMSG; /* two, one after the other */
	r->n_lost = (len_bytes - VOLUME_HEAD_BYTES) / MAP_BLOCK_BYTES;
	r->lost = *at;
	r->lost_sums = sums_of(payload + VOLUME_HEAD_BYTES, r->n_lost);
	if (r->lost_sums == NULL)
		return -ENOMEM;
	if (seg->image == NULL)
		return 0;
	memcpy(seg->image->bytes + at->offset, &le, sizeof(le));
	return segment_note_damage(g, seg, at->offset / MAP_BLOCK_BYTES);
}

/* What was lost is in this head. */
static int find_lost(struct redo *r, const uint8_t *head)
{
	struct quire_volumes *g = r->g;
	_Alignas(8) uint8_t before[VOLUME_HEAD_BYTES];
	uint16_t type;

	if (r->lost_sums == NULL)
		return 0;
	int rc = head_is_whole(head) && head_read_before(head, &type, before) == 0 ? 0 : -EBADMSG;
	bool is_old = r->lost.segment_no == g->from_no && r->lost.offset < g->from_offset;
	if (rc == 0)
		rc = note_blocks(g, &r->lost, type, before, r->lost_sums, r->n_lost);
	if (rc == 0 && !is_old)
		rc = apply(g, type, before, place_of(g, r->lost.segment_no, r->lost.offset));
	redo_fini(r);
	return rc;
}

static int take_damaged(struct redo *r, const struct journal_place *at, uint16_t type, const uint8_t *payload, uint32_t len_bytes)
{
	struct quire_volumes *g = r->g;
	uint32_t n = (len_bytes - VOLUME_HEAD_BYTES) / MAP_BLOCK_BYTES;

	if (type == 0 || !head_is_whole(payload))
		return lose(r, at, payload, len_bytes);
	uint32_t *found = sums_of(payload + VOLUME_HEAD_BYTES, n);
	int rc = found == NULL ? -ENOMEM : note_blocks(g, at, type, payload, found, n);
	free(found);
	return rc;
}

/* ---- all ---- */

static int take(struct redo *r, const struct journal_place *at, uint16_t type, const uint8_t *payload, uint32_t len_bytes)
{
	struct quire_volumes *g = r->g;
	int rc = come_to(g, at, len_bytes);

	if (rc < 0)
		return rc;
	if (len_bytes < VOLUME_HEAD_BYTES || (len_bytes - VOLUME_HEAD_BYTES) % MAP_BLOCK_BYTES != 0)
		return -EUCLEAN;
	if (at->segment_no != g->from_no || at->offset >= g->from_offset)
		g->appended_bytes += JOURNAL_RECORD_HEADER_BYTES + len_bytes;
	if (at->damaged) {
		rc = take_damaged(r, at, type, payload, len_bytes);
		if (rc < 0 || (r->lost_sums != NULL && r->lost.record_no == at->record_no))
			return rc;
	}
	rc = find_lost(r, payload);
	head_remember(&g->before, type, payload);
	if (rc < 0 || (at->segment_no == g->from_no && at->offset < g->from_offset))
		return rc;
	return apply(g, type, payload, place_of(g, at->segment_no, at->offset));
}

int redo_record(void *arg, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes)
{
	struct redo *r = arg;

	group_lock(r->g);
	r->error = take(r, at, type, payload, len_bytes);
	group_unlock(r->g);
	if (r->error == -EUCLEAN)
		return quire_fail(r->err, -EUCLEAN, "volumes: the record at %llu, offset %u, is an impossible one",
		                  (unsigned long long)at->segment, at->offset);
	if (r->error == -EBADMSG)
		return redo_fail_lost(r, r->lost_sums != NULL ? &r->lost : at);
	return r->error;
}

int redo_fail_lost(struct redo *r, const struct journal_place *at)
{
	const char *what = at->offset == 0 ? "header of the segment" : "record";

	return quire_fail(r->err, -EBADMSG, "volumes: the %s at %llu, offset %u, is damaged, and what it said is nowhere else: nobody knows which blocks are new. "
	                  "Receive the volumes from a backup, into another store",
	                  what, (unsigned long long)at->segment, at->offset);
}

void redo_fini(struct redo *r)
{
	free(r->lost_sums);
	r->lost_sums = NULL;
}
