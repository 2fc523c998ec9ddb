/* open.c - a log is opened: what is sealed is known by its footers, what is not is read.
 *
 * The store's list says which segments there are, in order. Footers are read first, a few pages each. The segment behind the
 * last that has one is where the journal is opened: it reads on from there, into the segments' images, and finds the
 * end. What the list has beyond the journal's is spare: got, and not come to use before a crash.
 *
 * A segment without a good footer before one that has: its footer is damaged, its records may be whole. It is read, and
 * each of its records checked; if they are all there it is sealed again (in memory alone, if the log is read only), else
 * that is damage. So a footer is never missed; it saves reading. A list of keys that is damaged behind a good footer is read around, and
 * made again likewise, if the records are whole and the log can be written.
 *
 * What was durable and is damaged behind that is lost, and nothing else: the journal puts a record that says so in the place of each
 * (journal/salvage.c), in the images, and on the medium if the log is opened to be written. Reading it is -EBADMSG. The header of the segment
 * where the journal begins is made again, too, as long as one is before it, of the NEXT in that.
 *
 * What is held against each other: numbers of segments and records, from one to the next. A segment that is missing, there twice,
 * or another's, is refused.
 */
#include "log_internal.h"

#include "../base/fail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PROGRESS_BYTES (1u << 20)

struct opening {
	struct quire_log *log;
	struct quire_log_open_options o;
	struct quire_error *err;
	unsigned first_open;      /* of log->segments: where the journal begins */
	uint64_t done_bytes, told_bytes, all_bytes;
	uint64_t *known;          /* owned: offsets of those behind first_open, as the list says */
	uint64_t *chain;          /* owned: the same, as the journal says */
	unsigned n_chain;
};

static int wrong(struct opening *op, int rc, const struct log_segment *seg, const char *why)
{
	return quire_fail(op->err, rc, "log %s: its segment at %llu: %s", op->log->info.name,
	                  (unsigned long long)seg->offset, why);
}

/* ---- the journal's owner ---- */

static uint8_t *segment_memory(void *owner, uint64_t offset)
{
	struct quire_log *log = owner;
	uint8_t *bytes = NULL;

	log_lock(log);
	struct log_segment *seg = log_segment_at(log, offset);
	if (seg != NULL && seg->state != SEGMENT_SEALED && !seg->missed) {
		seg->missed = log_segment_need_image(seg) < 0;
		if (!seg->missed) {
			seg->state = SEGMENT_OPEN;
			bytes = seg->image->bytes;
		}
	}
	log_unlock(log);
	return bytes;
}

static const struct journal_ops ops = {
	.segment_get = log_segment_get,
	.segment_memory = segment_memory,
	.moved = log_moved,
};

static void journal_options(struct quire_log *log, struct journal_options *ret)
{
	store_log_journal(log->space, ret);
	ret->ops = &ops;
	ret->owner = log;
}

/* ---- footers ---- */

static int list_segments(struct opening *op)
{
	struct quire_log *log = op->log;
	unsigned n = store_log_segments(log->space, NULL, 0);
	struct store_log_segment *all = calloc(n + 1, sizeof(all[0]));
	struct log_segment *seg;
	int rc = all == NULL ? -ENOMEM : 0;

	if (rc == 0)
		(void)store_log_segments(log->space, all, n);
	for (unsigned i = 0; i < n && rc == 0; i++) {
		rc = log_segment_new(log, &seg);
		if (rc == 0)
			log_segment_add(seg, &all[i]);
	}
	free(all);
	return rc < 0 ? quire_fail(op->err, rc, "log %s", log->info.name) : 0;
}

static int read_footers(struct opening *op)
{
	struct quire_log *log = op->log;

	for (unsigned i = 0; i < log->n; i++) {
		struct log_segment *seg = log->segments[i];
		int rc = store_log_sealed(log->space, seg->id, &seg->footer);
		if (seg->class_no != (unsigned)log->info.cls)
			op->first_open = i + 1; /* only sealed ones are moved */
		if (rc == -ENODATA || rc == -EBADMSG)
			continue;
		if (rc < 0)
			return wrong(op, rc, seg, "its footer");
		seg->state = SEGMENT_SEALED;
		seg->known = seg->ended = true;
		seg->marks_capacity = seg->footer.n_marks;
		log->index_bytes += seg->marks_capacity * sizeof(seg->footer.marks[0]);
		op->first_open = i + 1;
	}
	return 0;
}

/* ---- keys of what is sealed ---- */

static int tell(struct opening *op, uint64_t n_bytes)
{
	op->done_bytes += n_bytes;
	if (op->o.progress == NULL || op->done_bytes - op->told_bytes < PROGRESS_BYTES)
		return 0;
	op->told_bytes = op->done_bytes;
	return op->o.progress(op->o.arg, op->done_bytes, op->all_bytes) == 0 ? 0 : -ECANCELED;
}

static int load_keys(struct opening *op)
{
	struct quire_log *log = op->log;
	int rc = 0;

	op->all_bytes = (uint64_t)(log->n - op->first_open) * log->info.segment_bytes;
	for (unsigned i = 0; i < op->first_open; i++)
		op->all_bytes += log_keys_load_bytes(log->segments[i]);
	for (unsigned i = 0; i < op->first_open && rc == 0; i++) {
		struct log_segment *seg = log->segments[i];
		if (seg->state != SEGMENT_SEALED)
			continue;
		rc = log_keys_load(seg);
		if (rc < 0)
			return wrong(op, rc, seg, "its keys");
		rc = tell(op, log_keys_load_bytes(seg));
	}
	return rc < 0 ? quire_fail(op->err, rc, "log %s: its keys", log->info.name) : 0;
}

/* ---- a segment whose footer is damaged, or whose list of keys ---- */

/* All of its records are checked; then they are in its image. An outcome of the journal, or a negative errno. */
static int read_whole(struct log_segment *seg, struct quire_error *err)
{
	const struct store_log_segment place = {.id = seg->id, .class_no = seg->class_no, .offset = seg->offset};
	struct quire_log *log = seg->log;
	struct journal_options o;
	struct quire_error why = {0};

	store_log_journal_of(log->space, &place, &o);
	log_lock(log);
	bool there = log_segment_need_image(seg) == 0;
	log_unlock(log);
	if (!there)
		return quire_fail(err, -ENOMEM, "log %s: the image of a segment", log->info.name);
	int rc = journal_scan_segment(&o, seg->offset, log_keys_hear, log, NULL, &why);
	if (rc < 0 && why.code != rc)
		return quire_fail(err, rc, "log %s: its segment at %llu: a record in it is none of a log", log->info.name,
		                  (unsigned long long)seg->offset);
	if (rc < 0 && err != NULL)
		*err = why;
	return rc == JOURNAL_VALID ? device_read(o.device, seg->offset, seg->image->bytes, o.segment_bytes) : rc;
}

static int read_again(struct opening *op, struct log_segment *seg)
{
	struct quire_log *log = op->log;

	log_lock(log);
	seg->state = SEGMENT_OPEN;
	log_unlock(log);
	int rc = read_whole(seg, op->err);
	if (rc < 0)
		return rc;
	if (rc != JOURNAL_VALID)
		return wrong(op, -EBADMSG, seg, "its footer, and records in it, are damaged");
	log_lock(log);
	rc = log_segment_walk(seg, UINT64_MAX);
	log_unlock(log);
	if (rc == 0 && !log->read_only)
		rc = log_seal(seg);
	return rc < 0 ? wrong(op, rc, seg, "its footer is damaged, and can't be made again") : 0;
}

/* Sealed once more, with a list made anew. If that can't be, it is as it was: read around. */
static void list_again(struct log_segment *seg)
{
	uint32_t end_bytes = seg->footer.end_bytes;

	if (read_whole(seg, NULL) == JOURNAL_VALID) {
		memset(seg->image->bytes + end_bytes, 0, -end_bytes & (FORMAT_UNIT_BYTES - 1));
		seg->list_damaged = log_seal(seg) < 0;
	}
	log_lock(seg->log);
	log_image_put(seg->image);
	seg->image = NULL;
	log_unlock(seg->log);
}

static int mend(struct opening *op)
{
	int rc = 0;

	for (unsigned i = 0; i < op->first_open && rc == 0; i++) {
		struct log_segment *seg = op->log->segments[i];
		if (seg->state != SEGMENT_SEALED)
			rc = read_again(op, seg);
		else if (seg->list_damaged && !op->log->read_only)
			list_again(seg);
	}
	return rc;
}

/* ---- what is not sealed ---- */

static int hear(void *arg, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes)
{
	struct opening *op = arg;
	struct quire_log_record r;

	if (type != FORMAT_LOG_LOST && log_record_split(type, payload, len_bytes, &r) < 0)
		return quire_fail(op->err, -EUCLEAN, "log %s: record %llu is of type %u, and of %u bytes", op->log->info.name,
		                  (unsigned long long)at->record_no, type, len_bytes);
	op->log->n_recovered++;
	return tell(op, frame_bytes(len_bytes));
}

/* What the header of the journal's first segment can be made of again, if it is damaged. False: nothing is before that. */
static bool name_before(struct opening *op, struct journal_options *o, struct journal_before *ret)
{
	if (op->first_open == 0)
		return false;
	const struct log_segment *seg = op->log->segments[op->first_open - 1];
	const struct store_log_segment place = {.id = seg->id, .class_no = seg->class_no, .offset = seg->offset};
	store_log_journal_of(op->log->space, &place, o);
	o->lost_type = FORMAT_LOG_LOST;
	o->elsewhere = true; /* it may have come back from another class */
	*ret = (struct journal_before){
		.o = o, .segment = seg->offset, .segment_no = seg->footer.segment_no, .end_no = seg->footer.end_no};
	return true;
}

static int open_journal(struct opening *op)
{
	struct quire_log *log = op->log;
	struct journal_options o, before_o;
	struct journal_before before;
	struct quire_error why = {0};

	if (op->first_open == log->n)
		return quire_fail(op->err, -EBADMSG, "log %s: its tail is missing", log->info.name);
	journal_options(log, &o);
	o.lost_type = FORMAT_LOG_LOST;
	o.before = name_before(op, &before_o, &before) ? &before : NULL;
	o.n_known = log->n - op->first_open;
	o.known = op->known = calloc(o.n_known, sizeof(op->known[0]));
	if (op->known == NULL)
		return quire_fail(op->err, -ENOMEM, "log %s", log->info.name);
	for (unsigned i = 0; i < o.n_known; i++)
		op->known[i] = log->segments[op->first_open + i]->offset;
	if (op->err != NULL)
		op->err->code = 0;
	int rc = journal_open(&o, log->segments[op->first_open]->offset, true, hear, op, NULL, &log->journal, &why);
	/* What was said while it was read is nearer to the cause. */
	if (rc < 0 && (op->err == NULL || op->err->code != rc))
		return quire_fail(op->err, rc, "log %s: %s", log->info.name, why.text);
	return rc;
}

/* ---- what was found, held against the list ---- */

static void note_offset(void *arg, uint64_t offset)
{
	struct opening *op = arg;

	if (op->n_chain < op->log->n)
		op->chain[op->n_chain] = offset;
	op->n_chain++;
}

static int match_chain(struct opening *op)
{
	struct quire_log *log = op->log;
	struct log_segment *head = log->segments[op->first_open];
	unsigned n_left = log->n - op->first_open;

	op->chain = calloc(log->n, sizeof(op->chain[0]));
	if (op->chain == NULL)
		return quire_fail(op->err, -ENOMEM, "log %s", log->info.name);
	journal_segments(log->journal, note_offset, op);
	if (op->n_chain > n_left)
		return wrong(op, -EUCLEAN, head, "leads to one that the catalogue does not know");
	if (head->image == NULL)
		return wrong(op, -ENOMEM, head, "its image");
	/* A header, as it was read. */
	(void)log_segment_walk(head, 0);
	uint64_t n_read = journal_segment_durable(log->journal) - head->footer.segment_no + 1;
	for (unsigned i = 0; i < op->n_chain; i++) {
		struct log_segment *seg = log->segments[op->first_open + i];
		if (seg->offset != op->chain[i])
			return wrong(op, -EUCLEAN, seg, "is not where the chain goes");
		if (i < n_read || seg->missed ? seg->image == NULL : log_segment_need_image(seg) < 0)
			return wrong(op, -ENOMEM, seg, "its image");
		if (seg->state == SEGMENT_SPARE)
			seg->state = SEGMENT_NEXT;
	}
	return 0;
}

/* Numbers go on from each segment to the next. */
static int check_numbers(struct opening *op)
{
	struct quire_log *log = op->log;

	for (unsigned i = 1; i <= op->first_open; i++) {
		const struct store_log_footer *before = &log->segments[i - 1]->footer, *f = &log->segments[i]->footer;
		if (!log->segments[i]->known)
			continue;
		if (f->segment_no != before->segment_no + 1 || f->first_no != before->end_no)
			return wrong(op, -EBADMSG, log->segments[i], "the one before it is missing, or not what it was");
	}
	return 0;
}

static int take_stock(struct opening *op)
{
	struct quire_log *log = op->log;
	uint64_t n = journal_n_visible(log->journal), last_time = 0;

	int rc = log_segment_walk_all(log, n);
	if (rc == 0)
		rc = check_numbers(op);
	if (rc < 0)
		return rc == -EUCLEAN ? wrong(op, rc, log->segments[op->first_open], "is not of this log") : rc;
	for (unsigned i = 0; i < log->n; i++)
		if (log->segments[i]->footer.last_time > last_time)
			last_time = log->segments[i]->footer.last_time;
	atomic_store(&log->last_time, last_time);
	atomic_store(&log->first_lsn, log->segments[0]->footer.first_no);
	atomic_store(&log->seal_no, log->segments[op->first_open]->footer.segment_no);
	atomic_store(&log->kicked_no, journal_segment_durable(log->journal));
	if (log->keys != NULL)
		log->keys->next_lsn = log->segments[op->first_open]->footer.first_no;
	return 0;
}

static int run(struct opening *op)
{
	struct quire_log *log = op->log;
	int rc = list_segments(op);

	if (rc == 0)
		rc = read_footers(op);
	if (rc == 0)
		rc = load_keys(op);
	if (rc == 0)
		rc = mend(op);
	if (rc == 0)
		rc = open_journal(op);
	if (rc == 0)
		rc = match_chain(op);
	log_lock(log);
	if (rc == 0)
		rc = take_stock(op);
	log_unlock(log);
	if (rc == 0 && !log->read_only)
		rc = journal_go_on(log->journal, op->err);
	log_lock(log);
	if (rc == 0 && !log->read_only &&
	    (journal_segment_durable(log->journal) > atomic_load(&log->seal_no) || log_destaging_is_due(log)))
		log_kick_upkeep(log);
	log_unlock(log);
	free(op->known);
	free(op->chain);
	if (rc == 0 && (rc = log_keys_take(log, journal_n_visible(log->journal))) < 0)
		rc = quire_fail(op->err, rc, "log %s: its keys", log->info.name);
	if (rc == 0 && !log->read_only)
		(void)log_obey_retention(log); /* if it can't be, it is tried with the next seal */
	return rc;
}

static int log_new(struct quire_store *store, const char *name, bool read_only, struct quire_log **ret,
                   struct quire_error *err)
{
	struct quire_log *log = calloc(1, sizeof(*log));
	struct store *s = store_inside(store);
	const struct store_config *config = store_config_of(s);

	if (log == NULL)
		return quire_fail(err, -ENOMEM, "log %s", name);
	log->store = s;
	log->cache = config->cache;
	log->read_only = read_only || config->read_only;
	process_mark_init(&log->process);
	wait_queue_init(&log->waits, config->service);
	log->waits.ready = log_ready;
	log->waits.parked = NULL;
	latch_init(&log->removal, config->service);
	int rc = quire_log_find(store, name, &log->info);
	if (rc == 0)
		rc = store_log_open(s, log->info.id, &log->space);
	if (rc == 0)
		rc = log_keys_new(log);
	if (rc < 0) {
		log_free(log);
		return quire_fail(err, rc == -ESTALE ? -ENOENT : rc, "log %s", name);
	}
	*ret = log;
	return 0;
}

int quire_log_open(struct quire_store *store, const char *name, const struct quire_log_open_options *opts,
                   struct quire_log **ret_log, struct quire_error *err)
{
	struct opening op = {.err = err};

	if (opts != NULL) {
		if (opts->size == 0 || opts->size > sizeof(op.o))
			return quire_fail(err, -EINVAL, "options of %zu bytes", opts->size);
		memcpy(&op.o, opts, opts->size);
	}
	const struct store_config *config = store_config_of(store_inside(store));
	if (config->cache != NULL && cache_is_of_parent(config->cache))
		return quire_fail(err, -ECHILD, "log %s", name);
	if (log_would_block_loop())
		return quire_fail(err, -EDEADLK, "log %s", name);
	int rc = log_new(store, name, op.o.read_only, &op.log, err);
	if (rc < 0)
		return rc;
	/* Beside a writer of another process, who may free a segment and write there, only a copy stays as it was verified. */
	op.log->direct = !op.o.no_direct && !op.log->read_only;
	rc = run(&op);
	if (rc < 0) {
		log_lock(op.log);
		op.log->closing = true;
		log_unlock(op.log);
		(void)wait_for(&op.log->waits, WAIT_IDLE, 0, NULL);
		log_free(op.log);
		return rc;
	}
	*ret_log = op.log;
	return 0;
}
