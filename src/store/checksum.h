/* checksum.h - CRC32C of pages, and the pages that hold them. */
#ifndef STORE_CHECKSUM_H
#define STORE_CHECKSUM_H

#include "format.h"

uint32_t checksum_page(uint64_t id, uint64_t index, const void *page);

/* The same; `ahead`: the page that is looked at next, or NULL (base/crc32c.h). */
uint32_t checksum_page_then(uint64_t id, uint64_t index, const void *page, const void *ahead);

/* Makes a page of checksums of n pages. */
void checksum_encode(uint64_t id, uint64_t group, const uint32_t *sums, uint32_t n, struct sums_le *ret);

/* The n from `first` on. 0, -EBADMSG: the page is none, or another's. */
int checksum_pick(uint64_t id, uint64_t group, const struct sums_le *block, uint32_t first, uint32_t n,
                  uint32_t *ret_sums);

#endif
