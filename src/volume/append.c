/* append.c - what goes into a group's log: one at a time appends for all.
 *
 * Who has something to append puts a request behind the others. If nobody appends, he does: for all whose turn comes before he
 * is done, then the next of those who wait takes over. In a coroutine he lets others run first, so that requests which were made
 * in one turn of a loop, and the next, as long as there are more, are together in one record: a block that says which blocks follow, then
 * these, each at the beginning of a block of the medium. What comes next is put behind that record, as long as it is in memory alone and its head short
 * enough to be told by the next ones (head.c). So a write costs a block more, and many that nobody wants durable yet cost that together. What a
 * segment has no room for as a whole is cut: the rest is in the next record, so that no segment ends before it is full.
 *
 * Whoever has the turn alone decides by the tables and the map what is to be recorded, appends, and then changes them; so the order of
 * records is that of the changes, and reading them again makes the same of them.
 */
#include "batch.h"
#include "space.h"

#include "../base/assert.h"
#include "../base/canary.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- requests ---- */

static void put_pending(struct quire_volumes *g, struct request *r)
{
	r->next = NULL;
	if (g->first_pending == NULL)
		g->first_pending = r;
	else
		g->last_pending->next = r;
	g->last_pending = r;
	g->n_pending++;
}

static struct request *take_pending(struct quire_volumes *g)
{
	struct request *r = g->first_pending;

	g->first_pending = r->next;
	g->n_pending--;
	return r;
}

/* Before the others: the rest of one that was cut; and upkeep, which has one request at a time, so that whoever appends for it does not
 * cut writers' records short, which wait for each other. */
static void put_first(struct quire_volumes *g, struct request *r)
{
	r->next = g->first_pending;
	g->first_pending = r;
	if (r->next == NULL)
		g->last_pending = r;
	g->n_pending++;
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

static uint64_t bytes_of(const struct batch *b)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < b->n_parts; i++)
		bytes += b->parts[i].iov_len;
	return bytes;
}

int batch_append(struct batch *b, uint16_t type, struct journal_place *ret)
{
	uint64_t bytes = JOURNAL_RECORD_HEADER_BYTES + bytes_of(b);
	struct head_last *last = &b->g->last;

	head_end(&b->g->before, last);
	head_finish(&b->g->before, type, b->head, b->parts + 1);
	uint32_t crc;
	bool known = head_knows_crc(type, b->head, &crc);
	int rc = journal_append_placed(b->g->journal, type, b->parts, b->n_parts, known ? &crc : NULL, ret);
	if (rc < 0)
		return rc;
	last->type = type;
	last->at = *ret;
	memcpy(last->head, b->head, sizeof(last->head));
	group_lock(b->g);
	rc = note_place(b->g, ret, bytes);
	group_unlock(b->g);
	if (rc < 0)
		head_end(&b->g->before, last);
	return rc;
}

/* Data goes into the last record, if that is data too and still in memory: a head then stands for all that comes before somebody wants it durable.
 * Where its first block is. -EAGAIN: into one of its own. */
static int batch_join(struct batch *b, struct journal_place *ret_at, uint64_t *ret_place)
{
	struct quire_volumes *g = b->g;
	struct head_last *last = &g->last;
	const struct iovec head = {b->joined, sizeof(b->joined)};
	uint32_t crc, n_before = last->type == VOLUME_DATA ? head_n_blocks(VOLUME_DATA, last->head) : 0;

	if (last->type != VOLUME_DATA || n_before + b->n_blocks > GROUP_MAX_WRITE_BLOCKS || !journal_may_extend(g->journal, last->at.record_no))
		return -EAGAIN;
	memcpy(b->joined, last->head, sizeof(b->joined));
	if (!head_join(&g->before, b->joined, b->head, b->parts + 1) || !head_knows_crc(VOLUME_DATA, b->joined, &crc))
		return -EAGAIN;
	int rc = journal_extend(g->journal, last->at.record_no, &head, b->parts + 1, b->n_parts - 1, crc);
	if (rc < 0)
		return rc;
	memcpy(last->head, b->joined, sizeof(last->head));
	*ret_at = last->at;
	*ret_place = place_of(g, last->at.segment_no, last->at.offset) + 1 + n_before;
	uint64_t bytes = bytes_of(b) - VOLUME_HEAD_BYTES;
	group_lock(g);
	g->at_offset += (uint32_t)bytes;
	g->appended_bytes += bytes;
	group_unlock(g);
	return 0;
}

uint32_t batch_most_blocks(const struct batch *b)
{
	uint32_t bytes = journal_room(b->g->journal);

	if (bytes < VOLUME_HEAD_BYTES + MAP_BLOCK_BYTES)
		bytes = journal_max_payload(b->g->journal);
	uint32_t n = (bytes - VOLUME_HEAD_BYTES) / MAP_BLOCK_BYTES;
	return n < GROUP_MAX_WRITE_BLOCKS ? n : GROUP_MAX_WRITE_BLOCKS;
}

void batch_begin(struct batch *b)
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

/* Of a request's memory what is n blocks from its n_done'th on. */
static void add_parts(struct batch *b, const struct request *r, uint64_t n)
{
	uint64_t skip = r->n_done * MAP_BLOCK_BYTES, left = n * MAP_BLOCK_BYTES;

	for (unsigned i = 0; i < r->n_parts && left > 0; i++) {
		uint64_t len = r->parts[i].iov_len, from = skip < len ? skip : len;
		uint64_t k = len - from < left ? len - from : left;
		if (k > 0)
			b->parts[b->n_parts++] = (struct iovec){(uint8_t *)r->parts[i].iov_base + from, (size_t)k};
		skip -= from;
		left -= k;
	}
}

/* How many of its blocks come next: all that are left, or what a record has room for. */
static uint64_t piece_of(const struct request *r, uint32_t max_blocks)
{
	uint64_t left = r->n - r->n_done;

	return r->kind == REQUEST_DATA && left > max_blocks ? max_blocks : left;
}

static void add_entry(struct batch *b, struct request *r, const struct volume *v, uint64_t n)
{
	struct entry_le le = {
		.lba = htole64(r->lba + r->n_done),
		.n = htole64(n),
		.birth = htole64(b->g->generation),
		.tree = htole32(v->tree),
		.kind = r->kind == REQUEST_DATA ? ENTRY_DATA : r->kind == REQUEST_ZERO ? ENTRY_ZERO : ENTRY_HOLE,
	};

	memcpy(b->head + sizeof(struct data_le) + b->n * sizeof(le), &le, sizeof(le));
	if (r->kind == REQUEST_DATA) {
		add_parts(b, r, n);
		b->n_blocks += (uint32_t)n;
	}
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
	uint64_t blocks = r->kind == REQUEST_DATA ? r->n - r->n_done : 0;

	size_t head_bytes = sizeof(struct data_le) + (b->n + 1) * sizeof(struct entry_le) + (b->n_blocks + blocks) * sizeof(uint32_t);

	return b->n == 0 || (head_bytes <= VOLUME_HEAD_ROOM && b->n_blocks + blocks <= max_blocks &&
	                     b->n_parts + r->n_parts <= BATCH_MAX_PARTS);
}

static bool is_data(const struct request *r)
{
	return r->kind == REQUEST_DATA || r->kind == REQUEST_HOLE || r->kind == REQUEST_ZERO;
}

/* As many as go together; or part of the first, if it is larger than a record may be. Lock held. */
static void gather(struct batch *b, uint32_t max_blocks)
{
	struct quire_volumes *g = b->g;

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
			add_entry(b, r, v, piece_of(r, max_blocks));
	}
	struct data_le *data = (struct data_le *)b->head;
	data->n_entries = htole32(b->n);
	data->n_blocks = htole32(b->n_blocks);
}

static void append_data(struct batch *b)
{
	struct quire_volumes *g = b->g;
	struct journal_place at;
	uint64_t place;

	batch_begin(b);
	uint32_t max_blocks = batch_most_blocks(b);
	bool refused = !g->upkeep_turn && !space_is_writers(g);
	group_lock(g);
	/* Upkeep may have put itself first meanwhile. */
	if (!refused)
		gather(b, max_blocks);
	else if (is_data(g->first_pending))
		finish(take_pending(g), -ENOSPC);
	group_unlock(g);
	if (b->n == 0)
		return;
	int rc = batch_join(b, &at, &place);
	if (rc == -EAGAIN) {
		rc = batch_append(b, VOLUME_DATA, &at);
		place = rc == 0 ? place_of(g, at.segment_no, at.offset) + 1 : 0;
	}
	group_lock(g);
	if (rc == 0)
		rc = group_apply_data(g, b->head, place);
	g->n_written += b->n_blocks;
	if (checkpoint_is_due(g))
		worker_kick(&g->checkpointer);
	for (unsigned i = 0; i < b->n; i++) {
		struct request *r = b->all[i];
		r->record_no = at.record_no;
		r->n_done += rc == 0 ? piece_of(r, max_blocks) : 0;
		if (rc == 0 && r->n_done < r->n)
			put_first(g, r);
		else
			finish(r, rc);
	}
	group_unlock(g);
}

/* ---- the others ---- */

static int append_pages(struct batch *b, struct request *r)
{
	struct quire_volumes *g = b->g;
	struct journal_place at;

	batch_begin(b);
	uint32_t most = batch_most_blocks(b);
	r->n = r->n < most ? r->n : most;
	struct data_le *data = (struct data_le *)b->head;
	data->n_blocks = htole32((uint32_t)r->n);
	b->parts[b->n_parts++] = (struct iovec){r->parts[0].iov_base, (size_t)r->n * MAP_NODE_BYTES};
	int rc = batch_append(b, VOLUME_PAGES, &at);
	if (rc < 0)
		return rc;
	r->place = place_of(g, at.segment_no, at.offset) + 1;
	r->record_no = at.record_no;
	group_lock(g);
	segment_find(g, at.segment_no)->n_merged += (int64_t)r->n;
	group_unlock(g);
	return 0;
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

/* As long as each turn of the loop brings some more. */
static void let_others_come(struct quire_volumes *g)
{
	unsigned n = 0, before;

	do {
		before = n;
		(void)quire_co_yield();
		group_lock(g);
		n = g->n_pending;
		group_unlock(g);
	} while (n > before && n < VOLUME_MAX_ENTRIES);
}

static void lead(struct quire_volumes *g, struct request *mine)
{
	struct batch *b = malloc(sizeof(*b));
	int rc = b == NULL ? -ENOMEM : 0;

	if (rc == 0)
		b->g = g;
	if (quire_in_coroutine())
		let_others_come(g);
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
	r->done = false;
	if (r->kind == REQUEST_MOVE || r->kind == REQUEST_PAGES)
		put_first(g, r);
	else
		put_pending(g, r);
	group_unlock(g);
	int rc = wait_for(&g->waits, WAIT_APPENDED, (uint64_t)(uintptr_t)r, NULL);
	quire_assert(rc >= 0); /* callers may wait */
	if (rc == 1)
		lead(g, r);
	return r->result;
}
