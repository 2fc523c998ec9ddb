/* crc32c.h - CRC-32C (Castagnoli), by the CPU's instruction where it has one.
 * Source: RFC 3720, appendix B.4. crc32c("123456789") is 0xE3069283. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Goes on from `crc` (0 to begin). Any thread, any alignment, fault handlers too. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len_bytes);

#define CRC32C_PAGE_BYTES 4096u

/* The same of one page; what lies at `ahead`, as long, is on its way to the processor's cache meanwhile, for who goes on there. It is not read, and
 * may be anywhere. NULL: nothing is. */
uint32_t crc32c_page(uint32_t crc, const void *page, const void *ahead);

/* Of something, and a page behind it: from the sums of both. */
uint32_t crc32c_join_page(uint32_t crc, uint32_t page_crc);

#endif
