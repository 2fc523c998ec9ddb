/* doorman.c - a thread that lets clients in: who they are is asked of the kernel, what they want is their first message.
 *
 * Who has connected and said nothing yet is pending. There are places for a few such; when all are taken, whoever has waited
 * longest loses his, so nobody can keep others out by silence.
 */
#include "service_internal.h"

#include "address.h"
#include "../base/fail.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#define BACKLOG 64
#define RETRY_MS 100 /* when there are no descriptors left */

/* ---- letting in ---- */

static bool is_owner(uid_t uid)
{
	return uid == geteuid() || uid == 0;
}

static bool is_welcome(const struct quire_tmem_service *s, uid_t uid)
{
	bool is = is_owner(uid);

	for (unsigned i = 0; i < s->o.n_uids; i++)
		is |= uid == s->o.uids[i];
	return is;
}

/* fd: the memory's, or -1. False: it is not there to hear that. */
static bool welcome(int socket, int result, int fd)
{
	struct ring_welcome w = {.magic = RING_MAGIC, .version = RING_VERSION, .result = result};
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {&w, sizeof(w)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control.space);
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	return sendmsg(socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof(w);
}

static void refuse(struct quire_tmem_service *s, int socket, int why)
{
	atomic_fetch_add_explicit(&s->n_refused, 1, memory_order_relaxed);
	(void)welcome(socket, why, -1);
	close(socket);
}

static struct worker *idlest_worker(struct quire_tmem_service *s)
{
	struct worker *w = s->workers;

	for (unsigned i = 1; i < s->n_workers; i++)
		if (atomic_load(&s->workers[i].n_clients) < atomic_load(&w->n_clients))
			w = &s->workers[i];
	return w;
}

/* The socket is the client's, or closed, in any case. */
static void let_in(struct quire_tmem_service *s, int socket, const struct pending *who, const struct ring_hello *hello)
{
	struct client *c = NULL;
	int fd = -1, rc = 0;

	if (hello->version != RING_VERSION)
		rc = -EPROTO;
	else if (!ring_is_possible(hello->n_slots, hello->slot_bytes))
		rc = -EINVAL;
	else if (ring_bytes(hello->n_slots, hello->slot_bytes) > s->o.ring_bytes)
		rc = -ENOSPC;
	int place = rc < 0 ? rc : service_take_place(s, who->pid);
	if (place >= 0) {
		rc = client_create(s, hello->n_slots, hello->slot_bytes, &c, &fd);
		if (rc < 0)
			service_free_place(s, (unsigned)place);
	} else {
		rc = place;
	}
	if (rc < 0) {
		refuse(s, socket, rc);
		return;
	}
	c->account.place = (unsigned)place;
	c->socket = socket;
	c->process = who->pid > 0 ? (int)syscall(SYS_pidfd_open, who->pid, 0) : -1;
	c->owner = who->owner;
	bool told = welcome(socket, 0, fd);
	close(fd);
	if (!told) {
		client_destroy(c);
		service_free_place(s, (unsigned)place);
		return;
	}
	atomic_fetch_add_explicit(&s->n_connected, 1, memory_order_relaxed);
	worker_adopt(idlest_worker(s), c);
}

/* ---- who is pending ---- */

static void hear(struct quire_tmem_service *s, struct pending *p)
{
	struct ring_hello hello;
	ssize_t n = recv(p->socket, &hello, sizeof(hello), MSG_DONTWAIT | MSG_TRUNC);
	int socket = p->socket;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	p->socket = -1;
	if (n == (ssize_t)sizeof(hello) && hello.magic == RING_MAGIC)
		let_in(s, socket, p, &hello);
	else
		refuse(s, socket, -EPROTO);
}

static struct pending *place_for_pending(struct quire_tmem_service *s)
{
	struct pending *oldest = s->doorman.pending;

	for (unsigned i = 0; i < PENDING_MOST; i++) {
		struct pending *p = &s->doorman.pending[i];
		if (p->socket < 0)
			return p;
		if (p->since_ns < oldest->since_ns)
			oldest = p;
	}
	refuse(s, oldest->socket, -EUSERS);
	return oldest;
}

/* False: the system has no descriptor for it now. */
static bool accept_one(struct quire_tmem_service *s)
{
	int socket = accept4(s->doorman.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (socket < 0)
		return errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS;
	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || !is_welcome(s, peer.uid)) {
		refuse(s, socket, -EACCES);
		return true;
	}
	*place_for_pending(s) = (struct pending){.socket = socket, .pid = peer.pid, .owner = is_owner(peer.uid), .since_ns = spin_now_ns()};
	return true;
}

static void *stand(void *arg)
{
	struct quire_tmem_service *s = arg;
	struct doorman *d = &s->doorman;
	struct pollfd polls[PENDING_MOST + 2];
	struct pending *whose[PENDING_MOST];
	bool open = true;

	while (!atomic_load(&s->stopping)) {
		unsigned n = 0;
		polls[0] = (struct pollfd){.fd = d->stop, .events = POLLIN};
		polls[1] = (struct pollfd){.fd = open ? d->listener : -1, .events = POLLIN};
		for (unsigned i = 0; i < PENDING_MOST; i++)
			if (d->pending[i].socket >= 0) {
				whose[n] = &d->pending[i];
				polls[2 + n++] = (struct pollfd){.fd = d->pending[i].socket, .events = POLLIN};
			}
		if (poll(polls, n + 2, open ? -1 : RETRY_MS) < 0) {
			(void)poll(NULL, 0, RETRY_MS); /* more than RLIMIT_NOFILE, or no memory */
			continue;
		}
		for (unsigned i = 0; i < n; i++)
			if (polls[i + 2].revents != 0)
				hear(s, whose[i]);
		open = polls[1].revents == 0 || accept_one(s);
	}
	for (unsigned i = 0; i < PENDING_MOST; i++)
		if (d->pending[i].socket >= 0)
			close(d->pending[i].socket);
	return NULL;
}

int doorman_start(struct quire_tmem_service *s)
{
	return service_start_thread(&s->doorman.thread, stand, s, "quire-tmem-door");
}

/* ---- the socket ---- */

static int bind_to(struct quire_tmem_service *s, const struct sockaddr_un *address)
{
	struct doorman *d = &s->doorman;
	struct stat st;
	int rc = address_clear(address, SOCK_SEQPACKET);

	if (rc < 0)
		return rc == -EEXIST ? -EADDRINUSE : rc;
	d->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* The mode of a socket that is bound is that of what it is bound from: no moment with another, no umask of the process. */
	if (d->listener < 0 || fchmod(d->listener, s->o.n_uids > 0 ? 0666 : 0600) < 0 ||
	    bind(d->listener, (const struct sockaddr *)address, sizeof(*address)) < 0)
		return -errno;
	if (lstat(address->sun_path, &st) == 0) {
		d->dev = st.st_dev;
		d->ino = st.st_ino;
	}
	if (s->o.n_uids > 0 && chmod(address->sun_path, 0666) < 0) /* what the umask took away */
		return -errno;
	return listen(d->listener, BACKLOG) < 0 ? -errno : 0;
}

int doorman_listen(struct quire_tmem_service *s, const char *path, struct quire_error *err)
{
	struct doorman *d = &s->doorman;
	struct sockaddr_un address;

	d->listener = -1;
	for (unsigned i = 0; i < PENDING_MOST; i++)
		d->pending[i].socket = -1;
	d->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->stop < 0)
		return quire_fail(err, -errno, "%s", path);
	int at = address_of(path, &address);
	if (at < 0)
		return quire_fail(err, at, "%s", path);
	int rc = bind_to(s, &address);
	close(at);
	if (rc < 0)
		return quire_fail(err, rc, "%s", path);
	d->path = strdup(path);
	return d->path != NULL ? 0 : quire_fail(err, -ENOMEM, "%s", path);
}

void doorman_fini(struct quire_tmem_service *s)
{
	struct doorman *d = &s->doorman;
	struct stat st;

	/* If it is another's by now, it stays. */
	if (d->ino != 0 && d->path != NULL && lstat(d->path, &st) == 0 && st.st_dev == d->dev && st.st_ino == d->ino)
		(void)unlink(d->path);
	if (d->listener >= 0)
		close(d->listener);
	if (d->stop >= 0)
		close(d->stop);
	free(d->path);
	d->listener = d->stop = -1;
	d->path = NULL;
}
