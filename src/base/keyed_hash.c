/* keyed_hash.c - see keyed_hash.h. The algorithm is that of Aumasson and Bernstein, "SipHash: a fast short-input PRF". */
#include "keyed_hash.h"

#include <endian.h>
#include <string.h>

struct sip {
	uint64_t a, b, c, d;
};

static inline uint64_t rotated(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void round_of(struct sip *s)
{
	s->a += s->b;
	s->c += s->d;
	s->b = rotated(s->b, 13) ^ s->a;
	s->d = rotated(s->d, 16) ^ s->c;
	s->a = rotated(s->a, 32);
	s->c += s->b;
	s->a += s->d;
	s->b = rotated(s->b, 17) ^ s->c;
	s->d = rotated(s->d, 21) ^ s->a;
	s->c = rotated(s->c, 32);
}

static inline void take(struct sip *s, uint64_t word)
{
	s->d ^= word;
	round_of(s);
	round_of(s);
	s->a ^= word;
}

static inline uint64_t word_at(const uint8_t *at, size_t n)
{
	uint64_t word = 0;

	memcpy(&word, at, n);
	return le64toh(word);
}

uint64_t keyed_hash(const uint8_t secret[KEYED_HASH_SECRET_BYTES], const void *data, size_t len_bytes)
{
	uint64_t k0 = word_at(secret, 8), k1 = word_at(secret + 8, 8);
	struct sip s = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du, k0 ^ 0x6c7967656e657261u,
	                k1 ^ 0x7465646279746573u};
	const uint8_t *at = data;
	size_t left = len_bytes;

	for (; left >= 8; left -= 8, at += 8)
		take(&s, word_at(at, 8));
	take(&s, (left > 0 ? word_at(at, left) : 0) | (uint64_t)len_bytes << 56);
	s.c ^= 0xff;
	for (int i = 0; i < 4; i++)
		round_of(&s);
	return s.a ^ s.b ^ s.c ^ s.d;
}
