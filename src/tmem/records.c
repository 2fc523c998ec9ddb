/* records.c - numbered records. */
#include "records.h"

#include "heap.h"

#include "../base/assert.h"
#include "../base/pages.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FREE_NONE UINT16_MAX

static uint32_t chunk_records(const struct records *r)
{
	return 1u << r->shift;
}

void records_init(struct records *r, struct budget *budget, uint32_t record_bytes)
{
	quire_assert(record_bytes >= sizeof(uint32_t));
	*r = (struct records){.budget = budget, .record_bytes = record_bytes, .open = RECORD_NONE};
	while ((uint64_t)record_bytes << r->shift < (uint64_t)sysconf(_SC_PAGESIZE))
		r->shift++;
	quire_assert(chunk_records(r) < FREE_NONE);
}

static size_t chunk_bytes(const struct records *r)
{
	return pages_bytes((uint64_t)r->record_bytes * chunk_records(r));
}

void records_fini(struct records *r)
{
	for (uint32_t i = 0; i < r->n_chunks; i++)
		pages_unmap(r->chunks[i].base, chunk_bytes(r));
	heap_array_free(r->chunks, r->capacity * sizeof(r->chunks[0]));
	budget_uncharge(r->budget, BUDGET_TMEM, r->bytes);
	records_init(r, r->budget, r->record_bytes);
}

/* ---- chunks ---- */

static bool map_chunk(struct records *r, struct records_chunk *c)
{
	size_t bytes = chunk_bytes(r);

	if (!budget_try_charge(r->budget, BUDGET_TMEM, bytes))
		return false;
	uint8_t *base = pages_map(bytes, PROT_READ | PROT_WRITE, 0);
	if (base == NULL) {
		budget_uncharge(r->budget, BUDGET_TMEM, bytes);
		return false;
	}
	c->base = base;
	c->n_used = c->n_begun = 0;
	c->free = FREE_NONE;
	r->bytes += bytes;
	return true;
}

static void unmap_chunk(struct records *r, struct records_chunk *c)
{
	size_t bytes = chunk_bytes(r);

	pages_unmap(c->base, bytes);
	c->base = NULL;
	r->bytes -= bytes;
	budget_uncharge(r->budget, BUDGET_TMEM, bytes);
}

static bool reserve_directory(struct records *r)
{
	if (r->n_chunks < r->capacity)
		return true;
	uint32_t capacity = r->capacity == 0 ? 16 : 2 * r->capacity;
	uint64_t more = (capacity - r->capacity) * sizeof(r->chunks[0]);
	if (!budget_try_charge(r->budget, BUDGET_TMEM, more))
		return false;
	struct records_chunk *chunks = heap_array_grow(r->chunks, r->capacity * sizeof(chunks[0]), capacity * sizeof(chunks[0]));
	if (chunks == NULL) {
		budget_uncharge(r->budget, BUDGET_TMEM, more);
		return false;
	}
	r->chunks = chunks;
	r->capacity = capacity;
	r->bytes += more;
	return true;
}

static bool add_chunk(struct records *r)
{
	if (r->n_chunks >= (RECORD_NONE >> r->shift) || !reserve_directory(r) ||
	    !map_chunk(r, &r->chunks[r->n_chunks]))
		return false;
	r->n_chunks++;
	return true;
}

/* ---- without holes ---- */

bool records_extend(struct records *r)
{
	if (r->n >> r->shift == r->n_chunks && !add_chunk(r))
		return false;
	r->n++;
	return true;
}

void records_retract(struct records *r)
{
	r->n--;
	/* One chunk stays for who goes to and fro. */
	if (r->n + chunk_records(r) == (uint64_t)(r->n_chunks - 1) << r->shift)
		unmap_chunk(r, &r->chunks[--r->n_chunks]);
}

/* ---- with ---- */

/* The first chunk with something free, which is there. NULL: no memory. */
static struct records_chunk *open_chunk(struct records *r)
{
	if (r->open == RECORD_NONE) {
		if (!add_chunk(r))
			return NULL;
		r->open = r->n_chunks - 1;
		r->chunks[r->open].next = RECORD_NONE;
		r->n_empty++;
	}
	struct records_chunk *c = &r->chunks[r->open];
	if (c->base == NULL) {
		if (!map_chunk(r, c))
			return NULL;
		r->n_empty++;
	}
	return c;
}

uint32_t records_get(struct records *r)
{
	struct records_chunk *c = open_chunk(r);

	if (c == NULL)
		return RECORD_NONE;
	uint32_t first = r->open << r->shift, no = first + c->n_begun;
	if (c->free != FREE_NONE) {
		no = first + c->free;
		memcpy(&c->free, records_at(r, no), sizeof(c->free));
	} else {
		c->n_begun++;
	}
	if (no >= r->n)
		r->n = no + 1;
	r->n_empty -= c->n_used == 0;
	if (++c->n_used == chunk_records(r))
		r->open = c->next;
	return no;
}

void records_put(struct records *r, uint32_t no)
{
	struct records_chunk *c = &r->chunks[no >> r->shift];

	if (c->n_used-- == chunk_records(r)) {
		c->next = r->open;
		r->open = no >> r->shift;
	}
	if (c->n_used == 0 && r->n_empty > 0) {
		unmap_chunk(r, c);
		return;
	}
	r->n_empty += c->n_used == 0;
	memcpy(records_at(r, no), &c->free, sizeof(c->free));
	c->free = (uint16_t)(no & (chunk_records(r) - 1));
}
