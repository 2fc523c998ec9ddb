/* Error texts: one line that says what and why, whatever goes in. */
#include "../../src/base/fail.h"
#include "cmocka_env.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void says_what_and_why(void **state)
{
	struct quire_error err;
	assert_int_equal(quire_fail(&err, -ENOENT, "opening %s", "a"), -ENOENT);
	assert_int_equal(err.code, -ENOENT);
	assert_string_equal(err.text, "opening a: No such file or directory");
}

static void says_why_once(void **state)
{
	struct quire_error inner, outer;
	quire_fail(&inner, -ENOENT, "opening a");
	quire_fail(&outer, -ENOENT, "log x: %s", inner.text);
	assert_string_equal(outer.text, "log x: opening a: No such file or directory");
	quire_fail(&outer, -EIO, "log x: %s", inner.text);
	assert_string_equal(outer.text, "log x: opening a: No such file or directory: Input/output error");
	quire_fail(&outer, -EIO, "Input/output error");
	assert_string_equal(outer.text, "Input/output error: Input/output error");
}

static void needs_no_error_structure(void **state)
{
	assert_int_equal(quire_fail(NULL, -EIO, "x"), -EIO);
}

static void leaves_errno_alone(void **state)
{
	struct quire_error err;
	errno = 77;
	quire_fail(&err, -EIO, "x");
	assert_int_equal(errno, 77);
}

static void control_bytes_become_question_marks(void **state)
{
	struct quire_error err;
	quire_fail(&err, -EIO, "%s", "a\nb\x1b[31m\x7f");
	assert_string_equal(err.text, "a?b?[31m?: Input/output error");
}

static void long_name_is_cut_and_the_reason_stays(void **state)
{
	struct quire_error err;
	char name[5000];
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	quire_fail(&err, -EACCES, "%s", name);
	assert_int_equal(strlen(err.text), QUIRE_ERROR_TEXT_BYTES - 1);
	assert_string_equal(strrchr(err.text, ':'), ": Permission denied");
}

static void characters_are_not_cut_in_the_middle(void **state)
{
	struct quire_error err;
	for (unsigned shift = 0; shift < 4; shift++) {
		char name[1024] = "xxx";
		name[shift] = '\0';
		for (unsigned i = 0; i < 200; i++)
			strcat(name, "\xe2\x82\xac"); /* the euro sign */
		quire_fail(&err, -EIO, "%s", name);
		const char *colon = strrchr(err.text, ':');
		assert_int_equal((colon - err.text - (int)shift) % 3, 0);
		assert_string_equal(colon, ": Input/output error");
	}
}

static void unknown_numbers_are_told_as_such(void **state)
{
	struct quire_error err;
	quire_fail(&err, -99999, "x");
	assert_int_equal(err.code, -99999);
	assert_non_null(strstr(err.text, "99999"));
}

static void version_is_three_numbers(void **state)
{
	unsigned major, minor, patch;
	assert_int_equal(sscanf(quire_version(), "%u.%u.%u", &major, &minor, &patch), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_what_and_why),
		cmocka_unit_test(says_why_once),
		cmocka_unit_test(needs_no_error_structure),
		cmocka_unit_test(leaves_errno_alone),
		cmocka_unit_test(control_bytes_become_question_marks),
		cmocka_unit_test(long_name_is_cut_and_the_reason_stays),
		cmocka_unit_test(characters_are_not_cut_in_the_middle),
		cmocka_unit_test(unknown_numbers_are_told_as_such),
		cmocka_unit_test(version_is_three_numbers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
