/* sim_cut.c - the end of what is under way: the process dies, or the power goes. See sim_medium.c. */
#include "sim_lines.h"
#include "sim_tear.h"

#include "../base/assert.h"
#include <stdlib.h>

void medium_capture(struct sim_medium *m, uint64_t block, uint64_t n, const void *data)
{
	uint64_t number = ++m->n_changes;
	for (uint64_t i = 0; i < n; i++) {
		struct sim_block *b = data == NULL ? NULL : medium_block_of(m, (const char *)data + i * SIM_BLOCK_BYTES);
		medium_push(m, block + i, b, number, PEND_UNDER_WAY | (data == NULL ? PEND_DISCARD : 0));
	}
}

void medium_capture_stores(struct sim_medium *m, uint64_t offset, uint64_t len_bytes, const void *data)
{
	uint64_t r = sim_random(&m->random), n_words = len_bytes / SIM_WORD_BYTES;

	lines_store_past(m, offset, data, (r % 3 == 0 ? n_words : (r >> 8) % (n_words + 1)) * SIM_WORD_BYTES);
}

struct settling {
	uint64_t number;
	uint64_t n_blocks; /* of the change `number`, that arrived; from its first on */
};

static bool settle_one(struct sim_medium *m, struct sim_pend *p, void *arg)
{
	struct settling *s = arg;
	if (!(p->flags & PEND_UNDER_WAY))
		return true;
	if (p->number != s->number) {
		uint64_t r = sim_random(&m->random);
		s->number = p->number;
		s->n_blocks = r % 3 == 0 ? 0 : r % 3 == 1 ? UINT64_MAX : (r >> 8) % 16;
	}
	if (s->n_blocks == 0)
		return false;
	s->n_blocks--;
	p->flags &= ~(uint32_t)PEND_UNDER_WAY;
	medium_set_view(m, p->block, sim_block_ref(p->data), !(p->flags & PEND_DISCARD), p->number);
	return true;
}

void medium_settle(struct sim_medium *m)
{
	struct settling s = {0};
	medium_sweep(m, settle_one, &s);
}

struct change {
	uint32_t first, n; /* pends */
};

/* Changes in the order in which the medium gets them: done ones as they were done, those under way in
 * any order. Returns how many; *ret is the caller's to free. */
static uint32_t changes_in_order(const struct sim_medium *m, struct change **ret, uint64_t *random)
{
	struct change *changes = malloc((m->n_pends + 1) * sizeof(*changes));
	uint32_t n = 0, n_done = 0;
	quire_assert(changes != NULL);
	for (uint32_t i = 0; i < m->n_pends; i++) {
		if (i > 0 && m->pends[i].number == m->pends[i - 1].number) {
			changes[n - 1].n++;
			continue;
		}
		changes[n++] = (struct change){.first = i, .n = 1};
		n_done += !(m->pends[i].flags & PEND_UNDER_WAY);
	}
	for (uint32_t i = n; i > n_done + 1; i--) {
		uint32_t other = n_done + (uint32_t)(sim_random(random) % (i - n_done));
		struct change swapped = changes[i - 1];
		changes[i - 1] = changes[other];
		changes[other] = swapped;
	}
	*ret = changes;
	return n;
}

static void cut_one(struct sim_medium *m, const struct change *c, const struct sim_part *part, uint64_t *random)
{
	for (uint32_t i = 0; i < c->n; i++) {
		const struct sim_pend *p = &m->pends[c->first + i];
		if (medium_is_void(m, p) || part->tear == TEAR_NONE)
			continue;
		struct sim_block *old = sim_map_get(&m->base, p->block);
		if (p->flags & PEND_DISCARD)
			medium_set_base(m, p, sim_discarded(m, old, random), p->number);
		else
			medium_set_base(m, p, sim_mix(m, part, i, old, p->data->data), sim_map_since(&m->base, p->block));
	}
}

/* How a cut treats changes on the whole, so that many are lost, or kept, together. */
struct mood {
	unsigned torn, kept; /* of 16; the rest is lost */
};

static struct sim_part part_in_mood(const struct sim_medium *m, const struct mood *mood, uint64_t n_blocks,
                                    uint64_t *random)
{
	unsigned r = (unsigned)(sim_random(random) % 16);
	if (r < mood->torn)
		return sim_part_torn(m, n_blocks, random);
	return (struct sim_part){.tear = r < mood->torn + mood->kept ? TEAR_ALL : TEAR_NONE, .step = SIM_BLOCK_SECTORS};
}

static void cut_pends(struct sim_medium *m, uint64_t choice)
{
	static const struct mood moods[] = {{2, 1}, {2, 13}, {4, 6}, {12, 2}};
	uint64_t random = choice;
	const struct mood *mood = &moods[sim_random(&random) % 4];
	struct change *changes;
	uint32_t n = changes_in_order(m, &changes, &random);
	uint32_t n_kept = choice == 0 ? 0 : choice == 1 ? n : (uint32_t)(sim_random(&random) % (n + 1));

	for (uint32_t i = 0; i < n; i++) {
		struct sim_part part = {.tear = i < n_kept ? TEAR_ALL : TEAR_NONE, .step = SIM_BLOCK_SECTORS};
		if (choice > 1 && m->ordered && i == n_kept)
			part = sim_part_torn(m, changes[i].n, &random);
		else if (choice > 1 && !m->ordered)
			part = part_in_mood(m, mood, changes[i].n, &random);
		cut_one(m, &changes[i], &part, &random);
	}
	free(changes);
	medium_forget_pends(m);
}

void medium_cut(struct sim_medium *m, uint64_t choice)
{
	if (m->lines != NULL)
		lines_cut(m, choice);
	else
		cut_pends(m, choice);
	sim_map_fini(&m->view, m->pool);
	sim_map_copy(&m->view, &m->base);
	m->n_written = sim_map_n_written(&m->view);
}
