/* recompress.h - one piece of work of recompression: chosen and finished under the lock, done without it. */
#ifndef TMEM_RECOMPRESS_H
#define TMEM_RECOMPRESS_H

#include "tmem_internal.h"

#define UNIT_MOST_PAGES 16u

enum job_kind {
	JOB_NONE,
	JOB_TIGHT,    /* a content, by LZ4's slow compressor */
	JOB_COLD,     /* by zstd */
	JOB_WARM,     /* what is packed by zstd, by LZ4 again */
	JOB_UNIT,     /* several contents of one page each become a unit */
	JOB_DISSOLVE, /* the pages of a unit become contents of their own; by LZ4 if `warm` */
};

struct piece {
	uint32_t place; /* pinned; of JOB_DISSOLVE the unit's, pinned once */
	uint16_t low;   /* unless it is a share's */
	struct packed packed;
	/* Found out by job_run; of JOB_UNIT the first piece's is the unit's: */
	enum slot_codec codec;
	const uint8_t *bytes; /* borrowed: the packer's */
	uint32_t len, check, hash;
};

struct job {
	enum job_kind kind;
	bool warm, known;    /* known: hashes are wanted */
	bool intact;         /* found out by job_run */
	uint32_t page_bytes;
	unsigned n;
	struct piece pieces[UNIT_MOST_PAGES];
};

/* Without the lock: unpacks what there is, and packs it anew. */
void job_run(struct quire_tmem *t, struct job *j, struct packer *p);

/* With it: what is there still, and got smaller, is replaced; what did not is marked. Pins are dropped. How many pages' contents were replaced. */
unsigned job_finish(struct quire_tmem *t, struct job *j);

#endif
