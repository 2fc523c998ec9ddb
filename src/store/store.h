/* store.h - the store beneath its faces: classes, space, catalogue, transactions, objects.
 *
 * Public faces (quire_store_*, quire_blob_*, quire_mdc_*) are thin, in src/blob; maps read objects through
 * object_read. The budget and the service loop are handed in from above, since the cache stands above.
 *
 * Suspends/blocks: calls that do I/O are for coroutines and plain threads (media/device.h).
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "../base/budget.h"
#include "../journal/container.h"
#include "../media/device.h"

#define STORE_N_CLASSES 3

extern const char *const store_class_names[STORE_N_CLASSES]; /* of their files, too */

struct store;
struct quire_store;
struct quire_cache;

/* The public face's name for a store: it is the very struct. */
static inline struct store *store_inside(struct quire_store *s)
{
	return (struct store *)s;
}

static inline struct quire_store *store_public(struct store *s)
{
	return (struct quire_store *)s;
}

/* The store's devices: opened by path in production, simulated in tests. */
struct store_media {
	/* NULL: the store has no such class, or (format) shall have none. Owned by the store after a successful
	 * open; still the caller's after a format. */
	struct device *classes[STORE_N_CLASSES];
};

struct store_config {
	struct budget *budget;      /* borrowed: for index, space maps, buffers and checksum tables */
	struct quire_loop *service; /* borrowed: for plain threads, and background work */
	bool read_only;
	uint64_t seed;              /* 0: kernel randomness for UUID and salts; tests give their own, another for
	                             * each open */
	uint32_t segment_bytes;     /* format: of the catalogue; 0: by the size of `capacity` */
	struct quire_cache *cache;  /* borrowed: whose budget and loop those are; NULL: no cache's */
	void *face;                 /* borrowed: what an owner wants to find again by store_config_of */
	uint64_t compact_slack_bytes; /* the catalogue is compacted beyond twice its live size and this; 0: 4 segments */
};

/* As it was opened with. */
const struct store_config *store_config_of(const struct store *s);

/* -EINVAL: a class too small, or no capacity; -ENOSPC. All or nothing: what is on the devices is no store
 * before it returns 0. */
int store_format(const struct store_media *media, const struct store_config *config, struct quire_error *err);

/* -ENOENT: a class is missing; -EUCLEAN, -EBADMSG, -ENOTSUP, -ESTALE: see quire/store.h. A device of a class that the
 * store does not have is closed. Beside a writer (read_only): the last committed catalogue; objects that he
 * deletes later give -EBADMSG once their space is another's. */
int store_open(const struct store_media *media, const struct store_config *config, struct store **ret_store,
               struct quire_error *err);
int store_close(struct store *s); /* -EBUSY: objects or containers held, calls under way. Closes its devices */

/* Durable when they return. add: the device is the store's if it succeeds; -EEXIST. grow: bytes == 0: what the device
 * has; -EINVAL if smaller. compat: FORMAT_COMPAT_*, for who opens the class's device the next time. */
int store_class_add(struct store *s, unsigned cls, struct device *device, uint32_t compat, struct quire_error *err);
int store_class_grow(struct store *s, unsigned cls, uint64_t bytes, struct quire_error *err);

struct store_class_stat {
	bool present;
	uint64_t bytes, used_bytes, free_bytes; /* promised to objects being written: free still */
	uint64_t log_bytes;                     /* part of free: that a log of volumes may have; the rest is held, or promised */
	uint64_t pending_bytes;                 /* part of used: of removed objects that are held still */
	enum device_medium medium;
	enum device_durable durable;
	uint32_t granularity_bytes;
};
struct store_stat {
	uint8_t uuid[16];
	uint32_t format_version;
	uint64_t n_objects, n_open, n_uncommitted, n_containers;
	uint64_t catalogue_bytes, catalogue_used_bytes, catalogue_live_bytes;
	uint64_t n_transactions, n_compactions, n_checksum_errors; /* since open */
	uint64_t index_bytes, space_bytes, table_bytes;            /* of memory */
	struct store_class_stat classes[STORE_N_CLASSES];
};
void store_stat(struct store *s, struct store_stat *ret);

/* Until the space of all objects removed so far, and not held, is free. */
void store_settle(struct store *s);
int store_compact(struct store *s); /* the catalogue, due or not; for tests */
int store_error(struct store *s);   /* 0, or why there are no more transactions */

/* ---- objects ---- */

struct object; /* an open object: one for all who use it, counted */

/* Begins an object of a class; its extents come as it is written, expected_bytes of them at once. tag: the owner's
 * mark. -ENOENT: no such
 * class; -ENOSPC: what is expected is not there. */
int object_begin(struct store *s, unsigned cls, uint64_t expected_bytes, unsigned page_shift, uint8_t tag,
                 uint64_t *ret_id);
/* -ENOSPC, of the store's space: nothing of it was taken. Another failure spoils the object: it can be aborted. -EROFS:
 * committed; -ESTALE; -EBUSY: another append, or a transaction, has it. */
int object_append(struct store *s, uint64_t id, const struct iovec *iov, unsigned n);
int object_abort(struct store *s, uint64_t id);

/* One transaction. Durable when it returns 0. -EROFS, -ESTALE, -EBUSY, -EINVAL (one is named twice), -EMSGSIZE,
 * -EAGAIN (one to be removed is not committed), -ENOSPC: nothing happened. Another failure: store_error says
 * whether it is final; if it is, what became of the transaction shows after the next open. */
int store_apply(struct store *s, const uint64_t *commit, unsigned n_commit, const uint64_t *remove,
                unsigned n_remove);

/* A committed object, for reading. -ESTALE; -EAGAIN: not committed. put may free the space of a deleted one (and
 * discard it, in the background). get and put: any thread, never block. */
int object_get(struct store *s, uint64_t id, struct object **ret_object);
void object_put(struct object *o); /* NULL allowed */
uint64_t object_bytes(const struct object *o);
uint64_t object_id(const struct object *o);
unsigned object_class(const struct object *o);
unsigned object_page_shift(const struct object *o);

struct object_properties {
	uint64_t len_bytes, allocated_bytes;
	unsigned class_no, page_shift, n_extents;
	uint8_t tag;
	unsigned n_refs;
	bool committed;
};
int object_properties(struct store *s, uint64_t id, struct object_properties *ret); /* -ESTALE */
/* Ids of committed objects above `after`, ascending; how many. */
unsigned object_list(struct store *s, uint64_t after, uint64_t *ret_ids, unsigned n);
/* Only those of that tag: one look at each entry of the index. */
unsigned object_list_tagged(struct store *s, uint8_t tag, uint64_t after, uint64_t *ret_ids, unsigned n);
unsigned object_list_others(struct store *s, uint8_t tag, uint64_t after, uint64_t *ret_ids, unsigned n); /* and all but these */

/* A verified read for a loop: as media_read is for plain files. done(0): all bytes are there and every page of them
 * matched its checksum (checksum pages are read as needed, cached under the budget). -EBADMSG: bad_offset tells
 * the first page that did not. offset: multiple of 4 KiB; len_bytes ≤ 1 MiB; an extent boundary inside is
 * the store's business. -EINVAL: beyond the object's last page. */
#define OBJECT_READ_MAX_BYTES (1u << 20)
struct object_read {
	struct object *object;
	uint64_t offset;
	uint32_t len_bytes;
	void *buf;            /* page aligned, room for len_bytes rounded up to 4 KiB; zeros behind the object's end */
	int buffer_slot;
	bool independent;     /* waits for no other loop that reads the same checksums */
	void (*done)(struct object_read *read, int result);
	uint64_t bad_offset;
	uint64_t driver[48];
};
void object_read_start(struct quire_loop *loop, struct object_read *read);
/* The same, for whoever can wait; ret_bad_offset: NULL allowed. */
int object_read_wait(struct object *o, uint64_t offset, uint32_t len_bytes, void *buf, uint64_t *ret_bad_offset);
/* On this thread, blocking, without memory of its own: for fault handlers. */
int object_read_now(struct object *o, uint64_t offset, uint32_t len_bytes, void *buf);

/* ---- objects where they lie ---- */

/* True if its class is mapped, so that it is worth trying. */
bool object_is_mapped(const struct object *o);
/* Whole pages of an object in the mapping of its class (device_borrow), borrowed as long as the object is held: nobody writes
 * or discards there before. offset: multiple of 4 KiB; len_bytes is rounded up to pages. NULL: no mapping, not one piece, not
 * to be had now, or beyond the object: read it. Not verified. Any thread, no I/O. */
const void *object_borrow(const struct object *o, uint64_t offset, uint32_t len_bytes);
/* Holds pages, there or copied from there, against their checksums. -EBADMSG: ret_bad_offset tells the first page that does not
 * match; -EAGAIN: the checksums can't be had where they lie: read the object. Any thread, no I/O; bytes behind the object's end
 * in its last page are zeros. */
int object_verify(const struct object *o, uint64_t offset, uint32_t len_bytes, const void *bytes,
                  uint64_t *ret_bad_offset);

/* ---- scratch space ---- */

/* Space of a class that no record tells of: it is free when the store is opened again, whatever became of its owner. Extents of one
 * size, each in one piece. While there is one, store_close is -EBUSY. */
struct store_scratch;
int store_scratch_open(struct store *s, unsigned cls, uint32_t extent_bytes, uint64_t most_bytes,
                       struct store_scratch **ret); /* -ENOENT: no such class; most_bytes: that it may have; 0: the class */
void store_scratch_close(struct store_scratch *x);  /* with all its extents. NULL allowed */
/* Whoever takes or writes is alone between begin and end, which may suspend or block. -EDEADLK. */
int store_scratch_begin(struct store_scratch *x);
void store_scratch_end(struct store_scratch *x);
int store_scratch_take(struct store_scratch *x, uint64_t *ret_at); /* a byte offset in the class. -ENOSPC. May suspend or block */
void store_scratch_give(struct store_scratch *x, uint64_t at);     /* anybody; neither; nobody reads or writes there */
int store_scratch_write(struct store_scratch *x, uint64_t at, const void *buf, uint64_t n_bytes);
int store_scratch_read(struct store_scratch *x, uint64_t at, void *buf, uint64_t n_bytes); /* anybody */

/* ---- metadata containers ---- */

/* Made with all the space that it can ever have. Open: one at a time; the container is the caller's until
 * store_container_close, and used as journal/container.h says (records of JOURNAL_FIRST_TYPE or above). Opened
 * read-only, as always where the store is, nothing is written. -ESTALE: none of that id; -EBUSY. */
int store_container_create(struct store *s, unsigned cls, uint64_t capacity_bytes, uint64_t *ret_id);
int store_container_destroy(struct store *s, uint64_t id);
int store_container_open(struct store *s, uint64_t id, bool read_only, journal_record_fn fn, void *arg,
                         struct container **ret_container, struct quire_error *err);
int store_container_close(struct store *s, uint64_t id);

/* ---- check ---- */

/* What becomes of a finding when the store is repaired; or would, if it were. */
enum store_remedy {
	STORE_LOST,    /* nothing has it twice. What is damaged of it is an error, for reads and for nothing else */
	STORE_REBUILT, /* from what else there is */
	STORE_REOPEN,  /* a log's, which is made again by who opens that log to write; with n_bytes, records, which get a mark in their place */
};
enum store_repair { STORE_REPAIR_NO, STORE_REPAIR_PLAN, STORE_REPAIR_DO };

struct store_finding {
	int error;                /* as in quire/error.h */
	uint64_t id;              /* 0 where it is no object's */
	unsigned class_no;
	uint64_t offset;          /* in the class */
	const char *text;         /* borrowed: during the call */
	enum store_remedy remedy; /* LOST, if there is to be no repair */
	uint64_t from, n_bytes;   /* of the object, as far as they are lost; 0 bytes: it is not that simple */
};

struct store_check {
	bool structure_only; /* not the objects' bytes */
	/* PLAN: nothing is written. DO: of a store that is open to write; -EROFS. */
	enum store_repair repair;
	/* A finding: error as in quire/error.h; id: 0 where it is no object's; text: during the call. */
	void (*found)(void *arg, int error, uint64_t id, unsigned class_no, uint64_t offset, const char *text);
	void (*settled)(void *arg, const struct store_finding *finding); /* the same, with its remedy; after it was applied */
	/* After each piece that was read; non-zero ends the check with -ECANCELED. May suspend: for rate limits. */
	int (*progress)(void *arg, uint64_t done_bytes, uint64_t all_bytes);
	void *arg;
};
/* Before the first use of what a library may not know, which says by these bits (format.h) what it may do then: durable when it returns, and for
 * ever. Those of `capacity`. May wait. Errors of writing the superblock; -EROFS. */
int store_use_features(struct store *s, uint32_t ro_compat, uint32_t incompat);

/* Every structure and every checksum, while the store is in use. The number of findings, or a negative errno. What a repair does
 * stands in repair.c. */
int64_t store_check(struct store *s, const struct store_check *check);

#endif
