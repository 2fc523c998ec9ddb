/* blob.c - quire_blob_*: the store's objects.
 *
 * A read is cut into pieces, of which several are on their way: so the medium is busy while one is verified. A piece
 * that is not aligned, or whose memory is not, goes through a buffer; all others go where they shall be, and are
 * verified there. After a piece failed no more are begun; those under way end, and the foremost failure is
 * the read's: what it would have been piece by piece.
 */
#include "call.h"

#include <quire/blob.h>

#include "../store/format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES ((uint64_t)FORMAT_UNIT_BYTES)
#define PIECE_BYTES (UINT64_C(256) << 10) /* at most OBJECT_READ_MAX_BYTES */
#define N_PIECES 4u                       /* under way, of one read */

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
	if (h.tag == FORMAT_TAG_VOLUMES)
		return -EINVAL;
	if (face_is_of_parent(face_of(s)))
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

/* What is the store's own is no blob. */
static bool is_blob(struct store *s, uint64_t id)
{
	struct object_properties p;

	return object_properties(s, id, &p) < 0 || p.tag != FORMAT_TAG_VOLUMES;
}

static int64_t run_apply(struct call *c)
{
	for (unsigned i = 0; i < c->apply.n_remove; i++)
		if (!is_blob(c->store, c->apply.remove[i]))
			return -ESTALE;
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

	return face_is_of_parent(face_of(s)) ? -ECHILD : object_abort(s, id);
}

/* ---- read ---- */

static uint64_t whole_pages(uint64_t bytes)
{
	return (bytes + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
}

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

static void sink_copy(struct sink sink, const void *from, uint64_t len_bytes)
{
	for (uint64_t n; len_bytes > 0; len_bytes -= n, from = (const char *)from + n) {
		sink_settle(&sink);
		n = sink_room(&sink) < len_bytes ? sink_room(&sink) : len_bytes;
		memcpy(sink_at(&sink), from, n);
		sink.skip += n;
	}
}

static void sink_advance(struct sink *sink, uint64_t len_bytes)
{
	for (uint64_t n; len_bytes > 0; len_bytes -= n) {
		sink_settle(sink);
		n = sink_room(sink) < len_bytes ? sink_room(sink) : len_bytes;
		sink->skip += n;
	}
}

/* One of the pieces that are on their way. */
struct piece {
	struct object_read read;
	struct reading *reading;
	struct sink to;    /* where its bytes go, if they are copied */
	uint64_t n_bytes;  /* of the caller's */
	char *bounce;      /* owned; NULL until needed, then kept */
	bool copied;
};

/* On the home loop, from the start to the completion. */
struct reading {
	struct quire_op op;
	struct object *object;
	struct sink sink;     /* of what was not asked for yet: */
	uint64_t offset, left;
	unsigned n_flying;
	int error;            /* of the foremost piece that failed: */
	uint64_t error_at, bad_offset;
	struct piece pieces[N_PIECES];
};

static void piece_done(struct object_read *read, int result);

static void failed(struct reading *r, int error, uint64_t at, uint64_t bad_offset)
{
	if (r->error != 0 && r->error_at < at)
		return;
	r->error = error;
	r->error_at = at;
	r->bad_offset = bad_offset;
}

/* From the page of offset on. Not over the end of its group: behind it stands the page of checksums, so that the object
 * would read the two parts one after the other. */
static uint64_t piece_limit(uint64_t offset)
{
	uint64_t n = (FORMAT_SUMS_PER_PAGE - offset / PAGE_BYTES % FORMAT_SUMS_PER_PAGE) * PAGE_BYTES;

	return n < PIECE_BYTES ? n : PIECE_BYTES;
}

/* The next piece, if there is one. */
static void piece_start(struct reading *r, struct piece *p)
{
	if (r->left == 0 || r->error != 0)
		return;
	sink_settle(&r->sink);
	uint64_t skip = r->offset % PAGE_BYTES;
	bool aligned = skip == 0 && (uintptr_t)sink_at(&r->sink) % PAGE_BYTES == 0;
	uint64_t straight = aligned ? sink_room(&r->sink) & ~(PAGE_BYTES - 1) : 0;
	uint64_t most = piece_limit(r->offset) - skip;
	uint64_t n = r->left < most ? r->left : most;

	p->copied = straight == 0;
	if (!p->copied && n > straight)
		n = straight;
	/* Enough for any that follows: it begins at a page, and left never grows. */
	if (p->copied && p->bounce == NULL)
		p->bounce = aligned_alloc(PAGE_BYTES, skip + r->left < PIECE_BYTES ? whole_pages(skip + r->left) : PIECE_BYTES);
	if (p->copied && p->bounce == NULL) {
		failed(r, -ENOMEM, r->offset, 0);
		return;
	}
	p->reading = r;
	p->to = r->sink;
	p->n_bytes = n;
	p->read.object = r->object;
	p->read.offset = r->offset - skip;
	p->read.len_bytes = (uint32_t)(skip + n);
	p->read.buf = p->copied ? p->bounce : sink_at(&r->sink);
	p->read.buffer_slot = -1;
	p->read.independent = false;
	p->read.done = piece_done;
	sink_advance(&r->sink, n);
	r->offset += n;
	r->left -= n;
	r->n_flying++;
	object_read_start(op_home(&r->op), &p->read);
}

static void piece_done(struct object_read *read, int result)
{
	struct piece *p = (struct piece *)read;
	struct reading *r = p->reading;

	if (result < 0)
		failed(r, result, read->offset, read->bad_offset);
	else if (p->copied)
		sink_copy(p->to, p->bounce + (read->len_bytes - p->n_bytes), p->n_bytes);
	r->n_flying--;
	piece_start(r, p);
	if (r->n_flying == 0)
		op_complete(&r->op, r->error);
}

static void reading_start(struct quire_op *op)
{
	struct reading *r = (struct reading *)((char *)op - offsetof(struct reading, op));

	for (unsigned i = 0; i < N_PIECES; i++)
		piece_start(r, &r->pieces[i]);
	if (r->n_flying == 0)
		op_complete(op, r->error);
}

static const struct op_driver reading_driver = {.start = reading_start};

static int64_t read_all(struct call *c, struct object *o)
{
	uint64_t all = 0, there = object_bytes(o);
	struct reading r; /* not zeroed as a whole: most reads take one piece */

	there = c->io.offset < there ? there - c->io.offset : 0;
	for (unsigned i = 0; i < c->io.n && all < there; i++)
		all += c->io.iov[i].iov_len < there - all ? c->io.iov[i].iov_len : there - all;
	if (all == 0)
		return 0;
	r.object = o;
	r.sink = (struct sink){.iov = c->io.iov, .n = c->io.n};
	r.offset = c->io.offset;
	r.left = all;
	r.n_flying = 0;
	r.error = 0;
	for (unsigned i = 0; i < N_PIECES; i++)
		r.pieces[i].bounce = NULL;
	quire_op_init(&r.op);
	int rc = (int)op_run_and_wait(&r.op, &reading_driver, store_config_of(c->store)->service);
	for (unsigned i = 0; i < N_PIECES; i++)
		free(r.pieces[i].bounce);
	if (rc == -EBADMSG)
		c->error_offset = r.bad_offset;
	return rc < 0 ? rc : (int64_t)all;
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

	if (face_is_of_parent(face_of(s)))
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

	if (face_is_of_parent(face_of(s)))
		return -ECHILD;
	return (int)object_list_others(s, FORMAT_TAG_VOLUMES, after, ret_ids, n <= INT32_MAX ? n : INT32_MAX);
}

int quire_blob_list_tagged(struct quire_store *store, uint8_t tag, uint64_t after, uint64_t *ret_ids, unsigned n)
{
	struct store *s = store_inside(store);

	if (face_is_of_parent(face_of(s)))
		return -ECHILD;
	return (int)object_list_tagged(s, tag, after, ret_ids, n <= INT32_MAX ? n : INT32_MAX);
}
