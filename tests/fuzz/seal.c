/* seal.c - see seal.h. From docs/format.md, with nothing of the code that reads: of that, only the structures. */
#include "seal.h"

#include "../../src/base/crc32c.h"
#include "../../src/journal/frame.h"
#include "../../src/store/checksum.h"

#include <endian.h>
#include <string.h>

#define LOG_SEGMENT FORMAT_LOG_MIN_SEGMENT_BYTES

static uint32_t padded(uint32_t len_bytes)
{
	return (len_bytes + FRAME_ALIGN - 1) & ~(FRAME_ALIGN - 1);
}

static void seal_superblock(uint8_t *block)
{
	struct superblock_le *sb = (struct superblock_le *)block;

	sb->crc = htole32(crc32c(0, &sb->version, sizeof(*sb) - offsetof(struct superblock_le, version)));
}

/* As far as records go on that have the segment's salt, and fit. */
static void seal_records(const struct frame_segment_le *segment, uint8_t *bytes, size_t n_bytes)
{
	for (size_t at = FRAME_BLOCK_BYTES; at + sizeof(struct frame_record_le) <= n_bytes;) {
		struct frame_record_le r;
		uint32_t seed[2] = {segment->key, htole32((uint32_t)at)};
		memcpy(&r, bytes + at, sizeof(r));
		size_t room = n_bytes - at - sizeof(r);
		if (r.salt != segment->salt || le32toh(r.len_bytes) > room || padded(le32toh(r.len_bytes)) > room)
			return;
		r.payload_crc = htole32(crc32c(0, bytes + at + sizeof(r), padded(le32toh(r.len_bytes))));
		r.crc = htole32(crc32c(crc32c(0, seed, sizeof(seed)), &r.salt, sizeof(r) - offsetof(struct frame_record_le, salt)));
		memcpy(bytes + at, &r, sizeof(r));
		at += sizeof(r) + padded(le32toh(r.len_bytes));
		if (le16toh(r.type) == FRAME_LINK)
			return;
	}
}

static void seal_segment(uint8_t *bytes, size_t n_bytes)
{
	struct frame_segment_le *s = (struct frame_segment_le *)bytes;
	uint32_t segment_bytes = le32toh(s->segment_bytes);

	s->crc = htole32(crc32c(0, &s->version, sizeof(*s) - offsetof(struct frame_segment_le, version)));
	seal_records(s, bytes, segment_bytes < n_bytes ? segment_bytes : n_bytes);
}

static uint32_t seal_pages(uint64_t id, const uint8_t *segment, uint64_t end_bytes, uint8_t *to)
{
	uint32_t sums[LOG_SEGMENT / FORMAT_UNIT_BYTES];
	uint64_t n_pages = format_n_pages(end_bytes < LOG_SEGMENT ? end_bytes : LOG_SEGMENT);
	struct sums_le *block = (struct sums_le *)to;

	for (uint64_t page = 0; page < n_pages; page++)
		sums[page] = checksum_page(id, page, segment + page * FORMAT_UNIT_BYTES);
	checksum_encode(id, 0, sums, (uint32_t)n_pages, block);
	return crc32c(0, block->sums, n_pages * sizeof(block->sums[0]));
}

/* The footer, behind its segment. n_after: bytes that follow. */
static void seal_footer(uint8_t *block, size_t n_before, size_t n_after)
{
	struct log_footer_le *f = (struct log_footer_le *)block;
	size_t before = (size_t)(format_log_extent_units(LOG_SEGMENT) - 1) * FORMAT_UNIT_BYTES;
	uint32_t marks_bytes = format_log_marks_units(LOG_SEGMENT) * FORMAT_UNIT_BYTES;
	size_t keys_bytes = (size_t)format_log_keys_units(LOG_SEGMENT) * FORMAT_UNIT_BYTES;
	uint64_t n_marks = le32toh(f->n_marks) * sizeof(struct log_mark_le), n_keys = (uint64_t)le32toh(f->n_keys) * FORMAT_LOG_KEY_BYTES;

	if (n_before < before)
		return;
	f->sums_crc = htole32(seal_pages(le64toh(f->id), block - before, le32toh(f->end_bytes), block - before + LOG_SEGMENT));
	if (n_marks <= marks_bytes)
		f->marks_crc = htole32(crc32c(0, block - marks_bytes, n_marks));
	if (n_keys <= keys_bytes && n_keys + FORMAT_UNIT_BYTES <= n_after)
		f->keys_crc = htole32(crc32c(0, block + FORMAT_UNIT_BYTES, n_keys));
	f->crc = htole32(crc32c(0, &f->version, sizeof(*f) - offsetof(struct log_footer_le, version)));
}

void fuzz_seal_store(struct fuzz_image *image)
{
	size_t n_bytes = (size_t)image->n_blocks * FUZZ_BLOCK_BYTES;

	for (size_t at = 0; at < n_bytes; at += FUZZ_BLOCK_BYTES) {
		uint8_t *block = image->bytes + at;
		if (memcmp(block, FORMAT_SUPERBLOCK_MAGIC, 8) == 0)
			seal_superblock(block);
		else if (memcmp(block, "QuireSeg", 8) == 0)
			seal_segment(block, n_bytes - at);
	}
	/* Behind records: their pages are sealed as they are then. */
	for (size_t at = 0; at < n_bytes; at += FUZZ_BLOCK_BYTES)
		if (memcmp(image->bytes + at, FORMAT_LOG_FOOTER_MAGIC, 8) == 0)
			seal_footer(image->bytes + at, at, n_bytes - at);
}
