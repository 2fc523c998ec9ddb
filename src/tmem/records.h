/* records.h - numbered records of one size, in chunks of memory that come and go, and are charged.
 *
 * For what there are millions of: a number takes four bytes where a pointer takes eight, and records have no headers
 * of their own. Records don't move. Memory of a chunk in which nothing is left goes back, but for one chunk. Not thread-safe.
 */
#ifndef TMEM_RECORDS_H
#define TMEM_RECORDS_H

#include "../base/budget.h"

#include <stddef.h>

#define RECORD_NONE UINT32_MAX

struct records_chunk {
	uint8_t *base;    /* owned mapping; NULL: gone */
	uint16_t n_used;
	uint16_t n_begun; /* records that were ever given out, since it has been there; those that came back are in the list */
	uint16_t free;    /* the list of these: the first one's place in the chunk, each the next one's in its first bytes */
	uint32_t next;    /* chunk with something free */
};

struct records {
	struct budget *budget; /* borrowed */
	struct records_chunk *chunks; /* owned */
	uint32_t n_chunks, capacity;
	uint32_t record_bytes; /* at least 4 */
	uint32_t shift;        /* records a chunk: what fills a page at least */
	uint32_t n;            /* all numbers so far are below: whoever goes through them asks records_there */
	uint32_t open;         /* the first chunk with something free, gone ones among them; RECORD_NONE */
	uint32_t n_empty;      /* chunks that are there with nothing in them */
	uint64_t bytes;        /* charged */
};

void records_init(struct records *r, struct budget *budget, uint32_t record_bytes);
void records_fini(struct records *r);

/* A record of anything; RECORD_NONE: no memory, or the budget. */
uint32_t records_get(struct records *r);
void records_put(struct records *r, uint32_t no);

/* The next number, or the last one given back, for those who keep no holes (and use nothing of the above). A new record is anything. False: no
 * memory. */
bool records_extend(struct records *r);
void records_retract(struct records *r);

/* Is there memory for that number, which was given out once? What is there may be another record by now. */
static inline bool records_there(const struct records *r, uint32_t no)
{
	return r->chunks[no >> r->shift].base != NULL;
}

static inline void *records_at(const struct records *r, uint32_t no)
{
	return r->chunks[no >> r->shift].base +
	       (size_t)(no & ((1u << r->shift) - 1)) * r->record_bytes;
}

#endif
