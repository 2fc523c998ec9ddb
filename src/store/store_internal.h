/* store_internal.h - a store from the inside; the essay on threads and locks is in store.c. For src/store alone. */
#ifndef STORE_STORE_INTERNAL_H
#define STORE_STORE_INTERNAL_H

#include "store.h"

#include "logs.h"

#include "extents.h"
#include "idmap.h"
#include "index.h"
#include "latch.h"
#include "freemap.h"
#include "superblock.h"
#include "table.h"

#include <pthread.h>
#include <stdatomic.h>

#define STORE_N_DISCARDS 4u    /* under way at once */
#define STORE_N_RECLAIMED 256u /* extents given back in one go */

struct store_class {
	struct device *device; /* owned; NULL: no such class */
	struct superblock superblock;
	int copies[SUPERBLOCK_COPIES]; /* what was found of each at open */
	struct freemap space;            /* s->lock */
	uint64_t n_pending;            /* units of deleted objects that are open still; s->lock */
	struct flusher flusher;
	struct {
		uint64_t next, end;
		bool preparing;
	} zone;                        /* zone.c; s->lock */
};

/* Space of a removed object on its way back. */
struct reclaim {
	struct reclaim *next;
	unsigned class_no, n;
	uint64_t log; /* whose segment it was; 0: no log's */
	struct extent extents[];
};

struct reclaimer {
	struct wait_queue waits;        /* its lock guards what follows; taken without s->lock */
	struct reclaim *first, **last;  /* owned; oldest first */
	bool running;
	uint64_t n_rounds;              /* finished */
	struct loop_task task;
	struct extent batch[STORE_N_RECLAIMED];
	unsigned class_no, n, n_started, n_done;
	struct discard {
		struct device_io io;
		struct reclaimer *reclaimer;
	} discards[STORE_N_DISCARDS];
};

/* An object being written. */
struct writer {
	struct idmap_node node;   /* s->writers */
	struct store *store;      /* borrowed */
	unsigned class_no, page_shift;
	uint8_t tag;
	bool busy;                /* s->lock: an append or a transaction has it; what follows is its alone then */
	int error;                /* a write failed: only abort is left */
	bool dirty;               /* written to since the last flush that was waited for */
	uint64_t len_bytes;
	uint64_t n_flushed;       /* pages on the medium, or on their way; the buffer begins behind them */
	uint8_t *buffer;          /* owned; device memory */
	uint32_t buffer_bytes, fill;
	struct extent_list extents;
	uint64_t n_promised;      /* units, while it is small */
	bool placed;              /* by place.c: small, but for its extents */
	uint32_t *sums;           /* owned; of the group that n_flushed is in */
	uint32_t sum;             /* of the page of an object of one page; once finished */
};

/* A committed object that somebody holds. */
struct object {
	struct idmap_node node;   /* s->objects, until it is deleted */
	struct store *store;      /* borrowed */
	unsigned n_refs;          /* s->lock */
	unsigned class_no, page_shift;
	uint32_t sum;
	uint64_t sums_unit;       /* of a log's segment: where its pages of checksums begin, all behind its pages; else 0 */
	uint64_t len_bytes, n_pages;
	struct reclaim *reclaim;  /* owned: deleted; what to do with the last put. s->lock */
	struct object *next_deleted, **link_deleted; /* s->lock */
	unsigned n_extents;
	struct extent extents[];
};

struct store_container {
	struct idmap_node node;   /* s->containers */
	unsigned class_no;
	uint64_t capacity_bytes;
	uint32_t segment_bytes;
	struct extent_list extents;
	uint8_t *used;            /* owned; of its segments, while it is open */
	struct container *container; /* owned; NULL: not open */
	struct store *store;
	bool busy;                /* being opened, made or destroyed; s->lock */
};

/* An extent of scratch space. */
struct scratch_extent {
	struct idmap_node node;   /* its owner's; by its first unit */
	struct reclaim *reclaim;  /* owned: for when it goes back, and there may be no memory */
};

struct store_scratch {
	struct store *store;      /* borrowed */
	struct store_scratch *next, **link; /* of the store's; s->lock */
	unsigned class_no;
	uint32_t n_units;         /* of an extent */
	uint64_t most_bytes;
	struct idmap extents;     /* s->lock */
	struct latch latch;
};

struct store_log;

/* A segment of a log: space, and, once it is sealed, what an object can be made of. */
struct store_log_extent {
	struct idmap_node node;   /* s->log_segments; by the object's id */
	struct store_log *log;
	unsigned class_no;        /* the log's own, unless it was moved */
	uint64_t start;           /* unit */
	uint64_t len_bytes;       /* sealed: of the object; else 0 */
	bool leaves;              /* it is among those that are about to be removed */
};

struct store_log {
	struct idmap_node node;   /* s->logs */
	struct store *store;
	struct store_log_settings settings;
	struct store_log_extent **segments; /* owned, and each; oldest first; s->lock */
	unsigned n, capacity;
	bool open, busy;          /* s->lock */
	struct latch latch;       /* one change of its segments at a time; the store's is taken inside it */
};

struct store {
	struct store_config config;
	uint8_t uuid[16];
	uint64_t random;          /* state of the deterministic numbers; 0: the kernel's; s->lock */
	struct store_class classes[STORE_N_CLASSES];

	pthread_mutex_t lock;     /* for a moment, never over I/O; a leaf but for the budget */
	struct index index;
	struct idmap writers, objects, containers, logs, log_segments;
	struct object *deleted;   /* open still */
	struct store_scratch *scratch; /* open */
	uint64_t next_id, id_limit;
	uint64_t n_ops;           /* calls under way */
	uint64_t charged_bytes;   /* to the budget, for index and space */

	struct latch latch;       /* the catalogue's; see store.c */
	struct latch ids;
	struct container *catalogue; /* owned */
	uint32_t segment_bytes;
	uint64_t live_bytes;      /* of records that a compaction would write; s->lock */
	uint64_t *pool;           /* owned: segments for a compaction; the latch, exclusive */
	uint64_t n_pool;
	bool compacting;          /* s->lock */
	bool racing;              /* race.c; s->lock */
	uint64_t unproven;        /* a raced object of which nobody knows whether it is; 0: none. Stands still from the opening on */
	_Atomic int failed;       /* why there are no more transactions, if it is not the catalogue's doing */
	_Atomic bool unsealed;    /* appended to since it was opened */
	_Atomic uint64_t n_transactions, n_compactions, n_checksum_errors, n_writing;
	struct reclaimer reclaimer;
	struct table_cache tables;
};

static inline void store_lock(struct store *s)
{
	pthread_mutex_lock(&s->lock);
}

static inline void store_unlock(struct store *s)
{
	pthread_mutex_unlock(&s->lock);
}

/* ---- store.c ---- */

uint64_t store_random(struct store *s); /* nonzero if config.seed is; else 0: take the kernel's */
void store_charge_locked(struct store *s); /* index and space, as they are now */
int store_enter(struct store *s);       /* one more call under way: 0, -EROFS for a store that is read only */
void store_leave(struct store *s);

/* ---- classes.c ---- */

int store_note_features(struct store *s, uint32_t ro_compat, uint32_t incompat); /* see store_use_features; the latch is excluded */

/* ---- allocate.c: space, waiting for what is on its way back ---- */

/* As freemap_alloc. May suspend. */
int store_alloc(struct store *s, unsigned class_no, uint64_t want, uint64_t align, unsigned flags,
                uint64_t *ret_start, uint64_t *ret_n);
/* Until list has n_units more. -ENOSPC: nothing is kept. */
int store_alloc_list(struct store *s, unsigned class_no, uint64_t n_units, unsigned flags,
                     struct extent_list *list);
void store_give_locked(struct store *s, unsigned class_no, uint64_t start, uint64_t n);
void store_give_list_locked(struct store *s, unsigned class_no, struct extent_list *list, uint64_t n_left);
int store_promise(struct store *s, unsigned class_no, uint64_t n_units, unsigned flags);
int store_zero(struct device *d, uint64_t offset, uint64_t len_bytes);

/* ---- reclaim.c ---- */

void reclaimer_init(struct store *s);
void reclaimer_fini(struct store *s);
void reclaim_enqueue(struct store *s, struct reclaim *r); /* takes it; s->lock not held */
uint64_t reclaim_n_rounds(struct store *s);
/* Until a round ends behind the first n_rounds, which were counted before the caller looked for space: one that ended
 * since is not waited for. False: none is running, and none ended: what was not there is not to come. */
bool reclaim_wait_round(struct store *s, uint64_t n_rounds);
void reclaim_settle(struct store *s); /* until all of it has come back */

/* ---- catalogue.c, replay.c, compact.c ---- */

int catalogue_create(struct store *s, struct quire_error *err);
int catalogue_open(struct store *s, struct quire_error *err);
/* Durable when it returns. The latch is shared by the caller. -ENOSPC, -EMSGSIZE: nothing was done. */
int catalogue_append(struct store *s, uint16_t type, const void *payload, uint32_t len_bytes);
int catalogue_error(struct store *s); /* 0, or why there are no more transactions */
/* One record more: with it there, damage of those before can't be taken for a tail that a crash has torn, and all
 * raced pages are known to be there. For a close; failing is no harm. */
void catalogue_seal(struct store *s);
void catalogue_account_locked(struct store *s);
void catalogue_compact_if_due(struct store *s);
int catalogue_compact(struct store *s);
int next_id(struct store *s, uint64_t *ret_id);

/* ---- record.c ---- */

static inline uint64_t record_object_bytes(unsigned n_extents)
{
	return sizeof(struct object_le) + n_extents * sizeof(struct extent_le);
}

/* What an object takes of a compacted catalogue, about. */
static inline uint64_t record_live_bytes(unsigned n_extents)
{
	return record_object_bytes(n_extents) + 8;
}

uint8_t *record_put_object(uint8_t *at, const struct index_entry *e);
uint8_t *record_put_container(uint8_t *at, const struct store_container *c);
uint8_t *record_put_transaction(uint8_t *at, uint32_t n_objects, uint32_t n_removed);
uint8_t *record_put_id(uint8_t *at, uint64_t id);
uint8_t *record_put_log(uint8_t *at, const struct store_log *log, unsigned n_segments);
uint8_t *record_put_log_change(uint8_t *at, uint64_t log_id, uint32_t n_added, uint32_t n_removed);
uint8_t *record_put_log_segment(uint8_t *at, const struct store_log_extent *e);
uint8_t *record_put_log_moved(uint8_t *at, uint64_t log_id, uint64_t old_id, const struct store_log_extent *e);

/* ---- writer.c ---- */

#define WRITER_SMALL_BYTES 65536u /* is kept in memory until it is committed */

void writer_destroy_locked(struct writer *w); /* its space goes back */
int writer_finish(struct writer *w);          /* all but a small one's bytes to the medium */
int writer_write(struct writer *w, const void *buf, uint64_t unit, uint64_t n_units); /* at a unit of it */
static inline bool writer_is_small(const struct writer *w)
{
	return w->extents.n == 0;
}

/* ---- zone.c ---- */

/* n promised units where a durable write is quick. Otherwise (any error): get them as usual. May suspend. */
int zone_alloc(struct store *s, unsigned class_no, uint64_t n_units, uint64_t *ret_start);

/* ---- race.c ---- */

bool race_begin(struct store *s, const struct writer *w); /* true: race_end is due */
void race_end(struct store *s);
int race_place(struct writer *w);                         /* any error: not here, go the usual way */
int race_run(struct writer *w, const void *record, uint32_t len_bytes); /* the latch is shared */
int race_recover(struct store *s, uint64_t id, struct quire_error *err); /* id: of the last raced record, 0: none */

/* ---- place.c ---- */

/* Finds room for the small ones among the writers, all of one class, and writes them. durable: at once, if it can be done
 * in one write; what is not written durably is left `dirty`. */
int place_small(struct store *s, unsigned class_no, struct writer **writers, unsigned n, bool durable);
void place_undo_locked(struct writer *w); /* it is small again */

/* ---- object.c ---- */

/* The object is no more: takes r if somebody holds it, until he lets go. */
bool object_delete_locked(struct store *s, uint64_t id, struct reclaim *r);

/* Where a page of an object is, and a page of its checksums: units of the object. */
static inline uint64_t object_page_unit(const struct object *o, uint64_t page)
{
	return o->sums_unit != 0 ? page : format_page_unit(page);
}

static inline uint64_t object_sums_unit(const struct object *o, uint64_t group)
{
	return o->sums_unit != 0 ? o->sums_unit + group : format_sums_unit(o->n_pages, group);
}

/* ---- logs.c, log_segments.c, log_seal.c ---- */

static inline uint32_t store_log_extent_units(const struct store_log *log)
{
	uint32_t bytes = log->settings.segment_bytes;

	return format_log_extent_units(bytes) + (log->settings.keys ? format_log_keys_units(bytes) : 0);
}

/* Those that are removed, and what is to become of their space. */
struct store_log_leaving {
	uint8_t *record;           /* owned */
	struct reclaim **reclaims; /* owned, and each that is not NULL */
	unsigned n;
};

int store_log_leaving_make(struct store_log *log, unsigned n, struct store_log_leaving *ret); /* free is due in any case */
void store_log_leave_locked(struct store_log *log, struct store_log_leaving *l); /* their removal is durable */
void store_log_reclaim_left(struct store *s, struct store_log_leaving *l);
void store_log_leaving_free(struct store_log_leaving *l);
int store_log_get_extent(struct store_log *log, unsigned class_no, struct store_log_extent **ret); /* which nobody knows of yet */
struct reclaim *store_log_make_reclaim(const struct store_log_extent *e); /* NULL: no memory */
void store_log_pop_locked(struct store_log *log);

#define STORE_LOG_LIVE_BYTES (sizeof(struct log_le) + 8)
#define STORE_LOG_SEGMENT_LIVE_BYTES (sizeof(struct log_segment_le) + 8)

/* Behind the last. Takes e; -ENOMEM: it is the caller's still. s->lock. */
int store_log_push_locked(struct store_log *log, struct store_log_extent *e);
void store_log_free_locked(struct store_log *log); /* and its segments; NULL allowed */

/* A sealed segment's marks and what is behind them, to the end of its extent: whether they are whole, and of that segment. */
int store_log_tail_decode(const struct store_log *log, const struct store_log_extent *e, const uint8_t *tail,
                          struct store_log_footer *ret);
/* They become another segment's, of the same bytes at another place. */
void store_log_tail_readdress(const struct store_log *log, const struct store_log_extent *to, uint32_t sums_crc,
                              uint8_t *tail);
/* Pages of checksums at `to`; returns the checksum of the checksums. */
uint32_t store_log_put_sums(uint64_t id, const uint32_t *sums, uint64_t n_pages, uint8_t *to);

static inline uint32_t store_log_tail_bytes(const struct store_log *log)
{
	uint32_t bytes = log->settings.segment_bytes;

	return (format_log_extent_units(bytes) - format_log_units(bytes) - format_log_sums_units(bytes)) * FORMAT_UNIT_BYTES;
}

/* Where the tail is, on the device. */
static inline uint64_t store_log_tail_at(const struct store_log *log, const struct store_log_extent *e)
{
	uint32_t bytes = log->settings.segment_bytes;

	return (e->start + format_log_units(bytes) + format_log_sums_units(bytes)) * FORMAT_UNIT_BYTES;
}

bool store_log_settings_name(const struct store_log_settings *settings); /* is one that it may have */
bool store_log_settings_are_valid(const struct store *s, const struct store_log_settings *settings);

/* ---- log_keys.c ---- */

struct store_log_list {
	uint8_t *bytes;   /* NULL: it is empty, and nowhere */
	uint64_t n_bytes; /* with zeros, whole units */
	uint32_t crc;     /* for the footer */
};

/* As it will be on the medium. ret->bytes: the caller's to free. */
int store_log_make_list(const struct store_log *log, const struct store_log_key *keys, uint32_t n, struct store_log_list *ret);
/* Durable when it returns. */
int store_log_write_list(struct store_log *log, const struct store_log_extent *e, const struct store_log_list *list);
/* As it is: a damaged list is one there as well. Not durable. By way of buf. */
int store_log_copy_keys(struct store_log *log, const struct store_log_extent *from, const struct store_log_extent *to,
                        const struct store_log_footer *f, void *buf, uint32_t buf_bytes);
/* Whether the list is whole, if there is one; as store_log_read_keys. */
int store_log_check_keys(struct store_log *log, uint64_t id, const struct store_log_footer *footer);

/* ---- container_face.c ---- */

void store_container_free(struct store_container *c);

#endif
