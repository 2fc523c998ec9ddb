/* async_env.h - what the tests of awaited mappings share: cold files, bad ranges, a coroutine as test body. */
#ifndef TESTS_ASYNC_MAP_ASYNC_ENV_H
#define TESTS_ASYNC_MAP_ASYNC_ENV_H

#include "../loop/on_both.h"
#include "../support/files.h"
#include <fcntl.h>
#include <quire/async_map.h>
#include <sys/mman.h>

/* Maps n pages of a new file that is in no cache (but for file systems that are nothing else). */
static inline char *map_cold(const char *name, size_t n_pages)
{
	file_write(name, 7, pages(n_pages));
	int fd = open(file_path(name), O_RDWR);
	assert_true(fd >= 0);
	/* Without the file system's journal, which may take long. Emulators may not have it. */
	(void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	char *p = mmap(NULL, pages(n_pages), PROT_READ, MAP_SHARED, fd, 0);
	assert_true(p != MAP_FAILED);
	close(fd);
	return p;
}

/* Anonymous memory, which nobody has touched. */
static inline char *map_empty(size_t n_pages, int prot)
{
	char *p = mmap(NULL, pages(n_pages), prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(p != MAP_FAILED);
	return p;
}

static inline bool in_page_cache(const char *p)
{
	unsigned char there = 0;
	assert_int_equal(mincore((void *)p, page_size(), &there), 0);
	return there & 1;
}

struct bad_range {
	const char *what;
	char *addr;
	size_t len;
	int error; /* delivered, or returned */
};

#define N_BAD_RANGES 9

/* Every kind of range that a populate refuses; the mappings stay. */
static inline void bad_ranges(struct bad_range *ret)
{
	char *gap = map_empty(3, PROT_READ), *none = map_empty(1, PROT_NONE);
	assert_int_equal(munmap(gap + pages(1), pages(1)), 0);
	char *hidden = map_cold("hidden", 4), *longer = map_cold("longer", 4);
	for (size_t i = 0; i < pages(4); i += page_size())
		assert_int_equal((unsigned char)hidden[i], file_byte(7, i));
	assert_int_equal(mprotect(hidden, pages(4), PROT_NONE), 0);
	file_truncate("longer", pages(2) + 1);
	struct bad_range all[N_BAD_RANGES] = {
		{"nothing mapped", gap + pages(1), 1, -ENOMEM},
		{"mapped in part", gap, pages(3), -ENOMEM},
		{"the kernel's", (char *)(UINTPTR_MAX / 2 + 1 + pages(1)), 1, -ENOMEM},
		{"no access", none, pages(1), -EACCES},
		{"no access any more", hidden, 1, -EACCES},
		{"no access any more, several pages", hidden, pages(4), -EACCES},
		{"beyond the file's end", longer + pages(3), 1, -EFAULT},
		{"over the file's end", longer, pages(4), -EFAULT},
		{"wrapped", (char *)gap, SIZE_MAX - 5, -EINVAL},
	};
	memcpy(ret, all, sizeof(all));
}

/* Runs body as a coroutine of a loop on the engine of this test. */
static inline void in_coroutine(void **state, const struct quire_loop_options *options, quire_co_fn body)
{
	struct quire_loop *loop = loop_of(state, options);
	int n_done = 0;
	spawn(loop, body, &n_done);
	run(loop);
	assert_int_equal(n_done, 1);
	destroy(loop);
}

#endif
