/* codec.c - pages in fewer bytes: LZ4 (liblz4, block format). */
#include "codec.h"

#include <lz4.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- workspaces ---- */

static size_t head_bytes(void)
{
	return (sizeof(struct workspace) + (size_t)LZ4_sizeofState() + 63) & ~(size_t)63;
}

/* Room for whatever LZ4 makes of a page: it is a quarter slower if it has to look for the end at each step. */
static size_t packed_bytes(uint32_t page_bytes)
{
	return ((size_t)LZ4_compressBound((int)page_bytes) + 63) & ~(size_t)63;
}

size_t workspace_bytes(uint32_t page_bytes)
{
	size_t granule = (size_t)sysconf(_SC_PAGESIZE);

	return (head_bytes() + packed_bytes(page_bytes) + page_bytes + granule - 1) & ~(granule - 1);
}

struct workspace *workspace_new(uint32_t page_bytes)
{
	size_t bytes = workspace_bytes(page_bytes);
	struct workspace *w = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (w == MAP_FAILED)
		return NULL;
	w->page_bytes = page_bytes;
	w->bytes = bytes;
	w->state = w + 1;
	w->packed = (uint8_t *)w + head_bytes();
	w->page = w->packed + packed_bytes(page_bytes);
	return w;
}

void workspace_free(struct workspace *w)
{
	munmap(w, w->bytes);
}

/* ---- one word ---- */

bool codec_is_same(const void *page, uint32_t n_bytes, uint64_t *ret_word)
{
	const uint8_t *at = page;
	uint64_t first, second;

	memcpy(&first, at, sizeof(first));
	memcpy(&second, at + sizeof(first), sizeof(second));
	if (first != second || memcmp(at, at + sizeof(first), n_bytes - sizeof(first)) != 0)
		return false;
	*ret_word = first;
	return true;
}

void codec_fill(void *page, uint32_t n_bytes, uint64_t word)
{
	uint8_t *at = page;

	for (uint32_t i = 0; i < n_bytes; i += sizeof(word))
		memcpy(at + i, &word, sizeof(word));
}

/* ---- LZ4 ---- */

uint32_t codec_pack(struct workspace *w, const void *page, uint32_t n_bytes)
{
	int n = LZ4_compress_fast_extState(w->state, page, (char *)w->packed, (int)n_bytes, LZ4_compressBound((int)n_bytes), 1);

	return n > 0 && (uint32_t)n <= n_bytes - n_bytes / 32 ? (uint32_t)n : 0;
}

bool codec_unpack(enum slot_codec codec, const void *from, uint32_t n_from, void *to, uint32_t n_bytes)
{
	switch (codec) {
	case CODEC_RAW:
		if (n_from != n_bytes)
			return false;
		memcpy(to, from, n_bytes);
		return true;
	case CODEC_LZ4:
		return LZ4_decompress_safe(from, to, (int)n_from, (int)n_bytes) == (int)n_bytes;
	default:
		return false;
	}
}
