/* check_log_internal.h - a log under a check. For src/store/check_log*.c alone. */
#ifndef STORE_CHECK_LOG_INTERNAL_H
#define STORE_CHECK_LOG_INTERNAL_H

#include "check_internal.h"

struct check_segment {
	uint64_t id, offset;
	unsigned class_no;
	bool sealed;        /* by what its owner knows, or by its footer */
	bool told;          /* that its footer is damaged; of a log of volumes: its owner knows that it has one */
	/* Of a log of volumes, while it is not sealed: */
	int footer_error;   /* -ENODATA: it has none; else it has had one */
	int header_error;   /* 0: it says `no` */
	bool begun;         /* with a number behind those that are sealed */
	bool ended;         /* it was begun, and its footer is damaged */
	uint64_t no;
};

struct log_check {
	struct checking *c;
	struct store_log log;     /* a copy; of its store, id and settings alone, as it may be removed meanwhile */
	bool open;
	struct check_segment *segments; /* owned */
	unsigned n;
	unsigned first_open;      /* behind the last that has a footer */
	bool follows;             /* known is what follows it has: */
	uint64_t next_no, next_record;
	uint64_t sealed_end;      /* behind the newest that has a footer, or is before the last checkpoint's place */
	uint64_t from_id;         /* of the segment with that place; 0: there is no checkpoint */
	const struct check_segment *chain_from; /* where the chain was read from; NULL: it was not */
	const struct check_segment *at; /* that is read alone; NULL: the chain is */
	struct {
		const struct check_segment *seg; /* NULL: there are none */
		uint64_t first, n;
		uint32_t from, end;
		bool replaced;    /* on the medium */
	} lost;                   /* records, one behind the other, that were not told yet */
};

/* ---- check_logs.c ---- */

bool check_log_has(const struct log_check *l, const struct check_segment *seg); /* still */
bool check_log_is_open(struct log_check *l); /* or has been, since the check began: then there may be more than was listed */
/* Told, if the segment is still there: what there is no remedy for; and what its records have too, if they are whole. */
void check_log_found(struct log_check *l, int error, const struct check_segment *seg, uint64_t offset, const char *what);
void check_log_found_derived(struct log_check *l, int error, const struct check_segment *seg, uint64_t offset, const char *what);
const struct check_segment *check_log_segment_at(const struct log_check *l, uint64_t offset);
struct journal_options check_log_options(struct log_check *l);
uint64_t check_log_footer_offset(const struct log_check *l);
/* A segment by itself, its damaged records told: an outcome, and where, or a negative errno. */
int check_log_scan(struct log_check *l, const struct check_segment *seg, struct journal_recovery *ret);
/* The same of one that no footer's checksums stand for. 1: all are whole; 0: one is not, which was told; -ENOMEM, -ECANCELED. */
int check_log_records(struct log_check *l, const struct check_segment *seg);
/* From a segment on, as far as the log goes, as who opens it would read it. 1: it can't be read, which was told; 0: the caller closes the
 * journal. */
int check_log_read_chain(struct log_check *l, const struct check_segment *first, struct journal_recovery *r, struct journal **ret_journal);

/* ---- check_log_unsealed.c ---- */

/* Of a log of volumes, before anything else is looked at: which segments must be sealed, by the last checkpoint. */
int check_log_read_checkpoint(struct log_check *l);
/* Once the footers are known: all that has none. */
int check_log_unsealed(struct log_check *l);

/* ---- repair_footer.c ---- */

/* The footer of a segment of volumes is not there, or damaged: says so, with its remedy. */
int repair_footer(struct log_check *l, const struct check_segment *seg);

#endif
