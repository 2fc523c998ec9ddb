/* device_open_test.c - files are made, opened, refused, and grow. */
#include "device_env.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int open_rc(const char *path, unsigned flags, uint64_t size_bytes)
{
	struct device *d = NULL;
	struct quire_error err = {0};
	int rc = device_open(path, flags, size_bytes, NULL, &d, &err);
	if (rc < 0) {
		assert_null(d);
		assert_int_equal(err.code, rc);
		assert_non_null(strstr(err.text, path));
	} else {
		device_close(d);
	}
	return rc;
}

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

/* ---- made ---- */

static void test_created_sparse(void **state)
{
	struct device *d;
	struct stat st;
	unsigned flags = device_env_flags() | DEVICE_CREATE;
	assert_int_equal(device_open(device_env_new_path(), flags, UINT64_C(1) << 40, NULL, &d, NULL), 0);
	assert_int_equal(d->size_bytes, UINT64_C(1) << 40);
	assert_int_equal(stat(device_env_new_path(), &st), 0);
	assert_int_equal(st.st_size, UINT64_C(1) << 40);
	assert_true(st.st_blocks < 1000);
	device_close(d);
}

static void test_created_once(void **state)
{
	assert_int_equal(open_rc(device_env_new_path(), DEVICE_CREATE, 8 * BLOCK), 0);
	assert_int_equal(open_rc(device_env_new_path(), DEVICE_CREATE, 8 * BLOCK), -EEXIST);
	assert_int_equal(open_rc(device_env_new_path(), 0, 0), 0);
}

static void test_odd_sizes_are_not_made(void **state)
{
	assert_int_equal(open_rc(device_env_new_path(), DEVICE_CREATE, 0), -EINVAL);
	assert_int_equal(open_rc(device_env_new_path(), DEVICE_CREATE, 1000), -EINVAL);
	assert_int_equal(open_rc(device_env_new_path(), DEVICE_CREATE, UINT64_MAX - BLOCK + 1), -EINVAL);
	assert_int_equal(open_rc(device_env_new_path(), DEVICE_CREATE | DEVICE_READ_ONLY, BLOCK), -EINVAL);
	assert_false(exists(device_env_new_path()));
}

static void test_not_made_where_no_folder_is(void **state)
{
	assert_int_equal(open_rc("/nonexistent/device", DEVICE_CREATE, BLOCK), -ENOENT);
	assert_int_equal(open_rc("/dev/null/device", DEVICE_CREATE, BLOCK), -ENOTDIR);
}

static void not_here(const char *what)
{
	print_message("%s\n", what);
	skip();
}

/* ---- opened ---- */

static void test_size_is_rounded_down(void **state)
{
	struct device *d;
	if (device_env_place() == PLACE_LOOP)
		not_here("asked of files only");
	assert_int_equal(truncate(device_env_path(), 5 * (off_t)BLOCK + 1234), 0);
	d = device_env_open(0);
	assert_int_equal(d->size_bytes, 5 * BLOCK);
	device_close(d);
}

static void test_empty_file_is_a_device_of_no_bytes(void **state)
{
	struct device *d;
	if (device_env_place() == PLACE_LOOP)
		not_here("asked of files only");
	assert_int_equal(truncate(device_env_path(), 0), 0);
	d = device_env_open(0);
	assert_int_equal(d->size_bytes, 0);
	device_close(d);
}

static void test_what_is_no_file_is_refused(void **state)
{
	const char *path = device_env_new_path();
	assert_int_equal(open_rc(path, 0, 0), -ENOENT);
	assert_int_equal(open_rc("/dev/null", 0, 0), -EINVAL);
	assert_int_equal(open_rc("/", 0, 0), -EISDIR);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(open_rc(path, 0, 0), -EINVAL);
	assert_int_equal(open_rc(path, DEVICE_READ_ONLY, 0), -EINVAL);
}

static void test_exclusive_on_block_devices(void **state)
{
	if (device_env_place() != PLACE_LOOP)
		not_here("asked of block devices only");
	struct device *d = device_env_open(0);
	assert_int_equal(open_rc(device_env_path(), 0, 0), -EBUSY);
	assert_int_equal(open_rc(device_env_path(), DEVICE_READ_ONLY, 0), 0);
	device_close(d);
	assert_int_equal(open_rc(device_env_path(), 0, 0), 0);
}

static void test_no_descriptor_is_left(void **state)
{
	int before = dup(0), after;
	close(before);
	assert_int_equal(open_rc(device_env_path(), device_env_flags(), 0), 0);
	assert_int_equal(open_rc(device_env_path(), DEVICE_CREATE, BLOCK), -EEXIST);
	assert_int_equal(open_rc("/dev/null", 0, 0), -EINVAL);
	assert_int_equal(open_rc(device_env_new_path(), DEVICE_CREATE, BLOCK), 0);
	after = dup(0);
	close(after);
	assert_int_equal(before, after);
}

/* ---- growing ---- */

static void write_last_block(struct device *d)
{
	void *buf = device_env_memory(BLOCK);
	device_env_fill(buf, 7, 1, 1);
	assert_int_equal(device_write(d, d->size_bytes - BLOCK, buf, BLOCK, true), 0);
	free(buf);
}

static void test_grows(void **state)
{
	struct device *d = device_env_open(0);
	uint64_t larger = (DEVICE_BLOCKS + 8) * BLOCK;
	if (device_env_place() == PLACE_LOOP) {
		assert_int_equal(device_grow(d, larger), -ENOTSUP);
	} else {
		assert_int_equal(device_grow(d, larger), 0);
		assert_int_equal(d->size_bytes, larger);
		device_env_run(write_last_block, d);
	}
	assert_int_equal(device_grow(d, d->size_bytes), 0);
	assert_int_equal(device_grow(d, BLOCK), -EINVAL);
	assert_int_equal(device_grow(d, d->size_bytes + 100), -EINVAL);
	device_close(d);
}

/* ---- too much ---- */

/* In a child, whose limit it is. Exits 0 if all is as it should be. */
static void check_limited(void)
{
	struct rlimit limit = {.rlim_cur = 16 * BLOCK, .rlim_max = 16 * BLOCK};
	struct device *d;
	bool good = setrlimit(RLIMIT_FSIZE, &limit) == 0;
	good = good && open_rc(device_env_path(), 0, 0) == -EFBIG;
	good = good && open_rc(device_env_path(), DEVICE_READ_ONLY, 0) == 0;
	good = good && open_rc(device_env_new_path(), DEVICE_CREATE, 17 * BLOCK) == -EFBIG;
	good = good && !exists(device_env_new_path());
	good = good && device_open(device_env_new_path(), DEVICE_CREATE, 16 * BLOCK, NULL, &d, NULL) == 0;
	good = good && device_grow(d, 17 * BLOCK) == -EFBIG;
	_exit(good ? 0 : 1);
}

static void test_no_signal_beyond_the_limit_of_file_sizes(void **state)
{
	int status;
	if (device_env_place() == PLACE_LOOP)
		not_here("asked of files only");
	pid_t pid = fork();
	if (pid == 0)
		check_limited();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void fill_up(struct device *d)
{
	void *buf = device_env_memory(16 * BLOCK);
	int rc = 0;
	device_env_fill(buf, 0, 16, 1);
	for (uint64_t at = 0; at < d->size_bytes && rc == 0; at += 16 * BLOCK)
		rc = device_write(d, at, buf, 16 * BLOCK, true);
	assert_int_equal(rc, -ENOSPC);
	/* What has space can still be written. */
	assert_int_equal(device_write(d, 0, buf, 16 * BLOCK, true), 0);
	/* And what is given back serves another place. */
	if (d->discards) {
		assert_int_equal(device_discard(d, 0, 32 * BLOCK), 0);
		assert_int_equal(device_write(d, d->size_bytes - 16 * BLOCK, buf, 16 * BLOCK, true), 0);
	}
	free(buf);
}

static void test_no_space(void **state)
{
	char path[4096], file[8192];
	struct device *d;
	if (device_env_place() != PLACE_TMPFS || geteuid() != 0)
		not_here("asked of memory that root mounts only");
	snprintf(path, sizeof(path), "%s", device_env_new_path());
	assert_int_equal(mkdir(path, 0700), 0);
	if (mount("none", path, "tmpfs", 0, "size=1m") < 0) {
		print_message("mounting: %s\n", strerror(errno));
		rmdir(path);
		skip();
	}
	snprintf(file, sizeof(file), "%s/full", path);
	int rc = device_open(file, DEVICE_CREATE, 16 << 20, NULL, &d, NULL);
	if (rc == 0) {
		device_env_run(fill_up, d);
		device_close(d);
	}
	assert_int_equal(umount(path), 0);
	rmdir(path);
	assert_int_equal(rc, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_created_sparse),
		cmocka_unit_test(test_created_once),
		cmocka_unit_test(test_odd_sizes_are_not_made),
		cmocka_unit_test(test_not_made_where_no_folder_is),
		cmocka_unit_test(test_size_is_rounded_down),
		cmocka_unit_test(test_empty_file_is_a_device_of_no_bytes),
		cmocka_unit_test(test_what_is_no_file_is_refused),
		cmocka_unit_test(test_exclusive_on_block_devices),
		cmocka_unit_test(test_no_descriptor_is_left),
		cmocka_unit_test(test_grows),
		cmocka_unit_test(test_no_signal_beyond_the_limit_of_file_sizes),
		cmocka_unit_test(test_no_space),
	};
	return device_env_main(tests);
}
