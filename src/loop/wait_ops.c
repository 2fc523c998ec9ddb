/* wait_ops.c - the two operations of the loop itself: sleep, and poll a descriptor. */
#include "op.h"
#include "loop_internal.h"
#include <errno.h>
#include <poll.h>
#include <time.h>

/* ---- sleep ---- */

static void sleep_over(struct loop_timer *timer)
{
	op_complete(op_of_driver_data(timer), 0);
}

static void sleep_start(struct quire_op *op)
{
	struct loop_timer *timer = op_driver_data(op);
	timer->run = sleep_over;
	int rc = loop_timer_arm(op_home(op), timer, timer->when_ns);
	if (rc < 0)
		op_complete(op, rc);
}

static void sleep_cancel(struct quire_op *op)
{
	loop_timer_disarm(op_home(op), op_driver_data(op));
	op_complete(op, -ECANCELED);
}

static const struct op_driver sleep_driver = {.start = sleep_start, .cancel = sleep_cancel};
static_assert(sizeof(struct loop_timer) <= OP_DRIVER_WORDS * sizeof(uint64_t), "fits");

static int sleep_thread(uint64_t when_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(when_ns / 1000000000u),
		.tv_nsec = (long)(when_ns % 1000000000u),
	};
	int rc;
	do {
		rc = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
	} while (rc == EINTR);
	return -rc;
}

/* For an op of a thread that runs no loop. */
static int start_anywhere(struct quire_op *op, const struct op_driver *driver)
{
	struct quire_loop *service = NULL;
	if (loop_tls.loop == NULL) {
		int rc = service_shared(&service);
		if (rc < 0)
			return rc;
	}
	return op_start(op, driver, service);
}

int quire_sleep_ns(uint64_t ns, struct quire_op *op)
{
	uint64_t now = loop_now_ns();
	uint64_t when = ns < NEVER_NS - now ? now + ns : NEVER_NS;
	struct quire_op local;
	if (op == NULL && loop_tls.loop == NULL)
		return sleep_thread(when);
	if (op != NULL && !op_is_idle(op))
		return -EBUSY;
	struct quire_op *used = op != NULL ? op : &local;
	if (op == NULL)
		quire_op_init(&local);
	struct loop_timer *timer = op_driver_data(used);
	timer->when_ns = when;
	if (op == NULL)
		return (int)op_run_and_wait(&local, &sleep_driver, NULL);
	return start_anywhere(op, &sleep_driver);
}

/* ---- poll ---- */

static void poll_done(struct io *io, int64_t result)
{
	op_complete(op_of_driver_data(io), result);
}

static void poll_start(struct quire_op *op)
{
	loop_io_submit(op_home(op), op_driver_data(op));
}

static void poll_cancel(struct quire_op *op)
{
	loop_io_cancel(op_home(op), op_driver_data(op));
}

static const struct op_driver poll_driver = {.start = poll_start, .cancel = poll_cancel};
static_assert(sizeof(struct io) <= OP_DRIVER_WORDS * sizeof(uint64_t), "fits");

static int64_t poll_thread(int fd, unsigned events)
{
	struct pollfd p = {.fd = fd, .events = (short)events};
	int rc;
	do {
		rc = poll(&p, 1, -1);
	} while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return -errno;
	return p.revents & POLLNVAL ? -EBADF : (unsigned short)p.revents;
}

int64_t quire_poll_fd(int fd, unsigned events, struct quire_op *op)
{
	if (fd < 0 || events > 0xffff)
		return fd < 0 ? -EBADF : -EINVAL;
	if (op == NULL && loop_tls.loop == NULL)
		return poll_thread(fd, events);
	if (op != NULL && !op_is_idle(op))
		return -EBUSY;
	struct quire_op local;
	if (op == NULL)
		quire_op_init(&local);
	struct io *io = op_driver_data(op != NULL ? op : &local);
	io->op = IO_POLL;
	io->fd = fd;
	io->buffer_slot = -1;
	io->flags = events;
	io->done = poll_done;
	if (op == NULL)
		return op_run_and_wait(&local, &poll_driver, NULL);
	return start_anywhere(op, &poll_driver);
}
