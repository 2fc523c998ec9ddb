/* quire/log.h - logs of records: a durable tail, sealed in place, read through the cache.
 *
 * A store has any number of logs, each with a name and in one class. Records are appended behind the last, and are
 * numbered: an lsn is the number of a record in its log, from 0, without gaps. It is a number and no position, since
 * it is then the same wherever the bytes lie, two lsns say how many records are between them, and a reader sees that
 * none is missing; where a record lies is found by its segment and a sparse index (16 bytes for each 4 KiB or more).
 *
 * Segments. A log is a chain of segments of one size. The newest is the tail, kept in memory as a whole until it is
 * sealed: behind its records are then written the checksums of its pages, the index, and a footer. A sealed
 * segment never changes; its pages are read through the cache, each verified against its checksum. Of a class that is mapped
 * (persistent memory) cursors read it where it lies, verified likewise, until the cache finds a page in use, and has it in
 * RAM from then on. It is also an object: a quire_item of a map takes its id (quire_log_segments) where it takes a blob's. It may be
 * moved to another class: it has another id then, and whoever holds the old one reads on from where it was.
 *
 * Two watermarks: records below *visible* can be read in this process; those below *durable* are there after any crash.
 * durable <= visible, but for a moment in which both grow. A durable write that fails stops the log: no more appends, each
 * waiter gets the error, what is visible can still be read; close it and open it again.
 *
 * Memory: of the tail, and of each segment that is not sealed yet, segment_bytes at most (as it fills; counted as buffers of
 * the cache's budget), two write buffers of 1 MiB at most, and of each sealed segment some 16 KiB of index. Of a log with keys, for
 * each key that a record has, 20 to 24 bytes more, whatever its length (counted as tables of the budget).
 *
 * Any thread may call any function here on a log; a cursor is used by one at a time. Calls with an op follow
 * quire/loop.h; the others that may do I/O say so ("blocks"): they suspend a coroutine, block a plain thread, and are
 * -EDEADLK in a loop's callback. A forked child may use no log: what it opens or waits for there gives -ECHILD, the
 * quick calls (append_nowait, next, prev, watermarks) don't look. Nor does a close see an append_nowait beside it that need not wait:
 * as with any handle, nobody may begin a call when it is closed.
 */
#ifndef QUIRE_LOG_H
#define QUIRE_LOG_H

#include <quire/store.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct quire_log;
struct quire_log_cursor;

/* ---- which logs there are ---- */

#define QUIRE_LOG_NAME_MAX 63 /* characters: A-Z a-z 0-9 . _ - and neither . nor - at the start */

struct quire_log_options {
	size_t size;             /* sizeof(struct quire_log_options); 0 fields mean default */
	enum quire_class cls;    /* default: capacity */
	uint32_t segment_bytes;  /* a power of two, 64 KiB to 1 GiB; default: 16 MiB, less in a class of less than 16 GiB */
	/* What is kept at least; whole sealed segments beyond it are freed. 0: no limit. */
	uint64_t retain_bytes;   /* of media, by full segments */
	uint64_t retain_ns;      /* by the times of records */
	uint64_t retain_records; /* that are durable */
	bool keys;               /* records may have keys, by which the newest is found; for good */
	/* Sealed segments move to another class in the background, beside appends, but for the newest. */
	bool destage;
	enum quire_class destage_to;
	uint64_t destage_keep_bytes; /* of sealed segments, that stay at least; rounded up to whole ones */
};

/* Makes an empty log; durable when it returns. Blocks. opts may be NULL. -EEXIST, -EINVAL (name, sizes, destage_to is the log's
 * own class), -ENOENT (no such class), -ENOSPC, -EROFS. */
int quire_log_create(struct quire_store *store, const char *name, const struct quire_log_options *opts,
                     struct quire_error *err);

/* Removes a log with all its records. Blocks. -ENOENT, -EBUSY while it is open. */
int quire_log_rm(struct quire_store *store, const char *name, struct quire_error *err);

struct quire_log_info {
	uint64_t id;
	char name[QUIRE_LOG_NAME_MAX + 1];
	enum quire_class cls;
	uint32_t segment_bytes;
	uint64_t retain_bytes, retain_ns, retain_records;
	uint64_t n_segments, allocated_bytes;
	bool open; /* in this process */
	bool keys;
	bool destage;
	enum quire_class destage_to;
	uint64_t destage_keep_bytes;
	uint64_t n_destaged; /* of n_segments: in another class than cls */
};

/* The log of the lowest id above `after`: 1; or 0: there is none. Never blocks. */
int quire_log_ls(struct quire_store *store, uint64_t after, struct quire_log_info *ret_info);
int quire_log_find(struct quire_store *store, const char *name, struct quire_log_info *ret_info); /* -ENOENT */

/* ---- open ---- */

struct quire_log_open_options {
	size_t size;
	quire_progress_fn progress; /* of keys and what is not sealed, in bytes; a non-zero return: -ECANCELED */
	void *arg;
	bool no_direct;             /* cursors read sealed segments through the cache alone, though they are of a class
	                             * that is mapped; always so where the log is read only */
	bool read_only;             /* nothing is written, though the store may be; always so in a store that is open read-only */
};

/* Opens a log, once at a time: -EBUSY. Reads the footers of its sealed segments, with their keys, and the records of the others,
 * finds the end, and goes on from there. read_only, and in a store that is open read-only: the log is what is durable when it is opened, and
 * nobody can append, trim, or move what is sealed (-EROFS); what would be made again on the medium is so in memory alone, and retention waits. It is
 * open nevertheless: -EBUSY for the next, whoever writes included. Blocks. opts may be NULL. A record that was durable and is damaged is lost,
 * alone: whoever moves to it gets -EBADMSG, then and for good; a log that is opened to write puts a mark in its place. A torn record at the end is
 * no error: it was never acknowledged. But damage to the last group that was written at once, behind which nothing is, can't be told from a cut:
 * records of that are lost from there on, acknowledged or not, and nobody is told. -ENOENT; -EBADMSG: a segment is missing, or so damaged that
 * nobody can tell what was in it (err says where); -EUCLEAN: a broken structure; -ENOMEM. */
int quire_log_open(struct quire_store *store, const char *name, const struct quire_log_open_options *opts,
                   struct quire_log **ret_log, struct quire_error *err);

/* Makes durable what was appended, and closes. Blocks. -EBUSY, nothing changed: cursors are open, or calls and
 * operations under way. Another failure is the sync's, and the handle is gone. NULL allowed. */
int quire_log_close(struct quire_log *log);

/* ---- appending ---- */

/* Completes with 0 when the record is durable; whoever waits together shares one write. ret_lsn (NULL allowed) is written
 * before the completion, and so is what was borrowed until then: iov, its array and its bytes. -EMSGSIZE: more than
 * quire_log_max_record; -ENOSPC: nothing was taken; -EROFS; the log's error. */
int quire_log_append(struct quire_log *log, const struct iovec *iov, unsigned n, uint64_t *ret_lsn,
                     struct quire_op *op);

/* Takes a record in, visible when it returns (or as soon as appends under way beside it are), durable after a
 * quire_log_sync, or with whatever is appended durably later. Nothing is borrowed. Copies; blocks where a
 * segment is changed, or the buffers are full. Errors as of quire_log_append. */
int quire_log_append_nowait(struct quire_log *log, const struct iovec *iov, unsigned n, uint64_t *ret_lsn);

/* Takes in n records, one iovec each, with numbers in their order; others' may come between them. As nowait; returns
 * how many, of which the first has *ret_first and the last *ret_last; fewer than n, at least one, if an error came then. */
int64_t quire_log_append_many(struct quire_log *log, const struct iovec *records, unsigned n, uint64_t *ret_first,
                              uint64_t *ret_last);

/* As append and append_nowait, in a log with keys: the record has the key, of 1 to QUIRE_LOG_KEY_MAX bytes, borrowed as iov is.
 * It takes that much, and 10 bytes at most, of what a record may have. A key is taken back by nothing but trimming: who wants to delete appends a
 * record that says so. -ENOTSUP: the log has no keys; -EINVAL: no such length. */
#define QUIRE_LOG_KEY_MAX 1024u
int quire_log_append_key(struct quire_log *log, const void *key, size_t key_bytes, const struct iovec *iov, unsigned n,
                         uint64_t *ret_lsn, struct quire_op *op);
int quire_log_append_key_nowait(struct quire_log *log, const void *key, size_t key_bytes, const struct iovec *iov,
                                unsigned n, uint64_t *ret_lsn);

/* Completes when the record of lsn, and so all before it, are durable. -EINVAL: there is none yet. */
int quire_log_sync(struct quire_log *log, uint64_t lsn, struct quire_op *op);

/* Bytes of a record at most: some 4.2 KiB less than a segment. */
size_t quire_log_max_record(const struct quire_log *log);

/* ---- watermarks ---- */

enum quire_log_mark {
	QUIRE_LOG_VISIBLE = 0,
	QUIRE_LOG_DURABLE = 1,
};

/* The lsn below which all records are visible; durable. One load each. */
uint64_t quire_log_visible(const struct quire_log *log);
uint64_t quire_log_durable(const struct quire_log *log);
/* The lsn of the oldest record there is: that of the first one of a segment. Equal to visible: the log is empty. */
uint64_t quire_log_first(const struct quire_log *log);
/* 0, or why there are no more appends. */
int quire_log_error(const struct quire_log *log);

/* Completes with 0 when the watermark is above lsn: the record of that number is visible, or durable. Asks nobody to write. An op of
 * quire_op_init_eventfd makes it pollable; it can be cancelled. -EINVAL for a log that is read only and ends before; the
 * log's error. */
int quire_log_wait(struct quire_log *log, enum quire_log_mark mark, uint64_t lsn, struct quire_op *op);

/* ---- reading ---- */

struct quire_log_record {
	uint64_t lsn;
	uint64_t time_ns;     /* when it was appended: CLOCK_REALTIME; never less than that of the one before, unless the two
	                       * appends were under way at the same time: a clock that is set back stands still here */
	const void *data;     /* borrowed: pinned until the cursor moves, or is closed; in RAM, or in persistent memory, where a
	                       * page that goes bad only then is a SIGBUS for whoever loads from it */
	size_t len_bytes;
	const void *key;      /* borrowed like data; NULL: it has none */
	size_t key_bytes;
};

/* A cursor stands between two records, at first before the oldest one. Costs some 1.2 KiB; of sealed segments it keeps
 * 64 KiB pinned, or what its record takes, and nothing where it reads in persistent memory. The segment that it is in is
 * not released, though retention or a trim may have removed it, until it moves on. `mark`: how far it may read. -ENOMEM. */
int quire_log_cursor_open(struct quire_log *log, enum quire_log_mark mark, struct quire_log_cursor **ret_cursor);
void quire_log_cursor_close(struct quire_log_cursor *cursor); /* NULL allowed */

/* The record behind the cursor, or before it; the cursor is then on its other side. Completes with 1, or with 0 where there
 * is none now: at the watermark (to follow, wait for the cursor's lsn and ask again), or before the oldest. ret is written
 * before the completion. -ESTALE: what was to be read was trimmed; seek to quire_log_first. -EBADMSG, -EIO, -EUCLEAN: damage or
 * failure there; the cursor stays. -ENOMEM: no room for pins in the budget. -EBUSY: another call is under way.
 * From the tail, where pages are resident and pinned, and in persistent memory, it never waits. */
int64_t quire_log_next(struct quire_log_cursor *cursor, struct quire_log_record *ret, struct quire_op *op);
int64_t quire_log_prev(struct quire_log_cursor *cursor, struct quire_log_record *ret, struct quire_op *op);

/* After the last move gave -EBADMSG, -EIO or -EUCLEAN: in words, which record it was of, and where that lies: object, class, the
 * offset of the bad page, or of the record, if that was lost before its segment was sealed. -ENODATA: it did not. Not during another call. */
int quire_log_cursor_error(const struct quire_log_cursor *cursor, struct quire_error *ret);

/* The next n records, or fewer, but one at least if there is one: those that lie in what is pinned for the first. All of them are
 * pinned until the cursor moves. Completes with how many; else as quire_log_next. -EINVAL: n is 0. */
int64_t quire_log_next_many(struct quire_log_cursor *cursor, struct quire_log_record *ret, unsigned n, struct quire_op *op);

/* The lsn of the record that quire_log_next would give. */
uint64_t quire_log_cursor_lsn(const struct quire_log_cursor *cursor);

/* Before the record of that lsn, which may be the next to come; behind the newest: UINT64_MAX. -ESTALE: it was trimmed; -EINVAL: beyond the
 * watermark. Lets go of what was pinned. Never blocks. */
int quire_log_seek(struct quire_log_cursor *cursor, uint64_t lsn);

/* Before the first record, in order, of that time or later; behind the newest if there is none. Blocks. Errors as of quire_log_next. */
int quire_log_seek_time(struct quire_log_cursor *cursor, uint64_t time_ns);

/* The number of the newest record with that key that is visible, or durable, when it is called or later: quire_log_seek
 * goes there. Completes with 0, or -ENOENT: there is none; ret_lsn is written before, key borrowed until then. Where the record is
 * looked at, since two keys may have one hash, it waits like quire_log_next, and fails like it. -EBADMSG also: neither the list of
 * keys nor the records of a sealed segment could be read when the log was opened, or a record is lost, and what is asked for may have been there.
 * -ENOTSUP: a log without keys, or a sealed record without a cache; -EINVAL: no such length; -ENOMEM. */
int quire_log_find_key(struct quire_log *log, enum quire_log_mark mark, const void *key, size_t key_bytes,
                       uint64_t *ret_lsn, struct quire_op *op);

/* ---- segments, and what is kept of them ---- */

struct quire_log_segment {
	uint64_t id;                       /* of the object, for maps and quire_blob_read; only once it is sealed */
	uint64_t first_lsn, end_lsn;       /* the second excluded */
	uint64_t first_time_ns, last_time_ns;
	uint64_t len_bytes;                /* of its records, headers included */
	bool sealed;
	enum quire_class cls;              /* the log's, unless it was moved */
};

/* Up to n segments, the oldest first; returns how many there are. Times of those that are not sealed are 0. */
unsigned quire_log_segments(struct quire_log *log, struct quire_log_segment *ret, unsigned n);

/* Frees sealed segments of which all records are below lsn. Their numbers are gone for cursors at once; their space when
 * nobody holds them. Durable when it returns: the number of segments. -EROFS. Blocks. */
int64_t quire_log_trim(struct quire_log *log, uint64_t lsn);

/* What retention demands, now, as quire_log_trim; otherwise it is looked at whenever a segment is sealed, and when the log is opened. Blocks. */
int64_t quire_log_retain(struct quire_log *log);

/* Moves sealed segments of which all records are below lsn to a class, which may be the log's own: how many. A segment is copied and
 * verified, and durably there before the old one is let go; a crash leaves one or the other. Cursors and maps that hold the
 * old one keep it and its space; the next that come find the new one. Appends go on. Blocks. -EBADMSG: one is damaged and
 * stays; the others are moved. -ENOSPC, -EIO: so far, it stopped there. -ENOENT: no such class; -EROFS. err may be NULL;
 * it names the segment and the place. */
int64_t quire_log_destage(struct quire_log *log, uint64_t lsn, enum quire_class cls, struct quire_error *err);

struct quire_log_stat {
	struct quire_log_info info;
	uint64_t first_lsn, visible, durable;
	uint64_t n_sealed;
	uint64_t memory_bytes;      /* of segments that are not sealed, of the index, and of keys */
	uint64_t n_cursors;
	uint64_t n_recovered;       /* records that were read when it was opened */
	uint64_t n_seals;           /* since then */
	int error;                  /* as quire_log_error */
	int upkeep_error;           /* of the last seal, removal or move that failed; it is tried again */
	/* Since it was opened; of records of sealed segments that cursors gave, once they have moved on from there: */
	uint64_t n_ram_reads;       /* pinned in RAM */
	uint64_t n_direct_reads;    /* where they lie, in persistent memory */
	uint64_t n_promoted;        /* pages that came into RAM because they were read there again */
	uint64_t n_keys;            /* in memory; some may be of records that were trimmed of late */
	uint64_t keys_bytes;        /* the part of memory_bytes that is theirs */
};
/* Returns 0. A snapshot, not atomic as a whole. Any thread; never blocks on storage. */
int quire_log_stat(struct quire_log *log, struct quire_log_stat *ret_stat);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
