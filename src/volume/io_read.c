/* io_read.c - reading: the map is asked extent by extent, and what lies somewhere is read straight into the caller's memory where whole blocks go
 * there. A request for what lies in several places is read in parts, at once, each in a coroutine of its own. */
#include "cursor.h"
#include "volume_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BOUNCE_BLOCKS 64u
#define MAX_BASE_BYTES (64u << 10) /* held at a time */
#define MOST_PARTS 8u /* of a read, at once */

static void copy_out(struct cursor *c, const uint8_t *from, size_t len)
{
	while (len > 0) {
		size_t n;
		uint8_t *to = next_piece(c, len, &n);
		if (from != NULL) {
			memcpy(to, from, n);
			from += n;
		} else {
			memset(to, 0, n);
		}
		len -= n;
	}
}

/* Data of one extent: from byte `skip` of it on, len of them. */
static int read_data(struct quire_volumes *g, uint64_t place, uint64_t skip, uint64_t len, struct cursor *c)
{
	uint8_t *bounce = NULL;
	int rc = 0;

	place += skip >> MAP_BLOCK_SHIFT;
	skip &= MAP_BLOCK_BYTES - 1;
	while (rc == 0 && len > 0) {
		struct cursor ahead = *c;
		size_t piece;
		uint8_t *to = next_piece(&ahead, len, &piece);
		if (skip == 0 && piece >= MAP_BLOCK_BYTES) {
			uint32_t n = (uint32_t)(piece / MAP_BLOCK_BYTES);
			n = n < GROUP_MAX_WRITE_BLOCKS ? n : GROUP_MAX_WRITE_BLOCKS;
			rc = n == 1 ? group_read_cached(g, place, to) : group_read_place(g, place, n, to);
			(void)next_piece(c, (size_t)n * MAP_BLOCK_BYTES, &piece);
			place += n;
			len -= piece;
			continue;
		}
		uint64_t n = (skip + len + MAP_BLOCK_BYTES - 1) / MAP_BLOCK_BYTES;
		n = n < MAX_BOUNCE_BLOCKS ? n : MAX_BOUNCE_BLOCKS;
		if (bounce == NULL)
			bounce = aligned_alloc(MAP_BLOCK_BYTES, MAX_BOUNCE_BLOCKS * MAP_BLOCK_BYTES);
		rc = bounce == NULL ? -ENOMEM : n == 1 ? group_read_cached(g, place, bounce) : group_read_place(g, place, (uint32_t)n, bounce);
		uint64_t bytes = n * MAP_BLOCK_BYTES - skip < len ? n * MAP_BLOCK_BYTES - skip : len;
		if (rc == 0)
			copy_out(c, bounce + skip, bytes);
		place += n;
		len -= bytes;
		skip = 0;
	}
	free(bounce);
	return rc;
}

int volume_read_base(const struct quire_volume *h, uint64_t offset, uint64_t len, struct cursor *c)
{
	int rc = 0;

	while (rc == 0 && len > 0) {
		struct base_part part;
		uint64_t n = len < MAX_BASE_BYTES ? len : MAX_BASE_BYTES;
		rc = volume_base_hold(h->base, offset, n, &part);
		if (rc < 0)
			break;
		copy_out(c, part.bytes, part.len_bytes);
		copy_out(c, NULL, n - part.len_bytes);
		volume_base_release(h->base, &part);
		offset += n;
		len -= n;
	}
	return rc;
}

/* From `offset` to `end`. */
static int read_range(struct quire_volume *h, uint64_t offset, uint64_t end, struct cursor *c)
{
	struct quire_volumes *g = h->group;
	uint32_t tree = volume_tree(h);
	int rc = 0;

	while (rc == 0 && offset < end) {
		uint64_t lba = offset >> MAP_BLOCK_SHIFT, epoch, last = (end + MAP_BLOCK_BYTES - 1) >> MAP_BLOCK_SHIFT;
		struct map_extent e;
		bool gap;
		rc = group_look(g, tree, lba, last, 0, &e, &gap, &epoch);
		if (rc < 0)
			break;
		uint64_t stop = map_end(&e) << MAP_BLOCK_SHIFT, skip = offset - (lba << MAP_BLOCK_SHIFT);
		uint64_t len = (stop < end ? stop : end) - offset;
		struct cursor start = *c;
		if (gap && offset < h->base_bytes) {
			len = len < h->base_bytes - offset ? len : h->base_bytes - offset;
			rc = volume_read_base(h, offset, len, c);
			offset += len;
			continue;
		}
		if (gap || !map_is_data(e.place))
			copy_out(c, NULL, len);
		else
			rc = read_data(g, e.place, skip, len, c);
		if (rc == -ESTALE) { /* it was moved, and there is a new root */
			rc = group_look_again(g, epoch);
			*c = start;
			continue;
		}
		offset += len;
	}
	return rc;
}

/* arg: bytes of iov that are another part's. */
static int64_t run_part(struct volume_call *call)
{
	struct cursor c = {.iov = call->iov, .n = call->n};
	size_t n;

	for (uint64_t skip = call->arg; skip > 0; skip -= n)
		(void)next_piece(&c, skip, &n);
	return read_range(call->handle, call->offset, call->offset + call->len_bytes, &c);
}

/* What lies in many places is not waited for place by place. */
static int read_at_once(const struct volume_call *call)
{
	uint64_t each = (call->len_bytes / MOST_PARTS + MAP_BLOCK_BYTES) & ~(uint64_t)(MAP_BLOCK_BYTES - 1), at = 0;
	struct quire_op ops[MOST_PARTS];
	unsigned n = 0;
	int rc = 0;

	for (; at < call->len_bytes && n < MOST_PARTS; at += each, n++) {
		struct volume_call part = *call;
		part.run = run_part;
		part.offset += at;
		part.arg = at;
		part.len_bytes = call->len_bytes - at < each ? call->len_bytes - at : each;
		quire_op_init(&ops[n]);
		int64_t started = volume_call_start(&part, &ops[n]);
		if (started < 0) {
			rc = (int)started;
			break;
		}
	}
	for (unsigned i = 0; i < n; i++) {
		int64_t done = quire_await(&ops[i]);
		rc = rc == 0 && done < 0 ? (int)done : rc;
	}
	return rc;
}

static int64_t run_read(struct volume_call *call)
{
	if (call->len_bytes > MAP_BLOCK_BYTES && quire_in_coroutine()) {
		uint64_t lba = call->offset >> MAP_BLOCK_SHIFT, end = call->offset + call->len_bytes, epoch;
		struct map_extent e;
		bool gap;
		int rc = group_look(call->group, volume_tree(call->handle), lba, (end + MAP_BLOCK_BYTES - 1) >> MAP_BLOCK_SHIFT, 0,
		                    &e, &gap, &epoch);
		if (rc == 0 && map_end(&e) << MAP_BLOCK_SHIFT < end)
			return read_at_once(call);
	}
	call->arg = 0;
	return run_part(call);
}

int quire_volume_read(struct quire_volume *h, uint64_t offset, const struct iovec *iov, unsigned n, struct quire_op *op)
{
	struct volume_call call = {.run = run_read, .group = h->group, .handle = h, .iov = iov, .n = n, .offset = offset,
	                           .len_bytes = iov_bytes(iov, n)};
	int rc = volume_check_range(h, offset, call.len_bytes);

	return rc < 0 ? rc : (int)volume_call_start(&call, op);
}
