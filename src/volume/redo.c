/* redo.c - records behind the last checkpoint are done again, in order; of those that are damaged, what can be told of them.
 *
 * A damaged block is one of these (head.c says what is known of each):
 *   data     the head says which: it is noted, so that reading it is an error, and nothing else is
 *   a head   what it said is in the next one that is whole, some records later perhaps: there it is told with how many blocks, so
 *            also where each of several begins whose headers are damaged as well. Until that has come they are lost; if there is none,
 *            or that has no room for all of them, nobody knows what was written, and the group is not opened (-EBADMSG)
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
		if (seg == NULL || seg->state == SEGMENT_OPEN || (seg->is_listed && seg->node.id != at->segment_no))
			return -EUCLEAN; /* nobody's, or it has another number */
		int rc = segment_bind(g, seg, at->segment_no);
		if (rc < 0)
			return rc;
	}
	g->at = seg;
	g->at_offset = at->offset + JOURNAL_RECORD_HEADER_BYTES + len_bytes;
	g->next_no = at->record_no + 1 + at->n_more;
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

/* Checksums of the blocks behind a head, as they are; owned by the caller. */
static uint32_t *sums_of(const uint8_t *payload, uint32_t n)
{
	const uint8_t *blocks = payload + VOLUME_HEAD_BYTES;
	uint32_t *sums = malloc((n + 1) * sizeof(sums[0]));

	for (uint32_t i = 0; sums != NULL && i < n; i++)
		sums[i] = crc32c(0, blocks + (size_t)i * MAP_BLOCK_BYTES, MAP_BLOCK_BYTES);
	return sums;
}

/* Without a head: it waits for one that is whole. */
static int lose(struct redo *r, const struct journal_place *at, const uint8_t *payload, uint32_t n_behind)
{
	if (r->n_lost == r->lost_capacity) {
		unsigned capacity = 2 * r->lost_capacity + 4;
		struct redo_lost *grown = reallocarray(r->lost, capacity, sizeof(grown[0]));
		if (grown == NULL)
			return -ENOMEM;
		r->lost = grown;
		r->lost_capacity = capacity;
	}
	struct redo_lost lost = {.at = *at, .n_blocks = 1 + n_behind, .sums = sums_of(payload, n_behind)};
	if (lost.sums == NULL)
		return -ENOMEM;
	r->lost[r->n_lost++] = lost;
	r->n_records += 1 + at->n_more;
	return 0;
}

/* A head that can't be read. What seals the segment walks over headers, so this one gets one in memory. */
static int note_head(struct quire_volumes *g, const struct journal_place *at, uint32_t n_behind)
{
	const struct frame_record_le le = {.len_bytes = htole32(VOLUME_HEAD_BYTES + n_behind * MAP_BLOCK_BYTES), .type = htole16(VOLUME_PAGES)};
	struct segment *seg = segment_find(g, at->segment_no);

	if (seg->image == NULL)
		return 0;
	memcpy(seg->image->bytes + at->offset, &le, sizeof(le));
	return segment_note_damage(g, seg, at->offset / MAP_BLOCK_BYTES);
}

static bool is_old(const struct quire_volumes *g, const struct journal_place *at)
{
	return at->segment_no == g->from_no && at->offset < g->from_offset;
}

/* One of some lost ones, which begins with the block `first` of theirs; said: what its head did. */
static int find_one(struct quire_volumes *g, const struct redo_lost *lost, uint32_t first, uint16_t type, const uint8_t *said)
{
	struct journal_place at = lost->at;
	uint32_t n_behind = head_n_blocks(type, said);

	if (first >= lost->n_blocks || n_behind > lost->n_blocks - first - 1)
		return -EBADMSG;
	at.offset += first * MAP_BLOCK_BYTES;
	int rc = note_head(g, &at, n_behind);
	if (rc == 0)
		rc = note_blocks(g, &at, type, said, lost->sums + first, n_behind);
	if (rc < 0 || is_old(g, &at))
		return rc;
	return apply(g, type, said, place_of(g, at.segment_no, at.offset));
}

/* What was lost is in this head. */
static int find_lost(struct redo *r, uint16_t head_type, const uint8_t *head)
{
	_Alignas(8) uint8_t said[VOLUME_HEAD_BYTES];
	unsigned n_back = r->n_records;
	uint16_t type;
	int rc = r->n_lost == 0 || head_is_whole(head) ? 0 : -EBADMSG;

	for (unsigned i = 0; i < r->n_lost && rc == 0; i++) {
		const struct redo_lost *lost = &r->lost[i];
		uint32_t block = 0;
		for (uint32_t k = 0; k <= lost->at.n_more && rc == 0; k++) {
			if (head_read_before(head_type, head, n_back--, &type, said) < 0)
				return -EBADMSG;
			rc = find_one(r->g, lost, block, type, said);
			block += 1 + head_n_blocks(type, said);
		}
		if (rc == 0 && block != lost->n_blocks)
			rc = -EBADMSG;
	}
	if (rc == 0)
		redo_fini(r);
	return rc;
}

/* 1: it is lost, until its head is found. */
static int take_damaged(struct redo *r, const struct journal_place *at, uint16_t type, const uint8_t *payload, uint32_t len_bytes)
{
	struct quire_volumes *g = r->g;
	uint32_t n = (len_bytes - VOLUME_HEAD_BYTES) / MAP_BLOCK_BYTES;

	if (type == 0 || !head_is_whole(payload)) {
		int rc = lose(r, at, payload, n);
		return rc < 0 ? rc : 1;
	}
	uint32_t *found = sums_of(payload, n);
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
	if (!is_old(g, at))
		g->appended_bytes += JOURNAL_RECORD_HEADER_BYTES + len_bytes;
	if (at->damaged) {
		rc = take_damaged(r, at, type, payload, len_bytes);
		if (rc != 0)
			return rc < 0 ? rc : 0;
	}
	rc = find_lost(r, type, payload);
	head_remember(&g->before, type, payload);
	if (rc < 0 || is_old(g, at))
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
		return redo_fail_lost(r, r->n_lost > 0 ? &r->lost[0].at : at);
	if (r->error < 0)
		return quire_fail(r->err, r->error, "volumes: taking the record at %llu, offset %u", (unsigned long long)at->segment, at->offset);
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
	for (unsigned i = 0; i < r->n_lost; i++)
		free(r->lost[i].sums);
	free(r->lost);
	r->lost = NULL;
	r->n_lost = r->lost_capacity = r->n_records = 0;
}
