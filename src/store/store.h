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

struct store;

/* The store's devices: opened by path in production, simulated in tests. */
struct store_media {
	/* NULL: the store has no such class, or (create) shall have none. Owned by the store after a
	 * successful call. */
	struct device *classes[STORE_N_CLASSES];
};

struct store_config {
	struct budget *budget;      /* borrowed: for index, space maps and checksum tables */
	struct quire_loop *service; /* borrowed: for plain threads */
	bool read_only;
	uint64_t seed;              /* 0: kernel randomness for UUID and salts; tests give their own */
};

int store_format(const struct store_media *media, const struct store_config *config, struct quire_error *err);
int store_open(const struct store_media *media, const struct store_config *config, struct store **ret_store,
               struct quire_error *err);
int store_close(struct store *s); /* -EBUSY; closes its devices */

int store_class_add(struct store *s, unsigned cls, struct device *device, struct quire_error *err);
int store_class_grow(struct store *s, unsigned cls, uint64_t bytes, struct quire_error *err);

/* ---- objects ---- */

struct object; /* an open object: one for all who use it, counted */

/* Begins an object of a class; its extents come as it is written, expected_bytes of them at once. */
int object_begin(struct store *s, unsigned cls, uint64_t expected_bytes, unsigned page_shift, uint64_t *ret_id);
int object_append(struct store *s, uint64_t id, const struct iovec *iov, unsigned n);
int object_abort(struct store *s, uint64_t id);

/* One transaction. Durable when it returns. */
int store_apply(struct store *s, const uint64_t *commit, unsigned n_commit, const uint64_t *remove,
                unsigned n_remove);

/* A committed object, for reading. -ESTALE; -EAGAIN: not committed. put may free the space of a deleted one (and
 * discard it, in the background). */
int object_get(struct store *s, uint64_t id, struct object **ret_object);
void object_put(struct object *o);
uint64_t object_bytes(const struct object *o);
uint64_t object_id(const struct object *o);
unsigned object_class(const struct object *o);

/* A verified read for a loop: as media_read is for plain files. done(0): all bytes are there and every page of them
 * matched its checksum (checksum pages are read as needed, cached under the budget). -EBADMSG: bad_offset tells
 * the first page that did not. offset: multiple of 4 KiB; len_bytes ≤ 1 MiB; an extent boundary inside is
 * the store's business. */
struct object_read {
	struct object *object;
	uint64_t offset;
	uint32_t len_bytes;
	void *buf;            /* page aligned, room for len_bytes rounded up to a page */
	int buffer_slot;
	void (*done)(struct object_read *read, int result);
	uint64_t bad_offset;
	uint64_t driver[48];
};
void object_read_start(struct quire_loop *loop, struct object_read *read);
/* On this thread, blocking, without memory of its own: for fault handlers. */
int object_read_now(struct object *o, uint64_t offset, uint32_t len_bytes, void *buf);

#endif
