/* The index: tables in each of their forms, and as they go from one to the other. */
#include "../../src/tmem/spans.h"
#include "../support/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOWS 65536u

struct fixture {
	struct budget budget;
	struct storage storage;
	struct spans spans;
	uint32_t list, n;
	uint32_t values[LOWS]; /* VALUE_NONE: not there */
};

static const struct tmem_object object = {{1, 2, 3}};

static struct fixture *make(void)
{
	struct fixture *f = malloc(sizeof(*f));

	assert_non_null(f);
	budget_init(&f->budget, UINT64_C(64) << 20);
	storage_init(&f->storage, &f->budget);
	spans_init(&f->spans, &f->budget, &f->storage, 1);
	memset(f->values, 0xff, sizeof(f->values));
	f->list = SPAN_NONE;
	f->n = 0;
	return f;
}

static void destroy(struct fixture *f)
{
	spans_fini(&f->spans);
	storage_fini(&f->storage);
	assert_int_equal(budget_used(&f->budget), 0);
	free(f);
}

static void add(struct fixture *f, uint16_t low)
{
	uint32_t span = spans_need(&f->spans, 7, &object, 0, &f->list);

	assert_int_not_equal(span, SPAN_NONE);
	assert_true(spans_add(&f->spans, span, low, low * 3u));
	f->values[low] = low * 3u;
	f->n++;
}

static void take(struct fixture *f, uint16_t low)
{
	uint32_t span = spans_find(&f->spans, 7, &object, 0);

	assert_int_not_equal(span, SPAN_NONE);
	spans_remove(&f->spans, span, low, &f->list);
	f->values[low] = VALUE_NONE;
	f->n--;
}

static void count(void *arg, uint16_t low, uint32_t value)
{
	struct fixture *f = arg;

	assert_int_equal(value, f->values[low]);
	f->n++;
}

static void check(struct fixture *f)
{
	uint32_t span = spans_find(&f->spans, 7, &object, 0), n = f->n;

	assert_int_equal(span == SPAN_NONE, n == 0);
	if (span == SPAN_NONE)
		return;
	for (uint32_t i = 0; i < LOWS; i++)
		assert_true(spans_get(&f->spans, span, (uint16_t)i) == f->values[i]);
	assert_int_not_equal(f->values[spans_any(&f->spans, span)], VALUE_NONE);
	f->n = 0;
	spans_each(&f->spans, span, count, f);
	assert_int_equal(f->n, n);
}

static void pages_in_order_take_little_more_than_their_values(void **state)
{
	struct fixture *f = make();

	for (uint32_t i = 0; i < 3000; i++) {
		add(f, (uint16_t)(1000 + i));
		if (i > 16)
			assert_true(f->spans.table_bytes < 5 * i + 16);
	}
	check(f);
	for (uint32_t i = 0; i < 3000; i++)
		take(f, (uint16_t)(i % 2 == 0 ? 1000 + i / 2 : 3999 - i / 2));
	check(f);
	destroy(f);
}

static void the_order_in_which_pages_come_does_not_matter(void **state)
{
	struct fixture *f = make();

	for (uint32_t i = LOWS; i-- > 0;) /* backwards */
		add(f, (uint16_t)i);
	check(f);
	assert_true(f->spans.table_bytes < 5 * LOWS);
	for (uint32_t i = 0; i < LOWS; i++) /* by an odd step, so all of them */
		take(f, (uint16_t)(i * 40503u));
	check(f);
	for (uint32_t i = 0; i < LOWS; i++) {
		add(f, (uint16_t)(i * 40503u));
		if (i == 100 || i == 20000 || i == 50000)
			check(f);
	}
	check(f);
	destroy(f);
}

static void random_pages_come_and_go(void **state)
{
	unsigned seed = (unsigned)random_seed();
	struct fixture *f = make();

	printf("seed %u\n", seed);
	srandom(seed);
	for (unsigned round = 0; round < 60; round++) {
		/* Stretches of a length, somewhere; more come than go in some rounds, in others not. */
		uint32_t length = 1u << (random() % 12), keep = (uint32_t)random() % 100, base = (uint32_t)random() % LOWS;
		for (unsigned i = 0; i < 1000; i++) {
			uint16_t low = (uint16_t)(base + (uint32_t)random() % length);
			if (f->values[low] != VALUE_NONE)
				take(f, low);
			else if ((uint32_t)random() % 100 < keep)
				add(f, low);
		}
		if (round % 6 == 0)
			check(f);
	}
	check(f);
	for (uint32_t i = 0; i < LOWS; i++)
		if (f->values[i] != VALUE_NONE)
			take(f, (uint16_t)i);
	check(f);
	assert_int_equal(f->spans.table_bytes, 0);
	destroy(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_in_order_take_little_more_than_their_values),
		cmocka_unit_test(the_order_in_which_pages_come_does_not_matter),
		cmocka_unit_test(random_pages_come_and_go),
	};
	return cmocka_run_group_tests_name("tmem-spans", tests, NULL, NULL);
}
