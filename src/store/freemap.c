/* freemap.c - see freemap.h.
 *
 * Purpose: to find room for a million small objects and for a few long ones alike in about no time, and to
 * notice whatever is given out or back twice.
 *
 * A chunk is 32,768 units (128 MiB). One that is all free or all in use has no bits. `longest` is no less than
 * the longest free run inside it: lowered when a search has found less, raised when units are freed.
 *
 * An allocation looks (1) through the chunks, from the one where the last ended, for a run inside one;
 * (2) for runs over borders of chunks, all the way; (3) takes the longest it came by.
 *
 * Memory. Bits are made when a chunk is neither all free nor all in use, and are kept from then on until it
 * is all free again. So giving back needs memory only for a chunk that was filled in one go.
 *
 * Invariants:
 *   1. n_free is the number of zero bits; promised ≤ n_free.
 *   2. chunk.n_free counts its zero bits; without bits it is 0 or the chunk's size.
 *   3. chunk.longest ≥ its longest run of zero bits.
 */
#include "freemap.h"

#include "../base/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_UNITS 32768u
#define CHUNK_WORDS (CHUNK_UNITS / 64)

struct freemap_chunk {
	uint64_t *bits;   /* owned; NULL: all the same */
	uint32_t n_free;
	uint32_t longest; /* an upper bound */
};

/* ---- chunks ---- */

static uint32_t chunk_units(const struct freemap *sp, uint64_t c)
{
	uint64_t left = sp->n_units - c * CHUNK_UNITS;

	return left < CHUNK_UNITS ? (uint32_t)left : CHUNK_UNITS;
}

static void set_bits(uint64_t *bits, uint32_t from, uint32_t n, bool on)
{
	while (n > 0) {
		uint32_t shift = from % 64, k = 64 - shift < n ? 64 - shift : n;
		uint64_t mask = (k == 64 ? ~UINT64_C(0) : (UINT64_C(1) << k) - 1) << shift;
		if (on)
			bits[from / 64] |= mask;
		else
			bits[from / 64] &= ~mask;
		from += k;
		n -= k;
	}
}

/* The first unit from `from` on whose bit is `on`; `end` if none before. */
static uint32_t find_bit(const uint64_t *bits, uint32_t from, uint32_t end, bool on)
{
	while (from < end) {
		uint64_t word = bits[from / 64] ^ (on ? 0 : ~UINT64_C(0));
		word &= ~UINT64_C(0) << (from % 64);
		if (word != 0) {
			uint32_t at = (from & ~63u) + (uint32_t)__builtin_ctzll(word);
			return at < end ? at : end;
		}
		from = (from | 63u) + 1;
	}
	return end;
}

/* The state of a unit, and where it ends. */
static uint32_t state_end(const struct freemap *sp, uint64_t c, uint32_t from, bool *ret_used)
{
	const struct freemap_chunk *chunk = &sp->chunks[c];
	uint32_t end = chunk_units(sp, c);

	if (chunk->bits == NULL) {
		*ret_used = chunk->n_free == 0;
		return end;
	}
	*ret_used = chunk->bits[from / 64] >> (from % 64) & 1;
	return find_bit(chunk->bits, from, end, !*ret_used);
}

static int make_bits(struct freemap *sp, uint64_t c)
{
	struct freemap_chunk *chunk = &sp->chunks[c];

	if (chunk->bits != NULL)
		return 0;
	chunk->bits = calloc(CHUNK_WORDS, sizeof(uint64_t));
	if (chunk->bits == NULL)
		return -ENOMEM;
	sp->n_bytes += CHUNK_WORDS * sizeof(uint64_t);
	if (chunk->n_free == 0)
		set_bits(chunk->bits, 0, chunk_units(sp, c), true);
	return 0;
}

static void drop_bits(struct freemap *sp, struct freemap_chunk *chunk)
{
	if (chunk->bits != NULL)
		sp->n_bytes -= CHUNK_WORDS * sizeof(uint64_t);
	free(chunk->bits);
	chunk->bits = NULL;
}

/* ---- life ---- */

int freemap_init(struct freemap *sp, uint64_t n_units)
{
	*sp = (struct freemap){0};
	return freemap_grow(sp, n_units);
}

void freemap_fini(struct freemap *sp)
{
	for (uint64_t c = 0; c < sp->n_chunks; c++)
		free(sp->chunks[c].bits);
	free(sp->chunks);
	*sp = (struct freemap){0};
}

int freemap_grow(struct freemap *sp, uint64_t n_units)
{
	uint64_t n_chunks = (n_units + CHUNK_UNITS - 1) / CHUNK_UNITS;

	quire_assert(n_units >= sp->n_units);
	if (n_chunks == 0) /* a class that is not there */
		return 0;
	/* The last chunk becomes longer: its new units are free, so it can't be all the same any more. */
	if (sp->n_chunks > 0 && sp->chunks[sp->n_chunks - 1].n_free == 0 && make_bits(sp, sp->n_chunks - 1) < 0)
		return -ENOMEM;
	struct freemap_chunk *chunks = realloc(sp->chunks, n_chunks * sizeof(*chunks));
	if (chunks == NULL)
		return -ENOMEM;
	sp->chunks = chunks;
	memset(chunks + sp->n_chunks, 0, (n_chunks - sp->n_chunks) * sizeof(*chunks));
	sp->n_bytes += (n_chunks - sp->n_chunks) * sizeof(*chunks);
	uint64_t old = sp->n_units;
	sp->n_chunks = n_chunks;
	sp->n_units = n_units;
	sp->n_free += n_units - old;
	for (uint64_t c = old / CHUNK_UNITS; c < n_chunks; c++) {
		uint64_t first = c * CHUNK_UNITS > old ? c * CHUNK_UNITS : old;
		chunks[c].n_free += (uint32_t)(c * CHUNK_UNITS + chunk_units(sp, c) - first);
		chunks[c].longest = chunk_units(sp, c);
	}
	return 0;
}

/* ---- taking and giving ---- */

static bool is_all(const struct freemap *sp, uint64_t start, uint64_t n, bool used)
{
	while (n > 0) {
		uint32_t from = (uint32_t)(start % CHUNK_UNITS);
		bool is_used;
		uint64_t k = state_end(sp, start / CHUNK_UNITS, from, &is_used) - from;
		if (is_used != used)
			return false;
		k = k < n ? k : n;
		start += k;
		n -= k;
	}
	return true;
}

static bool in_range(const struct freemap *sp, uint64_t start, uint64_t n)
{
	return start <= sp->n_units && n <= sp->n_units - start;
}

/* Bits for all chunks that the range covers in part. */
static int make_range_bits(struct freemap *sp, uint64_t start, uint64_t n)
{
	for (uint64_t c = start / CHUNK_UNITS; n > 0 && c * CHUNK_UNITS < start + n; c++) {
		bool whole = c * CHUNK_UNITS >= start && c * CHUNK_UNITS + chunk_units(sp, c) <= start + n;
		if (!whole && make_bits(sp, c) < 0)
			return -ENOMEM;
	}
	return 0;
}

static void mark_part(struct freemap *sp, uint64_t c, uint32_t from, uint32_t n, bool used)
{
	struct freemap_chunk *chunk = &sp->chunks[c];

	if (chunk->bits != NULL)
		set_bits(chunk->bits, from, n, used);
	if (used) {
		chunk->n_free -= n;
		if (chunk->longest > chunk->n_free)
			chunk->longest = chunk->n_free;
		return;
	}
	chunk->n_free += n;
	if (chunk->n_free == chunk_units(sp, c)) {
		drop_bits(sp, chunk);
		chunk->longest = chunk->n_free;
	} else {
		uint64_t longest = (uint64_t)chunk->longest * 2 + n; /* joins its neighbours at most */
		chunk->longest = longest < chunk->n_free ? (uint32_t)longest : chunk->n_free;
	}
}

static void mark(struct freemap *sp, uint64_t start, uint64_t n, bool used)
{
	sp->n_free = used ? sp->n_free - n : sp->n_free + n;
	while (n > 0) {
		uint64_t c = start / CHUNK_UNITS;
		uint32_t from = (uint32_t)(start % CHUNK_UNITS), left = chunk_units(sp, c) - from;
		uint32_t k = left < n ? left : (uint32_t)n;
		mark_part(sp, c, from, k, used);
		start += k;
		n -= k;
	}
}

int freemap_take(struct freemap *sp, uint64_t start, uint64_t n)
{
	if (!in_range(sp, start, n) || !is_all(sp, start, n, false))
		return -EUCLEAN;
	if (make_range_bits(sp, start, n) < 0)
		return -ENOMEM;
	mark(sp, start, n, true);
	return 0;
}

int freemap_give(struct freemap *sp, uint64_t start, uint64_t n)
{
	if (!in_range(sp, start, n) || !is_all(sp, start, n, true))
		return -EUCLEAN;
	if (make_range_bits(sp, start, n) < 0)
		return -ENOMEM;
	mark(sp, start, n, false);
	return 0;
}

/* ---- finding ---- */

struct finding {
	uint64_t want, align;
	uint64_t start, n; /* the best so far */
};

static bool offer(struct finding *f, uint64_t start, uint64_t n)
{
	uint64_t skip = (f->align - start % f->align) % f->align;

	if (n <= skip || n - skip <= f->n)
		return false;
	f->start = start + skip;
	f->n = n - skip < f->want ? n - skip : f->want;
	return f->n == f->want;
}

/* Runs inside chunk c, from a unit of it on. */
static bool search_chunk(struct freemap *sp, uint64_t c, uint32_t from, struct finding *f)
{
	struct freemap_chunk *chunk = &sp->chunks[c];
	uint32_t end = chunk_units(sp, c), longest = 0, begin = from;

	if (chunk->n_free == 0 || chunk->longest < f->want)
		return false;
	while (from < end) {
		bool used;
		uint32_t next = state_end(sp, c, from, &used);
		if (!used && next - from > longest)
			longest = next - from;
		if (!used && offer(f, c * CHUNK_UNITS + from, next - from))
			return true;
		from = next;
	}
	if (begin == 0)
		chunk->longest = longest;
	return false;
}

static bool search_inside(struct freemap *sp, uint64_t from, struct finding *f)
{
	uint64_t first = from / CHUNK_UNITS;

	if (f->want > CHUNK_UNITS || first >= sp->n_chunks)
		first = 0;
	if (f->want > CHUNK_UNITS)
		return false;
	if (search_chunk(sp, first, (uint32_t)(from % CHUNK_UNITS), f))
		return true;
	for (uint64_t i = 1; i <= sp->n_chunks; i++)
		if (search_chunk(sp, (first + i) % sp->n_chunks, 0, f))
			return true;
	return false;
}

/* All runs there are, over borders too. */
static void search_all(struct freemap *sp, struct finding *f)
{
	uint64_t run = 0;

	for (uint64_t c = 0; c < sp->n_chunks; c++) {
		uint32_t end = chunk_units(sp, c);
		for (uint32_t from = 0; from < end;) {
			bool used;
			uint32_t next = state_end(sp, c, from, &used);
			run = used ? 0 : run + (next - from);
			if (!used && offer(f, c * CHUNK_UNITS + next - run, run))
				return;
			from = next;
		}
	}
}

uint64_t freemap_available(const struct freemap *sp, unsigned flags)
{
	uint64_t kept = flags & FREEMAP_PRIVILEGED ? 0 : sp->n_held + (flags & FREEMAP_PLEDGED ? 0 : sp->n_pledged);

	kept = flags & FREEMAP_PROMISED ? 0 : sp->n_promised + kept;

	return sp->n_free > kept ? sp->n_free - kept : 0;
}

int freemap_alloc(struct freemap *sp, uint64_t want, uint64_t align, unsigned flags, uint64_t *ret_start,
                uint64_t *ret_n)
{
	struct finding f = {.want = want, .align = align};

	quire_assert(want > 0 && align > 0);
	if (freemap_available(sp, flags) < want)
		return -ENOSPC;
	if (sp->cursor >= sp->n_units)
		sp->cursor = 0;
	bool first = (flags & FREEMAP_PRIVILEGED) != 0;
	if (!search_inside(sp, first ? 0 : sp->cursor, &f))
		search_all(sp, &f);
	if (f.n == 0 || (flags & FREEMAP_WHOLE && f.n < want))
		return -ENOSPC;
	int rc = freemap_take(sp, f.start, f.n);
	if (rc < 0)
		return rc;
	if (flags & FREEMAP_PROMISED) {
		quire_assert(sp->n_promised >= f.n);
		sp->n_promised -= f.n;
	}
	sp->cursor = first ? sp->cursor : f.start + f.n;
	*ret_start = f.start;
	*ret_n = f.n;
	return 0;
}

int freemap_promise(struct freemap *sp, uint64_t n, unsigned flags)
{
	if (freemap_available(sp, flags) < n)
		return -ENOSPC;
	sp->n_promised += n;
	return 0;
}

void freemap_unpromise(struct freemap *sp, uint64_t n)
{
	quire_assert(sp->n_promised >= n);
	sp->n_promised -= n;
}

/* ---- checking ---- */

bool freemap_check(const struct freemap *sp)
{
	uint64_t n_free = 0;

	for (uint64_t c = 0; c < sp->n_chunks; c++) {
		const struct freemap_chunk *chunk = &sp->chunks[c];
		uint32_t end = chunk_units(sp, c), n = 0, longest = 0;
		for (uint32_t from = 0; from < end;) {
			bool used;
			uint32_t next = state_end(sp, c, from, &used);
			n += used ? 0 : next - from;
			if (!used && next - from > longest)
				longest = next - from;
			from = next;
		}
		if (n != chunk->n_free || chunk->longest < longest)
			return false;
		n_free += n;
	}
	return n_free == sp->n_free && sp->n_promised <= sp->n_free;
}
