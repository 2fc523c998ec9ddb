/* redo.h - records are done again while a group is opened; for open.c. */
#ifndef VOLUME_REDO_H
#define VOLUME_REDO_H

#include "volume_internal.h"

/* Records whose heads are damaged, one behind the other, of which only the last one's end is known. */
struct redo_lost {
	struct journal_place at;
	uint32_t n_blocks; /* of all of them, heads included */
	uint32_t *sums;    /* owned; of each of these as it is, but for the first */
};

struct redo {
	struct quire_volumes *g; /* borrowed */
	struct quire_error *err; /* borrowed, or NULL */
	int error;               /* of ours */
	struct redo_lost *lost;  /* owned; in the log's order, until a head that is whole says what they were */
	unsigned n_lost, lost_capacity;
	unsigned n_records;      /* of all of them */
};

/* A journal_record_fn; takes the group's lock. */
int redo_record(void *arg, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes);
int redo_fail_lost(struct redo *r, const struct journal_place *at); /* -EBADMSG, and why; offset 0: the segment's header */
void redo_fini(struct redo *r);

#endif
