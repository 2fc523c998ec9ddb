/* probation_pool.c - see probation_pool.h. */
#include "probation_pool.h"

#include <string.h>
#include <unistd.h>

/* ---- its memory ---- */

static uint64_t buckets_for(uint64_t n_slots)
{
	uint64_t n = POOL_BUCKETS_LEAST;

	while (n < n_slots)
		n *= 2;
	return n;
}

static uint64_t whole_pages(uint64_t bytes, unsigned page_shift)
{
	return (bytes + (UINT64_C(1) << page_shift) - 1) >> page_shift << page_shift;
}

static uint64_t slots_bytes(uint64_t max_slots, unsigned page_shift)
{
	return whole_pages(max_slots * sizeof(struct slot), page_shift);
}

static uint64_t buckets_bytes(uint64_t max_slots, unsigned page_shift)
{
	return whole_pages(buckets_for(max_slots) * sizeof(uint32_t), page_shift);
}

uint64_t pool_bytes(uint64_t max_slots, unsigned page_shift)
{
	return slots_bytes(max_slots, page_shift) + buckets_bytes(max_slots, page_shift) + (max_slots << page_shift);
}

void pool_place(struct pool *pool, char *at, uint64_t max_slots, unsigned page_shift)
{
	pool->slots = (struct slot *)(void *)at;
	pool->buckets = (uint32_t *)(void *)(at + slots_bytes(max_slots, page_shift));
	pool->copies = at + slots_bytes(max_slots, page_shift) + buckets_bytes(max_slots, page_shift);
}

void pool_init(struct pool *pool)
{
	pthread_mutex_init(&pool->lock, NULL);
	pool->free = pool->held = (struct slot_list){NO_SLOT, NO_SLOT};
}

void pool_fini(struct pool *pool)
{
	pthread_mutex_destroy(&pool->lock);
}

/* ---- lists and chains ---- */

static void list_append(struct pool *pool, struct slot_list *list, uint32_t i)
{
	struct slot *s = &pool->slots[i];

	s->older = list->newest;
	s->newer = NO_SLOT;
	*(s->older != NO_SLOT ? &pool->slots[s->older].newer : &list->oldest) = i;
	list->newest = i;
}

static void list_remove(struct pool *pool, struct slot_list *list, uint32_t i)
{
	struct slot *s = &pool->slots[i];

	*(s->older != NO_SLOT ? &pool->slots[s->older].newer : &list->oldest) = s->newer;
	*(s->newer != NO_SLOT ? &pool->slots[s->newer].older : &list->newest) = s->older;
}

static uint32_t *bucket_of(const struct pool *pool, uint64_t page)
{
	return &pool->buckets[(page * 0xD6E8FEB86659FD93u) >> 24 & (pool->n_buckets - 1)];
}

uint32_t pool_find(const struct pool *pool, uint64_t page)
{
	uint32_t i = pool->n_buckets == 0 ? NO_SLOT : *bucket_of(pool, page);

	while (i != NO_SLOT && pool->slots[i].page != page)
		i = pool->slots[i].chain;
	return i;
}

void slot_detach(struct pool *pool, uint32_t i)
{
	struct slot *s = &pool->slots[i];
	uint32_t *at = bucket_of(pool, s->page);

	while (*at != i)
		at = &pool->slots[*at].chain;
	*at = s->chain;
	list_remove(pool, &pool->held, i);
	s->state = SLOT_BUSY;
	atomic_fetch_sub_explicit(&pool->n_held, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&s->range->n_probation, 1, memory_order_relaxed);
}

void slot_attach(struct pool *pool, uint32_t i)
{
	struct slot *s = &pool->slots[i];
	uint32_t *at = bucket_of(pool, s->page);

	s->chain = *at;
	*at = i;
	list_append(pool, &pool->held, i);
	s->state = SLOT_HELD;
	atomic_fetch_add(&s->range->n_probation, 1); /* seq_cst: probation.c, 5 */
	atomic_fetch_add_explicit(&pool->n_held, 1, memory_order_relaxed);
}

void slot_release(struct pool *pool, uint32_t i)
{
	pool->slots[i].state = SLOT_FREE;
	list_append(pool, &pool->free, i);
}

uint32_t slot_take(struct pool *pool)
{
	uint32_t i = pool->free.oldest;

	if (i != NO_SLOT) {
		list_remove(pool, &pool->free, i);
		pool->slots[i].state = SLOT_BUSY;
		return i;
	}
	i = pool->held.oldest;
	if (i != NO_SLOT)
		slot_detach(pool, i);
	return i;
}

/* ---- more and less ---- */

static void pool_rehash(struct pool *pool, uint32_t n_buckets)
{
	pool->n_buckets = n_buckets;
	memset(pool->buckets, 0xff, n_buckets * sizeof(*pool->buckets));
	for (uint32_t i = pool->held.oldest; i != NO_SLOT; i = pool->slots[i].newer) {
		uint32_t *at = bucket_of(pool, pool->slots[i].page);

		pool->slots[i].chain = *at;
		*at = i;
	}
}

void pool_grow(struct pool *pool, uint32_t n)
{
	while (n-- > 0)
		slot_release(pool, pool->n_slots++);
	if (pool->n_buckets < pool->n_slots)
		pool_rehash(pool, pool->n_buckets == 0 ? POOL_BUCKETS_LEAST : 2 * pool->n_buckets);
}

uint32_t pool_shrink(struct pool *pool, uint32_t n)
{
	uint32_t before = pool->n_slots;

	while (n-- > 0 && pool->n_slots > 0 && pool->slots[pool->n_slots - 1].state != SLOT_BUSY) {
		uint32_t i = pool->n_slots - 1;

		if (pool->slots[i].state == SLOT_HELD)
			slot_detach(pool, i);
		else
			list_remove(pool, &pool->free, i);
		pool->n_slots--;
	}
	return before - pool->n_slots;
}

bool pool_check(const struct pool *pool, uint32_t max_slots)
{
	uint32_t n_free = 0, n_held = 0, n_busy = 0;
	bool sound = pool->n_slots <= max_slots && pool->n_slots <= pool->n_buckets;

	for (uint32_t i = pool->free.oldest; i != NO_SLOT; i = pool->slots[i].newer, n_free++)
		sound &= pool->slots[i].state == SLOT_FREE;
	for (uint32_t i = pool->held.oldest; i != NO_SLOT; i = pool->slots[i].newer, n_held++)
		sound &= pool->slots[i].state == SLOT_HELD && pool_find(pool, pool->slots[i].page) == i;
	for (uint32_t i = 0; i < pool->n_slots; i++)
		n_busy += pool->slots[i].state == SLOT_BUSY;
	return sound && n_held == atomic_load(&pool->n_held) && n_free + n_held + n_busy == pool->n_slots;
}
