/* store.c - runs one part of `bench/run store`. */
#include "store.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUDGET_BYTES (256u << 20)

char *store_path(const struct store_bench *b, const char *name)
{
	char *path = NULL;

	return asprintf(&path, "%s/%s", b->dir, name) < 0 ? NULL : path;
}

int store_make(const char *path, uint64_t bytes)
{
	static const char *const names[] = { "capacity", "lock" };
	const struct quire_store_options opts = { .size = sizeof(opts), .capacity_bytes = bytes };
	struct quire_error err = { 0 };
	char *file;

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (asprintf(&file, "%s/%s", path, names[i]) < 0)
			return -ENOMEM;
		unlink(file);
		free(file);
	}
	int rc = quire_store_create(path, &opts, &err);
	if (rc < 0)
		fprintf(stderr, "bench-store: %s\n", err.text);
	return rc;
}

int store_open_at(const char *path, struct open_store *ret)
{
	const struct quire_cache_options opts = { .size = sizeof(opts), .budget_bytes = BUDGET_BYTES };
	struct quire_error err = { 0 };
	int rc = quire_cache_open(&opts, &ret->cache, &err);

	if (rc == 0) {
		rc = quire_store_open(ret->cache, path, 0, &ret->store, &err);
		if (rc < 0)
			quire_cache_close(ret->cache);
	}
	if (rc < 0)
		fprintf(stderr, "bench-store: %s\n", err.text);
	return rc;
}

void store_shut(struct open_store *s)
{
	int rc = quire_store_close(s->store);

	if (rc < 0)
		failed("closing", rc);
	quire_cache_close(s->cache);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(const struct store_bench *b);
	} parts[] = {
		{ "commit", store_bench_commit },
		{ "fill", store_bench_fill },
		{ "open", store_bench_open },
		{ "read", store_bench_read },
	};
	static const struct option longs[] = {
		{ "dir", required_argument, NULL, 'd' },
		{ "n", required_argument, NULL, 'n' },
		{ "seconds", required_argument, NULL, 's' },
		{ "rounds", required_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	struct store_bench b = { .seconds = 1, .rounds = 1 };
	int option;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (option == 'd')
			b.dir = optarg;
		else if (option == 'n')
			b.n = strtoull(optarg, NULL, 10);
		else if (option == 's')
			b.seconds = strtod(optarg, NULL);
		else if (option == 'r')
			b.rounds = (unsigned)strtoul(optarg, NULL, 10);
		else
			return 2;
	}
	for (size_t i = 0; b.dir != NULL && optind + 1 == argc && i < sizeof(parts) / sizeof(parts[0]); i++)
		if (strcmp(argv[optind], parts[i].name) == 0)
			return parts[i].run(&b) == 0 ? 0 : 1;
	fprintf(stderr, "usage: bench-store --dir DIR [--n N] [--seconds S] [--rounds N] commit|fill|open|read\n");
	return 2;
}
