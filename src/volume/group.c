/* group.c - a group of volumes: all of one store, in one class; its life.
 *
 * What it consists of. map_* (which block lies where), look (asked of all there is), append and append_* (what goes into the log, in turns), apply (what that does to the map),
 * segments (the log's space), space (who gets it, and waits for it), victims and clean (some becomes free), table (volumes and trees), checkpoint and checkpoint_file (the map becomes pages, and is
 * durable), open and redo (reading it all again), head (what is known of damage there), change (snapshots, clones, …), partial (what is made in several steps), handle, io (reading and
 * writing), call (with an op, and without), status and diff (what blocks are, and which are other than before), property (what else is known of a
 * volume), base (what it lies over), stream, send and receive (from store to store).
 *
 * All volumes of a group share one log, so that one durable write serves them all and clones share what they
 * have in common. A write is one record, which holds data and mapping; a write is in the map as soon as its record is in the log, so
 * nothing that is read was not taken in, and what was durable is found by reading the records behind the last checkpoint.
 *
 * True at every moment:
 *   1. Tables and deltas are what the checkpoint's are, with all records behind its place done to them, in order.
 *   2. A tree that is frozen, or given up, is not in the active delta's future: nothing is set for it any more. Only such ones
 *      are parents.
 *   3. What a tree has of its parent is exactly what was born when that was frozen, or before.
 *   4. A segment's n_live is the number of its blocks that some tree's pages or deltas have, or are; but for what the next
 *      checkpoint will find dead.
 *   5. A segment is removed only when it is before the place from which records are read, and nothing in it is needed: the durable
 *      checkpoint has nothing live there, or durable records behind its place have all of that elsewhere (clean.c).
 *
 * Threads: any. waits.lock guards all but what the turn to append guards, and is never held across I/O or while callers' memory is
 * touched; below it: the map cache's, the budget. The journal's is above it. Two workers, each a coroutine of the service loop: the
 * sealer waits for nobody; who makes checkpoints appends like anybody, and so may wait for the sealer.
 *
 * Failure. A durable write of the log that fails stops it: no more writes, until it was opened again. A checkpoint that fails is
 * tried again when there is a reason; until then the deltas grow to their limit, and writers wait, or have its error.
 */
#include "volume_internal.h"

#include "../cache/core.h"

#include "../base/assert.h"
#include "../base/fail.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_MAP_BYTES (8u << 20)
#define MIN_MAP_BYTES (256u << 10)
#define MIN_CACHE_BYTES (64u << 10)
#define DEFAULT_CHECKPOINT_BYTES (256u << 20)
#define MAX_SEGMENT_BYTES (16u << 20)
#define CLASS_PART 2u /* of the class in blocks: a segment's blocks are the root of that at most */

/* ---- waiting ---- */

static bool is_ready(struct wait_queue *q, const struct wait *w, int *ret_result)
{
	struct quire_volumes *g = group_of_waits(q);

	*ret_result = 0;
	switch (w->kind) {
	case WAIT_APPENDED:
		return request_is_ready(g, (struct request *)(uintptr_t)w->target, ret_result);
	case WAIT_ROOM:
		*ret_result = map_delta_bytes(&g->active) < group_delta_limit(g) ? 0 : g->checkpoint_error;
		return map_delta_bytes(&g->active) < group_delta_limit(g) || (g->checkpoint_error < 0 && !g->checkpointer.runs);
	case WAIT_SEALS:
		*ret_result = g->seal_error;
		return group_n_unsealed(g) <= GROUP_MAX_UNSEALED || (g->seal_error < 0 && !g->sealer.runs);
	case WAIT_SEALED:
		*ret_result = g->seal_error;
		return !group_has_open_below(g, w->target) || (g->seal_error < 0 && !g->sealer.runs);
	case WAIT_CHECKPOINT:
		return g->n_tried >= w->target;
	case WAIT_SPARE:
		return !g->preparing;
	case WAIT_SPACE:
		return g->n_space_news > w->target;
	default:
		return !g->sealer.runs && !g->checkpointer.runs;
	}
}

void group_unlock_and_wake(struct quire_volumes *g)
{
	struct wait *swept = wait_sweep(&g->waits);

	pthread_mutex_unlock(&g->waits.lock);
	wait_finish(swept);
}

/* ---- workers ---- */

static void run_worker(void *arg)
{
	struct worker *w = arg;
	struct quire_volumes *g = w->group;

	for (;;) {
		group_lock(g);
		bool again = w->again;
		w->again = false;
		if (!again)
			w->runs = false;
		group_unlock_and_wake(g);
		if (!again)
			return;
		w->work(g);
	}
}

static void worker_posted(struct loop_task *task)
{
	struct worker *w = (struct worker *)((char *)task - offsetof(struct worker, task));

	if (quire_co_spawn(store_config_of(w->group->store)->service, run_worker, w) == 0)
		return;
	group_lock(w->group);
	w->runs = false;
	w->group->checkpoint_error = w->group->seal_error = -ENOMEM;
	w->group->n_rounds++;
	w->group->n_space_news++;
	group_unlock_and_wake(w->group);
}

void worker_kick(struct worker *w)
{
	if (w->group->closed)
		return;
	w->again = true;
	if (w->runs)
		return;
	w->runs = true;
	loop_task_init(&w->task, worker_posted);
	loop_post(store_config_of(w->group->store)->service, &w->task);
}

void group_moved(void *owner)
{
	struct quire_volumes *g = owner;

	if (g->journal == NULL)
		return;
	uint64_t durable = journal_segment_durable(g->journal);
	if (durable <= atomic_load_explicit(&g->kicked_no, memory_order_relaxed))
		return;
	group_lock(g);
	if (durable > atomic_load(&g->kicked_no)) {
		atomic_store(&g->kicked_no, durable);
		worker_kick(&g->sealer);
	}
	group_unlock(g);
}

/* ---- life ---- */

/* Half built or whole; nothing under way. */
static void group_free(struct quire_volumes *g)
{
	struct idmap_node *node;

	if (g == NULL)
		return;
	volume_bases_free(g);
	journal_close(g->journal);
	checkpoint_free(g->checkpoint);
	table_free(g);
	while ((node = idmap_any(&g->segments)) != NULL) {
		idmap_remove(&g->segments, node);
		segment_free(g, (struct segment *)node);
	}
	while (g->n_young > 0)
		segment_free(g, g->young[g->n_young - 1]);
	group_free_images(g);
	idmap_fini(&g->segments);
	free(g->young);
	map_delta_fini(&g->active);
	map_delta_fini(&g->frozen);
	map_delta_fini(&g->touched);
	map_cache_unshare(g->cache);
	map_cache_unshare(g->data);
	store_log_close(g->space);
	wait_queue_fini(&g->waits);
	process_mark_fini(&g->process);
	free(g);
}

static struct quire_volumes *group_new(struct store *s)
{
	struct quire_volumes *g = calloc(1, sizeof(*g));

	if (g == NULL)
		return NULL;
	g->store = s;
	process_mark_init(&g->process);
	g->owner = (struct group_owner){{map_cache_new_owner(), group_read_page, group_write_pages, group_merge_dead}, g};
	g->moved_owner = (struct group_owner){{map_cache_new_owner(), group_read_moved_page, group_write_pages, group_merge_dead}, g};
	wait_queue_init(&g->waits, store_config_of(s)->service);
	g->waits.ready = is_ready;
	g->sealer = (struct worker){.work = group_seal, .group = g};
	g->checkpointer = (struct worker){.work = group_checkpoint, .group = g};
	g->read_only = store_config_of(s)->read_only;
	g->generation = 1;
	g->next_id = 1;
	return g;
}

/* A segment has some blocks of its own; and some segments are kept free, whatever their size. Both together are least about the root of the class, in
 * blocks. */
static uint32_t choose_segment_bytes(struct store *s, unsigned class_no)
{
	uint32_t bytes = MAX_SEGMENT_BYTES;
	struct store_stat stat;

	store_stat(s, &stat);
	uint64_t most = stat.classes[class_no].bytes / MAP_BLOCK_BYTES / CLASS_PART;
	while (bytes > FORMAT_LOG_MIN_SEGMENT_BYTES && (uint64_t)(bytes / MAP_BLOCK_BYTES) * (bytes / MAP_BLOCK_BYTES) > most)
		bytes /= 2;
	return bytes;
}

static int find_or_make(struct store *s, const struct quire_volumes_options *o, uint64_t *ret_id, struct quire_error *err)
{
	struct store_log_settings settings = {.class_no = (unsigned)o->cls, .segment_bytes = o->segment_bytes, .volumes = true};
	struct store_log_info info;

	if ((unsigned)o->cls >= STORE_N_CLASSES)
		return quire_fail(err, -EINVAL, "volumes: no such class");
	(void)snprintf(settings.name, sizeof(settings.name), ".volumes-%s", store_class_names[o->cls]);
	int rc = store_log_find(s, settings.name, &info);
	if (rc == 0) {
		*ret_id = info.id;
		return 0;
	}
	if (store_config_of(s)->read_only || o->existing)
		return quire_fail(err, -ENOENT, "volumes: there are none");
	if (settings.segment_bytes == 0)
		settings.segment_bytes = choose_segment_bytes(s, settings.class_no);
	rc = store_log_create(s, &settings, ret_id);
	return rc < 0 ? quire_fail(err, rc, "volumes: making their log") : 0;
}

int quire_volumes_open(struct quire_store *store, const struct quire_volumes_options *opts, struct quire_volumes **ret_volumes,
                       struct quire_error *err)
{
	struct quire_volumes_options o = {0};
	struct store *s = store_inside(store);

	if (opts != NULL)
		memcpy(&o, opts, opts->size < sizeof(o) ? opts->size : sizeof(o));
	const struct store_config *config = store_config_of(s);
	if (config->cache != NULL && cache_is_of_parent(config->cache))
		return quire_fail(err, -ECHILD, "volumes");
	if (quire_loop_self() != NULL && !quire_in_coroutine())
		return quire_fail(err, -EDEADLK, "volumes");
	if (o.map_bytes == 0)
		o.map_bytes = DEFAULT_MAP_BYTES;
	if (o.map_bytes < MIN_MAP_BYTES)
		o.map_bytes = MIN_MAP_BYTES;
	if (o.cache_bytes == 0)
		o.cache_bytes = budget_limit(store_config_of(s)->budget) / 2;
	struct quire_volumes *g = group_new(s);
	if (g == NULL)
		return quire_fail(err, -ENOMEM, "volumes");
	g->checkpoint_bytes = o.checkpoint_bytes != 0 ? o.checkpoint_bytes : DEFAULT_CHECKPOINT_BYTES;
	struct quire_error why = {0};
	int rc = find_or_make(s, &o, &g->log_id, &why);
	if (rc == 0)
		rc = map_cache_share(MAP_CACHE_PAGES, o.map_bytes / 2, store_config_of(s)->budget, &g->cache);
	if (rc == 0 && o.cache_bytes >= MIN_CACHE_BYTES)
		rc = map_cache_share(MAP_CACHE_DATA, o.cache_bytes, store_config_of(s)->budget, &g->data);
	if (rc == 0) {
		rc = store_log_open(s, g->log_id, &g->space);
		if (rc < 0)
			(void)quire_fail(&why, rc, "volumes: opening their log");
	}
	if (rc == 0)
		rc = group_recover(g, &why);
	if (rc < 0) {
		group_free(g);
		return quire_fail_as(err, rc, &why, "volumes");
	}
	*ret_volumes = g;
	return 0;
}

static int begin_close(struct quire_volumes *g)
{
	int rc = atomic_load(&g->n_calls) != 0 ? -EBUSY : 0;

	group_lock(g);
	for (struct idmap_node *node = idmap_any(&g->volumes); node != NULL; node = idmap_after(&g->volumes, node))
		if (((struct volume *)node)->n_open != 0)
			rc = -EBUSY;
	if (rc == 0)
		g->closing = true;
	group_unlock(g);
	return rc;
}

/* A checkpoint that has begun is made; none begins any more. */
static void stop_workers(struct quire_volumes *g)
{
	while (!g->closed) {
		(void)wait_for(&g->waits, WAIT_IDLE, 0, NULL);
		group_lock(g);
		g->closed = !g->sealer.runs && !g->checkpointer.runs;
		group_unlock(g);
	}
}

int quire_volumes_close(struct quire_volumes *g)
{
	if (g == NULL)
		return 0;
	if (group_is_of_parent(g))
		return -ECHILD;
	if (quire_loop_self() != NULL && !quire_in_coroutine())
		return -EDEADLK;
	int rc = begin_close(g);
	if (rc < 0)
		return rc;
	if (!g->read_only && g->next_no > journal_n_durable(g->journal))
		rc = journal_sync(g->journal, g->next_no - 1, NULL);
	stop_workers(g);
	group_free(g);
	return rc;
}
