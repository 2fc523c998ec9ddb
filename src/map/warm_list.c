/* warm_list.c - see warm_list.h.
 *
 * 1. A file under its own name is complete: it is written under another, synced, then renamed. A rename that is lost
 *    with the machine leaves the one before, so the directory is not synced.
 * 2. The header is written last, since it has the counts and the checksum of all that follows.
 * 3. Nothing is believed before every byte was checked; memory is this struct's, whatever a file says.
 */
#include "warm_list.h"

#include "../base/crc32c.h"
#include "../base/fail.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WARM_VERSION 1
#define USES_SHIFT 30

static const unsigned char magic[8] = "QuireWrm";

struct warm_header {
	unsigned char magic[8];
	uint32_t crc;      /* of what follows, to the header's end */
	uint32_t body_crc; /* of the file behind the header */
	uint32_t version;
	uint32_t unit_shift;
	uint64_t n_items, n_runs;
};
static_assert(sizeof(struct warm_header) == 40, "layout");
#define CRC_FROM offsetof(struct warm_header, body_crc)

struct item_record {
	uint32_t kind, mtime_ns;
	uint64_t bytes, id, offset;
};
static_assert(sizeof(struct item_record) == 32, "layout");

struct run_record {
	uint32_t item, first, n_and_uses;
};
static_assert(sizeof(struct run_record) == 12, "layout");

/* ---- writing ---- */

static int write_all(int fd, const void *data, size_t len_bytes, uint64_t offset)
{
	const char *p = data;

	while (len_bytes > 0) {
		ssize_t n = pwrite(fd, p, len_bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		offset += (uint64_t)n;
		len_bytes -= (size_t)n;
	}
	return 0;
}

static void list_flush(struct warm_list *l)
{
	if (l->error == 0)
		l->error = write_all(l->fd, l->buffer, l->n_buffered, l->at);
	l->crc = crc32c(l->crc, l->buffer, l->n_buffered);
	l->at += l->n_buffered;
	l->n_buffered = 0;
}

static void list_put(struct warm_list *l, const void *record, uint32_t len_bytes)
{
	if (l->n_buffered + len_bytes > sizeof(l->buffer))
		list_flush(l);
	memcpy(l->buffer + l->n_buffered, record, len_bytes);
	l->n_buffered += len_bytes;
}

static void list_init(struct warm_list *l, int dir_fd, const char *name)
{
	l->dir_fd = dir_fd;
	l->fd = -1;
	l->name = name;
	l->partial = NULL;
	l->n_items = l->n_runs = 0;
	l->at = sizeof(struct warm_header);
	l->crc = 0;
	l->error = 0;
	l->n_buffered = l->n_used = 0;
}

int warm_list_create(struct warm_list *l, int dir_fd, const char *name, struct quire_error *err)
{
	list_init(l, dir_fd, name);
	if (asprintf(&l->partial, "%s.partial", name) < 0) {
		l->partial = NULL;
		return quire_fail(err, -ENOMEM, "%s", name);
	}
	/* One that a crash has left is not gone on with, and what a link leads to is not ours. */
	unlinkat(dir_fd, l->partial, 0);
	l->fd = openat(dir_fd, l->partial, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (l->fd < 0) {
		int rc = quire_fail(err, -errno, "%s", l->partial);

		warm_list_close(l);
		return rc;
	}
	return 0;
}

void warm_list_put_item(struct warm_list *l, const struct warm_identity *id)
{
	struct item_record r = {
		.kind = htole32((uint32_t)id->kind),
		.mtime_ns = htole32(id->mtime_ns),
		.bytes = htole64(id->bytes),
		.id = htole64(id->id),
		.offset = htole64(id->offset),
	};

	l->n_items++;
	list_put(l, &r, sizeof(r));
}

void warm_list_put_run(struct warm_list *l, const struct warm_run *run)
{
	struct run_record r = {
		.item = htole32(run->item),
		.first = htole32(run->first),
		.n_and_uses = htole32(run->n | (uint32_t)run->uses << USES_SHIFT),
	};

	l->n_runs++;
	list_put(l, &r, sizeof(r));
}

static int list_finish(struct warm_list *l)
{
	list_flush(l);

	struct warm_header h = {
		.body_crc = htole32(l->crc),
		.version = htole32(WARM_VERSION),
		.unit_shift = htole32(WARM_UNIT_SHIFT),
		.n_items = htole64(l->n_items),
		.n_runs = htole64(l->n_runs),
	};

	memcpy(h.magic, magic, sizeof(magic));
	h.crc = htole32(crc32c(0, &h.body_crc, sizeof(h) - CRC_FROM));
	int rc = l->error;
	if (rc == 0)
		rc = write_all(l->fd, &h, sizeof(h), 0);
	if (rc == 0 && fdatasync(l->fd) < 0)
		rc = -errno;
	if (rc == 0 && renameat(l->dir_fd, l->partial, l->dir_fd, l->name) < 0)
		rc = -errno;
	return rc;
}

int warm_list_commit(struct warm_list *l, struct quire_error *err)
{
	int rc = list_finish(l);

	if (rc < 0) {
		quire_fail(err, rc, "writing %s", l->partial);
		warm_list_abort(l);
		return rc;
	}
	warm_list_close(l);
	return 0;
}

void warm_list_abort(struct warm_list *l)
{
	unlinkat(l->dir_fd, l->partial, 0);
	warm_list_close(l);
}

void warm_list_close(struct warm_list *l)
{
	if (l->fd >= 0) {
		posix_fadvise(l->fd, 0, 0, POSIX_FADV_DONTNEED); /* memory is the cache's, not this file's */
		close(l->fd);
	}
	l->fd = -1;
	free(l->partial);
	l->partial = NULL;
}

/* ---- reading ---- */

/* len_bytes of the file, or, at its end, less: returned; or a negative errno. */
static int64_t read_all(int fd, void *data, size_t len_bytes, uint64_t offset)
{
	size_t done = 0;

	while (done < len_bytes) {
		ssize_t n = pread(fd, (char *)data + done, len_bytes - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (int64_t)done;
}

static int header_check(struct warm_list *l, const struct warm_header *h, uint64_t file_bytes, struct quire_error *err)
{
	if (memcmp(h->magic, magic, sizeof(magic)) != 0)
		return quire_fail(err, -EUCLEAN, "%s: no list of hot pages", l->name);
	if (le32toh(h->crc) != crc32c(0, &h->body_crc, sizeof(*h) - CRC_FROM))
		return quire_fail(err, -EBADMSG, "%s: header", l->name);
	if (le32toh(h->version) != WARM_VERSION || le32toh(h->unit_shift) != WARM_UNIT_SHIFT)
		return quire_fail(err, -EUCLEAN, "%s: of version %u, units of 2^%u bytes", l->name,
		                  le32toh(h->version), le32toh(h->unit_shift));
	l->n_items = le64toh(h->n_items);
	l->n_runs = le64toh(h->n_runs);
	if (l->n_items > UINT32_MAX || l->n_runs > WARM_MAX_RUNS ||
	    file_bytes != sizeof(*h) + l->n_items * sizeof(struct item_record) + l->n_runs * sizeof(struct run_record))
		return quire_fail(err, -EBADMSG, "%s: %llu bytes for %llu items and %llu runs", l->name,
		                  (unsigned long long)file_bytes, (unsigned long long)l->n_items,
		                  (unsigned long long)l->n_runs);
	return 0;
}

static int list_check(struct warm_list *l, struct quire_error *err)
{
	struct warm_header h;
	struct stat st;

	if (fstat(l->fd, &st) < 0)
		return quire_fail(err, -errno, "%s", l->name);
	if (!S_ISREG(st.st_mode))
		return quire_fail(err, -EUCLEAN, "%s: no plain file", l->name);
	int64_t n = read_all(l->fd, &h, sizeof(h), 0);
	if (n < 0)
		return quire_fail(err, (int)n, "%s", l->name);
	if (n < (int64_t)sizeof(h))
		return quire_fail(err, -EUCLEAN, "%s: too short for a list of hot pages", l->name);
	int rc = header_check(l, &h, (uint64_t)st.st_size, err);
	if (rc < 0)
		return rc;
	while ((n = read_all(l->fd, l->buffer, sizeof(l->buffer), l->at)) > 0) {
		l->crc = crc32c(l->crc, l->buffer, (size_t)n);
		l->at += (uint64_t)n;
	}
	if (n < 0)
		return quire_fail(err, (int)n, "%s", l->name);
	if (l->crc != le32toh(h.body_crc))
		return quire_fail(err, -EBADMSG, "%s: its checksum is wrong", l->name);
	l->at = sizeof(h);
	return 0;
}

int warm_list_open(struct warm_list *l, int dir_fd, const char *name, struct quire_error *err)
{
	list_init(l, dir_fd, name);
	l->fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (l->fd < 0)
		return quire_fail(err, -errno, "%s", name);
	int rc = list_check(l, err);
	if (rc < 0)
		warm_list_close(l);
	return rc;
}

/* 1; or what went wrong behind the check: an error of the medium, or somebody has cut the file since. */
static int list_get(struct warm_list *l, void *record, uint32_t len_bytes)
{
	if (l->n_buffered - l->n_used < len_bytes) {
		l->at += l->n_used;
		int64_t n = read_all(l->fd, l->buffer, sizeof(l->buffer), l->at);

		l->n_used = l->n_buffered = 0;
		if (n < (int64_t)len_bytes)
			return n < 0 ? (int)n : -EBADMSG;
		l->n_buffered = (uint32_t)n;
	}
	memcpy(record, l->buffer + l->n_used, len_bytes);
	l->n_used += len_bytes;
	return 1;
}

int warm_list_get_item(struct warm_list *l, struct warm_identity *ret_id)
{
	struct item_record r;

	if (l->n_items == 0)
		return 0;
	l->n_items--;
	int rc = list_get(l, &r, sizeof(r));
	if (rc > 0)
		*ret_id = (struct warm_identity){
			.kind = le32toh(r.kind),
			.mtime_ns = le32toh(r.mtime_ns),
			.bytes = le64toh(r.bytes),
			.id = le64toh(r.id),
			.offset = le64toh(r.offset),
		};
	return rc;
}

int warm_list_get_run(struct warm_list *l, struct warm_run *ret_run)
{
	struct run_record r;

	if (l->n_runs == 0)
		return 0;
	l->n_runs--;
	int rc = list_get(l, &r, sizeof(r));
	if (rc > 0)
		*ret_run = (struct warm_run){
			.item = le32toh(r.item),
			.first = le32toh(r.first),
			.n = le32toh(r.n_and_uses) & WARM_RUN_MAX_UNITS,
			.uses = le32toh(r.n_and_uses) >> USES_SHIFT,
		};
	return rc;
}
