/* nbd_listen.c - the doors: a coroutine at each socket that accepts, as long as there is room for one more connection. */
#include "nbd_internal.h"

#include "../base/fail.h"
#include "address.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 128
#define PAUSE_NS UINT64_C(100000000)

/* ---- accepting ---- */

static void wait_for_client(struct nbd_listener *l)
{
	quire_op_init(&l->poll);
	if (quire_poll_fd(l->fd, POLLIN, &l->poll) < 0)
		return;
	l->polling = true;
	(void)quire_await(&l->poll);
	l->polling = false;
}

#define SEND_BYTES (1 << 20)

/* A client of another machine that vanishes is noticed, sooner or later. To one of this machine a reply of a mebibyte goes by one call, as far as the
 * kernel allows: while the client takes it, the next is read and checked. TCP finds by itself how much is of use. */
static void prepare(int fd)
{
	int one = 1, send = SEND_BYTES, domain = AF_UNIX;
	socklen_t len = sizeof(domain);

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send, sizeof(send));
}

static void accept_one(struct nbd_listener *l)
{
	int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0) {
		prepare(fd);
		struct nbd_connection *c = nbd_connection_create(l->nbd, fd);
		if (c != NULL)
			(void)nbd_connection_start(c);
	} else if (errno == EAGAIN) {
		wait_for_client(l);
	} else if (errno != ECONNABORTED && errno != EINTR) {
		(void)quire_sleep_ns(PAUSE_NS, NULL); /* out of descriptors, or memory; or nobody listens there any more */
	}
}

static void run(void *listener)
{
	struct nbd_listener *l = listener;

	while (!l->nbd->ending) {
		if (l->nbd->n_connections < l->nbd->limits.connections) {
			accept_one(l);
			continue;
		}
		l->full = coro_self();
		coro_suspend();
	}
}

void nbd_listeners_start(struct quire_nbd *nbd)
{
	for (struct nbd_listener *l = nbd->listeners; l != NULL; l = l->next)
		if (quire_co_spawn(nbd->loop, run, l) < 0)
			quire_nbd_stop(nbd);
}

void nbd_listeners_wake(struct quire_nbd *nbd)
{
	for (struct nbd_listener *l = nbd->listeners; l != NULL; l = l->next) {
		struct coro *full = l->full;
		l->full = NULL;
		if (full != NULL)
			coro_wake(full);
	}
}

void nbd_listeners_stop(struct quire_nbd *nbd)
{
	for (struct nbd_listener *l = nbd->listeners; l != NULL; l = l->next)
		if (l->polling)
			(void)quire_op_cancel(&l->poll);
	nbd_listeners_wake(nbd);
}

void nbd_listeners_fini(struct quire_nbd *nbd)
{
	while (nbd->listeners != NULL) {
		struct nbd_listener *l = nbd->listeners;
		nbd->listeners = l->next;
		if (l->path != NULL)
			(void)unlink(l->path);
		close(l->fd);
		free(l->path);
		free(l);
	}
}

/* ---- making sockets ---- */

/* Takes the descriptor, also if it fails. */
static int add(struct quire_nbd *nbd, int fd, const char *path)
{
	struct nbd_listener *l = calloc(1, sizeof(*l));
	struct nbd_listener **at = &nbd->listeners;
	char *copy = path != NULL ? strdup(path) : NULL;

	if (l == NULL || (path != NULL && copy == NULL)) {
		close(fd);
		free(l);
		free(copy);
		return -ENOMEM;
	}
	*l = (struct nbd_listener){.nbd = nbd, .fd = fd, .path = copy};
	while (*at != NULL)
		at = &(*at)->next;
	*at = l;
	return 0;
}

/* The mode of a socket that is bound is that of what it is bound from: no moment with another. */
static int listen_unix(const char *path, const struct sockaddr_un *address, int *ret_fd)
{
	int rc = address_clear(address, SOCK_STREAM);
	int fd = rc < 0 ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return rc < 0 ? rc : -errno;
	if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
		rc = -errno;
	} else if (listen(fd, BACKLOG) < 0) {
		rc = -errno;
		(void)unlink(path);
	}
	if (rc < 0)
		close(fd);
	else
		*ret_fd = fd;
	return rc;
}

int quire_nbd_listen_unix(struct quire_nbd *nbd, const char *path, struct quire_error *err)
{
	if (loop_is_of_parent(nbd->loop))
		return quire_fail(err, -ECHILD, "NBD");

	struct sockaddr_un address;
	int fd = -1;
	int directory = address_of(path, &address);
	int rc = directory < 0 ? directory : listen_unix(path, &address, &fd);

	if (directory >= 0)
		close(directory);
	if (rc == 0)
		rc = add(nbd, fd, path);
	return rc < 0 ? quire_fail(err, rc, "%s", path) : 0;
}

static bool is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
		return ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	}
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
	return address->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

static int listen_at(struct quire_nbd *nbd, const struct addrinfo *at)
{
	int one = 1, fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (at->ai_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, at->ai_addr, at->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
		int rc = -errno;
		close(fd);
		return rc;
	}
	return add(nbd, fd, NULL);
}

int quire_nbd_listen_tcp(struct quire_nbd *nbd, const char *host, const char *port, struct quire_error *err)
{
	if (loop_is_of_parent(nbd->loop))
		return quire_fail(err, -ECHILD, "NBD");

	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = host != NULL ? AI_PASSIVE : 0};
	const char *name = host != NULL ? host : "localhost";
	struct addrinfo *all;
	bool allowed = nbd->tls != NULL || nbd->limits.plain_remote;
	int rc = 0;

	int code = getaddrinfo(host, port != NULL ? port : "10809", &hints, &all);
	if (code != 0)
		return quire_fail(err, code == EAI_SYSTEM ? -errno : code == EAI_MEMORY ? -ENOMEM : -EINVAL, "%s: %s", name, gai_strerror(code));
	for (const struct addrinfo *at = all; at != NULL && !allowed; at = at->ai_next)
		if (!is_loopback(at->ai_addr))
			rc = quire_fail(err, -EPERM, "%s: reachable from other machines without TLS", name);
	unsigned n = 0;
	int failed = -EADDRNOTAVAIL;
	for (const struct addrinfo *at = all; at != NULL && rc == 0; at = at->ai_next) {
		int one = listen_at(nbd, at);
		n += one == 0;
		/* A machine may have no IPv6. */
		if (one < 0 && one != -EADDRNOTAVAIL && one != -EAFNOSUPPORT)
			rc = quire_fail(err, one, "%s port %s", name, port != NULL ? port : "10809");
	}
	freeaddrinfo(all);
	return rc == 0 && n == 0 ? quire_fail(err, failed, "%s", name) : rc;
}

/* ---- sockets of others ---- */

static bool option_is(int fd, int option, int value)
{
	int is = -1;
	socklen_t len = sizeof(is);

	return getsockopt(fd, SOL_SOCKET, option, &is, &len) == 0 && is == value;
}

static int adopt(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}

int quire_nbd_listen_fd(struct quire_nbd *nbd, int fd, struct quire_error *err)
{
	if (loop_is_of_parent(nbd->loop))
		return quire_fail(err, -ECHILD, "NBD");
	if (!option_is(fd, SO_ACCEPTCONN, 1) || !option_is(fd, SO_TYPE, SOCK_STREAM))
		return quire_fail(err, -EINVAL, "descriptor %d: not a socket that listens", fd);
	int rc = adopt(fd);
	if (rc == 0)
		rc = add(nbd, fd, NULL);
	return rc < 0 ? quire_fail(err, rc, "descriptor %d", fd) : 0;
}

int quire_nbd_listen_inherited(struct quire_nbd *nbd, struct quire_error *err)
{
	if (loop_is_of_parent(nbd->loop))
		return quire_fail(err, -ECHILD, "NBD");

	const char *pid = getenv("LISTEN_PID"), *n_text = getenv("LISTEN_FDS");
	unsigned long n = 0;

	if (pid != NULL && n_text != NULL && strtoul(pid, NULL, 10) == (unsigned long)getpid())
		n = strtoul(n_text, NULL, 10);
	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDS");
	(void)unsetenv("LISTEN_FDNAMES");
	if (n > 1024)
		return quire_fail(err, -EINVAL, "LISTEN_FDS: %lu", n);
	for (unsigned long i = 0; i < n; i++) {
		int rc = quire_nbd_listen_fd(nbd, 3 + (int)i, err);
		if (rc < 0)
			return rc;
	}
	return (int)n;
}

int quire_nbd_connect_fd(struct quire_nbd *nbd, int fd, struct quire_error *err)
{
	if (loop_is_of_parent(nbd->loop))
		return quire_fail(err, -ECHILD, "NBD");
	if (!option_is(fd, SO_TYPE, SOCK_STREAM) || !option_is(fd, SO_ACCEPTCONN, 0))
		return quire_fail(err, -EINVAL, "descriptor %d: not a stream socket", fd);
	int rc = adopt(fd);
	if (rc == 0) {
		prepare(fd);
		rc = nbd_connection_create(nbd, fd) == NULL ? -ENOMEM : 0;
	}
	return rc < 0 ? quire_fail(err, rc, "descriptor %d", fd) : 0;
}

int quire_nbd_address(const struct quire_nbd *nbd, unsigned i, char *ret_text, size_t text_bytes)
{
	const struct nbd_listener *l = nbd->listeners;
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	char host[NI_MAXHOST], port[NI_MAXSERV];

	while (l != NULL && i-- > 0)
		l = l->next;
	if (l == NULL)
		return -ENOENT;
	if (l->path != NULL) {
		snprintf(ret_text, text_bytes, "unix:%s", l->path);
		return 0;
	}
	if (getsockname(l->fd, (struct sockaddr *)&address, &len) < 0)
		return -errno;
	if (address.ss_family == AF_UNIX) {
		const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)&address;
		snprintf(ret_text, text_bytes, "unix:%.*s", (int)(len - offsetof(struct sockaddr_un, sun_path)), un->sun_path);
		return 0;
	}
	if (getnameinfo((struct sockaddr *)&address, len, host, sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return -EINVAL;
	snprintf(ret_text, text_bytes, address.ss_family == AF_INET6 ? "tcp:[%s]:%s" : "tcp:%s:%s", host, port);
	return 0;
}
