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
#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FORMAT_UNIT_BYTES 4096u
#define FORMAT_UNIT_SHIFT 12
#define FORMAT_VERSION 1u
#define FORMAT_RESERVED_UNITS 32u
#define FORMAT_SUPERBLOCK_STEP 65536u /* copy i stands at i × this */
#define FORMAT_MIN_CLASS_BYTES (1u << 20)
#define FORMAT_MAX_CLASS_UNITS (UINT64_C(1) << 40) /* 4 PiB */

/* Limits, on media and in memory. */
#define FORMAT_MAX_OBJECT_BYTES (UINT64_C(1) << 50)
#define FORMAT_END_ID (UINT64_C(1) << 62) /* ids are below it */
#define FORMAT_MAX_EXTENTS 1024u         /* of an object */
#define FORMAT_MAX_TRANSACTION 4096u     /* objects of one transaction, removed ones included */
#define FORMAT_MAX_PAGE_SHIFT 30u
#define FORMAT_TAG_VOLUMES 255u          /* of an object that is the store's own: a checkpoint of volumes */
#define FORMAT_MAX_CONTAINER_SEGMENTS 256u

/* Features that a store uses. One that a library does not know: compat, no matter; ro_compat, it may only
 * read; incompat, it may do nothing. */
#define FORMAT_COMPAT_POWER 1u   /* of a class: it is to be mapped, and what is durable to outlive the power */
#define FORMAT_COMPAT_PROCESS 2u /* it is to be mapped; what is durable need outlive the process only */
#define FORMAT_RO_COMPAT_STREAMS 1u /* of `capacity`: a volume is, or was, being received from a stream */
#define FORMAT_KNOWN_RO_COMPAT FORMAT_RO_COMPAT_STREAMS
#define FORMAT_INCOMPAT_LOGS 1u  /* of `capacity`: there are logs, or have been; without their records nobody knows what is free */
#define FORMAT_INCOMPAT_VOLUMES 2u /* of `capacity`: one of them is that of volumes, or has been: its segments leave in any order */
#define FORMAT_INCOMPAT_BASES 4u /* the same: a volume lies, or has lain, over a file or a blob: who does not look there reads zeros */
#define FORMAT_KNOWN_INCOMPAT (FORMAT_INCOMPAT_LOGS | FORMAT_INCOMPAT_VOLUMES | FORMAT_INCOMPAT_BASES)

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
	FORMAT_LOG = 22,         /* struct log_le with its segments */
	FORMAT_LOG_SEGMENTS = 23,/* struct log_change_le, segments added, ids of those removed */
	FORMAT_LOG_GONE = 24,    /* struct next_id_le: the id, and its segments with it */
	FORMAT_LOG_MOVED = 25,   /* struct log_moved_le, the segment that is in the place of the old one */
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

/* ---- logs ---- */

#define FORMAT_LOG_LOG_NO 32u            /* of all: told apart by their identity */
/* Records of a log: a time of 8 bytes, then what was appended; with a key, its length (2 bytes), the key, and zeros to a multiple
 * of 8 bytes stand between them. */
#define FORMAT_LOG_RECORD 16u
#define FORMAT_LOG_KEYED_RECORD 17u
/* In the place of one that was damaged before its segment was sealed: it has that one's number, and what is in it means nothing. */
#define FORMAT_LOG_LOST 18u
#define FORMAT_LOG_TIME_BYTES 8u
#define FORMAT_LOG_KEY_AT 10u            /* in a record's payload */
#define FORMAT_LOG_MAX_KEY_BYTES 1024u
#define FORMAT_LOG_NAME_BYTES 64u        /* the NUL included */
#define FORMAT_LOG_MIN_SEGMENT_BYTES 65536u
#define FORMAT_LOG_MAX_SEGMENT_BYTES (1u << 30)
#define FORMAT_LOG_MAX_MARKS 1024u       /* of a segment */

static inline uint32_t format_log_keyed_head_bytes(uint32_t key_bytes)
{
	return (FORMAT_LOG_KEY_AT + key_bytes + 7) & ~7u;
}

/* Bytes of a record's key; 0: it has none; -1: no log has such a record. */
static inline int format_log_key_bytes(uint16_t type, const uint8_t *payload, uint32_t len_bytes)
{
	uint16_t key_bytes;

	if (type != FORMAT_LOG_KEYED_RECORD)
		return type == FORMAT_LOG_RECORD && len_bytes >= FORMAT_LOG_TIME_BYTES ? 0 : -1;
	if (len_bytes < FORMAT_LOG_KEY_AT)
		return -1;
	memcpy(&key_bytes, payload + FORMAT_LOG_TIME_BYTES, sizeof(key_bytes));
	key_bytes = le16toh(key_bytes);
	return key_bytes > 0 && key_bytes <= FORMAT_LOG_MAX_KEY_BYTES && len_bytes >= format_log_keyed_head_bytes(key_bytes) ? key_bytes : -1;
}

struct log_le {
	uint64_t id;
	uint64_t retain_bytes, retain_ns, retain_records; /* 0: no limit */
	uint32_t segment_bytes; /* of its journal */
	uint32_t n_segments;
	uint8_t class_no;
	uint8_t flags;
	uint8_t zero;
	uint8_t destage;        /* 1 + the class that sealed segments move to; 0: they stay */
	uint32_t destage_keep;  /* of the newest sealed ones stay */
	uint8_t name[FORMAT_LOG_NAME_BYTES]; /* zeros behind it */
	uint8_t secret[16];     /* of the hashes of its keys; without keys: zeros */
};
static_assert(sizeof(struct log_le) == 128 && offsetof(struct log_le, segment_bytes) == 32 &&
              offsetof(struct log_le, class_no) == 40 && offsetof(struct log_le, flags) == 41 &&
              offsetof(struct log_le, destage) == 43 && offsetof(struct log_le, destage_keep) == 44 &&
              offsetof(struct log_le, name) == 48 && offsetof(struct log_le, secret) == 112, "layout");
#define FORMAT_LOG_KEYS 1u    /* flag: records may have keys */
#define FORMAT_LOG_VOLUMES 2u /* flag: it is that of the volumes of its class; records take whole blocks, segments leave in any order */

struct log_segment_le {
	uint64_t id;    /* of the object that it is, once it is sealed */
	uint64_t place; /* bits 0 to 55: unit of its class; 56 to 63: 1 + that class; 0: the log's */
};
static_assert(sizeof(struct log_segment_le) == 16, "layout");
#define FORMAT_LOG_PLACE_SHIFT 56

struct log_moved_le {
	uint64_t id;     /* of the log */
	uint64_t old_id; /* of the segment that was copied, and is no more */
};
static_assert(sizeof(struct log_moved_le) == 16, "layout");

struct log_change_le {
	uint64_t id; /* of the log */
	uint32_t n_added, n_removed;
};
static_assert(sizeof(struct log_change_le) == 16, "layout");

/* The extent of a segment: what is its journal's; pages of checksums; the marks; the footer; in logs with keys, the list
 * of these, which format_log_extent_units does not count. */
static inline uint32_t format_log_units(uint32_t segment_bytes)
{
	return segment_bytes / FORMAT_UNIT_BYTES;
}

static inline uint32_t format_log_sums_units(uint32_t segment_bytes)
{
	return (format_log_units(segment_bytes) + FORMAT_SUMS_PER_PAGE - 1) / FORMAT_SUMS_PER_PAGE;
}

/* Bytes between two marks, at least. */
static inline uint32_t format_log_stride(uint32_t segment_bytes)
{
	uint32_t stride = segment_bytes / FORMAT_LOG_MAX_MARKS;

	return stride < FORMAT_UNIT_BYTES ? FORMAT_UNIT_BYTES : stride;
}

struct log_mark_le {
	uint32_t index;  /* of a record in its segment */
	uint32_t offset; /* where it begins */
	uint64_t time;   /* of the latest record before it in the segment; 0: none */
};
static_assert(sizeof(struct log_mark_le) == 16, "layout");

static inline uint32_t format_log_marks_units(uint32_t segment_bytes)
{
	uint32_t n = segment_bytes / format_log_stride(segment_bytes);

	return (n * (uint32_t)sizeof(struct log_mark_le) + FORMAT_UNIT_BYTES - 1) / FORMAT_UNIT_BYTES;
}

static inline uint32_t format_log_extent_units(uint32_t segment_bytes)
{
	return format_log_units(segment_bytes) + format_log_sums_units(segment_bytes) +
	       format_log_marks_units(segment_bytes) + 1;
}

/* Behind the footer, in logs with keys: which record is the last with a key of a hash. The hashes, then as many numbers. */
struct log_key_hash_le {
	uint64_t hash;
};
struct log_key_index_le {
	uint32_t index; /* of the record in its segment */
};
#define FORMAT_LOG_KEY_BYTES 12u
static_assert(sizeof(struct log_key_hash_le) + sizeof(struct log_key_index_le) == FORMAT_LOG_KEY_BYTES, "layout");
#define FORMAT_LOG_KEYS_UNLISTED UINT32_MAX /* there are more of them than room */

static inline uint32_t format_log_keys_units(uint32_t segment_bytes)
{
	return segment_bytes / 16 / FORMAT_UNIT_BYTES;
}

static inline uint32_t format_log_max_keys(uint32_t segment_bytes)
{
	return format_log_keys_units(segment_bytes) * FORMAT_UNIT_BYTES / FORMAT_LOG_KEY_BYTES;
}

#define FORMAT_LOG_FOOTER_MAGIC "QuireEnd"

struct log_footer_le {
	uint8_t magic[8];
	uint32_t crc; /* CRC32C of what follows, to the end of the 4 KiB */
	uint32_t version;
	uint8_t uuid[16];       /* of the store */
	uint64_t log_id, id;    /* of the log; of the segment */
	uint64_t offset;        /* of the segment, in its class */
	uint64_t segment_no;
	uint64_t first_no, end_no;      /* records, the second excluded */
	uint64_t first_time, last_time; /* of the first; the latest */
	uint32_t end_bytes;     /* of its records, header block and link included */
	uint32_t n_marks;
	uint32_t marks_crc;
	uint32_t sums_crc;      /* of the checksums of its pages, one after the other */
	uint32_t n_keys;        /* or FORMAT_LOG_KEYS_UNLISTED */
	uint32_t keys_crc;      /* of hashes and numbers */
	uint64_t lost_end;      /* behind the last of its records that is a FORMAT_LOG_LOST; 0: none is */
	uint8_t zeros[FORMAT_UNIT_BYTES - 128];
};
static_assert(sizeof(struct log_footer_le) == FORMAT_UNIT_BYTES, "layout");
static_assert(offsetof(struct log_footer_le, uuid) == 16 && offsetof(struct log_footer_le, log_id) == 32 &&
              offsetof(struct log_footer_le, segment_no) == 56 && offsetof(struct log_footer_le, first_no) == 64 &&
              offsetof(struct log_footer_le, end_bytes) == 96 && offsetof(struct log_footer_le, n_keys) == 112 &&
              offsetof(struct log_footer_le, lost_end) == 120, "layout");

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

/* What a checkpoint of volumes begins with, as far as a check asks it; the rest is src/volume's. */
#define FORMAT_CHECKPOINT_MAGIC "QuireVol"
struct checkpoint_head_le {
	uint8_t magic[8];
	uint32_t version, next_id;
	uint64_t log_id, generation;
	uint64_t segment_no, segment_id; /* in which the records begin that are behind it; all before is sealed */
};
static_assert(sizeof(struct checkpoint_head_le) == 48, "layout");

#endif
