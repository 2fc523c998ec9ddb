/* read.c - what lies at a place: from the image of a segment that is not sealed, from memory if it was read before, or from the medium, verified.
 *
 * A block that was moved is still asked for by its old place by trees that are frozen; who finds that segment gone asks the tree of what
 * was moved. A place is never given out twice, so what is kept in memory under it can't be wrong, at most of no use any more.
 */
#include "volume_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A sealed one as an object that is held. Lock held; released meanwhile. */
static int hold(struct quire_volumes *g, struct segment *seg, struct object **ret)
{
	uint64_t id = seg->id, no = seg->node.id;
	struct store_log_footer footer = {0};
	bool known = seg->is_object;

	group_unlock(g);
	int rc = known ? 0 : store_log_sealed(g->space, id, &footer);
	free(footer.marks);
	if (rc == 0)
		rc = object_get(g->store, id, ret);
	group_lock(g);
	seg = segment_find(g, no); /* it may be gone */
	if (rc == 0 && seg != NULL)
		seg->is_object = true;
	if (rc == -ENODATA) /* it was sealed: its footer isn't one any more */
		return -EBADMSG;
	return rc == -EINVAL ? -ESTALE : rc; /* the store has no such segment any more */
}

static int read_object(struct object *o, uint64_t offset, uint32_t len_bytes, void *to)
{
	if ((uintptr_t)to % FORMAT_UNIT_BYTES == 0)
		return object_read_wait(o, offset, len_bytes, to, NULL);
	void *buf = aligned_alloc(FORMAT_UNIT_BYTES, len_bytes);
	int rc = buf == NULL ? -ENOMEM : object_read_wait(o, offset, len_bytes, buf, NULL);
	if (rc == 0)
		memcpy(to, buf, len_bytes);
	free(buf);
	return rc;
}

/* Of one segment. -ESTALE: it is no more. */
static int read_there(struct quire_volumes *g, uint64_t place, uint32_t n_blocks, void *to)
{
	uint64_t no = place / g->segment_blocks - 1, offset = place % g->segment_blocks * MAP_BLOCK_BYTES;
	uint32_t len_bytes = n_blocks * MAP_BLOCK_BYTES;
	struct object *o = NULL;

	if (place < g->segment_blocks || offset + len_bytes > g->settings.segment_bytes)
		return -EUCLEAN;
	group_lock(g);
	struct segment *seg = segment_find(g, no);
	if (seg == NULL) {
		group_unlock(g);
		return -ESTALE;
	}
	struct image *image = seg->image;
	int rc = 0;
	if (image != NULL && image_is_damaged(image, (uint32_t)(place % g->segment_blocks), n_blocks)) {
		group_unlock(g);
		return -EBADMSG;
	}
	if (image != NULL)
		image->refs++;
	else
		rc = hold(g, seg, &o);
	group_unlock(g);
	if (image != NULL) {
		memcpy(to, image->bytes + offset, len_bytes);
		group_lock(g);
		image_put(g, image);
		group_unlock(g);
		return 0;
	}
	if (rc == 0)
		rc = read_object(o, offset, len_bytes, to);
	object_put(o);
	return rc == -EINVAL ? -EUCLEAN : rc;
}

int group_read_place(struct quire_volumes *g, uint64_t place, uint32_t n_blocks, void *to)
{
	int rc = read_there(g, place, n_blocks, to);

	while (rc == -ESTALE && n_blocks > 0) {
		uint64_t at, n;
		rc = group_find_moved(g, place, n_blocks, &at, &n);
		if (rc == 0)
			rc = read_there(g, at, (uint32_t)n, to);
		if (rc < 0)
			return rc;
		place += n;
		n_blocks -= (uint32_t)n;
		to = (uint8_t *)to + n * MAP_BLOCK_BYTES;
		rc = n_blocks > 0 ? -ESTALE : 0;
	}
	return rc;
}

int group_read_page(struct map_owner *owner, uint64_t place, void *page)
{
	return group_read_place(((struct group_owner *)owner)->group, place, 1, page);
}

int group_read_moved_page(struct map_owner *owner, uint64_t place, void *page)
{
	return read_there(((struct group_owner *)owner)->group, place, 1, page);
}

/* Its image, if it has one: what was written a moment ago is not to push out what was read. */
static bool copy_young(struct quire_volumes *g, uint64_t place, void *to)
{
	group_lock(g);
	struct segment *seg = segment_find(g, place / g->segment_blocks - 1);
	struct image *image = seg != NULL ? seg->image : NULL;
	if (image != NULL && image_is_damaged(image, (uint32_t)(place % g->segment_blocks), 1))
		image = NULL;
	if (image != NULL)
		image->refs++;
	group_unlock(g);
	if (image == NULL)
		return false;
	memcpy(to, image->bytes + place % g->segment_blocks * MAP_BLOCK_BYTES, MAP_BLOCK_BYTES);
	group_lock(g);
	image_put(g, image);
	group_unlock(g);
	return true;
}

int group_read_cached(struct quire_volumes *g, uint64_t place, void *to)
{
	if (g->data == NULL)
		return group_read_place(g, place, 1, to);
	if (map_cache_copy_out(g->data, g->owner.base.id, place, to) || copy_young(g, place, to))
		return 0;
	int rc = group_read_place(g, place, 1, to);
	if (rc == 0)
		map_cache_copy_in(g->data, g->owner.base.id, place, to);
	return rc;
}
