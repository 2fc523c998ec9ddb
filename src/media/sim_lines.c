/* sim_lines.c - a cache-line shadow of persistent memory.
 *
 * Purpose: to know what a cut leaves of stores that were not flushed and fenced, and to give account of them: of
 * what was called durable and was not (missing), and of what was flushed for nothing.
 *
 * view is what loads find, base what is durable (sim_medium.h). A word (8 bytes, what a store puts there
 * whole) of view that base may lack is in a block of the list:
 *
 *   clean ──store──▶ dirty ──flush of its line──▶ flushed ──fence──▶ clean, base has it
 *   any ──non-temporal store──▶ flushed            flushed ──store──▶ dirty
 *
 * A cut leaves each line that is not clean as base has it, as view has it, or torn between both word by word:
 * a cache may write a line back whenever it likes, in any order. (Of a word that is stored twice before
 * a fence, the first value is never what is left.)
 *
 * Missing is counted when somebody is told that bytes are durable, once for each word that is not clean then. For nothing is the
 * flush of a line of which nothing is dirty, and a fence with nothing to wait for.
 *
 * Invariants:
 *   1. A word is dirty, or flushed, or neither; a block of the list has one that is not clean.
 *   2. A clean word is the same in view and base.
 */
#include "sim_lines.h"

#include "../base/assert.h"
#include <stdlib.h>
#include <string.h>

#define LINE_WORDS (DEVICE_LINE_BYTES / SIM_WORD_BYTES)

/* ---- life ---- */

void lines_init(struct sim_medium *m)
{
	m->lines = calloc(1, sizeof(*m->lines));
	quire_assert(m->lines != NULL);
	m->lines->shadow.missing_at = m->lines->shadow.wasted_at = UINT64_MAX;
}

void lines_copy_all(struct sim_medium *ret, const struct sim_medium *m)
{
	lines_init(ret);
	ret->lines->n = ret->lines->capacity = m->lines->n;
	ret->lines->blocks = malloc((m->lines->n + 1) * sizeof(*m->lines->blocks));
	quire_assert(ret->lines->blocks != NULL);
	if (m->lines->n != 0)
		memcpy(ret->lines->blocks, m->lines->blocks, m->lines->n * sizeof(*m->lines->blocks));
}

void lines_fini(struct sim_medium *m)
{
	if (m->lines != NULL)
		free(m->lines->blocks);
	free(m->lines);
	m->lines = NULL;
}

/* ---- the list ---- */

static struct sim_lines_block *find(const struct sim_medium *m, uint64_t block)
{
	for (uint32_t i = m->lines->n; i-- > 0;) {
		if (m->lines->blocks[i].block == block)
			return &m->lines->blocks[i];
	}
	return NULL;
}

static struct sim_lines_block *find_or_add(struct sim_medium *m, uint64_t block)
{
	struct sim_lines *l = m->lines;
	struct sim_lines_block *b = find(m, block);

	if (b != NULL)
		return b;
	if (l->n == l->capacity) {
		l->capacity = 2 * l->capacity + 4;
		l->blocks = reallocarray(l->blocks, l->capacity, sizeof(*l->blocks));
		quire_assert(l->blocks != NULL);
	}
	b = &l->blocks[l->n++];
	memset(b, 0, sizeof(*b));
	b->block = block;
	return b;
}

void lines_forget(struct sim_medium *m, uint64_t block)
{
	struct sim_lines_block *b = find(m, block);

	if (b != NULL)
		*b = m->lines->blocks[--m->lines->n];
}

/* b may be NULL. word: of the block. */
static bool word_is_clean(const struct sim_lines_block *b, uint64_t word)
{
	uint64_t line = word / LINE_WORDS;

	return b == NULL || !((b->dirty[line] | b->flushed[line]) >> word % LINE_WORDS & 1);
}

void lines_flip_base(struct sim_medium *m, uint64_t bit)
{
	uint64_t block = bit / 8 / SIM_BLOCK_BYTES;

	if (!word_is_clean(find(m, block), bit / 8 % SIM_BLOCK_BYTES / SIM_WORD_BYTES))
		return;
	struct sim_block *flipped = medium_block_of(m, medium_bytes_of(sim_map_get(&m->base, block)));
	flipped->data[bit / 8 % SIM_BLOCK_BYTES] ^= (unsigned char)(1u << bit % 8);
	sim_map_set(&m->base, m->pool, block, flipped, sim_map_is_written(&m->base, block), sim_map_since(&m->base, block));
}

static bool is_clean(const struct sim_lines_block *b)
{
	static const uint8_t none[SIM_BLOCK_LINES];

	return memcmp(b->dirty, none, sizeof(none)) == 0 && memcmp(b->flushed, none, sizeof(none)) == 0;
}

/* ---- stores ---- */

/* A part of one block. */
static void store_in(struct sim_medium *m, uint64_t offset, const void *from, uint64_t len_bytes, bool past)
{
	uint64_t block = offset / SIM_BLOCK_BYTES, in_block = offset % SIM_BLOCK_BYTES;
	struct sim_lines_block *b = find_or_add(m, block);
	struct sim_block *data = medium_block_of(m, medium_bytes_of(sim_map_get(&m->view, block)));

	memcpy(data->data + in_block, from, len_bytes);
	medium_set_view(m, block, data, true, ++m->n_changes);
	for (uint64_t at = in_block; at < in_block + len_bytes; at += SIM_WORD_BYTES) {
		uint8_t bit = (uint8_t)(1u << at % DEVICE_LINE_BYTES / SIM_WORD_BYTES);
		uint8_t *to = past ? b->flushed : b->dirty, *from_there = past ? b->dirty : b->flushed;
		to[at / DEVICE_LINE_BYTES] |= bit;
		from_there[at / DEVICE_LINE_BYTES] &= (uint8_t)~bit;
	}
	m->lines->shadow.n_stored_bytes += len_bytes;
}

static void store(struct sim_medium *m, uint64_t offset, const void *from, uint64_t len_bytes, bool past)
{
	quire_assert((offset | len_bytes) % SIM_WORD_BYTES == 0);
	for (uint64_t done = 0; done < len_bytes;) {
		uint64_t n = SIM_BLOCK_BYTES - (offset + done) % SIM_BLOCK_BYTES;
		if (n > len_bytes - done)
			n = len_bytes - done;
		store_in(m, offset + done, (const char *)from + done, n, past);
		done += n;
	}
}

void lines_store(struct sim_medium *m, uint64_t offset, const void *from, uint64_t len_bytes)
{
	store(m, offset, from, len_bytes, false);
}

void lines_store_past(struct sim_medium *m, uint64_t offset, const void *from, uint64_t len_bytes)
{
	store(m, offset, from, len_bytes, true);
}

static void store_and_flush(struct sim_medium *m, uint64_t offset, const void *from, uint64_t len_bytes)
{
	if (len_bytes == 0)
		return;
	lines_store(m, offset, from, len_bytes);
	lines_flush(m, offset, len_bytes);
}

void lines_copy(struct sim_medium *m, uint64_t offset, const void *from, uint64_t len_bytes)
{
	uint64_t head = -offset % DEVICE_LINE_BYTES;

	if (head > len_bytes)
		head = len_bytes;
	uint64_t tail = (len_bytes - head) % DEVICE_LINE_BYTES, body = len_bytes - head - tail;
	store_and_flush(m, offset, from, head);
	lines_store_past(m, offset + head, (const char *)from + head, body);
	store_and_flush(m, offset + head + body, (const char *)from + head + body, tail);
}

/* ---- flushes and fences ---- */

void lines_flush(struct sim_medium *m, uint64_t offset, uint64_t len_bytes)
{
	uint64_t first = offset / DEVICE_LINE_BYTES, end = (offset + len_bytes + DEVICE_LINE_BYTES - 1) / DEVICE_LINE_BYTES;
	struct sim_shadow *shadow = &m->lines->shadow;

	for (uint64_t line = first; line < end; line++) {
		struct sim_lines_block *b = find(m, line / SIM_BLOCK_LINES);
		uint64_t i = line % SIM_BLOCK_LINES;
		shadow->n_flushed_lines++;
		if (b == NULL || b->dirty[i] == 0) {
			if (shadow->n_wasted_flushes++ == 0)
				shadow->wasted_at = line * DEVICE_LINE_BYTES;
			continue;
		}
		b->flushed[i] |= b->dirty[i];
		b->dirty[i] = 0;
	}
}

static void copy_words(unsigned char *to, const unsigned char *from, unsigned line, uint8_t words)
{
	for (unsigned i = 0; i < LINE_WORDS; i++) {
		size_t at = line * DEVICE_LINE_BYTES + i * SIM_WORD_BYTES;
		if (words >> i & 1)
			memcpy(to + at, from + at, SIM_WORD_BYTES);
	}
}

/* Gives base these words of view. */
static void settle(struct sim_medium *m, uint64_t block, const uint8_t words[SIM_BLOCK_LINES])
{
	const unsigned char *view = medium_bytes_of(sim_map_get(&m->view, block));
	struct sim_block *b = medium_block_of(m, medium_bytes_of(sim_map_get(&m->base, block)));

	for (unsigned i = 0; i < SIM_BLOCK_LINES; i++)
		copy_words(b->data, view, i, words[i]);
	sim_map_set(&m->base, m->pool, block, b, true, ++m->n_changes);
}

void lines_fence(struct sim_medium *m)
{
	struct sim_lines *l = m->lines;
	bool any = false;

	l->shadow.n_fences++;
	for (uint32_t i = 0; i < l->n;) {
		struct sim_lines_block *b = &l->blocks[i];
		for (unsigned line = 0; line < SIM_BLOCK_LINES; line++)
			any |= b->flushed[line] != 0;
		settle(m, b->block, b->flushed);
		memset(b->flushed, 0, sizeof(b->flushed));
		if (is_clean(b))
			*b = l->blocks[--l->n];
		else
			i++;
	}
	l->shadow.n_wasted_fences += !any;
}

/* ---- the account ---- */

static void count_missing(struct sim_medium *m, uint64_t offset)
{
	struct sim_shadow *shadow = &m->lines->shadow;

	if (shadow->n_missing_bytes == 0 || offset < shadow->missing_at)
		shadow->missing_at = offset;
	shadow->n_missing_bytes += SIM_WORD_BYTES;
}

void lines_claim(struct sim_medium *m, uint64_t offset, uint64_t len_bytes)
{
	for (uint32_t i = 0; i < m->lines->n; i++) {
		const struct sim_lines_block *b = &m->lines->blocks[i];
		for (unsigned word = 0; word < SIM_BLOCK_LINES * LINE_WORDS; word++) {
			uint64_t at = b->block * SIM_BLOCK_BYTES + word * SIM_WORD_BYTES;
			if (at >= offset && at - offset < len_bytes && !word_is_clean(b, word))
				count_missing(m, at);
		}
	}
}

void lines_claim_all(struct sim_medium *m)
{
	lines_claim(m, 0, UINT64_MAX);
}

/* ---- the power goes ---- */

/* Which of these words of a line arrive. `kept`, `torn`: of 16. */
static uint8_t arrives(uint8_t words, unsigned kept, unsigned torn, uint64_t *random)
{
	uint64_t r = sim_random(random);

	if (r % 16 < kept)
		return words;
	return r % 16 < kept + torn ? words & (uint8_t)(r >> 8) : 0;
}

void lines_cut(struct sim_medium *m, uint64_t choice)
{
	static const uint8_t moods[4][2] = {{1, 2}, {13, 2}, {6, 4}, {2, 12}};
	uint64_t random = choice;
	const uint8_t *mood = moods[sim_random(&random) % 4];

	for (uint32_t i = 0; i < m->lines->n; i++) {
		const struct sim_lines_block *b = &m->lines->blocks[i];
		uint8_t words[SIM_BLOCK_LINES];
		for (unsigned line = 0; line < SIM_BLOCK_LINES; line++) {
			uint8_t open = b->dirty[line] | b->flushed[line];
			words[line] = choice == 0 ? 0 : choice == 1 ? open : arrives(open, mood[0], mood[1], &random);
		}
		settle(m, b->block, words);
	}
	m->lines->n = 0;
}

/* ---- invariants ---- */

static void check_block(const struct sim_medium *m, uint64_t block)
{
	const unsigned char *view = medium_bytes_of(sim_map_get(&m->view, block));
	const unsigned char *base = medium_bytes_of(sim_map_get(&m->base, block));
	const struct sim_lines_block *b = find(m, block);

	for (unsigned word = 0; word < SIM_BLOCK_LINES * LINE_WORDS; word++) {
		unsigned at = word * SIM_WORD_BYTES;
		quire_assert(!word_is_clean(b, word) || memcmp(view + at, base + at, SIM_WORD_BYTES) == 0); /* 2 */
	}
	for (unsigned line = 0; b != NULL && line < SIM_BLOCK_LINES; line++)
		quire_assert((b->dirty[line] & b->flushed[line]) == 0); /* 1 */
	quire_assert(b == NULL || !is_clean(b));
}

void lines_check(const struct sim_medium *m)
{
	for (uint64_t at = 0; at < m->n_blocks; at++)
		check_block(m, at);
}
