/* codec.h - pages in fewer bytes, and back. No state but the workspace's: any thread, each with its own. */
#ifndef TMEM_CODEC_H
#define TMEM_CODEC_H

#include "slot.h"

#include <stdbool.h>
#include <stddef.h>

/* What one caller needs while he compresses and compares: in one mapping. */
struct workspace {
	uint32_t page_bytes;     /* pages of that size at most */
	size_t bytes;            /* of the mapping */
	void *state;             /* LZ4's */
	uint8_t *packed, *page;  /* room for what LZ4 makes of page_bytes; page_bytes */
};

/* NULL: no memory. */
struct workspace *workspace_new(uint32_t page_bytes);
void workspace_free(struct workspace *w);
size_t workspace_bytes(uint32_t page_bytes);

/* True if the page is one word of 64 bits, over and over. */
bool codec_is_same(const void *page, uint32_t n_bytes, uint64_t *ret_word);
void codec_fill(void *page, uint32_t n_bytes, uint64_t word);

/* Into w->packed: the length; 0: it is not smaller by a 32nd. */
uint32_t codec_pack(struct workspace *w, const void *page, uint32_t n_bytes);

/* Of any codec but CODEC_ZSTD. False: what is there is not what was packed. `to` may be written in part then. */
bool codec_unpack(enum slot_codec codec, const void *from, uint32_t n_from, void *to, uint32_t n_bytes);

/* ---- at leisure: codec_cold.c ---- */

/* What one caller needs to pack what is not fresh any more. */
struct packer {
	size_t bytes;           /* all that it takes */
	uint32_t raw_bytes;
	void *tight, *cold;     /* LZ4's slow compressor's state; zstd's, owned */
	uint8_t *raw, *packed;  /* raw_bytes each */
};

size_t packer_most_bytes(uint32_t raw_bytes); /* what it takes, or somewhat more */
struct packer *packer_new(uint32_t raw_bytes); /* for so many at once. NULL: no memory */
void packer_free(struct packer *p);           /* NULL allowed */

/* n_bytes into `most` at most: the length; 0: it is longer. Tight is unpacked as CODEC_LZ4, cold as CODEC_ZSTD. */
uint32_t packer_tight(struct packer *p, const void *from, uint32_t n_bytes, void *to, uint32_t most);
uint32_t packer_cold(struct packer *p, const void *from, uint32_t n_bytes, void *to, uint32_t most);

/* What one caller needs to unpack what is CODEC_ZSTD. */
struct unpacker {
	struct unpacker *next;  /* the owner's */
	size_t bytes;
	void *context;          /* owned: zstd's */
	uint32_t unit_bytes;
	uint8_t *unit;          /* so many bytes */
	uint32_t serial;        /* the owner's: what is in there */
};

size_t unpacker_most_bytes(uint32_t unit_bytes);
struct unpacker *unpacker_new(uint32_t unit_bytes); /* NULL: no memory */
void unpacker_free(struct unpacker *u);
/* False: what is there is not what was packed. */
bool unpacker_run(struct unpacker *u, const void *from, uint32_t n_from, void *to, uint32_t n_bytes);

#endif
