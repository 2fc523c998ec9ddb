/* fill.h - fills: a run of pages on its way from a file or an object into the arena.
 *
 * Each loop that uses a cache has a filler: a fixed number of fills and I/O buffers, and a queue
 * of operations that wait for one. What waits is the caller's memory, so a million operations
 * outstanding cost the cache nothing.
 */
#ifndef CACHE_FILL_H
#define CACHE_FILL_H

#include "core.h"

#define FILLER_FILLS 512    /* of one loop, at most as many as its depth allows */
#define FILL_MAX_PAGES 64   /* in one read */

struct want;

struct fill {
	uint32_t id;            /* what the words of its pages hold; never changes */
	bool dup;               /* repeats a fill of another loop: owns no page */
	bool ahead;             /* of a stream's job (stream.h) */
	bool staged;            /* buf is the filler's staging: a unit of 2 MiB, to be moved */
	uint16_t n_pages;
	struct filler *filler;  /* borrowed: as long as the cache; NULL: of a fault handler */
	struct range *range;    /* referenced while under way */
	uint64_t page;          /* first */
	char *buf;              /* of the filler's pool, n_pages long */
	int result;             /* negative errno of page `n_good`, or 0 */
	bool from_copy;         /* not read: its page was on probation */
	bool from_chance;       /* that copy is of chance.h */
	bool promoted;          /* not read either: its page is in use (promote.h) */
	bool vague;             /* the error is of some page of the run: each is tried alone */
	uint64_t error_at;      /* where the read says that it failed, in bytes from `page`; 0: it does not say */
	uint16_t n_good;        /* pages that were installed */
	uint64_t epoch;         /* of chance.h, as a copy was fetched */
	uint64_t since_ns;      /* when it began; 0: it is not measured */
	uint64_t n_reads_before, n_copies_before; /* its filler's, then */
	uint32_t n_read_bytes;  /* that earlier reads have brought: some sources take several for a large unit */
	struct page_source source;
	struct source_read read;
	struct fill *next;      /* free, or arrived */
	pthread_mutex_t lock;
	struct want *waiters;   /* under lock, and only while a page's word names this fill */
};

/* The filler of a loop, made at first use. On the loop's thread. -ENOMEM. */
int filler_get(struct quire_cache *c, struct quire_loop *loop, struct filler **ret_filler);

/* Starts a fill of the page's unit, as far as it is absent, and of up to max_pages from `page` on that are absent too.
 * Words move to FILLING. 0; -EAGAIN: no fill, buffer or memory now, wait in the queue; -EBUSY: the page's word
 * changed, look again; else the page can't be filled. The filler's thread. */
#define FILL_ALONE 1u /* of the unit, this page only */
#define FILL_FORCE 2u /* take the memory, whatever the budget says */
#define FILL_WRITE 4u /* of anonymous ranges: what comes is dirty */
int fill_start(struct filler *f, struct range *r, uint64_t page, unsigned max_pages, unsigned flags);

/* A page comes back from its copy (probation.h, chance.h), and unless FILL_ALONE, others of its unit do, as last of them it: there and
 * settled on return. fill: free, of the caller's, with a buffer of one page; r: referenced. 0; -ENOENT: there is no copy;
 * -EBUSY: look again; -EAGAIN as above. */
int fill_from_copies(struct fill *fill, struct range *r, uint64_t page, unsigned flags, const struct page_source *source);

/* Repeats the fill that another loop owns. 0; -EALREADY: a repeat is under way and will wake
 * who waits for the page; -EAGAIN, -EBUSY as above. The filler's thread. */
int fill_start_duplicate(struct filler *f, struct range *r, uint64_t page);

/* Waits for the fill that a word names: w is called on by want_continue. False: the page is not
 * being filled by it any more, look again. The home loop of w. */
bool fill_park(struct quire_cache *c, struct range *r, uint64_t page, uint32_t word, struct want *w);
/* Takes w back. False: it was taken off already, and its task is on the way. */
bool fill_unpark(struct fill *fill, struct want *w);

/* Operations without a fill or memory wait, faults before others, each in order. The filler's thread. */
void filler_enqueue(struct filler *f, struct want *w);
void filler_dequeue(struct filler *f, struct want *w);

/* True if the fill that a word names belongs to another loop (not to this one, nor to a fault
 * handler, which ends without help). */
bool fill_is_foreign(struct filler *f, uint32_t word);

/* True if the loop that is to end the fill that a word names is this thread's own. */
bool fill_is_of_this_thread(struct quire_cache *c, uint32_t word);

/* The pages of a fill are in buf, checked against the file: hooks, zeroes behind the end,
 * installs. Sets n_good and result: fewer good ones without an error if the item has grown. scratch: a
 * page. */
void fill_install(struct fill *fill, char *scratch);

/* Moves the words on, keeps the accounts, and returns the waiters that were parked, each with
 * its error. The fill may be used again; its range reference is the caller's to put. */
struct want *fill_settle(struct fill *fill);

/* The end of a repeat: who was first is of no account, but one that failed takes the page from
 * the fill that it repeats. */
void fill_settle_duplicate(struct range *r, uint64_t page, bool failed);

/* The owner has lengthened an item, and holds grow_lock: `page`, which it ended in, leaves, and no fill
 * that is under way brings it back as it was. 0; -EBUSY: it is pinned; -EAGAIN: not at once, to be
 * asked again after the lock was let go for a moment. Never on the service loop. */
int fill_outdate(struct range *r, uint64_t page);

/* Copies of [page, page + n) go, of both kinds, and those that are being made of what has left before will not come. */
void fill_drop_copies(struct range *r, uint64_t page, uint64_t n);

/* Claims `page`: ABSENT or POISONED → FILLING(id); charges frame and region. For fault handlers
 * and fill_start. Errors as fill_start. */
int fill_claim(struct range *r, uint64_t page, unsigned unit, uint32_t id, bool force);
/* The same with a frame that is charged already, and stays the caller's unless 0 is returned. */
int fill_claim_paid(struct range *r, uint64_t page, unsigned unit, uint32_t id, bool force);

/* Claims all n pages of a unit, ABSENT all of them, or none. -EAGAIN: the budget has no room for it; -EBUSY: they are
 * not all absent. */
int fill_claim_unit(struct range *r, uint64_t first, unsigned n, unsigned unit, struct fill *fill);

/* Claims what is absent of n pages from `first` on around `page`, which must be among them: a run without a gap.
 * Errors as fill_claim of `page`. */
int fill_claim_around(struct range *r, struct page_run *run, uint64_t page, unsigned unit, uint32_t id, bool force);

/* How the unit of a page comes: whole, if all of it lies in the item and can be moved there; else in parts, which
 * are units of their own. fill_parts: those that n pages from `page` on lie in, as far as the item goes. */
bool fill_comes_whole(const struct range *r, uint64_t page, const struct page_source *source);
struct page_run fill_parts(const struct range *r, uint64_t page, unsigned n, const struct page_source *source);

/* Lets s begin n pages before. */
void source_back(struct page_source *s, uint64_t n, unsigned page_shift);
struct fill *fill_of_word(struct quire_cache *c, uint32_t word);

/* Memory was given back: queues that starved look again. Any thread. */
void fillers_feed(struct quire_cache *c);
/* Every queue looks again (a range is dying). Any thread. */
void fillers_kick(struct quire_cache *c);

#endif
