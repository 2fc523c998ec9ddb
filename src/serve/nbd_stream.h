/* nbd_stream.h - the two directions of a connection, plain or under TLS. One coroutine receives and one sends; both are suspended
 * while the peer lets them wait. */
#ifndef SERVE_NBD_STREAM_H
#define SERVE_NBD_STREAM_H

#include "nbd_tls.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct nbd_stream {
	int fd;                          /* owned: a socket, non-blocking */
	struct nbd_tls_session *tls;     /* owned; NULL: plain */
	uint64_t receiving_ns;           /* since then the receiver waits for bytes, 0: not */
	uint64_t sending_ns;             /* since then the sender waits for room */
	bool drained;                    /* the socket had no more, when it was asked last */
	uint64_t received, sent;         /* bytes, since others had their turn */
	uint8_t *record;                 /* owned; under TLS: small pieces gathered */
};

/* Between 1 and n_bytes bytes; 0: the peer ends. A negative errno. */
int64_t nbd_stream_receive(struct nbd_stream *s, void *buf, size_t n_bytes);

/* All of it; iov is used up. */
int nbd_stream_send(struct nbd_stream *s, struct iovec *iov, unsigned n);

/* From here on all is encrypted. The handshake is the server's part of it. */
int nbd_stream_start_tls(struct nbd_stream *s, struct nbd_tls *tls);

/* Whoever receives or sends gets an end or an error, soon. The second lets what was answered still be sent. */
void nbd_stream_cut(struct nbd_stream *s);
void nbd_stream_end_input(struct nbd_stream *s);

void nbd_stream_fini(struct nbd_stream *s); /* nobody is in it */

#endif
