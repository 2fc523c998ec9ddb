/* replay_read.c - traces from files.
 *
 * Text has an access a line, fields between commas, semicolons or tabs, and perhaps a line of
 * names first. Only the column of ids is looked at: the one that was asked for, else the one
 * whose name is known, else the second, or the only one.
 *
 * An oracleGeneral record is 24 bytes, little-endian, packed: time (4), id (8), size (4), index
 * of the next access (8). Time and next access are not looked at; as in libCacheSim,
 * requests of size 0 are no accesses.
 */
#include "replay_read.h"

#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SEPARATORS ",;\t"
#define RECORD_BYTES 24u
#define N_BATCH 4096u

struct reader {
	FILE *file;                  /* borrowed */
	const struct trace_options *opts;
	struct trace_builder *trace; /* borrowed */
	char *why;                   /* borrowed */
};

struct field {
	const char *text;
	size_t len_bytes;
};

__attribute__((format(printf, 3, 4)))
static int fail(struct reader *r, int rc, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(r->why, TRACE_WHY_BYTES, format, args);
	va_end(args);
	return rc;
}

static int add(struct reader *r, uint64_t id)
{
	int rc = trace_add(r->trace, id);
	if (rc == -EFBIG)
		return fail(r, rc, "more than 4,294,967,294 accesses");
	return rc < 0 ? fail(r, rc, "%s", strerror(-rc)) : 0;
}

/* ---- text ---- */

static bool is_separator(char c)
{
	return c != '\0' && strchr(SEPARATORS, c) != NULL;
}

/* Field number `index` of a line, without blanks around it. False: there are fewer. */
static bool field_at(const char *line, size_t len, unsigned index, struct field *ret)
{
	const char *end = line + len;
	for (; index > 0; index--) {
		while (line < end && !is_separator(*line))
			line++;
		if (line == end)
			return false;
		line++;
	}
	const char *stop = line;
	while (stop < end && !is_separator(*stop))
		stop++;
	while (line < stop && isspace((unsigned char)*line))
		line++;
	while (stop > line && isspace((unsigned char)stop[-1]))
		stop--;
	*ret = (struct field){ line, (size_t)(stop - line) };
	return true;
}

/* 0; -EINVAL: no unsigned decimal number; -ERANGE: beyond 64 bits. */
static int parse_id(struct field f, uint64_t *ret_id)
{
	uint64_t id = 0;
	bool fits = true;
	if (f.len_bytes == 0)
		return -EINVAL;
	for (size_t i = 0; i < f.len_bytes; i++) {
		unsigned digit = (unsigned)(unsigned char)f.text[i] - '0';
		if (digit > 9)
			return -EINVAL;
		fits = fits && !__builtin_mul_overflow(id, 10u, &id) && !__builtin_add_overflow(id, digit, &id);
	}
	if (!fits)
		return -ERANGE;
	*ret_id = id;
	return 0;
}

static bool is_name(struct field f, const char *name)
{
	return strlen(name) == f.len_bytes && strncasecmp(f.text, name, f.len_bytes) == 0;
}

static bool is_known_name(struct field f)
{
	static const char *const names[] = { "id", "obj_id", "object_id", "block", "block_id", "page",
	                                     "page_id", "lba", "lbn", "key" };
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (is_name(f, names[i]))
			return true;
	return false;
}

/* A text of the trace, for a message: what can be printed of it. */
static const char *shown(struct field f, char *text, size_t size_bytes)
{
	size_t n = 0;
	for (; n < f.len_bytes && n < size_bytes - 4; n++)
		text[n] = isprint((unsigned char)f.text[n]) ? f.text[n] : '?';
	strcpy(text + n, n < f.len_bytes ? "..." : "");
	return text;
}

/* What the first line says: which column, and whether the line is one of names. */
static int choose_column(struct reader *r, const char *line, size_t len, unsigned *ret_index, bool *ret_names)
{
	const char *asked = r->opts->column;
	struct field f;
	uint64_t id;

	if (asked != NULL && strspn(asked, "0123456789") == strlen(asked)) {
		*ret_index = (unsigned)strtoul(asked, NULL, 10) - 1;
		*ret_names = field_at(line, len, *ret_index, &f) && parse_id(f, &id) == -EINVAL;
		return 0;
	}
	unsigned usual = field_at(line, len, 1, &f) ? 1 : 0;
	field_at(line, len, usual, &f);
	*ret_index = usual;
	*ret_names = asked != NULL || parse_id(f, &id) == -EINVAL;
	if (!*ret_names)
		return 0;
	for (unsigned i = 0; field_at(line, len, i, &f); i++) {
		if (asked != NULL ? is_name(f, asked) : is_known_name(f)) {
			*ret_index = i;
			return 0;
		}
	}
	if (asked != NULL)
		return fail(r, -EINVAL, "line 1: no column '%.60s'", asked);
	char text[40];
	field_at(line, len, usual, &f);
	return fail(r, -EINVAL, "line 1: '%s': not a number, and no column has a known name (see --help)",
	            shown(f, text, sizeof(text)));
}

static int read_line(struct reader *r, const char *line, size_t len, unsigned column, uint64_t number)
{
	struct field f;
	uint64_t id;
	char text[40];

	if (!field_at(line, len, column, &f))
		return fail(r, -EINVAL, "line %llu: no column %u", (unsigned long long)number, column + 1);
	int rc = parse_id(f, &id);
	if (rc < 0)
		return fail(r, -EINVAL, "line %llu: '%s': %s", (unsigned long long)number,
		            shown(f, text, sizeof(text)),
		            rc == -ERANGE ? "does not fit into 64 bits" : "not a number");
	return add(r, id);
}

static bool is_blank(const char *line, size_t len)
{
	while (len > 0 && isspace((unsigned char)line[len - 1]))
		len--;
	return len == 0;
}

static int read_text(struct reader *r)
{
	char *line = NULL;
	size_t size = 0;
	uint64_t number = 0;
	unsigned column = 0;
	bool is_first = true;
	int rc = 0;

	for (ssize_t len; rc == 0 && (len = getline(&line, &size, r->file)) >= 0;) {
		bool is_names = false;
		number++;
		if (is_blank(line, (size_t)len))
			continue;
		if (is_first)
			rc = choose_column(r, line, (size_t)len, &column, &is_names);
		is_first = false;
		if (rc == 0 && !is_names)
			rc = read_line(r, line, (size_t)len, column, number);
	}
	free(line);
	return rc;
}

/* ---- oracleGeneral ---- */

static int read_record(struct reader *r, const unsigned char *record)
{
	uint64_t id;
	uint32_t size;
	memcpy(&id, record + 4, sizeof(id));
	memcpy(&size, record + 12, sizeof(size));
	return size == 0 ? 0 : add(r, le64toh(id));
}

static int read_oracle(struct reader *r)
{
	static unsigned char buffer[N_BATCH * RECORD_BYTES];
	uint64_t n_records = 0;

	for (;;) {
		size_t got = fread(buffer, 1, sizeof(buffer), r->file);
		for (size_t at = 0; at + RECORD_BYTES <= got; at += RECORD_BYTES) {
			int rc = read_record(r, buffer + at);
			if (rc < 0)
				return rc;
		}
		n_records += got / RECORD_BYTES;
		if (got % RECORD_BYTES != 0 && !ferror(r->file))
			return fail(r, -EINVAL, "truncated: %zu bytes of a 24-byte record after %llu whole ones",
			            got % RECORD_BYTES, (unsigned long long)n_records);
		if (got < sizeof(buffer))
			return 0;
	}
}

/* ---- which of them ---- */

static bool starts_with(const unsigned char *head, size_t len, const char *magic, size_t magic_len)
{
	return len >= magic_len && memcmp(head, magic, magic_len) == 0;
}

static bool is_text(const unsigned char *head, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (head[i] < ' ' && !isspace(head[i]))
			return false;
	return true;
}

static int choose_format(struct reader *r, const char *path, enum trace_format *ret)
{
	unsigned char head[4096];
	size_t len = fread(head, 1, sizeof(head), r->file);

	if (ferror(r->file))
		return fail(r, -errno, "%s", strerror(errno));
	if (fseek(r->file, 0, SEEK_SET) != 0)
		return fail(r, -errno, "no file that can be read twice: say --format");
	if (starts_with(head, len, "\x28\xb5\x2f\xfd", 4) || starts_with(head, len, "\x1f\x8b", 2))
		return fail(r, -EINVAL, "compressed: decompress it first");
	const char *name = strrchr(path, '/');
	if (strstr(name != NULL ? name : path, "oracleGeneral") != NULL)
		*ret = TRACE_ORACLE;
	else if (is_text(head, len))
		*ret = TRACE_CSV;
	else
		return fail(r, -EINVAL, "unknown format: neither text nor *oracleGeneral*; say --format");
	return 0;
}

static int read_any(struct reader *r, const char *path)
{
	enum trace_format format = r->opts->format;
	int rc = format == TRACE_BY_NAME ? choose_format(r, path, &format) : 0;

	if (rc == 0)
		rc = format == TRACE_ORACLE ? read_oracle(r) : read_text(r);
	if (rc == 0 && ferror(r->file))
		rc = fail(r, -EIO, "%s", strerror(errno));
	if (rc == 0 && r->trace->trace.n == 0)
		rc = fail(r, -EINVAL, "empty: no accesses");
	return rc;
}

int trace_read(const char *path, const struct trace_options *opts, struct trace *ret_trace, char *why)
{
	struct trace_builder builder = { 0 };
	struct reader r = { fopen(path, "re"), opts, &builder, why };

	if (r.file == NULL)
		return fail(&r, -errno, "%s", strerror(errno));
	int rc = read_any(&r, path);
	fclose(r.file);
	if (rc == 0)
		trace_finish(&builder, ret_trace);
	else
		trace_builder_free(&builder);
	return rc;
}
