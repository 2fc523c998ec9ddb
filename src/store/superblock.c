/* superblock.c - see superblock.h.
 *
 * Both copies are kept the same. A change goes to one, durably, and then to the other; so at any moment one
 * is whole, and after a crash in between the two are of different generations: the higher one is right, and was not
 * promised yet. Later damage of either copy loses nothing.
 *
 * So good copies of different classes, or stores, were never written by one writer: a write has gone astray, and which of the two is
 * right is not told by a generation. Who knows the store's UUID says it; of `capacity` nobody does, and its catalogue tells (store.c).
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

/* ---- reading ---- */

struct copies {
	struct superblock sb[SUPERBLOCK_COPIES];
	int results[SUPERBLOCK_COPIES];
	struct quire_error errors[SUPERBLOCK_COPIES];
};

static int read_copies(struct device *d, struct copies *ret, struct quire_error *err)
{
	struct superblock_le *block;

	if (d->size_bytes < FORMAT_MIN_CLASS_BYTES)
		return quire_fail(err, -EUCLEAN, "%s: too small for a class of a store", d->name);
	block = aligned_alloc(FORMAT_UNIT_BYTES, sizeof(*block));
	if (block == NULL)
		return quire_fail(err, -ENOMEM, "%s", d->name);
	for (unsigned i = 0; i < SUPERBLOCK_COPIES; i++) {
		ret->results[i] = device_read(d, (uint64_t)i * FORMAT_SUPERBLOCK_STEP, block, sizeof(*block));
		if (ret->results[i] < 0)
			quire_fail(&ret->errors[i], ret->results[i], "%s: reading the superblock", d->name);
		else
			ret->results[i] = superblock_decode(block, d->name, &ret->sb[i], &ret->errors[i]);
	}
	free(block);
	return 0;
}

bool superblock_is_of(const struct superblock *sb, unsigned class_no, const uint8_t *uuid)
{
	return sb->class_no == class_no && (uuid == NULL || memcmp(uuid, sb->uuid, sizeof(sb->uuid)) == 0);
}

/* A good copy is not ours: it was never written here for this class. */
static void set_aside(struct copies *c, unsigned i, const struct device *d, unsigned class_no, const uint8_t *uuid)
{
	if (c->results[i] < 0 || superblock_is_of(&c->sb[i], class_no, uuid))
		return;
	c->results[i] = -EXDEV;
	if (superblock_is_of(&c->sb[i], c->sb[i].class_no, uuid))
		quire_fail(&c->errors[i], -ESTALE, "%s: holds class %u, not %u", d->name, c->sb[i].class_no, class_no);
	else
		quire_fail(&c->errors[i], -ESTALE, "%s: a class of another store", d->name);
}

/* None is to be taken: which one's error tells most. What is somebody's is not told to be nobody's. */
static unsigned which_to_tell(const struct copies *c)
{
	for (unsigned i = 0; i < SUPERBLOCK_COPIES; i++)
		if (c->results[i] == -ENOTSUP)
			return i;
	for (unsigned i = 0; i < SUPERBLOCK_COPIES; i++)
		if (c->results[i] == -EXDEV)
			return i;
	return c->results[0] == -EUCLEAN;
}

/* The good copy of the highest generation; its index, or SUPERBLOCK_COPIES. */
static unsigned latest(const struct copies *c)
{
	if (c->results[0] < 0)
		return c->results[1] == 0 ? 1 : SUPERBLOCK_COPIES;
	return c->results[1] == 0 && c->sb[1].generation > c->sb[0].generation;
}

/* Is a good superblock one that can be used? */
static int examine(const struct superblock *sb, const struct device *d, bool read_only, struct quire_error *err)
{
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
	struct copies c;
	int rc = read_copies(d, &c, err);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < SUPERBLOCK_COPIES; i++)
		set_aside(&c, i, d, class_no, uuid);
	unsigned best = latest(&c);
	/* A newer library's copy decides, whatever the other is. */
	if (best == SUPERBLOCK_COPIES || c.results[best ^ 1] == -ENOTSUP) {
		unsigned which = which_to_tell(&c);
		if (err != NULL)
			*err = c.errors[which];
		return c.results[which] == -EXDEV ? -ESTALE : c.results[which];
	}
	if (c.results[best ^ 1] == 0 && !superblock_is_of(&c.sb[best ^ 1], class_no, c.sb[best].uuid))
		c.results[best ^ 1] = -EXDEV;
	if (c.results[best ^ 1] == 0 && c.sb[best ^ 1].generation != c.sb[best].generation)
		c.results[best ^ 1] = -ESTALE;
	memcpy(ret_results, c.results, sizeof(c.results));
	*ret = c.sb[best];
	return examine(ret, d, read_only, err);
}

int superblock_stores(struct device *d, unsigned class_no, uint8_t ret_uuids[SUPERBLOCK_COPIES][16])
{
	struct copies c;
	int rc = read_copies(d, &c, NULL), n = 0;

	if (rc < 0)
		return rc == -ENOMEM ? rc : 0;
	for (unsigned i = 0; i < SUPERBLOCK_COPIES; i++)
		set_aside(&c, i, d, class_no, NULL);
	unsigned best = latest(&c);
	if (best == SUPERBLOCK_COPIES)
		return 0;
	memcpy(ret_uuids[n++], c.sb[best].uuid, sizeof(c.sb[best].uuid));
	if (c.results[best ^ 1] == 0 && !superblock_is_of(&c.sb[best ^ 1], class_no, c.sb[best].uuid))
		memcpy(ret_uuids[n++], c.sb[best ^ 1].uuid, sizeof(c.sb[best ^ 1].uuid));
	return n;
}

/* ---- writing ---- */

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
