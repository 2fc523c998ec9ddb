/* key_table.c - see key_table.h. */
#include "key_table.h"

#include "../base/assert.h"
#include "../base/canary.h"

#include <errno.h>
#include <stdlib.h>

#define MIN_SLOTS 8u

void key_table_fini(struct key_table *t)
{
	for (unsigned i = 0; i < KEY_TABLE_SHARDS; i++) {
		free(t->shards[i].slots);
		t->shards[i] = (struct key_shard){0};
	}
	t->n = 0;
	t->slots_bytes = 0;
}

static unsigned shard_of(uint64_t hash)
{
	return (unsigned)(hash >> (64 - KEY_TABLE_SHARD_BITS));
}

/* Where it is, or the free slot where it would be. There is a free one. */
static struct key_slot *find(const struct key_shard *s, uint64_t hash)
{
	uint64_t fraction = hash << KEY_TABLE_SHARD_BITS >> 32;
	uint32_t i = (uint32_t)(fraction * s->capacity >> 32);

	while (s->slots[i].end_lsn != 0 && s->slots[i].hash != hash)
		i = i + 1 == s->capacity ? 0 : i + 1;
	return &s->slots[i];
}

uint64_t key_table_get(const struct key_table *t, uint64_t hash)
{
	const struct key_shard *s = &t->shards[shard_of(hash)];

	return s->capacity == 0 ? KEY_TABLE_NONE : find(s, hash)->end_lsn - 1;
}

static uint32_t count_from(const struct key_shard *s, uint64_t first_lsn)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->capacity; i++)
		n += s->slots[i].end_lsn > first_lsn;
	return n;
}

/* Anew, with room for n_more than the n of it that stay. */
static int rebuild(struct key_table *t, struct key_shard *s, uint64_t first_lsn, uint32_t n, uint32_t n_more)
{
	uint64_t wanted = (uint64_t)n + n_more;
	uint64_t capacity = wanted == 0 ? 0 : wanted + wanted / 2 + MIN_SLOTS;
	struct key_shard made = {.n = n};

	if (capacity > UINT32_MAX)
		return -ENOMEM;
	made.capacity = (uint32_t)capacity;
	if (capacity > 0 && (made.slots = calloc(capacity, sizeof(made.slots[0]))) == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->capacity; i++)
		if (s->slots[i].end_lsn > first_lsn)
			*find(&made, s->slots[i].hash) = s->slots[i];
	free(s->slots);
	t->n -= s->n - n;
	t->slots_bytes += capacity * sizeof(made.slots[0]);
	t->slots_bytes -= (uint64_t)s->capacity * sizeof(made.slots[0]);
	*s = made;
	return 0;
}

static bool is_full(const struct key_shard *s)
{
	return s->n >= s->capacity - s->capacity / 5;
}

int key_table_put(struct key_table *t, uint64_t hash, uint64_t lsn, uint64_t first_lsn, uint64_t *ret_old)
{
	struct key_shard *s = &t->shards[shard_of(hash)];
	struct key_slot *slot = s->capacity == 0 ? NULL : find(s, hash);

	if (slot == NULL || slot->end_lsn == 0) {
		if (is_full(s)) {
			int rc = rebuild(t, s, first_lsn, count_from(s, first_lsn), 1);
			if (rc < 0)
				return rc;
			slot = find(s, hash);
		}
		s->n++;
		t->n++;
		slot->hash = hash;
	}
	*ret_old = slot->end_lsn - 1;
	if (slot->end_lsn <= lsn && (slot->end_lsn == 0 || !CANARY(key_keeps_older)))
		slot->end_lsn = lsn + 1;
	return 0;
}

uint32_t key_table_purge(struct key_table *t, unsigned shard, uint64_t first_lsn)
{
	quire_assert(shard < KEY_TABLE_SHARDS);
	struct key_shard *s = &t->shards[shard];
	uint32_t n_looked = s->capacity, n = count_from(s, first_lsn);

	if (n < s->n)
		(void)rebuild(t, s, first_lsn, n, 0);
	return n_looked;
}

bool key_table_check(const struct key_table *t)
{
	uint64_t n = 0, bytes = 0;

	for (unsigned i = 0; i < KEY_TABLE_SHARDS; i++) {
		const struct key_shard *s = &t->shards[i];
		if (s->n != count_from(s, 0) || (s->capacity != 0 && s->n >= s->capacity))
			return false;
		n += s->n;
		bytes += (uint64_t)s->capacity * sizeof(s->slots[0]);
		for (uint32_t k = 0; k < s->capacity; k++)
			if (s->slots[k].end_lsn != 0 &&
			    (shard_of(s->slots[k].hash) != i || find(s, s->slots[k].hash) != &s->slots[k]))
				return false;
	}
	return n == t->n && bytes == t->slots_bytes;
}
