/* cgroup.h - a memory cgroup of our own, v1 or v2, for as long as a contender runs.
 *
 * Needs a hierarchy that this user may write to; where there is none, create fails and
 * nothing was changed. One thread.
 */
#ifndef CLI_CGROUP_H
#define CLI_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#define CGROUP_PATH_BYTES 512

struct cgroup {
	char path[CGROUP_PATH_BYTES];
	char procs[CGROUP_PATH_BYTES + 16]; /* write a pid (0: oneself) here to enter */
	bool v2;
};

/* Makes a cgroup below ours, or the nearest place above that may have one, that holds
 * limit_bytes of memory, page cache and page tables included, and no swap. 0, or a negative
 * errno. */
int cgroup_create(const char *name, uint64_t limit_bytes, struct cgroup *ret);

/* The most that was charged so far; 0 if the kernel does not tell. */
uint64_t cgroup_peak_bytes(const struct cgroup *g);

/* How often the limit was hit so hard that a process was killed; 0 if not known. */
uint64_t cgroup_oom_kills(const struct cgroup *g);

/* No process may be left in it. Memory that is still charged goes to the parent. */
int cgroup_destroy(struct cgroup *g);

#endif
