/* arena.c - reservation, installation, removal and poisoning of pages.
 *
 * The arena's memory is anonymous and private: shared memory would make removal four times
 * as dear. It is PROT_READ, so a stray write traps (PINNED is writable: nothing but memcpy
 * can fill it; so is what pages are moved into: the kernel moves them between writable memory only); MADV_DONTFORK, so a forked child faults where it would read zeros;
 * MADV_DONTDUMP; never huge pages, which would break the budget.
 * Sources: userfaultfd(2), ioctl_userfaultfd(2), process_madvise(2), madvise(2).
 */
#include "arena.h"

#include "../base/fail.h"
#include "../base/feature.h"
#include "../base/pages.h"
#include "arena_anon.h"
#include "arena_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define GIB_SHIFT 30
#define MOVE_TRIES 64
#define ALIGN_BYTES (2u << 20) /* of a huge page, so that one fits a unit of that size */

char *arena_map_aligned(uint64_t bytes, int prot)
{
	char *lead = pages_map(bytes + ALIGN_BYTES, prot, MAP_NORESERVE);

	if (lead == NULL)
		return NULL;
	char *base = (char *)(((uintptr_t)lead + ALIGN_BYTES - 1) & -(uintptr_t)ALIGN_BYTES);
	if (base > lead)
		munmap(lead, (size_t)(base - lead));
	munmap(base + bytes, ALIGN_BYTES - (size_t)(base - lead));
	return base;
}

bool arena_swap_is_on(void)
{
	FILE *f = fopen("/proc/swaps", "re");
	int lines = 0, c;

	if (f == NULL) /* who can't look takes it that there is */
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM;
	while ((c = getc(f)) != EOF)
		lines += c == '\n';
	fclose(f);
	return lines > 1;
}

static int arena_protection(const struct arena *a)
{
	bool writable = a->kind == ARENA_PINNED || a->kind == ARENA_ANON || arena_kind_moves(a->kind);

	return writable ? PROT_READ | PROT_WRITE : PROT_READ;
}

static int arena_register(struct arena *a, void *start, uint64_t bytes)
{
	struct uffdio_register r = {
		.range = {.start = (uintptr_t)start, .len = bytes},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (a->uffd < 0)
		return 0;
	if (arena_tracks_writes(a))
		r.mode |= UFFDIO_REGISTER_MODE_WP;
	return ioctl(a->uffd, UFFDIO_REGISTER, &r) < 0 ? -errno : 0;
}

/* Puts fresh memory of the arena's kind at start: nobody reads zeros meanwhile, since it
 * becomes readable only once it is registered. */
static int arena_lay(struct arena *a, void *start, uint64_t bytes)
{
	if (mmap(start, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
	         0) == MAP_FAILED)
		return -errno;
	madvise(start, bytes, MADV_DONTFORK);
	madvise(start, bytes, MADV_DONTDUMP);
	madvise(start, bytes, MADV_NOHUGEPAGE);

	int rc = arena_register(a, start, bytes);
	if (rc < 0)
		return rc;
	if (a->locked)
		syscall(SYS_mlock2, start, bytes, MLOCK_ONFAULT);
	return mprotect(start, bytes, arena_protection(a)) < 0 ? -errno : 0;
}

static int arena_open_uffd(struct arena *a)
{
	unsigned long long features = 0;

	if (a->kind == ARENA_PINNED)
		return 0;
	if (!feature_have(FEATURE_USERFAULTFD))
		return -ENOTSUP;
	if ((arena_kind_moves(a->kind) || a->kind == ARENA_ANON) && !feature_have(FEATURE_UFFD_MOVE))
		return -ENOTSUP;
	if (arena_tracks_writes(a))
		features |= UFFD_FEATURE_PAGEFAULT_FLAG_WP;
	if (arena_kind_is_signal(a->kind))
		features |= UFFD_FEATURE_SIGBUS;
	if (feature_have(FEATURE_UFFD_POISON))
		features |= UFFD_FEATURE_POISON;
	else if ((a->poison_fd = memfd_create("quire-poison", MFD_CLOEXEC)) < 0)
		return -errno;
	a->uffd = feature_userfaultfd(arena_kind_is_service(a->kind) &&
	                                      feature_have(FEATURE_UFFD_KERNEL_FAULTS),
	                              features);
	return a->uffd < 0 ? a->uffd : 0;
}

/* What there is of it. */
static void arena_give_back(struct arena *a)
{
	uint64_t n_pages = a->bytes >> a->page_shift;

	pages_unmap(a->base, a->bytes);
	pages_unmap(a->words, n_pages * sizeof *a->words);
	pages_unmap(a->regions, (n_pages >> a->region_shift) * sizeof *a->regions);
	pages_unmap(a->zones, a->bytes >> GIB_SHIFT);
	a->base = NULL;
}

/* Address space and the tables beside it, whose untouched pages cost nothing. */
static int arena_reserve(struct arena *a, uint64_t reserve_bytes)
{
	uint64_t least = (uint64_t)1 << GIB_SHIFT;

	for (a->bytes = reserve_bytes & -least; a->bytes >= least; a->bytes = a->bytes / 2 & -least) {
		uint64_t n_pages = a->bytes >> a->page_shift;

		a->base = arena_map_aligned(a->bytes, PROT_NONE);
		a->words = pages_map(n_pages * sizeof *a->words, PROT_READ | PROT_WRITE, MAP_NORESERVE);
		a->regions = pages_map((n_pages >> a->region_shift) * sizeof *a->regions,
		                       PROT_READ | PROT_WRITE, MAP_NORESERVE);
		a->zones = pages_map(a->bytes >> GIB_SHIFT, PROT_READ | PROT_WRITE, MAP_NORESERVE);
		if (a->base != NULL && a->words != NULL && a->regions != NULL && a->zones != NULL) {
			madvise(a->words, n_pages * sizeof *a->words, MADV_NOHUGEPAGE);
			madvise(a->regions, (n_pages >> a->region_shift) * sizeof *a->regions,
			        MADV_NOHUGEPAGE);
			madvise(a->words, n_pages * sizeof *a->words, MADV_DONTDUMP);
			return arena_lay(a, a->base, a->bytes);
		}
		/* Too much for this address space (sanitizers, valgrind, RLIMIT_AS): half of it. */
		arena_give_back(a);
	}
	return -ENOMEM;
}

int arena_create(enum arena_kind kind, uint64_t reserve_bytes, struct budget *budget,
                 struct arena **ret_arena, struct quire_error *err)
{
	unsigned page_shift = (unsigned)__builtin_ctzl((unsigned long)sysconf(_SC_PAGESIZE));
	struct arena *a = calloc(1, sizeof *a);

	if (a == NULL)
		return quire_fail(err, -ENOMEM, "arena");
	a->kind = kind;
	a->budget = budget;
	a->page_shift = page_shift;
	a->region_shift = page_shift - 2; /* one page of 32-bit words */
	a->reclaims = feature_have(FEATURE_PT_RECLAIM);
	a->uffd = a->self_pidfd = a->poison_fd = -1;
	pthread_mutex_init(&a->space_lock, NULL);

	int rc = arena_open_uffd(a);
	if (rc < 0) {
		quire_fail(err, rc, "userfaultfd");
		goto fail;
	}
	rc = arena_reserve(a, reserve_bytes);
	if (rc < 0) {
		quire_fail(err, rc, "reserving %llu bytes of address space",
		           (unsigned long long)reserve_bytes);
		goto fail;
	}
	a->first_page = (uintptr_t)a->base >> page_shift;
	rc = space_init(&a->space, (a->bytes >> page_shift) >> a->region_shift);
	if (rc < 0) {
		quire_fail(err, rc, "arena");
		goto fail;
	}
	if (arena_swap_is_on() && syscall(SYS_mlock2, a->base, a->bytes, MLOCK_ONFAULT) == 0)
		a->locked = true;
	if (feature_have(FEATURE_PROCESS_MADVISE))
		a->self_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (kind == ARENA_ANON) {
		rc = arena_staging_create(a);
		if (rc < 0) {
			quire_fail(err, rc, "arena");
			goto fail;
		}
	}
	*ret_arena = a;
	return 0;
fail:
	arena_destroy(a);
	return rc;
}

void arena_destroy(struct arena *a)
{
	if (a == NULL)
		return;
	if (a->base != NULL)
		arena_give_back(a);
	if (a->uffd >= 0)
		close(a->uffd);
	if (a->self_pidfd >= 0)
		close(a->self_pidfd);
	if (a->poison_fd >= 0)
		close(a->poison_fd);
	space_fini(&a->space);
	pthread_mutex_destroy(&a->space_lock);
	free(a);
}

static uint64_t arena_n_regions(const struct arena *a, uint64_t n_pages)
{
	return (n_pages + ((uint64_t)1 << a->region_shift) - 1) >> a->region_shift;
}

int arena_space_get(struct arena *a, uint64_t n_pages, uint64_t *ret_first_page)
{
	uint64_t first, n_regions = arena_n_regions(a, n_pages);

	if (n_regions == 0 || n_pages > a->bytes >> a->page_shift)
		return n_regions == 0 ? -EINVAL : -ENOMEM;
	pthread_mutex_lock(&a->space_lock);
	int rc = space_get(&a->space, n_regions, &first);
	pthread_mutex_unlock(&a->space_lock);
	if (rc < 0)
		return rc;
	*ret_first_page = a->first_page + (first << a->region_shift);
	if (atomic_load(&a->has_strays))
		rc = arena_lay(a, arena_address(a, *ret_first_page),
		               n_regions << a->region_shift << a->page_shift);
	return rc;
}

void arena_space_put(struct arena *a, uint64_t first_page, uint64_t n_pages)
{
	uint64_t n_regions = arena_n_regions(a, n_pages);
	uint64_t first = (first_page - a->first_page) >> a->region_shift;
	uint64_t bytes = n_regions << a->region_shift << a->page_shift;

	/* Fresh memory: stray poison goes, and so do page tables where MADV_DONTNEED keeps them. */
	bool fresh = false;
	for (uint64_t r = 0; r < n_regions; r++)
		fresh |= arena_region_retire(a, first_page + (r << a->region_shift));
	if (fresh)
		arena_lay(a, arena_address(a, first_page), bytes);
	else
		madvise(arena_address(a, first_page), bytes,
		        a->locked ? MADV_DONTNEED_LOCKED : MADV_DONTNEED);

	pthread_mutex_lock(&a->space_lock);
	space_put(&a->space, first, n_regions);
	pthread_mutex_unlock(&a->space_lock);
}

int arena_install(struct arena *a, uint64_t page, uint64_t n, const void *src)
{
	return arena_copy(a, page, n, src, 0);
}

int arena_copy(struct arena *a, uint64_t page, uint64_t n, const void *src, uint64_t mode)
{
	char *dst = arena_address(a, page);
	uint64_t page_bytes = (uint64_t)1 << a->page_shift, done = 0, len = n << a->page_shift;

	if (a->uffd < 0) {
		memcpy(dst, src, len);
		return 0;
	}
	while (done < len) {
		struct uffdio_copy c = {
			.dst = (uintptr_t)dst + done,
			.src = (uintptr_t)src + done,
			.len = len - done,
			.mode = mode,
		};

		if (ioctl(a->uffd, UFFDIO_COPY, &c) == 0)
			return 0;
		if (c.copy > 0) {
			done += (uint64_t)c.copy;
		} else if (errno == EEXIST) {
			arena_wake(a, page + (done >> a->page_shift), 1);
			done += page_bytes;
		} else if (errno != EAGAIN) {
			return -errno;
		}
	}
	return 0;
}

int arena_move(struct arena *a, uint64_t page, uint64_t n, void *src)
{
	struct uffdio_move m = {
		.dst = (uintptr_t)arena_address(a, page),
		.src = (uintptr_t)src,
		.len = n << a->page_shift,
	};

	/* A page table there, as a fault leaves it, would have the kernel split a huge page and move it page by page. */
	if (a->reclaims)
		madvise(arena_address(a, page), m.len, a->locked ? MADV_DONTNEED_LOCKED : MADV_DONTNEED);
	for (unsigned tries = 0; ioctl(a->uffd, UFFDIO_MOVE, &m) < 0; tries++) {
		uint64_t done = m.move > 0 ? (uint64_t)m.move : 0;

		if (done == 0 && errno == EAGAIN && tries < MOVE_TRIES)
			continue; /* something about the address space is changing */
		/* Some page of it is there, or the kernel could not: the rest is copied. */
		return arena_install(a, page + (done >> a->page_shift), n - (done >> a->page_shift), (char *)src + done);
	}
	return 0;
}

/* Not by qsort, which takes memory of malloc where there are many; fault handlers come here. */
static void sort_runs(struct page_run *runs, unsigned n)
{
	for (unsigned i = 1; i < n; i++) {
		struct page_run run = runs[i];
		unsigned at = i;

		for (; at > 0 && runs[at - 1].first > run.first; at--)
			runs[at] = runs[at - 1];
		runs[at] = run;
	}
}

void arena_zap(struct arena *a, struct page_run *pages, unsigned n)
{
	int advice = a->locked ? MADV_DONTNEED_LOCKED : MADV_DONTNEED;
	struct iovec runs[ARENA_ZAP_MAX];
	unsigned n_runs = 0, first = 0;

	sort_runs(pages, n);
	for (unsigned i = 0; i < n; i++) {
		if (n_runs > 0 && pages[i].first == pages[i - 1].first + pages[i - 1].n)
			runs[n_runs - 1].iov_len += (size_t)(pages[i].n << a->page_shift);
		else
			runs[n_runs++] = (struct iovec){arena_address(a, pages[i].first),
			                                (size_t)(pages[i].n << a->page_shift)};
	}
	/* Stops short only where one of the runs failed; the loop below takes care of the rest. */
	if (a->self_pidfd >= 0 && n_runs > 1) {
		ssize_t done = syscall(SYS_process_madvise, a->self_pidfd, runs, n_runs, advice, 0);

		while (done > 0 && first < n_runs && (size_t)done >= runs[first].iov_len)
			done -= (ssize_t)runs[first++].iov_len;
	}
	for (; first < n_runs; first++)
		madvise(runs[first].iov_base, runs[first].iov_len, advice);
}

int arena_poison(struct arena *a, uint64_t page)
{
	char *at = arena_address(a, page);
	uint64_t page_bytes = (uint64_t)1 << a->page_shift;

	if (a->uffd < 0)
		return -ENOTSUP;
	if (a->poison_fd < 0) {
		struct uffdio_poison p = {.range = {.start = (uintptr_t)at, .len = page_bytes}};

		return ioctl(a->uffd, UFFDIO_POISON, &p) < 0 && errno != EEXIST ? -errno : 0;
	}
	/* A page behind the end of a file is SIGBUS as well. The old memory's waiters wake by themselves. */
	if (mmap(at, page_bytes, PROT_READ, MAP_SHARED | MAP_FIXED, a->poison_fd, 0) == MAP_FAILED)
		return -ENOSPC;
	madvise(at, page_bytes, MADV_DONTFORK);
	arena_wake(a, page, 1);
	return 0;
}

void arena_poison_stray(struct arena *a, uint64_t page)
{
	atomic_store(&a->has_strays, true);
	arena_poison(a, page);
}

void arena_unpoison(struct arena *a, uint64_t page)
{
	char *at = arena_address(a, page);
	uint64_t page_bytes = (uint64_t)1 << a->page_shift;

	if (a->poison_fd < 0)
		madvise(at, page_bytes, a->locked ? MADV_DONTNEED_LOCKED : MADV_DONTNEED);
	else
		arena_lay(a, at, page_bytes);
}

void arena_wake(struct arena *a, uint64_t page, uint64_t n)
{
	struct uffdio_range r = {
		.start = (uintptr_t)arena_address(a, page),
		.len = n << a->page_shift,
	};

	if (arena_kind_is_service(a->kind))
		ioctl(a->uffd, UFFDIO_WAKE, &r);
}
