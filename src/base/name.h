/* name.h - what logs, volumes and snapshots may be called: A-Z a-z 0-9 . _ - and neither . nor - at the start. */
#ifndef BASE_NAME_H
#define BASE_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define NAME_MAX_BYTES 63u /* without the NUL */

/* The bytes of the name that a word begins with; 0: it begins with none, or with one that is too long. Nothing is read behind the
 * first NAME_MAX_BYTES + 1. */
static inline size_t name_span(const char *word)
{
	static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t n = 0;

	while (n <= NAME_MAX_BYTES && word[n] != '\0' && strchr(set, word[n]) != NULL)
		n++;
	return n <= NAME_MAX_BYTES && word[0] != '.' && word[0] != '-' ? n : 0;
}

static inline bool name_is_valid(const char *word) /* NULL: it is not */
{
	size_t n = word != NULL ? name_span(word) : 0;

	return n > 0 && word[n] == '\0';
}

#endif
