/* store_read.c - a large blob, read from its beginning to its end and verified, and between that a plain file of
 * the same length with O_DIRECT and pread. Both into aligned memory, one call after the other, of the same size.
 *
 * The blob is read from a coroutine, whose loop owns its ring, and from a plain thread. Each page of 4 KiB begins with its
 * number; the first of every call is looked at.
 */
#include "store.h"
#include "coroutine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_CALL_BYTES (4u << 20)
#define N_CALLS 2u

struct reader {
	struct quire_store *store;
	uint64_t id, bytes;
	size_t call_bytes;
	void *buf;
	int fd;
	double per_second; /* bytes */
	int error;
};

static void number_pages(char *buf, uint64_t at, size_t len_bytes)
{
	for (size_t i = 0; i < len_bytes; i += STORE_PAGE_BYTES) {
		uint64_t page = (at + i) / STORE_PAGE_BYTES;
		memcpy(buf + i, &page, sizeof(page));
	}
}

static int page_is(const void *buf, uint64_t at)
{
	uint64_t page;

	memcpy(&page, buf, sizeof(page));
	return page == at / STORE_PAGE_BYTES ? 0 : -EILSEQ;
}

/* ---- made once ---- */

static int fill_file(struct reader *r, const char *path)
{
	struct stat st;

	r->fd = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
	if (r->fd < 0 || fstat(r->fd, &st) != 0)
		return -errno;
	if ((uint64_t)st.st_size >= r->bytes)
		return 0;
	if (ftruncate(r->fd, 0) != 0)
		return -errno;
	for (uint64_t at = 0; at < r->bytes; at += MAX_CALL_BYTES) {
		number_pages(r->buf, at, MAX_CALL_BYTES);
		if (pwrite(r->fd, r->buf, MAX_CALL_BYTES, (off_t)at) != MAX_CALL_BYTES)
			return errno != 0 ? -errno : -EIO;
	}
	return fsync(r->fd) != 0 ? -errno : 0;
}

static int fill_blob(struct reader *r)
{
	const struct quire_blob_hints hints = { .size = sizeof(hints), .expected_bytes = r->bytes };
	int rc = quire_blob_alloc(r->store, &hints, &r->id);

	for (uint64_t at = 0; at < r->bytes && rc == 0; at += MAX_CALL_BYTES) {
		struct iovec iov = { r->buf, MAX_CALL_BYTES };
		number_pages(r->buf, at, MAX_CALL_BYTES);
		rc = quire_blob_write(r->store, r->id, &iov, 1, NULL);
	}
	return rc < 0 ? rc : quire_blob_commit(r->store, &r->id, 1, NULL);
}

/* ---- one after the other ---- */

static void read_file(void *arg)
{
	struct reader *r = arg;

	for (uint64_t at = 0; at < r->bytes && r->error == 0; at += r->call_bytes) {
		ssize_t n = pread(r->fd, r->buf, r->call_bytes, (off_t)at);
		r->error = n == (ssize_t)r->call_bytes ? page_is(r->buf, at) : n < 0 ? -errno : -EIO;
	}
}

static void read_blob(void *arg)
{
	struct reader *r = arg;

	for (uint64_t at = 0; at < r->bytes && r->error == 0; at += r->call_bytes) {
		struct iovec iov = { r->buf, r->call_bytes };
		int64_t n = quire_blob_read(r->store, r->id, at, &iov, 1, NULL);
		r->error = n == (int64_t)r->call_bytes ? page_is(r->buf, at) : n < 0 ? (int)n : -EIO;
	}
}

static int turn(struct reader *r, void (*read_all)(void *arg), bool coroutine, double *ret)
{
	double start = now_seconds();
	int rc = 0;

	r->error = 0;
	if (coroutine)
		rc = run_in_coroutine(read_all, r);
	else
		read_all(r);
	*ret = (double)r->bytes / (now_seconds() - start);
	return rc < 0 ? rc : r->error < 0 ? failed("reading", r->error) : 0;
}

static int one_round(struct reader *r, size_t call_bytes, bool last)
{
	double file, blob, file_again, blob_thread;

	r->call_bytes = call_bytes;
	int rc = turn(r, read_file, false, &file);
	if (rc == 0)
		rc = turn(r, read_blob, true, &blob);
	if (rc == 0)
		rc = turn(r, read_file, false, &file_again);
	if (rc == 0)
		rc = turn(r, read_blob, false, &blob_thread);
	if (rc == 0)
		printf("{\"call_bytes\": %zu, \"pread\": %.0f, \"blob\": %.0f, \"pread_again\": %.0f, "
		       "\"blob_thread\": %.0f}%s\n",
		       call_bytes, file, blob, file_again, blob_thread, last ? "]}" : ",");
	return rc;
}

static int run_rounds(const struct store_bench *b, struct reader *r)
{
	static const size_t calls[N_CALLS] = { 1u << 20, 4u << 20 };
	int rc = 0;

	printf("{\"rounds\": [\n");
	for (unsigned i = 0; i < b->rounds * N_CALLS && rc == 0; i++)
		rc = one_round(r, calls[i % N_CALLS], i + 1 == b->rounds * N_CALLS);
	return rc;
}

static int blob_of(struct reader *r)
{
	struct quire_blob_props props;

	if (quire_blob_list(r->store, 0, &r->id, 1) == 1 && quire_blob_props(r->store, r->id, &props) == 0 &&
	    props.len_bytes >= r->bytes)
		return 0;
	return fill_blob(r);
}

int store_bench_read(const struct store_bench *b)
{
	char *path = store_path(b, "read"), *capacity = store_path(b, "read/capacity"), *file = store_path(b, "read-file");
	struct reader r = { .bytes = b->n & ~(uint64_t)(MAX_CALL_BYTES - 1), .fd = -1 };
	struct open_store s;
	int rc = 0;

	r.buf = aligned_alloc(STORE_PAGE_BYTES, MAX_CALL_BYTES);
	if (path == NULL || capacity == NULL || file == NULL || r.buf == NULL)
		return failed("starting", -ENOMEM);
	memset(r.buf, 0x5a, MAX_CALL_BYTES);
	if (access(capacity, F_OK) != 0)
		rc = store_make(path, UINT64_C(8) << 30);
	if (rc == 0)
		rc = store_open_at(path, &s);
	if (rc == 0) {
		r.store = s.store;
		rc = fill_file(&r, file);
		if (rc == 0)
			rc = blob_of(&r);
		rc = rc < 0 ? failed("making what is read", rc) : run_rounds(b, &r);
		store_shut(&s);
	}
	if (r.fd >= 0)
		close(r.fd);
	free(r.buf);
	free(path);
	free(capacity);
	free(file);
	return rc;
}
