/* Pins: they nest, they hold, they are refused beyond the limit, and they are given back exactly. */
#include "../support/maps.h"

#define LEN pages(16)

static struct quire_map *map_of_16_pages(void)
{
	file_write("f", 1, LEN);
	return map_name("f");
}

static void nest(void **state)
{
	struct quire_map *m = map_of_16_pages();
	const char *p = item_ptr(m, 0);

	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(pin(m, p, pages(1)), 0);
	assert_int_equal(map_stat(m).pinned, page_size());
	assert_int_equal(cache_stat().pinned, page_size());
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(quire_map_destroy(m, NULL), -EBUSY);
		assert_int_equal(quire_map_purge(m, p, pages(1)), 0);
		assert_int_equal(unpin(m, p, pages(1)), 0);
	}
	assert_int_equal(map_stat(m).pinned, 0);
	assert_int_equal(cache_stat().pinned, 0);
	assert_int_equal(quire_map_purge(m, p, pages(1)), 1);
	map_end(m);
}

static void unwant_without_a_pin(void **state)
{
	struct quire_map *m = map_of_16_pages();
	const char *p = item_ptr(m, 0);

	assert_int_equal(unpin(m, p, 1), -EINVAL); /* cold */
	assert_int_equal(want(m, p, LEN), 0);
	assert_int_equal(unpin(m, p, 1), -EINVAL); /* resident */
	assert_int_equal(pin(m, p, pages(4)), 0);
	assert_int_equal(unpin(m, p, pages(5)), -EINVAL);
	assert_int_equal(map_stat(m).pinned, pages(4)); /* nothing changed */
	assert_int_equal(unpin(m, p, pages(4)), 0);
	map_end(m);
}

static void unwant_of_more_pins_than_there_are(void **state)
{
	struct quire_map *m = map_of_16_pages();
	const char *p = item_ptr(m, 0);
	struct iovec twice[] = {io(p, 10), io(p + 20, 10)};

	assert_int_equal(pin(m, p, 1), 0);
	assert_int_equal(quire_map_unwant(m, twice, 2), -EINVAL);
	assert_int_equal(map_stat(m).pinned, 0);
	assert_int_equal(cache_stat().pinned, 0);
	assert_true(quire_map_resident(m, p, 1));
	assert_int_equal(pin(m, p, 1), 0);
	assert_int_equal(map_stat(m).pinned, page_size());
	assert_int_equal(unpin(m, p, 1), 0);
	map_end(m);
}

static void pinned_pages_survive_pressure(void **state)
{
	struct quire_map *m = map_of_16_pages();
	const char *p = item_ptr(m, 0);
	const uint32_t *words = quire_map_residency(m);

	assert_int_equal(pin(m, p + pages(3), pages(5)), 0);
	press();
	for (unsigned i = 3; i < 8; i++)
		assert_true(words[i] & QUIRE_RESIDENT);
	assert_bytes(p + pages(3), 1, pages(3), pages(5));
	assert_int_equal(unpin(m, p + pages(3), pages(5)), 0);
	press();
	assert_int_equal(map_stat(m).resident, 0);
	map_end(m);
}

static void more_than_fit(void **state)
{
	file_sparse("big", CACHE_BUDGET);
	struct quire_map *m = map_name("big");
	const char *p = item_ptr(m, 0);
	uint64_t done = 0;
	int rc;

	assert_int_equal(pin(m, p, CACHE_BUDGET), -ENOMEM); /* at once: nothing was read */
	assert_int_equal(map_stat(m).n_fills, 0);
	while ((rc = pin(m, p + done, MIB)) == 0)
		done += MIB;
	assert_int_equal(rc, -ENOMEM);
	assert_int_equal(cache_stat().pinned, done); /* of the last one nothing is left */
	assert_true(done >= CACHE_BUDGET / 2);
	/* The reserve still serves others. */
	file_write("f", 1, pages(300));
	struct quire_map *other = map_name("f");
	for (unsigned i = 0; i < 300; i++)
		assert_int_equal(want(other, item_ptr(other, 0) + pages(i), 1), 0);
	if (fault != QUIRE_FAULT_PINNED)
		assert_bytes(item_ptr(other, 0), 1, 0, pages(300));
	map_end(other);
	assert_true(cache_stat().used <= cache_stat().budget);
	assert_int_equal(unpin(m, p, done), 0);
	map_end(m);
}

static void more_pins_than_a_page_can_count(void **state)
{
	struct quire_map *m = map_of_16_pages();
	const char *p = item_ptr(m, 0);
	unsigned n = 0;
	int rc;

	while ((rc = pin(m, p, 1)) == 0)
		n++;
	assert_int_equal(rc, -ENOMEM);
	assert_true(n >= 1000000);
	for (; n > 0; n--)
		assert_int_equal(unpin(m, p, 1), 0);
	map_end(m);
}

static void destroy_is_refused_while_pinned(void **state)
{
	struct quire_map *m = map_of_16_pages();
	struct quire_op op;
	const char *p = item_ptr(m, 0);

	assert_int_equal(pin(m, p, LEN), 0);
	assert_int_equal(quire_map_destroy(m, NULL), -EBUSY);
	quire_op_init(&op);
	assert_int_equal(quire_map_destroy(m, &op), -EBUSY);
	assert_bytes(p, 1, 0, LEN);
	assert_int_equal(unpin(m, p, LEN), 0);
	assert_int_equal(want(m, p, LEN), 0);
	map_end(m);
}

static void budget_under_the_pins_is_refused(void **state)
{
	file_sparse("big", 20 * MIB);
	struct quire_map *m = map_name("big");
	const char *p = item_ptr(m, 0);

	assert_int_equal(pin(m, p, 20 * MIB), 0);
	assert_int_equal(quire_cache_set_budget(cache, 16 * MIB), -ENOMEM);
	assert_int_equal(cache_stat().budget, CACHE_BUDGET);
	assert_int_equal(quire_cache_set_budget(cache, 40 * MIB), 0);
	assert_true(quire_map_resident(m, p, 20 * MIB));
	assert_int_equal(unpin(m, p, 20 * MIB), 0);
	assert_int_equal(quire_cache_set_budget(cache, 16 * MIB), 0);
	assert_true(cache_stat().used <= 16 * MIB);
	map_end(m);
}

/* ---- by advice ---- */

static void advice_pins(void **state)
{
	struct quire_map *m = map_of_16_pages();
	const char *p = item_ptr(m, 0);

	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_PINNED), 0);
	assert_int_equal(map_stat(m).pinned, LEN);
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_PINNED), 0); /* no second pin */
	press();
	assert_true(quire_map_resident(m, p, LEN));
	assert_bytes(p, 1, 0, LEN);
	assert_int_equal(quire_map_destroy(m, NULL), -EBUSY);
	assert_int_equal(pin(m, p, 1), 0);
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_WARM), 0);
	assert_int_equal(map_stat(m).pinned, page_size()); /* that one is not the advice's */
	assert_int_equal(unpin(m, p, 1), 0);
	map_end(m);
}

static void advice_that_does_not_fit(void **state)
{
	file_sparse("big", CACHE_BUDGET);
	struct quire_map *m = map_name("big");

	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_PINNED), -ENOMEM);
	assert_int_equal(map_stat(m).pinned, 0);
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_WARM), 0);
	map_end(m);
}

static void advice_is_taken_back_after_extend(void **state)
{
	file_write("f", 1, LEN);
	struct quire_map *m = map_item_of((struct quire_item){
		.path = file_path("f"), .flags = QUIRE_ITEM_APPEND, .reserve_bytes = 2 * LEN});
	size_t len;

	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_PINNED), 0);
	file_append("f", 1, LEN, LEN);
	assert_int_equal(quire_map_extend(m, 0, &len), 0);
	assert_int_equal(quire_map_advise(m, 0, QUIRE_ADVISE_WARM), 0);
	assert_int_equal(map_stat(m).pinned, 0);
	map_end(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_CHECKED(nest),
		ON_CHECKED(unwant_without_a_pin),
		ON_CHECKED(unwant_of_more_pins_than_there_are),
		ON_CHECKED(pinned_pages_survive_pressure),
		ON_CHECKED(more_than_fit),
		ON_SERVICE(more_pins_than_a_page_can_count),
		ON_CHECKED(destroy_is_refused_while_pinned),
		ON_CHECKED(budget_under_the_pins_is_refused),
		ON_CHECKED(advice_pins),
		ON_CHECKED(advice_that_does_not_fit),
		ON_CHECKED(advice_is_taken_back_after_extend),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
