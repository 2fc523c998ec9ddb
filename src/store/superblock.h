/* superblock.h - what a class of a store is: read, checked, written. */
#ifndef STORE_SUPERBLOCK_H
#define STORE_SUPERBLOCK_H

#include "format.h"
#include "../media/device.h"

#define SUPERBLOCK_COPIES 2u

struct superblock {
	uint32_t version;
	uint32_t compat, ro_compat, incompat;
	uint32_t class_no;
	uint8_t uuid[16];
	uint64_t generation, n_units;
	uint32_t classes, catalogue_segment_bytes;
	uint64_t catalogue_first[2];
};

/* What one copy is: 0; -EUCLEAN: no superblock; -EBADMSG: a damaged one; -ENOTSUP: newer than
 * this library. err (NULL allowed) says why; name: of the device. */
int superblock_decode(const struct superblock_le *block, const char *name, struct superblock *ret,
                      struct quire_error *err);

/* It says that it is of that class, and of that store (NULL: any). */
bool superblock_is_of(const struct superblock *sb, unsigned class_no, const uint8_t *uuid);

/* Reads both copies and takes the good one of the highest generation, of a class of that store (uuid, NULL: any): -ESTALE: there is
 * only another store's, or class's; -EUCLEAN: the device is smaller than the class; besides what decode says. ret_results,
 * if one was taken: of each copy, 0 of that one and its like, -ESTALE: older than that, -EXDEV: of another store or class. Suspends or
 * blocks. */
int superblock_read(struct device *d, unsigned class_no, const uint8_t *uuid, bool read_only,
                    struct superblock *ret, int ret_results[SUPERBLOCK_COPIES], struct quire_error *err);

/* Of which stores there is a good superblock of that class, the one that superblock_read takes for any store first: how many. Two: the copies
 * contradict each other. -ENOMEM. Suspends or blocks. */
int superblock_stores(struct device *d, unsigned class_no, uint8_t ret_uuids[SUPERBLOCK_COPIES][16]);

/* Writes one copy, durably; and both, each durable before the other is touched, the older or damaged one first (first: its index). */
int superblock_write_copy(struct device *d, const struct superblock *sb, unsigned copy);
int superblock_write(struct device *d, const struct superblock *sb, unsigned first);

#endif
