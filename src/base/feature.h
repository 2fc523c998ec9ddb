/* feature.h - what this kernel lets this process do: probed once, maskable. */
#ifndef BASE_FEATURE_H
#define BASE_FEATURE_H

#include <stdbool.h>

/* In the order of the words that quire_mask and QUIRE_MASK take. */
enum feature {
	FEATURE_IO_URING,           /* "io_uring": a ring can be set up */
	FEATURE_USERFAULTFD,        /* "userfaultfd": any, at least for user-mode faults */
	FEATURE_UFFD_KERNEL_FAULTS, /* "uffd_kernel_faults": faults in system calls too */
	FEATURE_PROCESS_MADVISE,    /* "process_madvise": MADV_DONTNEED on oneself, vectored */
	FEATURE_UFFD_MOVE,          /* "uffd_move" */
	FEATURE_UFFD_POISON,        /* "uffd_poison" */
	FEATURE_UFFD_WP,            /* "uffd_wp": write protection of anonymous pages */
	FEATURE_CACHESTAT,          /* "cachestat" */
	FEATURE_PT_RECLAIM,         /* "pt_reclaim": MADV_DONTNEED frees empty page tables */
	FEATURE_DEFER_TASKRUN,      /* "defer_taskrun" */
	FEATURE_DIRECT,             /* "direct": not probed (a property of each file), only masked */
	N_FEATURES
};

/* Probes, unless that was done: 0; or -EMFILE, -ENFILE where there was no descriptor to probe with, and then the next
 * call probes again. Without it such a moment would count for as long as the process lives. Any thread. */
int feature_settle(void);

/* True if probed present and not masked. Any thread; probes at first use, by
 * trying, never by version. Never fails: what can't be probed is absent. */
bool feature_have(enum feature feature);

const char *feature_name(enum feature feature); /* for tests */

/* userfaultfd(2), or /dev/userfaultfd where that gives more; CLOEXEC, NONBLOCK; API
 * handshake done with the features asked for (UFFD_FEATURE_* bits). want_kernel:
 * kernel-mode faults too. Returns a descriptor or a negative errno. */
int feature_userfaultfd(bool want_kernel, unsigned long long uffd_features);

#endif
