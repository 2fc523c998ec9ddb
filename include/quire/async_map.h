/* quire/async_map.h - pages of any mapping, and durability of any file, awaited.
 *
 * For programs that hold nothing of this library: no cache, no store, no map. A range is whatever
 * the process has mapped (a file, shared or private memory), a file is any descriptor. For memory
 * of a quire_map use quire_map_want, which knows more (checksums, the budget).
 *
 *   quire_populate, quire_fdatasync               complete through a struct quire_op (quire/loop.h)
 *   quire_mlock_eventfd, quire_fdatasync_eventfd  add 1 to an eventfd: no loop, no struct, any event loop
 *
 * What is promised. Once a populate has succeeded, each page of the range was in memory and mapped
 * at that time, and a load finds it there unless the kernel took it away since: lock it
 * (QUIRE_POPULATE_LOCK) to be sure. What a load would have met as SIGBUS or SIGSEGV is an error code.
 *
 * Threads: any function, from any thread. Nothing here waits for storage, but for a call with
 * op == NULL, which does so as quire/loop.h says. A range that is resident (up to 512 pages, without
 * a LOCK) is found so in the calling thread, by two short system calls, and completes at once. Others
 * are read in pieces of at most 1 MiB, one piece of a range at a time, by workers of the loop that
 * runs on this thread, or else of the process's service thread. Exactly the range is read, whatever
 * readahead the mapping is advised to. LOCK calls mlock2(2) on that loop's thread, a piece at a time.
 *
 * Ownership. Addresses and descriptors are borrowed until completion. Memory may be unmapped or
 * remapped meanwhile: what is not mapped when its turn comes is -ENOMEM. A descriptor that is closed
 * meanwhile is -EBADF; its number must not be given to another file, which would be synced, or
 * written to, instead.
 *
 * Fork. What is under way belongs to the parent, and completes there; a child never sees it
 * complete. The child may start its own, with a service thread of its own: but in a coroutine or
 * callback of a loop of its parent, -ECHILD.
 *
 * After the mlock_eventfd proposal (LKML), madvise(2), mlock2(2), fdatasync(2).
 */
#ifndef QUIRE_ASYNC_MAP_H
#define QUIRE_ASYNC_MAP_H

#include <quire/loop.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Errors of a populate, returned by the call or delivered by the completion:
 *
 *   -EINVAL     addr + len_bytes wraps round, or an unknown flag (by the call)
 *   -ENOMEM     part of the range is not mapped; or the kernel is out of memory; with LOCK also:
 *               RLIMIT_MEMLOCK, or too many mappings (vm.max_map_count)
 *   -EACCES     part of it may not be read (PROT_NONE), or is a device's memory
 *   -EFAULT     part of it lies beyond the end of its file, or could not be read from the medium:
 *               where a load gets SIGBUS
 *   -EIO        the memory itself failed (EHWPOISON)
 *   -EPERM      LOCK: this process may lock nothing (RLIMIT_MEMLOCK is 0)
 *   -EAGAIN     LOCK: some pages could not be locked. Eventfd forms: too many requests
 *   -ECANCELED  quire_op_cancel came in time
 *   -ENOTSUP    the kernel has no MADV_POPULATE_READ (before 5.14), or there is no service thread to be had
 *   -EDEADLK, -EBUSY, -ECHILD: as in quire/loop.h and quire/error.h
 *
 * After an error the parts before may be resident, and with LOCK may be locked, as with mlock(2). */

enum quire_populate_flags {
	QUIRE_POPULATE_LOCK = 1, /* and lock it (mlock2 with MLOCK_ONFAULT); munlock(2) takes it back */
};

/* Makes the pages of addr to addr + len_bytes (bytes; any alignment; whole pages are taken) resident.
 * Length 0 asks for nothing: 0. Completes with 0 or an error of the list above. Cancelled, it ends
 * with the piece that is being read. Any number may be under way: they need no memory but the ops. */
int quire_populate(const void *addr, size_t len_bytes, unsigned flags, struct quire_op *op);

/* fdatasync(2). Completes with 0 or its negative errno: -EBADF, -EIO, -ENOSPC, -EDQUOT, -EINVAL (not a
 * file that can be synced). As fsync goes: after -EIO the data may be lost, and the next call may
 * succeed all the same. Cancelled before a worker took it up, it is not done. */
int quire_fdatasync(int fd, struct quire_op *op);

/* ---- with an eventfd: for epoll, libuv, or a thread that reads it ---- */

#define QUIRE_EVENTFD_REQUESTS_MAX 65536u /* of the process: under way, or failed and not collected */
#define QUIRE_STATUS_PENDING 1            /* in a status word: under way */

/* Starts the same, and adds 1 to efd when it has ended, well or not: also when that was at once.
 * Returns 0 if it was accepted, and then efd is signalled exactly once; a negative errno if refused,
 * and then never.
 *
 *   -EBADF      efd, or fd, is not open
 *   -EAGAIN     QUIRE_EVENTFD_REQUESTS_MAX requests are under way, or failed and not collected
 *   -ENOMEM     no memory for the request
 *   -EINVAL, -ENOTSUP, -ECHILD: as above
 *
 * efd must be an eventfd: 8 bytes are written to it. Nobody ever waits for room in it: a full one
 * (2^64 - 2) is left as it is, readable. If it is closed meanwhile, nobody is told.
 *
 * A failure is kept until quire_eventfd_failures hands it out. */
int quire_mlock_eventfd(const void *addr, size_t len_bytes, int efd);
int quire_fdatasync_eventfd(int fd, int efd);

/* A request that failed. */
struct quire_eventfd_failure {
	const void *addr; /* as it was asked for; NULL: fdatasync */
	size_t len_bytes;
	int fd;           /* of fdatasync; else -1 */
	int error;        /* negative errno */
};

/* Takes up to n failures of requests that named this efd, oldest first; returns how many. A failure is
 * there before efd is signalled. Never blocks. Take them before efd is closed: they are known by
 * its number. Not for requests with a status word. */
int quire_eventfd_failures(int efd, struct quire_eventfd_failure *ret, unsigned n);

/* The same with flags, and with a status word that says how this very request stands: set to
 * QUIRE_STATUS_PENDING before the call returns 0, and to 0 or a negative errno (with release order)
 * before efd is signalled. status is borrowed until then; not touched if the call is refused with
 * -EINVAL, undefined if it is refused otherwise. NULL: as without. */
int quire_mlock_eventfd_status(const void *addr, size_t len_bytes, unsigned flags, int efd, int32_t *status);
int quire_fdatasync_eventfd_status(int fd, int efd, int32_t *status);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
