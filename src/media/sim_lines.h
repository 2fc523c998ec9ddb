/* sim_lines.h - the CPU's caches before persistent memory: what was stored, flushed, fenced. For src/media/sim*.c and
 * their tests alone. Nothing here fails or locks: see sim.c. */
#ifndef MEDIA_SIM_LINES_H
#define MEDIA_SIM_LINES_H

#include "sim.h"
#include "sim_medium.h"

#define SIM_WORD_BYTES DEVICE_STORE_BYTES
#define SIM_BLOCK_LINES (SIM_BLOCK_BYTES / DEVICE_LINE_BYTES)

/* A block of which something is not durable; a bit for each word of a line. No word has both. */
struct sim_lines_block {
	uint64_t block;
	uint8_t dirty[SIM_BLOCK_LINES];   /* stored, not flushed */
	uint8_t flushed[SIM_BLOCK_LINES]; /* flushed, or stored past the caches; not fenced */
};

struct sim_lines {
	struct sim_lines_block *blocks; /* owned */
	uint32_t n, capacity;
	struct sim_shadow shadow;
};

void lines_init(struct sim_medium *m);
void lines_copy_all(struct sim_medium *ret, const struct sim_medium *m); /* counts from zero */
void lines_fini(struct sim_medium *m);

/* What a CPU does. Offsets and lengths of stores are multiples of SIM_WORD_BYTES. */
void lines_store(struct sim_medium *m, uint64_t offset, const void *from, uint64_t len_bytes);
void lines_store_past(struct sim_medium *m, uint64_t offset, const void *from, uint64_t len_bytes); /* non-temporal */
void lines_flush(struct sim_medium *m, uint64_t offset, uint64_t len_bytes); /* the lines that it touches */
void lines_fence(struct sim_medium *m);

/* As libpmem2 copies without draining: whole lines past the caches, parts of lines stored and flushed. */
void lines_copy(struct sim_medium *m, uint64_t offset, const void *from, uint64_t len_bytes);

/* Somebody is told that this is durable. */
void lines_claim(struct sim_medium *m, uint64_t offset, uint64_t len_bytes);
void lines_claim_all(struct sim_medium *m);

/* A bit has flipped in view; in base, too, if its word is clean. */
void lines_flip_base(struct sim_medium *m, uint64_t bit);

/* A whole block is what it is now, durably. */
void lines_forget(struct sim_medium *m, uint64_t block);

/* Puts on the medium what the caches still bring there; the view is the caller's. */
void lines_cut(struct sim_medium *m, uint64_t choice);
void lines_check(const struct sim_medium *m);

#endif
