/* peek.c - for layers above: what is there, without a get. */
#include "tmem_internal.h"

#include "tmem.h"

#define AT_ONCE 16u

bool tmem_holds(struct quire_tmem_pool *pool, const struct quire_tmem_key *key)
{
	struct quire_tmem *t = pool->tmem;

	pthread_mutex_lock(&t->lock);
	bool there = tmem_page_find(pool, key).value != VALUE_NONE;
	pthread_mutex_unlock(&t->lock);
	return there;
}

uint64_t tmem_holds_each(struct quire_tmem_pool *pool, const struct quire_tmem_key *keys, unsigned n)
{
	struct quire_tmem *t = pool->tmem;
	uint64_t there = 0;

	/* Nothing between them makes one wait for the memory of the one before. */
	for (unsigned done = 0; done < n; done += AT_ONCE) {
		pthread_mutex_lock(&t->lock);
		for (unsigned i = done; i < n && i < done + AT_ONCE; i++)
			there |= (uint64_t)(tmem_page_find(pool, &keys[i]).value != VALUE_NONE) << i;
		pthread_mutex_unlock(&t->lock);
	}
	return there;
}

bool tmem_compact(struct quire_tmem *t, unsigned n_moves)
{
	pthread_mutex_lock(&t->lock);
	bool gained = storage_is_loose(&t->storage) && storage_compact(&t->storage, n_moves, content_moved, t);
	pthread_mutex_unlock(&t->lock);
	return gained;
}
