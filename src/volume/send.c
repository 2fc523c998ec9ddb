/* send.c - a snapshot becomes a stream: what it has, or what is other in it than in one before. A snapshot never changes, so who has lost the end of a
 * stream gets the rest of the very same. */
#include "stream.h"
#include "volume_internal.h"

#include "../base/crc32c.h"
#include "../base/fail.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define EXTENTS 64u

struct sending {
	struct quire_volume *to; /* borrowed, as what follows */
	struct quire_volume_diff *diff;
	quire_volume_put_fn put;
	void *arg;
	struct quire_error *err;
	uint8_t *data;           /* owned */
	uint32_t crc;
	uint64_t n_chunks;
};

static int put_chunk(struct sending *s, enum stream_type type, uint64_t offset, uint64_t len_bytes, size_t n_data)
{
	struct stream_chunk_le chunk = {.type = htole32(type), .offset = htole64(offset), .len_bytes = htole64(len_bytes)};

	if (n_data > 0)
		chunk.data_crc = htole32(crc32c(0, s->data, n_data));
	stream_chunk_seal(&chunk, &s->crc);
	s->n_chunks++;
	int rc = s->put(s->arg, &chunk, sizeof(chunk));
	if (rc == 0 && n_data > 0)
		rc = s->put(s->arg, s->data, n_data);
	return rc < 0 ? quire_fail(s->err, rc, "writing the stream") : 0;
}

static int put_data(struct sending *s, uint64_t offset, uint64_t len_bytes)
{
	int rc = 0;

	while (rc == 0 && len_bytes > 0) {
		size_t n = len_bytes < STREAM_SEND_BYTES ? (size_t)len_bytes : STREAM_SEND_BYTES;
		struct iovec iov = {s->data, n};
		rc = quire_volume_read(s->to, offset, &iov, 1, NULL);
		if (rc < 0)
			return quire_fail(s->err, rc, "reading the snapshot at %llu", (unsigned long long)offset);
		rc = put_chunk(s, STREAM_DATA, offset, n, n);
		offset += n;
		len_bytes -= n;
	}
	return rc;
}

static int put_all(struct sending *s)
{
	struct quire_volume_extent x[EXTENTS];
	int64_t n;
	int rc = 0;

	while (rc == 0 && (n = quire_volume_diff_next(s->diff, x, EXTENTS)) != 0) {
		if (n < 0)
			return quire_fail(s->err, (int)n, "the map of the snapshot");
		for (int64_t i = 0; rc == 0 && i < n; i++) {
			if (x[i].kind == QUIRE_VOLUME_DATA)
				rc = put_data(s, x[i].offset, x[i].len_bytes);
			else
				rc = put_chunk(s, x[i].kind == QUIRE_VOLUME_ZERO ? STREAM_ZERO : STREAM_HOLE, x[i].offset, x[i].len_bytes, 0);
		}
	}
	return rc == 0 ? put_chunk(s, STREAM_END, quire_volume_bytes(s->to), s->n_chunks, 0) : rc;
}

/* The name and flags of a snapshot, as a head has them. -EINVAL: it is none. */
static int name_head(struct quire_volume *to, struct stream_head_le *head)
{
	group_lock(to->group);
	const struct volume *v = volume_find(to->group, to->id);
	const char *at = strrchr(v->name, '@');
	int rc = (v->flags & VOLUME_IS_SNAPSHOT) != 0 && at != NULL ? 0 : -EINVAL;
	if (rc == 0)
		memcpy(head->snapshot, at + 1, strnlen(at + 1, sizeof(head->snapshot) - 1));
	head->size_bytes = htole64(v->size_bytes);
	group_unlock(to->group);
	return rc;
}

static int make_head(struct quire_volume *to, const struct quire_volume_send_options *o, struct stream_head_le *head,
                     struct quire_error *err)
{
	struct stream_head_le unused;
	struct stream_token_le token;
	int rc = name_head(to, head);

	if (rc == 0 && o->from != NULL)
		rc = o->from->group == to->group ? name_head(o->from, &unused) : -EINVAL;
	if (rc < 0)
		return quire_fail(err, rc, "only snapshots are sent, of one group");
	rc = identity_of(to->group, to->id, &head->to);
	if (rc == 0 && o->from != NULL)
		rc = identity_of(to->group, o->from->id, &head->from);
	if (rc < 0)
		return quire_fail(err, rc, "what the snapshot is");
	if (o->resume == NULL)
		return 0;
	rc = stream_token_parse(o->resume, &token);
	if (rc < 0)
		return quire_fail(err, rc, "the token to go on with");
	if (memcmp(&token.to, &head->to, sizeof(token.to)) != 0 || memcmp(&token.from, &head->from, sizeof(token.from)) != 0)
		return quire_fail(err, -ESTALE, "the token to go on with is of another stream");
	head->position = token.position;
	return stream_head_check_range(head) ? 0 : quire_fail(err, -EBADMSG, "the token to go on with");
}

static int send(struct sending *s, const struct quire_volume_send_options *o)
{
	struct stream_head_le head = {.compat = 0};
	int rc = make_head(s->to, o, &head, s->err);

	if (rc < 0)
		return rc;
	s->data = aligned_alloc(MAP_BLOCK_BYTES, STREAM_SEND_BYTES);
	rc = s->data == NULL ? -ENOMEM : quire_volume_diff_begin(o->from, s->to, 0, &s->diff);
	if (rc < 0)
		return rc;
	quire_volume_diff_seek(s->diff, le64toh(head.position));
	stream_head_seal(&head);
	s->crc = le32toh(head.crc);
	rc = s->put(s->arg, &head, sizeof(head));
	if (rc < 0)
		(void)quire_fail(s->err, rc, "writing the stream");
	else
		rc = put_all(s);
	quire_volume_diff_end(s->diff);
	return rc;
}

int quire_volume_send(struct quire_volume *snapshot, const struct quire_volume_send_options *opts, quire_volume_put_fn put, void *arg,
                      struct quire_error *err)
{
	struct quire_volume_send_options o = {0};
	struct sending s = {.to = snapshot, .put = put, .arg = arg, .err = err};

	if (opts != NULL)
		memcpy(&o, opts, opts->size < sizeof(o) ? opts->size : sizeof(o));
	int rc = group_enter(snapshot->group);
	if (rc < 0)
		return quire_fail(err, rc, "sending a snapshot");
	rc = send(&s, &o);
	group_leave(snapshot->group);
	free(s.data);
	return rc;
}
