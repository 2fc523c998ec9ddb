/* map.h - which block of a volume lies where: extents, the pages of copy-on-write trees that hold them, and what is not in
 * such a tree yet. See docs/volume.md for why it is built so.
 *
 * Blocks are of 4 KiB. A *place* is a block of the group's log: the number of a segment in the log's life, plus one, times
 * the blocks of a segment, plus the block in it. It is never given out twice, and below MAP_MAX_LBA. Places below MAP_FIRST_PLACE are none:
 * MAP_HOLE reads as zeros and takes no space; MAP_ZERO too, but is space that was promised.
 *
 * A *tree* is the content of a volume or of a snapshot, at one time: an immutable B+tree of pages, by its root, and over it
 * what was written since, in deltas (map_delta.h). Trees share pages. Each extent and each page knows its *birth*: the
 * group's generation when it was written.
 */
#ifndef VOLUME_MAP_H
#define VOLUME_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAP_BLOCK_BYTES 4096u
#define MAP_BLOCK_SHIFT 12
#define MAP_HOLE UINT64_C(0)
#define MAP_ZERO UINT64_C(1)
#define MAP_FIRST_PLACE UINT64_C(16) /* blocks of the smallest segment */
#define MAP_MAX_BLOCKS (UINT64_C(1) << 34) /* of a volume: 64 TiB */
#define MAP_MAX_LBA (UINT64_C(1) << 56)    /* of a tree: that of what was moved is by places */
#define MAP_MAX_LEVELS 12u

struct map_extent {
	uint64_t lba;   /* blocks of the volume */
	uint64_t n;     /* blocks; of a page's reference: unused */
	uint64_t place;
	uint64_t birth;
};

static inline uint64_t map_end(const struct map_extent *e)
{
	return e->lba + e->n;
}

/* It lies somewhere. */
static inline bool map_is_data(uint64_t place)
{
	return place >= MAP_FIRST_PLACE;
}

static inline uint64_t map_place_at(uint64_t place, uint64_t n_blocks)
{
	return map_is_data(place) ? place + n_blocks : place;
}

/* Of what was read: it may stand in a tree of that generation. Whatever may, fits into pages together with anything else that may. */
static inline bool map_is_possible(const struct map_extent *e, uint64_t generation)
{
	return e->n > 0 && e->n <= MAP_MAX_BLOCKS && e->lba <= MAP_MAX_LBA - e->n && e->place <= MAP_MAX_LBA - e->n && e->birth <= generation;
}

/* The part of e in [from, end), which overlap it. */
static inline struct map_extent map_cut(const struct map_extent *e, uint64_t from, uint64_t end)
{
	uint64_t lba = from > e->lba ? from : e->lba, stop = end < map_end(e) ? end : map_end(e);

	return (struct map_extent){lba, stop - lba, map_place_at(e->place, lba - e->lba), e->birth};
}

/* b goes on where a ends, in every respect. */
static inline bool map_continues(const struct map_extent *a, const struct map_extent *b)
{
	return map_end(a) == b->lba && a->birth == b->birth && map_place_at(a->place, a->n) == b->place &&
	       map_is_data(a->place) == map_is_data(b->place);
}

struct map_root {
	uint64_t place;  /* of the page; 0: an empty tree */
	uint64_t birth;
	uint32_t level;  /* 0: it is a leaf */
	uint64_t key;    /* lba of its first extent */
};

/* Where pages are, and who counts what becomes free. */
struct map_owner {
	uint64_t id; /* for the cache: map_cache_new_owner */
	/* The page at a place. May suspend or block. -EIO, -ESTALE: that place is no more. */
	int (*read)(struct map_owner *owner, uint64_t place, void *page);
	/* n pages, one after the other in memory; their places. Durable by the time the new roots are. */
	int (*write)(struct map_owner *owner, const void *pages, unsigned n, uint64_t *ret_places);
	/* Blocks that the tree which is merged or freed has lost, and nobody else has. */
	void (*dead)(struct map_owner *owner, uint64_t place, uint64_t n_blocks);
};

#endif
