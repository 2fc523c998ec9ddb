/* head.c - what a record's first block says besides, for the day when one of its blocks is damaged.
 *
 * A record has one checksum, which says that something in it is wrong, and not what. So a head has one of itself, and one of each block of data
 * behind it; and, where there is room for it, all that the head before it says. A damaged block of data is then known as
 * such, and nothing else is; and a damaged head is read in the next one that is whole. That may be some heads later: each passes on what it
 * was told itself, the oldest being left out first. A lone write of a block has room for some sixty records before it; one that grows, since more is put
 * behind it (append.c), ends at a third of a head, and before it would cost what is told of the two before it.
 *
 *   | what the record says | checksums of its blocks | zeros | … | what the record before the last says | struct head_tail_le |
 *   | what the record before says, with its checksums | struct head_tail_le |
 *
 * Each tail tells of what stands right before it; the last one has the head's checksum, in the others there is none. What is told of the last record
 * stands in the same place, however many there are.
 *
 * Blocks of pages have no checksums here: a page has one of its own, and nothing refers to those that are behind a checkpoint.
 */
#include "volume_internal.h"

#include "../base/assert.h"
#include "../base/crc32c.h"

#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#define KEPT_TOLD 2u                                     /* records before that a head goes on telling, if it did, while its own grows */
#define MOST_JOINED (VOLUME_HEAD_ROOM / (KEPT_TOLD + 1)) /* of what one says that grows: so the next, as long, tells that many */
#define TAIL_AT (VOLUME_HEAD_BYTES - (uint32_t)sizeof(struct head_tail_le))

static uint32_t crc_of(const uint8_t *head)
{
	static const uint32_t none = 0;
	uint32_t crc = crc32c(0, head, TAIL_AT + offsetof(struct head_tail_le, crc));

	return crc32c(crc, &none, sizeof(none));
}

static struct head_tail_le tail_of(const uint8_t *head)
{
	struct head_tail_le tail;

	memcpy(&tail, head + TAIL_AT, sizeof(tail));
	return tail;
}

/* Without checksums of blocks; 0: an impossible one. */
static uint32_t said_bytes(uint16_t type, const uint8_t *head)
{
	const struct data_le *data = (const struct data_le *)head;
	const struct table_le *table = (const struct table_le *)head;
	uint64_t n = type == VOLUME_PAGES   ? sizeof(*data)
	             : type == VOLUME_TABLE ? sizeof(*table) + le16toh(table->n_volumes) * sizeof(struct volume_le) +
	                                              le16toh(table->n_trees) * sizeof(struct tree_le)
	             : type == VOLUME_DATA  ? sizeof(*data) + le32toh(data->n_entries) * (uint64_t)sizeof(struct entry_le)
	                                    : 0;

	return n <= VOLUME_HEAD_ROOM ? (uint32_t)n : 0;
}

static uint32_t n_sums(uint16_t type, const uint8_t *head)
{
	return type == VOLUME_DATA ? le32toh(((const struct data_le *)head)->n_blocks) : 0;
}

/* Of n blocks that lie in pieces. */
static void put_sums(uint8_t *to, uint32_t n, const struct iovec *parts)
{
	size_t at = 0;

	for (uint32_t i = 0; i < n; i++, to += sizeof(uint32_t)) {
		uint32_t crc = 0;
		for (size_t left = MAP_BLOCK_BYTES; left > 0;) {
			size_t rest = parts->iov_len - at, k = rest < left ? rest : left;
			const uint8_t *from = (const uint8_t *)parts->iov_base + at;
			crc = k < MAP_BLOCK_BYTES ? crc32c(crc, from, k)
			                          : crc32c_page(crc, from, rest >= 2 * (size_t)MAP_BLOCK_BYTES ? from + MAP_BLOCK_BYTES : NULL);
			left -= k;
			at += k;
			if (at == parts->iov_len) {
				parts++;
				at = 0;
			}
		}
		crc = htole32(crc);
		memcpy(to, &crc, sizeof(crc));
	}
}

/* Of a possible head: all that it says itself, checksums included; 0: an impossible one. */
static uint32_t own_bytes(uint16_t type, const uint8_t *head)
{
	uint32_t said = said_bytes(type, head);
	uint64_t n = said + (uint64_t)n_sums(type, head) * sizeof(uint32_t);

	return said != 0 && n <= VOLUME_HEAD_ROOM ? (uint32_t)n : 0;
}

/* How far what is told of records before reaches back from `end`: records that are whole within `room` bytes, n_most at most. */
static uint32_t told_bytes(const uint8_t *end, uint32_t room, unsigned n_most)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < n_most && room - n >= sizeof(struct head_tail_le); i++) {
		struct head_tail_le tail;
		memcpy(&tail, end - n - sizeof(tail), sizeof(tail));
		uint32_t bytes = le16toh(tail.bytes_before);
		if (bytes < sizeof(struct data_le) || bytes > room - n - sizeof(tail))
			break;
		n += bytes + (uint32_t)sizeof(tail);
	}
	return n;
}

void head_end(struct head_before *before, struct head_last *last)
{
	if (last->type != 0)
		head_remember(before, last->type, last->head);
	last->type = 0;
}

void head_remember(struct head_before *before, uint16_t type, const uint8_t *head)
{
	struct head_tail_le last = tail_of(head), tail = {.type_before = htole16(type)};
	uint32_t own = own_bytes(type, head), rest = VOLUME_HEAD_BYTES - own;

	before->n_bytes = 0;
	if (own == 0 || !head_is_whole(head))
		return;
	/* How much of the rest is told is seen when the next head is finished. */
	last.crc = 0;
	memcpy(before->bytes, head + own, rest);
	memcpy(before->bytes + rest - sizeof(last), &last, sizeof(last));
	memcpy(before->bytes + rest, head, own);
	tail.bytes_before = htole16((uint16_t)own);
	memcpy(before->bytes + VOLUME_HEAD_BYTES, &tail, sizeof(tail));
	before->n_bytes = sizeof(before->bytes);
}

/* How much of what came before a head of n bytes tells; of n_most records at most. */
static uint32_t told_of(const struct head_before *before, uint32_t n, unsigned n_most)
{
	uint32_t room = VOLUME_HEAD_BYTES - n;

	return told_bytes(before->bytes + before->n_bytes, before->n_bytes < room ? before->n_bytes : room, n_most);
}

/* What comes behind the n bytes that it says itself: what is told of those before, and its own checksum. */
static void put_tail(const struct head_before *before, uint8_t *head, uint32_t n)
{
	struct head_tail_le tail = {.crc = 0};
	uint32_t told = told_of(before, n, UINT_MAX);

	memcpy(head + VOLUME_HEAD_BYTES - told, before->bytes + before->n_bytes - told, told);
	if (told != 0)
		tail = tail_of(head);
	tail.crc = htole32(crc_of(head));
	memcpy(head + TAIL_AT, &tail, sizeof(tail));
}

void head_finish(const struct head_before *before, uint16_t type, uint8_t *head, const struct iovec *blocks)
{
	uint32_t own = own_bytes(type, head);

	quire_assert(own != 0);
	put_sums(head + said_bytes(type, head), n_sums(type, head), blocks);
	put_tail(before, head, own);
}

bool head_join(const struct head_before *before, uint8_t *head, const uint8_t *more, const struct iovec *blocks)
{
	uint32_t said = said_bytes(VOLUME_DATA, head), sums = n_sums(VOLUME_DATA, head) * (uint32_t)sizeof(uint32_t);
	uint32_t said_more = said_bytes(VOLUME_DATA, more) - (uint32_t)sizeof(struct data_le), n_more = n_sums(VOLUME_DATA, more);
	uint32_t n = said + said_more + sums + n_more * (uint32_t)sizeof(uint32_t);
	struct data_le *data = (struct data_le *)head;
	const struct data_le *of_more = (const struct data_le *)more;

	if (n > MOST_JOINED || n + told_of(before, said + sums, KEPT_TOLD) > VOLUME_HEAD_BYTES)
		return false;
	memmove(head + said + said_more, head + said, sums);
	memcpy(head + said, more + sizeof(*data), said_more);
	put_sums(head + said + said_more + sums, n_more, blocks);
	memset(head + n, 0, VOLUME_HEAD_BYTES - n);
	data->n_entries = htole32(le32toh(data->n_entries) + le32toh(of_more->n_entries));
	data->n_blocks = htole32(le32toh(data->n_blocks) + n_more);
	put_tail(before, head, n);
	return true;
}

bool head_knows_crc(uint16_t type, const uint8_t *head, uint32_t *ret_crc)
{
	const uint8_t *sums = NULL;
	uint32_t n = head_sums(type, head, &sums), crc = crc32c(0, head, VOLUME_HEAD_BYTES);

	for (uint32_t i = 0; i < n; i++) {
		uint32_t sum;
		memcpy(&sum, sums + i * sizeof(sum), sizeof(sum));
		crc = crc32c_join_page(crc, le32toh(sum));
	}
	*ret_crc = crc;
	return type != VOLUME_PAGES;
}

bool head_is_whole(const uint8_t *head)
{
	return le32toh(tail_of(head).crc) == crc_of(head);
}

uint32_t head_sums(uint16_t type, const uint8_t *head, const uint8_t **ret_sums)
{
	if (own_bytes(type, head) == 0)
		return 0;
	*ret_sums = head + said_bytes(type, head);
	return n_sums(type, head);
}

int head_read_before(uint16_t type, const uint8_t *head, unsigned n_back, uint16_t *ret_type, uint8_t ret[VOLUME_HEAD_BYTES])
{
	const uint8_t *end = head + VOLUME_HEAD_BYTES;
	uint32_t own = own_bytes(type, head), room = VOLUME_HEAD_BYTES - own;
	struct head_tail_le tail;

	if (own == 0)
		return -ENODATA;
	uint32_t skip = told_bytes(end, room, n_back - 1), n = told_bytes(end - skip, room - skip, 1);
	if (n == 0)
		return -ENODATA;
	memcpy(&tail, end - skip - sizeof(tail), sizeof(tail));
	memset(ret, 0, VOLUME_HEAD_BYTES);
	memcpy(ret, end - skip - n, n - sizeof(tail));
	*ret_type = le16toh(tail.type_before);
	return own_bytes(*ret_type, ret) == n - sizeof(tail) ? 0 : -ENODATA;
}

uint32_t head_n_blocks(uint16_t type, const uint8_t *head)
{
	return type == VOLUME_TABLE ? 0 : le32toh(((const struct data_le *)head)->n_blocks);
}
