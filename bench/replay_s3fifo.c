/* replay_s3fifo.c - S3-FIFO as its authors' simulator runs it, as the peer of Quire's own.
 *
 * After libCacheSim's S3FIFO with its default parameters: the small queue takes a tenth of the
 * size, the ghost remembers nine tenths of it, exactly and in order; two hits in the small queue
 * lead to the main one, where a page begins to count anew; there each hit, up to three, is a round
 * more. A page that the ghost knows enters the main queue. Until the first eviction the small
 * queue takes its tenth and the main queue all else.
 *
 * Below 20 pages libCacheSim admits nothing at all, its small queue being too small for
 * any page; here the small queue then holds one.
 */
#include "replay_queues.h"
#include "replay_sim.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define SMALL_THRESHOLD 2u
#define N_USES_MAX 3u

enum { SMALL, MAIN, GHOST };

struct s3fifo {
	struct queues q;
	uint8_t *uses;   /* owned */
	uint32_t n_small, n_main, n_ghost; /* how many each queue is meant to hold */
	bool has_evicted;
};

static void remember(struct s3fifo *s, uint32_t page)
{
	if (s->n_ghost == 0)
		return;
	if (s->q.count[GHOST] == s->n_ghost)
		queue_pop(&s->q, GHOST);
	queue_push(&s->q, GHOST, page);
}

/* True if a page left; false if all of them went to the main queue. */
static bool evict_small(struct s3fifo *s)
{
	while (s->q.count[SMALL] > 0) {
		uint32_t page = queue_pop(&s->q, SMALL);
		if (s->uses[page] < SMALL_THRESHOLD) {
			remember(s, page);
			return true;
		}
		s->uses[page] = 0;
		queue_push(&s->q, MAIN, page);
	}
	return false;
}

static void evict_main(struct s3fifo *s)
{
	uint32_t page;
	while (s->uses[page = queue_pop(&s->q, MAIN)] > 0) {
		s->uses[page]--;
		queue_push(&s->q, MAIN, page);
	}
}

static void evict(struct s3fifo *s)
{
	s->has_evicted = true;
	if (s->q.count[MAIN] <= s->n_main && evict_small(s))
		return;
	evict_main(s);
}

static void miss(struct s3fifo *s, uint32_t page)
{
	bool is_known = s->q.where[page] == GHOST;
	if (is_known)
		queue_remove(&s->q, page);
	if (s->q.count[SMALL] + s->q.count[MAIN] == s->n_small + s->n_main)
		evict(s);
	bool to_main = is_known || (!s->has_evicted && s->q.count[SMALL] >= s->n_small);
	s->uses[page] = 0;
	queue_push(&s->q, to_main ? MAIN : SMALL, page);
}

int sim_s3fifo(const struct trace *t, uint32_t n_frames, uint64_t *ret_misses)
{
	struct s3fifo s = { .uses = calloc(t->n_pages, sizeof(*s.uses)) };
	uint64_t n_misses = 0;

	if (s.uses == NULL || queues_init(&s.q, t->n_pages) < 0) {
		free(s.uses);
		return -ENOMEM;
	}
	s.n_small = n_frames >= 10 ? n_frames / 10 : 1;
	s.n_main = n_frames - s.n_small;
	s.n_ghost = (uint32_t)((uint64_t)n_frames * 9 / 10);
	for (size_t i = 0; i < t->n; i++) {
		uint32_t page = t->pages[i];
		if (s.q.where[page] == SMALL || s.q.where[page] == MAIN) {
			if (s.uses[page] < N_USES_MAX)
				s.uses[page]++;
			continue;
		}
		n_misses++;
		miss(&s, page);
	}
	queues_fini(&s.q);
	free(s.uses);
	*ret_misses = n_misses;
	return 0;
}
