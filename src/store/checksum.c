/* checksum.c - see checksum.h. */
#include "checksum.h"

#include "../base/crc32c.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

static uint32_t seed(uint64_t id, uint64_t index)
{
	struct sum_seed_le s = {.id = htole64(id), .index = htole64(index)};

	return crc32c(0, &s, sizeof(s));
}

uint32_t checksum_page(uint64_t id, uint64_t index, const void *page)
{
	return checksum_page_then(id, index, page, NULL);
}

uint32_t checksum_page_then(uint64_t id, uint64_t index, const void *page, const void *ahead)
{
	static_assert(FORMAT_UNIT_BYTES == CRC32C_PAGE_BYTES, "a page");
	return crc32c_page(seed(id, index), page, ahead);
}

static uint32_t block_crc(uint64_t id, uint64_t group, const struct sums_le *block)
{
	return crc32c(seed(id, group | FORMAT_SUMS_INDEX), block->sums, sizeof(block->sums));
}

void checksum_encode(uint64_t id, uint64_t group, const uint32_t *sums, uint32_t n, struct sums_le *ret)
{
	for (uint32_t i = 0; i < n; i++)
		ret->sums[i] = htole32(sums[i]);
	memset(ret->sums + n, 0, (FORMAT_SUMS_PER_PAGE - n) * sizeof(ret->sums[0]));
	ret->crc = htole32(block_crc(id, group, ret));
}

int checksum_pick(uint64_t id, uint64_t group, const struct sums_le *block, uint32_t first, uint32_t n,
                  uint32_t *ret_sums)
{
	if (le32toh(block->crc) != block_crc(id, group, block))
		return -EBADMSG;
	for (uint32_t i = 0; i < n; i++)
		ret_sums[i] = le32toh(block->sums[first + i]);
	return 0;
}
