/* failing_device.c - see failing_device.h. */
#include "failing_device.h"

#include "../../src/base/assert.h"
#include "../../src/media/device_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct failing_device {
	struct device base;
	struct device *behind; /* owned */
	struct failing *f;     /* borrowed */
};

void failing_begin(struct failing *f, unsigned verbs, uint64_t n, bool lasting)
{
	f->verbs = verbs;
	atomic_store(&f->n_ios, 0);
	countdown_begin(&f->which, n, lasting);
}

bool failing_end(struct failing *f)
{
	f->verbs = 0;
	return countdown_end(&f->which);
}

void failing_each(const struct failing_sweep *s)
{
	uint64_t n_ios = s->play(s->arg, 0, false), step = 1;

	quire_assert(n_ios > 0);
	if (getenv("QUIRE_TEST_LONG") == NULL)
		step = n_ios / (getenv("QUIRE_SANITIZED") != NULL ? s->n_quick / 2 : s->n_quick) + 1;
	for (uint64_t n = 1; n <= n_ios; n += n < s->n_first ? 1 : step)
		(void)s->play(s->arg, n, n / step % 2 != 0);
}

static bool fails(struct failing *f, enum device_verb verb)
{
	if ((f->verbs & 1u << verb) == 0)
		return false;
	atomic_fetch_add(&f->n_ios, 1);
	return countdown_refuses(&f->which);
}

static void submit(struct device *d, struct quire_loop *loop, struct device_io *io)
{
	struct failing_device *fd = (struct failing_device *)d;

	if (fails(fd->f, io->verb))
		device_finish_later(loop, io, -EIO);
	else
		device_submit(fd->behind, loop, io);
}

static int read_now(struct device *d, uint64_t offset, void *buf, uint64_t len_bytes)
{
	struct failing_device *fd = (struct failing_device *)d;

	return fails(fd->f, DEVICE_READ) ? -EIO : device_read_now(fd->behind, offset, buf, len_bytes);
}

static int write_now(struct device *d, uint64_t offset, const void *buf, uint64_t len_bytes)
{
	struct failing_device *fd = (struct failing_device *)d;

	return fails(fd->f, DEVICE_WRITE_DURABLE) ? -EIO : device_write_now(fd->behind, offset, buf, len_bytes);
}

static int grow(struct device *d, uint64_t size_bytes)
{
	struct failing_device *fd = (struct failing_device *)d;
	int rc = device_grow(fd->behind, size_bytes);

	if (rc == 0)
		__atomic_store_n(&d->size_bytes, size_bytes, __ATOMIC_RELEASE);
	return rc;
}

static const void *borrow(struct device *d, uint64_t offset, uint64_t len_bytes)
{
	return device_borrow(((struct failing_device *)d)->behind, offset, len_bytes);
}

static void close_both(struct device *d)
{
	struct failing_device *fd = (struct failing_device *)d;

	device_close(fd->behind);
	free(d->name);
	free(fd);
}

static const struct device_ops failing_ops = {
	.submit = submit, .read_now = read_now, .write_now = write_now, .grow = grow, .borrow = borrow, .close = close_both};

void failing_put(struct failing *f, struct device **device)
{
	struct failing_device *fd = malloc(sizeof(*fd));

	quire_assert(fd != NULL);
	*fd = (struct failing_device){.base = **device, .behind = *device, .f = f};
	fd->base.ops = &failing_ops;
	fd->base.name = strdup((*device)->name);
	quire_assert(fd->base.name != NULL);
	*device = &fd->base;
}
