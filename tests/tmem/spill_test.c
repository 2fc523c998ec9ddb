/* Pools that spill: nothing is lost, whatever the backing does. */
#include "fake_backing.h"
#include "pools.h"
#include "sums.h"
#include "../../src/tmem/spill.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define SEGMENT (256u << 10)

static struct quire_tmem_pool *make_pool(struct quire_tmem *t, uint32_t flags, uint64_t cap_bytes)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .flags = flags, .cap_bytes = cap_bytes};
	struct quire_tmem_pool *pool = NULL;

	assert_int_equal(quire_tmem_pool_create(t, &o, &pool, NULL), 0);
	return pool;
}

static int put(struct quire_tmem_pool *pool, uint32_t index, uint32_t content)
{
	uint8_t page[4096];
	struct quire_tmem_key k = key(index);

	fill(content, page);
	return quire_tmem_put(pool, &k, page);
}

static int get(struct quire_tmem_pool *pool, uint32_t index, uint32_t content, enum quire_tmem_get how)
{
	uint8_t page[4096], expected[4096];
	struct quire_tmem_key k = key(index);
	int rc = quire_tmem_get(pool, &k, page, how);

	fill(content, expected);
	return rc < 0 ? rc : memcmp(page, expected, sizeof(page)) == 0;
}

static int flush(struct quire_tmem_pool *pool, uint32_t index)
{
	struct quire_tmem_key k = key(index);

	return quire_tmem_flush(pool, &k);
}

/* Is that page's content in the backing? */
static bool is_away(struct quire_tmem_pool *pool, uint32_t index)
{
	struct quire_tmem_key k = key(index);
	struct where at = tmem_page_find(pool, &k);
	uint64_t word;

	assert_int_not_equal(at.value, VALUE_NONE);
	return ((struct slot_head *)storage_at(&pool->tmem->storage, content_place(pool->tmem, at.value, &word)))->codec == CODEC_AWAY;
}

static struct quire_tmem_stat stat_of(struct quire_tmem *t)
{
	struct quire_tmem_stat s = sums_stat(t);

	assert_true(s.held_bytes <= s.budget_bytes);
	return s;
}

/* A tmem with a backing of n segments, and a pool that spills. */
struct made {
	struct fake_backing f;
	struct quire_tmem *t;
	struct quire_tmem_pool *pool;
};

static void make_all(struct made *m, uint64_t budget_bytes, unsigned n_segments)
{
	m->t = make(budget_bytes);
	fake_backing_init(&m->f, n_segments, SEGMENT);
	assert_int_equal(fake_backing_set(&m->f, m->t, 16384), 0);
	m->pool = make_pool(m->t, QUIRE_TMEM_SPILL, 0);
}

static void drop_all(struct made *m)
{
	quire_tmem_destroy(m->t);
	fake_backing_fini(&m->f);
}

static void more_is_held_than_memory_has(void **state)
{
	struct made m;

	make_all(&m, 2 * MIB, 64);
	for (uint32_t i = 0; i < 2000; i++)
		assert_int_equal(put(m.pool, i, i), 0);
	struct quire_tmem_stat s = stat_of(m.t);
	assert_true(s.n_spilled > 1500 && s.spilled_bytes > 1500 * 3500);
	assert_true(s.spill_segment_bytes >= s.spilled_bytes);
	/* Many by each write; one read for each. */
	assert_true(m.f.n_writes < s.n_spilled / 8);
	for (uint32_t i = 0; i < 2000; i++) {
		unsigned before = m.f.n_reads;
		bool away = is_away(m.pool, i);
		assert_int_equal(get(m.pool, i, i, QUIRE_TMEM_GET_USUAL), 1);
		assert_int_equal(m.f.n_reads - before, away);
	}
	assert_int_equal(stat_of(m.t).n_spill_reads, m.f.n_reads);
	for (uint32_t i = 0; i < 2000; i++)
		assert_int_equal(get(m.pool, i, i, QUIRE_TMEM_GET_TAKE), 1);
	s = stat_of(m.t);
	assert_int_equal(s.n_pages + s.n_spilled + s.spilled_bytes + s.page_bytes, 0);
	drop_all(&m);
	(void)state;
}

/* What goes leaves its memory idle in blocks of large slots; what is to be known of it in memory is small. */
static void pages_that_do_not_compress_go_for_as_long_as_there_is_room(void **state)
{
	const uint32_t budget_bytes = 8u << 20, n_pages = 4 * budget_bytes / 4096;
	struct made m;
	uint8_t page[4096], got[4096];

	m.t = make(budget_bytes);
	fake_backing_init(&m.f, 4 * budget_bytes / SEGMENT, SEGMENT);
	assert_int_equal(fake_backing_set(&m.f, m.t, 65536), 0);
	m.pool = make_pool(m.t, QUIRE_TMEM_SPILL, 0);
	for (uint32_t i = 0; i < n_pages; i++) {
		struct quire_tmem_key k = key(i);
		noise(i, page);
		assert_int_equal(quire_tmem_put(m.pool, &k, page), 0);
	}
	assert_true(stat_of(m.t).n_spilled > n_pages / 2);
	for (uint32_t i = 0; i < n_pages; i++) {
		struct quire_tmem_key k = key(i);
		noise(i, page);
		assert_int_equal(quire_tmem_get(m.pool, &k, got, QUIRE_TMEM_GET_KEEP), 0);
		assert_memory_equal(got, page, sizeof(page));
	}
	drop_all(&m);
	(void)state;
}

static void the_oldest_go_first_and_those_read_later(void **state)
{
	struct made m;

	make_all(&m, 2 * MIB, 64);
	uint32_t n = 0;
	for (; stat_of(m.t).n_spilled == 0; n++) {
		assert_int_equal(put(m.pool, n, n), 0);
		if (n == 3)
			assert_int_equal(get(m.pool, 3, 3, QUIRE_TMEM_GET_KEEP), 1);
	}
	uint64_t n_away = stat_of(m.t).n_spilled;
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(is_away(m.pool, i), i != 3 && i <= n_away);
	drop_all(&m);
	(void)state;
}

static void a_cap_is_kept_by_spilling_too(void **state)
{
	struct made m;
	struct quire_tmem_pool_stat s;

	make_all(&m, 8 * MIB, 64);
	struct quire_tmem_pool *other = make_pool(m.t, 0, 300000);
	assert_int_equal(quire_tmem_pool_set_cap(m.pool, 300000), 0);
	for (uint32_t i = 0; i < 500; i++) {
		assert_int_equal(put(m.pool, i, i), 0);
		int rc = put(other, i, i);
		assert_true(rc == 0 || (rc == -ENOSPC && i > 50));
		quire_tmem_pool_stat(m.pool, &s);
		assert_true(s.held_bytes <= 300000);
	}
	/* And so is one that comes later. */
	assert_int_equal(quire_tmem_pool_set_cap(m.pool, 100000), 0);
	quire_tmem_pool_stat(m.pool, &s);
	assert_true(s.held_bytes <= 100000);
	assert_int_equal(s.n_pages, 500);
	for (uint32_t i = 0; i < 500; i++)
		assert_int_equal(get(m.pool, i, i, QUIRE_TMEM_GET_USUAL), 1);
	assert_int_equal(quire_tmem_pool_set_cap(m.pool, 4096), -EBUSY);
	drop_all(&m);
	(void)state;
}

static void a_smaller_budget_is_made_by_spilling(void **state)
{
	struct made m;
	uint64_t least = 0;

	make_all(&m, 8 * MIB, 64);
	for (uint32_t i = 0; i < 1200; i++)
		assert_int_equal(put(m.pool, i, i), 0);
	assert_int_equal(stat_of(m.t).n_spilled, 0);
	assert_int_equal(quire_tmem_set_budget(m.t, 2 * MIB, &least), 0);
	assert_true(stat_of(m.t).n_spilled > 600);
	/* What is left of each page stays in memory. */
	assert_int_equal(quire_tmem_set_budget(m.t, 65536, &least), -EBUSY);
	assert_true(least > 65536);
	for (uint32_t i = 0; i < 1200; i++)
		assert_int_equal(get(m.pool, i, i, QUIRE_TMEM_GET_USUAL), 1);
	drop_all(&m);
	(void)state;
}

static void what_cannot_be_written_is_refused_and_nothing_lost(void **state)
{
	struct made m;
	uint32_t n = 0;

	make_all(&m, 2 * MIB, 64);
	m.f.fail_writes = true;
	while (put(m.pool, n, n) == 0)
		n++;
	assert_true(n > 200);
	assert_int_equal(put(m.pool, n, n), -ENOSPC);
	struct quire_tmem_stat s = stat_of(m.t);
	assert_int_equal(s.n_spilled, 0);
	assert_true(s.n_spill_errors >= 2);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(get(m.pool, i, i, QUIRE_TMEM_GET_USUAL), 1);
	m.f.fail_writes = false;
	for (uint32_t i = n; i < n + 300; i++)
		assert_int_equal(put(m.pool, i, i), 0);
	for (uint32_t i = 0; i < n + 300; i++)
		assert_int_equal(get(m.pool, i, i, QUIRE_TMEM_GET_USUAL), 1);
	drop_all(&m);
	(void)state;
}

static void a_full_backing_refuses_and_a_flush_makes_room(void **state)
{
	struct made m;
	uint32_t n = 0;

	make_all(&m, 2 * MIB, 6);
	while (put(m.pool, n, n) == 0)
		n++;
	assert_true(stat_of(m.t).n_spilled > 300);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(get(m.pool, i, i, QUIRE_TMEM_GET_USUAL), 1);
	for (uint32_t i = 0; i < 250; i++)
		assert_int_equal(flush(m.pool, i), 1);
	assert_true(m.f.n_taken < 6);
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(put(m.pool, i, i + 10000), 0);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(get(m.pool, i, i < 100 ? i + 10000 : i, QUIRE_TMEM_GET_USUAL), i < 100 || i >= 250 ? 1 : -ENOENT);
	drop_all(&m);
	(void)state;
}

static void a_read_that_fails_is_that_pages_alone(void **state)
{
	struct made m;

	make_all(&m, 2 * MIB, 64);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(put(m.pool, i, i), 0);
	assert_true(is_away(m.pool, 5) && is_away(m.pool, 6) && !is_away(m.pool, 999));
	m.f.fail_reads = true;
	assert_int_equal(get(m.pool, 5, 5, QUIRE_TMEM_GET_USUAL), -EIO);
	assert_int_equal(get(m.pool, 5, 5, QUIRE_TMEM_GET_TAKE), -EIO);
	assert_int_equal(get(m.pool, 999, 999, QUIRE_TMEM_GET_USUAL), 1);
	m.f.fail_reads = false;
	assert_int_equal(get(m.pool, 5, 5, QUIRE_TMEM_GET_TAKE), 1);
	/* Damage. */
	for (unsigned i = 0; i < m.f.n_segments * SEGMENT; i += 64)
		m.f.bytes[i] ^= 1;
	assert_int_equal(get(m.pool, 6, 6, QUIRE_TMEM_GET_USUAL), -EBADMSG);
	assert_int_equal(get(m.pool, 6, 6, QUIRE_TMEM_GET_TAKE), -EBADMSG);
	assert_int_equal(stat_of(m.t).n_damaged, 2);
	assert_int_equal(flush(m.pool, 6), 1);
	assert_int_equal(get(m.pool, 6, 6, QUIRE_TMEM_GET_USUAL), -ENOENT);
	drop_all(&m);
	(void)state;
}

static void space_of_what_was_flushed_comes_back(void **state)
{
	struct made m;

	make_all(&m, 2 * MIB, 64);
	for (uint32_t i = 0; i < 2000; i++)
		assert_int_equal(put(m.pool, i, i), 0);
	/* Three of four go, of each segment; others come, again and again. */
	for (uint32_t i = 0; i < 2000; i++)
		if (i % 4 != 0)
			assert_int_equal(flush(m.pool, i), 1);
	for (uint32_t i = 3000; i < 9000; i++) {
		assert_int_equal(put(m.pool, i, i), 0);
		if (i >= 4000)
			assert_int_equal(flush(m.pool, i - 1000), 1);
	}
	struct quire_tmem_stat s = stat_of(m.t);
	assert_true(m.f.n_gives + m.f.n_reads > 0);
	assert_true(s.spill_segment_bytes <= 2 * s.spilled_bytes + 4 * SEGMENT);
	for (uint32_t i = 0; i < 2000; i += 4)
		assert_int_equal(get(m.pool, i, i, QUIRE_TMEM_GET_USUAL), 1);
	quire_tmem_pool_destroy(m.pool);
	s = stat_of(m.t);
	assert_int_equal(s.n_spilled, 0);
	assert_true(m.f.n_taken <= 1);
	assert_int_equal(tmem_backing_clear(m.t), 0);
	assert_true(m.f.closed);
	drop_all(&m);
	(void)state;
}

/* ---- what comes while it is being written ---- */

static void flush_and_put(void *arg)
{
	struct made *m = arg;

	m->f.refuse = true;
	for (uint32_t i = 0; i < 20; i += 4) {
		assert_int_equal(get(m->pool, i, i, QUIRE_TMEM_GET_KEEP), 1);
		assert_int_equal(flush(m->pool, i), 1);
		/* Its room would be what is being made. */
		assert_int_equal(put(m->pool, i + 1, i + 5001), -ENOSPC);
		assert_int_equal(get(m->pool, i + 2, i + 2, QUIRE_TMEM_GET_TAKE), 1);
		assert_int_equal(get(m->pool, i + 3, i + 3, QUIRE_TMEM_GET_KEEP), 1);
	}
	m->f.refuse = false;
}

static void calls_meanwhile_are_right(void **state)
{
	struct made m;

	make_all(&m, 2 * MIB, 64);
	m.f.hook = flush_and_put;
	m.f.hook_arg = &m;
	uint32_t n = 0;
	for (; stat_of(m.t).n_spilled == 0; n++)
		assert_int_equal(put(m.pool, n, n), 0);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(get(m.pool, i, i, QUIRE_TMEM_GET_KEEP), i < 20 && i % 4 < 3 ? -ENOENT : 1);
	drop_all(&m);
	(void)state;
}

static void take_the_page(void *arg)
{
	struct made *m = arg;

	assert_int_equal(get(m->pool, 7, 7, QUIRE_TMEM_GET_TAKE), 1);
}

static void put_the_page(void *arg)
{
	struct made *m = arg;

	assert_int_equal(put(m->pool, 8, 9999), 0);
}

static void no_two_take_the_same_page(void **state)
{
	struct made m;

	make_all(&m, 2 * MIB, 64);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(put(m.pool, i, i), 0);
	assert_true(is_away(m.pool, 7) && is_away(m.pool, 8));
	m.f.hook_arg = &m;
	m.f.hook = take_the_page;
	assert_int_equal(get(m.pool, 7, 7, QUIRE_TMEM_GET_TAKE), -ENOENT);
	m.f.hook = put_the_page;
	assert_int_equal(get(m.pool, 8, 9999, QUIRE_TMEM_GET_TAKE), 1);
	assert_int_equal(get(m.pool, 8, 9999, QUIRE_TMEM_GET_TAKE), -ENOENT);
	(void)stat_of(m.t);
	drop_all(&m);
	(void)state;
}

static void equal_pages_are_spilled_once(void **state)
{
	struct made m;

	make_all(&m, 2 * MIB, 64);
	for (uint32_t i = 0; i < 1500; i++)
		assert_int_equal(put(m.pool, i, i / 3), 0);
	struct quire_tmem_stat s = stat_of(m.t);
	assert_true(s.n_spilled > 0 && s.n_spilled <= 500);
	for (uint32_t i = 0; i < 1500; i++)
		assert_int_equal(get(m.pool, i, i / 3, QUIRE_TMEM_GET_TAKE), 1);
	assert_int_equal(stat_of(m.t).n_spilled, 0);
	drop_all(&m);
	(void)state;
}

static void who_may_not_wait_is_refused(void **state)
{
	struct made m;
	uint32_t n = 0;

	make_all(&m, 2 * MIB, 64);
	m.f.refuse = true;
	while (put(m.pool, n, n) == 0)
		n++;
	assert_int_equal(stat_of(m.t).n_spilled, 0);
	m.f.refuse = false;
	assert_int_equal(put(m.pool, n, n), 0);
	drop_all(&m);
	(void)state;
}

static void what_is_not_of_the_form_is_refused(void **state)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_EPHEMERAL, .flags = QUIRE_TMEM_SPILL};
	struct quire_tmem_pool *pool = NULL;
	struct made m;

	make_all(&m, 2 * MIB, 64);
	assert_int_equal(quire_tmem_pool_create(m.t, &o, &pool, NULL), -EINVAL);
	o.kind = QUIRE_TMEM_PERSISTENT;
	o.page_bytes = 32768;
	assert_int_equal(quire_tmem_pool_create(m.t, &o, &pool, NULL), -EINVAL);
	assert_int_equal(fake_backing_set(&m.f, m.t, 16384), -EBUSY);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(put(m.pool, i, i), 0);
	assert_int_equal(tmem_backing_clear(m.t), -EBUSY);
	drop_all(&m);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(more_is_held_than_memory_has),
		cmocka_unit_test(pages_that_do_not_compress_go_for_as_long_as_there_is_room),
		cmocka_unit_test(the_oldest_go_first_and_those_read_later),
		cmocka_unit_test(a_cap_is_kept_by_spilling_too),
		cmocka_unit_test(a_smaller_budget_is_made_by_spilling),
		cmocka_unit_test(what_cannot_be_written_is_refused_and_nothing_lost),
		cmocka_unit_test(a_full_backing_refuses_and_a_flush_makes_room),
		cmocka_unit_test(a_read_that_fails_is_that_pages_alone),
		cmocka_unit_test(space_of_what_was_flushed_comes_back),
		cmocka_unit_test(calls_meanwhile_are_right),
		cmocka_unit_test(no_two_take_the_same_page),
		cmocka_unit_test(equal_pages_are_spilled_once),
		cmocka_unit_test(who_may_not_wait_is_refused),
		cmocka_unit_test(what_is_not_of_the_form_is_refused),
	};
	return cmocka_run_group_tests_name("tmem-spill", tests, NULL, NULL);
}
