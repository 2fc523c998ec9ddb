/* redo.h - records are done again while a group is opened; for open.c. */
#ifndef VOLUME_REDO_H
#define VOLUME_REDO_H

#include "volume_internal.h"

struct redo {
	struct quire_volumes *g; /* borrowed */
	struct quire_error *err; /* borrowed, or NULL */
	int error;               /* of ours */
	/* A record whose head is damaged, until the next one says what it was: */
	struct journal_place lost;
	uint32_t *lost_sums;     /* owned; NULL: there is none */
	uint32_t n_lost;
};

/* A journal_record_fn; takes the group's lock. */
int redo_record(void *arg, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes);
int redo_fail_lost(struct redo *r, const struct journal_place *at); /* -EBADMSG, and why; offset 0: the segment's header */
void redo_fini(struct redo *r);

#endif
