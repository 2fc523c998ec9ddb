/* table.c - see table.h.
 *
 * States of a table: loading (in the map, so that others wait instead of reading it too) → ready, in the map and the list
 * → evicted; or → failed: out of the map at once, so that the next who asks tries again.
 *
 * Replacement: a second chance for what was used since its turn last came. Tables that are held stay. Up to their share
 * of the budget, tables displace pages, each being needed for a thousand of them. What can't be had within
 * the budget is charged beyond it, for as long as it is held: a read must come forward.
 *
 * Invariants (under the lock):
 *   1. A table is in the map unless it failed or is alone; it is in the list if it is ready and in the map.
 *   2. n_bytes is what all tables take, and charged.
 *   3. Only a table with n_refs == 0 is freed; loading counts as one.
 */
#include "store_internal.h"

#include "checksum.h"
#include "../base/assert.h"

#include <errno.h>
#include <stdlib.h>

#define TABLES_MIN_BYTES (256u << 10)
#define TABLES_SHARE 16u /* of the budget */

struct load {
	struct device_io io;
	struct table_cache *cache;
	struct table *table;
	struct sums_le *block; /* owned */
};

static uint64_t key_of(uint64_t id, uint64_t group)
{
	return id ^ (group * 0xff51afd7ed558ccdu);
}

static uint64_t table_bytes(const struct table *t)
{
	return sizeof(*t) + t->n * sizeof(t->sums[0]);
}

void table_cache_init(struct table_cache *c, struct budget *budget)
{
	*c = (struct table_cache){.budget = budget};
	pthread_mutex_init(&c->lock, NULL);
}

/* ---- list; lock held ---- */

static void list_add(struct table_cache *c, struct table *t)
{
	t->newer = NULL;
	t->older = c->newest;
	if (c->newest != NULL)
		c->newest->newer = t;
	else
		c->oldest = t;
	c->newest = t;
	t->listed = true;
}

static void list_remove(struct table_cache *c, struct table *t)
{
	*(t->newer != NULL ? &t->newer->older : &c->newest) = t->older;
	*(t->older != NULL ? &t->older->newer : &c->oldest) = t->newer;
	t->listed = false;
}

static void table_free(struct table_cache *c, struct table *t)
{
	c->n_bytes -= table_bytes(t);
	budget_uncharge(c->budget, BUDGET_TABLES, table_bytes(t));
	free(t);
}

static bool evict_one(struct table_cache *c)
{
	for (size_t n = 2 * c->map.n; n > 0 && c->oldest != NULL; n--) {
		struct table *t = c->oldest;
		list_remove(c, t);
		if (t->n_refs == 0 && !t->used) {
			idmap_remove(&c->map, &t->node);
			table_free(c, t);
			return true;
		}
		t->used = false;
		list_add(c, t);
	}
	return false;
}

static void charge(struct table_cache *c, uint64_t bytes)
{
	uint64_t most = budget_limit(c->budget) / TABLES_SHARE;

	if (most < TABLES_MIN_BYTES)
		most = TABLES_MIN_BYTES;
	while (c->n_bytes + bytes > most && evict_one(c))
		;
	while (!budget_try_charge(c->budget, BUDGET_TABLES, bytes)) {
		if (budget_reclaim(c->budget) || evict_one(c))
			continue;
		budget_charge(c->budget, BUDGET_TABLES, bytes);
		break;
	}
	c->n_bytes += bytes;
}

void table_cache_fini(struct table_cache *c)
{
	while (c->oldest != NULL) {
		struct table *t = c->oldest;
		quire_assert(t->n_refs == 0);
		list_remove(c, t);
		table_free(c, t);
	}
	idmap_fini(&c->map);
	pthread_mutex_destroy(&c->lock);
}

static struct table *find(const struct table_cache *c, uint64_t id, uint64_t group)
{
	struct idmap_node *node = idmap_find(&c->map, key_of(id, group));

	for (; node != NULL; node = node->next) {
		struct table *t = (struct table *)node;
		if (t->object_id == id && t->group == group)
			return t;
	}
	return NULL;
}

/* ---- loading ---- */

static void wait_over(struct loop_task *task)
{
	struct table_wait *w = (struct table_wait *)((char *)task - offsetof(struct table_wait, task));

	loop_release(w->loop);
	w->ready(w);
}

/* Under the lock: who waited gives his table back before he ends, so no cache ends while somebody is told. */
static void finish_waits(struct table_wait *w)
{
	while (w != NULL) {
		struct table_wait *next = w->next; /* w may be gone below */
		loop_task_init(&w->task, wait_over);
		if (loop_is_mine(w->loop))
			loop_defer(w->loop, &w->task);
		else
			loop_post(w->loop, &w->task);
		w = next;
	}
}

static void load_done(struct device_io *io, int result)
{
	struct load *load = (struct load *)io;
	struct table_cache *c = load->cache;
	struct table *t = load->table;

	if (result == 0)
		result = checksum_pick(t->object_id, t->group, load->block, 0, t->n, t->sums);
	pthread_mutex_lock(&c->lock);
	t->error = result;
	t->ready = true;
	struct table_wait *waits = t->waits;
	t->waits = NULL;
	if (!t->alone) {
		if (result == 0)
			list_add(c, t);
		else
			idmap_remove(&c->map, &t->node);
	}
	finish_waits(waits);
	pthread_mutex_unlock(&c->lock);
	free(load->block);
	free(load);
}

static struct load *load_new(struct table_cache *c, const struct object *o, uint64_t group)
{
	struct load *load = calloc(1, sizeof(*load));
	uint32_t n = format_group_pages(o->n_pages, group);
	struct table *t = calloc(1, sizeof(*t) + n * sizeof(t->sums[0]));
	struct sums_le *block = aligned_alloc(FORMAT_UNIT_BYTES, sizeof(*block));

	if (load == NULL || t == NULL || block == NULL) {
		free(load);
		free(t);
		free(block);
		return NULL;
	}
	t->object_id = o->node.id;
	t->group = group;
	t->n = n;
	load->cache = c;
	load->table = t;
	load->block = block;
	uint64_t unit = object_sums_unit(o, group);
	const struct extent *e = extents_find(o->extents, o->n_extents, unit);
	load->io = (struct device_io){
		.verb = DEVICE_READ,
		.offset = (e->start + (unit - e->logical)) * FORMAT_UNIT_BYTES,
		.len_bytes = sizeof(*block),
		.buf = block,
		.buffer_slot = -1,
		.done = load_done,
	};
	return load;
}

int table_get(struct table_cache *c, struct quire_loop *loop, const struct object *o, uint64_t group, bool alone,
              struct table_wait *w)
{
	struct load *load = NULL;
	int rc = 1;

	pthread_mutex_lock(&c->lock);
	struct table *t = find(c, o->node.id, group);
	alone = alone && t != NULL && !t->ready;
	if (t == NULL || alone) {
		load = load_new(c, o, group);
		if (load == NULL || (!alone && idmap_add(&c->map, &load->table->node, key_of(o->node.id, group)) < 0)) {
			if (load != NULL) {
				free(load->table);
				free(load->block);
			}
			free(load);
			pthread_mutex_unlock(&c->lock);
			return -ENOMEM;
		}
		t = load->table;
		t->alone = alone;
		charge(c, table_bytes(t));
	}
	t->n_refs++;
	t->used = true;
	w->table = t;
	w->loop = loop;
	if (!t->ready) {
		loop_hold(loop); /* which may have nothing else under way: another's loop may read the table */
		w->next = t->waits;
		t->waits = w;
		rc = 0;
	}
	pthread_mutex_unlock(&c->lock);
	if (load != NULL)
		device_submit(o->store->classes[o->class_no].device, loop, &load->io);
	return rc;
}

void table_put(struct table_cache *c, struct table *t)
{
	pthread_mutex_lock(&c->lock);
	if (--t->n_refs == 0 && !t->listed)
		table_free(c, t);
	pthread_mutex_unlock(&c->lock);
}

bool table_try_copy(struct table_cache *c, uint64_t object_id, uint64_t group, uint32_t first, uint32_t n,
                    uint32_t *ret_sums)
{
	if (pthread_mutex_trylock(&c->lock) != 0)
		return false;
	struct table *t = find(c, object_id, group);
	bool good = t != NULL && t->ready;
	for (uint32_t i = 0; i < n && good; i++)
		ret_sums[i] = t->sums[first + i];
	pthread_mutex_unlock(&c->lock);
	return good;
}
