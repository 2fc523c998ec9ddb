/* source.h - the bytes of a record, from its parts in the caller's memory, which may fault: no lock is held. */
#ifndef JOURNAL_SOURCE_H
#define JOURNAL_SOURCE_H

#include "frame.h"

/* ---- one record, piece by piece ---- */

struct source {
	struct frame_record_le header;
	const struct iovec *parts;
	unsigned n;
	uint64_t len_bytes; /* payload */
	unsigned part;      /* where we are */
	uint64_t done;      /* bytes of the whole */
	size_t part_done;
};

/* The next n bytes: header, payload, padding. */
void source_copy(struct source *s, uint8_t *to, uint64_t n);

/* The payload's checksum, padding included. */
uint32_t source_crc(const struct iovec *parts, unsigned n, uint64_t len_bytes);

/* ---- small records, put together on the caller's stack ---- */

/* Of records, headers included. */
#define STAGE_BYTES 2048u

struct stage {
	_Alignas(FRAME_ALIGN) uint8_t bytes[STAGE_BYTES];
	uint32_t used;
};

/* Puts a record, for which there is room, behind the others; of its header, what is known already. */
void stage_add(struct stage *s, uint16_t type, const struct iovec *parts, unsigned n, uint32_t len_bytes);

/* What is known of the record at `at`. */
struct frame_record stage_record(const struct stage *s, uint32_t at);

#endif
