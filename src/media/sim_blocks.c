/* sim_blocks.c - see sim_blocks.h. A double for tests: without memory it ends the process. */
#include "sim_blocks.h"

#include "../base/assert.h"
#include <stdlib.h>
#include <string.h>

#define CHUNK_BLOCKS 24u /* below malloc's threshold for mapping */

struct sim_chunk {
	struct sim_chunk *next;
	struct sim_block blocks[CHUNK_BLOCKS];
};

/* ---- blocks ---- */

void sim_pool_fini(struct sim_pool *pool)
{
	while (pool->chunks != NULL) {
		struct sim_chunk *chunk = pool->chunks;
		pool->chunks = chunk->next;
		free(chunk);
	}
}

struct sim_block *sim_block_new(struct sim_pool *pool)
{
	if (pool->free == NULL) {
		struct sim_chunk *chunk = malloc(sizeof(*chunk));
		quire_assert(chunk != NULL);
		chunk->next = pool->chunks;
		pool->chunks = chunk;
		for (unsigned i = 0; i < CHUNK_BLOCKS; i++) {
			chunk->blocks[i].next = pool->free;
			pool->free = &chunk->blocks[i];
		}
	}
	struct sim_block *block = pool->free;
	pool->free = block->next;
	block->n_refs = 1;
	return block;
}

struct sim_block *sim_block_ref(struct sim_block *block)
{
	if (block != NULL)
		block->n_refs++;
	return block;
}

void sim_block_unref(struct sim_pool *pool, struct sim_block *block)
{
	if (block == NULL || --block->n_refs != 0)
		return;
	block->next = pool->free;
	pool->free = block;
}

/* ---- maps ---- */

static uint32_t leaves_for(uint64_t n_blocks)
{
	return (uint32_t)((n_blocks + SIM_LEAF_BLOCKS - 1) / SIM_LEAF_BLOCKS);
}

void sim_map_init(struct sim_map *map, uint64_t n_blocks)
{
	map->n_leaves = leaves_for(n_blocks);
	map->leaves = calloc(map->n_leaves, sizeof(*map->leaves));
	quire_assert(map->leaves != NULL);
}

void sim_map_grow(struct sim_map *map, uint64_t n_blocks)
{
	uint32_t n = leaves_for(n_blocks);
	map->leaves = realloc(map->leaves, n * sizeof(*map->leaves));
	quire_assert(map->leaves != NULL);
	memset(map->leaves + map->n_leaves, 0, (n - map->n_leaves) * sizeof(*map->leaves));
	map->n_leaves = n;
}

void sim_map_copy(struct sim_map *ret, const struct sim_map *map)
{
	ret->n_leaves = map->n_leaves;
	ret->leaves = malloc(map->n_leaves * sizeof(*map->leaves));
	quire_assert(ret->leaves != NULL);
	for (uint32_t i = 0; i < map->n_leaves; i++) {
		ret->leaves[i] = map->leaves[i];
		if (ret->leaves[i] != NULL)
			ret->leaves[i]->n_refs++;
	}
}

static void leaf_unref(struct sim_leaf *leaf, struct sim_pool *pool)
{
	if (leaf == NULL || --leaf->n_refs != 0)
		return;
	for (unsigned i = 0; i < SIM_LEAF_BLOCKS; i++)
		sim_block_unref(pool, leaf->blocks[i]);
	free(leaf);
}

void sim_map_fini(struct sim_map *map, struct sim_pool *pool)
{
	for (uint32_t i = 0; i < map->n_leaves; i++)
		leaf_unref(map->leaves[i], pool);
	free(map->leaves);
	map->leaves = NULL;
	map->n_leaves = 0;
}

/* The leaf of that block, ours alone. */
static struct sim_leaf *leaf_own(struct sim_map *map, uint64_t at, struct sim_pool *pool)
{
	struct sim_leaf **place = &map->leaves[at / SIM_LEAF_BLOCKS];
	struct sim_leaf *old = *place;
	if (old != NULL && old->n_refs == 1)
		return old;
	struct sim_leaf *leaf = calloc(1, sizeof(*leaf));
	quire_assert(leaf != NULL);
	if (old != NULL) {
		memcpy(leaf, old, sizeof(*leaf));
		for (unsigned i = 0; i < SIM_LEAF_BLOCKS; i++)
			sim_block_ref(leaf->blocks[i]);
		leaf_unref(old, pool);
	}
	leaf->n_refs = 1;
	*place = leaf;
	return leaf;
}

struct sim_block *sim_map_get(const struct sim_map *map, uint64_t at)
{
	const struct sim_leaf *leaf = map->leaves[at / SIM_LEAF_BLOCKS];
	return leaf == NULL ? NULL : leaf->blocks[at % SIM_LEAF_BLOCKS];
}

uint64_t sim_map_since(const struct sim_map *map, uint64_t at)
{
	const struct sim_leaf *leaf = map->leaves[at / SIM_LEAF_BLOCKS];
	return leaf == NULL ? 0 : leaf->since[at % SIM_LEAF_BLOCKS];
}

bool sim_map_is_written(const struct sim_map *map, uint64_t at)
{
	const struct sim_leaf *leaf = map->leaves[at / SIM_LEAF_BLOCKS];
	return leaf != NULL && (leaf->written >> at % SIM_LEAF_BLOCKS & 1);
}

uint64_t sim_map_n_written(const struct sim_map *map)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < map->n_leaves; i++) {
		if (map->leaves[i] != NULL)
			n += (unsigned)__builtin_popcountll(map->leaves[i]->written);
	}
	return n;
}

void sim_map_set(struct sim_map *map, struct sim_pool *pool, uint64_t at, struct sim_block *block, bool written,
                 uint64_t since)
{
	struct sim_leaf *leaf = leaf_own(map, at, pool);
	unsigned i = (unsigned)(at % SIM_LEAF_BLOCKS);
	sim_block_unref(pool, leaf->blocks[i]);
	leaf->blocks[i] = block;
	leaf->since[i] = since;
	leaf->written = (leaf->written & ~(UINT64_C(1) << i)) | (uint64_t)written << i;
}
