/* mend.c - what salvage.c has found out stands where it should: in the memory of the owner when a journal was read, on the medium
 * when it is written to. Durably, block by block and in order: what a crash leaves undone is found damaged once more. */
#include "journal_internal.h"

#include "../base/assert.h"
#include "../base/crc32c.h"

#include <string.h>

/* The i-th piece of a mend as bytes, at most a block of them: where in the segment, and how many. */
static uint32_t spell(const struct journal *j, const struct scan_mend *m, uint32_t i, uint8_t *to, uint32_t *ret_bytes)
{
	uint32_t offset = m->offset + i * JOURNAL_RECORD_HEADER_BYTES;
	struct frame_record empty = m->empty;

	if (m->offset == 0) {
		frame_segment_encode(&j->o, &m->segment, (struct frame_segment_le *)to);
		*ret_bytes = FRAME_BLOCK_BYTES;
	} else if (i < m->n_empty) {
		empty.index += i;
		empty.flags = i == 0 ? empty.flags : 0;
		frame_record_encode(&m->segment, offset, &empty, (struct frame_record_le *)to);
		*ret_bytes = JOURNAL_RECORD_HEADER_BYTES;
	} else {
		memcpy(to, m->bytes, m->len_bytes);
		memset(to + m->len_bytes, 0, m->n_zeros);
		*ret_bytes = m->len_bytes + m->n_zeros;
	}
	return offset;
}

void journal_mend_memory(const struct journal *j)
{
	_Alignas(8) uint8_t piece[FRAME_BLOCK_BYTES];
	uint32_t n;

	if (j->o.ops->segment_memory == NULL)
		return;
	for (uint64_t k = 0; k < j->found.n_mends; k++) {
		const struct scan_mend *m = &j->found.mends[k];
		uint8_t *memory = j->o.ops->segment_memory(j->o.owner, m->segment.offset);
		for (uint32_t i = 0; memory != NULL && i <= m->n_empty; i++) {
			uint32_t offset = spell(j, m, i, piece, &n);
			memcpy(memory + offset, piece, n);
		}
	}
}

/* The next segment was not begun, and nobody knows its salt any more: it gets one. */
static void name_again(struct journal *j, struct scan_mend *m)
{
	static const uint8_t zeros[FRAME_NEXT_BLOCK_PAYLOAD];
	struct frame_segment *next = &j->next;
	struct frame_next_le *payload = (struct frame_next_le *)(m->bytes + JOURNAL_RECORD_HEADER_BYTES);
	struct frame_record r;

	quire_assert(j->next_known && next->no == m->segment.no + 1);
	next->salt = journal_random(j);
	next->key = journal_random(j);
	frame_next_encode(next, payload);
	enum frame_status status = frame_record_decode(&m->segment, m->offset, j->o.segment_bytes, m->bytes, &r);
	quire_assert(status == FRAME_VALID);
	r.payload_crc = crc32c(crc32c(0, payload, sizeof(*payload)), zeros, m->n_zeros);
	frame_record_encode(&m->segment, m->offset, &r, (struct frame_record_le *)m->bytes);
	m->names_next = false;
}

struct block {
	struct device *device;
	uint64_t at;     /* on the device */
	bool there;
	uint8_t *bytes;
};

static int put_back(struct block *b)
{
	int rc = b->there ? device_write(b->device, b->at, b->bytes, FRAME_BLOCK_BYTES, true) : 0;

	b->there = false;
	return rc;
}

static int take(struct block *b, uint64_t at)
{
	int rc = 0;

	if (b->there && b->at == at)
		return 0;
	rc = put_back(b);
	if (rc == 0)
		rc = device_read(b->device, at, b->bytes, FRAME_BLOCK_BYTES);
	b->at = at;
	b->there = rc == 0;
	return rc;
}

/* Bytes of a segment. */
static int put(struct block *b, uint64_t at, const uint8_t *bytes, uint32_t n)
{
	int rc = 0;

	for (uint32_t done = 0, part; done < n && rc == 0; done += part) {
		uint32_t in = (uint32_t)((at + done) % FRAME_BLOCK_BYTES), room = FRAME_BLOCK_BYTES - in;
		part = n - done < room ? n - done : room;
		rc = take(b, at + done - in);
		if (rc == 0)
			memcpy(b->bytes + in, bytes + done, part);
	}
	return rc;
}

int journal_mend_medium(struct journal *j)
{
	struct block b = {.device = j->o.device, .bytes = j->groups[1].memory};
	uint8_t *piece = j->groups[0].memory;
	uint32_t n;
	int rc = 0;

	for (uint64_t k = 0; k < j->found.n_mends && rc == 0; k++) {
		struct scan_mend *m = &j->found.mends[k];
		if (m->names_next)
			name_again(j, m);
		for (uint32_t i = 0; i <= m->n_empty && rc == 0; i++) {
			uint32_t offset = spell(j, m, i, piece, &n);
			rc = put(&b, m->segment.offset + offset, piece, n);
		}
	}
	if (rc == 0)
		rc = put_back(&b);
	if (rc == 0)
		journal_mend_memory(j);
	return rc;
}
