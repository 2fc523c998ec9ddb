/* freemap.h - which units of a class are in use: a bitmap in chunks, all in memory, rebuilt by replay.
 *
 * Not thread-safe: the owner locks. Memory: 16 bytes for each 128 MiB of the class, and 4 KiB
 * more for those that are neither all free nor all in use.
 */
#ifndef STORE_FREEMAP_H
#define STORE_FREEMAP_H

#include <stdbool.h>
#include <stdint.h>

struct freemap_chunk;

struct freemap {
	struct freemap_chunk *chunks; /* owned */
	uint64_t n_chunks, n_units;
	uint64_t n_free;
	uint64_t n_promised;  /* of the free ones: for who will ask with `promised` */
	uint64_t n_held;      /* of the free ones: kept for who asks with `privileged` */
	uint64_t n_pledged;   /* the same for who asks with `pledged`; may be more than are free: then what is given back is kept, too */
	uint64_t cursor;      /* where the last allocation ended */
	uint64_t n_bytes;     /* of memory */
};

int freemap_init(struct freemap *sp, uint64_t n_units); /* -ENOMEM */
void freemap_fini(struct freemap *sp);
int freemap_grow(struct freemap *sp, uint64_t n_units); /* -ENOMEM, nothing changed */

/* Marks a range as in use, as a replay says. -EUCLEAN: part of it is already, or beyond the end; -ENOMEM. */
int freemap_take(struct freemap *sp, uint64_t start, uint64_t n);

/* Marks it as free. -EUCLEAN: part of it is, or beyond the end; -ENOMEM: it stays in use. */
int freemap_give(struct freemap *sp, uint64_t start, uint64_t n);

enum freemap_flags {
	FREEMAP_PROMISED = 1,   /* out of what was promised */
	FREEMAP_PRIVILEGED = 2, /* may take what is held back */
	FREEMAP_WHOLE = 4,      /* all in one, or -ENOSPC */
	FREEMAP_PLEDGED = 8,    /* may take what is pledged */
};

/* A run of free units, of `want` if there is one as long, else the longest there is; the first multiple of align
 * (a power of two) in it. Behind the last one, if possible; `privileged`: the first there is, so that what comes and goes often, and is small, stays
 * together, and long runs long. -ENOSPC: fewer than want are free for
 * the asker; -ENOMEM. */
int freemap_alloc(struct freemap *sp, uint64_t want, uint64_t align, unsigned flags, uint64_t *ret_start,
                uint64_t *ret_n);

/* n more units are promised: later allocations of that many with FREEMAP_PROMISED find them. Flags as for those. -ENOSPC. */
int freemap_promise(struct freemap *sp, uint64_t n, unsigned flags);
void freemap_unpromise(struct freemap *sp, uint64_t n);

uint64_t freemap_available(const struct freemap *sp, unsigned flags);

bool freemap_check(const struct freemap *sp); /* counts agree with bits */

#endif
