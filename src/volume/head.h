/* head.h - heads of records: what a record says, checksums of its blocks, and what the records before have said; see head.c. For src/volume alone. */
#ifndef VOLUME_HEAD_H
#define VOLUME_HEAD_H

#include "volume_format.h"

#include "../journal/journal.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* What the records say that were before the one that is being put together, as far as it is known: the end of the next head will be the end of
 * this, as far as there is room. */
struct head_before {
	uint32_t n_bytes; /* 0: nothing is known */
	uint8_t bytes[VOLUME_HEAD_BYTES + sizeof(struct head_tail_le)];
};

/* The last record: as long as it is that, it may be made longer, and `before` says nothing of it. */
struct head_last {
	uint16_t type; /* 0: there is none, or `before` has it */
	struct journal_place at;
	_Alignas(8) uint8_t head[VOLUME_HEAD_BYTES]; /* finished */
};

/* That was the last one, and is finished; nothing is known any more if it is not whole. */
void head_remember(struct head_before *before, uint16_t type, const uint8_t *head);
void head_end(struct head_before *before, struct head_last *last); /* it is not made longer any more */
/* Makes it whole: its blocks are n_blocks of data, in pieces. */
void head_finish(const struct head_before *before, uint16_t type, uint8_t *head, const struct iovec *blocks);
/* Of data: what `more` says, which is not finished, with its blocks, behind what `head` says, which is; `before` is what that was finished with.
 * False: there is no room for it, or it would cost what `head` tells of the last two records before it; nothing was done. */
bool head_join(const struct head_before *before, uint8_t *head, const uint8_t *more, const struct iovec *blocks);
/* The checksum of a record with that head, which is finished, and the blocks that it was finished with; false: the head has none of
 * them. */
bool head_knows_crc(uint16_t type, const uint8_t *head, uint32_t *ret_crc);
bool head_is_whole(const uint8_t *head);
/* Of a whole one: how many checksums, of its blocks, in order, little-endian; may be less aligned. */
uint32_t head_sums(uint16_t type, const uint8_t *head, const uint8_t **ret_sums);
/* What the record so many before it, from 1, has said: a head, but for its end. Of a whole one. -ENODATA: it can't be told. */
int head_read_before(uint16_t type, const uint8_t *head, unsigned n_back, uint16_t *ret_type, uint8_t ret[VOLUME_HEAD_BYTES]);
uint32_t head_n_blocks(uint16_t type, const uint8_t *head); /* that follow it */

#endif
