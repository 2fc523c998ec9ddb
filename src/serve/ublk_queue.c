/* ublk_queue.c - the requests of one device: taken from the driver, given a coroutine each, and given back.
 *
 * A tag is a request's place: a descriptor in memory shared with the driver, and memory of io_bytes of our own, into which the driver copies what
 * is to be written, and out of which what was read. A tag goes round:
 *
 *   with the driver → (its command completes) → with a coroutine → (COMMIT_AND_FETCH) → with the driver
 *
 * until the driver completes its command with an error: then the tag is gone. The driver wants all commands of a queue from one thread: the
 * loop's. They have a ring of their own, whose descriptor the loop polls, since the loop's engine knows no such commands, and may be one
 * of threads. What is given back in a turn of the loop goes by one system call at its end.
 *
 * 1. n_out tags are with the driver or with a coroutine; n_running of them with a coroutine. The ring has an entry for each tag, so there is
 *    always one free.
 * 2. A descriptor is copied before it is looked at; the memory of a tag is touched only while a coroutine has it.
 *
 * Where a submission fails, for lack of memory, it is tried again in the next turn: a request must not get lost.
 */
#include "ublk_internal.h"

#include "../base/assert.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- to the driver ---- */

static void prepare(struct ublk_queue *q, uint16_t tag, enum ublk_io_command command, int32_t result)
{
	const struct ublk_io_message message = {
		.tag = tag, .result = result, .address = (uint64_t)(uintptr_t)(q->buffers + (size_t)tag * q->io_bytes)};
	struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);

	quire_assert(sqe != NULL);
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = q->fd;
	sqe->cmd_op = q->encodes ? ublk_encode_io(command) : (uint32_t)command;
	sqe->user_data = tag;
	memcpy(sqe->cmd, &message, sizeof(message));
}

static void submit(struct loop_turn_hook *hook)
{
	struct ublk_queue *q = (struct ublk_queue *)(void *)((char *)hook - offsetof(struct ublk_queue, submit));

	if (io_uring_sq_ready(&q->ring) != 0 && io_uring_submit(&q->ring) < 0)
		loop_turn_hook_arm(q->loop, hook);
}

static void wake_waiter(struct ublk_queue *q)
{
	if (q->waiter == NULL || q->polling || q->n_running > 0)
		return;
	coro_wake(q->waiter);
	q->waiter = NULL;
}

static void give_back(struct ublk_queue *q, uint16_t tag, int32_t result)
{
	q->n_running--;
	prepare(q, tag, UBLK_COMMIT_AND_FETCH, result);
	loop_turn_hook_arm(q->loop, &q->submit);
	wake_waiter(q);
}

/* ---- from the driver ---- */

static void carry_out(void *arg)
{
	struct ublk_slot *slot = arg;
	struct ublk_queue *q = slot->queue;
	struct ublk_descriptor d;

	memcpy(&d, &q->descriptors[slot->tag], sizeof(d));
	int32_t result = ublk_carry_out(q->export, &q->about, &d, q->buffers + (size_t)slot->tag * q->io_bytes, q->io_bytes,
	                                q->always);
	give_back(q, slot->tag, result);
}

static void take_one(struct ublk_queue *q, const struct io_uring_cqe *cqe)
{
	quire_assert(cqe->user_data < q->depth);
	if (cqe->res != 0) {
		q->n_out--;
		return;
	}
	q->n_running++;
	if (quire_co_spawn(q->loop, carry_out, &q->slots[cqe->user_data]) < 0)
		give_back(q, (uint16_t)cqe->user_data, -ENOMEM);
}

static void take_all(struct ublk_queue *q)
{
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	io_uring_for_each_cqe (&q->ring, head, cqe) {
		take_one(q, cqe);
		n++;
	}
	io_uring_cq_advance(&q->ring, n);
}

/* A coroutine. */
static void take_requests(void *arg)
{
	struct ublk_queue *q = arg;
	int64_t rc = 0;

	while (q->n_out > 0 && rc >= 0 && !q->ends) {
		quire_op_init(&q->poll);
		rc = quire_poll_fd(q->ring.ring_fd, POLLIN, &q->poll);
		if (rc == 0)
			rc = quire_await(&q->poll);
		if (rc >= 0)
			take_all(q);
	}
	q->polling = false;
	wake_waiter(q);
}

int ublk_queue_start(struct ublk_queue *q)
{
	for (unsigned tag = 0; tag < q->depth; tag++)
		prepare(q, (uint16_t)tag, UBLK_FETCH, 0);
	int rc = io_uring_submit(&q->ring);
	if (rc < 0)
		return rc;
	q->n_out = q->depth;
	rc = quire_co_spawn(q->loop, take_requests, q);
	q->polling = rc == 0;
	return rc;
}

void ublk_queue_end(struct ublk_queue *q)
{
	q->ends = true;
	if (q->polling)
		(void)quire_op_cancel(&q->poll); /* it may just have completed */
}

void ublk_queue_wait(struct ublk_queue *q)
{
	while (q->polling || q->n_running > 0) {
		q->waiter = coro_self();
		coro_suspend();
	}
}

/* ---- life ---- */

static size_t descriptors_bytes(const struct ublk_queue *q)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (q->depth * sizeof(struct ublk_descriptor) + page - 1) & ~(page - 1);
}

static int map_memory(struct ublk_queue *q)
{
	void *descriptors = mmap(NULL, descriptors_bytes(q), PROT_READ, MAP_SHARED | MAP_POPULATE, q->fd, 0);

	if (descriptors == MAP_FAILED)
		return -errno;
	q->descriptors = descriptors;
	void *buffers = mmap(NULL, (size_t)q->depth * q->io_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (buffers == MAP_FAILED)
		return -errno;
	q->buffers = buffers;
	return 0;
}

int ublk_queue_init(struct ublk_queue *q, uint32_t device)
{
	char path[UBLK_PATH_BYTES];

	ublk_device_path(device, 'c', path);
	q->submit.run = submit;
	q->fd = open(path, O_RDWR | O_CLOEXEC);
	if (q->fd < 0)
		return -errno;
	int rc = map_memory(q);
	if (rc < 0)
		return rc;
	q->slots = calloc(q->depth, sizeof(*q->slots));
	if (q->slots == NULL)
		return -ENOMEM;
	for (unsigned tag = 0; tag < q->depth; tag++)
		q->slots[tag] = (struct ublk_slot){q, (uint16_t)tag};
	rc = io_uring_queue_init(q->depth, &q->ring, 0);
	q->has_ring = rc == 0;
	if (rc == 0)
		(void)io_uring_ring_dontfork(&q->ring);
	return rc;
}

void ublk_queue_fini(struct ublk_queue *q)
{
	quire_assert(!q->polling && q->n_running == 0);
	if (q->has_ring)
		io_uring_queue_exit(&q->ring);
	q->has_ring = false;
	if (q->buffers != NULL)
		munmap(q->buffers, (size_t)q->depth * q->io_bytes);
	q->buffers = NULL;
	if (q->descriptors != NULL)
		/* Only read; unmapping has one kind of pointer. */
		munmap((void *)(uintptr_t)q->descriptors, descriptors_bytes(q));
	q->descriptors = NULL;
	if (q->fd >= 0)
		close(q->fd);
	q->fd = -1;
	free(q->slots);
	q->slots = NULL;
}
