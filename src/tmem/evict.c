/* evict.c - who leaves, and what memory comes of it.
 *
 * Ephemeral pages leave, of the pool that has most for its weight, in the order of that pool's policy (S3-FIFO). A policy knows a
 * page by its span, the low bits of its index, and a stamp that each content gets anew, since a name that was flushed and
 * put again is another page: its old entry must not make it leave early.
 *
 * It is bytes that are wanted, so pages are worth their uses by what they take: a content much smaller than the pool's others is
 * entered as if used once or twice; a word, of which nothing is left but a place in the index, is among the last to leave.
 *
 * Memory for a put: what lies idle or in holes first; then what pages leave. A slot that came free is of use to
 * those of its size, or somewhat less, at once; that is most of what a full pool does.
 *
 * Where there is a remote tier a page may leave a stub (remote.c), which is in no policy: the oldest go when there are too many, or
 * nothing else can.
 */
#include "tmem_internal.h"

#include <unistd.h>

#define BATCH 16u
#define MOVES 16u
#define LEAST_POLICY_PAGES 4u

/* Of the policy's thresholds, which rise where it finds nothing but pages in use. */
#define SHARE_THRESHOLD 2u
#define SAME_THRESHOLD 3u

static uint64_t number_of(const struct where *at, uint8_t stamp)
{
	return (uint64_t)at->span << 24 | (uint64_t)at->low << 8 | stamp;
}

static struct slot_head *plain_head(const struct quire_tmem *t, uint32_t value)
{
	return (value & VALUE_SHARE) != 0 ? NULL : storage_at(&t->storage, value);
}

uint64_t tmem_evict_policy_least(void)
{
	return LEAST_POLICY_PAGES * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void tmem_evict_charge_policy(struct quire_tmem_pool *pool)
{
	/* A few pages' worth is charged from the beginning: it comes when there may be nothing that can leave for it. */
	uint64_t bytes = policy_bytes(pool->policy), least = tmem_evict_policy_least();

	if (bytes < least)
		bytes = least;
	if (bytes > pool->policy_bytes)
		budget_charge(pool->tmem->budget, BUDGET_TMEM, bytes - pool->policy_bytes);
	else
		budget_uncharge(pool->tmem->budget, BUDGET_TMEM, pool->policy_bytes - bytes);
	pool->held_bytes += bytes - pool->policy_bytes;
	pool->policy_bytes = bytes;
}

/* ---- the policy's owner ---- */

static bool where_is(const struct quire_tmem_pool *pool, uint64_t number, struct where *ret)
{
	const struct quire_tmem *t = pool->tmem;

	*ret = (struct where){.span = (uint32_t)(number >> 24), .low = (uint16_t)(number >> 8)};
	if (!records_there(&t->spans.records, ret->span) || span_at(&t->spans, ret->span)->pool != pool->no)
		return false;
	ret->value = spans_get(&t->spans, ret->span, ret->low);
	if (ret->value == VALUE_NONE || tmem_is_stub(t, ret->value))
		return false;
	const struct slot_head *h = plain_head(t, ret->value);
	return h == NULL || slot_stamp(h, ret->low) == (uint8_t)number;
}

static enum policy_answer ask(void *arg, uint64_t number, unsigned threshold)
{
	struct quire_tmem_pool *pool = arg;
	struct where at;

	if (!where_is(pool, number, &at))
		return POLICY_GONE;
	/* Little comes of these: each costs a place in the index, and of shared ones a part of the content. */
	if (value_is_same(at.value))
		return threshold < SAME_THRESHOLD ? POLICY_USED : POLICY_TAKEN;
	if (value_is_share(at.value))
		return threshold < SHARE_THRESHOLD ? POLICY_USED : POLICY_TAKEN;
	struct slot_head *h = plain_head(pool->tmem, at.value);
	if (h->uses >= threshold) {
		h->uses--;
		return POLICY_USED;
	}
	return POLICY_TAKEN;
}

static bool is_gone(void *arg, uint64_t number)
{
	struct where at;

	return !where_is(arg, number, &at);
}

/* Uses that a content has for being small beside the pool's others: for the same worth it may be used less often. */
static unsigned credit_of(const struct quire_tmem_pool *pool, const struct slot_head *h)
{
	uint64_t stubs = pool->n_stubs * STORAGE_LEAST_BYTES;
	uint64_t all = pool->held_bytes - pool->policy_bytes - stubs, bytes = slot_len(h) * (pool->n_contents - pool->n_stubs);

	return bytes <= all / 2 ? 2 : bytes <= all / 4 * 3;
}

bool tmem_evict_enter(struct quire_tmem_pool *pool, const struct where *at)
{
	struct slot_head *h = plain_head(pool->tmem, at->value);

	if (h != NULL) {
		h->stamp = ++pool->stamp;
		h->uses = credit_of(pool, h) & 3u;
	}
	int rc = policy_insert(pool->policy, number_of(at, h == NULL ? 0 : h->stamp));
	tmem_evict_charge_policy(pool);
	return rc == 0;
}

void tmem_evict_used(struct quire_tmem *t, uint32_t value)
{
	struct slot_head *h = plain_head(t, value);

	if (h != NULL && h->uses < 3)
		h->uses++;
}

void tmem_evict_tidy(struct quire_tmem_pool *pool)
{
	struct quire_tmem *t = pool->tmem;

	storage_trim(&t->storage, false);
	if (pool->policy == NULL)
		return;
	if (policy_n_entries(pool->policy) >= 2 * pool->n_pages + 1024) {
		(void)policy_forget(pool->policy, is_gone, pool);
		tmem_evict_charge_policy(pool);
	}
	/* A queue that has doubled. */
	while (budget_excess(t->budget) > 0 && tmem_evict_for(t))
		;
	tmem_remote_tidy(t);
}

/* ---- leaving ---- */

/* Neighbours in a unit are as cold, and its memory comes back with the last of them. */
static unsigned remove_with_neighbours(struct quire_tmem_pool *pool, struct where at)
{
	const struct slot_head *h = plain_head(pool->tmem, at.value);
	unsigned n = 0;

	if (h == NULL || h->kind != SLOT_UNIT) {
		tmem_page_remove(pool, &at);
		return 1;
	}
	uint16_t first = h->low;
	for (uint32_t left = h->members; left != 0; left &= left - 1, n++) {
		at.low = (uint16_t)(first + __builtin_ctz(left));
		tmem_page_remove(pool, &at);
	}
	return n;
}

static bool evict_some(struct quire_tmem_pool *pool)
{
	uint64_t numbers[BATCH];
	struct where at;
	unsigned n = policy_pick(pool->policy, numbers, BATCH, ask, pool);

	for (unsigned i = 0; i < n; i++)
		if (where_is(pool, numbers[i], &at) && !tmem_remote_leave(pool, &at))
			pool->counts.n_evicted += remove_with_neighbours(pool, at);
	tmem_evict_charge_policy(pool);
	return tmem_remote_trim(pool, n == 0 ? BATCH : 0) + n > 0;
}

/* The pool that has most for its weight. NULL: none has anything that may leave. */
static struct quire_tmem_pool *heaviest(const struct quire_tmem *t)
{
	struct quire_tmem_pool *best = NULL;

	for (unsigned i = 1; i < t->n_pools; i++) {
		struct quire_tmem_pool *p = t->pools[i];
		if (p == NULL || p->policy == NULL || p->n_pages == 0 || p->frozen)
			continue;
		if (best == NULL || (__uint128_t)p->held_bytes * best->o.weight > (__uint128_t)best->held_bytes * p->o.weight)
			best = p;
	}
	return best;
}

bool tmem_evict_for(struct quire_tmem *t)
{
	if (storage_is_loose(&t->storage) && storage_compact(&t->storage, MOVES, content_moved, t))
		return true;
	struct quire_tmem_pool *pool = heaviest(t);
	if (pool != NULL && evict_some(pool))
		return true;
	return storage_compact(&t->storage, MOVES, content_moved, t);
}

bool tmem_evict_to_cap(struct quire_tmem_pool *pool, uint64_t more_bytes)
{
	if (pool->o.cap_bytes == 0)
		return true;
	while (pool->held_bytes + more_bytes > pool->o.cap_bytes)
		if (pool->policy == NULL || pool->frozen || !evict_some(pool))
			return false;
	return true;
}
