/* pools.h - what tests of pools begin with: pools in a budget, keys, and pages that hardly become smaller. */
#ifndef TESTS_TMEM_POOLS_H
#define TESTS_TMEM_POOLS_H

#include "../base/cmocka_env.h"
#include "../support/random.h"

#include <quire/tmem.h>
#include <string.h>

/* With one helper. The caller's. */
static inline struct quire_tmem *make(uint64_t budget_bytes)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = budget_bytes, .n_threads = 2};
	struct quire_tmem *t = NULL;

	assert_int_equal(quire_tmem_create(&o, &t, NULL), 0);
	return t;
}

static inline struct quire_tmem_key key(uint32_t index)
{
	return (struct quire_tmem_key){.object = {1, 2, 3}, .index = index};
}

#define NOISE_BYTES 4096u

static inline void noise(uint32_t content, uint8_t *page)
{
	uint64_t state = content;

	for (unsigned i = 0; i < NOISE_BYTES; i += 8) {
		uint64_t word = random_next(&state);
		memcpy(page + i, &word, 8);
	}
}

/* Noise but for a sixteenth. */
static inline void fill(uint32_t content, uint8_t *page)
{
	uint64_t word = content;

	noise(content, page);
	for (unsigned i = 0; i < NOISE_BYTES / 16; i += 8)
		memcpy(page + i, &word, 8);
}

#endif
