/* content.c - files whose every byte is known. */
#include "stress.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK 4096

struct file files[N_FILES];
char directory[200];

uint64_t content_key(uint64_t file, uint64_t version)
{
	return mix64(options.seed ^ mix64(file * 1000003 + version));
}

/* Of every other file they are the same for 256 bytes, so that it gets smaller when compressed. */
static uint64_t content_word(uint64_t key, uint64_t index)
{
	if (key & 1)
		index /= 32;
	return mix64(key + index * UINT64_C(0x9e3779b97f4a7c15));
}

void content_fill(uint64_t key, uint64_t offset, void *buf, size_t len)
{
	unsigned char *to = buf;

	while (len > 0) {
		uint64_t word = content_word(key, offset / 8);
		size_t from = offset % 8, n = 8 - from < len ? 8 - from : len;

		memcpy(to, (unsigned char *)&word + from, n);
		to += n;
		offset += n;
		len -= n;
	}
}

/* A word that may stand anywhere. */
struct loose_word {
	uint64_t value;
} __attribute__((packed, may_alias));

bool content_equal(uint64_t key, bool inverted, uint64_t offset, const void *at, size_t len)
{
	const volatile unsigned char *p = at;
	uint64_t flip = inverted ? UINT64_MAX : 0;

	for (; len > 0 && offset % 8 != 0; offset++, p++, len--)
		if (*p != (unsigned char)((content_word(key, offset / 8) ^ flip) >> offset % 8 * 8))
			return false;
	for (; len >= 8; offset += 8, p += 8, len -= 8)
		if (((const volatile struct loose_word *)p)->value != (content_word(key, offset / 8) ^ flip))
			return false;
	for (; len > 0; offset++, p++, len--)
		if (*p != (unsigned char)((content_word(key, offset / 8) ^ flip) >> offset % 8 * 8))
			return false;
	return true;
}

int content_hook(void *arg, const void *raw, size_t len, uint64_t offset, void *page)
{
	uint64_t key = *(const uint64_t *)arg;

	if (!content_equal(key, false, offset, raw, len))
		return -EBADMSG;
	for (size_t i = 0; i < len; i++)
		((unsigned char *)page)[i] = (unsigned char)~((const unsigned char *)raw)[i];
	return 0;
}

void content_write(const char *path, int flags, uint64_t key, uint64_t from, uint64_t to)
{
	char chunk[CHUNK];
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);

	CHECK(fd >= 0, "%s: %s", path, strerror(errno));
	while (from < to) {
		size_t n = to - from < CHUNK ? (size_t)(to - from) : CHUNK;

		content_fill(key, from, chunk, n);
		CHECK(pwrite(fd, chunk, n, (off_t)from) == (ssize_t)n, "%s: %s", path, strerror(errno));
		from += n;
	}
	close(fd);
}

static uint64_t file_size(unsigned i)
{
	/* Nothing, a byte, a page, a bit more, and then a few MiB. */
	const uint64_t small[] = {0, 1, page_bytes, page_bytes + 1, 17 * page_bytes - 8};

	if (i < sizeof(small) / sizeof(small[0]))
		return small[i];
	return mix64(options.seed + i) % (6u << 20) + (2u << 20);
}

void files_create(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(directory, sizeof(directory), "%s/quire-stress-XXXXXX", tmp != NULL ? tmp : "/tmp");
	CHECK(mkdtemp(directory) != NULL, "%s: %s", directory, strerror(errno));
	for (unsigned i = 0; i < N_FILES; i++) {
		struct file *f = &files[i];
		bool grows = i >= N_FILES - N_GROWING;

		snprintf(f->path, sizeof(f->path), "%s/file%u", directory, i);
		f->key = content_key(i, 0);
		f->size = grows ? mix64(options.seed + i) % (64 * page_bytes) : file_size(i);
		f->reserve = grows ? (uint64_t)1024 * page_bytes : 0;
		pthread_mutex_init(&f->grow_lock, NULL);
		content_write(f->path, O_TRUNC, f->key, 0, f->size);
		f->fd = open(f->path, O_RDONLY | O_CLOEXEC);
		CHECK(f->fd >= 0, "%s: %s", f->path, strerror(errno));
	}
}

void files_grow(struct file *f, uint64_t bytes)
{
	pthread_mutex_lock(&f->grow_lock);
	uint64_t size = f->size, to = size + bytes < f->reserve ? size + bytes : f->reserve;
	content_write(f->path, 0, f->key, size, to);
	f->size = to;
	pthread_mutex_unlock(&f->grow_lock);
}

void files_remove(void)
{
	char command[sizeof(directory) + 16];

	for (unsigned i = 0; i < N_FILES; i++)
		close(files[i].fd);
	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	CHECK(system(command) == 0, "cleaning up");
}
