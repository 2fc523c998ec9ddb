/* Parts of the command: sizes, quantiles, JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../src/cli/cli.h"
#include "../../src/cli/demo_client.h"
#include "../../src/cli/json.h"
#include "../../src/cli/latency.h"

static void sizes_take_binary_units(void **state)
{
	uint64_t n = 0;
	assert_true(cli_parse_bytes("4096", &n));
	assert_int_equal(n, 4096);
	assert_true(cli_parse_bytes("256M", &n));
	assert_int_equal(n, 256u << 20);
	assert_true(cli_parse_bytes("1GiB", &n));
	assert_int_equal(n, 1u << 30);
	assert_true(cli_parse_bytes("3k", &n));
	assert_int_equal(n, 3072);
}

static void sizes_that_are_none_are_refused(void **state)
{
	static const char *const bad[] = { "",     "0",   "-1",    "1.5G", "12X",   "M",
		                           "1MiBs", "1 M", "99999999999999999999", "18014398509481985K" };
	uint64_t n = 7;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(cli_parse_bytes(bad[i], &n));
	assert_int_equal(n, 7);
}

static void sizes_are_written_for_people(void **state)
{
	char text[CLI_BYTES_TEXT];
	assert_string_equal(cli_format_bytes(512, text), "512 B");
	assert_string_equal(cli_format_bytes(1536, text), "1.5 KiB");
	assert_string_equal(cli_format_bytes(256u << 20, text), "256 MiB");
	assert_string_equal(cli_format_bytes(UINT64_MAX, text), "16.0 EiB");
}

static void quantiles_are_within_a_step(void **state)
{
	struct latency *l = calloc(1, sizeof(*l));
	assert_non_null(l);
	for (uint64_t ns = 1; ns <= 1000000; ns++)
		latency_add(l, ns);
	for (int i = 1; i <= 999; i += 7) {
		double exact = 1000.0 * i, got = (double)latency_quantile_ns(l, i / 1000.0);
		assert_true(got >= exact && got <= exact * 1.017);
	}
	assert_int_equal(latency_quantile_ns(l, 1), 1000000);
	free(l);
}

static void quantiles_of_nothing_and_of_one(void **state)
{
	struct latency *l = calloc(1, sizeof(*l));
	assert_non_null(l);
	assert_int_equal(latency_quantile_ns(l, 0.5), 0);
	latency_add(l, 123456789);
	assert_int_equal(latency_quantile_ns(l, 0.0001), 123456789);
	assert_int_equal(latency_quantile_ns(l, 1), 123456789);
	free(l);
}

static void the_longest_waits_are_kept(void **state)
{
	struct latency *l = calloc(1, sizeof(*l));
	assert_non_null(l);
	latency_add(l, UINT64_MAX);
	latency_add(l, 1);
	assert_int_equal(l->max_ns, UINT64_MAX);
	assert_int_equal(latency_quantile_ns(l, 0.5), 1);
	free(l);
}

static void json_is_nested_and_escaped(void **state)
{
	char *text = NULL;
	size_t size = 0;
	struct json j;
	FILE *f = open_memstream(&text, &size);
	assert_non_null(f);

	json_init(&j, f);
	json_open(&j, NULL, '{');
	json_string(&j, "name", "a\"b\\c\n");
	json_open(&j, "empty", '[');
	json_close(&j, ']');
	json_open(&j, "some", '[');
	json_uint(&j, NULL, UINT64_MAX);
	json_bool(&j, NULL, true);
	json_double(&j, NULL, 0.0 / 0.0);
	json_close(&j, ']');
	json_close(&j, '}');
	fclose(f);
	assert_string_equal(text, "{\n  \"name\": \"a\\\"b\\\\c\\u000a\",\n  \"empty\": [],\n  \"some\": [\n"
	                          "    18446744073709551615,\n    true,\n    null\n  ]\n}\n");
	free(text);
}

/* Tails of so many slices, evenly from one to the other. */
static struct demo_measurement tails(unsigned n_slices, uint64_t from_ns, uint64_t to_ns)
{
	struct demo_measurement m = { .seconds = 1, .n_slices = n_slices };

	for (unsigned i = 0; i < n_slices; i++)
		m.slice_p999_ns[i] = from_ns + (to_ns - from_ns) * i / (n_slices > 1 ? n_slices - 1 : 1);
	return m;
}

static void a_tail_is_that_of_a_share_of_the_slices(void **state)
{
	struct demo_measurement m = tails(20, 10, 200), none = tails(0, 0, 0);

	assert_int_equal(demo_tail_ns(&m, 0), 10);
	assert_int_equal(demo_tail_ns(&m, 0.5), 100);
	assert_int_equal(demo_tail_ns(&m, 1), 200);
	assert_int_equal(demo_tail_ns(&none, 0.5), 0);
}

static void tails_are_apart_if_most_slices_are(void **state)
{
	struct demo_measurement low = tails(20, 100, 200), high = tails(20, 201, 300), wide = tails(20, 100, 500);

	assert_int_equal(demo_tail_compare(&low, &high), DEMO_SHORTER);
	assert_int_equal(demo_tail_compare(&high, &low), DEMO_LONGER);
	assert_int_equal(demo_tail_compare(&low, &low), DEMO_ALIKE);
	assert_int_equal(demo_tail_compare(&high, &wide), DEMO_ALIKE);
	low.slice_p999_ns[19] = high.slice_p999_ns[19] = 100000; /* a pause of the machine */
	assert_int_equal(demo_tail_compare(&low, &high), DEMO_SHORTER);
}

static void tails_are_not_compared_without_enough_or_beside_others(void **state)
{
	struct demo_measurement low = tails(20, 100, 200), high = tails(20, 201, 300), one = tails(1, 100, 100);

	assert_int_equal(demo_tail_compare(&one, &high), DEMO_ALIKE);
	assert_int_equal(demo_tail_compare(&high, &one), DEMO_ALIKE);
	low.other_seconds = 0.05;
	assert_int_equal(demo_tail_compare(&low, &high), DEMO_SHORTER);
	low.other_seconds = 0.2;
	assert_int_equal(demo_tail_compare(&low, &high), DEMO_DISTURBED);
	assert_int_equal(demo_tail_compare(&high, &low), DEMO_DISTURBED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_take_binary_units),
		cmocka_unit_test(sizes_that_are_none_are_refused),
		cmocka_unit_test(sizes_are_written_for_people),
		cmocka_unit_test(quantiles_are_within_a_step),
		cmocka_unit_test(quantiles_of_nothing_and_of_one),
		cmocka_unit_test(the_longest_waits_are_kept),
		cmocka_unit_test(json_is_nested_and_escaped),
		cmocka_unit_test(a_tail_is_that_of_a_share_of_the_slices),
		cmocka_unit_test(tails_are_apart_if_most_slices_are),
		cmocka_unit_test(tails_are_not_compared_without_enough_or_beside_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
