/* remote.c - a client of the service: it connects, and holds what both sides have in common.
 *
 * A thread that calls takes a slot, writes its message there, appends the slot's number to the ring's order, and wakes
 * the service if that sleeps (remote_wait.c). Then it looks at the slot's state for a while; when it has looked long enough
 * it says so in the state, and sleeps in recv on the socket: the service sends a byte for each message whose client said
 * that. The kernel ends recv when the service dies, so nobody waits for one that has gone.
 *
 * Invariants:
 *   1. A slot is free (its bit is set), or one thread's. One that was submitted is freed when it is done, or never: not by a client
 *      whose service has gone.
 *   2. There are never more slots submitted than there are; so the order has room.
 *   3. If threads sleep, one of them is in recv. It wakes the others at each byte, and when it leaves.
 *
 * The client believes that the service keeps to the layout, but not that the memory has the size it should: it could
 * not read it then. A forked child has no memory in common, and is told so (-ECHILD).
 */
#include "remote_internal.h"

#include "address.h"
#include "../base/fail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

#define DEFAULT_SLOTS 8u
#define DEFAULT_SLOT_BYTES (128u << 10)

static size_t here_bytes(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

/* A page that says 1 here, and 0 in a child. */
static int make_here(struct quire_tmem_client *c)
{
	_Atomic int *page = mmap(NULL, here_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return -ENOMEM;
	/* Where that is refused (an emulator may), a child is on its own. */
	(void)madvise(page, here_bytes(), MADV_WIPEONFORK);
	*page = 1;
	c->here = page;
	return 0;
}

/* The answer to the hello, and the descriptor that came with it, or -1. */
static int receive_welcome(int socket, struct ring_welcome *ret, int *ret_fd)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {ret, sizeof(*ret)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control.space)};
	bool reset = false;
	ssize_t n;

	*ret_fd = -1;
	/* A service that refuses before it has read the hello resets the connection, which is told before what it has said. */
	while ((n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC)) < 0 && (errno == EINTR || (errno == ECONNRESET && !reset)))
		reset |= errno == ECONNRESET;
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(c), sizeof(*ret_fd));
	if (n < 0)
		return -errno;
	if (n == 0 && reset)
		return -ECONNRESET;
	if (n != (ssize_t)sizeof(*ret) || ret->magic != RING_MAGIC || ret->version != RING_VERSION)
		return -EPROTO;
	return ret->result < 0 ? ret->result : *ret_fd < 0 ? -EPROTO : 0;
}

/* Nobody can take it away below this process. */
static int map_memory(struct ring *r, int fd)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	r->map_bytes = ring_bytes(r->n_slots, r->slot_bytes);
	if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || fstat(fd, &st) < 0 || st.st_size < (off_t)r->map_bytes)
		return -EPROTO;
	void *memory = mmap(NULL, r->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (memory == MAP_FAILED)
		return -errno;
	r->memory = memory;
	(void)madvise(memory, r->map_bytes, MADV_DONTFORK);
	return 0;
}

static int shake_hands(struct quire_tmem_client *c)
{
	struct ring_hello hello = {
		.magic = RING_MAGIC, .version = RING_VERSION, .n_slots = c->ring.n_slots, .slot_bytes = c->ring.slot_bytes};
	struct ring_welcome w;
	int fd;

	/* Who isn't welcome may be told before he has said anything. */
	(void)send(c->socket, &hello, sizeof(hello), MSG_NOSIGNAL);
	int rc = receive_welcome(c->socket, &w, &fd);
	if (rc == 0)
		rc = map_memory(&c->ring, fd);
	if (fd >= 0)
		close(fd);
	return rc;
}

static int dial(struct quire_tmem_client *c, const char *path)
{
	struct sockaddr_un address;
	int at = address_of(path, &address), rc = 0;

	if (at < 0)
		return at;
	c->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (c->socket < 0 || connect(c->socket, (struct sockaddr *)&address, sizeof(address)) < 0)
		rc = -errno;
	close(at);
	return rc;
}

int quire_tmem_connect(const char *path, const struct quire_tmem_client_options *opts,
                       struct quire_tmem_client **ret_client, struct quire_error *err)
{
	struct quire_tmem_client_options o = {0};

	if (opts != NULL && (opts->size == 0 || opts->size > sizeof(o)))
		return quire_fail(err, -EINVAL, "tmem client options");
	if (opts != NULL)
		memcpy(&o, opts, opts->size);
	o.n_slots = o.n_slots != 0 ? o.n_slots : DEFAULT_SLOTS;
	o.slot_bytes = o.slot_bytes != 0 ? o.slot_bytes : DEFAULT_SLOT_BYTES;
	if (!ring_is_possible(o.n_slots, o.slot_bytes))
		return quire_fail(err, -EINVAL, "tmem client with %u slots of %u bytes", o.n_slots, o.slot_bytes);
	struct quire_tmem_client *c = calloc(1, sizeof(*c));
	if (c == NULL)
		return quire_fail(err, -ENOMEM, "tmem client");
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->sleep_lock, NULL);
	pthread_cond_init(&c->freed, NULL);
	pthread_cond_init(&c->woken, NULL);
	c->ring = (struct ring){.n_slots = o.n_slots, .slot_bytes = o.slot_bytes};
	c->free_slots = UINT32_MAX >> (32 - o.n_slots);
	spin_habit_init(&c->habit);
	c->socket = -1;
	int rc = make_here(c);
	if (rc == 0)
		rc = dial(c, path);
	if (rc == 0)
		rc = shake_hands(c);
	if (rc < 0) {
		quire_tmem_disconnect(c);
		return quire_fail(err, rc, "%s", path);
	}
	*ret_client = c;
	return 0;
}

void quire_tmem_disconnect(struct quire_tmem_client *c)
{
	if (c == NULL)
		return;
	/* In a child there is no mapping. */
	if (c->ring.memory != NULL && atomic_load(c->here) != 0)
		munmap(c->ring.memory, c->ring.map_bytes);
	if (c->here != NULL)
		munmap((void *)(uintptr_t)c->here, here_bytes());
	if (c->socket >= 0)
		close(c->socket);
	for (struct quire_tmem_remote *pool = c->pools, *next; pool != NULL; pool = next) {
		next = pool->next;
		free(pool);
	}
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->sleep_lock);
	pthread_cond_destroy(&c->freed);
	pthread_cond_destroy(&c->woken);
	free(c);
}
