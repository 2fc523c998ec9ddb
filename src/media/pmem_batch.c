/* pmem_batch.c - see pmem_batch.h. */
#include "pmem_batch.h"

#include "../base/canary.h"

void pmem_batch_copy(struct pmem_batch *batch, uint64_t offset, const void *from, uint64_t len_bytes)
{
	if (CANARY(pmem_last_line_not_stored) && len_bytes > DEVICE_LINE_BYTES)
		len_bytes -= DEVICE_LINE_BYTES;
	if (len_bytes == 0)
		return;
	batch->memory->copy(batch->memory, offset, from, len_bytes);
	batch->open = true;
}

void pmem_batch_end(struct pmem_batch *batch)
{
	if (batch->open && !CANARY(pmem_fence_skipped))
		batch->memory->fence(batch->memory);
	batch->open = false;
}
