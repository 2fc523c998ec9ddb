/* partial.c - volumes that are made in more than one step: until the last one they have a name that none can have, `.` and the later
 * one, and can't be opened. What a crash leaves of that is removed when the name is asked for again, or by hand; only what is being received
 * is gone on with (receive.c).
 */
#include "change.h"

#include <errno.h>
#include <stdlib.h>

void partial_name(const char *name, char ret[VOLUME_NAME_BYTES])
{
	memset(ret, 0, VOLUME_NAME_BYTES);
	ret[0] = '.';
	memcpy(ret + 1, name, strnlen(name, VOLUME_NAME_BYTES - 2));
}

int partial_open(struct quire_volumes *g, const char *hidden, struct quire_volume **ret)
{
	struct quire_volume *h = calloc(1, sizeof(*h));
	int rc = 0;

	if (h == NULL)
		return -ENOMEM;
	group_lock(g);
	struct volume *v = volume_find_name(g, hidden);
	if (v == NULL || (v->flags & VOLUME_IS_PARTIAL) == 0) {
		rc = -ENOENT;
	} else if (v->n_open != 0) {
		rc = -EBUSY;
	} else {
		v->n_open = 1;
		*h = (struct quire_volume){.group = g, .id = (uint32_t)v->node.id, .read_only = g->read_only};
	}
	group_unlock(g);
	if (rc < 0) {
		free(h);
		return rc;
	}
	*ret = h;
	return 0;
}

/* ---- over a file or a blob ---- */

static int publish(struct request *r, struct table_le *to)
{
	const struct change *c = r->arg;
	const struct volume *found = volume_find_name(r->group, c->name);

	if (found == NULL)
		return -ESTALE; /* removed by hand */
	if (volume_find_name(r->group, c->other) != NULL)
		return -EEXIST;
	struct volume v = *found;
	v.flags &= ~VOLUME_IS_PARTIAL;
	volume_set_name(&v, c->other);
	table_add_volume(to, &v);
	return 0;
}

/* What a creation that was cut off has left; what is being received stays. */
static int remove_leftover(struct quire_volumes *g, const char *hidden, void *block)
{
	struct quire_volume *h;
	int rc = partial_open(g, hidden, &h);

	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	rc = property_read(g, volume_tree(h), PROPERTY_RECEIVED, block);
	bool received = rc == 0 && le32toh(((const struct received_le *)block)->owner) == h->id;
	quire_volume_close(h);
	if (rc < 0 && rc != -ENODATA)
		return rc;
	return received ? -EEXIST : quire_volume_rm(g, hidden);
}

static int create_over(struct quire_volumes *g, const struct quire_volume_options *o, const struct change *c, void *block)
{
	char hidden[VOLUME_NAME_BYTES];
	struct change made = *c, shown = {.name = hidden, .other = c->name};
	struct base_le *le = block;
	struct quire_volume *h;

	partial_name(c->name, hidden);
	group_lock(g);
	int rc = g->read_only ? -EROFS : volume_find_name(g, c->name) != NULL ? -EEXIST : 0;
	group_unlock(g);
	if (rc == 0)
		rc = remove_leftover(g, hidden, block);
	if (rc == 0)
		rc = volume_base_describe(g, o->over_file, o->over_blob, le);
	if (rc < 0)
		return rc;
	uint64_t whole = (le64toh(le->size_bytes) + MAP_BLOCK_BYTES - 1) & ~(uint64_t)(MAP_BLOCK_BYTES - 1);
	made.name = hidden;
	made.size_bytes = c->size_bytes != 0 ? c->size_bytes : whole;
	if (made.size_bytes > QUIRE_VOLUME_MAX_BYTES)
		return -EINVAL;
	made.flags |= VOLUME_IS_OVER | VOLUME_IS_PARTIAL;
	le->shown_bytes = htole64(whole < made.size_bytes ? whole : made.size_bytes);
	rc = store_use_features(g->store, 0, FORMAT_INCOMPAT_BASES);
	if (rc == 0)
		rc = change_create(g, &made);
	if (rc == 0)
		rc = partial_open(g, hidden, &h);
	if (rc < 0)
		return rc;
	rc = property_write(h, PROPERTY_BASE, le);
	if (rc == 0) /* it can be read, too */
		rc = volume_base_get(g, volume_tree(h), &h->base, &h->base_bytes, NULL);
	if (rc == 0)
		rc = change_run(g, publish, &shown);
	quire_volume_close(h);
	if (rc < 0)
		(void)quire_volume_rm(g, hidden);
	return rc;
}

int partial_create_over(struct quire_volumes *g, const struct quire_volume_options *o, const struct change *c)
{
	void *block = aligned_alloc(MAP_BLOCK_BYTES, MAP_BLOCK_BYTES);
	int rc = block == NULL ? -ENOMEM : group_enter(g);

	if (rc == 0) {
		rc = create_over(g, o, c, block);
		group_leave(g);
	}
	free(block);
	return rc;
}
