/* scan.h - reads records as they are on the medium, segment after segment, and says what it found where
 * they end. What each end means: see scan.c. */
#ifndef JOURNAL_SCAN_H
#define JOURNAL_SCAN_H

#include "frame.h"

/* The segments of a log, oldest first. */
struct segment_list {
	uint64_t *offsets; /* owned */
	uint64_t n, capacity;
};
int segment_list_reserve(struct segment_list *list, uint64_t n_more); /* -ENOMEM */
int segment_list_add(struct segment_list *list, uint64_t offset);     /* -ENOMEM */
void segment_list_fini(struct segment_list *list);

/* Bytes that are to stand where a scan met damage, so that the next one does not: see salvage.c. */
struct scan_mend {
	struct frame_segment segment;
	uint32_t offset;                 /* 0: the segment's header, which is made of the above */
	uint32_t n_empty;                /* so many records without payload stand before it, the first of them as `empty` */
	struct frame_record empty;
	uint32_t len_bytes, n_zeros;     /* behind these */
	bool names_next;                 /* a NEXT of a segment that was not begun: it gets another salt */
	_Alignas(8) uint8_t bytes[FRAME_NEXT_BYTES];
};

/* What the header of a segment says that the owner knows. */
struct scan_known {
	struct frame_segment header;
	bool has_header, in_chain;
};

enum scan_asked { SCAN_NOT_ASKED, SCAN_IS_THERE, SCAN_IS_NOT };

struct scan {
	const struct journal_options *o; /* borrowed: as long as the scan */
	struct quire_error *err;         /* borrowed, or NULL */
	bool single;                     /* does not go beyond a LINK */

	struct frame_segment first;      /* where it began */
	struct frame_segment segment;    /* where we are */
	struct journal_place at;         /* of the next record; offset 0: the segment's header */
	uint32_t session;                /* of the record before, or of the segment's header */
	uint32_t proven;                 /* up to where a record says that the segment was durable */
	uint32_t proof_end;              /* up to where it is known to have been, since a place in it was damaged; UINT32_MAX: all of it */
	uint32_t group_proof;            /* the same, as far as records say so */
	struct {
		uint64_t segment;
		uint32_t proven, end;
	} before;                        /* the same of the segment before this one */
	struct frame_segment next;       /* named by a NEXT of this segment */
	bool next_known;
	struct frame_segment named;      /* elsewhere: what the NEXT says; salt 0: none was met */
	struct frame_segment next_header; /* what the one says itself that comes next */
	enum scan_asked next_header_is;
	enum scan_asked next_behind_is;  /* a NEXT behind damage of this segment: */
	uint32_t next_behind;            /* its place */
	struct scan_known *known;        /* owned: of each that the owner knows; NULL: nobody has asked */
	bool linked;                     /* single: a LINK was met */
	struct segment_list segments;    /* owned; next is not among them */
	uint64_t n_records, n_bytes;
	struct scan_mend *mends;         /* owned; in the chain's order */
	uint64_t n_mends, mends_capacity;
	uint64_t n_mended;               /* of them, of the journal's own */
	uint64_t mended_segment;         /* where the last of these is */
	uint32_t n_lost, lost_end;       /* records at s->at that are lost, and where the last one ends */
	bool link_lost;                  /* behind them the LINK is to be gone over */

	uint8_t *own_window;             /* owned; device memory */
	uint8_t *window;                 /* that, or in the owner's memory of the segment (segment_memory) */
	bool kept;                       /* the latter */
	uint32_t window_capacity, window_offset, window_len; /* part of the segment that it holds */
	struct device_reading ahead;     /* of what follows the window, into what follows it in memory */
	uint32_t ahead_len;              /* 0: nothing is under way */
	uint8_t *big;                    /* owned; a payload that no window holds */
	uint32_t big_capacity;
};

struct scan_record {
	struct journal_place at;
	uint16_t type;
	uint32_t len_bytes;
	const void *payload; /* until the next call */
};

/* Reads the header at `segment`. -EUCLEAN, -EBADMSG, -EIO, -ENOMEM. scan_fini is due in any case. */
int scan_init(struct scan *s, const struct journal_options *o, uint64_t segment, bool single,
              struct quire_error *err);
void scan_fini(struct scan *s);

/* Each record to fn, until the end or `end_no`. The outcome, or a negative errno (-EBADMSG for CORRUPT, err
 * filled). */
int scan_all(struct scan *s, uint64_t end_no, journal_record_fn fn, void *arg);

void scan_report(const struct scan *s, int outcome, struct journal_recovery *ret); /* ret may be NULL */

/* A log's options, and that of its first segment, are possible: 0, -EINVAL. */
int scan_check_options(const struct journal_options *o, uint64_t segment, struct quire_error *err);

/* ---- scan.c, for salvage.c ---- */

/* Is there anything of the life that NEXT announced? 1, 0, or a negative errno. */
int scan_next_was_begun(struct scan *s);
int scan_peek_header(struct scan *s, uint64_t segment, struct frame_segment *ret); /* 1; 0: there is none; or a negative errno */
/* One of the journal's own records. JOURNAL_VALID: go on. */
int scan_take_own(struct scan *s, uint16_t type, const void *payload);

/* ---- known.c, for scan.c and salvage.c; each is read where it is, so the window holds nothing of s->segment then ---- */

/* Does one of the known segments (journal_options.known) say that it comes behind s->segment? 1, 0, or a negative errno. */
int scan_later_is_known(struct scan *s);

/* The header of the segment that comes next: of the one that NEXT names, or the known one that says so. 1; 0: it has none, or nobody knows which it is;
 * or a negative errno. */
int scan_next_header(struct scan *s, struct frame_segment *ret);

/* Names, as s->next, the one that is the next by its header; or one that may be begun. JOURNAL_VALID; JOURNAL_CORRUPT: nobody knows; a negative errno. */
int scan_choose_next(struct scan *s);

void scan_known_entered(struct scan *s, uint64_t segment); /* it is in the chain from now on */

/* ---- salvage.c, for scan.c ---- */

/* A LINK was met, and which segment its NEXT named is not known: s->at is that NEXT's place then. -EBADMSG, err filled. */
int scan_fail_next(struct scan *s);

bool scan_is_in_chain(const struct scan *s, uint64_t segment); /* it was entered */
int scan_mend_header(struct scan *s); /* of s->segment. JOURNAL_VALID */

/* What is at s->at was durable, and is damaged: on, over it. JOURNAL_CORRUPT: that can't be. */
int scan_salvage(struct scan *s, struct scan_record *ret);
int scan_give_lost(struct scan *s, struct scan_record *ret); /* the next of s->n_lost, or over the LINK behind them */

/* ---- scan_window.c, for scan.c and salvage.c ---- */

/* The owner's memory of the segment, if what is read of it is to be kept; NULL. Of one that is only looked into, nothing is. */
uint8_t *scan_kept_memory(const struct scan *s, uint64_t segment);

/* The window begins with the block of `offset` of any segment; in `kept`, if that is not NULL. */
int scan_read_window(struct scan *s, uint64_t segment, uint32_t offset, uint8_t *kept);

/* Any segment's header is at s->window, which holds nothing of s->segment then. */
int scan_read_header(struct scan *s, uint64_t segment);

/* The window holds these bytes of s->segment; they fit into one. */
int scan_need(struct scan *s, uint32_t offset, uint64_t len_bytes);
static inline const uint8_t *scan_in_window(const struct scan *s, uint32_t offset)
{
	return s->window + (offset - s->window_offset);
}

/* Padded payload of the record at s->at. *ret: in the window, or gathered. */
int scan_payload(struct scan *s, uint32_t padded_bytes, const uint8_t **ret);

/* What is on its way is of no use any more. */
void scan_drop_ahead(struct scan *s);

#endif
