/* kernel_map.c - maps without userfaultfd: the kernel's own mappings behind the same calls.
 *
 * What holds: pointers are right at any time, `want` brings pages without blocking, and pages
 * beyond a file's end are errors of an operation. What does not: the kernel's page cache decides what
 * stays, so the budget, pins and advice are hints, and nothing is checked before it is
 * seen. One VMA an item.
 * Sources: mmap(2), madvise(2) (MADV_POPULATE_READ, since 5.14), mincore(2).
 */
#include "../base/fail.h"
#include "../cache/arena_kernel.h"
#include "../loop/io.h"
#include "map_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MINCORE_PAGES 4096

static int kernel_map_fd(const struct quire_item *item, struct item *it, struct quire_error *err)
{
	const struct media_identity *id = media_file_identity(it->file);
	int fd = item->path != NULL ? open(item->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
	                            : fcntl(item->fd, F_DUPFD_CLOEXEC, 0);
	struct stat st;

	if (fd < 0)
		return quire_fail(err, -errno, "%s", media_file_name(it->file));
	if (fstat(fd, &st) == 0 && st.st_dev == id->dev && st.st_ino == id->inode)
		return fd;
	close(fd);
	return quire_fail(err, -ESTALE, "%s", media_file_name(it->file));
}

static int kernel_map_place(struct quire_map *m, struct item *it, int fd, uint64_t len)
{
	char *at = m->base + (it->first_page << m->cache->page_shift);

	if (len == 0)
		return 0;
	if (mmap(at, len, PROT_READ, MAP_SHARED | MAP_FIXED, fd, (off_t)it->offset) == MAP_FAILED)
		return -errno;
	madvise(at, len, MADV_RANDOM); /* what is wanted is asked for; the rest is not guessed */
	return 0;
}

void kernel_map_stream(struct quire_map *m, const struct item *it, enum quire_stream mode)
{
	if (it->reserve_bytes > 0)
		madvise(m->base + (it->first_page << m->cache->page_shift), it->reserve_bytes,
		        mode == QUIRE_STREAM_SEQUENTIAL ? MADV_SEQUENTIAL : MADV_RANDOM);
}

int kernel_map_create(struct quire_map *m, const struct quire_item *items, struct quire_error *err)
{
	void *base = mmap(NULL, quire_map_bytes(m), PROT_NONE,
	                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED)
		return quire_fail(err, -ENOMEM, "%zu bytes of address space", quire_map_bytes(m));
	m->base = base;
	for (size_t i = 0; i < m->n_items; i++) {
		struct item *it = &m->items[i];
		int fd = kernel_map_fd(&items[i], it, err);

		if (fd < 0)
			return fd;
		/* The reserve too: pages behind the end are SIGBUS until the file has grown there. */
		int rc = kernel_map_place(m, it, fd, it->reserve_bytes);
		close(fd);
		if (rc < 0)
			return quire_fail(err, rc, "mapping %s", media_file_name(it->file));
	}
	return 0;
}

void kernel_map_destroy(struct quire_map *m)
{
	if (m->base != NULL)
		munmap(m->base, quire_map_bytes(m));
}

uint64_t kernel_map_resident(const struct quire_map *m, const void *addr, size_t len_bytes)
{
	uint64_t page_bytes = cache_page_bytes(m->cache), n_resident = 0;
	uint64_t page = (uintptr_t)addr / page_bytes, end = ((uintptr_t)addr + len_bytes - 1) / page_bytes + 1;
	unsigned char vec[MINCORE_PAGES];

	while (page < end) {
		uint64_t n = end - page < MINCORE_PAGES ? end - page : MINCORE_PAGES;

		if (mincore((void *)(uintptr_t)(page * page_bytes), n * page_bytes, vec) < 0)
			break;
		for (uint64_t i = 0; i < n; i++)
			n_resident += vec[i] & 1;
		page += n;
	}
	return n_resident;
}

int kernel_map_purge(struct quire_map *m, const void *addr, size_t len_bytes)
{
	uint64_t mask = cache_page_bytes(m->cache) - 1;
	uintptr_t first = (uintptr_t)addr & ~mask, end = ((uintptr_t)addr + len_bytes + mask) & ~mask;

	madvise((void *)first, end - first, MADV_PAGEOUT);
	madvise((void *)first, end - first, MADV_DONTNEED);
	return 0;
}

/* ---- want: MADV_POPULATE_READ, one range after the other ---- */

struct kernel_want {
	struct quire_map *map;
	struct quire_op *op;
	const struct iovec *ranges; /* borrowed: until completion; or &one */
	struct iovec one;
	unsigned n, index;
	bool canceled;
	struct io io;
};

static void kernel_want_next(struct kernel_want *k);

static void kernel_want_end(struct kernel_want *k, int result)
{
	struct quire_op *op = k->op;
	struct quire_map *m = k->map;

	free(k);
	op_complete(op, result);
	gate_leave(&m->gate);
}

/* The kernel says only that some page of the range could not be had: names the item. */
static void kernel_want_fail(struct kernel_want *k, int error)
{
	struct quire_map *m = k->map;
	uint64_t at = (uintptr_t)k->ranges[k->index].iov_base - (uintptr_t)m->base;
	struct item *it = map_item_at(m, at >> m->cache->page_shift);

	if (it != NULL) {
		k->op->error_item = (uint64_t)(it - m->items);
		k->op->error_offset = at - (it->first_page << m->cache->page_shift);
		if (error == -EFAULT)
			error = media_file_look(it->file, NULL) & (MEDIA_TRUNCATED | MEDIA_REPLACED)
			                ? -ESTALE
			                : -EIO;
	}
	kernel_want_end(k, error);
}

static void kernel_want_done(struct io *io, int64_t result)
{
	struct kernel_want *k = (struct kernel_want *)((char *)io - offsetof(struct kernel_want, io));

	if (k->canceled || gate_is_closed(&k->map->gate))
		return kernel_want_end(k, -ECANCELED);
	if (result < 0)
		return kernel_want_fail(k, (int)result);
	k->index++;
	kernel_want_next(k);
}

static void kernel_want_next(struct kernel_want *k)
{
	uint64_t mask = cache_page_bytes(k->map->cache) - 1;

	while (k->index < k->n && k->ranges[k->index].iov_len == 0)
		k->index++;
	if (k->index == k->n)
		return kernel_want_end(k, 0);

	const struct iovec *v = &k->ranges[k->index];
	uintptr_t first = (uintptr_t)v->iov_base & ~mask;
	uintptr_t end = ((uintptr_t)v->iov_base + v->iov_len + mask) & ~mask;
	k->io = (struct io){.op = IO_MADVISE, .fd = -1, .buffer_slot = -1,
	                    .buf = (void *)first, .len = end - first, .flags = MADV_POPULATE_READ,
	                    .done = kernel_want_done};
	loop_io_submit(op_home(k->op), &k->io);
}

static void kernel_want_start(struct quire_op *op)
{
	kernel_want_next(*(struct kernel_want **)op_driver_data(op));
}

static void kernel_want_cancel(struct quire_op *op)
{
	struct kernel_want *k = *(struct kernel_want **)op_driver_data(op);

	k->canceled = true;
	loop_io_cancel(op_home(op), &k->io);
}

int kernel_map_want(struct quire_map *m, const struct iovec *ranges, unsigned n, struct quire_op *op)
{
	static const struct op_driver driver = {.start = kernel_want_start, .cancel = kernel_want_cancel};
	struct quire_op local;

	if (op != NULL && !op_is_idle(op))
		return -EBUSY;
	if (n == 0 || m->n_pages == 0) {
		if (op != NULL)
			op_complete_now(op, 0);
		return 0;
	}
	if (op == NULL && quire_loop_self() != NULL && !quire_in_coroutine())
		return -EDEADLK;
	struct kernel_want *k = calloc(1, sizeof(*k));
	if (k == NULL)
		return -ENOMEM;
	if (!gate_enter(&m->gate)) {
		free(k);
		return -ECANCELED;
	}
	k->map = m;
	k->ranges = ranges;
	k->n = n;
	if (n == 1) {
		k->one = ranges[0];
		k->ranges = &k->one;
	}
	k->op = op != NULL ? op : &local;
	if (op == NULL)
		quire_op_init(&local);
	*(struct kernel_want **)op_driver_data(k->op) = k;
	if (op == NULL)
		return (int)op_run_and_wait(&local, &driver, m->cache->service);
	int rc = op_start(op, &driver, m->cache->service);
	if (rc < 0) {
		free(k);
		gate_leave(&m->gate);
	}
	return rc;
}
