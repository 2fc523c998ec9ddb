/* DAX file by file: a class whose file has it is mapped, beside one whose file has none; and segments of a log go from the
 * one to the other when they are sealed. */
#include "../base/cmocka_env.h"

#include <quire/log.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef STATX_ATTR_DAX
#define STATX_ATTR_DAX 0x00200000
#endif

#define MIB (UINT64_C(1) << 20)
#define N_RECORDS 3000u

static struct quire_cache *cache;
static struct quire_store *store;
static struct quire_error err;
static char dir[256];

static void open_store(void)
{
	if (quire_store_open(cache, dir, 0, &store, &err) < 0)
		fail_msg("%s", err.text);
}

static void make_store(const char *where)
{
	struct quire_cache_options c = {.size = sizeof(c), .budget_bytes = 16 * MIB, .reserve_bytes = 1024 * MIB};
	struct quire_store_options s = {.size = sizeof(s), .capacity_bytes = 4 * MIB};

	snprintf(dir, sizeof(dir), "%s", where);
	assert_int_equal(0, quire_cache_open(&c, &cache, &err));
	if (quire_store_create(dir, &s, &err) < 0)
		fail_msg("%s", err.text);
	open_store();
}

static void remove_store(void)
{
	static const char *const names[] = {"capacity", "staging", "pmem", "lock", "control"};
	char path[300];

	assert_int_equal(0, quire_store_close(store));
	assert_int_equal(0, quire_cache_close(cache));
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		(void)unlink(path);
	}
	assert_int_equal(0, rmdir(dir));
}

static int add(enum quire_class cls, enum quire_dax dax, enum quire_durable durable)
{
	struct quire_class_options o = {.size = sizeof(o), .bytes = 8 * MIB, .dax = dax, .durable = durable};

	return quire_store_class_add_with(store, cls, &o, &err);
}

static bool has_dax(const char *name)
{
	struct statx st;
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(0, statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &st));
	return (st.stx_attributes & STATX_ATTR_DAX) != 0;
}

static void is_medium(enum quire_class cls, enum quire_medium medium)
{
	struct quire_store_stat st;

	assert_int_equal(0, quire_store_stat(store, &st));
	assert_int_equal(medium, st.classes[cls].medium);
	assert_int_equal(QUIRE_DURABLE_POWER, st.classes[cls].durable);
}

/* New files take it over from their directory. */
static void set_dax_of_directory(const char *path)
{
	struct fsxattr attributes;
	int fd = open(path, O_RDONLY | O_DIRECTORY);

	assert_int_equal(0, ioctl(fd, FS_IOC_FSGETXATTR, &attributes));
	attributes.fsx_xflags |= FS_XFLAG_DAX;
	assert_int_equal(0, ioctl(fd, FS_IOC_FSSETXATTR, &attributes));
	close(fd);
}

static void one_file_has_dax(const char *where)
{
	make_store(where);
	assert_int_equal(-ENOTSUP, add(QUIRE_CLASS_PMEM, QUIRE_DAX_DEFAULT, QUIRE_DURABLE_POWER));
	if (add(QUIRE_CLASS_PMEM, QUIRE_DAX_ON, QUIRE_DURABLE_POWER) < 0)
		fail_msg("%s", err.text);
	assert_true(has_dax("pmem"));
	assert_false(has_dax("capacity"));
	is_medium(QUIRE_CLASS_PMEM, QUIRE_MEDIUM_PMEM);
	is_medium(QUIRE_CLASS_CAPACITY, QUIRE_MEDIUM_DIRECT);
	assert_int_equal(0, quire_store_close(store));
	open_store();
	assert_true(has_dax("pmem"));
	is_medium(QUIRE_CLASS_PMEM, QUIRE_MEDIUM_PMEM);
	remove_store();
}

static void one_file_of_a_store_on_xfs_has_dax(void **state)
{
	one_file_has_dax("/mnt/xfs/store");
}

static void one_file_of_a_store_on_ext4_has_dax(void **state)
{
	one_file_has_dax("/mnt/ext4/store");
}

static void one_file_of_a_store_has_none(void **state)
{
	assert_int_equal(0, mkdir("/mnt/xfs/all", 0700));
	set_dax_of_directory("/mnt/xfs/all");
	make_store("/mnt/xfs/all/store");
	assert_true(has_dax("capacity"));
	if (add(QUIRE_CLASS_STAGING, QUIRE_DAX_OFF, QUIRE_DURABLE_DEFAULT) < 0)
		fail_msg("%s", err.text);
	assert_false(has_dax("staging"));
	assert_int_equal(0, quire_store_close(store));
	open_store();
	assert_false(has_dax("staging"));
	remove_store();
	assert_int_equal(0, rmdir("/mnt/xfs/all"));
}

static void a_mount_for_all_files_refuses_an_exception(void **state)
{
	make_store("/mnt/xfs-dax/store");
	assert_int_equal(-ENOTSUP, add(QUIRE_CLASS_STAGING, QUIRE_DAX_OFF, QUIRE_DURABLE_DEFAULT));
	assert_non_null(strstr(err.text, "DAX"));
	assert_int_equal(0, add(QUIRE_CLASS_PMEM, QUIRE_DAX_ON, QUIRE_DURABLE_POWER));
	is_medium(QUIRE_CLASS_PMEM, QUIRE_MEDIUM_PMEM);
	remove_store();
}

/* ---- a log ---- */

static void append_all(struct quire_log *log)
{
	uint32_t record[64];
	uint64_t lsn = 0;

	for (uint32_t i = 0; i < N_RECORDS; i++) {
		for (uint32_t k = 0; k < 64; k++)
			record[k] = i * 64 + k;
		int rc = quire_log_append(log, &(struct iovec){record, sizeof(record)}, 1, &lsn, NULL);
		assert_int_equal(0, rc);
	}
	assert_int_equal(N_RECORDS - 1, lsn);
}

static void read_all(struct quire_log *log)
{
	struct quire_log_cursor *c;
	struct quire_log_record r;
	uint32_t record[64];

	assert_int_equal(0, quire_log_cursor_open(log, QUIRE_LOG_DURABLE, &c));
	for (uint32_t i = 0; i < N_RECORDS; i++) {
		assert_int_equal(1, quire_log_next(c, &r, NULL));
		assert_int_equal(sizeof(record), r.len_bytes);
		for (uint32_t k = 0; k < 64; k++)
			record[k] = i * 64 + k;
		assert_memory_equal(record, r.data, sizeof(record));
	}
	assert_int_equal(0, quire_log_next(c, &r, NULL));
	quire_log_cursor_close(c);
}

static void sealed_segments_leave_dax(void **state)
{
	struct quire_log_options o = {.size = sizeof(o), .segment_bytes = 65536, .cls = QUIRE_CLASS_PMEM,
	                              .destage = true, .destage_to = QUIRE_CLASS_STAGING};
	struct quire_log_segment segments[32];
	struct quire_log_stat st;
	struct quire_log *log;

	make_store("/mnt/xfs/store");
	if (add(QUIRE_CLASS_PMEM, QUIRE_DAX_ON, QUIRE_DURABLE_POWER) < 0 ||
	    add(QUIRE_CLASS_STAGING, QUIRE_DAX_OFF, QUIRE_DURABLE_DEFAULT) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(0, quire_log_create(store, "log", &o, &err));
	assert_int_equal(0, quire_log_open(store, "log", NULL, &log, &err));
	append_all(log);
	/* What the upkeep has not come to. */
	assert_true(quire_log_destage(log, UINT64_MAX, QUIRE_CLASS_STAGING, &err) >= 0);
	assert_int_equal(0, quire_log_stat(log, &st));
	assert_true(st.n_sealed >= 8);
	assert_int_equal(st.n_sealed, st.info.n_destaged);
	read_all(log);
	assert_int_equal(0, quire_log_close(log));
	assert_int_equal(0, quire_store_close(store));
	open_store();
	assert_int_equal(0, quire_log_open(store, "log", NULL, &log, &err));
	unsigned n = quire_log_segments(log, segments, 32);
	assert_true(n > 8);
	assert_int_equal(QUIRE_CLASS_STAGING, segments[0].cls);
	assert_int_equal(QUIRE_CLASS_PMEM, segments[n - 1].cls);
	read_all(log);
	assert_true(has_dax("pmem"));
	assert_false(has_dax("staging"));
	assert_int_equal(0, quire_log_close(log));
	assert_int_equal(0, quire_store_check(store, &(struct quire_check_options){.size = sizeof(struct quire_check_options)}));
	remove_store();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_file_of_a_store_on_xfs_has_dax),
		cmocka_unit_test(one_file_of_a_store_on_ext4_has_dax),
		cmocka_unit_test(one_file_of_a_store_has_none),
		cmocka_unit_test(a_mount_for_all_files_refuses_an_exception),
		cmocka_unit_test(sealed_segments_leave_dax),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
