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

void writes_log_put(int image, const void *from, size_t n_bytes, uint64_t offset)
{
	if (pwrite(image, from, n_bytes, (off_t)offset) != (ssize_t)n_bytes)
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

	log->in_order = false;
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

static void read_mark(const struct writes_log *log, struct writes_entry *e)
{
	char sector[SECTOR];

	read_at(log->fd, sector, sizeof(sector), e->at);
	memcpy(e->mark, sector, sizeof(e->mark) - 1);
	e->flags |= WRITES_MARK;
}

void writes_log_open_in_order(struct writes_log *log, const char *path, uint64_t device_bytes)
{
	writes_log_open(log, path);
	log->in_order = true;
	for (size_t i = 0; i < log->n; i++)
		if (log->entries[i].offset >= device_bytes)
			read_mark(log, &log->entries[i]);
}

void writes_log_close(struct writes_log *log)
{
	close(log->fd);
	free(log->entries);
}

unsigned char *writes_log_bytes(const struct writes_log *log, const struct writes_entry *e)
{
	unsigned char *bytes = malloc(e->len_bytes);

	if (bytes == NULL)
		die("no memory");
	read_at(log->fd, bytes, e->len_bytes, e->at);
	return bytes;
}

static unsigned char *bytes_of(const struct writes_log *log, const struct writes_entry *e, enum writes_discarded discarded)
{
	if ((e->flags & WRITES_DISCARD) == 0)
		return writes_log_bytes(log, e);
	unsigned char *bytes = malloc(e->len_bytes);
	if (bytes == NULL)
		die("no memory");
	memset(bytes, discarded == WRITES_ZEROS ? 0 : 0xd5, e->len_bytes);
	return bytes;
}

static bool changes(const struct writes_entry *e, enum writes_discarded discarded)
{
	return e->len_bytes > 0 && (e->flags & WRITES_MARK) == 0 && ((e->flags & WRITES_DISCARD) == 0 || discarded != WRITES_STAY);
}

void writes_log_apply(const struct writes_log *log, const struct writes_entry *e, int image, enum writes_discarded discarded)
{
	if (!changes(e, discarded))
		return;
	unsigned char *bytes = bytes_of(log, e, discarded);
	writes_log_put(image, bytes, e->len_bytes, e->offset);
	free(bytes);
}

static uint64_t draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

void writes_log_apply_some(const struct writes_log *log, const struct writes_entry *e, int image, enum writes_discarded discarded,
                           uint64_t *chance)
{
	enum { NONE, ALL, FIRST, ANY, N_WAYS } how = draw(chance) % N_WAYS;
	uint64_t n_sectors = e->len_bytes / SECTOR;

	if (!changes(e, discarded) || how == NONE)
		return;
	unsigned char *bytes = bytes_of(log, e, discarded);
	uint64_t n_first = how == FIRST ? draw(chance) % n_sectors : n_sectors;
	for (uint64_t i = 0; i < n_first; i++)
		if (how != ANY || draw(chance) % 2 == 0)
			writes_log_put(image, bytes + i * SECTOR, SECTOR, e->offset + i * SECTOR);
	free(bytes);
}
