/* fail.c - errors of the cold side, and the version. */
#include "fail.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

const char *quire_version(void)
{
	return QUIRE_VERSION;
}

static void replace_control_bytes(char *text)
{
	for (unsigned char *c = (unsigned char *)text; *c != '\0'; c++) {
		if (*c < 0x20 || *c == 0x7f)
			*c = '?';
	}
}

/* Takes back an UTF-8 sequence that a cut has left incomplete at the end. */
static void trim_cut_sequence(char *text)
{
	size_t len = strlen(text);
	size_t back = 0;
	while (back < 3 && back < len && ((unsigned char)text[len - 1 - back] & 0xc0) == 0x80)
		back++;
	if (back < len && ((unsigned char)text[len - 1 - back] & 0xc0) == 0xc0)
		text[len - 1 - back] = '\0';
}

/* A text that was made of another error's has its reason already. */
static bool ends_with(const char *text, const char *reason, size_t reason_len)
{
	size_t len = strlen(text);

	return len > reason_len + 2 && memcmp(text + len - reason_len, reason, reason_len) == 0 &&
	       memcmp(text + len - reason_len - 2, ": ", 2) == 0;
}

int quire_fail(struct quire_error *err, int rc, const char *format, ...)
{
	if (err == NULL)
		return rc;

	int saved_errno = errno;
	char reason_buf[96];
	const char *reason = strerror_r(-rc, reason_buf, sizeof(reason_buf));

	/* A long WHAT (a path, most often) is cut so that the WHY is still told. */
	size_t reason_len = strnlen(reason, sizeof(reason_buf) - 1);
	size_t what_room = sizeof(err->text) - reason_len - sizeof(": ") + 1;
	va_list args;
	va_start(args, format);
	int what_len = vsnprintf(err->text, what_room, format, args);
	va_end(args);
	if (what_len < 0)
		err->text[0] = '\0';
	else if ((size_t)what_len >= what_room)
		trim_cut_sequence(err->text);

	size_t at = strlen(err->text);
	if (!ends_with(err->text, reason, reason_len))
		snprintf(err->text + at, sizeof(err->text) - at, ": %.*s", (int)reason_len, reason);
	replace_control_bytes(err->text);
	err->code = rc;
	errno = saved_errno;
	return rc;
}

int quire_fail_as(struct quire_error *err, int rc, const struct quire_error *why, const char *what)
{
	if (why->code != rc)
		return quire_fail(err, rc, "%s", what);
	if (err != NULL)
		*err = *why;
	return rc;
}
