/* space.h - the log's space: who gets it, who waits for it, and how some becomes free. Within the layer. */
#ifndef VOLUME_SPACE_H
#define VOLUME_SPACE_H

#include "volume_internal.h"

/* ---- space.c; without the lock ---- */

bool space_store_is_full(struct quire_volumes *g);             /* the store needs what there is */
uint64_t space_for_merge(struct quire_volumes *g, uint64_t n_extents); /* segments that one of so many may take */
uint64_t space_for_checkpoint(struct quire_volumes *g);        /* the next one */
uint64_t space_kept(struct quire_volumes *g);                  /* that writers leave for it, and for cleaning */
bool space_is_writers(struct quire_volumes *g);                /* what the log's segment has left, or the next one, is not upkeep's */
bool space_is_low(struct quire_volumes *g);                    /* it is time to clean */
bool space_wants_checkpoint(struct quire_volumes *g, bool is_stuck); /* to find dead what cleaning can't free by itself */
void space_clean_in_time(struct quire_volumes *g);             /* before anybody has to wait for that */
void space_round_ended(struct quire_volumes *g, uint64_t n_got_before); /* the worker's */
/* A request that was refused: appended when there is space; waits. -ENOSPC: there is none, and none can be cleaned. */
int space_find(struct request *r);

/* ---- victims.c ---- */

#define CLEAN_MAX_VICTIMS 8u /* at a time */

/* A segment that is cleaned. */
struct victim {
	uint64_t no, n_live;
	double score;
	uint64_t n_found;       /* blocks that pages of trees have there */
	bool has_moved;         /* of some of them the tree of what was moved says where they are: not counted */
	bool left;              /* something was not moved, since it was changed meanwhile */
	bool keeps;             /* something stays until the next checkpoint */
};

/* The best, in order; how many: one at least, if there is any and writers have written since the last time, or wait. Lock held. */
unsigned victims_choose(struct quire_volumes *g, struct victim ret[CLEAN_MAX_VICTIMS]);

/* ---- clean.c ---- */

/* The checkpointer's, between checkpoints: until space is not little any more, or that is all that can be done without one. */
int group_clean(struct quire_volumes *g, bool *ret_stuck); /* stuck: a checkpoint may free more */

#endif
