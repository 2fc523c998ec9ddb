/* What the guest offers: DAX where it is said to be and nowhere else, and the granularity that libpmem2 sees. */
#include "../base/cmocka_env.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef HAVE_LIBPMEM2
#include <libpmem2.h>
#endif

#ifndef STATX_ATTR_DAX
#define STATX_ATTR_DAX 0x00200000
#endif

#define N_BYTES (2u << 20)

static int make_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(0, posix_fallocate(fd, 0, N_BYTES));
	return fd;
}

static void *map_sync(int fd)
{
	return mmap(NULL, N_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
}

static int is_dax(int fd)
{
	struct statx st;
	assert_int_equal(0, statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st));
	return (st.stx_attributes & STATX_ATTR_DAX) != 0;
}

static void has_dax(const char *path)
{
	int fd = make_file(path);
	assert_true(is_dax(fd));
	char *at = map_sync(fd);
	assert_ptr_not_equal(at, MAP_FAILED);
	memset(at, 'q', N_BYTES);
	munmap(at, N_BYTES);

	char last;
	assert_int_equal(1, pread(fd, &last, 1, N_BYTES - 1));
	assert_int_equal('q', last);
	close(fd);
	unlink(path);
}

static void has_none(const char *path)
{
	int fd = make_file(path);
	assert_false(is_dax(fd));
	assert_ptr_equal(map_sync(fd), MAP_FAILED);
	assert_int_equal(EOPNOTSUPP, errno);
	close(fd);
	unlink(path);
}

static void dax_mounts_map_synchronously(void **state)
{
	has_dax("/mnt/ext4-dax/offers");
	has_dax("/mnt/xfs-dax/offers");
}

static void other_mounts_refuse(void **state)
{
	has_none("/mnt/ext4/offers");
	has_none("/mnt/xfs/offers");
}

static void xfs_takes_dax_file_by_file(void **state)
{
	assert_int_equal(0, mkdir("/mnt/xfs/dax", 0700));
	int dir = open("/mnt/xfs/dax", O_RDONLY | O_DIRECTORY);
	struct fsxattr attributes;
	assert_int_equal(0, ioctl(dir, FS_IOC_FSGETXATTR, &attributes));
	attributes.fsx_xflags |= FS_XFLAG_DAX;
	assert_int_equal(0, ioctl(dir, FS_IOC_FSSETXATTR, &attributes));
	close(dir);
	has_dax("/mnt/xfs/dax/offers");
	rmdir("/mnt/xfs/dax");
}

static void raw_device_is_a_block_device(void **state)
{
	static char block[4096] __attribute__((aligned(4096)));
	static char again[4096] __attribute__((aligned(4096)));
	memset(block, 'r', 4096);
	memset(again, 0, 4096);
	int fd = open("/dev/pmem-raw", O_RDWR | O_DIRECT);
	assert_true(fd >= 0);
	uint64_t n_bytes = 0;
	assert_int_equal(0, ioctl(fd, BLKGETSIZE64, &n_bytes));
	assert_true(n_bytes >= 16u << 20);
	assert_int_equal(4096, pwrite(fd, block, 4096, (off_t)n_bytes - 4096));
	assert_int_equal(4096, pread(fd, again, 4096, (off_t)n_bytes - 4096));
	assert_memory_equal(block, again, 4096);
	assert_ptr_equal(map_sync(fd), MAP_FAILED);
	close(fd);
}

static void devdax_maps(void **state)
{
	int fd = open("/dev/dax-raw", O_RDWR);
	assert_true(fd >= 0);
	char *at = map_sync(fd);
	assert_ptr_not_equal(at, MAP_FAILED);
	memset(at, 'd', N_BYTES);
	munmap(at, N_BYTES);
	close(fd);
}

#ifdef HAVE_LIBPMEM2
static const char *granularity(const char *path)
{
	static const char *const names[] = {
		[PMEM2_GRANULARITY_BYTE] = "byte",
		[PMEM2_GRANULARITY_CACHE_LINE] = "line",
		[PMEM2_GRANULARITY_PAGE] = "page",
	};
	struct pmem2_source *source;
	struct pmem2_config *config;
	struct pmem2_map *map;
	int fd = make_file(path);
	assert_int_equal(0, pmem2_source_from_fd(&source, fd));
	assert_int_equal(0, pmem2_config_new(&config));
	assert_int_equal(0, pmem2_config_set_required_store_granularity(config, PMEM2_GRANULARITY_PAGE));
	assert_int_equal(0, pmem2_map_new(&map, config, source));
	const char *name = names[pmem2_map_get_store_granularity(map)];
	pmem2_map_delete(&map);
	pmem2_config_delete(&config);
	pmem2_source_delete(&source);
	close(fd);
	unlink(path);
	return name;
}
#endif

static void libpmem2_sees_the_granularity(void **state)
{
#ifdef HAVE_LIBPMEM2
	const char *expected = getenv("QUIRE_EXPECT_GRANULARITY");
	assert_non_null(expected);
	assert_string_equal(expected, granularity("/mnt/ext4-dax/offers"));
	assert_string_equal(expected, granularity("/mnt/xfs-dax/offers"));
	assert_string_equal("page", granularity("/mnt/ext4/offers"));
#else
	print_message("built without libpmem2\n");
	skip();
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dax_mounts_map_synchronously),
		cmocka_unit_test(other_mounts_refuse),
		cmocka_unit_test(xfs_takes_dax_file_by_file),
		cmocka_unit_test(raw_device_is_a_block_device),
		cmocka_unit_test(devdax_maps),
		cmocka_unit_test(libpmem2_sees_the_granularity),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
