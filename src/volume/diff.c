/* diff.c - what is other in a volume than in another one, or than it was.
 *
 * Trees that come from one have a nearest common ancestor, frozen in some generation (perhaps it is one of the two). What was born in that
 * generation or before, each has of it still, so it is the same; what was born later, in either, was written since. So births tell all, without
 * the content of a block and without a list of what was changed; and pages of both trees that are as old are passed over, which
 * are those that they share, and more. An ancestor that is nobody's stays as long as two trees come from it, so it is always found.
 *
 * Trees that come from none are compared by what they have: what is a hole in both, or the same part of one base, is the same.
 */
#include "volume_internal.h"

#include <errno.h>
#include <stdlib.h>

#define YIELD_LOOKS 1024u /* so that a loop does other things, too */

struct quire_volume_diff {
	struct quire_volume *from; /* borrowed; or NULL */
	struct quire_volume *to;   /* borrowed */
	uint64_t since, lba;
};

/* What is compared, by one call. */
struct comparing {
	const struct quire_volume_diff *d;
	uint32_t from, to; /* trees */
	uint64_t since;    /* 0: what they have */
	uint64_t shared;
};

bool tree_fork(const struct quire_volumes *g, uint32_t a, uint32_t b, uint64_t *ret_generation)
{
	bool one = a == b;

	/* A parent is older, and so are ids. */
	while (a != b) {
		uint32_t *later = a > b ? &a : &b;
		const struct tree *t = tree_find(g, *later);
		*later = t == NULL ? NO_TREE : t->parent;
	}
	if (a == NO_TREE)
		return false;
	*ret_generation = one ? UINT64_MAX : tree_find(g, a)->frozen;
	return true;
}

int quire_volume_diff_begin(struct quire_volume *from, struct quire_volume *to, uint64_t since, struct quire_volume_diff **ret_diff)
{
	if (from != NULL && (since != 0 || from->group != to->group))
		return -EINVAL;
	if (group_is_of_parent(to->group))
		return -ECHILD;
	if (volume_has_left(to, since))
		return -ESTALE;
	struct quire_volume_diff *d = malloc(sizeof(*d));
	if (d == NULL)
		return -ENOMEM;
	*d = (struct quire_volume_diff){.from = from, .to = to, .since = since};
	*ret_diff = d;
	return 0;
}

void quire_volume_diff_end(struct quire_volume_diff *d)
{
	free(d);
}

void quire_volume_diff_seek(struct quire_volume_diff *d, uint64_t offset)
{
	d->lba = offset >> MAP_BLOCK_SHIFT;
}

/* ---- comparing ---- */

static int begin(struct comparing *c, const struct quire_volume_diff *d)
{
	struct quire_volumes *g = d->to->group;

	*c = (struct comparing){.d = d, .to = volume_tree(d->to), .since = d->since};
	c->shared = volume_shared(d->to, c->to);
	if (d->from == NULL)
		return volume_has_left(d->to, d->since) ? -ESTALE : 0; /* since the last call */
	c->from = volume_tree(d->from);
	group_lock(g);
	if (!tree_fork(g, c->from, c->to, &c->since))
		c->since = 0;
	group_unlock(g);
	return 0;
}

static bool is_hole(const struct volume_part *p)
{
	return p->kind == QUIRE_VOLUME_HOLE;
}

/* Of blocks that neither tree has from the other. */
static bool differ(const struct comparing *c, const struct volume_part *was, const struct volume_part *is)
{
	if (c->since > 0)
		return was->birth > c->since || is->birth > c->since;
	if (was->of_base && is->of_base)
		return c->d->from->base != c->d->to->base;
	return !is_hole(was) || !is_hole(is);
}

/* The next part that is the same in all of it, or other in all of it, up to end: as it is in `to`. */
static int next_part(const struct comparing *c, uint64_t lba, uint64_t end, struct volume_part *is, bool *ret_differs)
{
	struct volume_part was = {.lba = lba, .n = end - lba, .kind = QUIRE_VOLUME_HOLE};
	int rc = volume_look(c->d->to, c->to, lba, end, c->since, is);

	/* Beyond its end it has holes, born when that was cut off. */
	if (rc == 0 && c->d->from != NULL)
		rc = volume_look(c->d->from, c->from, lba, lba + is->n, c->since, &was);
	if (rc < 0)
		return rc;
	is->n = is->n < was.n ? is->n : was.n;
	*ret_differs = differ(c, &was, is);
	/* What is old was not looked at. */
	if (*ret_differs && c->since > 0 && is->birth <= c->since)
		rc = volume_look(c->d->to, c->to, lba, lba + is->n, 0, is);
	return rc;
}

static int64_t next(struct quire_volume_diff *d, struct quire_volume_extent *ret, unsigned max)
{
	uint64_t end = quire_volume_bytes(d->to) >> MAP_BLOCK_SHIFT;
	struct comparing c;
	unsigned n = 0, n_looks = 0;

	int rc = begin(&c, d);
	if (rc < 0)
		return rc;
	while (d->lba < end) {
		struct volume_part p;
		bool differs;
		rc = next_part(&c, d->lba, end, &p, &differs);
		if (rc < 0)
			return n > 0 ? (int64_t)n : rc;
		struct quire_volume_extent x = {
			.offset = p.lba << MAP_BLOCK_SHIFT,
			.len_bytes = p.n << MAP_BLOCK_SHIFT,
			.kind = p.kind,
			.shared = p.of_base || (p.birth != 0 && p.birth <= c.shared),
			.generation = p.birth,
		};
		if (differs && !volume_add_extent(ret, &n, max, &x))
			break;
		d->lba += p.n;
		if (++n_looks % YIELD_LOOKS == 0 && quire_in_coroutine())
			(void)quire_co_yield();
	}
	return n;
}

int64_t quire_volume_diff_next(struct quire_volume_diff *d, struct quire_volume_extent *ret, unsigned n)
{
	struct quire_volumes *g = d->to->group;
	int rc = n == 0 ? -EINVAL : group_enter(g);

	if (rc < 0)
		return rc;
	int64_t result = next(d, ret, n);
	group_leave(g);
	return result;
}
