/* replay_trace.c - gives each id of a trace a number: open addressing, doubled when half full. */
#include "replay_trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define N_ACCESSES_MAX (UINT32_MAX - 1)
#define N_FIRST_SLOTS 1024u

/* Ids are mostly small, or multiples of something: splitmix64's finaliser spreads them. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* The slot that holds id, or the free one where it belongs. */
static size_t find(const struct trace_builder *b, uint64_t id)
{
	size_t slot = mix(id) & (b->n_slots - 1);
	while (b->slots[slot] != 0 && b->trace.ids[b->slots[slot] - 1] != id)
		slot = (slot + 1) & (b->n_slots - 1);
	return slot;
}

static int grow_slots(struct trace_builder *b)
{
	size_t n = b->n_slots == 0 ? N_FIRST_SLOTS : 2 * b->n_slots;
	uint32_t *slots = calloc(n, sizeof(*slots));
	if (slots == NULL)
		return -ENOMEM;
	free(b->slots);
	b->slots = slots;
	b->n_slots = n;
	for (uint32_t page = 0; page < b->trace.n_pages; page++)
		b->slots[find(b, b->trace.ids[page])] = page + 1;
	return 0;
}

static int make_room(struct trace_builder *b)
{
	struct trace *t = &b->trace;
	if (t->n == b->n_room) {
		size_t n = b->n_room == 0 ? N_FIRST_SLOTS : 2 * b->n_room;
		uint32_t *pages = realloc(t->pages, n * sizeof(*pages));
		if (pages == NULL)
			return -ENOMEM;
		t->pages = pages;
		b->n_room = n;
	}
	if (t->n_pages == b->n_page_room) {
		size_t n = b->n_page_room == 0 ? N_FIRST_SLOTS : 2 * (size_t)b->n_page_room;
		if (n > UINT32_MAX)
			n = UINT32_MAX;
		uint64_t *ids = realloc(t->ids, n * sizeof(*ids));
		if (ids == NULL)
			return -ENOMEM;
		t->ids = ids;
		b->n_page_room = (uint32_t)n;
	}
	return 2 * (size_t)t->n_pages >= b->n_slots ? grow_slots(b) : 0;
}

int trace_add(struct trace_builder *b, uint64_t id)
{
	struct trace *t = &b->trace;
	if (t->n == N_ACCESSES_MAX)
		return -EFBIG;
	int rc = make_room(b);
	if (rc < 0)
		return rc;
	size_t slot = find(b, id);
	if (b->slots[slot] == 0) {
		t->ids[t->n_pages] = id;
		b->slots[slot] = ++t->n_pages;
	}
	t->pages[t->n++] = b->slots[slot] - 1;
	return 0;
}

void trace_finish(struct trace_builder *b, struct trace *ret_trace)
{
	*ret_trace = b->trace;
	memset(&b->trace, 0, sizeof(b->trace));
	trace_builder_free(b);
}

void trace_builder_free(struct trace_builder *b)
{
	trace_free(&b->trace);
	free(b->slots);
	memset(b, 0, sizeof(*b));
}

int trace_fold(const struct trace *t, uint64_t n_ids, struct trace *ret_trace)
{
	struct trace_builder b = { 0 };
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < t->n; i++)
		rc = trace_add(&b, t->ids[t->pages[i]] % n_ids);
	if (rc == 0)
		trace_finish(&b, ret_trace);
	else
		trace_builder_free(&b);
	return rc;
}

void trace_free(struct trace *t)
{
	free(t->pages);
	free(t->ids);
	memset(t, 0, sizeof(*t));
}
