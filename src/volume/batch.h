/* batch.h - a record of a group's log that is being put together, by who has the turn to append. Within the layer. */
#ifndef VOLUME_BATCH_H
#define VOLUME_BATCH_H

#include "volume_internal.h"

#define BATCH_MAX_PARTS 512u

struct batch {
	struct quire_volumes *g;
	struct request *all[VOLUME_MAX_ENTRIES];
	unsigned n;
	uint32_t n_blocks;
	uint64_t growth; /* of all of them */
	struct iovec parts[BATCH_MAX_PARTS];
	unsigned n_parts;
	_Alignas(8) uint8_t head[VOLUME_HEAD_BYTES];
	_Alignas(8) uint8_t joined[VOLUME_HEAD_BYTES]; /* with that of the last record */
};

/* ---- append.c; lock not held ---- */

void batch_begin(struct batch *b); /* a head, which says nothing yet */
/* Blocks that its record may have: what its segment has room for, or, if that is none, the next one. At least 1. */
uint32_t batch_most_blocks(const struct batch *b);
int batch_append(struct batch *b, uint16_t type, struct journal_place *ret);

/* ---- append_change.c, append_moves.c; lock not held ---- */

int append_change(struct batch *b, struct request *r);
int append_moves(struct batch *b, struct request *r);

#endif
