/* fuzz_run.c - see fuzz_run.h. */
#include "fuzz_run.h"

#include "volume_env.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FEW_CHANGES 64u

static unsigned read_corpus(const char *path, struct fuzz_input **ret)
{
	struct dirent **entries;
	int n_entries = scandir(path, &entries, NULL, alphasort);
	unsigned n = 0;

	*ret = calloc(n_entries > 0 ? (size_t)n_entries : 1, sizeof(**ret));
	for (int i = 0; i < n_entries; i++) {
		char name[4096];
		(void)snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
		FILE *file = entries[i]->d_name[0] == '.' ? NULL : fopen(name, "re");
		free(entries[i]);
		if (file == NULL)
			continue;
		(*ret)[n].n_bytes = fread((*ret)[n].bytes, 1, FUZZ_MOST_BYTES, file);
		(void)fclose(file);
		n += (*ret)[n].n_bytes > 1;
	}
	if (n_entries >= 0)
		free(entries);
	return n;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int fuzz_run(const char *directory, fuzz_change_fn change)
{
	static struct fuzz_input changed;
	struct fuzz_input *inputs;
	bool is_long = getenv("QUIRE_TEST_LONG") != NULL;
	uint64_t seed = is_long || getenv("QUIRE_TEST_SEED") != NULL ? random_seed() : 1;
	uint64_t n_changes = 0, end_ns = (getenv("QUIRE_SANITIZED") != NULL ? 600 : 60) * UINT64_C(1000000000);
	unsigned n = read_corpus(directory, &inputs);

	if (n == 0) {
		(void)fprintf(stderr, "%s: no inputs there\n", directory);
		free(inputs);
		return 2;
	}
	printf("seed %llu\n", (unsigned long long)seed);
	(void)fflush(stdout);
	for (unsigned i = 0; i < n; i++)
		(void)LLVMFuzzerTestOneInput(inputs[i].bytes, inputs[i].n_bytes);
	for (end_ns += now_ns(); is_long ? now_ns() < end_ns : n_changes < FEW_CHANGES; n_changes++) {
		changed = inputs[env_random(&seed) % n];
		for (uint64_t k = 1 + env_random(&seed) % 6; k > 0; k--)
			change(&changed, &inputs[env_random(&seed) % n], &seed);
		(void)LLVMFuzzerTestOneInput(changed.bytes, changed.n_bytes);
	}
	printf("%u inputs and %llu changes of them\n", n, (unsigned long long)n_changes);
	free(inputs);
	return 0;
}
