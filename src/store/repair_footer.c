/* repair_footer.c - the footer of a segment of volumes is made again of what it says, which stands in the segment.
 *
 * That is done where each record is whole, from the header to the link: then no block of it was damaged when it was sealed, or is
 * now, and its checksums are those of its bytes. If a record is not, nobody knows whether the footer stood behind blocks that were known
 * to be damaged, and nothing is made.
 *
 * Who has the volumes open seals and removes; so they are kept from being opened while the footer is written, and if they
 * are open, that is left to a later repair.
 */
#include "check_log_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* JOURNAL_VALID: what its footer is to say. Another outcome, or a negative errno: it can't be told. */
static int read_whole(struct log_check *l, const struct check_segment *seg, struct store_log_footer *ret)
{
	struct journal_options o = check_log_options(l);
	struct journal_recovery r = {0};

	o.damaged_too = false;
	int rc = journal_scan_segment(&o, seg->offset, check_record, l->c, &r, NULL);
	*ret = (struct store_log_footer){.segment_no = r.at.segment_no,
	                                 .first_no = r.at.record_no - r.n_records,
	                                 .end_no = r.at.record_no,
	                                 .end_bytes = r.at.offset};
	return rc;
}

static int seal_again(struct store_log *log, const struct check_segment *seg, const struct store_log_footer *f)
{
	uint32_t bytes = log->settings.segment_bytes;
	uint8_t *buf = aligned_alloc(FORMAT_UNIT_BYTES, bytes);
	int rc = buf == NULL ? -ENOMEM : device_read(log->store->classes[seg->class_no].device, seg->offset, buf, bytes);

	if (rc == 0) {
		memset(buf + f->end_bytes, 0, bytes - f->end_bytes);
		rc = store_log_seal(log, seg->id, f, buf, NULL);
	}
	free(buf);
	return rc;
}

/* As it is read again while nobody can open it. */
static int make_again(struct log_check *l, const struct check_segment *seg)
{
	struct store_log_footer f;
	struct store_log *log;
	int rc = store_log_open(l->c->store, l->log.node.id, &log);

	if (rc < 0)
		return rc;
	rc = read_whole(l, seg, &f);
	if (rc >= 0)
		rc = rc == JOURNAL_VALID ? seal_again(log, seg, &f) : -EBADMSG;
	store_log_close(log);
	return rc;
}

int repair_footer(struct log_check *l, const struct check_segment *seg)
{
	struct store_finding f = {.error = seg->footer_error == -ENODATA ? -EBADMSG : seg->footer_error,
	                          .id = seg->id,
	                          .class_no = seg->class_no,
	                          .offset = seg->offset + check_log_footer_offset(l)};
	enum store_repair how = l->c->how->repair;
	bool busy = how != STORE_REPAIR_NO && check_log_is_open(l);
	struct store_log_footer footer;
	int rc = how != STORE_REPAIR_NO && !busy ? read_whole(l, seg, &footer) : -EBUSY;

	if (rc == -ENOMEM || rc == -ECANCELED)
		return rc;
	if (rc == JOURNAL_VALID && how == STORE_REPAIR_DO)
		rc = make_again(l, seg);
	f.remedy = rc == JOURNAL_VALID ? STORE_REBUILT : STORE_LOST;
	if (check_log_has(l, seg))
		check_settled(l->c, f, "log %s: %s%s", l->log.settings.name,
		              seg->footer_error == -ENODATA ? "a segment has no footer" : "the footer of a segment",
		              busy ? ", not repaired while its volumes are open" : "");
	return rc == -ENOMEM ? rc : 0;
}
