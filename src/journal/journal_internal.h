/* journal_internal.h - a journal from the inside. For src/journal alone. */
#ifndef JOURNAL_JOURNAL_INTERNAL_H
#define JOURNAL_JOURNAL_INTERNAL_H

#include "scan.h"
#include "wait.h"

/* What is submitted at once: a run of bytes of one segment, in memory that is a copy of them. */
struct group {
	uint8_t *memory;      /* owned; j->buffer_bytes of it, device memory */
	uint8_t *bytes;       /* from `base` on: in `memory`, or in the segment's: see journal_in_place */
	uint64_t segment;     /* offset on the device */
	uint64_t segment_no;
	uint32_t base;        /* offset in the segment of bytes[0]: a multiple of j->align */
	uint32_t capacity;    /* bytes from `base` on that it may take */
	uint32_t start, end;  /* of what is new, offsets in the segment */
	uint32_t group_start; /* of the records whose headers begin in it */
	uint64_t end_no;      /* once taken: records below are durable with it */
	unsigned n_filling;   /* appenders that copy into it */
};

/* The last record that was taken in: see extend.c. */
struct last_record {
	uint32_t offset;            /* in the segment; 0: it may not be made longer any more */
	struct frame_record header; /* as it was encoded */
};

enum journal_wait {
	WAIT_DURABLE, /* target: record number */
	WAIT_TURN,    /* takes it */
	WAIT_TAKEN,   /* target: n_taken is more */
	WAIT_SETTLED, /* target: offset in the present segment that is durable */
	WAIT_IDLE,    /* nothing is being written, or about to be */
};

struct journal {
	struct journal_options o;
	bool read_only;
	uint32_t buffer_bytes;        /* of a group's own memory */
	uint32_t long_bytes;          /* capacity of a long group */
	uint32_t align;               /* the device's: groups are written in multiples of it */
	struct wait_queue waits;      /* its lock guards what follows */

	struct frame_segment first;   /* still */
	struct frame_segment segment; /* that is appended to */
	struct frame_segment next;    /* has been got, and a NEXT names it */
	bool next_known, next_failed; /* failed: there was none when asked early */
	uint32_t next_settled;        /* end of the NEXT record */
	bool ending;                  /* the LINK is in the open group: the next one begins the next segment */
	struct segment_list segments; /* owned; `next` is not among them */

	struct {
		bool clear;               /* what follows the end in its block may be left of a record */
		uint32_t proven, session; /* as in struct scan, at the end */
		uint64_t before_segment;  /* the one before the last, and the same of it */
		uint32_t before_proven, before_end;
		struct scan_mend *mends;  /* owned */
		uint64_t n_mends;
	} found;                      /* when it was opened; for journal_go_on */

	uint64_t next_no;             /* of the next record */
	struct last_record last;      /* with whole_blocks */
	uint32_t session;
	bool session_begun;
	uint64_t random;              /* state of the deterministic numbers; 0: none */
	bool turn;                    /* somebody has it: see append.c */
	uint32_t partial;             /* offset of a record of which a part is in groups taken before; 0 */
	uint64_t used_bytes;

	struct group groups[2];
	unsigned open;                /* which of them takes records; the other is being written, or free */
	bool writing, scheduled, telling; /* telling: that a write is done; the journal may not go meanwhile */
	uint64_t n_taken;             /* groups submitted so far */
	uint32_t settled;             /* up to where `segment` is durable */
	_Atomic uint64_t n_durable;   /* records */
	_Atomic uint64_t n_visible;   /* records; all below are in `memory`, or in an earlier segment's */
	_Atomic uint64_t segment_durable;
	uint8_t *memory;              /* borrowed: of `segment`; NULL: its owner keeps none */
	_Atomic int error;

	struct quire_loop *loop;      /* that writes, or is about to */
	struct device_io io;
	struct loop_turn_hook hook;
	struct loop_task task, submit_task;
};

#define container_of_journal(ptr, member) ((struct journal *)((char *)(ptr)-offsetof(struct journal, member)))

static inline struct group *journal_open_group(struct journal *j)
{
	return &j->groups[j->open];
}

/* Groups lie in the segment's memory: what is written ends where the last record does, so nothing in it changes. */
static inline bool journal_in_place(const struct journal *j)
{
	return j->memory != NULL && (j->align <= FRAME_ALIGN || j->o.whole_blocks);
}

/* Such a group takes no memory, so it may be longer than a buffer. What is but copied has nothing of that. */
static inline bool journal_has_long_groups(const struct journal *j)
{
	return journal_in_place(j) && j->o.whole_blocks && j->o.device->now != DEVICE_NOW_COPIES;
}

/* The record at the tail is about to be appended. Its own are not made longer. */
static inline void journal_note_last(struct journal *j, const struct frame_record *r)
{
	if (!j->o.whole_blocks)
		return;
	j->last = (struct last_record){.offset = r->type < FRAME_FIRST_FOREIGN_TYPE ? 0 : journal_open_group(j)->end, .header = *r};
	j->last.header.ret_place = NULL;
}

/* ---- commit.c ---- */

bool journal_ready(struct wait_queue *q, const struct wait *w, int *ret_result);

/* Sees to it that the open group is submitted, if anybody waits for that. Lock held. */
void journal_kick(struct wait_queue *q);

/* Has the open group written, if that may be: the next one is open then, in the next segment if this one is ending. Lock
 * held. */
bool journal_push(struct journal *j);

/* Writes the open group on this thread, if that is but copying: true, and the lock, which was held, is not any more. The owner
 * was told. */
bool journal_commit_copying(struct journal *j);

void journal_commit_init(struct journal *j);

/* Makes `g` begin at `tail` of j->segment, or with its header. The bytes of tail's block that stand before it
 * are the caller's to fill in. */
void journal_group_begin(struct journal *j, struct group *g, uint32_t tail, bool with_header);

/* `segment` is another one: its memory, with its header in it (encoded at `header`, or NULL: it is there). */
void journal_begin_memory(struct journal *j, const void *header);

/* Tells the owner. Lock not held. */
void journal_moved(struct journal *j);

/* Unlocks, and completes whoever became ready. */
void journal_unlock(struct journal *j);

/* ---- mend.c ---- */

void journal_mend_memory(const struct journal *j); /* that of the owner */
/* The medium, durably; before anything is appended, and with the buffers of groups that have not begun. */
int journal_mend_medium(struct journal *j);

/* ---- append.c ---- */

/* At once, without the turn: so many bytes of a record go into the open group, which may be another one now. Lock held. */
bool journal_has_place(struct journal *j, uint64_t bytes);

/* A group that may become long is not waited for: what comes while it is written goes with the next. Lock held. */
void journal_push_long(struct journal *j);

/* journal_append, for any type that is not the journal's own. */
int journal_append_any(struct journal *j, uint16_t type, const struct iovec *parts, unsigned n,
                       uint64_t *ret_no);

/* ---- journal.c ---- */

/* Writes a block durably, and looks whether it is there: for headers that say whose life it is, since what was in
 * their place before may be a valid one too. spare: a block of device memory. -EIO: it is not. */
int journal_write_block(struct device *d, uint64_t offset, const void *block, void *spare);

/* Nonzero. */
uint32_t journal_random(struct journal *j);

#endif
