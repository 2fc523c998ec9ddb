/* image_env.h - images of pools in memory. */
#ifndef TESTS_TMEM_IMAGE_ENV_H
#define TESTS_TMEM_IMAGE_ENV_H

#include "model.h"
#include "../../src/tmem/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)

struct bytes {
	uint8_t *at;
	size_t n, capacity;
	int fail_after; /* appends or reads; -1: never */
};

extern uint8_t page[2 << 20], other[2 << 20];

int append(void *arg, const void *from, size_t n);
struct bytes write_image(struct quire_tmem_pool *pool, const char *name);
int read_image(struct quire_tmem *t, struct bytes *b, const struct quire_tmem_pool_options *o,
               struct quire_tmem_pool **ret, struct quire_error *err);
struct quire_tmem *make(uint64_t budget_bytes);
struct quire_tmem_pool *make_pool(struct quire_tmem *t, uint32_t flags, uint32_t page_bytes);
void put(struct quire_tmem_pool *pool, uint64_t object, uint32_t index, uint32_t content);

#endif
