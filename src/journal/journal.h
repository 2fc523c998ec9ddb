/* journal.h - the only framing there is: records in a chain of segments on one device.
 *
 * A segment is an extent of the device of a fixed size: one header block, then records, back to back,
 * until the segment is full and its last record links to the next. Records never cross segments.
 *
 *   header block (4 KiB): magic, version, owner's 128-bit identity, log number, segment sequence number,
 *                         salt (fresh random for each life of the extent), CRC32C
 *   record: 32-byte header  { header crc, salt, payload length, type, flags,
 *                             record number, group start, payload crc } + payload, padded to 8 bytes
 *
 * `group start` is the offset in the segment up to which everything was durable when the
 * record's group was submitted. It tells damage from tearing: a bad record that some later valid record's
 * group start lies beyond was once acknowledged.
 *
 * Four outcomes for what is found at a record's place:
 *   NEVER    zeros: nothing was ever written here in this life
 *   STALE    a record, whole or not, of an earlier life: another salt
 *   TORN     of this life, not whole, and never acknowledged
 *   CORRUPT  of this life, was acknowledged, and is damaged now
 * NEVER, STALE and TORN end the log there, and appending goes on there; CORRUPT is -EBADMSG with the place.
 * A checksum of zero is as good as any other. Free segment space is zeroed ahead by the owner of the
 * segments or not at all: STALE makes either right.
 *
 * Group commit: records appended while a durable write is under way share the next one. The last, partly
 * filled block is written again with the next group, from a copy: a buffer under I/O never changes, and
 * bytes once durable are only ever rewritten with the same content. A durable write that fails
 * stops the journal for good: no more appends, every waiter gets the error, journal_error keeps it.
 */
#ifndef JOURNAL_JOURNAL_H
#define JOURNAL_JOURNAL_H

#include "../media/device.h"
#include <sys/uio.h>

struct journal;

enum journal_outcome { JOURNAL_VALID, JOURNAL_NEVER, JOURNAL_STALE, JOURNAL_TORN, JOURNAL_CORRUPT };

/* Record types below 16 are the journal's own (link, pad). */
#define JOURNAL_FIRST_TYPE 16
#define JOURNAL_RECORD_HEADER_BYTES 32u

struct journal_place {
	uint64_t segment;      /* byte offset of the segment on the device */
	uint64_t segment_no;   /* from 0, in this journal's life */
	uint32_t offset;       /* of the record in the segment */
	uint64_t record_no;    /* from 0 */
};

struct journal_ops {
	/* A free extent of segment_bytes for the next segment: its byte offset. Called where suspending is
	 * allowed; -ENOSPC. */
	int (*segment_get)(void *owner, uint64_t *ret_offset);
	/* A segment that journal_destroy, or recovery beyond a torn link, gives back. */
	void (*segment_put)(void *owner, uint64_t offset);
};

struct journal_options {
	struct device *device;     /* borrowed: as long as the journal */
	const struct journal_ops *ops;
	void *owner;
	uint8_t identity[16];      /* of the store: foreign segments are -EUCLEAN */
	uint32_t log_no;           /* which of the store's logs */
	uint32_t segment_bytes;    /* power of two, 64 KiB to 1 GiB */
	uint64_t salt_seed;        /* 0: from the kernel's random numbers; tests give their own */
};

/* Begins a log in a segment of its own; durable when it returns. All calls that do I/O may suspend
 * or block, and are for coroutines and plain threads (see device.h). */
int journal_create(const struct journal_options *o, uint64_t first_segment, struct journal **ret_journal,
                   struct quire_error *err);

/* Called for each record in order. payload: borrowed during the call. A negative errno ends the scan. */
typedef int (*journal_record_fn)(void *arg, const struct journal_place *at, uint16_t type,
                                 const void *payload, uint32_t len_bytes);

struct journal_recovery {
	enum journal_outcome end;  /* what was found behind the last valid record */
	struct journal_place at;   /* there */
	uint64_t n_records, n_segments, n_bytes; /* read */
};

/* Opens a log by its first segment: reads it from there, each valid record to fn (NULL allowed), finds the end of the
 * tail, and goes on from there unless read_only. -EBADMSG: CORRUPT, at ret->at; -EUCLEAN: not
 * a segment of this log. ret may be NULL. */
int journal_open(const struct journal_options *o, uint64_t first_segment, bool read_only,
                 journal_record_fn fn, void *arg, struct journal_recovery *ret,
                 struct journal **ret_journal, struct quire_error *err);

/* Nothing may be under way. Does not make anything durable. NULL allowed. */
void journal_close(struct journal *j);

/* Gives all segments back, the first included. Like close otherwise. */
void journal_destroy(struct journal *j);

/* Takes a record in; it is not durable yet. The payload is copied before the call returns. lens sum
 * ≤ journal_max_payload. May suspend while a segment is changed or buffers are full (bounded memory). Any
 * number of coroutines and threads at once; numbers are given in the order of the calls' return.
 * -EMSGSIZE, -ENOSPC (nothing taken), the journal's error, -EROFS. */
int journal_append(struct journal *j, uint16_t type, const struct iovec *parts, unsigned n,
                   uint64_t *ret_record_no);

/* Completes when every record up to and including record_no is durable; whoever waits together shares one
 * write. op as in quire/loop.h. */
int journal_sync(struct journal *j, uint64_t record_no, struct quire_op *op);

uint32_t journal_max_payload(const struct journal *j);
uint64_t journal_n_durable(const struct journal *j);   /* records; any thread, one load */
uint64_t journal_bytes(const struct journal *j);       /* of all its segments */
uint64_t journal_used_bytes(const struct journal *j);  /* of records, headers included */
int journal_error(const struct journal *j);            /* 0, or why it stopped */

/* Reads one segment's records as they are on the medium, also of a log that is not open; for check and
 * tools. Ends at the first that is not valid: returns its outcome, and where. */
int journal_scan_segment(const struct journal_options *o, uint64_t segment, journal_record_fn fn, void *arg,
                         struct journal_recovery *ret, struct quire_error *err);

#endif
