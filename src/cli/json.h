/* json.h - writes JSON to a stream, a value at a time.
 *
 * Keys are NULL inside an array and at the top. Not thread-safe; the stream is
 * borrowed. What is opened is to be closed in order; depth is at most JSON_DEPTH.
 */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define JSON_DEPTH 16

struct json {
	FILE *out; /* borrowed */
	unsigned depth;
	bool one_line; /* false after json_init; set by who writes a line for each value at the top */
	bool filled[JSON_DEPTH]; /* something stands at this depth already */
};

void json_init(struct json *j, FILE *out);
void json_open(struct json *j, const char *key, char bracket); /* '{' or '[' */
void json_close(struct json *j, char bracket);                 /* '}' or ']' */
void json_string(struct json *j, const char *key, const char *value); /* NULL: null */
void json_text(struct json *j, const char *key, const char *text, size_t len_bytes); /* UTF-8, zero bytes too */
void json_base64(struct json *j, const char *key, const void *bytes, size_t len_bytes);
void json_uint(struct json *j, const char *key, uint64_t value);
void json_double(struct json *j, const char *key, double value);
void json_bool(struct json *j, const char *key, bool value);

#endif
