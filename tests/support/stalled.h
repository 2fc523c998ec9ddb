/* stalled.h - a loop that has started wants and then stands still, its fills under way. */
#ifndef TESTS_SUPPORT_STALLED_H
#define TESTS_SUPPORT_STALLED_H

#include "maps.h"

#include <pthread.h>
#include <semaphore.h>

struct stalled {
	/* the caller's */
	struct quire_map *map;
	struct quire_op *ops;       /* borrowed; initialised */
	const struct iovec *ranges; /* borrowed */
	unsigned n, flags;
	unsigned depth;             /* of the loop; 0: the default */
	void (*body)(struct stalled *s); /* run by the loop's thread when all are started; may be NULL */
	void *arg;
	/* its own */
	enum quire_engine engine;
	struct quire_loop *loop;
	pthread_t thread;
	sem_t started, go;
	int rc;
};

/* Starts n wants, the i-th of ranges[i] with ops[i], on a thread with a loop of that engine (or
 * of the other if there is no io_uring), which then stands still until stalled_end. */
void stalled_start(struct stalled *s, enum quire_engine engine);

/* Lets the loop run to its end, and destroys it. */
void stalled_end(struct stalled *s);

extern const enum quire_engine both_engines[2];

#endif
