/* apply.c - what a record of data does to the map, and to what segments have: at once when it was appended, and again when it is read.
 *
 * What is read was checked for bytes that changed, not for sense: who made them may have been anybody. So each entry is judged before it counts.
 */
#include "volume_internal.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

static int set_all(struct quire_volumes *g, uint32_t tree, struct map_extent e)
{
	struct tree_dead dead = {g, tree == VOLUME_MOVED_TREE ? NULL : tree_find(g, tree)};
	int rc = 0;

	while (rc == 0 && e.n > 0) {
		uint64_t n = e.n < MAP_DELTA_MAX_N ? e.n : MAP_DELTA_MAX_N;
		struct map_extent first = map_cut(&e, e.lba, e.lba + n);
		rc = map_delta_set(&g->active, tree, &first, tree_dead, &dead);
		if (rc == 0 && map_is_data(first.place))
			tree_count(g, dead.tree, (int64_t)n, 0, (int64_t)n);
		else if (rc == 0 && first.place == MAP_ZERO)
			tree_count(g, dead.tree, 0, (int64_t)n, 0);
		e = map_cut(&e, e.lba + n, map_end(&e));
	}
	return rc;
}

int group_apply_data(struct quire_volumes *g, const uint8_t *head, uint64_t place)
{
	const struct data_le *data = (const struct data_le *)head;
	const uint8_t *at = head + sizeof(*data);
	uint32_t n_blocks = le32toh(data->n_blocks);
	int rc = 0;

	if (le32toh(data->n_entries) > VOLUME_MAX_ENTRIES)
		return -EUCLEAN;
	for (uint32_t i = 0; rc == 0 && i < le32toh(data->n_entries); i++) {
		struct entry_le le;
		memcpy(&le, at + i * sizeof(le), sizeof(le));
		struct map_extent e = {le64toh(le.lba), le64toh(le.n), le.kind == ENTRY_ZERO ? MAP_ZERO : MAP_HOLE,
		                       le64toh(le.birth)};
		uint32_t tree = le32toh(le.tree);
		bool has_blocks = le.kind != ENTRY_HOLE && le.kind != ENTRY_ZERO;
		if (!map_is_possible(&e, g->generation) || le.kind > ENTRY_FIRST || (has_blocks && e.n > n_blocks) || tree_find(g, tree) == NULL)
			return -EUCLEAN;
		if (has_blocks && le.kind != ENTRY_NONE) {
			e.place = place;
			group_count_live(g, place, (int64_t)e.n);
		}
		if (le.kind == ENTRY_FIRST)
			group_leave_place(g, e.lba, e.n);
		if (has_blocks) {
			place += e.n;
			n_blocks -= (uint32_t)e.n;
		}
		if (le.kind != ENTRY_NONE)
			rc = set_all(g, tree, e);
	}
	return rc;
}
