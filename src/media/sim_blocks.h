/* sim_blocks.h - content of a simulated medium: 4 KiB blocks, shared by reference; maps of them,
 * copied when written to. For src/media/sim*.c alone. Nothing here fails or locks: see sim.c. */
#ifndef MEDIA_SIM_BLOCKS_H
#define MEDIA_SIM_BLOCKS_H

#include "device.h"

#define SIM_BLOCK_BYTES DEVICE_BLOCK_BYTES
#define SIM_LEAF_BLOCKS 64u

/* Never changes while more than one refers to it. */
struct sim_block {
	unsigned char data[SIM_BLOCK_BYTES];
	struct sim_block *next; /* in the pool */
	uint32_t n_refs;
};

struct sim_chunk;

struct sim_pool {
	struct sim_block *free;
	struct sim_chunk *chunks; /* owned */
};

void sim_pool_fini(struct sim_pool *pool);
struct sim_block *sim_block_new(struct sim_pool *pool); /* one reference, content undefined */
struct sim_block *sim_block_ref(struct sim_block *block); /* NULL allowed, as below: a block of zeros */
void sim_block_unref(struct sim_pool *pool, struct sim_block *block);

struct sim_leaf {
	uint32_t n_refs;
	uint64_t written; /* one bit a block: takes space */
	struct sim_block *blocks[SIM_LEAF_BLOCKS];
	uint64_t since[SIM_LEAF_BLOCKS]; /* number of the write that made it so */
};

struct sim_map {
	struct sim_leaf **leaves; /* owned; NULL: all zeros */
	uint32_t n_leaves;
};

void sim_map_init(struct sim_map *map, uint64_t n_blocks);
void sim_map_grow(struct sim_map *map, uint64_t n_blocks);
void sim_map_copy(struct sim_map *ret, const struct sim_map *map); /* O(leaves) */
void sim_map_fini(struct sim_map *map, struct sim_pool *pool);

struct sim_block *sim_map_get(const struct sim_map *map, uint64_t at); /* borrowed; NULL: zeros */
uint64_t sim_map_since(const struct sim_map *map, uint64_t at);
bool sim_map_is_written(const struct sim_map *map, uint64_t at);
uint64_t sim_map_n_written(const struct sim_map *map);

/* Takes over the reference. */
void sim_map_set(struct sim_map *map, struct sim_pool *pool, uint64_t at, struct sim_block *block, bool written,
                 uint64_t since);

#endif
