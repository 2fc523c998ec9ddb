/* keyed_hash.h - SipHash-2-4: 64 bits of any bytes, under a secret of 16. Who does not know the secret can't find two
 * inputs of one hash any better than by chance, so what is filled from outside may be indexed by it. Written on media:
 * it never changes. */
#ifndef BASE_KEYED_HASH_H
#define BASE_KEYED_HASH_H

#include <stddef.h>
#include <stdint.h>

#define KEYED_HASH_SECRET_BYTES 16u

uint64_t keyed_hash(const uint8_t secret[KEYED_HASH_SECRET_BYTES], const void *data, size_t len_bytes);

#endif
