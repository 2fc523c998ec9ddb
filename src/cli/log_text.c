/* log_text.c - see log_text.h. */
#include "log_text.h"

#include "cli.h"

#include <ctype.h>
#include <time.h>

#define NS_PER_S 1000000000u

/* ---- times ---- */

const char *log_format_time(uint64_t time_ns, char *text)
{
	time_t seconds = (time_t)(time_ns / NS_PER_S);
	struct tm tm;
	char date[20 + 1];

	(void)gmtime_r(&seconds, &tm);
	(void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text, LOG_TIME_TEXT, "%s.%09uZ", date, (unsigned)(time_ns % NS_PER_S));
	return text;
}

/* n digits, or, if n is 0, one and more. */
static bool take_number(const char **at, unsigned n, uint64_t *ret)
{
	uint64_t value = 0;
	unsigned k = 0;

	for (; isdigit((unsigned char)(*at)[k]) && (n == 0 || k < n); k++)
		if (__builtin_mul_overflow(value, 10u, &value) ||
		    __builtin_add_overflow(value, (unsigned)((*at)[k] - '0'), &value))
			return false;
	*at += k;
	*ret = value;
	return n == 0 ? k > 0 : k == n;
}

/* ".5", of a second, if there is a dot. */
static bool take_fraction(const char **at, uint64_t *ret_ns)
{
	uint64_t ns = 0, unit = NS_PER_S;

	*ret_ns = 0;
	if (**at != '.')
		return true;
	for ((*at)++; isdigit((unsigned char)**at); (*at)++) {
		unit /= 10;
		ns += unit * (unsigned)(**at - '0');
	}
	*ret_ns = ns;
	return unit < NS_PER_S;
}

bool log_parse_duration(const char *text, uint64_t *ret_ns)
{
	static const struct {
		char word;
		uint32_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 7 * 86400}};
	uint64_t n, ns;

	if (!take_number(&text, 0, &n) || n == 0 || text[0] == '\0' || text[1] != '\0')
		return false;
	for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (units[i].word != text[0])
			continue;
		if (__builtin_mul_overflow(n, (uint64_t)units[i].seconds * NS_PER_S, &ns))
			return false;
		*ret_ns = ns;
		return true;
	}
	return false;
}

/* "Z", "+01:00", or nothing; in seconds east of Greenwich. */
static bool take_zone(const char **at, int64_t *ret_seconds)
{
	uint64_t hours, minutes;
	char sign = **at;

	*ret_seconds = 0;
	if (sign == 'Z') {
		(*at)++;
		return true;
	}
	if (sign != '+' && sign != '-')
		return true;
	(*at)++;
	if (!take_number(at, 2, &hours) || *(*at)++ != ':' || !take_number(at, 2, &minutes) || hours > 23 || minutes > 59)
		return false;
	*ret_seconds = (int64_t)(hours * 3600 + minutes * 60) * (sign == '-' ? -1 : 1);
	return true;
}

static bool take_clock(const char **at, uint64_t *ret_seconds, uint64_t *ret_ns)
{
	uint64_t hours, minutes, seconds = 0;

	if (!take_number(at, 2, &hours) || *(*at)++ != ':' || !take_number(at, 2, &minutes))
		return false;
	if (**at == ':') {
		(*at)++;
		if (!take_number(at, 2, &seconds) || !take_fraction(at, ret_ns))
			return false;
	}
	*ret_seconds = hours * 3600 + minutes * 60 + seconds;
	return hours <= 23 && minutes <= 59 && seconds <= 60;
}

static bool parse_date(const char *at, uint64_t *ret_ns)
{
	uint64_t year, month, day, clock = 0, ns = 0;
	int64_t zone = 0;

	if (!take_number(&at, 4, &year) || *at++ != '-' || !take_number(&at, 2, &month) || *at++ != '-' ||
	    !take_number(&at, 2, &day) || month < 1 || month > 12 || day < 1 || day > 31)
		return false;
	if (*at == 'T' || *at == ' ') {
		at++;
		if (!take_clock(&at, &clock, &ns) || !take_zone(&at, &zone))
			return false;
	}
	struct tm tm = {.tm_year = (int)year - 1900, .tm_mon = (int)month - 1, .tm_mday = (int)day};
	int64_t seconds = (int64_t)timegm(&tm) + (int64_t)clock - zone;
	/* A day that its month has not has become another. */
	if (*at != '\0' || tm.tm_mday != (int)day || seconds < 0 || (uint64_t)seconds >= UINT64_MAX / NS_PER_S)
		return false;
	*ret_ns = (uint64_t)seconds * NS_PER_S + ns;
	return true;
}

bool log_parse_time(const char *text, uint64_t now_ns, uint64_t *ret_ns)
{
	uint64_t ns, fraction;

	if (text[0] == '@') {
		text++;
		if (!take_number(&text, 0, &ns) || !take_fraction(&text, &fraction) || *text != '\0' ||
		    __builtin_mul_overflow(ns, NS_PER_S, &ns) || __builtin_add_overflow(ns, fraction, &ns))
			return false;
		*ret_ns = ns;
		return true;
	}
	if (log_parse_duration(text, &ns)) {
		*ret_ns = ns < now_ns ? now_ns - ns : 0;
		return true;
	}
	return parse_date(text, ret_ns);
}

/* ---- records ---- */

/* The bytes of the character that begins there; 0: none does. No surrogates, nothing longer than needed. */
static size_t utf8_length(const unsigned char *c, size_t left)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t n;

	if (c[0] < 0x80)
		return 1;
	if (c[0] >= 0xc2 && c[0] <= 0xdf)
		n = 2;
	else if ((c[0] & 0xf0) == 0xe0)
		n = 3;
	else if (c[0] >= 0xf0 && c[0] <= 0xf4)
		n = 4;
	else
		return 0;
	if (c[0] == 0xe0)
		low = 0xa0;
	else if (c[0] == 0xed)
		high = 0x9f;
	else if (c[0] == 0xf0)
		low = 0x90;
	else if (c[0] == 0xf4)
		high = 0x8f;
	if (left < n || c[1] < low || c[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

bool log_is_utf8(const void *data, size_t len_bytes)
{
	const unsigned char *bytes = data;
	size_t n;

	for (size_t at = 0; at < len_bytes; at += n) {
		n = utf8_length(bytes + at, len_bytes - at);
		if (n == 0)
			return false;
	}
	return true;
}

void log_write_json(FILE *out, const struct quire_log_record *record)
{
	char time[LOG_TIME_TEXT];
	struct json j;

	json_init(&j, out);
	j.one_line = true;
	json_open(&j, NULL, '{');
	json_uint(&j, "lsn", record->lsn);
	json_string(&j, "time", log_format_time(record->time_ns, time));
	if (record->key_bytes > 0 && log_is_utf8(record->key, record->key_bytes))
		json_text(&j, "key", record->key, record->key_bytes);
	else if (record->key_bytes > 0)
		json_base64(&j, "key_base64", record->key, record->key_bytes);
	if (log_is_utf8(record->data, record->len_bytes))
		json_text(&j, "text", record->data, record->len_bytes);
	else
		json_base64(&j, "base64", record->data, record->len_bytes);
	json_close(&j, '}');
}
