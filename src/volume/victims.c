/* victims.c - which segments are cleaned next.
 *
 * Sealed ones before the place of the last checkpoint, by cost and benefit: (1 - u) × age / (1 + u), u being the live part of what one can hold, age how
 * many segments are newer. So what is left in an old segment, and will be for long, is moved when little of it is dead, and what was written a moment ago
 * is left until more of it is.
 *
 * How many: cleaning takes at most a multiple of what writers do; unless one of them waits, then as much as is needed.
 */
#include "space.h"

#include <stdlib.h>

#define SHARE 3u /* blocks moved for each that was written, unless somebody waits */

/* Blocks that may be moved now. */
static uint64_t budget_of(const struct quire_volumes *g)
{
	return g->somebody_waits ? UINT64_MAX : SHARE * (g->n_written - g->n_written_cleaned);
}

static bool is_candidate(const struct quire_volumes *g, const struct segment *seg, uint64_t most)
{
	return seg->state == SEGMENT_SEALED && seg->node.id < g->chain_no && seg->n_live > 0 && (uint64_t)seg->n_live <= most &&
	       seg->emptied_for <= g->n_checkpoints;
}

static int by_score(const void *a, const void *b)
{
	const struct victim *x = a, *y = b;

	return x->score > y->score ? -1 : x->score < y->score;
}

unsigned victims_choose(struct quire_volumes *g, struct victim ret[CLEAN_MAX_VICTIMS])
{
	struct victim *all = calloc(g->segments.n + 1, sizeof(all[0]));
	uint64_t budget = budget_of(g), most = group_most_live(g);
	unsigned n = 0, k = 0;

	for (struct idmap_node *node = idmap_any(&g->segments); all != NULL && node != NULL; node = idmap_after(&g->segments, node)) {
		const struct segment *seg = (const struct segment *)node;
		if (!is_candidate(g, seg, most))
			continue;
		double u = (double)seg->n_live / (double)(most + 1);
		all[n++] = (struct victim){.no = node->id, .n_live = (uint64_t)seg->n_live, .has_moved = seg->has_moved,
		                           .score = (1 - u) * (double)(g->at->node.id - node->id) / (1 + u)};
	}
	if (n > 0)
		qsort(all, n, sizeof(all[0]), by_score);
	for (; k < n && k < CLEAN_MAX_VICTIMS && budget > 0; k++) {
		ret[k] = all[k];
		budget -= all[k].n_live < budget ? all[k].n_live : budget;
	}
	g->n_written_cleaned = g->n_written;
	free(all);
	return k;
}
