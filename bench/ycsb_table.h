/* ycsb_table.h - sorted immutable tables: the same bytes as plain files and as blobs of a store.
 *
 * One sorted run of records, cut into tables of TABLE_BLOCKS blocks. A block is 4 KiB, so none lies across pages: up to
 * four records, each key and value, ascending; the last four bytes say how many. The first key of each block
 * stands in a sparse index, a file beside the tables, which is kept in memory: 19 bytes a block.
 */
#ifndef BENCH_YCSB_TABLE_H
#define BENCH_YCSB_TABLE_H

#include "ycsb.h"

#define TABLE_BLOCK_BYTES 4096u
#define TABLE_BLOCKS 16384u /* 64 MiB */
#define TABLE_REST_BYTES (YCSB_KEY_BYTES - YCSB_KEY_PREFIX_BYTES - 8u)

/* Makes all tables, in order, handing each to put, which returns 0 or not. */
typedef int (*table_put_fn)(void *arg, unsigned table, const void *bytes, size_t len_bytes);
int table_make_all(const struct ycsb *y, table_put_fn put, void *arg);

struct table_index {
	uint64_t n_blocks;
	unsigned n_tables;
	uint64_t *heads;                 /* owned; eight bytes of each first key, behind the prefix, as a number */
	char (*rests)[TABLE_REST_BYTES]; /* owned; and what follows them */
	uint64_t *samples;               /* owned; some of the heads, searched first */
};

int table_index_write(const struct ycsb *y); /* the file "index" in y->path */
int table_index_read(const struct ycsb *y, struct table_index *ret);
void table_index_free(struct table_index *index);

/* The block that has the key, if any has. */
uint64_t table_index_find(const struct table_index *index, const char *key);

/* The key's value in its block, YCSB_VALUE_BYTES of it, or NULL. */
const void *table_block_find(const void *block, const char *key);

#endif
