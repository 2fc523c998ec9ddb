/* ycsb.c - see ycsb.h: the program around a contender. */
#include "ycsb.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#define MEMORY_MIN (UINT64_C(64) << 20)

int ycsb_failed(const char *what, const char *why)
{
	fprintf(stderr, "bench-ycsb: %s: %s\n", what, why);
	return -1;
}

static int usage(void)
{
	fprintf(stderr, "usage: bench-ycsb-NAME --path P --records N [--memory BYTES --width W --variant V "
	                "--requests zipfian|latest|uniform --fill-seconds S --seconds S --rate R --rate-seconds S] "
	                "fill|read\n");
	return 2;
}

/* -1: no such distribution. */
static int requests_of(const char *word)
{
	static const char *const words[] = { [YCSB_ZIPFIAN] = "zipfian", [YCSB_LATEST] = "latest", [YCSB_UNIFORM] = "uniform" };

	for (int i = 0; i < 3; i++)
		if (strcmp(words[i], word) == 0)
			return i;
	return -1;
}

static bool take_option(struct ycsb *y, int option, const char *value)
{
	int requests = option == 'q' ? requests_of(value) : 0;

	if (option == 'p')
		y->path = value;
	else if (option == 'v')
		y->variant = value;
	else if (option == 'n')
		y->n_records = strtoull(value, NULL, 10);
	else if (option == 'm')
		y->memory_bytes = strtoull(value, NULL, 10);
	else if (option == 'w')
		y->width = (unsigned)strtoul(value, NULL, 10);
	else if (option == 'q' && requests >= 0)
		y->requests = (enum ycsb_requests)requests;
	else if (option == 's')
		y->seconds = strtod(value, NULL);
	else if (option == 'r')
		y->rate = strtod(value, NULL);
	else if (option == 'f')
		y->fill_seconds = strtod(value, NULL);
	else if (option == 't')
		y->rate_seconds = strtod(value, NULL);
	else
		return false;
	return true;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "path", required_argument, NULL, 'p' },     { "records", required_argument, NULL, 'n' },
		{ "memory", required_argument, NULL, 'm' },   { "width", required_argument, NULL, 'w' },
		{ "variant", required_argument, NULL, 'v' },  { "requests", required_argument, NULL, 'q' },
		{ "seconds", required_argument, NULL, 's' },  { "rate", required_argument, NULL, 'r' },
		{ "rate-seconds", required_argument, NULL, 't' }, { "fill-seconds", required_argument, NULL, 'f' },
		{ NULL, 0, NULL, 0 },
	};
	struct ycsb y = { .variant = "", .fill_seconds = 20, .seconds = 1, .rate_seconds = 1, .width = 1 };
	int option;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1)
		if (!take_option(&y, option, optarg))
			return usage();
	if (y.path == NULL || y.n_records == 0 || y.width == 0 || y.width > YCSB_MAX_WIDTH || optind + 1 != argc)
		return usage();
	if (strcmp(argv[optind], "fill") == 0)
		return ycsb_fill(&y) == 0 ? 0 : 1;
	if (strcmp(argv[optind], "read") != 0 || y.memory_bytes < MEMORY_MIN || y.rate < 0)
		return usage();
	prctl(PR_SET_TIMERSLACK, 1); /* requests are due to the microsecond; threads inherit it */
	return ycsb_read(&y) == 0 ? 0 : 1;
}
