/* Copies of pools that are in use: the receiver has, at the end, what the pool has. */
#include "fake_backing.h"
#include "model.h"
#include "pools.h"
#include "with_pages.h"
#include "../support/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define SEGMENT (256u << 10)
#define MOST_REFUSALS 10000u
#define PATIENCE 500u /* refusals, then another pool is emptied */

static struct quire_tmem_pool *make_pool(struct quire_tmem *t, uint32_t page_bytes)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .page_bytes = page_bytes};
	struct quire_tmem_pool *pool = NULL;

	assert_int_equal(quire_tmem_pool_create(t, &o, &pool, NULL), 0);
	return pool;
}

static struct quire_tmem_key key_of(uint64_t object, uint32_t index)
{
	return (struct quire_tmem_key){.object = {object, 2, 3}, .index = index};
}

static void put(struct quire_tmem_pool *pool, uint64_t object, uint32_t index, uint32_t content)
{
	uint8_t page[4096];
	struct quire_tmem_key k = key_of(object, index);

	model_fill(content, page, sizeof(page));
	assert_int_equal(quire_tmem_put(pool, &k, page), 0);
}

static void flush(struct quire_tmem_pool *pool, uint64_t object, uint32_t index)
{
	struct quire_tmem_key k = key_of(object, index);

	assert_int_equal(quire_tmem_flush(pool, &k), 1);
}

/* Some steps, or all if n is 0; does as it is told. What the last said. */
static int receive(struct quire_tmem_copy *c, struct quire_tmem_pool *to, unsigned n)
{
	static uint8_t page[2 << 20];
	struct quire_tmem_key k;
	int rc = 1;

	for (unsigned i = 0; (n == 0 || i < n) && rc > 0; i++) {
		rc = quire_tmem_copy_next(c, &k, page);
		if (rc == QUIRE_TMEM_COPY_PAGE)
			assert_int_equal(quire_tmem_put(to, &k, page), 0);
		if (rc == QUIRE_TMEM_COPY_GONE)
			(void)quire_tmem_flush(to, &k);
	}
	return rc;
}

static uint64_t n_pages(struct quire_tmem_pool *pool)
{
	struct quire_tmem_pool_stat s;

	quire_tmem_pool_stat(pool, &s);
	return s.n_pages;
}

static void expect(struct quire_tmem_pool *pool, uint64_t object, uint32_t index, uint32_t content)
{
	uint8_t page[4096], expected[4096];
	struct quire_tmem_key k = key_of(object, index);

	model_fill(content, expected, sizeof(expected));
	assert_int_equal(quire_tmem_get(pool, &k, page, QUIRE_TMEM_GET_KEEP), 0);
	assert_memory_equal(page, expected, sizeof(page));
}

static void all_pages_are_handed_out_once(void **state)
{
	static const uint32_t counts[] = {0, 1, 2, 700};
	struct quire_tmem *t = make(32 * MIB);

	for (unsigned k = 0; k < 4; k++) {
		struct quire_tmem_pool *from = make_pool(t, 4096), *to = make_pool(t, 4096);
		struct quire_tmem_copy *c;
		uint8_t page[4096];
		struct quire_tmem_key at;
		for (uint32_t i = 0; i < counts[k]; i++)
			put(from, i % 3, i * 300, i);
		assert_int_equal(quire_tmem_copy_begin(from, NULL, &c), 0);
		for (uint32_t i = 0; i < counts[k]; i++) {
			assert_int_equal(quire_tmem_copy_next(c, &at, page), QUIRE_TMEM_COPY_PAGE);
			assert_int_equal(quire_tmem_put(to, &at, page), 0);
		}
		assert_int_equal(quire_tmem_copy_next(c, &at, page), 0);
		assert_int_equal(n_pages(to), counts[k]);
		for (uint32_t i = 0; i < counts[k]; i++)
			expect(to, i % 3, i * 300, i);
		quire_tmem_copy_end(c);
		quire_tmem_pool_destroy(from);
		quire_tmem_pool_destroy(to);
	}
	quire_tmem_destroy(t);
	(void)state;
}

static void what_changes_meanwhile_is_told(void **state)
{
	struct quire_tmem *t = make(32 * MIB);
	struct quire_tmem_pool *from = make_pool(t, 4096), *to = make_pool(t, 4096);
	struct quire_tmem_copy *c, *other;

	for (uint32_t i = 0; i < 100; i++)
		put(from, 1, i, i);
	assert_int_equal(quire_tmem_copy_begin(from, NULL, &c), 0);
	assert_int_equal(quire_tmem_copy_begin(from, NULL, &other), -EBUSY);
	assert_int_equal(receive(c, to, 50), QUIRE_TMEM_COPY_PAGE);
	for (uint32_t i = 0; i < 100; i += 10)
		flush(from, 1, i);
	for (uint32_t i = 5; i < 100; i += 10)
		put(from, 1, i, i + 1000);
	put(from, 2, 7, 77);
	put(from, 3, 7, 78);
	flush(from, 3, 7);
	assert_int_equal(receive(c, to, 0), 0);
	assert_int_equal(n_pages(to), 91);
	/* And after that, once more. */
	put(from, 1, 3, 2000);
	flush(from, 2, 7);
	assert_int_equal(receive(c, to, 0), 0);
	quire_tmem_copy_end(c);
	assert_int_equal(n_pages(to), 90);
	for (uint32_t i = 0; i < 100; i++)
		if (i % 10 != 0)
			expect(to, 1, i, i == 3 ? 2000 : i % 10 == 5 ? i + 1000 : i);
	quire_tmem_destroy(t);
	(void)state;
}

static void too_much_between_two_steps_is_reported(void **state)
{
	struct quire_tmem *t = make(32 * MIB);
	struct quire_tmem_pool *from = make_pool(t, 4096), *to = make_pool(t, 4096);
	struct quire_tmem_copy_options o = {.size = sizeof(o), .log_entries = 8};
	struct quire_tmem_copy *c;

	assert_int_equal(quire_tmem_copy_begin(from, &o, &c), 0);
	for (unsigned round = 0; round < 5; round++) {
		for (uint32_t i = 0; i < 8; i++)
			put(from, 1, i, round * 8 + i);
		/* The same page again is one entry. */
		for (uint32_t i = 0; i < 20; i++)
			put(from, 1, 7, i);
		assert_int_equal(receive(c, to, 0), 0);
	}
	assert_int_equal(n_pages(to), 8);
	for (uint32_t i = 0; i < 9; i++)
		put(from, 1, i, i);
	assert_int_equal(receive(c, to, 0), -EOVERFLOW);
	assert_int_equal(receive(c, to, 0), -EOVERFLOW);
	quire_tmem_copy_end(c);
	o.log_entries = 1u << 25;
	assert_int_equal(quire_tmem_copy_begin(from, &o, &c), -EINVAL);
	o.log_entries = 1u << 24;
	assert_int_equal(quire_tmem_copy_begin(from, &o, &c), -ENOMEM);
	quire_tmem_destroy(t);
	(void)state;
}

static void a_page_that_cannot_be_read_is_named(void **state)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .flags = QUIRE_TMEM_SPILL};
	struct quire_tmem *t = make(2 * MIB), *big = make(32 * MIB);
	struct quire_tmem_pool *from, *to = make_pool(big, 4096);
	struct quire_tmem_copy *c;
	struct quire_tmem_stat s;
	struct fake_backing f;
	unsigned n_failed = 0;
	int rc;

	fake_backing_init(&f, 64, SEGMENT);
	assert_int_equal(fake_backing_set(&f, t, 4096), 0);
	assert_int_equal(quire_tmem_pool_create(t, &o, &from, NULL), 0);
	for (uint32_t i = 0; i < 1500; i++)
		put(from, 1, i, i * 5 + 5);
	quire_tmem_stat(t, &s);
	assert_true(s.n_spilled > 100);
	assert_int_equal(quire_tmem_copy_begin(from, NULL, &c), 0);
	f.fail_reads = true;
	while ((rc = receive(c, to, 0)) == -EIO)
		n_failed++;
	assert_int_equal(rc, 0);
	assert_true(n_failed >= s.n_spilled);
	quire_tmem_copy_end(c);
	f.fail_reads = false;
	assert_int_equal(quire_tmem_copy_begin(from, NULL, &c), 0);
	assert_int_equal(receive(c, to, 0), 0);
	quire_tmem_copy_end(c);
	assert_int_equal(n_pages(to), 1500);
	quire_tmem_destroy(t);
	quire_tmem_destroy(big);
	fake_backing_fini(&f);
	(void)state;
}

/* ---- at random ---- */

static void same(struct quire_tmem_pool *a, struct quire_tmem_pool *b, uint32_t page_bytes)
{
	struct quire_tmem_copy *c;
	struct quire_tmem_key k;
	uint8_t *page = malloc(page_bytes), *other = malloc(page_bytes);
	int rc;

	assert_int_equal(n_pages(a), n_pages(b));
	assert_int_equal(quire_tmem_copy_begin(a, NULL, &c), 0);
	while ((rc = quire_tmem_copy_next(c, &k, page)) > 0) {
		assert_int_equal(quire_tmem_get(b, &k, other, QUIRE_TMEM_GET_KEEP), 0);
		assert_memory_equal(page, other, page_bytes);
	}
	assert_int_equal(rc, 0);
	quire_tmem_copy_end(c);
	free(page);
	free(other);
}

/* After the k-th refusal: while all is full of what must stay there is no memory for a copy. */
static void make_way(struct model *m, unsigned which, unsigned k)
{
	model_step(m);
	if (k % PATIENCE != PATIENCE - 1)
		return;
	m->keeps_pools = false;
	model_make_pool(m, (which + 1 + k / PATIENCE % (MODEL_POOLS - 1)) % MODEL_POOLS);
	m->keeps_pools = true;
}

static void copies_made_among_random_calls_are_right(void **state)
{
	struct model m = {.random = random_seed(), .spills = true};
	struct quire_tmem *big = make(128 * MIB);
	struct fake_backing f;
	unsigned n_copies = getenv("QUIRE_TEST_LONG") != NULL ? 2000 : 25;

	printf("seed %llu\n", (unsigned long long)m.random);
	m.page = malloc(2 << 20);
	m.tmem = make(with_pages(2 * MIB + MIB / 2, BEGUN_PAGES));
	fake_backing_init(&f, 40, SEGMENT);
	assert_int_equal(fake_backing_set(&f, m.tmem, 16384), 0);
	for (unsigned i = 0; i < MODEL_POOLS; i++)
		model_make_pool(&m, i);
	m.keeps_pools = true;
	for (unsigned i = 0; i < n_copies; i++) {
		unsigned which = (unsigned)model_random(&m, MODEL_POOLS);
		uint32_t page_bytes = m.options[which].page_bytes;
		struct quire_tmem_pool *to = make_pool(big, page_bytes);
		struct quire_tmem_copy *c;
		m.keeps_pools = false;
		model_make_pool(&m, (which + 1) % MODEL_POOLS);
		m.keeps_pools = true;
		for (unsigned k = 0; k < 300; k++)
			model_step(&m);
		int rc = quire_tmem_copy_begin(m.pools[which], NULL, &c);
		for (unsigned k = 0; rc == -ENOMEM && k < MOST_REFUSALS; k++) {
			make_way(&m, which, k);
			rc = quire_tmem_copy_begin(m.pools[which], NULL, &c);
		}
		assert_int_equal(rc, 0);
		for (unsigned k = 0; k < 200; k++) {
			model_step(&m);
			rc = receive(c, to, 1 + (unsigned)model_random(&m, 4));
			assert_true(rc >= 0 || rc == -ENOMEM);
		}
		rc = receive(c, to, 0);
		for (unsigned k = 0; rc == -ENOMEM && k < MOST_REFUSALS; k++) {
			make_way(&m, which, k);
			rc = receive(c, to, 0);
		}
		assert_int_equal(rc, 0);
		quire_tmem_copy_end(c);
		same(m.pools[which], to, page_bytes);
		quire_tmem_pool_destroy(to);
	}
	model_compare(&m);
	quire_tmem_destroy(m.tmem);
	quire_tmem_destroy(big);
	fake_backing_fini(&f);
	free(m.page);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_pages_are_handed_out_once),
		cmocka_unit_test(what_changes_meanwhile_is_told),
		cmocka_unit_test(too_much_between_two_steps_is_reported),
		cmocka_unit_test(a_page_that_cannot_be_read_is_named),
		cmocka_unit_test(copies_made_among_random_calls_are_right),
	};
	return cmocka_run_group_tests_name("tmem-copy", tests, NULL, NULL);
}
