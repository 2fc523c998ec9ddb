/* image.c - see image.h. */
#include "image.h"

#include "../../src/base/assert.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

/* As it stands in an input, little-endian. */
struct edit {
	uint16_t where; /* which of the used blocks, modulo their number */
	uint16_t at;    /* in the block; bit 15: in the whole of it, else in its first 128 bytes, where most structures are */
	uint8_t kind, n;
	uint64_t value;
};

enum edit_kind { XOR, SET, ADD, ZERO, COPY, COPY_BLOCK, N_KINDS };

void fuzz_image_init(struct fuzz_image *image, const void *good, size_t n_bytes)
{
	while (n_bytes > 0 && ((const uint8_t *)good)[n_bytes - 1] == 0)
		n_bytes--;
	uint32_t n_blocks = (uint32_t)((n_bytes + FUZZ_BLOCK_BYTES - 1) / FUZZ_BLOCK_BYTES);
	*image = (struct fuzz_image){
		.good = calloc(n_blocks, FUZZ_BLOCK_BYTES),
		.bytes = calloc(n_blocks, FUZZ_BLOCK_BYTES),
		.used = calloc(n_blocks, sizeof(*image->used)),
		.n_blocks = n_blocks,
	};
	quire_assert(image->good != NULL && image->bytes != NULL && image->used != NULL);
	memcpy(image->good, good, n_bytes);
	for (uint32_t i = 0; i < n_blocks; i++)
		if (memcmp(image->good + (size_t)i * FUZZ_BLOCK_BYTES, image->bytes, FUZZ_BLOCK_BYTES) != 0)
			image->used[image->n_used++] = i;
	quire_assert(image->n_used > 0);
}

void fuzz_image_fini(struct fuzz_image *image)
{
	free(image->good);
	free(image->bytes);
	free(image->used);
}

static struct edit read_edit(const uint8_t *data)
{
	struct edit e = {.kind = data[4] % N_KINDS, .n = data[5]};

	memcpy(&e.where, data, sizeof(e.where));
	memcpy(&e.at, data + 2, sizeof(e.at));
	memcpy(&e.value, data + 6, sizeof(e.value));
	e.where = le16toh(e.where);
	e.at = le16toh(e.at);
	e.value = le64toh(e.value);
	return e;
}

static uint8_t *block_of(const struct fuzz_image *image, uint64_t which)
{
	return image->bytes + (size_t)image->used[which % image->n_used] * FUZZ_BLOCK_BYTES;
}

/* Integers of 1, 2, 4 and 8 bytes. */
static void change_word(uint8_t *at, size_t room, const struct edit *e)
{
	size_t n = (size_t)1 << e->n % 4;
	uint64_t word = 0;

	if (n > room)
		return;
	memcpy(&word, at, n);
	word = le64toh(word);
	word = htole64(e->kind == XOR ? word ^ e->value : e->kind == SET ? e->value : word + e->value);
	memcpy(at, &word, n);
}

static void apply(struct fuzz_image *image, const struct edit *e)
{
	uint8_t *block = block_of(image, e->where);
	size_t at = (e->at & 0x7fff) % ((e->at & 0x8000) != 0 ? FUZZ_BLOCK_BYTES : 128), room = FUZZ_BLOCK_BYTES - at;
	size_t n = 8u * (e->n + 1u) < room ? 8u * (e->n + 1u) : room;
	size_t from = (size_t)(e->value >> 16) % (FUZZ_BLOCK_BYTES - n + 1);

	switch ((enum edit_kind)e->kind) {
	case ZERO:
		memset(block + at, 0, n);
		break;
	case COPY:
		memmove(block + at, block_of(image, e->value & 0xffff) + from, n);
		break;
	case COPY_BLOCK:
		memmove(block, block_of(image, e->value), FUZZ_BLOCK_BYTES);
		break;
	default:
		change_word(block + at, room, e);
	}
}

void fuzz_image_edit(struct fuzz_image *image, const uint8_t *data, size_t n_bytes)
{
	memcpy(image->bytes, image->good, (size_t)image->n_blocks * FUZZ_BLOCK_BYTES);
	for (size_t at = 1, n = 0; at + FUZZ_EDIT_BYTES <= n_bytes && n < FUZZ_MOST_EDITS; at += FUZZ_EDIT_BYTES, n++) {
		struct edit e = read_edit(data + at);
		apply(image, &e);
	}
}
