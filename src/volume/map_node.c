/* map_node.c - see map_node.h. Pure: no I/O, no memory. */
#include "map_node.h"

#include "../base/assert.h"
#include "../base/crc32c.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define CRC_FROM offsetof(struct map_node_le, magic)
#define MAX_WIDTH 57u /* a field that begins anywhere in a byte is in one load of 8 bytes */

static void fields_of(const struct map_extent *e, uint64_t ret[4])
{
	ret[0] = e->lba;
	ret[1] = e->n;
	ret[2] = e->place;
	ret[3] = e->birth;
}

static unsigned width_of(uint64_t span)
{
	return span == 0 ? 0 : 64 - (unsigned)__builtin_clzll(span);
}

void map_range_add(struct map_range *r, const struct map_extent *e)
{
	uint64_t f[4];

	fields_of(e, f);
	for (unsigned i = 0; i < 4; i++) {
		if (r->n == 0 || f[i] < r->low[i])
			r->low[i] = f[i];
		if (r->n == 0 || f[i] > r->high[i])
			r->high[i] = f[i];
	}
	r->n++;
}

static unsigned entry_bits(const struct map_range *r)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < 4; i++)
		bits += width_of(r->high[i] - r->low[i]);
	return bits;
}

uint64_t map_range_bits(const struct map_range *r)
{
	return r->n == 0 ? 0 : (uint64_t)r->n * entry_bits(r);
}

static uint64_t load(const struct map_node_le *node, uint32_t bit, unsigned width)
{
	uint64_t word;

	memcpy(&word, node->bits + bit / 8, sizeof(word));
	return le64toh(word) >> bit % 8 & ((UINT64_C(1) << width) - 1);
}

static void store(struct map_node_le *node, uint32_t bit, uint64_t value)
{
	uint64_t word;

	memcpy(&word, node->bits + bit / 8, sizeof(word));
	word |= htole64(value << bit % 8);
	memcpy(node->bits + bit / 8, &word, sizeof(word));
}

static uint32_t crc_of(const struct map_node_le *node)
{
	return crc32c(0, (const uint8_t *)node + CRC_FROM, sizeof(*node) - CRC_FROM);
}

void map_node_encode(const struct map_extent *entries, uint32_t n, unsigned level, uint64_t birth,
                     struct map_node_le *ret)
{
	struct map_range r = {.n = 0};
	uint32_t bit = 0;
	uint64_t f[4];

	for (uint32_t i = 0; i < n; i++)
		map_range_add(&r, &entries[i]);
	quire_assert(n > 0 && map_range_fits(&r));
	memset(ret, 0, sizeof(*ret));
	ret->magic = htole32(MAP_NODE_MAGIC);
	ret->birth = htole64(birth);
	ret->n = htole16((uint16_t)n);
	ret->level = (uint8_t)level;
	for (unsigned i = 0; i < 4; i++) {
		ret->base[i] = htole64(r.low[i]);
		ret->width[i] = (uint8_t)width_of(r.high[i] - r.low[i]);
		quire_assert(ret->width[i] <= MAX_WIDTH);
	}
	for (uint32_t k = 0; k < n; k++) {
		fields_of(&entries[k], f);
		for (unsigned i = 0; i < 4; bit += ret->width[i++])
			store(ret, bit, f[i] - r.low[i]);
	}
	ret->crc = htole32(crc_of(ret));
}

uint32_t map_node_n(const struct map_node_le *node)
{
	return le16toh(node->n);
}

static uint32_t bits_each(const struct map_node_le *node)
{
	return (uint32_t)node->width[0] + node->width[1] + node->width[2] + node->width[3];
}

struct map_extent map_node_get(const struct map_node_le *node, uint32_t i)
{
	uint32_t bit = i * bits_each(node);
	uint64_t f[4];

	for (unsigned k = 0; k < 4; bit += node->width[k++])
		f[k] = le64toh(node->base[k]) + load(node, bit, node->width[k]);
	return (struct map_extent){f[0], f[1], f[2], f[3]};
}

int32_t map_node_find(const struct map_node_le *node, uint64_t lba)
{
	uint32_t low = 0, high = map_node_n(node), each = bits_each(node);
	uint64_t base = le64toh(node->base[0]);

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		if (base + load(node, mid * each, node->width[0]) <= lba)
			low = mid + 1;
		else
			high = mid;
	}
	return (int32_t)low - 1;
}

/* What no writer makes, whatever the checksum says: so that nothing later runs away. */
static bool is_sane(const struct map_node_le *node, unsigned level)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < 4; i++)
		if (node->width[i] > MAX_WIDTH)
			return false;
	if (node->level != level || map_node_n(node) == 0 || node->behind != 0 ||
	    (uint64_t)map_node_n(node) * bits_each(node) > MAP_NODE_CAPACITY_BITS)
		return false;
	for (uint32_t i = 0; i < map_node_n(node); i++) {
		struct map_extent e = map_node_get(node, i);
		if (level > 0)
			e.n = 1;
		if (e.lba < end || !map_is_possible(&e, le64toh(node->birth)) || (level > 0 && !map_is_data(e.place)))
			return false;
		end = map_end(&e);
	}
	return true;
}

int map_node_verify(const struct map_node_le *node, const struct map_extent *want, unsigned level)
{
	if (le32toh(node->crc) != crc_of(node))
		return -EBADMSG;
	if (le32toh(node->magic) != MAP_NODE_MAGIC || !is_sane(node, level) || le64toh(node->birth) != want->birth ||
	    le64toh(node->base[0]) != want->lba)
		return -EUCLEAN;
	return 0;
}
