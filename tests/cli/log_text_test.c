/* Times and records of logs as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/cli/log_text.h"

#define S 1000000000u /* ns */
#define NOW (1772366400ull * S) /* 2026-03-01T12:00:00Z */

static void times_are_understood(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} good[] = {
		{"2026-03-01T12:00:00Z", NOW},
		{"2026-03-01 12:00", NOW},
		{"2026-03-01T13:00:00+01:00", NOW},
		{"2026-03-01T06:30:00.5-05:30", NOW + S / 2},
		{"2026-03-01", NOW - 12ull * 3600 * S},
		{"2024-02-29T23:59:59.000000001Z", 1709251199ull * S + 1},
		{"1970-01-01", 0},
		{"@1772366400", NOW},
		{"@0.25", S / 4},
		{"90s", NOW - 90ull * S},
		{"2h", NOW - 7200ull * S},
		{"5000w", 0},
	};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		uint64_t ns = 7;
		assert_true(log_parse_time(good[i].text, NOW, &ns));
		assert_int_equal(ns, good[i].ns);
	}
}

static void times_that_are_none_are_refused(void **state)
{
	static const char *const bad[] = {
		"", "now", "5", "5x", "5mm", "-5m", "0s", "@", "@x", "@1.", "@-1", "@99999999999999", "2026", "2026-03", "2026-3-1",
		"2026-13-01", "2026-02-30", "2025-02-29", "2026-00-01", "2026-01-00", "2026-03-01T", "2026-03-01T12",
		"2026-03-01T24:00", "2026-03-01T12:60", "2026-03-01T12:00:61", "2026-03-01T12:00:00.", "2026-03-01T12:00:00ZZ",
		"2026-03-01T12:00+1", "2026-03-01T12:00+24:00", "2026-03-01x", "1969-12-31", "99999999999999999999s",
		"9999-01-01",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint64_t ns = 7;
		if (log_parse_time(bad[i], NOW, &ns))
			fail_msg("%s was taken for a time", bad[i]);
		assert_int_equal(ns, 7);
	}
}

static void what_is_written_is_understood(void **state)
{
	static const uint64_t times[] = {0, 1, S - 1, NOW, NOW + 123456789, UINT64_MAX - S};
	char text[LOG_TIME_TEXT];
	uint64_t ns;

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		assert_true(log_parse_time(log_format_time(times[i], text), 0, &ns));
		assert_int_equal(ns, times[i]);
	}
	assert_string_equal(log_format_time(NOW + 5, text), "2026-03-01T12:00:00.000000005Z");
}

static void spans_have_a_unit(void **state)
{
	uint64_t ns;

	assert_true(log_parse_duration("4w", &ns));
	assert_int_equal(ns, 4ull * 7 * 86400 * S);
	assert_true(log_parse_duration("1d", &ns));
	assert_int_equal(ns, 86400ull * S);
	assert_false(log_parse_duration("60", &ns));
	assert_false(log_parse_duration("s", &ns));
	assert_false(log_parse_duration("1.5h", &ns));
	assert_false(log_parse_duration("100000w", &ns));
}

static void utf8_is_told_from_other_bytes(void **state)
{
	static const char *const good[] = {
		"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf",
		"\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "a\xc3\xa9z",
	};
	static const char *const bad[] = {
		"\x80", "\xbf", "\xc0\xaf", "\xc1\xbf", "\xc2", "\xc2z", "\xe0\x9f\xbf", "\xe1\x80", "\xed\xa0\x80",
		"\xf0\x8f\xbf\xbf", "\xf0\x90\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "a\xc3", "\xe1\x80z",
	};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(log_is_utf8(good[i], strlen(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		/* At the end of what may be read. */
		size_t n = strlen(bad[i]);
		char *copy = malloc(n);
		assert_non_null(copy);
		memcpy(copy, bad[i], n);
		assert_false(log_is_utf8(copy, n));
		free(copy);
	}
}

/* The caller frees it. */
static char *as_json(const void *data, size_t n)
{
	const struct quire_log_record record = {.lsn = 5, .time_ns = NOW, .data = data, .len_bytes = n};
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	log_write_json(out, &record);
	assert_int_equal(fclose(out), 0);
	return text;
}

static void check_json(const void *data, size_t n, const char *expected)
{
	char line[4096], *text = as_json(data, n);

	snprintf(line, sizeof(line), "{\"lsn\": 5, \"time\": \"2026-03-01T12:00:00.000000000Z\", %s}\n", expected);
	assert_string_equal(text, line);
	free(text);
}

static void a_record_is_a_line(void **state)
{
	check_json("", 0, "\"text\": \"\"");
	check_json("a\"\\\n\0\x1f\x7f\xc3\xa9", 9, "\"text\": \"a\\\"\\\\\\u000a\\u0000\\u001f\x7f\xc3\xa9\"");
	check_json("\xff", 1, "\"base64\": \"/w==\"");
	check_json("\xff\xfe", 2, "\"base64\": \"//4=\"");
	check_json("\xff\xfe\0", 3, "\"base64\": \"//4A\"");
	check_json("\xff\xfe\0z", 4, "\"base64\": \"//4Aeg==\"");
}

static void base64_goes_on_over_its_pieces(void **state)
{
	unsigned char zeros[2000] = {0xff};
	char expected[2800] = "\"base64\": \"/w";

	memset(expected + strlen(expected), 'A', 2664);
	strcat(expected, "A=\"");
	check_json(zeros, sizeof(zeros), expected);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_are_understood),
		cmocka_unit_test(times_that_are_none_are_refused),
		cmocka_unit_test(what_is_written_is_understood),
		cmocka_unit_test(spans_have_a_unit),
		cmocka_unit_test(utf8_is_told_from_other_bytes),
		cmocka_unit_test(a_record_is_a_line),
		cmocka_unit_test(base64_goes_on_over_its_pieces),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
