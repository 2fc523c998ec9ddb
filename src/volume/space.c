/* space.c - how many segments are free, who leaves which of them to whom, and how a writer waits for one.
 *
 *   free ── writers take any but those that are kept, and cleaning begins a few before these
 *   kept ── what cleaning fills before it frees anything, and the next checkpoint's pages
 *
 * So whoever has nothing left to write to is a writer, and the worker that cleans and makes checkpoints goes on. A writer may not wait in the log's
 * turn, which the worker needs: he is refused there (-ENOSPC), and waits outside of it, until something was freed or a round of the worker
 * is over; then he asks again, in his turn, as the others do. A round for somebody who waits is in vain if after it no writer could have a segment, and none
 * has got one. A store that has hardly anything left gives him none either, though the group may have some: it could not record that others were given back.
 * He is told that there is no space only
 *
 *   - if what he would write is more than may be live (promise.c), also when a checkpoint has counted what is; or
 *   - after some rounds in vain, one after the other; or
 *   - if the medium had none, which is the end of the log, whatever is cleaned.
 *
 * As long as less is live than may be, each round frees more than it takes: segments in which hardly anything is dead are not cleaned.
 */
#include "space.h"

#include <errno.h>

#define CLEANING_SEGMENTS 4u    /* that writers leave for it, besides what the checkpoint takes that comes after it */
#define AHEAD_SEGMENTS 2u       /* above what is kept, when cleaning begins; and this part of the class: */
#define AHEAD_PART 512u
#define TIMELY_PART 8u         /* of the class that is written between checkpoints when space is little: what they find dead need not be moved */
#define TRIES 16u                     /* rounds in vain */

static uint64_t each_bytes(const struct quire_volumes *g)
{
	return (uint64_t)format_log_extent_units(g->settings.segment_bytes) * FORMAT_UNIT_BYTES;
}

/* Segments, about: spares, and of the class; of *ret_all in it. */
static uint64_t free_segments(struct quire_volumes *g, uint64_t *ret_all)
{
	struct store_stat stat;

	store_stat(g->store, &stat);
	uint64_t left = stat.classes[g->settings.class_no].log_bytes;
	left = left > GROUP_LEFT_BYTES ? left - GROUP_LEFT_BYTES : 0;
	group_lock(g);
	uint64_t n = (g->class_has_none ? 0 : left / each_bytes(g)) + group_n_spares(g);
	group_unlock(g);
	*ret_all = stat.classes[g->settings.class_no].bytes / each_bytes(g);
	return n;
}

bool space_store_is_full(struct quire_volumes *g)
{
	struct store_stat stat;

	store_stat(g->store, &stat);
	return stat.classes[g->settings.class_no].log_bytes < GROUP_LEFT_BYTES;
}

/* ---- what is kept ---- */

/* Pages of trees. Lock held. */
static uint64_t n_pages(const struct quire_volumes *g)
{
	int64_t n = g->n_live;

	for (struct idmap_node *node = idmap_any(&g->trees); node != NULL; node = idmap_after(&g->trees, node))
		n -= ((const struct tree *)node)->n_own;
	return n > 0 ? (uint64_t)n : 0;
}

/* Each extent of a delta makes one page anew, each page is made anew once; and what is more needs more pages. A record holds some pages and
 * a head. A merge that ran out of them would leave nothing for the next one. */
uint64_t space_for_merge(struct quire_volumes *g, uint64_t n_extents)
{
	uint64_t each = g->segment_blocks / 4 * 3;

	group_lock(g);
	uint64_t n_old = n_pages(g) + g->trees.n + 16;
	group_unlock(g);
	uint64_t n = (n_extents < n_old ? n_extents : n_old) + n_extents / MAP_LEAST_LEAF_EXTENTS;
	return 2 + (n + n / 4) / each;
}

static uint64_t n_extents(struct quire_volumes *g)
{
	group_lock(g);
	uint64_t n = g->active.n_extents + g->frozen.n_extents + g->touched.n_extents;
	group_unlock(g);
	return n;
}

uint64_t space_for_checkpoint(struct quire_volumes *g)
{
	return space_for_merge(g, n_extents(g));
}

/* Also for what cleaning makes before it. */
uint64_t space_kept(struct quire_volumes *g)
{
	return space_for_merge(g, n_extents(g) + (uint64_t)CLEAN_MAX_VICTIMS * g->segment_blocks) + CLEANING_SEGMENTS;
}

/* What cleaning gains is what a victim's blocks leave of the segment that they fill: if writers had that, all that is kept would go, little by
 * little, and with it whatever could free some. */
bool space_is_writers(struct quire_volumes *g)
{
	bool of_kept = false;

	group_lock(g);
	for (unsigned i = 0; i < g->n_young; i++)
		of_kept |= g->young[i]->of_kept && (g->young[i] == g->at || g->young[i]->state == SEGMENT_NEXT);
	group_unlock(g);
	return !of_kept || group_has_spares(g, space_kept(g));
}

bool space_is_low(struct quire_volumes *g)
{
	uint64_t all, n_free = free_segments(g, &all);

	return n_free < space_kept(g) + AHEAD_SEGMENTS + all / AHEAD_PART || space_store_is_full(g);
}

bool space_wants_checkpoint(struct quire_volumes *g, bool is_stuck)
{
	uint64_t all;

	(void)free_segments(g, &all);
	bool low = space_is_low(g);
	group_lock(g);
	bool wants = (is_stuck && (g->n_emptied > 0 || g->somebody_waits)) ||
	             g->appended_bytes / g->settings.segment_bytes >= all / TIMELY_PART;
	group_unlock(g);
	return low && wants;
}

void space_clean_in_time(struct quire_volumes *g)
{
	bool low = space_is_low(g);

	if (!low)
		return;
	group_lock(g);
	worker_kick(&g->checkpointer);
	group_unlock(g);
}

/* ---- waiting ---- */

void space_round_ended(struct quire_volumes *g, uint64_t n_got_before)
{
	uint64_t all, n_free = free_segments(g, &all), kept = space_kept(g);
	bool there = n_free > kept && !space_store_is_full(g) && group_has_spares(g, kept + 1);

	group_lock(g);
	g->n_rounds += g->somebody_waits; /* else not all was done that can be */
	if (there || g->n_got != n_got_before)
		g->n_useful_rounds = g->n_rounds;
	g->n_space_news++;
	group_unlock_and_wake(g);
}

/* Something was freed, or a round is over; -ENOSPC: too many of these were in vain; or why what there may be could not be cleaned. */
static int wait_for_news(struct quire_volumes *g, struct hearing *h)
{
	group_lock(g);
	g->space_wanted = true;
	worker_kick(&g->checkpointer);
	group_unlock(g);
	int rc = wait_for(&g->waits, WAIT_SPACE, h->n_news, NULL);
	group_lock(g);
	h->n_news = g->n_space_news;
	h->since = g->n_useful_rounds > h->since ? g->n_useful_rounds : h->since;
	if (rc == 0 && g->n_rounds - h->since >= TRIES)
		rc = g->checkpoint_error < 0 ? g->checkpoint_error : -ENOSPC;
	group_unlock(g);
	return rc;
}

static bool fits(struct request *r)
{
	group_lock(r->group);
	bool does = r->growth == 0 || promise_has_room(r->group, r->growth);
	group_unlock(r->group);
	return does;
}

/* What of a request is new is asked of the map. If that is more than may be live, what is live is counted anew. -ENOSPC: it still is. */
static int count_anew(struct request *r)
{
	struct quire_volumes *g = r->group;
	int rc = r->growth > 0 ? promise_measure(r) : 0;

	if (rc < 0 || fits(r))
		return rc;
	rc = quire_volumes_checkpoint(g);
	store_settle(g->store);
	promise_settle(g);
	if (rc == 0)
		rc = promise_measure(r);
	return rc < 0 || fits(r) ? rc : -ENOSPC;
}

int space_find(struct request *r)
{
	struct quire_volumes *g = r->group;

	group_lock(g);
	if (!r->heard.begun)
		r->heard = (struct hearing){true, g->n_space_news, g->n_rounds};
	group_unlock(g);
	for (;;) {
		int rc = count_anew(r);
		if (rc < 0)
			return rc;
		rc = group_append(r);
		int error = journal_error(g->journal) < 0 ? journal_error(g->journal) : store_error(g->store);
		if (rc != -ENOSPC || error < 0)
			return rc == -ENOSPC ? error : rc;
		rc = wait_for_news(g, &r->heard);
		if (rc < 0)
			return rc;
	}
}
