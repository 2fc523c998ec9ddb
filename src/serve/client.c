/* client.c - the service's side of a client: its memory, and how it is told.
 *
 * The service makes the memory, seals its size, and has all of it there before anybody else has the descriptor: so no load or
 * store of the service's can fail. (A client may punch holes into it; they read as zeros.)
 */
#include "service_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif

static int make_memory(size_t n_bytes)
{
	int fd = memfd_create("quire-tmem", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL) /* a kernel before that flag */
		fd = memfd_create("quire-tmem", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)n_bytes) < 0 || fallocate(fd, 0, 0, (off_t)n_bytes) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		int error = errno;
		close(fd);
		return -error;
	}
	return fd;
}

static int map_ring(struct ring *r, int fd)
{
	r->memory = mmap(NULL, r->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (r->memory == MAP_FAILED) {
		r->memory = NULL;
		return -errno;
	}
	(void)madvise(r->memory, r->map_bytes, MADV_DONTFORK);
	(void)madvise(r->memory, r->map_bytes, MADV_DONTDUMP);
	/* Until somebody has looked at it. */
	atomic_store(&ring_head(r)->asleep, 1);
	return 0;
}

int client_create(struct quire_tmem_service *s, uint32_t n_slots, uint32_t slot_bytes, struct client **ret_client, int *ret_fd)
{
	struct client *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return -ENOMEM;
	c->service = s;
	c->socket = c->process = -1;
	c->ring = (struct ring){.map_bytes = ring_bytes(n_slots, slot_bytes), .n_slots = n_slots, .slot_bytes = slot_bytes};
	c->account = (struct account){.tmem = s->tmem, .limits = &s->o, .slot_bytes = slot_bytes, .settled = NO_HANDLE};
	int fd = make_memory(c->ring.map_bytes), rc = fd < 0 ? fd : map_ring(&c->ring, fd);
	if (rc < 0) {
		if (fd >= 0)
			close(fd);
		client_destroy(c);
		return rc;
	}
	*ret_client = c;
	*ret_fd = fd;
	return 0;
}

void client_destroy(struct client *c)
{
	account_fini(&c->account);
	if (c->ring.memory != NULL)
		munmap(c->ring.memory, c->ring.map_bytes);
	if (c->socket >= 0)
		close(c->socket);
	if (c->process >= 0)
		close(c->process);
	free(c);
}

void client_complete(struct client *c, uint32_t slot)
{
	static const char bell = 1;

	if (atomic_exchange(&ring_message(&c->ring, slot)->state, RING_DONE) == RING_SLEEPING)
		/* It reads what it is sent, or it needn't be woken. */
		(void)send(c->socket, &bell, sizeof(bell), MSG_DONTWAIT | MSG_NOSIGNAL);
}
