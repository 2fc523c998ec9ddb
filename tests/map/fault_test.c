/* Raw loads of cold pages, by each service; and faults that are none of the library's. */
#include "../support/maps.h"
#include "../support/trap.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define N_PAGES 500u

static struct quire_map *map_of_pages(void)
{
	file_write("f", 1, pages(N_PAGES));
	return map_name("f");
}

static void cold_loads_are_right(void **state)
{
	struct quire_map *m = map_of_pages();
	const char *p = item_ptr(m, 0);

	for (unsigned i = 0; i < N_PAGES; i++)
		assert_bytes(p + pages(i * 7 % N_PAGES) + i, 1, pages(i * 7 % N_PAGES) + i, 8);
	if (fault != QUIRE_FAULT_KERNEL) {
		/* The kernel may wake a thread for another reason, and then it faults again; it fills once, though. */
		assert_true(map_stat(m).n_faults >= N_PAGES);
		assert_int_equal(cache_stat().n_faults, map_stat(m).n_faults);
		/* The last load may have been woken before its fill was counted. */
		assert_in_range(map_stat(m).n_fills, N_PAGES - 1, N_PAGES);
		assert_int_equal(map_stat(m).n_hits, 0);
	}
	map_end(m);
}

static void loads_under_pressure(void **state)
{
	uint64_t len = 3 * QUIRE_BUDGET_MIN_BYTES;

	assert_int_equal(quire_cache_set_budget(cache, QUIRE_BUDGET_MIN_BYTES), 0);
	file_write("big", 1, len);
	struct quire_map *m = map_name("big");
	const char *p = item_ptr(m, 0);
	for (unsigned round = 0; round < 2; round++)
		for (uint64_t at = 0; at < len; at += pages(1))
			assert_bytes(p + at + 64, 1, at + 64, 64);
	if (fault != QUIRE_FAULT_KERNEL) {
		assert_true(cache_stat().used <= QUIRE_BUDGET_MIN_BYTES);
		assert_true(cache_stat().n_evictions > 0);
	}
	map_end(m);
}

static void residency_is_a_table_of_words(void **state)
{
	struct quire_map *m = map_of_pages();
	const char *p = item_ptr(m, 0);
	const uint32_t *words = quire_map_residency(m);

	assert_non_null(words);
	assert_int_equal(want(m, p + pages(3), pages(2)), 0);
	assert_int_equal(want(m, p + pages(100) + 5, 1), 0);
	for (unsigned i = 0; i < N_PAGES; i++)
		assert_int_equal(words[i] & QUIRE_RESIDENT, i == 3 || i == 4 || i == 100);
	assert_int_equal(quire_map_purge(m, p, pages(N_PAGES)), 3);
	for (unsigned i = 0; i < N_PAGES; i++)
		assert_int_equal(words[i] & QUIRE_RESIDENT, 0);
	map_end(m);
}

static void the_kernel_has_no_table(void **state)
{
	struct quire_map *m = map_of_pages();

	assert_null(quire_map_residency(m));
	map_end(m);
}

struct reader {
	const char *p;
	unsigned first;
	bool right;
};

static void *read_all(void *arg)
{
	struct reader *r = arg;

	r->right = true;
	for (unsigned i = 0; i < N_PAGES && r->right; i++) {
		unsigned page = (r->first + i * 13) % N_PAGES;

		r->right = bytes_are(r->p + pages(page), 1, pages(page), 128);
	}
	return NULL;
}

static void many_threads(void **state)
{
	struct quire_map *m = map_of_pages();
	struct reader readers[8];
	pthread_t threads[8];

	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < 8; i++) {
			readers[i] = (struct reader){item_ptr(m, 0), i % 4 * 100, false};
			assert_int_equal(pthread_create(&threads[i], NULL, read_all, &readers[i]), 0);
		}
		for (unsigned i = 0; i < 20; i++)
			quire_map_purge(m, item_ptr(m, 0), pages(N_PAGES));
		for (unsigned i = 0; i < 8; i++) {
			pthread_join(threads[i], NULL);
			assert_true(readers[i].right);
		}
	}
	map_end(m);
}

/* ---- system calls ---- */

static void system_calls_on_cold_pages(void **state)
{
	struct quire_map *m = map_of_pages();
	struct quire_capabilities caps;
	int ends[2];
	char got[100];

	quire_capabilities(&caps);
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	const char *p = item_ptr(m, 0) + pages(50) - 50;
	ssize_t n = write(ends[1], p, 100);
	bool served = fault == QUIRE_FAULT_KERNEL ||
	              (fault == QUIRE_FAULT_SERVICE && caps.syscalls_on_cold);
	if (served) {
		assert_int_equal(n, 100);
	} else {
		assert_int_equal(n, -1);
		assert_int_equal(errno, EFAULT);
		assert_int_equal(pin(m, p, 100), 0); /* want first */
		assert_int_equal(write(ends[1], p, 100), 100);
		assert_int_equal(unpin(m, p, 100), 0);
	}
	assert_int_equal(read(ends[0], got, 100), 100);
	assert_bytes(got, 1, pages(50) - 50, 100);
	close(ends[0]);
	close(ends[1]);
	map_end(m);
}

/* ---- what is no page of an item ---- */

static sigjmp_buf back;

static void on_segv(int signal_number)
{
	siglongjmp(back, 1);
}

static void stray_write_traps(void **state)
{
	struct quire_map *m = map_of_pages();
	char *p = (char *)(uintptr_t)item_ptr(m, 0);
	struct sigaction act = {.sa_handler = on_segv}, before;
	volatile unsigned n = 0;

	assert_int_equal(want(m, p, 1), 0);
	sigaction(SIGSEGV, &act, &before);
	if (sigsetjmp(back, 1) == 0)
		*(volatile char *)p = 1;
	else
		n++;
	if (sigsetjmp(back, 1) == 0)
		*(volatile char *)(p + pages(9)) = 1; /* cold */
	else
		n++;
	sigaction(SIGSEGV, &before, NULL);
	assert_int_equal(n, 2);
	assert_bytes(p, 1, 0, pages(10));
	map_end(m);
}

static void reserve_is_no_item(void **state)
{
	file_write("f", 1, pages(2));
	file_write("g", 2, pages(2));
	const struct quire_item items[] = {
		{.path = file_path("f"), .flags = QUIRE_ITEM_APPEND, .reserve_bytes = pages(8)},
		{.path = file_path("g")},
	};
	struct quire_map *m = map_items(items, 2);
	const char *p = item_ptr(m, 0);
	size_t len;

	assert_true(load_traps(p + pages(2)));
	assert_true(load_traps(p + pages(7)));
	assert_false(load_traps(item_ptr(m, 1)));
	if (fault != QUIRE_FAULT_KERNEL)
		assert_int_equal(want(m, p + pages(2), 1), -EFAULT);
	/* Once the file has grown there, it is one. */
	file_append("f", 1, pages(2), pages(4));
	assert_int_equal(quire_map_extend(m, 0, &len), 0);
	assert_int_equal(len, pages(6));
	assert_false(load_traps(p + pages(2)));
	assert_bytes(p, 1, 0, pages(6));
	assert_true(load_traps(p + pages(7)));
	map_end(m);
}

static void what_is_left_of_a_map(void **state)
{
	struct quire_map *keep = map_of_pages(), *m = map_of_pages();
	const char *p = item_ptr(m, 0);

	assert_int_equal(want(m, p, pages(3)), 0);
	map_end(m);
	assert_true(load_traps(p));
	assert_true(load_traps(p + pages(9)));
	/* The space is clean for the next. */
	m = map_of_pages();
	assert_ptr_equal(item_ptr(m, 0), p);
	assert_bytes(p, 1, 0, pages(12));
	map_end(m);
	map_end(keep);
}

/* ---- SIGBUS that is not ours ---- */

static void foreign_mapping(void **state)
{
	struct quire_map *m = map_of_pages();

	file_write("short", 1, pages(1));
	int fd = file_fd("short");
	char *p = mmap(NULL, pages(2), PROT_READ, MAP_SHARED, fd, 0);
	unsigned before = trap_count();

	close(fd);
	assert_true(load_traps(p + pages(1)));
	assert_int_equal(trap_count(), before + 1);
	assert_false(load_traps(p));
	assert_bytes(item_ptr(m, 0), 1, 0, pages(3));
	munmap(p, pages(2));
	map_end(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_RAW(cold_loads_are_right),
		ON_RAW(loads_under_pressure),
		ON_FAULTING(residency_is_a_table_of_words),
		ON_KERNEL(the_kernel_has_no_table),
		ON_RAW(many_threads),
		ON_RAW(system_calls_on_cold_pages),
		ON_RAW(stray_write_traps),
		ON_RAW(reserve_is_no_item),
		ON_FAULTING(what_is_left_of_a_map),
		ON_RAW(foreign_mapping),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
