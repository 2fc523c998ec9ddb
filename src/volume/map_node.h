/* map_node.h - a page of a tree: up to some hundred extents, or references to pages of the level below, each in no more bits than
 * the page's own range of values asks for. It is searched as it is: a page in memory is the page on media. */
#ifndef VOLUME_MAP_NODE_H
#define VOLUME_MAP_NODE_H

#include "map.h"

#include <assert.h>

#define MAP_NODE_BYTES MAP_BLOCK_BYTES
#define MAP_NODE_MAX_ENTRIES 4096u
#define MAP_NODE_MAGIC 0x4e6d7651u /* QvmN */

struct map_node_le {
	uint32_t crc;   /* of what follows */
	uint32_t magic;
	uint64_t birth;
	uint64_t base[4]; /* the least lba, n, place, birth of its entries */
	uint16_t n;
	uint8_t level;
	uint8_t width[4]; /* bits of each above its base, in that order, entry by entry; at most 57 */
	uint8_t zero;
	uint8_t bits[MAP_NODE_BYTES - 64];
	uint64_t behind; /* zeros: fields are loaded 8 bytes at a time */
};
static_assert(sizeof(struct map_node_le) == MAP_NODE_BYTES, "layout");
static_assert(offsetof(struct map_node_le, base) == 16 && offsetof(struct map_node_le, n) == 48 &&
              offsetof(struct map_node_le, level) == 50 && offsetof(struct map_node_le, width) == 51 &&
              offsetof(struct map_node_le, bits) == 56, "layout");
#define MAP_NODE_CAPACITY_BITS ((MAP_NODE_BYTES - 64) * 8)

/* Entries as they come, and what they would take. */
struct map_range {
	uint64_t low[4], high[4];
	uint32_t n;
};
void map_range_add(struct map_range *r, const struct map_extent *e);
uint64_t map_range_bits(const struct map_range *r);
static inline bool map_range_fits(const struct map_range *r)
{
	return r->n <= MAP_NODE_MAX_ENTRIES && map_range_bits(r) <= MAP_NODE_CAPACITY_BITS;
}

/* n entries, ascending, that fit. */
void map_node_encode(const struct map_extent *entries, uint32_t n, unsigned level, uint64_t birth,
                     struct map_node_le *ret);

/* A page that came off the medium. 0; -EBADMSG: its checksum; -EUCLEAN: what no writer makes, or not the page that `want` refers
 * to, at that level. */
int map_node_verify(const struct map_node_le *node, const struct map_extent *want, unsigned level);

uint32_t map_node_n(const struct map_node_le *node);
struct map_extent map_node_get(const struct map_node_le *node, uint32_t i);

/* The last entry whose lba is not above; -1: they all are. */
int32_t map_node_find(const struct map_node_le *node, uint64_t lba);

#endif
