/* logs.c - see logs.h: which logs there are. */
#include "store_internal.h"

#include "../base/name.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* ---- what is possible ---- */

_Static_assert(FORMAT_LOG_NAME_BYTES == NAME_MAX_BYTES + 1, "a name and its NUL");

/* Those of volumes have names that no other has: with a point. */
bool store_log_settings_name(const struct store_log_settings *settings)
{
	return settings->volumes ? settings->name[0] == '.' && name_is_valid(settings->name + 1)
	                         : name_is_valid(settings->name);
}

bool store_log_settings_are_valid(const struct store *s, const struct store_log_settings *settings)
{
	uint32_t bytes = settings->segment_bytes;

	return settings->class_no < STORE_N_CLASSES && s->classes[settings->class_no].device != NULL &&
	       (!settings->destages ||
	        (settings->destage_class < STORE_N_CLASSES && settings->destage_class != settings->class_no &&
	         s->classes[settings->destage_class].device != NULL)) &&
	       !(settings->volumes && (settings->keys || settings->destages)) && (bytes & (bytes - 1)) == 0 && bytes >= FORMAT_LOG_MIN_SEGMENT_BYTES && bytes <= FORMAT_LOG_MAX_SEGMENT_BYTES;
}

/* ---- in memory; s->lock ---- */

int store_log_push_locked(struct store_log *log, struct store_log_extent *e)
{
	if (log->n == log->capacity) {
		unsigned capacity = log->capacity == 0 ? 4 : 2 * log->capacity;
		struct store_log_extent **grown = reallocarray(log->segments, capacity, sizeof(grown[0]));
		if (grown == NULL)
			return -ENOMEM;
		log->segments = grown;
		log->capacity = capacity;
	}
	int rc = idmap_add(&log->store->log_segments, &e->node, e->node.id);
	if (rc == 0)
		log->segments[log->n++] = e;
	return rc;
}

void store_log_pop_locked(struct store_log *log)
{
	struct store_log_extent *e = log->segments[--log->n];

	idmap_remove(&log->store->log_segments, &e->node);
	free(e);
}

void store_log_free_locked(struct store_log *log)
{
	if (log == NULL)
		return;
	while (log->n > 0)
		store_log_pop_locked(log);
	if (idmap_find(&log->store->logs, log->node.id) == &log->node)
		idmap_remove(&log->store->logs, &log->node);
	latch_fini(&log->latch);
	free(log->segments);
	free(log);
}

static struct store_log *find_by_name_locked(struct store *s, const char *name)
{
	for (struct idmap_node *node = idmap_any(&s->logs); node != NULL; node = idmap_after(&s->logs, node))
		if (strcmp(((struct store_log *)node)->settings.name, name) == 0)
			return (struct store_log *)node;
	return NULL;
}

/* ---- looking ---- */

static void inform_locked(const struct store_log *log, struct store_log_info *ret)
{
	*ret = (struct store_log_info){
		.id = log->node.id,
		.settings = log->settings,
		.n_segments = log->n,
		.allocated_bytes = (uint64_t)log->n * store_log_extent_units(log) * FORMAT_UNIT_BYTES,
		.open = log->open,
	};
	for (unsigned i = 0; i < log->n; i++)
		ret->n_moved += log->segments[i]->class_no != log->settings.class_no;
}

bool store_log_next(struct store *s, uint64_t after, struct store_log_info *ret)
{
	const struct store_log *first = NULL;

	store_lock(s);
	for (struct idmap_node *node = idmap_any(&s->logs); node != NULL; node = idmap_after(&s->logs, node))
		if (node->id > after && (first == NULL || node->id < first->node.id))
			first = (const struct store_log *)node;
	if (first != NULL)
		inform_locked(first, ret);
	store_unlock(s);
	return first != NULL;
}

int store_log_find(struct store *s, const char *name, struct store_log_info *ret)
{
	store_lock(s);
	const struct store_log *log = find_by_name_locked(s, name);
	if (log != NULL)
		inform_locked(log, ret);
	store_unlock(s);
	return log != NULL ? 0 : -ENOENT;
}

unsigned store_log_segments(struct store_log *log, struct store_log_segment *ret, unsigned n)
{
	store_lock(log->store);
	unsigned all = log->n;
	for (unsigned i = 0; i < n && i < all; i++)
		ret[i] = (struct store_log_segment){.id = log->segments[i]->node.id,
		                                    .class_no = log->segments[i]->class_no,
		                                    .offset = log->segments[i]->start * FORMAT_UNIT_BYTES};
	store_unlock(log->store);
	return all;
}

void store_log_settings(struct store_log *log, struct store_log_settings *ret)
{
	*ret = log->settings; /* they never change */
}

void store_log_journal(struct store_log *log, struct journal_options *ret)
{
	struct store *s = log->store;
	uint64_t id = log->node.id;

	store_lock(s);
	*ret = (struct journal_options){
		.device = s->classes[log->settings.class_no].device,
		.log_no = FORMAT_LOG_LOG_NO,
		.segment_bytes = log->settings.segment_bytes,
		.salt_seed = store_random(s),
		.whole_blocks = log->settings.volumes,
	};
	store_unlock(s);
	memcpy(ret->identity, s->uuid, sizeof(s->uuid));
	for (unsigned i = 0; i < 8; i++)
		ret->identity[i] ^= (uint8_t)(id >> (8 * i));
}

void store_log_journal_of(struct store_log *log, const struct store_log_segment *seg, struct journal_options *ret)
{
	store_log_journal(log, ret);
	ret->device = log->store->classes[seg->class_no].device;
	ret->elsewhere = seg->class_no != log->settings.class_no;
}

/* ---- logs come and go ---- */

static int begin_journal(struct store_log *log, const struct store_log_extent *e)
{
	static const struct journal_ops none = {0};
	struct journal_options o;
	struct journal *j;

	store_log_journal(log, &o);
	o.ops = &none;
	int rc = journal_create(&o, e->start * FORMAT_UNIT_BYTES, &j, NULL);
	if (rc == 0)
		journal_close(j);
	return rc;
}

static int record_log(struct store_log *log)
{
	uint8_t record[sizeof(struct log_le) + sizeof(struct log_segment_le)];
	uint8_t *at = record_put_log_segment(record_put_log(record, log, 1), log->segments[0]);

	return catalogue_append(log->store, FORMAT_LOG, record, (uint32_t)(at - record));
}


/* The latch is excluded. */
static int create(struct store *s, struct store_log *log)
{
	struct store_log_extent *e = NULL;

	store_lock(s);
	bool exists = find_by_name_locked(s, log->settings.name) != NULL;
	store_unlock(s);
	/* Before the first record of a log is in the catalogue. */
	int rc = exists ? -EEXIST : store_note_features(s, 0, FORMAT_INCOMPAT_LOGS | (log->settings.volumes ? FORMAT_INCOMPAT_VOLUMES : 0));
	if (rc == 0)
		rc = store_log_get_extent(log, log->settings.class_no, &e);
	if (rc < 0)
		return rc;
	uint64_t start = e->start;
	rc = begin_journal(log, e);
	store_lock(s);
	if (rc == 0)
		rc = store_log_push_locked(log, e);
	if (rc < 0)
		free(e);
	else
		rc = idmap_add(&s->logs, &log->node, log->node.id);
	store_unlock(s);
	if (rc == 0)
		rc = record_log(log);
	store_lock(s);
	if (rc == 0)
		s->live_bytes += STORE_LOG_LIVE_BYTES + STORE_LOG_SEGMENT_LIVE_BYTES;
	else if (catalogue_error(s) == 0) /* if the record may be there, its space is not free */
		store_give_locked(s, log->settings.class_no, start, store_log_extent_units(log));
	catalogue_account_locked(s);
	store_unlock(s);
	return rc;
}

static int make_secret(struct store *s, uint8_t secret[STORE_LOG_SECRET_BYTES])
{
	uint64_t r;

	if (s->config.seed == 0)
		return getrandom(secret, STORE_LOG_SECRET_BYTES, 0) == STORE_LOG_SECRET_BYTES ? 0 : -EIO;
	store_lock(s);
	for (unsigned i = 0; i < STORE_LOG_SECRET_BYTES; i += sizeof(r)) {
		r = store_random(s);
		memcpy(secret + i, &r, sizeof(r));
	}
	store_unlock(s);
	return 0;
}

static int log_new(struct store *s, const struct store_log_settings *settings, struct store_log **ret)
{
	struct store_log *log = calloc(1, sizeof(*log));

	if (log == NULL)
		return -ENOMEM;
	log->store = s;
	log->settings = *settings;
	latch_init(&log->latch, s->config.service);
	*ret = log;
	return settings->keys ? make_secret(s, log->settings.secret) : 0;
}

static bool is_missing(const struct store *s, unsigned class_no)
{
	return class_no < STORE_N_CLASSES && s->classes[class_no].device == NULL;
}

int store_log_create(struct store *s, const struct store_log_settings *settings, uint64_t *ret_id)
{
	int rc = store_enter(s);

	if (rc < 0)
		return rc;
	struct store_log *log = NULL;
	if (is_missing(s, settings->class_no) || (settings->destages && is_missing(s, settings->destage_class)))
		rc = -ENOENT;
	else if (!store_log_settings_name(settings) || !store_log_settings_are_valid(s, settings))
		rc = -EINVAL;
	else
		rc = log_new(s, settings, &log);
	if (rc == 0)
		rc = next_id(s, &log->node.id);
	if (rc == 0)
		rc = latch_exclude(&s->latch);
	if (rc == 0) {
		rc = create(s, log);
		if (rc == 0)
			*ret_id = log->node.id;
		latch_unexclude(&s->latch);
	}
	if (rc < 0) {
		store_lock(s);
		store_log_free_locked(log);
		store_unlock(s);
	}
	store_leave(s);
	return rc;
}

static int claim(struct store *s, uint64_t id, struct store_log **ret)
{
	store_lock(s);
	struct store_log *log = (struct store_log *)idmap_find(&s->logs, id);
	int rc = log == NULL ? -ESTALE : log->busy || log->open ? -EBUSY : 0;
	if (rc == 0) {
		log->busy = true;
		*ret = log;
	}
	store_unlock(s);
	return rc;
}

/* The latch is excluded. */
static int destroy(struct store *s, struct store_log *log)
{
	uint8_t record[sizeof(struct next_id_le)];
	struct store_log_leaving l = {0};
	int rc = store_log_leaving_make(log, log->n, &l);

	record_put_id(record, log->node.id);
	if (rc == 0)
		rc = catalogue_append(s, FORMAT_LOG_GONE, record, sizeof(record));
	if (rc == 0) {
		store_lock(s);
		store_log_leave_locked(log, &l);
		s->live_bytes -= STORE_LOG_LIVE_BYTES;
		store_log_free_locked(log);
		store_unlock(s);
		store_log_reclaim_left(s, &l);
	}
	store_log_leaving_free(&l);
	return rc;
}

int store_log_destroy(struct store *s, uint64_t id)
{
	struct store_log *log;
	int rc = store_enter(s);

	if (rc < 0)
		return rc;
	rc = claim(s, id, &log);
	if (rc == 0) {
		rc = latch_exclude(&s->latch);
		if (rc == 0) {
			rc = destroy(s, log);
			latch_unexclude(&s->latch);
		}
		if (rc < 0) {
			store_lock(s);
			log->busy = false;
			store_unlock(s);
		}
	}
	store_leave(s);
	return rc;
}

int store_log_open(struct store *s, uint64_t id, struct store_log **ret_log)
{
	int rc = claim(s, id, ret_log);

	if (rc < 0)
		return rc;
	store_lock(s);
	(*ret_log)->busy = false;
	(*ret_log)->open = true;
	store_unlock(s);
	return 0;
}

void store_log_close(struct store_log *log)
{
	if (log == NULL)
		return;
	struct store *s = log->store;
	store_lock(s);
	log->open = false;
	store_unlock(s);
}
