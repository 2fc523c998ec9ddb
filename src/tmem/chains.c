/* chains.c - a hash table of numbers. Buckets [0, n), where 2^k <= n < 2^(k+1): those that were split already, and those
 * that came of it, go by k + 1 bits of the hash, the others by k.
 *
 * A bucket has a bit for each value that the upper five bits of its numbers' hashes have: who looks for what is not there, which is
 * what most puts do, seldom has to look at what is, each in a cache line of its own somewhere. Removing makes these bits anew.
 */
#include "chains.h"

#include <assert.h>

#define GROW_AT_ONCE 16u

struct bucket {
	uint32_t first;
	uint32_t marks;
};
static_assert(sizeof(struct bucket) == CHAINS_BUCKET_BYTES, "what others reckon with");

void chains_init(struct chains *c, struct budget *budget, uint32_t per_bucket, void *owner,
                 uint32_t (*hash)(void *owner, uint32_t no), uint32_t *(*link)(void *owner, uint32_t no))
{
	*c = (struct chains){.per_bucket = per_bucket, .owner = owner, .hash = hash, .link = link};
	records_init(&c->buckets, budget, sizeof(struct bucket));
}

void chains_fini(struct chains *c)
{
	records_fini(&c->buckets);
	c->n = 0;
}

static uint32_t mark_of(uint32_t hash)
{
	return 1u << (hash >> 27);
}

static struct bucket *bucket_at(const struct chains *c, uint32_t no)
{
	return records_at(&c->buckets, no);
}

static struct bucket *bucket_of(const struct chains *c, uint32_t hash)
{
	uint32_t k = 31 - (uint32_t)__builtin_clz(c->buckets.n), no = hash & ((2u << k) - 1);

	return bucket_at(c, no < c->buckets.n ? no : hash & ((1u << k) - 1));
}

/* That which a bucket was split from, or is to be split to. */
static struct bucket *older(const struct chains *c, uint32_t no)
{
	return bucket_at(c, no - (1u << (31 - (uint32_t)__builtin_clz(no))));
}

static void push(struct chains *c, struct bucket *b, uint32_t no, uint32_t hash)
{
	*c->link(c->owner, no) = b->first;
	b->first = no;
	b->marks |= mark_of(hash);
}

/* Numbers of a chain go to where they belong now. */
static void spread(struct chains *c, uint32_t no)
{
	while (no != CHAIN_END) {
		uint32_t next = *c->link(c->owner, no), hash = c->hash(c->owner, no);
		push(c, bucket_of(c, hash), no, hash);
		no = next;
	}
}

/* One bucket more, with its share of an older one's chain. */
static bool grow(struct chains *c)
{
	uint32_t n = c->buckets.n;

	if (n >= UINT32_MAX / 4 || !records_extend(&c->buckets))
		return false;
	*bucket_at(c, n) = (struct bucket){.first = CHAIN_END};
	if (n == 0)
		return true;
	struct bucket *old = older(c, n), before = *old;
	*old = (struct bucket){.first = CHAIN_END};
	spread(c, before.first);
	return true;
}

/* Some at a time: what they are split from lies anywhere in memory, and is waited for together. False: not even one. */
static bool grow_some(struct chains *c)
{
	uint32_t n = c->buckets.n, many = n < 4 * GROW_AT_ONCE ? 1 : GROW_AT_ONCE, first[GROW_AT_ONCE];

	for (uint32_t i = 0; i < many && n > 0; i++) {
		first[i] = older(c, n + i)->first;
		if (first[i] != CHAIN_END)
			__builtin_prefetch(c->link(c->owner, first[i]));
	}
	for (uint32_t i = 0; i < many && n > 0; i++) {
		uint32_t second = first[i] == CHAIN_END ? CHAIN_END : *c->link(c->owner, first[i]);
		if (second != CHAIN_END)
			__builtin_prefetch(c->link(c->owner, second));
	}
	for (uint32_t i = 0; i < many; i++)
		if (!grow(c))
			return i > 0;
	return true;
}

/* The last bucket's numbers go back to where they came from. */
static void shrink(struct chains *c)
{
	struct bucket last = *bucket_at(c, c->buckets.n - 1);

	records_retract(&c->buckets);
	spread(c, last.first);
}

uint32_t chains_first(const struct chains *c, uint32_t hash)
{
	if (c->buckets.n == 0)
		return CHAIN_END;
	const struct bucket *b = bucket_of(c, hash);
	return (b->marks & mark_of(hash)) != 0 ? b->first : CHAIN_END;
}

bool chains_add(struct chains *c, uint32_t no)
{
	uint32_t hash = c->hash(c->owner, no);

	/* Without memory for more buckets the chains get longer. */
	if (c->n >= (uint64_t)c->buckets.n * c->per_bucket && !grow_some(c) && c->buckets.n == 0)
		return false;
	push(c, bucket_of(c, hash), no, hash);
	c->n++;
	return true;
}

void chains_remove(struct chains *c, uint32_t no)
{
	struct bucket *b = bucket_of(c, c->hash(c->owner, no));
	uint32_t marks = 0;

	for (uint32_t *at = &b->first; *at != CHAIN_END;) {
		if (*at == no) {
			*at = *c->link(c->owner, no);
		} else {
			marks |= mark_of(c->hash(c->owner, *at));
			at = c->link(c->owner, *at);
		}
	}
	b->marks = marks;
	c->n--;
	/* Later than it grew, so that nobody goes to and fro. */
	if (c->buckets.n > 1 && c->n + c->n / 4 < (uint64_t)(c->buckets.n - 1) * c->per_bucket)
		shrink(c);
}

void chains_renamed(struct chains *c, uint32_t from, uint32_t to)
{
	uint32_t *at = &bucket_of(c, c->hash(c->owner, to))->first;

	while (*at != from)
		at = c->link(c->owner, *at);
	*at = to;
}
