/* receive.c - a stream becomes a snapshot.
 *
 * What comes goes into a volume that is not to be seen (partial.c): an empty one, or a clone of the snapshot that the stream goes on from. A
 * property of it says what it is to be, and up to where it has come; that is written behind the data in the same log, so after a crash
 * no more is promised than is there. The stream's end makes of it, in one record: the snapshot, and the volume's content.
 *
 * States: none → begun (it has the property) ⇄ cut off → whole, and gone as such. From every state but the last the same stream, or the rest of
 * it, goes on.
 *
 *   1. Nothing of a chunk is written before its checksums, and its place behind all before it, were verified.
 *   2. The volume's own content is given up only if it is that of the snapshot gone on from, or that was asked for: decided in the log's turn, so no
 *      write comes between.
 */
#include "change.h"
#include "stream.h"

#include "../base/crc32c.h"
#include "../base/fail.h"
#include "../base/name.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define NOTE_BYTES (16u << 20) /* of the volume, between two notes of how far it has come */

struct receiving {
	struct quire_volumes *g;  /* borrowed, as what follows */
	const char *name;
	quire_volume_get_fn get;
	void *arg;
	struct quire_error *err;
	bool drop;
	struct stream_head_le head;
	char hidden[VOLUME_NAME_BYTES], snapshot[VOLUME_NAME_BYTES]; /* whole names */
	uint32_t base;            /* id of what it goes on from; 0: it is whole */
	struct quire_volume *h;   /* owned: what it is written to */
	struct received_le *note; /* owned */
	uint8_t *data;            /* owned */
	uint32_t crc;
	uint64_t n_chunks, at;    /* at: up to where it has come */
};

/* ---- bytes ---- */

static int get_all(struct receiving *r, void *to, size_t n)
{
	size_t done = 0;

	while (done < n) {
		int64_t k = r->get(r->arg, (uint8_t *)to + done, n - done);
		if (k < 0 || (uint64_t)k > n - done)
			return quire_fail(r->err, k < 0 ? (int)k : -EIO, "reading the stream");
		if (k == 0)
			return quire_fail(r->err, -EPIPE, "the stream was cut off");
		done += (size_t)k;
	}
	return 0;
}

static int get_head(struct receiving *r)
{
	int rc = get_all(r, &r->head, sizeof(r->head));

	if (rc < 0)
		return rc;
	rc = stream_head_check(&r->head);
	if (rc < 0)
		return quire_fail(r->err, rc, rc == -ENOTSUP ? "a stream of a later version" : "the stream's head");
	r->crc = le32toh(r->head.crc);
	r->at = le64toh(r->head.position);
	return 0;
}

/* ---- what is there ---- */

static int name_it(struct receiving *r, const char *snapshot)
{
	if (snapshot == NULL)
		snapshot = (const char *)r->head.snapshot;
	if (!name_is_valid(snapshot))
		return quire_fail(r->err, -EINVAL, "the snapshot's name");
	(void)snprintf(r->snapshot, sizeof(r->snapshot), "%s@%s", r->name, snapshot);
	partial_name(r->name, r->hidden);
	group_lock(r->g);
	bool exists = volume_find_name(r->g, r->snapshot) != NULL;
	group_unlock(r->g);
	return exists ? quire_fail(r->err, -EEXIST, "%s", r->snapshot) : 0;
}

/* Of the volume's snapshots, that which the stream goes on from. */
static int find_base(struct receiving *r, uint32_t volume)
{
	struct quire_volume_info info = {.id = 0};

	while (quire_volume_ls(r->g, info.id, &info) == 1) {
		struct identity_le id;
		if (!info.snapshot || info.origin != volume)
			continue;
		int rc = identity_of(r->g, info.id, &id);
		if (rc < 0 && rc != -ESTALE)
			return quire_fail(r->err, rc, "%s", info.name);
		if (rc == 0 && memcmp(&id, &r->head.from, sizeof(id)) == 0) {
			r->base = info.id;
			return 0;
		}
	}
	return quire_fail(r->err, -ESTALE, "%s has not the snapshot that the stream goes on from", r->name);
}

static int find_target(struct receiving *r)
{
	struct quire_volume_info info;
	bool whole = identity_is_none(&r->head.from), there = quire_volume_find(r->g, r->name, &info) == 0;

	if (whole)
		return there ? quire_fail(r->err, -EEXIST, "%s: the stream is of a whole volume", r->name) : 0;
	return there ? find_base(r, info.id)
	             : quire_fail(r->err, -ESTALE, "%s, with the snapshot that the stream goes on from, is not there", r->name);
}

/* ---- what has come ---- */

static int note(struct receiving *r)
{
	if (r->at > le64toh(r->note->position))
		r->note->position = htole64(r->at);
	return property_write(r->h, PROPERTY_RECEIVED, r->note);
}

static bool is_noted(const struct receiving *r)
{
	return le32toh(r->note->owner) == r->h->id;
}

static int make_partial(struct receiving *r)
{
	struct change c = {.other = r->hidden, .size_bytes = le64toh(r->head.size_bytes), .flags = VOLUME_IS_PARTIAL};
	char base[VOLUME_NAME_BYTES];
	int rc = store_use_features(r->g->store, FORMAT_RO_COMPAT_STREAMS, 0);

	if (rc < 0)
		return quire_fail(r->err, rc, "noting that there are streams");
	if (r->base == 0) {
		c.name = r->hidden;
		rc = change_create(r->g, &c);
	} else {
		group_lock(r->g);
		const struct volume *v = volume_find(r->g, r->base);
		bool smaller = v != NULL && c.size_bytes < v->size_bytes;
		memcpy(base, v != NULL ? v->name : "", v != NULL ? sizeof(base) : 1);
		group_unlock(r->g);
		c.name = base;
		struct change smaller_one = {.name = r->hidden, .size_bytes = c.size_bytes, .flags = VOLUME_IS_PARTIAL};
		c.size_bytes = smaller ? 0 : c.size_bytes;
		rc = change_clone(r->g, &c);
		/* 0 means the same size there. */
		if (rc == 0 && (smaller || smaller_one.size_bytes == 0))
			rc = change_resize(r->g, &smaller_one);
	}
	if (rc == 0)
		rc = partial_open(r->g, r->hidden, &r->h);
	if (rc < 0)
		return quire_fail(r->err, rc, "making what is received into");
	memset(r->note, 0, sizeof(*r->note));
	memcpy(r->note->magic, PROPERTY_RECEIVED_MAGIC, sizeof(r->note->magic));
	r->note->owner = htole32(r->h->id);
	r->note->to = r->head.to;
	r->note->from = r->head.from;
	rc = note(r);
	return rc < 0 ? quire_fail(r->err, rc, "noting what is received") : 0;
}

/* What a stream that was cut off has left, if it is this one. 1: there is nothing. */
static int open_partial(struct receiving *r)
{
	int rc = partial_open(r->g, r->hidden, &r->h);

	if (rc < 0)
		return rc == -ENOENT ? 1 : quire_fail(r->err, rc, "%s is being received", r->name);
	rc = property_read(r->g, volume_tree(r->h), PROPERTY_RECEIVED, r->note);
	if (rc < 0 && rc != -ENODATA)
		return quire_fail(r->err, rc, "what was received so far");
	if (rc == -ENODATA || !is_noted(r)) { /* cut off before it began */
		quire_volume_close(r->h);
		r->h = NULL;
		rc = quire_volume_rm(r->g, r->hidden);
		return rc < 0 ? quire_fail(r->err, rc, "removing what was left") : 1;
	}
	if (memcmp(&r->note->to, &r->head.to, sizeof(r->head.to)) != 0 || memcmp(&r->note->from, &r->head.from, sizeof(r->head.from)) != 0)
		return quire_fail(r->err, -EEXIST, "%s: of another stream something is left", r->hidden);
	return 0;
}

static int prepare(struct receiving *r)
{
	int rc = open_partial(r);

	if (rc < 0)
		return rc;
	if (r->at > (rc == 1 ? 0 : le64toh(r->note->position)))
		return quire_fail(r->err, -ESTALE, "the stream goes on behind what has come");
	return rc == 1 ? make_partial(r) : 0;
}

/* ---- chunks ---- */

static int write_data(struct receiving *r, const struct stream_chunk_le *chunk, uint64_t offset, uint64_t len_bytes)
{
	struct iovec iov = {r->data, len_bytes};
	int rc = len_bytes > STREAM_MAX_BYTES ? quire_fail(r->err, -EUCLEAN, "a chunk of the stream is too long")
	                                      : get_all(r, r->data, len_bytes);

	if (rc < 0)
		return rc;
	if (crc32c(0, r->data, len_bytes) != le32toh(chunk->data_crc))
		return quire_fail(r->err, -EBADMSG, "the stream's data for %llu", (unsigned long long)offset);
	rc = quire_volume_write(r->h, offset, &iov, 1, 0, NULL);
	return rc < 0 ? quire_fail(r->err, rc, "writing what was received") : 0;
}

static int take_chunk(struct receiving *r, const struct stream_chunk_le *chunk)
{
	uint64_t offset = le64toh(chunk->offset), len_bytes = le64toh(chunk->len_bytes), size = le64toh(r->head.size_bytes);
	uint32_t type = le32toh(chunk->type);
	int rc;

	if (offset < r->at || offset > size || len_bytes == 0 || len_bytes > size - offset || (offset | len_bytes) % MAP_BLOCK_BYTES != 0 ||
	    type < STREAM_DATA || type > STREAM_ZERO)
		return quire_fail(r->err, -EUCLEAN, "the stream has an impossible chunk");
	if (type == STREAM_DATA)
		rc = write_data(r, chunk, offset, len_bytes);
	else
		rc = quire_volume_zero(r->h, offset, len_bytes, type == STREAM_ZERO ? QUIRE_VOLUME_NO_HOLE : 0, NULL);
	if (rc < 0)
		return type == STREAM_DATA ? rc : quire_fail(r->err, rc, "writing what was received");
	r->at = offset + len_bytes;
	r->n_chunks++;
	return r->at < le64toh(r->note->position) + NOTE_BYTES ? 0 : note(r);
}

static int take_chunks(struct receiving *r)
{
	struct stream_chunk_le chunk;
	int rc;

	for (;;) {
		rc = get_all(r, &chunk, sizeof(chunk));
		if (rc == 0 && stream_chunk_check(&chunk, &r->crc) < 0)
			rc = quire_fail(r->err, -EBADMSG, "a chunk of the stream");
		if (rc < 0 || le32toh(chunk.type) == STREAM_END)
			break;
		rc = take_chunk(r, &chunk);
		if (rc < 0)
			break;
	}
	if (rc < 0)
		return rc;
	if (chunk.offset != r->head.size_bytes || le64toh(chunk.len_bytes) != r->n_chunks)
		return quire_fail(r->err, -EUCLEAN, "the stream's end is not that of what was before");
	r->at = le64toh(r->head.size_bytes);
	return 0;
}

/* ---- the end ---- */

struct ending {
	const struct receiving *r;
	uint32_t tree; /* the volume's, that was looked at */
	uint64_t epoch;
};

/* Has somebody written to the volume since the base was its content? -EBUSY. And what was looked at. */
static int look_for_writes(const struct receiving *r, struct ending *e)
{
	struct quire_volume *base, *h;
	struct quire_volume_diff *diff = NULL;
	struct quire_volume_extent x;
	struct quire_volume_info info;
	uint64_t fork;
	int rc = quire_volume_open(r->g, r->name, &h);

	if (rc < 0)
		return rc;
	rc = quire_volume_ls(r->g, r->base - 1, &info) == 1 && info.id == r->base ? quire_volume_open(r->g, info.name, &base) : -ESTALE;
	if (rc < 0) {
		quire_volume_close(h);
		return rc;
	}
	group_lock(r->g);
	e->epoch = r->g->epoch;
	e->tree = volume_find(r->g, h->id)->tree;
	uint32_t base_tree = volume_find(r->g, base->id)->tree, at = e->tree;
	while (at != NO_TREE && at != base_tree)
		at = tree_find(r->g, at)->parent;
	bool related = at == base_tree && tree_fork(r->g, base_tree, e->tree, &fork);
	group_unlock(r->g);
	if (!related || quire_volume_bytes(h) != quire_volume_bytes(base))
		rc = -EBUSY;
	else
		rc = quire_volume_diff_begin(base, h, 0, &diff);
	int64_t n = rc == 0 ? quire_volume_diff_next(diff, &x, 1) : rc;
	quire_volume_diff_end(diff);
	quire_volume_close(base);
	quire_volume_close(h);
	return n > 0 ? -EBUSY : (int)n;
}

/* Lock held. */
static bool has_own_extents(const struct quire_volumes *g, uint32_t tree)
{
	struct map_extent e;

	return map_delta_find(&g->active, tree, 0, &e) || map_delta_find(&g->frozen, tree, 0, &e);
}

/* The volume goes on from the new snapshot. -EAGAIN: it is to be looked at again. */
static int replace_content(const struct ending *e, struct volume *v, struct table_le *to, struct tree *ret_old)
{
	struct quire_volumes *g = e->r->g;
	const struct volume *base = volume_find(g, e->r->base);
	uint64_t from = base != NULL ? base->generation : 0;

	if (v->n_open != 0)
		return -EBUSY;
	if (!e->r->drop && (v->tree != e->tree || g->epoch != e->epoch || base == NULL))
		return -EAGAIN;
	if (!e->r->drop && (has_own_extents(g, v->tree) || v->size_bytes != base->size_bytes))
		return -EBUSY;
	*ret_old = given_up(g, v->tree);
	/* Generations since: what was changed in them came before it was here. */
	if (v->left_to == 0 || from < v->left_from)
		v->left_from = from;
	v->left_to = le64toh(to->generation);
	return 0;
}

static int end(struct request *request, struct table_le *to)
{
	const struct ending *e = request->arg;
	const struct receiving *r = e->r;
	struct quire_volumes *g = r->g;
	const struct volume *found = volume_find_name(g, r->name), *part = volume_find(g, r->h->id);
	struct volume s = *part, v = {.generation = g->generation, .size_bytes = part->size_bytes};
	struct tree old = {.node.id = NO_TREE};

	if (volume_find_name(g, r->snapshot) != NULL || (found != NULL && r->base == 0))
		return -EEXIST;
	if (found == NULL && r->base != 0)
		return -ESTALE;
	if (found != NULL) {
		v = *found;
		int rc = replace_content(e, &v, to, &old);
		if (rc < 0)
			return rc;
		v.size_bytes = s.size_bytes;
	} else {
		volume_set_name(&v, r->name);
		v.node.id = take_id(to);
	}
	struct tree t = frozen(g, s.tree, false), next = child_of(s.tree, to);
	v.tree = (uint32_t)next.node.id;
	v.flags |= s.flags & VOLUME_IS_OVER;
	s.flags = (s.flags & ~VOLUME_IS_PARTIAL) | VOLUME_IS_SNAPSHOT | VOLUME_IS_RECEIVED;
	s.origin = (uint32_t)v.node.id;
	s.generation = g->generation;
	volume_set_name(&s, r->snapshot);
	next_generation(to);
	table_add_volume(to, &v);
	table_add_volume(to, &s);
	table_add_tree(to, &t);
	table_add_tree(to, &next);
	if (old.node.id != NO_TREE)
		table_add_tree(to, &old);
	return 0;
}

static int finish(struct receiving *r)
{
	struct ending e = {.r = r};
	int rc = note(r);

	if (rc < 0)
		return quire_fail(r->err, rc, "noting what was received");
	do {
		rc = r->base != 0 && !r->drop ? look_for_writes(r, &e) : 0;
		if (rc == 0)
			rc = change_run(r->g, end, &e);
	} while (rc == -EAGAIN);
	if (rc == -EBUSY)
		return quire_fail(r->err, rc, "%s is open, or was written to since the snapshot that the stream goes on from", r->name);
	return rc < 0 ? quire_fail(r->err, rc, "%s", r->snapshot) : 0;
}

/* ---- calls ---- */

static int receive(struct receiving *r, const char *snapshot)
{
	struct ending unused = {.r = r};
	int rc = get_head(r);

	if (rc == 0)
		rc = name_it(r, snapshot);
	if (rc == 0)
		rc = find_target(r);
	if (rc == 0 && r->base != 0 && !r->drop && look_for_writes(r, &unused) == -EBUSY) /* better told now than later */
		rc = quire_fail(r->err, -EBUSY, "%s was written to since the snapshot that the stream goes on from", r->name);
	if (rc == 0)
		rc = prepare(r);
	if (rc < 0)
		return rc;
	rc = take_chunks(r);
	if (rc == 0)
		return finish(r);
	if (note(r) == 0)
		(void)quire_volume_flush(r->h, NULL);
	return rc;
}

int quire_volume_receive(struct quire_volumes *g, const char *name, const struct quire_volume_receive_options *opts,
                         quire_volume_get_fn get, void *arg, struct quire_error *err)
{
	struct quire_volume_receive_options o = {0};

	if (opts != NULL)
		memcpy(&o, opts, opts->size < sizeof(o) ? opts->size : sizeof(o));
	struct receiving r = {.g = g, .name = name, .get = get, .arg = arg, .err = err, .drop = o.drop};
	int rc = !name_is_valid(name) ? -EINVAL : g->read_only ? -EROFS : group_enter(g);
	if (rc < 0)
		return quire_fail(err, rc, "receiving a snapshot");
	r.data = aligned_alloc(MAP_BLOCK_BYTES, STREAM_MAX_BYTES);
	r.note = aligned_alloc(MAP_BLOCK_BYTES, sizeof(*r.note));
	if (r.data == NULL || r.note == NULL)
		rc = quire_fail(err, -ENOMEM, "receiving a snapshot");
	else
		rc = receive(&r, o.snapshot);
	quire_volume_close(r.h);
	group_leave(g);
	free(r.data);
	free(r.note);
	return rc;
}

int quire_volume_receive_token(struct quire_volumes *g, const char *name, char ret_token[QUIRE_VOLUME_TOKEN_BYTES])
{
	struct receiving r = {.g = g};
	int rc = !name_is_valid(name) ? -EINVAL : group_enter(g);

	if (rc < 0)
		return rc;
	partial_name(name, r.hidden);
	r.note = aligned_alloc(MAP_BLOCK_BYTES, sizeof(*r.note));
	rc = r.note == NULL ? -ENOMEM : partial_open(g, r.hidden, &r.h);
	if (rc == 0)
		rc = property_read(g, volume_tree(r.h), PROPERTY_RECEIVED, r.note);
	if (rc == -ENODATA || (rc == 0 && !is_noted(&r)))
		rc = -ENOENT;
	if (rc == 0)
		stream_token_print(r.note, ret_token);
	quire_volume_close(r.h);
	group_leave(g);
	free(r.note);
	return rc;
}
