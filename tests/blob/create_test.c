/* Stores: made, where nothing is, or what a creation left that was killed. */
#include "blob_env.h"

#include <fcntl.h>
#include <sys/stat.h>

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static void create_twice(void **state)
{
	assert_int_equal(env_create(CAPACITY_BYTES), 0);
	assert_int_equal(env_create(CAPACITY_BYTES), -EEXIST);
	assert_non_null(strstr(err.text, dir));
	assert_int_equal(env_open(0), 0);
	assert_int_equal(check(), 0);
}

static void create_by_default_is_large_and_sparse(void **state)
{
	struct quire_store_stat st;
	struct stat file;

	assert_int_equal(quire_store_create(dir, NULL, &err), 0);
	assert_int_equal(env_open(0), 0);
	assert_int_equal(quire_store_stat(store, &st), 0);
	assert_int_equal(st.classes[0].bytes, TIB);
	assert_string_equal(st.classes[0].path + strlen(st.classes[0].path) - 9, "/capacity");
	assert_int_equal(stat(in_dir("capacity"), &file), 0);
	assert_in_range((uint64_t)file.st_blocks * 512, 0, 64 * MIB);
	assert_int_equal(verify(put(5000), 5000), 0);
}

static void create_refused_leaves_nothing(void **state)
{
	assert_int_equal(env_create(4096), -EINVAL);
	assert_false(exists(dir));
	assert_int_equal(mkdir(dir, 0755), 0);
	assert_int_equal(env_create(4096), -EINVAL);
	assert_int_equal(rmdir(dir), 0);

	struct quire_store_options opts = {.size = sizeof(opts), .device = "/nonexistent/device"};
	assert_int_equal(quire_store_create(dir, &opts, &err), -ENOENT);
	assert_false(exists(dir));
	assert_int_equal(quire_store_create(in_dir("deeper"), NULL, &err), -ENOENT);
	assert_int_equal(quire_store_create("", NULL, NULL), -EINVAL);
	opts.size = sizeof(opts) + 1;
	assert_int_equal(quire_store_create(dir, &opts, &err), -EINVAL);
	assert_int_equal(quire_store_create("/proc/quire-store", NULL, &err) < 0, 1);
}

/* It may hold copies of what others may not read. */
static void nobody_else_may_read_it(void **state)
{
	const char *const made[] = {".", "lock", "capacity"};
	struct stat file;
	mode_t mask = umask(0);

	assert_int_equal(env_create(CAPACITY_BYTES), 0);
	umask(mask);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(stat(in_dir(made[i]), &file), 0);
		assert_int_equal(file.st_mode & 07777, i == 0 ? 0700 : 0600);
	}
}

static void create_in_place_of_things(void **state)
{
	assert_int_equal(mkdir(dir, 0755), 0);
	int fd = open(in_dir("something"), O_CREAT | O_WRONLY, 0644);
	close(fd);
	assert_int_equal(env_create(CAPACITY_BYTES), -EEXIST);
	assert_false(exists(in_dir("capacity")));
	assert_false(exists(in_dir("lock")));
	assert_int_equal(quire_store_create(in_dir("something"), NULL, &err), -EEXIST);
	assert_int_equal(unlink(in_dir("something")), 0);
	assert_int_equal(env_create(CAPACITY_BYTES), 0);
}

/* A creation was killed: after it had the lock, or when the file of the class was there. */
static void create_over_what_a_killed_one_left(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(mkdir(dir, 0755), 0);
		int fd = open(in_dir("lock"), O_CREAT | O_WRONLY, 0644);
		assert_int_equal(write(fd, "12345\n", 6), 6);
		close(fd);
		if (i > 0) {
			fd = open(in_dir("capacity"), O_CREAT | O_WRONLY, 0644);
			assert_int_equal(ftruncate(fd, (off_t)MIB), 0);
			assert_int_equal(pwrite(fd, "x", 1, 512 * 1024), 1);
			close(fd);
		}
		assert_int_equal(env_create(CAPACITY_BYTES), 0);
		assert_int_equal(env_open(0), 0);
		assert_int_equal(check(), 0);
		assert_int_equal(env_create(CAPACITY_BYTES), -EEXIST); /* it is held */
		env_close();
		assert_int_equal(unlink(in_dir("capacity")), 0);
		/* Somebody's own file of that name stays. */
		fd = open(in_dir("capacity"), O_CREAT | O_WRONLY, 0644);
		assert_int_equal(write(fd, "mine", 4), 4);
		close(fd);
		assert_int_equal(env_create(CAPACITY_BYTES), -EEXIST);
		assert_true(exists(in_dir("capacity")) && exists(in_dir("lock")));
		assert_int_equal(unlink(in_dir("capacity")), 0);
		assert_int_equal(unlink(in_dir("lock")), 0);
		assert_int_equal(rmdir(dir), 0);
	}
}

static void create_on_a_device(void **state)
{
	struct quire_store_stat st;
	struct quire_store_options opts = {.size = sizeof(opts), .device = file_path("a-device")};

	file_sparse("a-device", 64 * MIB);
	assert_int_equal(quire_store_create(dir, &opts, &err), 0);
	assert_int_equal(env_open(0), 0);
	assert_int_equal(quire_store_stat(store, &st), 0);
	assert_int_equal(st.classes[0].bytes, 64 * MIB);
	assert_non_null(strstr(st.classes[0].path, "a-device"));
	assert_int_equal(verify(put(5000), 5000), 0);
	env_close();
	/* It holds one now. */
	env_name_setup(NULL);
	assert_int_equal(quire_store_create(dir, &opts, &err), -EEXIST);
	assert_false(exists(dir));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_NAME(create_twice),
		WITH_NAME(create_by_default_is_large_and_sparse),
		WITH_NAME(create_refused_leaves_nothing),
		WITH_NAME(nobody_else_may_read_it),
		WITH_NAME(create_in_place_of_things),
		WITH_NAME(create_over_what_a_killed_one_left),
		WITH_NAME(create_on_a_device),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
