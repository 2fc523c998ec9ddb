/* fail.h - fills a struct quire_error where a fault was found. */
#ifndef BASE_FAIL_H
#define BASE_FAIL_H

#include <quire/error.h>

/* Writes "format…: strerror(-rc)" into err (NULL allowed; once, if another
 * error's text of the same rc is at the end of it) and returns rc, a negative
 * errno. Too long a text is cut; control bytes become '?'. */
int quire_fail(struct quire_error *err, int rc, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* err (NULL allowed) says what `why` does, if that was told of rc; else "what: strerror(-rc)": calls on the way to a failure need not all be given err.
 * Returns rc. */
int quire_fail_as(struct quire_error *err, int rc, const struct quire_error *why, const char *what);

#endif
