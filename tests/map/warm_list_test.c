/* The file of hot pages by itself: written, read, damaged, and on a full disk. */
#include "../../src/map/warm_list.h"
#include "../support/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIST "hot"
#define LIST_BYTES (40 + 2 * 32 + 3 * 12)

static const struct warm_identity items[2] = {
	{.kind = WARM_FILE, .mtime_ns = 999999999, .bytes = UINT64_C(1) << 40, .id = (uint64_t)-5, .offset = 4096},
	{.kind = WARM_BLOB, .bytes = 7, .id = UINT64_MAX},
};
static const struct warm_run runs[3] = {
	{.item = 1, .first = UINT32_MAX, .n = WARM_RUN_MAX_UNITS, .uses = 3},
	{.item = 0, .first = 5, .n = 1, .uses = 1},
	{.item = 0, .first = 0, .n = 0, .uses = 0},
};
static struct warm_list list;
static int dir;

static void list_write(void)
{
	assert_int_equal(warm_list_create(&list, dir, LIST, NULL), 0);
	for (int i = 0; i < 2; i++)
		warm_list_put_item(&list, &items[i]);
	for (int i = 0; i < 3; i++)
		warm_list_put_run(&list, &runs[i]);
	assert_int_equal(warm_list_commit(&list, NULL), 0);
}

static void bytes_read(unsigned char *bytes)
{
	int fd = file_fd(LIST);

	assert_int_equal(read(fd, bytes, LIST_BYTES + 1), LIST_BYTES);
	close(fd);
}

static void bytes_write(const unsigned char *bytes, size_t len)
{
	int fd = open(file_path(LIST), O_WRONLY);

	/* Not O_TRUNC, behind which some file systems write to the medium at once. */
	assert_int_equal(pwrite(fd, bytes, len, 0), len);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	close(fd);
}

static int list_open(struct quire_error *err)
{
	int rc = warm_list_open(&list, dir, LIST, err);

	if (rc == 0)
		warm_list_close(&list);
	return rc;
}

static void what_was_put_is_got(void **state)
{
	struct warm_identity id;
	struct warm_run run;

	list_write();
	assert_int_equal(warm_list_open(&list, dir, LIST, NULL), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(warm_list_get_item(&list, &id), 1);
		assert_true(id.kind == items[i].kind && id.mtime_ns == items[i].mtime_ns && id.bytes == items[i].bytes &&
		            id.id == items[i].id && id.offset == items[i].offset);
	}
	assert_int_equal(warm_list_get_item(&list, &id), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(warm_list_get_run(&list, &run), 1);
		assert_true(run.item == runs[i].item && run.first == runs[i].first && run.n == runs[i].n &&
		            run.uses == runs[i].uses);
	}
	assert_int_equal(warm_list_get_run(&list, &run), 0);
	warm_list_close(&list);
}

static void longer_than_the_buffer(void **state)
{
	enum { N_ITEMS = 1601, N_RUNS = 10007 };
	struct warm_identity id = {.kind = WARM_BLOB};
	struct warm_run run = {0};

	assert_int_equal(warm_list_create(&list, dir, LIST, NULL), 0);
	for (id.id = 0; id.id < N_ITEMS; id.id++)
		warm_list_put_item(&list, &id);
	for (run.first = 0; run.first < N_RUNS; run.first++)
		warm_list_put_run(&list, &run);
	assert_int_equal(warm_list_commit(&list, NULL), 0);

	assert_int_equal(warm_list_open(&list, dir, LIST, NULL), 0);
	for (uint64_t i = 0; i < N_ITEMS; i++) {
		assert_int_equal(warm_list_get_item(&list, &id), 1);
		assert_int_equal(id.id, i);
	}
	for (uint32_t i = 0; i < N_RUNS; i++) {
		assert_int_equal(warm_list_get_run(&list, &run), 1);
		assert_int_equal(run.first, i);
	}
	assert_int_equal(warm_list_get_run(&list, &run), 0);
	warm_list_close(&list);
}

/* The example of docs/format.md. */
static void byte_by_byte(void **state)
{
	static const unsigned char expected[] = {
		0x51, 0x75, 0x69, 0x72, 0x65, 0x57, 0x72, 0x6d, 0x6d, 0x2c, 0xa6, 0x7e, 0xc1, 0x88, 0x68, 0x91,
		0x01, 0x00, 0x00, 0x00, 0x0c, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x00, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00,
		0x01, 0x00, 0x00, 0x80,
	};
	const struct warm_identity blob = {.kind = WARM_BLOB, .bytes = 8192, .id = 7};
	const struct warm_run run = {.item = 0, .first = 1, .n = 1, .uses = 2};
	unsigned char bytes[sizeof(expected) + 1];

	assert_int_equal(warm_list_create(&list, dir, LIST, NULL), 0);
	warm_list_put_item(&list, &blob);
	warm_list_put_run(&list, &run);
	assert_int_equal(warm_list_commit(&list, NULL), 0);
	int fd = file_fd(LIST);
	assert_int_equal(read(fd, bytes, sizeof(bytes)), sizeof(expected));
	close(fd);
	assert_memory_equal(bytes, expected, sizeof(expected));
}

static void each_damaged_byte_is_noticed(void **state)
{
	unsigned char bytes[LIST_BYTES + 1];

	list_write();
	bytes_read(bytes);
	for (unsigned i = 0; i < LIST_BYTES; i++) {
		struct quire_error err = {0};

		bytes[i] ^= (unsigned char)(1u << i % 8);
		bytes_write(bytes, LIST_BYTES);
		assert_int_equal(list_open(&err), i < 8 ? -EUCLEAN : -EBADMSG);
		assert_true(strlen(err.text) > 0);
		bytes[i] ^= (unsigned char)(1u << i % 8);
	}
	bytes_write(bytes, LIST_BYTES);
	assert_int_equal(list_open(NULL), 0);
}

static void each_length_but_its_own_is_noticed(void **state)
{
	unsigned char bytes[LIST_BYTES + 1] = {0};

	list_write();
	bytes_read(bytes);
	for (unsigned i = 0; i <= LIST_BYTES + 1; i++) {
		bytes_write(bytes, i);
		int rc = list_open(NULL);
		assert_int_equal(rc, i < 40 ? -EUCLEAN : i == LIST_BYTES ? 0 : -EBADMSG);
	}
}

static void none(void **state)
{
	unlink(file_path(LIST));
	assert_int_equal(list_open(NULL), -ENOENT);
}

/* ---- writing ---- */

static void on_a_full_disk_the_old_one_stays(void **state)
{
	struct quire_error err = {0};

	list_write();
	assert_int_equal(warm_list_create(&list, dir, LIST, &err), 0);
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	assert_true(full >= 0);
	assert_true(dup2(full, list.fd) >= 0); /* from here on the disk is full */
	close(full);
	for (int i = 0; i < 5000; i++)
		warm_list_put_run(&list, &runs[0]);
	assert_int_equal(warm_list_commit(&list, &err), -ENOSPC);
	assert_int_equal(err.code, -ENOSPC);
	assert_int_equal(access(file_path(LIST ".partial"), F_OK), -1);
	assert_int_equal(list_open(NULL), 0);
}

static void given_up_the_old_one_stays(void **state)
{
	list_write();
	assert_int_equal(warm_list_create(&list, dir, LIST, NULL), 0);
	warm_list_abort(&list);
	assert_int_equal(access(file_path(LIST ".partial"), F_OK), -1);
	assert_int_equal(list_open(NULL), 0);
}

static void what_a_crash_left_is_replaced(void **state)
{
	int other = open(file_path("other"), O_WRONLY | O_CREAT, 0600);

	assert_int_equal(symlink(file_path("other"), file_path(LIST ".partial")), 0);
	list_write();
	assert_int_equal(list_open(NULL), 0);
	assert_int_equal(lseek(other, 0, SEEK_END), 0); /* not written through the link */
	close(other);
}

static int setup(void **state)
{
	if (files_setup(state) != 0)
		return -1;
	dir = open(file_path("."), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0;
}

static int teardown(void **state)
{
	close(dir);
	return files_teardown(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_put_is_got),
		cmocka_unit_test(longer_than_the_buffer),
		cmocka_unit_test(byte_by_byte),
		cmocka_unit_test(each_damaged_byte_is_noticed),
		cmocka_unit_test(each_length_but_its_own_is_noticed),
		cmocka_unit_test(none),
		cmocka_unit_test(on_a_full_disk_the_old_one_stays),
		cmocka_unit_test(given_up_the_old_one_stays),
		cmocka_unit_test(what_a_crash_left_is_replaced),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
