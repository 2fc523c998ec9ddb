/* pmem_batch.h - writes to persistent memory that share one fence. For src/media alone.
 *
 * What the driver of real memory and the simulated one have in common: pieces are copied past the caches, and when
 * all are, one fence makes them durable. Only then may anybody be told. All on one thread, as a fence
 * covers no other thread's copies.
 */
#ifndef MEDIA_PMEM_BATCH_H
#define MEDIA_PMEM_BATCH_H

#include "device.h"

struct pmem_memory {
	void (*copy)(struct pmem_memory *memory, uint64_t offset, const void *from, uint64_t len_bytes);
	void (*fence)(struct pmem_memory *memory);
};

struct pmem_batch {
	struct pmem_memory *memory; /* borrowed */
	bool open;                  /* something waits for the fence */
};

void pmem_batch_copy(struct pmem_batch *batch, uint64_t offset, const void *from, uint64_t len_bytes);
void pmem_batch_end(struct pmem_batch *batch);

#endif
