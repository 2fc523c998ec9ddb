/* source.c - see source.h. */
#include "source.h"

#include "../base/crc32c.h"

#include <endian.h>
#include <string.h>

void source_copy(struct source *s, uint8_t *to, uint64_t n)
{
	uint64_t payload_end = JOURNAL_RECORD_HEADER_BYTES + s->len_bytes;

	while (n > 0) {
		uint64_t k = n;

		if (s->done < JOURNAL_RECORD_HEADER_BYTES) {
			if (k > JOURNAL_RECORD_HEADER_BYTES - s->done)
				k = JOURNAL_RECORD_HEADER_BYTES - s->done;
			memcpy(to, (const uint8_t *)&s->header + s->done, k);
		} else if (s->done < payload_end) {
			const struct iovec *v = &s->parts[s->part];
			if (k > v->iov_len - s->part_done)
				k = v->iov_len - s->part_done;
			if (k != 0)
				memcpy(to, (const uint8_t *)v->iov_base + s->part_done, k);
			s->part_done += k;
			if (s->part_done == v->iov_len) {
				s->part++;
				s->part_done = 0;
			}
		} else {
			memset(to, 0, k);
		}
		to += k;
		s->done += k;
		n -= k;
	}
}

uint32_t source_crc(const struct iovec *parts, unsigned n, uint64_t len_bytes)
{
	uint32_t crc = 0;

	for (unsigned i = 0; i < n; i++)
		if (parts[i].iov_len != 0)
			crc = crc32c(crc, parts[i].iov_base, parts[i].iov_len);
	return frame_pad_crc(crc, len_bytes);
}

/* ---- the stage ---- */

void stage_add(struct stage *s, uint16_t type, const struct iovec *parts, unsigned n, uint32_t len_bytes)
{
	uint8_t *at = s->bytes + s->used, *payload = at + JOURNAL_RECORD_HEADER_BYTES, *to = payload;
	uint8_t *end = at + frame_bytes(len_bytes);
	struct frame_record_le header = {.type = htole16(type), .len_bytes = htole32(len_bytes)};

	memset(end - FRAME_ALIGN, 0, FRAME_ALIGN);
	for (unsigned i = 0; i < n; i++) {
		if (parts[i].iov_len != 0)
			memcpy(to, parts[i].iov_base, parts[i].iov_len);
		to += parts[i].iov_len;
	}
	header.payload_crc = htole32(crc32c(0, payload, (size_t)(end - payload)));
	memcpy(at, &header, sizeof(header));
	s->used += (uint32_t)(end - at);
}

struct frame_record stage_record(const struct stage *s, uint32_t at)
{
	struct frame_record_le header;

	memcpy(&header, s->bytes + at, sizeof(header));
	return (struct frame_record){.type = le16toh(header.type), .len_bytes = le32toh(header.len_bytes),
	                             .payload_crc = le32toh(header.payload_crc)};
}
