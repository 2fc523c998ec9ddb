/* extend.c - the last record is made longer.
 *
 * As long as nothing of a record was handed on to be written, it is memory, and its end the journal's: so its owner may put more behind it, and change
 * what it begins with. A record that costs a block of its own is then paid for once for all that comes before somebody wants it durable, or
 * the group is long enough to be worth a write.
 *
 * It is as if it had been appended so. Its number and place stay. Who takes a group, or appends another record, ends that (`last.offset`); who
 * copies keeps the group from being taken (n_filling), as in append.c, and writes the header when all is there.
 */
#include "journal_internal.h"
#include "source.h"

#include <errno.h>
#include <string.h>

/* Lock held. */
static bool is_open(const struct journal *j, uint64_t record_no)
{
	return j->last.offset != 0 && record_no == j->next_no - 1 && journal_in_place(j) && journal_error(j) == 0;
}

bool journal_may_extend(struct journal *j, uint64_t record_no)
{
	pthread_mutex_lock(&j->waits.lock);
	bool may = is_open(j, record_no);
	pthread_mutex_unlock(&j->waits.lock);
	return may;
}

/* Lock held. Looking for a place may hand the group on: what is there to be extended is asked after that. */
static bool has_place(struct journal *j, uint64_t record_no, uint64_t bytes)
{
	if (!journal_has_place(j, bytes))
		return false;
	return is_open(j, record_no) && journal_open_group(j)->n_filling == 0 && j->last.header.len_bytes + bytes <= journal_max_payload(j);
}

/* Lock held; released meanwhile. */
static void extend(struct journal *j, const struct iovec *head, struct source *more, uint64_t bytes, uint32_t crc)
{
	struct group *g = journal_open_group(j);
	struct last_record *last = &j->last;
	uint8_t *record = g->bytes + (last->offset - g->base), *to = g->bytes + (g->end - g->base);
	struct frame_record_le header;

	last->header.len_bytes += (uint32_t)bytes;
	last->header.payload_crc = crc;
	frame_record_encode(&j->segment, last->offset, &last->header, &header);
	g->end += (uint32_t)bytes;
	j->used_bytes += bytes;
	g->n_filling++;
	pthread_mutex_unlock(&j->waits.lock);
	source_copy(more, to, bytes);
	memcpy(record + JOURNAL_RECORD_HEADER_BYTES, head->iov_base, head->iov_len);
	memcpy(record, &header, sizeof(header));
	pthread_mutex_lock(&j->waits.lock);
	g->n_filling--;
}

int journal_extend(struct journal *j, uint64_t record_no, const struct iovec *head, const struct iovec *parts, unsigned n, uint32_t crc)
{
	struct source more = {.parts = parts, .n = n, .done = JOURNAL_RECORD_HEADER_BYTES};

	for (unsigned i = 0; i < n; i++)
		more.len_bytes += parts[i].iov_len;
	if (more.len_bytes % FRAME_ALIGN != 0 || !j->o.whole_blocks)
		return -EINVAL;
	pthread_mutex_lock(&j->waits.lock);
	bool may = has_place(j, record_no, more.len_bytes);
	if (may) {
		extend(j, head, &more, more.len_bytes, crc);
		journal_kick(&j->waits);
		journal_push_long(j);
	}
	pthread_mutex_unlock(&j->waits.lock);
	return may ? 0 : -EAGAIN;
}
