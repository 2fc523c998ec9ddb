/* nbd_connection.c - the life of one connection.
 *
 *   handshake → transmission → draining → gone
 *
 * One coroutine, the reader, lives as long as the connection. In the handshake it also sends. For the transmission it starts a second
 * one, the sender, and one for each request. When the client ends, misbehaves or goes away, or the server ends, the reader takes
 * nothing more, waits until all requests are carried out and answered, ends the sender, and frees everything.
 *
 * Who lets us wait: the handshake has a deadline, and so has a client that does not take its last replies. In between a
 * client may be silent as long as it likes; what it holds of the memory for all, nbd_budget.c looks after.
 *
 * Invariants:
 *   1. Only the reader receives; only the reader (handshake) or only the sender (transmission) sends.
 *   2. A request is in exactly one place: carried out by its coroutine, in `ready`, with the sender, or in `idle`;
 *      n_requests counts the first three.
 *   3. c->reader and c->sender are set exactly while those are suspended to be woken by others; polls wake by themselves.
 *   4. No memory of a connection is touched after its reader has ended; the other coroutines end before.
 *
 * What fails: every error of the socket ends the connection. Errors of an export are replies.
 */
#include "nbd_internal.h"

#include "../base/assert.h"
#include <stdlib.h>

/* ---- input ---- */

bool nbd_input_have(struct nbd_connection *c, uint32_t n_bytes)
{
	while (c->input_end - c->input_at < n_bytes) {
		if (c->input_at == c->input_end) {
			c->input_at = c->input_end = 0;
		} else if (NBD_INPUT_BYTES - c->input_at < n_bytes) {
			memmove(c->input, c->input + c->input_at, c->input_end - c->input_at);
			c->input_end -= c->input_at;
			c->input_at = 0;
		}
		int64_t n = nbd_stream_receive(&c->stream, c->input + c->input_end, NBD_INPUT_BYTES - c->input_end);
		if (n <= 0)
			return false;
		c->input_end += (uint32_t)n;
	}
	return true;
}

/* What lies in the input already; true if that was all. */
static uint64_t take_ready(struct nbd_connection *c, void *buf, uint64_t n_bytes)
{
	uint64_t n = c->input_end - c->input_at;

	if (n > n_bytes)
		n = n_bytes;
	if (buf != NULL)
		memcpy(buf, c->input + c->input_at, n);
	c->input_at += (uint32_t)n;
	return n;
}

bool nbd_input_take(struct nbd_connection *c, void *buf, uint64_t n_bytes)
{
	uint64_t done = take_ready(c, buf, n_bytes);

	while (done < n_bytes) {
		uint64_t left = n_bytes - done;
		/* Little goes by way of the input, since more comes with it. */
		if (buf == NULL || left < NBD_INPUT_BYTES / 2) {
			if (!nbd_input_have(c, 1))
				return false;
			done += take_ready(c, buf != NULL ? (uint8_t *)buf + done : NULL, left);
			continue;
		}
		int64_t n = nbd_stream_receive(&c->stream, (uint8_t *)buf + done, left);
		if (n <= 0)
			return false;
		done += (uint64_t)n;
	}
	return true;
}

/* ---- life ---- */

static void set_deadline(struct nbd_connection *c, unsigned ms);

static void too_late(struct loop_timer *timer)
{
	struct nbd_connection *c =
		(struct nbd_connection *)(void *)((char *)timer - offsetof(struct nbd_connection, deadline));

	/* What takes its time to be carried out is waited for. */
	if (c->export != NULL && c->stream.sending_ns == 0)
		set_deadline(c, c->server->limits.stall_ms);
	else
		nbd_stream_cut(&c->stream);
}

static void set_deadline(struct nbd_connection *c, unsigned ms)
{
	loop_timer_disarm(c->server->loop, &c->deadline);
	if (ms != 0 && loop_timer_arm(c->server->loop, &c->deadline, loop_now_ns() + ms * UINT64_C(1000000)) < 0)
		nbd_stream_cut(&c->stream);
}

static void suspend_reader(struct nbd_connection *c)
{
	c->reader = coro_self();
	coro_suspend();
}

static void transmit(struct nbd_connection *c)
{
	c->ready_last = &c->ready;
	if (quire_co_spawn(c->server->loop, nbd_sender_run, c) < 0)
		return;
	c->sender_runs = true;
	nbd_transmit(c);
	set_deadline(c, c->server->limits.stall_ms);
	while (c->n_requests > 0)
		suspend_reader(c);
	c->sender_ends = true;
	struct coro *sender = c->sender;
	c->sender = NULL;
	if (sender != NULL)
		coro_wake(sender);
	while (c->sender_runs)
		suspend_reader(c);
}

void nbd_connection_destroy(struct nbd_connection *c)
{
	quire_assert(c->n_requests == 0 && c->n_bytes == 0 && !c->hungry);
	while (c->idle != NULL) {
		struct nbd_request *r = c->idle;
		c->idle = r->next;
		free(r->data);
		free(r);
	}
	nbd_contexts_forget(c);
	nbd_export_put(c->server, c->export);
	*c->at = c->next;
	if (c->next != NULL)
		c->next->at = c->at;
	if (--c->server->n_connections == 0)
		nbd_memory_drop(c->server);
	nbd_stream_fini(&c->stream);
	free(c->input);
	free(c);
}

static void run(void *connection)
{
	struct nbd_connection *c = connection;
	struct quire_nbd *nbd = c->server;

	set_deadline(c, nbd->limits.handshake_ms);
	if (nbd_handshake(c)) {
		set_deadline(c, 0);
		transmit(c);
	}
	set_deadline(c, 0);
	nbd_connection_destroy(c);
	nbd_listeners_wake(nbd);
	if (nbd->ending && nbd->n_connections == 0)
		loop_timer_disarm(nbd->loop, &nbd->grace);
}

struct nbd_connection *nbd_connection_create(struct quire_nbd *nbd, int fd)
{
	struct nbd_connection *c = calloc(1, sizeof(*c));
	uint8_t *input = malloc(NBD_INPUT_BYTES);

	if (c == NULL || input == NULL) {
		struct nbd_stream stream = {.fd = fd};
		nbd_stream_fini(&stream);
		free(c);
		free(input);
		return NULL;
	}
	c->server = nbd;
	c->stream.fd = fd;
	c->input = input;
	c->deadline.run = too_late;
	c->next = nbd->connections;
	c->at = &nbd->connections;
	if (c->next != NULL)
		c->next->at = &c->next;
	nbd->connections = c;
	nbd->n_connections++;
	return c;
}

int nbd_connection_start(struct nbd_connection *c)
{
	int rc = quire_co_spawn(c->server->loop, run, c);

	if (rc < 0)
		nbd_connection_destroy(c);
	return rc;
}
