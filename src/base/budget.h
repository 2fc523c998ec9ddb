/* budget.h - the one accountant: bytes held, by kind, under one adjustable limit.
 *
 * Lock-free; any thread, also in a signal handler. The sum is charged before
 * memory is taken and uncharged after it was given back, so the kernel's count
 * trails this one.
 */
#ifndef BASE_BUDGET_H
#define BASE_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum budget_kind {
	BUDGET_FRAMES,
	BUDGET_PAGE_TABLES,
	BUDGET_TABLES,
	BUDGET_BUFFERS,
	BUDGET_OTHER,
	BUDGET_PROBATION,
	BUDGET_TMEM,
	N_BUDGET_KINDS
};

struct budget {
	_Atomic uint64_t limit_bytes;
	_Atomic uint64_t used_bytes;
	_Atomic uint64_t kind_bytes[N_BUDGET_KINDS];
	_Atomic uint64_t lent_bytes; /* part of used_bytes, of no kind */
	_Atomic unsigned n_lenders;
	/* NULL, or of who holds memory that can leave; set before there is a second user. */
	bool (*reclaim)(void *arg);
	void *reclaim_arg; /* borrowed: as long as the budget */
};

void budget_init(struct budget *b, uint64_t limit_bytes);

/* False, and nothing charged, if the sum would pass the limit. */
bool budget_try_charge(struct budget *b, enum budget_kind kind, uint64_t bytes);

/* Has some of what can leave at once leave; false: there is none. For those who hold none themselves, when a
 * charge was refused, or one that had to be had passed the limit. Not in a signal handler, but under any lock
 * of a layer below the cache: no I/O, microseconds. */
bool budget_reclaim(const struct budget *b);

/* Charges whatever the limit says; for what must be had. The caller evicts next. */
void budget_charge(struct budget *b, enum budget_kind kind, uint64_t bytes);
void budget_uncharge(struct budget *b, enum budget_kind kind, uint64_t bytes);

/* Frames whose content goes into pools are lent to them first: while there is a loan BUDGET_TMEM is charged to it, whatever the
 * limit says, so that a page can leave for less room than it took when there is none besides. budget_end_loan ends what the caller
 * has begun; what nobody took is uncharged then, or when the last has ended his. */
void budget_lend_frames(struct budget *b, uint64_t bytes);
void budget_end_loan(struct budget *b);
/* The same of bytes that aren't there: for who is about to give back more than that, and needs some first. */
void budget_lend(struct budget *b, uint64_t bytes);
/* Charges frames: of the loan if it has so much, else as budget_charge. */
void budget_recall_frames(struct budget *b, uint64_t bytes);

void budget_set_limit(struct budget *b, uint64_t limit_bytes);
static inline uint64_t budget_limit(const struct budget *b)
{
	return atomic_load_explicit(&b->limit_bytes, memory_order_relaxed);
}
static inline uint64_t budget_used(const struct budget *b)
{
	return atomic_load_explicit(&b->used_bytes, memory_order_relaxed);
}
static inline uint64_t budget_kind_used(const struct budget *b, enum budget_kind kind)
{
	return atomic_load_explicit(&b->kind_bytes[kind], memory_order_relaxed);
}
/* Bytes above the limit, 0 if none. */
uint64_t budget_excess(const struct budget *b);

#endif
