/* open.c - a group is opened: the last checkpoint's tables are taken, then the records behind its place are done again. Their data
 * is not touched (redo.c): what of it is not sealed is in images then, what is sealed stays where it is.
 *
 * All is read and judged before anything is written: a group that is refused is as it was. */
#include "redo.h"

#include "../base/fail.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int take_list(struct quire_volumes *g)
{
	unsigned n = store_log_segments(g->space, NULL, 0);
	struct store_log_segment *list = calloc(n + 1, sizeof(list[0]));
	int rc = list == NULL ? -ENOMEM : 0;

	n = rc == 0 ? store_log_segments(g->space, list, n) : 0;
	group_lock(g);
	for (unsigned i = 0; i < n && rc == 0; i++)
		rc = segment_new(g, &list[i]) == NULL ? -ENOMEM : 0;
	group_unlock(g);
	free(list);
	return rc;
}

/* Those with a footer need no image. */
static int find_sealed(struct quire_volumes *g)
{
	for (unsigned i = 0; i < g->n_young; i++) {
		struct segment *seg = g->young[i];
		struct store_log_footer f;
		int rc = store_log_sealed(g->space, seg->id, &f);
		if (rc == 0) {
			free(f.marks);
			seg->is_object = true;
		} else if (rc != -ENODATA && rc != -EBADMSG) {
			return rc;
		}
	}
	return 0;
}

/* ---- records ---- */

static const struct journal_ops ops = {
	.segment_get = group_segment_get,
	.segment_memory = group_segment_memory,
	.moved = group_moved,
};

/* Offsets of those that may come next, sealed ones last: owned by the caller. */
static uint64_t *list_young(const struct quire_volumes *g, unsigned *ret_n_sealed)
{
	uint64_t *offsets = calloc(g->n_young + 1, sizeof(offsets[0]));
	unsigned n = 0, n_sealed = 0;

	for (unsigned i = 0; offsets != NULL && i < g->n_young; i++)
		offsets[g->young[i]->is_object ? g->n_young - ++n_sealed : n++] = g->young[i]->offset;
	*ret_n_sealed = n_sealed;
	return offsets;
}

static int open_journal(struct quire_volumes *g, struct quire_error *err)
{
	struct redo redo = {.g = g, .err = err};
	struct journal_options o;
	struct journal_recovery found;
	struct journal *j;
	const struct segment *first = NULL;

	/* Without a checkpoint the oldest. In the store's list that may not be the first any more: a spare that was to be removed, and was not, is. */
	for (unsigned i = 0; i < g->n_young; i++) {
		const struct segment *seg = g->young[i];
		if (g->from_id != 0 ? seg->id == g->from_id : first == NULL || seg->id < first->id)
			first = seg;
	}
	store_log_journal(g->space, &o);
	o.ops = &ops;
	o.owner = g;
	o.damaged_too = true;
	uint64_t *known = list_young(g, &o.n_sealed);
	if (known == NULL)
		return quire_fail(err, -ENOMEM, "volumes");
	o.known = known;
	o.n_known = g->n_young;
	int rc = journal_open(&o, first != NULL ? first->offset : 0, true, redo_record, &redo, &found, &j, err);
	if (rc == 0 && redo.n_lost > 0) {
		journal_close(j);
		rc = redo_fail_lost(&redo, &redo.lost[0].at);
	} else if (rc == -EBADMSG && redo.error == 0) {
		rc = redo_fail_lost(&redo, &found.at); /* the journal knows less of what that means */
	}
	redo_fini(&redo);
	free(known);
	if (rc < 0)
		return rc;
	/* Without a checkpoint nothing was removed: then it begins with 0, as from_no does. */
	uint64_t first_no = found.at.segment_no + 1 - found.n_segments;
	if (first_no != g->from_no || (found.at.segment_no == g->from_no && found.at.offset < g->from_offset))
		rc = quire_fail(err, -EBADMSG, "volumes: what their checkpoint refers to is not there");
	group_lock(g);
	/* One that nothing was put into yet, but that is the end of the chain. */
	struct segment *last = segment_young_at(g, found.at.segment);
	/* What is sealed has been followed by another: records that end in it are missing, however they look. */
	if (rc == 0 && last != NULL && last->is_object)
		rc = quire_fail(err, -EBADMSG, "volumes: the segment at %llu is sealed, and its records end at offset %u",
		                (unsigned long long)found.at.segment, found.at.offset);
	if (rc == 0 && segment_find(g, found.at.segment_no) == NULL) {
		rc = last == NULL ? -EUCLEAN : segment_bind(g, last, found.at.segment_no);
		if (rc < 0)
			rc = quire_fail(err, rc, "volumes: the segment at %llu, in which their log ends", (unsigned long long)found.at.segment);
	}
	if (rc == 0) {
		g->at = segment_find(g, found.at.segment_no);
		g->at_offset = found.at.offset < MAP_BLOCK_BYTES ? MAP_BLOCK_BYTES : found.at.offset;
	}
	g->next_no = found.at.record_no;
	g->journal = j;
	group_unlock(g);
	return rc;
}

/* ---- afterwards ---- */

static int need_images(struct quire_volumes *g)
{
	int rc = 0;

	for (unsigned i = 0; i < g->n_young && rc == 0; i++)
		if (g->young[i]->state != SEGMENT_SPARE && g->young[i]->image == NULL && !g->young[i]->is_object)
			rc = -ENOMEM; /* there was none when it was read, or named */
	return rc;
}

static void settle_sealed(struct quire_volumes *g)
{
	for (unsigned i = 0; i < g->n_young;) {
		struct segment *seg = g->young[i];
		if (seg->state == SEGMENT_OPEN && seg->is_object)
			segment_is_sealed(g, seg);
		else
			i++;
	}
}

struct chain {
	struct quire_volumes *g;
	bool sane;
};

/* The chain's segments, and the one that the journal has named to come next: a spare of the store's list, which nothing was put into. */
static void note_segment(void *arg, uint64_t offset)
{
	struct chain *c = arg;

	group_lock(c->g);
	struct segment *seg = segment_young_at(c->g, offset);
	if (seg == NULL || (seg->state == SEGMENT_SPARE && seg->is_object)) {
		c->sane = false;
	} else if (seg->state == SEGMENT_SPARE) {
		seg->state = SEGMENT_NEXT;
		(void)segment_need_image(c->g, seg);
	}
	group_unlock(c->g);
}

/* What the store has and the chain has not: of no use if it was used before, since it has a footer of then, or was added before the newest that is
 * begun; else a spare. */
static bool is_of_no_use(const struct quire_volumes *g, const struct segment *seg)
{
	return seg->state == SEGMENT_SPARE && (seg->is_object || seg->id < g->at->id);
}

static int drop_used(struct quire_volumes *g)
{
	uint64_t ids[64];
	unsigned n;
	int rc = 0;

	do {
		n = 0;
		group_lock(g);
		for (unsigned i = 0; i < g->n_young && n < 64;) {
			struct segment *seg = g->young[i];
			if (!is_of_no_use(g, seg)) {
				i++;
				continue;
			}
			ids[n++] = seg->id;
			segment_free(g, seg);
		}
		group_unlock(g);
		if (n > 0)
			rc = store_log_remove_these(g->space, ids, n);
	} while (rc == 0 && n == 64);
	return rc;
}

static int need_moved_tree(struct quire_volumes *g)
{
	struct tree_le le = {.id = htole32(VOLUME_MOVED_TREE), .flags = htole32(TREE_HAS_ROOT)};

	return tree_find(g, VOLUME_MOVED_TREE) == NULL ? table_put_tree(g, &le, true) : 0;
}

/* What was read is believed; now it is written to. */
static int go_on(struct quire_volumes *g, struct quire_error *err)
{
	int rc = journal_go_on(g->journal, err);

	if (rc < 0)
		return rc;
	rc = drop_used(g);
	if (rc < 0)
		return quire_fail(err, rc, "volumes: their segments");
	promise_settle(g);
	return 0;
}

int group_recover(struct quire_volumes *g, struct quire_error *err)
{
	store_log_settings(g->space, &g->settings);
	g->segment_blocks = g->settings.segment_bytes / MAP_BLOCK_BYTES;
	int rc = take_list(g);
	if (rc < 0)
		return quire_fail(err, rc, "volumes: their segments");
	rc = checkpoint_load(g, err);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	rc = need_moved_tree(g);
	if (rc == 0)
		rc = find_sealed(g);
	if (rc < 0)
		return quire_fail(err, rc, "volumes: footers of their segments");
	rc = open_journal(g, err);
	if (rc < 0)
		return rc;
	g->chain_no = g->from_no;
	struct chain chain = {g, true};
	journal_segments(g->journal, note_segment, &chain);
	if (!chain.sane)
		return quire_fail(err, -EUCLEAN, "volumes: their log names a segment that is none of theirs, or in use");
	group_lock(g);
	rc = need_images(g);
	settle_sealed(g);
	group_unlock(g);
	if (rc < 0)
		return quire_fail(err, rc, "volumes: their segments");
	group_lock(g);
	bool sane = table_is_sane(g);
	if (sane)
		promise_count(g);
	group_unlock(g);
	if (!sane)
		return quire_fail(err, -EUCLEAN, "volumes: their tables are impossible ones");
	return g->read_only ? 0 : go_on(g, err);
}
