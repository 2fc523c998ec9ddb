/* arena_anon.c - see arena_anon.h.
 * Source: ioctl_userfaultfd(2), Documentation/admin-guide/mm/userfaultfd.rst; mm/userfaultfd.c for what UFFDIO_MOVE refuses.
 */
#include "arena_anon.h"

#include "arena_kernel.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>

#define MOVE_TRIES 64
#define STAGING_FULL ((UINT64_C(1) << STAGING_GROUPS) - 1)

int arena_install_quietly(struct arena *a, uint64_t page, uint64_t n, const void *src, bool clean)
{
	return arena_copy(a, page, n, src, UFFDIO_COPY_MODE_DONTWAKE | (clean ? UFFDIO_COPY_MODE_WP : 0));
}

void arena_unprotect(struct arena *a, uint64_t page)
{
	struct uffdio_writeprotect p = {
		.range = {.start = (uintptr_t)arena_address(a, page), .len = (uint64_t)1 << a->page_shift},
		.mode = UFFDIO_WRITEPROTECT_MODE_DONTWAKE,
	};

	/* EAGAIN: something about the address space is changing. */
	while (ioctl(a->uffd, UFFDIO_WRITEPROTECT, &p) < 0 && errno == EAGAIN)
		sched_yield();
}

/* ---- staging ---- */

int arena_staging_create(struct arena *a)
{
	int rc = arena_space_get(a, STAGING_GROUPS * STAGING_PAGES, &a->staging_page);

	/* Its page tables are there for good: pages come and go all the time. */
	return rc < 0 ? rc : arena_region_enter(a, a->staging_page, 1, true);
}

char *arena_staging_get(struct arena *a)
{
	uint64_t used = atomic_load(&a->staging_used);

	for (;;) {
		if (used == STAGING_FULL) {
			sched_yield(); /* who has a group compresses, and waits for nobody */
			used = atomic_load(&a->staging_used);
			continue;
		}
		unsigned i = (unsigned)__builtin_ctzll(~used);
		if (atomic_compare_exchange_weak(&a->staging_used, &used, used | UINT64_C(1) << i))
			return arena_address(a, a->staging_page + i * STAGING_PAGES);
	}
}

static void staging_empty(const struct arena *a, char *at, uint64_t n)
{
	madvise(at, n << a->page_shift, a->locked ? MADV_DONTNEED_LOCKED : MADV_DONTNEED);
}

void arena_staging_put(struct arena *a, char *group)
{
	uint64_t first = ((uint64_t)(group - a->base) >> a->page_shift) + a->first_page;

	staging_empty(a, group, STAGING_PAGES);
	atomic_fetch_and(&a->staging_used, ~(UINT64_C(1) << (first - a->staging_page) / STAGING_PAGES));
}

/* One page, from within the arena to within it. */
static int move_page(const struct arena *a, char *to, const char *from)
{
	for (unsigned tries = 0;; tries++) {
		struct uffdio_move m = {
			.dst = (uintptr_t)to,
			.src = (uintptr_t)from,
			.len = (uint64_t)1 << a->page_shift,
			.mode = UFFDIO_MOVE_MODE_DONTWAKE,
		};

		if (ioctl(a->uffd, UFFDIO_MOVE, &m) == 0)
			return 0;
		if (errno != EAGAIN || tries == MOVE_TRIES)
			return -errno;
	}
}

int arena_move_out(struct arena *a, uint64_t page, char *to)
{
	int rc = move_page(a, to, arena_address(a, page));

	if (rc != -EEXIST)
		return rc;
	/* A stray load of the program's has left poison there. */
	staging_empty(a, to, 1);
	return move_page(a, to, arena_address(a, page));
}

void arena_move_back(struct arena *a, uint64_t page, char *from)
{
	/* A copy is as good: nobody else has what is in staging. Without memory for either it waits for some: the content is nowhere
	 * else. */
	while (move_page(a, arena_address(a, page), from) < 0 && arena_install(a, page, 1, from) < 0)
		sched_yield();
}
