/* volume_internal.h - a group of volumes from the inside; the essay is in group.c. For src/volume alone. */
#ifndef VOLUME_VOLUME_INTERNAL_H
#define VOLUME_VOLUME_INTERNAL_H

#include "base.h"
#include "head.h"
#include "map_tree.h"
#include "volume_format.h"

#include "../base/process_mark.h"
#include "../journal/wait.h"
#include "../loop/op.h"
#include "../store/idmap.h"
#include "../store/logs.h"

#include <quire/volume.h>

#define GROUP_MAX_UNSEALED 4u       /* full segments that wait to be sealed; more wait for them */
#define GROUP_MAX_WRITE_BLOCKS 256u /* of one request */
#define GROUP_LEFT_BYTES (512u << 10) /* of the class, for the store's catalogue and checkpoints */
#define NO_TREE 0u

/* ---- segments ---- */

/* Bytes of a segment in memory, as they are on the medium, or will be. */
struct image {
	unsigned refs; /* lock */
	bool used;      /* before: not all zeros behind what is written */
	uint8_t *damaged; /* owned: a bit a block; NULL: none is */
	uint8_t *bytes; /* owned mapping */
};
#define GROUP_KEPT_IMAGES 2u /* for the next segments, as their pages are there */

enum segment_state {
	SEGMENT_SPARE,  /* nothing in it */
	SEGMENT_LEAVING, /* such a one that goes back to the store */
	SEGMENT_NEXT,   /* the journal has it, for later */
	SEGMENT_OPEN,   /* in the chain; has an image */
	SEGMENT_SEALED, /* an object */
};

struct segment {
	struct idmap_node node;  /* by its number; OPEN and SEALED ones */
	uint64_t id, offset;
	enum segment_state state;
	struct image *image;     /* one reference; NULL: SPARE, SEALED */
	bool is_object;          /* the store knows its length */
	bool is_listed;          /* while the group is opened: the checkpoint says that it has that number */
	bool missed;             /* there was no memory for its image when a part of it was read: none is made of the rest */
	struct store_log_footer footer; /* OPEN, as far as it was walked */
	uint64_t emptied_for;    /* what was live in it was moved before that checkpoint, counted from 1, which will find it dead; 0: it was not */
	bool of_kept;            /* it was got out of what is kept for upkeep: what upkeep leaves of it is no writer's, until as much is kept again */
	bool has_moved;          /* of some of its blocks the tree of what was moved says where they are */
	int64_t n_live;          /* blocks that some tree has */
	int64_t n_live_frozen;   /* when the checkpoint that is being made began */
	int64_t n_merged;        /* what that has changed, so far */
};

/* ---- volumes and trees ---- */

/* What space is kept for; see promise.c. */
enum tree_promise {
	PROMISE_NONE,  /* a snapshot's */
	PROMISE_ZEROS, /* a volume's: for zeros that are no holes */
	PROMISE_ALL,   /* one of a volume that is reserved */
	PROMISE_GONE,  /* given up, and nobody's: its blocks are free as soon as that is written down */
};

struct tree {
	struct idmap_node node;
	uint32_t parent;      /* NO_TREE: none */
	bool given_up, has_root;
	uint64_t frozen;      /* generation; 0: it may be written to */
	struct map_root root;
	int64_t n_own, n_zero, n_data; /* blocks, as struct tree_le says; what was overwritten is out when it was merged, at the latest */
	enum tree_promise promise;
	bool is_needed, is_taken; /* while promises are counted: not given up, or an ancestor of such a one; while what was read is looked at: a volume's */
};

struct volume {
	struct idmap_node node;
	uint32_t tree, origin, flags;
	uint64_t size_bytes, generation, left_from, left_to;
	unsigned n_open;
	char name[VOLUME_NAME_BYTES];
};

/* ---- requests to the log ---- */

enum request_kind {
	REQUEST_DATA,   /* bytes for blocks of a volume */
	REQUEST_HOLE,
	REQUEST_ZERO,
	REQUEST_PAGES,  /* of trees; as many as a record has room for: n */
	REQUEST_MOVE,   /* bytes that are elsewhere already; arg: n_moves of struct move */
	REQUEST_CHANGE, /* of volumes and trees: `change` says what, when its turn has come */
	REQUEST_FREEZE, /* a checkpoint begins */
};

/* Blocks of a tree that get another place. Their birth stays. */
struct move {
	uint32_t tree;
	uint64_t lba, n, birth;
	bool first; /* as ENTRY_FIRST */
	bool *left; /* borrowed: set, if it was not moved, and may be there still in part */
};

/* What a request that waits for space knows of the worker's rounds (space.c). Zeros: it did not wait yet. */
struct hearing {
	bool begun;
	uint64_t n_news;
	uint64_t since; /* the round before the first that was in vain */
};

struct request {
	enum request_kind kind;
	struct quire_volumes *group;
	struct request *next;
	uint32_t volume;
	uint64_t lba, n;
	uint64_t n_done;           /* of these n: they are in records */
	const struct iovec *parts; /* n blocks in all; or pages */
	unsigned n_parts, n_moves;
	bool is_upkeep;            /* it may take the segments that are kept for what frees others */
	bool is_property;          /* beyond every size: property.h */
	bool unless_moved;         /* only if the block is still where it was: else -EAGAIN */
	struct map_extent was;
	uint64_t was_epoch;
	uint64_t growth;           /* blocks that the volume may have more then, for which no space is promised; of a change: that it promises */
	int (*change)(struct request *r, struct table_le *to); /* lock held; may set volume, lba and n: to be punched before it */
	void *arg;
	struct hearing heard;      /* kept by who tries again (-EAGAIN): his patience is one, however often the block moves */
	/* What came of it: */
	bool done;
	int result;
	uint64_t record_no, place; /* of the record that took it in; of its first block behind the head */
};

struct worker {
	void (*work)(struct quire_volumes *g);
	struct quire_volumes *group;
	struct loop_task task;
	bool runs, again;
};

enum group_wait {
	WAIT_APPENDED,   /* target: the request. It is done, or the caller is who appends now: 1 */
	WAIT_ROOM,       /* in the delta */
	WAIT_SEALS,      /* less than GROUP_MAX_UNSEALED are to be sealed */
	WAIT_SEALED,     /* none below that number is OPEN */
	WAIT_CHECKPOINT, /* that many were tried */
	WAIT_SPARE,      /* nobody prepares one */
	WAIT_SPACE,      /* target: news of space that are known */
	WAIT_IDLE,       /* no worker runs */
};

struct group_owner {
	struct map_owner base;
	struct quire_volumes *group; /* borrowed: it is part of it */
};

struct quire_volumes {
	struct store *store;      /* borrowed: not closed before */
	struct store_log *space;  /* borrowed: until store_log_close */
	uint64_t log_id;
	struct store_log_settings settings;
	struct journal *journal;  /* owned */
	struct map_cache *cache, *data; /* shared: pages of the map, blocks that were read; data NULL: none are kept */
	struct group_owner owner, moved_owner; /* of pages of trees; of that of what was moved */
	struct wait_queue waits;  /* its lock guards what follows; taken inside the journal's */
	struct process_mark process;
	bool read_only, closing, closed; /* closing: no more checkpoints; closed: no worker runs any more */
	uint32_t segment_blocks;

	struct idmap segments;    /* by number */
	struct segment **young;   /* owned: SPARE, NEXT and OPEN ones, as they came */
	unsigned n_young, young_capacity;
	struct image *kept_images[GROUP_KEPT_IMAGES]; /* owned; NULL: none */
	struct segment *at;       /* the newest that has a record */
	uint32_t at_offset;       /* behind the last one there */
	uint64_t next_no;         /* number of the next record of the log */
	struct head_before before; /* of those before the last one; who has the turn to append */
	struct head_last last;    /* the same */
	bool preparing;
	bool class_has_none;      /* no segment could be had when one was asked for: what is free is in pieces, or others' */
	bool releasing;           /* spares go back to the store: nobody gets new ones */

	struct idmap volumes, trees;
	struct volume_base *bases; /* owned */
	uint64_t generation;
	uint32_t next_id;

	struct map_delta active, frozen;
	struct map_delta touched; /* the checkpointer's alone: keys of pages that are to be written anew */
	uint64_t epoch;           /* checkpoints that changed roots */
	uint64_t checkpoint_bytes, appended_bytes; /* appended: since the last freeze */

	int64_t n_live;           /* of all segments */
	int64_t n_promised;       /* blocks, besides what is live: see promise.c */
	int64_t most_blocks;      /* that may be live or promised */
	uint64_t n_asked;         /* blocks: by a change that is under way, whose promise is not recorded */

	struct request *first_pending, *last_pending;
	unsigned n_pending;
	bool appending, upkeep_turn; /* upkeep_turn: what is appended now may take what is kept for it */
	bool space_wanted, somebody_waits; /* a writer was refused some, and waits; did when the worker's round began */
	uint64_t n_space_news, n_rounds, n_useful_rounds; /* see space.c; the last: number of the last one of use */
	uint64_t n_got;           /* segments that writers have got */
	uint64_t n_written, n_written_cleaned; /* blocks of writers; the same when some was cleaned last */
	unsigned n_emptied;       /* segments that the next checkpoint finds dead */
	unsigned n_left_spares;   /* that upkeep leaves, too */

	struct worker sealer, checkpointer;
	int seal_error, checkpoint_error;
	uint64_t n_checkpoints, n_tried, n_cleaned, n_moved;
	uint64_t checkpoint_id;   /* of the object; 0: none yet */
	struct checkpoint *checkpoint; /* that is being made */
	uint64_t chain_no;        /* the journal's first segment */
	uint64_t from_no, from_id; /* when it was opened: where records were read from; id 0: from the start */
	uint32_t from_offset;
	bool checkpointing, checkpoint_wanted;
	bool is_bare; /* the last checkpoint has no pages: deltas have blocks in segments before its place, which are not cleaned then */
	_Atomic uint64_t kicked_no;
	_Atomic unsigned n_calls;
};

static inline struct quire_volumes *group_of_waits(struct wait_queue *q)
{
	return (struct quire_volumes *)((char *)q - offsetof(struct quire_volumes, waits));
}

static inline void group_lock(struct quire_volumes *g)
{
	pthread_mutex_lock(&g->waits.lock);
}

/* Of one delta. Half of the map's memory is pages, a quarter each deltas: while one is merged, the other fills. */
static inline uint64_t group_delta_limit(const struct quire_volumes *g)
{
	return map_cache_share_bytes(g->cache) / 2;
}

static inline void group_unlock(struct quire_volumes *g) /* nobody's wait has become ready */
{
	pthread_mutex_unlock(&g->waits.lock);
}

void group_unlock_and_wake(struct quire_volumes *g);

/* What was moved is looked up in a tree whose own pages never are. */
static inline struct map_tree_env group_map(struct quire_volumes *g, uint32_t tree)
{
	return (struct map_tree_env){g->cache, tree == VOLUME_MOVED_TREE ? &g->moved_owner.base : &g->owner.base};
}

/* ---- group.c ---- */

void worker_kick(struct worker *w); /* lock held */
void group_moved(void *owner);      /* for the journal */

/* ---- segments.c; the lock held, where not said otherwise ---- */

struct segment *segment_new(struct quire_volumes *g, const struct store_log_segment *from); /* SPARE, young; NULL: no memory */
struct segment *segment_young_at(const struct quire_volumes *g, uint64_t offset);
struct segment *segment_find(const struct quire_volumes *g, uint64_t no);
int segment_need_image(struct quire_volumes *g, struct segment *seg);
void image_put(struct quire_volumes *g, struct image *image); /* NULL allowed */
void group_free_images(struct quire_volumes *g); /* that are kept */
int segment_bind(struct quire_volumes *g, struct segment *seg, uint64_t no); /* it is in the chain from now on. -ENOMEM, -EUCLEAN */
void segment_is_sealed(struct quire_volumes *g, struct segment *seg);        /* not young any more */
void segment_free(struct quire_volumes *g, struct segment *seg);             /* of no list */
int group_segment_get(void *owner, uint64_t *ret_offset); /* for the journal */
uint8_t *group_segment_memory(void *owner, uint64_t offset);
void group_seal(struct quire_volumes *g);                 /* what can be; in a coroutine, without the lock */
unsigned group_n_unsealed(const struct quire_volumes *g);
bool group_has_open_below(const struct quire_volumes *g, uint64_t no);

static inline uint64_t place_of(const struct quire_volumes *g, uint64_t segment_no, uint32_t offset)
{
	return (segment_no + 1) * g->segment_blocks + offset / MAP_BLOCK_BYTES;
}

uint64_t group_holds(const struct quire_volumes *g); /* blocks of one that is filled by cleaning; without the lock, too */
uint64_t group_most_live(const struct quire_volumes *g); /* blocks of a segment that is worth cleaning; without the lock, too */
void group_count_live(struct quire_volumes *g, uint64_t place, int64_t n_blocks);

void group_leave_place(struct quire_volumes *g, uint64_t place, uint64_t n_blocks); /* they were moved, as the tree of that says */

/* One block, from memory if it was read before. */
int group_read_cached(struct quire_volumes *g, uint64_t place, void *to);
/* Blocks of one segment into memory. to: any; -ESTALE: the segment is no more. Without the lock. */
int group_read_place(struct quire_volumes *g, uint64_t place, uint32_t n_blocks, void *to);
int group_read_page(struct map_owner *owner, uint64_t place, void *page);
int group_read_moved_page(struct map_owner *owner, uint64_t place, void *page);
unsigned group_n_spares(const struct quire_volumes *g);
bool group_has_spares(struct quire_volumes *g, uint64_t n); /* or gets them; without the lock */
/* One that is kept for upkeep goes back to the store, which needs it. False: there is none. Without the lock. */
bool group_release_spare(struct quire_volumes *g);

/* Of one that has an image: that block is not what was written. -ENOMEM. Lock held */
int segment_note_damage(struct quire_volumes *g, struct segment *seg, uint32_t block);
bool image_is_damaged(const struct image *image, uint32_t block, uint32_t n_blocks); /* lock held */
/* ---- promise.c; lock held, where not said otherwise ---- */

struct tree_dead {
	struct quire_volumes *g;
	struct tree *tree; /* NULL: that of what was moved, or one that is no more */
};
void tree_dead(void *arg, uint64_t place, uint64_t n_blocks); /* a map_dead_fn: what a delta of the tree has not any more */
void tree_count(struct quire_volumes *g, struct tree *t, int64_t n_own, int64_t n_zero, int64_t n_data);
void promise_count(struct quire_volumes *g);               /* anew: tables have changed */
uint64_t promise_of_volume(uint64_t size_bytes);           /* blocks for all of it, map included */
bool promise_has_room(const struct quire_volumes *g, uint64_t n_blocks); /* may so many more be live, or promised? */
void promise_settle(struct quire_volumes *g); /* how much may be promised, and what the store is to keep. Without the lock */
/* That is settled with so many blocks more, from now on, until they are promised, or are not: then n_asked is 0 again. -ENOSPC: there is no
 * room for them. Without the lock. */
int promise_ask(struct quire_volumes *g, uint64_t n_blocks);
/* r->growth, exactly; may wait; without the lock. */
int promise_measure(struct request *r);

/* ---- append.c ---- */

int group_append(struct request *r); /* may wait; r->result */
bool request_is_ready(struct quire_volumes *g, struct request *r, int *ret_result); /* for the group's waits */

/* ---- apply.c ---- */

/* What a record did, to the map: when it was appended, and when it is read again. Lock held. -ENOMEM, -EUCLEAN. */
int group_apply_data(struct quire_volumes *g, const uint8_t *head, uint64_t place);

/* ---- table.c; lock held ---- */

struct tree *tree_find(const struct quire_volumes *g, uint32_t id);
struct volume *volume_find(const struct quire_volumes *g, uint32_t id);
struct volume *volume_find_name(const struct quire_volumes *g, const char *name);
bool table_is_possible(const struct quire_volumes *g, const struct table_le *le); /* a change's: it has numbers left for what is new */
/* Records into the tables: what is new, other, or gone. */
int table_apply(struct quire_volumes *g, const struct table_le *le, uint32_t max_bytes);
bool table_is_sane(struct quire_volumes *g); /* once all was read */
int table_put_volume(struct quire_volumes *g, const struct volume_le *le); /* one of them */
int table_put_tree(struct quire_volumes *g, const struct tree_le *le, bool with_root);
void table_free(struct quire_volumes *g);
void tree_encode(const struct tree *t, struct tree_le *ret);
void volume_encode(const struct volume *v, struct volume_le *ret);
/* Behind what is in `to` already; it has room for a head. */
void table_add_volume(struct table_le *to, const struct volume *v);
void table_add_tree(struct table_le *to, const struct tree *t);

bool tree_has_children(const struct quire_volumes *g, uint32_t id);

/* ---- look.c ---- */

/* Where blocks are that lay at a place whose segment is no more: how many from there on are together. -ESTALE: nowhere. May wait; without
 * the lock. */
int group_find_moved(struct quire_volumes *g, uint64_t place, uint64_t n, uint64_t *ret_place, uint64_t *ret_n);

/* What a tree has at lba, up to end: of deltas and pages. *ret_epoch: of the roots that were used. May wait; without the lock. */
int group_look(struct quire_volumes *g, uint32_t tree, uint64_t lba, uint64_t end, uint64_t since, struct map_extent *ret,
               bool *ret_gap, uint64_t *ret_epoch);
/* What group_look said has led to a place that is gone: 0, it is to be asked again; -EUCLEAN: it would say the same. Without the lock. */
int group_look_again(struct quire_volumes *g, uint64_t epoch);
/* Of deltas alone. True: it is there, cut to [lba, end); else *ret_end is up to where it is not, and root what is to be looked into. Lock
 * held. */
bool group_look_young(const struct quire_volumes *g, uint32_t tree, uint64_t lba, uint64_t end, struct map_extent *ret,
                      uint64_t *ret_end, struct map_root *ret_root);

/* ---- checkpoint.c ---- */

struct kept_tree {
	struct tree t;
	bool out;
	bool has_heirs; /* children that are not doomed */
	bool doomed;    /* given up, and nobody's */
};
int kept_tree_order(const void *a, const void *b); /* by id; for qsort and bsearch */

struct checkpoint {
	struct quire_volumes *g;
	uint64_t segment_no, segment_id, generation, next_no;
	uint32_t offset, next_id;
	struct kept_tree *trees; /* owned; by id, so parents come before children */
	unsigned n_trees;
	uint8_t *volumes;        /* owned; as on the medium */
	unsigned n_volumes;
	struct kept_tree *work;  /* owned: what becomes of trees */
	struct map_delta unmoved; /* places of what was moved, and is dead */
	bool is_bare;            /* nothing was merged: it has the delta itself */
	int error;               /* of what can't tell it otherwise */
};

int checkpoint_begin(struct quire_volumes *g);  /* lock held: in the log's turn */
bool checkpoint_is_due(const struct quire_volumes *g); /* lock held */
void group_checkpoint(struct quire_volumes *g); /* the worker's; if it is due, or wanted */
void checkpoint_free(struct checkpoint *c);     /* NULL allowed */

/* ---- checkpoint_merge.c ---- */

int group_write_pages(struct map_owner *owner, const void *pages, unsigned n, uint64_t *ret_places);
void group_merge_dead(struct map_owner *owner, uint64_t place, uint64_t n_blocks);
int checkpoint_merge(struct checkpoint *c); /* into c->work */
uint64_t checkpoint_merge_segments(struct checkpoint *c); /* that it may take; 0: it writes nothing */

/* ---- checkpoint_file.c ---- */

/* As it is on the medium; NULL: no memory. Lock held. */
uint8_t *checkpoint_encode(const struct checkpoint *c, uint64_t *ret_bytes);

/* What a checkpoint's object has. bytes: owned by the caller. */
int checkpoint_load(struct quire_volumes *g, struct quire_error *err); /* tables, segments, checkpoint_id; -ENOENT: there is none */
int checkpoint_store(struct quire_volumes *g, const uint8_t *bytes, uint64_t len_bytes); /* replaces the one there is */

/* ---- open.c ---- */

int group_recover(struct quire_volumes *g, struct quire_error *err);

/* ---- change.c ---- */

struct change {
	const char *name, *other; /* borrowed */
	uint64_t size_bytes;
	uint32_t flags;
	bool again;               /* promote: there is more to do */
};
/* Durable. fn: as request.change, whose arg becomes the request's. */
int group_change(struct quire_volumes *g, int (*fn)(struct request *r, struct table_le *to), const void *arg);
int change_find_volume(struct quire_volumes *g, const char *name, struct volume *ret); /* -EINVAL: a snapshot; -ENOENT. Lock held */
void volume_set_name(struct volume *v, const char *name);

/* ---- call.c ---- */

struct volume_call {
	int64_t (*run)(struct volume_call *call); /* may wait */
	struct quire_volumes *group;
	struct quire_volume *handle;
	const struct iovec *iov;
	void *out;
	uint64_t offset, len_bytes;
	uint32_t n, flags;
	uint64_t arg;
};
static_assert(sizeof(struct volume_call) <= OP_DRIVER_WORDS * sizeof(uint64_t), "lies in an op");
/* op NULL: runs it here; else in a coroutine of the op's home. */
int64_t volume_call_start(const struct volume_call *call, struct quire_op *op);
int group_enter(struct quire_volumes *g); /* -ECHILD, -EDEADLK; group_leave is due */
/* True in a forked child, where not even the lock may be taken. */
static inline bool group_is_of_parent(const struct quire_volumes *g)
{
	return process_mark_is_of_parent(&g->process);
}
static inline void group_leave(struct quire_volumes *g)
{
	atomic_fetch_sub(&g->n_calls, 1);
}

/* ---- io.c ---- */

/* Waits for room in the delta, and if need be for space. *last_no becomes at least its record's, plus 1. */
int volume_submit(struct request *r, uint64_t *last_no);

/* ---- handle.c ---- */

uint32_t volume_tree(struct quire_volume *h);
int volume_check_range(struct quire_volume *h, uint64_t offset, uint64_t len_bytes); /* -EINVAL: beyond the end */

struct quire_volume {
	struct quire_volumes *group; /* borrowed */
	uint32_t id;
	bool read_only, durable;
	struct volume_base *base;    /* borrowed: as long as it is open; NULL: none */
	uint64_t base_bytes;         /* of it that show */
};

/* ---- io_read.c ---- */

struct cursor;
/* What shows of the base: len bytes, within what there is of it, to where c is. May wait. Errors as of volume_base_hold. */
int volume_read_base(const struct quire_volume *h, uint64_t offset, uint64_t len, struct cursor *c);

/* ---- status.c ---- */

/* Blocks that are alike. */
struct volume_part {
	uint64_t lba, n, birth; /* 0: never written */
	enum quire_volume_kind kind;
	bool of_base;
};
/* What there is from lba on, up to end; with since > 0, what is as old, or of the base, may be told as a hole. May wait. */
int volume_look(struct quire_volume *h, uint32_t tree, uint64_t lba, uint64_t end, uint64_t since, struct volume_part *ret);
uint64_t volume_shared(struct quire_volume *h, uint32_t tree); /* what was born then or before is its parent's, too */
bool volume_has_left(struct quire_volume *h, uint64_t since);  /* by a rollback */
/* Behind the n that there are, or as part of the last. False: there is no room. */
bool volume_add_extent(struct quire_volume_extent *ret, unsigned *n, unsigned max, const struct quire_volume_extent *x);

/* ---- diff.c ---- */

/* From which generation on two trees are not the same any more, each in what was born later. False: they have nothing in common.
 * UINT64_MAX: they are one. Lock held. */
bool tree_fork(const struct quire_volumes *g, uint32_t a, uint32_t b, uint64_t *ret_generation);

#endif
