/* head.h - heads of records: what a record says, checksums of its blocks, and what the record before has said; see head.c. For src/volume alone. */
#ifndef VOLUME_HEAD_H
#define VOLUME_HEAD_H

#include "volume_format.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* What a record says, with its checksums. */
struct head_before {
	uint16_t type, n_bytes; /* 0: nothing, or it could not be told */
	uint8_t bytes[VOLUME_HEAD_ROOM];
};

void head_remember(struct head_before *before, uint16_t type, const uint8_t *head); /* a whole one */
/* Makes it whole: its blocks are n_blocks of data, in pieces. */
void head_finish(const struct head_before *before, uint16_t type, uint8_t *head, const struct iovec *blocks);
/* The checksum of a record with that head, which is finished, and the blocks that it was finished with; false: the head has none of
 * them. */
bool head_knows_crc(uint16_t type, const uint8_t *head, uint32_t *ret_crc);
bool head_is_whole(const uint8_t *head);
/* Of a whole one: how many checksums, of its blocks, in order, little-endian; may be less aligned. */
uint32_t head_sums(uint16_t type, const uint8_t *head, const uint8_t **ret_sums);
/* What the record before has said: a head, but for its end. -ENODATA: it can't be told. */
int head_read_before(const uint8_t *head, uint16_t *ret_type, uint8_t ret[VOLUME_HEAD_BYTES]);

#endif
