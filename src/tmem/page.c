/* page.c - pages of a pool, by their keys; what the index and the queues know of them goes together here. */
#include "tmem_internal.h"

#include <errno.h>
#include <string.h>

static struct tmem_object object_of(const struct quire_tmem_key *key)
{
	struct tmem_object o;

	memcpy(o.words, key->object, sizeof(o.words));
	return o;
}

struct where tmem_page_find(const struct quire_tmem_pool *pool, const struct quire_tmem_key *key)
{
	const struct spans *x = &pool->tmem->spans;
	struct tmem_object object = object_of(key);
	struct where at = {.low = (uint16_t)key->index, .value = VALUE_NONE};

	at.span = spans_find(x, pool->no, &object, (uint16_t)(key->index >> 16));
	if (at.span != SPAN_NONE)
		at.value = spans_get(x, at.span, at.low);
	return at;
}

/* What the pool's spans and tables take changes with each of the index's calls. */
static uint64_t index_bytes(const struct spans *x)
{
	return x->table_bytes + (uint64_t)x->by_key.n * (sizeof(struct span) + CHAINS_BUCKET_BYTES);
}

int tmem_page_add(struct quire_tmem_pool *pool, const struct quire_tmem_key *key, uint32_t value)
{
	struct quire_tmem *t = pool->tmem;
	struct tmem_object object = object_of(key);
	struct where at = {.low = (uint16_t)key->index, .value = value};
	uint64_t before = index_bytes(&t->spans);

	if (!tmem_age_reserve(pool))
		return -ENOSPC;
	at.span = spans_need(&t->spans, pool->no, &object, (uint16_t)(key->index >> 16), &pool->spans);
	if (at.span == SPAN_NONE)
		return -ENOSPC;
	bool added = spans_add(&t->spans, at.span, at.low, value);
	if (!added) {
		spans_unneed(&t->spans, at.span, &pool->spans);
	} else {
		content_owned(t, value, at.span, at.low);
		added = pool->policy == NULL || tmem_evict_enter(pool, &at);
		if (!added)
			spans_remove(&t->spans, at.span, at.low, &pool->spans);
	}
	pool->held_bytes += index_bytes(&t->spans) - before;
	if (!added)
		return -ENOSPC;
	pool->n_pages++;
	t->page_bytes += pool->o.page_bytes;
	if (pool->copy != NULL)
		tmem_copy_note(pool, at.span, at.low);
	if (pool->policy == NULL)
		tmem_age_enter(pool, &at);
	return 0;
}

void tmem_page_remove(struct quire_tmem_pool *pool, const struct where *at)
{
	struct quire_tmem *t = pool->tmem;
	uint64_t before = index_bytes(&t->spans);

	if (pool->copy != NULL)
		tmem_copy_note(pool, at->span, at->low);
	if (unit_is(t, at->value))
		unit_leave(t, pool, at->value, at->low);
	else
		content_release(t, pool, at->value);
	spans_remove(&t->spans, at->span, at->low, &pool->spans);
	pool->held_bytes += index_bytes(&t->spans) - before;
	pool->n_pages--;
	t->page_bytes -= pool->o.page_bytes;
}
