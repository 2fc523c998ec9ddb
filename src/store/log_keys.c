/* log_keys.c - the list of keys behind a sealed segment's footer, which saves reading its records when the log is opened: hashes, then
 * numbers of records. The footer has its checksum; a list that is damaged is the same as none. */
#include "store_internal.h"

#include "../base/crc32c.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t list_at(const struct store_log *log, const struct store_log_extent *e)
{
	return (e->start + format_log_extent_units(log->settings.segment_bytes)) * FORMAT_UNIT_BYTES;
}

static struct device *device_of(const struct store_log *log, const struct store_log_extent *e)
{
	return log->store->classes[e->class_no].device;
}

/* For n, not 0. Whole units; zeros behind. NULL: no memory. */
static uint8_t *list_alloc(uint32_t n, uint64_t *ret_bytes)
{
	*ret_bytes = format_n_pages((uint64_t)n * FORMAT_LOG_KEY_BYTES) * FORMAT_UNIT_BYTES;
	uint8_t *list = aligned_alloc(FORMAT_UNIT_BYTES, *ret_bytes);
	if (list != NULL)
		memset(list, 0, *ret_bytes);
	return list;
}

int store_log_make_list(const struct store_log *log, const struct store_log_key *keys, uint32_t n, struct store_log_list *ret)
{
	*ret = (struct store_log_list){0};
	if (n == 0)
		return 0;
	if (!log->settings.keys || n > format_log_max_keys(log->settings.segment_bytes))
		return -EINVAL;
	ret->bytes = list_alloc(n, &ret->n_bytes);
	if (ret->bytes == NULL)
		return -ENOMEM;
	uint8_t *numbers = ret->bytes + n * sizeof(struct log_key_hash_le);
	for (uint32_t i = 0; i < n; i++) {
		struct log_key_hash_le hash = {htole64(keys[i].hash)};
		struct log_key_index_le index = {htole32(keys[i].index)};
		memcpy(ret->bytes + i * sizeof(hash), &hash, sizeof(hash));
		memcpy(numbers + i * sizeof(index), &index, sizeof(index));
	}
	ret->crc = crc32c(0, ret->bytes, (size_t)n * FORMAT_LOG_KEY_BYTES);
	return 0;
}

int store_log_write_list(struct store_log *log, const struct store_log_extent *e, const struct store_log_list *list)
{
	return list->bytes == NULL ? 0 : device_write(device_of(log, e), list_at(log, e), list->bytes, list->n_bytes, true);
}

/* A number that no record has is damage as well, whatever the checksum says. */
static int decode(const struct store_log_footer *f, const uint8_t *list, struct store_log_key *ret)
{
	const uint8_t *numbers = list + f->n_keys * sizeof(struct log_key_hash_le);

	if (crc32c(0, list, (size_t)f->n_keys * FORMAT_LOG_KEY_BYTES) != f->keys_crc)
		return -EBADMSG;
	for (uint32_t i = 0; i < f->n_keys; i++) {
		struct log_key_hash_le hash;
		struct log_key_index_le index;
		memcpy(&hash, list + i * sizeof(hash), sizeof(hash));
		memcpy(&index, numbers + i * sizeof(index), sizeof(index));
		ret[i] = (struct store_log_key){.hash = le64toh(hash.hash), .index = le32toh(index.index)};
		if (ret[i].index >= f->end_no - f->first_no)
			return -EBADMSG;
	}
	return 0;
}

int store_log_read_keys(struct store_log *log, uint64_t id, const struct store_log_footer *f,
                        struct store_log_key **ret_keys)
{
	uint64_t bytes;

	store_lock(log->store);
	const struct store_log_extent *e = (const struct store_log_extent *)idmap_find(&log->store->log_segments, id);
	bool there = e != NULL && e->log->node.id == log->node.id;
	const struct store_log_extent place = there ? *e : (struct store_log_extent){.start = 0};
	store_unlock(log->store);
	if (!there || !log->settings.keys || f->n_keys == 0 ||
	    f->n_keys > format_log_max_keys(log->settings.segment_bytes))
		return -EINVAL;
	uint8_t *list = list_alloc(f->n_keys, &bytes);
	struct store_log_key *keys = calloc(f->n_keys, sizeof(keys[0]));
	int rc = list == NULL || keys == NULL ? -ENOMEM : device_read(device_of(log, &place), list_at(log, &place), list, bytes);
	if (rc == 0)
		rc = decode(f, list, keys);
	free(list);
	if (rc == 0)
		*ret_keys = keys;
	else
		free(keys);
	return rc;
}

int store_log_copy_keys(struct store_log *log, const struct store_log_extent *from, const struct store_log_extent *to,
                        const struct store_log_footer *f, void *buf, uint32_t buf_bytes)
{
	uint32_t n = f->n_keys == FORMAT_LOG_KEYS_UNLISTED ? 0 : f->n_keys;
	uint64_t bytes = format_n_pages((uint64_t)n * FORMAT_LOG_KEY_BYTES) * FORMAT_UNIT_BYTES, len;
	int rc = 0;

	for (uint64_t at = 0; at < bytes && rc == 0; at += len) {
		len = bytes - at < buf_bytes ? bytes - at : buf_bytes;
		rc = device_read(device_of(log, from), list_at(log, from) + at, buf, len);
		if (rc == 0)
			rc = device_write(device_of(log, to), list_at(log, to) + at, buf, len, false);
	}
	return rc;
}

int store_log_check_keys(struct store_log *log, uint64_t id, const struct store_log_footer *f)
{
	struct store_log_key *keys = NULL;

	if (f->n_keys == 0 || f->n_keys == FORMAT_LOG_KEYS_UNLISTED)
		return 0;
	int rc = store_log_read_keys(log, id, f, &keys);
	free(keys);
	return rc;
}
