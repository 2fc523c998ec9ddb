/* spin.h - waiting for a moment without sleeping: to sleep and be woken takes tens of microseconds. */
#ifndef BASE_SPIN_H
#define BASE_SPIN_H

#include <pthread.h>

static inline void spin_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

#define SPIN_LOCK_TRIES 256u /* with what is between them some ten microseconds */

/* As pthread_mutex_lock, of a lock that is held for microseconds at most. */
static inline void spin_lock(pthread_mutex_t *lock)
{
	for (unsigned i = 0; i < SPIN_LOCK_TRIES; i++) {
		if (pthread_mutex_trylock(lock) == 0)
			return;
		/* Further apart as it goes on: each try takes the line away from who holds it. */
		for (unsigned k = 0; k < 4 + i / 8; k++)
			spin_relax();
	}
	pthread_mutex_lock(lock);
}

#endif
