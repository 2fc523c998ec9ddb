/* clean.c - what is live in segments that are mostly dead is moved, and they are removed.
 *
 * Which: victims.c. When: as late as writers allow, since the longer a segment is left the more of it is dead: a few segments before they would be
 * refused some (space.c). How much: some segments at a time, until that is mended.
 *
 * What is live in one is found by its records, which say what was written for which tree. That tree, or the one that has taken its place
 * (the one that was written in the generation of the birth), has a block still where it lies, or nobody has. If it does, and has
 * no children, it alone does: the block gets another place in its delta, its birth stays. If it has children they may have the
 * block too, frozen, in pages that they share: then it is the tree of what was moved that gets an entry, by the old place, and
 * who comes to a place whose segment is gone looks there. Such an entry goes when the block is dead.
 *
 * Pages of trees are told by their contents. One that only one tree has is written anew by the next merge (`touched`); one that others have too
 * is moved like a block.
 *
 * All this is records like any other. When they are durable the segment is not needed: its blocks that the last checkpoint's pages lead to
 * are superseded by records behind that checkpoint's place. That these were all is known by count: as many were found to be in the
 * pages, at their places there, as the last checkpoint counted. Then the segment is removed at once; the checkpoint still lists it, and who opens the group
 * finds it gone. If the count differs, or a page of a tree is in it, the next checkpoint finds it dead and removes it. A crash
 * leaves what was moved moved, and the rest where it was.
 */
#include "space.h"

#include "../base/canary.h"
#include "../journal/frame.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BLOCKS 256u   /* of a segment, read at once */
#define MOST_MOVES VOLUME_MAX_ENTRIES

struct cleaning {
	struct quire_volumes *g;
	struct victim victims[CLEAN_MAX_VICTIMS], *at; /* at: whose turn it is */
	unsigned n_victims;
	uint8_t *segment;       /* owned; all of it, but for pieces that could not be read: those are read block by block */
	uint8_t *unread;        /* owned; of each piece: whether that is so */
	uint8_t *batch;         /* owned; of moves, blocks one after the other */
	struct move moves[MOST_MOVES];
	unsigned n_moves;
	uint32_t n_blocks, most_blocks;
	int error;              /* of appending: of several of them something may not have been moved then */
	_Alignas(8) uint8_t head[MAP_BLOCK_BYTES];
};

/* ---- reading ---- */

static void read_segment(struct cleaning *c)
{
	uint32_t n = c->g->segment_blocks;
	uint64_t first = (c->at->no + 1) * n;

	for (uint32_t at = 0; at < n; at += PIECE_BLOCKS) {
		uint32_t k = n - at < PIECE_BLOCKS ? n - at : PIECE_BLOCKS;
		int rc = group_read_place(c->g, first + at, k, c->segment + (size_t)at * MAP_BLOCK_BYTES);
		c->unread[at / PIECE_BLOCKS] = rc < 0;
	}
}

/* n blocks of the segment. */
static int read_blocks(struct cleaning *c, uint64_t place, uint32_t n, uint8_t *to)
{
	uint64_t at = place - (c->at->no + 1) * c->g->segment_blocks;

	for (uint32_t i = 0; i < n; i++) {
		if (c->unread[(at + i) / PIECE_BLOCKS])
			return group_read_place(c->g, place, n, to);
	}
	memcpy(to, c->segment + at * MAP_BLOCK_BYTES, (size_t)n * MAP_BLOCK_BYTES);
	return 0;
}

/* ---- moving ---- */

static int flush(struct cleaning *c)
{
	struct iovec part = {c->batch, (size_t)c->n_blocks * MAP_BLOCK_BYTES};
	struct request r = {.kind = REQUEST_MOVE, .group = c->g, .n = c->n_blocks, .parts = &part, .n_parts = 1,
	                    .arg = c->moves, .n_moves = c->n_moves, .is_upkeep = true};
	int rc = c->n_moves > 0 ? group_append(&r) : 0;

	group_lock(c->g);
	c->g->n_moved += rc == 0 ? c->n_blocks : 0;
	group_unlock(c->g);
	c->n_moves = 0;
	c->n_blocks = 0;
	c->error = rc;
	return rc;
}

/* How many more blocks go into the record with one more move; 0: none. */
static uint64_t room_in_batch(const struct cleaning *c)
{
	size_t used = sizeof(struct data_le) + (c->n_moves + 1) * sizeof(struct entry_le) + c->n_blocks * sizeof(uint32_t);
	uint64_t n = used < VOLUME_HEAD_ROOM ? (VOLUME_HEAD_ROOM - used) / sizeof(uint32_t) : 0;

	return n < c->most_blocks - c->n_blocks ? n : c->most_blocks - c->n_blocks;
}

static int move(struct cleaning *c, uint32_t tree, uint64_t lba, uint64_t n, uint64_t birth, uint64_t place, bool first)
{
	int rc = 0;

	if (CANARY(cleaner_forgets_extent) && c->n_moves == 0) {
		group_count_live(c->g, place, -(int64_t)n);
		return 0;
	}
	while (rc == 0 && n > 0) {
		if (room_in_batch(c) == 0)
			rc = flush(c);
		uint64_t k = n < room_in_batch(c) ? n : room_in_batch(c);
		if (rc == 0)
			rc = read_blocks(c, place, (uint32_t)k, c->batch + (size_t)c->n_blocks * MAP_BLOCK_BYTES);
		if (rc < 0)
			return rc;
		c->moves[c->n_moves++] = (struct move){tree, lba, k, birth, first, &c->at->left};
		c->n_blocks += (uint32_t)k;
		lba += k;
		place += k;
		n -= k;
	}
	return rc;
}

/* What several trees have, unless it was moved before. */
static int move_shared(struct cleaning *c, uint64_t place, uint64_t n)
{
	int rc = 0;

	while (rc == 0 && n > 0) {
		uint64_t at, k;
		rc = group_find_moved(c->g, place, n, &at, &k);
		if (rc == -ESTALE)
			rc = move(c, VOLUME_MOVED_TREE, place, k, c->g->generation, place, true);
		place += k;
		n -= k;
	}
	return rc;
}

/* ---- whose ---- */

/* What was written in that generation may be this tree's first: its own, or of one that it has taken the place of. Lock held. */
static bool was_written_to(const struct quire_volumes *g, const struct tree *t, uint64_t birth)
{
	const struct tree *parent = tree_find(g, t->parent);

	return t->node.id != VOLUME_MOVED_TREE && (t->frozen == 0 || birth <= t->frozen) &&
	       (parent == NULL || birth > parent->frozen);
}

/* The next candidate above `after`; NO_TREE: there is none. */
static uint32_t next_owner(struct quire_volumes *g, uint64_t birth, uint32_t after, bool *ret_shares, struct map_root *ret_root)
{
	uint64_t best = UINT64_MAX;

	group_lock(g);
	for (struct idmap_node *node = idmap_any(&g->trees); node != NULL; node = idmap_after(&g->trees, node))
		if (node->id > after && node->id < best && was_written_to(g, (const struct tree *)node, birth))
			best = node->id;
	if (best != UINT64_MAX) {
		*ret_shares = tree_has_children(g, (uint32_t)best);
		*ret_root = tree_find(g, (uint32_t)best)->root;
	}
	group_unlock(g);
	return best == UINT64_MAX ? NO_TREE : (uint32_t)best;
}

/* Counts blocks of [lba, lba + n) that a tree's pages have where they were written, from `place` on. */
static int count_found(struct cleaning *c, uint32_t tree, uint64_t lba, uint64_t n, uint64_t place)
{
	struct map_tree_env env = group_map(c->g, tree);
	uint64_t end = lba + n;
	struct map_root root = {0};
	int rc = 0;

	group_lock(c->g);
	const struct tree *t = tree_find(c->g, tree);
	if (t != NULL && t->has_root)
		root = t->root;
	group_unlock(c->g);
	while (rc == 0 && lba < end) {
		struct map_extent e;
		bool gap;
		rc = map_tree_look(&env, &root, lba, end, 0, &e, &gap);
		if (rc < 0)
			break;
		if (!gap && e.place == place)
			c->at->n_found += e.n;
		lba += e.n;
		place += e.n;
	}
	return rc;
}

/* [lba, lba + n) of a tree lay from `place` on when they were written: those that do still are moved. */
static int move_what_lies(struct cleaning *c, uint32_t tree, bool shares, uint64_t lba, uint64_t n, uint64_t place)
{
	uint64_t end = lba + n, epoch;
	int rc = count_found(c, tree, lba, n, place);

	while (rc == 0 && lba < end) {
		struct map_extent e;
		bool gap;
		rc = group_look(c->g, tree, lba, end, 0, &e, &gap, &epoch);
		if (rc < 0)
			break;
		if (!gap && e.place == place)
			rc = shares ? move_shared(c, place, e.n) : move(c, tree, lba, e.n, e.birth, place, false);
		lba += e.n;
		place += e.n;
	}
	return rc;
}

static int clean_entry(struct cleaning *c, const struct entry_le *le, uint64_t place)
{
	uint64_t birth = le64toh(le->birth), lba = le64toh(le->lba), n = le64toh(le->n);
	struct map_root root;
	bool shares;
	int rc = 0;

	if (le32toh(le->tree) == VOLUME_MOVED_TREE)
		return move_what_lies(c, VOLUME_MOVED_TREE, false, lba, n, place);
	group_lock(c->g);
	const struct tree *first = tree_find(c->g, le32toh(le->tree));
	shares = first != NULL && tree_has_children(c->g, le32toh(le->tree));
	group_unlock(c->g);
	if (first != NULL)
		return move_what_lies(c, le32toh(le->tree), shares, lba, n, place);
	for (uint32_t tree = 0; rc == 0 && (tree = next_owner(c->g, birth, tree, &shares, &root)) != NO_TREE;)
		rc = move_what_lies(c, tree, shares, lba, n, place);
	return rc;
}

/* A page is to be written anew; until then it is needed. */
static int touch(struct cleaning *c, uint32_t tree, uint64_t key)
{
	struct map_extent e = {.lba = key, .n = 1, .place = MAP_HOLE};

	c->at->keeps = true;
	group_lock(c->g);
	int rc = map_delta_set(&c->g->touched, tree, &e, NULL, NULL);
	group_unlock(c->g);
	return rc;
}

static int clean_page(struct cleaning *c, uint64_t place)
{
	struct quire_volumes *g = c->g;
	struct map_node_le *page = aligned_alloc(MAP_BLOCK_BYTES, MAP_BLOCK_BYTES);
	struct map_root root;
	bool shares, found = false;
	int rc = page == NULL ? -ENOMEM : read_blocks(c, place, 1, (uint8_t *)page);
	uint64_t key = rc == 0 ? le64toh(page->base[0]) : 0, birth = rc == 0 ? le64toh(page->birth) : 0;
	unsigned level = rc == 0 ? page->level : 0;

	for (uint32_t tree = 0; rc == 0 && !found && (tree = next_owner(g, birth, tree, &shares, &root)) != NO_TREE;) {
		struct map_tree_env env = group_map(g, tree);
		int there = map_tree_has_page(&env, &root, level, key, place);
		rc = there < 0 ? there : 0;
		found = there == 1;
		c->at->n_found += found;
		if (found)
			rc = shares ? move_shared(c, place, 1) : touch(c, tree, key);
	}
	if (rc == 0 && !found) {
		struct map_tree_env env = group_map(g, VOLUME_MOVED_TREE);
		group_lock(g);
		root = tree_find(g, VOLUME_MOVED_TREE)->root;
		group_unlock(g);
		int there = map_tree_has_page(&env, &root, level, key, place);
		rc = there == 1 ? touch(c, VOLUME_MOVED_TREE, key) : there;
	}
	free(page);
	return rc;
}

/* ---- one segment ---- */

/* Which has so many blocks. */
static int clean_record(struct cleaning *c, uint16_t type, const uint8_t *head, uint64_t place, uint64_t n_there)
{
	const struct data_le *data = (const struct data_le *)head;
	uint32_t n_entries = le32toh(data->n_entries), n_blocks = le32toh(data->n_blocks);
	int rc = 0;

	if (type != VOLUME_PAGES && type != VOLUME_DATA)
		return 0;
	if (n_blocks > n_there)
		return -EUCLEAN;
	if (type == VOLUME_PAGES)
		for (uint32_t i = 0; rc == 0 && i < n_blocks; i++)
			rc = clean_page(c, place + i);
	if (type != VOLUME_DATA)
		return rc;
	if (n_entries > VOLUME_MAX_ENTRIES)
		return -EUCLEAN;
	for (uint32_t i = 0; rc == 0 && i < n_entries; i++) {
		struct entry_le le;
		memcpy(&le, head + sizeof(*data) + i * sizeof(le), sizeof(le));
		bool has_blocks = le.kind != ENTRY_HOLE && le.kind != ENTRY_ZERO;
		if (has_blocks && (le64toh(le.n) > n_there || le64toh(le.lba) > MAP_MAX_LBA - n_there))
			return -EUCLEAN;
		n_there -= has_blocks ? le64toh(le.n) : 0;
		if (le.kind == ENTRY_DATA || le.kind == ENTRY_FIRST)
			rc = clean_entry(c, &le, place);
		if (has_blocks)
			place += le64toh(le.n);
	}
	return rc;
}

static int clean_segment(struct cleaning *c)
{
	uint64_t first = (c->at->no + 1) * c->g->segment_blocks;
	uint32_t block = 1;
	int rc = 0;

	read_segment(c);
	while (rc == 0 && block < c->g->segment_blocks) {
		struct frame_record_le frame;
		/* Places are the record's: it may have been let go of what this head said. */
		rc = read_blocks(c, first + block, 1, c->head);
		if (rc < 0)
			break;
		memcpy(&frame, c->head, sizeof(frame));
		uint64_t bytes = frame_bytes(le32toh(frame.len_bytes));
		if (le16toh(frame.type) == FRAME_LINK)
			break;
		if (bytes % MAP_BLOCK_BYTES != 0 || bytes > c->g->settings.segment_bytes - block * MAP_BLOCK_BYTES)
			return -EUCLEAN;
		rc = clean_record(c, le16toh(frame.type), c->head + JOURNAL_RECORD_HEADER_BYTES, first + block + 1,
		                  bytes / MAP_BLOCK_BYTES - 1);
		block += (uint32_t)(bytes / MAP_BLOCK_BYTES);
	}
	return rc;
}

/* ---- what is removed ---- */

/* Of what was moved, and is durable so; lock held. Those that can't be yet are left to the next checkpoint. */
static unsigned take_emptied(struct cleaning *c, unsigned n, uint64_t ret_ids[CLEAN_MAX_VICTIMS])
{
	struct quire_volumes *g = c->g;
	unsigned k = 0;

	for (unsigned i = 0; i < n; i++) {
		const struct victim *v = &c->victims[i];
		struct segment *seg = segment_find(g, v->no);
		if (v->keeps || v->left || v->has_moved || v->n_found != v->n_live) {
			seg->emptied_for = g->n_checkpoints + 1;
			g->n_emptied++;
			continue;
		}
		idmap_remove(&g->segments, &seg->node);
		g->n_live -= seg->n_live;
		ret_ids[k++] = seg->id;
		segment_free(g, seg);
	}
	g->n_cleaned += n;
	if (k > 0)
		g->epoch++;
	return k;
}

static int remove_emptied(struct cleaning *c, unsigned n, unsigned *ret_n)
{
	struct quire_volumes *g = c->g;
	uint64_t ids[CLEAN_MAX_VICTIMS], next_no;

	group_lock(g);
	next_no = g->next_no;
	group_unlock(g);
	int rc = journal_sync(g->journal, next_no - 1, NULL);
	if (rc < 0)
		return rc;
	group_lock(g);
	*ret_n = take_emptied(c, n, ids);
	group_unlock(g);
	if (*ret_n > 0)
		rc = store_log_remove_these(g->space, ids, *ret_n);
	store_settle(g->store);
	promise_settle(g);
	group_lock(g);
	g->n_space_news++;
	group_unlock_and_wake(g);
	return rc;
}

/* ---- the whole ---- */

/* Blocks that may be moved before something is freed: what the next checkpoint takes stays, and a segment for what is appended meanwhile. Where no
 * more than that is left, or less, one is risked all the same: cleaning gives back more than it takes, and without it no checkpoint would ever find more. */
static uint64_t room_to_move(struct quire_volumes *g)
{
	uint64_t kept = space_for_checkpoint(g) + 1;

	(void)group_has_spares(g, kept + CLEAN_MAX_VICTIMS);
	group_lock(g);
	uint64_t n = group_n_spares(g);
	bool enough = map_delta_bytes(&g->active) + map_delta_bytes(&g->touched) >= group_delta_limit(g);
	group_unlock(g);
	n = n > kept ? n - kept : n > 0;
	return enough ? 0 : n * group_holds(g);
}

static int clean_victim(struct cleaning *c, struct victim *v)
{
	c->at = v;
	v->left = false;
	v->n_found = 0;
	int rc = clean_segment(c);
	if (c->error < 0 || (rc != -EBADMSG && rc != -EUCLEAN && rc != -EIO))
		return rc;
	v->keeps = true; /* what is damaged stays where it is */
	return 0;
}

/* The best of them; how many are removed. */
static int clean_some(struct cleaning *c, unsigned *ret_n)
{
	unsigned n = 0;
	int rc = 0;

	*ret_n = 0;
	group_lock(c->g);
	c->n_victims = victims_choose(c->g, c->victims);
	group_unlock(c->g);
	uint64_t room = c->n_victims > 0 ? room_to_move(c->g) : 0;
	for (; rc == 0 && n < c->n_victims && c->victims[n].n_live <= room; n++) {
		room -= c->victims[n].n_live;
		rc = clean_victim(c, &c->victims[n]);
	}
	if (rc == 0)
		rc = flush(c);
	for (unsigned i = 0; rc == 0 && i < n; i++) /* once more: hardly anything is left */
		rc = c->victims[i].left ? clean_victim(c, &c->victims[i]) : 0;
	if (rc == 0)
		rc = flush(c);
	return rc == 0 && n > 0 ? remove_emptied(c, n, ret_n) : rc;
}

static struct cleaning *cleaning_new(struct quire_volumes *g)
{
	struct cleaning *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->g = g;
	c->most_blocks = (journal_max_payload(g->journal) - VOLUME_HEAD_BYTES) / MAP_BLOCK_BYTES;
	if (c->most_blocks > GROUP_MAX_WRITE_BLOCKS)
		c->most_blocks = GROUP_MAX_WRITE_BLOCKS;
	c->batch = aligned_alloc(MAP_BLOCK_BYTES, (size_t)c->most_blocks * MAP_BLOCK_BYTES);
	c->segment = aligned_alloc(MAP_BLOCK_BYTES, g->settings.segment_bytes);
	c->unread = calloc(g->segment_blocks / PIECE_BLOCKS + 1, 1);
	return c;
}

static void cleaning_free(struct cleaning *c)
{
	free(c->batch);
	free(c->segment);
	free(c->unread);
	free(c);
}

int group_clean(struct quire_volumes *g, bool *ret_stuck)
{
	struct cleaning *c = NULL;
	unsigned n = 1;
	bool due = false;
	int rc = 0;

	while (rc == 0 && n > 0 && !due && space_is_low(g)) {
		if (c == NULL)
			c = cleaning_new(g);
		bool has_memory = c != NULL && c->batch != NULL && c->segment != NULL && c->unread != NULL;
		rc = has_memory ? clean_some(c, &n) : -ENOMEM;
		due = space_wants_checkpoint(g, n == 0);
		group_lock(g);
		due |= checkpoint_is_due(g) || g->checkpoint_wanted;
		group_unlock(g);
	}
	if (c != NULL)
		cleaning_free(c);
	*ret_stuck = n == 0;
	return rc;
}
