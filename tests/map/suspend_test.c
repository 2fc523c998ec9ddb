/* Loads that suspend: plain pointer code in coroutines, whose cold loads let the others run. */
#include "../support/maps.h"
#include "../support/random.h"
#include "../support/stalled.h"
#include "../support/trap.h"

#define N_KEYS ((uint64_t)(SANITIZED ? 1 : 4) << 20)
#define N_SEARCHERS 48u
#define N_SEARCHES 20u

/* Sorted; the i-th key is 3 i + 1. */
static void write_keys(void)
{
	uint64_t *keys = malloc(N_KEYS * sizeof(*keys));
	FILE *f = fopen(file_path("keys"), "we");

	for (uint64_t i = 0; i < N_KEYS; i++)
		keys[i] = 3 * i + 1;
	assert_non_null(f);
	assert_int_equal(fwrite(keys, sizeof(*keys), N_KEYS, f), N_KEYS);
	assert_int_equal(fclose(f), 0);
	free(keys);
}

static struct quire_loop *suspending_loop(enum quire_engine engine)
{
	struct quire_loop_options o = {
		.size = sizeof(o), .engine = engine, .n_threads = 4, .suspend_faults = true};
	struct quire_loop *loop;

	if (SANITIZED_THREADS)
		skip_because("ThreadSanitizer blocks all signals in a handler, so none can be switched out of");
	int rc = quire_loop_create(&o, &loop, NULL);

	if (rc == -ENOTSUP)
		return NULL;
	assert_int_equal(rc, 0);
	return loop;
}

/* The code that knows nothing of any of this. */
static uint64_t lower_bound(const uint64_t *keys, uint64_t n, uint64_t key)
{
	uint64_t low = 0;

	while (n > 0) {
		uint64_t half = n / 2;

		if (keys[low + half] < key) {
			low += half + 1;
			n -= half + 1;
		} else {
			n = half;
		}
	}
	return low;
}

static struct {
	const uint64_t *keys;
	unsigned n_inside, most_inside, n_left, n_wrong, n_ticks;
} search;

static void searcher(void *arg)
{
	uint64_t x = (uintptr_t)arg;

	for (unsigned i = 0; i < N_SEARCHES; i++) {
		uint64_t want_index = random_below(&x, N_KEYS);
		double keep = (double)want_index / 3; /* floating point state survives as well */

		if (++search.n_inside > search.most_inside)
			search.most_inside = search.n_inside;
		errno = 1234;
		if (lower_bound(search.keys, N_KEYS, 3 * want_index) != want_index ||
		    keep != (double)want_index / 3 || errno != 1234)
			search.n_wrong++;
		search.n_inside--;
	}
	search.n_left--;
}

static void ticker(void *arg)
{
	while (search.n_left > 0) {
		search.n_ticks++;
		if (quire_sleep_ns(200000, NULL) < 0)
			search.n_wrong++;
	}
}

static void binary_searches_by_raw_loads(void **state)
{
	write_keys();
	for (unsigned e = 0; e < 2; e++) {
		struct quire_loop *loop = suspending_loop(both_engines[e]);
		if (loop == NULL)
			continue;
		assert_int_equal(quire_cache_set_budget(cache, QUIRE_BUDGET_MIN_BYTES), 0);
		struct quire_map *m = map_name("keys");
		memset(&search, 0, sizeof(search));
		search.keys = (const uint64_t *)quire_map_base(m);
		search.n_left = N_SEARCHERS;
		for (uintptr_t i = 0; i < N_SEARCHERS; i++)
			assert_int_equal(quire_co_spawn(loop, searcher, (void *)i), 0);
		assert_int_equal(quire_co_spawn(loop, ticker, NULL), 0);
		assert_int_equal(quire_loop_run(loop), 0);
		assert_int_equal(search.n_wrong, 0);
		assert_int_equal(search.n_left, 0);
		assert_true(search.most_inside > N_SEARCHERS / 2); /* one waits, the others go on */
		assert_true(search.n_ticks > 3);
		assert_true(map_stat(m).n_faults > 100);
		assert_true(cache_stat().used <= cache_stat().budget);
		map_end(m);
		assert_int_equal(quire_loop_destroy(loop), 0);
	}
}

/* Many coroutines at the same cold page: one read, and all of them get it. */
static void same_page(void *arg)
{
	const char *p = arg;

	search.n_inside++;
	if (!bytes_are(p + 100, 1, 100, 8))
		search.n_wrong++;
	search.n_left--;
}

static void many_coroutines_at_one_page(void **state)
{
	for (unsigned e = 0; e < 2; e++) {
		file_write("f", 1, pages(2));
		struct quire_loop *loop = suspending_loop(both_engines[e]);
		if (loop == NULL)
			continue;
		struct quire_map *m = map_name("f");
		memset(&search, 0, sizeof(search));
		search.n_left = 20;
		for (unsigned i = 0; i < 20; i++)
			assert_int_equal(
				quire_co_spawn(loop, same_page, (void *)(uintptr_t)item_ptr(m, 0)), 0);
		assert_int_equal(quire_loop_run(loop), 0);
		assert_int_equal(search.n_wrong + search.n_left, 0);
		assert_int_equal(map_stat(m).n_fills, 1);
		map_end(m);
		assert_int_equal(quire_loop_destroy(loop), 0);
	}
}

static int refuse(void *arg, const void *raw, size_t len_bytes, uint64_t offset, void *page)
{
	if (offset == 0)
		return -EBADMSG;
	memcpy(page, raw, len_bytes);
	return 0;
}

static void meets_a_bad_page(void *arg)
{
	const char *p = arg;

	if (!load_traps(p) || !bytes_are(p + pages(1), 1, pages(1), 8))
		search.n_wrong++;
	search.n_left--;
}

static void bad_page_in_a_coroutine(void **state)
{
	file_write("f", 1, pages(2));
	struct quire_loop *loop = suspending_loop(QUIRE_ENGINE_AUTO);
	struct quire_map *m =
		map_item_of((struct quire_item){.path = file_path("f"), .fill = refuse});

	memset(&search, 0, sizeof(search));
	search.n_left = 1;
	assert_int_equal(
		quire_co_spawn(loop, meets_a_bad_page, (void *)(uintptr_t)item_ptr(m, 0)), 0);
	assert_int_equal(quire_loop_run(loop), 0);
	assert_int_equal(search.n_wrong + search.n_left, 0);
	map_end(m);
	assert_int_equal(quire_loop_destroy(loop), 0);
}

/* In a callback there is nothing to suspend: the handler reads the page itself. */
static void touch_in_a_callback(struct quire_op *op, void *arg)
{
	same_page(arg);
}

static void load_in_a_callback(void **state)
{
	file_write("f", 1, pages(2));
	struct quire_loop *loop = suspending_loop(QUIRE_ENGINE_AUTO);
	struct quire_map *m = map_name("f");
	struct iovec v = io(item_ptr(m, 0) + pages(1), 1);
	struct quire_op op;

	memset(&search, 0, sizeof(search));
	search.n_left = 1;
	quire_op_init_callback(&op, loop, touch_in_a_callback, (void *)(uintptr_t)item_ptr(m, 0));
	assert_int_equal(quire_map_want(m, &v, 1, 0, &op), 0);
	assert_int_equal(quire_loop_run(loop), 0);
	assert_int_equal(search.n_wrong + search.n_left, 0);
	map_end(m);
	assert_int_equal(quire_loop_destroy(loop), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_SIGNAL(binary_searches_by_raw_loads),
		ON_SIGNAL(many_coroutines_at_one_page),
		ON_SIGNAL(bad_page_in_a_coroutine),
		ON_SIGNAL(load_in_a_callback),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
