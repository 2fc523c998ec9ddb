/* refuse_writes.c - a disk that is full: see refuse.h. */
#include "refuse.h"

#include "countdown.h"
#include <errno.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>

static struct countdown requests;
static int refusal;

void refuse_nth_write(uint64_t n, int error, bool lasting)
{
	refusal = error;
	countdown_begin(&requests, n, lasting);
}

bool refuse_writes_off(void)
{
	return countdown_end(&requests);
}

static bool is_refused(void)
{
	if (!countdown_refuses(&requests))
		return false;
	errno = refusal;
	return true;
}

/* ---- in the place of the others ---- */

#define REFUSING(type, name, parameters, arguments) \
	type __real_##name parameters; \
	type __wrap_##name parameters; \
	type __wrap_##name parameters \
	{ \
		return is_refused() ? -1 : __real_##name arguments; \
	}

REFUSING(ssize_t, pwrite64, (int fd, const void *buf, size_t len, off_t at), (fd, buf, len, at))
REFUSING(ssize_t, pwritev64v2, (int fd, const struct iovec *iov, int n, off_t at, int flags), (fd, iov, n, at, flags))
REFUSING(int, fallocate64, (int fd, int mode, off_t at, off_t len), (fd, mode, at, len))
REFUSING(int, ftruncate64, (int fd, off_t len), (fd, len))
REFUSING(int, fdatasync, (int fd), (fd))
REFUSING(int, fsync, (int fd), (fd))

long __real_syscall(long nr, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long nr, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	return nr == SYS_pwritev2 && is_refused() ? -1 : __real_syscall(nr, a, b, c, d, e, f);
}
