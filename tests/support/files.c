/* files.c - the tests' files: every byte is a function of a seed and its offset. */
#include "files.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define N_PATHS 64
#define PATH_BYTES 512

static char dir[PATH_BYTES / 2];

int files_setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%s/quire-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
	return mkdtemp(dir) == NULL;
}

int files_teardown(void **state)
{
	char command[PATH_MAX];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command) != 0;
}

const char *file_path(const char *name)
{
	static _Thread_local char paths[N_PATHS][PATH_BYTES];
	static _Thread_local unsigned next;
	char *path = paths[next++ % N_PATHS];

	snprintf(path, PATH_BYTES, "%s/%s", dir, name);
	return path;
}

size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

/* Eight bytes at a time; the seed is in each of them. */
static uint64_t pattern(unsigned seed, uint64_t word)
{
	uint64_t x = (word + 1) * 0x9e3779b97f4a7c15u ^ (seed + 1) * 0xbf58476d1ce4e5b9u;

	x ^= x >> 29;
	return x * 0x94d049bb133111ebu;
}

unsigned char file_byte(unsigned seed, uint64_t offset)
{
	return (unsigned char)(pattern(seed, offset / 8) >> offset % 8 * 8);
}

static void write_range(int fd, unsigned seed, uint64_t from, uint64_t len_bytes)
{
	static _Thread_local unsigned char chunk[65536];

	for (uint64_t at = from; at < from + len_bytes;) {
		size_t n = from + len_bytes - at < sizeof(chunk) ? (size_t)(from + len_bytes - at)
		                                                 : sizeof(chunk);
		for (size_t i = 0; i < n; i++)
			chunk[i] = file_byte(seed, at + i);
		assert_int_equal(pwrite(fd, chunk, n, (off_t)at), n);
		at += n;
	}
}

static void write_file(const char *name, int flags, unsigned seed, uint64_t from, uint64_t len_bytes)
{
	int fd = open(file_path(name), O_WRONLY | flags, 0644);

	assert_true(fd >= 0);
	write_range(fd, seed, from, len_bytes);
	close(fd);
}

void file_write(const char *name, unsigned seed, uint64_t len_bytes)
{
	write_file(name, O_CREAT | O_TRUNC, seed, 0, len_bytes);
	file_age(name);
}

void file_append(const char *name, unsigned seed, uint64_t from, uint64_t len_bytes)
{
	write_file(name, 0, seed, from, len_bytes);
}

void file_rewrite_in_place(const char *name, unsigned seed, uint64_t from, uint64_t len_bytes)
{
	write_file(name, 0, seed, from, len_bytes);
}

void file_truncate(const char *name, uint64_t len_bytes)
{
	assert_int_equal(truncate(file_path(name), (off_t)len_bytes), 0);
}

void file_sparse(const char *name, uint64_t len_bytes)
{
	int fd = open(file_path(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	if (ftruncate(fd, (off_t)len_bytes) < 0) {
		close(fd);
		print_message("this file system has no files of %llu bytes\n", (unsigned long long)len_bytes);
		skip();
	}
	close(fd);
}

int file_fd(const char *name)
{
	int fd = open(file_path(name), O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

void file_age(const char *name)
{
	struct stat st;

	assert_int_equal(stat(file_path(name), &st), 0);
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, st.st_mtim};
	times[1].tv_sec--;
	assert_int_equal(utimensat(AT_FDCWD, file_path(name), times, 0), 0);
}

bool bytes_are(const void *p, unsigned seed, uint64_t offset, uint64_t len_bytes)
{
	const unsigned char *bytes = p;

	for (uint64_t i = 0; i < len_bytes;) {
		uint64_t word;

		if ((offset + i) % 8 == 0 && len_bytes - i >= 8) {
			memcpy(&word, bytes + i, 8);
			if (le64toh(word) == pattern(seed, (offset + i) / 8)) {
				i += 8;
				continue;
			}
		}
		if (bytes[i] != file_byte(seed, offset + i)) {
			print_error("byte %llu differs\n", (unsigned long long)(offset + i));
			return false;
		}
		i++;
	}
	return true;
}

bool bytes_are_zero(const void *p, uint64_t len_bytes)
{
	const unsigned char *bytes = p;

	for (uint64_t i = 0; i < len_bytes; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}
