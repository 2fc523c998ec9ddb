/* scrub.c - all that a volume or a snapshot has is read and held against its checksums, while it is in use.
 *
 * It goes by the map as that is at the time, a piece of an extent at a time. A piece that can't be read is tried block by block, so that what
 * is told of as damaged is just that. Where a page of the map can't be read, all that it leads to is.
 */
#include "volume_internal.h"

#include "../loop/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BLOCKS 64u

struct scrubbing {
	struct quire_volume *h;
	struct quire_volume_scrub o;
	uint8_t *buf;                  /* owned */
	uint64_t began_ns, n_read;     /* bytes, of data */
	uint64_t n_damaged;            /* bytes */
	uint64_t at, len_bytes;        /* of damage that may go on */
	int error;
};

static void tell(struct scrubbing *s)
{
	if (s->len_bytes > 0 && s->o.damaged != NULL)
		s->o.damaged(s->o.arg, s->at, s->len_bytes, s->error);
	s->len_bytes = 0;
}

static void note_damage(struct scrubbing *s, uint64_t offset, uint64_t len_bytes, int error)
{
	s->n_damaged += len_bytes;
	if (s->len_bytes > 0 && s->at + s->len_bytes == offset && s->error == error) {
		s->len_bytes += len_bytes;
		return;
	}
	tell(s);
	s->at = offset;
	s->len_bytes = len_bytes;
	s->error = error;
}

/* It is the bytes that are wrong, or can't be had: not memory, and not where they are. */
static bool is_damage(int rc)
{
	return rc == -EBADMSG || rc == -EUCLEAN || rc == -EIO || rc == -ENODATA;
}

/* n blocks from lba on, which lie at a place. -ESTALE: not any more. */
static int read_piece(struct scrubbing *s, uint64_t lba, uint64_t place, uint32_t n)
{
	int rc = group_read_place(s->h->group, place, n, s->buf);

	for (uint32_t i = 0; is_damage(rc) && i < n; i++) {
		int one = group_read_place(s->h->group, place + i, 1, s->buf);
		if (one < 0 && !is_damage(one))
			return one;
		if (one < 0)
			note_damage(s, (lba + i) << MAP_BLOCK_SHIFT, MAP_BLOCK_BYTES, one);
	}
	s->n_read += (uint64_t)n << MAP_BLOCK_SHIFT;
	return is_damage(rc) ? 0 : rc;
}

/* Until so much may have been read. */
static int keep_rate(struct scrubbing *s)
{
	if (s->o.bytes_per_second == 0)
		return 0;
	uint64_t due_ns = (uint64_t)((double)s->n_read / (double)s->o.bytes_per_second * 1e9), now_ns = loop_now_ns() - s->began_ns;
	return due_ns > now_ns ? quire_sleep_ns(due_ns - now_ns, NULL) : 0;
}

/* What is at lba, up to end; *ret_n: how much of it was seen to. */
static int scrub_some(struct scrubbing *s, uint64_t lba, uint64_t end, uint64_t *ret_n)
{
	struct map_extent e;
	uint64_t epoch;
	bool gap;
	int rc = group_look(s->h->group, volume_tree(s->h), lba, end, 0, &e, &gap, &epoch);

	if (is_damage(rc)) {
		*ret_n = e.n;
		note_damage(s, lba << MAP_BLOCK_SHIFT, e.n << MAP_BLOCK_SHIFT, rc);
		return 0;
	}
	if (rc < 0)
		return rc;
	*ret_n = e.n;
	if (gap || !map_is_data(e.place))
		return 0;
	*ret_n = e.n < PIECE_BLOCKS ? e.n : PIECE_BLOCKS;
	rc = read_piece(s, lba, e.place, (uint32_t)*ret_n);
	if (rc == -ESTALE) {
		rc = group_look_again(s->h->group, epoch);
		if (rc < 0)
			note_damage(s, lba << MAP_BLOCK_SHIFT, *ret_n << MAP_BLOCK_SHIFT, rc);
		else /* the map says something else by now */
			*ret_n = 0;
		rc = 0;
	}
	return rc == 0 ? keep_rate(s) : rc;
}

static int scrub(struct scrubbing *s)
{
	uint64_t first = s->o.offset >> MAP_BLOCK_SHIFT;
	uint64_t end = (s->o.offset + s->o.len_bytes + MAP_BLOCK_BYTES - 1) >> MAP_BLOCK_SHIFT, n;
	int rc = 0;

	for (uint64_t lba = first; rc == 0 && lba < end; lba += n) {
		rc = scrub_some(s, lba, end, &n);
		if (rc == 0 && n > 0 && s->o.progress != NULL)
			rc = s->o.progress(s->o.arg, (lba + n - first) << MAP_BLOCK_SHIFT, (end - first) << MAP_BLOCK_SHIFT);
	}
	tell(s);
	return rc < 0 ? rc : 0;
}

int64_t quire_volume_scrub(struct quire_volume *h, const struct quire_volume_scrub *opts)
{
	struct scrubbing s = {.h = h, .began_ns = loop_now_ns()};
	uint64_t size = quire_volume_bytes(h);
	int rc = group_enter(h->group);

	if (rc < 0)
		return rc;
	if (opts != NULL)
		memcpy(&s.o, opts, opts->size < sizeof(s.o) ? opts->size : sizeof(s.o));
	if (s.o.len_bytes == 0)
		s.o.len_bytes = s.o.offset < size ? size - s.o.offset : 0;
	rc = volume_check_range(h, s.o.offset, s.o.len_bytes);
	s.buf = rc == 0 ? aligned_alloc(MAP_BLOCK_BYTES, PIECE_BLOCKS * MAP_BLOCK_BYTES) : NULL;
	if (rc == 0)
		rc = s.buf == NULL ? -ENOMEM : scrub(&s);
	free(s.buf);
	group_leave(h->group);
	return rc < 0 ? rc : (int64_t)s.n_damaged;
}
