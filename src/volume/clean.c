/* clean.c - what is live in segments that are mostly dead is moved, so that the next checkpoint finds nothing live in them.
 *
 * Which: sealed ones before the place of the last checkpoint, by cost and benefit: (1 - u) × age / (1 + u), u being the live part, age how many
 * segments are newer. When: the class has little space left, or somebody was refused some. How much: at most a multiple of what was
 * written since the last checkpoint, but for those who wait for space.
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
 * A crash leaves what was moved moved, and the rest where it was: all this is records like any other, and the segments are removed by the
 * checkpoint that follows, if it finds them dead.
 */
#include "volume_internal.h"

#include "../base/canary.h"
#include "../journal/frame.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_VICTIMS 64u
#define PIECE_BLOCKS 256u   /* of a segment, read at once */
#define MOST_MOVES ((VOLUME_HEAD_ROOM - (uint32_t)sizeof(struct data_le) - GROUP_MAX_WRITE_BLOCKS * (uint32_t)sizeof(uint32_t)) / (uint32_t)sizeof(struct entry_le))
#define SHARE 3u            /* blocks moved for each that was written */
#define LEAST_SEGMENTS 4u   /* moved at a time, whatever was written */
#define LOW_SEGMENTS 24u    /* free space is little, if it is less than so many, too */
#define SLACK_SEGMENTS 6u   /* for what is written meanwhile, and what the last one takes */

struct victim {
	uint64_t no, n_live;
	double score;
};

struct cleaning {
	struct quire_volumes *g;
	uint64_t no;            /* of the segment */
	uint8_t *segment;       /* owned; all of it, but for pieces that could not be read: those are read block by block */
	uint8_t *unread;        /* owned; of each piece: whether that is so */
	uint8_t *batch;         /* owned; of moves, blocks one after the other */
	struct move moves[MOST_MOVES];
	unsigned n_moves;
	uint32_t n_blocks, most_blocks;
	_Alignas(8) uint8_t head[MAP_BLOCK_BYTES];
};

/* ---- which ---- */

static bool is_low(struct quire_volumes *g)
{
	uint64_t all, n_free = group_free_segments(g, &all);

	return n_free < LOW_SEGMENTS || n_free < all / GROUP_LOW_PART;
}

/* Blocks that may be moved now: the segments that they leave are free only with the next checkpoint, which needs some itself. */
static uint64_t budget_of(struct quire_volumes *g)
{
	uint64_t all, n_free = group_free_segments(g, &all), each = g->segment_blocks / 4 * 3;

	group_lock(g);
	uint64_t n = SHARE * g->appended_bytes / MAP_BLOCK_BYTES;
	group_unlock(g);
	if (n < LEAST_SEGMENTS * each)
		n = LEAST_SEGMENTS * each;
	uint64_t kept = group_checkpoint_segments(g), most = n_free > kept ? (n_free - kept) * each : 0;
	return n < most ? n : most;
}

static int by_score(const void *a, const void *b)
{
	const struct victim *x = a, *y = b;

	return x->score > y->score ? -1 : x->score < y->score;
}

/* The best, in order; how many. Lock held. */
static unsigned choose(struct quire_volumes *g, struct victim ret[MAX_VICTIMS])
{
	struct victim *all = calloc(g->segments.n + 1, sizeof(all[0]));
	unsigned n = 0;

	if (all == NULL)
		return 0;
	for (struct idmap_node *node = idmap_any(&g->segments); node != NULL; node = idmap_after(&g->segments, node)) {
		const struct segment *seg = (const struct segment *)node;
		uint64_t n_live = (uint64_t)seg->n_live;
		if (seg->state != SEGMENT_SEALED || node->id >= g->chain_no || seg->n_live <= 0 || n_live > group_most_live(g))
			continue;
		double u = (double)n_live / (double)g->segment_blocks;
		all[n++] = (struct victim){node->id, n_live, (1 - u) * (double)(g->at->node.id - node->id) / (1 + u)};
	}
	qsort(all, n, sizeof(all[0]), by_score);
	if (n > MAX_VICTIMS)
		n = MAX_VICTIMS;
	memcpy(ret, all, n * sizeof(ret[0]));
	free(all);
	return n;
}

/* ---- reading ---- */

static void read_segment(struct cleaning *c)
{
	uint32_t n = c->g->segment_blocks;
	uint64_t first = (c->no + 1) * n;

	for (uint32_t at = 0; at < n; at += PIECE_BLOCKS) {
		uint32_t k = n - at < PIECE_BLOCKS ? n - at : PIECE_BLOCKS;
		int rc = group_read_place(c->g, first + at, k, c->segment + (size_t)at * MAP_BLOCK_BYTES);
		c->unread[at / PIECE_BLOCKS] = rc < 0;
	}
}

/* n blocks of the segment. */
static int read_blocks(struct cleaning *c, uint64_t place, uint32_t n, uint8_t *to)
{
	uint64_t at = place - (c->no + 1) * c->g->segment_blocks;

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
	return rc;
}

static int move(struct cleaning *c, uint32_t tree, uint64_t lba, uint64_t n, uint64_t birth, uint64_t place, bool first)
{
	int rc = 0;

	if (CANARY(cleaner_forgets_extent) && c->n_moves == 0) {
		group_count_live(c->g, place, -(int64_t)n);
		return 0;
	}
	while (rc == 0 && n > 0) {
		if (c->n_moves == MOST_MOVES || c->n_blocks == c->most_blocks)
			rc = flush(c);
		uint64_t k = n < c->most_blocks - c->n_blocks ? n : c->most_blocks - c->n_blocks;
		if (rc == 0)
			rc = read_blocks(c, place, (uint32_t)k, c->batch + (size_t)c->n_blocks * MAP_BLOCK_BYTES);
		if (rc < 0)
			return rc;
		c->moves[c->n_moves++] = (struct move){tree, lba, k, birth, first};
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

/* [lba, lba + n) of a tree lay from `place` on when they were written: those that do still are moved. */
static int move_what_lies(struct cleaning *c, uint32_t tree, bool shares, uint64_t lba, uint64_t n, uint64_t place)
{
	uint64_t end = lba + n, epoch;
	int rc = 0;

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

static int touch(struct quire_volumes *g, uint32_t tree, uint64_t key)
{
	struct map_extent e = {.lba = key, .n = 1, .place = MAP_HOLE};

	group_lock(g);
	int rc = map_delta_set(&g->touched, tree, &e, NULL, NULL);
	group_unlock(g);
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
		if (found)
			rc = shares ? move_shared(c, place, 1) : touch(g, tree, key);
	}
	if (rc == 0 && !found) {
		struct map_tree_env env = group_map(g, VOLUME_MOVED_TREE);
		group_lock(g);
		root = tree_find(g, VOLUME_MOVED_TREE)->root;
		group_unlock(g);
		int there = map_tree_has_page(&env, &root, level, key, place);
		rc = there == 1 ? touch(g, VOLUME_MOVED_TREE, key) : there;
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
	uint64_t first = (c->no + 1) * c->g->segment_blocks;
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

/* ---- the whole ---- */

/* What this makes is to be merged by the checkpoint that follows, in deltas and in space. */
static bool is_enough(struct quire_volumes *g)
{
	if (!group_has_spares(g, group_checkpoint_segments(g) + SLACK_SEGMENTS))
		return true;
	group_lock(g);
	bool enough = map_delta_bytes(&g->active) + map_delta_bytes(&g->touched) >= group_delta_limit(g);
	group_unlock(g);
	return enough;
}

static int clean_victims(struct cleaning *c, const struct victim *victims, unsigned n, uint64_t budget_blocks)
{
	uint64_t n_moved = 0;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < n && n_moved + victims[i].n_live <= budget_blocks; i++) {
		if (is_enough(c->g))
			break;
		c->no = victims[i].no;
		n_moved += victims[i].n_live;
		rc = clean_segment(c);
		group_lock(c->g);
		c->g->n_cleaned += rc == 0;
		group_unlock(c->g);
		if (rc == -EBADMSG || rc == -EUCLEAN || rc == -EIO) /* what is damaged stays where it is */
			rc = 0;
	}
	return rc == 0 ? flush(c) : rc;
}

int group_clean(struct quire_volumes *g)
{
	struct victim victims[MAX_VICTIMS];

	group_lock(g);
	bool wanted = g->space_wanted;
	g->space_wanted = false;
	group_unlock(g);
	if (!wanted && !is_low(g))
		return 0;
	group_lock(g);
	unsigned n = choose(g, victims);
	group_unlock(g);
	struct cleaning *c = n > 0 ? calloc(1, sizeof(*c)) : NULL;
	if (c == NULL)
		return n > 0 ? -ENOMEM : 0;
	c->g = g;
	c->most_blocks = (journal_max_payload(g->journal) - VOLUME_HEAD_BYTES) / MAP_BLOCK_BYTES;
	if (c->most_blocks > GROUP_MAX_WRITE_BLOCKS)
		c->most_blocks = GROUP_MAX_WRITE_BLOCKS;
	c->batch = aligned_alloc(MAP_BLOCK_BYTES, (size_t)c->most_blocks * MAP_BLOCK_BYTES);
	c->segment = aligned_alloc(MAP_BLOCK_BYTES, g->settings.segment_bytes);
	c->unread = calloc(g->segment_blocks / PIECE_BLOCKS + 1, 1);
	bool has_memory = c->batch != NULL && c->segment != NULL && c->unread != NULL;
	int rc = has_memory ? clean_victims(c, victims, n, budget_of(g)) : -ENOMEM;
	free(c->batch);
	free(c->segment);
	free(c->unread);
	free(c);
	return rc;
}
