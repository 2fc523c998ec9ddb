/* export_swap.c - a disk that is a pool of pages: what is written is compressed, deduplicated, capped, and may be refused.
 *
 * Made for swap: a block that is not in the pool reads as zeros, a discard is a flush, and nothing outlives the pool, so a flush of the disk has
 * nothing to do. Blocks are the pool's pages, of 4 KiB. A write whose put is refused is an error to whoever writes; a system that swaps
 * keeps the page and goes on.
 *
 * A put that was refused has flushed what was there before. Then the block is neither what it was nor what it should have become, and
 * zeros would be a lie: it is lost, and reads as an error until it is written or discarded. So:
 *
 * 1. A block reads as what the last write that succeeded gave, or as zeros if it was discarded since, or never written; else as an error.
 * 2. n_lost is the number of bits set in `lost`; none of these blocks is in the pool.
 *
 * 512 blocks that follow each other are one object of the pool: then discarding what isn't there costs little, and an object's
 * own memory is nothing beside its pages.
 *
 * One loop's thread uses it. Puts and gets of a pool that spills may suspend; in between others may run, so a long request lets them.
 */
#include "nbd_internal.h"
#include "ublk_internal.h"

#include "../base/assert.h"
#include "../base/fail.h"
#include "../base/pages.h"
#include "../tmem/tmem.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define BLOCK_BYTES 4096u
#define OBJECT_BLOCKS 512u
#define YIELD_BLOCKS 64u /* puts or gets in a row: well under a millisecond */
#define YIELD_OBJECTS 16u
#define SIZE_MAX_BYTES (UINT64_C(1) << 48)

struct swap {
	struct export base;
	struct quire_tmem_pool *pool; /* borrowed: until it is closed */
	uint64_t n_blocks;
	uint64_t *lost;               /* owned: a mapping, a bit a block */
	size_t lost_bytes;
	uint64_t n_lost;
};

static struct swap *swap_of(struct export *e)
{
	return (struct swap *)(void *)e;
}

static struct quire_tmem_key key_of(uint64_t block)
{
	return (struct quire_tmem_key){.object = {0, 0, block / OBJECT_BLOCKS}, .index = (uint32_t)(block % OBJECT_BLOCKS)};
}

/* ---- lost blocks ---- */

static bool is_lost(const struct swap *s, uint64_t block)
{
	return s->n_lost > 0 && s->lost[block / 64] >> (block % 64) & 1;
}

static void set_lost(struct swap *s, uint64_t block)
{
	s->n_lost += !is_lost(s, block);
	s->lost[block / 64] |= UINT64_C(1) << (block % 64);
}

static void forget_lost(struct swap *s, uint64_t first, uint64_t end)
{
	for (uint64_t block = first; block < end && s->n_lost > 0; block++) {
		s->n_lost -= is_lost(s, block);
		s->lost[block / 64] &= ~(UINT64_C(1) << (block % 64));
	}
}

/* ---- requests ---- */

static void describe(struct export *e, struct export_description *ret)
{
	*ret = (struct export_description){
		.size_bytes = swap_of(e)->n_blocks * BLOCK_BYTES,
		.least_block = BLOCK_BYTES,
		.preferred_block = BLOCK_BYTES,
		.flags = EXPORT_TRIM | EXPORT_ZERO | EXPORT_FAST_ZERO,
	};
}

static void let_others_run(uint64_t n_done, unsigned often)
{
	if (n_done % often == 0)
		(void)quire_co_yield();
}

static int read_bytes(struct export *e, void *buf, uint64_t offset, uint32_t n_bytes)
{
	struct swap *s = swap_of(e);
	uint64_t first = offset / BLOCK_BYTES;

	for (uint64_t i = 0; i < n_bytes / BLOCK_BYTES; i++) {
		char *to = (char *)buf + i * BLOCK_BYTES;
		struct quire_tmem_key key = key_of(first + i);
		int rc = quire_tmem_get(s->pool, &key, to, QUIRE_TMEM_GET_KEEP);
		if (rc == -ENOENT && is_lost(s, first + i))
			return -EIO;
		if (rc < 0 && rc != -ENOENT)
			return rc;
		if (rc == -ENOENT)
			memset(to, 0, BLOCK_BYTES);
		let_others_run(i + 1, YIELD_BLOCKS);
	}
	return 0;
}

static int put(struct swap *s, uint64_t block, const void *bytes)
{
	struct quire_tmem_key key = key_of(block);
	int rc = quire_tmem_put(s->pool, &key, bytes);

	if (rc < 0)
		set_lost(s, block);
	else
		forget_lost(s, block, block + 1);
	return rc == -E2BIG ? -ENOSPC : rc;
}

/* What comes before a block that is refused stays written. */
static int write_bytes(struct export *e, const void *buf, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < n_bytes / BLOCK_BYTES; i++) {
		rc = put(swap_of(e), offset / BLOCK_BYTES + i, (const char *)buf + i * BLOCK_BYTES);
		let_others_run(i + 1, YIELD_BLOCKS);
	}
	return rc;
}

static int flush(struct export *e)
{
	return 0;
}

static int trim(struct export *e, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	struct swap *s = swap_of(e);
	uint64_t block = offset / BLOCK_BYTES, end = block + n_bytes / BLOCK_BYTES, n_objects = 0;

	forget_lost(s, block, end);
	while (block < end) {
		struct quire_tmem_key key = key_of(block);
		if (key.index == 0 && end - block >= OBJECT_BLOCKS) {
			(void)quire_tmem_flush_object(s->pool, key.object);
			block += OBJECT_BLOCKS;
			let_others_run(++n_objects, YIELD_OBJECTS);
		} else {
			(void)quire_tmem_flush(s->pool, &key);
			block++;
		}
	}
	return 0;
}

/* A page of zeros takes a word of the pool, and an entry: that is the room that it keeps. */
static int zero(struct export *e, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	static const uint64_t zeros[BLOCK_BYTES / sizeof(uint64_t)];
	int rc = 0;

	if (!(how & EXPORT_NO_HOLE))
		return trim(e, offset, n_bytes, how);
	for (uint64_t i = 0; rc == 0 && i < n_bytes / BLOCK_BYTES; i++) {
		rc = put(swap_of(e), offset / BLOCK_BYTES + i, zeros);
		let_others_run(i + 1, YIELD_BLOCKS);
	}
	return rc;
}

static unsigned contexts(struct export *e)
{
	return 0;
}

/* ---- life ---- */

static int close_swap(struct export *e)
{
	pages_unmap(swap_of(e)->lost, swap_of(e)->lost_bytes);
	free(e);
	return 0;
}

static const struct export_ops swap_ops = {
	.describe = describe,
	.read = read_bytes,
	.write = write_bytes,
	.flush = flush,
	.trim = trim,
	.zero = zero,
	.contexts = contexts,
	.close = close_swap,
};

int export_swap_open(struct quire_tmem_pool *pool, uint64_t size_bytes, struct export **ret_export, struct quire_error *err)
{
	struct quire_tmem_pool_stat stat;

	if (size_bytes == 0 || size_bytes > SIZE_MAX_BYTES || size_bytes % BLOCK_BYTES != 0)
		return quire_fail(err, -EINVAL, "swap of %llu bytes: not a multiple of 4096", (unsigned long long)size_bytes);
	quire_tmem_pool_stat(pool, &stat);
	if (stat.kind != QUIRE_TMEM_PERSISTENT || stat.page_bytes != BLOCK_BYTES)
		return quire_fail(err, -EINVAL, "swap: not a persistent pool of pages of 4096 bytes");
	struct swap *s = calloc(1, sizeof(*s));
	if (s == NULL)
		return quire_fail(err, -ENOMEM, "swap");
	s->base.ops = &swap_ops;
	s->pool = pool;
	s->n_blocks = size_bytes / BLOCK_BYTES;
	s->lost_bytes = (s->n_blocks + 63) / 64 * sizeof(uint64_t);
	s->lost = pages_map(s->lost_bytes, PROT_READ | PROT_WRITE, MAP_NORESERVE);
	if (s->lost == NULL) {
		free(s);
		return quire_fail(err, -ENOMEM, "swap of %llu bytes", (unsigned long long)size_bytes);
	}
	*ret_export = &s->base;
	return 0;
}

int quire_nbd_add_swap(struct quire_nbd *nbd, const char *name, struct quire_tmem_pool *pool, uint64_t size_bytes,
                       struct quire_error *err)
{
	struct export *e = NULL;
	int rc = export_swap_open(pool, size_bytes, &e, err);

	return rc == 0 ? nbd_export_add(nbd, name, e, err) : rc;
}

int quire_ublk_add_swap(struct quire_ublk *u, uint32_t id, struct quire_tmem_pool *pool, uint64_t size_bytes, struct quire_error *err)
{
	struct export *e = NULL;
	int rc = export_swap_open(pool, size_bytes, &e, err);

	return rc == 0 ? ublk_add(u, id, e, UBLK_NOTHING, 0, err) : rc;
}
