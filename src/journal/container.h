/* container.h - the two-log container (mpool's MDC): an append-only set of records that can be
 * compacted, crash-safely, by writing what is live into the other log.
 *
 * Two journals; each begins with a START record that carries a generation. A log is complete once it has
 * an END record (a first log is born complete). The active log is the complete one of the highest
 * generation; whatever the other holds is a compaction that did not end, and is ignored and erased.
 *
 *   cstart: the other log begins anew with generation + 1, and takes all appends from now on
 *   cend:   END is made durable; from then on the other log is the active one, the old one is given back
 * A crash before END is durable finds the old log, whole: so nothing that is appended between cstart and
 * cend is promised before cend has returned.
 */
#ifndef JOURNAL_CONTAINER_H
#define JOURNAL_CONTAINER_H

#include "journal.h"

struct container;

struct container_options {
	struct journal_options journal; /* log_no and log_no + 1 are used */
	uint64_t capacity_bytes;        /* most that one log may take; 0: no limit. -EFBIG beyond it */
};

/* first: the two logs' first segments, got by the caller and the container's from now on. */
int container_create(const struct container_options *o, const uint64_t first[2],
                     struct container **ret_container, struct quire_error *err);

/* Each record of the active log to fn, in order, the container's own left out. Both first segments must be
 * known; one of them may be damaged if the other is complete and of a generation that proves it is
 * the active one. */
int container_open(const struct container_options *o, const uint64_t first[2], bool read_only,
                   journal_record_fn fn, void *arg, struct journal_recovery *ret,
                   struct container **ret_container, struct quire_error *err);
void container_close(struct container *c);
void container_destroy(struct container *c); /* gives all segments back */

/* As the journal's; append to the active log, or to the new one between cstart and cend. */
int container_append(struct container *c, uint16_t type, const struct iovec *parts, unsigned n, uint64_t *ret_no);
int container_sync(struct container *c, uint64_t no, struct quire_op *op);

/* -EBUSY if one is under way. The caller sees to it that all live records are appended between. */
int container_cstart(struct container *c);
int container_cend(struct container *c);

/* Reads the active log again from its start (mpool's rewind and read). */
int container_read(struct container *c, journal_record_fn fn, void *arg);

struct container_usage {
	uint64_t used_bytes, allocated_bytes, capacity_bytes, n_records, generation;
};
void container_usage(struct container *c, struct container_usage *ret);
int container_error(const struct container *c);
uint32_t container_max_payload(const struct container *c);

#endif
