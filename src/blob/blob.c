/* blob.c - quire_blob_*: the store's objects. A read that is not aligned, or whose memory is not, goes through a
 * buffer; the rest of it goes where it shall be, and is verified there. */
#include "call.h"

#include <quire/blob.h>

#include "../store/format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES ((uint64_t)FORMAT_UNIT_BYTES)
#define MAX_READ_BYTES (UINT64_C(1) << 20) /* of object_read */

/* ---- written ---- */

int quire_blob_alloc(struct quire_store *store, const struct quire_blob_hints *hints, uint64_t *ret_id)
{
	struct store *s = store_inside(store);
	struct quire_blob_hints h = {0};

	if (hints != NULL) {
		if (hints->size == 0 || hints->size > sizeof(h))
			return -EINVAL;
		memcpy(&h, hints, hints->size);
	}
	if (h.page_shift != 0 && h.page_shift != 12 && h.page_shift != 14 && h.page_shift != 16 && h.page_shift != 21)
		return -EINVAL;
	if (face_of(s)->pid != getpid())
		return -ECHILD;
	if (call_would_block_loop())
		return -EDEADLK;
	return object_begin(s, (unsigned)h.cls, h.expected_bytes, h.page_shift, h.tag, ret_id);
}

static int64_t run_write(struct call *c)
{
	return object_append(c->store, c->id, c->io.iov, c->io.n);
}

int quire_blob_write(struct quire_store *store, uint64_t id, const struct iovec *iov, unsigned n, struct quire_op *op)
{
	struct call call = {.run = run_write, .store = store_inside(store), .id = id, .io = {.iov = iov, .n = n}};

	return (int)call_start(&call, op);
}

static int64_t run_apply(struct call *c)
{
	return store_apply(c->store, c->apply.commit, c->apply.n_commit, c->apply.remove, c->apply.n_remove);
}

int quire_blob_apply(struct quire_store *store, const uint64_t *commit, unsigned n_commit, const uint64_t *remove,
                     unsigned n_remove, struct quire_op *op)
{
	struct call call = {
		.run = run_apply,
		.store = store_inside(store),
		.apply = {.commit = commit, .remove = remove, .n_commit = n_commit, .n_remove = n_remove},
	};

	return (int)call_start(&call, op);
}

int quire_blob_commit(struct quire_store *store, const uint64_t *ids, unsigned n, struct quire_op *op)
{
	return quire_blob_apply(store, ids, n, NULL, 0, op);
}

int quire_blob_delete(struct quire_store *store, const uint64_t *ids, unsigned n, struct quire_op *op)
{
	return quire_blob_apply(store, NULL, 0, ids, n, op);
}

int quire_blob_abort(struct quire_store *store, uint64_t id)
{
	struct store *s = store_inside(store);

	return face_of(s)->pid != getpid() ? -ECHILD : object_abort(s, id);
}

/* ---- read ---- */

/* A walk over the caller's memory. */
struct sink {
	const struct iovec *iov;
	unsigned n, i;
	uint64_t skip; /* in iov[i] */
};

static void sink_settle(struct sink *sink)
{
	while (sink->i < sink->n && sink->skip == sink->iov[sink->i].iov_len) {
		sink->i++;
		sink->skip = 0;
	}
}

static void *sink_at(const struct sink *sink)
{
	return (char *)sink->iov[sink->i].iov_base + sink->skip;
}

static uint64_t sink_room(const struct sink *sink)
{
	return sink->iov[sink->i].iov_len - sink->skip;
}

static void sink_copy(struct sink *sink, const void *from, uint64_t len_bytes)
{
	for (uint64_t n; len_bytes > 0; len_bytes -= n, from = (const char *)from + n) {
		sink_settle(sink);
		n = sink_room(sink) < len_bytes ? sink_room(sink) : len_bytes;
		memcpy(sink_at(sink), from, n);
		sink->skip += n;
	}
}

/* One read of the object, of `want` bytes or less; how many, or a negative errno. *bounce: made when first needed. */
static int64_t read_piece(struct call *c, struct object *o, struct sink *sink, uint64_t offset, uint64_t want,
                          void **bounce)
{
	uint64_t skip = offset % PAGE_BYTES;
	bool aligned = skip == 0 && (uintptr_t)sink_at(sink) % PAGE_BYTES == 0;
	uint64_t straight = aligned ? sink_room(sink) & ~(PAGE_BYTES - 1) : 0;
	uint64_t n = want < MAX_READ_BYTES - skip ? want : MAX_READ_BYTES - skip;

	if (straight != 0) {
		if (n > straight)
			n = straight;
		int rc = object_read_wait(o, offset, (uint32_t)n, sink_at(sink), &c->error_offset);
		sink->skip += n;
		return rc < 0 ? rc : (int64_t)n;
	}
	/* Enough for all that follow: they are no longer, and begin at a page. */
	if (*bounce == NULL)
		*bounce = aligned_alloc(PAGE_BYTES, (skip + n + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1));
	if (*bounce == NULL)
		return -ENOMEM;
	int rc = object_read_wait(o, offset - skip, (uint32_t)(skip + n), *bounce, &c->error_offset);
	if (rc < 0)
		return rc;
	sink_copy(sink, (const char *)*bounce + skip, n);
	return (int64_t)n;
}

static int64_t read_all(struct call *c, struct object *o)
{
	struct sink sink = {.iov = c->io.iov, .n = c->io.n};
	uint64_t all = 0, done = 0, there = object_bytes(o);
	void *bounce = NULL;
	int64_t n = 0;

	there = c->io.offset < there ? there - c->io.offset : 0;
	for (unsigned i = 0; i < sink.n && all < there; i++)
		all += sink.iov[i].iov_len < there - all ? sink.iov[i].iov_len : there - all;
	for (; done < all && n >= 0; done += n > 0 ? (uint64_t)n : 0) {
		sink_settle(&sink);
		n = read_piece(c, o, &sink, c->io.offset + done, all - done, &bounce);
	}
	free(bounce);
	return n < 0 ? n : (int64_t)done;
}

static int64_t run_read(struct call *c)
{
	struct object *o;
	int rc = object_get(c->store, c->id, &o);

	if (rc < 0)
		return rc;
	int64_t n = read_all(c, o);
	object_put(o);
	return n;
}

int64_t quire_blob_read(struct quire_store *store, uint64_t id, uint64_t offset, const struct iovec *iov, unsigned n,
                        struct quire_op *op)
{
	struct call call = {
		.run = run_read,
		.store = store_inside(store),
		.id = id,
		.io = {.iov = iov, .offset = offset, .n = n},
	};

	return call_start(&call, op);
}

/* ---- found ---- */

int quire_blob_props(struct quire_store *store, uint64_t id, struct quire_blob_props *ret_props)
{
	struct store *s = store_inside(store);
	struct object_properties p;

	if (face_of(s)->pid != getpid())
		return -ECHILD;
	int rc = object_properties(s, id, &p);
	if (rc < 0)
		return rc;
	*ret_props = (struct quire_blob_props){
		.id = id,
		.len_bytes = p.len_bytes,
		.allocated_bytes = p.allocated_bytes,
		.cls = (enum quire_class)p.class_no,
		.page_shift = p.page_shift,
		.tag = p.tag,
		.committed = p.committed,
		.n_extents = p.n_extents,
		.n_users = p.n_refs,
	};
	return 0;
}

int quire_blob_list(struct quire_store *store, uint64_t after, uint64_t *ret_ids, unsigned n)
{
	struct store *s = store_inside(store);

	if (face_of(s)->pid != getpid())
		return -ECHILD;
	return (int)object_list(s, after, ret_ids, n <= INT32_MAX ? n : INT32_MAX);
}

int quire_blob_list_tagged(struct quire_store *store, uint8_t tag, uint64_t after, uint64_t *ret_ids, unsigned n)
{
	struct store *s = store_inside(store);

	if (face_of(s)->pid != getpid())
		return -ECHILD;
	return (int)object_list_tagged(s, tag, after, ret_ids, n <= INT32_MAX ? n : INT32_MAX);
}
