/* ublk_device.c - one device, from being made, or taken over, until it is removed, or left.
 *
 * What a server dies of is none of the kernel's business: a device that was made to be recovered then waits, with all that is asked of it, and
 * whoever comes next takes it over (START_RECOVERY), is given everything that was under way once more, and goes on (END_RECOVERY). That is right
 * only if he shows the same bytes: the driver keeps 64 bits for servers, in which there is a hash of what is shown, and the parameters must be
 * the same. What is gone with its server, memory and swap, is never made so: its device then fails, and is no more.
 *
 * The kernel knows nothing of a server's death, so it must not cost anything that was answered. What a file was given, the page cache has. What a volume
 * was given may still be in memory of ours: so all that is written there is durable before it is answered, and no flush is asked for.
 *
 * A write that was under way when the server died is carried out once more, maybe for the second time. Nobody was told of the first,
 * and until he is, whoever asked has no claim to any order; so it does no harm.
 *
 * At the end a device is removed. But one that can be recovered, and that somebody has (mounted, or part of another device), is left, as if the server had been
 * killed, though with nothing under way that touches the export: so a server can be replaced by another.
 */
#include "ublk_internal.h"

#include "../base/fail.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define GRACE_NS UINT64_C(5000000000)
#define QUIESCE_TRIES 250u /* of a device whose server has just died */
#define QUIESCE_PAUSE_NS UINT64_C(20000000)
#define SETTLE_NS UINT64_C(100000000)
#define DISCARD_MOST_BYTES (1u << 30)
#define GRANULE_BYTES 4096u

void ublk_device_path(uint32_t id, char kind, char *ret)
{
	snprintf(ret, UBLK_PATH_BYTES, "/dev/ublk%c%u", kind, (unsigned)id);
}

uint64_t ublk_identity(uint64_t seed, const void *bytes, size_t n_bytes)
{
	uint64_t h = seed ^ UINT64_C(0xcbf29ce484222325); /* FNV-1a */

	for (size_t i = 0; i < n_bytes; i++)
		h = (h ^ ((const uint8_t *)bytes)[i]) * UINT64_C(0x100000001b3);
	return h != 0 ? h : 1;
}

/* ---- what it is ---- */

static uint8_t shift_of(uint32_t n_bytes)
{
	return (uint8_t)(31 - __builtin_clz(n_bytes));
}

static void make_parameters(const struct ublk_device *d, struct ublk_parameters *ret)
{
	struct export_description about;

	d->export->ops->describe(d->export, &about);
	uint32_t least = about.least_block > UBLK_SECTOR_BYTES ? about.least_block : UBLK_SECTOR_BYTES;
	uint32_t preferred = about.preferred_block > least ? about.preferred_block : least;
	*ret = (struct ublk_parameters){
		.n_bytes = sizeof(*ret),
		.types = UBLK_PARAMETERS_BASIC,
		.attributes = (about.flags & EXPORT_READ_ONLY ? UBLK_READ_ONLY : 0) |
	                      (about.flags & EXPORT_READ_ONLY || d->lasting == UBLK_DURABLE ? 0 : UBLK_VOLATILE_CACHE | UBLK_FUA) |
	                      (about.flags & EXPORT_ROTATIONAL ? UBLK_ROTATIONAL : 0),
		.logical_shift = shift_of(least),
		.physical_shift = shift_of(preferred),
		.best_io_shift = shift_of(preferred),
		.least_io_shift = shift_of(preferred),
		.most_sectors = d->io_bytes / UBLK_SECTOR_BYTES,
		.n_sectors = about.size_bytes / least * (least / UBLK_SECTOR_BYTES),
	};
	if (!(about.flags & (EXPORT_TRIM | EXPORT_ZERO)))
		return;
	ret->types |= UBLK_PARAMETERS_DISCARD;
	ret->discard_granularity = preferred > GRANULE_BYTES ? preferred : GRANULE_BYTES;
	ret->discard_most_segments = 1;
	ret->discard_most_sectors = about.flags & EXPORT_TRIM ? DISCARD_MOST_BYTES / UBLK_SECTOR_BYTES : 0;
	ret->zero_most_sectors = about.flags & EXPORT_ZERO ? DISCARD_MOST_BYTES / UBLK_SECTOR_BYTES : 0;
}

/* ---- making it, and taking it over ---- */

static int make(struct ublk_device *d, uint32_t id, uint64_t identity, struct quire_error *err)
{
	const struct quire_ublk_options *o = &d->server->options;
	struct ublk_device_info info = {
		.n_queues = 1,
		.depth = (uint16_t)o->depth,
		.most_io_bytes = o->io_bytes,
		.device = id,
		.pid = getpid(),
		.flags = d->lasting != UBLK_NOTHING ? UBLK_HAS_RECOVERY | UBLK_HAS_REISSUE : 0,
		.server_flags = identity,
	};
	const struct ublk_control *control = &d->server->control;
	struct ublk_parameters parameters;

	if (control->features != 0)
		info.flags &= control->features;
	int rc = ublk_control_call(control, UBLK_ADD_DEV, id, &info, sizeof(info), 0);
	if (rc < 0)
		return quire_fail(err, rc, "ublk: a new device");
	d->id = info.device;
	d->ours = true;
	d->depth = info.depth;
	d->io_bytes = info.most_io_bytes;
	d->recovers = d->lasting != UBLK_NOTHING && (info.flags & UBLK_HAS_RECOVERY) != 0;
	make_parameters(d, &parameters);
	rc = ublk_control_call(control, UBLK_SET_PARAMS, d->id, &parameters, sizeof(parameters), 0);
	return rc < 0 ? quire_fail(err, rc, "ublk%u: its parameters", (unsigned)d->id) : 0;
}

static int check_sameness(struct ublk_device *d, const struct ublk_device_info *info, uint64_t identity, struct quire_error *err)
{
	struct ublk_parameters is, should;

	if (d->lasting == UBLK_NOTHING || !(info->flags & UBLK_HAS_RECOVERY))
		return quire_fail(err, -EEXIST, "ublk%u", (unsigned)d->id);
	int rc = ublk_control_parameters(&d->server->control, d->id, &is);
	if (rc < 0)
		return quire_fail(err, rc, "ublk%u: its parameters", (unsigned)d->id);
	make_parameters(d, &should);
	if (info->server_flags != identity || info->n_queues != 1 || is.n_sectors != should.n_sectors ||
	    is.attributes != should.attributes || is.logical_shift != should.logical_shift)
		return quire_fail(err, -EEXIST, "ublk%u shows something else", (unsigned)d->id);
	return 0;
}

/* -EBUSY: it is served, or the driver has not seen yet that its server died. Linux 6.12 says that a device is quiesced just before a worker of its own looks
 * once more for commands of the dead server that are to be completed. Recovery that began then would forget under its hands which of them were already,
 * and one would be completed twice: the kernel panics. So it begins a little later, unless the driver is known to be one without such a worker. */
static int start_recovery(struct ublk_device *d, bool *quiesced)
{
	struct ublk_device_info info;

	if (!*quiesced) {
		int rc = ublk_control_info(&d->server->control, d->id, &info);
		if (rc < 0 || info.state != UBLK_STATE_QUIESCED)
			return rc < 0 ? rc : -EBUSY;
		*quiesced = true;
		if (!(d->server->control.features & UBLK_HAS_QUIESCE))
			(void)quire_sleep_ns(SETTLE_NS, NULL);
	}
	return ublk_control_call(&d->server->control, UBLK_START_RECOVERY, d->id, NULL, 0, 0);
}

static int take_over(struct ublk_device *d, const struct ublk_device_info *info, uint64_t identity, struct quire_error *err)
{
	bool quiesced = false;

	d->id = info->device;
	d->depth = info->depth;
	d->io_bytes = info->most_io_bytes;
	int rc = check_sameness(d, info, identity, err);
	if (rc < 0)
		return rc;
	rc = -EBUSY;
	for (unsigned i = 0; rc == -EBUSY && i < QUIESCE_TRIES; i++) {
		if (i > 0)
			(void)quire_sleep_ns(QUIESCE_PAUSE_NS, NULL);
		rc = start_recovery(d, &quiesced);
	}
	if (rc < 0)
		return quire_fail(err, rc, "ublk%u, served by process %d", (unsigned)d->id, (int)info->pid);
	d->recovers = d->recovering = true;
	return 0;
}

static int make_or_take_over(struct ublk_device *d, uint32_t id, uint64_t identity, struct quire_error *err)
{
	struct ublk_device_info info = {.device = id};
	int rc = id == QUIRE_UBLK_ANY ? -ENODEV : ublk_control_info(&d->server->control, id, &info);

	if (rc == -ENODEV || rc == -EINVAL)
		return make(d, id, identity, err);
	if (rc < 0)
		return quire_fail(err, rc, "ublk%u", (unsigned)id);
	if (info.state == UBLK_STATE_DEAD) {
		/* What is left of one that ended with its server. */
		(void)ublk_control_call(&d->server->control, UBLK_DEL_DEV, id, NULL, 0, 0);
		return make(d, id, identity, err);
	}
	return take_over(d, &info, identity, err);
}

static int append(struct quire_ublk *u, struct ublk_device *d)
{
	struct ublk_device **devices = realloc(u->devices, (u->n_devices + 1) * sizeof(struct ublk_device *));

	if (devices == NULL)
		return -ENOMEM;
	u->devices = devices;
	u->devices[u->n_devices++] = d;
	return 0;
}

static void cut(struct loop_timer *timer)
{
	ublk_queue_end(&((struct ublk_device *)(void *)((char *)timer - offsetof(struct ublk_device, grace)))->queue);
}

int ublk_add(struct quire_ublk *u, uint32_t id, struct export *e, enum ublk_lasting lasting, uint64_t identity, struct quire_error *err)
{
	struct ublk_device *d = loop_is_of_parent(u->loop) ? NULL : calloc(1, sizeof(*d));

	if (d == NULL) {
		(void)e->ops->close(e);
		return quire_fail(err, loop_is_of_parent(u->loop) ? -ECHILD : -ENOMEM, "ublk");
	}
	d->server = u;
	d->export = e;
	d->lasting = lasting;
	d->grace.run = cut;
	d->queue.fd = -1;
	int rc = make_or_take_over(d, id, identity, err);
	if (rc == 0) {
		rc = append(u, d);
		if (rc < 0)
			quire_fail(err, rc, "ublk");
	}
	if (rc < 0)
		(void)ublk_device_destroy(d);
	return rc;
}

/* ---- running ---- */

static int start(struct ublk_device *d)
{
	struct ublk_queue *q = &d->queue;

	q->loop = d->server->loop;
	q->export = d->export;
	d->export->ops->describe(d->export, &q->about);
	q->always = d->lasting == UBLK_DURABLE ? EXPORT_FUA : 0;
	q->encodes = d->server->control.encodes;
	q->depth = d->depth;
	q->io_bytes = d->io_bytes;
	int rc = ublk_queue_init(q, d->id);
	if (rc == 0)
		rc = ublk_queue_start(q);
	if (rc < 0)
		return rc;
	enum ublk_command command = d->recovering ? UBLK_END_RECOVERY : UBLK_START_DEV;
	return ublk_control_call(&d->server->control, command, d->id, NULL, 0, (uint64_t)getpid());
}

void ublk_device_run(void *device)
{
	struct ublk_device *d = device;
	struct quire_ublk *u = d->server;
	int rc = start(d);

	d->starting = false;
	d->live = rc == 0;
	if (rc == 0) {
		if (++u->n_live == u->n_devices && u->options.ready != NULL)
			u->options.ready(u, u->options.ready_arg);
	} else {
		if (u->error == 0)
			u->error = quire_fail(&u->why, rc, "ublk%u: starting it", (unsigned)d->id);
		ublk_queue_end(&d->queue);
		quire_ublk_stop(u);
	}
	if (d->ender != NULL)
		coro_wake(d->ender);
	ublk_queue_wait(&d->queue);
	loop_timer_disarm(u->loop, &d->grace);
	ublk_queue_fini(&d->queue);
	d->live = false;
	/* Somebody else may have removed it already. */
	if (!d->left && (d->ours || rc == 0))
		(void)ublk_control_call(&u->control, UBLK_DEL_DEV, d->id, NULL, 0, 0);
	d->ours = false;
}

/* ---- the end ---- */

struct look {
	char path[UBLK_PATH_BYTES];
	int done; /* eventfd */
	bool held;
};

/* On a thread: opening and closing a block device may wait for requests, which the loop carries out. */
static void *look_at(void *arg)
{
	struct look *look = arg;
	int fd = open(look->path, O_RDONLY | O_EXCL | O_CLOEXEC);

	/* Who can't look takes it that it is. */
	look->held = fd < 0 && (errno == EBUSY || errno == EMFILE || errno == ENFILE || errno == ENOMEM);
	if (fd >= 0)
		close(fd);
	(void)eventfd_write(look->done, 1);
	return NULL;
}

/* Is it mounted, swapped to, or part of another device? */
static bool is_held(const struct ublk_device *d)
{
	struct look look = {.done = eventfd(0, EFD_CLOEXEC), .held = true};
	sigset_t all, before;
	pthread_t thread;

	ublk_device_path(d->id, 'b', look.path);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	bool looks = look.done >= 0 && pthread_create(&thread, NULL, look_at, &look) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (looks) {
		(void)quire_poll_fd(look.done, POLLIN, NULL);
		pthread_join(thread, NULL);
	}
	if (look.done >= 0)
		close(look.done);
	return look.held;
}

void ublk_device_end(void *device)
{
	struct ublk_device *d = device;
	struct quire_loop *loop = d->server->loop;

	while (d->starting) {
		d->ender = coro_self();
		coro_suspend();
	}
	d->ender = NULL;
	if (!d->live)
		return;
	if (d->recovers && is_held(d)) {
		d->left = true;
		ublk_queue_end(&d->queue);
		return;
	}
	/* It carries out what is under way, then gives up all tags. */
	(void)ublk_control_call(&d->server->control, UBLK_STOP_DEV, d->id, NULL, 0, 0);
	if (d->live && loop_timer_arm(loop, &d->grace, loop_now_ns() + GRACE_NS) < 0)
		ublk_queue_end(&d->queue);
}

int ublk_device_destroy(struct ublk_device *d)
{
	ublk_queue_fini(&d->queue);
	if (d->ours)
		(void)ublk_control_call(&d->server->control, UBLK_DEL_DEV, d->id, NULL, 0, 0);
	int rc = d->export->ops->close(d->export);
	free(d);
	return rc;
}
