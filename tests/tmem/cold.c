/* cold.c - pages that compress, put, got and looked at. */
#include "cold.h"
#include "sums.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <string.h>

struct quire_tmem *cold_make(uint64_t budget_bytes)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = budget_bytes, .n_threads = 2};
	struct quire_tmem *t = NULL;

	assert_int_equal(quire_tmem_create(&o, &t, NULL), 0);
	return t;
}

struct quire_tmem_pool *cold_make_pool(struct quire_tmem *t, enum quire_tmem_kind kind, uint32_t flags)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = kind, .flags = flags, .uuid = {flags & 1}};
	struct quire_tmem_pool *pool = NULL;

	assert_int_equal(quire_tmem_pool_create(t, &o, &pool, NULL), 0);
	return pool;
}

void cold_fill(uint32_t number, uint8_t *page)
{
	uint32_t state = number * 2654435761u + 1;

	for (uint32_t at = 0, n; at < 4096; at += n) {
		state = state * 1664525u + 1013904223u;
		uint32_t word = ((state >> 16) % 160 + number / 8 * 40) * 2654435761u;
		uint8_t text[12] = {' ', 'a', 'n', 'd'};
		for (unsigned i = 0; i < 7; i++)
			text[4 + i] = (uint8_t)('a' + (word >> (4 * i) & 15));
		n = 5 + word % 7;
		memcpy(page + at, text, n < 4096 - at ? n : 4096 - at);
	}
}

struct quire_tmem_key cold_key(uint32_t index)
{
	return (struct quire_tmem_key){.object = {1, 2, 3}, .index = index};
}

int cold_put(struct quire_tmem_pool *pool, uint32_t index, uint32_t number)
{
	uint8_t page[4096];
	struct quire_tmem_key k = cold_key(index);

	cold_fill(number, page);
	return quire_tmem_put(pool, &k, page);
}

int cold_get(struct quire_tmem_pool *pool, uint32_t index, uint32_t number, enum quire_tmem_get how)
{
	uint8_t page[4096], expected[4096];
	struct quire_tmem_key k = cold_key(index);
	int rc = quire_tmem_get(pool, &k, page, how);

	cold_fill(number, expected);
	return rc < 0 ? rc : memcmp(page, expected, sizeof(page)) == 0;
}

void cold_put_all(struct quire_tmem_pool *pool, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(cold_put(pool, i, i), 0);
}

void cold_get_all(struct quire_tmem_pool *pool, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(cold_get(pool, i, i, QUIRE_TMEM_GET_KEEP), 1);
}

void cold_rounds(struct quire_tmem *t, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		assert_true(quire_tmem_recompress(t, UINT32_MAX) >= 0);
}

struct quire_tmem_stat cold_stat(struct quire_tmem *t)
{
	struct quire_tmem_stat s = sums_stat(t);

	assert_true(s.rounding_bytes < s.budget_bytes && s.index_bytes < s.budget_bytes);
	return s;
}

struct slot_head *cold_head(struct quire_tmem_pool *pool, uint32_t index)
{
	struct quire_tmem_key k = cold_key(index);
	struct where at = tmem_page_find(pool, &k);
	uint64_t word;

	return storage_at(&pool->tmem->storage, content_place(pool->tmem, at.value, &word));
}
