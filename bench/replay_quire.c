/* replay_quire.c - the policy of the library's caches, the very code, with a two-bit use count a
 * page as they keep it. */
#include "../src/base/policy.h"
#include "replay_sim.h"

#include <errno.h>
#include <stdlib.h>

#define ABSENT 0u
#define RESIDENT 1u /* and its uses on top */
#define N_USES_MAX 3u

/* Nothing is ever pinned, being filled or purged here. */
static enum policy_answer ask(void *arg, uint64_t page, unsigned threshold)
{
	uint8_t *states = arg;
	if (states[page] - RESIDENT >= threshold) {
		states[page]--;
		return POLICY_USED;
	}
	states[page] = ABSENT;
	return POLICY_TAKEN;
}

static int run(const struct trace *t, uint32_t n_frames, struct policy *p, uint8_t *states, uint64_t *ret_misses)
{
	uint64_t n_misses = 0, victim;
	uint32_t n_held = 0;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < t->n; i++) {
		uint32_t page = t->pages[i];
		if (states[page] != ABSENT) {
			if (states[page] < RESIDENT + N_USES_MAX)
				states[page]++;
			continue;
		}
		n_misses++;
		if (n_held == n_frames)
			n_held -= policy_pick(p, &victim, 1, ask, states);
		rc = policy_insert(p, page);
		states[page] = RESIDENT;
		n_held++;
	}
	*ret_misses = n_misses;
	return rc;
}

int sim_quire(const struct trace *t, uint32_t n_frames, uint64_t *ret_misses)
{
	uint8_t *states = calloc(t->n_pages, sizeof(*states));
	struct policy *p = NULL;
	int rc = states == NULL ? -ENOMEM : policy_create(&p);

	if (rc == 0)
		rc = run(t, n_frames, p, states, ret_misses);
	policy_destroy(p);
	free(states);
	return rc;
}
