/* want.c - what asking costs: of pages that are there, and of pages of any mapping that are not.
 *
 *   bench-want resident FILE          one line of JSON: ns a call of each way to ask
 *   bench-want cold read|eventfd|op FILE PAGES   µs a page, random cold pages of FILE, 128 at a time
 *
 * `resident`: the same few pages again and again, all there; the least of several rounds, since
 * whatever disturbs a round adds to it. mincore(2) is the peer of both: of the residency word of
 * a quire_map, and, with its 1 added to an eventfd, of quire_mlock_eventfd.
 *
 * `cold`: the file is out of the page cache before. `read` is the raw peer: IORING_OP_READ of each page
 * through the page cache, with as many io-wq workers as Quire's loop has. The others touch each
 * page as well, and see that its bytes can be had.
 */
#include "clock.h"
#include "fail.h"
#include "random.h"

#include <quire/quire.h>

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH 128
#define HOT_PAGES 256
#define ROUNDS 7
#define CALLS 200000

struct file {
	int fd;
	size_t n_pages, page_bytes;
	const unsigned char *map;
	uint64_t rng;
	volatile unsigned sink;
};

static size_t random_page(struct file *f)
{
	return random_below(&f->rng, f->n_pages);
}

static void open_file(struct file *f, const char *path)
{
	struct stat st;

	f->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (f->fd < 0 || fstat(f->fd, &st) < 0)
		die(path, -errno);
	f->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	f->n_pages = (size_t)st.st_size / f->page_bytes;
	f->rng = now_ns() | 1;
	f->map = mmap(NULL, f->n_pages * f->page_bytes, PROT_READ, MAP_SHARED, f->fd, 0);
	if (f->map == MAP_FAILED || f->n_pages < HOT_PAGES)
		die("mmap", -errno);
}

/* ---- resident ---- */

struct hot {
	struct file *f;
	struct quire_map *map;
	const uint32_t *words;
	int efd;
};

static void ask_mincore(struct hot *h, size_t page)
{
	unsigned char there;

	check(mincore((void *)(uintptr_t)(h->f->map + page * h->f->page_bytes), h->f->page_bytes, &there), "mincore");
	h->f->sink += there;
}

static void ask_mincore_and_signal(struct hot *h, size_t page)
{
	uint64_t one = 1;

	ask_mincore(h, page);
	check(write(h->efd, &one, sizeof(one)), "eventfd");
}

static void ask_mlock_eventfd(struct hot *h, size_t page)
{
	check(quire_mlock_eventfd(h->f->map + page * h->f->page_bytes, h->f->page_bytes, h->efd), "mlock_eventfd");
}

static void ask_want(struct hot *h, size_t page)
{
	struct iovec range = { (char *)(uintptr_t)quire_map_base(h->map) + page * h->f->page_bytes, h->f->page_bytes };
	struct quire_op op;

	quire_op_init(&op);
	check(quire_map_want(h->map, &range, 1, 0, &op), "want");
	if (!quire_op_done(&op) || op.result != 0)
		die("want: not resident", -EIO);
}

static double least_ns(struct hot *h, void (*ask)(struct hot *h, size_t page))
{
	double least = 1e18;

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t start = now_ns();
		for (size_t i = 0; i < CALLS; i++)
			ask(h, i * 7 % HOT_PAGES);
		double ns = (double)(now_ns() - start) / CALLS;
		least = ns < least ? ns : least;
	}
	return least;
}

/* One load of a word and a test, as any program does it. */
static double word_ns(struct hot *h)
{
	double least = 1e18;

	for (int round = 0; round < ROUNDS; round++) {
		unsigned n_there = 0;
		uint64_t start = now_ns();
		for (size_t i = 0; i < CALLS * 10; i++)
			n_there += (*(const volatile uint32_t *)&h->words[i * 7 % HOT_PAGES] & QUIRE_RESIDENT) != 0;
		double ns = (double)(now_ns() - start) / (CALLS * 10);
		least = ns < least ? ns : least;
		if (n_there != CALLS * 10)
			die("residency: not resident", -EIO);
	}
	return least;
}

static int run_resident(const char *path)
{
	const struct quire_cache_options opts = { .size = sizeof(opts), .budget_bytes = 64u << 20 };
	struct quire_item item = { .path = path, .fd = -1 };
	struct quire_cache *cache;
	struct quire_error err;
	struct file f = { 0 };
	struct hot h = { .f = &f };

	open_file(&f, path);
	item.len_bytes = HOT_PAGES * f.page_bytes;
	h.efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	check(h.efd, "eventfd");
	check(quire_populate(f.map, item.len_bytes, 0, NULL), "populate");
	if (quire_cache_open(&opts, &cache, &err) < 0 || quire_map_create(cache, &item, 1, NULL, &h.map, &err) < 0) {
		fprintf(stderr, "bench-want: %s\n", err.text);
		return 1;
	}
	struct iovec all = { (void *)(uintptr_t)quire_map_base(h.map), item.len_bytes };
	check(quire_map_want(h.map, &all, 1, 0, NULL), "want");
	h.words = quire_map_residency(h.map);
	if (h.words == NULL)
		die("residency: no table without userfaultfd", -ENOTSUP);
	printf("{\"resident_ns\": %.3f, \"want_resident_ns\": %.2f, ", word_ns(&h), least_ns(&h, ask_want));
	printf("\"mincore_ns\": %.1f, ", least_ns(&h, ask_mincore));
	printf("\"mincore_and_eventfd_ns\": %.1f, ", least_ns(&h, ask_mincore_and_signal));
	printf("\"mlock_eventfd_resident_ns\": %.1f}\n", least_ns(&h, ask_mlock_eventfd));
	check(quire_map_destroy(h.map, NULL), "destroy");
	check(quire_cache_close(cache), "close");
	return 0;
}

/* ---- cold ---- */

static void cold_read(struct file *f, size_t n)
{
	const unsigned workers[2] = { DEPTH, 0 };
	const unsigned flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
	unsigned char *buffer = malloc(DEPTH * f->page_bytes);
	struct io_uring ring;
	size_t n_started = 0, n_done = 0;

	if (io_uring_queue_init(DEPTH, &ring, flags) < 0)
		check(io_uring_queue_init(DEPTH, &ring, 0), "ring");
	check(io_uring_register_iowq_max_workers(&ring, (unsigned[2]){ workers[0], workers[1] }), "workers");
	while (n_done < n) {
		while (n_started < n && n_started - n_done < DEPTH) {
			struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
			io_uring_prep_read(sqe, f->fd, buffer + n_started % DEPTH * f->page_bytes, (unsigned)f->page_bytes,
			                   random_page(f) * f->page_bytes);
			n_started++;
		}
		struct io_uring_cqe *cqe;
		unsigned head, n_reaped = 0;
		check(io_uring_submit_and_wait(&ring, 1), "submit");
		io_uring_for_each_cqe (&ring, head, cqe) {
			check(cqe->res, "read");
			n_reaped++;
		}
		io_uring_cq_advance(&ring, n_reaped);
		n_done += n_reaped;
	}
	io_uring_queue_exit(&ring);
	free(buffer);
}

static void cold_eventfd(struct file *f, size_t n)
{
	const unsigned char *pages[DEPTH] = { NULL };
	int32_t status[DEPTH];
	size_t n_started = 0, n_done = 0;
	int efd = eventfd(0, EFD_CLOEXEC);

	for (size_t i = 0; i < DEPTH; i++)
		status[i] = 0;
	for (uint64_t count = 0; n_done < n;) {
		for (size_t i = 0; i < DEPTH; i++) {
			int32_t s = __atomic_load_n(&status[i], __ATOMIC_ACQUIRE);
			if (s == QUIRE_STATUS_PENDING)
				continue;
			check(s, "mlock_eventfd");
			if (pages[i] != NULL)
				f->sink += *pages[i];
			n_done += pages[i] != NULL;
			pages[i] = n_started++ < n ? f->map + random_page(f) * f->page_bytes : NULL;
			if (pages[i] != NULL)
				check(quire_mlock_eventfd_status(pages[i], f->page_bytes, 0, efd, &status[i]), "mlock_eventfd");
		}
		if (n_done < n && read(efd, &count, sizeof(count)) != sizeof(count))
			die("eventfd", -errno);
	}
	close(efd);
}

struct walker {
	struct quire_op op;
	struct cold *cold;
	const unsigned char *page;
};

struct cold {
	struct file *f;
	struct quire_loop *loop;
	size_t n_left;
};

static void walk(struct quire_op *op, void *arg)
{
	struct walker *w = arg;
	struct cold *c = w->cold;

	if (w->page != NULL) {
		check(op->result, "populate");
		c->f->sink += *w->page;
	}
	if (c->n_left == 0)
		return;
	c->n_left--;
	w->page = c->f->map + random_page(c->f) * c->f->page_bytes;
	quire_op_init_callback(&w->op, c->loop, walk, w);
	check(quire_populate(w->page, c->f->page_bytes, 0, &w->op), "populate");
}

static void walk_all(void *arg)
{
	struct walker *walkers = arg;

	for (size_t i = 0; i < DEPTH; i++)
		walk(&walkers[i].op, &walkers[i]);
}

static void cold_op(struct file *f, size_t n)
{
	struct cold c = { .f = f, .n_left = n };
	struct walker *walkers = calloc(DEPTH, sizeof(*walkers));

	check(quire_loop_create(NULL, &c.loop, NULL), "loop");
	for (size_t i = 0; i < DEPTH; i++)
		walkers[i].cold = &c;
	check(quire_co_spawn(c.loop, walk_all, walkers), "spawn");
	check(quire_loop_run(c.loop), "run");
	check(quire_loop_destroy(c.loop), "destroy");
	free(walkers);
}

static int run_cold(const char *kind, const char *path, size_t n)
{
	struct file f = { 0 };

	open_file(&f, path);
	check(-posix_fadvise(f.fd, 0, 0, POSIX_FADV_DONTNEED), "fadvise");
	uint64_t start = now_ns();
	if (strcmp(kind, "read") == 0)
		cold_read(&f, n);
	else if (strcmp(kind, "eventfd") == 0)
		cold_eventfd(&f, n);
	else
		cold_op(&f, n);
	double us = (double)(now_ns() - start) / 1e3;
	printf("{\"us\": %.3f, \"cpu_us\": %.3f}\n", us / (double)n,
	       cpu_seconds() * 1e6 / (double)n);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "resident") == 0)
		return run_resident(argv[2]);
	if (argc == 5 && strcmp(argv[1], "cold") == 0)
		return run_cold(argv[2], argv[3], strtoul(argv[4], NULL, 10));
	fprintf(stderr, "usage: bench-want resident FILE | cold read|eventfd|op FILE PAGES\n");
	return 2;
}
