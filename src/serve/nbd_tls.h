/* nbd_tls.h - TLS of connections, by certificates or by keys that both sides know; no call here waits.
 *
 * Calls of a session are its loop's. -EAGAIN: to be called again, with the same arguments, when the descriptor is ready for
 * *ret_events of poll(2). Any other error is the session's end.
 */
#ifndef SERVE_NBD_TLS_H
#define SERVE_NBD_TLS_H

#include <quire/error.h>
#include <stdbool.h>

struct nbd_tls;
struct nbd_tls_session;

/* From a directory with server-cert.pem and server-key.pem, and ca-cert.pem if clients are to show certificates; or from a
 * file of keys, as psktool makes it. Exactly one of them is not NULL. -ENOTSUP: no GnuTLS; -EINVAL: what they hold is not fit;
 * -ENOENT and the like. */
int nbd_tls_create(const char *certificates, const char *psk, bool verify_clients, struct nbd_tls **ret_tls,
                   struct quire_error *err);
void nbd_tls_destroy(struct nbd_tls *tls); /* after its sessions; NULL allowed */

/* fd: non-blocking, borrowed until the session's end. -ENOMEM. */
int nbd_tls_session_create(struct nbd_tls *tls, int fd, struct nbd_tls_session **ret_session);
/* Says goodbye if that can be sent at once. NULL allowed. */
void nbd_tls_session_destroy(struct nbd_tls_session *session);

int nbd_tls_handshake(struct nbd_tls_session *session, unsigned *ret_events);
int64_t nbd_tls_receive(struct nbd_tls_session *session, void *buf, size_t n_bytes, unsigned *ret_events); /* 0: the end */
int64_t nbd_tls_send(struct nbd_tls_session *session, const void *buf, size_t n_bytes, unsigned *ret_events);

#endif
