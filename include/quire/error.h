/* quire/error.h - errors, masks, version.
 *
 * Every call returns 0 or a count, or a negative errno. Meanings are fixed:
 *
 *   -EINVAL     an argument is not of the documented form
 *   -EFAULT     an address outside the map it was used with
 *   -ENOMEM     memory, arena, or budget exhausted (pins included)
 *   -ESTALE     the object or file is no longer the one that was named
 *   -EIO        the medium failed
 *   -EBADMSG    a checksum, or the owner's fill hook, refused the data
 *   -ECANCELED  the operation was cancelled, or its map destroyed
 *   -EBUSY      in use: pins outstanding, operations under way
 *   -ENOTSUP    this process lacks what the call needs (see quire_capabilities)
 *   -EDEADLK    the call would block the loop's own thread
 *   -ECHILD     the object belongs to the parent of this forked process
 *   -ENOENT     nothing of that name or number; a class that the store lacks
 *   -EEXIST     it is there already
 *   -EAGAIN     not yet: not committed, nothing there to take
 *   -EROFS      committed, sealed, frozen, or opened for reading
 *   -ENOSPC     no space on the medium, or under a cap
 *   -EFBIG      what was made for it is full
 *   -EMSGSIZE   more than one record or transaction takes
 *   -EUCLEAN    a structure on a medium, or in a stream, is broken
 *   -EPERM      not for this caller
 *
 * A code that is not among these is one call's own, and told where that is declared.
 *
 * Any call may return -EINVAL, -ENOMEM, and -ECHILD; one that takes an op, -EBUSY if that op is under way
 * already; one that waits without an op, -EDEADLK in a loop's callback; and one that opens or makes something, what
 * the system call says that refused it (-EACCES, -EMFILE, …). Contracts tell of these where there is more to say.
 *
 * Calls on the cold side (open, create) also fill a struct quire_error.
 * The library never prints.
 */
#ifndef QUIRE_ERROR_H
#define QUIRE_ERROR_H

#include <stdint.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define QUIRE_ERROR_TEXT_BYTES 256

/* Where a cold-side call found its fault. Caller-owned; pass NULL if not wanted. */
struct quire_error {
	int code;                          /* the negative errno that was returned */
	char text[QUIRE_ERROR_TEXT_BYTES]; /* one line, "WHAT: WHY", no newline */
};

/* "0.1.0"; static storage. */
const char *quire_version(void);

/* Forbid kernel features in this process, as if the kernel lacked them; a
 * comma-separated list of: io_uring, userfaultfd, uffd_kernel_faults,
 * process_madvise, uffd_move, uffd_poison, uffd_wp, cachestat, pt_reclaim,
 * defer_taskrun, direct (O_DIRECT). Adds to what the environment variable QUIRE_MASK holds, of which words that are
 * unknown are passed over.
 * To be called before anything else of the library; -EBUSY once a feature was
 * probed, -EINVAL for an unknown word (then nothing was masked). */
int quire_mask(const char *features);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
