/* superblock.c - see superblock.h.
 *
 * Both copies are kept the same. A change goes to one, durably, and then to the other; so at any moment one
 * is whole, and after a crash in between the two are of different generations: the higher one is right, and was not
 * promised yet. Later damage of either copy loses nothing.
 */
#include "superblock.h"

#include "../base/crc32c.h"
#include "../base/fail.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CRC_FROM offsetof(struct superblock_le, version)

static uint32_t block_crc(const struct superblock_le *block)
{
	return crc32c(0, (const uint8_t *)block + CRC_FROM, sizeof(*block) - CRC_FROM);
}

static void encode(const struct superblock *sb, struct superblock_le *ret)
{
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->magic, FORMAT_SUPERBLOCK_MAGIC, sizeof(ret->magic));
	ret->version = htole32(sb->version);
	ret->compat = htole32(sb->compat);
	ret->ro_compat = htole32(sb->ro_compat);
	ret->incompat = htole32(sb->incompat);
	ret->class_no = htole32(sb->class_no);
	memcpy(ret->uuid, sb->uuid, sizeof(ret->uuid));
	ret->generation = htole64(sb->generation);
	ret->n_units = htole64(sb->n_units);
	ret->classes = htole32(sb->classes);
	ret->catalogue_segment_bytes = htole32(sb->catalogue_segment_bytes);
	for (int i = 0; i < 2; i++)
		ret->catalogue_first[i] = htole64(sb->catalogue_first[i]);
	ret->crc = htole32(block_crc(ret));
}

int superblock_decode(const struct superblock_le *block, const char *name, struct superblock *ret,
                      struct quire_error *err)
{
	if (memcmp(block->magic, FORMAT_SUPERBLOCK_MAGIC, sizeof(block->magic)) != 0)
		return quire_fail(err, -EUCLEAN, "%s: no superblock of a store", name);
	if (le32toh(block->crc) != block_crc(block))
		return quire_fail(err, -EBADMSG, "%s: the superblock is damaged", name);
	*ret = (struct superblock){
		.version = le32toh(block->version),
		.compat = le32toh(block->compat),
		.ro_compat = le32toh(block->ro_compat),
		.incompat = le32toh(block->incompat),
		.class_no = le32toh(block->class_no),
		.generation = le64toh(block->generation),
		.n_units = le64toh(block->n_units),
		.classes = le32toh(block->classes),
		.catalogue_segment_bytes = le32toh(block->catalogue_segment_bytes),
		.catalogue_first = {le64toh(block->catalogue_first[0]), le64toh(block->catalogue_first[1])},
	};
	memcpy(ret->uuid, block->uuid, sizeof(ret->uuid));
	if (ret->version != FORMAT_VERSION)
		return quire_fail(err, -ENOTSUP, "%s: format version %u, this library knows %u", name, ret->version,
		                  FORMAT_VERSION);
	if ((ret->incompat & ~FORMAT_KNOWN_INCOMPAT) != 0)
		return quire_fail(err, -ENOTSUP, "%s: features 0x%x that this library does not know", name,
		                  ret->incompat & ~FORMAT_KNOWN_INCOMPAT);
	return 0;
}

/* Is a good superblock the one that is wanted? */
static int examine(const struct superblock *sb, const struct device *d, unsigned class_no, const uint8_t *uuid,
                   bool read_only, struct quire_error *err)
{
	if (uuid != NULL && memcmp(uuid, sb->uuid, sizeof(sb->uuid)) != 0)
		return quire_fail(err, -ESTALE, "%s: a class of another store", d->name);
	if (sb->class_no != class_no)
		return quire_fail(err, -ESTALE, "%s: holds class %u, not %u", d->name, sb->class_no, class_no);
	if (!read_only && (sb->ro_compat & ~FORMAT_KNOWN_RO_COMPAT) != 0)
		return quire_fail(err, -ENOTSUP, "%s: features 0x%x that allow this library to read only", d->name,
		                  sb->ro_compat & ~FORMAT_KNOWN_RO_COMPAT);
	if (sb->n_units > FORMAT_MAX_CLASS_UNITS || sb->n_units < FORMAT_MIN_CLASS_BYTES / FORMAT_UNIT_BYTES)
		return quire_fail(err, -EUCLEAN, "%s: a class of %llu units", d->name, (unsigned long long)sb->n_units);
	if (d->size_bytes / FORMAT_UNIT_BYTES < sb->n_units)
		return quire_fail(err, -EUCLEAN, "%s: too small: the class has %llu bytes, the device %llu", d->name,
		                  (unsigned long long)sb->n_units * FORMAT_UNIT_BYTES,
		                  (unsigned long long)d->size_bytes);
	return 0;
}

int superblock_read(struct device *d, unsigned class_no, const uint8_t *uuid, bool read_only,
                    struct superblock *ret, int ret_results[SUPERBLOCK_COPIES], struct quire_error *err)
{
	struct superblock copies[SUPERBLOCK_COPIES];
	struct quire_error errors[SUPERBLOCK_COPIES];
	struct superblock_le *block;

	if (d->size_bytes < FORMAT_MIN_CLASS_BYTES)
		return quire_fail(err, -EUCLEAN, "%s: too small for a class of a store", d->name);
	block = aligned_alloc(FORMAT_UNIT_BYTES, sizeof(*block));
	if (block == NULL)
		return quire_fail(err, -ENOMEM, "%s", d->name);
	for (unsigned i = 0; i < SUPERBLOCK_COPIES; i++) {
		ret_results[i] = device_read(d, (uint64_t)i * FORMAT_SUPERBLOCK_STEP, block, sizeof(*block));
		if (ret_results[i] < 0)
			quire_fail(&errors[i], ret_results[i], "%s: reading the superblock", d->name);
		else
			ret_results[i] = superblock_decode(block, d->name, &copies[i], &errors[i]);
	}
	free(block);
	/* A newer library's copy decides, whatever the other is. */
	unsigned best = ret_results[0] == 0 ? 0 : 1;
	if (ret_results[0] == 0 && ret_results[1] == 0 && copies[1].generation > copies[0].generation)
		best = 1;
	if (ret_results[best] < 0 || ret_results[!best] == -ENOTSUP) {
		unsigned which = ret_results[0] == -EUCLEAN || ret_results[1] == -ENOTSUP;
		if (err != NULL)
			*err = errors[which];
		return ret_results[which];
	}
	if (ret_results[!best] == 0 && copies[!best].generation != copies[best].generation)
		ret_results[!best] = -ESTALE;
	*ret = copies[best];
	return examine(ret, d, class_no, uuid, read_only, err);
}

int superblock_write_copy(struct device *d, const struct superblock *sb, unsigned copy)
{
	struct superblock_le *block = aligned_alloc(FORMAT_UNIT_BYTES, sizeof(*block));

	if (block == NULL)
		return -ENOMEM;
	encode(sb, block);
	int rc = device_write(d, (uint64_t)copy * FORMAT_SUPERBLOCK_STEP, block, sizeof(*block), true);
	free(block);
	return rc;
}

int superblock_write(struct device *d, const struct superblock *sb, unsigned first)
{
	int rc = 0;

	for (unsigned i = 0; i < SUPERBLOCK_COPIES && rc == 0; i++)
		rc = superblock_write_copy(d, sb, (first + i) % SUPERBLOCK_COPIES);
	return rc;
}
