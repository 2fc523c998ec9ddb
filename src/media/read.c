/* read.c - reads of files, by a loop or at once.
 *
 *            descriptor there
 *   start ──────────────────────→ reading ──→ done(0) → check → finish
 *     │                           ↑  │  ↑ short: go on
 *     └─→ waiting at its file ────┘  └──┘
 *              │  the first of those who wait opens it
 *              └─→ done(error)       → done(error) → finish
 *
 * Invariants:
 * 1. read->fd ≥ 0 exactly while the read is a user of its file's descriptor, or has one of its own:
 *    from when reading begins until media_read_finish.
 * 2. done() runs once, on the read's loop, never inside media_read_start.
 * 3. A read that the medium has answered is counted in file->n_completed before its done();
 *    file->n_checked ≤ n_completed, and each read numbered up to it was answered before an
 *    fstat that found the file unchanged began.
 *
 * Threads: a read belongs to its loop. The opener's done() takes all who wait, and posts
 * those of other loops to theirs.
 *
 * Descriptors are not registered with the rings. That would save 0.1 to 0.2 microseconds a read
 * (of 1.4, buffered and cached, at depth 32), but each slot keeps its file open: a deleted file's
 * blocks would not be freed, nor a descriptor given up, before every ring had let go of it.
 */
#include "media_internal.h"

#include "../base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static void submit(struct media_read *read);

static struct media_read *read_of_io(struct io *io)
{
	return (struct media_read *)((char *)io - offsetof(struct media_read, io));
}

static struct media_read *read_of_task(struct loop_task *task)
{
	return (struct media_read *)((char *)task - offsetof(struct media_read, task));
}

/* ---- the run of one read, whoever waits for it ---- */

/* Bytes to ask for, n_done of them being there. Direct I/O is asked for whole pages. */
static uint32_t bytes_left(const struct media_file *file, uint32_t len_bytes, uint32_t n_done)
{
	uint32_t page_bytes = file->pool->page_bytes;
	uint32_t end = len_bytes;
	if (!file->buffered)
		end = (len_bytes + page_bytes - 1) & ~(page_bytes - 1);
	return end - n_done;
}

enum next_step {
	STEP_AGAIN, /* read on, from *n_done */
	STEP_DONE,  /* *ret_result */
};

/* A read's answer: bytes, or a negative errno. */
static enum next_step step(struct media_file *file, int fd, uint32_t len_bytes, int64_t answer,
                           struct media_progress *progress, int *ret_result)
{
	if (answer == -EINTR || answer == -EAGAIN)
		return STEP_AGAIN;
	if (answer == -EINVAL && !progress->went_buffered && !(file->flags & FILE_DUPLICATE)) {
		/* It was opened for direct I/O, and now refuses it. */
		progress->went_buffered = true;
		file->buffered = true;
		if (fcntl(fd, F_SETFL, 0) == 0)
			return STEP_AGAIN;
	}
	if (answer < 0) {
		*ret_result = (int)answer;
		return STEP_DONE;
	}

	uint32_t before = progress->n_done_bytes;
	uint32_t now = before + (uint32_t)answer;
	if (now >= len_bytes) {
		*ret_result = 0;
		return STEP_DONE;
	}
	/* Direct I/O goes on at an aligned place. If that is where it began, the file ends in
	 * this very block. */
	progress->n_done_bytes = now & ~(media_file_alignment(file) - 1);
	if (progress->n_done_bytes <= before) {
		*ret_result = -ESTALE;
		return STEP_DONE;
	}
	return STEP_AGAIN;
}

/* Counts a read as answered. */
static uint64_t complete(struct media_file *file)
{
	return atomic_fetch_add(&file->n_completed, 1) + 1;
}

static int check(struct media_file *file, int fd, uint64_t completed_no)
{
	struct stat st;
	if (atomic_load(&file->n_checked) >= completed_no)
		return 0;

	uint64_t covered = atomic_load(&file->n_completed);
	uint64_t known_bytes = identity_size(file);
	if (fstat(fd, &st) < 0)
		return -errno;
	int rc = identity_check(file, &st, known_bytes);
	if (rc < 0)
		return rc;
	uint64_t checked = atomic_load(&file->n_checked);
	while (checked < covered &&
	       !atomic_compare_exchange_weak(&file->n_checked, &checked, covered))
		continue;
	return 0;
}

/* ---- by a loop: reading ---- */

static void finish_with(struct media_read *read, int result)
{
	if (result == 0)
		read->completed_no = complete(read->file);
	read->done(read, result);
}

static void read_done(struct io *io, int64_t answer)
{
	struct media_read *read = read_of_io(io);
	int result;
	if (step(read->file, read->fd, read->len_bytes, answer, &read->progress, &result) ==
	    STEP_AGAIN)
		submit(read);
	else
		finish_with(read, result);
}

static void submit(struct media_read *read)
{
	struct io *io = &read->io;
	uint32_t n_done = read->progress.n_done_bytes;
	io->op = IO_READ;
	io->fd = read->fd;
	io->buffer_slot = read->buffer_slot;
	io->offset = read->offset + n_done;
	io->buf = (char *)read->buf + n_done;
	io->len = bytes_left(read->file, read->len_bytes, n_done);
	io->done = read_done;
	loop_io_submit(read->loop, io);
}

/* With the spare descriptor that there is for reads at once: better a short stay than none. */
static void read_at_once(struct media_read *read)
{
	read->done(read, media_read_now(read->file, read->offset, read->len_bytes, read->buf));
}

/* ---- by a loop: opening ---- */

/* A result of waiting: whoever was to open the file may not wait for a descriptor. */
#define WAIT_IS_OFF 1

/* On the read's loop: its file is open, or it can't be; or each sees to himself. */
static void wait_ended(struct media_read *read)
{
	loop_release(read->loop);
	if (read->result == 0)
		submit(read);
	else if (read->result != WAIT_IS_OFF)
		finish_with(read, read->result);
	else if (read->independent)
		read_at_once(read);
	else
		media_read_start(read->loop, read);
}

static void wait_ended_task(struct loop_task *task)
{
	wait_ended(read_of_task(task));
}

/* Lets all who waited go on, each on its own loop; `loop` is the one of this thread. */
static void release(struct media_read *list, struct quire_loop *loop, int fd, int result)
{
	struct media_read *next;
	for (struct media_read *read = list; read != NULL; read = next) {
		/* Read before: its owner may use it again as soon as it is done. */
		next = read->next;
		read->next = NULL;
		read->fd = fd;
		read->result = result;
		if (read->loop != loop) {
			loop_task_init(&read->task, wait_ended_task);
			loop_post(read->loop, &read->task);
		} else {
			wait_ended(read);
		}
	}
}

static void open_failed(struct media_file *file, struct quire_loop *loop, int rc)
{
	release(descriptor_failed(file), loop, -1, media_open_error(rc));
}

/* Whether an open that ended like this should be tried once more. */
static bool open_again(struct media_file *file, int rc)
{
	if (rc == -EINVAL && !file->buffered) {
		file->buffered = true;
		return true;
	}
	return rc == -EINTR;
}

static void open_done(struct io *io, int64_t answer)
{
	struct media_read *opener = read_of_io(io);
	struct media_file *file = opener->file;
	struct quire_loop *loop = opener->loop;
	int rc = (int)answer;

	if (open_again(file, rc)) {
		media_open_start(file);
		return;
	}
	if (rc == -EMFILE || rc == -ENFILE) {
		rc = descriptor_exhausted(file, !opener->independent);
		if (rc > 0)
			media_open_start(file);
		else if (rc == -EAGAIN)
			release(descriptor_failed(file), loop, -1, WAIT_IS_OFF);
		else if (rc < 0)
			open_failed(file, loop, rc);
		return;
	}
	if (rc < 0) {
		open_failed(file, loop, rc);
		return;
	}

	int fd = rc;
	rc = media_open_accept(file, fd);
	if (rc < 0) {
		close(fd);
		open_failed(file, loop, rc);
		return;
	}
	release(descriptor_opened(file, fd), loop, fd, 0);
}

static void submit_open(struct media_read *read, void (*done)(struct io *io, int64_t answer))
{
	struct io *io = &read->io;
	io->op = IO_OPEN;
	io->fd = -1;
	io->buffer_slot = -1;
	io->path = read->file->path;
	io->flags = (unsigned)media_open_flags(read->file);
	io->done = done;
	loop_io_submit(read->loop, io);
}

void media_open_start(struct media_file *file)
{
	submit_open(file->waiters, open_done);
}

/* An independent read's own descriptor. */
static void open_alone_done(struct io *io, int64_t answer)
{
	struct media_read *read = read_of_io(io);
	struct media_file *file = read->file;
	int rc = (int)answer;
	bool exhausted = rc == -EMFILE || rc == -ENFILE;

	if (open_again(file, rc) || (exhausted && descriptor_evict_one(file->pool))) {
		submit_open(read, open_alone_done);
		return;
	}
	if (exhausted) {
		read_at_once(read);
		return;
	}
	int fd = rc;
	if (rc >= 0) {
		rc = media_open_accept(file, fd);
		if (rc < 0)
			close(fd);
	}
	if (rc < 0) {
		finish_with(read, media_open_error(rc));
		return;
	}
	read->fd = fd;
	read->own_fd = true;
	submit(read);
}

/* ---- by a loop: the interface ---- */

void media_read_start(struct quire_loop *loop, struct media_read *read)
{
	quire_assert(read->len_bytes > 0);
	memset(&read->io, 0, sizeof(read->io));
	read->loop = loop;
	read->next = NULL;
	read->progress = (struct media_progress){0};
	read->completed_no = 0;
	read->own_fd = false;
	read->fd = descriptor_get(read->file);
	if (read->fd >= 0) {
		submit(read);
		return;
	}

	/* A loop has no I/O of a read that waits, and must not end over it. */
	enum wait_outcome outcome = descriptor_wait(read);
	if (outcome == WAIT_OPEN) {
		submit(read);
		return;
	}
	if (outcome == WAIT_ALONE) {
		submit_open(read, open_alone_done);
		return;
	}
	loop_hold(loop);
	if (outcome == WAIT_OPENER)
		media_open_start(read->file);
}

int media_read_check(struct media_read *read)
{
	/* Without a descriptor it was read at once, and checked. */
	return read->fd < 0 ? 0 : check(read->file, read->fd, read->completed_no);
}

void media_read_finish(struct media_read *read)
{
	int fd = read->fd;
	if (fd < 0)
		return;
	read->fd = -1;
	if (!read->own_fd)
		descriptor_put(read->file);
	else if (!descriptor_adopt(read->file, fd, 0))
		close(fd);
}

/* ---- at once ---- */

static int read_and_check(struct media_file *file, int fd, uint64_t offset, uint32_t len_bytes,
                          void *buf)
{
	struct media_progress progress = {0};
	int result;
	ssize_t answer;
	do {
		uint32_t n_done = progress.n_done_bytes;
		answer = pread(fd, (char *)buf + n_done, bytes_left(file, len_bytes, n_done),
		               (off_t)(offset + n_done));
	} while (step(file, fd, len_bytes, answer < 0 ? -errno : answer, &progress, &result) ==
	         STEP_AGAIN);
	return result < 0 ? result : check(file, fd, complete(file));
}

/* Of a file that is closed: with a descriptor of this thread's own, so that nobody is waited
 * for. It may be this thread's own loop, interrupted, that would have to give one back. */
static int open_and_read(struct media_file *file, uint64_t offset, uint32_t len_bytes, void *buf)
{
	bool spare = false;
	int fd = media_open_now(file, &spare);
	if (fd < 0)
		return media_open_error(fd);

	int rc = media_open_accept(file, fd);
	if (rc == 0)
		rc = read_and_check(file, fd, offset, len_bytes, buf);
	if (spare)
		media_open_spare_done(file->pool, fd);
	else if (rc < 0 || !descriptor_adopt(file, fd, 0))
		close(fd);
	return rc;
}

int media_read_now(struct media_file *file, uint64_t offset, uint32_t len_bytes, void *buf)
{
	int saved_errno = errno;
	int rc;
	int fd = descriptor_get(file);
	if (fd < 0) {
		rc = open_and_read(file, offset, len_bytes, buf);
	} else {
		rc = read_and_check(file, fd, offset, len_bytes, buf);
		descriptor_put(file);
	}
	errno = saved_errno;
	return rc;
}

int media_file_check(struct media_file *file)
{
	int saved_errno = errno;
	int fd = descriptor_get(file);
	if (fd < 0)
		return -EAGAIN;
	int rc = check(file, fd, complete(file));
	descriptor_put(file);
	errno = saved_errno;
	return rc;
}
