/* device_pmem.c - a mapped file as a device: persistent memory, or something that is to look like it.
 *
 * Purpose: durable writes of few bytes without a system call. A write is copied into the mapping past the caches
 * (libpmem2 knows how on this machine: non-temporal stores, or stores and the best flush there is), and
 * all writes that were submitted in one turn of a loop share one fence, after which they are done; one that is
 * written now (device_write_now) has its own. So a write is as durable as a durable write, and a flush finds nothing to do: a fence covers its own thread's
 * copies only, so none may be left to another's.
 *
 * What durable means. With a granularity of a cache line or a byte (MAP_SYNC: the file system keeps its metadata, too,
 * in step with the mapping) it outlives the power. With that of a page, the mapping is the page cache: what was
 * stored outlives the process, at no cost at all. To flush pages by msync is not offered, since the other
 * devices do that better.
 *
 * Reads go by the file, not by the mapping: a media error is -EIO then, and a file that has become shorter, too. Both
 * ways see the same bytes, in any order. Who would rather load from where the bytes lie borrows a pointer (device_borrow), which
 * is asked of the kernel first: what it can't map, or knows as poisoned, is left to a read and its -EIO. Device DAX
 * (/dev/dax0.0) has no file to read by, nor space to ask for: all goes by the mapping.
 *
 * What a store may meet:
 *   - No space: a hole in a mapping whose file system is full is a SIGBUS. So space is asked for before the
 *     first store to each chunk of 2 MiB (device_pmem_space.c): -ENOSPC. Its page tables are made by the same
 *     occasion, where the kernel can do that: -EIO for a chunk with a page known as poisoned.
 *   - Bad blocks: those that the kernel knew when the device was opened are -EIO, for reads and writes.
 *   - Not covered: a block that goes bad later, in a chunk that has been written to, and a file that somebody
 *     else makes shorter, are a SIGBUS for the thread that stores, or loads by a borrowed pointer; of device DAX, for the one
 *     that reads as well.
 *
 * Invariants:
 *   1. done(0) of a write comes after a fence by the same thread, which comes after its copy.
 *   2. A mapping stays until the device is closed, so what was borrowed does; a newer one is larger.
 *   3. A chunk's bit is set only if no discard was under way from before its space was asked for until then.
 *
 * Threads: a loop has a lane of its own, found under a lock; the rest of a write, and one that is written now, takes no lock
 * but where a chunk is new. Copies run on the loop's thread, or the caller's: 1 MiB takes some 0.3 ms there, a new chunk as long as the
 * file system takes to allocate it.
 */
#include "device_pmem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* In device_io's driver words. */
struct pmem_io {
	struct device_io *next;
	int result;
};
static_assert(sizeof(struct pmem_io) <= sizeof(((struct device_io *)0)->driver), "fits");

static struct pmem_io *inside(struct device_io *io)
{
	return (struct pmem_io *)io->driver;
}

/* ---- the memory ---- */

static struct device_pmem *device_of(struct pmem_memory *memory)
{
	return (struct device_pmem *)((char *)memory - offsetof(struct device_pmem, memory));
}

#if defined(__x86_64__)
#define STORES_WORDS true
static void store_words(char *to, const char *from, uint64_t len_bytes)
{
	for (uint64_t i = 0; i < len_bytes; i += DEVICE_STORE_BYTES) {
		long long word;
		memcpy(&word, from + i, sizeof(word));
		_mm_stream_si64((long long *)(void *)(to + i), word);
	}
}
#else
#define STORES_WORDS false
static void store_words(char *to, const char *from, uint64_t len_bytes)
{
	memcpy(to, from, len_bytes);
}
#endif

/* A run ends in the midst of lines. What libpmem2 does with parts of a line, on x86-64, is to store them through the cache and to
 * flush it: twice as dear for a record of 512 bytes as words past the cache, which its fence covers as well. */
static void copy_past_caches(pmem2_memcpy_fn lib_memcpy, char *to, const char *from, uint64_t len_bytes)
{
	uint64_t head = STORES_WORDS ? -(uintptr_t)to & (DEVICE_LINE_BYTES - 1) : 0;
	if (head > len_bytes)
		head = len_bytes;
	uint64_t lines = STORES_WORDS ? (len_bytes - head) & ~(uint64_t)(DEVICE_LINE_BYTES - 1) : len_bytes;

	store_words(to, from, head);
	if (lines != 0)
		lib_memcpy(to + head, from + head, lines, PMEM2_F_MEM_NODRAIN | PMEM2_F_MEM_NONTEMPORAL);
	store_words(to + head + lines, from + head + lines, len_bytes - head - lines);
}

static void copy(struct pmem_memory *memory, uint64_t offset, const void *from, uint64_t len_bytes)
{
	struct device_pmem *p = device_of(memory);
	char *to = atomic_load_explicit(&p->mapping, memory_order_acquire)->base + offset;

	if (p->memcpy != NULL)
		copy_past_caches(p->memcpy, to, from, len_bytes);
	else
		memcpy(to, from, len_bytes);
}

static void fence(struct pmem_memory *memory)
{
	struct device_pmem *p = device_of(memory);

	if (p->drain != NULL)
		p->drain();
}

static bool is_bad(const struct device_pmem *p, uint64_t offset, uint64_t len_bytes)
{
	for (unsigned i = 0; i < p->n_bad; i++) {
		if (offset < p->bad[i].offset + p->bad[i].len_bytes && p->bad[i].offset < offset + len_bytes)
			return true;
	}
	return false;
}

/* ---- a batch ---- */

static int write_one(struct device_pmem *p, struct pmem_batch *batch, uint64_t offset, const void *buf, uint64_t len_bytes)
{
	struct pmem_mapping *m = atomic_load_explicit(&p->mapping, memory_order_acquire);
	int rc = is_bad(p, offset, len_bytes) ? -EIO : pmem_back(p, m, offset, len_bytes);

	if (rc == 0)
		pmem_batch_copy(batch, offset, buf, len_bytes);
	return rc;
}

/* Once the last is done, the device may be gone. */
static void lane_run(struct loop_task *task)
{
	struct pmem_lane *lane = (struct pmem_lane *)task;
	struct device_io *first = lane->first, *next;
	struct pmem_batch batch = {.memory = &lane->device->memory};

	lane->first = NULL;
	lane->last = &lane->first;
	lane->queued = false;
	for (struct device_io *io = first; io != NULL; io = inside(io)->next)
		inside(io)->result = write_one(lane->device, &batch, io->offset, io->buf, io->len_bytes);
	pmem_batch_end(&batch);
	for (struct device_io *io = first; io != NULL; io = next) {
		next = inside(io)->next;
		io->done(io, inside(io)->result);
	}
}

static struct pmem_lane *lane_make(struct device_pmem *p, struct quire_loop *loop)
{
	struct pmem_lane *lane = calloc(1, sizeof(*lane));

	if (lane == NULL)
		return NULL;
	lane->device = p;
	lane->loop = loop;
	lane->last = &lane->first;
	lane->next = p->lanes;
	p->lanes = lane;
	return lane;
}

/* NULL: no memory. */
static struct pmem_lane *lane_of(struct device_pmem *p, struct quire_loop *loop)
{
	pthread_mutex_lock(&p->lock);
	struct pmem_lane *lane = p->lanes;
	while (lane != NULL && lane->loop != loop)
		lane = lane->next;
	if (lane == NULL)
		lane = lane_make(p, loop);
	pthread_mutex_unlock(&p->lock);
	return lane;
}

static void submit_write(struct device_pmem *p, struct quire_loop *loop, struct device_io *io)
{
	struct pmem_lane *lane = lane_of(p, loop);

	if (lane == NULL) {
		device_finish_later(loop, io, -ENOMEM);
		return;
	}
	inside(io)->next = NULL;
	*lane->last = io;
	lane->last = &inside(io)->next;
	if (lane->queued)
		return;
	lane->queued = true;
	loop_task_init(&lane->task, lane_run);
	loop_defer(loop, &lane->task);
}

/* ---- the device ---- */

static int read_mapped(struct device_pmem *p, uint64_t offset, void *buf, uint64_t len_bytes)
{
	memcpy(buf, atomic_load_explicit(&p->mapping, memory_order_acquire)->base + offset, len_bytes);
	return 0;
}

static void pmem_submit(struct device *d, struct quire_loop *loop, struct device_io *io)
{
	struct device_pmem *p = (struct device_pmem *)d;

	switch (io->verb) {
	case DEVICE_READ:
		if (is_bad(p, io->offset, io->len_bytes))
			device_finish_later(loop, io, -EIO);
		else if (p->file.is_dax)
			device_finish_later(loop, io, read_mapped(p, io->offset, io->buf, io->len_bytes));
		else
			device_file_submit(d, loop, io);
		break;
	case DEVICE_WRITE:
	case DEVICE_WRITE_DURABLE:
		submit_write(p, loop, io);
		break;
	case DEVICE_FLUSH:
		device_finish_later(loop, io, 0);
		break;
	case DEVICE_DISCARD:
		pmem_discard(p, loop, io);
		break;
	}
}

static int pmem_read_now(struct device *d, uint64_t offset, void *buf, uint64_t len_bytes)
{
	struct device_pmem *p = (struct device_pmem *)d;

	if (is_bad(p, offset, len_bytes))
		return -EIO;
	if (p->file.is_dax)
		return read_mapped(p, offset, buf, len_bytes);
	return device_file_read_now(d, offset, buf, len_bytes);
}

static int pmem_write_now(struct device *d, uint64_t offset, const void *buf, uint64_t len_bytes)
{
	struct device_pmem *p = (struct device_pmem *)d;
	struct pmem_batch batch = {.memory = &p->memory};
	int rc = write_one(p, &batch, offset, buf, len_bytes);

	pmem_batch_end(&batch);
	return rc;
}

static int pmem_grow(struct device *d, uint64_t size_bytes)
{
	struct device_pmem *p = (struct device_pmem *)d;
	int rc = device_file_make_larger(&p->file, size_bytes);

	if (rc == 0)
		rc = pmem_map(p, NULL);
	if (rc == 0)
		__atomic_store_n(&d->size_bytes, size_bytes, __ATOMIC_RELEASE);
	return rc;
}

static const void *pmem_borrow(struct device *d, uint64_t offset, uint64_t len_bytes)
{
	struct device_pmem *p = (struct device_pmem *)d;
	struct pmem_mapping *m = atomic_load_explicit(&p->mapping, memory_order_acquire);

	if (offset + len_bytes > m->size_bytes || is_bad(p, offset, len_bytes) || !pmem_can_load(m, offset, len_bytes))
		return NULL;
	return m->base + offset;
}

static void pmem_close(struct device *d)
{
	struct device_pmem *p = (struct device_pmem *)d;

	while (p->lanes != NULL) {
		struct pmem_lane *lane = p->lanes;
		p->lanes = lane->next;
		free(lane);
	}
	pmem_unmap_all(p);
	pthread_mutex_destroy(&p->lock);
	free(p->bad);
	device_file_close(d);
}

const struct device_ops device_pmem_ops = {.submit = pmem_submit, .read_now = pmem_read_now,
                                           .write_now = pmem_write_now, .grow = pmem_grow, .borrow = pmem_borrow, .close = pmem_close};

void pmem_memory_init(struct device_pmem *p)
{
	p->memory = (struct pmem_memory){.copy = copy, .fence = fence};
}
