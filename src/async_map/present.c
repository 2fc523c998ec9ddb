/* present.c - the look at page tables that comes before any asking.
 *
 * What serves, and what does not (costs of one page on the machine that the project is measured on):
 *   move_pages(2) without targets  0.42 µs  says where each page is; refused by some sandboxes
 *   /proc/self/pagemap, pread      0.63 µs  the bit for "present"; opened anew each time, 3 µs, as a
 *                                           descriptor that is kept would go on telling of the parent
 *                                           after a fork
 *   mincore(2)                     0.68 µs  claims that all is there for files which the process may
 *                                           not write and does not own
 *   cachestat(2)                   0.22 µs  needs the file's descriptor
 *
 * Both that serve say "present" of a page that mprotect(2) has since made unreadable. So a single
 * page is peeked at: rt_sigprocmask(2) copies its argument in before it refuses the operation. A
 * longer range is populated, which does not read anything then. A page that leaves between the look and the
 * peek is read while the caller waits: the same as if it had left before the caller's own load.
 *
 * Nothing is remembered between calls, but that move_pages is refused here: whatever else was
 * remembered, munmap or reclaim would make it a lie.
 */
#include "present.h"
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#define FEW_PAGES 16 /* the kernel's own portion of move_pages */
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define KERNEL_SIGSET_BYTES 8

enum answer { ABSENT, PRESENT, UNKNOWN };

static atomic_bool move_pages_refused;

static enum answer ask_move_pages(uintptr_t start, size_t n_pages, size_t page_bytes)
{
	void *pages[FEW_PAGES];
	int nodes[FEW_PAGES];
	if (n_pages > FEW_PAGES || atomic_load_explicit(&move_pages_refused, memory_order_relaxed))
		return UNKNOWN;
	for (size_t i = 0; i < n_pages; i++)
		pages[i] = (void *)(start + i * page_bytes);
	if (syscall(SYS_move_pages, 0, n_pages, pages, NULL, nodes, 0) != 0) {
		atomic_store_explicit(&move_pages_refused, true, memory_order_relaxed);
		return UNKNOWN;
	}
	for (size_t i = 0; i < n_pages; i++) {
		/* Of the zero page, for one, it says EFAULT. */
		if (nodes[i] < 0)
			return nodes[i] == -ENOENT ? ABSENT : UNKNOWN;
	}
	return PRESENT;
}

static enum answer ask_pagemap(uintptr_t start, size_t n_pages, size_t page_bytes)
{
	uint64_t entries[PRESENT_MAX_PAGES];
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return UNKNOWN;
	size_t len = n_pages * sizeof(entries[0]);
	ssize_t n = pread(fd, entries, len, (off_t)(start / page_bytes * sizeof(entries[0])));
	close(fd);
	if (n < 0 || (size_t)n != len)
		return UNKNOWN;
	for (size_t i = 0; i < n_pages; i++) {
		if (!(entries[i] & PAGEMAP_PRESENT))
			return ABSENT;
	}
	return PRESENT;
}

static bool is_readable(uintptr_t start, size_t n_pages, size_t page_bytes)
{
	const int no_operation = -1;
	if (n_pages > 1)
		return madvise((void *)start, n_pages * page_bytes, MADV_POPULATE_READ) == 0;
	return syscall(SYS_rt_sigprocmask, no_operation, (void *)start, NULL, KERNEL_SIGSET_BYTES) < 0 &&
	       errno == EINVAL;
}

bool present_and_readable(uintptr_t start, size_t n_pages, size_t page_bytes)
{
	/* Valgrind takes the peek for an error of the program's. */
	if (n_pages > PRESENT_MAX_PAGES || RUNNING_ON_VALGRIND)
		return false;
	enum answer answer = ask_move_pages(start, n_pages, page_bytes);
	if (answer == UNKNOWN)
		answer = ask_pagemap(start, n_pages, page_bytes);
	return answer == PRESENT && is_readable(start, n_pages, page_bytes);
}
