/* status.c - what a volume's blocks are, and since when. What was never written is as it is in the base. */
#include "volume_internal.h"

#include <errno.h>

int volume_look(struct quire_volume *h, uint32_t tree, uint64_t lba, uint64_t end, uint64_t since, struct volume_part *ret)
{
	uint64_t epoch, n_base = h->base_bytes >> MAP_BLOCK_SHIFT;
	struct map_extent e;
	bool gap;
	int rc = group_look(h->group, tree, lba, end, since, &e, &gap, &epoch);

	if (rc < 0)
		return rc;
	*ret = (struct volume_part){.lba = lba, .n = map_end(&e) - lba, .birth = gap ? 0 : e.birth,
	                            .kind = gap || e.place == MAP_HOLE ? QUIRE_VOLUME_HOLE
	                                    : e.place == MAP_ZERO      ? QUIRE_VOLUME_ZERO
	                                                               : QUIRE_VOLUME_DATA};
	if (!gap || since > 0 || lba >= n_base)
		return 0;
	ret->kind = QUIRE_VOLUME_DATA;
	ret->of_base = true;
	ret->n = ret->n < n_base - lba ? ret->n : n_base - lba;
	return 0;
}

uint64_t volume_shared(struct quire_volume *h, uint32_t tree)
{
	group_lock(h->group);
	const struct tree *t = tree_find(h->group, tree), *parent = t == NULL ? NULL : tree_find(h->group, t->parent);
	uint64_t shared = parent != NULL ? parent->frozen : 0;
	group_unlock(h->group);
	return shared;
}

bool volume_add_extent(struct quire_volume_extent *ret, unsigned *n, unsigned max, const struct quire_volume_extent *x)
{
	struct quire_volume_extent *before = *n > 0 ? &ret[*n - 1] : NULL;

	if (before != NULL && before->offset + before->len_bytes == x->offset && before->kind == x->kind &&
	    before->generation == x->generation && before->shared == x->shared) {
		before->len_bytes += x->len_bytes;
		return true;
	}
	if (*n == max)
		return false;
	ret[(*n)++] = *x;
	return true;
}

bool volume_has_left(struct quire_volume *h, uint64_t since)
{
	group_lock(h->group);
	const struct volume *v = volume_find(h->group, h->id);
	bool left = since > v->left_from && since <= v->left_to;
	group_unlock(h->group);
	return left;
}

static int64_t run_status(struct volume_call *call)
{
	uint32_t tree = volume_tree(call->handle);
	uint64_t shared = volume_shared(call->handle, tree), offset = call->offset, end = offset + call->len_bytes;
	unsigned n = 0;

	while (offset < end) {
		uint64_t lba = offset >> MAP_BLOCK_SHIFT, last = (end + MAP_BLOCK_BYTES - 1) >> MAP_BLOCK_SHIFT;
		struct volume_part p;
		int rc = volume_look(call->handle, tree, lba, last, call->arg, &p);
		if (rc < 0)
			return rc;
		uint64_t stop = (p.lba + p.n) << MAP_BLOCK_SHIFT;
		struct quire_volume_extent x = {
			.offset = offset,
			.len_bytes = (stop < end ? stop : end) - offset,
			.kind = p.kind,
			.shared = p.of_base || (p.birth != 0 && p.birth <= shared),
			.generation = p.birth,
		};
		if (!volume_add_extent(call->out, &n, call->n, &x))
			break;
		offset += x.len_bytes;
	}
	return n;
}

int64_t quire_volume_status(struct quire_volume *h, uint64_t offset, uint64_t len_bytes, uint64_t since,
                            struct quire_volume_extent *ret, unsigned n, struct quire_op *op)
{
	struct volume_call call = {.run = run_status, .group = h->group, .handle = h, .offset = offset, .len_bytes = len_bytes,
	                           .out = ret, .n = n, .arg = since};
	int rc = n == 0 ? -EINVAL : volume_check_range(h, offset, len_bytes);

	if (rc == 0 && volume_has_left(h, since))
		rc = -ESTALE;
	return rc < 0 ? rc : volume_call_start(&call, op);
}
