/* check_log_unsealed.c - of a log of volumes, whose segments are in no order, all that has no footer.
 *
 * Segments are begun in the order of their ids, and sealed in that order, too, each after the one behind it was begun. So of what has no footer
 * is, in the order of ids:
 *   before one that is sealed, or   sealed as well: its footer is lost, and perhaps its header, too
 *   before the checkpoint's place
 *   behind that, up to the newest   the chain, which is read as who opens the log would: a process that has died leaves several. If the
 *   that is begun                   first headers are gone, it is read from the newest that is sealed, whose NEXT leads there
 *   behind that                     a spare, whatever it holds; but the first is begun, if one is sealed
 * What has a footer that is damaged was sealed, wherever it stands, and all that was begun before it.
 *
 * Which is begun is told by its header's number, as spares may hold what they held in an earlier life. Beside a writer a segment may be begun, or
 * sealed, after it was read and before another one was: so one is read again before it is told that it is neither.
 */
#include "check_log_internal.h"

#include "../journal/frame.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char bad_header[] = "the header of a segment that is not sealed";

/* ---- the checkpoint ---- */

/* It is read before any footer: what it was made behind is sealed by then. One that can't be read says nothing here. */
static int take_checkpoint(struct log_check *l, struct object *o)
{
	const struct checkpoint_head_le *le = (const struct checkpoint_head_le *)l->c->buf;

	if (object_bytes(o) < sizeof(*le))
		return 0;
	int rc = object_read_wait(o, 0, FORMAT_UNIT_BYTES, l->c->buf, NULL);
	if (rc < 0 || memcmp(le->magic, FORMAT_CHECKPOINT_MAGIC, sizeof(le->magic)) != 0 || le64toh(le->log_id) != l->log.node.id)
		return rc == -ENOMEM ? rc : 0;
	l->sealed_end = le64toh(le->segment_no);
	l->from_id = le64toh(le->segment_id);
	return 0;
}

int check_log_read_checkpoint(struct log_check *l)
{
	struct object *o;
	int rc = 0;

	for (uint64_t id = 0; rc == 0 && object_list_tagged(l->c->store, FORMAT_TAG_VOLUMES, id, &id, 1) == 1;) {
		if (object_get(l->c->store, id, &o) < 0)
			continue;
		rc = take_checkpoint(l, o);
		object_put(o);
	}
	return rc;
}

/* ---- headers ---- */

static int read_header(struct log_check *l, struct check_segment *seg)
{
	struct journal_options o = check_log_options(l);
	struct frame_segment header = {0};
	int rc = device_read(o.device, seg->offset, l->c->buf, FORMAT_UNIT_BYTES);

	if (rc == 0)
		rc = frame_segment_decode(&o, seg->offset, (const struct frame_segment_le *)l->c->buf, &header, NULL);
	seg->no = rc == 0 ? header.no : 0;
	seg->begun = rc == 0 && header.no >= l->sealed_end;
	seg->header_error = rc;
	return rc == -ENOMEM ? rc : 0;
}

static bool is_unreadable(const struct check_segment *seg)
{
	return seg->header_error < 0 && seg->header_error != -EBADMSG && seg->header_error != -EUCLEAN;
}

static int read_headers(struct log_check *l)
{
	int rc = 0;

	for (unsigned i = 0; i < l->n && rc == 0; i++) {
		struct check_segment *seg = &l->segments[i];
		if (seg->sealed)
			continue;
		rc = read_header(l, seg);
		if (rc == 0 && is_unreadable(seg)) /* a spare's, too */
			check_log_found(l, seg->header_error, seg, 0, bad_header);
	}
	return rc;
}

/* One that was begun and has a damaged footer is not of the chain any more, nor is what was begun before it. A spare that may be hit in what it held
 * in an earlier life was not begun. */
static void count_damaged(struct log_check *l)
{
	uint64_t sealed_end = l->sealed_end;

	for (unsigned i = 0; i < l->n; i++) {
		struct check_segment *seg = &l->segments[i];
		seg->ended = !seg->sealed && seg->footer_error == -EBADMSG && seg->begun;
		if (seg->ended && seg->no >= sealed_end)
			sealed_end = seg->no + 1;
	}
	l->sealed_end = sealed_end;
	for (unsigned i = 0; i < l->n; i++)
		l->segments[i].begun &= l->segments[i].no >= l->sealed_end;
}

/* ---- which is what ---- */

/* NULL: there is none. */
static const struct check_segment *newest_begun(const struct log_check *l)
{
	const struct check_segment *newest = NULL;

	for (unsigned i = 0; i < l->n; i++)
		if (l->segments[i].begun && (newest == NULL || l->segments[i].no > newest->no))
			newest = &l->segments[i];
	return newest;
}

static const struct check_segment *oldest_begun(const struct log_check *l, const struct check_segment *newest)
{
	const struct check_segment *oldest = newest;

	for (unsigned i = 0; i < l->n; i++)
		if (l->segments[i].begun && l->segments[i].id < newest->id && l->segments[i].no < oldest->no)
			oldest = &l->segments[i];
	return oldest;
}

static uint64_t last_sealed_id(const struct log_check *l)
{
	uint64_t id = l->from_id != 0 ? l->from_id - 1 : 0;

	for (unsigned i = 0; i < l->n; i++) {
		const struct check_segment *seg = &l->segments[i];
		if ((seg->sealed || seg->ended) && seg->id > id)
			id = seg->id;
	}
	return id;
}

static bool was_sealed(const struct check_segment *seg, uint64_t sealed_id)
{
	return !seg->sealed && (seg->footer_error != -ENODATA || (seg->id <= sealed_id && !seg->begun));
}

/* NULL: there is none of which the number is known. Its footer need not be there: a repair may make it again, and what it leads to is not to be
 * found only then. */
static const struct check_segment *newest_sealed(const struct log_check *l, uint64_t sealed_id)
{
	const struct check_segment *newest = NULL;

	for (unsigned i = 0; i < l->n; i++) {
		const struct check_segment *seg = &l->segments[i];
		bool is_known = seg->sealed || seg->ended || (seg->header_error == 0 && !seg->begun && seg->id <= sealed_id);
		if (is_known && (newest == NULL || seg->no > newest->no))
			newest = seg;
	}
	return newest;
}

/* Begun, and its header is gone: behind what is sealed, and before `end`. */
static bool is_headless(const struct check_segment *seg, uint64_t sealed_id, uint64_t end)
{
	return !seg->sealed && !seg->begun && seg->footer_error == -ENODATA && seg->id > sealed_id && seg->id < end;
}

/* What may come behind all that is sealed; NULL: nothing. */
static struct check_segment *first_behind(const struct log_check *l, uint64_t sealed_id)
{
	struct check_segment *first = NULL;

	for (unsigned i = 0; i < l->n; i++)
		if (!l->segments[i].sealed && l->segments[i].id > sealed_id && (first == NULL || l->segments[i].id < first->id))
			first = &l->segments[i];
	return first;
}

/* ---- what was sealed ---- */

/* -ENOMEM; 1: it has one now. */
static int has_footer_now(struct log_check *l, struct check_segment *seg)
{
	struct store_log_footer f;
	int rc = store_log_sealed(&l->log, seg->id, &f);

	if (rc == 0)
		free(f.marks);
	else if (rc != -ENOMEM)
		seg->footer_error = rc;
	return rc == -ENOMEM ? rc : rc == 0 || rc == -EINVAL;
}

static int check_sealed_once(struct log_check *l, struct check_segment *seg)
{
	int rc = has_footer_now(l, seg);

	if (rc != 0)
		return rc < 0 ? rc : 0;
	if (seg->begun && !seg->told && check_log_is_open(l)) /* one that is just being written is none */
		return 0;
	rc = read_header(l, seg);
	if (rc < 0)
		return rc;
	rc = repair_footer(l, seg);
	if (rc < 0 || seg->begun || seg == l->chain_from) /* its records are told with the chain's */
		return rc;
	if (seg->header_error == 0) {
		rc = check_log_records(l, seg);
		return rc < 0 ? rc : 0;
	}
	if (!is_unreadable(seg))
		check_log_found(l, seg->header_error, seg, 0, "the header of a segment without a footer");
	return 0;
}

/* ---- the chain ---- */

/* Nothing leads to those before `end`. */
static int tell_headless(struct log_check *l, uint64_t sealed_id, uint64_t end)
{
	int rc = 0;

	for (unsigned i = 0; i < l->n && rc == 0; i++) {
		struct check_segment *seg = &l->segments[i];
		if (!is_headless(seg, sealed_id, end))
			continue;
		rc = read_header(l, seg);
		if (rc == 0 && !seg->begun && !is_unreadable(seg))
			check_log_found(l, -EBADMSG, seg, 0, bad_header);
	}
	return rc;
}

/* Where the chain is read from: `oldest`, or, if headers before it are gone, the newest that is sealed, if that leads to them. */
static int choose_first(struct log_check *l, uint64_t sealed_id, const struct check_segment *oldest, const struct check_segment **ret)
{
	const struct check_segment *sealed = newest_sealed(l, sealed_id);
	uint64_t n = 0;

	*ret = oldest;
	for (unsigned i = 0; i < l->n; i++)
		n += is_headless(&l->segments[i], sealed_id, oldest->id);
	if (n == 0)
		return 0;
	if (sealed == NULL || sealed->no + 1 + n != oldest->no)
		return tell_headless(l, sealed_id, oldest->id);
	*ret = sealed;
	return 0;
}

/* The newest is there, so all before it was durable, however it looks. */
static int read_to(struct log_check *l, const struct check_segment *first, const struct check_segment *newest)
{
	struct journal_recovery r = {0};
	struct journal *j = NULL;
	int rc = check_log_read_chain(l, first, &r, &j);

	if (rc == 0 && r.at.segment_no < newest->no)
		check_log_found(l, -EBADMSG, check_log_segment_at(l, r.at.segment), r.at.offset, "a record in a segment that is not sealed");
	journal_close(j);
	return rc < 0 ? rc : 0;
}

/* No header says which is the newest: what is sealed leads there, if anything does. */
static int read_tail(struct log_check *l, uint64_t sealed_id)
{
	const struct check_segment *sealed = newest_sealed(l, sealed_id);
	struct check_segment *tail = first_behind(l, sealed_id);
	struct journal_recovery r = {0};
	struct journal *j = NULL;
	int rc = tail != NULL ? read_header(l, tail) : 0;

	if (rc < 0 || (tail != NULL && tail->begun) || l->n == 0)
		return rc;
	rc = sealed != NULL ? check_log_read_chain(l, sealed, &r, &j) : 0;
	bool reached = rc == 0 && j != NULL && r.at.segment_no > sealed->no && r.at.offset != 0;
	journal_close(j);
	if (rc == 0 && !reached)
		check_log_found(l, -EBADMSG, tail != NULL ? tail : &l->segments[l->n - 1], 0, tail != NULL ? bad_header : "its tail is missing");
	return rc < 0 ? rc : 0;
}

/* ---- all ---- */

int check_log_unsealed(struct log_check *l)
{
	const struct check_segment *first;
	int rc = read_headers(l);

	if (rc < 0)
		return rc;
	count_damaged(l);
	uint64_t sealed_id = last_sealed_id(l);
	const struct check_segment *newest = newest_begun(l), *oldest = newest != NULL ? oldest_begun(l, newest) : NULL;
	l->first_open = 0;
	if (oldest == NULL) {
		rc = read_tail(l, sealed_id);
	} else {
		rc = choose_first(l, sealed_id, oldest, &first);
		rc = rc == 0 ? read_to(l, first, newest) : rc;
	}
	for (unsigned i = 0; i < l->n && rc == 0; i++)
		if (was_sealed(&l->segments[i], sealed_id))
			rc = check_sealed_once(l, &l->segments[i]);
	return rc;
}
