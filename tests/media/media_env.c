/* media_env.c - the tests' files. */
#include "media_env.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[PATH_MAX / 2];

int env_setup(void **state)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(dir, sizeof(dir), "%s/quire-media-XXXXXX", tmp != NULL ? tmp : "/tmp");
	return mkdtemp(dir) == NULL;
}

int env_teardown(void **state)
{
	char command[PATH_MAX];
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command) != 0;
}

const char *env_path(const char *name)
{
	static char paths[8][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % 8];
	snprintf(path, PATH_MAX, "%s/%s", dir, name);
	return path;
}

size_t env_page(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

unsigned char env_byte(unsigned seed, uint64_t offset)
{
	uint64_t x = (offset + 1) * 0x9e3779b97f4a7c15u + seed * 0xbf58476d1ce4e5b9u;
	return (unsigned char)(x >> 56);
}

static void write_range(int fd, unsigned seed, uint64_t from, uint64_t len_bytes)
{
	unsigned char chunk[65536];
	for (uint64_t at = from; at < from + len_bytes;) {
		size_t n = from + len_bytes - at < sizeof(chunk) ? (size_t)(from + len_bytes - at)
		                                                 : sizeof(chunk);
		for (size_t i = 0; i < n; i++)
			chunk[i] = env_byte(seed, at + i);
		assert_int_equal(pwrite(fd, chunk, n, (off_t)at), n);
		at += n;
	}
}

void env_write(const char *name, unsigned seed, uint64_t len_bytes)
{
	int fd = open(env_path(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd >= 0);
	write_range(fd, seed, 0, len_bytes);
	close(fd);
}

void env_append(const char *name, unsigned seed, uint64_t from, uint64_t len_bytes)
{
	int fd = open(env_path(name), O_WRONLY);
	assert_true(fd >= 0);
	write_range(fd, seed, from, len_bytes);
	close(fd);
}

void env_age(const char *name)
{
	struct stat st;
	assert_int_equal(stat(env_path(name), &st), 0);
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, st.st_mtim};
	times[1].tv_sec--;
	assert_int_equal(utimensat(AT_FDCWD, env_path(name), times, 0), 0);
}

void env_hide(bool hide)
{
	char elsewhere[PATH_MAX];
	snprintf(elsewhere, sizeof(elsewhere), "%s-hidden", dir);
	assert_int_equal(rename(hide ? dir : elsewhere, hide ? elsewhere : dir), 0);
}

void *env_buffer(uint64_t len_bytes)
{
	size_t page = env_page();
	size_t bytes = (len_bytes + page - 1) / page * page;
	void *buf = aligned_alloc(page, bytes);
	assert_non_null(buf);
	/* Valgrind does not know that a ring writes to it. */
	return memset(buf, 0x5a, bytes);
}

void env_check(const void *buf, unsigned seed, uint64_t offset, uint64_t len_bytes)
{
	const unsigned char *bytes = buf;
	for (uint64_t i = 0; i < len_bytes; i++) {
		if (bytes[i] != env_byte(seed, offset + i))
			fail_msg("byte %llu differs", (unsigned long long)(offset + i));
	}
}

struct media_pool *env_pool(unsigned max_open, bool buffered)
{
	struct media_pool *pool;
	assert_int_equal(media_pool_create(max_open, buffered, &pool), 0);
	return pool;
}

struct media_file *env_open(struct media_pool *pool, const char *name, unsigned flags)
{
	struct media_file *file;
	struct quire_error err = {0};
	int rc = media_file_open(pool, env_path(name), -1, flags, &file, &err);
	if (rc != 0)
		fail_msg("%s", err.text);
	return file;
}

int env_read_now(struct media_file *file, unsigned seed, uint64_t offset, uint32_t len_bytes)
{
	void *buf = env_buffer(len_bytes);
	int rc = media_read_now(file, offset, len_bytes, buf);
	if (rc == 0)
		env_check(buf, seed, offset, len_bytes);
	free(buf);
	return rc;
}
