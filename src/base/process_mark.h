/* process_mark.h - whose process an object is of: a forked child has its memory, but neither its threads nor its rings, shares its
 * files, and may have been forked while somebody held its locks. So it may not even lock it.
 *
 * Not getpid(2), which is a system call; nor a handler of pthread_atfork(3), which some ways to fork pass by. */
#ifndef BASE_PROCESS_MARK_H
#define BASE_PROCESS_MARK_H

#include <stdbool.h>
#include <sys/types.h>
#include <unistd.h>

struct process_mark {
	const volatile char *alive; /* owned: a page in which a forked child finds zeros; NULL: there is no such memory */
	pid_t pid;
};

void process_mark_init(struct process_mark *m); /* of this process; never fails */
void process_mark_fini(struct process_mark *m); /* also of one that is all zeros */

/* True in a forked child. Any thread. */
static inline bool process_mark_is_of_parent(const struct process_mark *m)
{
	return m->alive != NULL ? *m->alive == 0 : m->pid != getpid();
}

#endif
