/* blocks.h - what a disk does by itself, for who is compared with it: a file of blocks that were all written before, and bare durable writes of
 * them, O_DIRECT and RWF_DSYNC. Both return a negative errno if it fails. */
#ifndef BENCH_BLOCKS_H
#define BENCH_BLOCKS_H

#include <stdint.h>

#define BLOCK_BYTES 4096u

/* The file, without a name any more: its descriptor, the caller's. block: aligned as it is long; zeroed. */
int blocks_open(const char *path, void *block);

/* Writes the next block, durable when it returns 0. at: where it goes, moved on. */
int blocks_write(int fd, void *block, uint64_t *at);

#endif
