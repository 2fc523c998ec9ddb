/* append_change.c - a change of volumes and trees goes into the log: a hole before it, if one is to be punched, then the tables. */
#include "batch.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

/* A hole, by itself. */
static int append_hole(struct batch *b, struct request *r)
{
	struct quire_volumes *g = b->g;
	struct journal_place at;

	batch_begin(b);
	group_lock(g);
	struct entry_le le = {
		.lba = htole64(r->lba),
		.n = htole64(r->n),
		.birth = htole64(g->generation),
		.tree = htole32(volume_find(g, r->volume)->tree),
		.kind = ENTRY_HOLE,
	};
	group_unlock(g);
	((struct data_le *)b->head)->n_entries = htole32(1);
	memcpy(b->head + sizeof(struct data_le), &le, sizeof(le));
	int rc = batch_append(b, VOLUME_DATA, &at);
	if (rc < 0)
		return rc;
	group_lock(g);
	rc = group_apply_data(g, b->head, 0);
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
	batch_begin(b);
	memcpy(b->head, head, sizeof(b->head));
	if (rc == 0)
		rc = batch_append(b, VOLUME_TABLE, &at);
	if (rc == 0)
		r->record_no = at.record_no;
	return rc;
}

int append_change(struct batch *b, struct request *r)
{
	struct quire_volumes *g = b->g;
	_Alignas(struct table_le) uint8_t head[VOLUME_HEAD_BYTES] = {0};
	struct table_le *table = (struct table_le *)head;

	group_lock(g);
	table->generation = htole64(g->generation);
	table->next_id = htole32(g->next_id);
	int rc = r->change(r, table);
	if (rc == 0 && !table_is_possible(g, table))
		rc = -EOVERFLOW;
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
