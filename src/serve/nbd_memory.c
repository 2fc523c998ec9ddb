/* nbd_memory.c - memory for payloads: what was used is kept for the next ones.
 *
 * A buffer of a mebibyte that malloc gets from the kernel and gives back comes as zeros, page by page, in as many faults, which take
 * several times as long as copying the bytes. So buffers are kept, in powers of two, the last one first, since the processor's cache
 * may still have it. A request keeps a small one by itself.
 *
 * Invariants:
 *   1. kept_bytes is the sum of what is in the lists, at most KEPT_MOST_BYTES.
 *   2. While there is no connection nothing is kept.
 */
#include "nbd_internal.h"

#include "../base/assert.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define KEPT_MOST_BYTES EXPORT_PAYLOAD_BYTES /* the largest one, or many smaller ones */

struct nbd_buffer {
	struct nbd_buffer *next;
};

static_assert(NBD_KEPT_BYTES << NBD_BUFFER_SIZES == EXPORT_PAYLOAD_BYTES, "each payload has its size");

static uint64_t bytes_of(unsigned size)
{
	return (uint64_t)NBD_KEPT_BYTES << (size + 1);
}

static unsigned size_for(uint64_t n_bytes)
{
	unsigned size = 0;

	while (bytes_of(size) < n_bytes)
		size++;
	quire_assert(size < NBD_BUFFER_SIZES);
	return size;
}

static void *take(struct nbd_memory *m, unsigned size)
{
	struct nbd_buffer *b = m->kept[size];

	if (b == NULL)
		return aligned_alloc(4096, bytes_of(size));
	m->kept[size] = b->next;
	m->kept_bytes -= bytes_of(size);
	return b;
}

/* The largest ones go first, so few do. */
static void make_room(struct nbd_memory *m, uint64_t most_bytes)
{
	for (unsigned size = NBD_BUFFER_SIZES; size-- > 0;)
		while (m->kept[size] != NULL && m->kept_bytes > most_bytes)
			free(take(m, size));
}

static void give(struct nbd_memory *m, void *buffer, unsigned size)
{
	struct nbd_buffer *b = buffer;

	make_room(m, KEPT_MOST_BYTES - bytes_of(size));
	b->next = m->kept[size];
	m->kept[size] = b;
	m->kept_bytes += bytes_of(size);
}

int nbd_request_reserve(struct nbd_request *r, uint64_t n_bytes)
{
	struct nbd_memory *m = &r->connection->server->memory;

	if (r->data_bytes >= n_bytes)
		return 0;
	nbd_request_unreserve(r);
	free(r->data);
	if (n_bytes <= NBD_KEPT_BYTES) {
		r->data = aligned_alloc(4096, NBD_KEPT_BYTES);
		r->data_bytes = NBD_KEPT_BYTES;
	} else {
		unsigned size = size_for(n_bytes);
		r->data = take(m, size);
		r->data_bytes = bytes_of(size);
	}
	if (r->data == NULL)
		r->data_bytes = 0;
	return r->data == NULL ? -ENOMEM : 0;
}

void nbd_request_unreserve(struct nbd_request *r)
{
	if (r->data_bytes <= NBD_KEPT_BYTES)
		return;
	give(&r->connection->server->memory, r->data, size_for(r->data_bytes));
	r->data = NULL;
	r->data_bytes = 0;
}

void nbd_memory_drop(struct quire_nbd *nbd)
{
	make_room(&nbd->memory, 0);
}
