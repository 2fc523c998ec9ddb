/* sim_tear.h - which sectors of a change arrive, and what a discard leaves. For src/media/sim*.c alone. */
#ifndef MEDIA_SIM_TEAR_H
#define MEDIA_SIM_TEAR_H

#include "sim_medium.h"

#define SIM_SECTOR_BYTES 512u
#define SIM_BLOCK_SECTORS (SIM_BLOCK_BYTES / SIM_SECTOR_BYTES)

enum sim_tear { TEAR_NONE, TEAR_ALL, TEAR_EACH, TEAR_FIRST, TEAR_REST };

struct sim_part {
	enum sim_tear tear;
	uint64_t border; /* of TEAR_FIRST and TEAR_REST, in sectors of the change */
	uint64_t *random;
	unsigned step;   /* sectors that go together */
};

/* Torn somewhere; sometimes that leaves it whole, or nothing of it. */
struct sim_part sim_part_torn(const struct sim_medium *m, uint64_t n_blocks, uint64_t *random);

/* Block `index` of a change: its part of data, the rest of old. Returns a reference, old itself if there
 * is no part. */
struct sim_block *sim_mix(struct sim_medium *m, const struct sim_part *part, uint64_t index, struct sim_block *old,
                          const void *data);

/* What is to be found where something was discarded. Returns a reference. */
struct sim_block *sim_discarded(struct sim_medium *m, struct sim_block *old, uint64_t *random);

#endif
