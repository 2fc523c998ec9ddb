/* tmem_internal.h - pools from the inside; the essay is in tmem.c. For src/tmem alone. */
#ifndef TMEM_TMEM_INTERNAL_H
#define TMEM_TMEM_INTERNAL_H

#include "codec.h"
#include "spans.h"
#include "../base/page_ring.h"
#include "../base/policy.h"
#include "../base/process_mark.h"

#include <pthread.h>
#include <quire/tmem.h>
#include <stdatomic.h>

/* ---- values: what the index says of a page ---- */

#define VALUE_SHARE 0x80000000u /* its low 30 bits: a share's number */
#define VALUE_SAME 0xc0000000u  /* a word's. Else: a place */
#define VALUE_KIND 0xc0000000u
#define VALUE_NO 0x3fffffffu

static inline bool value_is_share(uint32_t v)
{
	return (v & VALUE_KIND) == VALUE_SHARE;
}

static inline bool value_is_same(uint32_t v)
{
	return (v & VALUE_KIND) == VALUE_SAME;
}

/* A content that several pages refer to. */
struct share {
	uint32_t place;
	uint32_t refs;
	uint16_t pool; /* that is charged for it */
	uint16_t copied; /* the stamp of the copy that it was last handed out by */
};

/* A word that pages consist of. */
struct word {
	uint64_t word;
	uint32_t refs;
	uint32_t chain;
};

struct pool_counts {
	uint64_t n_puts, n_put_refused, n_gets, n_get_hits, n_flushed, n_evicted, n_damaged;
};

struct quire_tmem_pool {
	struct quire_tmem *tmem; /* borrowed */
	struct quire_tmem_pool_options o;
	uint16_t no;
	unsigned n_opens;
	bool gone;               /* but for contents that others share */
	bool hidden;             /* being made by somebody */
	uint32_t domain;         /* never 0 */
	uint32_t spans;          /* list; SPAN_NONE */
	struct policy *policy;   /* owned; of ephemeral ones, else NULL */
	uint64_t policy_bytes;   /* charged */
	struct page_ring ages;   /* owned; of one that spills: its pages, oldest first, see age.c */
	uint64_t age_bytes;      /* charged */
	uint64_t n_pages, n_contents, held_bytes; /* contents: that are charged to it */
	uint64_t spilled_bytes;  /* of them: in the backing */
	uint64_t most_spilled_bytes; /* with so many or more, no more go; UINT64_MAX: all may */
	struct pool_counts counts;
	uint8_t stamp;
	bool frozen;
	bool steered;            /* see room.c */
	_Atomic uint32_t twins_lately; /* see put.c; a hint, without the lock */
	struct quire_tmem_copy *copy; /* borrowed: under way; NULL */
	uint32_t first_stub, last_stub; /* places: pages that are remote, oldest first; PLACE_NONE */
	uint64_t n_stubs;
};

#define MOST_IDLE_WORKSPACES 9u /* a caller's, and one of each helper */

/* See recompress.c. */
struct recompressor {
	_Atomic uint32_t raw_bytes, unit_bytes; /* the most of any pool that wants it; 0: none wants it, or none zstd */
	_Atomic uint64_t room_bytes;            /* what it takes to do it */
	bool busy;               /* somebody is at it: what follows is his */
	struct packer *packer;   /* owned; NULL */
	uint32_t hand;           /* where to look next */
	uint32_t n_jobs, n_waiting; /* in this round: done; too warm yet */
	uint32_t n_vain;         /* rounds without a job */
	uint64_t n_events, rest_until; /* contents that came, and puts it would have been for; before so many it isn't worth looking again */
	uint64_t n_repacked;
	uint32_t last_serial;
};

struct quire_tmem {
	struct process_mark process; /* a forked child has neither the contents nor the right to the lock */
	pthread_mutex_t lock;    /* guards all that follows; never held while a caller's memory is touched */
	struct budget *budget;   /* borrowed, or own_budget */
	struct budget own_budget;
	struct storage storage;
	struct spans spans;
	struct chains by_content; /* of places: contents that may be found again */
	struct records shares, words;
	struct chains by_word;
	struct quire_tmem_pool **pools; /* owned; NULL: a number that is free. Numbers from 1 */
	unsigned n_pools;
	uint32_t next_domain;
	uint64_t n_same, n_share_refs, n_contents, n_raw;
	uint64_t page_bytes, same_bytes, shared_bytes, unpacked_bytes; /* as put: all; of words; of shares but the first; of contents */
	uint64_t packed_bytes, slot_bytes;                             /* of contents */
	uint64_t repacked_bytes, tail_bytes;                           /* what they were longer before; what stands behind them */
	uint64_t n_moved;
	struct unpacker *unpackers; /* owned, idle ones; see unpack.c */
	uint32_t unpacker_bytes;    /* units up to this long can be unpacked */
	pthread_cond_t unpacker_back;
	struct recompressor recompressor;
	struct helpers *helpers; /* owned; NULL until a batch asks for them */
	unsigned n_threads;
	_Atomic(struct workspace *) workspaces[MOST_IDLE_WORKSPACES]; /* owned, idle ones; without the lock */
	struct spill *spill;     /* owned; NULL: there is no backing */
	struct remote *remote;   /* owned; NULL: there is no remote tier */
	uint16_t copy_stamp;
};

/* True in a forked child, whose calls are -ECHILD, or nothing. */
static inline bool tmem_is_of_parent(const struct quire_tmem *t)
{
	return process_mark_is_of_parent(&t->process);
}

/* ---- pool.c ---- */

void tmem_pool_free(struct quire_tmem_pool *pool); /* the lock held; nothing is in it, or all of the tmem goes */
/* The lock not held: a pool that nobody can open; then it is as if it were just created: -EEXIST, as of that. */
int tmem_pool_create_hidden(struct quire_tmem *t, const struct quire_tmem_pool_options *opts,
                            struct quire_tmem_pool **ret_pool, struct quire_error *err);
int tmem_pool_show(struct quire_tmem_pool *pool);

/* ---- tmem.c ---- */

struct workspace *tmem_get_workspace(struct quire_tmem *t, uint32_t page_bytes); /* NULL: no memory */
void tmem_put_workspace(struct quire_tmem *t, struct workspace *w);

/* ---- content.c; the lock held ---- */

/* What is to be kept of a page, found out without the lock. */
struct prepared {
	bool same;
	uint64_t word;
	enum slot_codec codec;
	const uint8_t *bytes; /* borrowed */
	uint32_t len, check;
	bool known;           /* to be found again by `hash` */
	uint32_t hash;
};

/* A content of that hash that the pool may share: its place. PLACE_NONE. */
uint32_t content_find(const struct quire_tmem *t, const struct quire_tmem_pool *pool, uint32_t hash);
/* Is it there still, to be found? */
bool content_is_known(const struct quire_tmem *t, uint32_t hash, uint32_t place);

/* A value for one page more; VALUE_NONE: no memory now. That of content_keep is to stay pinned until it is owned. */
uint32_t content_same(struct quire_tmem *t, struct quire_tmem_pool *pool, uint64_t word);
uint32_t content_share(struct quire_tmem *t, uint32_t place);
uint32_t content_keep(struct quire_tmem *t, struct quire_tmem_pool *pool, const struct prepared *p, bool resident_only);
/* Whose page it is; of a value of content_keep, once. */
void content_owned(struct quire_tmem *t, uint32_t value, uint32_t span, uint16_t low);
/* One page less. */
void content_release(struct quire_tmem *t, struct quire_tmem_pool *pool, uint32_t value);

/* The place where it lies; PLACE_NONE: it is a word, *ret_word. */
uint32_t content_place(const struct quire_tmem *t, uint32_t value, uint64_t *ret_word);

void content_moved(void *tmem, uint32_t from, uint32_t to); /* for storage_compact */
/* The content at `from` has its head in the slot at `to` from now on, and is away; `from` is freed, its head as it was. */
void content_leave(struct quire_tmem *t, uint32_t from, uint32_t to);
void content_init(struct quire_tmem *t);
void content_fini(struct quire_tmem *t);

/* The pool that a content belongs to, and is charged to. */
struct quire_tmem_pool *content_pool(const struct quire_tmem *t, const struct slot_head *h);
/* What lies at `place` is counted, or not any more. */
void content_count(struct quire_tmem *t, struct quire_tmem_pool *pool, uint32_t place, bool more);
/* It can't be found again from now on. */
void content_forget(struct quire_tmem *t, uint32_t place);
/* What was at `from` is at `to`, head and all. */
void content_relink(struct quire_tmem *t, uint32_t from, uint32_t to);

/* ---- unit.c; the lock held ---- */

static inline bool unit_is(const struct quire_tmem *t, uint32_t value)
{
	return (value & VALUE_SHARE) == 0 &&
	       ((const struct slot_head *)storage_at(&t->storage, value))->kind == SLOT_UNIT;
}

/* A page that is in it goes, or has become a content of its own. */
void unit_leave(struct quire_tmem *t, struct quire_tmem_pool *pool, uint32_t place, uint16_t low);
/* All its pages are known to be there. */
void unit_relink(struct quire_tmem *t, uint32_t place);

/* ---- unpack.c ---- */

/* What is to be unpacked, as it was told under the lock; pinned by whoever told it. */
struct packed {
	const struct slot_head *head; /* borrowed */
	enum slot_codec codec;        /* which shares a byte of the head with what changes */
	uint32_t unit_bytes, offset;  /* of a unit: unpacked, and where in that the page is; 0: it is the page alone */
	uint32_t serial;              /* likewise: which it is */
};

struct packed tmem_packed(const struct quire_tmem *t, const struct slot_head *h, uint16_t low);
bool tmem_packed_is_intact(const struct slot_head *h);
/* Without the lock; writes the page. False: damaged. */
bool tmem_unpack(struct quire_tmem *t, const struct packed *p, void *page, uint32_t n_bytes);
/* From now on units so long can be unpacked. False: no memory. */
bool tmem_unpackers_reserve(struct quire_tmem *t, uint32_t unit_bytes);
void tmem_unpackers_init(struct quire_tmem *t);
void tmem_unpackers_fini(struct quire_tmem *t);

/* ---- recompress.c ---- */

/* A put is about to be: is memory short, something is recompressed. Without the lock. */
void tmem_recompress_enter(struct quire_tmem_pool *pool); /* a new one; the lock held */
void tmem_recompress_pressed(struct quire_tmem_pool *pool);
/* Gives back what was kept to do more of it; the lock held. False: there was nothing. */
bool tmem_recompress_yield(struct quire_tmem *t);
void tmem_recompress_fini(struct quire_tmem *t);

/* ---- page.c; the lock held ---- */

struct where {
	uint32_t span;
	uint16_t low;
	uint32_t value; /* VALUE_NONE: not there */
};

struct where tmem_page_find(const struct quire_tmem_pool *pool, const struct quire_tmem_key *key);
/* 0; -ENOSPC: no memory now. The value is the page's then. */
int tmem_page_add(struct quire_tmem_pool *pool, const struct quire_tmem_key *key, uint32_t value);
void tmem_page_remove(struct quire_tmem_pool *pool, const struct where *at);

/* ---- evict.c; the lock held ---- */

/* Memory for whoever was refused some: compacts, or evicts. False: there is none to be had. */
bool tmem_evict_for(struct quire_tmem *t);
/* Down to the cap, with so many bytes more. False: persistent, or empty. */
bool tmem_evict_to_cap(struct quire_tmem_pool *pool, uint64_t more_bytes);
/* A page of an ephemeral pool. False: no memory, and it would never leave. */
bool tmem_evict_enter(struct quire_tmem_pool *pool, const struct where *at);
void tmem_evict_used(struct quire_tmem *t, uint32_t value);
uint64_t tmem_evict_policy_least(void); /* what of it is charged in any case, from the pool's creation on */
/* After pages have come or gone. */
void tmem_evict_tidy(struct quire_tmem_pool *pool);

/* ---- room.c; without the lock ---- */

/* Before a put into the pool: asks the owner of a borrowed budget for room, if the pool may have it. */
void tmem_make_room(struct quire_tmem_pool *pool);

/* ---- spill.c, spill_round.c: contents in the backing ---- */

/* Has some contents leave memory for that pool, which wants so many bytes more; the lock is released meanwhile, and it may block.
 * False: none have, or none may for that pool. */
bool tmem_spill_for(struct quire_tmem_pool *pool, uint64_t more_bytes);
bool tmem_spill_any(struct quire_tmem *t);  /* the same, for whoever wants memory; false also where it can't be waited for */
struct workspace *tmem_spill_for_workspace(struct quire_tmem_pool *pool); /* the lock not held; NULL: no memory */
void tmem_spill_tidy(struct quire_tmem *t); /* after pages have gone; the lock may be released meanwhile */
void tmem_spill_destroy(struct quire_tmem *t);
bool tmem_spill_takes(const struct quire_tmem *t, uint32_t page_bytes); /* pages of that size, if there is a backing */

/* Where the bytes of a content that is away are: there as long as they are pinned. */
struct away_from {
	uint64_t at;
	uint32_t segment;
	enum slot_codec codec;
};
struct away_bytes {
	uint8_t *buffer;      /* owned */
	const uint8_t *bytes; /* borrowed: in it */
	uint64_t n_charged;
};
struct away_from tmem_away_pin(struct quire_tmem *t, uint32_t place);
void tmem_away_unpin(struct quire_tmem *t, const struct away_from *from);
/* Without the lock; may block. Not checked. read_end is due in any case. */
int tmem_away_read(struct quire_tmem *t, const struct away_from *from, uint32_t len, struct away_bytes *ret);
void tmem_away_read_end(struct quire_tmem *t, struct away_bytes *bytes);

/* ---- remote.c: pages in a remote tier; the lock held, where not said otherwise ---- */

/* The page, which is to be evicted, is on its way there from now on: a stub is in its place. False: it isn't. */
bool tmem_remote_leave(struct quire_tmem_pool *pool, const struct where *at);
/* Evicts the oldest stubs: n of them, and what is more than their part of the pool. How many. */
unsigned tmem_remote_trim(struct quire_tmem_pool *pool, unsigned n);
bool tmem_is_stub(const struct quire_tmem *t, uint32_t value);
void tmem_stub_unlink(struct quire_tmem *t, struct quire_tmem_pool *pool, uint32_t place); /* it is dropped */
void tmem_stub_moved(struct quire_tmem *t, struct quire_tmem_pool *pool, uint32_t to);
void tmem_remote_spare_moved(struct quire_tmem *t, uint32_t no, uint32_t to);
void tmem_remote_tidy(struct quire_tmem *t);    /* makes ready for the next that leave, if there is memory */
void tmem_remote_destroy(struct quire_tmem *t); /* the lock not held */

/* ---- age.c: which pages of a pool that spills came first ---- */

int tmem_age_init(struct quire_tmem_pool *pool); /* not charged yet */
void tmem_age_fini(struct quire_tmem_pool *pool);
/* Before and after a page comes. False: no memory now. */
bool tmem_age_reserve(struct quire_tmem_pool *pool);
void tmem_age_enter(struct quire_tmem_pool *pool, const struct where *at);

/* ---- copy.c; the lock held ---- */

void tmem_copy_note(struct quire_tmem_pool *pool, uint32_t span, uint16_t low); /* that page came, or is about to go; a copy is under way */

/* ---- put.c, get.c: a call in parts, for batches ---- */

struct put {
	struct quire_tmem_pool *pool;
	const struct quire_tmem_key *key;
	struct prepared prepared;
	uint32_t twin;        /* pinned: a content that is equal; PLACE_NONE */
	int refused;          /* 0, or why */
	bool at_once;         /* it waits for nobody: see beside.c */
};

/* A put that is prepared is entered; the lock is held, but released while room is made. page and w as it was prepared with. */
int tmem_put_finish(struct put *p, const void *page, struct workspace *w);
int tmem_put(struct quire_tmem_pool *pool, const struct quire_tmem_key *key, const void *page, bool at_once); /* all of it */

struct get {
	struct quire_tmem_pool *pool;
	const struct quire_tmem_key *key; /* borrowed */
	uint32_t place;       /* pinned; PLACE_NONE: a word */
	struct packed packed; /* there, while it is pinned */
	uint64_t word;
	int64_t result;       /* once it is begun: 0, -ENOENT, -EBADMSG; at its end also -EAGAIN: once more, from the beginning */
	bool persistent, taken, away, take_away;
	struct away_from from; /* if it is away */
	bool remote;           /* it is a stub: what follows is its */
	uint64_t version;
	uint32_t len, check;
	enum slot_codec codec;
};

void tmem_get_begin(struct get *g, struct quire_tmem_pool *pool, const struct quire_tmem_key *key, enum quire_tmem_get how);
void tmem_get_copy(struct get *g, void *page); /* without the lock; writes the page */
void tmem_get_end(struct get *g);              /* with it */
/* The same in parts, of a content that is away. */
void tmem_spill_get_begin(struct get *g, bool take);
int tmem_spill_get_copy(struct get *g, void *page);
void tmem_spill_get_end(struct get *g);
/* Of a stub: it has no end. */
void tmem_remote_get_begin(struct get *g, bool take);
void tmem_remote_get_copy(struct get *g, void *page);

#endif
