/* What is to be had of regions in a process that lacks one thing or another; the matrix masks them. */
#include "region.h"

#include <fcntl.h>

#define N_PAGES 64

static void is_refused_where_pages_cannot_be_moved(void **state)
{
	struct quire_capabilities caps;
	struct quire_error err = {0};

	quire_capabilities(&caps);
	if (caps.anon)
		skip_because("they can");
	assert_int_equal(quire_anon_create(cache, 1, NULL, &region, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, caps.grade == QUIRE_GRADE_NONE ? "userfaultfd" : "UFFDIO_MOVE"));
}

static void pinned_it_works_everywhere(void **state)
{
	size_t n = 3 * BUDGET / page_size(), step = 64;

	region_make(pages(n), &(struct quire_anon_options){.flags = QUIRE_ANON_PINNED});
	for (size_t i = 0; i < n; i += step) {
		assert_int_equal(want_pages(i, step, QUIRE_ANON_PIN | QUIRE_ANON_WRITE), 0);
		for (size_t k = i; k < i + step; k++)
			page_fill(page_at(k), k);
		assert_int_equal(unwant_pages(i, step), 0);
	}
	assert_true(cache_stat().used <= BUDGET);
	for (size_t i = 0; i < n; i += step) {
		assert_int_equal(want_pages(i, step, QUIRE_ANON_PIN), 0);
		for (size_t k = i; k < i + step; k++)
			assert_true(page_is(page_at(k), k));
		assert_int_equal(unwant_pages(i, step), 0);
	}
	assert_int_equal(advise_pages(0, step, QUIRE_ANON_DISCARD), 0);
	assert_int_equal(want_pages(0, step, QUIRE_ANON_PIN), 0);
	assert_true(bytes_are_zero(base, pages(step)));
	assert_int_equal(unwant_pages(0, step), 0);
}

static void system_calls_on_cold_pages_are_as_the_grade_says(void **state)
{
	struct quire_capabilities caps;
	int fd = open("/dev/zero", O_RDONLY);

	quire_capabilities(&caps);
	region_make(pages(N_PAGES), NULL);
	page_fill(base, 1);
	assert_int_equal(away(0, 1), 0);
	errno = 0;
	ssize_t n = read(fd, base, page_size());
	if (caps.grade == QUIRE_GRADE_FULL)
		assert_int_equal(n, page_size());
	else
		assert_true(n < 0 && errno == EFAULT);
	assert_int_equal(want_pages(0, 1, QUIRE_ANON_PIN | QUIRE_ANON_WRITE), 0);
	assert_int_equal(read(fd, base, page_size()), page_size());
	assert_int_equal(unwant_pages(0, 1), 0);
	assert_int_equal(away(0, 1), 0);
	assert_true(bytes_are_zero(base, page_size()));
	close(fd);
}

static void without_write_protection_every_page_is_dirty(void **state)
{
	struct quire_capabilities caps;

	quire_capabilities(&caps);
	region_make(pages(N_PAGES), NULL);
	if (caps.anon_tracks_writes)
		skip_because("there is write protection");
	for (size_t i = 0; i < N_PAGES; i++)
		page_fill(page_at(i), i);
	assert_int_equal(away(0, N_PAGES), 0);
	assert_int_equal(want_pages(0, N_PAGES, 0), 0);
	assert_int_equal(region_stat().dirty, pages(N_PAGES));
	page_fill(base, 5);
	assert_int_equal(away(0, N_PAGES), 0);
	for (size_t i = 0; i < N_PAGES; i++)
		assert_true(page_is(page_at(i), i == 0 ? 5 : i));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_CACHE(is_refused_where_pages_cannot_be_moved), IN_CACHE(pinned_it_works_everywhere),
		IN_CACHE(system_calls_on_cold_pages_are_as_the_grade_says),
		IN_CACHE(without_write_protection_every_page_is_dirty),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
