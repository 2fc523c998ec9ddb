/* import_copy.c - files become blobs, and batches of them transactions. */
#include "import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_BYTES (1u << 20)

/* ---- one file ---- */

static bool is_unchanged(int fd, const struct tree_entry *e)
{
	struct stat st;
	struct tree_entry now;

	if (fstat(fd, &st) < 0)
		return false;
	tree_entry_of(&now, &st);
	return now.len_bytes == e->len_bytes && now.mtime.tv_sec == e->mtime.tv_sec &&
	       now.mtime.tv_nsec == e->mtime.tv_nsec && now.ctime.tv_sec == e->ctime.tv_sec &&
	       now.ctime.tv_nsec == e->ctime.tv_nsec;
}

/* 0; -EAGAIN: the file is not what it was; -EIO and the like: it can't be read (*ret_source: it is its doing). */
static int copy_bytes(struct import *im, int fd, const struct tree_entry *e, uint64_t id, void *buf, bool *ret_source)
{
	uint64_t done = 0;

	*ret_source = true;
	for (;;) {
		ssize_t n = read(fd, buf, BUFFER_BYTES);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (uint64_t)n;
		if (done > e->len_bytes)
			return -EAGAIN;
		struct iovec v = {buf, (size_t)n};
		int rc = import_is_ending(im) ? -ECANCELED : quire_blob_write(im->session->store, id, &v, 1, NULL);
		if (rc < 0) {
			*ret_source = false;
			return rc;
		}
		if (done == e->len_bytes && n < (ssize_t)BUFFER_BYTES)
			break; /* the look behind the read tells if there is more */
	}
	return done == e->len_bytes && is_unchanged(fd, e) ? 0 : -EAGAIN;
}

/* Fills e and makes the blob, or finds it. *ret_new: it is to be committed. */
static int copy_file(struct import *im, int fd, struct tree_entry *e, void *buf, bool *ret_new, bool *ret_source)
{
	struct quire_blob_hints hints = {.size = sizeof(hints), .cls = im->cls};
	struct stat st;

	*ret_source = true;
	*ret_new = false;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EAGAIN;
	tree_entry_of(e, &st);
	pthread_mutex_lock(&im->lock);
	e->blob = known_use(&im->known, e);
	pthread_mutex_unlock(&im->lock);
	if (e->blob != 0)
		return 0;
	hints.expected_bytes = e->len_bytes;
	if (e->len_bytes > BUFFER_BYTES)
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	int rc = quire_blob_alloc(im->session->store, &hints, &e->blob);
	if (rc < 0) {
		*ret_source = false;
		return rc;
	}
	rc = copy_bytes(im, fd, e, e->blob, buf, ret_source);
	if (rc < 0)
		(void)quire_blob_abort(im->session->store, e->blob);
	*ret_new = rc == 0;
	return rc;
}

static int open_file(const struct import_job *job)
{
	const int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
	int fd = openat(job->dir->fd, job->name, flags | O_NOATIME);

	if (fd < 0 && errno == EPERM)
		fd = openat(job->dir->fd, job->name, flags);
	return fd < 0 ? -errno : fd;
}

/* ---- batches ---- */

/* A store that is small takes few objects in a transaction. */
static int commit_ids(struct import *im, const uint64_t *ids, unsigned n)
{
	int rc = quire_blob_commit(im->session->store, ids, n, NULL);

	if (rc != -EMSGSIZE || n < 2)
		return rc;
	rc = commit_ids(im, ids, n / 2);
	return rc < 0 ? rc : commit_ids(im, ids + n / 2, n - n / 2);
}

/* The part last: whoever finds it finds all that it tells of. */
static int commit_batch(struct import *im, struct import_batch *b)
{
	int rc = tree_finish(&b->part);

	if (rc == 0) {
		b->ids[b->n] = b->part.id;
		rc = commit_ids(im, b->ids, b->n + 1);
	}
	if (rc == 0)
		b->part.id = 0;
	for (unsigned i = 0; i < b->n && rc < 0; i++)
		(void)quire_blob_abort(im->session->store, b->ids[i]);
	tree_abandon(&b->part);
	return rc;
}

int import_commit_rest(struct import *im)
{
	struct import_batch *b = &im->batch;
	int rc = b->part.id != 0 ? commit_batch(im, b) : 0;

	b->n = 0;
	return rc;
}

/* The lock is held. *ret_full: what is to be committed, taken out; owned. */
static int add_to_batch(struct import *im, const struct tree_entry *e, struct import_batch **ret_full)
{
	struct import_batch *b = &im->batch;
	int rc = b->part.id != 0 ? 0 : tree_begin(&b->part, im->session->store, TREE_TAG_PART, im->name);

	if (rc == 0)
		rc = tree_add(&b->part, e);
	if (rc < 0)
		return rc;
	b->ids[b->n++] = e->blob;
	b->bytes += e->len_bytes;
	if (b->n < IMPORT_BATCH_BLOBS && b->bytes < IMPORT_BATCH_BYTES)
		return 0;
	*ret_full = malloc(sizeof(*b));
	if (*ret_full == NULL)
		return -ENOMEM;
	**ret_full = *b;
	b->part = (struct tree_writer){0};
	b->n = 0;
	b->bytes = 0;
	return 0;
}

/* A file is copied, or found. */
static void file_done(struct import *im, const struct tree_entry *e, bool new)
{
	struct import_batch *full = NULL;

	pthread_mutex_lock(&im->lock);
	int rc = tree_add(&im->index, e);
	if (rc == 0 && new)
		rc = add_to_batch(im, e, &full);
	im->counters.n_files++;
	im->counters.n_bytes += e->len_bytes;
	im->counters.n_reused += !new;
	progress_update(&im->progress, (double)im->counters.n_files / (double)(im->counters.n_seen + 1));
	pthread_mutex_unlock(&im->lock);
	if (rc == 0 && full != NULL)
		rc = commit_batch(im, full);
	free(full);
	if (rc < 0)
		import_end(im, rc, im->session->path);
}

/* ---- jobs ---- */

static void unread(struct import *im, const struct import_job *job, int rc)
{
	import_leave_out(im, job->dir, job->name, rc == -EAGAIN ? "changes while it is read" : strerror(-rc));
	if (!job->shared)
		return;
	pthread_mutex_lock(&im->lock);
	uint64_t *numbers = realloc(im->unread, (im->n_unread + 1) * sizeof(*numbers));
	if (numbers != NULL) {
		im->unread = numbers;
		numbers[im->n_unread++] = job->number;
	}
	pthread_mutex_unlock(&im->lock);
	if (numbers == NULL)
		import_end(im, -ENOMEM, "import");
}

static void do_job(struct import *im, const struct import_job *job, void *buf)
{
	struct tree_entry e = {
		.number = job->number,
		.parent = job->dir->number,
		.shared = job->shared,
		.name = job->name,
		.name_bytes = (uint16_t)strlen(job->name),
	};
	bool new = false, source = true;
	int rc = -EAGAIN;

	for (unsigned i = 0; i < 2 && rc == -EAGAIN; i++) {
		int fd = open_file(job);
		if (fd < 0) {
			rc = fd;
			break;
		}
		rc = copy_file(im, fd, &e, buf, &new, &source);
		close(fd);
	}
	if (rc == 0)
		file_done(im, &e, new);
	else if (source)
		unread(im, job, rc);
	else
		import_end(im, rc, im->session->path);
}

static bool take_job(struct import *im, struct import_job *ret)
{
	pthread_mutex_lock(&im->lock);
	while (im->n_queued == 0 && !im->walked)
		pthread_cond_wait(&im->can_pop, &im->lock);
	bool taken = im->n_queued > 0;
	if (taken) {
		*ret = im->queue[im->head];
		im->head = (im->head + 1) % IMPORT_QUEUE;
		im->n_queued--;
		pthread_cond_signal(&im->can_push);
	}
	pthread_mutex_unlock(&im->lock);
	return taken;
}

void *import_copier(void *arg)
{
	struct import *im = arg;
	struct import_job job;
	void *buf = aligned_alloc(4096, BUFFER_BYTES);

	if (buf == NULL)
		import_end(im, -ENOMEM, "import");
	while (take_job(im, &job)) {
		if (!import_is_ending(im))
			do_job(im, &job, buf);
		import_dir_put(im, job.dir);
		free(job.name);
	}
	free(buf);
	return NULL;
}
