/* container.h - the two-log container (mpool's MDC): an append-only set of records that can be
 * compacted, crash-safely, by writing what is live into the other log.
 *
 * Two journals; each begins with a START record that carries a generation. A log is complete once it has
 * an END record (a first log is born complete). The active log is the complete one of the highest
 * generation; whatever the other holds is a compaction that did not end, and is ignored and erased.
 *
 *   cstart: the other log begins anew with generation + 1, and takes all appends from now on; what the
 *           old log had taken is durable when it returns
 *   cend:   END is made durable; from then on the other log is the active one; the old one's header is erased,
 *           its segments but the first are given back
 *   cabort: the other log is erased, the old one goes on
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
 * known; one of them may be damaged if the other is complete (then nothing was promised by the damaged one
 * alone: container.c, invariant 2). -EUCLEAN: none is complete, or they contradict each other. -EBADMSG:
 * damage. Read only, beside a writer: -ESTALE if he compacted meanwhile; fn may have been called, open again. */
int container_open(const struct container_options *o, const uint64_t first[2], bool read_only,
                   journal_record_fn fn, void *arg, struct journal_recovery *ret,
                   struct container **ret_container, struct quire_error *err);
void container_close(struct container *c);

/* As the journal's; append to the active log, or to the new one between cstart and cend. Numbers grow, with gaps. */
int container_append(struct container *c, uint16_t type, const struct iovec *parts, unsigned n, uint64_t *ret_no);
int container_sync(struct container *c, uint64_t no, struct quire_op *op);

/* -EBUSY if one is under way. The caller sees to it that all live records are appended between. A failed
 * durable write ends the container: no more appends (container_error). Another failure, -ENOSPC or -EFBIG in
 * cend or in an append before it, leaves the compaction open: it may be tried again, or given up. */
int container_cstart(struct container *c);
int container_cend(struct container *c);

/* What was appended since cstart is gone; numbers go on growing. */
int container_cabort(struct container *c);

/* Reads the active log again from its start (mpool's rewind and read), after making durable what it has taken. */
int container_read(struct container *c, journal_record_fn fn, void *arg);

struct container_usage {
	uint64_t used_bytes, allocated_bytes, capacity_bytes, n_records, generation;
};
void container_usage(struct container *c, struct container_usage *ret); /* of the active log */
int container_error(struct container *c); /* 0, or why it stopped */

/* Every segment that the container has. fn may not call the container. */
void container_segments(struct container *c, void (*fn)(void *arg, uint64_t offset), void *arg);
uint32_t container_max_payload(const struct container *c);

#endif
