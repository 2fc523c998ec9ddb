/* destage.c - sealed segments move to another class: when somebody says so, or by the log's own rule.
 *
 * The store copies and replaces (src/store/log_move.c); here the log's list follows: the old segment is GONE, like one that
 * was trimmed, and its cursors go on in it; a new one, SEALED, stands in its place, with the same footer. Both lists
 * change at the same place, and each removal takes the oldest of both; so a removal between the two changes takes the
 * old segment off this list where it has taken the new one off the other.
 *
 * One segment moves at a time (log->moving), a piece at a time. The rule is the upkeep's to obey; between the pieces it seals and
 * removes what has come up, so that appends don't wait for a move. It leaves a segment that turned out damaged where it is: who asks by
 * quire_log_destage tries again, as does the next who opens the log.
 *
 * Failure: nothing has changed. -ENOSPC in the other class is no error of the log; it is tried again with the next seal.
 */
#include "log_internal.h"

#include "../base/fail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- one ---- */

/* The copy is in the list, where seg was. False: seg was removed meanwhile, and the copy with it. Lock held. */
static bool replace(struct log_segment *seg, struct log_segment *copy, const struct store_log_segment *place)
{
	struct quire_log *log = seg->log;
	unsigned i = 0;

	while (i < log->n && log->segments[i] != seg)
		i++;
	if (i == log->n)
		return false;
	*copy = (struct log_segment){
		.log = log,
		.id = place->id,
		.class_no = place->class_no,
		.offset = place->offset,
		.refs = 1,
		.state = SEGMENT_SEALED,
		.footer = seg->footer,
		.marks_capacity = seg->marks_capacity,
		.known = true,
		.ended = true,
	};
	/* Marks are looked up in the list's segments alone. */
	seg->footer.marks = NULL;
	seg->footer.n_marks = 0;
	seg->marks_capacity = 0;
	seg->state = SEGMENT_GONE;
	log->segments[i] = copy;
	log_segment_put(seg);
	return true;
}

static int move(struct log_segment *seg, unsigned class_no, int (*between)(void *log), struct quire_error *err)
{
	struct quire_log *log = seg->log;
	struct log_segment *copy = calloc(1, sizeof(*copy));
	struct store_log_segment place;

	if (copy == NULL)
		return quire_fail(err, -ENOMEM, "log %s", log->info.name);
	/* Whoever is in the old one, or is just coming to it, reads on there: so it has its object before that loses its name. */
	int rc = log->cache != NULL ? log_segment_open_range(seg) : 0;
	if (rc == 0)
		rc = store_log_move(log->space, seg->id, class_no, between, log, &place, err);
	else
		quire_fail(err, rc, "log %s: moving its segment %llu", log->info.name, (unsigned long long)seg->id);
	log_lock(log);
	if (rc == 0 && !replace(seg, copy, &place))
		rc = -ESTALE;
	if (rc == -EBADMSG)
		seg->damaged = true;
	log_unlock(log);
	if (rc < 0)
		free(copy);
	return rc;
}

/* ---- turns ---- */

/* False: another has it. */
static bool try_claim(struct quire_log *log)
{
	log_lock(log);
	bool free_now = !log->moving;
	log->moving = true;
	log_unlock(log);
	return free_now;
}

static int claim(struct quire_log *log)
{
	while (!try_claim(log)) {
		int rc = wait_for(&log->waits, WAIT_MOVE, 0, NULL);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void release(struct quire_log *log, unsigned n_by_rule)
{
	log_lock(log);
	log->moving = false;
	log->n_moves += n_by_rule;
	log_unlock_and_wake(log);
}

static void put(struct log_segment *seg)
{
	struct quire_log *log = seg->log;

	log_lock(log);
	log_segment_put(seg);
	log_unlock(log);
}

/* ---- by the rule ---- */

/* The oldest that is to move; one reference is the caller's. *ret_damaged: there are some that can't. Lock held. */
static struct log_segment *next_by_rule(const struct quire_log *log, bool *ret_damaged)
{
	uint64_t keep = log->info.destage_keep_bytes / log->info.segment_bytes, n_here = 0;

	*ret_damaged = false;
	if (!log->info.destage)
		return NULL;
	for (unsigned i = 0; i < log->n; i++)
		n_here += log->segments[i]->state == SEGMENT_SEALED && log->segments[i]->class_no == (unsigned)log->info.cls;
	for (unsigned i = 0; i < log->n && n_here > keep; i++) {
		struct log_segment *seg = log->segments[i];
		if (seg->state != SEGMENT_SEALED || seg->class_no != (unsigned)log->info.cls)
			continue;
		if (!seg->damaged)
			return seg;
		*ret_damaged = true;
		n_here--;
	}
	return NULL;
}

bool log_destaging_is_due(const struct quire_log *log)
{
	bool damaged;

	return next_by_rule(log, &damaged) != NULL;
}

/* 1: one was moved, or is found to be none any more; 0: there is none. */
static int move_by_rule(struct quire_log *log, int (*between)(void *log), bool *ret_damaged)
{
	log_lock(log);
	struct log_segment *seg = log->closing ? NULL : next_by_rule(log, ret_damaged);
	if (seg != NULL)
		seg->refs++;
	log_unlock(log);
	if (seg == NULL)
		return 0;
	int rc = move(seg, (unsigned)log->info.destage_to, between, NULL);
	put(seg);
	return rc == 0 || rc == -ESTALE || rc == -EBADMSG ? 1 : rc;
}

int log_obey_destaging(struct quire_log *log, int (*between)(void *log))
{
	bool damaged = false;
	int rc = 1;

	/* Whoever moves some now kicks the upkeep when he is done. */
	while (rc == 1 && try_claim(log)) {
		rc = move_by_rule(log, between, &damaged);
		log_free_dead(log); /* their space is wanted */
		release(log, rc == 1);
	}
	return rc < 0 ? rc : damaged ? -EBADMSG : 0;
}

/* ---- by request ---- */

/* The first behind number *after that ends below lsn, or at it, in another class. Lock held. */
static struct log_segment *next_asked(const struct quire_log *log, uint64_t lsn, unsigned class_no, uint64_t *after)
{
	for (unsigned i = 0; i < log->n; i++) {
		struct log_segment *seg = log->segments[i];
		if (seg->state != SEGMENT_SEALED || seg->footer.end_no > lsn)
			return NULL;
		if (seg->footer.segment_no < *after)
			continue;
		*after = seg->footer.segment_no + 1;
		if (seg->class_no != class_no)
			return seg;
	}
	return NULL;
}

static int64_t move_asked(struct quire_log *log, uint64_t lsn, unsigned class_no, struct quire_error *err)
{
	uint64_t after = 0;
	int64_t n = 0;
	int result = 0;

	for (;;) {
		log_lock(log);
		struct log_segment *seg = next_asked(log, lsn, class_no, &after);
		if (seg != NULL)
			seg->refs++;
		log_unlock(log);
		if (seg == NULL)
			return result < 0 ? result : n;
		/* Of several that are damaged the first is told. */
		int rc = move(seg, class_no, NULL, result < 0 ? NULL : err);
		put(seg);
		n += rc == 0;
		if (rc == -EBADMSG)
			result = rc;
		else if (rc < 0 && rc != -ESTALE)
			return rc;
	}
}

static int64_t destage(struct quire_log *log, uint64_t lsn, unsigned class_no, struct quire_error *err)
{
	int rc = log->read_only ? -EROFS : class_no >= STORE_N_CLASSES ? -EINVAL : claim(log);

	if (rc < 0)
		return quire_fail(err, rc, "log %s: moving segments to class %u", log->info.name, class_no);
	int64_t n = move_asked(log, lsn, class_no, err);
	release(log, 0);
	log_lock(log);
	if (log_destaging_is_due(log))
		log_kick_upkeep(log);
	log_unlock(log);
	log_free_dead(log); /* their space is wanted */
	return n;
}

int64_t quire_log_destage(struct quire_log *log, uint64_t lsn, enum quire_class cls, struct quire_error *err)
{
	int64_t rc = log_enter(log);

	if (rc < 0)
		return quire_fail(err, (int)rc, "log %s", log->info.name);
	rc = destage(log, lsn, (unsigned)cls, err);
	log_leave(log);
	return rc;
}
