/* engine_threads.c - I/O of a loop by system calls on worker threads, where io_uring is refused.
 *
 * I/Os started in a turn are gathered without a lock and handed over at its end; a worker that is
 * done posts the I/O back to the loop's inbox. Polls need no worker: the loop's own epoll descriptor
 * watches (poll_table.c), which is also what the loop waits on.
 *
 * The first worker is made with the engine, so that a lack of threads shows at once; more come when
 * there is work and nobody idle. Workers block all signals.
 *
 * Lock: engine->lock, a leaf; covers the queue and the counts of workers.
 *
 * An I/O is in exactly one place (engine_state): gathered, queued, with a worker, polled. Gathered,
 * queued and polled ones can be cancelled; one with a worker ends by itself.
 */
#include "engine.h"
#include "poll_table.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define WORKER_STACK_BYTES (256u << 10)
#define TRANSFER_MAX_BYTES 0x7ffff000u
#define N_EVENTS 64

enum { AT_GATHERED = 1, AT_QUEUE, AT_WORKER, AT_POLL };

struct threads {
	struct engine base;
	struct io_list gathered; /* the loop's */
	struct poll_table polls;
	bool no_pwait2;
	bool watched; /* since the last reap */

	pthread_mutex_t lock;
	pthread_cond_t work;
	struct io_list queue;
	unsigned n_queued, n_idle, n_workers, max_workers;
	bool ending;
	pthread_t *workers; /* owned */
};

static struct threads *threads_of(struct engine *engine)
{
	return container_of(engine, struct threads, base);
}

/* ---- workers ---- */

static void deliver(struct loop_task *task)
{
	struct io *io = container_of(container_of(task, struct io_private, task), struct io, engine);
	io_finish(loop_tls.loop, io, io_private(io)->result);
}

static size_t transfer_bytes(const struct io *io)
{
	return io->len < TRANSFER_MAX_BYTES ? io->len : TRANSFER_MAX_BYTES;
}

/* Emulators and filters may not know pwritev2, nor a file system the flag; the C library says EOPNOTSUPP
 * for ENOSYS. */
static int64_t perform_write(const struct io *io)
{
	struct iovec iov = {.iov_base = io->buf, .iov_len = transfer_bytes(io)};
	int64_t rc = -1;
	errno = EOPNOTSUPP;
	if (io->flags != 0)
		rc = pwritev2(io->fd, &iov, 1, (off_t)io->offset, (int)io->flags);
	if (rc < 0 && errno == EOPNOTSUPP && (io->flags & ~(unsigned)RWF_DSYNC) == 0) {
		rc = pwrite(io->fd, iov.iov_base, iov.iov_len, (off_t)io->offset);
		if (rc > 0 && io->flags != 0 && fdatasync(io->fd) < 0)
			rc = -1;
	}
	return rc;
}

static int64_t perform(const struct io *io)
{
	int64_t rc = 0;
	switch (io->op) {
	case IO_READ:
		rc = pread(io->fd, io->buf, transfer_bytes(io), (off_t)io->offset);
		break;
	case IO_WRITE:
		rc = perform_write(io);
		break;
	case IO_FDATASYNC:
		rc = fdatasync(io->fd);
		break;
	case IO_FALLOCATE:
		rc = fallocate(io->fd, (int)io->flags, (off_t)io->offset, (off_t)io->len);
		break;
	case IO_OPEN:
		rc = open(io->path, (int)io->flags);
		break;
	case IO_STATX:
		rc = statx(AT_FDCWD, io->path, 0, STATX_BASIC_STATS, io->statx_buf);
		break;
	case IO_MADVISE:
		rc = madvise(io->buf, io->len, (int)io->flags);
		break;
	case IO_POPULATE:
		(void)madvise(io->buf, io->len, MADV_WILLNEED);
		rc = madvise(io->buf, io->len, MADV_POPULATE_READ);
		break;
	case IO_NOP:
	case IO_POLL:
		break;
	}
	return rc < 0 ? -errno : rc;
}

static void *worker_main(void *arg)
{
	struct threads *t = arg;
	pthread_setname_np(pthread_self(), "quire-io");
	pthread_mutex_lock(&t->lock);
	for (;;) {
		struct io *io = t->queue.first;
		if (io == NULL) {
			if (t->ending)
				break;
			t->n_idle++;
			pthread_cond_wait(&t->work, &t->lock);
			t->n_idle--;
			continue;
		}
		io_list_remove(&t->queue, io);
		t->n_queued--;
		struct io_private *p = io_private(io);
		p->engine_state = AT_WORKER;
		pthread_mutex_unlock(&t->lock);
		p->result = perform(io);
		loop_task_init(&p->task, deliver);
		loop_post(t->base.loop, &p->task);
		pthread_mutex_lock(&t->lock);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

static int add_worker(struct threads *t)
{
	pthread_attr_t attr;
	int rc = -pthread_attr_init(&attr);
	if (rc < 0)
		return rc;
	sigset_t all, old;
	sigfillset(&all);
	(void)pthread_attr_setstacksize(&attr, WORKER_STACK_BYTES);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = -pthread_create(&t->workers[t->n_workers], &attr, worker_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (rc == 0)
		t->n_workers++;
	return rc;
}

/* ---- starting ---- */

static void threads_start(struct engine *engine, struct io *io)
{
	struct threads *t = threads_of(engine);
	if (io->op == IO_POLL) {
		io_private(io)->engine_state = AT_POLL;
		poll_table_add(&t->polls, engine->loop, io);
		return;
	}
	io_private(io)->engine_state = AT_GATHERED;
	io_list_append(&t->gathered, io);
}

static void threads_cancel(struct engine *engine, struct io *io)
{
	struct threads *t = threads_of(engine);
	if (io->op == IO_POLL) {
		poll_table_cancel(&t->polls, engine->loop, io);
		return;
	}
	bool removed = false;
	pthread_mutex_lock(&t->lock);
	uint16_t at = io_private(io)->engine_state;
	if (at == AT_GATHERED) {
		io_list_remove(&t->gathered, io);
		removed = true;
	} else if (at == AT_QUEUE) {
		io_list_remove(&t->queue, io);
		t->n_queued--;
		removed = true;
	}
	pthread_mutex_unlock(&t->lock);
	if (removed)
		io_finish_later(engine->loop, io, -ECANCELED);
}

static void threads_submit(struct engine *engine)
{
	struct threads *t = threads_of(engine);
	if (t->gathered.first == NULL)
		return;
	unsigned n = 0;
	pthread_mutex_lock(&t->lock);
	while (t->gathered.first != NULL) {
		struct io *io = t->gathered.first;
		io_list_remove(&t->gathered, io);
		io_private(io)->engine_state = AT_QUEUE;
		io_list_append(&t->queue, io);
		n++;
	}
	t->n_queued += n;
	/* An idle worker that was signalled before still counts as idle until it took something, and so
	 * does what it will take. There is one worker at least, so a refusal costs nothing but speed. */
	for (unsigned missing = t->n_queued; missing > t->n_idle && t->n_workers < t->max_workers; missing--) {
		if (add_worker(t) < 0)
			break;
	}
	for (unsigned i = 0; i < n && i < t->n_idle; i++)
		pthread_cond_signal(&t->work);
	pthread_mutex_unlock(&t->lock);
}

/* ---- waiting ---- */

static int epoll_wait_ns(struct threads *t, struct epoll_event *events, uint64_t timeout_ns)
{
	int fd = t->base.loop->epoll_fd;
	if (timeout_ns == NEVER_NS)
		return epoll_wait(fd, events, N_EVENTS, -1);
	if (timeout_ns == 0)
		return epoll_wait(fd, events, N_EVENTS, 0);
#ifdef SYS_epoll_pwait2
	if (!t->no_pwait2) {
		struct timespec ts = {
			.tv_sec = (time_t)(timeout_ns / 1000000000u),
			.tv_nsec = (long)(timeout_ns % 1000000000u),
		};
		long n = syscall(SYS_epoll_pwait2, fd, events, N_EVENTS, &ts, NULL, 0);
		if (n >= 0 || (errno != ENOSYS && errno != EPERM))
			return (int)n;
		t->no_pwait2 = true;
	}
#endif
	uint64_t ms = timeout_ns / 1000000u + 1;
	return epoll_wait(fd, events, N_EVENTS, ms > 1000000u ? 1000000 : (int)ms);
}

static void watch_for(struct threads *t, uint64_t timeout_ns)
{
	struct quire_loop *loop = t->base.loop;
	struct epoll_event events[N_EVENTS];
	int n = epoll_wait_ns(t, events, timeout_ns);
	for (int i = 0; i < n; i++) {
		int fd = events[i].data.fd;
		if (fd == loop->wake_fd) {
			uint64_t count;
			(void)!read(fd, &count, sizeof(count));
		} else if (fd != loop->timer_fd) {
			poll_table_ready(&t->polls, loop, fd, events[i].events);
		}
	}
}

static unsigned threads_reap(struct engine *engine)
{
	struct threads *t = threads_of(engine);
	if (t->polls.n_polls != 0 && !t->watched)
		watch_for(t, 0);
	t->watched = false;
	return 0;
}

static void threads_wait(struct engine *engine, uint64_t timeout_ns)
{
	struct threads *t = threads_of(engine);
	threads_submit(engine);
	watch_for(t, timeout_ns);
	t->watched = true;
}

static bool threads_pending(struct engine *engine)
{
	return false; /* what completed is in the inbox, or makes the epoll descriptor readable */
}

/* ---- the rest ---- */

static int threads_own(struct engine *engine)
{
	return 0;
}

static int threads_notify(struct engine *engine, bool on)
{
	return 0;
}

static int no_buffers(struct engine *engine, void *base, uint64_t len_bytes)
{
	return -ENOTSUP;
}

static void no_slot(struct engine *engine, int slot)
{
	quire_assert(slot < 0); /* none was given out */
}

static void threads_destroy(struct engine *engine)
{
	struct threads *t = threads_of(engine);
	pthread_mutex_lock(&t->lock);
	t->ending = true;
	pthread_cond_broadcast(&t->work);
	pthread_mutex_unlock(&t->lock);
	for (unsigned i = 0; i < t->n_workers; i++)
		pthread_join(t->workers[i], NULL);
	pthread_cond_destroy(&t->work);
	pthread_mutex_destroy(&t->lock);
	poll_table_fini(&t->polls);
	free(t->workers);
	free(t);
}

static const struct engine_ops threads_ops = {
	.kind = QUIRE_ENGINE_THREADS,
	.destroy = threads_destroy,
	.own = threads_own,
	.notify = threads_notify,
	.start = threads_start,
	.cancel = threads_cancel,
	.reap = threads_reap,
	.submit = threads_submit,
	.wait = threads_wait,
	.pending = threads_pending,
	.buffers_register = no_buffers,
	.buffers_unregister = no_slot,
};

int engine_threads_create(struct quire_loop *loop, unsigned n_threads, struct engine **ret_engine)
{
	struct threads *t = calloc(1, sizeof(*t));
	if (t == NULL)
		return -ENOMEM;
	t->base.ops = &threads_ops;
	t->base.loop = loop;
	t->max_workers = n_threads;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->work, NULL);
	t->workers = calloc(n_threads, sizeof(*t->workers));
	int rc = t->workers == NULL ? -ENOMEM : add_worker(t);
	if (rc < 0) {
		threads_destroy(&t->base);
		return rc;
	}
	*ret_engine = &t->base;
	return 0;
}
