/* fake_backing.h - a backing in memory, whose I/O fails as wished, and which knows what was done. */
#ifndef TESTS_TMEM_FAKE_BACKING_H
#define TESTS_TMEM_FAKE_BACKING_H

#include "../../src/tmem/backing.h"

#include <pthread.h>

struct fake_backing {
	pthread_mutex_t lock, writer;
	uint8_t *bytes;
	bool *taken;              /* segments */
	unsigned n_segments, n_taken;
	uint32_t segment_bytes;
	/* Atomic is what a test may look at or set while a round beside it writes. */
	_Atomic unsigned n_reads, n_writes;
	unsigned n_gives;
	_Atomic bool fail_reads, fail_writes;
	_Atomic unsigned fail_one_in; /* of all I/O; 0: none */
	uint64_t random;
	_Atomic bool refuse;      /* begin is -EDEADLK */
	bool closed;
	/* Called within a write, or a read, before it is done. */
	void (*hook)(void *arg);
	void *hook_arg;
};

/* Room for n segments of segment_bytes each. */
void fake_backing_init(struct fake_backing *f, unsigned n_segments, uint32_t segment_bytes);
void fake_backing_fini(struct fake_backing *f);
int fake_backing_set(struct fake_backing *f, struct quire_tmem *t, uint32_t page_most_bytes);

#endif
