/* stream.c - see stream.h. */
#include "stream.h"
#include "volume_internal.h"

#include "../base/crc32c.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- heads and chunks ---- */

static uint32_t head_crc(const struct stream_head_le *head)
{
	return crc32c(0, &head->version, sizeof(*head) - offsetof(struct stream_head_le, version));
}

void stream_head_seal(struct stream_head_le *head)
{
	memcpy(head->magic, STREAM_MAGIC, sizeof(head->magic));
	head->version = htole32(STREAM_VERSION);
	head->crc = htole32(head_crc(head));
}

bool stream_head_check_range(const struct stream_head_le *head)
{
	uint64_t size = le64toh(head->size_bytes), position = le64toh(head->position);

	return size % MAP_BLOCK_BYTES == 0 && size <= QUIRE_VOLUME_MAX_BYTES && position % MAP_BLOCK_BYTES == 0 && position <= size;
}

int stream_head_check(const struct stream_head_le *head)
{
	if (memcmp(head->magic, STREAM_MAGIC, sizeof(head->magic)) != 0)
		return -EUCLEAN;
	if (le32toh(head->crc) != head_crc(head))
		return -EBADMSG;
	if (le32toh(head->version) != STREAM_VERSION || head->incompat != 0)
		return -ENOTSUP;
	bool sane = stream_head_check_range(head) && !identity_is_none(&head->to) && head->snapshot[sizeof(head->snapshot) - 1] == 0;
	return sane ? 0 : -EUCLEAN;
}

static uint32_t chunk_crc(const struct stream_chunk_le *chunk, uint32_t before)
{
	return crc32c(before, &chunk->type, sizeof(*chunk) - offsetof(struct stream_chunk_le, type));
}

void stream_chunk_seal(struct stream_chunk_le *chunk, uint32_t *crc)
{
	*crc = chunk_crc(chunk, *crc);
	chunk->crc = htole32(*crc);
}

int stream_chunk_check(const struct stream_chunk_le *chunk, uint32_t *crc)
{
	*crc = chunk_crc(chunk, *crc);
	return le32toh(chunk->crc) == *crc ? 0 : -EBADMSG;
}

/* ---- tokens ---- */

static uint32_t token_crc(const struct stream_token_le *t)
{
	return crc32c(0, t, offsetof(struct stream_token_le, crc));
}

void stream_token_print(const struct received_le *r, char ret[QUIRE_VOLUME_TOKEN_BYTES])
{
	struct stream_token_le t = {.to = r->to, .from = r->from, .position = r->position};
	const uint8_t *bytes = (const uint8_t *)&t;

	t.crc = htole32(token_crc(&t));
	for (size_t i = 0; i < sizeof(t); i++)
		(void)snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int stream_token_parse(const char *text, struct stream_token_le *ret)
{
	struct stream_token_le t;
	uint8_t *bytes = (uint8_t *)&t;

	if (strnlen(text, QUIRE_VOLUME_TOKEN_BYTES) != 2 * sizeof(t))
		return -EBADMSG;
	for (size_t i = 0; i < sizeof(t); i++) {
		int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return -EBADMSG;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	if (le32toh(t.crc) != token_crc(&t))
		return -EBADMSG;
	*ret = t;
	return 0;
}

/* ---- identities ---- */

/* What was received is what it was where it came from; so it goes on from there, and back. */
static int received_identity(struct quire_volumes *g, const struct volume *v, struct identity_le *ret)
{
	struct received_le *r = aligned_alloc(MAP_BLOCK_BYTES, sizeof(*r));
	int rc = r == NULL ? -ENOMEM : property_read(g, v->tree, PROPERTY_RECEIVED, r);

	if (rc == 0 && le32toh(r->owner) == v->node.id)
		*ret = r->to;
	free(r);
	return rc == -ENODATA ? 0 : rc;
}

int identity_of(struct quire_volumes *g, uint32_t volume, struct identity_le *ret)
{
	struct store_stat stat;

	store_stat(g->store, &stat);
	group_lock(g);
	const struct volume *found = volume_find(g, volume);
	struct volume v = found != NULL ? *found : (struct volume){.n_open = 0};
	group_unlock(g);
	if (found == NULL)
		return -ESTALE;
	*ret = (struct identity_le){.log = htole64(g->log_id), .generation = htole64(v.generation), .volume = htole32(volume)};
	memcpy(ret->store, stat.uuid, sizeof(ret->store));
	return (v.flags & VOLUME_IS_RECEIVED) != 0 ? received_identity(g, &v, ret) : 0;
}
