/* budget.c - the one accountant.
 *
 * Invariants:
 * 1. used_bytes is what was charged and not uncharged; a try_charge never raises it
 *    above the limit that it read, not even for a moment.
 * 2. The sum of kind_bytes trails used_bytes: a kind is raised after the sum and lowered
 *    before it, so that a snapshot never shows kinds which the sum does not cover.
 * 3. A new limit binds charges that begin after it was set; a charge that races with it
 *    may still go by the old one. What is above it then shows in budget_excess.
 * 4. lent_bytes are in used_bytes, and in no kind. Lenders share one loan: one may take what another lent, and
 *    the sum holds.
 *
 * Relaxed order is enough: the numbers guard no other memory.
 */
#include "budget.h"

#include "assert.h"

void budget_init(struct budget *b, uint64_t limit_bytes)
{
	atomic_init(&b->limit_bytes, limit_bytes);
	atomic_init(&b->used_bytes, 0);
	for (unsigned kind = 0; kind < N_BUDGET_KINDS; kind++)
		atomic_init(&b->kind_bytes[kind], 0);
	atomic_init(&b->lent_bytes, 0);
	atomic_init(&b->n_lenders, 0);
	b->reclaim = NULL;
	b->reclaim_arg = NULL;
}

static bool take_lent(struct budget *b, enum budget_kind kind, uint64_t bytes)
{
	uint64_t lent = atomic_load_explicit(&b->lent_bytes, memory_order_relaxed);

	do {
		if (lent < bytes || lent == 0)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&b->lent_bytes, &lent, lent - bytes, memory_order_relaxed,
	                                                memory_order_relaxed));
	atomic_fetch_add_explicit(&b->kind_bytes[kind], bytes, memory_order_relaxed);
	return true;
}

void budget_lend_frames(struct budget *b, uint64_t bytes)
{
	atomic_fetch_add(&b->n_lenders, 1);
	atomic_fetch_sub_explicit(&b->kind_bytes[BUDGET_FRAMES], bytes, memory_order_relaxed);
	atomic_fetch_add_explicit(&b->lent_bytes, bytes, memory_order_relaxed);
}

void budget_lend(struct budget *b, uint64_t bytes)
{
	budget_charge(b, BUDGET_FRAMES, bytes);
	budget_lend_frames(b, bytes);
}

void budget_end_loan(struct budget *b)
{
	if (atomic_fetch_sub(&b->n_lenders, 1) == 1)
		atomic_fetch_sub_explicit(&b->used_bytes, atomic_exchange(&b->lent_bytes, 0), memory_order_relaxed);
}

void budget_recall_frames(struct budget *b, uint64_t bytes)
{
	if (!take_lent(b, BUDGET_FRAMES, bytes))
		budget_charge(b, BUDGET_FRAMES, bytes);
}

bool budget_try_charge(struct budget *b, enum budget_kind kind, uint64_t bytes)
{
	if (kind == BUDGET_TMEM && take_lent(b, kind, bytes))
		return true;
	uint64_t limit = budget_limit(b);
	uint64_t used = budget_used(b);
	do {
		/* Not used + bytes > limit: that sum can wrap. */
		if (used > limit || bytes > limit - used)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&b->used_bytes, &used, used + bytes,
	                                                memory_order_relaxed,
	                                                memory_order_relaxed));
	atomic_fetch_add_explicit(&b->kind_bytes[kind], bytes, memory_order_relaxed);
	return true;
}

bool budget_reclaim(const struct budget *b)
{
	return b->reclaim != NULL && b->reclaim(b->reclaim_arg);
}

void budget_charge(struct budget *b, enum budget_kind kind, uint64_t bytes)
{
	atomic_fetch_add_explicit(&b->used_bytes, bytes, memory_order_relaxed);
	atomic_fetch_add_explicit(&b->kind_bytes[kind], bytes, memory_order_relaxed);
}

void budget_uncharge(struct budget *b, enum budget_kind kind, uint64_t bytes)
{
	uint64_t kind_before =
		atomic_fetch_sub_explicit(&b->kind_bytes[kind], bytes, memory_order_relaxed);
	uint64_t used_before =
		atomic_fetch_sub_explicit(&b->used_bytes, bytes, memory_order_relaxed);

	/* Giving back what was never charged is our own mistake; going on would
	 * turn the limit off. */
	quire_assert(kind_before >= bytes && used_before >= bytes);
}

void budget_set_limit(struct budget *b, uint64_t limit_bytes)
{
	atomic_store_explicit(&b->limit_bytes, limit_bytes, memory_order_relaxed);
}

uint64_t budget_excess(const struct budget *b)
{
	uint64_t limit = budget_limit(b);
	uint64_t used = budget_used(b);
	return used > limit ? used - limit : 0;
}
