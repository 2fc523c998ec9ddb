/* crc32c_internal.h - the way to the sum that takes no instruction, for the test. */
#ifndef BASE_CRC32C_INTERNAL_H
#define BASE_CRC32C_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

/* The same sum, a byte at a time. */
uint32_t crc32c_by_table(uint32_t crc, const void *data, size_t len_bytes);
uint32_t crc32c_join_page_by_table(uint32_t crc, uint32_t page_crc);

#endif
