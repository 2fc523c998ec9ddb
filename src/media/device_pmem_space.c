/* device_pmem_space.c - stores into a mapping have space, and loads from it a page, or are not made. See device_pmem.c. */
#include "device_pmem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* ---- before a store ---- */

static int allocate(struct device_pmem *p, uint64_t from, uint64_t end)
{
	int rc;

	do {
		rc = fallocate(p->file.fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(end - from)) < 0 ? -errno : 0;
	} while (rc == -EINTR);
	return rc == -EDQUOT ? -ENOSPC : rc;
}

/* Page tables, and with them the file system's word on each page. A kernel that can't leaves them to the stores. */
static int populate(struct pmem_mapping *m, uint64_t from, uint64_t end)
{
	int rc;

	do {
		rc = madvise(m->base + from, end - from, MADV_POPULATE_WRITE) < 0 ? -errno : 0;
	} while (rc == -EINTR || rc == -EAGAIN);
	return rc == -EFAULT || rc == -EHWPOISON ? -EIO : 0;
}

static bool is_backed(const struct pmem_mapping *m, uint64_t chunk)
{
	return atomic_load_explicit(&m->backed[chunk / 64], memory_order_acquire) >> chunk % 64 & 1;
}

static uint64_t discards_so_far(struct device_pmem *p, bool *ret_quiet)
{
	pthread_mutex_lock(&p->lock);
	uint64_t n = p->n_discards_begun;
	*ret_quiet = n == p->n_discards_ended;
	pthread_mutex_unlock(&p->lock);
	return n;
}

/* Invariant 3. */
static void remember(struct device_pmem *p, struct pmem_mapping *m, uint64_t chunk, uint64_t n_discards)
{
	pthread_mutex_lock(&p->lock);
	if (p->n_discards_begun == n_discards)
		atomic_fetch_or(&m->backed[chunk / 64], UINT64_C(1) << chunk % 64);
	pthread_mutex_unlock(&p->lock);
}

static int back_chunk(struct device_pmem *p, struct pmem_mapping *m, uint64_t chunk, const struct pmem_range *part)
{
	uint64_t from = chunk * PMEM_CHUNK_BYTES, end = from + PMEM_CHUNK_BYTES;
	bool quiet;
	uint64_t n_discards = discards_so_far(p, &quiet);

	if (end > m->size_bytes)
		end = m->size_bytes;
	int rc = allocate(p, from, end);
	bool whole = rc == 0;
	if (rc == -ENOSPC) {
		/* Not for all of it; perhaps for what is wanted. */
		uint64_t mask = DEVICE_BLOCK_BYTES - 1, last = (part->offset + part->len_bytes + mask) & ~mask;
		from = part->offset > from ? part->offset & ~mask : from;
		end = last < end ? last : end;
		rc = allocate(p, from, end);
	} else if (rc == 0) {
		rc = populate(m, from, end);
	}
	if (rc == 0 && whole && quiet)
		remember(p, m, chunk, n_discards);
	return rc;
}

int pmem_back(struct device_pmem *p, struct pmem_mapping *m, uint64_t offset, uint64_t len_bytes)
{
	const struct pmem_range part = {.offset = offset, .len_bytes = len_bytes};
	uint64_t last = (offset + len_bytes - 1) / PMEM_CHUNK_BYTES;
	int rc = 0;

	if (p->file.is_dax)
		return 0;
	for (uint64_t chunk = offset / PMEM_CHUNK_BYTES; chunk <= last && rc == 0; chunk++) {
		if (!is_backed(m, chunk))
			rc = back_chunk(p, m, chunk, &part);
	}
	return rc;
}

/* ---- before a load ---- */

bool pmem_can_load(struct pmem_mapping *m, uint64_t offset, uint64_t len_bytes)
{
	uint64_t mask = (uint64_t)sysconf(_SC_PAGESIZE) - 1, from = offset & ~mask;
	int rc;

	do {
		rc = madvise(m->base + from, offset + len_bytes - from, MADV_POPULATE_READ) < 0 ? -errno : 0;
	} while (rc == -EINTR || rc == -EAGAIN);
	/* A kernel that has no such call leaves it to the loads. */
	return rc == 0 || rc == -EINVAL;
}

/* ---- discards ---- */

struct discard {
	struct device_io io;     /* of the file */
	struct device_io *outer; /* borrowed */
	struct device_pmem *device;
};

static void forget(struct pmem_mapping *m, uint64_t offset, uint64_t len_bytes)
{
	uint64_t last = (offset + len_bytes - 1) / PMEM_CHUNK_BYTES, n = (m->size_bytes + PMEM_CHUNK_BYTES - 1) / PMEM_CHUNK_BYTES;

	for (uint64_t chunk = offset / PMEM_CHUNK_BYTES; chunk <= last && chunk < n; chunk++)
		atomic_fetch_and(&m->backed[chunk / 64], ~(UINT64_C(1) << chunk % 64));
}

static void discard_done(struct device_io *io, int result)
{
	struct discard *d = (struct discard *)io;
	struct device_pmem *p = d->device;
	struct device_io *outer = d->outer;

	pthread_mutex_lock(&p->lock);
	for (struct pmem_mapping *m = atomic_load(&p->mapping); m != NULL; m = m->older)
		forget(m, io->offset, io->len_bytes);
	p->n_discards_ended++;
	pthread_mutex_unlock(&p->lock);
	free(d);
	outer->done(outer, result);
}

void pmem_discard(struct device_pmem *p, struct quire_loop *loop, struct device_io *io)
{
	struct discard *d = malloc(sizeof(*d));

	if (d == NULL) {
		device_finish_later(loop, io, -ENOMEM);
		return;
	}
	*d = (struct discard){.io = *io, .outer = io, .device = p};
	d->io.done = discard_done;
	pthread_mutex_lock(&p->lock);
	p->n_discards_begun++;
	pthread_mutex_unlock(&p->lock);
	device_file_submit(&p->file.base, loop, &d->io);
}
