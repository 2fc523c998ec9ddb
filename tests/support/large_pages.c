/* large_pages.c - as if the kernel's pages had 64 KiB, for a program that is linked with it (with_large_pages in meson.build).
 *
 * What is mapped anywhere begins at such a page; madvise() refuses what doesn't begin at one, and rounds the end up, as such kernels do: no emulator here does that.
 */
#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define LARGE_PAGE (UINT64_C(64) << 10)

static uint64_t rounded_up(uint64_t n)
{
	return (n + LARGE_PAGE - 1) & -LARGE_PAGE;
}

long __real_sysconf(int name);
long __wrap_sysconf(int name);
long __wrap_sysconf(int name)
{
	return name == _SC_PAGESIZE ? (long)LARGE_PAGE : __real_sysconf(name);
}

void *__real_mmap64(void *at, size_t n_bytes, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t n_bytes, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t n_bytes, int prot, int flags, int fd, off_t offset)
{
	if (at != NULL)
		return __real_mmap64(at, n_bytes, prot, flags, fd, offset);
	/* Room in which it can begin at such a page; what is around it stays reserved. */
	char *room = __real_mmap64(NULL, rounded_up(n_bytes) + LARGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return MAP_FAILED;
	room += -(uintptr_t)room & (LARGE_PAGE - 1);
	return __real_mmap64(room, (flags & MAP_ANONYMOUS) != 0 ? rounded_up(n_bytes) : n_bytes, prot, flags | MAP_FIXED, fd, offset);
}

int __real_madvise(void *at, size_t n_bytes, int advice);
int __wrap_madvise(void *at, size_t n_bytes, int advice);
int __wrap_madvise(void *at, size_t n_bytes, int advice)
{
	if (((uintptr_t)at & (LARGE_PAGE - 1)) != 0) {
		errno = EINVAL;
		return -1;
	}
	return __real_madvise(at, rounded_up(n_bytes), advice);
}
