/* spill.h - contents that are in the backing; the essay is in spill.c. For src/tmem alone; the lock held unless said otherwise. */
#ifndef TMEM_SPILL_H
#define TMEM_SPILL_H

#include "backing.h"
#include "tmem_internal.h"

#define SPILL_MOST_MOVED 128u /* contents, by one write */
#define SPILL_LEAST_SLOT_BYTES 96u /* of those that gain by going */

/* What follows the head of a content that is away. hash and next of the head are its places before and after it, of those of
 * the same segment. */
struct away {
	uint32_t segment;
	uint32_t offset : 30, codec : 2; /* of its bytes */
};
static_assert(sizeof(struct away) == 8, "with a head, the smallest slot");

struct segment {
	uint64_t at;               /* the backing's name for it */
	uint32_t fill;             /* bytes that are written, or being written */
	uint32_t first;            /* place of one of the contents there; PLACE_NONE */
	uint32_t n_live, n_pins;   /* contents; who reads */
	uint64_t live_bytes;
	uint32_t next;             /* of the dead */
	bool taken, stuck;         /* stuck: something in it can't be read */
};

/* A content that is being written, and the entry that its turn came by. */
struct moving {
	uint32_t place, offset, len; /* offset: in what is written */
	const void *bytes;           /* borrowed: it is pinned */
	uint64_t number;
	uint16_t pool;
};

struct spill {
	struct tmem_backing backing;
	struct records segments;
	uint32_t spare_no;         /* of a segment that is taken next; RECORD_NONE: no memory for one */
	uint32_t open;             /* the segment that is written to; RECORD_NONE */
	uint32_t dead;             /* segments to be given back; RECORD_NONE */
	uint64_t n_taken;          /* segments, the dead included */
	uint64_t live_bytes;       /* of contents there */
	uint64_t n_live, n_reads, n_errors;
	uint64_t n_rounds;         /* that made room */
	unsigned n_users;          /* calls that may be inside the backing */
	uint32_t n_spares, spares[SPILL_MOST_MOVED]; /* places of slots for those that go */
	uint32_t half_bytes;
	uint64_t charged_bytes;
	/* Of who is between begin and end: */
	uint8_t *stage;            /* owned; what is read, then what is written: half_bytes each */
	struct moving moving[SPILL_MOST_MOVED];
	unsigned n_moving;
	uint32_t fill;
};

/* ---- spill.c ---- */

static inline bool tmem_is_away(const struct slot_head *h)
{
	return h->codec == CODEC_AWAY && (h->marks & MARK_REMOTE) == 0;
}

static inline struct away *tmem_away_at(struct slot_head *h)
{
	return (struct away *)(h + 1);
}

static inline struct segment *segment_at(const struct spill *sp, uint32_t no)
{
	return records_at(&sp->segments, no);
}

void tmem_away_link(struct quire_tmem *t, uint32_t place);   /* by what its struct away says */
void tmem_away_unlink(struct quire_tmem *t, uint32_t place); /* its segment may be dead then */
void tmem_away_moved(struct quire_tmem *t, uint32_t to);     /* its slot was moved */
void tmem_segment_unpin(struct spill *sp, uint32_t no);
void tmem_segment_close(struct spill *sp);                   /* the open one */
void tmem_spill_fill_spares(struct quire_tmem *t);
bool tmem_spill_check(const struct quire_tmem *t);           /* true if the numbered invariants hold; for tests, while nobody writes */

/* ---- spill_round.c ---- */

/* As tmem_spill_for, of contents of the pool's own. */
bool tmem_spill_of(struct quire_tmem_pool *pool);

/* ---- age.c: which pages of a pool came first ---- */

/* The oldest's content, which is in memory and gains by going: its place, once; and its entry. PLACE_NONE: there is none
 * whose bytes are most_bytes at most. */
uint32_t tmem_age_pick(struct quire_tmem_pool *pool, uint32_t most_bytes, uint64_t *ret_number);
/* It didn't go. The pool may have gone, or be another, that has its number. */
void tmem_age_put_back(struct quire_tmem_pool *pool, uint64_t number);

#endif
