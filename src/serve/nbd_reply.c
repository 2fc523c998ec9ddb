/* nbd_reply.c - replies: how they are made, and the coroutine of a connection that sends them.
 *
 * A request hands itself over when it is done, with its reply as a vector over its own heads, its data, or what an export has lent.
 * The sender takes all that is ready and sends it by one call, so that under load one system call carries many replies, and no
 * reply waits for another that is not done. After that the request's memory is free again.
 *
 * When sending fails nothing more is sent, the other direction is cut, and what becomes ready is let go.
 */
#include "nbd_internal.h"

#include "../base/assert.h"
#include <stdlib.h>

#define BATCH_IOVECS 512u

/* ---- what it says ---- */

static uint8_t *head_of(struct nbd_request *r)
{
	uint8_t *at = r->heads + r->heads_used;

	quire_assert(r->heads_used + NBD_HEAD_BYTES <= sizeof(r->heads));
	return at;
}

static void add(struct nbd_request *r, const void *bytes, size_t n_bytes)
{
	quire_assert(r->n_iov < NBD_IOVECS);
	/* Only read; an iovec has one kind of pointer for both directions. */
	r->iov[r->n_iov++] = (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = n_bytes};
}

static void add_head(struct nbd_request *r, const uint8_t *end)
{
	size_t n_bytes = (size_t)(end - (r->heads + r->heads_used));

	add(r, r->heads + r->heads_used, n_bytes);
	r->heads_used += (uint32_t)n_bytes;
}

uint8_t *nbd_chunk_head(uint8_t *at, const struct nbd_request *r, uint16_t flags, uint16_t type, uint32_t n_bytes)
{
	at = nbd_put32(at, NBD_CHUNK_MAGIC);
	at = nbd_put16(at, flags);
	at = nbd_put16(at, type);
	at = nbd_put64(at, r->cookie);
	return nbd_put32(at, n_bytes);
}

static void add_simple(struct nbd_request *r, uint32_t error)
{
	uint8_t *at = head_of(r);

	at = nbd_put32(at, NBD_SIMPLE_REPLY_MAGIC);
	at = nbd_put32(at, error);
	add_head(r, nbd_put64(at, r->cookie));
}

static void hand_over(struct nbd_request *r)
{
	struct nbd_connection *c = r->connection;
	struct coro *sender = c->sender;

	r->next = NULL;
	*c->ready_last = r;
	c->ready_last = &r->next;
	c->sender = NULL;
	if (sender != NULL)
		coro_wake(sender);
}

void nbd_reply_error(struct nbd_request *r, uint32_t error, const char *why)
{
	if (!r->connection->structured) {
		add_simple(r, error);
	} else {
		size_t n_bytes = strlen(why);
		uint8_t *at = nbd_chunk_head(head_of(r), r, NBD_CHUNK_DONE, NBD_CHUNK_ERROR, (uint32_t)(6 + n_bytes));
		at = nbd_put32(at, error);
		add_head(r, nbd_put16(at, (uint16_t)n_bytes));
		add(r, why, n_bytes);
	}
	hand_over(r);
}

void nbd_reply_done(struct nbd_request *r)
{
	if (r->connection->structured)
		add_head(r, nbd_chunk_head(head_of(r), r, NBD_CHUNK_DONE, NBD_CHUNK_NONE, 0));
	else
		add_simple(r, 0);
	hand_over(r);
}

void nbd_reply_read(struct nbd_request *r)
{
	if (r->connection->structured) {
		uint8_t *at = nbd_chunk_head(head_of(r), r, NBD_CHUNK_DONE, NBD_CHUNK_OFFSET_DATA, 8 + r->n_bytes);
		add_head(r, nbd_put64(at, r->offset));
	} else {
		add_simple(r, 0);
	}
	add(r, r->data, r->n_bytes);
	hand_over(r);
}

/* Pieces that follow each other are one chunk, holes are chunks of their own. */
static void add_chunks(struct nbd_request *r)
{
	const struct export_loan *loan = &r->loan;
	uint64_t offset = r->offset;

	for (unsigned i = 0; i < loan->n_pieces;) {
		unsigned end = i + 1;
		uint32_t n_bytes = loan->pieces[i].n_bytes;
		bool hole = loan->pieces[i].bytes == NULL;
		while (end < loan->n_pieces && (loan->pieces[end].bytes == NULL) == hole)
			n_bytes += loan->pieces[end++].n_bytes;
		uint16_t flags = end == loan->n_pieces ? NBD_CHUNK_DONE : 0;
		uint8_t *at = nbd_chunk_head(head_of(r), r, flags, hole ? NBD_CHUNK_OFFSET_HOLE : NBD_CHUNK_OFFSET_DATA,
		                             hole ? 12 : 8 + n_bytes);
		at = nbd_put64(at, offset);
		add_head(r, hole ? nbd_put32(at, n_bytes) : at);
		for (; i < end; i++)
			if (!hole)
				add(r, loan->pieces[i].bytes, loan->pieces[i].n_bytes);
		offset += n_bytes;
	}
}

void nbd_reply_loan(struct nbd_request *r)
{
	if (r->connection->structured) {
		add_chunks(r);
	} else {
		add_simple(r, 0);
		for (unsigned i = 0; i < r->loan.n_pieces; i++)
			add(r, r->loan.pieces[i].bytes, r->loan.pieces[i].n_bytes);
	}
	hand_over(r);
}

void nbd_reply_made(struct nbd_request *r, uint64_t n_bytes)
{
	add(r, r->data, n_bytes);
	hand_over(r);
}

/* ---- sending ---- */

/* The request is the connection's again, for the next. */
static void let_go(struct nbd_connection *c, struct nbd_request *r)
{
	if (r->loan.n_pieces > 0)
		c->export->ops->give_back(c->export, &r->loan);
	nbd_request_unreserve(r);
	r->next = c->idle;
	c->idle = r;
	c->n_requests--;
	nbd_budget_give(c, r->charged_bytes);
}

/* Those at the head of the list whose vectors fit together; the list is cut behind them. */
static unsigned gather(struct nbd_connection *c, struct iovec *iov)
{
	struct nbd_request **at = &c->ready;
	unsigned n = 0;

	while (*at != NULL && n + (*at)->n_iov <= BATCH_IOVECS) {
		memcpy(iov + n, (*at)->iov, (*at)->n_iov * sizeof(*iov));
		n += (*at)->n_iov;
		at = &(*at)->next;
	}
	struct nbd_request *rest = *at;
	*at = NULL;
	if (rest == NULL)
		c->ready_last = &c->ready;
	c->ready = rest;
	return n;
}

void nbd_sender_run(void *connection)
{
	struct nbd_connection *c = connection;
	struct iovec *iov = malloc(BATCH_IOVECS * sizeof(*iov));

	if (iov == NULL) {
		c->broken = true;
		nbd_stream_cut(&c->stream);
	}
	for (;;) {
		struct nbd_request *r = c->ready;
		if (r == NULL) {
			if (c->sender_ends)
				break;
			c->sender = coro_self();
			coro_suspend();
			continue;
		}
		if (c->broken) {
			c->ready = NULL;
			c->ready_last = &c->ready;
		} else {
			unsigned n = gather(c, iov);
			if (nbd_stream_send(&c->stream, iov, n) < 0) {
				c->broken = true;
				nbd_stream_cut(&c->stream);
			}
		}
		while (r != NULL) {
			struct nbd_request *next = r->next;
			let_go(c, r);
			r = next;
		}
	}
	free(iov);
	c->sender_runs = false;
	nbd_reader_wake(c);
}
