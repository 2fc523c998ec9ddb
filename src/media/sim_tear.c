/* sim_tear.c - see sim_tear.h. */
#include "sim_tear.h"

#include <string.h>

struct sim_part sim_part_torn(const struct sim_medium *m, uint64_t n_blocks, uint64_t *random)
{
	uint64_t r = sim_random(random);
	return (struct sim_part){
		.tear = TEAR_EACH + r % 3,
		.border = (r >> 8) % (n_blocks * SIM_BLOCK_SECTORS + 1),
		.random = random,
		.step = m->tear_4k ? SIM_BLOCK_SECTORS : 1,
	};
}

static bool part_has(const struct sim_part *part, uint64_t sector)
{
	switch (part->tear) {
	case TEAR_NONE:
		return false;
	case TEAR_ALL:
		return true;
	case TEAR_EACH:
		return sim_random(part->random) & 1;
	case TEAR_FIRST:
		return sector < part->border;
	default:
		return sector >= part->border;
	}
}

struct sim_block *sim_mix(struct sim_medium *m, const struct sim_part *part, uint64_t index, struct sim_block *old,
                          const void *data)
{
	unsigned char mixed[SIM_BLOCK_BYTES];
	unsigned n_new = 0;

	memcpy(mixed, medium_bytes_of(old), SIM_BLOCK_BYTES);
	for (unsigned i = 0; i < SIM_BLOCK_SECTORS; i += part->step) {
		if (!part_has(part, index * SIM_BLOCK_SECTORS + i))
			continue;
		size_t at = i * SIM_SECTOR_BYTES;
		memcpy(mixed + at, (const char *)data + at, part->step * SIM_SECTOR_BYTES);
		n_new++;
	}
	return n_new == 0 ? sim_block_ref(old) : medium_block_of(m, mixed);
}

struct sim_block *sim_discarded(struct sim_medium *m, struct sim_block *old, uint64_t *random)
{
	uint64_t r = sim_random(random);
	if (r % 3 == 0)
		return NULL;
	if (r % 3 == 1)
		return sim_block_ref(old);
	struct sim_block *noise = sim_block_new(m->pool);
	for (unsigned i = 0; i < SIM_BLOCK_BYTES; i += 8) {
		r = r * 6364136223846793005u + 1442695040888963407u;
		memcpy(noise->data + i, &r, 8);
	}
	return noise;
}
