/* ublk_server.c - block devices of this machine as their user sees them: set up, run, stopped.
 *
 * Everything runs on one loop: a coroutine that is a device's life (ublk_device.c), one that takes its requests (ublk_queue.c), and one a request.
 * quire_ublk_stop interrupts the loop, which then runs once more, to its end, with a coroutine that ends each device.
 *
 * A page that the kernel wants to write to one of these devices may be what it needs memory for: so the thread is marked, and neither it nor those that it
 * makes wait for such a page.
 */
#include "ublk_internal.h"

#include "../base/fail.h"
#include "io_flusher.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define STACK_BYTES (256u << 10)
#define DEPTH_DEFAULT 128u
#define IO_BYTES_DEFAULT (512u << 10)
#define IO_BYTES_MOST (1u << 25)

/* ---- life ---- */

static int take_options(struct quire_ublk *u, const struct quire_ublk_options *opts, struct quire_error *err)
{
	struct quire_ublk_options *o = &u->options;
	uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE);

	if (opts != NULL && opts->size != sizeof(*opts))
		return quire_fail(err, -EINVAL, "options of %zu bytes", opts->size);
	if (opts != NULL)
		*o = *opts;
	o->depth = o->depth != 0 ? o->depth : DEPTH_DEFAULT;
	o->io_bytes = o->io_bytes != 0 ? o->io_bytes : IO_BYTES_DEFAULT;
	if (o->depth > UBLK_DEPTH_MOST || o->io_bytes < page || o->io_bytes > IO_BYTES_MOST || o->io_bytes % page != 0)
		return quire_fail(err, -EINVAL, "%u requests of %u bytes", o->depth, o->io_bytes);
	return 0;
}

int quire_ublk_create(const struct quire_ublk_options *opts, struct quire_ublk **ret_ublk, struct quire_error *err)
{
	struct quire_ublk *u = calloc(1, sizeof(*u));

	if (u == NULL)
		return quire_fail(err, -ENOMEM, "ublk");
	u->control.fd = -1;
	int rc = take_options(u, opts, err);
	if (rc == 0)
		rc = ublk_control_open(&u->control, err);
	if (rc == 0) {
		const struct quire_loop_options loop = {
			.size = sizeof(loop), .engine = u->options.engine, .stack_bytes = STACK_BYTES};
		rc = quire_loop_create(&loop, &u->loop, err);
	}
	if (rc < 0) {
		(void)quire_ublk_destroy(u);
		return rc;
	}
	*ret_ublk = u;
	return 0;
}

int quire_ublk_destroy(struct quire_ublk *u)
{
	int rc = 0;

	if (u == NULL)
		return 0;
	if (u->loop != NULL && loop_is_of_parent(u->loop))
		return -ECHILD; /* the devices and what is under way are the parent's */
	if (u->loop != NULL)
		rc = quire_loop_destroy(u->loop);
	for (unsigned i = 0; i < u->n_devices; i++) {
		int closed = ublk_device_destroy(u->devices[i]);
		rc = rc < 0 ? rc : closed;
	}
	ublk_control_close(&u->control);
	free(u->devices);
	free(u);
	return rc;
}

/* ---- devices ---- */

int quire_ublk_add_file(struct quire_ublk *u, uint32_t id, const char *path, unsigned flags, struct quire_error *err)
{
	struct export *e;
	struct stat st;

	if (flags & ~QUIRE_UBLK_READ_ONLY)
		return quire_fail(err, -EINVAL, "flags %#x", flags);
	int rc = export_file_open(path, flags & QUIRE_UBLK_READ_ONLY, &e, err);
	if (rc < 0)
		return rc;
	if (stat(path, &st) < 0) {
		rc = -errno;
		(void)e->ops->close(e);
		return quire_fail(err, rc, "%s", path);
	}
	const uint64_t what[] = {st.st_dev, st.st_ino, st.st_rdev};
	return ublk_add(u, id, e, UBLK_WRITTEN, ublk_identity('f', what, sizeof(what)), err);
}

int quire_ublk_add_memory(struct quire_ublk *u, uint32_t id, uint64_t size_bytes, struct quire_error *err)
{
	struct export *e;
	int rc = export_ram_create(size_bytes, &e, err);

	return rc == 0 ? ublk_add(u, id, e, UBLK_NOTHING, 0, err) : rc;
}

int quire_ublk_device(const struct quire_ublk *u, unsigned i, uint32_t *ret_id, bool *ret_recovered)
{
	if (i >= u->n_devices)
		return -ENOENT;
	*ret_id = u->devices[i]->id;
	*ret_recovered = u->devices[i]->recovering;
	return 0;
}

/* ---- running ---- */

void quire_ublk_stop(struct quire_ublk *u)
{
	if (!loop_is_of_parent(u->loop) && !atomic_exchange(&u->stop_asked, true))
		quire_loop_stop(u->loop);
}

static int spawn_all(struct quire_ublk *u, quire_co_fn fn)
{
	int rc = 0;

	for (unsigned i = 0; i < u->n_devices; i++) {
		int spawned = quire_co_spawn(u->loop, fn, u->devices[i]);
		u->devices[i]->starting |= fn == ublk_device_run && spawned == 0;
		rc = rc < 0 ? rc : spawned;
	}
	return rc;
}

int quire_ublk_run(struct quire_ublk *u, struct quire_error *err)
{
	if (loop_is_of_parent(u->loop))
		return quire_fail(err, -ECHILD, "ublk");

	bool marked = io_flusher_mark();
	int rc = spawn_all(u, ublk_device_run);

	if (rc < 0)
		quire_ublk_stop(u);
	int ran = quire_loop_run(u->loop);
	if (ran == 0 && atomic_load(&u->stop_asked)) {
		int ends = spawn_all(u, ublk_device_end);
		rc = rc < 0 ? rc : ends;
		ran = quire_loop_run(u->loop);
	}
	io_flusher_unmark(marked);
	if (u->error < 0) {
		if (err != NULL)
			*err = u->why;
		return u->error;
	}
	rc = rc < 0 ? rc : ran;
	return rc < 0 ? quire_fail(err, rc, "ublk") : 0;
}
