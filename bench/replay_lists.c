/* replay_lists.c - LRU and FIFO, one queue each. */
#include "replay_queues.h"
#include "replay_sim.h"

#include <errno.h>
#include <stdbool.h>

static int run(const struct trace *t, uint32_t n_frames, bool hits_renew, uint64_t *ret_misses)
{
	struct queues q;
	uint64_t n_misses = 0;

	if (queues_init(&q, t->n_pages) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < t->n; i++) {
		uint32_t page = t->pages[i];
		if (q.where[page] == 0) {
			if (!hits_renew)
				continue;
			queue_remove(&q, page);
		} else {
			n_misses++;
			if (q.count[0] == n_frames)
				queue_pop(&q, 0);
		}
		queue_push(&q, 0, page);
	}
	queues_fini(&q);
	*ret_misses = n_misses;
	return 0;
}

int sim_lru(const struct trace *t, uint32_t n_frames, uint64_t *ret_misses)
{
	return run(t, n_frames, true, ret_misses);
}

int sim_fifo(const struct trace *t, uint32_t n_frames, uint64_t *ret_misses)
{
	return run(t, n_frames, false, ret_misses);
}
