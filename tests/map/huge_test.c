/* Pages of 2 MiB: where they can be had, that they come and leave whole, and what becomes of them under pressure. */
#include "../support/maps.h"
#include "../support/trap.h"

#include <pthread.h>
#include <stdatomic.h>

#define HUGE ((uint64_t)QUIRE_PAGE_2M)
#define LEN (3 * HUGE + 5000)
#define SMALL_BUDGET (8 * HUGE) /* the least that has them */

static void need_huge(void)
{
	struct quire_capabilities caps;

	assert_int_equal(quire_capabilities(&caps), 0);
	if (!caps.move)
		skip_because("no UFFDIO_MOVE");
}

static struct quire_map *map_huge(const char *name)
{
	return map_item_of((struct quire_item){.path = file_path(name), .page_bytes = QUIRE_PAGE_2M});
}

static uint64_t n_resident(struct quire_map *m, const char *p, uint64_t len_bytes)
{
	const uint32_t *words = quire_map_residency(m) + (p - (const char *)quire_map_base(m)) / (ptrdiff_t)page_size();
	uint64_t n = 0;

	for (uint64_t i = 0; i < len_bytes / page_size(); i++)
		n += words[i] & QUIRE_RESIDENT;
	return n;
}

/* Of the VMA that holds p, from /proc/self/smaps. */
static uint64_t smaps_bytes(const void *p, const char *key)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long long from, to, kib, found = 0;
	size_t key_len = strlen(key);
	char line[512];
	bool inside = false;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%llx-%llx ", &from, &to) == 2)
			inside = (uintptr_t)p >= from && (uintptr_t)p < to;
		else if (inside && strncmp(line, key, key_len) == 0 && sscanf(line + key_len, ": %llu", &kib) == 1)
			found = kib * KIB;
	}
	fclose(f);
	return found;
}

/* The machine gives huge pages to who asks for them. */
static bool machine_has_huge(void)
{
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
	char line[64] = "";

	if (f != NULL && fgets(line, sizeof(line), f) == NULL)
		line[0] = '\0';
	if (f != NULL)
		fclose(f);
	return line[0] != '\0' && strstr(line, "[never]") == NULL && page_size() == 4096;
}

/* One of them is huge: of three, as the kernel may have none just then, and makes some if it is asked to. Each is asked for where no small page has
 * been, since those may leave their table behind. */
static bool one_is_huge(struct quire_map *m, const char *p)
{
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(want(m, p + i * HUGE, 1), 0);
		if (smaps_bytes(p, "AnonHugePages") > 0)
			return true;
		FILE *f = fopen("/proc/sys/vm/compact_memory", "we");
		if (f != NULL) {
			(void)fputs("1", f);
			fclose(f);
		}
	}
	return false;
}

/* ---- whole ---- */

static void comes_whole_by_one_want(void **state)
{
	need_huge();
	file_write("f", 1, LEN);
	struct quire_map *m = map_huge("f");
	const char *p = item_ptr(m, 0);

	assert_int_equal((uintptr_t)p % HUGE, 0);
	assert_int_equal(want(m, p + HUGE + HUGE / 3, 1), 0);
	assert_int_equal(map_stat(m).resident, HUGE);
	assert_int_equal(n_resident(m, p + HUGE, HUGE), HUGE / page_size());
	assert_bytes(p + HUGE, 1, HUGE, HUGE);
	if (machine_has_huge())
		assert_true(one_is_huge(m, p));
	assert_int_equal(map_stat(m).n_faults, 0);
	map_end(m);
}

static void comes_whole_by_one_load(void **state)
{
	struct quire_capabilities caps;

	need_huge();
	file_write("f", 1, LEN);
	struct quire_map *m = map_huge("f");
	const char *p = item_ptr(m, 0);

	assert_bytes(p + 2 * HUGE - 9, 1, 2 * HUGE - 9, 8);
	assert_int_equal(want(m, p + HUGE, HUGE), 0); /* the load may be over before its fill is counted */
	assert_int_equal(map_stat(m).resident, HUGE);
	assert_true(map_stat(m).n_faults > 0); /* more than once if woken for another reason, but read once: */
	assert_int_equal(map_stat(m).n_fills, HUGE / page_size());
	quire_capabilities(&caps);
	if (machine_has_huge() && caps.page_tables_reclaimed)
		assert_int_equal(smaps_bytes(p, "AnonHugePages"), HUGE);
	assert_bytes(p + HUGE, 1, HUGE, HUGE);
	map_end(m);
}

static void leaves_whole(void **state)
{
	need_huge();
	file_write("f", 1, LEN);
	struct quire_map *m = map_huge("f");
	const char *p = item_ptr(m, 0);

	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(want(m, p, 2 * HUGE), 0);
		assert_int_equal(quire_map_purge(m, p + HUGE - 1, 1), HUGE / page_size());
		assert_int_equal(map_stat(m).resident, HUGE);
		assert_int_equal(cache_stat().frames, HUGE);
		assert_int_equal(smaps_bytes(p, "Rss"), HUGE);
		read_and_compare(m, p, 1, 0, 2 * HUGE);
	}
	map_end(m);
}

/* What the item ends in comes in smaller parts. */
static void an_item_that_ends_in_a_page(void **state)
{
	need_huge();
	file_write("f", 1, LEN);
	struct quire_map *m = map_huge("f");
	const char *p = item_ptr(m, 0), *tail = p + 3 * HUGE;
	size_t end = pages((5000 + page_size() - 1) / page_size());

	assert_int_equal(want(m, tail, 1), 0);
	assert_int_equal(map_stat(m).resident, end);
	assert_bytes(tail, 1, 3 * HUGE, 5000);
	assert_true(bytes_are_zero(tail + 5000, end - 5000));
	assert_true(load_traps(tail + end));
	read_and_compare(m, p, 1, 0, LEN);
	assert_int_equal(quire_map_purge(m, tail, 1), end / page_size());
	map_end(m);
}

static void mixed_with_other_sizes(void **state)
{
	struct quire_item items[6];
	const size_t sizes[] = {QUIRE_PAGE_4K, QUIRE_PAGE_2M, QUIRE_PAGE_64K, QUIRE_PAGE_2M, QUIRE_PAGE_16K, QUIRE_PAGE_2M};

	need_huge();
	file_write("f", 1, HUGE + 100);
	for (unsigned i = 0; i < 6; i++)
		items[i] = (struct quire_item){.path = file_path("f"), .page_bytes = sizes[i]};
	struct quire_map *m = map_items(items, 6);
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(quire_map_item_page_bytes(m, i), sizes[i]);
		assert_int_equal((uintptr_t)item_ptr(m, i) % sizes[i], 0);
		assert_bytes(item_ptr(m, i), 1, 0, HUGE + 100);
	}
	map_end(m);
}

/* ---- pins ---- */

static void a_pin_keeps_it(void **state)
{
	need_huge();
	file_write("f", 1, LEN);
	struct quire_map *m = map_huge("f");
	const char *p = item_ptr(m, 0);

	assert_int_equal(pin(m, p + HUGE + 77, 1), 0);
	assert_int_equal(cache_stat().pinned, HUGE);
	assert_int_equal(pin(m, p + 2 * HUGE - 1, 1), 0);
	assert_int_equal(cache_stat().pinned, HUGE);
	assert_int_equal(quire_map_purge(m, p, LEN), 0);
	press();
	assert_int_equal(n_resident(m, p + HUGE, HUGE), HUGE / page_size());
	assert_bytes(p + HUGE, 1, HUGE, HUGE);
	assert_int_equal(quire_map_destroy(m, NULL), -EBUSY);
	assert_int_equal(unpin(m, p + HUGE + 77, 1), 0);
	assert_int_equal(cache_stat().pinned, HUGE);
	assert_int_equal(unpin(m, p + 2 * HUGE - 1, 1), 0);
	assert_int_equal(cache_stat().pinned, 0);
	map_end(m);
}

static void pins_end_at_the_limit(void **state)
{
	need_huge();
	assert_int_equal(quire_cache_set_budget(cache, SMALL_BUDGET), 0);
	file_sparse("big", 16 * HUGE);
	struct quire_map *m = map_huge("big");
	const char *p = item_ptr(m, 0);
	unsigned n = 0;
	int rc;

	while ((rc = pin(m, p + n * HUGE, 1)) == 0)
		n++;
	assert_int_equal(rc, -ENOMEM);
	assert_in_range(n, 4, 7);
	assert_int_equal(cache_stat().pinned, n * HUGE);
	assert_true(cache_stat().used <= SMALL_BUDGET);
	/* What is not pinned goes on, in whatever parts there is room for. */
	for (uint64_t at = 8 * HUGE; at < 16 * HUGE; at += HUGE / 4) {
		assert_int_equal(want(m, p + at, 1), 0);
		assert_true(cache_stat().used <= SMALL_BUDGET);
	}
	while (n-- > 0)
		assert_int_equal(unpin(m, p + n * HUGE, 1), 0);
	map_end(m);
}

/* ---- pressure ---- */

static void never_over_a_small_budget(void **state)
{
	const uint64_t len = 12 * HUGE + 100;
	unsigned dice = 1;

	need_huge();
	assert_int_equal(quire_cache_set_budget(cache, SMALL_BUDGET), 0);
	file_write("f", 1, len);
	struct quire_map *m = map_huge("f");
	const char *p = item_ptr(m, 0);
	uint64_t rss = status_bytes("RssAnon");
	for (unsigned i = 0; i < 60; i++) {
		dice = dice * 1103515245u + 12345u;
		uint64_t at = (dice >> 4) % (len - 64);

		assert_bytes(p + at, 1, at, 64);
		if (i % 3 == 0)
			read_and_compare(m, p + at, 1, at, len - at < 10000 ? len - at : 10000);
		assert_true(cache_stat().used <= SMALL_BUDGET);
		assert_true(status_bytes("RssAnon") <= rss + SMALL_BUDGET + QUIRE_BUDGET_SLACK_BYTES);
	}
	assert_true(map_stat(m).n_evictions > 0);
	map_end(m);
}

/* Beside small pages that want all of the memory. */
static void small_pages_and_huge_ones_take_turns(void **state)
{
	const uint64_t len = 8 * HUGE;
	struct quire_capabilities caps;

	need_huge();
	assert_int_equal(quire_cache_set_budget(cache, SMALL_BUDGET), 0);
	file_write("f", 1, len);
	file_write("g", 2, len);
	const struct quire_item items[] = {
		{.path = file_path("f"), .page_bytes = QUIRE_PAGE_2M},
		{.path = file_path("g"), .page_bytes = QUIRE_PAGE_4K},
	};
	struct quire_map *m = map_items(items, 2);
	for (uint64_t at = 0; at < len; at += HUGE / 2) {
		assert_bytes(item_ptr(m, 0) + at, 1, at, 64);
		assert_int_equal(want(m, item_ptr(m, 1) + at, HUGE / 2), 0);
		assert_bytes(item_ptr(m, 1) + at, 2, at, 64);
		assert_true(cache_stat().used <= SMALL_BUDGET);
	}
	/* Room for a whole one again: it is huge again. */
	quire_map_purge(m, item_ptr(m, 1), len);
	quire_map_purge(m, item_ptr(m, 0), len);
	assert_int_equal(want(m, item_ptr(m, 0), 1), 0);
	assert_int_equal(map_stat(m).resident, HUGE);
	quire_capabilities(&caps);
	if (machine_has_huge() && caps.page_tables_reclaimed)
		assert_int_equal(smaps_bytes(item_ptr(m, 0), "AnonHugePages"), HUGE);
	map_end(m);
}

static void budget_that_shrinks_below_them(void **state)
{
	need_huge();
	file_write("f", 1, 20 * MIB);
	struct quire_map *m = map_huge("f");
	const char *p = item_ptr(m, 0);

	assert_int_equal(want(m, p, 20 * MIB), 0);
	assert_int_equal(quire_cache_set_budget(cache, QUIRE_BUDGET_MIN_BYTES), 0);
	assert_true(cache_stat().used <= QUIRE_BUDGET_MIN_BYTES);
	for (uint64_t at = 0; at < 20 * MIB; at += HUGE / 2) {
		assert_bytes(p + at, 1, at, 1000);
		assert_true(cache_stat().used <= QUIRE_BUDGET_MIN_BYTES);
	}
	map_end(m);
}

/* ---- threads ---- */

#define N_THREADS 4u

struct worker {
	struct quire_map *m;
	unsigned dice;
	_Atomic unsigned n_wrong;
};

static void work_once(struct worker *w, unsigned dice)
{
	const char *p = item_ptr(w->m, 0);
	uint64_t at = (uint64_t)dice * 7919 % (LEN - 100);

	if (!bytes_are(p + at, 1, at, 100))
		atomic_fetch_add(&w->n_wrong, 1);
	if (pin(w->m, p + at, 100) < 0 || !bytes_are(p + at, 1, at, 100) || unpin(w->m, p + at, 100) < 0)
		atomic_fetch_add(&w->n_wrong, 1);
	if (dice % 4 == 0)
		quire_map_purge(w->m, p + at, 1);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < 20; i++) {
		w->dice = w->dice * 1103515245u + 12345u;
		work_once(w, w->dice >> 8);
	}
	return NULL;
}

static void many_threads(void **state)
{
	struct worker workers[N_THREADS];
	pthread_t threads[N_THREADS];

	need_huge();
	file_write("f", 1, LEN);
	struct quire_map *m = map_huge("f");
	for (unsigned i = 0; i < N_THREADS; i++) {
		workers[i] = (struct worker){.m = m, .dice = i};
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (unsigned i = 0; i < N_THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(workers[i].n_wrong, 0);
	}
	assert_int_equal(cache_stat().pinned, 0);
	map_end(m);
}

/* More of them are cold at once than there is staging for: each comes whole all the same. */
#define N_COLD 12u

static void *load_one(void *arg)
{
	return *(const volatile char *)arg == 0 ? arg : NULL;
}

static void many_cold_loads_at_once(void **state)
{
	pthread_t threads[N_COLD];

	need_huge();
	file_sparse("f", N_COLD * HUGE);
	struct quire_map *m = map_huge("f");
	char *p = (char *)(uintptr_t)item_ptr(m, 0);
	for (unsigned i = 0; i < N_COLD; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, load_one, p + i * HUGE + i * 10000), 0);
	for (unsigned i = 0; i < N_COLD; i++) {
		void *got;

		pthread_join(threads[i], &got);
		assert_ptr_equal(got, p + i * HUGE + i * 10000);
	}
	for (unsigned i = 0; i < N_COLD; i++)
		assert_int_equal(want(m, p + i * HUGE + i * 10000, 1), 0);
	/* But for one that met something else on its way. */
	assert_true(map_stat(m).resident >= (N_COLD - 1) * HUGE);
	map_end(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_FAULTING(comes_whole_by_one_want),
		ON_FAULTING(comes_whole_by_one_load),
		ON_FAULTING(leaves_whole),
		ON_FAULTING(an_item_that_ends_in_a_page),
		ON_FAULTING(mixed_with_other_sizes),
		ON_FAULTING(a_pin_keeps_it),
		ON_FAULTING(pins_end_at_the_limit),
		ON_FAULTING(never_over_a_small_budget),
		ON_FAULTING(small_pages_and_huge_ones_take_turns),
		ON_FAULTING(budget_that_shrinks_below_them),
		ON_FAULTING(many_threads),
		ON_FAULTING(many_cold_loads_at_once),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
