/* nbd_tls_lib.h - GnuTLS, loaded when it is first needed. For nbd_tls.c alone.
 *
 * Not linked: it brings nine more libraries, which a program that encrypts nothing should not have to load at each start. */
#ifndef SERVE_NBD_TLS_LIB_H
#define SERVE_NBD_TLS_LIB_H

#include <quire/error.h>

#include <gnutls/gnutls.h>

/* What is taken of it, by the library's own names. */
#define NBD_TLS_LIB_FUNCTIONS(X)                                                                                       \
	X(init)                                                                                                        \
	X(deinit)                                                                                                      \
	X(bye)                                                                                                         \
	X(handshake)                                                                                                   \
	X(record_recv)                                                                                                 \
	X(record_send)                                                                                                 \
	X(record_get_direction)                                                                                        \
	X(error_is_fatal)                                                                                              \
	X(strerror)                                                                                                    \
	X(transport_set_int2)                                                                                          \
	X(priority_init)                                                                                               \
	X(priority_deinit)                                                                                             \
	X(priority_set)                                                                                                \
	X(credentials_set)                                                                                             \
	X(session_set_verify_cert)                                                                                     \
	X(certificate_allocate_credentials)                                                                            \
	X(certificate_free_credentials)                                                                                \
	X(certificate_set_x509_key_file)                                                                               \
	X(certificate_set_x509_trust_file)                                                                             \
	X(certificate_server_set_request)                                                                              \
	X(psk_allocate_server_credentials)                                                                             \
	X(psk_free_server_credentials)                                                                                 \
	X(psk_set_server_credentials_file)

struct nbd_tls_lib {
#define X(name) __typeof__(&gnutls_##name) name;
	NBD_TLS_LIB_FUNCTIONS(X)
#undef X
};

/* Any thread; blocks the first time. -ENOTSUP: it is not installed, or the program is linked statically. Never unloaded. */
int nbd_tls_lib_get(const struct nbd_tls_lib **ret, struct quire_error *err);

#endif
