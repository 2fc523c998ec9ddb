/* copy.h - a pool page by page, while calls on it go on; the essay is in copy.c. For src/tmem alone. */
#ifndef TMEM_COPY_H
#define TMEM_COPY_H

#include "tmem_internal.h"

enum copied_kind {
	COPIED_GONE,    /* there is no such page any more */
	COPIED_WORD,    /* of one word */
	COPIED_CONTENT,
	COPIED_AGAIN,   /* of a content that was handed out before */
};

struct copied {
	struct quire_tmem_key key;
	enum copied_kind kind;
	bool shared;          /* a content that may come again, by the number in `word`: from 0, one more each */
	uint64_t word;
	enum slot_codec codec; /* CODEC_RAW or CODEC_LZ4 */
	const uint8_t *bytes; /* borrowed: until tmem_copy_done; they match their checksum */
	uint32_t len, check;
	/* Its own: */
	uint32_t place;       /* pinned; PLACE_NONE */
	struct packed packed; /* if zstd packed it */
	bool is_away, is_cold;
	struct away_from from;
	struct away_bytes away;
};

/* shares: contents of several pages come once, and AGAIN. Errors as of quire_tmem_copy_begin. */
int tmem_copy_begin(struct quire_tmem_pool *pool, const struct quire_tmem_copy_options *opts, bool shares,
                    struct quire_tmem_copy **ret_copy);
/* 1: tmem_copy_done is due; 0 (ret->word: pages that there are now), or negative errno, as of quire_tmem_copy_next. */
int tmem_copy_step(struct quire_tmem_copy *copy, struct copied *ret);
void tmem_copy_done(struct quire_tmem_copy *copy, struct copied *c);

#endif
