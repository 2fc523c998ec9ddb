/* pages.h - anonymous memory of whole pages, where malloc may not be called (fault handlers) or would keep it. */
#ifndef BASE_PAGES_H
#define BASE_PAGES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

static inline uint64_t pages_bytes(uint64_t n_bytes)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	return (n_bytes + page - 1) & -page;
}

/* n_bytes, not zero, rounded up to whole pages, all zero; more: MAP_NORESERVE or 0. NULL: the kernel has none. */
static inline void *pages_map(uint64_t n_bytes, int prot, int more)
{
	void *at = mmap(NULL, pages_bytes(n_bytes), prot, MAP_PRIVATE | MAP_ANONYMOUS | more, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

/* As many bytes as were mapped. NULL is let through. Whole pages are named, since ThreadSanitizer forgets
 * nothing of one that is named in part: what liburing maps there next, unseen, would race with the past. */
static inline void pages_unmap(void *at, uint64_t n_bytes)
{
	if (at != NULL)
		munmap(at, pages_bytes(n_bytes));
}

#endif
