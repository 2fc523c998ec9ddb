/* process_mark.h - whose process an object is of: a forked child has its memory, but neither its threads nor its rings, shares its
 * files, and may have been forked while somebody held its locks. So it may not even lock it.
 *
 * Known by a page that the kernel wipes in a child, and by a count that a handler of pthread_atfork(3) keeps: some ways to fork pass by the one,
 * emulators don't know the other. getpid(2) would be a system call each time. */
#ifndef BASE_PROCESS_MARK_H
#define BASE_PROCESS_MARK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct process_mark {
	const volatile char *alive; /* owned: a page in which a forked child finds zeros; NULL: there is no such memory */
	unsigned n_forks;
};

extern _Atomic unsigned process_n_forks; /* that lie between the first process and this one */

void process_mark_init(struct process_mark *m); /* of this process; never fails */
void process_mark_fini(struct process_mark *m); /* also of one that is all zeros */

/* True in a forked child. Any thread. */
static inline bool process_mark_is_of_parent(const struct process_mark *m)
{
	return m->n_forks != atomic_load_explicit(&process_n_forks, memory_order_relaxed) || (m->alive != NULL && *m->alive == 0);
}

#endif
