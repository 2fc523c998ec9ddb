/* log_internal.h - a log from the inside; the essay is in log.c. For src/log alone. */
#ifndef LOG_LOG_INTERNAL_H
#define LOG_LOG_INTERNAL_H

#include "../base/process_mark.h"
#include "../cache/core.h"
#include "../cache/range.h"
#include "../journal/frame.h"
#include "../journal/wait.h"
#include "../loop/op.h"
#include "../store/latch.h"
#include "../store/logs.h"
#include "key_table.h"

#include <quire/log.h>
#include <unistd.h>

#define LOG_MAX_UNSEALED 4u           /* full segments that wait to be sealed; more wait for them */

struct log_record_le {
	uint64_t time_ns;
};
static_assert(sizeof(struct log_record_le) == 8, "layout");

static_assert(QUIRE_LOG_KEY_MAX == FORMAT_LOG_MAX_KEY_BYTES, "the same");

static inline bool log_is_record(uint16_t type) /* it has a number */
{
	return type == FORMAT_LOG_RECORD || type == FORMAT_LOG_KEYED_RECORD || type == FORMAT_LOG_LOST;
}

/* Bytes of a segment in memory, as they are on the medium, or will be; zeros behind them. */
struct log_image {
	struct quire_log *log; /* borrowed */
	unsigned refs;         /* log->waits.lock */
	uint8_t *bytes;        /* owned mapping; segment_bytes */
};

enum log_segment_state {
	SEGMENT_SPARE,  /* nothing in it */
	SEGMENT_NEXT,   /* the journal has it, for later */
	SEGMENT_OPEN,   /* in the chain; has an image */
	SEGMENT_SEALED, /* an object */
	SEGMENT_GONE,   /* of no log any more; somebody holds it */
};

struct log_segment {
	struct quire_log *log;   /* borrowed */
	uint64_t id, offset;
	unsigned class_no;       /* the log's, unless it was moved */
	unsigned refs;           /* the list's, and cursors'; waits.lock, which guards what follows */
	enum log_segment_state state;
	struct log_image *image; /* one reference; NULL: SPARE, SEALED, GONE */
	/* no and first_lsn: of OPEN ones. The rest: as far as it was walked; all of it once `ended`. */
	struct store_log_footer footer;
	uint32_t marks_capacity;
	bool known;              /* first_no is set */
	bool ended;              /* the walk has met the LINK */
	bool damaged;            /* SEALED: found so when it was to be moved */
	bool list_damaged;       /* SEALED: its list of keys was, when the log was opened; its records were read instead */
	bool missed;             /* there was no memory for its image when a part of it was read: none is made of the rest */
	struct range *range;     /* owned; made when it is first read through the cache */
	struct object *object;   /* owned, with the range */
	bool mapped;             /* with the range: its bytes may be read where they lie */
	_Atomic uint64_t bad_offset; /* where it was found damaged last, by a fill */
	struct log_segment *next_dead;
};

enum log_wait {
	WAIT_VISIBLE, /* target: lsn */
	WAIT_DURABLE,
	WAIT_IDLE,    /* the upkeep does not run; or it has made n_moves that many, if target is not 0 */
	WAIT_SPARE,   /* nobody prepares one */
	WAIT_MOVE,    /* nobody moves a segment */
	WAIT_SEALS,   /* less than LOG_MAX_UNSEALED are to be sealed, or the upkeep does not run */
};

/* Of the record lsn, which was taken in before it was durable: the last before it with its key's hash. */
struct log_key_note {
	uint64_t lsn, old;
};

/* Where the newest record with a key is; see keys.c. waits.lock guards it, but for what never changes. */
struct log_keys {
	uint8_t secret[STORE_LOG_SECRET_BYTES];
	uint64_t hash_mask;          /* all bits; less where a test wants hashes to collide */
	struct key_table table;
	uint64_t next_lsn;           /* those below it are taken in */
	struct log_segment *seg;     /* of next_lsn; NULL: it is the first of one */
	uint32_t offset;             /* in seg, whose header, or record before next_lsn, ends there */
	struct log_key_note *notes;  /* owned; ascending */
	size_t n_notes, notes_capacity;
	uint64_t damaged_end;        /* what is below may lack keys */
	uint64_t charged_bytes;
	unsigned sweep_next;
};

struct quire_log {
	struct store *store;      /* borrowed: not closed while logs are open */
	struct store_log *space;  /* borrowed: until store_log_close */
	struct quire_cache *cache; /* borrowed; NULL: sealed segments can't be read */
	struct quire_log_info info;
	struct process_mark process;
	bool read_only;
	struct journal *journal;  /* owned */
	struct wait_queue waits;  /* its lock guards what follows; taken inside the journal's */

	struct log_segment **segments; /* owned, one reference each; oldest first */
	unsigned n, capacity;
	struct log_segment *dead; /* to be freed by the upkeep */
	bool preparing, moving, upkeep_runs, upkeep_again, closing;
	int upkeep_error;
	uint64_t n_cursors, n_images, n_seals, n_recovered, index_bytes;
	uint64_t n_moves;         /* of segments to another class, by the upkeep, and what nobody held of them was freed */

	struct log_keys *keys;    /* owned; NULL: a log without */
	struct latch removal;     /* one at a time */
	struct loop_task upkeep_task;
	_Atomic bool has_waits;   /* somebody may wait for a watermark */
	_Atomic unsigned n_calls;
	_Atomic uint64_t first_lsn, last_time;
	_Atomic uint64_t seal_no; /* of the oldest segment that is not sealed */
	_Atomic uint64_t kicked_no; /* the last segment for which the upkeep was woken */
	bool direct;              /* sealed segments may be read where they lie */
	_Atomic uint64_t n_ram_reads, n_direct_reads, n_promoted;
};

static inline struct quire_log *log_of_waits(struct wait_queue *q)
{
	return (struct quire_log *)((char *)q - offsetof(struct quire_log, waits));
}

static inline void log_lock(struct quire_log *log)
{
	pthread_mutex_lock(&log->waits.lock);
}

static inline void log_unlock(struct quire_log *log) /* nobody's wait has become ready */
{
	pthread_mutex_unlock(&log->waits.lock);
}

void log_unlock_and_wake(struct quire_log *log);

/* True in a forked child. */
static inline bool log_is_of_parent(const struct quire_log *log)
{
	return process_mark_is_of_parent(&log->process);
}

/* True in a loop's callback, where nothing may wait. */
static inline bool log_would_block_loop(void)
{
	return quire_loop_self() != NULL && !quire_in_coroutine();
}

/* For calls that may wait: 0, -ECHILD, -EDEADLK. log_leave is due. */
int log_enter(struct quire_log *log);
static inline void log_leave(struct quire_log *log)
{
	atomic_fetch_sub(&log->n_calls, 1);
}

/* ---- segment.c; the lock held, where not said otherwise ---- */

/* A spare, and room for it in the list: the next to be added, which only one at a time does. */
int log_segment_new(struct quire_log *log, struct log_segment **ret); /* -ENOMEM */
void log_segment_add(struct log_segment *seg, const struct store_log_segment *from);
/* Its image is there. -ENOMEM. */
int log_segment_need_image(struct log_segment *seg);
void log_image_put(struct log_image *image); /* NULL allowed */
void log_segment_put(struct log_segment *seg); /* NULL allowed; the last one leaves it to the upkeep */
struct log_segment *log_segment_at(const struct quire_log *log, uint64_t offset); /* in the log's own class; NULL */

/* Goes on over its records up to end_lsn, or the LINK; UINT64_MAX: to the LINK, which is there. 0; -EUCLEAN:
 * what is there is no chain of records. */
int log_segment_walk(struct log_segment *seg, uint64_t end_lsn);

/* All that can be, for records below lsn, which are visible. */
int log_segment_walk_all(struct quire_log *log, uint64_t lsn);

/* The one that holds the record, which is visible: walked so far. -ESTALE: trimmed; -EUCLEAN. */
int log_segment_find(struct quire_log *log, uint64_t lsn, struct log_segment **ret);

/* The last mark at or before a record of a segment that was walked so far. */
const struct store_log_mark *log_segment_mark(const struct log_segment *seg, uint64_t lsn);

struct log_header {
	uint16_t type;
	uint32_t len_bytes; /* of the payload */
	uint32_t bytes;     /* of it all */
};
/* The record at `offset`, of which `at` are the first 32 bytes. -EUCLEAN: it ends behind end_bytes. Any thread, no lock. */
int log_header(const uint8_t *at, uint32_t offset, uint32_t end_bytes, struct log_header *ret);
/* Parts of a record's payload; not the lsn. -EBADMSG: it is lost; -EUCLEAN. */
int log_record_split(uint16_t type, const uint8_t *payload, uint32_t len_bytes, struct quire_log_record *ret);

/* ---- upkeep.c ---- */

void log_kick_upkeep(struct quire_log *log);    /* lock held */
int log_segment_get(void *owner, uint64_t *ret_offset); /* for the journal */
/* Seals a segment that has ended; in a coroutine or on a thread, without the lock. */
int log_seal(struct log_segment *seg);
void log_free_dead(struct quire_log *log);      /* the same */
int64_t log_remove_below(struct quire_log *log, uint64_t lsn);
/* Waits for the one that is under way, if there is one: then first_lsn is behind what it has removed. */
void log_removal_is_over(struct quire_log *log);
int64_t log_obey_retention(struct quire_log *log);

/* ---- destage.c ---- */

/* What the log's options demand: in the upkeep, which gives between a chance to do something else. 0 or the first error. */
int log_obey_destaging(struct quire_log *log, int (*between)(void *log));
bool log_destaging_is_due(const struct quire_log *log); /* lock held */

/* ---- view.c: a sealed segment through the cache; without the lock ---- */

int log_segment_open_range(struct log_segment *seg);   /* blocks for memory alone */
void log_segment_close_range(struct log_segment *seg); /* nothing of it is pinned */
/* Pins; may wait. unpin: exactly what was pinned. */
int log_segment_pin(struct log_segment *seg, uint32_t offset, uint32_t len_bytes, const uint8_t **ret);
void log_segment_unpin(struct log_segment *seg, uint32_t offset, uint32_t len_bytes);

bool log_segment_has_range(struct log_segment *seg);

/* ---- window.c: what a cursor holds of a sealed segment; without the lock ---- */

struct log_window {
	const uint8_t *bytes;  /* those of [from, end) of the segment; NULL: nothing is held */
	uint32_t from, end;
	uint32_t ahead_end;    /* if direct: up to where they are verified, though nobody has come there yet */
	bool direct;           /* where they lie; else pinned in RAM */
	uint64_t n_given;      /* records that were given of it, and not counted yet */
	uint64_t bad_offset;   /* after -EBADMSG: of the segment */
};

static inline const uint8_t *log_window_at(const struct log_window *w, uint32_t offset, uint32_t len_bytes)
{
	bool in = w->bytes != NULL && offset >= w->from && offset + len_bytes <= w->end;

	return in ? w->bytes + (offset - w->from) : NULL;
}

/* Moves it so that it holds these bytes; what it held before may be gone. -EAGAIN: that has to wait. -EBADMSG, -EIO, -ENOMEM. */
int log_window_hold(struct log_segment *seg, struct log_window *w, uint32_t offset, uint32_t len_bytes, bool may_wait);
void log_window_let_go(struct log_segment *seg, struct log_window *w);

/* ---- append.c, append_key.c ---- */

typedef int (*log_append_fn)(struct journal *j, uint16_t type, const struct iovec *parts, unsigned n, uint64_t *ret_no);
uint64_t log_stamp(struct quire_log *log); /* the time for a record */
int log_key_is_possible(const struct quire_log *log, size_t key_bytes); /* -ENOTSUP, -EINVAL */

/* ---- keys.c; in a log without keys they do nothing ---- */

int log_keys_new(struct quire_log *log);
void log_keys_free(struct quire_log *log);
/* While the log is opened: what a sealed segment's list has is put in, or what its records have. -ENOMEM alone, but for
 * errors of the caller. load_bytes: of what is read. hear: a journal_record_fn, for one that is read in any case; its arg: the log. */
int log_keys_load(struct log_segment *seg);
uint64_t log_keys_load_bytes(const struct log_segment *seg);
int log_keys_hear(void *arg, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes);

/* Records below lsn, which are visible, are taken in. Without the lock, like what follows. */
int log_keys_take(struct quire_log *log, uint64_t end_lsn);
/* What is to be listed of a segment that is being sealed, and its number in the footer; all of it is taken in then. */
int log_keys_list(struct log_segment *seg, const uint8_t *bytes, struct store_log_key **ret_keys);
void log_keys_trimmed(struct quire_log *log, uint64_t n_records);
/* The last record of the watermark that has a key of that key's hash, which need not be that key. -ENOENT, -EBADMSG, -ENOMEM;
 * errors of a walk. */
int log_keys_look_up(struct quire_log *log, enum quire_log_mark mark, const void *key, size_t key_bytes,
                     uint64_t *ret_lsn);

/* ---- call.c ---- */

struct log_call {
	int64_t (*run)(struct log_call *call); /* may wait */
	void (*refused)(struct log_call *call); /* it was accepted, and can't be run; NULL allowed */
	struct quire_log *log;
	const void *in;
	void *out;
	uint64_t n;
	const void *key;
	size_t key_bytes;
};
static_assert(sizeof(struct log_call) <= OP_DRIVER_WORDS * sizeof(uint64_t), "lies in an op");
/* Sees to log_is_of_parent. */

/* op NULL: runs it here; else in a coroutine of the op's home. */
int64_t log_call_start(const struct log_call *call, struct quire_op *op);

/* ---- append.c ---- */

/* With an op: after a try to take the record in at once, which gave rc and lsn. -EAGAIN: it has to wait, so the call is started. */
int log_append_go_on(const struct log_call *call, int rc, uint64_t lsn, struct quire_op *op);

/* ---- log.c ---- */

void log_free(struct quire_log *log); /* half built or whole; nothing under way */
bool log_ready(struct wait_queue *q, const struct wait *w, int *ret_result);
void log_moved(void *owner);

#endif
