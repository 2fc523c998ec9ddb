/* get.c - a page comes out, or goes: found and pinned under the lock, unpacked without it.
 *
 * Who takes a page out does so when he finds it, so no two get it; its bytes stay until they are copied. A persistent page is
 * checked before it is taken, as it must stay if it is damaged.
 */
#include "tmem_internal.h"

#include "../base/canary.h"
#include "../base/spin.h"

#include <errno.h>

static bool takes(const struct quire_tmem_pool *pool, enum quire_tmem_get how)
{
	if (pool->frozen || how == QUIRE_TMEM_GET_KEEP)
		return false;
	return how == QUIRE_TMEM_GET_TAKE ||
	       (pool->o.kind == QUIRE_TMEM_EPHEMERAL && (pool->o.flags & QUIRE_TMEM_SHARED) == 0);
}

void tmem_get_begin(struct get *g, struct quire_tmem_pool *pool, const struct quire_tmem_key *key, enum quire_tmem_get how)
{
	struct quire_tmem *t = pool->tmem;
	struct where at = tmem_page_find(pool, key);

	*g = (struct get){.pool = pool, .key = key, .place = PLACE_NONE, .persistent = pool->policy == NULL};
	pool->counts.n_gets++;
	if (at.value == VALUE_NONE) {
		g->result = -ENOENT;
		return;
	}
	g->place = content_place(t, at.value, &g->word);
	if (g->place != PLACE_NONE)
		storage_prefetch(&t->storage, g->place);
	bool take = takes(pool, how);
	if (tmem_is_stub(t, at.value)) {
		tmem_remote_get_begin(g, take);
		return;
	}
	if (g->place != PLACE_NONE && ((const struct slot_head *)storage_at(&t->storage, g->place))->codec == CODEC_AWAY) {
		tmem_spill_get_begin(g, take);
		return;
	}
	if (take && g->persistent && g->place != PLACE_NONE && !tmem_packed_is_intact(storage_at(&t->storage, g->place))) {
		g->result = -EBADMSG;
		g->place = PLACE_NONE;
		pool->counts.n_damaged++;
		return;
	}
	pool->counts.n_get_hits++;
	if (g->place != PLACE_NONE) {
		storage_pin(&t->storage, g->place);
		struct slot_head *h = storage_at(&t->storage, g->place);
		g->packed = tmem_packed(t, h, at.low);
		if (h->age != 0) /* not to write a line that is only read */
			h->age = 0;
	}
	g->taken = take;
	if (take && !CANARY(get_does_not_take)) {
		tmem_page_remove(pool, &at);
		tmem_evict_tidy(pool);
	} else if (!g->persistent || (pool->o.flags & QUIRE_TMEM_SPILL) != 0) {
		tmem_evict_used(t, at.value);
	}
}

void tmem_get_copy(struct get *g, void *page)
{
	uint32_t n_bytes = g->pool->o.page_bytes;

	if (g->result < 0)
		return;
	if (g->remote) {
		tmem_remote_get_copy(g, page);
		return;
	}
	if (g->place == PLACE_NONE) {
		codec_fill(page, n_bytes, g->word);
		return;
	}
	if (g->away) {
		g->result = tmem_spill_get_copy(g, page);
		return;
	}
	if (!tmem_unpack(g->pool->tmem, &g->packed, page, n_bytes))
		g->result = g->persistent ? -EBADMSG : -ENOENT;
}

void tmem_get_end(struct get *g)
{
	struct quire_tmem *t = g->pool->tmem;

	if (g->away) {
		tmem_spill_get_end(g);
		return;
	}
	if (g->place != PLACE_NONE)
		storage_unpin(&t->storage, g->place);
	if (g->place == PLACE_NONE || g->result == 0)
		return;
	g->pool->counts.n_damaged++;
	g->pool->counts.n_get_hits--;
	if (g->persistent || g->taken)
		return;
	/* It is a miss from now on, and its memory of use to others. */
	struct where at = tmem_page_find(g->pool, g->key);
	uint64_t word;
	if (at.value != VALUE_NONE && content_place(t, at.value, &word) == g->place)
		tmem_page_remove(g->pool, &at);
}

int quire_tmem_get(struct quire_tmem_pool *pool, const struct quire_tmem_key *key, void *page, enum quire_tmem_get how)
{
	struct quire_tmem *t = pool->tmem;
	struct get g;

	if (tmem_is_of_parent(t))
		return -ECHILD;
	do {
		spin_lock(&t->lock);
		tmem_get_begin(&g, pool, key, how);
		pthread_mutex_unlock(&t->lock);
		tmem_get_copy(&g, page);
		if (g.place != PLACE_NONE) {
			spin_lock(&t->lock);
			tmem_get_end(&g);
			pthread_mutex_unlock(&t->lock);
		}
	} while (g.result == -EAGAIN);
	return (int)g.result;
}

int quire_tmem_flush(struct quire_tmem_pool *pool, const struct quire_tmem_key *key)
{
	struct quire_tmem *t = pool->tmem;

	if (tmem_is_of_parent(t))
		return -ECHILD;
	spin_lock(&t->lock);
	struct where at = tmem_page_find(pool, key);
	bool there = at.value != VALUE_NONE;
	if (there) {
		tmem_page_remove(pool, &at);
		pool->counts.n_flushed++;
		tmem_evict_tidy(pool);
		tmem_spill_tidy(t);
	}
	pthread_mutex_unlock(&t->lock);
	return there;
}
