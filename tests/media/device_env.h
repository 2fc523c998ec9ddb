/* device_env.h - one device after the other: a file, a buffered one, one on tmpfs, a loop device. */
#ifndef TESTS_MEDIA_DEVICE_ENV_H
#define TESTS_MEDIA_DEVICE_ENV_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../src/media/device.h"

#define BLOCK ((uint64_t)DEVICE_BLOCK_BYTES)
#define DEVICE_BLOCKS 2048u

enum place { PLACE_FILE, PLACE_BUFFERED, PLACE_TMPFS, PLACE_LOOP, N_PLACES };

/* Runs the tests once on each place, with each engine, that is to be had here; what main returns. */
#define device_env_main(tests) device_env_run_all(tests, sizeof(tests) / sizeof((tests)[0]))
int device_env_run_all(const struct CMUnitTest *tests, size_t n_tests);

/* Of the test that runs: */
enum place device_env_place(void);
const char *device_env_path(void);     /* holds DEVICE_BLOCKS of zeros */
const char *device_env_backing(void);  /* the file whose space it takes */
const char *device_env_new_path(void); /* where nothing is, in the same folder */
unsigned device_env_flags(void);       /* of device_open, for this place */
struct device *device_env_open(unsigned more_flags);
struct quire_loop *device_env_loop(void);

/* Runs fn in a coroutine of that loop, until nothing is left to do. */
void device_env_run(void (*fn)(struct device *d), struct device *d);

void *device_env_memory(uint64_t len_bytes); /* aligned, zeros; free() it */

/* n blocks, each byte of which depends on seed and place. */
void device_env_fill(void *buf, uint64_t block, unsigned n_blocks, unsigned seed);
void device_env_check(const void *buf, uint64_t block, unsigned n_blocks, unsigned seed);

#endif
