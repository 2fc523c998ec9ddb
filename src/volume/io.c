/* io.c - writing, zeroing.
 *
 * Writes are cut into requests of whole blocks. A part of a block becomes a request for the whole one: the old content is read,
 * changed, and taken in only if the block is still where it was read; else that is tried again. So no lock is held
 * for it, and no other write is lost. If there is no space, he who tries again goes on waiting where he was: cleaning may move the block each time.
 */
#include "cursor.h"
#include "space.h"

#include "../base/canary.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SLICES 64u

static void copy_in(struct cursor *c, uint8_t *to, size_t len)
{
	while (len > 0) {
		size_t n;
		const uint8_t *from = next_piece(c, len, &n);
		memcpy(to, from, n);
		to += n;
		len -= n;
	}
}

/* ---- writing ---- */

static int wait_for_room(struct quire_volumes *g)
{
	group_lock(g);
	bool full = map_delta_bytes(&g->active) >= group_delta_limit(g);
	g->checkpoint_wanted |= full;
	if (full)
		worker_kick(&g->checkpointer);
	group_unlock(g);
	return full ? wait_for(&g->waits, WAIT_ROOM, 0, NULL) : 0;
}

int volume_submit(struct request *r, uint64_t *last_no)
{
	int rc = wait_for_room(r->group);

	if (rc == 0)
		rc = group_append(r);
	if (rc == -ENOSPC)
		rc = space_find(r);
	if (rc == 0 && r->record_no + 1 > *last_no)
		*last_no = r->record_no + 1;
	return rc;
}

/* What a block was, as group_look said in that epoch. -EAGAIN: it is elsewhere by now. */
static int read_old(struct quire_volume *h, uint64_t lba, const struct map_extent *was, uint64_t epoch, bool gap, uint8_t *block)
{
	struct iovec all = {block, MAP_BLOCK_BYTES};
	struct cursor c = {.iov = &all, .n = 1};

	if (map_is_data(was->place)) {
		int rc = group_read_cached(h->group, was->place, block);
		if (rc == -ESTALE)
			rc = group_look_again(h->group, epoch) == 0 ? -EAGAIN : -EUCLEAN;
		return rc;
	}
	memset(block, 0, MAP_BLOCK_BYTES);
	if (!gap || lba << MAP_BLOCK_SHIFT >= h->base_bytes)
		return 0;
	return volume_read_base(h, lba << MAP_BLOCK_SHIFT, MAP_BLOCK_BYTES, &c);
}

/* `len` bytes of one block, from `skip` on; c NULL: zeros. */
static int write_part(struct quire_volume *h, uint64_t lba, uint32_t skip, uint32_t len, struct cursor *c, uint64_t *last_no)
{
	struct quire_volumes *g = h->group;
	uint8_t *block = aligned_alloc(MAP_BLOCK_BYTES, 2 * (size_t)MAP_BLOCK_BYTES), *new = block + MAP_BLOCK_BYTES;
	struct iovec part = {block, MAP_BLOCK_BYTES};
	int rc;

	if (block == NULL)
		return -ENOMEM;
	memset(new, 0, len);
	if (c != NULL)
		copy_in(c, new, len);
	struct request r = {.kind = REQUEST_DATA, .group = g, .volume = h->id, .lba = lba, .n = 1, .parts = &part,
	                    .n_parts = 1, .unless_moved = true};
	do {
		bool gap;
		r.growth = 1;
		rc = group_look(g, volume_tree(h), lba, lba + 1, 0, &r.was, &gap, &r.was_epoch);
		if (rc == 0)
			rc = read_old(h, lba, &r.was, r.was_epoch, gap, block);
		memcpy(block + skip, new, len);
		if (rc == 0)
			rc = volume_submit(&r, last_no);
	} while (rc == -EAGAIN);
	free(block);
	return rc;
}

/* Parts of the caller's memory for n blocks; or of a copy, if it is in too many. */
static unsigned slice(struct cursor *c, size_t len, struct iovec *ret, uint8_t **bounce)
{
	struct cursor start = *c;
	unsigned n = 0;

	for (size_t left = len; left > 0 && n < MAX_SLICES; n++) {
		size_t piece;
		ret[n].iov_base = next_piece(c, left, &piece);
		ret[n].iov_len = piece;
		left -= piece;
		len -= left == 0 ? len : 0;
	}
	if (len == 0)
		return n;
	*c = start;
	*bounce = malloc((size_t)GROUP_MAX_WRITE_BLOCKS * MAP_BLOCK_BYTES);
	return 0;
}

static uint64_t most_blocks(const struct quire_volumes *g)
{
	uint64_t most = (journal_max_payload(g->journal) - VOLUME_HEAD_BYTES) / MAP_BLOCK_BYTES;

	return most < GROUP_MAX_WRITE_BLOCKS ? most : GROUP_MAX_WRITE_BLOCKS;
}

static int write_blocks(struct quire_volume *h, uint64_t lba, uint64_t n, struct cursor *c, uint64_t *last_no)
{
	struct iovec parts[MAX_SLICES];
	uint8_t *bounce = NULL;
	int rc = 0;

	while (rc == 0 && n > 0) {
		uint64_t k = n < most_blocks(h->group) ? n : most_blocks(h->group);
		struct request r = {.kind = REQUEST_DATA, .group = h->group, .volume = h->id, .lba = lba, .n = k, .parts = parts,
		                    .growth = k};
		size_t len = (size_t)k * MAP_BLOCK_BYTES;
		if (bounce == NULL)
			r.n_parts = slice(c, len, parts, &bounce);
		if (r.n_parts == 0) {
			if (bounce == NULL)
				return -ENOMEM;
			copy_in(c, bounce, len);
			parts[0] = (struct iovec){bounce, len};
			r.n_parts = 1;
		}
		rc = volume_submit(&r, last_no);
		lba += k;
		n -= k;
	}
	free(bounce);
	return rc;
}

static int sync_to(struct volume_call *call, int rc, uint64_t last_no)
{
	bool durable = (call->flags & QUIRE_VOLUME_FUA) != 0 || call->handle->durable;

	return rc < 0 || !durable || last_no == 0 ? rc : journal_sync(call->group->journal, last_no - 1, NULL);
}

static int64_t run_write(struct volume_call *call)
{
	struct cursor c = {.iov = call->iov, .n = call->n};
	uint64_t offset = call->offset, left = call->len_bytes, last_no = 0;
	int rc = 0;

	while (rc == 0 && left > 0) {
		uint64_t lba = offset >> MAP_BLOCK_SHIFT, len;
		uint32_t skip = offset % MAP_BLOCK_BYTES;
		if (skip != 0 || left < MAP_BLOCK_BYTES) {
			len = left < MAP_BLOCK_BYTES - skip ? left : MAP_BLOCK_BYTES - skip;
			rc = write_part(call->handle, lba, skip, (uint32_t)len, &c, &last_no);
		} else {
			len = left & ~(uint64_t)(MAP_BLOCK_BYTES - 1);
			rc = write_blocks(call->handle, lba, len >> MAP_BLOCK_SHIFT, &c, &last_no);
		}
		offset += len;
		left -= len;
	}
	return sync_to(call, rc, last_no);
}

static int may_write(struct quire_volume *h, uint64_t offset, uint64_t len_bytes, unsigned flags)
{
	if (h->read_only)
		return -EROFS;
	return (flags & ~(QUIRE_VOLUME_FUA | QUIRE_VOLUME_NO_HOLE)) != 0 ? -EINVAL : volume_check_range(h, offset, len_bytes);
}

int quire_volume_write(struct quire_volume *h, uint64_t offset, const struct iovec *iov, unsigned n, unsigned flags,
                       struct quire_op *op)
{
	struct volume_call call = {.run = run_write, .group = h->group, .handle = h, .iov = iov, .n = n, .offset = offset,
	                           .len_bytes = iov_bytes(iov, n), .flags = flags};
	int rc = may_write(h, offset, call.len_bytes, flags);

	return rc < 0 ? rc : (int)volume_call_start(&call, op);
}

/* ---- zeros ---- */

/* arg: whether parts of blocks are zeroed too. */
static int64_t run_zero(struct volume_call *call)
{
	struct quire_volume *h = call->handle;
	uint64_t offset = call->offset, end = offset + call->len_bytes, last_no = 0;
	uint64_t first = (offset + MAP_BLOCK_BYTES - 1) >> MAP_BLOCK_SHIFT, last = end >> MAP_BLOCK_SHIFT;
	struct request r = {.kind = (call->flags & QUIRE_VOLUME_NO_HOLE) != 0 ? REQUEST_ZERO : REQUEST_HOLE, .group = h->group,
	                    .volume = h->id, .lba = first, .n = last > first ? last - first : 0};
	r.growth = r.kind == REQUEST_ZERO ? r.n : 0;
	uint64_t first_byte = first << MAP_BLOCK_SHIFT, last_byte = last << MAP_BLOCK_SHIFT;
	int rc = 0;

	if (call->arg != 0 && offset < first_byte) {
		uint64_t stop = end < first_byte ? end : first_byte;
		rc = write_part(h, first - 1, offset % MAP_BLOCK_BYTES, (uint32_t)(stop - offset), NULL, &last_no);
	}
	if (rc == 0 && r.n > 0)
		rc = volume_submit(&r, &last_no);
	if (rc == 0 && call->arg != 0 && end > last_byte && last >= first)
		rc = write_part(h, last, 0, (uint32_t)(end - last_byte), NULL, &last_no);
	return sync_to(call, rc, last_no);
}

static int start_zero(struct quire_volume *h, uint64_t offset, uint64_t len_bytes, unsigned flags, bool parts,
                      struct quire_op *op)
{
	struct volume_call call = {.run = run_zero, .group = h->group, .handle = h, .offset = offset, .len_bytes = len_bytes,
	                           .flags = flags, .arg = parts};
	int rc = may_write(h, offset, len_bytes, flags);

	return rc < 0 ? rc : (int)volume_call_start(&call, op);
}

int quire_volume_zero(struct quire_volume *h, uint64_t offset, uint64_t len_bytes, unsigned flags, struct quire_op *op)
{
	return start_zero(h, offset, len_bytes, flags, true, op);
}

int quire_volume_discard(struct quire_volume *h, uint64_t offset, uint64_t len_bytes, unsigned flags, struct quire_op *op)
{
	return start_zero(h, offset, len_bytes, flags, false, op);
}

int quire_volume_flush(struct quire_volume *h, struct quire_op *op)
{
	struct quire_volumes *g = h->group;

	if (group_is_of_parent(g))
		return -ECHILD;
	group_lock(g);
	uint64_t next_no = g->next_no;
	group_unlock(g);
	if (g->read_only || next_no == 0 || CANARY(flush_waits_for_nothing)) {
		if (op != NULL)
			op_complete_now(op, 0);
		return 0;
	}
	return journal_sync(g->journal, next_no - 1, op);
}
