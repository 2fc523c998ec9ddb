/* image_format.h - a saved pool, byte by byte; little-endian. See docs/format.md. */
#ifndef TMEM_IMAGE_FORMAT_H
#define TMEM_IMAGE_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_MAGIC "QuireTm\n"
#define IMAGE_VERSION 1u
#define IMAGE_NAME_BYTES 64u /* the NUL included */
#define IMAGE_ALIGN 8u       /* of records */

struct image_head_le {
	uint8_t magic[8];
	uint32_t crc;       /* CRC32C of what follows, to the end of the head */
	uint32_t version;
	uint32_t page_bytes;
	uint32_t flags;     /* IMAGE_FLAG_* */
	uint32_t weight;
	uint32_t domain;    /* 0: its own */
	uint64_t cap_bytes; /* 0: none */
	uint8_t uuid[16];   /* of a shared pool, else zeros */
	uint8_t name[IMAGE_NAME_BYTES]; /* zeros behind it */
	uint32_t unit_bytes, cold_rounds; /* of what goes cold */
};
static_assert(sizeof(struct image_head_le) == 128 && offsetof(struct image_head_le, crc) == 8 &&
              offsetof(struct image_head_le, page_bytes) == 16 && offsetof(struct image_head_le, cap_bytes) == 32 &&
              offsetof(struct image_head_le, uuid) == 40 && offsetof(struct image_head_le, name) == 56 &&
              offsetof(struct image_head_le, unit_bytes) == 120, "layout");

#define IMAGE_FLAG_SHARED 1u
#define IMAGE_FLAG_NO_DEDUP 2u
#define IMAGE_FLAG_REFUSE_INCOMPRESSIBLE 4u
#define IMAGE_FLAG_RECOMPRESS 8u
#define IMAGE_FLAG_COLD 16u
#define IMAGE_FLAG_SPILL 32u
#define IMAGE_FLAGS 63u

enum image_kind {
	IMAGE_CONTENT = 1, /* a page: its bytes follow */
	IMAGE_AGAIN = 2,   /* a page of a content that was there before: value is its number */
	IMAGE_WORD = 3,    /* a page of one word: value */
	IMAGE_GONE = 4,    /* what was said of this page before is void */
	IMAGE_END = 5,     /* value: records before this one; object[0]: pages that there are */
};

enum image_codec { IMAGE_RAW = 0, IMAGE_LZ4 = 1 };

/* Then len bytes, and zeros to a multiple of IMAGE_ALIGN. */
struct image_record_le {
	uint32_t crc;       /* CRC32C of its number, 8 bytes, then of what follows, to the end of the zeros */
	uint8_t kind, codec;
	uint8_t numbered;   /* 1: a content that may come again: these are numbered from 0; else 0 */
	uint8_t zero;
	uint32_t len;
	uint32_t index;
	uint64_t object[3];
	uint64_t value;
};
static_assert(sizeof(struct image_record_le) == 48 && offsetof(struct image_record_le, kind) == 4 &&
              offsetof(struct image_record_le, len) == 8 && offsetof(struct image_record_le, object) == 16 &&
              offsetof(struct image_record_le, value) == 40, "layout");

#endif
