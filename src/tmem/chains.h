/* chains.h - a hash table of numbers whose links are the owner's, and which grows and shrinks by a few buckets at a time (linear
 * hashing: Litwin, VLDB 1980), so that no call has to move all. Not thread-safe. */
#ifndef TMEM_CHAINS_H
#define TMEM_CHAINS_H

#include "records.h"

#define CHAIN_END UINT32_MAX
#define CHAINS_BUCKET_BYTES 8u

struct chains {
	struct records buckets;
	uint32_t n;             /* numbers in it */
	uint32_t per_bucket;
	void *owner;            /* borrowed: as long as this */
	uint32_t (*hash)(void *owner, uint32_t no);
	uint32_t *(*link)(void *owner, uint32_t no); /* where the number of the next stands */
};

/* per_bucket: numbers in a chain, on average; the more, the less memory. */
void chains_init(struct chains *c, struct budget *budget, uint32_t per_bucket, void *owner,
                 uint32_t (*hash)(void *owner, uint32_t no), uint32_t *(*link)(void *owner, uint32_t no));
void chains_fini(struct chains *c);

/* The first number of those with that hash, and of others: the links lead on, to CHAIN_END. CHAIN_END as well if there
 * is none with that hash, which is mostly known without looking at any. */
uint32_t chains_first(const struct chains *c, uint32_t hash);
bool chains_add(struct chains *c, uint32_t no); /* false: no memory */
void chains_remove(struct chains *c, uint32_t no);
/* `from` is known by `to` from now on, where its link and hash are already. */
void chains_renamed(struct chains *c, uint32_t from, uint32_t to);

#endif
