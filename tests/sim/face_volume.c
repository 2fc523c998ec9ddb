/* face_volume.c - volumes: families of them with snapshots and clones, written, zeroed, resized, rolled back, promoted, removed; cleaned
 * and checkpointed beside that. The steps and the model are those of tests/volume/history.h; each worker has a family. */
#include "world.h"

#include "../volume/history.h"

#include <errno.h>
#include <stdlib.h>

#define SEGMENT_BYTES 65536u
#define MAP_BYTES (1u << 20)

static struct history *history_of(struct world *w)
{
	return w->faces[FACE_VOLUME];
}

static void begin(struct world *w)
{
	struct history *h = w->faces[FACE_VOLUME] = calloc(1, sizeof(*h));

	must(w, h != NULL);
	h->seed = h->random = w->plan.seed;
	h->next_tag = 1;
	h->power_is_gone = world_power_is_gone;
	h->arg = w;
	h->n_families = 1 + (unsigned)(w->plan.seed % PLAN_WORKERS);
	for (unsigned i = 0; i < h->n_families; i++)
		family_init(&h->families[i], h, i);
}

struct quire_volumes *volume_face_group(struct world *w)
{
	return history_of(w)->volumes;
}

static int open_group(struct world *w)
{
	struct quire_volumes_options o = {.size = sizeof(o), .segment_bytes = SEGMENT_BYTES, .map_bytes = MAP_BYTES,
	                                  .checkpoint_bytes = SEGMENT_BYTES << w->plan.seed % 5};
	struct history *h = history_of(w);
	int rc = quire_volumes_open(store_public(w->e.store), &o, &h->volumes, &w->e.err);

	if (rc < 0) {
		h->volumes = NULL;
		world_say(w, "volumes: %d %s", rc, w->e.err.text);
	}
	return rc;
}

static void close_group(struct world *w)
{
	struct history *h = history_of(w);
	struct quire_volumes_stat stat;

	if (quire_volumes_stat(h->volumes, &stat) == 0) {
		w->sums[SUM_CHECKPOINTS] += stat.n_checkpoints;
		w->sums[SUM_CLEANED] += stat.n_cleaned;
	}
	int rc = quire_volumes_close(h->volumes);

	must(w, rc != -EBUSY);
	h->volumes = NULL;
	if (rc < 0)
		(void)world_excuses(w, rc);
	/* Not of families that could not be read, and may be in an earlier state. */
	bool is_promised = rc == 0 && w->is_open[FACE_VOLUME] && !world_power_is_gone(w);
	for (unsigned i = 0; i < h->n_families && is_promised; i++)
		family_promise(&h->families[i], h->families[i].n_done);
}

static bool open_face(struct world *w)
{
	struct history *h = history_of(w);
	int rc = open_group(w);

	h->dead = false;
	h->faulty = w->faulty;
	h->random = w->life->random;
	h->n_lives++;
	if (rc < 0) {
		must(w, rc == -ENOSPC || world_excuses(w, rc)); /* it may be that others have all the space */
		h->unkept = true;
		return false;
	}
	for (unsigned i = 0; i < h->n_families && !h->dead; i++)
		family_settle(&h->families[i]);
	if (h->dead) {
		close_group(w);
		h->unkept = true;
	}
	return !h->dead;
}

static bool step(struct world *w, unsigned worker, uint64_t random)
{
	struct history *h = history_of(w);

	if (h->dead || worker >= h->n_families)
		return false;
	h->random = random;
	volume_step(&h->families[worker]);
	return !h->dead && !world_power_is_gone(w);
}

/* What is in segments of volumes the store's check knows nothing of: scrubbing does. */
static unsigned look(struct world *w)
{
	struct history *h = history_of(w);

	h->faulty = true;
	if (open_group(w) < 0) {
		must(w, w->e.err.text[0] != 0);
		return 0;
	}
	w->sums[SUM_UNREADABLE] += volume_history_look(h);
	(void)quire_volumes_close(h->volumes);
	h->volumes = NULL;
	return 0;
}

static void end(struct world *w)
{
	struct history *h = history_of(w);

	for (unsigned i = 0; i < h->n_families; i++)
		free(h->families[i].states);
	free(h);
	w->faces[FACE_VOLUME] = NULL;
}

const struct face_ops volume_face = {.begin = begin, .open = open_face, .step = step, .close = close_group, .look = look, .end = end};
