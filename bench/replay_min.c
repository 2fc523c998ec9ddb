/* replay_min.c - Belady's limit: the page leaves whose next access is farthest away.
 *
 * A resident page that will be accessed again is known by the index of that access, which is no other
 * page's. So the cache is a set of indices: access i is a hit if i is in the set, and the victim
 * is the largest. Such a set is a tree of bitmaps, each bit of a level telling whether a word of
 * the level below has any: all that is done takes as many steps as there are levels, five
 * for a thousand million accesses. Pages that are never accessed again leave first, and are only counted.
 */
#include "replay_sim.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define NEVER UINT32_MAX
#define N_LEVELS_MAX 6

struct index_set {
	uint64_t *levels[N_LEVELS_MAX]; /* owned; the last is one word */
	unsigned n_levels;
};

static void set_fini(struct index_set *s)
{
	for (unsigned level = 0; level < s->n_levels; level++)
		free(s->levels[level]);
}

static int set_init(struct index_set *s, size_t n)
{
	s->n_levels = 0;
	do {
		n = (n + 63) / 64;
		s->levels[s->n_levels] = calloc(n, sizeof(uint64_t));
		if (s->levels[s->n_levels++] == NULL) {
			set_fini(s);
			return -ENOMEM;
		}
	} while (n > 1);
	return 0;
}

static bool set_has(const struct index_set *s, size_t index)
{
	return s->levels[0][index / 64] >> (index % 64) & 1;
}

static void set_add(struct index_set *s, size_t index)
{
	for (unsigned level = 0; level < s->n_levels; level++, index /= 64)
		s->levels[level][index / 64] |= (uint64_t)1 << (index % 64);
}

static void set_remove(struct index_set *s, size_t index)
{
	for (unsigned level = 0; level < s->n_levels; level++, index /= 64) {
		s->levels[level][index / 64] &= ~((uint64_t)1 << (index % 64));
		if (s->levels[level][index / 64] != 0)
			return;
	}
}

/* Of a set that is not empty. */
static size_t set_largest(const struct index_set *s)
{
	size_t index = 0;
	for (unsigned level = s->n_levels; level-- > 0;)
		index = index * 64 + 63 - (size_t)__builtin_clzll(s->levels[level][index]);
	return index;
}

/* Of each access the index of the next to the same page, or NEVER. */
static uint32_t *next_accesses(const struct trace *t)
{
	uint32_t *next = malloc(t->n * sizeof(*next));
	uint32_t *soonest = malloc(t->n_pages * sizeof(*soonest));

	if (next == NULL || soonest == NULL) {
		free(next);
		free(soonest);
		return NULL;
	}
	for (uint32_t page = 0; page < t->n_pages; page++)
		soonest[page] = NEVER;
	for (size_t i = t->n; i-- > 0;) {
		next[i] = soonest[t->pages[i]];
		soonest[t->pages[i]] = (uint32_t)i;
	}
	free(soonest);
	return next;
}

static uint64_t count_misses(size_t n, const uint32_t *next, struct index_set *set, uint32_t n_frames)
{
	uint64_t n_misses = 0;
	uint32_t n_held = 0, n_dead = 0; /* dead: part of held */

	for (size_t i = 0; i < n; i++) {
		if (set_has(set, i)) {
			set_remove(set, i);
		} else {
			n_misses++;
			if (n_held < n_frames)
				n_held++;
			else if (n_dead > 0)
				n_dead--;
			else
				set_remove(set, set_largest(set));
		}
		if (next[i] == NEVER)
			n_dead++;
		else
			set_add(set, next[i]);
	}
	return n_misses;
}

int sim_min(const struct trace *t, uint32_t n_frames, uint64_t *ret_misses)
{
	struct index_set set;
	uint32_t *next = next_accesses(t);

	if (next == NULL || set_init(&set, t->n) < 0) {
		free(next);
		return -ENOMEM;
	}
	*ret_misses = count_misses(t->n, next, &set, n_frames);
	set_fini(&set);
	free(next);
	return 0;
}
