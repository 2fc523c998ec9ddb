/* log.c - runs one part of `bench/run log`. */
#include "log.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(const struct log_bench *b);
	} parts[] = {
		{ "latency", log_bench_latency }, { "group", log_bench_group },   { "sync", log_bench_sync },
		{ "pmem", log_bench_pmem },       { "nowait", log_bench_nowait }, { "read", log_bench_read },
		{ "follow", log_bench_follow },   { "fill", log_bench_fill },     { "open", log_bench_open },
	};
	static const struct option longs[] = {
		{ "dir", required_argument, NULL, 'd' },
		{ "kind", required_argument, NULL, 'k' },
		{ "pmem", no_argument, NULL, 'p' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "seconds", required_argument, NULL, 's' },
		{ "n", required_argument, NULL, 'n' },
		{ "bytes", required_argument, NULL, 'b' },
		{ "tail-bytes", required_argument, NULL, 't' },
		{ "segment-bytes", required_argument, NULL, 'g' },
		{ "record-bytes", required_argument, NULL, 'c' },
		{ NULL, 0, NULL, 0 },
	};
	struct log_bench b = { .kind = "", .rounds = 1, .seconds = 1, .record_bytes = LOG_RECORD_BYTES };
	int option;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (option == 'd')
			b.dir = optarg;
		else if (option == 'k')
			b.kind = optarg;
		else if (option == 'p')
			b.pmem = true;
		else if (option == 'r')
			b.rounds = (unsigned)strtoul(optarg, NULL, 10);
		else if (option == 's')
			b.seconds = strtod(optarg, NULL);
		else if (option == 'n')
			b.n = strtoull(optarg, NULL, 10);
		else if (option == 'b')
			b.bytes = strtoull(optarg, NULL, 10);
		else if (option == 't')
			b.tail_bytes = strtoull(optarg, NULL, 10);
		else if (option == 'g')
			b.segment_bytes = (uint32_t)strtoul(optarg, NULL, 10);
		else if (option == 'c')
			b.record_bytes = (uint32_t)strtoul(optarg, NULL, 10);
		else
			return 2;
	}
	for (size_t i = 0; b.dir != NULL && optind + 1 == argc && i < sizeof(parts) / sizeof(parts[0]); i++)
		if (strcmp(argv[optind], parts[i].name) == 0)
			return parts[i].run(&b) == 0 ? 0 : 1;
	fprintf(stderr, "usage: bench-log --dir DIR [--kind K] [--pmem] [--rounds N] [--seconds S] [--n N] [--bytes N] "
	                "[--tail-bytes N] [--segment-bytes N] [--record-bytes N] "
	                "latency|group|sync|pmem|nowait|read|follow|fill|open\n");
	return 2;
}
