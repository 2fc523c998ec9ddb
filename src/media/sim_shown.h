/* sim_shown.h - persistent memory as a program sees it that has mapped it: the view's bytes, side by side. For src/media/sim*.c
 * alone, under the sim's lock. Blocks are copied there when they are first asked for, and again whenever the view of them
 * changes, so a pointer shows what a real mapping would: what is written, discarded or damaged under it. */
#ifndef MEDIA_SIM_SHOWN_H
#define MEDIA_SIM_SHOWN_H

#include "sim_medium.h"

struct sim_shown {
	unsigned char *bytes; /* owned mapping */
	uint64_t n_blocks;    /* of the medium when it was made: what grew later is not mapped */
	unsigned char is_shown[];
};

/* The blocks that n bytes from offset on touch; NULL beyond what is mapped. */
const void *shown_get(struct sim_medium *m, uint64_t offset, uint64_t len_bytes);
void shown_update(struct sim_medium *m, uint64_t block); /* its view has changed */
void shown_end(struct sim_medium *m);                    /* nobody has a pointer any more */

#endif
