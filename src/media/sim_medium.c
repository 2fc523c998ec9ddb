/* sim_medium.c - a medium with a volatile cache before it.
 *
 * base is what is durable. view is what reads find: base with every change on it that was done. pends
 * is the difference, a block an entry, in the order in which the changes were done. So
 *   - a durable write goes to view and base and leaves no entry;
 *   - another write goes to view and leaves an entry for each block;
 *   - a flush takes entries to base;
 *   - a cut takes some entries, or some sectors of them, to base, and makes view the same as base.
 * base remembers for each block the number of the change that made it (since). An entry that is older is
 * void: a durable write to a block ends what earlier ones could still do there.
 *
 * Invariants:
 *   1. Entries are sorted by number, entries under way behind all that are done.
 *   2. Entries of one change have one number and stand together.
 *   3. A block of view differs from that of base only if there is an entry for it that is not void.
 *
 * A forgotten entry is one that a failed flush let go, as Linux does: reads find it, no flush will
 * make it durable.
 *
 * The cache is bounded: beyond MAX_PENDS entries it puts the older half on the medium by itself.
 */
#include "sim_lines.h"
#include "sim_shown.h"
#include "sim_tear.h"

#include "../base/assert.h"
#include <stdlib.h>
#include <string.h>

#define MAX_PENDS 65536u

uint64_t sim_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* ---- life ---- */

void medium_init(struct sim_medium *m, struct sim_pool *pool, uint64_t n_blocks, uint64_t seed)
{
	memset(m, 0, sizeof(*m));
	m->pool = pool;
	m->n_blocks = n_blocks;
	m->random = seed;
	sim_map_init(&m->base, n_blocks);
	sim_map_init(&m->view, n_blocks);
}

void medium_copy(struct sim_medium *ret, const struct sim_medium *m, uint64_t seed)
{
	*ret = *m;
	ret->shown = NULL;
	ret->random = seed;
	sim_map_copy(&ret->base, &m->base);
	sim_map_copy(&ret->view, &m->view);
	if (m->lines != NULL)
		lines_copy_all(ret, m);
	ret->pends_capacity = m->n_pends;
	ret->pends = malloc((m->n_pends + 1) * sizeof(*m->pends));
	quire_assert(ret->pends != NULL);
	for (uint32_t i = 0; i < m->n_pends; i++) {
		ret->pends[i] = m->pends[i];
		sim_block_ref(m->pends[i].data);
	}
}

void medium_forget_pends(struct sim_medium *m)
{
	for (uint32_t i = 0; i < m->n_pends; i++)
		sim_block_unref(m->pool, m->pends[i].data);
	m->n_pends = 0;
}

void medium_fini(struct sim_medium *m)
{
	shown_end(m);
	lines_fini(m);
	medium_forget_pends(m);
	free(m->pends);
	sim_map_fini(&m->base, m->pool);
	sim_map_fini(&m->view, m->pool);
}

void medium_grow(struct sim_medium *m, uint64_t n_blocks)
{
	sim_map_grow(&m->base, n_blocks);
	sim_map_grow(&m->view, n_blocks);
	m->n_blocks = n_blocks;
}

/* ---- blocks of both maps ---- */

/* Takes over the reference. */
void medium_set_view(struct sim_medium *m, uint64_t at, struct sim_block *block, bool written, uint64_t number)
{
	m->n_written += written;
	m->n_written -= sim_map_is_written(&m->view, at);
	sim_map_set(&m->view, m->pool, at, block, written, number);
	shown_update(m, at);
}

void medium_set_base(struct sim_medium *m, const struct sim_pend *p, struct sim_block *block, uint64_t number)
{
	sim_map_set(&m->base, m->pool, p->block, block, !(p->flags & PEND_DISCARD), number);
}

bool medium_is_void(const struct sim_medium *m, const struct sim_pend *p)
{
	return sim_map_since(&m->base, p->block) > p->number;
}

struct sim_block *medium_block_of(struct sim_medium *m, const void *data)
{
	struct sim_block *block = sim_block_new(m->pool);
	memcpy(block->data, data, SIM_BLOCK_BYTES);
	return block;
}

const unsigned char *medium_bytes_of(const struct sim_block *block)
{
	static const unsigned char zeros[SIM_BLOCK_BYTES];
	return block == NULL ? zeros : block->data;
}

/* Takes over the reference. */
void medium_push(struct sim_medium *m, uint64_t at, struct sim_block *data, uint64_t number, uint32_t flags)
{
	if (m->n_pends == m->pends_capacity) {
		m->pends_capacity = m->pends_capacity == 0 ? 64 : m->pends_capacity * 2;
		m->pends = realloc(m->pends, m->pends_capacity * sizeof(*m->pends));
		quire_assert(m->pends != NULL);
	}
	m->pends[m->n_pends++] =
		(struct sim_pend){.number = number, .data = data, .block = (uint32_t)at, .flags = flags};
}

/* ---- done ---- */

void medium_read(const struct sim_medium *m, uint64_t offset, void *buf, uint64_t len_bytes)
{
	for (uint64_t done = 0; done < len_bytes;) {
		uint64_t in_block = (offset + done) % SIM_BLOCK_BYTES, n = SIM_BLOCK_BYTES - in_block;
		if (n > len_bytes - done)
			n = len_bytes - done;
		const struct sim_block *block = sim_map_get(&m->view, (offset + done) / SIM_BLOCK_BYTES);
		memcpy((char *)buf + done, medium_bytes_of(block) + in_block, n);
		done += n;
	}
}

static void write_back_half(struct sim_medium *m)
{
	if (m->n_pends > MAX_PENDS)
		medium_flush(m, m->pends[m->n_pends / 2].number);
}

void medium_write(struct sim_medium *m, uint64_t block, uint64_t n, const void *data, bool durable)
{
	uint64_t number = ++m->n_changes;
	for (uint64_t i = 0; i < n; i++) {
		struct sim_block *b = medium_block_of(m, (const char *)data + i * SIM_BLOCK_BYTES);
		medium_set_view(m, block + i, sim_block_ref(b), true, number);
		if (durable)
			sim_map_set(&m->base, m->pool, block + i, b, true, number);
		else
			medium_push(m, block + i, b, number, 0);
	}
	write_back_half(m);
}

void medium_write_torn(struct sim_medium *m, uint64_t block, uint64_t n, const void *data)
{
	uint64_t number = ++m->n_changes;
	struct sim_part part = sim_part_torn(m, n, &m->random);
	for (uint64_t i = 0; i < n; i++) {
		struct sim_block *old = sim_map_get(&m->view, block + i);
		struct sim_block *b = sim_mix(m, &part, i, old, (const char *)data + i * SIM_BLOCK_BYTES);
		if (b == old) {
			sim_block_unref(m->pool, b);
			continue;
		}
		medium_set_view(m, block + i, sim_block_ref(b), true, number);
		medium_push(m, block + i, b, number, 0);
	}
	write_back_half(m);
}

void medium_discard(struct sim_medium *m, uint64_t block, uint64_t n)
{
	uint64_t number = ++m->n_changes;
	for (uint64_t i = 0; i < n; i++) {
		struct sim_block *b = sim_discarded(m, sim_map_get(&m->view, block + i), &m->random);
		medium_set_view(m, block + i, sim_block_ref(b), false, number);
		medium_push(m, block + i, b, number, PEND_DISCARD);
	}
	write_back_half(m);
}

uint64_t medium_room(const struct sim_medium *m, uint64_t block, uint64_t n, uint64_t capacity)
{
	uint64_t n_written = m->n_written;
	for (uint64_t i = 0; i < n; i++) {
		if (sim_map_is_written(&m->view, block + i))
			continue;
		if (n_written >= capacity)
			return i;
		n_written++;
	}
	return n;
}

/* ---- flushed ---- */

void medium_sweep(struct sim_medium *m, bool (*keep)(struct sim_medium *, struct sim_pend *, void *), void *arg)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < m->n_pends; i++) {
		struct sim_pend p = m->pends[i];
		if (keep(m, &p, arg))
			m->pends[n++] = p;
		else
			sim_block_unref(m->pool, p.data);
	}
	m->n_pends = n;
}

static bool flush_one(struct sim_medium *m, struct sim_pend *p, void *upto)
{
	if (p->number > *(uint64_t *)upto || (p->flags & PEND_UNDER_WAY))
		return true;
	if (medium_is_void(m, p))
		return false;
	if (p->flags & PEND_FORGOTTEN)
		return true;
	medium_set_base(m, p, sim_block_ref(p->data), p->number);
	return false;
}

void medium_flush(struct sim_medium *m, uint64_t upto)
{
	medium_sweep(m, flush_one, &upto);
}

struct failing {
	uint64_t upto, number;
	uint64_t outcome; /* of the change `number` */
};

static bool flush_one_failing(struct sim_medium *m, struct sim_pend *p, void *arg)
{
	struct failing *f = arg;
	if (p->number > f->upto)
		return true;
	if (p->number != f->number) {
		f->number = p->number;
		f->outcome = sim_random(&m->random) % 3;
	}
	if (f->outcome == 0)
		return flush_one(m, p, &f->upto);
	if (f->outcome == 1)
		p->flags |= PEND_FORGOTTEN;
	return true;
}

void medium_flush_failed(struct sim_medium *m, uint64_t upto)
{
	struct failing f = {.upto = upto};
	medium_sweep(m, flush_one_failing, &f);
}

/* ---- beside all I/O ---- */

void medium_poke(struct sim_medium *m, uint64_t offset, const void *buf, uint64_t len_bytes)
{
	uint64_t number = ++m->n_changes;
	for (uint64_t done = 0; done < len_bytes;) {
		uint64_t at = (offset + done) / SIM_BLOCK_BYTES, in_block = (offset + done) % SIM_BLOCK_BYTES;
		uint64_t n = SIM_BLOCK_BYTES - in_block;
		if (n > len_bytes - done)
			n = len_bytes - done;
		struct sim_block *b = medium_block_of(m, medium_bytes_of(sim_map_get(&m->view, at)));
		memcpy(b->data + in_block, (const char *)buf + done, n);
		if (m->lines != NULL)
			lines_forget(m, at);
		medium_set_view(m, at, sim_block_ref(b), true, number);
		sim_map_set(&m->base, m->pool, at, b, true, number);
		done += n;
	}
}

/* On the medium, if what is there is what reads find; else in the cache, in the newest entry. */
void medium_flip(struct sim_medium *m, uint64_t bit)
{
	uint64_t at = bit / 8 / SIM_BLOCK_BYTES;
	struct sim_block *old = sim_map_get(&m->view, at);
	uint64_t since = sim_map_since(&m->view, at);
	bool written = sim_map_is_written(&m->view, at);
	struct sim_block *b = medium_block_of(m, medium_bytes_of(old));
	b->data[bit / 8 % SIM_BLOCK_BYTES] ^= (unsigned char)(1u << bit % 8);
	if (sim_map_get(&m->base, at) == old)
		sim_map_set(&m->base, m->pool, at, sim_block_ref(b), sim_map_is_written(&m->base, at),
		            sim_map_since(&m->base, at));
	else if (m->lines != NULL)
		lines_flip_base(m, bit);
	for (uint32_t i = m->n_pends; i-- > 0;) {
		struct sim_pend *p = &m->pends[i];
		if (p->block == at && p->number == since) {
			sim_block_unref(m->pool, p->data);
			p->data = sim_block_ref(b);
			break;
		}
	}
	medium_set_view(m, at, b, written, since);
}

/* ---- invariants ---- */

/* A change that was done and is not durable says why view differs from base there. */
static bool is_explained(const struct sim_medium *m, uint64_t at)
{
	for (uint32_t i = m->n_pends; i-- > 0;) {
		const struct sim_pend *p = &m->pends[i];
		if (p->block == at && !(p->flags & PEND_UNDER_WAY) && !medium_is_void(m, p))
			return true;
	}
	return false;
}

void medium_check(const struct sim_medium *m)
{
	for (uint32_t i = 0; i < m->n_pends; i++) {
		const struct sim_pend *p = &m->pends[i], *before = i == 0 ? p : p - 1;
		quire_assert(p->number != 0 && p->number <= m->n_changes && p->block < m->n_blocks);
		quire_assert(before->number <= p->number); /* 1 and 2 */
		quire_assert((before->flags & PEND_UNDER_WAY) <= (p->flags & PEND_UNDER_WAY));
		quire_assert(p->data != NULL || (p->flags & PEND_DISCARD));
	}
	if (m->lines != NULL)
		lines_check(m);
	for (uint64_t at = 0; at < m->n_blocks && m->lines == NULL; at++) /* 3 */
		quire_assert(sim_map_get(&m->view, at) == sim_map_get(&m->base, at) || is_explained(m, at));
	quire_assert(m->n_written == sim_map_n_written(&m->view));
}
