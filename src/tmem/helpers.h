/* helpers.h - threads that share work which only computes. */
#ifndef TMEM_HELPERS_H
#define TMEM_HELPERS_H

#include <stdatomic.h>

struct helpers;

/* Threads are started with the first work. -ENOMEM. */
int helpers_create(unsigned n_threads, struct helpers **ret);
void helpers_destroy(struct helpers *h); /* what was posted is done first. NULL allowed */

/* Calls fn for each of [0, n), on the caller's thread and others, in any order; all are done when it returns. */
void helpers_share(struct helpers *h, void (*fn)(void *arg, unsigned i), void *arg, unsigned n);

/* Something to be done on a helper's thread, some time; the memory is the caller's until it begins. -EAGAIN: there are no
 * threads to be had. */
struct helper_task {
	struct helper_task *next;
	void (*run)(struct helper_task *task);
};
int helpers_post(struct helpers *h, struct helper_task *task);

#endif
