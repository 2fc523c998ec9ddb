/* segment.c - segments of a log in memory: their images, and the walk over the records in them.
 *
 * What is in a segment is found out by walking from record to record over its image, as far as somebody needs it: up to the
 * visible record that a cursor looks for, or to the LINK, when it is sealed. Each byte's header is passed once; the
 * walk leaves a mark every stride, which with the times is what the footer will say.
 *
 * What may be walked: a record that is visible is whole in the image, and so are the journal's own before it. The LINK is whole
 * if a record of the next segment is visible, or something of that segment is durable.
 */
#include "log_internal.h"

#include "../base/assert.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define IMAGE_PAGE_BYTES ((size_t)2 << 20)

/* ---- images ---- */

static struct budget *budget_of(struct quire_log *log)
{
	return store_config_of(log->store)->budget;
}

/* In pages of 2 MiB where they are to be had: appends meet each byte of an image first, and by pages of 4 KiB that costs more than
 * all else they do. NULL: no memory. */
static uint8_t *map_image(size_t bytes)
{
	size_t spare = bytes >= IMAGE_PAGE_BYTES ? IMAGE_PAGE_BYTES : 0;
	uint8_t *at = mmap(NULL, bytes + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	if (spare == 0)
		return at;
	size_t head = -(uintptr_t)at & (IMAGE_PAGE_BYTES - 1);
	if (head != 0)
		munmap(at, head);
	munmap(at + head + bytes, spare - head);
	(void)madvise(at + head, bytes, MADV_HUGEPAGE);
	return at + head;
}

int log_segment_need_image(struct log_segment *seg)
{
	struct quire_log *log = seg->log;
	uint32_t bytes = log->info.segment_bytes;

	if (seg->image != NULL)
		return 0;
	if (seg->footer.marks == NULL) {
		seg->marks_capacity = bytes / format_log_stride(bytes);
		seg->footer.marks = calloc(seg->marks_capacity, sizeof(seg->footer.marks[0]));
		if (seg->footer.marks == NULL)
			return -ENOMEM;
		log->index_bytes += seg->marks_capacity * sizeof(seg->footer.marks[0]);
	}
	struct log_image *image = calloc(1, sizeof(*image));
	if (image == NULL)
		return -ENOMEM;
	image->bytes = map_image(bytes);
	if (image->bytes == NULL) {
		free(image);
		return -ENOMEM;
	}
	image->log = log;
	image->refs = 1;
	seg->image = image;
	log->n_images++;
	budget_charge(budget_of(log), BUDGET_BUFFERS, bytes);
	return 0;
}

void log_image_put(struct log_image *image)
{
	if (image == NULL || --image->refs != 0)
		return;
	struct quire_log *log = image->log;
	munmap(image->bytes, log->info.segment_bytes);
	budget_uncharge(budget_of(log), BUDGET_BUFFERS, log->info.segment_bytes);
	log->n_images--;
	free(image);
}

/* ---- the list ---- */

int log_segment_new(struct quire_log *log, struct log_segment **ret)
{
	if (log->n == log->capacity) {
		unsigned capacity = log->capacity == 0 ? 8 : 2 * log->capacity;
		struct log_segment **grown = reallocarray(log->segments, capacity, sizeof(grown[0]));
		if (grown == NULL)
			return -ENOMEM;
		log->segments = grown;
		log->capacity = capacity;
	}
	struct log_segment *seg = calloc(1, sizeof(*seg));
	if (seg == NULL)
		return -ENOMEM;
	seg->log = log;
	seg->refs = 1;
	*ret = seg;
	return 0;
}

void log_segment_add(struct log_segment *seg, const struct store_log_segment *from)
{
	struct quire_log *log = seg->log;

	quire_assert(log->n < log->capacity);
	seg->id = from->id;
	seg->class_no = from->class_no;
	seg->offset = from->offset;
	log->segments[log->n++] = seg;
}

void log_segment_put(struct log_segment *seg)
{
	if (seg == NULL || --seg->refs != 0)
		return;
	struct quire_log *log = seg->log;
	seg->next_dead = log->dead;
	log->dead = seg;
	log_kick_upkeep(log);
}

struct log_segment *log_segment_at(const struct quire_log *log, uint64_t offset)
{
	for (unsigned i = log->n; i-- > 0;)
		if (log->segments[i]->offset == offset && log->segments[i]->class_no == (unsigned)log->info.cls)
			return log->segments[i];
	return NULL;
}

/* ---- the walk ---- */

int log_header(const uint8_t *at, uint32_t offset, uint32_t end_bytes, struct log_header *ret)
{
	struct frame_record_le le;

	memcpy(&le, at, sizeof(le));
	ret->type = le16toh(le.type);
	ret->len_bytes = le32toh(le.len_bytes);
	if (ret->len_bytes > end_bytes || offset + frame_bytes(ret->len_bytes) > end_bytes)
		return -EUCLEAN;
	ret->bytes = (uint32_t)frame_bytes(ret->len_bytes);
	if (ret->type == FORMAT_LOG_LOST)
		return 0;
	if (log_is_record(ret->type))
		return ret->len_bytes < sizeof(struct log_record_le) ? -EUCLEAN : 0;
	return ret->type == FRAME_NEXT || ret->type == FRAME_LINK ? 0 : -EUCLEAN;
}

int log_record_split(uint16_t type, const uint8_t *payload, uint32_t len_bytes, struct quire_log_record *ret)
{
	struct log_record_le le;

	if (type == FORMAT_LOG_LOST)
		return -EBADMSG;
	int key_bytes = format_log_key_bytes(type, payload, len_bytes);
	if (key_bytes < 0)
		return -EUCLEAN;
	uint32_t head_bytes = key_bytes > 0 ? format_log_keyed_head_bytes((uint32_t)key_bytes) : (uint32_t)sizeof(le);
	memcpy(&le, payload, sizeof(le));
	*ret = (struct quire_log_record){
		.time_ns = le64toh(le.time_ns),
		.data = payload + head_bytes,
		.len_bytes = len_bytes - head_bytes,
		.key = key_bytes != 0 ? payload + FORMAT_LOG_KEY_AT : NULL,
		.key_bytes = (size_t)key_bytes,
	};
	return 0;
}

/* payload: NULL of one that is lost, which has no time. */
static void pass_record(struct log_segment *seg, const uint8_t *payload)
{
	struct store_log_footer *f = &seg->footer;
	uint32_t stride = format_log_stride(seg->log->info.segment_bytes);
	struct log_record_le le;

	if (f->n_marks < seg->marks_capacity &&
	    (f->n_marks == 0 || f->end_bytes - f->marks[f->n_marks - 1].offset >= stride))
		f->marks[f->n_marks++] = (struct store_log_mark){
			.index = (uint32_t)(f->end_no - f->first_no), .offset = f->end_bytes, .time = f->last_time};
	f->end_no++;
	if (payload == NULL) {
		f->lost_end = f->end_no;
		return;
	}
	memcpy(&le, payload, sizeof(le));
	uint64_t time = le64toh(le.time_ns);
	if (f->first_time == 0)
		f->first_time = time;
	if (time > f->last_time)
		f->last_time = time;
}

/* first_no, where the walk begins. */
static void begin_walk(struct log_segment *seg)
{
	const struct frame_segment_le *header = (const struct frame_segment_le *)seg->image->bytes;

	seg->footer.segment_no = le64toh(header->segment_no);
	seg->footer.first_no = seg->footer.end_no = le64toh(header->first_record_no);
	seg->footer.end_bytes = FRAME_BLOCK_BYTES;
	seg->known = true;
}

int log_segment_walk(struct log_segment *seg, uint64_t end_lsn)
{
	struct store_log_footer *f = &seg->footer;
	struct log_header h;

	if (seg->state != SEGMENT_OPEN || seg->ended)
		return 0;
	if (!seg->known)
		begin_walk(seg);
	while (f->end_no < end_lsn && !seg->ended) {
		const uint8_t *at = seg->image->bytes + f->end_bytes;
		if (f->end_bytes + FRAME_LINK_BYTES > seg->log->info.segment_bytes)
			return -EUCLEAN;
		int rc = log_header(at, f->end_bytes, seg->log->info.segment_bytes, &h);
		if (rc < 0)
			return rc;
		if (log_is_record(h.type))
			pass_record(seg, h.type == FORMAT_LOG_LOST ? NULL : at + JOURNAL_RECORD_HEADER_BYTES);
		seg->ended = h.type == FRAME_LINK;
		f->end_bytes += h.bytes;
		/* What was read off the medium may have there what an earlier life has left. */
		if (seg->ended)
			memset(seg->image->bytes + f->end_bytes, 0, -f->end_bytes & (FORMAT_UNIT_BYTES - 1));
	}
	return 0;
}

int log_segment_walk_all(struct quire_log *log, uint64_t lsn)
{
	uint64_t end_no = 0;

	for (unsigned i = 0; i < log->n; i++) {
		struct log_segment *seg = log->segments[i];
		/* Without a record before lsn in it nobody knows whether its header is there. */
		if (seg->state == SEGMENT_OPEN && !seg->known && i > 0 && end_no >= lsn)
			break;
		int rc = log_segment_walk(seg, lsn);
		if (rc < 0)
			return rc;
		end_no = seg->footer.end_no;
	}
	return 0;
}

int log_segment_find(struct quire_log *log, uint64_t lsn, struct log_segment **ret)
{
	unsigned low = 0, high = log->n;

	if (lsn < atomic_load(&log->first_lsn))
		return -ESTALE;
	/* The last of those whose first number is known, and not above. */
	while (low < high) {
		unsigned mid = low + (high - low) / 2;
		const struct log_segment *seg = log->segments[mid];
		if (seg->known && seg->footer.first_no <= lsn)
			low = mid + 1;
		else
			high = mid;
	}
	for (unsigned i = low == 0 ? 0 : low - 1; i < log->n; i++) {
		struct log_segment *seg = log->segments[i];
		int rc = log_segment_walk(seg, lsn + 1);
		if (rc < 0)
			return rc;
		if (seg->known && lsn >= seg->footer.first_no && lsn < seg->footer.end_no) {
			*ret = seg;
			return 0;
		}
	}
	return -EUCLEAN;
}

const struct store_log_mark *log_segment_mark(const struct log_segment *seg, uint64_t lsn)
{
	const struct store_log_footer *f = &seg->footer;
	uint32_t low = 0, high = f->n_marks;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		if (f->first_no + f->marks[mid].index <= lsn)
			low = mid + 1;
		else
			high = mid;
	}
	quire_assert(low > 0);
	return &f->marks[low - 1];
}
