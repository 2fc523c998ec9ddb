/* fuzz.h - what a fuzzing harness is made with.
 *
 * A harness is one function, LLVMFuzzerTestOneInput, for which any bytes are an input, and which ends the process where something
 * is as it may never be. It is built twice: with fuzz.c as a program that tests run, and, with -Dfuzz=true, as libFuzzer's target. A harness whose
 * inputs have a form has a change of its own for them, and a main that plays them with it; where it has none, fuzz_main.c does.
 */
#ifndef TESTS_SUPPORT_FUZZ_H
#define TESTS_SUPPORT_FUZZ_H

#include "random.h"

#include <stddef.h>
#include <stdint.h>

#define FUZZ_INPUT_MOST_BYTES 65536u /* of the program; libFuzzer has an option for it */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

struct fuzz_input {
	uint8_t *bytes; /* owned; in the one that is changed there is room for FUZZ_INPUT_MOST_BYTES */
	size_t n_bytes;
};

/* Changes an input once; `other` is another one, or the same. Of inputs of less than 2 bytes it is never asked, and it leaves none. */
typedef void (*fuzz_change_fn)(struct fuzz_input *in, const struct fuzz_input *other, uint64_t *seed);

/* Plays a directory's inputs and changes of them, or the input in the place of a directory; change NULL: to any bytes. An exit status: 2, without an
 * input there. */
int fuzz_play(const char *path, fuzz_change_fn change);

#endif
