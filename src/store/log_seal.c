/* log_seal.c - a segment of a log is sealed: what is behind its journal's part is written, and read.
 *
 *   | the journal's, segment_bytes | pages of checksums | marks | footer | keys, if it is a log with keys |
 *
 * Checksums, marks and keys are durable before the footer is, so that one vouches for what it stands behind, and who opens the log need not
 * read the checksums. It arrives whole, or there is none: its page is written with the checksums and marks, all but the id, without which it is
 * nobody's; then the keys; then its page again, with the id, a word in its first sector. So whatever was there before, also the footer of a
 * seal that seemed to fail, is none from the first write on, and where a cut leaves none the segment is as it was: whoever opens the log reads
 * its records and seals it again. The footer holds a checksum of the checksums, for a check.
 */
#include "store_internal.h"

#include "checksum.h"
#include "../base/canary.h"
#include "../base/crc32c.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CRC_FROM offsetof(struct log_footer_le, version)

static uint32_t footer_crc(const struct log_footer_le *f)
{
	return crc32c(0, (const uint8_t *)f + CRC_FROM, sizeof(*f) - CRC_FROM);
}

/* What is known of a segment; a copy, since it may be removed while it is read. */
static bool find(const struct store_log *log, uint64_t id, struct store_log_extent *ret)
{
	store_lock(log->store);
	const struct store_log_extent *e = (const struct store_log_extent *)idmap_find(&log->store->log_segments, id);
	bool there = e != NULL && e->log->node.id == log->node.id;
	if (there)
		*ret = *e;
	store_unlock(log->store);
	return there;
}

static void is_object(struct store_log *log, uint64_t id, uint32_t end_bytes)
{
	store_lock(log->store);
	struct store_log_extent *e = (struct store_log_extent *)idmap_find(&log->store->log_segments, id);
	if (e != NULL)
		e->len_bytes = end_bytes;
	store_unlock(log->store);
}

/* ---- written ---- */

uint32_t store_log_put_sums(uint64_t id, const uint32_t *sums, uint64_t n_pages, uint8_t *to)
{
	uint32_t crc = 0;

	for (uint64_t group = 0; group < format_n_groups(n_pages); group++) {
		uint32_t n = format_group_pages(n_pages, group);
		struct sums_le *block = (struct sums_le *)(to + group * FORMAT_UNIT_BYTES);
		checksum_encode(id, group, sums + group * FORMAT_SUMS_PER_PAGE, n, block);
		crc = crc32c(crc, block->sums, n * sizeof(block->sums[0]));
	}
	return crc;
}

/* The same for a segment in memory. What is known to be damaged stays so. */
static int put_sums(uint64_t id, const uint8_t *bytes, const uint8_t *damaged, uint64_t n_pages, uint8_t *to, uint32_t *ret_crc)
{
	uint32_t *sums = malloc(n_pages * sizeof(sums[0]));

	if (sums == NULL)
		return -ENOMEM;
	for (uint64_t page = 0; page < n_pages; page++) {
		const uint8_t *at = bytes + page * FORMAT_UNIT_BYTES;
		sums[page] = checksum_page_then(id, page, at, page + 1 < n_pages ? at + FORMAT_UNIT_BYTES : NULL) ^
		             (damaged != NULL && (damaged[page / 8] & 1u << page % 8) != 0 ? UINT32_MAX : 0);
	}
	*ret_crc = store_log_put_sums(id, sums, n_pages, to);
	free(sums);
	return 0;
}

static uint32_t put_marks(const struct store_log_footer *f, uint8_t *to)
{
	for (uint32_t i = 0; i < f->n_marks; i++) {
		struct log_mark_le le = {.index = htole32(f->marks[i].index),
		                         .offset = htole32(f->marks[i].offset),
		                         .time = htole64(f->marks[i].time)};
		memcpy(to + i * sizeof(le), &le, sizeof(le));
	}
	return crc32c(0, to, f->n_marks * sizeof(struct log_mark_le));
}

static void put_footer(const struct store_log *log, const struct store_log_extent *e,
                       const struct store_log_footer *f, uint32_t marks_crc, uint32_t sums_crc, uint32_t keys_crc,
                       struct log_footer_le *le)
{
	memcpy(le->magic, FORMAT_LOG_FOOTER_MAGIC, sizeof(le->magic));
	le->version = htole32(FORMAT_VERSION);
	memcpy(le->uuid, log->store->uuid, sizeof(le->uuid));
	le->log_id = htole64(log->node.id);
	le->id = htole64(e->node.id);
	le->offset = htole64(e->start * FORMAT_UNIT_BYTES);
	le->segment_no = htole64(f->segment_no);
	le->first_no = htole64(f->first_no);
	le->end_no = htole64(f->end_no);
	le->first_time = htole64(f->first_time);
	le->last_time = htole64(f->last_time);
	le->end_bytes = htole32(f->end_bytes);
	le->n_marks = htole32(f->n_marks);
	le->marks_crc = htole32(marks_crc);
	le->sums_crc = htole32(sums_crc);
	le->n_keys = htole32(f->n_keys);
	le->keys_crc = htole32(keys_crc);
	le->lost_end = htole64(f->lost_end);
	le->crc = htole32(footer_crc(le));
}

/* Of the last page the checksum covers what is behind the records too, and that is zeros: on the medium as well, where persistent
 * memory may have what an earlier life has left, and any medium what damage has. page: of device memory. */
static int settle_last_page(struct device *d, uint64_t offset, uint32_t end_bytes, const uint8_t *bytes, uint8_t *page)
{
	uint32_t at = end_bytes & ~(FORMAT_UNIT_BYTES - 1), from = end_bytes & ~(d->align_bytes - 1);

	if (at == end_bytes || (device_read(d, offset + at, page, FORMAT_UNIT_BYTES) == 0 &&
	                        memcmp(page, bytes + at, FORMAT_UNIT_BYTES) == 0))
		return 0;
	memcpy(page, bytes + from, at + FORMAT_UNIT_BYTES - from);
	return device_write(d, offset + from, page, at + FORMAT_UNIT_BYTES - from, true);
}

/* tail: all that is behind the journal's part, n_bytes with the footer at the end. */
static int write_tail(struct store_log *log, const struct store_log_extent *e, uint8_t *tail, uint64_t n_bytes, const struct store_log_list *list)
{
	struct device *d = log->store->classes[e->class_no].device;
	uint64_t at = e->start * FORMAT_UNIT_BYTES + log->settings.segment_bytes, footer_at = n_bytes - FORMAT_UNIT_BYTES;
	struct log_footer_le *footer = (struct log_footer_le *)(tail + footer_at);
	uint64_t id = footer->id;

	if (!CANARY(footer_before_checksums))
		footer->id = 0;
	int rc = device_write(d, at, tail, CANARY(footer_written_at_once) ? footer_at : n_bytes, true);
	if (rc == 0)
		rc = store_log_write_list(log, e, list);
	footer->id = id;
	return rc == 0 ? device_write(d, at + footer_at, footer, FORMAT_UNIT_BYTES, true) : rc;
}

int store_log_seal(struct store_log *log, uint64_t id, const struct store_log_footer *f, const uint8_t *bytes,
                   const struct store_log_key *keys)
{
	struct store_log_list list = {0};
	struct store_log_extent e;
	uint64_t n_units = format_log_extent_units(log->settings.segment_bytes) - format_log_units(log->settings.segment_bytes);
	uint64_t n_bytes = n_units * FORMAT_UNIT_BYTES;

	if (log->store->config.read_only)
		return -EROFS;
	if (!find(log, id, &e) || f->n_marks > FORMAT_LOG_MAX_MARKS || f->end_bytes > log->settings.segment_bytes)
		return -EINVAL;
	uint8_t *tail = aligned_alloc(FORMAT_UNIT_BYTES, n_bytes);
	if (tail == NULL)
		return -ENOMEM;
	int rc = settle_last_page(log->store->classes[e.class_no].device, e.start * FORMAT_UNIT_BYTES, f->end_bytes, bytes, tail);
	memset(tail, 0, n_bytes);
	uint32_t sums_crc = 0, marks_crc = put_marks(f, tail + format_log_sums_units(log->settings.segment_bytes) * FORMAT_UNIT_BYTES);
	if (rc == 0)
		rc = put_sums(id, bytes, f->damaged, format_n_pages(f->end_bytes), tail, &sums_crc);
	if (rc == 0 && f->n_keys != FORMAT_LOG_KEYS_UNLISTED)
		rc = store_log_make_list(log, keys, f->n_keys, &list);
	put_footer(log, &e, f, marks_crc, sums_crc, list.crc, (struct log_footer_le *)(tail + n_bytes - FORMAT_UNIT_BYTES));
	if (rc == 0)
		rc = write_tail(log, &e, tail, n_bytes, &list);
	free(list.bytes);
	free(tail);
	if (rc == 0)
		is_object(log, id, f->end_bytes);
	return rc;
}

/* ---- read ---- */

static bool is_of(const struct store_log *log, const struct store_log_extent *e, const struct log_footer_le *le)
{
	return memcmp(le->magic, FORMAT_LOG_FOOTER_MAGIC, sizeof(le->magic)) == 0 &&
	       memcmp(le->uuid, log->store->uuid, sizeof(le->uuid)) == 0 && le64toh(le->log_id) == log->node.id &&
	       le64toh(le->id) == e->node.id && le64toh(le->offset) == e->start * FORMAT_UNIT_BYTES;
}

/* What no writer makes, whatever the checksums say. */
static bool is_sane(const struct store_log *log, const struct store_log_footer *f)
{
	uint32_t at = 0, index = 0;

	if (f->end_bytes <= FORMAT_UNIT_BYTES || f->end_bytes > log->settings.segment_bytes || f->end_no < f->first_no ||
	    f->end_no - f->first_no > UINT32_MAX)
		return false;
	if (f->n_keys != 0 && (!log->settings.keys || (f->n_keys != FORMAT_LOG_KEYS_UNLISTED &&
	                                               f->n_keys > format_log_max_keys(log->settings.segment_bytes))))
		return false;
	for (uint32_t i = 0; i < f->n_marks; i++) {
		const struct store_log_mark *m = &f->marks[i];
		if (m->offset <= at || m->offset % 8 != 0 || m->offset >= f->end_bytes ||
		    m->index >= f->end_no - f->first_no || (i > 0 && m->index <= index))
			return false;
		at = m->offset;
		index = m->index;
	}
	/* Whoever looks for a record begins at a mark; in a log of volumes nobody does. */
	if (f->n_marks == 0)
		return f->end_no == f->first_no || log->settings.volumes;
	return f->marks[0].index == 0;
}

int store_log_tail_decode(const struct store_log *log, const struct store_log_extent *e, const uint8_t *marks,
                          struct store_log_footer *ret)
{
	uint32_t n_units = format_log_marks_units(log->settings.segment_bytes);
	const struct log_footer_le *le = (const struct log_footer_le *)(marks + (size_t)n_units * FORMAT_UNIT_BYTES);
	struct log_mark_le m;

	if (!is_of(log, e, le))
		return -ENODATA;
	uint32_t n_marks = le32toh(le->n_marks);
	if ((le32toh(le->crc) != footer_crc(le) && !CANARY(footer_checksum_ignored)) || le32toh(le->version) != FORMAT_VERSION ||
	    n_marks > FORMAT_LOG_MAX_MARKS || n_marks * sizeof(m) > (size_t)n_units * FORMAT_UNIT_BYTES ||
	    crc32c(0, marks, n_marks * sizeof(m)) != le32toh(le->marks_crc))
		return -EBADMSG;
	*ret = (struct store_log_footer){
		.segment_no = le64toh(le->segment_no),
		.first_no = le64toh(le->first_no),
		.end_no = le64toh(le->end_no),
		.first_time = le64toh(le->first_time),
		.last_time = le64toh(le->last_time),
		.lost_end = le64toh(le->lost_end),
		.end_bytes = le32toh(le->end_bytes),
		.sums_crc = le32toh(le->sums_crc),
		.n_marks = n_marks,
		.n_keys = le32toh(le->n_keys),
		.keys_crc = le32toh(le->keys_crc),
		.marks = malloc((n_marks + 1) * sizeof(ret->marks[0])),
	};
	if (ret->marks == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < n_marks; i++) {
		memcpy(&m, marks + i * sizeof(m), sizeof(m));
		ret->marks[i] = (struct store_log_mark){le32toh(m.index), le32toh(m.offset), le64toh(m.time)};
	}
	if (is_sane(log, ret))
		return 0;
	free(ret->marks);
	return -EBADMSG;
}

void store_log_tail_readdress(const struct store_log *log, const struct store_log_extent *to, uint32_t sums_crc,
                              uint8_t *tail)
{
	struct log_footer_le *le = (struct log_footer_le *)(tail + store_log_tail_bytes(log) - FORMAT_UNIT_BYTES);

	le->id = htole64(to->node.id);
	le->offset = htole64(to->start * FORMAT_UNIT_BYTES);
	le->sums_crc = htole32(sums_crc);
	le->crc = htole32(footer_crc(le));
}

int store_log_sealed(struct store_log *log, uint64_t id, struct store_log_footer *ret)
{
	uint32_t n_bytes = store_log_tail_bytes(log);
	struct store_log_extent e;
	struct store_log_footer footer;

	if (!find(log, id, &e))
		return -EINVAL;
	uint8_t *buf = aligned_alloc(FORMAT_UNIT_BYTES, n_bytes);
	if (buf == NULL)
		return -ENOMEM;
	int rc = device_read(log->store->classes[e.class_no].device, store_log_tail_at(log, &e), buf, n_bytes);
	if (rc == 0)
		rc = store_log_tail_decode(log, &e, buf, &footer);
	free(buf);
	if (rc < 0)
		return rc;
	is_object(log, id, footer.end_bytes);
	*ret = footer;
	return 0;
}
