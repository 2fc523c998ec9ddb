/* A region that spills to a store in a directory: several threads beside each other, on one ring and one budget with the store. */
#include "region.h"

#include <pthread.h>
#include <quire/store.h>
#include <quire/tmem_store.h>

#define N_THREADS 2
#define RUN 32

static struct quire_store *store;
static size_t n_pages;

static size_t large(void) /* pages */
{
	return 2 * BUDGET / page_size();
}

static int setup(void **state)
{
	const struct quire_store_options o = {.size = sizeof(o), .capacity_bytes = 8 * BUDGET};
	const char *dir = file_path("store");
	struct quire_tmem *t = NULL;

	if (region_setup(state) < 0)
		return -1;
	assert_int_equal(quire_store_create(dir, &o, NULL), 0);
	assert_int_equal(quire_store_open(cache, dir, 0, &store, NULL), 0);
	assert_int_equal(quire_cache_tmem(cache, &t, NULL), 0);
	assert_int_equal(quire_tmem_set_backing(t, store, QUIRE_CLASS_CAPACITY, NULL, NULL), 0);
	return 0;
}

static int teardown(void **state)
{
	struct quire_tmem *t;

	if (region != NULL)
		region_end();
	assert_int_equal(quire_cache_tmem(cache, &t, NULL), 0);
	assert_int_equal(quire_tmem_clear_backing(t), 0);
	assert_int_equal(quire_store_close(store), 0);
	return region_teardown(state);
}

/* Each thread has runs of its own, in turn: filled, changed in part, and looked at when others' have made them leave. */
static void *work(void *arg)
{
	size_t index = *(size_t *)arg;

	for (size_t turn = 0; turn < 2; turn++)
		for (size_t first = index * RUN; first + RUN <= n_pages; first += N_THREADS * RUN) {
			if (want_pages(first, RUN, turn == 0 ? QUIRE_ANON_WRITE : 0) < 0)
				return "refused";
			for (size_t i = first; i < first + RUN; i++) {
				if (turn > 0 && !page_is_noise(page_at(i), i + (turn - 1) * (i % 8 == 0)))
					return "wrong";
				if (turn == 0 || i % 8 == 0)
					page_fill_noise(page_at(i), i + turn * (i % 8 == 0));
			}
		}
	return NULL;
}

static void threads_share_a_region_larger_than_memory(void **state)
{
	size_t indexes[N_THREADS];
	pthread_t threads[N_THREADS];
	struct quire_tmem_stat s;
	struct quire_tmem *t;
	void *wrong;

	n_pages = large();
	region_make(pages(n_pages), &(struct quire_anon_options){.flags = QUIRE_ANON_SPILL});
	for (size_t i = 0; i < N_THREADS; i++) {
		indexes[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, work, &indexes[i]), 0);
	}
	for (size_t i = 0; i < N_THREADS; i++) {
		pthread_join(threads[i], &wrong);
		if (wrong != NULL)
			fail_msg("%s", (char *)wrong);
	}
	assert_int_equal(quire_cache_tmem(cache, &t, NULL), 0);
	quire_tmem_stat(t, &s);
	assert_true(s.n_spilled > 0);
	assert_int_equal(region_stat().n_errors, 0);
	assert_true(cache_stat().used <= BUDGET + MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(threads_share_a_region_larger_than_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
