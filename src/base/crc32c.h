/* crc32c.h - CRC-32C (Castagnoli), by the CPU's instruction where it has one.
 * Source: RFC 3720, appendix B.4. crc32c("123456789") is 0xE3069283. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Goes on from `crc` (0 to begin). Any thread, any alignment, fault handlers too. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len_bytes);

#endif
