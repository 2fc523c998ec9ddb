/* page_hash.h - by which an equal page is found: 32 bits of its XXH3-128. Any thread. */
#ifndef TMEM_PAGE_HASH_H
#define TMEM_PAGE_HASH_H

#include <stdint.h>

uint32_t page_hash(const void *page, uint32_t n_bytes);

/* The same; for a CPU with AVX2 alone. */
uint32_t page_hash_avx2(const void *page, uint32_t n_bytes);

#endif
