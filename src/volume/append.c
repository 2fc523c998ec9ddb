/* append.c - what goes into a group's log: one at a time appends for all.
 *
 * Who has something to append puts a request behind the others. If nobody appends, he does: for all whose turn comes before he
 * is done, then the next of those who wait takes over. In a coroutine he lets others run first, so that requests which were made
 * in one turn of a loop are together in one record: a block that says which blocks follow, then these, each at the beginning of
 * a block of the medium. So a write costs a block more, and many at once cost that together.
 *
 * Whoever has the turn alone decides by the tables and the map what is to be recorded, appends, and then changes them; so the order of
 * records is that of the changes, and reading them again makes the same of them.
 */
#include "volume_internal.h"

#include "../base/assert.h"
#include "../base/canary.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PARTS 512u

struct batch {
	struct quire_volumes *g;
	struct request *all[VOLUME_MAX_ENTRIES];
	unsigned n;
	uint32_t n_blocks;
	uint64_t growth; /* of all of them */
	struct iovec parts[MAX_PARTS];
	unsigned n_parts;
	_Alignas(8) uint8_t head[VOLUME_HEAD_BYTES];
};

/* ---- requests ---- */

static void put_pending(struct quire_volumes *g, struct request *r)
{
	r->next = NULL;
	if (g->first_pending == NULL)
		g->first_pending = r;
	else
		g->last_pending->next = r;
	g->last_pending = r;
}

static struct request *take_pending(struct quire_volumes *g)
{
	struct request *r = g->first_pending;

	g->first_pending = r->next;
	return r;
}

static void finish(struct request *r, int result)
{
	r->result = result;
	r->done = true;
}

bool request_is_ready(struct quire_volumes *g, struct request *r, int *ret_result)
{
	*ret_result = 0;
	if (r->done)
		return true;
	if (g->appending)
		return false;
	g->appending = true;
	*ret_result = 1;
	return true;
}

/* ---- records ---- */

/* A record was put there: its segment is in the chain. Lock held. */
static int note_place(struct quire_volumes *g, const struct journal_place *at, uint64_t bytes)
{
	struct segment *seg = segment_find(g, at->segment_no);
	int rc = 0;

	if (seg == NULL) {
		seg = segment_young_at(g, at->segment);
		rc = seg == NULL ? -EUCLEAN : segment_bind(g, seg, at->segment_no);
	}
	if (rc < 0)
		return rc;
	g->at = seg;
	g->at_offset = at->offset + (uint32_t)bytes;
	g->next_no = at->record_no + 1;
	g->appended_bytes += bytes;
	return 0;
}

/* Lock not held. */
static int append_record(struct batch *b, uint16_t type, struct journal_place *ret)
{
	uint64_t bytes = JOURNAL_RECORD_HEADER_BYTES;

	for (unsigned i = 0; i < b->n_parts; i++)
		bytes += b->parts[i].iov_len;
	head_finish(&b->g->before, type, b->head, b->parts + 1);
	uint32_t crc;
	bool known = head_knows_crc(type, b->head, &crc);
	int rc = journal_append_placed(b->g->journal, type, b->parts, b->n_parts, known ? &crc : NULL, ret);
	if (rc == 0)
		head_remember(&b->g->before, type, b->head);
	group_lock(b->g);
	if (rc == 0)
		rc = note_place(b->g, ret, bytes);
	group_unlock(b->g);
	return rc;
}

static void begin_parts(struct batch *b)
{
	memset(b->head, 0, sizeof(b->head));
	b->parts[0] = (struct iovec){b->head, sizeof(b->head)};
	b->n_parts = 1;
	b->n_blocks = 0;
	b->growth = 0;
	b->n = 0;
}

/* ---- data ---- */

static bool overlaps(const struct batch *b, const struct request *r)
{
	for (unsigned i = 0; i < b->n; i++)
		if (b->all[i]->volume == r->volume && b->all[i]->lba < r->lba + r->n && r->lba < b->all[i]->lba + b->all[i]->n)
			return true;
	return false;
}

/* Is the block where it was when the request was made? Lock held. */
static bool has_moved(const struct quire_volumes *g, uint32_t tree, const struct request *r)
{
	struct map_extent now;
	struct map_root root;
	uint64_t end;

	if (group_look_young(g, tree, r->lba, r->lba + 1, &now, &end, &root))
		return now.place != r->was.place || now.birth != r->was.birth; /* a hole, or never written: over a base not the same */
	return g->epoch != r->was_epoch;
}

/* Where a request may write; NULL: nowhere, and why. Lock held. */
static const struct volume *target_of(const struct quire_volumes *g, const struct request *r, int *ret_why)
{
	const struct volume *v = volume_find(g, r->volume);
	uint64_t end = v == NULL ? 0 : r->is_property ? MAP_MAX_LBA : v->size_bytes >> MAP_BLOCK_SHIFT;

	*ret_why = v == NULL                                    ? -ESTALE
	           : (v->flags & VOLUME_IS_SNAPSHOT) != 0       ? -EROFS
	           : r->lba + r->n > end                        ? -EINVAL
	           : r->unless_moved && has_moved(g, v->tree, r) && !CANARY(partial_write_loses_other) ? -EAGAIN
	                                                         : 0;
	return *ret_why == 0 ? v : NULL;
}

static void add_entry(struct batch *b, struct request *r, const struct volume *v)
{
	struct entry_le le = {
		.lba = htole64(r->lba),
		.n = htole64(r->n),
		.birth = htole64(b->g->generation),
		.tree = htole32(v->tree),
		.kind = r->kind == REQUEST_DATA ? ENTRY_DATA : r->kind == REQUEST_ZERO ? ENTRY_ZERO : ENTRY_HOLE,
	};

	memcpy(b->head + sizeof(struct data_le) + b->n * sizeof(le), &le, sizeof(le));
	for (unsigned i = 0; i < r->n_parts; i++)
		b->parts[b->n_parts++] = r->parts[i];
	b->n_blocks += r->kind == REQUEST_DATA ? (uint32_t)r->n : 0;
	b->all[b->n++] = r;
	b->growth += r->growth;
}

/* Lock held. */
static bool may_grow(const struct batch *b, const struct request *r)
{
	const struct volume *v = volume_find(b->g, r->volume);

	return r->growth == 0 || (v->flags & VOLUME_IS_RESERVED) != 0 || promise_has_room(b->g, b->growth + r->growth);
}

static bool has_room(const struct batch *b, const struct request *r, uint32_t max_blocks)
{
	uint64_t blocks = r->kind == REQUEST_DATA ? r->n : 0;

	size_t head_bytes = sizeof(struct data_le) + (b->n + 1) * sizeof(struct entry_le) + (b->n_blocks + blocks) * sizeof(uint32_t);

	return b->n == 0 || (head_bytes <= VOLUME_HEAD_ROOM && b->n_blocks + blocks <= max_blocks &&
	                     b->n_parts + r->n_parts <= MAX_PARTS);
}

static bool is_data(const struct request *r)
{
	return r->kind == REQUEST_DATA || r->kind == REQUEST_HOLE || r->kind == REQUEST_ZERO;
}

/* As many as go together. Lock held. */
static void gather(struct batch *b)
{
	struct quire_volumes *g = b->g;
	uint32_t max_blocks = (journal_max_payload(g->journal) - VOLUME_HEAD_BYTES) / MAP_BLOCK_BYTES;

	if (max_blocks > GROUP_MAX_WRITE_BLOCKS)
		max_blocks = GROUP_MAX_WRITE_BLOCKS;
	begin_parts(b);
	while (g->first_pending != NULL && is_data(g->first_pending) && has_room(b, g->first_pending, max_blocks) &&
	       !(g->first_pending->unless_moved && overlaps(b, g->first_pending))) {
		struct request *r = take_pending(g);
		int why;
		const struct volume *v = target_of(g, r, &why);
		/* Also if it is to be tried again: cleaning for its sake may be what has moved the block. */
		if ((v != NULL || why == -EAGAIN) && !may_grow(b, r)) {
			v = NULL;
			why = -ENOSPC;
		}
		if (v == NULL)
			finish(r, why);
		else
			add_entry(b, r, v);
	}
	struct data_le *data = (struct data_le *)b->head;
	data->n_entries = htole32(b->n);
	data->n_blocks = htole32(b->n_blocks);
}

static void append_data(struct batch *b)
{
	struct quire_volumes *g = b->g;
	struct journal_place at;

	group_lock(g);
	gather(b);
	group_unlock(g);
	if (b->n == 0)
		return;
	int rc = append_record(b, VOLUME_DATA, &at);
	group_lock(g);
	if (rc == 0)
		rc = group_apply_data(g, b->head, place_of(g, at.segment_no, at.offset) + 1);
	g->n_written += b->n_blocks;
	if (checkpoint_is_due(g))
		worker_kick(&g->checkpointer);
	for (unsigned i = 0; i < b->n; i++) {
		b->all[i]->record_no = at.record_no;
		finish(b->all[i], rc);
	}
	group_unlock(g);
}

/* ---- the others ---- */

static int append_pages(struct batch *b, struct request *r)
{
	struct quire_volumes *g = b->g;
	struct journal_place at;

	begin_parts(b);
	struct data_le *data = (struct data_le *)b->head;
	data->n_blocks = htole32((uint32_t)r->n);
	b->parts[b->n_parts++] = r->parts[0];
	int rc = append_record(b, VOLUME_PAGES, &at);
	if (rc < 0)
		return rc;
	r->place = place_of(g, at.segment_no, at.offset) + 1;
	r->record_no = at.record_no;
	group_lock(g);
	segment_find(g, at.segment_no)->n_merged += (int64_t)r->n;
	group_unlock(g);
	return 0;
}

/* A hole, by itself. */
static int append_hole(struct batch *b, struct request *r)
{
	struct quire_volumes *g = b->g;
	struct journal_place at;

	begin_parts(b);
	group_lock(g);
	add_entry(b, r, volume_find(g, r->volume));
	group_unlock(g);
	((struct data_le *)b->head)->n_entries = htole32(1);
	int rc = append_record(b, VOLUME_DATA, &at);
	if (rc < 0)
		return rc;
	group_lock(g);
	rc = group_apply_data(g, b->head, 0);
	group_unlock(g);
	return rc;
}

/* Is a piece still where it is to be moved from, and nobody else's? Lock held. */
static bool may_move(const struct quire_volumes *g, const struct move *m)
{
	if (m->tree != VOLUME_MOVED_TREE && tree_has_children(g, m->tree))
		return false;
	for (uint64_t lba = m->lba; lba < m->lba + m->n;) {
		struct map_extent now;
		struct map_root root;
		uint64_t end;
		if (group_look_young(g, m->tree, lba, m->lba + m->n, &now, &end, &root))
			return false;
		lba = end;
	}
	return true;
}

static int append_moves(struct batch *b, struct request *r)
{
	struct quire_volumes *g = b->g;
	const struct move *moves = r->arg;
	struct journal_place at;

	begin_parts(b);
	group_lock(g);
	for (unsigned i = 0; i < r->n_moves; i++) {
		bool may = may_move(g, &moves[i]);
		/* A single block that was changed lies there no more. */
		*moves[i].left |= !may && (moves[i].n > 1 || tree_has_children(g, moves[i].tree));
		struct entry_le le = {
			.lba = htole64(moves[i].lba),
			.n = htole64(moves[i].n),
			.birth = htole64(moves[i].birth),
			.tree = htole32(moves[i].tree),
			.kind = !may && !CANARY(cleaner_brings_back_old) ? ENTRY_NONE : moves[i].first ? ENTRY_FIRST : ENTRY_DATA,
		};
		memcpy(b->head + sizeof(struct data_le) + i * sizeof(le), &le, sizeof(le));
	}
	group_unlock(g);
	((struct data_le *)b->head)->n_entries = htole32(r->n_moves);
	((struct data_le *)b->head)->n_blocks = htole32((uint32_t)r->n);
	b->parts[b->n_parts++] = r->parts[0];
	int rc = append_record(b, VOLUME_DATA, &at);
	if (rc < 0)
		return rc;
	group_lock(g);
	rc = group_apply_data(g, b->head, place_of(g, at.segment_no, at.offset) + 1);
	group_unlock(g);
	return rc;
}

/* What is to be a hole, then the tables. */
static int record_change(struct batch *b, struct request *r, const uint8_t *head)
{
	struct journal_place at;
	int rc = r->growth > 0 ? promise_ask(b->g, r->growth) : 0;

	if (rc == 0 && r->n > 0)
		rc = append_hole(b, r);
	begin_parts(b);
	memcpy(b->head, head, sizeof(b->head));
	if (rc == 0)
		rc = append_record(b, VOLUME_TABLE, &at);
	if (rc == 0)
		r->record_no = at.record_no;
	return rc;
}

static int append_change(struct batch *b, struct request *r)
{
	struct quire_volumes *g = b->g;
	_Alignas(struct table_le) uint8_t head[VOLUME_HEAD_BYTES] = {0};
	struct table_le *table = (struct table_le *)head;

	group_lock(g);
	table->generation = htole64(g->generation);
	table->next_id = htole32(g->next_id);
	int rc = r->change(r, table);
	group_unlock(g);
	if (rc == 0)
		rc = record_change(b, r, head);
	group_lock(g);
	g->n_asked = 0;
	if (rc == 0) {
		rc = table_apply(g, table, sizeof(b->head));
		promise_count(g);
	}
	group_unlock(g);
	promise_settle(g);
	return rc;
}

static void append_next(struct batch *b)
{
	struct quire_volumes *g = b->g;
	int rc;

	group_lock(g);
	struct request *r = g->first_pending;
	g->upkeep_turn = r->is_upkeep;
	if (!is_data(r))
		take_pending(g);
	group_unlock(g);
	if (is_data(r)) {
		append_data(b);
		return;
	}
	if (r->kind == REQUEST_PAGES) {
		rc = append_pages(b, r);
	} else if (r->kind == REQUEST_MOVE) {
		rc = append_moves(b, r);
	} else if (r->kind == REQUEST_CHANGE) {
		rc = append_change(b, r);
	} else {
		group_lock(g);
		rc = checkpoint_begin(g);
		group_unlock(g);
	}
	group_lock(g);
	finish(r, rc);
	group_unlock(g);
}

/* ---- the turn ---- */

static void lead(struct quire_volumes *g, struct request *mine)
{
	struct batch *b = malloc(sizeof(*b));
	int rc = b == NULL ? -ENOMEM : 0;

	if (rc == 0)
		b->g = g;
	if (quire_in_coroutine())
		(void)quire_co_yield();
	group_lock(g);
	while (!mine->done) {
		if (rc < 0) {
			finish(take_pending(g), rc);
			continue;
		}
		group_unlock(g);
		append_next(b);
		group_lock(g);
	}
	g->appending = false;
	group_unlock_and_wake(g);
	free(b);
}

int group_append(struct request *r)
{
	struct quire_volumes *g = r->group;

	group_lock(g);
	put_pending(g, r);
	group_unlock(g);
	int rc = wait_for(&g->waits, WAIT_APPENDED, (uint64_t)(uintptr_t)r, NULL);
	quire_assert(rc >= 0); /* callers may wait */
	if (rc == 1)
		lead(g, r);
	return r->result;
}
