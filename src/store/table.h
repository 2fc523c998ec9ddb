/* table.h - the cache of checksums: for each group of pages of an object, their sums, as long as there is
 * room for them under the budget (BUDGET_TABLES).
 *
 * Any thread; one lock, never held across I/O. What a table says was checked when it was read.
 */
#ifndef STORE_TABLE_H
#define STORE_TABLE_H

#include "idmap.h"
#include "../base/budget.h"
#include "../media/device.h"

#include <pthread.h>

struct object;

struct table {
	struct idmap_node node;      /* by a hash of object and group */
	struct table *newer, *older;
	uint64_t object_id, group;
	unsigned n_refs;
	bool used, listed;
	bool alone;                  /* one reader's own, neither in the map nor in the list */
	bool ready;                  /* sums are there, or error is */
	int error;
	struct table_wait *waits;    /* for it to be ready */
	uint32_t n;
	uint32_t sums[];
};

struct table_cache {
	pthread_mutex_t lock;
	struct budget *budget;       /* borrowed */
	struct idmap map;
	struct table *newest, *oldest;
	uint64_t n_bytes;
};

/* Of whoever waits; still until ready() ran. */
struct table_wait {
	struct table_wait *next;
	struct quire_loop *loop;
	struct loop_task task;
	void (*ready)(struct table_wait *w); /* on its loop; look at table->error */
	struct table *table;                 /* held: table_put is due */
};

void table_cache_init(struct table_cache *c, struct budget *budget);
void table_cache_fini(struct table_cache *c); /* nobody holds one */

/* The sums of a group, on the loop whose turn it is; alone: waits for no other loop that is reading them. 1: w->table is ready. 0: it will be, w->ready() tells. -ENOMEM. */
int table_get(struct table_cache *c, struct quire_loop *loop, const struct object *o, uint64_t group, bool alone,
              struct table_wait *w);
void table_put(struct table_cache *c, struct table *t);

/* Copies n sums from `first` of the group on, if they are here and the lock is free. For fault handlers. */
bool table_try_copy(struct table_cache *c, uint64_t object_id, uint64_t group, uint32_t first, uint32_t n,
                    uint32_t *ret_sums);

#endif
