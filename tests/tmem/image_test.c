/* Saved pools, as strings of bytes: what comes back is what was there. */
#include "fake_backing.h"
#include "image_env.h"

#define SEGMENT (256u << 10)

/* Each page of a is in b, and there are no more. */
static void same(struct quire_tmem_pool *a, struct quire_tmem_pool *b)
{
	struct quire_tmem_pool_stat as, bs;
	struct quire_tmem_copy *c;
	struct quire_tmem_key k;
	int rc;

	quire_tmem_pool_stat(a, &as);
	quire_tmem_pool_stat(b, &bs);
	assert_int_equal(as.n_pages, bs.n_pages);
	assert_int_equal(as.page_bytes, bs.page_bytes);
	assert_int_equal(quire_tmem_copy_begin(a, NULL, &c), 0);
	while ((rc = quire_tmem_copy_next(c, &k, page)) > 0) {
		assert_int_equal(quire_tmem_get(b, &k, other, QUIRE_TMEM_GET_KEEP), 0);
		assert_memory_equal(page, other, as.page_bytes);
	}
	assert_int_equal(rc, 0);
	quire_tmem_copy_end(c);
}

static void save_and_restore(uint32_t n_pages, uint32_t page_bytes, uint64_t budget_bytes)
{
	struct quire_tmem *t = make(budget_bytes), *u = make(budget_bytes);
	struct quire_tmem_pool *pool = make_pool(t, 0, page_bytes), *back = NULL;
	struct quire_tmem_stat ts, us;

	for (uint32_t i = 0; i < n_pages; i++)
		put(pool, i / 1000, i % 1000 * 100, i % 4 == 3 ? i / 40 : i);
	struct bytes b = write_image(pool, "pool");
	assert_int_equal(read_image(u, &b, NULL, &back, NULL), 0);
	same(pool, back);
	quire_tmem_stat(t, &ts);
	quire_tmem_stat(u, &us);
	assert_int_equal(ts.n_pages, us.n_pages);
	assert_int_equal(ts.n_same, us.n_same);
	assert_int_equal(ts.content_bytes, us.content_bytes);
	assert_int_equal(ts.same_saved_bytes, us.same_saved_bytes);
	assert_int_equal(ts.dedup_saved_bytes, us.dedup_saved_bytes);
	/* What is put now finds what was restored. */
	if (n_pages > 4) {
		put(back, UINT64_MAX, 0, 4);
		quire_tmem_stat(u, &us);
		assert_int_equal(us.content_bytes, ts.content_bytes);
	}
	quire_tmem_pool_destroy(back);
	quire_tmem_stat(u, &us);
	assert_int_equal(us.n_pages + us.content_bytes + us.n_shared, 0);
	free(b.at);
	quire_tmem_destroy(t);
	quire_tmem_destroy(u);
}

static void none_one_two_and_many_come_back(void **state)
{
	static const uint32_t counts[] = {0, 1, 2, 3, 5000};

	for (unsigned i = 0; i < 5; i++)
		save_and_restore(counts[i], 4096, 64 * MIB);
	save_and_restore(30, 65536, 64 * MIB);
	save_and_restore(7, 2 << 20, 64 * MIB);
	(void)state;
}

static void a_million_come_back(void **state)
{
	if (getenv("QUIRE_TEST_LONG") == NULL) {
		print_message("without QUIRE_TEST_LONG: a million pages take minutes under a sanitizer\n");
		skip();
	}
	save_and_restore(1000000, 4096, 4096 * MIB);
	(void)state;
}

static void contents_are_written_as_they_are_and_once(void **state)
{
	struct quire_tmem *t = make(64 * MIB);
	struct quire_tmem_pool *pool = make_pool(t, 0, 4096);
	struct quire_tmem_stat s;

	for (uint32_t i = 0; i < 1000; i++)
		put(pool, 1, i, 3 + i % 10);
	quire_tmem_stat(t, &s);
	struct bytes b = write_image(pool, "pool");
	assert_true(b.n >= s.content_bytes + 1001 * sizeof(struct image_record_le));
	assert_true(b.n <= s.content_bytes + 1001 * sizeof(struct image_record_le) + sizeof(struct image_head_le) + 10 * 8);
	free(b.at);
	quire_tmem_destroy(t);
	(void)state;
}

static void the_pool_is_as_it_was_or_as_wished(void **state)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .page_bytes = 8192, .weight = 7,
	                                    .cap_bytes = 10 * MIB, .flags = QUIRE_TMEM_SHARED, .uuid = {1, 2, 3}, .domain = 9};
	struct quire_tmem *t = make(64 * MIB);
	struct quire_tmem_pool *pool, *back = NULL, *again;
	struct quire_tmem_pool_stat s;
	char name[IMAGE_NAME_BYTES];

	assert_int_equal(quire_tmem_pool_create(t, &o, &pool, NULL), 0);
	put(pool, 1, 1, 1);
	struct bytes b = write_image(pool, "a name");
	assert_int_equal(tmem_image_name(b.at, b.n, name, NULL), 0);
	assert_string_equal(name, "a name");
	/* Its uuid is taken. */
	assert_int_equal(read_image(t, &b, NULL, &back, NULL), -EEXIST);
	quire_tmem_pool_destroy(pool);
	assert_int_equal(read_image(t, &b, NULL, &back, NULL), 0);
	quire_tmem_pool_stat(back, &s);
	assert_int_equal(s.weight, 7);
	assert_int_equal(s.cap_bytes, 10 * MIB);
	assert_int_equal(s.n_puts + s.n_flushed + s.n_gets, 0);
	assert_int_equal(quire_tmem_pool_open(t, o.uuid, &again), 0);
	assert_ptr_equal(again, back);
	o = (struct quire_tmem_pool_options){.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .cap_bytes = 5 * MIB};
	assert_int_equal(read_image(t, &b, &o, &pool, NULL), 0);
	same(back, pool);
	quire_tmem_pool_stat(pool, &s);
	assert_int_equal(s.cap_bytes, 5 * MIB);
	o.page_bytes = 4096;
	assert_int_equal(read_image(t, &b, &o, &pool, NULL), -EINVAL);
	o.page_bytes = 0;
	o.kind = QUIRE_TMEM_EPHEMERAL;
	assert_int_equal(read_image(t, &b, &o, &pool, NULL), -EINVAL);
	free(b.at);
	quire_tmem_destroy(t);
	(void)state;
}

static void what_does_not_fit_is_refused_whole(void **state)
{
	struct quire_tmem *t = make(32 * MIB), *u = make(2 * MIB);
	struct quire_tmem_pool *pool = make_pool(t, 0, 4096), *back = NULL;
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .cap_bytes = 100000};
	struct quire_tmem_stat s;

	for (uint32_t i = 0; i < 2000; i++)
		put(pool, 1, i, i * 5);
	struct bytes b = write_image(pool, "pool");
	assert_int_equal(read_image(u, &b, NULL, &back, NULL), -ENOSPC);
	assert_int_equal(read_image(u, &b, &o, &back, NULL), -ENOSPC);
	quire_tmem_stat(u, &s);
	assert_int_equal(s.n_pages + s.content_bytes, 0);
	free(b.at);
	quire_tmem_destroy(t);
	quire_tmem_destroy(u);
	(void)state;
}

static void pools_that_spill_come_back_too(void **state)
{
	struct quire_tmem *t = make(2 * MIB), *u = make(2 * MIB);
	struct fake_backing f, g;
	struct quire_tmem_pool *pool, *back = NULL;
	struct quire_tmem_stat s;

	fake_backing_init(&f, 64, SEGMENT);
	fake_backing_init(&g, 64, SEGMENT);
	assert_int_equal(fake_backing_set(&f, t, 4096), 0);
	pool = make_pool(t, QUIRE_TMEM_SPILL, 4096);
	for (uint32_t i = 0; i < 3000; i++)
		put(pool, 1, i, i % 4 == 3 ? i / 40 : i * 5);
	struct bytes b = write_image(pool, "pool");
	assert_int_equal(read_image(u, &b, NULL, &back, NULL), -ENOSPC);
	assert_int_equal(fake_backing_set(&g, u, 4096), 0);
	assert_int_equal(read_image(u, &b, NULL, &back, NULL), 0);
	quire_tmem_stat(u, &s);
	assert_true(s.n_spilled > 1000);
	same(pool, back);
	/* A page that can't be read is not left out. */
	struct bytes none = {.fail_after = -1};
	f.fail_reads = true;
	assert_int_equal(tmem_image_write(pool, "pool", append, &none, NULL), -EIO);
	free(none.at);
	free(b.at);
	quire_tmem_destroy(t);
	quire_tmem_destroy(u);
	fake_backing_fini(&f);
	fake_backing_fini(&g);
	(void)state;
}

static void what_was_recompressed_comes_back(void **state)
{
	struct quire_tmem *t = make(32 * MIB), *u = make(32 * MIB);
	struct quire_tmem_pool *pool = make_pool(t, QUIRE_TMEM_RECOMPRESS | QUIRE_TMEM_COLD, 4096), *back = NULL;
	struct quire_tmem_stat s;

	for (uint32_t i = 0; i < 600; i++)
		put(pool, 1, i, i % 50 == 3 ? 4 : i);
	for (unsigned i = 0; i < 8; i++)
		assert_true(quire_tmem_recompress(t, UINT32_MAX) >= 0);
	quire_tmem_stat(t, &s);
	assert_true(s.n_repacked > 100 && s.recompress_saved_bytes > 0);
	struct bytes b = write_image(pool, "pool");
	assert_int_equal(read_image(u, &b, NULL, &back, NULL), 0);
	same(pool, back);
	quire_tmem_stat(u, &s);
	assert_int_equal(s.n_repacked, 0);
	for (unsigned i = 0; i < 8; i++)
		assert_true(quire_tmem_recompress(u, UINT32_MAX) >= 0);
	quire_tmem_stat(u, &s);
	assert_true(s.n_repacked > 100);
	same(pool, back);
	free(b.at);
	quire_tmem_destroy(t);
	quire_tmem_destroy(u);
	(void)state;
}

/* ---- saved while it is in use ---- */

struct busy {
	struct bytes b;
	struct quire_tmem_pool *pool;
	uint32_t n;
};

/* Whatever is written, pages come, go, and change. */
static int append_and_change(void *arg, const void *from, size_t n)
{
	struct busy *busy = arg;
	struct quire_tmem_key k = {.object = {1, 2, 3}};

	for (unsigned i = 0; i < 30 && busy->n < 3000; i++, busy->n += 7) {
		k.index = busy->n * 13 % 2000;
		(void)quire_tmem_flush(busy->pool, &k);
		put(busy->pool, 1, busy->n * 29 % 2000, busy->n % 5 == 0 ? busy->n / 100 : busy->n + 10000);
		put(busy->pool, 5 + busy->n % 3, busy->n * 31, busy->n % 60);
	}
	return append(&busy->b, from, n);
}

static void the_image_is_of_one_moment(void **state)
{
	struct quire_tmem *t = make(64 * MIB);
	struct busy busy = {.pool = make_pool(t, 0, 4096), .b = {.fail_after = -1}};
	struct quire_tmem_pool *back = NULL;
	struct quire_tmem_copy *c;

	for (uint32_t i = 0; i < 2000; i++)
		put(busy.pool, 1, i, i % 4 == 3 ? i / 40 : i);
	assert_int_equal(tmem_image_write(busy.pool, "pool", append_and_change, &busy, NULL), 0);
	assert_true(busy.n >= 3000);
	assert_int_equal(read_image(t, &busy.b, NULL, &back, NULL), 0);
	same(busy.pool, back);
	assert_int_equal(quire_tmem_copy_begin(busy.pool, NULL, &c), 0);
	assert_int_equal(tmem_image_write(busy.pool, "pool", append, &busy.b, NULL), -EBUSY);
	quire_tmem_copy_end(c);
	free(busy.b.at);
	quire_tmem_destroy(t);
	(void)state;
}

static void io_that_fails_is_reported(void **state)
{
	struct quire_tmem *t = make(32 * MIB);
	struct quire_tmem_pool *pool = make_pool(t, 0, 4096), *back;
	struct bytes b = {.fail_after = 2};

	for (uint32_t i = 0; i < 500; i++)
		put(pool, 1, i, i * 5);
	assert_int_equal(tmem_image_write(pool, "pool", append, &b, NULL), -EIO);
	free(b.at);
	b = write_image(pool, "pool");
	for (int i = 0; i < 4; i++) {
		b.fail_after = i;
		assert_int_equal(read_image(t, &b, NULL, &back, NULL), -EIO);
	}
	b.fail_after = -1;
	assert_int_equal(read_image(t, &b, NULL, &back, NULL), 0);
	free(b.at);
	quire_tmem_destroy(t);
	(void)state;
}

/* docs/format.md */
static void the_example_is_as_documented(void **state)
{
	static const uint8_t example[] = {
		0x51, 0x75, 0x69, 0x72, 0x65, 0x54, 0x6d, 0x0a, 0xa9, 0x7c, 0xde, 0x3b, 0x01, 0x00, 0x00, 0x00,
		0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x64, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x70, 0x61, 0x67, 0x65, 0x73, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00,
		0x8e, 0x13, 0x37, 0x4b, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00,
		0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
		0xbe, 0x11, 0x6b, 0x5f, 0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	};
	struct quire_tmem *t = make(8 * MIB);
	struct quire_tmem_pool *pool = make_pool(t, 0, 4096);
	struct quire_tmem_key k = {.object = {1, 2, 3}, .index = 5};
	uint64_t words[512];

	for (unsigned i = 0; i < 512; i++)
		words[i] = 0x1122334455667788;
	assert_int_equal(quire_tmem_put(pool, &k, words), 0);
	struct bytes b = write_image(pool, "pages");
	assert_int_equal(b.n, sizeof(example));
	assert_memory_equal(b.at, example, sizeof(example));
	free(b.at);
	quire_tmem_destroy(t);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(none_one_two_and_many_come_back),
		cmocka_unit_test(a_million_come_back),
		cmocka_unit_test(contents_are_written_as_they_are_and_once),
		cmocka_unit_test(the_pool_is_as_it_was_or_as_wished),
		cmocka_unit_test(what_does_not_fit_is_refused_whole),
		cmocka_unit_test(pools_that_spill_come_back_too),
		cmocka_unit_test(what_was_recompressed_comes_back),
		cmocka_unit_test(the_image_is_of_one_moment),
		cmocka_unit_test(io_that_fails_is_reported),
		cmocka_unit_test(the_example_is_as_documented),
	};
	return cmocka_run_group_tests_name("tmem-image", tests, NULL, NULL);
}
