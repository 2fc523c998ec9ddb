/* format.h - the bytes of a store on its media; all little-endian. See docs/format.md.
 *
 * Space is counted in units of 4 KiB. The first FORMAT_RESERVED_UNITS of each class hold the two copies of
 * its superblock and are never given out.
 *
 * Data of an object: groups of 1,023 data pages, each followed by a page of their checksums; the last group is
 * as long as it must be. An object of one page has no page of checksums: its record holds the one.
 */
#ifndef STORE_FORMAT_H
#define STORE_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define FORMAT_UNIT_BYTES 4096u
#define FORMAT_UNIT_SHIFT 12
#define FORMAT_VERSION 1u
#define FORMAT_RESERVED_UNITS 32u
#define FORMAT_SUPERBLOCK_STEP 65536u /* copy i stands at i × this */
#define FORMAT_MIN_CLASS_BYTES (1u << 20)
#define FORMAT_MAX_CLASS_UNITS (UINT64_C(1) << 40) /* 4 PiB */

/* Limits, on media and in memory. */
#define FORMAT_MAX_OBJECT_BYTES (UINT64_C(1) << 50)
#define FORMAT_MAX_EXTENTS 1024u         /* of an object */
#define FORMAT_MAX_TRANSACTION 4096u     /* objects of one transaction, removed ones included */
#define FORMAT_MAX_PAGE_SHIFT 30u
#define FORMAT_MAX_CONTAINER_SEGMENTS 256u

/* Features that a store uses. One that a library does not know: compat, no matter; ro_compat, it may only
 * read; incompat, it may do nothing. Version 1 knows none. */
#define FORMAT_KNOWN_RO_COMPAT 0u
#define FORMAT_KNOWN_INCOMPAT 0u

#define FORMAT_SUPERBLOCK_MAGIC "QuireSB\n"

struct superblock_le {
	uint8_t magic[8];
	uint32_t crc; /* CRC32C of what follows, to the end of the 4 KiB */
	uint32_t version;
	uint32_t compat, ro_compat, incompat;
	uint32_t class_no;
	uint8_t uuid[16];    /* of the store */
	uint64_t generation; /* of this class's superblock */
	uint64_t n_units;    /* of the class */
	/* The class `capacity` alone, else 0: */
	uint32_t classes;    /* bit i: the store has class i */
	uint32_t catalogue_segment_bytes;
	uint64_t catalogue_first[2]; /* byte offsets of the first segments of its two logs */
	uint8_t zeros[FORMAT_UNIT_BYTES - 88];
};
static_assert(sizeof(struct superblock_le) == FORMAT_UNIT_BYTES, "layout");
static_assert(offsetof(struct superblock_le, crc) == 8 && offsetof(struct superblock_le, version) == 12 &&
              offsetof(struct superblock_le, class_no) == 28 && offsetof(struct superblock_le, uuid) == 32 &&
              offsetof(struct superblock_le, generation) == 48 && offsetof(struct superblock_le, n_units) == 56 &&
              offsetof(struct superblock_le, classes) == 64 &&
              offsetof(struct superblock_le, catalogue_first) == 72, "layout");

/* ---- checksums of pages ---- */

#define FORMAT_SUMS_PER_PAGE 1023u

struct sums_le {
	uint32_t crc; /* of what follows, seeded with object and group */
	uint32_t sums[FORMAT_SUMS_PER_PAGE]; /* 0 behind the last page */
};
static_assert(sizeof(struct sums_le) == FORMAT_UNIT_BYTES, "layout");

/* What a page's checksum begins with, so that a right page in a wrong place is a wrong page. */
struct sum_seed_le {
	uint64_t id;
	uint64_t index; /* of the page; of a page of checksums: the group's, with bit 63 set */
};
static_assert(sizeof(struct sum_seed_le) == 16, "layout");
#define FORMAT_SUMS_INDEX (UINT64_C(1) << 63)

/* ---- the catalogue's records ---- */

#define FORMAT_CATALOGUE_LOG_NO 1u /* and 2 */
#define FORMAT_CONTAINER_LOG_NO 16u /* and 17, of every other container: told apart by its identity */

enum format_record {
	FORMAT_TRANSACTION = 16, /* struct transaction_le, objects with their extents, ids removed */
	FORMAT_NEXT_ID = 17,     /* struct next_id_le */
	FORMAT_CONTAINER = 18,   /* struct container_le with its extents */
	FORMAT_CONTAINER_GONE = 19, /* struct next_id_le: the id */
	FORMAT_RACED = 20,       /* as FORMAT_TRANSACTION, of one object of one page, written at the same time */
	FORMAT_SEAL = 21,        /* nothing: a clean close */
};

struct transaction_le {
	uint32_t n_objects, n_removed;
};
static_assert(sizeof(struct transaction_le) == 8, "layout");

struct object_le {
	uint64_t id;
	uint64_t len_bytes;
	uint32_t sum; /* of the page of an object of one page, else 0 */
	uint16_t n_extents;
	uint8_t class_shift; /* bits 0 to 2: class; 3 to 7: page size wished for maps, 0: none */
	uint8_t tag;         /* the owner's */
};
static_assert(sizeof(struct object_le) == 24 && offsetof(struct object_le, sum) == 16 &&
              offsetof(struct object_le, n_extents) == 20 && offsetof(struct object_le, class_shift) == 22 &&
              offsetof(struct object_le, tag) == 23, "layout");

struct extent_le {
	uint64_t start, n_units;
};
static_assert(sizeof(struct extent_le) == 16, "layout");

struct next_id_le {
	uint64_t id; /* all ids below may have been given out */
};
static_assert(sizeof(struct next_id_le) == 8, "layout");

/* A metadata container. Its segments are the extents, cut into segment_bytes, in order; the first two are
 * the first of its two logs. */
struct container_le {
	uint64_t id;
	uint64_t capacity_bytes; /* of records that it was made for */
	uint32_t segment_bytes;
	uint16_t n_extents;
	uint8_t class_no;
	uint8_t zero;
};
static_assert(sizeof(struct container_le) == 24 && offsetof(struct container_le, segment_bytes) == 16, "layout");

/* ---- where things stand in an object ---- */

static inline uint64_t format_n_pages(uint64_t len_bytes)
{
	return (len_bytes + FORMAT_UNIT_BYTES - 1) >> FORMAT_UNIT_SHIFT;
}

static inline uint64_t format_n_groups(uint64_t n_pages)
{
	return n_pages <= 1 ? 0 : (n_pages + FORMAT_SUMS_PER_PAGE - 1) / FORMAT_SUMS_PER_PAGE;
}

static inline uint64_t format_n_units(uint64_t n_pages)
{
	return n_pages + format_n_groups(n_pages);
}

/* The unit of the object in which page `index` stands. */
static inline uint64_t format_page_unit(uint64_t index)
{
	return index + index / FORMAT_SUMS_PER_PAGE;
}

/* Data pages of a group. */
static inline uint32_t format_group_pages(uint64_t n_pages, uint64_t group)
{
	uint64_t left = n_pages - group * FORMAT_SUMS_PER_PAGE;

	return left < FORMAT_SUMS_PER_PAGE ? (uint32_t)left : FORMAT_SUMS_PER_PAGE;
}

static inline uint64_t format_sums_unit(uint64_t n_pages, uint64_t group)
{
	return group * (FORMAT_SUMS_PER_PAGE + 1) + format_group_pages(n_pages, group);
}

#endif
