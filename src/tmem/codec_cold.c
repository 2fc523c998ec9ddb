/* codec_cold.c - pages and units in fewer bytes at leisure: LZ4's slow compressor, and zstd.
 *
 * The levels were chosen by figures (docs/performance.md): beyond them it takes two and three times as long for a hundredth.
 */
#include "codec.h"

#include "../base/pages.h"

#include <lz4hc.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#define TIGHT_LEVEL 6
#define COLD_LEVEL 6
#define ZSTD_MOST_BYTES (4u << 20)     /* of its memory to compress, up to 2 MiB at once */
#define ZSTD_UNPACK_BYTES (160u << 10)

static size_t round_up(size_t n, size_t granule)
{
	return (n + granule - 1) & ~(granule - 1);
}

static void *map(size_t bytes)
{
	return pages_map(bytes, PROT_READ | PROT_WRITE, 0);
}

/* ---- packing ---- */

static size_t packer_mapped(uint32_t raw_bytes)
{
	return round_up(round_up(sizeof(struct packer) + (size_t)LZ4_sizeofStateHC(), 64) + 2 * (size_t)raw_bytes,
	                (size_t)sysconf(_SC_PAGESIZE));
}

size_t packer_most_bytes(uint32_t raw_bytes)
{
	size_t small = 18 * (size_t)(raw_bytes < 16384 ? 16384 : raw_bytes);

	return packer_mapped(raw_bytes) + (small < ZSTD_MOST_BYTES ? small : ZSTD_MOST_BYTES);
}

struct packer *packer_new(uint32_t raw_bytes)
{
	struct packer *p = map(packer_mapped(raw_bytes));

	if (p == NULL)
		return NULL;
	p->raw_bytes = raw_bytes;
	p->tight = p + 1;
	p->raw = (uint8_t *)p + round_up(sizeof(*p) + (size_t)LZ4_sizeofStateHC(), 64);
	p->packed = p->raw + raw_bytes;
	p->cold = ZSTD_createCCtx();
	/* Once as much as will ever be, so that it has all its memory from now on. */
	if (p->cold == NULL || ZSTD_isError(ZSTD_CCtx_setParameter(p->cold, ZSTD_c_compressionLevel, COLD_LEVEL)) ||
	    ZSTD_isError(ZSTD_compress2(p->cold, p->packed, raw_bytes, p->raw, raw_bytes))) {
		packer_free(p);
		return NULL;
	}
	p->bytes = packer_mapped(raw_bytes) + ZSTD_sizeof_CCtx(p->cold);
	return p;
}

void packer_free(struct packer *p)
{
	if (p == NULL)
		return;
	ZSTD_freeCCtx(p->cold);
	pages_unmap(p, packer_mapped(p->raw_bytes));
}

uint32_t packer_tight(struct packer *p, const void *from, uint32_t n_bytes, void *to, uint32_t most)
{
	int n = LZ4_compress_HC_extStateHC(p->tight, from, to, (int)n_bytes, (int)most, TIGHT_LEVEL);

	return n > 0 ? (uint32_t)n : 0;
}

uint32_t packer_cold(struct packer *p, const void *from, uint32_t n_bytes, void *to, uint32_t most)
{
	size_t n = ZSTD_compress2(p->cold, to, most, from, n_bytes);

	return ZSTD_isError(n) ? 0 : (uint32_t)n;
}

/* ---- unpacking ---- */

static size_t unpacker_mapped(uint32_t unit_bytes)
{
	return round_up(sizeof(struct unpacker) + unit_bytes, (size_t)sysconf(_SC_PAGESIZE));
}

size_t unpacker_most_bytes(uint32_t unit_bytes)
{
	return unpacker_mapped(unit_bytes) + ZSTD_UNPACK_BYTES;
}

struct unpacker *unpacker_new(uint32_t unit_bytes)
{
	struct unpacker *u = map(unpacker_mapped(unit_bytes));

	if (u == NULL)
		return NULL;
	u->unit_bytes = unit_bytes;
	u->unit = (uint8_t *)(u + 1);
	u->context = ZSTD_createDCtx();
	if (u->context == NULL) {
		unpacker_free(u);
		return NULL;
	}
	u->bytes = unpacker_mapped(unit_bytes) + ZSTD_sizeof_DCtx(u->context);
	return u;
}

void unpacker_free(struct unpacker *u)
{
	ZSTD_freeDCtx(u->context);
	pages_unmap(u, unpacker_mapped(u->unit_bytes));
}

bool unpacker_run(struct unpacker *u, const void *from, uint32_t n_from, void *to, uint32_t n_bytes)
{
	return ZSTD_decompressDCtx(u->context, to, n_bytes, from, n_from) == n_bytes;
}
