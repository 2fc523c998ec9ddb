/* page_hash_avx2.c - XXH3-128, compiled for AVX2 whatever the rest is compiled for. */
#include "page_hash.h"

#ifdef __x86_64__

/* What these declare is not to be compiled so. */
#include <immintrin.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif

#define XXH_INLINE_ALL
#define XXH_VECTOR 2 /* XXH_AVX2, which the header defines later */
#include <xxhash.h>

uint32_t page_hash_avx2(const void *page, uint32_t n_bytes)
{
	return (uint32_t)XXH3_128bits(page, n_bytes).low64;
}

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
