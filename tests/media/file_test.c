/* Opening: what is a file, what is none, and what is learned of it. */
#include "media_env.h"

#include "../../src/base/feature.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct media_pool *pool;

static int make_pool(void **state)
{
	pool = env_pool(8, false);
	return 0;
}

static int drop_pool(void **state)
{
	media_pool_destroy(pool);
	return 0;
}

static void refused(const char *path, int fd, int code)
{
	struct media_file *file = NULL;
	struct quire_error err = {0};
	assert_int_equal(media_file_open(pool, path, fd, 0, &file, &err), code);
	assert_null(file);
	assert_int_equal(err.code, code);
	assert_true(strlen(err.text) > 4);
	assert_int_equal(media_pool_n_open(pool), 0);
}

static void missing_file(void **state)
{
	refused(env_path("no-such-file"), -1, -ENOENT);
	refused("", -1, -ENOENT);
	refused(env_path("no-such-directory/file"), -1, -ENOENT);
}

static void directory(void **state)
{
	refused(env_path("."), -1, -EISDIR);
}

static void fifo_does_not_hang(void **state)
{
	assert_int_equal(mkfifo(env_path("fifo"), 0600), 0);
	refused(env_path("fifo"), -1, -EINVAL);
}

static void device(void **state)
{
	refused("/dev/null", -1, -EINVAL);
}

static void socket_file(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path = env_path("socket");
	if (strlen(path) >= sizeof(address.sun_path)) {
		print_message("the path is too long for a socket\n");
		skip();
	}
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	refused(path, -1, -EINVAL);
	close(fd);
}

static void loop_of_links(void **state)
{
	assert_int_equal(symlink("loop-b", env_path("loop-a")), 0);
	assert_int_equal(symlink("loop-a", env_path("loop-b")), 0);
	refused(env_path("loop-a"), -1, -ELOOP);
}

static void unreadable_file(void **state)
{
	env_write("secret", 1, 10);
	assert_int_equal(chmod(env_path("secret"), 0), 0);
	if (access(env_path("secret"), R_OK) == 0) {
		print_message("this user may read anything\n");
		skip();
	}
	refused(env_path("secret"), -1, -EACCES);
}

static void link_to_a_file(void **state)
{
	env_write("target", 3, 5000);
	assert_int_equal(symlink("target", env_path("link")), 0);
	struct media_file *file = env_open(pool, "link", 0);
	assert_int_equal(env_read_now(file, 3, 0, 5000), 0);
	media_file_close(file);
}

static void bad_descriptors(void **state)
{
	int ends[2];
	refused(NULL, -1, -EBADF);
	refused(NULL, 99999, -EBADF);
	assert_int_equal(pipe(ends), 0);
	refused(NULL, ends[0], -EINVAL);
	close(ends[0]);
	close(ends[1]);
	int fd = open(env_path("."), O_RDONLY);
	refused(NULL, fd, -EISDIR);
	close(fd);
}

static void descriptor_outlives_the_callers(void **state)
{
	struct media_file *file;
	env_write("by-fd", 4, 9000);
	int fd = open(env_path("by-fd"), O_RDONLY);
	assert_int_equal(media_file_open(pool, NULL, fd, 0, &file, NULL), 0);
	close(fd);
	assert_int_equal(env_read_now(file, 4, 0, 9000), 0);
	assert_int_equal(strncmp(media_file_name(file), "fd ", 3), 0);
	assert_int_equal(media_pool_n_open(pool), 1);
	media_file_close(file);
	assert_int_equal(media_pool_n_open(pool), 0);
}

static void descriptor_of_a_deleted_file(void **state)
{
	struct media_file *file;
	env_write("deleted", 5, 9000);
	int fd = open(env_path("deleted"), O_RDONLY);
	unlink(env_path("deleted"));
	assert_int_equal(media_file_open(pool, NULL, fd, 0, &file, NULL), 0);
	close(fd);
	assert_int_equal(env_read_now(file, 5, 0, 9000), 0);
	assert_int_equal(media_file_look(file, NULL), 0);
	media_file_close(file);
}

static void descriptor_of_memory(void **state)
{
	struct media_file *file;
	int fd = memfd_create("quire-test", MFD_CLOEXEC);
	if (fd < 0) {
		print_message("no memfd here\n");
		skip();
	}
	char byte = (char)env_byte(6, 0);
	assert_int_equal(write(fd, &byte, 1), 1);
	assert_int_equal(media_file_open(pool, NULL, fd, 0, &file, NULL), 0);
	close(fd);
	assert_int_equal(env_read_now(file, 6, 0, 1), 0);
	media_file_close(file);
}

static void identity_is_that_of_stat(void **state)
{
	struct stat st;
	env_write("who", 1, 12345);
	assert_int_equal(stat(env_path("who"), &st), 0);
	struct media_file *file = env_open(pool, "who", 0);
	const struct media_identity *id = media_file_identity(file);
	assert_int_equal(id->dev, st.st_dev);
	assert_int_equal(id->inode, st.st_ino);
	assert_int_equal(id->size_bytes, 12345);
	assert_int_equal(id->n_links, 1);
	assert_int_equal(id->mtime.tv_sec, st.st_mtim.tv_sec);
	assert_int_equal(id->mtime.tv_nsec, st.st_mtim.tv_nsec);
	assert_int_equal(id->ctime.tv_nsec, st.st_ctim.tv_nsec);
	assert_string_equal(media_file_name(file), env_path("who"));
	media_file_close(file);
}

static void empty_file(void **state)
{
	env_write("empty", 1, 0);
	struct media_file *file = env_open(pool, "empty", 0);
	assert_int_equal(media_file_identity(file)->size_bytes, 0);
	assert_int_equal(media_file_look(file, NULL), 0);
	assert_int_equal(env_read_now(file, 1, 0, 1), -ESTALE);
	media_file_close(file);
}

static void relative_name_survives_chdir(void **state)
{
	char before[4096];
	struct media_file *file, *other;
	env_write("relative", 8, 5000);
	env_write("other", 9, 100);
	if (getcwd(before, sizeof(before)) == NULL || chdir(env_path(".")) != 0)
		fail();
	struct media_pool *small = env_pool(1, false);
	assert_int_equal(media_file_open(small, "relative", -1, 0, &file, NULL), 0);
	assert_string_equal(media_file_name(file), "relative");
	assert_int_equal(chdir("/"), 0);
	/* Takes its descriptor, so that it has to be opened again by name. */
	assert_int_equal(media_file_open(small, env_path("other"), -1, 0, &other, NULL), 0);
	assert_int_equal(env_read_now(other, 9, 0, 100), 0);
	assert_int_equal(env_read_now(file, 8, 0, 5000), 0);
	assert_int_equal(media_file_look(file, NULL), 0);
	media_file_close(file);
	media_file_close(other);
	media_pool_destroy(small);
	assert_true(chdir(before) == 0 || chdir("/") == 0);
}

static void alignment_is_a_power_of_two_up_to_a_page(void **state)
{
	env_write("aligned", 1, 100);
	struct media_file *file = env_open(pool, "aligned", 0);
	uint32_t align = media_file_alignment(file);
	assert_true(align >= 1 && align <= env_page() && (align & (align - 1)) == 0);
	media_file_close(file);
}

static void buffered_needs_no_alignment(void **state)
{
	struct media_pool *buffered = env_pool(8, true);
	env_write("buffered", 2, 10000);
	struct media_file *file = env_open(buffered, "buffered", 0);
	assert_int_equal(media_file_alignment(file), 1);
	assert_int_equal(env_read_now(file, 2, 0, 10000), 0);
	media_file_close(file);
	media_pool_destroy(buffered);
}

static void masked_direct_is_buffered(void **state)
{
	env_write("masked", 2, 10000);
	struct media_file *file = env_open(pool, "masked", 0);
	if (!feature_have(FEATURE_DIRECT))
		assert_int_equal(media_file_alignment(file), 1);
	media_file_close(file);
}

static void a_file_is_small(void **state)
{
	enum { N = 100 };
	struct media_file *files[N];
	env_write("small", 1, 1);
	uint64_t before = media_pool_bytes(pool);
	for (unsigned i = 0; i < N; i++)
		files[i] = env_open(pool, "small", 0);
	uint64_t each = (media_pool_bytes(pool) - before) / N;
	print_message("%llu bytes a file with its path\n", (unsigned long long)each);
	assert_true(each <= 200 + strlen(env_path("small")));
	for (unsigned i = 0; i < N; i++)
		media_file_close(files[i]);
	assert_int_equal(media_pool_bytes(pool), before);
}

static void closing_nothing_is_allowed(void **state)
{
	media_file_close(NULL);
	media_pool_destroy(NULL);
}

#define WITH_POOL(test) cmocka_unit_test_setup_teardown(test, make_pool, drop_pool)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_POOL(missing_file),
		WITH_POOL(directory),
		WITH_POOL(fifo_does_not_hang),
		WITH_POOL(device),
		WITH_POOL(socket_file),
		WITH_POOL(loop_of_links),
		WITH_POOL(unreadable_file),
		WITH_POOL(link_to_a_file),
		WITH_POOL(bad_descriptors),
		WITH_POOL(descriptor_outlives_the_callers),
		WITH_POOL(descriptor_of_a_deleted_file),
		WITH_POOL(descriptor_of_memory),
		WITH_POOL(identity_is_that_of_stat),
		WITH_POOL(empty_file),
		WITH_POOL(relative_name_survives_chdir),
		WITH_POOL(alignment_is_a_power_of_two_up_to_a_page),
		WITH_POOL(buffered_needs_no_alignment),
		WITH_POOL(masked_direct_is_buffered),
		WITH_POOL(a_file_is_small),
		cmocka_unit_test(closing_nothing_is_allowed),
	};
	return cmocka_run_group_tests(tests, env_setup, env_teardown);
}
