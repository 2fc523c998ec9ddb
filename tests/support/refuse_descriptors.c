/* refuse_descriptors.c - descriptors that are refused: see refuse.h. */
#include "refuse.h"

#include "countdown.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>

struct io_uring;
struct io_uring_params;

static struct countdown requests;

void refuse_nth_descriptor(uint64_t n)
{
	countdown_begin(&requests, n, false);
}

bool refuse_descriptors_off(void)
{
	return countdown_end(&requests);
}

static bool is_refused(void)
{
	if (!countdown_refuses(&requests))
		return false;
	errno = EMFILE;
	return true;
}

/* ---- in the place of the others ---- */

#define REFUSING(type, name, refused, parameters, arguments) \
	type __real_##name parameters; \
	type __wrap_##name parameters; \
	type __wrap_##name parameters \
	{ \
		return is_refused() ? refused : __real_##name arguments; \
	}

REFUSING(int, socket, -1, (int domain, int type, int protocol), (domain, type, protocol))
REFUSING(int, accept4, -1, (int fd, struct sockaddr *at, socklen_t *len, int flags), (fd, at, len, flags))
REFUSING(int, eventfd, -1, (unsigned count, int flags), (count, flags))
REFUSING(int, timerfd_create, -1, (int clock, int flags), (clock, flags))
REFUSING(int, epoll_create1, -1, (int flags), (flags))
REFUSING(int, memfd_create, -1, (const char *name, unsigned flags), (name, flags))
REFUSING(FILE *, fopen64, NULL, (const char *path, const char *mode), (path, mode))
REFUSING(DIR *, opendir, NULL, (const char *path), (path))
REFUSING(int, io_uring_queue_init_params, -EMFILE, (unsigned n, struct io_uring *ring, struct io_uring_params *p), (n, ring, p))

/* Those whose last argument may not be there; it is harmless to hand on what isn't. */

int __real_open64(const char *path, int flags, mode_t mode);
int __wrap_open64(const char *path, int flags, mode_t mode);
int __wrap_open64(const char *path, int flags, mode_t mode)
{
	return is_refused() ? -1 : __real_open64(path, flags, mode);
}

int __real_openat64(int at, const char *path, int flags, mode_t mode);
int __wrap_openat64(int at, const char *path, int flags, mode_t mode);
int __wrap_openat64(int at, const char *path, int flags, mode_t mode)
{
	return is_refused() ? -1 : __real_openat64(at, path, flags, mode);
}

int __real_fcntl64(int fd, int command, void *argument);
int __wrap_fcntl64(int fd, int command, void *argument);
int __wrap_fcntl64(int fd, int command, void *argument)
{
	return command == F_DUPFD_CLOEXEC && is_refused() ? -1 : __real_fcntl64(fd, command, argument);
}

long __real_syscall(long nr, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long nr, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	bool makes_one = nr == SYS_userfaultfd || nr == SYS_pidfd_open || nr == SYS_io_uring_setup;

	return makes_one && is_refused() ? -1 : __real_syscall(nr, a, b, c, d, e, f);
}
