/* beside.c - pools that may spill, used by who may not wait: what has to wait is done by another, beside it.
 *
 * A put at once is refused where it would have to make room by I/O; whoever is told so has somebody call tmem_spill_more, and tries again. Nor
 * does it give dead segments back, which may need locks of the backing's that the caller's caller holds: the next call that frees something
 * does. A get at once is refused where the page is in the backing.
 */
#include "spill.h"
#include "tmem.h"

#include "../base/spin.h"

#include <errno.h>

int tmem_put_at_once(struct quire_tmem_pool *pool, const struct quire_tmem_key *key, const void *page)
{
	return tmem_put(pool, key, page, true);
}

/* Lock held. */
static bool is_in_backing(const struct quire_tmem_pool *pool, const struct quire_tmem_key *key)
{
	const struct quire_tmem *t = pool->tmem;
	struct where at = tmem_page_find(pool, key);
	uint64_t word;

	if (at.value == VALUE_NONE)
		return false;
	uint32_t place = content_place(t, at.value, &word);
	return place != PLACE_NONE && tmem_is_away(storage_at(&t->storage, place));
}

int tmem_get_at_once(struct quire_tmem_pool *pool, const struct quire_tmem_key *key, void *page)
{
	struct quire_tmem *t = pool->tmem;
	struct get g = {.place = PLACE_NONE};

	spin_lock(&t->lock);
	if (tmem_pool_spills(pool) && is_in_backing(pool, key))
		g.result = -EWOULDBLOCK;
	else
		tmem_get_begin(&g, pool, key, QUIRE_TMEM_GET_KEEP);
	pthread_mutex_unlock(&t->lock);
	if (g.result == -EWOULDBLOCK)
		return -EWOULDBLOCK;
	tmem_get_copy(&g, page);
	if (g.place != PLACE_NONE) {
		spin_lock(&t->lock);
		tmem_get_end(&g);
		pthread_mutex_unlock(&t->lock);
	}
	return (int)g.result;
}

unsigned tmem_at_hand(struct quire_tmem_pool *pool, const struct quire_tmem_key *key, unsigned n)
{
	struct quire_tmem_key k = *key;
	unsigned i;

	if (!tmem_pool_spills(pool))
		return n;
	spin_lock(&pool->tmem->lock);
	for (i = 0; i < n && !is_in_backing(pool, &k); i++)
		k.index++;
	pthread_mutex_unlock(&pool->tmem->lock);
	return i;
}

uint64_t tmem_pool_held(struct quire_tmem_pool *pool, uint64_t *ret_cap_bytes)
{
	spin_lock(&pool->tmem->lock);
	uint64_t held = pool->held_bytes;
	*ret_cap_bytes = pool->o.cap_bytes == 0 ? UINT64_MAX : pool->o.cap_bytes;
	pthread_mutex_unlock(&pool->tmem->lock);
	return held;
}

void tmem_pool_limit_spill(struct quire_tmem_pool *pool, uint64_t most_bytes)
{
	pthread_mutex_lock(&pool->tmem->lock);
	pool->most_spilled_bytes = most_bytes;
	pthread_mutex_unlock(&pool->tmem->lock);
}

bool tmem_spill_more(struct quire_tmem_pool *pool)
{
	struct quire_tmem *t = pool->tmem;

	pthread_mutex_lock(&t->lock);
	bool gained = tmem_spill_of(pool);
	pthread_mutex_unlock(&t->lock);
	return gained;
}
