/* frame.h - the bytes: segment headers and records, made and recognised. See docs/format.md.
 *
 * What makes a record's header its own: the checksum is seeded with the segment's key (the half of its salt
 * that stands in no record) and the record's offset. So a copy of a record, in whatever payload and of
 * whatever segment, is no record at any other place.
 */
#ifndef JOURNAL_FRAME_H
#define JOURNAL_FRAME_H

#include "journal.h"

#include <assert.h>

#define FRAME_BLOCK_BYTES DEVICE_BLOCK_BYTES
#define FRAME_VERSION 1u
#define FRAME_MIN_SEGMENT_BYTES (64u << 10)
#define FRAME_MAX_SEGMENT_BYTES (1u << 30)
#define FRAME_ALIGN 8u

/* Types below FRAME_FIRST_FOREIGN_TYPE never leave the journal; the container's stand between. */
enum frame_type {
	FRAME_NEXT = 1, /* names the segment that will come after this one */
	FRAME_LINK = 2, /* the last record of a segment */
	FRAME_FIRST_FOREIGN_TYPE = 8,
	FRAME_CONTAINER_START = 8,
	FRAME_CONTAINER_END = 9,
};

#define FRAME_FLAG_FIRST 1u /* the first record of its session */

/* ---- on the medium; all little-endian ---- */

struct frame_segment_le {
	uint8_t magic[8];
	uint32_t crc; /* of what follows, to the end of the block */
	uint32_t version;
	uint8_t identity[16];
	uint32_t log_no;
	uint32_t segment_bytes;
	uint64_t segment_no;
	uint64_t first_record_no;
	uint32_t salt;
	uint32_t key;
	uint64_t offset; /* on the device */
	uint32_t session; /* that wrote it */
	uint8_t zeros[FRAME_BLOCK_BYTES - 76];
};
static_assert(sizeof(struct frame_segment_le) == FRAME_BLOCK_BYTES, "layout");
static_assert(offsetof(struct frame_segment_le, crc) == 8 && offsetof(struct frame_segment_le, version) == 12 &&
              offsetof(struct frame_segment_le, identity) == 16 && offsetof(struct frame_segment_le, log_no) == 32 &&
              offsetof(struct frame_segment_le, segment_bytes) == 36 &&
              offsetof(struct frame_segment_le, segment_no) == 40 &&
              offsetof(struct frame_segment_le, first_record_no) == 48 &&
              offsetof(struct frame_segment_le, salt) == 56 && offsetof(struct frame_segment_le, key) == 60 &&
              offsetof(struct frame_segment_le, offset) == 64 && offsetof(struct frame_segment_le, session) == 72,
              "layout");

struct frame_record_le {
	uint32_t crc; /* seeded with key and offset; of what follows in the header */
	uint32_t salt;
	uint32_t session;
	uint32_t len_bytes;
	uint16_t type;
	uint16_t flags;
	uint32_t index;       /* record number, less the segment's first */
	uint32_t group_start;
	uint32_t payload_crc; /* padding included */
};
static_assert(sizeof(struct frame_record_le) == JOURNAL_RECORD_HEADER_BYTES, "layout");
static_assert(offsetof(struct frame_record_le, salt) == 4 && offsetof(struct frame_record_le, session) == 8 &&
              offsetof(struct frame_record_le, len_bytes) == 12 && offsetof(struct frame_record_le, type) == 16 &&
              offsetof(struct frame_record_le, flags) == 18 && offsetof(struct frame_record_le, index) == 20 &&
              offsetof(struct frame_record_le, group_start) == 24 &&
              offsetof(struct frame_record_le, payload_crc) == 28, "layout");

struct frame_next_le {
	uint64_t offset;
	uint64_t segment_no;
	uint32_t salt;
	uint32_t key;
};
static_assert(sizeof(struct frame_next_le) == 24, "layout");

#define FRAME_NEXT_BYTES (JOURNAL_RECORD_HEADER_BYTES + (uint32_t)sizeof(struct frame_next_le))
#define FRAME_LINK_BYTES JOURNAL_RECORD_HEADER_BYTES
/* A NEXT's payload, where records take whole blocks: zeros behind it. */
#define FRAME_NEXT_BLOCK_PAYLOAD (FRAME_BLOCK_BYTES - JOURNAL_RECORD_HEADER_BYTES)

/* ---- in memory ---- */

struct frame_segment {
	uint64_t offset;          /* on the device */
	uint64_t no;
	uint64_t first_record_no;
	uint32_t salt, key;       /* one life of one extent; salt is never 0 */
	uint32_t session;         /* that began it */
};

struct frame_record {
	uint32_t session, len_bytes;
	uint16_t type, flags;
	uint32_t index, group_start, payload_crc;
	struct journal_place *ret_place; /* where one is put that is appended; NULL: nobody asks */
};

static inline bool frame_segment_same(const struct frame_segment *a, const struct frame_segment *b)
{
	return a->offset == b->offset && a->no == b->no && a->first_record_no == b->first_record_no &&
	       a->salt == b->salt && a->key == b->key && a->session == b->session;
}

/* What a record of len_bytes takes. */
static inline uint64_t frame_bytes(uint64_t len_bytes)
{
	return JOURNAL_RECORD_HEADER_BYTES + ((len_bytes + FRAME_ALIGN - 1) & ~(uint64_t)(FRAME_ALIGN - 1));
}

/* What a NEXT takes. */
static inline uint32_t frame_next_bytes(const struct journal_options *o)
{
	return o->whole_blocks ? FRAME_BLOCK_BYTES : FRAME_NEXT_BYTES;
}

static inline uint32_t frame_max_payload(const struct journal_options *o)
{
	/* Where records take whole blocks, nothing fits into the last one but LINK. */
	uint32_t link_bytes = o->whole_blocks ? FRAME_BLOCK_BYTES : FRAME_LINK_BYTES;

	return o->segment_bytes - FRAME_BLOCK_BYTES - frame_next_bytes(o) - link_bytes - JOURNAL_RECORD_HEADER_BYTES;
}

/* Goes on from crc over the zeros behind a payload of len_bytes. */
uint32_t frame_pad_crc(uint32_t crc, uint64_t len_bytes);

/* ---- segment headers ---- */

void frame_segment_encode(const struct journal_options *o, const struct frame_segment *s,
                          struct frame_segment_le *ret);

/* 0; -EBADMSG: a segment header that is damaged; -EUCLEAN: none, or not one of this log at this place
 * (err, which may be NULL, says why). */
int frame_segment_decode(const struct journal_options *o, uint64_t offset, const struct frame_segment_le *block,
                         struct frame_segment *ret, struct quire_error *err);

/* Is that no segment's header at all, by its magic or its checksum? */
bool frame_segment_is_damaged(const struct frame_segment_le *block);

/* ---- records ---- */

void frame_record_encode(const struct frame_segment *s, uint32_t offset, const struct frame_record *r,
                         struct frame_record_le *ret);

enum frame_status {
	FRAME_VALID,   /* of this life, made for this place; the payload was not looked at */
	FRAME_ZERO,
	FRAME_FOREIGN, /* another salt */
	FRAME_BAD,     /* this salt, and no record */
};

/* at: the bytes of a header; offset: their place in the segment. */
enum frame_status frame_record_decode(const struct frame_segment *s, uint32_t offset, uint32_t segment_bytes,
                                      const void *at, struct frame_record *ret);

/* Records of this life that stand somewhere in bytes, which is the segment from offset on; both are
 * multiples of 8. Looks for what a bad place before `offset` asks. */
struct frame_sighting {
	bool any;                 /* a record of this life */
	bool of_session;          /* and of `session` */
	uint32_t max_group_start; /* of them all */
};
void frame_look(const struct frame_segment *s, uint32_t session, uint32_t segment_bytes, const void *bytes,
                uint32_t offset, uint32_t len_bytes, struct frame_sighting *sighting);

void frame_next_encode(const struct frame_segment *next, struct frame_next_le *ret);
/* 0, -EUCLEAN: it can't be a segment of the device. */
int frame_next_decode(const struct journal_options *o, const void *payload, struct frame_segment *ret);

/* Is `offset` that of a possible segment? */
bool frame_offset_fits(const struct journal_options *o, uint64_t offset);

#endif
