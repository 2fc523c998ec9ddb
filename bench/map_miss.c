/* map_miss.c - runs one system, prints one line of JSON. See bench/run map-miss. */
#include "map_miss.h"

#include <quire/error.h>

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct system {
	const char *name;
	int (*run)(struct run *r);
	unsigned n_threads, depth;
	bool direct;
} systems[] = {
	{ "mmap1", run_mmap, 1, 0, false },
	{ "mmap64", run_mmap, 64, 0, false },
	{ "pread64-direct", run_pread, 64, 0, true },
	{ "pread64-buffered", run_pread, 64, 0, false },
	{ "warmtouch", run_warmtouch, 1, 128, false },
	{ "quire-want", run_quire_want, 1, 128, false },
	{ "quire-suspend", run_quire_suspend, 1, 256, false },
	{ "quire-kernel", run_quire_kernel, 1, 128, false },
	{ "quire-pinned", run_quire_pinned, 1, 128, false },
};

static const struct system *find_system(const char *name)
{
	for (size_t i = 0; i < sizeof(systems) / sizeof(systems[0]); i++)
		if (strcmp(systems[i].name, name) == 0)
			return &systems[i];
	return NULL;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "file", required_argument, NULL, 'f' },    { "bytes", required_argument, NULL, 'b' },
		{ "memory", required_argument, NULL, 'm' },  { "seconds", required_argument, NULL, 's' },
		{ "mask", required_argument, NULL, 'x' },    { "depth", required_argument, NULL, 'd' },
		{ NULL, 0, NULL, 0 },
	};
	struct run r = { .page_bytes = (size_t)sysconf(_SC_PAGESIZE), .seconds = 1 };
	uint64_t bytes = 0;
	unsigned depth = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (option == 'f')
			r.path = optarg;
		else if (option == 'b')
			bytes = strtoull(optarg, NULL, 10);
		else if (option == 'm')
			r.memory_bytes = strtoull(optarg, NULL, 10);
		else if (option == 's')
			r.seconds = strtod(optarg, NULL);
		else if (option == 'd')
			depth = (unsigned)strtoul(optarg, NULL, 10);
		else if (option != 'x' || quire_mask(optarg) < 0)
			return 2;
	}
	const struct system *system = optind + 1 == argc ? find_system(argv[optind]) : NULL;
	r.n_pages = bytes / r.page_bytes;
	if (system == NULL || r.path == NULL || r.n_pages == 0 || r.memory_bytes < (32u << 20)) {
		fprintf(stderr, "usage: bench-map-miss --file F --bytes N --memory N [--seconds S] "
		                "[--mask FEATURES] [--depth N] SYSTEM\n");
		return 2;
	}
	r.n_threads = system->n_threads;
	r.depth = depth != 0 ? depth : system->depth;
	r.direct = system->direct;
	if (system->run(&r) != 0)
		return 1;
	printf("{\"system\": \"%s\", \"accesses\": %llu, \"misses\": %llu, \"wrong\": %llu, "
	       "\"seconds\": %.6f, \"cpu_seconds\": %.6f}\n",
	       system->name, (unsigned long long)r.n_accesses, (unsigned long long)r.n_misses,
	       (unsigned long long)r.n_wrong, r.measured_seconds, r.cpu_seconds);
	return 0;
}
