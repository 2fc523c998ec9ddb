/* fuzz.h - what a fuzzing harness is made with.
 *
 * A harness is one function, LLVMFuzzerTestOneInput, for which any bytes are an input, and which ends the process where something
 * is as it may never be. It is built twice: with fuzz.c as a program that tests run, and, with -Dfuzz=true, as libFuzzer's target.
 */
#ifndef TESTS_SUPPORT_FUZZ_H
#define TESTS_SUPPORT_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#define FUZZ_INPUT_MOST_BYTES 65536u /* of the program; libFuzzer has an option for it */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

#endif
