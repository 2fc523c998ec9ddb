/* frame.c - see frame.h. Pure: no I/O, no memory. */
#include "frame.h"

#include "../base/crc32c.h"
#include "../base/fail.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

static const uint8_t segment_magic[8] = {'Q', 'u', 'i', 'r', 'e', 'S', 'e', 'g'};

/* Where the part of a header begins that its checksum covers. */
#define SEGMENT_CRC_FROM offsetof(struct frame_segment_le, version)
#define RECORD_CRC_FROM offsetof(struct frame_record_le, salt)

uint32_t frame_pad_crc(uint32_t crc, uint64_t len_bytes)
{
	static const uint8_t zeros[FRAME_ALIGN];

	return crc32c(crc, zeros, (size_t)(-len_bytes & (FRAME_ALIGN - 1)));
}

bool frame_offset_fits(const struct journal_options *o, uint64_t offset)
{
	return offset % FRAME_BLOCK_BYTES == 0 && offset <= o->device->size_bytes &&
	       o->device->size_bytes - offset >= o->segment_bytes;
}

/* ---- segment headers ---- */

static uint32_t segment_crc(const struct frame_segment_le *block)
{
	return crc32c(0, (const uint8_t *)block + SEGMENT_CRC_FROM, sizeof(*block) - SEGMENT_CRC_FROM);
}

void frame_segment_encode(const struct journal_options *o, const struct frame_segment *s,
                          struct frame_segment_le *ret)
{
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->magic, segment_magic, sizeof(ret->magic));
	ret->version = htole32(FRAME_VERSION);
	memcpy(ret->identity, o->identity, sizeof(ret->identity));
	ret->log_no = htole32(o->log_no);
	ret->segment_bytes = htole32(o->segment_bytes);
	ret->segment_no = htole64(s->no);
	ret->first_record_no = htole64(s->first_record_no);
	ret->salt = htole32(s->salt);
	ret->key = htole32(s->key);
	ret->offset = htole64(s->offset);
	ret->session = htole32(s->session);
	ret->crc = htole32(segment_crc(ret));
}

bool frame_segment_is_damaged(const struct frame_segment_le *block)
{
	return memcmp(block->magic, segment_magic, sizeof(segment_magic)) != 0 || le32toh(block->crc) != segment_crc(block);
}

int frame_segment_decode(const struct journal_options *o, uint64_t offset, const struct frame_segment_le *block,
                         struct frame_segment *ret, struct quire_error *err)
{
	const char *name = o->device->name;
	unsigned long long at = offset;

	if (memcmp(block->magic, segment_magic, sizeof(segment_magic)) != 0)
		return quire_fail(err, -EUCLEAN, "%s: no log segment at %llu", name, at);
	if (le32toh(block->crc) != segment_crc(block))
		return quire_fail(err, -EBADMSG, "%s: header of the log segment at %llu", name, at);
	if (le32toh(block->version) != FRAME_VERSION)
		return quire_fail(err, -EUCLEAN, "%s: log segment at %llu has format version %u, known is %u", name,
		                  at, le32toh(block->version), FRAME_VERSION);
	if (memcmp(block->identity, o->identity, sizeof(block->identity)) != 0 ||
	    le32toh(block->log_no) != o->log_no)
		return quire_fail(err, -EUCLEAN, "%s: log segment at %llu belongs to another log", name, at);
	if ((le64toh(block->offset) != offset && !o->elsewhere) || le32toh(block->segment_bytes) != o->segment_bytes ||
	    block->salt == 0)
		return quire_fail(err, -EUCLEAN, "%s: log segment at %llu was not made for this place", name, at);
	*ret = (struct frame_segment){
		.offset = offset,
		.no = le64toh(block->segment_no),
		.first_record_no = le64toh(block->first_record_no),
		.salt = le32toh(block->salt),
		.key = le32toh(block->key),
		.session = le32toh(block->session),
	};
	return 0;
}

/* ---- records ---- */

static uint32_t record_crc(const struct frame_segment *s, uint32_t offset, const void *header)
{
	uint32_t seed[2] = {htole32(s->key), htole32(offset)};

	return crc32c(crc32c(0, seed, sizeof(seed)), (const uint8_t *)header + RECORD_CRC_FROM,
	              sizeof(struct frame_record_le) - RECORD_CRC_FROM);
}

void frame_record_encode(const struct frame_segment *s, uint32_t offset, const struct frame_record *r,
                         struct frame_record_le *ret)
{
	*ret = (struct frame_record_le){
		.salt = htole32(s->salt),
		.session = htole32(r->session),
		.len_bytes = htole32(r->len_bytes),
		.type = htole16(r->type),
		.flags = htole16(r->flags),
		.index = htole32(r->index),
		.group_start = htole32(r->group_start),
		.payload_crc = htole32(r->payload_crc),
	};
	ret->crc = htole32(record_crc(s, offset, ret));
}

/* What no writer makes, whatever the checksum says. */
static bool record_is_sane(const struct frame_record *r, uint32_t offset, uint32_t segment_bytes)
{
	uint64_t end = offset + frame_bytes(r->len_bytes);

	if (r->group_start > offset || r->group_start % FRAME_ALIGN != 0)
		return false;
	if (r->type == FRAME_LINK)
		return r->len_bytes == 0;
	if (r->type == FRAME_NEXT && r->len_bytes != sizeof(struct frame_next_le) &&
	    r->len_bytes != FRAME_NEXT_BLOCK_PAYLOAD)
		return false;
	if (r->type < FRAME_FIRST_FOREIGN_TYPE && r->type != FRAME_NEXT)
		return false;
	return end + FRAME_LINK_BYTES <= segment_bytes;
}

enum frame_status frame_record_decode(const struct frame_segment *s, uint32_t offset, uint32_t segment_bytes,
                                      const void *at, struct frame_record *ret)
{
	static const struct frame_record_le zeros;
	struct frame_record_le header;

	memcpy(&header, at, sizeof(header));
	if (le32toh(header.salt) != s->salt)
		return memcmp(&header, &zeros, sizeof(header)) == 0 ? FRAME_ZERO : FRAME_FOREIGN;
	if (le32toh(header.crc) != record_crc(s, offset, &header))
		return FRAME_BAD;
	*ret = (struct frame_record){
		.session = le32toh(header.session),
		.len_bytes = le32toh(header.len_bytes),
		.type = le16toh(header.type),
		.flags = le16toh(header.flags),
		.index = le32toh(header.index),
		.group_start = le32toh(header.group_start),
		.payload_crc = le32toh(header.payload_crc),
	};
	return record_is_sane(ret, offset, segment_bytes) ? FRAME_VALID : FRAME_BAD;
}

/* Most of what is looked through is zeros, and no salt is. */
#define LINE_BYTES 64u

static bool is_zero_line(const uint8_t *at)
{
	uint64_t any = 0, word;

	for (unsigned i = 0; i < LINE_BYTES; i += sizeof(word)) {
		memcpy(&word, at + i, sizeof(word));
		any |= word;
	}
	return any == 0;
}

void frame_look(const struct frame_segment *s, uint32_t session, uint32_t segment_bytes, const void *bytes,
                uint32_t offset, uint32_t len_bytes, struct frame_sighting *sighting)
{
	const uint8_t *p = bytes;
	const uint32_t salt = htole32(s->salt);
	struct frame_record r;

	for (uint32_t i = 0; i + sizeof(struct frame_record_le) <= len_bytes; i += FRAME_ALIGN) {
		const uint8_t *at = p + i + offsetof(struct frame_record_le, salt);
		uint32_t here;

		while (i + sizeof(struct frame_record_le) + LINE_BYTES <= len_bytes && is_zero_line(at)) {
			i += LINE_BYTES;
			at += LINE_BYTES;
		}
		memcpy(&here, at, sizeof(here));
		if (here != salt || frame_record_decode(s, offset + i, segment_bytes, p + i, &r) != FRAME_VALID)
			continue;
		sighting->any = true;
		if (r.session == session)
			sighting->of_session = true;
		if (r.group_start > sighting->max_group_start)
			sighting->max_group_start = r.group_start;
	}
}

void frame_next_encode(const struct frame_segment *next, struct frame_next_le *ret)
{
	*ret = (struct frame_next_le){
		.offset = htole64(next->offset),
		.segment_no = htole64(next->no),
		.salt = htole32(next->salt),
		.key = htole32(next->key),
	};
}

int frame_next_decode(const struct journal_options *o, const void *payload, struct frame_segment *ret)
{
	struct frame_next_le next;

	memcpy(&next, payload, sizeof(next));
	*ret = (struct frame_segment){
		.offset = le64toh(next.offset),
		.no = le64toh(next.segment_no),
		.salt = le32toh(next.salt),
		.key = le32toh(next.key),
	};
	return frame_offset_fits(o, ret->offset) && ret->salt != 0 ? 0 : -EUCLEAN;
}
