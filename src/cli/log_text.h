/* log_text.h - records and times of logs as text. */
#ifndef CLI_LOG_TEXT_H
#define CLI_LOG_TEXT_H

#include "json.h"

#include <quire/log.h>

/* "2026-03-01T12:00:00.123456789Z" */
#define LOG_TIME_TEXT 32
const char *log_format_time(uint64_t time_ns, char *text);

/* A point in time: "2026-03-01", "2026-03-01T12:00[:00[.5]][Z|+01:00]" (T or a space; UTC where nothing is said),
 * "@SECONDS[.5]" since 1970, or an age, as log_parse_duration. */
bool log_parse_time(const char *text, uint64_t now_ns, uint64_t *ret_ns);

/* "90s", "5m", "2h", "7d", "4w": whole and positive. */
bool log_parse_duration(const char *text, uint64_t *ret_ns);

bool log_is_utf8(const void *data, size_t len_bytes);

/* {"lsn": …, "time": "…", "text": "…"}, or, if it is no UTF-8, "base64", as a line. The stream's error is left to see. */
void log_write_json(FILE *out, const struct quire_log_record *record);

#endif
