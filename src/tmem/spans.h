/* spans.h - which pages there are: (pool, object, index) to a value of 32 bits.
 *
 * The values are the owner's: a place, or what else he tells from it. Not thread-safe.
 */
#ifndef TMEM_SPANS_H
#define TMEM_SPANS_H

#include "chains.h"
#include "storage.h"

#include <assert.h>

#define SPAN_NONE RECORD_NONE
#define VALUE_NONE UINT32_MAX /* no page's value */

struct tmem_object {
	uint64_t words[3];
};

/* The pages of an object that have the upper 16 bits of their index in common. */
struct span {
	struct tmem_object object;
	uint16_t pool, high;
	uint32_t chain;            /* the next in its bucket */
	uint32_t newer, older;     /* spans of the same pool */
	uint32_t sibling;          /* the object's next span; its first has `high` 0 */
	uint32_t n_pages;
	uint32_t table;            /* place; or the value of the only page, if capacity is 0 */
	uint32_t capacity;         /* pairs that the table has room for; or values that it has */
	uint16_t first;            /* the low bits of the only page, or of a dense table's first value */
	bool dense;                /* the table has values alone */
};
static_assert(sizeof(struct span) == 64, "what an object costs");

struct spans {
	struct storage *storage;   /* borrowed: tables lie there */
	struct records records;
	struct chains by_key;
	uint64_t seed;
	uint64_t n_pages;
	uint64_t table_bytes;      /* of slots */
};

void spans_init(struct spans *x, struct budget *budget, struct storage *storage, uint64_t seed);
void spans_fini(struct spans *x); /* the tables are the storage's to free */

/* The span; SPAN_NONE. Numbers of spans are given out again when one has gone. */
uint32_t spans_find(const struct spans *x, uint16_t pool, const struct tmem_object *object, uint16_t high);
/* The same; made if there is none. *pool_list is the pool's list of them. SPAN_NONE: no memory. */
uint32_t spans_need(struct spans *x, uint16_t pool, const struct tmem_object *object, uint16_t high,
                    uint32_t *pool_list);

static inline struct span *span_at(const struct spans *x, uint32_t no)
{
	return records_at(&x->records, no);
}

/* VALUE_NONE: no such page. */
uint32_t spans_get(const struct spans *x, uint32_t span, uint16_t low);
/* It is there. */
void spans_set(struct spans *x, uint32_t span, uint16_t low, uint32_t value);
/* It is not there. False: no memory. */
bool spans_add(struct spans *x, uint32_t span, uint16_t low, uint32_t value);
/* It is there. The span may be gone then, and the object's first with it. */
void spans_remove(struct spans *x, uint32_t span, uint16_t low, uint32_t *pool_list);
/* A span that spans_need has made goes again if it has no page. */
void spans_unneed(struct spans *x, uint32_t span, uint32_t *pool_list);

/* Any page of the span: its low bits. It has one. */
uint16_t spans_any(const struct spans *x, uint32_t span);

/* Calls fn for each page of the span, which may not change meanwhile. */
void spans_each(const struct spans *x, uint32_t span, void (*fn)(void *arg, uint16_t low, uint32_t value), void *arg);

/* A table has moved. */
void spans_table_moved(struct spans *x, uint32_t span, uint32_t to);

#endif
