/* heap.h - memory for what describes memory, without malloc: puts and gets may run in a fault handler, where a program may have
 * been anywhere. Not thread-safe. What is put back is used again, and goes back to the kernel with the heap. */
#ifndef TMEM_HEAP_H
#define TMEM_HEAP_H

#include <stddef.h>

#define HEAP_GRAIN 64u
#define HEAP_MOST_BYTES 8192u /* larger pieces are mappings of their own */

/* Zeroed, it holds nothing. */
struct heap {
	struct heap_piece *free[HEAP_MOST_BYTES / HEAP_GRAIN]; /* by size */
	struct heap_chunk *chunks; /* owned; pieces are taken from the first */
	size_t n_used;             /* bytes of it */
};

void heap_fini(struct heap *heap); /* but for the larger pieces, which are to be put back before */

void *heap_get(struct heap *heap, size_t n_bytes); /* zeroed; NULL: no memory */
void heap_put(struct heap *heap, void *piece, size_t n_bytes); /* NULL allowed */

/* An array that grows, in a mapping of its own; `old` is NULL or what this gave for so many bytes. What is new is zeroed. NULL: no memory, and
 * nothing changed. */
void *heap_array_grow(void *old, size_t old_bytes, size_t n_bytes);
void heap_array_free(void *array, size_t n_bytes); /* NULL allowed */

#endif
