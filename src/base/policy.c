/* policy.c - which page leaves next: S3-FIFO.
 *
 * Yang, Zhang, Qiu, Yue, Rashmi: FIFO queues are all you need for cache eviction, SOSP'23.
 *
 *            first time                              used twice or more
 *   insert ─────────────→ [ small: a tenth of all ] ───────────────────→ [ main ]←┐
 *      │                        │ else                                    │    │  │ used: once
 *      │ ghost knows it         ↓                                         │    └──┘ more round
 *      │                    [ ghost: fingerprints ]                       ↓ else
 *      └──────────────────────── ↓ ────────────────────────────→ main    leaves
 *                              leaves
 *
 * Most pages are used once, then never again: they pass through the small queue and leave
 * without having pushed out anything that was worth more. What comes back while the ghost
 * still knows it goes to the main queue at once. Hits cost the owner one relaxed write to what is
 * his, and the policy nothing.
 *
 * Four things differ from the paper. The policy is never told how much fits, so the tenth
 * is of what is held now. All enter the main queue until the first pick, which makes the oldest
 * tenth the small one. The authors' own code, which knows the size, sends the first tenth to the
 * small queue and the others to the main one at once. Were all in the small queue, the first
 * picks would throw out what only waits for its second use; were its tenth taken from all
 * ages, a tenth of every loop that fits would leave. And where a round through the main queue
 * finds nothing but used pages, the threshold rises with every LOOKS_PER_STEP look-ups: a pick
 * then costs a bounded time, and takes the least used page of a sample. And there may be pages that are read without
 * being entered, where they lie; of these the owner tells, and a second ghost, of its own size, says which
 * come back. A scan of such pages makes others forgotten by that ghost alone.
 *
 * Invariants:
 * 1. An entry is in exactly one ring; policy_n_entries is the sum of both.
 * 2. A ring's count never passes its capacity.
 * 3. The ghost holds about as many fingerprints as the main queue may hold pages, and only
 *    pages that left from the small queue.
 * 4. A page is handed out at most once for each time it was entered.
 * 5. A pick looks at most once at each entry of the small queue and at most twice at each
 *    of the main queue; in the second round every use count counts as too low: so a pick
 *    that returns 0 has found each entry BUSY or GONE. The first moves a tenth of the
 *    entries besides.
 *
 * Threads: none of its own, the caller locks. Memory is mapped, never malloc'ed, so a fault
 * handler may insert and pick. Failure: an insert without memory changes nothing; a ghost
 * without memory remembers nothing.
 */
#include "policy.h"

#include "ghost.h"
#include "page_ring.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

/* Hits that make a page of the small queue, of the main queue, worth keeping. */
#define SMALL_THRESHOLD 2u
#define MAIN_THRESHOLD 1u

/* The owner counts to three: nothing is used so much. */
#define THRESHOLD_NEVER 4u

#define LOOKS_PER_STEP 32u

struct policy {
	struct page_ring small;
	struct page_ring main;
	struct ghost ghost;
	struct ghost outside; /* keys of pages that were used while absent */
	bool has_picked;
};

struct pick {
	uint64_t *pages; /* borrowed */
	unsigned n, n_wanted;
	policy_ask_fn ask;
	void *arg;
	size_t small_left; /* entries to look at yet: in the small queue, */
	size_t first_left; /* in the main queue for the first time, */
	size_t second_left;/* and those that stayed, once more */
	unsigned n_used;   /* USED answers in a row, of the main queue */
};

int policy_create(struct policy **ret_policy)
{
	struct policy *p = calloc(1, sizeof(*p));
	if (p == NULL)
		return -ENOMEM;
	if (page_ring_init(&p->small) < 0 || page_ring_init(&p->main) < 0) {
		policy_destroy(p);
		return -ENOMEM;
	}
	*ret_policy = p;
	return 0;
}

void policy_destroy(struct policy *p)
{
	if (p == NULL)
		return;
	page_ring_fini(&p->small);
	page_ring_fini(&p->main);
	ghost_fini(&p->ghost);
	ghost_fini(&p->outside);
	free(p);
}

size_t policy_n_entries(const struct policy *p)
{
	return p->small.count + p->main.count;
}

size_t policy_bytes(const struct policy *p)
{
	return sizeof(*p) + page_ring_bytes(&p->small) + page_ring_bytes(&p->main) +
	       ghost_bytes(&p->ghost) + ghost_bytes(&p->outside);
}

static size_t small_target(const struct policy *p)
{
	return policy_n_entries(p) / 10;
}

bool policy_use_absent(struct policy *p, uint64_t key, size_t n_fits)
{
	if (ghost_take(&p->outside, key))
		return true;
	if (p->outside.n_pages != n_fits)
		ghost_resize(&p->outside, n_fits);
	ghost_add(&p->outside, key);
	return false;
}

int policy_insert(struct policy *p, uint64_t page)
{
	bool to_main = !p->has_picked || ghost_take(&p->ghost, page);
	return page_ring_push(to_main ? &p->main : &p->small, page);
}

int policy_insert_used(struct policy *p, uint64_t page)
{
	ghost_take(&p->ghost, page);
	return page_ring_push(&p->main, page);
}

/* At the first pick the oldest tenth becomes the small queue; without memory for all of it, less. */
static void divide(struct policy *p)
{
	for (size_t left = small_target(p); left > 0; left--) {
		if (page_ring_push(&p->small, page_ring_oldest(&p->main)) < 0)
			break;
		page_ring_pop(&p->main);
	}
	p->has_picked = true;
}

/* One look at the oldest of the small queue. */
static void look_small(struct policy *p, struct pick *pick)
{
	uint64_t page = page_ring_oldest(&p->small);
	pick->small_left--;

	switch (pick->ask(pick->arg, page, SMALL_THRESHOLD)) {
	case POLICY_TAKEN:
		pick->pages[pick->n++] = page_ring_pop(&p->small);
		ghost_add(&p->ghost, page);
		break;
	case POLICY_USED:
		if (page_ring_push(&p->main, page) < 0) {
			page_ring_rotate(&p->small);
			break;
		}
		page_ring_pop(&p->small);
		pick->second_left++; /* this was its first */
		break;
	case POLICY_BUSY:
		/* Not to the main queue: that a page is being filled, or pinned for a moment,
		 * says nothing about its worth. */
		page_ring_rotate(&p->small);
		break;
	case POLICY_GONE:
		page_ring_pop(&p->small);
		break;
	}
}

/* One look at the oldest of the main queue. */
static void look_main(struct policy *p, struct pick *pick)
{
	uint64_t page = page_ring_oldest(&p->main);
	unsigned threshold = MAIN_THRESHOLD + pick->n_used / LOOKS_PER_STEP;
	bool first = pick->first_left > 0;
	if (!first || threshold > THRESHOLD_NEVER)
		threshold = THRESHOLD_NEVER;
	if (first) {
		pick->first_left--;
		pick->second_left++;
	}

	switch (pick->ask(pick->arg, page, threshold)) {
	case POLICY_TAKEN:
		pick->pages[pick->n++] = page_ring_pop(&p->main);
		pick->second_left--;
		pick->n_used = 0;
		break;
	case POLICY_USED:
		page_ring_rotate(&p->main);
		pick->second_left -= !first;
		pick->n_used++;
		break;
	case POLICY_BUSY:
		page_ring_rotate(&p->main);
		pick->second_left -= !first;
		break;
	case POLICY_GONE:
		page_ring_pop(&p->main);
		pick->second_left--;
		break;
	}
}

/* One look, where it is due; false if there is nothing left to look at. */
static bool look(struct policy *p, struct pick *pick)
{
	bool small = pick->small_left > 0;
	bool main = pick->first_left + pick->second_left > 0;
	if (small && (!main || p->small.count > small_target(p)))
		look_small(p, pick);
	else if (main)
		look_main(p, pick);
	return small || main;
}

unsigned policy_pick(struct policy *p, uint64_t *ret_pages, unsigned n, policy_ask_fn ask, void *arg)
{
	if (n == 0 || policy_n_entries(p) == 0)
		return 0;
	if (!p->has_picked)
		divide(p);

	struct pick pick = {
		.pages = ret_pages,
		.n_wanted = n,
		.ask = ask,
		.arg = arg,
		.small_left = p->small.count,
		.first_left = p->main.count,
	};
	ghost_resize(&p->ghost, policy_n_entries(p) - small_target(p));
	while (pick.n < pick.n_wanted && look(p, &pick))
		continue;
	page_ring_trim(&p->small);
	page_ring_trim(&p->main);
	return pick.n;
}

static size_t forget_in(struct page_ring *ring, policy_gone_fn gone, void *arg)
{
	size_t n_gone = 0;
	for (size_t left = ring->count; left > 0; left--) {
		if (gone(arg, page_ring_oldest(ring))) {
			page_ring_pop(ring);
			n_gone++;
		} else {
			page_ring_rotate(ring);
		}
	}
	page_ring_trim(ring);
	return n_gone;
}

size_t policy_forget(struct policy *p, policy_gone_fn gone, void *arg)
{
	return forget_in(&p->small, gone, arg) + forget_in(&p->main, gone, arg);
}

static bool ring_is_sound(const struct page_ring *ring)
{
	return ring->slots != NULL && ring->count <= ring->capacity &&
	       ring->head < ring->capacity;
}

bool policy_check(const struct policy *p)
{
	return ring_is_sound(&p->small) && ring_is_sound(&p->main) &&
	       ghost_check(&p->ghost) && ghost_check(&p->outside);
}
