/* upkeep.c - what is done beside the appends: full segments are sealed, old ones removed, the next one made ready, and
 * then, piece by piece with a look at all this in between, some moved to another class (destage.c).
 *
 * One coroutine of the store's service loop does it, while there is something to do. It is woken when something of a new segment is
 * durable: then everything of those before is, and a log that is opened finds the segment's header there, whatever
 * becomes of those before. So segments are sealed in order, and the first that has no footer begins the part that
 * a recovery reads.
 *
 * A spare is zeroed ahead, since a durable write over written blocks costs half of one into a hole. The journal asks for it
 * while somebody appends; if there is none, that append makes it.
 *
 * Failure: what could not be sealed or removed stays as it is, and is tried again with the next segment; appends go on until
 * LOG_MAX_UNSEALED wait, and then get the error.
 */
#include "log_internal.h"

#include "../base/assert.h"
#include "../base/canary.h"
#include "../cache/evict.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ZERO_BYTES (1u << 20)

static struct quire_loop *service_of(struct quire_log *log)
{
	return store_config_of(log->store)->service;
}

/* ---- spares ---- */

static struct log_segment *find_state(struct quire_log *log, enum log_segment_state state)
{
	for (unsigned i = 0; i < log->n; i++)
		if (log->segments[i]->state == state)
			return log->segments[i];
	return NULL;
}

static int zero_segment(struct quire_log *log, uint64_t offset)
{
	uint32_t n = log->info.segment_bytes < ZERO_BYTES ? log->info.segment_bytes : ZERO_BYTES;
	struct journal_options o;
	int rc = 0;

	store_log_journal(log->space, &o);
	void *zeros = aligned_alloc(FRAME_BLOCK_BYTES, n);
	if (zeros == NULL)
		return -ENOMEM;
	memset(zeros, 0, n);
	for (uint32_t done = 0; done < log->info.segment_bytes && rc == 0; done += n)
		rc = device_write(o.device, offset + done, zeros, n, false);
	free(zeros);
	return rc;
}

/* One more, behind the last. `preparing` is the caller's. A segment that is the log's and could not be zeroed is of use as well:
 * what is left in it is stale. */
static int prepare_spare(struct quire_log *log)
{
	struct store_log_segment got;
	struct log_segment *seg;

	/* What the store has added can't fail to be added here: the order is the same. */
	log_lock(log);
	int rc = log_segment_new(log, &seg);
	log_unlock(log);
	if (rc < 0)
		return rc;
	rc = store_log_add(log->space, &got);
	if (rc < 0) {
		free(seg);
		return rc;
	}
	(void)zero_segment(log, got.offset);
	log_lock(log);
	log_segment_add(seg, &got);
	log_unlock(log);
	return 0;
}

/* Prepares one unless there is one, or somebody is at it. Lock held; released meanwhile. */
static int ensure_spare(struct quire_log *log)
{
	if (log->preparing || find_state(log, SEGMENT_SPARE) != NULL)
		return 0;
	log->preparing = true;
	log_unlock(log);
	int rc = prepare_spare(log);
	log_lock(log);
	log->preparing = false;
	log_unlock_and_wake(log);
	log_lock(log);
	return rc;
}

/* Too many wait to be sealed. Lock held; released meanwhile. */
static int wait_for_seals(struct quire_log *log)
{
	uint64_t durable = journal_segment_durable(log->journal);

	if (durable - atomic_load(&log->seal_no) < LOG_MAX_UNSEALED)
		return 0;
	log_kick_upkeep(log);
	log_unlock(log);
	int rc = wait_for(&log->waits, WAIT_SEALS, 0, NULL);
	log_lock(log);
	if (rc == 0 && journal_segment_durable(log->journal) - atomic_load(&log->seal_no) >= LOG_MAX_UNSEALED)
		rc = log->upkeep_error < 0 ? log->upkeep_error : -EBUSY;
	return rc;
}

/* Removed segments may be held by what was read of them, until they are freed; others may be on their way to another
 * class. Lock held; released meanwhile. */
static void wait_for_dead(struct quire_log *log)
{
	uint64_t target = log->n_moves + 1;

	if (log_destaging_is_due(log))
		log_kick_upkeep(log);
	log_unlock(log);
	log_free_dead(log);
	(void)wait_for(&log->waits, WAIT_IDLE, target, NULL);
	log_lock(log);
}

int log_segment_get(void *owner, uint64_t *ret_offset)
{
	struct quire_log *log = owner;
	struct log_segment *seg = NULL;
	bool waited = false;

	log_lock(log);
	int rc = wait_for_seals(log);
	while (rc == 0 && (seg = find_state(log, SEGMENT_SPARE)) == NULL) {
		if (!log->preparing) {
			rc = ensure_spare(log);
			if (rc == -ENOSPC && !waited) {
				wait_for_dead(log);
				waited = true;
				rc = 0;
			}
			continue;
		}
		log_unlock(log);
		rc = wait_for(&log->waits, WAIT_SPARE, 0, NULL);
		log_lock(log);
	}
	if (rc == 0)
		rc = log_segment_need_image(seg);
	if (rc == 0) {
		seg->state = SEGMENT_NEXT;
		*ret_offset = seg->offset;
	}
	log_unlock(log);
	if (log->cache != NULL)
		evict_to_budget(log->cache);
	return rc;
}

/* ---- seals ---- */

int log_seal(struct log_segment *seg)
{
	struct quire_log *log = seg->log;
	struct store_log_key *keys = NULL;

	log_lock(log);
	int rc = log_segment_walk(seg, UINT64_MAX);
	struct log_image *image = seg->image;
	image->refs++;
	log_unlock(log);
	if (rc == 0)
		rc = log_keys_list(seg, image->bytes, &keys);
	if (rc == 0)
		rc = store_log_seal(log->space, seg->id, &seg->footer, image->bytes, keys);
	free(keys);
	log_lock(log);
	log_image_put(image);
	if (rc == 0) {
		seg->state = SEGMENT_SEALED;
		log_image_put(seg->image);
		seg->image = NULL;
		log->n_seals++;
	}
	log_unlock(log);
	return rc;
}

/* The oldest that is not sealed, if it has ended and what is behind it begun. Also while the log is being closed: the footer of one may be
 * what a cut has left of it, which a check of a log that was closed well is not to find. */
static struct log_segment *next_to_seal(struct quire_log *log)
{
	log_lock(log);
	struct log_segment *seg = find_state(log, SEGMENT_OPEN);
	if (journal_segment_durable(log->journal) <= atomic_load(&log->seal_no))
		seg = NULL;
	log_unlock(log);
	return seg;
}

static int seal_all(struct quire_log *log, unsigned *ret_n)
{
	struct log_segment *seg;

	for (*ret_n = 0; (seg = next_to_seal(log)) != NULL; ++*ret_n) {
		int rc = log_seal(seg);
		if (rc < 0)
			return rc;
		journal_drop_first(log->journal);
		log_lock(log);
		atomic_fetch_add(&log->seal_no, 1);
		log_unlock_and_wake(log);
	}
	return 0;
}

/* ---- removals ---- */

/* How many of the oldest are sealed and end below lsn, or at it. Lock held. */
static unsigned count_below(const struct quire_log *log, uint64_t lsn)
{
	unsigned n = 0;

	while (n < log->n && log->segments[n]->state == SEGMENT_SEALED && log->segments[n]->footer.end_no <= lsn)
		n++;
	return n;
}

static void drop_oldest(struct quire_log *log, unsigned n)
{
	if (!CANARY(trim_forgets_first))
		atomic_store(&log->first_lsn, log->segments[n - 1]->footer.end_no);
	for (unsigned i = 0; i < n; i++) {
		log->segments[i]->state = SEGMENT_GONE;
		log_segment_put(log->segments[i]);
	}
	log->n -= n;
	memmove(log->segments, log->segments + n, log->n * sizeof(log->segments[0]));
}

void log_removal_is_over(struct quire_log *log)
{
	if (latch_share(&log->removal) == 0)
		latch_unshare(&log->removal);
}

int64_t log_remove_below(struct quire_log *log, uint64_t lsn)
{
	int rc = latch_exclude(&log->removal);

	if (rc < 0)
		return rc;
	log_lock(log);
	unsigned n = count_below(log, lsn);
	log_unlock(log);
	if (n > 0)
		rc = store_log_remove(log->space, n);
	uint64_t first = atomic_load(&log->first_lsn);
	if (rc == 0 && n > 0) {
		log_lock(log);
		drop_oldest(log, n);
		log_unlock(log);
		log_keys_trimmed(log, atomic_load(&log->first_lsn) - first);
	}
	latch_unexclude(&log->removal);
	log_free_dead(log); /* their space is wanted */
	return rc < 0 ? rc : (int64_t)n;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The lsn below which whole segments may go. What is kept counts if any crash leaves it: full segments, and records that are
 * durable. Lock held. */
static uint64_t retention_bound(const struct quire_log *log, uint64_t now)
{
	const struct quire_log_info *o = &log->info;
	uint64_t extent_units = format_log_extent_units(o->segment_bytes) + (o->keys ? format_log_keys_units(o->segment_bytes) : 0);
	uint64_t extent_bytes = extent_units * FORMAT_UNIT_BYTES;
	uint64_t durable = journal_n_durable(log->journal), tail_no = journal_segment_durable(log->journal), bound = 0;

	for (unsigned i = 0; i < log->n && log->segments[i]->state == SEGMENT_SEALED; i++) {
		const struct store_log_footer *f = &log->segments[i]->footer;
		uint64_t n_full = tail_no - f->segment_no - 1;
		bool goes = (o->retain_bytes != 0 && n_full * extent_bytes >= o->retain_bytes) ||
		            (o->retain_records != 0 && durable - f->end_no >= o->retain_records) ||
		            (o->retain_ns != 0 && f->last_time < now && now - f->last_time > o->retain_ns);
		if (!goes)
			break;
		bound = f->end_no;
	}
	return bound;
}

int64_t log_obey_retention(struct quire_log *log)
{
	uint64_t now = now_ns();

	log_lock(log);
	uint64_t bound = retention_bound(log, now);
	log_unlock(log);
	return bound == 0 ? 0 : log_remove_below(log, bound);
}

/* ---- those that nobody holds any more ---- */

void log_free_dead(struct quire_log *log)
{
	log_lock(log);
	struct log_segment *seg = log->dead, *next;
	log->dead = NULL;
	log_unlock(log);
	for (; seg != NULL; seg = next) {
		next = seg->next_dead;
		log_segment_close_range(seg);
		log_lock(log);
		log_image_put(seg->image);
		log->index_bytes -= seg->marks_capacity * sizeof(seg->footer.marks[0]);
		log_unlock(log);
		free(seg->footer.marks);
		free(seg);
	}
}

/* ---- the coroutine ---- */

/* All that can't wait. */
static int tend(struct quire_log *log)
{
	unsigned n_sealed = 0;
	int rc = seal_all(log, &n_sealed);

	if (rc == 0 && n_sealed > 0) {
		int64_t n = log_obey_retention(log);
		rc = n < 0 ? (int)n : 0;
	}
	log_lock(log);
	log->upkeep_error = rc;
	/* Without space for one now there may be some when it is needed. */
	if (n_sealed > 0 && !log->closing && find_state(log, SEGMENT_NEXT) == NULL)
		(void)ensure_spare(log);
	log_unlock(log);
	log_free_dead(log);
	return rc;
}

/* What has come up while a segment is moved. */
static int tend_between(void *arg)
{
	struct quire_log *log = arg;

	log_lock(log);
	bool again = log->upkeep_again, closing = log->closing;
	log->upkeep_again = again && closing;
	log_unlock(log);
	if (closing)
		return -ECANCELED;
	return again ? tend(log) : 0;
}

static void work(struct quire_log *log)
{
	int rc = tend(log);

	if (rc < 0)
		return;
	rc = log_obey_destaging(log, tend_between);
	if (rc < 0) {
		log_lock(log);
		log->upkeep_error = rc;
		log_unlock(log);
	}
	log_free_dead(log);
}

static void run_upkeep(void *arg)
{
	struct quire_log *log = arg;

	for (;;) {
		log_lock(log);
		bool again = log->upkeep_again;
		log->upkeep_again = false;
		if (!again)
			log->upkeep_runs = false;
		log_unlock_and_wake(log);
		if (!again)
			return;
		work(log);
	}
}

static void upkeep_posted(struct loop_task *task)
{
	struct quire_log *log = (struct quire_log *)((char *)task - offsetof(struct quire_log, upkeep_task));

	if (quire_co_spawn(service_of(log), run_upkeep, log) == 0)
		return;
	log_lock(log);
	log->upkeep_runs = false;
	log->upkeep_error = -ENOMEM;
	log_unlock_and_wake(log);
}

void log_kick_upkeep(struct quire_log *log)
{
	log->upkeep_again = true;
	if (log->upkeep_runs || log->closing)
		return;
	log->upkeep_runs = true;
	loop_task_init(&log->upkeep_task, upkeep_posted);
	loop_post(service_of(log), &log->upkeep_task);
}
