/* heap.c - pieces of 64 bytes and multiples, from chunks that are mapped. */
#include "heap.h"

#include "../base/pages.h"

#include <string.h>
#include <sys/mman.h>

#define CHUNK_BYTES (64u << 10)

struct heap_piece {
	struct heap_piece *next;
};

struct heap_chunk {
	struct heap_chunk *next;
};

static void *map(size_t n_bytes)
{
	return pages_map(n_bytes, PROT_READ | PROT_WRITE, 0);
}

void heap_fini(struct heap *heap)
{
	for (struct heap_chunk *c = heap->chunks, *next; c != NULL; c = next) {
		next = c->next;
		pages_unmap(c, CHUNK_BYTES);
	}
	memset(heap, 0, sizeof(*heap));
}

static void *cut(struct heap *heap, size_t n_bytes)
{
	if (heap->chunks == NULL || heap->n_used + n_bytes > CHUNK_BYTES) {
		struct heap_chunk *c = map(CHUNK_BYTES);

		if (c == NULL)
			return NULL;
		c->next = heap->chunks;
		heap->chunks = c;
		heap->n_used = HEAP_GRAIN;
	}
	heap->n_used += n_bytes;
	return (char *)heap->chunks + heap->n_used - n_bytes;
}

void *heap_get(struct heap *heap, size_t n_bytes)
{
	size_t grains = (n_bytes + HEAP_GRAIN - 1) / HEAP_GRAIN;

	if (n_bytes > HEAP_MOST_BYTES)
		return map(n_bytes);
	struct heap_piece *piece = heap->free[grains - 1];
	if (piece == NULL)
		return cut(heap, grains * HEAP_GRAIN);
	heap->free[grains - 1] = piece->next;
	return memset(piece, 0, grains * HEAP_GRAIN);
}

void heap_put(struct heap *heap, void *piece, size_t n_bytes)
{
	if (piece == NULL)
		return;
	if (n_bytes > HEAP_MOST_BYTES) {
		pages_unmap(piece, n_bytes);
		return;
	}
	struct heap_piece *p = piece, **list = &heap->free[(n_bytes + HEAP_GRAIN - 1) / HEAP_GRAIN - 1];
	p->next = *list;
	*list = p;
}

void *heap_array_grow(void *old, size_t old_bytes, size_t n_bytes)
{
	void *at = map(n_bytes);

	if (at != NULL && old != NULL) {
		memcpy(at, old, old_bytes);
		pages_unmap(old, old_bytes);
	}
	return at;
}

void heap_array_free(void *array, size_t n_bytes)
{
	pages_unmap(array, n_bytes);
}
