/* nbd_transmit.c - the transmission phase as the reader sees it: request after request, each given a coroutine.
 *
 * A request's head is checked before anything is set aside for it. One that is refused has its payload thrown away as it comes, so
 * that the next is found; a payload of twice what is allowed is not waited for, and neither is anything behind a head without its
 * magic, since nothing says where the next one begins: these end the connection.
 */
#include "nbd_internal.h"

#include <stdlib.h>

#define SKIP_MOST_BYTES (2u * EXPORT_PAYLOAD_BYTES)

static struct nbd_request *request_get(struct nbd_connection *c)
{
	struct nbd_request *r = c->idle;

	if (r != NULL)
		c->idle = r->next;
	else
		r = calloc(1, sizeof(*r));
	if (r == NULL)
		return NULL;
	r->connection = c;
	r->loan.n_pieces = 0;
	r->charged_bytes = 0;
	r->n_iov = 0;
	r->heads_used = 0;
	return r;
}

static void decode(struct nbd_request *r, const uint8_t *head)
{
	r->flags = nbd_get16(head + 4);
	r->type = nbd_get16(head + 6);
	r->cookie = nbd_get64(head + 8);
	r->offset = nbd_get64(head + 16);
	r->n_bytes = nbd_get32(head + 24);
}

/* Into its data, or nowhere. */
static bool take_payload(struct nbd_connection *c, struct nbd_request *r, void *into)
{
	c->in_payload = true;
	bool whole = nbd_input_take(c, into, r->n_bytes);
	c->in_payload = false;
	return whole;
}

/* True: it was dealt with, and the next may come. */
static bool start(struct nbd_connection *c, struct nbd_request *r)
{
	const char *why = "out of memory";
	uint32_t error = nbd_request_check(c, r, &why);
	uint64_t n_bytes = error == 0 ? nbd_request_bytes(c, r) : 0;

	if (!nbd_budget_take(c, n_bytes)) {
		r->next = c->idle;
		c->idle = r;
		return false;
	}
	r->charged_bytes = n_bytes;
	bool whole = true;
	if (r->type == NBD_CMD_WRITE) {
		if (error == 0 && nbd_request_reserve(r, r->n_bytes) < 0)
			error = NBD_ENOMEM;
		whole = r->n_bytes <= SKIP_MOST_BYTES && take_payload(c, r, error == 0 ? r->data : NULL);
	}
	if (error == 0 && (!whole || quire_co_spawn(c->server->loop, nbd_request_run, r) < 0))
		error = NBD_ENOMEM;
	if (error != 0)
		nbd_reply_error(r, error, why);
	return whole;
}

void nbd_transmit(struct nbd_connection *c)
{
	for (bool more = true; more && !c->broken && !c->server->ending;) {
		if (!nbd_input_have(c, NBD_REQUEST_BYTES))
			return;
		const uint8_t *head = c->input + c->input_at;
		struct nbd_request *r = nbd_get32(head) == NBD_REQUEST_MAGIC ? request_get(c) : NULL;
		if (r == NULL)
			return;
		decode(r, head);
		c->input_at += NBD_REQUEST_BYTES;
		if (r->type == NBD_CMD_DISC) {
			r->next = c->idle;
			c->idle = r;
			return;
		}
		more = start(c, r);
	}
}
