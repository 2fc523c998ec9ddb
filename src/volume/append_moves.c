/* append_moves.c - blocks that cleaning gives another place go into the log: what is still where it was found, in as many records as it takes.
 *
 * Whoever overwrites a block meanwhile comes before, or behind, in the log's turns; so one look at the deltas tells whether it may be moved. What may
 * not be is in the record all the same, and is nothing's.
 */
#include "batch.h"

#include "../base/canary.h"

#include <endian.h>
#include <string.h>

/* Where in a request's moves a record begins. */
struct at_move {
	unsigned i;
	uint64_t n_done; /* of that one */
	uint64_t n_blocks; /* before it in all */
};

/* Is a piece still where it is to be moved from, and nobody else's? Lock held. */
static bool may_move(const struct quire_volumes *g, uint32_t tree, uint64_t lba, uint64_t n)
{
	uint64_t end = lba + n;

	if (tree != VOLUME_MOVED_TREE && tree_has_children(g, tree))
		return false;
	while (lba < end) {
		struct map_extent now;
		struct map_root root;
		uint64_t to;
		if (group_look_young(g, tree, lba, end, &now, &to, &root))
			return false;
		lba = to;
	}
	return true;
}

/* n blocks of a move, from its n_done'th on. Lock held. */
static void add_move(struct batch *b, const struct move *m, uint64_t n_done, uint64_t n)
{
	uint64_t lba = m->lba + n_done;
	bool may = may_move(b->g, m->tree, lba, n);
	struct entry_le le = {
		.lba = htole64(lba),
		.n = htole64(n),
		.birth = htole64(m->birth),
		.tree = htole32(m->tree),
		.kind = !may && !CANARY(cleaner_brings_back_old) ? ENTRY_NONE : m->first ? ENTRY_FIRST : ENTRY_DATA,
	};

	/* A single block that was changed lies there no more. */
	*m->left |= !may && (n > 1 || tree_has_children(b->g, m->tree));
	memcpy(b->head + sizeof(struct data_le) + b->n++ * sizeof(le), &le, sizeof(le));
	b->n_blocks += (uint32_t)n;
}

/* One record of them. */
static int append_some(struct batch *b, const struct request *r, struct at_move *at)
{
	struct quire_volumes *g = b->g;
	const struct move *moves = r->arg;
	struct journal_place place;

	batch_begin(b);
	uint32_t most = batch_most_blocks(b);
	uint8_t *from = (uint8_t *)r->parts[0].iov_base + at->n_blocks * MAP_BLOCK_BYTES;
	group_lock(g);
	while (at->i < r->n_moves && b->n_blocks < most) {
		uint64_t left = moves[at->i].n - at->n_done, n = left < most - b->n_blocks ? left : most - b->n_blocks;
		add_move(b, &moves[at->i], at->n_done, n);
		at->n_done = n < left ? at->n_done + n : 0;
		at->i += n == left;
	}
	group_unlock(g);
	at->n_blocks += b->n_blocks;
	struct data_le *data = (struct data_le *)b->head;
	data->n_entries = htole32(b->n);
	data->n_blocks = htole32(b->n_blocks);
	b->parts[b->n_parts++] = (struct iovec){from, (size_t)b->n_blocks * MAP_BLOCK_BYTES};
	int rc = batch_append(b, VOLUME_DATA, &place);
	if (rc < 0)
		return rc;
	group_lock(g);
	rc = group_apply_data(g, b->head, place_of(g, place.segment_no, place.offset) + 1);
	group_unlock(g);
	return rc;
}

int append_moves(struct batch *b, struct request *r)
{
	struct at_move at = {0};
	int rc = 0;

	while (rc == 0 && at.i < r->n_moves)
		rc = append_some(b, r, &at);
	return rc;
}
