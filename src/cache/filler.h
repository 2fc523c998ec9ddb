/* filler.h - one loop's share of a cache: its fills, its I/O buffers, its queue. */
#ifndef CACHE_FILLER_H
#define CACHE_FILLER_H

#include "fill.h"
#include "stream.h"

#define N_STAGING 4
#define FILLER_BUFFERS 512 /* pages at most */

struct filler {
	struct loop_local local;   /* first: the loop's destructor finds us by it */
	struct quire_cache *cache; /* referenced while the loop lives */
	struct quire_loop *loop;   /* borrowed: NULL when between loops; changes under fillers_lock */
	uint32_t index;            /* in cache->fillers; never changes */
	unsigned n_active;         /* fills under way */
	struct fill *free;
	uint64_t n_reads, n_copies; /* pages that it brought so far */

	char *buffers;             /* owned mapping; a page more than n_buffers, for scratch */
	unsigned n_buffers;        /* pages */
	int buffer_slot;
	uint64_t buffers_used[FILLER_BUFFERS / 64];

	char *staging;             /* owned mapping of N_STAGING units of 2 MiB; NULL until needed. Empty but for
	                            * fills under way, which have paid for it */
	unsigned staging_used;     /* a bit each */

	struct fill *arrived;      /* reads that have ended in this turn, last first */
	const struct media_file *looked_at; /* found to be what it was, in this turn, for a copy; or NULL */
	struct loop_turn_hook hook;
	struct stream_ahead ahead;

	struct want *queue_head, *queue_tail;
	struct want *served;       /* taken from the queue to look again; NULL once it is put back */
	_Atomic bool queued;       /* there is somebody in the queue; false under fillers_lock */
	_Atomic bool starved;      /* its queue waits for memory that others hold */
	_Atomic bool feeding;      /* feed is posted */
	struct loop_task feed;

	struct fill fills[FILLER_FILLS];
};

/* Filler 0: fills of fault handlers, which have no loop. */
int filler_create_bare(struct quire_cache *c, struct filler **ret_filler);
void filler_free(struct filler *f);

/* The fills whose reads have ended in this turn are ended (fill_read.c). On its loop's thread. */
void fills_finish(struct filler *f);

/* Its buffers (filler_buffers.c), on its loop's thread: a run of n pages, or NULL; of a run that was
 * got for `from` pages, keep what `to` need. */
int filler_buffers_create(struct filler *f); /* -ENOMEM */
void filler_buffers_destroy(struct filler *f);
char *filler_buffers_get(struct filler *f, unsigned n);
void filler_buffers_put(struct filler *f, char *buf, unsigned n);
static inline char *filler_scratch(const struct filler *f) /* a page, while one thing is done */
{
	return f->buffers + ((size_t)f->n_buffers << f->cache->page_shift);
}
void filler_buffers_trim(struct filler *f, char *buf, unsigned from, unsigned to);

/* Memory of 2 MiB that pages can be moved from, for an arena of that kind; NULL if all is in use. */
char *filler_staging_get(struct filler *f, const struct arena *a);
void filler_staging_put(struct filler *f, char *buf);
static inline bool filler_staging_is_used_up(const struct filler *f)
{
	return f->staging_used == (1u << N_STAGING) - 1;
}

#endif
