/* nbd_tls.c - see nbd_tls.h.
 *
 * TLS 1.2 and 1.3 only; with keys, only exchanges that keep what was said secret even if the key becomes known later.
 */
#include "nbd_tls.h"
#include "nbd_tls_lib.h"

#include "../base/fail.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PRIORITY_VERSIONS "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define PRIORITY_PSK PRIORITY_VERSIONS ":-KX-ALL:+ECDHE-PSK:+DHE-PSK"

struct nbd_tls {
	const struct nbd_tls_lib *lib;                   /* borrowed: for ever */
	gnutls_priority_t priority;                      /* owned */
	gnutls_certificate_credentials_t certificates;   /* owned; NULL */
	gnutls_psk_server_credentials_t psk;             /* owned; NULL */
	bool verify_clients;
};

struct nbd_tls_session {
	const struct nbd_tls_lib *lib;
	gnutls_session_t session; /* owned */
	bool open;                /* the handshake is over */
};

/* That a file is missing, or may not be read, is better said by its name. */
static int need(const char *path, struct quire_error *err)
{
	return access(path, R_OK) < 0 ? quire_fail(err, -errno, "%s", path) : 0;
}

static int unfit(const struct nbd_tls *tls, const char *path, int code, struct quire_error *err)
{
	return quire_fail(err, code == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EINVAL, "%s: %s", path, tls->lib->strerror(code));
}

static int load_certificates(struct nbd_tls *tls, const char *directory, struct quire_error *err)
{
	char *cert = NULL, *key = NULL, *ca = NULL;
	int rc = -ENOMEM;

	if (asprintf(&cert, "%s/server-cert.pem", directory) < 0 || asprintf(&key, "%s/server-key.pem", directory) < 0 ||
	    asprintf(&ca, "%s/ca-cert.pem", directory) < 0 || tls->lib->certificate_allocate_credentials(&tls->certificates) < 0) {
		rc = quire_fail(err, rc, "%s", directory);
		goto out;
	}
	rc = need(cert, err);
	if (rc == 0)
		rc = need(key, err);
	if (rc == 0 && tls->verify_clients)
		rc = need(ca, err);
	if (rc < 0)
		goto out;
	int code = tls->lib->certificate_set_x509_key_file(tls->certificates, cert, key, GNUTLS_X509_FMT_PEM);
	if (code < 0)
		rc = unfit(tls, cert, code, err);
	if (rc == 0 && tls->verify_clients) {
		code = tls->lib->certificate_set_x509_trust_file(tls->certificates, ca, GNUTLS_X509_FMT_PEM);
		if (code <= 0) /* how many it has */
			rc = unfit(tls, ca, code < 0 ? code : GNUTLS_E_NO_CERTIFICATE_FOUND, err);
	}
out:
	free(cert);
	free(key);
	free(ca);
	return rc;
}

static int load_psk(struct nbd_tls *tls, const char *path, struct quire_error *err)
{
	int rc = need(path, err);

	if (rc < 0)
		return rc;
	int code = tls->lib->psk_allocate_server_credentials(&tls->psk);
	if (code >= 0)
		code = tls->lib->psk_set_server_credentials_file(tls->psk, path);
	return code < 0 ? unfit(tls, path, code, err) : 0;
}

int nbd_tls_create(const char *certificates, const char *psk, bool verify_clients, struct nbd_tls **ret_tls,
                   struct quire_error *err)
{
	struct nbd_tls *tls = calloc(1, sizeof(*tls));

	if (tls == NULL)
		return quire_fail(err, -ENOMEM, "TLS");
	tls->verify_clients = verify_clients;
	int rc = nbd_tls_lib_get(&tls->lib, err);
	if (rc == 0 && tls->lib->priority_init(&tls->priority, psk != NULL ? PRIORITY_PSK : PRIORITY_VERSIONS, NULL) < 0)
		rc = quire_fail(err, -ENOTSUP, "TLS: GnuTLS allows neither 1.2 nor 1.3");
	if (rc == 0)
		rc = psk != NULL ? load_psk(tls, psk, err) : load_certificates(tls, certificates, err);
	if (rc < 0) {
		nbd_tls_destroy(tls);
		return rc;
	}
	*ret_tls = tls;
	return 0;
}

void nbd_tls_destroy(struct nbd_tls *tls)
{
	if (tls == NULL)
		return;
	if (tls->certificates != NULL)
		tls->lib->certificate_free_credentials(tls->certificates);
	if (tls->psk != NULL)
		tls->lib->psk_free_server_credentials(tls->psk);
	if (tls->priority != NULL)
		tls->lib->priority_deinit(tls->priority);
	free(tls);
}

/* ---- sessions ---- */

int nbd_tls_session_create(struct nbd_tls *tls, int fd, struct nbd_tls_session **ret_session)
{
	struct nbd_tls_session *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return -ENOMEM;
	s->lib = tls->lib;
	int code = s->lib->init(&s->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
	if (code < 0) {
		free(s);
		return -ENOMEM;
	}
	code = s->lib->priority_set(s->session, tls->priority);
	if (code >= 0 && tls->psk != NULL)
		code = s->lib->credentials_set(s->session, GNUTLS_CRD_PSK, tls->psk);
	if (code >= 0 && tls->certificates != NULL)
		code = s->lib->credentials_set(s->session, GNUTLS_CRD_CERTIFICATE, tls->certificates);
	if (code < 0) {
		nbd_tls_session_destroy(s);
		return -ENOMEM;
	}
	if (tls->verify_clients) {
		s->lib->certificate_server_set_request(s->session, GNUTLS_CERT_REQUIRE);
		s->lib->session_set_verify_cert(s->session, NULL, 0);
	}
	s->lib->transport_set_int2(s->session, fd, fd);
	*ret_session = s;
	return 0;
}

void nbd_tls_session_destroy(struct nbd_tls_session *s)
{
	if (s == NULL)
		return;
	if (s->open)
		(void)s->lib->bye(s->session, GNUTLS_SHUT_WR);
	s->lib->deinit(s->session);
	free(s);
}

/* What is not fatal (a warning of the peer, a new key) is over by calling again. */
static int64_t outcome(struct nbd_tls_session *s, int64_t code, unsigned *ret_events)
{
	if (code >= 0)
		return code;
	if (code == GNUTLS_E_PREMATURE_TERMINATION)
		return 0;
	if (s->lib->error_is_fatal((int)code)) {
		s->open = false;
		return -EPROTO;
	}
	*ret_events = code == GNUTLS_E_AGAIN ? (s->lib->record_get_direction(s->session) ? POLLOUT : POLLIN) : 0;
	return -EAGAIN;
}

int nbd_tls_handshake(struct nbd_tls_session *s, unsigned *ret_events)
{
	int rc = (int)outcome(s, s->lib->handshake(s->session), ret_events);

	s->open = rc == 0;
	return rc;
}

int64_t nbd_tls_receive(struct nbd_tls_session *s, void *buf, size_t n_bytes, unsigned *ret_events)
{
	return outcome(s, s->lib->record_recv(s->session, buf, n_bytes), ret_events);
}

int64_t nbd_tls_send(struct nbd_tls_session *s, const void *buf, size_t n_bytes, unsigned *ret_events)
{
	return outcome(s, s->lib->record_send(s->session, buf, n_bytes), ret_events);
}
