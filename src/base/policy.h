/* policy.h - which page leaves next. The interface of the one replacement policy.
 *
 * A policy holds 64-bit page numbers only; whether a page was used, is pinned or
 * is long gone is asked of the owner when its turn comes (the owner keeps a two-bit
 * use count a page, raised by hits with one relaxed store). Not thread-safe: the
 * caller locks. Memory: 8 bytes an entry, and what policy_bytes tells.
 */
#ifndef BASE_POLICY_H
#define BASE_POLICY_H

#include <stddef.h>
#include <stdint.h>

struct policy;

enum policy_answer {
	POLICY_TAKEN, /* the owner has claimed the page for eviction */
	POLICY_USED,  /* its use count was at least threshold; the owner has lowered it by one */
	POLICY_BUSY,  /* can't leave now: pinned, being filled */
	POLICY_GONE,  /* not resident any more: forget the entry */
};

/* Asked for each candidate, under the caller's lock. */
typedef enum policy_answer (*policy_ask_fn)(void *arg, uint64_t page, unsigned threshold);

int policy_create(struct policy **ret_policy);
void policy_destroy(struct policy *p);

/* A page became resident. One entry a page is the owner's business. -ENOMEM: not
 * entered; the owner has to evict the page itself. */
int policy_insert(struct policy *p, uint64_t page);

/* Chooses up to n pages that the owner has TAKEN; returns how many. Looks at a bounded
 * number of candidates (at most two rounds of what it holds), so 0 means: nothing can leave. */
unsigned policy_pick(struct policy *p, uint64_t *ret_pages, unsigned n, policy_ask_fn ask, void *arg);

size_t policy_n_entries(const struct policy *p);
size_t policy_bytes(const struct policy *p); /* memory held */

#endif
