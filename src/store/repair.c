/* repair.c - what a check has found is made again of what else there is.
 *
 * What there is twice, and what is made again of it:
 *   a superblock              the other one; without a good one, what the open store knows, which is the same
 *   the catalogue             what is in memory, as it is open: compacted into the container's other log
 *   a page of checksums       the pages themselves (below)
 *   a footer, a list of keys  the records of the segment: by who opens that log to write (log/open.c); of volumes, here (repair_footer.c)
 *   the space map             nothing has to be done: it is made of the catalogue whenever the store is opened
 *   a container's other log   likewise; which of the two counts is decided, and the other erased, when it is opened
 * All else is there once. It stays as it is: its checksum keeps it from being read, and keeps nothing else.
 *
 * A page of checksums that is damaged leaves two witnesses of what it was. If the checksums of the pages, as they are now,
 * have the crc that stands in it, then they are what stood there, and all pages are good. If not, each page that has the checksum that
 * stands there for it is good (both would have to be damaged alike, which is as likely as any checksum's failure), and the page of
 * checksums gets a crc over what it says; the other pages stay unreadable, and are lost. If no page has, it is not theirs, and stays.
 *
 * Invariants:
 *   1. Nothing is written over but what a check has just found unreadable, or a superblock that is not this class's. So nothing that was
 *      readable is not any more, whether the repair ends or is cut off.
 *   2. Each thing is written by one durable write, or (the catalogue) by a transaction: after a crash in between it is damaged
 *      still, or made again, and the next repair finds it so.
 *   3. A plan (STORE_REPAIR_PLAN) reads what a repair would read, and writes nothing.
 */
#include "check_internal.h"

#include "checksum.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

/* ---- superblocks ---- */

/* The other copy as it is on the medium, whatever a newer library has put behind what we know of it. */
static bool read_twin(struct checking *c, unsigned class_no, unsigned copy, uint8_t *block)
{
	const struct store_class *cls = &c->store->classes[class_no];
	uint64_t offset = (uint64_t)(copy ^ 1) * FORMAT_SUPERBLOCK_STEP;
	struct superblock sb;

	return device_read(cls->device, offset, block, FORMAT_UNIT_BYTES) == 0 &&
	       superblock_decode((const struct superblock_le *)block, cls->device->name, &sb, NULL) == 0 &&
	       sb.generation == cls->superblock.generation && superblock_is_of(&sb, class_no, cls->superblock.uuid);
}

enum store_remedy repair_superblock(struct checking *c, unsigned class_no, unsigned copy)
{
	struct store_class *cls = &c->store->classes[class_no];
	int rc = 0;

	if (c->how->repair == STORE_REPAIR_NO)
		return STORE_LOST;
	bool twin = read_twin(c, class_no, copy, c->buf);
	if (!twin && c->store->config.read_only)
		return STORE_LOST;
	if (c->how->repair == STORE_REPAIR_DO)
		rc = twin ? device_write(cls->device, (uint64_t)copy * FORMAT_SUPERBLOCK_STEP, c->buf, FORMAT_UNIT_BYTES, true)
		          : superblock_write_copy(cls->device, &cls->superblock, copy);
	if (c->how->repair == STORE_REPAIR_DO && rc == 0)
		cls->copies[copy] = 0;
	return rc < 0 ? STORE_LOST : STORE_REBUILT;
}

/* ---- the catalogue ---- */

void repair_catalogue(struct checking *c)
{
	struct store *s = c->store;
	struct store_finding f = {.error = c->catalogue_error, .offset = s->classes[0].superblock.catalogue_first[0]};
	bool can = c->how->repair != STORE_REPAIR_NO && !s->config.read_only && catalogue_error(s) == 0;

	if (can && (c->how->repair == STORE_REPAIR_PLAN || catalogue_compact(s) == 0))
		f.remedy = STORE_REBUILT;
	check_settled(c, f, "the catalogue can't be read again");
}

/* ---- pages of checksums ---- */

/* A group at work, in the check's buffer. */
struct group {
	struct object *object;
	uint64_t first_page, at;
	uint32_t n;
	struct sums_le *stored, *made;
	uint8_t *page;
	uint32_t *sums;  /* of the pages as they are */
	bool *good;      /* that page is */
};

static struct group begin_group(struct checking *c, struct object *o, uint64_t group)
{
	uint8_t *buf = c->buf;

	static_assert(6 * FORMAT_UNIT_BYTES <= CHECK_PIECE_BYTES, "there is room");
	return (struct group){
		.object = o,
		.first_page = group * FORMAT_SUMS_PER_PAGE,
		.at = check_place(o, object_sums_unit(o, group)),
		.n = format_group_pages(o->n_pages, group),
		.stored = (struct sums_le *)buf,
		.made = (struct sums_le *)(buf + FORMAT_UNIT_BYTES),
		.page = buf + 2 * FORMAT_UNIT_BYTES,
		.sums = (uint32_t *)(buf + 3 * FORMAT_UNIT_BYTES),
		.good = (bool *)(buf + 4 * FORMAT_UNIT_BYTES),
	};
}

/* True if all could be read. */
static bool sum_pages(struct group *g, struct device *d)
{
	const struct object *o = g->object;
	bool all = true;

	for (uint32_t i = 0; i < g->n; i++) {
		uint64_t page = g->first_page + i;
		g->good[i] = device_read(d, check_place(o, object_page_unit(o, page)), g->page, FORMAT_UNIT_BYTES) == 0;
		g->sums[i] = g->good[i] ? checksum_page(o->node.id, page, g->page) : 0;
		all &= g->good[i];
	}
	return all;
}

/* What the page of checksums is to be, in g->made, and which pages are good by it: how many. */
static uint32_t reconstruct(struct group *g, struct device *d)
{
	uint64_t id = g->object->node.id, group = g->first_page / FORMAT_SUMS_PER_PAGE;
	uint32_t n_good = 0;

	bool all = sum_pages(g, d);
	checksum_encode(id, group, g->sums, g->n, g->made);
	if (all && g->made->crc == g->stored->crc)
		return g->n;
	for (uint32_t i = 0; i < g->n; i++) {
		uint32_t said = le32toh(g->stored->sums[i]);
		g->good[i] = g->good[i] && g->sums[i] == said;
		g->sums[i] = said;
		n_good += g->good[i];
	}
	checksum_encode(id, group, g->sums, g->n, g->made);
	return n_good;
}

int repair_sums(struct checking *c, struct object *o, uint64_t group, int error)
{
	uint64_t from = group * FORMAT_SUMS_PER_PAGE * FORMAT_UNIT_BYTES;
	struct group g = begin_group(c, o, group);
	struct device *d = c->store->classes[o->class_no].device;
	struct store_finding f = {.error = error, .id = o->node.id, .class_no = o->class_no, .offset = g.at, .from = from};
	uint64_t end = from + (uint64_t)g.n * FORMAT_UNIT_BYTES;
	uint32_t n_good = 0;
	int rc = 0;

	if (error == -ENOMEM)
		return error;
	if (c->how->repair != STORE_REPAIR_NO && device_read(d, g.at, g.stored, FORMAT_UNIT_BYTES) == 0)
		n_good = reconstruct(&g, d);
	if (n_good > 0 && c->how->repair == STORE_REPAIR_DO)
		rc = device_write(d, g.at, g.made, FORMAT_UNIT_BYTES, true);
	f.remedy = n_good > 0 && rc == 0 ? STORE_REBUILT : STORE_LOST;
	f.n_bytes = f.remedy == STORE_LOST ? (end < o->len_bytes ? end : o->len_bytes) - from : 0;
	check_settled(c, f, "object %llu: the checksums from offset %llu on", (unsigned long long)o->node.id,
	              (unsigned long long)from);
	for (uint32_t i = 0; i < g.n && f.remedy == STORE_REBUILT; i++)
		if (!g.good[i])
			check_page_is_lost(c, -EBADMSG, o, g.first_page + i);
	return 0;
}

/* ---- lists of keys ---- */

/* As who opens the log to write hears it, when he makes the list again (log/open.c). */
static int pass_record(void *arg, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes)
{
	if (type != FORMAT_LOG_LOST && format_log_key_bytes(type, payload, len_bytes) < 0)
		return -EUCLEAN;
	return check_record(arg, at, type, payload, len_bytes);
}

/* It can be made again of the records if all are whole: a plan finds that out too. */
int repair_list(struct checking *c, struct store_log *log, const struct store_log_segment *place, int error)
{
	static const struct journal_ops none = {0};
	uint64_t offset = (uint64_t)format_log_extent_units(log->settings.segment_bytes) * FORMAT_UNIT_BYTES;
	struct store_finding f = {.error = error, .id = place->id, .class_no = place->class_no, .offset = place->offset + offset};
	struct journal_recovery at;
	struct journal_options o;

	if (c->how->repair != STORE_REPAIR_NO) {
		store_log_journal_of(log, place, &o);
		o.ops = &none;
		int rc = journal_scan_segment(&o, place->offset, pass_record, c, &at, NULL);
		if (rc == -ECANCELED || rc == -ENOMEM)
			return rc;
		f.remedy = rc == JOURNAL_VALID ? STORE_REOPEN : STORE_LOST;
	}
	check_settled(c, f, "log %s: the list of keys of a segment", log->settings.name);
	return 0;
}
