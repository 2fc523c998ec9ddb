/* nbd_internal.h - the NBD server from the inside; the essays are in nbd_server.c and nbd_connection.c. For src/serve alone.
 *
 * Everything here belongs to the server's loop and has no lock, but for the exports, and what nbd_server.c says of stopping.
 */
#ifndef SERVE_NBD_INTERNAL_H
#define SERVE_NBD_INTERNAL_H

#include "../loop/coro.h"
#include "../loop/loop.h"
#include "export.h"
#include "nbd_proto.h"
#include "nbd_stream.h"

#include <pthread.h>
#include <quire/nbd.h>
#include <stdatomic.h>

#define NBD_INPUT_BYTES (64u << 10)
#define NBD_CONTEXTS 16u          /* that a client may have selected */
#define NBD_STATUS_EXTENTS 4096u  /* of one context in one reply */
#define NBD_OWN_BYTES (1u << 20)  /* in flight, that a connection always has */
#define NBD_IOVECS (2 * EXPORT_PIECES + 2)
#define NBD_KEPT_BYTES (8u << 10) /* of memory, that a request keeps for the next */
#define NBD_BUFFER_SIZES 12u      /* larger ones: twice as much each, up to EXPORT_PAYLOAD_BYTES */
#define NBD_HEAD_BYTES 32u        /* of a reply, or of a chunk of it with what stands before its data */

struct nbd_connection;

struct nbd_context {
	enum export_context kind;
	uint64_t generation;
};

/* ---- one request, until its reply was sent ---- */

struct nbd_request {
	struct nbd_request *next;
	struct nbd_connection *connection;
	uint64_t cookie, offset;
	uint32_t n_bytes;
	uint16_t flags, type;
	void *data;              /* owned: the payload, or what was read */
	uint64_t data_bytes;     /* that it has room for */
	struct export_loan loan; /* held if it has pieces */
	uint64_t charged_bytes;
	/* The reply; its parts lie here, in data, or in the loan. */
	unsigned n_iov;
	struct iovec iov[NBD_IOVECS];
	uint8_t heads[(EXPORT_PIECES + 1) * NBD_HEAD_BYTES];
	uint32_t heads_used;
};

/* ---- connections ---- */

struct nbd_connection {
	struct nbd_connection *next, **at; /* in the server's list */
	struct quire_nbd *server;          /* borrowed: outlives it */
	struct nbd_stream stream;
	struct loop_timer deadline;        /* of the handshake */

	uint8_t *input;                    /* owned: NBD_INPUT_BYTES */
	uint32_t input_at, input_end;      /* what of it is not yet taken */

	/* What was agreed upon. */
	bool fixed, no_zeroes, structured;
	struct export *export;             /* in use; NULL during the handshake */
	struct export_description about;   /* as it was told */
	struct export *context_export;     /* in use: that the contexts are of; NULL */
	struct nbd_context contexts[NBD_CONTEXTS];
	unsigned n_contexts;

	/* In flight. */
	unsigned n_requests;
	uint64_t n_bytes;                  /* of all requests */
	struct nbd_request *idle;          /* owned: for the next ones */
	struct coro *reader;               /* suspended until a request ends, or memory is free; NULL: not */
	struct nbd_connection *next_hungry;
	bool hungry;                       /* in the budget's queue */
	bool in_payload;                   /* of a request that is charged already */

	/* Replies that are ready, oldest first. */
	struct nbd_request *ready, **ready_last;
	struct coro *sender;               /* suspended until there is one; NULL: not */
	bool sender_runs, sender_ends;
	bool broken;                       /* nothing can be sent any more */
};

struct nbd_budget {
	uint64_t free_bytes;               /* beyond what each connection has anyway */
	struct nbd_connection *hungry, **hungry_last; /* who waits for it, first come first */
	struct loop_timer stall;
	bool watching;
};

struct nbd_memory {
	struct nbd_buffer *kept[NBD_BUFFER_SIZES]; /* owned */
	uint64_t kept_bytes;
};

struct nbd_listener;

struct quire_nbd {
	struct quire_loop *loop;           /* owned */
	struct quire_nbd_options limits;   /* with defaults filled in */
	struct nbd_tls *tls;               /* owned; NULL: none, else nobody goes without */
	pthread_mutex_t exports_lock;      /* guards these two */
	struct export **exports;           /* owned */
	unsigned n_exports;
	struct nbd_listener *listeners;    /* owned */
	struct nbd_connection *connections; /* owned */
	unsigned n_connections;
	struct nbd_budget budget;
	struct nbd_memory memory;
	struct loop_timer grace;
	atomic_bool stop_asked;
	bool ending;
};

/* ---- nbd_exports.c ---- */

/* Any thread. Takes the export, also if it fails. -EINVAL: not a name; -EEXIST, -ENOMEM. */
int nbd_export_add(struct quire_nbd *nbd, const char *name, struct export *e, struct quire_error *err);
/* By name, of n bytes, which need not be a good one. "" is the only export, where there is one. NULL: there is none. */
struct export *nbd_export_get(struct quire_nbd *nbd, const uint8_t *name, size_t n_bytes);
void nbd_export_put(struct quire_nbd *nbd, struct export *e); /* NULL allowed */
/* The i-th one's, into NBD_STRING_BYTES. False: there are not so many. */
bool nbd_export_name(struct quire_nbd *nbd, unsigned i, uint8_t *ret, size_t *ret_bytes);
/* UTF-8 without zero bytes, and not too long. */
bool nbd_is_string(const uint8_t *bytes, size_t n_bytes);
int nbd_exports_fini(struct quire_nbd *nbd); /* the first error of closing them */

/* ---- nbd_connection.c ---- */

/* Takes the descriptor, also if it fails. NULL: no memory. */
struct nbd_connection *nbd_connection_create(struct quire_nbd *nbd, int fd);
/* From the loop's thread, or before its first turn. It destroys itself at its end, or if this fails. -ENOMEM. */
int nbd_connection_start(struct nbd_connection *c);
void nbd_connection_destroy(struct nbd_connection *c); /* one that was not started */

/* True once n bytes, up to NBD_INPUT_BYTES, lie at input + input_at. False: there will not be so many. */
bool nbd_input_have(struct nbd_connection *c, uint32_t n_bytes);
/* The same, but taken out, any number. NULL: thrown away. */
bool nbd_input_take(struct nbd_connection *c, void *buf, uint64_t n_bytes);

/* ---- nbd_handshake.c ---- */

/* Up to the transmission phase: true. False: the connection is to be closed. */
bool nbd_handshake(struct nbd_connection *c);
/* One message of it. */
bool nbd_option_reply(struct nbd_connection *c, uint32_t option, uint32_t type, const void *data, size_t n_bytes);

/* ---- nbd_context.c ---- */

/* NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT, all of the reply. */
bool nbd_contexts(struct nbd_connection *c, uint32_t option, const uint8_t *data, uint32_t n_bytes);
void nbd_contexts_forget(struct nbd_connection *c);

/* ---- nbd_transmit.c ---- */

/* Takes requests until the client ends, does what is not allowed, or the server ends. */
void nbd_transmit(struct nbd_connection *c);

/* ---- nbd_request.c ---- */

/* Of what is in the head of a request: 0, or NBD's error, *ret_why then in words. */
uint32_t nbd_request_check(const struct nbd_connection *c, const struct nbd_request *r, const char **ret_why);
/* What it is charged. */
uint64_t nbd_request_bytes(const struct nbd_connection *c, const struct nbd_request *r);
/* A coroutine: carries it out and has its reply sent. */
void nbd_request_run(void *request);
/* BLOCK_STATUS: as nbd_request_run, in nbd_status.c. */
void nbd_status_run(struct nbd_request *r);

/* ---- nbd_reply.c ---- */

/* Each of them hands the request over to the sender. */
void nbd_reply_error(struct nbd_request *r, uint32_t error, const char *why);
void nbd_reply_done(struct nbd_request *r);
void nbd_reply_loan(struct nbd_request *r); /* what its loan has */
void nbd_reply_read(struct nbd_request *r); /* n_bytes in its data */
void nbd_reply_made(struct nbd_request *r, uint64_t n_bytes); /* chunks that lie in its data, the last one DONE */
/* A chunk's head into at, NBD_CHUNK_BYTES; returns what follows. */
uint8_t *nbd_chunk_head(uint8_t *at, const struct nbd_request *r, uint16_t flags, uint16_t type, uint32_t n_bytes);

void nbd_sender_run(void *connection); /* a coroutine */

/* ---- nbd_memory.c ---- */

/* Its data gets room for so many bytes, up to EXPORT_PAYLOAD_BYTES, aligned as direct I/O wants it, and not what was there; or loses
 * what is too much for it to keep. -ENOMEM. */
int nbd_request_reserve(struct nbd_request *r, uint64_t n_bytes);
void nbd_request_unreserve(struct nbd_request *r);
/* What is kept for later requests goes. */
void nbd_memory_drop(struct quire_nbd *nbd);

/* ---- nbd_budget.c ---- */

void nbd_budget_init(struct quire_nbd *nbd);
/* Suspends until one more request, of so many bytes, may be in flight. False: the connection ends. */
bool nbd_budget_take(struct nbd_connection *c, uint64_t n_bytes);
void nbd_budget_give(struct nbd_connection *c, uint64_t n_bytes);
/* The reader goes on, if it waits. */
void nbd_reader_wake(struct nbd_connection *c);

/* ---- nbd_listen.c ---- */

struct nbd_listener {
	struct nbd_listener *next;
	struct quire_nbd *nbd;
	int fd;            /* owned */
	char *path;        /* owned: to be unlinked at the end; NULL */
	struct quire_op poll;
	bool polling;
	struct coro *full; /* suspended until a connection ends; NULL: not */
};

void nbd_listeners_start(struct quire_nbd *nbd); /* before the loop's first turn */
void nbd_listeners_stop(struct quire_nbd *nbd);
void nbd_listeners_wake(struct quire_nbd *nbd);  /* a connection has ended */
void nbd_listeners_fini(struct quire_nbd *nbd);

#endif
