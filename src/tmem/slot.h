/* slot.h - what stands at the beginning of each slot, so that it can be moved and checked. */
#ifndef TMEM_SLOT_H
#define TMEM_SLOT_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

enum slot_kind {
	SLOT_TABLE,  /* of a span: pairs */
	SLOT_PAGE,   /* content of the one page that `span` and `low` name */
	SLOT_SHARED, /* content of several; `span` is a share's number */
	SLOT_UNIT,   /* contents of neighbours, see unit.c; `span` and `low` name the first page that may be in it */
	SLOT_SPARE,  /* for a content that goes away; see spill.h */
};

/* Away: it is in the backing, and a struct away follows. Length and check are those of its bytes there. */
enum slot_codec { CODEC_RAW, CODEC_LZ4, CODEC_ZSTD, CODEC_AWAY };

/* Of what LZ4 packed, or nobody: what recompression has tried, gained by it or not. */
#define MARK_TIGHT 1u
#define MARK_COLD 2u
/* Of what zstd packed: it was used in the round before the last. */
#define MARK_USED 1u
/* Of what is away: it isn't in the backing, but remote, and a struct stub follows. */
#define MARK_REMOTE 1u

/* A table has the first four fields alone. */
struct slot_head {
	uint32_t span;
	uint16_t low;     /* of the index */
	uint8_t kind : 3, going : 1, age : 4; /* enum slot_kind; being written to the backing; rounds of recompression since it was used */
	uint8_t stamp;    /* see evict.c */
	uint32_t check;   /* CRC32C of the bytes behind */
	union {
		uint32_t hash;    /* of the page, 32 bits of it; in the chain of its bucket, if it was entered there */
		struct {
			uint16_t members; /* of a unit: bit i: the page i behind the first is in it still; */
			uint16_t packed;  /* it was packed into it */
		};
	};
	union {
		uint32_t next;    /* place of the next in that chain */
		uint32_t serial;  /* of a unit: no other has it; not 0 */
	};
	uint8_t len[3];   /* of the bytes behind */
	uint8_t codec : 2, uses : 2, known : 1, tail : 1, marks : 2; /* known: to dedup; tail: there is one, see below */
};
static_assert(sizeof(struct slot_head) == 24, "metadata of each page");

#define SLOT_TABLE_HEAD_BYTES 8u

static inline uint32_t slot_len(const struct slot_head *h)
{
	return h->len[0] | (uint32_t)h->len[1] << 8 | (uint32_t)h->len[2] << 16;
}

static inline void slot_set_len(struct slot_head *h, uint32_t n)
{
	h->len[0] = (uint8_t)n;
	h->len[1] = (uint8_t)(n >> 8);
	h->len[2] = (uint8_t)(n >> 16);
}

/* ---- behind the bytes of what was recompressed ---- */

/* How long it was before, of a unit: all of them together; then, of a unit, the stamp of each that was packed. */
#define SLOT_TAIL_BYTES 4u

static inline uint8_t *slot_tail(const struct slot_head *h)
{
	return (uint8_t *)(h + 1) + slot_len(h);
}

static inline uint32_t slot_before(const struct slot_head *h)
{
	uint32_t n;

	memcpy(&n, slot_tail(h), sizeof(n));
	return n;
}

static inline uint32_t slot_n_packed(const struct slot_head *h)
{
	return (uint32_t)__builtin_popcount(h->packed);
}

/* The how manieth of those packed the page is. */
static inline uint32_t slot_rank(const struct slot_head *h, uint16_t low)
{
	return (uint32_t)__builtin_popcount(h->packed & ((1u << (low - h->low)) - 1));
}

static inline uint32_t slot_tail_bytes(const struct slot_head *h)
{
	return h->tail == 0 ? 0 : SLOT_TAIL_BYTES + (h->kind == SLOT_UNIT ? slot_n_packed(h) : 0);
}

/* Of the page with that low bits. */
static inline uint8_t slot_stamp(const struct slot_head *h, uint16_t low)
{
	return h->kind == SLOT_UNIT ? slot_tail(h)[SLOT_TAIL_BYTES + slot_rank(h, low)] : h->stamp;
}

#endif
