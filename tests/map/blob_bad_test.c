/* Blobs in maps that are damaged, or can't be mapped. */
#include "blobs.h"
#include "../support/trap.h"

#include <fcntl.h>

/* Flips a bit on the medium of damaged_blob, in the 4 KiB that belong at offset of the seed's content. */
static void damage(unsigned seed, uint64_t offset)
{
	unsigned char want[4096], block[4096];
	int fd = open(file_path("store-link"), O_RDWR);
	off_t at = 0;

	assert_true(fd >= 0);
	for (unsigned i = 0; i < sizeof(want); i++)
		want[i] = file_byte(seed, offset + i);
	while (pread(fd, block, sizeof(block), at) == (ssize_t)sizeof(block) && memcmp(block, want, sizeof(want)) != 0)
		at += sizeof(block);
	assert_memory_equal(block, want, sizeof(want));
	block[100] ^= 1;
	assert_int_equal(pwrite(fd, block, sizeof(block), at), sizeof(block));
	assert_int_equal(fsync(fd), 0);
	close(fd);
}

/* The class is a link to a file that the test knows; blob of `len` with one damaged 4 KiB. */
static uint64_t damaged_blob(uint64_t len, uint64_t bad)
{
	struct quire_store_options opts = {.size = sizeof(opts), .device = file_path("store-link")};
	static unsigned n;
	char name[32];

	skip_if_impossible();
	unlink(file_path("store-link"));
	file_sparse("store-link", CLASS_BYTES);
	snprintf(name, sizeof(name), "damaged-%u", n++);
	dir = file_path(name);
	assert_int_equal(quire_store_create(dir, &opts, NULL), 0);
	assert_int_equal(quire_store_open(cache, dir, 0, &store, NULL), 0);
	uint64_t id = blob_put(QUIRE_CLASS_CAPACITY, 9, len);
	damage(9, bad);
	return id;
}

static void damaged_page_is_named_and_its_neighbours_spared(void **state)
{
	const uint64_t len = pages(40);
	uint64_t id = damaged_blob(len, pages(7));
	struct quire_map *m = map_blob(id);
	const char *p = item_ptr(m, 0);
	struct iovec v = io(p, pages(20));
	struct quire_error err;
	struct quire_op op;
	char expected[64];

	assert_int_equal(quire_map_item_error(m, 0, &err), 0);
	assert_int_equal(err.code, 0);
	quire_op_init(&op);
	assert_int_equal(quire_map_want(m, &v, 1, QUIRE_WANT_PIN, &op), 0);
	assert_int_equal(quire_await(&op), -EBADMSG);
	assert_int_equal(op.error_item, 0);
	assert_int_equal(op.error_offset, pages(7));
	assert_int_equal(quire_map_item_error(m, 0, &err), 0);
	assert_int_equal(err.code, -EBADMSG);
	snprintf(expected, sizeof(expected), "blob %llu in capacity, at %zu", (unsigned long long)id, pages(7));
	assert_non_null(strstr(err.text, expected));
	assert_int_equal(quire_map_item_error(m, 1, &err), -EINVAL);
	assert_false(quire_map_resident(m, p + pages(7), 1));
	read_and_compare(m, p, 9, 0, pages(7));
	read_and_compare(m, p + pages(8), 9, pages(8), len - pages(8));
	assert_int_equal(want(m, p + pages(7), 1), -EBADMSG);
	map_end(m);
	store_end();
}

/* A raw load of the damaged page is SIGBUS; of its neighbours it is not. */
static void damaged_page_is_poison(void **state)
{
	uint64_t id = damaged_blob(pages(16), pages(5));
	struct quire_map *m = map_blob(id);
	const char *p = item_ptr(m, 0);

	assert_true(load_traps(p + pages(5) + 17));
	for (unsigned i = 0; i < 16; i++)
		assert_true(load_traps(p + pages(i)) == (i == 5));
	map_end(m);
	store_end();
}

/* Where many pages are read and verified at once, the one that is damaged is named, and alone does not come. */
static void damaged_page_of_a_larger_unit(void **state)
{
	const size_t sizes[] = {QUIRE_PAGE_16K, QUIRE_PAGE_64K, QUIRE_PAGE_2M};
	const uint64_t len = 4 * MIB + 5000, bad = 2 * MIB + pages(21);

	for (unsigned i = 0; i < 3; i++) {
		uint64_t id = damaged_blob(len, bad);
		struct quire_map *m = map_item_of((struct quire_item){.store = store, .blob = id, .page_bytes = sizes[i]});
		const char *p = item_ptr(m, 0);
		struct iovec v = io(p, len);
		struct quire_op op;

		assert_int_equal(want(m, p + bad + pages(1), 1), 0);
		quire_op_init(&op);
		assert_int_equal(quire_map_want(m, &v, 1, 0, &op), 0);
		assert_int_equal(quire_await(&op), -EBADMSG);
		assert_int_equal(op.error_offset, bad);
		read_and_compare(m, p, 9, 0, bad);
		read_and_compare(m, p + bad + pages(1), 9, bad + pages(1), len - bad - pages(1));
		assert_false(quire_map_resident(m, p + bad, 1));
		if (fault != QUIRE_FAULT_PINNED)
			assert_true(load_traps(p + bad));
		map_end(m);
		store_end();
	}
}

/* Whole when it was first read, damaged when it came again. */
static void verified_each_time(void **state)
{
	uint64_t id = damaged_blob(pages(16), pages(15));
	struct quire_map *m = map_blob(id);
	const char *p = item_ptr(m, 0);

	assert_int_equal(want(m, p, pages(15)), 0);
	damage(9, pages(3));
	read_and_compare(m, p, 9, 0, pages(15)); /* resident still */
	quire_map_purge(m, p, pages(15));
	assert_int_equal(want(m, p, pages(15)), -EBADMSG);
	assert_false(quire_map_resident(m, p + pages(3), 1));
	map_end(m);
	store_end();
}

/* ---- what is refused ---- */

static int no_hook(void *arg, const void *raw, size_t len_bytes, uint64_t offset, void *page)
{
	return 0;
}

static void refused(void **state)
{
	struct quire_cache_options opts = {.size = sizeof(opts), .budget_bytes = 16 * MIB, .reserve_bytes = GIB};
	struct quire_cache *other;
	struct quire_error err;
	struct quire_map *m;
	uint64_t writing;

	store_begin();
	uint64_t id = blob_put(QUIRE_CLASS_CAPACITY, 1, 10);
	assert_int_equal(quire_blob_alloc(store, NULL, &writing), 0);
	const struct {
		struct quire_item item;
		int error;
	} bad[] = {
		{{.store = store, .blob = id, .path = "x"}, -EINVAL},
		{{.store = store, .blob = id, .flags = QUIRE_ITEM_APPEND}, -EINVAL},
		{{.store = store, .blob = id, .reserve_bytes = MIB}, -EINVAL},
		{{.store = store, .blob = id, .fill = no_hook}, -EINVAL},
		{{.store = store, .blob = 0}, -ESTALE},
		{{.store = store, .blob = id + 1000}, -ESTALE},
		{{.store = store, .blob = writing}, -EAGAIN},
	};
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(&err, 0, sizeof(err));
		assert_int_equal(map_try(&bad[i].item, 1, &m, &err), bad[i].error);
		assert_non_null(strstr(err.text, "item 0"));
	}
	size_t len;
	m = map_blob(id);
	assert_int_equal(quire_map_extend(m, 0, &len), -EINVAL);
	map_end(m);
	assert_int_equal(quire_cache_open(&opts, &other, NULL), 0);
	assert_int_equal(quire_map_create(other, &(struct quire_item){.store = store, .blob = id}, 1, NULL, &m, &err), -EINVAL);
	assert_int_equal(quire_cache_close(other), 0);
	assert_int_equal(quire_blob_abort(store, writing), 0);
	store_end();
}

static void kernel_maps_refuse_them(void **state)
{
	struct quire_error err;
	struct quire_map *m;

	store_begin();
	uint64_t id = blob_put(QUIRE_CLASS_CAPACITY, 1, 10);
	assert_int_equal(map_try(&(struct quire_item){.store = store, .blob = id}, 1, &m, &err), -ENOTSUP);
	store_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_CHECKED(damaged_page_is_named_and_its_neighbours_spared),
		ON_FAULTING(damaged_page_is_poison),
		ON_CHECKED(damaged_page_of_a_larger_unit),
		ON_CHECKED(verified_each_time),
		ON_CHECKED(refused),
		ON_KERNEL(kernel_maps_refuse_them),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
