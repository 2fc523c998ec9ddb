/* json.c - writes JSON to a stream. */
#include "json.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

static void write_string(FILE *out, const char *s, size_t len_bytes)
{
	fputc('"', out);
	for (size_t at = 0, end; at < len_bytes; at = end + 1) {
		for (end = at; end < len_bytes; end++)
			if ((unsigned char)s[end] < 0x20 || s[end] == '"' || s[end] == '\\')
				break;
		fwrite(s + at, 1, end - at, out);
		if (end == len_bytes)
			break;
		fprintf(out, (unsigned char)s[end] < 0x20 ? "\\u%04x" : "\\%c", s[end]);
	}
	fputc('"', out);
}

static void begin_value(struct json *j, const char *key)
{
	if (j->filled[j->depth])
		fputs(j->one_line ? ", " : ",", j->out);
	j->filled[j->depth] = true;
	if (j->depth > 0 && !j->one_line)
		fprintf(j->out, "\n%*s", (int)(2 * j->depth), "");
	if (key != NULL) {
		write_string(j->out, key, strlen(key));
		fputs(": ", j->out);
	}
}

void json_init(struct json *j, FILE *out)
{
	memset(j, 0, sizeof(*j));
	j->out = out;
}

void json_open(struct json *j, const char *key, char bracket)
{
	assert(j->depth + 1 < JSON_DEPTH);
	begin_value(j, key);
	fputc(bracket, j->out);
	j->filled[++j->depth] = false;
}

void json_close(struct json *j, char bracket)
{
	assert(j->depth > 0);
	bool filled = j->filled[j->depth--];
	if (filled && !j->one_line)
		fprintf(j->out, "\n%*s", (int)(2 * j->depth), "");
	fputc(bracket, j->out);
	if (j->depth == 0)
		fputc('\n', j->out);
}

void json_string(struct json *j, const char *key, const char *value)
{
	begin_value(j, key);
	if (value == NULL)
		fputs("null", j->out);
	else
		write_string(j->out, value, strlen(value));
}

void json_text(struct json *j, const char *key, const char *text, size_t len_bytes)
{
	begin_value(j, key);
	write_string(j->out, text, len_bytes);
}

/* Four digits for up to three bytes. */
static void encode(const unsigned char *bytes, size_t n, char *text)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t v = (uint32_t)bytes[0] << 16 | (n > 1 ? (uint32_t)bytes[1] << 8 : 0) | (n > 2 ? bytes[2] : 0);

	text[0] = digits[v >> 18];
	text[1] = digits[v >> 12 & 63];
	text[2] = n > 1 ? digits[v >> 6 & 63] : '=';
	text[3] = n > 2 ? digits[v & 63] : '=';
}

void json_base64(struct json *j, const char *key, const void *bytes, size_t len_bytes)
{
	char text[1024];
	size_t k = 0;

	begin_value(j, key);
	fputc('"', j->out);
	for (size_t at = 0; at < len_bytes; at += 3) {
		encode((const unsigned char *)bytes + at, len_bytes - at, text + k);
		k += 4;
		if (k == sizeof(text)) {
			fwrite(text, 1, k, j->out);
			k = 0;
		}
	}
	fwrite(text, 1, k, j->out);
	fputc('"', j->out);
}

void json_uint(struct json *j, const char *key, uint64_t value)
{
	begin_value(j, key);
	fprintf(j->out, "%" PRIu64, value);
}

void json_double(struct json *j, const char *key, double value)
{
	begin_value(j, key);
	if (isfinite(value))
		fprintf(j->out, "%.6g", value);
	else
		fputs("null", j->out);
}

void json_bool(struct json *j, const char *key, bool value)
{
	begin_value(j, key);
	fputs(value ? "true" : "false", j->out);
}
