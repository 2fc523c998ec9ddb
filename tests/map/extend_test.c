/* Items that grow. */
#include "../support/maps.h"

#include <pthread.h>
#include <stdatomic.h>

static struct quire_map *map_growing(uint64_t len, uint64_t reserve)
{
	file_write("f", 1, len);
	return map_item_of((struct quire_item){
		.path = file_path("f"), .flags = QUIRE_ITEM_APPEND, .reserve_bytes = reserve});
}

static size_t extend(struct quire_map *m)
{
	size_t len = 0;

	assert_int_equal(quire_map_extend(m, 0, &len), 0);
	assert_int_equal(item_len(m, 0), len);
	return len;
}

static void by_whole_pages(void **state)
{
	struct quire_map *m = map_growing(pages(2), pages(10));
	const char *p = item_ptr(m, 0);

	assert_int_equal(quire_map_bytes(m), pages(10));
	read_and_compare(m, p, 1, 0, pages(2));
	file_append("f", 1, pages(2), pages(3));
	assert_int_equal(item_len(m, 0), pages(2)); /* not before it is asked for */
	assert_int_equal(extend(m), pages(5));
	assert_ptr_equal(item_ptr(m, 0), p);
	read_and_compare(m, p, 1, 0, pages(5));
	assert_int_equal(map_stat(m).mapped, pages(5));
	map_end(m);
}

static void last_page_that_is_resident_in_part(void **state)
{
	struct quire_map *m = map_growing(100, pages(4));
	const char *p = item_ptr(m, 0);
	uint64_t len = 100;

	for (unsigned step = 1; step < 40; step++) {
		read_and_compare(m, p, 1, 0, len);
		file_append("f", 1, len, step * 17);
		len += step * 17;
		assert_int_equal(extend(m), len);
		read_and_compare(m, p, 1, 0, len);
	}
	map_end(m);
}

static void last_page_that_is_pinned_in_part(void **state)
{
	struct quire_map *m = map_growing(100, pages(4));
	const char *p = item_ptr(m, 0);
	size_t len = 77;

	assert_int_equal(pin(m, p, 100), 0);
	file_append("f", 1, 100, 5000);
	assert_int_equal(quire_map_extend(m, 0, &len), -EBUSY);
	assert_int_equal(len, 77);
	assert_int_equal(item_len(m, 0), 100);
	assert_bytes(p, 1, 0, 100);
	assert_true(bytes_are_zero(p + 100, pages(1) - 100));
	assert_int_equal(unpin(m, p, 100), 0);
	assert_int_equal(extend(m), 5100);
	read_and_compare(m, p, 1, 0, 5100);
	map_end(m);
}

static void whole_pages_may_be_pinned(void **state)
{
	struct quire_map *m = map_growing(pages(2), pages(4));
	const char *p = item_ptr(m, 0);

	assert_int_equal(pin(m, p, pages(2)), 0);
	file_append("f", 1, pages(2), 10);
	assert_int_equal(extend(m), pages(2) + 10);
	assert_bytes(p, 1, 0, pages(2));
	assert_int_equal(unpin(m, p, pages(2)), 0);
	map_end(m);
}

static void to_the_end_of_the_reserve(void **state)
{
	struct quire_map *m = map_growing(100, pages(2) + 50);
	size_t len = 0;

	file_append("f", 1, 100, pages(5));
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(quire_map_extend(m, 0, &len), -ENOSPC);
		assert_int_equal(len, pages(2) + 50);
		assert_int_equal(item_len(m, 0), pages(2) + 50);
	}
	read_and_compare(m, item_ptr(m, 0), 1, 0, pages(2) + 50);
	map_end(m);
}

static void without_a_reserve(void **state)
{
	struct quire_map *m = map_growing(100, 0);
	size_t len = 0;

	assert_int_equal(extend(m), 100);
	file_append("f", 1, 100, 10);
	assert_int_equal(quire_map_extend(m, 0, &len), -ENOSPC);
	assert_int_equal(len, 100);
	read_and_compare(m, item_ptr(m, 0), 1, 0, 100);
	map_end(m);
}

static void of_an_empty_file(void **state)
{
	struct quire_map *m = map_growing(0, pages(3));

	assert_int_equal(extend(m), 0);
	file_append("f", 1, 0, pages(2) + 1);
	assert_int_equal(extend(m), pages(2) + 1);
	read_and_compare(m, item_ptr(m, 0), 1, 0, pages(2) + 1);
	map_end(m);
}

static void of_a_part(void **state)
{
	file_write("f", 1, pages(3) + 10);
	struct quire_map *m = map_item_of((struct quire_item){.path = file_path("f"),
	                                                       .flags = QUIRE_ITEM_APPEND,
	                                                       .offset = pages(2),
	                                                       .reserve_bytes = pages(8)});

	file_append("f", 1, pages(3) + 10, pages(3));
	assert_int_equal(extend(m), pages(4) + 10);
	read_and_compare(m, item_ptr(m, 0), 1, pages(2), pages(4) + 10);
	map_end(m);
}

static void of_a_file_that_shrank(void **state)
{
	struct quire_map *m = map_growing(pages(4), pages(8));
	size_t len = 77;

	file_truncate("f", pages(2));
	assert_int_equal(quire_map_extend(m, 0, &len), -ESTALE);
	assert_int_equal(len, 77);
	assert_int_equal(item_len(m, 0), pages(4));
	assert_true(quire_map_item_state(m, 0) & QUIRE_ITEM_TRUNCATED);
	map_end(m);
}

static void of_what_does_not_grow(void **state)
{
	file_write("f", 1, 100);
	struct quire_map *m = map_name("f");
	size_t len = 77;

	assert_int_equal(quire_map_extend(m, 0, &len), -EINVAL);
	assert_int_equal(quire_map_extend(m, 1, &len), -EINVAL);
	assert_int_equal(len, 77);
	map_end(m);
}

/* ---- readers go on meanwhile ---- */

struct reader {
	struct quire_map *map;
	_Atomic size_t *len;
	bool right;
};

static void *read_the_tail(void *arg)
{
	struct reader *r = arg;
	const void *p;
	size_t len, n;

	r->right = true;
	while (r->right && (n = atomic_load(r->len)) != SIZE_MAX) {
		size_t from = n > 300 ? n - 300 : 0;
		struct iovec v;

		quire_map_item(r->map, 0, &p, &len);
		v = io((const char *)p + from, n - from);
		r->right = quire_map_want(r->map, &v, 1, QUIRE_WANT_PIN, NULL) == 0 &&
		           bytes_are(v.iov_base, 1, from, v.iov_len);
		r->right &= quire_map_unwant(r->map, &v, 1) == 0;
	}
	return NULL;
}

static void while_the_tail_is_read(void **state)
{
	struct quire_map *m = map_growing(100, pages(100));
	_Atomic size_t len = 100;
	struct reader readers[3];
	pthread_t threads[3];
	size_t file_len = 100;

	for (unsigned i = 0; i < 3; i++) {
		readers[i] = (struct reader){m, &len, false};
		assert_int_equal(pthread_create(&threads[i], NULL, read_the_tail, &readers[i]), 0);
	}
	for (unsigned i = 0; i < 400; i++) {
		size_t now = 0;
		int rc;

		file_append("f", 1, file_len, 501);
		file_len += 501;
		while ((rc = quire_map_extend(m, 0, &now)) == -EBUSY)
			;
		if (rc < 0 || now != file_len)
			break;
		atomic_store(&len, now);
	}
	size_t reached = atomic_exchange(&len, SIZE_MAX);
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(threads[i], NULL);
		assert_true(readers[i].right);
	}
	assert_int_equal(reached, 100 + 400 * 501);
	map_end(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_EACH(by_whole_pages),
		ON_EACH(last_page_that_is_resident_in_part),
		ON_CHECKED(last_page_that_is_pinned_in_part),
		ON_EACH(whole_pages_may_be_pinned),
		ON_EACH(to_the_end_of_the_reserve),
		ON_EACH(without_a_reserve),
		ON_EACH(of_an_empty_file),
		ON_EACH(of_a_part),
		ON_EACH(of_a_file_that_shrank),
		ON_EACH(of_what_does_not_grow),
		ON_EACH(while_the_tail_is_read),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
