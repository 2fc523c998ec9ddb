/* property.h - what is known of a volume besides its row in the table: blocks of its tree beyond every size. So they are in the log, verified,
 * moved and freed as all blocks are; snapshots and clones have them as they have the rest. For src/volume alone. */
#ifndef VOLUME_PROPERTY_H
#define VOLUME_PROPERTY_H

#include "map.h"

#include <assert.h>
#include <stddef.h>

struct quire_volume;
struct quire_volumes;

#define PROPERTY_FIRST_LBA MAP_MAX_BLOCKS

enum property {
	PROPERTY_BASE = 0,     /* struct base_le */
	PROPERTY_RECEIVED = 1, /* struct received_le */
};

#define PROPERTY_BASE_MAGIC "QuireVbs"
#define PROPERTY_RECEIVED_MAGIC "QuireVrc"

struct base_le {
	uint8_t magic[8];
	uint32_t kind;        /* enum quire_volume_base_kind */
	uint32_t mtime_ns;    /* of a file: this, */
	uint64_t mtime_s, inode;
	uint64_t size_bytes;  /* of the file or blob */
	uint64_t shown_bytes; /* of it: to the size that the volume had at first */
	uint64_t blob;
	uint32_t path_bytes;  /* of a file: its path, which is the rest of the block's first part */
	uint32_t zero;
	uint8_t path[3072];   /* zeros behind it */
	uint8_t more[MAP_BLOCK_BYTES - 64 - 3072];
};
static_assert(sizeof(struct base_le) == MAP_BLOCK_BYTES && offsetof(struct base_le, path) == 64, "layout");

/* Which snapshot, of all there are anywhere. Zeros: none. */
struct identity_le {
	uint8_t store[16];
	uint64_t log, generation;
	uint32_t volume;
	uint32_t zero;
};
static_assert(sizeof(struct identity_le) == 40, "layout");

struct received_le {
	uint8_t magic[8];
	uint32_t owner;    /* id of the volume or snapshot that this is about; of others, who have the block from it, it says nothing */
	uint32_t zero;
	struct identity_le to, from; /* what it is, or is to be; and what the stream went on from */
	uint64_t position; /* bytes of it that have come */
	uint8_t more[MAP_BLOCK_BYTES - 104];
};
static_assert(sizeof(struct received_le) == MAP_BLOCK_BYTES && offsetof(struct received_le, position) == 96, "layout");

/* One block. -ENODATA: there is none; -EUCLEAN: it is not what it should be. May wait; without the lock, as the next. */
int property_read(struct quire_volumes *g, uint32_t tree, enum property which, void *block);
int property_write(struct quire_volume *h, enum property which, const void *block);

#endif
