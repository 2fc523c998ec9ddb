/* refuse.c - memory that is refused: see refuse.h. */
#include "refuse.h"

#include "countdown.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

static struct countdown requests;

void refuse_nth(uint64_t n)
{
	countdown_begin(&requests, n, false);
}

bool refuse_off(void)
{
	return countdown_end(&requests);
}

static bool is_refused(void)
{
	if (!countdown_refuses(&requests))
		return false;
	errno = ENOMEM;
	return true;
}

/* ---- in the place of the others ---- */

#define REFUSING(name, parameters, arguments) \
	void *__real_##name parameters; \
	void *__wrap_##name parameters; \
	void *__wrap_##name parameters \
	{ \
		return is_refused() ? NULL : __real_##name arguments; \
	}

REFUSING(malloc, (size_t bytes), (bytes))
REFUSING(calloc, (size_t n, size_t bytes), (n, bytes))
REFUSING(realloc, (void *p, size_t bytes), (p, bytes))
REFUSING(reallocarray, (void *p, size_t n, size_t bytes), (p, n, bytes))
REFUSING(aligned_alloc, (size_t align_bytes, size_t bytes), (align_bytes, bytes))

char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
char *__wrap_strdup(const char *text)
{
	return is_refused() ? NULL : __real_strdup(text);
}

int __real_posix_memalign(void **ret, size_t align_bytes, size_t bytes);
int __wrap_posix_memalign(void **ret, size_t align_bytes, size_t bytes);
int __wrap_posix_memalign(void **ret, size_t align_bytes, size_t bytes)
{
	return is_refused() ? ENOMEM : __real_posix_memalign(ret, align_bytes, bytes);
}

/* By that name the headers have it, where offsets have 64 bits. */
void *__real_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	return is_refused() ? MAP_FAILED : __real_mmap64(at, bytes, prot, flags, fd, offset);
}
