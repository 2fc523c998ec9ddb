/* ycsb_table.c - see ycsb_table.h. */
#include "ycsb_table.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_BYTES (YCSB_KEY_BYTES + YCSB_VALUE_BYTES)
#define SAMPLE_EVERY 256u /* blocks: samples stay in a first-level cache */
#define PER_BLOCK ((TABLE_BLOCK_BYTES - sizeof(uint32_t)) / RECORD_BYTES)

static_assert(PER_BLOCK == 4, "four records a block");

/* ---- made ---- */

static uint64_t count_blocks(const struct ycsb *y)
{
	return (y->n_records + PER_BLOCK - 1) / PER_BLOCK;
}

static void make_block(const struct ycsb_record *records, uint32_t n, char *ret_block)
{
	const uint32_t count = htole32(n);

	memset(ret_block, 0, TABLE_BLOCK_BYTES);
	for (uint32_t i = 0; i < n; i++) {
		ycsb_key(records[i].hash, ret_block + i * RECORD_BYTES);
		ycsb_value(records[i].number, ret_block + i * RECORD_BYTES + YCSB_KEY_BYTES);
	}
	memcpy(ret_block + TABLE_BLOCK_BYTES - sizeof(count), &count, sizeof(count));
}

int table_make_all(const struct ycsb *y, table_put_fn put, void *arg)
{
	struct ycsb_record *records = ycsb_sorted(y->n_records);
	char *bytes = aligned_alloc(TABLE_BLOCK_BYTES, (size_t)TABLE_BLOCKS * TABLE_BLOCK_BYTES);
	const uint64_t n_blocks = count_blocks(y);
	int rc = records != NULL && bytes != NULL ? 0 : ycsb_failed("filling", "no memory");

	for (uint64_t first = 0; first < n_blocks && rc == 0; first += TABLE_BLOCKS) {
		uint64_t n = n_blocks - first < TABLE_BLOCKS ? n_blocks - first : TABLE_BLOCKS;
		for (uint64_t i = 0; i < n; i++) {
			uint64_t at = (first + i) * PER_BLOCK, left = y->n_records - at;
			make_block(&records[at], (uint32_t)(left < PER_BLOCK ? left : PER_BLOCK), bytes + i * TABLE_BLOCK_BYTES);
		}
		rc = put(arg, (unsigned)(first / TABLE_BLOCKS), bytes, n * TABLE_BLOCK_BYTES);
	}
	free(bytes);
	free(records);
	return rc;
}

static FILE *open_index(const struct ycsb *y, const char *mode)
{
	char path[4200];

	snprintf(path, sizeof(path), "%s/index", y->path);
	FILE *file = fopen(path, mode);
	if (file == NULL)
		ycsb_failed(path, strerror(errno));
	return file;
}

int table_index_write(const struct ycsb *y)
{
	struct ycsb_record *records = ycsb_sorted(y->n_records);
	FILE *file = open_index(y, "we");
	bool good = records != NULL && file != NULL;

	for (uint64_t i = 0; i < y->n_records && good; i += PER_BLOCK) {
		char key[YCSB_KEY_BYTES];
		ycsb_key(records[i].hash, key);
		good = fwrite(key, sizeof(key), 1, file) == 1;
	}
	if (file != NULL)
		good = fclose(file) == 0 && good;
	free(records);
	return good ? 0 : ycsb_failed("index", "not written");
}

/* ---- looked up ---- */

static uint64_t head_of(const char *key)
{
	uint64_t head;

	memcpy(&head, key + YCSB_KEY_PREFIX_BYTES, sizeof(head));
	return be64toh(head);
}

static const char *rest_of(const char *key)
{
	return key + YCSB_KEY_PREFIX_BYTES + sizeof(uint64_t);
}

int table_index_read(const struct ycsb *y, struct table_index *ret)
{
	char key[YCSB_KEY_BYTES];

	*ret = (struct table_index){ .n_blocks = count_blocks(y) };
	ret->n_tables = (unsigned)((ret->n_blocks + TABLE_BLOCKS - 1) / TABLE_BLOCKS);
	ret->heads = calloc(ret->n_blocks, sizeof(*ret->heads));
	ret->rests = calloc(ret->n_blocks, sizeof(*ret->rests));
	ret->samples = calloc(ret->n_blocks / SAMPLE_EVERY + 1, sizeof(*ret->samples));
	FILE *file = open_index(y, "re");
	bool good = ret->heads != NULL && ret->rests != NULL && ret->samples != NULL && file != NULL;

	for (uint64_t i = 0; i < ret->n_blocks && good; i++) {
		good = fread(key, sizeof(key), 1, file) == 1;
		ret->heads[i] = head_of(key);
		if (i % SAMPLE_EVERY == 0)
			ret->samples[i / SAMPLE_EVERY] = ret->heads[i];
		memcpy(ret->rests[i], rest_of(key), TABLE_REST_BYTES);
	}
	if (file != NULL) {
		/* It is in memory now: no second time in the kernel's. */
		posix_fadvise(fileno(file), 0, 0, POSIX_FADV_DONTNEED);
		fclose(file);
	}
	if (!good)
		table_index_free(ret);
	return good ? 0 : ycsb_failed("index", "not read");
}

void table_index_free(struct table_index *index)
{
	free(index->heads);
	free(index->rests);
	free(index->samples);
	*index = (struct table_index){ 0 };
}

/* The last of n that is not above head; 0 if all are. Without branches, which nobody could predict. */
static uint64_t last_not_above(const uint64_t *sorted, uint64_t n, uint64_t head)
{
	const uint64_t *base = sorted;

	for (; n > 1; n -= n / 2)
		base += base[n / 2] <= head ? n / 2 : 0;
	return (uint64_t)(base - sorted);
}

uint64_t table_index_find(const struct table_index *index, const char *key)
{
	const uint64_t head = head_of(key), n_samples = (index->n_blocks + SAMPLE_EVERY - 1) / SAMPLE_EVERY;
	const uint64_t first = last_not_above(index->samples, n_samples, head) * SAMPLE_EVERY;
	const uint64_t left = index->n_blocks - first, n = left < SAMPLE_EVERY ? left : SAMPLE_EVERY;
	uint64_t block = first + last_not_above(index->heads + first, n, head);

	while (block > 0 && index->heads[block] == head &&
	       memcmp(index->rests[block], rest_of(key), TABLE_REST_BYTES) > 0)
		block--;
	return block;
}

const void *table_block_find(const void *block, const char *key)
{
	uint32_t n;

	memcpy(&n, (const char *)block + TABLE_BLOCK_BYTES - sizeof(n), sizeof(n));
	n = le32toh(n);
	for (uint32_t i = 0; i < n && i < PER_BLOCK; i++) {
		const char *record = (const char *)block + i * RECORD_BYTES;
		if (memcmp(record, key, YCSB_KEY_BYTES) == 0)
			return record + YCSB_KEY_BYTES;
	}
	return NULL;
}
