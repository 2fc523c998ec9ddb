/* stream.h - readers that go through a range in order, and what is read ahead of them.
 *
 * The first half is a range's: where its readers are expected next. The second is a filler's: which
 * of its fills nobody has asked for yet. See stream.c.
 */
#ifndef CACHE_STREAM_H
#define CACHE_STREAM_H

#include "../loop/loop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fill;
struct filler;
struct range;

#define STREAMS 8             /* of a range */
#define STREAM_CANDIDATES 64  /* a power of two */
#define STREAM_JOBS 8         /* of a filler */

/* What an owner says about a page's item; the values of enum quire_stream. */
enum stream_mode { STREAM_DETECT, STREAM_SEQUENTIAL, STREAM_RANDOM };

struct stream {
	uint64_t at;           /* pages before it have been asked for */
	uint64_t grow_at;      /* when the reader comes there the window doubles */
	uint64_t behind, done; /* SEQUENTIAL: pages from `behind` to `done` are to leave */
	uint64_t used;         /* the clock when the reader was last seen */
	uint32_t window;       /* pages to be ahead of the reader */
	uint32_t n_gone;       /* accesses since it grew or shrank that found a page gone */
	uint8_t unit;          /* enum unit_size, of his item */
};

struct streams {
	/* Where an access would begin that follows one seen before, and how many have followed
	 * one another: page << STREAM_RUN_BITS | run. Lossy. */
	_Atomic uint64_t candidates[STREAM_CANDIDATES];

	/* Of each stream: its reader is somewhere in [next, end], before `end` all is or will be read;
	 * who touches `mark` starts more. Changed under lock, looked at without. All 0: none. */
	_Atomic uint64_t next[STREAMS], end[STREAMS], mark[STREAMS];
	_Atomic unsigned n;    /* slots that were ever used */
	_Atomic bool advised;  /* some item is SEQUENTIAL */

	pthread_mutex_t lock;  /* a leaf */
	struct stream slots[STREAMS];
	uint64_t clock;

	struct loop_task task; /* to the service loop, with a reference to the range, */
	_Atomic bool posted;   /* while this is set */
};

void streams_init(struct streams *ss);
void streams_fini(struct streams *ss);

#define STREAM_FIRST 1u  /* the access begins here; else it has come to here */
#define STREAM_ABSENT 2u /* and the page was not there, nor on its way */

/* An access to n pages has found that `page`, which is one of them, is not resident. f: the filler of the loop whose turn
 * this is, after the page's own fill was started; NULL on other threads, fault handlers included. */
void stream_access(struct filler *f, struct range *r, uint64_t page, uint64_t n, unsigned flags);

/* A want meets a resident page for the first time since it came. Any thread. */
void stream_meet(struct range *r, struct streams *ss, uint64_t page);

/* The owner has changed its mind about pages of [page, page + n): what was detected there is forgotten. */
void stream_forget(struct streams *ss, uint64_t page, uint64_t n);

/* ---- a filler's part, on its loop's thread ---- */

struct stream_job {
	struct range *range; /* referenced */
	unsigned slot;
};

/* Invariant: there are jobs only while n_fills > 0, whose end goes on with them, or in stream_pump. */
struct stream_ahead {
	struct stream_job jobs[STREAM_JOBS];
	unsigned n_jobs;
	unsigned n_fills, n_pages, n_staged; /* under way that nobody has asked for; buffers and staging that they have */
	uint64_t launched_end;     /* where the filler's last fill ends, whoever asked for it */
	bool starting;
};

void stream_fill_launched(struct filler *f, struct fill *fill);
void stream_fill_ended(struct filler *f, struct fill *fill);
void stream_pump(struct filler *f); /* starts what there is room for */

#endif
