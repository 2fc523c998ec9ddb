/* logs.h - the space of logs: chains of segments, each an extent that the catalogue knows before its first byte is
 * written, and an object of its own once it is sealed.
 *
 * What is in a segment is its journal's (src/journal), whom src/log and src/volume drive. The store knows which segments a log has, oldest
 * first; removes the oldest, of volumes' logs any; moves sealed ones to other classes; and seals: behind the journal's part it writes the
 * checksums of its pages, the marks (a sparse index of its records) and the keys, durably, and then the footer. A sealed segment's id is
 * that of an object, which maps and readers get by object_get. Its space returns, like any removed object's, when nobody holds it any more.
 *
 * Calls that do I/O are for coroutines and plain threads. Those of one open log: any thread; adding and removing
 * take their turns.
 */
#ifndef STORE_LOGS_H
#define STORE_LOGS_H

#include "store.h"
#include "format.h"

struct store_log;

#define STORE_LOG_SECRET_BYTES 16u

struct store_log_settings {
	char name[FORMAT_LOG_NAME_BYTES];
	unsigned class_no;
	uint32_t segment_bytes; /* of its journal: a power of two, FORMAT_LOG_MIN_SEGMENT_BYTES to …_MAX_… */
	uint64_t retain_bytes, retain_ns, retain_records; /* 0: no limit; kept here, obeyed above */
	bool keys;              /* segments have room for a list of keys */
	uint8_t secret[STORE_LOG_SECRET_BYTES]; /* for the hashes of keys; made up by store_log_create */
	bool destages;            /* so are these: sealed segments are to move to destage_class, */
	unsigned destage_class;
	uint32_t destage_keep;    /* but for so many of the newest */
	bool volumes;             /* it is not for src/log, but for src/volume */
};

/* A log of one segment, an empty journal in it; durable when it returns. -EEXIST: the name; -EINVAL: name or settings;
 * -ENOENT: no such class; -ENOSPC. */
int store_log_create(struct store *s, const struct store_log_settings *settings, uint64_t *ret_id);
/* -EBUSY while open; -ESTALE: none of that id. */
int store_log_destroy(struct store *s, uint64_t id);

struct store_log_info {
	uint64_t id;
	struct store_log_settings settings;
	unsigned n_segments, n_moved; /* moved: those in another class than the log's */
	uint64_t allocated_bytes;
	bool open;
};
/* The first of an id above `after`. False: none. */
bool store_log_next(struct store *s, uint64_t after, struct store_log_info *ret);
int store_log_find(struct store *s, const char *name, struct store_log_info *ret); /* -ENOENT */

/* One at a time: -EBUSY. -ESTALE. */
int store_log_open(struct store *s, uint64_t id, struct store_log **ret_log);
void store_log_close(struct store_log *log);

struct store_log_segment {
	uint64_t id;
	unsigned class_no; /* the log's, unless it was moved */
	uint64_t offset;   /* on that class's device; that of its journal's segment */
};

/* Up to n of them, the oldest first; returns how many there are. */
unsigned store_log_segments(struct store_log *log, struct store_log_segment *ret, unsigned n);
/* One more, the newest; its bytes are anything. Durable when it returns. -ENOSPC. */
int store_log_add(struct store_log *log, struct store_log_segment *ret);
/* Space of its class for so many more is kept from others, until it is said anew; of a log of volumes, one in each class. Also of what is not free
 * yet. Objects with volumes' tag may have of it, too. In memory alone. */
void store_log_pledge(struct store_log *log, uint64_t n_segments);
/* Of its class: removed segments that somebody reads still. */
uint64_t store_log_pending_bytes(struct store_log *log);
/* The n oldest are no more. Durable when it returns. */
int store_log_remove(struct store_log *log, unsigned n);

/* Those of these ids are no more, wherever they stand in a log of volumes: all of them, or none if it fails. n ≤
 * STORE_LOG_MAX_REMOVED. Durable when it returns. */
#define STORE_LOG_MAX_REMOVED 1024u
int store_log_remove_these(struct store_log *log, const uint64_t *ids, unsigned n);

/* What its journal is opened with; ops and owner are the caller's to fill in. */
void store_log_journal(struct store_log *log, struct journal_options *ret);
/* What the journal's part of one segment is read with, wherever it is: journal_scan_segment. */
void store_log_journal_of(struct store_log *log, const struct store_log_segment *seg, struct journal_options *ret);

/* ---- sealing ---- */

struct store_log_mark {
	uint32_t index, offset;
	uint64_t time;
};

struct store_log_footer {
	uint64_t segment_no, first_no, end_no, first_time, last_time;
	uint64_t lost_end; /* behind the last record that is lost (FORMAT_LOG_LOST); 0: none is */
	uint32_t end_bytes;
	uint32_t n_marks;
	uint32_t sums_crc; /* of the checksums of its pages; of no interest to seal */
	struct store_log_mark *marks; /* ascending; of the caller (seal), or owned by him (sealed) */
	uint32_t n_keys;              /* FORMAT_LOG_KEYS_UNLISTED: more than format_log_max_keys */
	uint32_t keys_crc;            /* sealed */
	const uint8_t *damaged;       /* seal: a bit a page: these were not what they should be when the log was opened, and get a wrong checksum. NULL: none */
};

struct store_log_key {
	uint64_t hash;
	uint32_t index; /* of a record in its segment */
};

/* bytes: segment_bytes of memory, what its journal has in it, zeros behind end_bytes. keys: n_keys of them, unless they are
 * unlisted. From then on it is an object. */
int store_log_seal(struct store_log *log, uint64_t id, const struct store_log_footer *footer, const uint8_t *bytes,
                   const struct store_log_key *keys);

/* Reads the footer of a segment, which is an object then. -ENODATA: it has none; -EBADMSG: one that is damaged. */
int store_log_sealed(struct store_log *log, uint64_t id, struct store_log_footer *ret);

/* Reads the n_keys of a sealed segment, which are listed, and not none. -EBADMSG: they are damaged. ret_keys: the caller's
 * to free. */
int store_log_read_keys(struct store_log *log, uint64_t id, const struct store_log_footer *footer,
                        struct store_log_key **ret_keys);

void store_log_settings(struct store_log *log, struct store_log_settings *ret);

/* ---- moving ---- */

/* A sealed segment gets another place, and another id: a copy in a class, which may be the log's own, is in the list where
 * it was. The old one is an object for those who hold it, as if it were removed. Durable when it returns; nothing changed
 * if it fails. At most 1 MiB of I/O at a time; `between` is called between such pieces, may wait, and ends the move
 * with a negative return. -EINVAL: it is there already; -EAGAIN: not sealed; -ENOENT: no such class; -ESTALE: it was removed,
 * even meanwhile; -ENOSPC; -EBADMSG: err says what of it is damaged. between and err may be NULL. */
int store_log_move(struct store_log *log, uint64_t id, unsigned class_no, int (*between)(void *arg), void *arg,
                   struct store_log_segment *ret, struct quire_error *err);

#endif
