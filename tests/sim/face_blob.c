/* face_blob.c - objects: written, committed many at once, deleted, held, read; and classes that grow. tests/store/history.h has the steps. */
#include "world.h"

#include "../store/history.h"

#include <errno.h>
#include <stdlib.h>

#define SOME 2u /* of those committed, which are read at an opening */

static struct history *history_of(struct world *w)
{
	return w->faces[FACE_BLOB];
}

static void begin(struct world *w)
{
	struct history *h = history_of(w);

	if (h == NULL)
		h = w->faces[FACE_BLOB] = calloc(1, sizeof(*h));
	must(w, h != NULL);
	h->e = &w->e;
	h->m.n = 0;
	h->m.max_id = 0;
	for (unsigned i = 0; i < MODEL_MAX_OPEN; i++)
		h->m.transactions[i].open = false;
	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		h->m.n_units[i] = 0;
	h->m.is_shared = true;
	h->most_units = 1200;
}

static bool open_face(struct world *w)
{
	struct history *h = history_of(w);

	h->faulty = w->faulty;
	h->failed = false;
	model_settle(&h->m, &w->e);
	if (!w->faulty)
		model_verify_objects(&h->m, &w->e, SOME);
	return !world_power_is_gone(w);
}

static bool step(struct world *w, unsigned worker, uint64_t random)
{
	struct history *h = history_of(w);

	(void)worker;
	h->random = random;
	store_step(h);
	return !h->failed && !world_power_is_gone(w);
}

static void close_face(struct world *w)
{
	store_history_let_go(history_of(w));
}

static unsigned look(struct world *w)
{
	struct history *h = history_of(w);
	struct object_properties p;
	unsigned n_errors = 0;

	for (uint64_t id = 0; object_list(w->e.store, id, &id, 1) == 1;) {
		if (!model_knows(&h->m, id))
			continue;
		must(w, object_properties(w->e.store, id, &p) == 0);
		int rc = env_verify(&w->e, id, p.len_bytes);
		if (rc == -EILSEQ)
			world_fail(w, __FILE__, __LINE__, "object %llu has other bytes", (unsigned long long)id);
		n_errors += rc < 0;
	}
	return n_errors;
}

static void end(struct world *w)
{
	(void)w;
}

const struct face_ops blob_face = {.begin = begin, .open = open_face, .step = step, .close = close_face, .look = look, .end = end};
