/* volume_format.h - what a group of volumes writes: records of its log, and its checkpoints. docs/format.md says the same in words.
 * All numbers are little-endian. */
#ifndef VOLUME_VOLUME_FORMAT_H
#define VOLUME_VOLUME_FORMAT_H

#include "map.h"

#include "../journal/journal.h"

#include <assert.h>

#define VOLUME_NAME_BYTES 128u /* the NUL included */

enum volume_record {
	VOLUME_DATA = 16,  /* a block with struct data_le and its entries, then their data */
	VOLUME_PAGES = 17, /* a block with struct data_le, then pages of trees */
	VOLUME_TABLE = 18, /* a block with struct table_le: volumes and trees that are new, or other than before */
};

/* What is left of the first block of a record behind its header. */
#define VOLUME_HEAD_BYTES (MAP_BLOCK_BYTES - JOURNAL_RECORD_HEADER_BYTES)

struct data_le {
	uint32_t n_entries, n_blocks;
	uint64_t zero;
};
static_assert(sizeof(struct data_le) == 16, "layout");

/* At the end of every head: see head.c. */
struct head_tail_le {
	uint32_t crc; /* of the head before this, then of 4 zeros */
	uint16_t type_before, bytes_before; /* what stands before this, of the record before; 0: nothing */
};
static_assert(sizeof(struct head_tail_le) == 8, "layout");
#define VOLUME_HEAD_ROOM (VOLUME_HEAD_BYTES - (uint32_t)sizeof(struct head_tail_le))

enum entry_kind {
	ENTRY_DATA = 0, /* its blocks follow, after those of the entries before it */
	ENTRY_HOLE = 1,
	ENTRY_ZERO = 2,
	ENTRY_NONE = 3, /* its blocks follow as well, and are nothing's: it had changed before it was moved */
	ENTRY_FIRST = 4, /* of the tree of what was moved: as ENTRY_DATA, and it was where its number says before */
};

/* The tree of what was moved while frozen trees had it: by the place where it was at first. */
#define VOLUME_MOVED_TREE UINT32_MAX

struct entry_le {
	uint64_t lba;
	uint64_t birth;
	uint64_t n; /* blocks */
	uint32_t tree;
	uint8_t kind;
	uint8_t zero[3];
};
static_assert(sizeof(struct entry_le) == 32 && offsetof(struct entry_le, tree) == 24 &&
              offsetof(struct entry_le, kind) == 28, "layout");
#define VOLUME_MAX_ENTRIES ((VOLUME_HEAD_BYTES - (uint32_t)sizeof(struct data_le)) / (uint32_t)sizeof(struct entry_le))

/* ---- volumes and trees ---- */

#define VOLUME_IS_SNAPSHOT 1u
#define VOLUME_IS_GONE 2u   /* in a record: it is no more */
#define VOLUME_IS_DURABLE 4u /* every write of it is */
#define VOLUME_IS_RESERVED 8u /* space for all of it is kept */
#define VOLUME_IS_OVER 256u     /* a file or a blob, as a property says */
#define VOLUME_IS_PARTIAL 512u  /* not to be opened yet: its base is not noted, or it is being received. Its name is `.` and the later one */
#define VOLUME_IS_RECEIVED 1024u /* perhaps; a property says */
#define VOLUME_KNOWN_FLAGS 0x70fu /* a new one needs a feature of the store, by which older libraries know what they may do */

struct volume_le {
	uint32_t id;
	uint32_t tree;
	uint32_t origin;     /* snapshot: of which volume; clone: of which snapshot or volume; 0: none */
	uint32_t flags;
	uint64_t size_bytes;
	uint64_t generation; /* when it was made; of a snapshot, of what it holds */
	uint64_t left_from, left_to; /* generations above the first, to the second, were left by rollbacks */
	uint8_t name[VOLUME_NAME_BYTES]; /* zeros behind it */
};
static_assert(sizeof(struct volume_le) == 176 && offsetof(struct volume_le, size_bytes) == 16 &&
              offsetof(struct volume_le, name) == 48, "layout");

#define TREE_IS_GIVEN_UP 1u /* nobody's any more; perhaps others have part of it */
#define TREE_HAS_ROOT 2u    /* root is what it began with, and what was merged since; else that is its parent's content */

struct tree_le {
	uint32_t id;
	uint32_t parent;     /* whose content it began with; 0: none */
	uint32_t flags;
	uint32_t root_level;
	uint64_t frozen;     /* generation up to which it was written; 0: it is still */
	uint64_t root_place, root_birth, root_key; /* in checkpoints, and these, in blocks: */
	uint64_t n_own, n_zero, n_data; /* of data and zeros that its parent has not; of data over its parent, or, with a root, in all */
};
static_assert(sizeof(struct tree_le) == 72 && offsetof(struct tree_le, frozen) == 16 &&
              offsetof(struct tree_le, root_place) == 24, "layout");

struct table_le {
	uint64_t generation;
	uint32_t next_id; /* of volumes and trees; all below may have been given out */
	uint16_t n_volumes, n_trees; /* that follow */
};
static_assert(sizeof(struct table_le) == 16, "layout");

/* ---- a checkpoint: an object of the store ---- */

#define VOLUME_CHECKPOINT_MAGIC "QuireVol"
#define VOLUME_CHECKPOINT_MAGIC_BYTES {'Q', 'u', 'i', 'r', 'e', 'V', 'o', 'l'}
#define VOLUME_CHECKPOINT_VERSION 2u

struct checkpoint_le {
	uint8_t magic[8];
	uint32_t version;
	uint32_t next_id;
	uint64_t log_id;
	uint64_t generation;
	uint64_t segment_no;    /* what is to be read again begins in that segment, */
	uint64_t segment_id;    /* of this id, */
	uint32_t offset;        /* here */
	uint32_t n_volumes, n_trees, n_segments; /* that follow */
	uint64_t n_extents;     /* and so do these: of trees, over their pages */
	uint64_t zero;
};
static_assert(sizeof(struct checkpoint_le) == 80 && offsetof(struct checkpoint_le, offset) == 48, "layout");

struct checkpoint_segment_le {
	uint64_t no, id;
	uint32_t n_live; /* blocks */
	uint32_t flags;
};
#define SEGMENT_HAS_MOVED 1u /* some of its blocks are where the tree of what was moved says */

static_assert(sizeof(struct checkpoint_segment_le) == 24, "layout");

struct checkpoint_extent_le {
	uint64_t lba, n, place, birth;
	uint32_t tree;
	uint32_t zero;
};
static_assert(sizeof(struct checkpoint_extent_le) == 40, "layout");

#endif
