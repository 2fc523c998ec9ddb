/* fail.h - fills a struct quire_error where a fault was found. */
#ifndef BASE_FAIL_H
#define BASE_FAIL_H

#include <quire/error.h>

/* Writes "format…: strerror(-rc)" into err (NULL allowed; once, if another
 * error's text of the same rc is at the end of it) and returns rc, a negative
 * errno. Too long a text is cut; control bytes become '?'. */
int quire_fail(struct quire_error *err, int rc, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
