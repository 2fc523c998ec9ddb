/* volume_copy.c - `quire volume import|export`: images into volumes and out of them, holes kept.
 *
 * Raw ones are copied here, others by qemu-img (volume_image.c). A volume is served to others when it is whole, and gone if it does not
 * become so; so is a file.
 */
#include "progress.h"
#include "volume_verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_BYTES (1u << 20)
#define EXTENTS 256u

struct copy {
	struct session *s;
	const char *file;
	int fd;                      /* owned */
	struct quire_volume *volume; /* owned */
	uint64_t bytes;              /* of the image */
	uint8_t *buffer;             /* owned */
	struct progress progress;
	bool of_file;                /* what failed */
};

static int fail(const struct copy *c, const struct volume_args *args, int rc)
{
	return c->of_file ? session_fail(c->s, c->file, "%s", session_why(c->s, rc)) : volume_fail(c->s, args->name, rc);
}

static void fini(struct copy *c)
{
	quire_volume_close(c->volume);
	free(c->buffer);
	if (c->fd >= 0)
		close(c->fd);
}

static bool is_raw(const struct volume_args *args)
{
	return args->format == NULL || strcmp(args->format, "raw") == 0;
}

/* ---- import ---- */

static bool is_zero(const uint8_t *bytes, size_t n)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0;
}

/* As much of it as is one kind of blocks, from `at` on. */
static size_t run_of(const uint8_t *bytes, size_t n, bool *ret_zero)
{
	size_t at = 0;

	while (at < n) {
		size_t block = n - at < QUIRE_VOLUME_BLOCK_BYTES ? n - at : QUIRE_VOLUME_BLOCK_BYTES;
		bool zero = is_zero(bytes + at, block);
		if (at == 0)
			*ret_zero = zero;
		if (zero != *ret_zero)
			break;
		at += block;
	}
	return at;
}

static int write_runs(struct copy *c, uint64_t offset, size_t n)
{
	int rc = 0;

	for (size_t at = 0; rc == 0 && at < n;) {
		bool zero = false;
		size_t run = run_of(c->buffer + at, n - at, &zero);
		const struct iovec iov = {c->buffer + at, run};
		rc = zero ? 0 : quire_volume_write(c->volume, offset + at, &iov, 1, 0, NULL);
		at += run;
	}
	return rc;
}

/* From where there is data; without holes in the file system, from offset. -ENXIO: no more. */
static int find_data(const struct copy *c, uint64_t *offset, uint64_t *ret_end)
{
	off_t data = lseek(c->fd, (off_t)*offset, SEEK_DATA);
	off_t hole = data < 0 ? -1 : lseek(c->fd, data, SEEK_HOLE);

	*ret_end = c->bytes;
	if (data < 0 || hole < 0)
		return errno == ENXIO ? -ENXIO : 0;
	*offset = (uint64_t)data & ~(uint64_t)(QUIRE_VOLUME_BLOCK_BYTES - 1);
	if ((uint64_t)hole < c->bytes)
		*ret_end = ((uint64_t)hole + QUIRE_VOLUME_BLOCK_BYTES - 1) & ~(uint64_t)(QUIRE_VOLUME_BLOCK_BYTES - 1);
	if (*ret_end > c->bytes)
		*ret_end = c->bytes;
	return 0;
}

static int import_range(struct copy *c, uint64_t offset, uint64_t end)
{
	int rc = 0;

	while (rc == 0 && offset < end) {
		size_t n = end - offset < BUFFER_BYTES ? (size_t)(end - offset) : BUFFER_BYTES;
		ssize_t got = atomic_load(&c->s->canceled) ? -1 : pread(c->fd, c->buffer, n, (off_t)offset);
		c->of_file = got <= 0;
		if (got <= 0)
			return atomic_load(&c->s->canceled) ? -ECANCELED : got == 0 ? -EIO : errno == EINTR ? 0 : -errno;
		/* Whole blocks, but at the end. */
		if ((size_t)got < n && (size_t)got > QUIRE_VOLUME_BLOCK_BYTES)
			got &= ~(ssize_t)(QUIRE_VOLUME_BLOCK_BYTES - 1);
		rc = write_runs(c, offset, (size_t)got);
		offset += (uint64_t)got;
		progress_update(&c->progress, (double)offset / (double)c->bytes);
	}
	return rc;
}

static int import_raw(struct copy *c)
{
	int rc = 0;

	for (uint64_t offset = 0, end; rc == 0 && offset < c->bytes; offset = end) {
		if (find_data(c, &offset, &end) == -ENXIO)
			break;
		rc = import_range(c, offset, end);
	}
	return rc < 0 ? rc : quire_volume_flush(c->volume, NULL);
}

/* How large it is: a regular file or a block device. */
static int open_source(struct copy *c)
{
	struct stat st;

	c->of_file = true;
	c->fd = openat(c->s->cwd, c->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (c->fd < 0 || fstat(c->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	off_t end = lseek(c->fd, 0, SEEK_END);
	if (end < 0)
		return -errno;
	c->bytes = (uint64_t)end;
	return end == 0 ? -ENODATA : 0;
}

static int make_volume(struct copy *c, const struct volume_args *args, struct quire_volumes *group)
{
	const uint64_t mask = QUIRE_VOLUME_BLOCK_BYTES - 1;
	const struct quire_volume_options opts = {
		.size = sizeof(opts), .size_bytes = (c->bytes + mask) & ~mask, .durable = args->durable};

	c->of_file = false;
	if (c->bytes > QUIRE_VOLUME_MAX_BYTES)
		return -EFBIG;
	return quire_volume_create(group, args->name, &opts);
}

static int fill_volume(struct copy *c, const struct volume_args *args, struct quire_volumes *group)
{
	int rc = is_raw(args) ? quire_volume_open(group, args->name, &c->volume) : 0;

	if (rc < 0)
		return fail(c, args, rc);
	if (!is_raw(args))
		return volume_image(c->s, args, group);
	progress_begin(&c->progress, c->s->err);
	progress_step(&c->progress, "importing");
	rc = import_raw(c);
	progress_end(&c->progress);
	return rc < 0 ? fail(c, args, rc) : CLI_DONE;
}

int volume_import(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	struct copy c = {.s = s, .file = args->other, .fd = -1, .buffer = malloc(BUFFER_BYTES)};
	int rc = c.buffer == NULL ? -ENOMEM : open_source(&c), code = CLI_FAILED;

	if (rc == 0 && !is_raw(args) && volume_image_bytes(s, args, &c.bytes) != CLI_DONE) {
		fini(&c);
		return CLI_FAILED;
	}
	if (rc == 0)
		rc = make_volume(&c, args, group);
	if (rc < 0)
		(void)fail(&c, args, rc);
	else
		code = fill_volume(&c, args, group);
	fini(&c);
	if (rc == 0 && code == CLI_DONE)
		volumes_offer(s, args->cls, group, args->name);
	else if (rc == 0)
		(void)quire_volume_rm(group, args->name);
	return code;
}

/* ---- export ---- */

static int write_all(struct copy *c, const uint8_t *bytes, size_t n, uint64_t offset)
{
	for (size_t at = 0; at < n;) {
		ssize_t put = pwrite(c->fd, bytes + at, n - at, (off_t)(offset + at));
		if (put < 0 && errno != EINTR)
			return -errno;
		at += put > 0 ? (size_t)put : 0;
	}
	return 0;
}

static int export_range(struct copy *c, uint64_t offset, uint64_t end)
{
	int rc = 0;

	while (rc == 0 && offset < end) {
		size_t n = end - offset < BUFFER_BYTES ? (size_t)(end - offset) : BUFFER_BYTES;
		const struct iovec iov = {c->buffer, n};
		c->of_file = false;
		rc = atomic_load(&c->s->canceled) ? -ECANCELED : quire_volume_read(c->volume, offset, &iov, 1, NULL);
		if (rc < 0)
			return rc;
		c->of_file = true;
		rc = write_all(c, c->buffer, n, offset);
		offset += n;
		progress_update(&c->progress, (double)offset / (double)c->bytes);
	}
	return rc;
}

static int export_raw(struct copy *c)
{
	struct quire_volume_extent extents[EXTENTS];
	int64_t n, rc = 0;

	for (uint64_t offset = 0; rc == 0 && offset < c->bytes;) {
		c->of_file = false;
		n = quire_volume_status(c->volume, offset, c->bytes - offset, 0, extents, EXTENTS, NULL);
		if (n < 0)
			return (int)n;
		for (int64_t i = 0; rc == 0 && i < n; i++) {
			offset = extents[i].offset + extents[i].len_bytes;
			if (extents[i].kind == QUIRE_VOLUME_DATA)
				rc = export_range(c, extents[i].offset, offset);
		}
	}
	c->of_file |= rc == 0;
	if (rc == 0 && (ftruncate(c->fd, (off_t)c->bytes) < 0 || fsync(c->fd) < 0))
		rc = -errno;
	return (int)rc;
}

static int write_file(struct copy *c, const struct volume_args *args, struct quire_volumes *group)
{
	if (!is_raw(args))
		return volume_image(c->s, args, group);
	progress_begin(&c->progress, c->s->err);
	progress_step(&c->progress, "exporting");
	int rc = export_raw(c);
	progress_end(&c->progress);
	return rc < 0 ? fail(c, args, rc) : CLI_DONE;
}

int volume_export(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	struct copy c = {.s = s, .file = args->other, .fd = -1, .buffer = malloc(BUFFER_BYTES)};
	int rc = c.buffer == NULL ? -ENOMEM : quire_volume_open(group, args->name, &c.volume);

	if (rc == 0) {
		c.bytes = quire_volume_bytes(c.volume);
		c.fd = openat(s->cwd, c.file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		c.of_file = true;
		rc = c.fd < 0 ? -errno : 0;
	}
	int code = rc < 0 ? fail(&c, args, rc) : write_file(&c, args, group);
	if (rc == 0 && code != CLI_DONE)
		(void)unlinkat(s->cwd, c.file, 0);
	fini(&c);
	return code;
}
