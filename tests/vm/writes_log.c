/* writes_log.c - see writes_log.h. */
#include "writes_log.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTOR 512u
#define MAGIC UINT64_C(0x6a736677736872)
#define ENTRY_MOST (16u << 20)
#define FLUSHES_BACK 4u

struct super_on_disk {
	uint64_t magic, version, n_entries;
	uint32_t sector_bytes;
};
struct entry_on_disk {
	uint64_t sector, n_sectors, flags, mark_bytes;
};

static void die(const char *what)
{
	fprintf(stderr, "the log of writes: %s\n", what);
	exit(1);
}

static void read_at(int fd, void *to, size_t n_bytes, uint64_t offset)
{
	if (pread(fd, to, n_bytes, (off_t)offset) != (ssize_t)n_bytes)
		die("short");
}

static void write_at(int fd, const void *from, size_t n_bytes, uint64_t offset)
{
	if (pwrite(fd, from, n_bytes, (off_t)offset) != (ssize_t)n_bytes)
		die("an image of the device can't be written");
}

/* Returns where the next one is. */
static uint64_t read_entry(int fd, uint64_t at, struct writes_entry *ret)
{
	char head[SECTOR];
	struct entry_on_disk e;

	read_at(fd, head, sizeof(head), at);
	memcpy(&e, head, sizeof(e));
	*ret = (struct writes_entry){
		.offset = le64toh(e.sector) * SECTOR,
		.len_bytes = le64toh(e.n_sectors) * SECTOR,
		.flags = le64toh(e.flags),
		.at = at + SECTOR,
	};
	if ((ret->flags & WRITES_MARK) != 0) {
		uint64_t n = le64toh(e.mark_bytes);
		if (n >= sizeof(ret->mark) || n > SECTOR - sizeof(e))
			die("a mark is too long");
		memcpy(ret->mark, head + sizeof(e), n);
		return at + SECTOR;
	}
	if ((ret->flags & WRITES_DISCARD) != 0)
		return at + SECTOR;
	if (ret->len_bytes > ENTRY_MOST)
		die("a write is too long");
	return at + SECTOR + ret->len_bytes;
}

void writes_log_open(struct writes_log *log, const char *path)
{
	struct super_on_disk super;
	uint64_t at = SECTOR;

	log->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (log->fd < 0)
		die(strerror(errno));
	read_at(log->fd, &super, sizeof(super), 0);
	if (le64toh(super.magic) != MAGIC || le64toh(super.version) != 1 || le32toh(super.sector_bytes) != SECTOR)
		die("not one");
	log->n = le64toh(super.n_entries);
	log->entries = calloc(log->n, sizeof(*log->entries));
	if (log->entries == NULL)
		die("no memory");
	for (size_t i = 0; i < log->n; i++)
		at = read_entry(log->fd, at, &log->entries[i]);
}

void writes_log_close(struct writes_log *log)
{
	close(log->fd);
	free(log->entries);
}

static unsigned char *bytes_of(const struct writes_log *log, const struct writes_entry *e, enum writes_discarded discarded)
{
	unsigned char *bytes = malloc(e->len_bytes);

	if (bytes == NULL)
		die("no memory");
	if ((e->flags & WRITES_DISCARD) == 0)
		read_at(log->fd, bytes, e->len_bytes, e->at);
	else
		memset(bytes, discarded == WRITES_ZEROS ? 0 : 0xd5, e->len_bytes);
	return bytes;
}

static bool changes(const struct writes_entry *e, enum writes_discarded discarded)
{
	return e->len_bytes > 0 && (e->flags & WRITES_MARK) == 0 && ((e->flags & WRITES_DISCARD) == 0 || discarded != WRITES_STAY);
}

static bool is_zero(const unsigned char *bytes, uint64_t n)
{
	return n == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0);
}

/* A write that was durable by itself comes into the log at once, one that was not at the next flush, though it may be the older of the two: zeros that were
 * written ahead. So what they have overwritten is put back, if it was written since a few flushes ago. Other writes are newer than durable ones in
 * the same place: nobody here writes durably, before a flush, where he has written otherwise. (The log does not tell. What zeros had really
 * replaced comes back, too: rubbish where nothing was promised to be.) */
static void put_back(const struct writes_log *log, const struct writes_entry *e, const unsigned char *bytes, int image)
{
	const struct writes_entry *first = e, *f;

	if ((e->flags & (WRITES_FUA | WRITES_DISCARD)) != 0 || !is_zero(bytes, e->len_bytes))
		return;
	/* While a flush is under way, zeros may come that wait for the next, and what is written over them stands before it. */
	for (unsigned n_flushes = 0; first > log->entries && n_flushes < FLUSHES_BACK; first--)
		n_flushes += (first[-1].flags & WRITES_FLUSH) != 0;
	for (f = first; f < e; f++)
		if ((f->flags & WRITES_FUA) != 0 && f->offset < e->offset + e->len_bytes && e->offset < f->offset + f->len_bytes) {
			unsigned char *newer = bytes_of(log, f, WRITES_STAY);
			write_at(image, newer, f->len_bytes, f->offset);
			free(newer);
		}
}

void writes_log_apply(const struct writes_log *log, const struct writes_entry *e, int image, enum writes_discarded discarded)
{
	if (!changes(e, discarded))
		return;
	unsigned char *bytes = bytes_of(log, e, discarded);
	write_at(image, bytes, e->len_bytes, e->offset);
	put_back(log, e, bytes, image);
	free(bytes);
}
