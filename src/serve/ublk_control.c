/* ublk_control.c - commands to the driver's control device.
 *
 * They are rare, and some of them wait for the very requests that this process serves; so each has a ring of its own, and the wait
 * for it is one like any other: a coroutine is suspended.
 *
 * What the driver has is what it says. Before it could be asked (GET_FEATURES), it gave each new device the flags that it knew, and
 * dropped the others; commands had plain numbers then, which it may not take any more.
 */
#include "ublk_internal.h"

#include "../base/assert.h"
#include "../base/fail.h"
#include "../base/feature.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

static int wait_for(struct io_uring *ring, struct io_uring_cqe **ret)
{
	while (io_uring_peek_cqe(ring, ret) != 0) {
		int64_t rc = quire_poll_fd(ring->ring_fd, POLLIN, NULL);
		if (rc < 0 && rc != -EINTR)
			return (int)rc;
	}
	return 0;
}

int ublk_control_call(const struct ublk_control *c, enum ublk_command command, uint32_t device, void *bytes, size_t n_bytes, uint64_t data)
{
	const struct ublk_control_command message = {
		.device = device,
		.queue = UBLK_NO_QUEUE,
		.n_bytes = (uint16_t)n_bytes,
		.address = (uint64_t)(uintptr_t)bytes,
		.data = data,
	};
	struct io_uring ring;
	struct io_uring_cqe *cqe;
	int rc = io_uring_queue_init(1, &ring, IORING_SETUP_SQE128);

	if (rc < 0)
		return rc;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	quire_assert(sqe != NULL); /* the ring is empty */
	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = c->fd;
	sqe->cmd_op = c->encodes ? ublk_encode(command) : (uint32_t)command;
	memcpy(sqe->cmd, &message, sizeof(message));
	rc = io_uring_submit(&ring);
	if (rc >= 0)
		rc = wait_for(&ring, &cqe);
	if (rc == 0)
		rc = cqe->res;
	io_uring_queue_exit(&ring);
	return rc;
}

int ublk_control_info(const struct ublk_control *c, uint32_t device, struct ublk_device_info *ret)
{
	return ublk_control_call(c, UBLK_GET_DEV_INFO, device, ret, sizeof(*ret), 0);
}

int ublk_control_parameters(const struct ublk_control *c, uint32_t device, struct ublk_parameters *ret)
{
	*ret = (struct ublk_parameters){.n_bytes = sizeof(*ret)};
	return ublk_control_call(c, UBLK_GET_PARAMS, device, ret, sizeof(*ret), 0);
}

static bool has_commands(void)
{
	struct io_uring ring;

	if (!feature_have(FEATURE_IO_URING) || io_uring_queue_init(1, &ring, IORING_SETUP_SQE128) < 0)
		return false;
	struct io_uring_probe *probe = io_uring_get_probe_ring(&ring);
	bool has = probe != NULL && io_uring_opcode_supported(probe, IORING_OP_URING_CMD);
	io_uring_free_probe(probe);
	io_uring_queue_exit(&ring);
	return has;
}

int ublk_control_open(struct ublk_control *ret, struct quire_error *err)
{
	struct ublk_control c = {.encodes = true};

	if (!has_commands())
		return quire_fail(err, -ENOTSUP, "ublk: io_uring without commands");
	c.fd = open(UBLK_CONTROL_PATH, O_RDWR | O_CLOEXEC);
	if (c.fd < 0 && (errno == ENOENT || errno == ENXIO || errno == ENODEV))
		return quire_fail(err, -ENOENT, "%s: no driver (modprobe ublk_drv)", UBLK_CONTROL_PATH);
	if (c.fd < 0)
		return quire_fail(err, -errno, "%s", UBLK_CONTROL_PATH);
	if (ublk_control_call(&c, UBLK_GET_FEATURES, UINT32_MAX, &c.features, sizeof(c.features), 0) < 0) {
		c.features = 0;
		c.encodes = false;
	}
	*ret = c;
	return 0;
}

void ublk_control_close(struct ublk_control *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}
