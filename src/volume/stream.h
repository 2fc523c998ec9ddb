/* stream.h - the content of a snapshot on its way: what send.c writes and receive.c reads. docs/format.md says the same in words. All numbers
 * are little-endian.
 *
 * A head, then chunks in ascending order of what they are of, then an end. Each has a checksum that goes on from the one before, so nothing
 * can be left out, told twice or moved. For src/volume alone.
 */
#ifndef VOLUME_STREAM_H
#define VOLUME_STREAM_H

#include "property.h"

#include <quire/volume.h>

#define STREAM_MAGIC "QuireVst"
#define STREAM_VERSION 1u
#define STREAM_SEND_BYTES (256u << 10) /* of data in a chunk, as it is sent; */
#define STREAM_MAX_BYTES (1u << 20)    /* and at most */

struct stream_head_le {
	uint8_t magic[8];
	uint32_t crc;          /* of what is behind it */
	uint32_t version;
	uint32_t compat;       /* features that a receiver need not know */
	uint32_t incompat;     /* features that he must know */
	uint64_t size_bytes;   /* of the snapshot */
	uint64_t position;     /* what is before it is not told: he has it */
	struct identity_le to, from; /* from: what is not told is as it is there; zeros: zeros */
	uint8_t snapshot[64];  /* its name, without the volume's; zeros behind it */
	uint8_t zero[72];
};
static_assert(sizeof(struct stream_head_le) == 256 && offsetof(struct stream_head_le, snapshot) == 120, "layout");

enum stream_type {
	STREAM_DATA = 1, /* len_bytes of data follow */
	STREAM_HOLE = 2,
	STREAM_ZERO = 3,
	STREAM_END = 4,  /* offset: the size; len_bytes: chunks before this one */
};

struct stream_chunk_le {
	uint32_t crc;      /* of what is behind it, going on from that of the chunk or head before */
	uint32_t type;
	uint64_t offset, len_bytes; /* of the volume; multiples of QUIRE_VOLUME_BLOCK_BYTES */
	uint32_t data_crc; /* of the data; else 0 */
	uint32_t zero;
};
static_assert(sizeof(struct stream_chunk_le) == 32 && offsetof(struct stream_chunk_le, offset) == 8 &&
                      offsetof(struct stream_chunk_le, data_crc) == 24,
              "layout");

/* What a receiver has, for the sender: as a text of hexadecimal digits. */
struct stream_token_le {
	struct identity_le to, from;
	uint64_t position;
	uint32_t zero;
	uint32_t crc; /* of what is before it */
};
static_assert(sizeof(struct stream_token_le) == 96 && 2 * sizeof(struct stream_token_le) < QUIRE_VOLUME_TOKEN_BYTES, "layout");

void stream_head_seal(struct stream_head_le *head);
int stream_head_check(const struct stream_head_le *head);  /* -EUCLEAN, -EBADMSG, -ENOTSUP */
bool stream_head_check_range(const struct stream_head_le *head); /* size and position */
void stream_chunk_seal(struct stream_chunk_le *chunk, uint32_t *crc);
int stream_chunk_check(const struct stream_chunk_le *chunk, uint32_t *crc); /* the sum alone: -EBADMSG */

void stream_token_print(const struct received_le *r, char ret[QUIRE_VOLUME_TOKEN_BYTES]);
int stream_token_parse(const char *text, struct stream_token_le *ret); /* -EBADMSG */

/* Which snapshot that is, of all there are. May wait. */
int identity_of(struct quire_volumes *g, uint32_t volume, struct identity_le *ret);

static inline bool identity_is_none(const struct identity_le *id)
{
	return id->generation == 0 && id->volume == 0;
}

#endif
