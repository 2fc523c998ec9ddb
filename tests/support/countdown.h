/* countdown.h - the nth of something, and perhaps all behind it, is refused: what refuse_*.c count by. Any thread. */
#ifndef TESTS_SUPPORT_COUNTDOWN_H
#define TESTS_SUPPORT_COUNTDOWN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct countdown {
	_Atomic uint64_t left; /* 0: nothing is refused */
	_Atomic bool lasting;  /* it stays at 1 */
	_Atomic bool hit;
};

static inline void countdown_begin(struct countdown *c, uint64_t n, bool lasting)
{
	atomic_store(&c->hit, false);
	atomic_store(&c->lasting, lasting);
	atomic_store(&c->left, n);
}

/* True: it was reached since it began. */
static inline bool countdown_end(struct countdown *c)
{
	atomic_store(&c->left, 0);
	return atomic_load(&c->hit);
}

/* True: this one is refused. */
static inline bool countdown_refuses(struct countdown *c)
{
	uint64_t left = atomic_load(&c->left);

	while (left > 0 && !(left == 1 && atomic_load(&c->lasting)) && !atomic_compare_exchange_weak(&c->left, &left, left - 1))
		;
	if (left != 1)
		return false;
	atomic_store(&c->hit, true);
	return true;
}

#endif
