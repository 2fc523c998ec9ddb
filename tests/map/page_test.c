/* Pages of 4, 16 and 64 KiB: what belongs together comes and leaves together. (2 MiB: huge_test.c; which size an item
 * gets: page_size_test.c.) */
#include "../support/maps.h"
#include "../support/trap.h"

#include <pthread.h>
#include <stdatomic.h>

static const size_t sizes[] = {QUIRE_PAGE_4K, QUIRE_PAGE_16K, QUIRE_PAGE_64K};
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* Bytes of a page of that size as it is had: never less than the system's. */
static size_t had(size_t bytes)
{
	return bytes > page_size() && fault != QUIRE_FAULT_KERNEL ? bytes : page_size();
}

static size_t n_pages_of(size_t bytes)
{
	return had(bytes) / page_size();
}

static struct quire_map *map_with(const char *name, size_t page_bytes)
{
	return map_item_of((struct quire_item){.path = file_path(name), .page_bytes = page_bytes});
}

static unsigned n_resident(struct quire_map *m, const char *p, size_t n_pages)
{
	const uint32_t *words = quire_map_residency(m) + (p - (const char *)quire_map_base(m)) / (ptrdiff_t)page_size();
	unsigned n = 0;

	for (size_t i = 0; i < n_pages; i++)
		n += __atomic_load_n(&words[i], __ATOMIC_ACQUIRE) & QUIRE_RESIDENT;
	return n;
}

/* ---- where ---- */

static void items_are_aligned_and_share_no_unit(void **state)
{
	struct quire_item items[12];

	file_write("f", 1, 9000);
	for (unsigned i = 0; i < 12; i++)
		items[i] = (struct quire_item){.path = file_path("f"), .page_bytes = sizes[i * 7 % N_SIZES]};
	struct quire_map *m = map_items(items, 12);
	for (unsigned i = 0; i < 12; i++) {
		size_t unit = had(items[i].page_bytes);
		const char *p = item_ptr(m, i), *next = i < 11 ? item_ptr(m, i + 1) : p + unit;

		assert_int_equal((uintptr_t)p % unit, 0);
		assert_true(next >= p + (9000 + unit - 1) / unit * unit);
		read_and_compare(m, p, 1, 0, 9000);
	}
	map_end(m);
}

static void what_is_between_items_is_no_page(void **state)
{
	const struct quire_item items[] = {
		{.path = file_path("f"), .page_bytes = QUIRE_PAGE_64K},
		{.path = file_path("f"), .page_bytes = QUIRE_PAGE_64K},
	};

	file_write("f", 1, 100);
	struct quire_map *m = map_items(items, 2);
	const char *p = item_ptr(m, 0), *q = item_ptr(m, 1);
	assert_true(load_traps(p + page_size()) || q == p + page_size());
	assert_bytes(p, 1, 0, 100);
	assert_bytes(q, 1, 0, 100);
	if (q > p + page_size())
		assert_int_equal(want(m, p + page_size(), 1), -EFAULT);
	map_end(m);
}

/* ---- together ---- */

#define LEN (5 * (uint64_t)QUIRE_PAGE_64K + 5000)

static void unit_comes_by_one_want(void **state)
{
	file_write("f", 1, LEN);
	for (unsigned i = 0; i < N_SIZES; i++) {
		struct quire_map *m = map_with("f", sizes[i]);
		const char *p = item_ptr(m, 0);
		size_t unit = had(sizes[i]), n = n_pages_of(sizes[i]);

		assert_int_equal(want(m, p + 2 * unit + unit / 2, 1), 0);
		assert_int_equal(n_resident(m, p + 2 * unit, n), n);
		assert_int_equal(map_stat(m).resident, unit);
		assert_int_equal(map_stat(m).n_fills, n);
		read_and_compare(m, p + 2 * unit, 1, 2 * unit, unit);
		assert_int_equal(map_stat(m).n_fills, n);
		map_end(m);
	}
}

static void unit_comes_by_one_load(void **state)
{
	file_write("f", 1, LEN);
	for (unsigned i = 0; i < N_SIZES; i++) {
		struct quire_map *m = map_with("f", sizes[i]);
		const char *p = item_ptr(m, 0);
		size_t unit = had(sizes[i]), n = n_pages_of(sizes[i]);

		assert_bytes(p + unit + unit / 2, 1, unit + unit / 2, 1);
		assert_bytes(p + unit, 1, unit, unit);
		assert_int_equal(want(m, p + unit, unit), 0); /* the load may be over before its fill is counted */
		/* A load may fault more than once: the kernel wakes threads for other reasons, and who reads on while it
		 * still puts the unit in is faster than it. No such fault reads the file again. */
		assert_true(map_stat(m).n_faults > 0);
		assert_int_equal(map_stat(m).n_fills, n);
		assert_int_equal(map_stat(m).resident, unit);
		map_end(m);
	}
}

static void unit_is_purged_whole(void **state)
{
	file_write("f", 1, LEN);
	for (unsigned i = 0; i < N_SIZES; i++) {
		struct quire_map *m = map_with("f", sizes[i]);
		const char *p = item_ptr(m, 0);
		size_t unit = had(sizes[i]), n = n_pages_of(sizes[i]);

		assert_int_equal(want(m, p, 3 * unit), 0);
		assert_int_equal(quire_map_purge(m, p + unit + unit / 2, 1), n);
		assert_int_equal(n_resident(m, p, n), n);
		assert_int_equal(n_resident(m, p + unit, n), 0);
		assert_int_equal(n_resident(m, p + 2 * unit, n), n);
		assert_int_equal(cache_stat().frames, 2 * unit);
		map_end(m);
	}
}

/* All or none of them, once an eviction by another thread, for what it reads ahead, has gone through all words. */
static unsigned n_resident_settled(struct quire_map *m, const char *p, size_t n_pages)
{
	unsigned n = n_resident(m, p, n_pages);

	for (unsigned i = 0; i < 1000 && n > 0 && n < n_pages; i++) {
		usleep(1000);
		n = n_resident(m, p, n_pages);
	}
	return n;
}

/* Wants little by little of another map, until nothing of p's n pages is there; each time all or none of them is. Three
 * times, so that what the policy took for hot leaves, too. */
static void press_and_watch(struct quire_map *m, const char *p, size_t n)
{
	uint64_t len = 3 * QUIRE_BUDGET_MIN_BYTES;
	unsigned there;

	assert_int_equal(quire_cache_set_budget(cache, QUIRE_BUDGET_MIN_BYTES), 0);
	file_sparse("pressure", len);
	struct quire_map *other = map_name("pressure");
	for (uint64_t at = 0; at < len && (there = n_resident_settled(m, p, n)) > 0; at += pages(8)) {
		assert_int_equal(there, n);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(want(other, item_ptr(other, 0) + at, pages(8)), 0);
		assert_true(cache_stat().used <= QUIRE_BUDGET_MIN_BYTES);
	}
	assert_int_equal(n_resident(m, p, n), 0);
	map_end(other);
}

static void unit_is_evicted_whole(void **state)
{
	file_write("f", 1, LEN);
	for (unsigned i = 0; i < N_SIZES; i++) {
		struct quire_map *m = map_with("f", sizes[i]);
		const char *p = item_ptr(m, 0) + had(sizes[i]);

		assert_int_equal(want(m, p, 1), 0);
		press_and_watch(m, p, n_pages_of(sizes[i]));
		map_end(m);
	}
}

/* The policy may remember pages of a map that is gone, where units of another are now. */
static void pages_of_an_earlier_map_are_not_mistaken(void **state)
{
	file_write("f", 1, LEN);
	const size_t before[] = {QUIRE_PAGE_64K, QUIRE_PAGE_4K, QUIRE_PAGE_16K}; /* and then sizes[i] */
	for (unsigned i = 0; i < N_SIZES; i++) {
		struct quire_map *m = map_with("f", before[i]);
		const char *p = item_ptr(m, 0), *q = p + had(sizes[i]);

		assert_int_equal(want(m, p, LEN), 0);
		map_end(m);
		m = map_with("f", sizes[i]);
		assert_ptr_equal(item_ptr(m, 0), p);
		assert_int_equal(want(m, q, 1), 0);
		press_and_watch(m, q, n_pages_of(sizes[i]));
		map_end(m);
	}
}

static void an_item_that_ends_in_a_unit(void **state)
{
	const uint64_t lens[] = {1, 4097, 16384 + 10, 65536 + 4096, 65536 + 40000};

	for (unsigned l = 0; l < sizeof(lens) / sizeof(lens[0]); l++) {
		file_write("f", 1, lens[l]);
		for (unsigned i = 0; i < N_SIZES; i++) {
			struct quire_map *m = map_with("f", sizes[i]);
			const char *p = item_ptr(m, 0);
			size_t end = pages((lens[l] + page_size() - 1) / page_size());

			assert_int_equal(pin(m, p, end), 0);
			assert_bytes(p, 1, 0, lens[l]);
			assert_true(bytes_are_zero(p + lens[l], end - lens[l]));
			assert_int_equal(map_stat(m).resident, end);
			assert_int_equal(unpin(m, p, end), 0);
			assert_int_equal(quire_map_purge(m, p, end), end / page_size());
			assert_int_equal(cache_stat().frames, 0);
			map_end(m);
		}
	}
}

static void cold_advice_takes_units(void **state)
{
	file_write("f", 1, LEN);
	file_write("g", 2, LEN);
	const struct quire_item items[] = {
		{.path = file_path("f"), .page_bytes = QUIRE_PAGE_64K},
		{.path = file_path("g"), .page_bytes = QUIRE_PAGE_16K},
	};
	struct quire_map *m = map_items(items, 2);
	size_t n = n_pages_of(QUIRE_PAGE_64K);

	assert_int_equal(want(m, item_ptr(m, 0), LEN), 0);
	assert_int_equal(want(m, item_ptr(m, 1), LEN), 0);
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_COLD), 0);
	press_and_watch(m, item_ptr(m, 0), n);
	assert_true(quire_map_resident(m, item_ptr(m, 1), LEN));
	map_end(m);
}

/* ---- pins ---- */

static void a_pin_keeps_its_unit(void **state)
{
	file_write("f", 1, LEN);
	for (unsigned i = 0; i < N_SIZES; i++) {
		struct quire_map *m = map_with("f", sizes[i]);
		const char *p = item_ptr(m, 0);
		size_t unit = had(sizes[i]), n = n_pages_of(sizes[i]), last = unit - 1;

		assert_int_equal(pin(m, p + unit / 2, 1), 0);
		assert_int_equal(cache_stat().pinned, unit);
		assert_int_equal(map_stat(m).pinned, page_size());
		assert_int_equal(pin(m, p + last, 1), 0); /* of the same unit: paid for */
		assert_int_equal(cache_stat().pinned, unit);
		assert_int_equal(quire_map_purge(m, p, unit), 0);
		assert_int_equal(unpin(m, p + unit / 2, 1), 0);
		assert_int_equal(cache_stat().pinned, unit);
		press();
		assert_int_equal(n_resident(m, p, n), n);
		assert_bytes(p, 1, 0, unit);
		assert_int_equal(unpin(m, p + last, 1), 0);
		assert_int_equal(unpin(m, p + last, 1), -EINVAL);
		assert_int_equal(cache_stat().pinned, 0);
		assert_int_equal(quire_map_purge(m, p + last, 1), n);
		map_end(m);
	}
}

static void pins_of_units_end_at_the_limit(void **state)
{
	file_sparse("big", CACHE_BUDGET);
	struct quire_map *m = map_with("big", QUIRE_PAGE_64K);
	const char *p = item_ptr(m, 0);
	size_t unit = had(QUIRE_PAGE_64K);
	uint64_t done = 0;
	int rc;

	while ((rc = pin(m, p + done, 1)) == 0) /* a page of each unit */
		done += unit;
	assert_int_equal(rc, -ENOMEM);
	assert_int_equal(cache_stat().pinned, done);
	assert_true(done >= CACHE_BUDGET / 2);
	assert_true(cache_stat().used <= cache_stat().budget);
	for (uint64_t at = 0; at < done; at += unit)
		assert_int_equal(unpin(m, p + at, 1), 0);
	assert_int_equal(cache_stat().pinned, 0);
	map_end(m);
}

/* ---- a bad page among good ones ---- */

static _Atomic uint64_t bad_offset;

static int refuse(void *arg, const void *raw, size_t len_bytes, uint64_t offset, void *page)
{
	if (offset == atomic_load(&bad_offset))
		return -EBADMSG;
	memcpy(page, raw, len_bytes);
	return 0;
}

static struct quire_map *map_refused(size_t page_bytes, uint64_t bad)
{
	atomic_store(&bad_offset, bad);
	file_write("f", 1, LEN);
	return map_item_of((struct quire_item){.path = file_path("f"), .fill = refuse, .page_bytes = page_bytes});
}

static void refused_page_of_a_unit_is_named_and_its_neighbours_spared(void **state)
{
	for (unsigned i = 0; i < N_SIZES; i++) {
		const uint64_t bad = LEN / 2 / page_size() * page_size(), behind = bad + page_size();
		struct quire_map *m = map_refused(sizes[i], bad);
		const char *p = item_ptr(m, 0);
		struct iovec v = io(p, LEN);
		struct quire_error err;
		struct quire_op op;

		assert_int_equal(quire_map_item_page_bytes(m, 0), had(sizes[i]));
		/* Whichever of the unit is asked for first, the one that is bad is bad. */
		for (uint64_t at = behind; at < behind + had(sizes[i]); at += page_size())
			assert_int_equal(want(m, p + at, 1), 0);
		quire_op_init(&op);
		assert_int_equal(quire_map_want(m, &v, 1, QUIRE_WANT_PIN, &op), 0);
		assert_int_equal(quire_await(&op), -EBADMSG);
		assert_int_equal(op.error_offset, bad);
		assert_int_equal(quire_map_item_error(m, 0, &err), 0);
		assert_int_equal(err.code, -EBADMSG);
		char at[32];
		snprintf(at, sizeof(at), "at %llu", (unsigned long long)bad);
		assert_non_null(strstr(err.text, at));
		read_and_compare(m, p, 1, 0, bad);
		read_and_compare(m, p + behind, 1, behind, LEN - behind);
		assert_false(quire_map_resident(m, p + bad, 1));
		assert_int_equal(want(m, p + bad, 1), -EBADMSG);
		atomic_store(&bad_offset, UINT64_MAX);
		read_and_compare(m, p, 1, 0, LEN);
		map_end(m);
	}
}

/* Who loads sees a page a moment before its word says that it is there; until then it is not purged. */
static void purge_all(struct quire_map *m, const char *p)
{
	for (unsigned i = 0; i < 600000 && map_stat(m).resident > 0; i++) {
		if (i > 0)
			usleep(1000);
		quire_map_purge(m, p, LEN);
	}
	assert_int_equal(map_stat(m).resident, 0);
}

static void raw_loads_around_a_refused_page(void **state)
{
	for (unsigned i = 0; i < N_SIZES; i++) {
		const unsigned n = (unsigned)(LEN / page_size()), bad = n / 2;
		struct quire_map *m = map_refused(sizes[i], pages(bad));
		const char *p = item_ptr(m, 0);

		assert_false(load_traps(p + pages(bad + 1)));
		for (unsigned page = n; page-- > 0;)
			assert_int_equal(load_traps(p + pages(page)), page == bad);
		assert_bytes(p, 1, 0, pages(bad));
		assert_bytes(p + pages(bad + 1), 1, pages(bad + 1), LEN - pages(bad + 1));
		/* A unit with a hole leaves, too, and what was poisoned is tried again. */
		atomic_store(&bad_offset, UINT64_MAX);
		purge_all(m, p);
		assert_int_equal(want(m, p + pages(bad), 1), 0);
		assert_bytes(p, 1, 0, LEN);
		map_end(m);
	}
}

/* ---- threads ---- */

#define N_THREADS 6u
#define N_ROUNDS 60u

struct worker {
	struct quire_map *m;
	unsigned seed;
	_Atomic unsigned n_wrong;
	_Atomic int refused; /* a pin's error */
};

static void work_once(struct worker *w, unsigned dice)
{
	const char *base = item_ptr(w->m, dice % 3);
	uint64_t at = (uint64_t)dice * 7919 % (LEN - 100);

	int rc = pin(w->m, base + at, 100);
	if (rc < 0)
		atomic_store(&w->refused, rc);
	if (!bytes_are(base + at, 1 + dice % 3, at, 100) && rc == 0)
		atomic_fetch_add(&w->n_wrong, 1);
	if (dice % 5 == 0)
		quire_map_purge(w->m, base, LEN);
	if (dice % 11 == 0)
		quire_map_advise(w->m, dice % 3, dice % 2 ? QUIRE_ADVISE_COLD : QUIRE_ADVISE_HOT);
	if (unpin(w->m, base + at, 100) < 0)
		atomic_fetch_add(&w->n_wrong, 1);
	if (fault != QUIRE_FAULT_PINNED && !bytes_are(base + LEN - at - 8, 1 + dice % 3, LEN - at - 8, 8))
		atomic_fetch_add(&w->n_wrong, 1);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	unsigned dice = w->seed;

	for (unsigned i = 0; i < N_ROUNDS; i++) {
		dice = dice * 1103515245u + 12345u;
		work_once(w, dice >> 8);
	}
	return NULL;
}

/* Pins, purges, raw loads and advice of all sizes at once: every byte is right, no account is left open. */
static void many_threads(void **state)
{
	struct quire_item items[N_SIZES];
	struct worker workers[N_THREADS];
	pthread_t threads[N_THREADS];

	for (unsigned i = 0; i < N_SIZES; i++) {
		char name[8];
		snprintf(name, sizeof(name), "t%u", i);
		file_write(name, 1 + i, LEN);
		items[i] = (struct quire_item){.path = file_path(name), .page_bytes = sizes[i]};
	}
	struct quire_map *m = map_items(items, N_SIZES);
	for (unsigned i = 0; i < N_THREADS; i++) {
		workers[i] = (struct worker){.m = m, .seed = i};
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (unsigned i = 0; i < N_THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(workers[i].refused, 0);
		assert_int_equal(workers[i].n_wrong, 0);
	}
	assert_int_equal(cache_stat().pinned, 0);
	map_end(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_CHECKED(items_are_aligned_and_share_no_unit),
		ON_FAULTING(what_is_between_items_is_no_page),
		ON_CHECKED(unit_comes_by_one_want),
		ON_FAULTING(unit_comes_by_one_load),
		ON_CHECKED(unit_is_purged_whole),
		ON_CHECKED(unit_is_evicted_whole),
		ON_CHECKED(pages_of_an_earlier_map_are_not_mistaken),
		ON_CHECKED(an_item_that_ends_in_a_unit),
		ON_CHECKED(cold_advice_takes_units),
		ON_CHECKED(a_pin_keeps_its_unit),
		ON_CHECKED(pins_of_units_end_at_the_limit),
		ON_CHECKED(refused_page_of_a_unit_is_named_and_its_neighbours_spared),
		ON_FAULTING(raw_loads_around_a_refused_page),
		ON_CHECKED(many_threads),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
