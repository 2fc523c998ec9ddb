/* cli.c - messages, sizes and output of the command. */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <quire/quire.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

__attribute__((format(printf, 2, 0)))
static void say(const char *what, const char *format, va_list args, const char *end)
{
	char why[1024];

	vsnprintf(why, sizeof(why), format, args);
	fprintf(stderr, "quire: %s: %s%s\n", what, why, end);
}

int cli_fail(const char *what, const char *why_format, ...)
{
	va_list args;

	va_start(args, why_format);
	say(what, why_format, args, "");
	va_end(args);
	return CLI_FAILED;
}

int cli_fail_text(const char *text)
{
	fprintf(stderr, "quire: %s\n", text);
	return CLI_FAILED;
}

int cli_usage(const char *what, const char *why_format, ...)
{
	va_list args;

	va_start(args, why_format);
	say(what, why_format, args, " (see --help)");
	va_end(args);
	return CLI_USAGE;
}

int cli_bad_option(int argc, char **argv, int option)
{
	const char *word = optind >= 1 && optind <= argc ? argv[optind - 1] : argv[0];

	return cli_usage(word, option == ':' ? "a value is missing" : "no such option");
}

int cli_options(int argc, char **argv, const struct option *longs, void (*print_help)(void), int (*take)(void *arg, int option),
                void *arg)
{
	int option, rc;

	opterr = 0;
	while ((option = getopt_long(argc, argv, ":h", longs, NULL)) != -1) {
		if (option == 'h') {
			print_help();
			return cli_finish_output();
		}
		if (option == '?' || option == ':')
			return cli_bad_option(argc, argv, option);
		rc = take(arg, option);
		if (rc != CLI_DONE)
			return rc;
	}
	return CLI_GO_ON;
}

bool cli_parse_bytes(const char *text, uint64_t *ret_bytes)
{
	static const char units[] = "KMGT";
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	unsigned long long n = strtoull(text, &end, 10);
	unsigned shift = 0;
	const char *unit = *end == '\0' ? NULL : strchr(units, toupper((unsigned char)*end));
	if (unit != NULL) {
		shift = 10 * (unsigned)(unit - units + 1);
		end++;
		if (strcasecmp(end, "iB") == 0)
			end += 2;
	}
	if (errno != 0 || *end != '\0' || n == 0 || n > UINT64_MAX >> shift)
		return false;
	*ret_bytes = (uint64_t)n << shift;
	return true;
}

size_t cli_name_bytes(const char *word)
{
	size_t n = strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

	_Static_assert(QUIRE_LOG_NAME_MAX == QUIRE_VOLUME_NAME_MAX, "one rule for both");
	return n <= QUIRE_LOG_NAME_MAX && word[0] != '.' && word[0] != '-' ? n : 0;
}

bool cli_is_name(const char *word)
{
	size_t n = cli_name_bytes(word);

	return n > 0 && word[n] == '\0';
}

bool cli_parse_count(const char *text, uint64_t max, uint64_t *ret_count)
{
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	unsigned long long n = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0' || n == 0 || n > max)
		return false;
	*ret_count = n;
	return true;
}

const char *cli_format_bytes(uint64_t bytes, char *text)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	unsigned unit = 0;

	while (value >= 1024 && unit < 6) {
		value /= 1024;
		unit++;
	}
	snprintf(text, CLI_BYTES_TEXT, unit == 0 || value >= 100 ? "%.0f %s" : "%.1f %s", value,
		 units[unit]);
	return text;
}

uint64_t cli_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int cli_finish_output(void)
{
	if (fflush(stdout) != 0 || ferror(stdout))
		return cli_fail("standard output", "%s", strerror(errno));
	return CLI_DONE;
}
