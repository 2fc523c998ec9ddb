/* Random histories of pages that are read, leave, stay as copies, grow and are dropped, with a second thread that reads: never a wrong
 * byte, never more memory than the budget. QUIRE_TEST_SEED repeats one, QUIRE_TEST_LONG makes it a hundred times as long. */
#include "copies.h"

#include "../../src/cache/fill.h"
#include "../support/random.h"

#include <pthread.h>
#include <stdatomic.h>

#define BUDGET (8 * MIB)
#define SEED 9u
#define MOST_PAGES 1500u
#define N_STEPS 800u

struct history {
	struct quire_map *grows, *hard;
	const char *base;
	_Atomic uint64_t len_bytes; /* of what grows, as it is mapped */
	_Atomic bool stop;
	_Atomic unsigned n_wrong;
	uint64_t random;
};

static uint64_t below(uint64_t *random, uint64_t n)
{
	*random ^= *random << 13, *random ^= *random >> 7, *random ^= *random << 17;
	return (*random >> 11) % n;
}

/* The page as it is now. */
static bool read_page(struct history *h, uint64_t page)
{
	const char *p = h->base + pages(page);
	uint64_t len = atomic_load(&h->len_bytes), from = pages(page);

	if (from >= len)
		return true;
	uint64_t n = len - from < page_size() ? len - from : page_size();
	if (fault == QUIRE_FAULT_PINNED && pin(h->grows, p, n) != 0)
		return true;
	bool right = soft_is(p, SEED, from, n);
	if (fault == QUIRE_FAULT_PINNED)
		unpin(h->grows, p, n);
	return right;
}

static void *read_on(void *arg)
{
	struct history *h = arg;
	uint64_t random = h->random ^ 0x5555;

	while (!atomic_load(&h->stop))
		if (!read_page(h, below(&random, atomic_load(&h->len_bytes) / page_size() + 1)))
			atomic_fetch_add(&h->n_wrong, 1);
	return NULL;
}

static void grow(struct history *h)
{
	uint64_t len = atomic_load(&h->len_bytes), more = 1 + below(&h->random, 3 * page_size());
	size_t now;

	if (len + more > pages(MOST_PAGES))
		return;
	soft_write("grows", SEED, len, more);
	int rc = quire_map_extend(h->grows, 0, &now);
	/* The reader may have pinned the page it ends in. */
	while (rc == -EBUSY)
		rc = quire_map_extend(h->grows, 0, &now);
	assert_int_equal(rc, 0);
	assert_int_equal(now, len + more);
	atomic_store(&h->len_bytes, now);
}

static void step(struct history *h)
{
	uint64_t n_pages = atomic_load(&h->len_bytes) / page_size() + 1, page = below(&h->random, n_pages);
	const char *p = h->base + pages(page);
	uint64_t len = atomic_load(&h->len_bytes);

	if (pages(page) >= len)
		return;
	switch (below(&h->random, 16)) {
	case 0:
		grow(h);
		break;
	case 1:
		quire_map_purge(h->grows, p, page_size() < len - pages(page) ? page_size() : 1);
		break;
	case 2:
		if (below(&h->random, 32) == 0)
			quire_map_purge(h->grows, h->base, len);
		break;
	case 3:
		if (below(&h->random, 32) == 0)
			quire_map_advise(h->grows, 0, QUIRE_ADVISE_COLD);
		break;
	case 4:
		/* Pages of others, which don't get smaller, push these out. */
		assert_int_equal(want(h->hard, item_ptr(h->hard, 0) + MIB * below(&h->random, 6), 256 * KIB), 0);
		break;
	case 5: case 6: case 7: case 8: case 9:
		leave_if_there(h->grows, p);
		break;
	default:
		assert_true(read_page(h, page));
	}
}

static void no_byte_is_ever_wrong(void **state)
{
	struct history h = {.random = random_seed()};
	unsigned n_steps = getenv("QUIRE_TEST_LONG") != NULL ? 100 * N_STEPS : N_STEPS;
	pthread_t reader;

	print_message("seed %llu\n", (unsigned long long)h.random);
	cache_anew(&(struct quire_cache_options){
		.size = sizeof(struct quire_cache_options), .budget_bytes = BUDGET, .signal_faults = true});
	chance_give(cache, BUDGET / 16);
	soft_write("grows", SEED, 0, 700 * page_size() + 100);
	h.len_bytes = 700 * page_size() + 100;
	file_write("hard", SEED, 7 * MIB);
	h.grows = map_item_of((struct quire_item){
		.path = file_path("grows"), .flags = QUIRE_ITEM_APPEND, .reserve_bytes = pages(MOST_PAGES)});
	h.hard = map_name("hard");
	h.base = item_ptr(h.grows, 0);
	assert_int_equal(pthread_create(&reader, NULL, read_on, &h), 0);
	/* On a busy machine the reader may hardly run, and few pages be there to leave. */
	for (unsigned i = 0; i < n_steps || (i < 20 * n_steps && cache_stat().n_second_chance_hits == 0); i++) {
		step(&h);
		if (i % 32 != 0)
			continue;
		assert_true(cache_stat().used <= BUDGET);
		chance_give(cache, (1 + below(&h.random, 8)) * BUDGET / 32);
	}
	atomic_store(&h.stop, true);
	pthread_join(reader, NULL);
	assert_int_equal(h.n_wrong, 0);
	assert_true(cache_stat().n_second_chance_hits > 0);
	map_end(h.grows);
	map_end(h.hard);
	assert_int_equal(cache_stat().second_chance_pages, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {ON_CHECKED(no_byte_is_ever_wrong)};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
