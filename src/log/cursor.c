/* cursor.c - who reads: from the image of a segment that is not sealed, else through the cache.
 *
 * A cursor knows one record's place (at_lsn, at_offset, in seg) and goes on from there by the records' lengths; anywhere else
 * it begins at a mark. On its way it notes the last places it passed, for whoever goes back.
 *
 * What it holds: the segment, and its image or a window of it (window.c); until it moves on. Of a segment that was sealed
 * meanwhile it lets the image go with its next move, so that no slow reader keeps one.
 *
 * Without the lock: an image's bytes below a visible record do not change; a sealed segment's never do.
 */
#include "log_internal.h"

#include "../base/assert.h"
#include "../base/fail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TRAIL 256u
#define N_AHEAD 6u /* records */

struct quire_log_cursor {
	struct quire_log *log; /* borrowed */
	enum quire_log_mark mark;
	_Atomic bool busy;
	uint64_t lsn;              /* what next gives */

	struct log_segment *seg;   /* one reference; NULL: nowhere */
	struct log_image *image;   /* one reference; NULL: seg is sealed */
	uint64_t segment_no, end_lsn; /* of seg; end: UINT64_MAX of an image */
	uint32_t end_bytes;
	uint64_t at_lsn;           /* a record of seg */
	uint32_t at_offset;
	struct log_window window;  /* of seg, if it is sealed */
	bool is_lost;              /* that record, not what lies around it */
	struct {
		int error;             /* 0: the last move met no damage */
		uint64_t lsn, id, offset;
		unsigned class_no;
	} damage;

	uint64_t trail_lsn;        /* of trail[0] */
	unsigned n_trail;
	uint32_t trail[TRAIL];     /* offsets, the last one at_offset when it was passed */
};

/* ---- holding ---- */

static void let_go(struct quire_log_cursor *c)
{
	if (c->seg == NULL)
		return;
	log_window_let_go(c->seg, &c->window);
	log_lock(c->log);
	log_image_put(c->image);
	log_segment_put(c->seg);
	log_unlock(c->log);
	c->seg = NULL;
	c->image = NULL;
	c->n_trail = 0;
}

/* The bytes of the segment, held until the next call. -EAGAIN: that has to wait. */
static int peek(struct quire_log_cursor *c, uint32_t offset, uint32_t len_bytes, bool may_wait, const uint8_t **ret)
{
	if (c->image != NULL) {
		*ret = c->image->bytes + offset;
		return 0;
	}
	const uint8_t *at = log_window_at(&c->window, offset, len_bytes);
	if (at == NULL) {
		int rc = log_window_hold(c->seg, &c->window, offset, len_bytes, may_wait);
		if (rc < 0)
			return rc;
		at = log_window_at(&c->window, offset, len_bytes);
	}
	*ret = at;
	return 0;
}

/* The same of what is held already; NULL: it is not. */
static const uint8_t *bytes_held(const struct quire_log_cursor *c, uint32_t offset, uint32_t len_bytes)
{
	if (offset + len_bytes > c->end_bytes)
		return NULL;
	return c->image != NULL ? c->image->bytes + offset : log_window_at(&c->window, offset, len_bytes);
}

static int header_at(struct quire_log_cursor *c, uint32_t offset, bool may_wait, struct log_header *ret)
{
	const uint8_t *at;

	if (offset + JOURNAL_RECORD_HEADER_BYTES > c->end_bytes)
		return -EUCLEAN;
	int rc = peek(c, offset, JOURNAL_RECORD_HEADER_BYTES, may_wait, &at);
	return rc < 0 ? rc : log_header(at, offset, c->end_bytes, ret);
}

/* ---- places ---- */

static void note(struct quire_log_cursor *c)
{
	if (c->n_trail == TRAIL || c->trail_lsn + c->n_trail != c->at_lsn)
		c->n_trail = 0;
	if (c->n_trail == 0)
		c->trail_lsn = c->at_lsn;
	c->trail[c->n_trail++] = c->at_offset;
}

/* Begins at the mark before lsn. */
static int enter(struct quire_log_cursor *c, uint64_t lsn)
{
	struct quire_log *log = c->log;
	struct log_segment *seg = NULL;

	let_go(c);
	log_lock(log);
	int rc = log_segment_find(log, lsn, &seg);
	if (rc == 0) {
		const struct store_log_mark *m = log_segment_mark(seg, lsn);
		bool sealed = seg->state == SEGMENT_SEALED;
		seg->refs++;
		c->seg = seg;
		c->image = sealed ? NULL : seg->image;
		if (c->image != NULL)
			c->image->refs++;
		c->segment_no = seg->footer.segment_no;
		c->end_lsn = sealed ? seg->footer.end_no : UINT64_MAX;
		c->end_bytes = sealed ? seg->footer.end_bytes : log->info.segment_bytes;
		c->at_lsn = seg->footer.first_no + m->index;
		c->at_offset = m->offset;
	}
	log_unlock(log);
	if (rc == 0)
		note(c);
	return rc;
}

/* On to the record behind at_lsn, which is visible. 1: it is not in this segment. */
static int step(struct quire_log_cursor *c, bool may_wait)
{
	struct log_header h;
	uint32_t offset = c->at_offset;
	int rc = header_at(c, offset, may_wait, &h);

	if (c->at_lsn + 1 >= c->end_lsn)
		return 1;
	do {
		if (rc < 0)
			return rc;
		offset += h.bytes;
		rc = header_at(c, offset, may_wait, &h);
	} while (rc == 0 && h.type == FRAME_NEXT);
	if (rc < 0)
		return rc;
	if (h.type == FRAME_LINK)
		return c->image != NULL ? 1 : -EUCLEAN; /* of a sealed one the footer has said that there are more */
	c->at_lsn++;
	c->at_offset = offset;
	note(c);
	return 0;
}

/* Can it go to lsn from where it is? Then at_lsn is not above it. */
static bool is_near(struct quire_log_cursor *c, uint64_t lsn)
{
	if (c->seg == NULL || lsn >= c->end_lsn ||
	    (c->image != NULL && atomic_load(&c->log->seal_no) > c->segment_no && c->log->cache != NULL))
		return false;
	if (c->n_trail > 0 && lsn >= c->trail_lsn && lsn < c->trail_lsn + c->n_trail) {
		c->at_lsn = lsn;
		c->at_offset = c->trail[lsn - c->trail_lsn];
		c->n_trail = (unsigned)(lsn - c->trail_lsn) + 1;
		return true;
	}
	return lsn == c->at_lsn || lsn == c->at_lsn + 1;
}

static int go_to(struct quire_log_cursor *c, uint64_t lsn, bool may_wait)
{
	if (lsn < atomic_load(&c->log->first_lsn))
		return -ESTALE;
	int rc = is_near(c, lsn) ? 0 : enter(c, lsn);
	while (rc == 0 && c->at_lsn < lsn) {
		rc = step(c, may_wait);
		if (rc > 0)
			rc = enter(c, lsn);
	}
	return rc;
}

static int give(struct quire_log_cursor *c, bool may_wait, struct quire_log_record *ret)
{
	struct quire_log_record r;
	struct log_header h;
	const uint8_t *at = NULL;
	int rc = header_at(c, c->at_offset, may_wait, &h);

	if (rc == 0)
		rc = peek(c, c->at_offset, h.bytes, may_wait, &at);
	if (rc == 0)
		rc = log_record_split(h.type, at + JOURNAL_RECORD_HEADER_BYTES, h.len_bytes, &r);
	c->is_lost = at != NULL && h.type == FORMAT_LOG_LOST;
	if (rc < 0)
		return rc;
	c->window.n_given += c->image == NULL;
	r.lsn = c->at_lsn;
	*ret = r;
	return 0;
}

/* The record behind the last that was given, if it is held already. */
static bool give_held(struct quire_log_cursor *c, uint32_t *offset, struct quire_log_record *ret)
{
	uint32_t at_offset = *offset;
	struct log_header h;
	const uint8_t *at;

	do {
		at = bytes_held(c, at_offset, JOURNAL_RECORD_HEADER_BYTES);
		if (at == NULL || log_header(at, at_offset, c->end_bytes, &h) < 0 || h.type == FRAME_LINK)
			return false;
		if (h.type == FRAME_NEXT)
			at_offset += h.bytes;
	} while (h.type == FRAME_NEXT);
	at = bytes_held(c, at_offset, h.bytes);
	/* Records are often of one length: so this finds headers to come, where no processor expects them. */
	__builtin_prefetch(at + (uint64_t)N_AHEAD * h.bytes);
	if (at == NULL || log_record_split(h.type, at + JOURNAL_RECORD_HEADER_BYTES, h.len_bytes, ret) < 0)
		return false;
	c->at_lsn++;
	c->at_offset = at_offset;
	note(c);
	ret->lsn = c->at_lsn;
	*offset = at_offset + h.bytes;
	return true;
}

/* Up to n more, behind the one at at_lsn, below limit. */
static unsigned give_more(struct quire_log_cursor *c, uint64_t limit, struct quire_log_record *ret, unsigned n)
{
	struct log_header h;
	unsigned k = 0;

	if (n == 0 || header_at(c, c->at_offset, false, &h) < 0)
		return 0;
	uint32_t offset = c->at_offset + h.bytes;
	while (k < n && c->at_lsn + 1 < limit && c->at_lsn + 1 < c->end_lsn && give_held(c, &offset, &ret[k]))
		k++;
	c->window.n_given += c->image == NULL ? k : 0;
	return k;
}

/* ---- damage ---- */

static void note_damage(struct quire_log_cursor *c, uint64_t lsn, int error)
{
	c->damage.error = 0;
	if (c->seg == NULL || (c->image != NULL && !c->is_lost) || (error != -EBADMSG && error != -EIO && error != -EUCLEAN))
		return;
	log_lock(c->log); /* a segment that is moved gets another id and object */
	if (c->image != NULL || c->seg->object != NULL) {
		c->damage.error = error;
		c->damage.lsn = lsn;
		c->damage.id = c->seg->id;
		c->damage.class_no = c->image != NULL ? c->seg->class_no : object_class(c->seg->object);
		/* Of what the segment's checksums vouch for, the record. */
		c->damage.offset = error == -EUCLEAN || c->is_lost ? c->at_offset : c->window.bad_offset;
	}
	log_unlock(c->log);
}

int quire_log_cursor_error(const struct quire_log_cursor *c, struct quire_error *ret)
{
	if (c->damage.error == 0)
		return -ENODATA;
	quire_fail(ret, c->damage.error, "log %s: record %llu, in object %llu of class %s at %llu", c->log->info.name,
	           (unsigned long long)c->damage.lsn, (unsigned long long)c->damage.id,
	           store_class_names[c->damage.class_no], (unsigned long long)c->damage.offset);
	return 0;
}

/* ---- moving ---- */

static uint64_t limit_of(const struct quire_log_cursor *c)
{
	return c->mark == QUIRE_LOG_DURABLE ? quire_log_durable(c->log) : quire_log_visible(c->log);
}

static int64_t move(struct quire_log_cursor *c, bool back, bool may_wait, struct quire_log_record *ret)
{
	uint64_t first = atomic_load(&c->log->first_lsn);

	if (c->lsn < first)
		return -ESTALE;
	if (back ? c->lsn == first : c->lsn >= limit_of(c))
		return 0;
	uint64_t lsn = back ? c->lsn - 1 : c->lsn;
	c->is_lost = false;
	int rc = go_to(c, lsn, may_wait);
	if (rc == 0)
		rc = give(c, may_wait, ret);
	note_damage(c, lsn, rc);
	/* The store has let go of what is trimmed before the log's first number says so; who is told goes there. */
	if (rc == -ESTALE && may_wait)
		log_removal_is_over(c->log);
	if (rc < 0)
		return rc == -ESTALE && !may_wait ? -EAGAIN : rc;
	c->lsn = back ? lsn : lsn + 1;
	return 1;
}

/* One back, or up to n on. */
static int64_t move_some(struct quire_log_cursor *c, bool back, unsigned n, bool may_wait, struct quire_log_record *ret)
{
	int64_t rc = move(c, back, may_wait, ret);

	if (rc == 1 && n > 1) {
		rc += give_more(c, limit_of(c), ret + 1, n - 1);
		c->lsn = c->at_lsn + 1;
	}
	return rc;
}

#define BACK UINT64_MAX /* for a call's n */

static int64_t run_move(struct log_call *call)
{
	struct quire_log_cursor *c = (struct quire_log_cursor *)(uintptr_t)call->in;
	bool back = call->n == BACK;
	int64_t rc = move_some(c, back, back ? 1 : (unsigned)call->n, true, call->out);

	atomic_store(&c->busy, false);
	return rc;
}

static void move_refused(struct log_call *call)
{
	struct quire_log_cursor *c = (struct quire_log_cursor *)(uintptr_t)call->in;

	atomic_store(&c->busy, false);
}

static int64_t start_move(struct quire_log_cursor *c, bool back, unsigned n, struct quire_log_record *ret,
                          struct quire_op *op)
{
	if ((op != NULL && !op_is_idle(op)) || atomic_exchange(&c->busy, true))
		return -EBUSY;
	int64_t rc = move_some(c, back, n, false, ret);
	if (rc != -EAGAIN) {
		atomic_store_explicit(&c->busy, false, memory_order_release);
		if (op == NULL)
			return rc;
		op_complete_now(op, rc);
		return 0;
	}
	struct log_call call = {.run = run_move, .refused = move_refused, .log = c->log, .in = c, .out = ret,
	                        .n = back ? BACK : n};
	bool runs = op != NULL || !log_would_block_loop();
	rc = runs ? log_call_start(&call, op) : -EDEADLK;
	/* Without an op it has run. */
	if (!runs || (op != NULL && rc < 0))
		move_refused(&call);
	return rc;
}

int64_t quire_log_next(struct quire_log_cursor *c, struct quire_log_record *ret, struct quire_op *op)
{
	return start_move(c, false, 1, ret, op);
}

int64_t quire_log_next_many(struct quire_log_cursor *c, struct quire_log_record *ret, unsigned n, struct quire_op *op)
{
	return n == 0 ? -EINVAL : start_move(c, false, n, ret, op);
}

int64_t quire_log_prev(struct quire_log_cursor *c, struct quire_log_record *ret, struct quire_op *op)
{
	return start_move(c, true, 1, ret, op);
}

/* ---- seeking ---- */

uint64_t quire_log_cursor_lsn(const struct quire_log_cursor *c)
{
	return c->lsn;
}

int quire_log_seek(struct quire_log_cursor *c, uint64_t lsn)
{
	uint64_t limit = limit_of(c);

	if (log_is_of_parent(c->log))
		return -ECHILD;
	if (lsn == UINT64_MAX)
		lsn = limit;
	if (lsn < atomic_load(&c->log->first_lsn))
		return -ESTALE;
	if (lsn > limit)
		return -EINVAL;
	if (atomic_exchange(&c->busy, true))
		return -EBUSY;
	let_go(c);
	c->lsn = lsn;
	atomic_store(&c->busy, false);
	return 0;
}

/* Where to look from: a mark before which all times are less. Lock held. */
static int before_time(struct quire_log *log, uint64_t time_ns, uint64_t limit, uint64_t *ret_lsn)
{
	int rc = log_segment_walk_all(log, limit);

	*ret_lsn = limit;
	for (unsigned i = 0; i < log->n && rc == 0; i++) {
		const struct log_segment *seg = log->segments[i];
		const struct store_log_footer *f = &seg->footer;
		if (!seg->known || f->n_marks == 0 || f->last_time < time_ns)
			continue;
		uint32_t k = 0;
		while (k + 1 < f->n_marks && f->marks[k + 1].time < time_ns)
			k++;
		*ret_lsn = f->first_no + f->marks[k].index;
		break;
	}
	return rc;
}

static int seek_time(struct quire_log_cursor *c, uint64_t time_ns)
{
	struct quire_log_record r;
	uint64_t lsn, limit = quire_log_visible(c->log);

	log_lock(c->log);
	int rc = before_time(c->log, time_ns, limit, &lsn);
	log_unlock(c->log);
	if (rc < 0)
		return rc;
	limit = limit_of(c);
	c->lsn = lsn < limit ? lsn : limit;
	while ((rc = (int)move(c, false, true, &r)) == 1 && r.time_ns < time_ns)
		;
	if (rc == 1)
		c->lsn = r.lsn;
	return rc < 0 ? rc : 0;
}

int quire_log_seek_time(struct quire_log_cursor *c, uint64_t time_ns)
{
	if (atomic_exchange(&c->busy, true))
		return -EBUSY;
	int rc = log_enter(c->log);
	if (rc == 0) {
		rc = seek_time(c, time_ns);
		log_leave(c->log);
	}
	atomic_store(&c->busy, false);
	return rc;
}

/* ---- life ---- */

int quire_log_cursor_open(struct quire_log *log, enum quire_log_mark mark, struct quire_log_cursor **ret_cursor)
{
	if (log_is_of_parent(log))
		return -ECHILD;
	if (mark != QUIRE_LOG_VISIBLE && mark != QUIRE_LOG_DURABLE)
		return -EINVAL;
	struct quire_log_cursor *c = calloc(1, sizeof(*c));
	if (c == NULL)
		return -ENOMEM;
	c->log = log;
	c->mark = mark;
	c->lsn = atomic_load(&log->first_lsn);
	log_lock(log);
	log->n_cursors++;
	log_unlock(log);
	*ret_cursor = c;
	return 0;
}

void quire_log_cursor_close(struct quire_log_cursor *c)
{
	if (c == NULL)
		return;
	quire_assert(!atomic_load(&c->busy));
	let_go(c);
	log_lock(c->log);
	c->log->n_cursors--;
	log_unlock(c->log);
	free(c);
}
