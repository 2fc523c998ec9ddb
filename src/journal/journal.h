/* journal.h - the only framing there is: records in a chain of segments on one device.
 *
 * A segment is an extent of the device of a fixed size: one header block, then records, back to back,
 * until the segment is full and its last record links to the next. Records never cross segments.
 *
 *   header block (4 KiB): magic, version, owner's 128-bit identity, log number, segment sequence number,
 *                         salt and key (fresh random for each life of the extent), CRC32C
 *   record: 32-byte header  { header crc, salt, session, payload length, type, flags,
 *                             index in the segment, group start, payload crc } + payload, padded to 8 bytes
 * docs/format.md has every byte.
 *
 * `group start` is the offset in the segment up to which everything was durable when the
 * record's group was submitted. It tells damage from tearing: a bad record that some later valid record's
 * group start lies beyond was once acknowledged. `session` is one opening for writing: what an earlier
 * session left torn behind the place where a later one went on is never taken for the later one's.
 *
 * Four outcomes for what is found at a record's place:
 *   NEVER    zeros: nothing was ever written here in this life
 *   STALE    a record, whole or not, of an earlier life: another salt, or another session
 *   TORN     of this life, not whole, and never acknowledged
 *   CORRUPT  of this life, was acknowledged, and is damaged now
 * NEVER, STALE and TORN end the log there, and appending goes on there; CORRUPT is -EBADMSG with the place.
 * A place of offset 0 is a segment's header. Damage to the very last group, behind which nothing was ever
 * written, leaves no witness: it is TORN.
 * A checksum of zero is as good as any other. Free segment space is zeroed ahead by the owner of the
 * segments or not at all: STALE makes either right.
 *
 * Group commit: records appended while a durable write is under way share the next one. Who waits for a write may be the one who
 * makes it (see commit.c). The last, partly
 * filled block is written again with the next group, from a copy: a buffer under I/O never changes, and
 * bytes once durable are only ever rewritten with the same content. On persistent memory a group is written exactly
 * as long as it is, and nothing again. A durable write that fails
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
	bool damaged;          /* journal_options.damaged_too */
	uint32_t n_more;       /* the same: records behind it that are damaged with it, and of which nobody knows where they begin */
};

struct journal_ops {
	/* A free extent of segment_bytes for the next segment: its byte offset. Called where suspending is
	 * allowed, some time before the segment is needed; no lock is held. -ENOSPC: asked again when it
	 * is needed. After a crash the extent may be unknown to the log: see journal_segments. */
	int (*segment_get)(void *owner, uint64_t *ret_offset);
	/* A segment that journal_give_back gives back. */
	void (*segment_put)(void *owner, uint64_t offset);

	/* For owners who keep in memory what is appended; both NULL otherwise. */

	/* segment_bytes of memory for the segment, aligned as the device wants it (whole_blocks: it is written from there), in which the journal keeps its bytes as they are on the medium, or will
	 * be: what was read of it when the log was opened, then each record as it is taken in. It must be there for
	 * all that segment_get gave, until journal_drop_first; for others, while a log is opened, it may be NULL. Called with
	 * the journal's lock held, or without. */
	uint8_t *(*segment_memory)(void *owner, uint64_t offset);
	/* journal_n_visible, journal_n_durable or journal_segment_durable has grown, or the journal has stopped. On any
	 * thread, without the journal's lock; may not wait. */
	void (*moved)(void *owner);
};

/* The segment before a journal's first one: it has ended. */
struct journal_before {
	const struct journal_options *o; /* borrowed; what it is read with: journal_scan_segment, elsewhere */
	uint64_t segment;          /* its offset */
	uint64_t segment_no, end_no;
};

struct journal_options {
	struct device *device;     /* borrowed: as long as the journal */
	const struct journal_ops *ops;
	void *owner;
	uint8_t identity[16];      /* of the store: foreign segments are -EUCLEAN */
	uint32_t log_no;           /* which of the store's logs */
	uint32_t segment_bytes;    /* power of two, 64 KiB to 1 GiB */
	bool elsewhere;            /* journal_scan_segment: a copy of a segment, at another place than the one it was made
	                            * for and on its own; where it says that it is, and what comes after it, is not looked at */
	bool whole_blocks;         /* what is appended takes whole blocks of 4 KiB, its 32 bytes of header included (the owner sees
	                            * to it), and so does the journal's NEXT: every record begins with a block */
	bool damaged_too;          /* with whole_blocks: what is damaged, but was durable, does not end a scan: its record is given to fn, too, its
	                            * place marked so. Type 0: its header is damaged as well, and len_bytes reach to the next one that is not; of
	                            * several, record_no is the first's. Who can make nothing of it returns -EBADMSG. The journal's own records and
	                            * headers are made again, in memory, and on the medium when the journal is written to, as far as they are
	                            * known from elsewhere (salvage.c) */
	uint16_t lost_type;        /* the same for other logs; not 0: each record that is damaged, but was durable, is given to fn with this type, and as
	                            * damaged; payload NULL. On the medium, when the journal is written to, such records take their place */
	const uint64_t *known;     /* borrowed while it is opened: all segments that are the log's, or may be: which of them come later is told by their
	                            * headers where NEXT and LINK are damaged; n_known of them */
	unsigned n_known, n_sealed; /* the last n_sealed of them have ended: none of those was named and never begun */
	const struct journal_before *before; /* borrowed while it is opened: what is behind it was begun, and durable. With lost_type: if the header of the
	                            * first segment is damaged, it is made again of the NEXT that stands there. NULL: nobody knows of one */
	uint64_t salt_seed;        /* 0: from the kernel's random numbers; tests give their own, another at
	                            * each create and open, as what was torn is told by its salt */
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
	uint64_t n_mended;         /* of the journal's own records and headers, which were damaged: journal_options.damaged_too, lost_type */
	uint64_t mended_segment;   /* that of the last of these */
};

/* Opens a log by its first segment: reads it from there, each valid record to fn (NULL allowed), finds the end of the
 * tail, and goes on from there unless read_only. -EBADMSG: CORRUPT, at ret->at; -EUCLEAN: not
 * a segment of this log. ret may be NULL; it is filled whatever the result. Read only beside a writer: what
 * is durable when the scan comes by, and perhaps more. */
int journal_open(const struct journal_options *o, uint64_t first_segment, bool read_only,
                 journal_record_fn fn, void *arg, struct journal_recovery *ret,
                 struct journal **ret_journal, struct quire_error *err);

/* One that was opened read only is written to from now on, as if it had not been: for owners who look at all that was read before anything
 * on the medium changes. Nobody has written to it meanwhile, and no other call is under way. -ENOMEM; I/O errors: only
 * journal_close is due then. */
int journal_go_on(struct journal *j, struct quire_error *err);

/* No call may be under way, and no op incomplete. Does not make anything durable; waits for a write that
 * nobody else waits for. NULL allowed. */
void journal_close(struct journal *j);

/* Gives all segments back, the first included. Of no use any more then, but for journal_close. */
void journal_give_back(struct journal *j);

/* Takes a record in; it is not durable yet. The payload is copied before the call returns. lens sum
 * ≤ journal_max_payload. May suspend while a segment is changed or buffers are full (bounded memory: two
 * buffers of at most 1 MiB, however large the record; or none of what is written from the segment's). Any number of coroutines and threads at once; calls that
 * do not overlap are numbered in their order, from 0, without gaps. No lock is held while the payload is read.
 * -EMSGSIZE, -ENOSPC (nothing taken), the journal's error, -EROFS; -EDEADLK in a loop's callback, if it would
 * have to wait. */
int journal_append(struct journal *j, uint16_t type, const struct iovec *parts, unsigned n,
                   uint64_t *ret_record_no);

/* The same for a record of more than 2 KiB, and tells where it is: record_no's segment, by its number, and the offset in it. crc: the
 * CRC32C of its payload, of a multiple of 8 bytes, where that is known without reading it; NULL: it is not. */
int journal_append_placed(struct journal *j, uint16_t type, const struct iovec *parts, unsigned n, const uint32_t *crc,
                          struct journal_place *ret_place);

/* Makes a record longer that was the last to be appended, with whole_blocks: `head` takes the place of what its payload began with, as
 * long as that was or shorter, and the parts, together of a multiple of 8 bytes, come behind it. crc: the CRC32C of the whole. -EAGAIN: it is as
 * it was, since something of it is being written, or was, another record came, there is no place right behind it that is to be had without
 * waiting, or it would be too long. Nobody else may append meanwhile, or read its header or what `head` changes, though it is below
 * journal_n_visible. Does not wait. */
bool journal_may_extend(struct journal *j, uint64_t record_no); /* else -EAGAIN is certain */
int journal_extend(struct journal *j, uint64_t record_no, const struct iovec *head, const struct iovec *parts, unsigned n, uint32_t crc);

/* The same as journal_append, but -EAGAIN where it would have to wait, whoever calls. */
int journal_append_now(struct journal *j, uint16_t type, const struct iovec *parts, unsigned n,
                       uint64_t *ret_record_no);

/* Takes a record in, gives its number (NULL allowed), and waits until it is durable, as journal_sync with no op. Cheaper than the two, where that is but
 * copying. */
int journal_append_durably(struct journal *j, uint16_t type, const struct iovec *parts, unsigned n,
                           uint64_t *ret_record_no);

/* n records of one type, in order, each `head` and then its own; others' may come between them. Small ones share a hold of the lock.
 * How many, of which the first has *ret_first and the last *ret_last; an error that came before the first. As
 * journal_append otherwise. */
int64_t journal_append_many(struct journal *j, uint16_t type, const struct iovec *head, const struct iovec *records,
                            unsigned n, uint64_t *ret_first, uint64_t *ret_last);

/* Completes when every record up to and including record_no is durable; whoever waits together shares one
 * write. It may be done by this very thread: by a plain thread that waits in any case, by others where it is but copying. op as in
 * quire/loop.h. -EINVAL: no such record yet. A record that was durable stays so after an error. */
int journal_sync(struct journal *j, uint64_t record_no, struct quire_op *op);

uint32_t journal_max_payload(const struct journal *j);
/* Payload of the largest record that its present segment still has room for; 0: the next record begins another segment. Holds until something is
 * appended. */
uint32_t journal_room(struct journal *j);
uint64_t journal_n_durable(const struct journal *j);   /* records; any thread, one load */
/* Records that are in memory as a whole (segment_memory), each of those before it too; any thread, one load. */
uint64_t journal_n_visible(const struct journal *j);
/* Number of the last segment of which something is durable: its header is. */
uint64_t journal_segment_durable(const struct journal *j);
uint64_t journal_bytes(const struct journal *j);       /* of all its segments */
uint64_t journal_used_bytes(const struct journal *j);  /* of records, headers included */
uint64_t journal_n_records(const struct journal *j);   /* appended: the next one's number */
int journal_error(const struct journal *j);            /* 0, or why it stopped */

/* Every segment that the journal has, the one got for later included: what its owner may not give to others. fn may not call
 * the journal. */
void journal_segments(const struct journal *j, void (*fn)(void *arg, uint64_t offset), void *arg);

/* The oldest segment is the owner's from now on: the log is to be opened by the next one. Not the one that is
 * appended to: journal_segment_durable is greater than its number. */
void journal_drop_first(struct journal *j);

/* Reads what is durable again, from the start, off the medium. -EBADMSG: it is not there any more. */
int journal_read(struct journal *j, journal_record_fn fn, void *arg, struct quire_error *err);

/* Reads one segment's records as they are on the medium, also of a log that is not open; for check and
 * tools. Ends at the first that is not valid: returns its outcome (enum journal_outcome), and where. JOURNAL_VALID: the
 * segment is full. -EUCLEAN, -EBADMSG: its header. */
int journal_scan_segment(const struct journal_options *o, uint64_t segment, journal_record_fn fn, void *arg,
                         struct journal_recovery *ret, struct quire_error *err);

#endif
