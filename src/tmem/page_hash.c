/* page_hash.c - XXH3-128 in the vectors that every CPU of its kind has, or in wider ones where this CPU has them: twice as fast,
 * which is a twentieth of a put. */
#include "page_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint32_t page_hash(const void *page, uint32_t n_bytes)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2"))
		return page_hash_avx2(page, n_bytes);
#endif
	return (uint32_t)XXH3_128bits(page, n_bytes).low64;
}
