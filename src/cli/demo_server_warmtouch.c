/* demo_server_warmtouch.c - one event loop that warms a page by io_uring before it touches it.
 *
 * The best that a single thread can do with the kernel's page cache and no thread pool of its
 * own. For each request: is the page cached? If so, copy from the map. If not, hand it to
 * io_uring and answer at its completion.
 *
 * Settings: MADV_RANDOM; the check is preadv2(RWF_NOWAIT) of one byte, as cheap as mincore,
 * right for ordinary users too, and it tells the kernel that the page is used, so that hot ones
 * stay; warming is MADV_POPULATE_READ, which a kernel worker does without
 * stalling the loop (a one-byte IORING_OP_READ costs the loop 17 µs instead), with as many
 * workers as the pools have threads or more; DEFER_TASKRUN where it is to be had.
 */
#include "demo_server.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

#define RING_ENTRIES 1024
#define WORKERS 128
#define SOCKET_READABLE NULL /* user data of the poll; all else are lookups */

struct lookup {
	struct lookup *next_free;
	struct demo_wire_request request;
};

struct warmtouch {
	struct demo_server *server;
	const unsigned char **maps;
	struct io_uring ring;
	struct lookup lookups[RING_ENTRIES];
	struct lookup *free; /* none: stop receiving */
	struct demo_inbox in;
	struct demo_outbox out;
	bool hung_up;
	unsigned n_warming;
};

static int open_ring(struct io_uring *ring)
{
	const unsigned best = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
	unsigned workers[2] = { WORKERS, WORKERS };
	int rc = io_uring_queue_init(RING_ENTRIES, ring, best);

	if (rc == -EINVAL)
		rc = io_uring_queue_init(RING_ENTRIES, ring, 0);
	if (rc == 0)
		io_uring_register_iowq_max_workers(ring, workers);
	return rc;
}

static struct io_uring_sqe *next_sqe(struct warmtouch *w)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&w->ring);

	while (sqe == NULL) {
		io_uring_submit(&w->ring);
		sqe = io_uring_get_sqe(&w->ring);
	}
	return sqe;
}

static void warm(struct warmtouch *w, struct lookup *lookup)
{
	const size_t page_bytes = w->server->corpus->page_bytes;
	uintptr_t at = (uintptr_t)w->maps[lookup->request.file] + lookup->request.offset;
	struct io_uring_sqe *sqe = next_sqe(w);

	io_uring_prep_madvise(sqe, (void *)(at & ~(page_bytes - 1)), (off_t)page_bytes,
	                      MADV_POPULATE_READ);
	io_uring_sqe_set_data(sqe, lookup);
	w->n_warming++;
}

static bool is_cached(const struct warmtouch *w, const struct demo_wire_request *r)
{
	char byte;
	struct iovec part = { .iov_base = &byte, .iov_len = 1 };

	return preadv2(w->server->corpus->files[r->file].fd, &part, 1, (off_t)r->offset, RWF_NOWAIT) == 1;
}

static void answer(struct warmtouch *w, const struct demo_wire_request *r)
{
	memcpy(demo_outbox_add(&w->out, r->id, r->len_bytes, 0), w->maps[r->file] + r->offset,
	       r->len_bytes);
}

static void begin(struct warmtouch *w, const struct demo_wire_request *r)
{
	if (!demo_request_valid(w->server->corpus, r)) {
		demo_outbox_add(&w->out, r->id, 0, -EINVAL);
	} else if (is_cached(w, r)) {
		answer(w, r);
	} else {
		struct lookup *lookup = w->free;
		w->free = lookup->next_free;
		lookup->request = *r;
		warm(w, lookup);
	}
}

static bool has_room(const struct warmtouch *w)
{
	return w->n_warming + DEMO_BATCH <= RING_ENTRIES;
}

/* Hits are on their way before the ring is entered. */
static void receive_all(struct warmtouch *w)
{
	while (has_room(w)) {
		int n = demo_inbox_receive(&w->in, w->server->socket, MSG_DONTWAIT);
		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			w->hung_up = true;
			return;
		}
		for (int i = 0; i < n; i++)
			begin(w, &w->in.requests[i]);
		demo_outbox_send(&w->out);
		if (n < DEMO_BATCH)
			return; /* the poll will tell of more: one system call less */
	}
}

static void poll_socket(struct warmtouch *w)
{
	struct io_uring_sqe *sqe = next_sqe(w);

	io_uring_prep_poll_add(sqe, w->server->socket, POLLIN);
	io_uring_sqe_set_data(sqe, SOCKET_READABLE);
}

static void complete(struct warmtouch *w, struct lookup *lookup, int result)
{
	w->n_warming--;
	if (result < 0)
		demo_outbox_add(&w->out, lookup->request.id, 0, result);
	else
		answer(w, &lookup->request);
	lookup->next_free = w->free;
	w->free = lookup;
}

static void run(struct warmtouch *w)
{
	bool polling = false;

	while (!w->hung_up || w->n_warming > 0) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;

		receive_all(w);
		if (!polling && !w->hung_up && has_room(w)) {
			poll_socket(w);
			polling = true;
		}
		if (io_uring_submit_and_wait(&w->ring, polling || w->n_warming > 0) < 0)
			continue;
		io_uring_for_each_cqe (&w->ring, head, cqe) {
			struct lookup *lookup = io_uring_cqe_get_data(cqe);
			if (lookup == SOCKET_READABLE)
				polling = false;
			else
				complete(w, lookup, cqe->res);
			seen++;
		}
		io_uring_cq_advance(&w->ring, seen);
		demo_outbox_send(&w->out);
	}
}

static int touch(void *arg, size_t i)
{
	const struct warmtouch *w = arg;
	const struct demo_page *page = &w->server->corpus->pages[i];
	const volatile unsigned char *byte =
		w->maps[page->file] + (size_t)page->page * w->server->corpus->page_bytes;

	(void)*byte;
	return 0;
}

int demo_serve_warmtouch(struct demo_server *server)
{
	struct warmtouch *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return demo_server_fail(server, -ENOMEM, "starting");
	w->server = server;
	w->maps = demo_server_mmap(server);
	if (w->maps == NULL)
		return demo_server_fail(server, -errno, "mmap");
	int rc = open_ring(&w->ring);
	if (rc != 0)
		return demo_server_fail(server, rc, "io_uring");
	for (unsigned i = 0; i < RING_ENTRIES; i++) {
		w->lookups[i].next_free = w->free;
		w->free = &w->lookups[i];
	}
	demo_inbox_init(&w->in);
	demo_outbox_init(&w->out, server->socket);
	rc = demo_parallel(server->corpus->n_pages, DEMO_THREADS, touch, w);
	if (rc != 0)
		return demo_server_fail(server, rc, "starting threads");
	demo_server_ready(server);
	run(w);
	io_uring_queue_exit(&w->ring);
	free(w);
	return 0;
}
