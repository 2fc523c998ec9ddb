/* log.c - a log's life; and how its parts go together.
 *
 * Parts. store/logs: which segments there are, and sealing. journal: framing, group commit, the end after a crash. open: recovery.
 * segment: images of what is not sealed, and the walk over the records in them. append, cursor: what goes in and comes out. view:
 * sealed segments through the cache. upkeep: seals, removals, spares. destage: moves to another class.
 * keys: where the newest record with a key is.
 *
 * A segment: SPARE → NEXT → OPEN → SEALED → GONE. One that is moved is GONE, and a new one SEALED in its place. The store's list of a log's segments is, in this order: sealed ones, open ones
 * (the last is the tail), the one that the journal has got for later, spares.
 *
 * Invariants (under the log's lock):
 *   1. log->segments is a prefix of the store's list, or all of it; in the same order.
 *   2. An OPEN segment has an image; a NEXT one too. A SEALED one is an object, and has none.
 *   3. The journal's first segment is the oldest that is OPEN; its number is seal_no, but for a moment while one is sealed.
 *   4. A segment is sealed only when something of a later one is durable: so the first that has no footer has a header.
 *   5. first_lsn is the first number of the oldest segment.
 *   6. A walk goes only over records that are visible, and the journal's own before them.
 *
 * Threads. Anybody may call anything. The lock is held for a moment, longest for a walk over a segment's headers; never
 * across I/O. It is taken inside the journal's (segment_memory), so nothing of the journal's that locks is called under it.
 * log->removal is held across I/O by who removes segments. The store's locks are below both.
 *
 * Failure. The journal stops at the first durable write that fails; see quire/log.h. Upkeep that fails is tried again.
 */
#include "log_internal.h"

#include "../base/fail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_SEGMENT_BYTES (16u << 20)
#define DEFAULT_SEGMENTS 1024u /* that a class has room for */

/* ---- which there are ---- */

static int may_call(struct quire_store *store, const char *name, struct quire_error *err)
{
	const struct store_config *config = store_config_of(store_inside(store));

	if (config->cache != NULL && cache_is_of_parent(config->cache))
		return quire_fail(err, -ECHILD, "log %s", name);
	return log_would_block_loop() ? quire_fail(err, -EDEADLK, "log %s", name) : 0;
}

static uint32_t default_segment_bytes(struct store *s, unsigned cls)
{
	uint32_t bytes = DEFAULT_SEGMENT_BYTES;
	struct store_stat stat;

	store_stat(s, &stat);
	while (bytes > FORMAT_LOG_MIN_SEGMENT_BYTES && (uint64_t)bytes * DEFAULT_SEGMENTS > stat.classes[cls].bytes)
		bytes /= 2;
	return bytes;
}

static void destage_settings(const struct quire_log_options *o, struct store_log_settings *ret)
{
	uint64_t n = o->destage_keep_bytes / ret->segment_bytes + (o->destage_keep_bytes % ret->segment_bytes != 0);

	ret->destage_class = (unsigned)o->destage_to;
	ret->destage_keep = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

int quire_log_create(struct quire_store *store, const char *name, const struct quire_log_options *opts,
                     struct quire_error *err)
{
	struct quire_log_options o = {0};
	struct store *s = store_inside(store);
	uint64_t id;
	int rc = may_call(store, name, err);

	if (rc < 0)
		return rc;
	if (opts != NULL) {
		if (opts->size == 0 || opts->size > sizeof(o))
			return quire_fail(err, -EINVAL, "log options of %zu bytes", opts->size);
		memcpy(&o, opts, opts->size);
	}
	if (strnlen(name, QUIRE_LOG_NAME_MAX + 1) > QUIRE_LOG_NAME_MAX)
		return quire_fail(err, -EINVAL, "a log's name of more than %d characters", QUIRE_LOG_NAME_MAX);
	if ((unsigned)o.cls >= STORE_N_CLASSES)
		return quire_fail(err, -EINVAL, "log %s: class %d", name, (int)o.cls);
	struct store_log_settings settings = {
		.class_no = (unsigned)o.cls,
		.segment_bytes = o.segment_bytes != 0 ? o.segment_bytes : default_segment_bytes(s, (unsigned)o.cls),
		.retain_bytes = o.retain_bytes,
		.retain_ns = o.retain_ns,
		.retain_records = o.retain_records,
		.keys = o.keys,
		.destages = o.destage,
	};
	if (o.destage)
		destage_settings(&o, &settings);
	memcpy(settings.name, name, strlen(name));
	rc = store_log_create(s, &settings, &id);
	return rc < 0 ? quire_fail(err, rc, "log %s", name) : 0;
}

/* One for which this is the face. */
static int find_log(struct store *s, const char *name, struct store_log_info *ret)
{
	int rc = store_log_find(s, name, ret);

	return rc == 0 && ret->settings.volumes ? -ENOENT : rc;
}

int quire_log_rm(struct quire_store *store, const char *name, struct quire_error *err)
{
	struct store *s = store_inside(store);
	struct store_log_info info;
	int rc = may_call(store, name, err);

	if (rc < 0)
		return rc;
	rc = find_log(s, name, &info);
	if (rc == 0)
		rc = store_log_destroy(s, info.id);
	return rc < 0 ? quire_fail(err, rc == -ESTALE ? -ENOENT : rc, "log %s", name) : 0;
}

static void inform(const struct store_log_info *from, struct quire_log_info *ret)
{
	*ret = (struct quire_log_info){
		.id = from->id,
		.cls = (enum quire_class)from->settings.class_no,
		.segment_bytes = from->settings.segment_bytes,
		.retain_bytes = from->settings.retain_bytes,
		.retain_ns = from->settings.retain_ns,
		.retain_records = from->settings.retain_records,
		.n_segments = from->n_segments,
		.allocated_bytes = from->allocated_bytes,
		.open = from->open,
		.keys = from->settings.keys,
		.destage = from->settings.destages,
		.destage_to = (enum quire_class)from->settings.destage_class,
		.destage_keep_bytes = (uint64_t)from->settings.destage_keep * from->settings.segment_bytes,
		.n_destaged = from->n_moved,
	};
	static_assert(sizeof(ret->name) == sizeof(from->settings.name), "one size");
	memcpy(ret->name, from->settings.name, sizeof(ret->name));
}

int quire_log_ls(struct quire_store *store, uint64_t after, struct quire_log_info *ret_info)
{
	struct store_log_info info;

	do {
		if (!store_log_next(store_inside(store), after, &info))
			return 0;
		after = info.id;
	} while (info.settings.volumes);
	inform(&info, ret_info);
	return 1;
}

int quire_log_find(struct quire_store *store, const char *name, struct quire_log_info *ret_info)
{
	struct store_log_info info;
	int rc = find_log(store_inside(store), name, &info);

	if (rc == 0)
		inform(&info, ret_info);
	return rc;
}

/* ---- waiting ---- */

bool log_ready(struct wait_queue *q, const struct wait *w, int *ret_result)
{
	struct quire_log *log = log_of_waits(q);
	struct journal *j = log->journal;
	bool ready = false;

	*ret_result = 0;
	switch ((enum log_wait)w->kind) {
	case WAIT_IDLE:
		return !log->upkeep_runs || (w->target != 0 && log->n_moves >= w->target);
	case WAIT_SPARE:
		return !log->preparing;
	case WAIT_MOVE:
		return !log->moving;
	case WAIT_SEALS:
		return !log->upkeep_runs || journal_segment_durable(j) - atomic_load(&log->seal_no) < LOG_MAX_UNSEALED;
	case WAIT_VISIBLE:
	case WAIT_DURABLE:
		/* First the flag, then the mark; log_moved looks at them the other way round. */
		atomic_store(&log->has_waits, true);
		ready = w->target < (w->kind == WAIT_DURABLE ? journal_n_durable(j) : journal_n_visible(j));
		*ret_result = ready ? 0 : journal_error(j);
		break;
	}
	return ready || *ret_result < 0;
}

void log_unlock_and_wake(struct quire_log *log)
{
	struct wait *swept = wait_sweep(&log->waits);

	pthread_mutex_unlock(&log->waits.lock);
	wait_finish(swept);
}

void log_moved(void *owner)
{
	struct quire_log *log = owner;

	if (atomic_load(&log->has_waits)) {
		log_lock(log);
		atomic_store(&log->has_waits, false);
		log_unlock_and_wake(log);
	}
	uint64_t durable = journal_segment_durable(log->journal);
	if (durable > atomic_load_explicit(&log->kicked_no, memory_order_relaxed)) {
		log_lock(log);
		if (durable > atomic_load(&log->kicked_no)) {
			atomic_store(&log->kicked_no, durable);
			log_kick_upkeep(log);
		}
		log_unlock(log);
	}
}

/* ---- the end ---- */

void log_free(struct quire_log *log)
{
	if (log == NULL)
		return;
	journal_close(log->journal);
	log_lock(log);
	log->closing = true;
	while (log->n > 0)
		log_segment_put(log->segments[--log->n]);
	log_unlock(log);
	log_free_dead(log);
	log_keys_free(log);
	store_log_close(log->space);
	latch_fini(&log->removal);
	wait_queue_fini(&log->waits);
	process_mark_fini(&log->process);
	free(log->segments);
	free(log);
}

/* Nobody else may be in it. */
static int begin_close(struct quire_log *log)
{
	log_lock(log);
	bool waits = false;
	for (const struct wait *w = log->waits.first; w != NULL && !waits; w = w->next)
		waits = w->kind == WAIT_VISIBLE || w->kind == WAIT_DURABLE;
	int rc = atomic_load(&log->n_calls) != 0 || log->n_cursors != 0 || waits ? -EBUSY : 0;
	if (rc == 0)
		log->closing = true;
	log_unlock(log);
	return rc;
}

int quire_log_close(struct quire_log *log)
{
	if (log == NULL)
		return 0;
	if (log_is_of_parent(log))
		return -ECHILD;
	if (log_would_block_loop())
		return -EDEADLK;
	int rc = begin_close(log);
	if (rc < 0)
		return rc;
	uint64_t n = journal_n_records(log->journal);
	if (!log->read_only && n > journal_n_durable(log->journal))
		rc = journal_sync(log->journal, n - 1, NULL);
	(void)wait_for(&log->waits, WAIT_IDLE, 0, NULL);
	log_free(log);
	return rc;
}

/* ---- looking ---- */

unsigned quire_log_segments(struct quire_log *log, struct quire_log_segment *ret, unsigned n)
{
	unsigned k = 0;

	log_lock(log);
	(void)log_segment_walk_all(log, journal_n_visible(log->journal));
	for (unsigned i = 0; i < log->n; i++) {
		const struct log_segment *seg = log->segments[i];
		if (seg->state == SEGMENT_SPARE || seg->state == SEGMENT_NEXT)
			continue;
		if (k < n)
			ret[k] = (struct quire_log_segment){
				.id = seg->id,
				.first_lsn = seg->footer.first_no,
				.end_lsn = seg->footer.end_no,
				.first_time_ns = seg->footer.first_time,
				.last_time_ns = seg->footer.last_time,
				.len_bytes = seg->footer.end_bytes,
				.sealed = seg->state == SEGMENT_SEALED,
				.cls = (enum quire_class)seg->class_no,
			};
		k++;
	}
	log_unlock(log);
	return k;
}

int64_t quire_log_trim(struct quire_log *log, uint64_t lsn)
{
	int64_t rc = log_enter(log);

	if (rc < 0)
		return rc;
	rc = log->read_only ? -EROFS : log_remove_below(log, lsn);
	log_leave(log);
	return rc;
}

int64_t quire_log_retain(struct quire_log *log)
{
	int64_t rc = log_enter(log);

	if (rc < 0)
		return rc;
	rc = log->read_only ? -EROFS : log_obey_retention(log);
	log_leave(log);
	return rc;
}

int quire_log_stat(struct quire_log *log, struct quire_log_stat *ret_stat)
{
	struct store_log_info info;

	if (log_is_of_parent(log))
		return -ECHILD;
	struct quire_log_stat s = {.error = journal_error(log->journal)};
	int rc = store_log_find(log->store, log->info.name, &info);
	if (rc < 0)
		return rc;
	inform(&info, &s.info);
	log_lock(log);
	s.first_lsn = atomic_load(&log->first_lsn);
	s.durable = journal_n_durable(log->journal);
	s.visible = journal_n_visible(log->journal);
	for (unsigned i = 0; i < log->n; i++)
		s.n_sealed += log->segments[i]->state == SEGMENT_SEALED;
	s.memory_bytes = log->n_images * log->info.segment_bytes + log->index_bytes;
	s.n_cursors = log->n_cursors;
	s.n_recovered = log->n_recovered;
	s.n_seals = log->n_seals;
	s.upkeep_error = log->upkeep_error;
	s.n_ram_reads = atomic_load(&log->n_ram_reads);
	s.n_direct_reads = atomic_load(&log->n_direct_reads);
	s.n_promoted = atomic_load(&log->n_promoted);
	if (log->keys != NULL) {
		s.n_keys = log->keys->table.n;
		s.keys_bytes = log->keys->charged_bytes;
		s.memory_bytes += s.keys_bytes;
	}
	log_unlock(log);
	*ret_stat = s;
	return 0;
}
