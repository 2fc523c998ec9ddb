/* map_miss_warmtouch.c - one thread that warms pages by io_uring, many at once, and touches them.
 *
 * Settings: as in the demo: MADV_RANDOM, a preadv2(RWF_NOWAIT) of one byte tells whether a
 * page is there (mincore costs as much), MADV_POPULATE_READ by 128 kernel workers warms
 * (a one-byte IORING_OP_READ costs the thread 17 µs), DEFER_TASKRUN where it is to be had.
 */
#include "map_miss.h"

#include <errno.h>
#include <liburing.h>
#include <sys/mman.h>
#include <sys/uio.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

#define WORKERS 128
#define RING_ENTRIES 1024

#define MOST_IN_A_ROW 65536u

struct warmtouch {
	struct run *run;
	const unsigned char *map;
	int fd;
	struct io_uring ring;
	uint64_t rng;
};

static bool is_cached(const struct warmtouch *w, uint64_t page)
{
	char byte;
	struct iovec part = { .iov_base = &byte, .iov_len = 1 };

	return preadv2(w->fd, &part, 1, (off_t)(page * w->run->page_bytes), RWF_NOWAIT) == 1;
}

static void touch(struct warmtouch *w, uint64_t page)
{
	w->run->n_wrong += !run_page_right(w->run, w->map + page * w->run->page_bytes, page);
	w->run->n_accesses++;
}

/* Touches pages that are there, until one is not: that one is warmed. Where all of the file is in somebody else's memory,
 * none is. */
static void go_on(struct warmtouch *w)
{
	uint64_t page = run_random_page(w->run, &w->rng);

	for (unsigned i = 0; i < MOST_IN_A_ROW && is_cached(w, page); i++) {
		touch(w, page);
		page = run_random_page(w->run, &w->rng);
	}
	struct io_uring_sqe *sqe = io_uring_get_sqe(&w->ring);
	if (sqe == NULL) {
		io_uring_submit(&w->ring);
		sqe = io_uring_get_sqe(&w->ring);
	}
	io_uring_prep_madvise(sqe, (void *)(uintptr_t)(w->map + page * w->run->page_bytes),
	                      (off_t)w->run->page_bytes, MADV_POPULATE_READ);
	io_uring_sqe_set_data64(sqe, page);
	w->run->n_misses++;
}

static int open_ring(struct io_uring *ring)
{
	unsigned workers[2] = { WORKERS, WORKERS };
	int rc = io_uring_queue_init(RING_ENTRIES, ring,
	                             IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);

	if (rc == -EINVAL)
		rc = io_uring_queue_init(RING_ENTRIES, ring, 0);
	return rc == 0 ? io_uring_register_iowq_max_workers(ring, workers) : rc;
}

int run_warmtouch(struct run *r)
{
	struct warmtouch w = { .run = r, .rng = 1 };
	struct io_uring_cqe *cqe;
	int rc = run_mmap_file(r, &w.map, &w.fd);

	if (rc == 0)
		rc = open_ring(&w.ring);
	if (rc != 0)
		return failed("io_uring", rc);
	double start = now_seconds(), cpu = cpu_seconds();
	for (unsigned i = 0; i < r->depth; i++)
		go_on(&w);
	while (now_seconds() - start < r->seconds) {
		unsigned head, n = 0;

		if (io_uring_submit_and_wait(&w.ring, 1) < 0)
			continue;
		io_uring_for_each_cqe (&w.ring, head, cqe) {
			touch(&w, cqe->user_data);
			n++;
		}
		io_uring_cq_advance(&w.ring, n);
		for (unsigned i = 0; i < n; i++)
			go_on(&w);
	}
	r->measured_seconds = now_seconds() - start;
	r->cpu_seconds = cpu_seconds() - cpu;
	return 0;
}
