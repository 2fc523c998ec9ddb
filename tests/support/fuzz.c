/* fuzz.c - plays inputs to a harness.
 *
 * Each file of the directory is an input; then come changes of them: always the same few, or with QUIRE_TEST_LONG others each time, for a
 * minute. The seed is printed and taken (QUIRE_TEST_SEED). QUIRE_FUZZ_LAST names a file that always holds the input that is being tried. A file in
 * the place of the directory is one input, tried once.
 */
#include "fuzz.h"

#include <dirent.h>
#include <endian.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FEW_CHANGES 64u

struct corpus {
	struct fuzz_input *inputs; /* owned */
	size_t n;
	uint64_t seed;
	struct fuzz_input changed;
	fuzz_change_fn change;     /* NULL: to any bytes */
};

static uint64_t draw(struct corpus *c, uint64_t below)
{
	return random_below(&c->seed, below);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- inputs ---- */

static bool read_input(const char *path, struct fuzz_input *ret)
{
	FILE *file = fopen(path, "re");

	if (file == NULL)
		return false;
	ret->bytes = malloc(FUZZ_INPUT_MOST_BYTES);
	ret->n_bytes = ret->bytes == NULL ? 0 : fread(ret->bytes, 1, FUZZ_INPUT_MOST_BYTES, file);
	bool bad = ret->bytes == NULL || ferror(file) != 0;
	(void)fclose(file);
	if (!bad)
		return true;
	free(ret->bytes);
	return false;
}

static void read_corpus(struct corpus *c, const char *path)
{
	struct dirent **entries;
	int n_entries = scandir(path, &entries, NULL, alphasort);

	c->inputs = calloc(n_entries > 0 ? (size_t)n_entries : 1, sizeof(*c->inputs));
	if (n_entries < 0) {
		c->n = read_input(path, &c->inputs[0]);
		return;
	}
	for (int i = 0; i < n_entries; i++) {
		char name[4096];
		(void)snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
		c->n += entries[i]->d_name[0] != '.' && read_input(name, &c->inputs[c->n]);
		free(entries[i]);
	}
	free(entries);
}

static void try(const struct fuzz_input *in)
{
	const char *last = getenv("QUIRE_FUZZ_LAST");
	FILE *file = last == NULL ? NULL : fopen(last, "we");

	if (file != NULL) {
		(void)fwrite(in->bytes, 1, in->n_bytes, file);
		(void)fclose(file);
	}
	/* Of its own size, so that a sanitizer sees who reads beyond it. */
	uint8_t *bytes = malloc(in->n_bytes + (in->n_bytes == 0));
	if (bytes == NULL)
		abort();
	memcpy(bytes, in->bytes, in->n_bytes);
	(void)LLVMFuzzerTestOneInput(bytes, in->n_bytes);
	free(bytes);
}

/* ---- changes ---- */

static void put_word(struct corpus *c, size_t at)
{
	static const uint64_t odd[] = {0, 1, 2, 7, 8, 16, 255, 4095, 4096, 65535, 65536, 1u << 20, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX,
	                               UINT64_C(1) << 40, UINT64_C(1) << 52, UINT64_MAX - 4095};
	uint64_t word = htole64(odd[draw(c, sizeof(odd) / sizeof(odd[0]))]);
	size_t n = (size_t)1 << draw(c, 4);

	if (at + n <= c->changed.n_bytes)
		memcpy(c->changed.bytes + at, &word, n);
}

/* n bytes of any input are put in at a place. */
static void splice(struct corpus *c, size_t at, const struct fuzz_input *other)
{
	struct fuzz_input *in = &c->changed;

	if (other->n_bytes == 0)
		return;
	size_t from = draw(c, other->n_bytes), n = 1 + draw(c, other->n_bytes - from);
	if (in->n_bytes + n > FUZZ_INPUT_MOST_BYTES)
		return;
	memmove(in->bytes + at + n, in->bytes + at, in->n_bytes - at);
	memcpy(in->bytes + at, other->bytes + from, n);
	in->n_bytes += n;
}

static void remove_some(struct corpus *c, size_t at)
{
	struct fuzz_input *in = &c->changed;
	size_t n = 1 + draw(c, in->n_bytes - at);

	memmove(in->bytes + at, in->bytes + at + n, in->n_bytes - at - n);
	in->n_bytes -= n;
}

static void change_bytes(struct corpus *c, const struct fuzz_input *other)
{
	if (c->changed.n_bytes == 0) {
		splice(c, 0, other);
		return;
	}
	size_t at = draw(c, c->changed.n_bytes);
	switch (draw(c, 6)) {
	case 0:
		c->changed.bytes[at] ^= (uint8_t)(1u << draw(c, 8));
		break;
	case 1:
		c->changed.bytes[at] = (uint8_t)draw(c, 256);
		break;
	case 2:
		put_word(c, at);
		break;
	case 3:
		remove_some(c, at);
		break;
	default:
		splice(c, at, other);
	}
}

static void try_change(struct corpus *c)
{
	const struct fuzz_input *from = &c->inputs[draw(c, c->n)];

	memcpy(c->changed.bytes, from->bytes, from->n_bytes);
	c->changed.n_bytes = from->n_bytes;
	for (uint64_t n = 1 + draw(c, 6); n > 0; n--) {
		const struct fuzz_input *other = &c->inputs[draw(c, c->n)];
		if (c->change == NULL)
			change_bytes(c, other);
		else if (c->changed.n_bytes > 1 && other->n_bytes > 1)
			c->change(&c->changed, other, &c->seed);
	}
	try(&c->changed);
}

int fuzz_play(const char *path, fuzz_change_fn change)
{
	const char *seed = getenv("QUIRE_TEST_SEED");
	bool is_long = getenv("QUIRE_TEST_LONG") != NULL;
	struct corpus c = {.seed = seed != NULL && *seed != '\0' ? strtoull(seed, NULL, 0) : is_long ? now_ns() % 1000000000u : 1, .change = change};
	uint64_t n_changes = 0, run_ns = 60 * UINT64_C(1000000000);

	read_corpus(&c, path);
	c.changed.bytes = malloc(FUZZ_INPUT_MOST_BYTES);
	if (c.n == 0 || c.changed.bytes == NULL) {
		(void)fprintf(stderr, "%s: no inputs there\n", path);
		free(c.inputs);
		free(c.changed.bytes);
		return 2;
	}
	printf("seed %llu\n", (unsigned long long)c.seed);
	(void)fflush(stdout);
	for (size_t i = 0; i < c.n; i++)
		try(&c.inputs[i]);
	for (uint64_t end_ns = now_ns() + run_ns; c.n > 1 && (is_long ? now_ns() < end_ns : n_changes < FEW_CHANGES); n_changes++)
		try_change(&c);
	printf("%zu inputs and %llu changes of them\n", c.n, (unsigned long long)n_changes);
	for (size_t i = 0; i < c.n; i++)
		free(c.inputs[i].bytes);
	free(c.inputs);
	free(c.changed.bytes);
	return 0;
}
