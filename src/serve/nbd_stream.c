/* nbd_stream.c - see nbd_stream.h. */
#include "nbd_stream.h"

#include "../loop/loop.h"
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECORD_BYTES (16u << 10) /* the most that TLS puts into one */
#define TURN_BYTES (1u << 20)    /* after so many, others have theirs, however fast the peer is */

/* Until the descriptor is ready; `since` tells others that, and from when on, somebody waits here. */
static int wait_until(struct nbd_stream *s, unsigned events, uint64_t *since)
{
	*since = loop_now_ns();
	int64_t rc = quire_poll_fd(s->fd, events, NULL);
	*since = 0;
	return rc < 0 ? (int)rc : 0;
}

static int64_t count(uint64_t *counted, int64_t n)
{
	if (n > 0 && (*counted += (uint64_t)n) >= TURN_BYTES) {
		*counted = 0;
		(void)quire_co_yield();
	}
	return n;
}

/* Where less came than was asked for there is nothing more by then: that is waited for, not asked once more. */
static int64_t receive_plain(struct nbd_stream *s, void *buf, size_t n_bytes, unsigned *ret_events)
{
	*ret_events = POLLIN;
	if (s->drained) {
		s->drained = false;
		return -EAGAIN;
	}
	ssize_t n = recv(s->fd, buf, n_bytes, MSG_DONTWAIT);
	s->drained = n > 0 && (size_t)n < n_bytes;
	return n < 0 ? -errno : n;
}

int64_t nbd_stream_receive(struct nbd_stream *s, void *buf, size_t n_bytes)
{
	for (;;) {
		unsigned events = 0;
		int64_t n = s->tls != NULL ? nbd_tls_receive(s->tls, buf, n_bytes, &events)
		                           : receive_plain(s, buf, n_bytes, &events);
		if (n == -EINTR || (n == -EAGAIN && events == 0))
			continue;
		if (n != -EAGAIN)
			return count(&s->received, n);
		int rc = wait_until(s, events, &s->receiving_ns);
		if (rc < 0)
			return rc;
	}
}

/* ---- sending ---- */

static unsigned skip(struct iovec **iov, unsigned n, size_t n_bytes)
{
	while (n > 0 && n_bytes >= (*iov)->iov_len) {
		n_bytes -= (*iov)->iov_len;
		(*iov)++;
		n--;
	}
	if (n > 0) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + n_bytes;
		(*iov)->iov_len -= n_bytes;
	}
	return n;
}

static int send_plain(struct nbd_stream *s, struct iovec *iov, unsigned n)
{
	n = skip(&iov, n, 0);
	while (n > 0) {
		struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n < IOV_MAX ? n : IOV_MAX};
		ssize_t sent = sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent >= 0) {
			n = skip(&iov, n, (size_t)count(&s->sent, sent));
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		int rc = wait_until(s, POLLOUT, &s->sending_ns);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int send_encrypted(struct nbd_stream *s, const uint8_t *bytes, size_t n_bytes)
{
	while (n_bytes > 0) {
		unsigned events = 0;
		int64_t n = nbd_tls_send(s->tls, bytes, n_bytes, &events);
		if (n >= 0) {
			bytes += n;
			n_bytes -= (size_t)count(&s->sent, n);
			continue;
		}
		int rc = n != -EAGAIN ? (int)n : events == 0 ? 0 : wait_until(s, events, &s->sending_ns);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* What is small is gathered into one record; what is large goes from where it lies. */
static int send_records(struct nbd_stream *s, const struct iovec *iov, unsigned n)
{
	size_t gathered = 0;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < n; i++) {
		const uint8_t *bytes = iov[i].iov_base;
		size_t left = iov[i].iov_len;
		while (rc == 0 && left > 0) {
			size_t len = left < RECORD_BYTES - gathered ? left : RECORD_BYTES - gathered;
			if (gathered == 0 && left >= RECORD_BYTES) {
				rc = send_encrypted(s, bytes, RECORD_BYTES);
			} else {
				memcpy(s->record + gathered, bytes, len);
				gathered += len;
				if (gathered == RECORD_BYTES) {
					rc = send_encrypted(s, s->record, gathered);
					gathered = 0;
				}
			}
			bytes += len;
			left -= len;
		}
	}
	return rc == 0 && gathered > 0 ? send_encrypted(s, s->record, gathered) : rc;
}

int nbd_stream_send(struct nbd_stream *s, struct iovec *iov, unsigned n)
{
	return s->tls != NULL ? send_records(s, iov, n) : send_plain(s, iov, n);
}

/* ---- life ---- */

int nbd_stream_start_tls(struct nbd_stream *s, struct nbd_tls *tls)
{
	struct nbd_tls_session *session;
	int rc = -ENOMEM;

	s->record = malloc(RECORD_BYTES);
	if (s->record != NULL)
		rc = nbd_tls_session_create(tls, s->fd, &session);
	if (rc < 0)
		return rc;
	s->tls = session;
	unsigned events = 0;
	while ((rc = nbd_tls_handshake(session, &events)) == -EAGAIN) {
		if (events != 0)
			rc = wait_until(s, events, &s->receiving_ns);
		if (rc < 0 && rc != -EAGAIN)
			return rc;
	}
	return rc;
}

void nbd_stream_cut(struct nbd_stream *s)
{
	(void)shutdown(s->fd, SHUT_RDWR);
}

void nbd_stream_end_input(struct nbd_stream *s)
{
	(void)shutdown(s->fd, SHUT_RD);
}

void nbd_stream_fini(struct nbd_stream *s)
{
	nbd_tls_session_destroy(s->tls);
	free(s->record);
	if (s->fd >= 0)
		close(s->fd);
}
