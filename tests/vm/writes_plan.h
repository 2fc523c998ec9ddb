/* writes_plan.h - what is done to a store, step by step, and what it must then hold: known from a seed alone, by who does it and by who
 * looks, on another machine, at what a cut of the power has left.
 *
 * Writers of a volume have a region each, and take steps one after the other, so a region is what so many steps have made of it. One more appends
 * records to a log, one makes blobs.
 */
#ifndef TESTS_VM_WRITES_PLAN_H
#define TESTS_VM_WRITES_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECTOR 512u
#define BLOCK_SECTORS 8u
#define REGION_BLOCKS 128u
#define REGION_SECTORS (REGION_BLOCKS * BLOCK_SECTORS)
#define N_REGIONS 8u
#define RECORD_MOST 3000u
#define BLOB_MOST (160u << 10)
#define N_BLOBS_PROMISED 3u /* the latest; the one before them is deleted when the next one is made */

/* Names in the store. */
#define PLAN_VOLUME "v"
#define PLAN_LOG "l"

enum plan_kind { PLAN_WRITE, PLAN_ZERO, PLAN_DISCARD, PLAN_FLUSH, PLAN_SNAPSHOT, PLAN_REMOVE };

struct plan_step {
	enum plan_kind kind;
	uint32_t sector, n_sectors; /* of the region */
	bool fua;
	uint32_t snapshot; /* number of the one that is made or removed */
};

struct plan_step plan_step(uint64_t seed, unsigned region, uint32_t no);

/* For each sector of a region: by which step it was written, counted from 1; 0: it reads as zeros. */
struct plan_region {
	uint32_t versions[REGION_SECTORS];
};
void plan_apply(struct plan_region *r, const struct plan_step *step, uint32_t no);
/* The snapshots that there are after so many steps of region 0, whose writer alone makes them: from *ret_first on, before *ret_end. Number n was
 * made by step plan_snapshot_step(n). */
void plan_snapshots(uint32_t n_steps, uint32_t *ret_first, uint32_t *ret_end);
uint32_t plan_snapshot_step(uint32_t snapshot);

/* SECTOR bytes. version 0: zeros. */
void plan_fill(uint64_t seed, unsigned region, uint32_t sector, uint32_t version, void *to);
/* Which version it is, or UINT32_MAX: none. */
uint32_t plan_read(uint64_t seed, unsigned region, uint32_t sector, const void *bytes);

/* Record or blob `no`: its length; its bytes. */
size_t plan_record_bytes(uint64_t seed, uint32_t no);
bool plan_record_durable(uint64_t seed, uint32_t no);
size_t plan_blob_bytes(uint64_t seed, uint32_t no);
void plan_content(uint64_t seed, uint32_t no, void *to, size_t len_bytes);

/* What was promised to be durable, at some time: it fits into a mark of the log of writes. */
struct plan_promise {
	uint32_t n_steps[N_REGIONS];
	uint32_t n_records;
	uint32_t n_blobs;
	uint64_t blobs[N_BLOBS_PROMISED]; /* ids, of number n_blobs - 1 first */
};
#define PLAN_PROMISE_TEXT 256u
void plan_promise_write(const struct plan_promise *p, char to[PLAN_PROMISE_TEXT]);
/* False, and nothing written, if it is none. */
bool plan_promise_read(const char *text, struct plan_promise *ret);

#endif
