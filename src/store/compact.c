/* compact.c - the catalogue is written anew, with what is live, once it is more than twice that and some slack.
 *
 * With the latch held exclusively: no transaction is between its record and the index, so the index is what
 * the log says. Transactions wait meanwhile; their data is written.
 *
 * Space for the new log is got before anything is begun, so a compaction that has begun does not end for want
 * of it. What fails all the same is given up (container_cabort), and the old log goes on.
 */
#include "store_internal.h"

#include <errno.h>
#include <stdlib.h>

#define CAPACITY 0u
#define DEFAULT_SLACK_SEGMENTS 4u
#define MAX_RECORD_BYTES (256u << 10)

/* ---- segments ahead ---- */

static void drain_pool(struct store *s)
{
	store_lock(s);
	while (s->n_pool > 0)
		store_give_locked(s, CAPACITY, s->pool[--s->n_pool] / FORMAT_UNIT_BYTES,
		                  s->segment_bytes / FORMAT_UNIT_BYTES);
	store_unlock(s);
	free(s->pool);
	s->pool = NULL;
}

static int fill_pool(struct store *s)
{
	uint64_t units = s->segment_bytes / FORMAT_UNIT_BYTES, start, n;

	store_lock(s);
	/* Records, their headers, and what is left over at the end of each segment. */
	uint64_t n_segments = (s->live_bytes + s->live_bytes / 4) / (s->segment_bytes / 2) + 2;
	store_unlock(s);
	s->pool = malloc(n_segments * sizeof(s->pool[0]));
	if (s->pool == NULL)
		return -ENOMEM;
	for (uint64_t i = 0; i < n_segments; i++) {
		int rc = store_alloc(s, CAPACITY, units, 1, FREEMAP_PRIVILEGED | FREEMAP_WHOLE, &start, &n);
		if (rc < 0) {
			drain_pool(s);
			return rc;
		}
		s->pool[s->n_pool++] = start * FORMAT_UNIT_BYTES;
	}
	return 0;
}

/* ---- what is live ---- */

static int append(struct store *s, uint16_t type, const void *payload, uint64_t len_bytes)
{
	struct iovec part = {.iov_base = (void *)(uintptr_t)payload, .iov_len = len_bytes};

	return container_append(s->catalogue, type, &part, 1, NULL);
}

/* As many objects above *after as go into a record. Returns its length; 0: none is left. */
static uint64_t put_objects(struct store *s, uint8_t *record, uint64_t max_bytes, uint64_t *after)
{
	uint8_t *at = record + sizeof(struct transaction_le);
	uint32_t n_objects = 0;
	struct index_entry *e;

	store_lock(s);
	while (n_objects < FORMAT_MAX_TRANSACTION && (e = index_next(&s->index, *after)) != NULL) {
		struct extent one;
		unsigned n;
		(void)index_entry_extents(e, &one, &n);
		if (!e->hidden && (uint64_t)(at - record) + record_object_bytes(n) > max_bytes)
			break;
		*after = e->id;
		if (e->hidden || e->id == s->unproven)
			continue;
		at = record_put_object(at, e);
		n_objects++;
	}
	store_unlock(s);
	record_put_transaction(record, n_objects, 0);
	return n_objects == 0 ? 0 : (uint64_t)(at - record);
}

static int write_objects(struct store *s, uint8_t *record, uint64_t max_bytes)
{
	uint64_t after = 0, len_bytes;

	while ((len_bytes = put_objects(s, record, max_bytes, &after)) != 0) {
		int rc = append(s, FORMAT_TRANSACTION, record, len_bytes);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* As what it is: the next who opens the store is to ask for its page. */
static int write_unproven(struct store *s, uint8_t *record)
{
	uint8_t *end = record;

	store_lock(s);
	struct index_entry *e = s->unproven != 0 ? index_find(&s->index, s->unproven) : NULL;
	if (e != NULL && !e->hidden)
		end = record_put_object(record_put_transaction(record, 1, 0), e);
	store_unlock(s);
	return end == record ? 0 : append(s, FORMAT_RACED, record, (uint64_t)(end - record));
}

/* Containers come and go with the latch held, so the list stands still. */
static int write_containers(struct store *s, uint8_t *record)
{
	for (struct idmap_node *node = idmap_any(&s->containers); node != NULL;
	     node = idmap_after(&s->containers, node)) {
		struct store_container *c = (struct store_container *)node;
		uint8_t *end = record_put_container(record, c);
		int rc = append(s, FORMAT_CONTAINER, record, (uint64_t)(end - record));
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* A log with its first segments, then what is left of them. Logs change with the latch held, too. */
static int write_log(struct store *s, const struct store_log *log, uint8_t *record, uint64_t max_bytes)
{
	unsigned most = (unsigned)((max_bytes - sizeof(struct log_le)) / sizeof(struct log_segment_le));
	unsigned n = log->n < most ? log->n : most;
	uint8_t *at = record_put_log(record, log, n);

	for (unsigned i = 0; i < n; i++)
		at = record_put_log_segment(at, log->segments[i]);
	int rc = append(s, FORMAT_LOG, record, (uint64_t)(at - record));
	for (unsigned i = n; i < log->n && rc == 0; i += n) {
		n = log->n - i < most ? log->n - i : most;
		at = record_put_log_change(record, log->node.id, n, 0);
		for (unsigned k = 0; k < n; k++)
			at = record_put_log_segment(at, log->segments[i + k]);
		rc = append(s, FORMAT_LOG_SEGMENTS, record, (uint64_t)(at - record));
	}
	return rc;
}

static int write_logs(struct store *s, uint8_t *record, uint64_t max_bytes)
{
	int rc = 0;

	for (struct idmap_node *node = idmap_any(&s->logs); node != NULL && rc == 0; node = idmap_after(&s->logs, node))
		rc = write_log(s, (const struct store_log *)node, record, max_bytes);
	return rc;
}

static int write_live(struct store *s)
{
	uint64_t max_bytes = container_max_payload(s->catalogue);

	if (max_bytes > MAX_RECORD_BYTES)
		max_bytes = MAX_RECORD_BYTES;
	uint8_t *record = malloc(max_bytes);
	if (record == NULL)
		return -ENOMEM;
	store_lock(s);
	uint64_t len_bytes = (uint64_t)(record_put_id(record, s->id_limit) - record);
	store_unlock(s);
	int rc = append(s, FORMAT_NEXT_ID, record, len_bytes);
	if (rc == 0)
		rc = write_objects(s, record, max_bytes);
	if (rc == 0)
		rc = write_unproven(s, record);
	if (rc == 0)
		rc = write_containers(s, record);
	if (rc == 0)
		rc = write_logs(s, record, max_bytes);
	free(record);
	return rc;
}

/* ---- when, and how ---- */

static int compact_excluded(struct store *s)
{
	int rc = fill_pool(s);

	if (rc < 0)
		return rc;
	rc = container_cstart(s->catalogue);
	if (rc == 0) {
		rc = write_live(s);
		if (rc == 0)
			rc = container_cend(s->catalogue);
		if (rc < 0)
			(void)container_cabort(s->catalogue);
	}
	drain_pool(s);
	atomic_store_explicit(&s->unsealed, true, memory_order_relaxed);
	if (rc == 0)
		atomic_fetch_add(&s->n_compactions, 1);
	return rc;
}

int catalogue_compact(struct store *s)
{
	int rc = latch_exclude(&s->latch);

	if (rc < 0)
		return rc;
	rc = compact_excluded(s);
	latch_unexclude(&s->latch);
	return rc;
}

void catalogue_compact_if_due(struct store *s)
{
	struct container_usage usage;
	uint64_t slack = s->config.compact_slack_bytes != 0 ? s->config.compact_slack_bytes
	                                                    : DEFAULT_SLACK_SEGMENTS * (uint64_t)s->segment_bytes;

	container_usage(s->catalogue, &usage);
	store_lock(s);
	bool due = !s->compacting && usage.used_bytes > 2 * s->live_bytes + slack;
	if (due)
		s->compacting = true;
	store_unlock(s);
	if (!due)
		return;
	/* Failing is no harm: the log goes on, and it is tried again with the next transaction. */
	(void)catalogue_compact(s);
	store_lock(s);
	s->compacting = false;
	store_unlock(s);
}
