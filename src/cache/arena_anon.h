/* arena_anon.h - what an arena that programs write to needs besides: write protection, and a way out for pages.
 *
 * Words of pages are the caller's, as in arena.h. Any thread.
 */
#ifndef CACHE_ARENA_ANON_H
#define CACHE_ARENA_ANON_H

#include "arena.h"

#include "../base/feature.h"

#define STAGING_GROUPS 16
#define STAGING_PAGES 64 /* of a group: what one round of eviction takes */

/* A write to a page that was installed protected is told as a fault. Else nobody knows what was written to. */
static inline bool arena_tracks_writes(const struct arena *a)
{
	return a->kind == ARENA_ANON && feature_have(FEATURE_UFFD_WP);
}

/* As arena_install, with a mode of UFFDIO_COPY. */
int arena_copy(struct arena *a, uint64_t page, uint64_t n, const void *src, uint64_t mode);

/* As arena_install, but who waits is not woken: that is for when the words say what the pages are. clean: protected, of an arena
 * that tracks writes. */
int arena_install_quietly(struct arena *a, uint64_t page, uint64_t n, const void *src, bool clean);

/* Writes to the page are let through from now on; arena_wake is for those that wait. */
void arena_unprotect(struct arena *a, uint64_t page);

/* Address space of ANON in which nothing is but pages on their way out. -ENOMEM. */
int arena_staging_create(struct arena *a);

/* A group of STAGING_PAGES, empty; waits where more threads than there are groups evict at once. */
char *arena_staging_get(struct arena *a);
void arena_staging_put(struct arena *a, char *group); /* and what is still in it is gone */

/* The page, which is there, to an empty page of staging; not copied: nobody has it meanwhile. -EBUSY: I/O has it pinned, and it
 * stays where it is; other errors likewise. */
int arena_move_out(struct arena *a, uint64_t page, char *to);
/* And back, whatever it takes. */
void arena_move_back(struct arena *a, uint64_t page, char *from);

#endif
