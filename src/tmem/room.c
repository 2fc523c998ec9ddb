/* room.c - pools beside others on somebody's budget: who makes room for whom, by weight.
 *
 * All else that the budget's owner holds for himself counts as one pool of TMEM_OWNER_WEIGHT, and so do pools that he steers. While other
 * ephemeral pools have less than their part of the budget, he is asked for what a put takes; from then on they make room
 * themselves. What they have beyond it, having found it free, is the first to go when he needs memory. What is put into
 * persistent ones stays, so they get what there is, but for a part that leaves him able to go on.
 */
#include "tmem_internal.h"

#include "tmem.h"

#define LEAVE_SHARE 8u         /* one part of the budget in so many is left to its owner */
#define SPARE_BYTES (192u << 10) /* that a put may take beside its page: tables grow */
#define MOST_ASKED 16u
#define YIELD_BYTES (64u << 10)
#define MOVES 64u

void tmem_pool_steer(struct quire_tmem_pool *pool)
{
	pthread_mutex_lock(&pool->tmem->lock);
	pool->steered = true;
	pthread_mutex_unlock(&pool->tmem->lock);
}

bool tmem_pool_spills(const struct quire_tmem_pool *pool)
{
	return (pool->o.flags & QUIRE_TMEM_SPILL) != 0;
}

/* Ephemeral pools that are nobody's but the program's: what they hold, by how much it is more than their part; 0. Lock held. */
static uint64_t surplus_of_all(const struct quire_tmem *t, uint64_t *ret_held, struct quire_tmem_pool **ret_heaviest)
{
	uint64_t held = 0, weight = 0;
	struct quire_tmem_pool *most = NULL;

	for (unsigned i = 1; i < t->n_pools; i++) {
		struct quire_tmem_pool *p = t->pools[i];
		if (p == NULL || p->policy == NULL || p->steered)
			continue;
		held += p->held_bytes;
		weight += p->o.weight;
		if (p->n_pages > 0 && !p->frozen &&
		    (most == NULL || (__uint128_t)p->held_bytes * most->o.weight > (__uint128_t)most->held_bytes * p->o.weight))
			most = p;
	}
	uint64_t part = (uint64_t)((__uint128_t)budget_limit(t->budget) * weight / (weight + TMEM_OWNER_WEIGHT));
	*ret_held = held;
	*ret_heaviest = most;
	return held > part ? held - part : 0;
}

/* May the pool have memory of the owner's? */
static bool may_have(struct quire_tmem_pool *pool, uint64_t bytes)
{
	struct quire_tmem *t = pool->tmem;
	struct quire_tmem_pool *most;
	uint64_t limit = budget_limit(t->budget), held;

	if (pool->steered)
		return false;
	if (budget_kind_used(t->budget, BUDGET_FRAMES) < limit / LEAVE_SHARE)
		return false;
	if (pool->policy == NULL)
		return true;
	pthread_mutex_lock(&t->lock);
	uint64_t part_left = surplus_of_all(t, &held, &most) == 0;
	bool capped = pool->o.cap_bytes != 0 && pool->held_bytes + bytes > pool->o.cap_bytes;
	pthread_mutex_unlock(&t->lock);
	return part_left && !capped;
}

void tmem_make_room(struct quire_tmem_pool *pool)
{
	struct budget *b = pool->tmem->budget;
	uint64_t bytes = pool->o.page_bytes + SPARE_BYTES;

	if (b == &pool->tmem->own_budget)
		return;
	for (unsigned i = 0; i < MOST_ASKED; i++)
		if (budget_used(b) + bytes <= budget_limit(b) || !may_have(pool, bytes) || !budget_reclaim(b))
			break;
}

bool tmem_yield_surplus(struct quire_tmem *t)
{
	struct quire_tmem_pool *most;
	uint64_t held;
	bool gave = false;

	pthread_mutex_lock(&t->lock);
	if (surplus_of_all(t, &held, &most) > YIELD_BYTES && most != NULL && most->held_bytes > YIELD_BYTES) {
		uint64_t used = budget_used(t->budget), cap = most->o.cap_bytes;

		most->o.cap_bytes = most->held_bytes - YIELD_BYTES;
		(void)tmem_evict_to_cap(most, 0);
		most->o.cap_bytes = cap;
		(void)storage_compact(&t->storage, MOVES, content_moved, t);
		gave = budget_used(t->budget) < used;
	}
	pthread_mutex_unlock(&t->lock);
	return gave;
}
