/* policy.h - which page leaves next. The interface of the one replacement policy.
 *
 * A policy holds 64-bit page numbers only; whether a page was used, is pinned or
 * is long gone is asked of the owner when its turn comes (the owner keeps a two-bit
 * use count a page, raised by hits with one relaxed write). Not thread-safe: the
 * caller locks. Memory: 14 bytes an entry, up to 16 as queues grow by quarters; mapped, not
 * malloc'ed, so insert and pick may be called in a fault handler.
 */
#ifndef BASE_POLICY_H
#define BASE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct policy;

enum policy_answer {
	POLICY_TAKEN, /* the owner has claimed the page for eviction */
	POLICY_USED,  /* its use count was at least threshold; the owner has lowered it by one */
	POLICY_BUSY,  /* can't leave now: pinned, being filled */
	POLICY_GONE,  /* not resident any more: forget the entry */
};

/* Asked for each candidate, under the caller's lock. Thresholds are 1 to 4; at 4 a count of
 * up to 3 is never enough. */
typedef enum policy_answer (*policy_ask_fn)(void *arg, uint64_t page, unsigned threshold);

int policy_create(struct policy **ret_policy);
void policy_destroy(struct policy *p);

/* A page became resident. One entry a page is the owner's business. -ENOMEM: not
 * entered; the owner has to evict the page itself. */
int policy_insert(struct policy *p, uint64_t page);

/* The same for a page of which the owner knows that it was used since it was first entered. */
int policy_insert_used(struct policy *p, uint64_t page);

/* A page that is not resident was used all the same, since it can be read where it lies. key: of that page alone, for good, unlike
 * its number. True: it was so used before, not too long ago; that is forgotten with this. False: it will be remembered,
 * as one of about n_fits, which is how many pages fit. Without memory nothing is. */
bool policy_use_absent(struct policy *p, uint64_t key, size_t n_fits);

/* Chooses up to n pages that the owner has TAKEN; returns how many. Looks at a bounded
 * number of candidates (at most two rounds of what it holds), so 0 means: nothing can leave. */
unsigned policy_pick(struct policy *p, uint64_t *ret_pages, unsigned n, policy_ask_fn ask, void *arg);

/* Drops every entry whose page is gone; returns how many. For an owner that drops pages by
 * itself (purge, destroy): GONE entries stay until their turn comes, so it calls this when
 * it has entered far more than are resident, twice as many say. Looks at every entry. */
typedef bool (*policy_gone_fn)(void *arg, uint64_t page);
size_t policy_forget(struct policy *p, policy_gone_fn gone, void *arg);

/* True if the numbered invariants hold; for tests. */
bool policy_check(const struct policy *p);

size_t policy_n_entries(const struct policy *p);
size_t policy_bytes(const struct policy *p); /* memory held */

#endif
