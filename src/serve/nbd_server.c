/* nbd_server.c - the server as its user sees it: set up, run, stopped.
 *
 * Everything runs on one loop: a coroutine at each door (nbd_listen.c), those of each connection (nbd_connection.c), and one a request.
 * No lock but that of nbd_exports.c; quire_nbd_stop interrupts the loop, which then runs once more, to its end. (A task posted to it might come after that.)
 *
 * Ending. No more is accepted, and nothing more is taken from connections; what is under way is carried out and answered. A client
 * that does not take its replies by then is cut off after GRACE_NS. The loop then has nothing left, and quire_nbd_run returns.
 *
 * Without doors (inetd) it ends by itself, with the last connection.
 */
#include "nbd_internal.h"

#include "../base/fail.h"
#include "io_flusher.h"
#include <errno.h>
#include <stdlib.h>

#define GRACE_NS UINT64_C(5000000000)
#define STACK_BYTES (256u << 10) /* GnuTLS's handshake, and whatever an export needs */

#define CONNECTIONS_DEFAULT 64u
#define CONNECTIONS_MOST 65536u
#define REQUESTS_DEFAULT 128u
#define REQUESTS_MOST 4096u
#define CONNECTION_BYTES_DEFAULT (64u << 20)
#define BYTES_DEFAULT (512u << 20)
#define HANDSHAKE_DEFAULT_MS 10000u
#define STALL_DEFAULT_MS 30000u

/* ---- stopping ---- */

static void cut_all(struct loop_timer *timer)
{
	struct quire_nbd *nbd = (struct quire_nbd *)(void *)((char *)timer - offsetof(struct quire_nbd, grace));

	for (struct nbd_connection *c = nbd->connections; c != NULL; c = c->next)
		nbd_stream_cut(&c->stream);
}

/* Between two runs of the loop. */
static void end(struct quire_nbd *nbd)
{
	nbd->ending = true;
	nbd_listeners_stop(nbd);
	for (struct nbd_connection *c = nbd->connections; c != NULL; c = c->next) {
		nbd_stream_end_input(&c->stream);
		nbd_reader_wake(c);
	}
	if (nbd->connections != NULL && loop_timer_arm(nbd->loop, &nbd->grace, loop_now_ns() + GRACE_NS) < 0)
		cut_all(&nbd->grace);
}

void quire_nbd_stop(struct quire_nbd *nbd)
{
	if (!loop_is_of_parent(nbd->loop) && !atomic_exchange(&nbd->stop_asked, true))
		quire_loop_stop(nbd->loop);
}

/* ---- running ---- */

int quire_nbd_run(struct quire_nbd *nbd)
{
	if (loop_is_of_parent(nbd->loop))
		return -ECHILD;

	bool marked = io_flusher_mark();
	int rc = 0;

	nbd_listeners_start(nbd);
	for (struct nbd_connection *c = nbd->connections, *next; c != NULL && rc == 0; c = next) {
		next = c->next;
		rc = nbd_connection_start(c);
	}
	if (rc < 0)
		quire_nbd_stop(nbd);
	int ran = quire_loop_run(nbd->loop);
	if (ran == 0 && atomic_load(&nbd->stop_asked)) {
		end(nbd);
		ran = quire_loop_run(nbd->loop);
	}
	io_flusher_unmark(marked);
	return rc < 0 ? rc : ran;
}

/* ---- life ---- */

static int take_options(struct quire_nbd *nbd, const struct quire_nbd_options *opts, struct quire_error *err)
{
	struct quire_nbd_options *o = &nbd->limits;

	if (opts != NULL && opts->size != sizeof(*opts))
		return quire_fail(err, -EINVAL, "options of %zu bytes", opts->size);
	if (opts != NULL)
		*o = *opts;
	o->connections = o->connections != 0 ? o->connections : CONNECTIONS_DEFAULT;
	o->requests = o->requests != 0 ? o->requests : REQUESTS_DEFAULT;
	o->connection_bytes = o->connection_bytes != 0 ? o->connection_bytes : CONNECTION_BYTES_DEFAULT;
	o->bytes = o->bytes != 0 ? o->bytes : BYTES_DEFAULT;
	o->handshake_ms = o->handshake_ms != 0 ? o->handshake_ms : HANDSHAKE_DEFAULT_MS;
	o->stall_ms = o->stall_ms != 0 ? o->stall_ms : STALL_DEFAULT_MS;
	if (o->connections > CONNECTIONS_MOST || o->requests > REQUESTS_MOST)
		return quire_fail(err, -EINVAL, "%u connections of %u requests", o->connections, o->requests);
	if (o->connection_bytes < EXPORT_PAYLOAD_BYTES || o->bytes < EXPORT_PAYLOAD_BYTES)
		return quire_fail(err, -EINVAL, "less than 32 MiB in flight");
	if (o->tls_certificates != NULL && o->tls_psk != NULL)
		return quire_fail(err, -EINVAL, "TLS by certificates and by keys");
	if (o->tls_verify_clients && o->tls_certificates == NULL)
		return quire_fail(err, -EINVAL, "TLS: clients are verified by certificates");
	if (o->tls_certificates == NULL && o->tls_psk == NULL)
		return 0;
	return nbd_tls_create(o->tls_certificates, o->tls_psk, o->tls_verify_clients, &nbd->tls, err);
}

int quire_nbd_create(const struct quire_nbd_options *opts, struct quire_nbd **ret_nbd, struct quire_error *err)
{
	struct quire_nbd *nbd = calloc(1, sizeof(*nbd));

	if (nbd == NULL)
		return quire_fail(err, -ENOMEM, "NBD");
	pthread_mutex_init(&nbd->exports_lock, NULL);
	int rc = take_options(nbd, opts, err);
	if (rc == 0) {
		const struct quire_loop_options loop = {
			.size = sizeof(loop), .engine = nbd->limits.engine, .stack_bytes = STACK_BYTES};
		rc = quire_loop_create(&loop, &nbd->loop, err);
	}
	if (rc < 0) {
		(void)quire_nbd_destroy(nbd);
		return rc;
	}
	nbd->grace.run = cut_all;
	nbd_budget_init(nbd);
	*ret_nbd = nbd;
	return 0;
}

int quire_nbd_destroy(struct quire_nbd *nbd)
{
	int rc = 0;

	if (nbd == NULL)
		return 0;
	if (nbd->loop != NULL && loop_is_of_parent(nbd->loop))
		return -ECHILD; /* the sockets' names are the parent's, and so is what is under way */
	while (nbd->connections != NULL)
		nbd_connection_destroy(nbd->connections);
	nbd_listeners_fini(nbd);
	if (nbd->loop != NULL)
		rc = quire_loop_destroy(nbd->loop);
	int closed = nbd_exports_fini(nbd);
	rc = rc < 0 ? rc : closed;
	nbd_tls_destroy(nbd->tls);
	pthread_mutex_destroy(&nbd->exports_lock);
	free(nbd);
	return rc;
}
