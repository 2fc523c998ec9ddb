/* replay_trace.h - a trace in memory: which page each access is to.
 *
 * Pages are numbered from 0 in the order of their first access, so that whoever replays
 * keeps what he knows of a page in plain arrays. Four bytes an access, and at most 24 a page
 * while it is being made.
 */
#ifndef BENCH_REPLAY_TRACE_H
#define BENCH_REPLAY_TRACE_H

#include <stddef.h>
#include <stdint.h>

struct trace {
	uint32_t *pages; /* owned: of each access, the page's number */
	uint64_t *ids;   /* owned: of each page, what the trace calls it */
	size_t n;        /* accesses */
	uint32_t n_pages;
};

/* A trace that grows. All zero: empty. */
struct trace_builder {
	struct trace trace;
	size_t n_room;       /* accesses that there is room for */
	uint32_t n_page_room;
	uint32_t *slots;     /* owned: a page's number + 1, by the hash of its id; 0: free */
	size_t n_slots;      /* a power of two, at least twice n_pages */
};

/* -ENOMEM; -EFBIG: more than 2^32 - 2 accesses. */
int trace_add(struct trace_builder *b, uint64_t id);

/* Hands over what was gathered and frees the rest. */
void trace_finish(struct trace_builder *b, struct trace *ret_trace);
void trace_builder_free(struct trace_builder *b);

/* The same accesses with each id taken modulo n_ids. -ENOMEM. */
int trace_fold(const struct trace *t, uint64_t n_ids, struct trace *ret_trace);

void trace_free(struct trace *t);

#endif
