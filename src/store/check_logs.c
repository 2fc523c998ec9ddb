/* check_logs.c - whether logs are as they should be, open or not.
 *
 * Looked at: the footer of each segment, and each page and checksum of those that are sealed; the records of the others, as who
 * opens the log would read them; that numbers go on from each segment to the next. What is mended when the log is
 * opened, a footer or what the journal itself has written, is a finding all the same. So is each run of records that are lost, whether something
 * stands in their place already or not.
 *
 * Of the log of volumes, whose segments are in no order: check_log_unsealed.c.
 *
 * Nobody is kept out of the log meanwhile: its owner may append, seal and remove. Records and footers of what is the log's never
 * change, and a segment that was removed is never the log's again (its id isn't given out twice). So what was found
 * in one counts only if it is still there when it was found. A footer that is just being written is none.
 */
#include "check_log_internal.h"

#include "../base/crc32c.h"
#include "../journal/frame.h"

#include <errno.h>
#include <stdlib.h>

/* ---- which segments ---- */

static int begin(struct log_check *l, uint64_t id)
{
	struct store *s = l->c->store;

	store_lock(s);
	const struct store_log *log = (const struct store_log *)idmap_find(&s->logs, id);
	int rc = log == NULL ? -ESTALE : 0;
	if (rc == 0) {
		l->log.store = s;
		l->log.node.id = id;
		l->log.settings = log->settings;
		l->open = log->open;
		l->n = log->n;
		l->segments = calloc(l->n + 1, sizeof(l->segments[0]));
		rc = l->segments == NULL ? -ENOMEM : 0;
	}
	for (unsigned i = 0; rc == 0 && i < l->n; i++) {
		const struct store_log_extent *e = log->segments[i];
		l->segments[i] = (struct check_segment){.id = e->node.id, .offset = e->start * FORMAT_UNIT_BYTES, .class_no = e->class_no,
		                                  .sealed = e->len_bytes != 0};
	}
	store_unlock(s);
	return rc;
}

bool check_log_has(const struct log_check *l, const struct check_segment *seg)
{
	struct store *s = l->c->store;

	store_lock(s);
	bool there = idmap_find(&s->log_segments, seg->id) != NULL;
	store_unlock(s);
	return there;
}

bool check_log_is_open(struct log_check *l)
{
	struct store *s = l->c->store;

	store_lock(s);
	const struct store_log *log = (const struct store_log *)idmap_find(&s->logs, l->log.node.id);
	l->open |= log == NULL || log->open;
	store_unlock(s);
	return l->open;
}

void check_log_found(struct log_check *l, int error, const struct check_segment *seg, uint64_t offset, const char *what)
{
	if (check_log_has(l, seg))
		check_found(l->c, error, seg->id, seg->class_no, seg->offset + offset, "log %s: %s",
		            l->log.settings.name, what);
}

/* Who opens the log, or its volumes, to write makes it again. */
void check_log_found_derived(struct log_check *l, int error, const struct check_segment *seg, uint64_t offset, const char *what)
{
	struct store_finding f = {.error = error, .id = seg->id, .class_no = seg->class_no, .offset = seg->offset + offset};

	f.remedy = l->c->how->repair != STORE_REPAIR_NO ? STORE_REOPEN : STORE_LOST;
	if (check_log_has(l, seg))
		check_settled(l->c, f, "log %s: %s", l->log.settings.name, what);
}

/* ---- records ---- */

/* Who opens the log to write puts something in the place of what is lost, which is lost then as well. */
static void tell_lost(struct log_check *l)
{
	const struct check_segment *seg = l->lost.seg;

	if (seg == NULL)
		return;
	struct store_finding f = {.error = -EBADMSG, .id = seg->id, .class_no = seg->class_no, .offset = seg->offset + l->lost.from,
	                          .from = l->lost.from, .n_bytes = l->lost.end - l->lost.from};
	f.remedy = l->lost.replaced || l->log.settings.volumes || l->c->how->repair == STORE_REPAIR_NO ? STORE_LOST : STORE_REOPEN;
	if (check_log_has(l, seg))
		check_settled(l->c, f, "log %s: %llu records from %llu on", l->log.settings.name, (unsigned long long)l->lost.n,
		              (unsigned long long)l->lost.first);
	l->lost.seg = NULL;
}

const struct check_segment *check_log_segment_at(const struct log_check *l, uint64_t offset)
{
	for (unsigned i = l->first_open; i < l->n; i++)
		if (l->segments[i].offset == offset)
			return &l->segments[i];
	return &l->segments[l->first_open];
}

static void take_lost(struct log_check *l, const struct journal_place *at, uint32_t len_bytes)
{
	const struct check_segment *seg = l->at != NULL ? l->at : check_log_segment_at(l, at->segment);

	if (l->lost.seg != seg || l->lost.end != at->offset || l->lost.replaced == at->damaged) {
		tell_lost(l);
		l->lost.seg = seg;
		l->lost.first = at->record_no;
		l->lost.n = 0;
		l->lost.from = at->offset;
		l->lost.replaced = !at->damaged;
	}
	l->lost.n += 1 + at->n_more;
	l->lost.end = at->offset + (uint32_t)frame_bytes(len_bytes);
}

static int take_record(void *arg, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes)
{
	struct log_check *l = arg;

	if (at->damaged || (type == FORMAT_LOG_LOST && !l->log.settings.volumes))
		take_lost(l, at, len_bytes);
	else if (!l->log.settings.volumes && format_log_key_bytes(type, payload, len_bytes) < 0)
		return -EUCLEAN;
	return check_record(l->c, at, type, payload, len_bytes);
}

struct journal_options check_log_options(struct log_check *l)
{
	static const struct journal_ops none = {0};
	struct journal_options o;

	store_log_journal(&l->log, &o);
	o.ops = &none;
	o.damaged_too = l->log.settings.volumes;
	o.lost_type = l->log.settings.volumes ? 0 : FORMAT_LOG_LOST;
	return o;
}

int check_log_scan(struct log_check *l, const struct check_segment *seg, struct journal_recovery *ret)
{
	const struct store_log_segment place = {.id = seg->id, .class_no = seg->class_no, .offset = seg->offset};
	struct journal_options o = check_log_options(l), placed;

	store_log_journal_of(&l->log, &place, &placed);
	o.device = placed.device;
	o.elsewhere = placed.elsewhere;
	o.lost_type = 0; /* who opens the log does not go over damage there either */
	l->at = seg;
	int rc = journal_scan_segment(&o, seg->offset, take_record, l, ret, NULL);
	tell_lost(l);
	l->at = NULL;
	return rc;
}

/* ---- footers, and what they stand behind ---- */

static uint64_t sums_offset(const struct log_check *l)
{
	return l->log.settings.segment_bytes;
}

uint64_t check_log_footer_offset(const struct log_check *l)
{
	return (uint64_t)(format_log_extent_units(l->log.settings.segment_bytes) - 1) * FORMAT_UNIT_BYTES;
}

/* The checksums as they are on the medium are those that were there when the footer was written. */
static int check_sums_crc(struct log_check *l, const struct check_segment *seg, const struct store_log_footer *f)
{
	struct device *d = l->c->store->classes[seg->class_no].device;
	uint64_t n_pages = format_n_pages(f->end_bytes);
	const struct sums_le *page = (const struct sums_le *)l->c->buf;
	uint32_t crc = 0;

	for (uint64_t group = 0; group < format_n_groups(n_pages); group++) {
		int rc = device_read(d, seg->offset + sums_offset(l) + group * FORMAT_UNIT_BYTES, l->c->buf, FORMAT_UNIT_BYTES);
		if (rc < 0)
			return rc;
		crc = crc32c(crc, page->sums, format_group_pages(n_pages, group) * sizeof(page->sums[0]));
	}
	return crc == f->sums_crc ? 0 : -EBADMSG;
}

static int check_sealed(struct log_check *l, const struct check_segment *seg, const struct store_log_footer *f)
{
	struct journal_recovery at;
	struct object *o;
	int rc = f->lost_end != 0 ? check_log_scan(l, seg, &at) : 0;

	if (rc == -ECANCELED || rc == -ENOMEM)
		return rc;
	rc = 0;
	if (l->c->how->structure_only || object_get(l->c->store, seg->id, &o) < 0)
		return 0;
	int64_t n_before = l->c->n_found;
	rc = check_object(l->c, o);
	object_put(o);
	if (rc == 0 && l->c->n_found == n_before && check_sums_crc(l, seg, f) == -EBADMSG)
		check_log_found(l, -EBADMSG, seg, sums_offset(l), "a sealed segment has other checksums than its footer says");
	return rc;
}

/* It is one of those that have a footer, and what follows it is not known. */
static void pass_by(struct log_check *l, unsigned i)
{
	l->first_open = i + 1;
	l->follows = false;
}

static int check_footer(struct log_check *l, unsigned i)
{
	struct check_segment *seg = &l->segments[i];
	struct store_log_footer f;
	int rc = store_log_sealed(&l->log, seg->id, &f);

	bool moved = seg->class_no != l->log.settings.class_no; /* only sealed ones are */
	if (rc == -ENOMEM)
		return rc;
	if (rc < 0 && (moved || (rc == -EINVAL && seg->sealed)))
		pass_by(l, i);
	if (rc == -EINVAL) /* it was removed, or moved */
		return 0;
	if (rc < 0 && l->log.settings.volumes) {
		seg->footer_error = rc == -ENODATA && seg->sealed ? -EBADMSG : rc;
		seg->told = seg->sealed;
		seg->sealed = false;
		return 0;
	}
	if (rc < 0) {
		/* Who has the log open knows whether it is sealed. */
		seg->told = seg->sealed || moved || (rc != -ENODATA && !check_log_is_open(l));
		if (seg->told)
			check_log_found_derived(l, rc == -ENODATA ? -EBADMSG : rc, seg, check_log_footer_offset(l), "the footer of a segment");
		return 0;
	}
	free(f.marks);
	const struct store_log_segment place = {.id = seg->id, .class_no = seg->class_no, .offset = seg->offset};
	rc = store_log_check_keys(&l->log, seg->id, &f);
	if ((rc == -EBADMSG || rc == -EIO) && check_log_has(l, seg)) /* it is read around, at the cost of reading records */
		rc = repair_list(l->c, &l->log, &place, rc);
	if (rc == -ENOMEM || rc == -ECANCELED)
		return rc;
	if (i == l->first_open && l->follows && (f.segment_no != l->next_no || f.first_no != l->next_record))
		check_log_found(l, -EBADMSG, seg, 0, "the segment before is missing, or not what it was");
	seg->sealed = true;
	seg->no = f.segment_no;
	l->first_open = i + 1;
	l->follows = !l->log.settings.volumes;
	l->next_no = f.segment_no + 1;
	if (l->sealed_end < l->next_no)
		l->sealed_end = l->next_no;
	l->next_record = f.end_no;
	return check_sealed(l, seg, &f);
}

/* ---- what has no footer ---- */

int check_log_records(struct log_check *l, const struct check_segment *seg)
{
	struct journal_recovery at = {0};
	int rc = check_log_scan(l, seg, &at);

	if (rc == -ECANCELED || rc == -ENOMEM)
		return rc;
	if (rc != JOURNAL_VALID)
		check_log_found(l, rc > 0 ? -EBADMSG : rc, seg, at.at.offset, "a record, in a segment without a footer");
	return rc == JOURNAL_VALID;
}

/* One that stands before one with a footer, and has none. */
static int check_lost_footer(struct log_check *l, const struct check_segment *seg)
{
	int rc = check_log_records(l, seg);

	if (rc == 1 && !seg->told && !check_log_is_open(l))
		check_log_found_derived(l, -EBADMSG, seg, check_log_footer_offset(l), "a segment has no footer");
	return rc < 0 ? rc : 0;
}

int check_log_read_chain(struct log_check *l, const struct check_segment *first, struct journal_recovery *r, struct journal **ret_journal)
{
	struct journal_options o = check_log_options(l);
	uint64_t *known = calloc(l->n - l->first_open + 1, sizeof(known[0]));

	if (known == NULL)
		return -ENOMEM;
	for (unsigned i = l->first_open; i < l->n; i++)
		if (!l->log.settings.volumes || !l->segments[i].sealed)
			known[o.n_known++] = l->segments[i].offset;
	o.known = known;
	l->chain_from = first;
	int rc = journal_open(&o, first->offset, true, take_record, l, r, ret_journal, NULL);
	free(known);
	tell_lost(l);
	if (rc == -ECANCELED || rc == -ENOMEM)
		return rc;
	if (rc < 0) {
		const struct check_segment *seg = check_log_segment_at(l, r->at.segment);
		check_log_found(l, rc, seg, seg->offset == r->at.segment ? r->at.offset : 0, "a record in a segment that is not sealed");
		return 1;
	}
	if (r->n_mended > 0)
		check_log_found_derived(l, -EBADMSG, check_log_segment_at(l, r->mended_segment), 0, "what its journal itself has written");
	return 0;
}

/* ---- the tail of the others ---- */

struct chain {
	struct log_check *l;
	unsigned n;
	bool differs;
};

static void take_link(void *arg, uint64_t offset)
{
	struct chain *chain = arg;
	unsigned i = chain->l->first_open + chain->n++;

	chain->differs |= i >= chain->l->n || chain->l->segments[i].offset != offset;
}

/* From the first segment that has no footer on. */
static int check_tail(struct log_check *l)
{
	struct journal_recovery r = {0};
	struct journal *j = NULL;
	struct check_segment *first = &l->segments[l->first_open];
	struct chain chain = {.l = l};
	int rc = check_log_read_chain(l, first, &r, &j);

	if (rc != 0)
		return rc < 0 ? rc : 0;
	if (l->follows && (r.at.segment_no - (r.n_segments - 1) != l->next_no || r.at.record_no - r.n_records != l->next_record))
		check_log_found(l, -EBADMSG, first, 0, "the segment before is missing, or not what it was");
	/* Whoever has it open may have got more since they were listed. */
	journal_segments(j, take_link, &chain);
	if (chain.differs && !check_log_is_open(l))
		check_log_found(l, -EUCLEAN, first, 0, "leads elsewhere than the catalogue");
	journal_close(j);
	return 0;
}

/* ---- all ---- */

static int check_log(struct log_check *l)
{
	int rc = l->log.settings.volumes ? check_log_read_checkpoint(l) : 0;

	for (unsigned i = 0; i < l->n && rc == 0; i++)
		rc = check_footer(l, i);
	if (l->log.settings.volumes)
		return rc == 0 ? check_log_unsealed(l) : rc;
	for (unsigned i = 0; i < l->first_open && rc == 0; i++)
		if (!l->segments[i].sealed)
			rc = check_lost_footer(l, &l->segments[i]);
	if (rc < 0)
		return rc;
	if (l->first_open < l->n)
		return check_tail(l);
	if (l->n > 0 && !check_log_is_open(l))
		check_log_found(l, -EBADMSG, &l->segments[l->n - 1], 0, "its tail is missing");
	return 0;
}

int check_logs(struct checking *c)
{
	struct store_log_info info;
	int rc = 0;

	for (uint64_t after = 0; rc == 0 && store_log_next(c->store, after, &info); after = info.id) {
		struct log_check l = {.c = c};
		rc = begin(&l, info.id);
		rc = rc == -ESTALE ? 0 : rc == 0 ? check_log(&l) : rc;
		free(l.segments);
	}
	return rc;
}
