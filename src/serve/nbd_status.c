/* nbd_status.c - BLOCK_STATUS: one chunk for each context that was selected. */
#include "nbd_internal.h"

#include <errno.h>
#include <stdlib.h>

/* The descriptors of one context, which together reach no further than the request; neighbours that are alike become one. */
static uint8_t *put_extents(uint8_t *at, const struct nbd_request *r, const struct export_extent *extents, unsigned n)
{
	uint64_t left = r->n_bytes;
	uint8_t *last = NULL;
	uint32_t last_bytes = 0, last_flags = 0;

	for (unsigned i = 0; i < n && left > 0; i++) {
		uint32_t n_bytes = (uint32_t)(extents[i].n_bytes < left ? extents[i].n_bytes : left);
		left -= n_bytes;
		if (last != NULL && last_flags == extents[i].flags) {
			last_bytes += n_bytes;
			(void)nbd_put32(last, last_bytes);
			continue;
		}
		if (last != NULL && r->flags & NBD_REQ_ONE)
			break;
		last = at;
		last_bytes = n_bytes;
		last_flags = extents[i].flags;
		at = nbd_put32(nbd_put32(at, n_bytes), last_flags);
	}
	return at;
}

static int put_context(struct nbd_request *r, unsigned id, struct export_extent *extents, uint8_t **at)
{
	const struct nbd_connection *c = r->connection;
	const struct nbd_context *context = &c->contexts[id];
	int n = c->export->ops->status(c->export, context->kind, context->generation, r->offset, r->n_bytes, extents,
	                               NBD_STATUS_EXTENTS);

	if (n < 0)
		return n;
	uint8_t *body = *at + NBD_CHUNK_BYTES;
	uint8_t *end = put_extents(nbd_put32(body, id), r, extents, (unsigned)n);
	if (end == body + 4)
		return -EIO;
	nbd_chunk_head(*at, r, id + 1 == c->n_contexts ? NBD_CHUNK_DONE : 0, NBD_CHUNK_BLOCK_STATUS, (uint32_t)(end - body));
	*at = end;
	return 0;
}

void nbd_status_run(struct nbd_request *r)
{
	unsigned n = r->connection->n_contexts;
	struct export_extent *extents = malloc(NBD_STATUS_EXTENTS * sizeof(*extents));
	int rc = extents == NULL ? -ENOMEM : nbd_request_reserve(r, n * (NBD_CHUNK_BYTES + 4 + 8ul * NBD_STATUS_EXTENTS));
	uint8_t *at = r->data;

	for (unsigned i = 0; rc == 0 && i < n; i++)
		rc = put_context(r, i, extents, &at);
	free(extents);
	if (rc == -ENOMEM)
		nbd_reply_error(r, NBD_ENOMEM, "out of memory");
	else if (rc < 0)
		nbd_reply_error(r, rc == -EINVAL ? NBD_EINVAL : NBD_EIO, "the map can't be read");
	else
		nbd_reply_made(r, (uint64_t)(at - (uint8_t *)r->data));
}
