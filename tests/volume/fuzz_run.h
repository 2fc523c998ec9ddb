/* fuzz_run.h - a target of libFuzzer's as a test: each input of a directory, then changes of them at random. */
#ifndef TESTS_VOLUME_FUZZ_RUN_H
#define TESTS_VOLUME_FUZZ_RUN_H

#include <stddef.h>
#include <stdint.h>

#define FUZZ_MOST_BYTES 65536u

struct fuzz_input {
	uint8_t bytes[FUZZ_MOST_BYTES];
	size_t n_bytes;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* Changes an input, of which it leaves 2 bytes or more; `other` is another one, or the same. */
typedef void (*fuzz_change_fn)(struct fuzz_input *in, const struct fuzz_input *other, uint64_t *seed);

/* A few changes, always the same; with QUIRE_TEST_LONG others each time, for a minute, under AddressSanitizer ten. The seed is printed, and taken from
 * QUIRE_TEST_SEED. An exit status: 2, without an input there. */
int fuzz_run(const char *directory, fuzz_change_fn change);

#endif
