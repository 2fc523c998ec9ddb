/* engine_uring.c - I/O of a loop through io_uring.
 *
 * The ring is made by quire_loop_create, whose caller must learn at once whether it can be had,
 * but belongs to the thread that first runs the loop (SINGLE_ISSUER). So it is created disabled,
 * and own() enables it. What the engine cannot do without is asked for at creation: the opcodes,
 * waiting with a timeout (EXT_ARG), completions that never get lost (NODROP), multishot polls
 * (which came together with RSRC_TAGS and cannot be asked for by themselves), and that
 * io_uring_enter and io_uring_register are not filtered out.
 *
 * With DEFER_TASKRUN completions appear only when the owner enters the kernel; the kernel says in
 * the ring's flags (TASKRUN) that there are some, so a turn with nothing to do makes no system call.
 *
 * Waking up. Where the loop waits by itself, a multishot poll on wake_fd ends the wait; wake_fd is
 * never read there. Where a foreign event loop waits, the ring signals wake_fd, as a registered
 * eventfd: polling the ring's own descriptor does not notice deferred completions. During turns
 * that signalling is switched off.
 *
 * Cancels are gathered and submitted right before an enter: no completion is reaped between, so a
 * cancel can't hit another I/O that was given the same memory.
 */
#include "../base/feature.h"
#include "engine.h"
#include "stack_notes.h"
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#define N_BUFFER_SLOTS 64u /* bits of a word */
#define N_RING_TRIES 20u
#define RING_PAUSE_US 10000u
#define WORKERS_MAX 128u
#define TRANSFER_MAX_BYTES 0x7ffff000u        /* the kernel's own limit */
#define MADVISE_MAX_BYTES (UINT64_C(1) << 31) /* the length field has 32 bits */

/* user_data of what is no I/O. I/Os have their address. */
enum { TAG_WAKE = 1, TAG_CANCEL = 2, TAG_AHEAD = 3 };

enum { URING_CANCEL_LISTED = 1, URING_CANCEL_SENT = 2 };

struct uring {
	struct engine base;
	struct io_uring ring;
	struct io_list cancels; /* started ones to cancel */
	bool wake_armed;
	bool eventfd_registered;
	bool has_slots; /* a table of registered buffers */
	uint64_t slots_used;
};

static struct uring *uring_of(struct engine *engine)
{
	return container_of(engine, struct uring, base);
}

/* ---- slots of registered buffers ---- */

static int slot_take(struct uring *u)
{
	if (!u->has_slots)
		return -ENOTSUP;
	if (u->slots_used == UINT64_MAX)
		return -ENOSPC;
	int slot = __builtin_ctzll(~u->slots_used);
	u->slots_used |= UINT64_C(1) << slot;
	return slot;
}

static void slot_free(struct uring *u, int slot)
{
	quire_assert(slot >= 0 && (unsigned)slot < N_BUFFER_SLOTS && (u->slots_used >> slot & 1));
	u->slots_used &= ~(UINT64_C(1) << slot);
}

static int uring_buffers_register(struct engine *engine, void *buf, uint64_t len_bytes)
{
	struct uring *u = uring_of(engine);
	int slot = slot_take(u);
	if (slot < 0)
		return slot;
	struct iovec iov = {.iov_base = buf, .iov_len = len_bytes};
	__u64 tag = 0;
	int rc = io_uring_register_buffers_update_tag(&u->ring, (unsigned)slot, &iov, &tag, 1);
	if (rc < 0) {
		slot_free(u, slot);
		return rc;
	}
	return slot;
}

static void uring_buffers_unregister(struct engine *engine, int slot)
{
	struct uring *u = uring_of(engine);
	struct iovec none = {.iov_base = NULL, .iov_len = 0};
	__u64 tag = 0;
	/* Fails after the last turn on a thread that is not the owner; the ring's end does it then. */
	(void)io_uring_register_buffers_update_tag(&u->ring, (unsigned)slot, &none, &tag, 1);
	slot_free(u, slot);
}

/* ---- starting ---- */

static struct io_uring_sqe *sqe_get(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	if (sqe == NULL) {
		io_uring_submit(&u->ring);
		sqe = io_uring_get_sqe(&u->ring);
	}
	return sqe;
}

static void prepare_read(struct io_uring_sqe *sqe, const struct io *io)
{
	unsigned len = io->len < TRANSFER_MAX_BYTES ? (unsigned)io->len : TRANSFER_MAX_BYTES;
	if (io->buffer_slot >= 0)
		io_uring_prep_read_fixed(sqe, io->fd, io->buf, len, io->offset, io->buffer_slot);
	else
		io_uring_prep_read(sqe, io->fd, io->buf, len, io->offset);
}

static void prepare_write(struct io_uring_sqe *sqe, const struct io *io)
{
	unsigned len = io->len < TRANSFER_MAX_BYTES ? (unsigned)io->len : TRANSFER_MAX_BYTES;
	if (io->buffer_slot >= 0)
		io_uring_prep_write_fixed(sqe, io->fd, io->buf, len, io->offset, io->buffer_slot);
	else
		io_uring_prep_write(sqe, io->fd, io->buf, len, io->offset);
	sqe->rw_flags = (__kernel_rwf_t)io->flags;
}

static void prepare_madvise(struct io_uring_sqe *sqe, struct io *io)
{
	uint64_t done = io_private(io)->progress;
	uint64_t len = io->len - done;
	if (len > MADVISE_MAX_BYTES)
		len = MADVISE_MAX_BYTES;
	io_uring_prep_madvise(sqe, (char *)io->buf + done, (off_t)len, (int)io->flags);
}

/* Populating alone would read around each page that is missing, 128 KiB or more at a time, unless
 * the mapping is advised to be random; asked for ahead, exactly the range is read. The pair goes in
 * one submission, and one worker carries out both. */
static struct io_uring_sqe *prepare_willneed(struct uring *u, struct io *io)
{
	if (io_uring_sq_space_left(&u->ring) < 2)
		io_uring_submit(&u->ring);
	if (io_uring_sq_space_left(&u->ring) < 2)
		return NULL;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	io_uring_prep_madvise(sqe, io->buf, (off_t)io->len, MADV_WILLNEED);
	io_uring_sqe_set_data64(sqe, TAG_AHEAD);
	sqe->flags |= IOSQE_IO_HARDLINK;
	if (u->ring.features & IORING_FEAT_CQE_SKIP)
		sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	return io_uring_get_sqe(&u->ring);
}

static void uring_start(struct engine *engine, struct io *io)
{
	struct uring *u = uring_of(engine);
	struct io_uring_sqe *sqe = io->op == IO_POPULATE ? prepare_willneed(u, io) : sqe_get(u);
	if (sqe == NULL) {
		io_finish_later(engine->loop, io, -EAGAIN);
		return;
	}
	switch (io->op) {
	case IO_NOP:
		io_uring_prep_nop(sqe);
		break;
	case IO_READ:
		prepare_read(sqe, io);
		break;
	case IO_WRITE:
		prepare_write(sqe, io);
		break;
	case IO_FDATASYNC:
		io_uring_prep_fsync(sqe, io->fd, IORING_FSYNC_DATASYNC);
		break;
	case IO_FALLOCATE:
		io_uring_prep_fallocate(sqe, io->fd, (int)io->flags, (off_t)io->offset, (off_t)io->len);
		break;
	case IO_OPEN:
		io_uring_prep_openat(sqe, AT_FDCWD, io->path, (int)io->flags, 0);
		break;
	case IO_STATX:
		io_uring_prep_statx(sqe, AT_FDCWD, io->path, 0, STATX_BASIC_STATS, io->statx_buf);
		break;
	case IO_MADVISE:
		prepare_madvise(sqe, io);
		break;
	case IO_POPULATE:
		io_uring_prep_madvise(sqe, io->buf, (off_t)io->len, MADV_POPULATE_READ);
		break;
	case IO_POLL:
		io_uring_prep_poll_add(sqe, io->fd, io->flags);
		break;
	}
	io_uring_sqe_set_data(sqe, io);
}

static void uring_cancel(struct engine *engine, struct io *io)
{
	struct uring *u = uring_of(engine);
	struct io_private *p = io_private(io);
	if (p->engine_state != 0)
		return;
	p->engine_state = URING_CANCEL_LISTED;
	io_list_append(&u->cancels, io);
}

static void prepare_cancels(struct uring *u)
{
	while (u->cancels.first != NULL) {
		struct io *io = u->cancels.first;
		struct io_uring_sqe *sqe = sqe_get(u);
		if (sqe == NULL)
			return;
		io_uring_prep_cancel(sqe, io, 0);
		io_uring_sqe_set_data64(sqe, TAG_CANCEL);
		io_list_remove(&u->cancels, io);
		io_private(io)->engine_state = URING_CANCEL_SENT;
	}
}

/* ---- turns ---- */

static bool kernel_has_news(struct uring *u)
{
	return IO_URING_READ_ONCE(*u->ring.sq.kflags) & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN);
}

static bool uring_pending(struct engine *engine)
{
	struct uring *u = uring_of(engine);
	return io_uring_cq_ready(&u->ring) != 0 || kernel_has_news(u);
}

static void complete(struct uring *u, struct io *io, int result)
{
	struct io_private *p = io_private(io);
	if (p->engine_state == URING_CANCEL_LISTED)
		io_list_remove(&u->cancels, io);
	if (io->op == IO_MADVISE && result == 0) {
		p->progress += MADVISE_MAX_BYTES;
		if (p->progress < io->len) {
			p->engine_state = 0;
			uring_start(&u->base, io);
			return;
		}
	}
	io_finish(u->base.loop, io, result);
}

static unsigned uring_reap(struct engine *engine)
{
	struct uring *u = uring_of(engine);
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;
	io_uring_for_each_cqe (&u->ring, head, cqe) {
		n++;
		if (cqe->user_data == TAG_WAKE)
			u->wake_armed = (cqe->flags & IORING_CQE_F_MORE) != 0;
		else if (cqe->user_data != TAG_CANCEL && cqe->user_data != TAG_AHEAD)
			complete(u, (struct io *)(uintptr_t)cqe->user_data, cqe->res);
	}
	io_uring_cq_advance(&u->ring, n);
	return n;
}

/* Errors of an enter (EINTR, or a lack of memory) leave the entries in the ring for the next one. */
static void uring_submit(struct engine *engine)
{
	struct uring *u = uring_of(engine);
	prepare_cancels(u);
	if (io_uring_sq_ready(&u->ring) != 0)
		(void)io_uring_submit(&u->ring);
	else if (kernel_has_news(u))
		(void)io_uring_get_events(&u->ring);
}

static void uring_wait(struct engine *engine, uint64_t timeout_ns)
{
	struct uring *u = uring_of(engine);
	if (!u->wake_armed) {
		struct io_uring_sqe *sqe = sqe_get(u);
		if (sqe == NULL)
			return;
		io_uring_prep_poll_multishot(sqe, engine->loop->wake_fd, POLLIN);
		io_uring_sqe_set_data64(sqe, TAG_WAKE);
		u->wake_armed = true;
	}
	prepare_cancels(u);
	struct __kernel_timespec ts = {
		.tv_sec = (long long)(timeout_ns / 1000000000u),
		.tv_nsec = (long long)(timeout_ns % 1000000000u),
	};
	struct io_uring_cqe *cqe;
	(void)io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, timeout_ns == NEVER_NS ? NULL : &ts, NULL);
}

/* ---- the ring's life ---- */

/* Debian 12's liburing does not export io_uring_enable_rings. */
static int uring_own(struct engine *engine)
{
	struct uring *u = uring_of(engine);
	if (syscall(__NR_io_uring_register, u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
		return -errno;
	/* What the kernel can only do by blocking a thread (madvise, open) is done by workers of which
	 * it starts four a CPU at most, far below what a device can take. */
	unsigned workers[2] = {u->base.loop->depth < WORKERS_MAX ? u->base.loop->depth : WORKERS_MAX, 0};
	(void)io_uring_register_iowq_max_workers(&u->ring, workers);
	return 0;
}

static int uring_notify(struct engine *engine, bool on)
{
	struct uring *u = uring_of(engine);
	if (!u->eventfd_registered) {
		if (!on)
			return 0;
		int rc = io_uring_register_eventfd(&u->ring, engine->loop->wake_fd);
		if (rc < 0)
			return rc;
		u->eventfd_registered = true;
	}
	(void)io_uring_cq_eventfd_toggle(&u->ring, on);
	/* What the kernel posts from here on signals; what it posted before, uring_pending sees. */
	atomic_thread_fence(memory_order_seq_cst);
	return 0;
}

static void uring_destroy(struct engine *engine)
{
	struct uring *u = uring_of(engine);
	stack_note_forgotten(u->ring.sq.ring_ptr, u->ring.sq.ring_sz);
	stack_note_forgotten(u->ring.sq.sqes, u->ring.sq.ring_entries * sizeof(struct io_uring_sqe));
	io_uring_queue_exit(&u->ring);
	free(u);
}

static const struct engine_ops uring_ops = {
	.kind = QUIRE_ENGINE_URING,
	.destroy = uring_destroy,
	.own = uring_own,
	.notify = uring_notify,
	.start = uring_start,
	.cancel = uring_cancel,
	.reap = uring_reap,
	.submit = uring_submit,
	.wait = uring_wait,
	.pending = uring_pending,
	.buffers_register = uring_buffers_register,
	.buffers_unregister = uring_buffers_unregister,
};

static bool has_all_opcodes(struct io_uring *ring)
{
	static const uint8_t needed[] = {
		IORING_OP_NOP,     IORING_OP_READ,     IORING_OP_READ_FIXED,   IORING_OP_OPENAT, IORING_OP_STATX,
		IORING_OP_MADVISE, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL, IORING_OP_WRITE,  IORING_OP_WRITE_FIXED,
		IORING_OP_FSYNC,   IORING_OP_FALLOCATE,
	};
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	if (probe == NULL)
		return false;
	bool all = true;
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		all = all && io_uring_opcode_supported(probe, needed[i]);
	io_uring_free_probe(probe);
	return all;
}

/* -ENOTSUP, or 0. A disabled ring answers enter with EBADFD; a filter answers otherwise. */
static int check_ring(struct uring *u)
{
	const unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_RSRC_TAGS;
	if ((u->ring.features & needed) != needed || !has_all_opcodes(&u->ring))
		return -ENOTSUP;
	if (syscall(__NR_io_uring_enter, u->ring.ring_fd, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0) < 0 &&
	    errno != EBADFD)
		return -ENOTSUP;
	return 0;
}

static int setup_ring(struct uring *u, unsigned depth)
{
	struct io_uring_params params;
	memset(&params, 0, sizeof(params));
	params.flags = IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
	if (feature_have(FEATURE_DEFER_TASKRUN))
		params.flags |= IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
		                IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
	/* A cancel and what goes ahead an I/O, and polls, which the depth does not bound. */
	params.cq_entries = depth < 32 ? 128 : depth * 4;
	/* What a closed ring took of the user's RLIMIT_MEMLOCK, the kernel gives back a while later. */
	int rc = -ENOMEM;
	for (unsigned i = 0; rc == -ENOMEM && i < N_RING_TRIES; i++) {
		if (i > 0)
			usleep(RING_PAUSE_US);
		rc = io_uring_queue_init_params(depth < 8 ? 8 : depth, &u->ring, &params);
	}
	return rc;
}

int engine_uring_create(struct quire_loop *loop, struct engine **ret_engine)
{
	/* Valgrind keeps its one lock while a thread waits in io_uring_enter, so nobody else would run. */
	if (!feature_have(FEATURE_IO_URING) || RUNNING_ON_VALGRIND)
		return -ENOTSUP;
	struct uring *u = calloc(1, sizeof(*u));
	if (u == NULL)
		return -ENOMEM;
	u->base.ops = &uring_ops;
	u->base.loop = loop;
	int rc = setup_ring(u, loop->depth);
	if (rc < 0) {
		free(u);
		return rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM ? rc : -ENOTSUP;
	}
	rc = check_ring(u);
	if (rc < 0) {
		uring_destroy(&u->base);
		return rc;
	}
	u->has_slots = io_uring_register_buffers_sparse(&u->ring, N_BUFFER_SLOTS) == 0;
	/* A child that forked has no business with the ring. */
	(void)io_uring_ring_dontfork(&u->ring);
	*ret_engine = &u->base;
	return 0;
}
