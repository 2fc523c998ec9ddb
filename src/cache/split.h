/* split.h - how much of the memory is for compressed copies: the part whose last byte saves more time grows. The essay is in
 * split.c. Not thread-safe; no memory of its own. */
#ifndef CACHE_SPLIT_H
#define CACHE_SPLIT_H

#include <stdbool.h>
#include <stdint.h>

#define SPLIT_BINS 64u
#define SPLIT_REACH 3u /* ranks are counted up to so many times what memory holds */

enum split_cost {
	SPLIT_READ,    /* a page comes from its medium, */
	SPLIT_COPY,    /* from its copy */
	SPLIT_COMPRESS,/* a copy is made */
	N_SPLIT_COSTS
};

struct split {
	uint64_t target_bytes;       /* for copies */
	uint64_t n_fills;            /* since the last look */
	uint32_t fills[2][SPLIT_BINS]; /* by rank: read; from copies */
	uint32_t n_unknown;
	uint32_t n_tried, n_kept;    /* pages that left and were to be copied; that have a copy */
	uint64_t spent_ns[N_SPLIT_COSTS];
	uint32_t n_spent[N_SPLIT_COSTS];
};

/* What there is, at a look. */
struct split_facts {
	uint64_t limit_bytes, page_bytes;
	uint64_t n_copies, copies_bytes;
};

void split_init(struct split *s, uint64_t limit_bytes);

/* A page came. rank: so many that left after it are away still, of n that memory holds; UINT64_MAX: nobody knows it. */
void split_fill(struct split *s, bool from_copy, uint64_t rank, uint64_t n);

static inline void split_left(struct split *s, uint32_t n_tried, uint32_t n_kept)
{
	s->n_tried += n_tried;
	s->n_kept += n_kept;
}

/* What it took for one page, as measured now; and on average, or a guess where nobody has measured. */
void split_spent(struct split *s, enum split_cost cost, uint64_t ns);
uint64_t split_mean_ns(const struct split *s, enum split_cost cost);

/* Due after so many fills, of n pages that memory holds. */
static inline bool split_is_due(const struct split *s, uint64_t n)
{
	return s->n_fills > n / 8 + 64;
}

/* Sets target_bytes anew. */
void split_look(struct split *s, const struct split_facts *facts);

/* The least that copies have, to find out what they are worth. */
uint64_t split_least_bytes(uint64_t limit_bytes);

#endif
