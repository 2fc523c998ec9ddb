/* device.c - what is the same for all devices: arguments checked, and waiting for one I/O. */
#include "device_internal.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* ---- ending without the driver ---- */

struct finish {
	struct loop_task task;
	int result;
};
static_assert(sizeof(struct finish) <= sizeof(((struct device_io *)0)->driver), "fits");

static void finish_run(struct loop_task *task)
{
	struct finish *f = (struct finish *)task;
	struct device_io *io = (struct device_io *)((char *)f - offsetof(struct device_io, driver));

	io->done(io, f->result);
}

void device_finish_later(struct quire_loop *loop, struct device_io *io, int result)
{
	struct finish *f = (struct finish *)io->driver;

	loop_task_init(&f->task, finish_run);
	f->result = result;
	loop_defer(loop, &f->task);
}

/* ---- submitting ---- */

/* 1: go on; else the result. */
static int examine(const struct device *d, const struct device_io *io)
{
	if (io->verb == DEVICE_FLUSH)
		return !d->read_only; /* nothing was written then */
	if (io->verb != DEVICE_READ && d->read_only)
		return -EROFS;
	uint64_t size_bytes = __atomic_load_n(&d->size_bytes, __ATOMIC_ACQUIRE); /* another thread may let it grow */
	uint32_t mask = (io->verb == DEVICE_DISCARD ? DEVICE_BLOCK_BYTES : d->align_bytes) - 1;
	if (((io->offset | io->len_bytes) & mask) != 0 || io->offset > size_bytes ||
	    io->len_bytes > size_bytes - io->offset)
		return -EINVAL;
	if (io->len_bytes == 0)
		return 0;
	if (io->verb == DEVICE_DISCARD)
		return __atomic_load_n(&d->discards, __ATOMIC_RELAXED);
	return ((uintptr_t)io->buf & mask) == 0 ? 1 : -EINVAL;
}

void device_submit(struct device *d, struct quire_loop *loop, struct device_io *io)
{
	int rc = examine(d, io);

	if (rc == 1)
		d->ops->submit(d, loop, io);
	else
		device_finish_later(loop, io, rc);
}

int device_read_now(struct device *d, uint64_t offset, void *buf, uint64_t len_bytes)
{
	const struct device_io io = {.verb = DEVICE_READ, .offset = offset, .len_bytes = len_bytes, .buf = buf};
	int rc = examine(d, &io);

	return rc == 1 ? d->ops->read_now(d, offset, buf, len_bytes) : rc;
}

const void *device_borrow(struct device *d, uint64_t offset, uint64_t len_bytes)
{
	uint64_t size_bytes = __atomic_load_n(&d->size_bytes, __ATOMIC_ACQUIRE);

	if (d->ops->borrow == NULL || len_bytes == 0 || offset > size_bytes || len_bytes > size_bytes - offset)
		return NULL;
	return d->ops->borrow(d, offset, len_bytes);
}

int device_write_now(struct device *d, uint64_t offset, const void *buf, uint64_t len_bytes)
{
	const struct device_io io = {.verb = DEVICE_WRITE_DURABLE, .offset = offset, .len_bytes = len_bytes,
	                             .buf = (void *)(uintptr_t)buf};
	int rc = examine(d, &io);

	return rc == 1 ? d->ops->write_now(d, offset, buf, len_bytes) : rc;
}

int device_grow(struct device *d, uint64_t size_bytes)
{
	if (d->read_only)
		return -EROFS;
	if ((size_bytes & (DEVICE_BLOCK_BYTES - 1)) != 0 || size_bytes < d->size_bytes)
		return -EINVAL;
	return size_bytes == d->size_bytes ? 0 : d->ops->grow(d, size_bytes);
}

void device_close(struct device *d)
{
	if (d != NULL)
		d->ops->close(d);
}

/* ---- waiting for one ---- */

static void waited_done(struct device_io *io, int result)
{
	op_complete(&((struct device_reading *)io)->op, result);
}

static void waited_start(struct quire_op *op)
{
	struct device_reading *w = (struct device_reading *)((char *)op - offsetof(struct device_reading, op));

	device_submit(w->device, op_home(op), &w->io);
}

/* Without cancel: what the device has, ends by itself. */
static const struct op_driver waited_driver = {.start = waited_start};

static void prepare(struct device *d, enum device_verb verb, uint64_t offset, void *buf, uint64_t len_bytes,
                    struct device_reading *w)
{
	w->io = (struct device_io){
		.verb = verb,
		.offset = offset,
		.len_bytes = len_bytes,
		.buf = buf,
		.buffer_slot = -1,
		.done = waited_done,
	};
	w->device = d;
	quire_op_init(&w->op);
}

static int run_and_wait(struct device *d, enum device_verb verb, uint64_t offset, void *buf, uint64_t len_bytes)
{
	struct device_reading w;

	prepare(d, verb, offset, buf, len_bytes, &w);
	return (int)op_run_and_wait(&w.op, &waited_driver, d->service);
}

int device_read_begin(struct device *d, uint64_t offset, void *buf, uint64_t len_bytes, struct device_reading *r)
{
	prepare(d, DEVICE_READ, offset, buf, len_bytes, r);
	return op_start(&r->op, &waited_driver, d->service);
}

int device_read_end(struct device_reading *r)
{
	return (int)quire_await(&r->op);
}

int device_read(struct device *d, uint64_t offset, void *buf, uint64_t len_bytes)
{
	/* A plain thread reads itself: to wake another and be woken takes longer than much of what is read. */
	if (quire_loop_self() == NULL)
		return device_read_now(d, offset, buf, len_bytes);
	return run_and_wait(d, DEVICE_READ, offset, buf, len_bytes);
}

int device_write(struct device *d, uint64_t offset, const void *buf, uint64_t len_bytes, bool durable)
{
	return run_and_wait(d, durable ? DEVICE_WRITE_DURABLE : DEVICE_WRITE, offset, (void *)(uintptr_t)buf, len_bytes);
}

int device_flush(struct device *d)
{
	return run_and_wait(d, DEVICE_FLUSH, 0, NULL, 0);
}

int device_discard(struct device *d, uint64_t offset, uint64_t len_bytes)
{
	return run_and_wait(d, DEVICE_DISCARD, offset, NULL, len_bytes);
}
