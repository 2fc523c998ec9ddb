/* store_fuzz.c - a store whose superblocks, catalogue and container were edited: it opens, or is refused with a reason.
 *
 * An input (image.h) begins with a byte:
 *   bit 0   checksums are made right behind the edits
 *   bit 1   it is opened to be read only
 *   bit 2   no object is added
 * What opened can be checked and read; what is added to it is there when it is opened again, which it must; and if a check had
 * nothing to say before, it has nothing to say after.
 */
#include "seal.h"

#include "../store/store_env.h"
#include "../support/fuzz.h"
#include "../../src/base/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define N_CLASSES 2u
#define N_ADDED_BYTES 5000u
#define MOST_OBJECTS 64u

static const uint64_t n_units[STORE_N_CLASSES] = {320, 256};

struct world {
	struct env e;
	struct sim *good[N_CLASSES];
	struct fuzz_image image; /* of all classes, one behind the other, each as far as something was written */
	uint32_t n_seen[N_CLASSES]; /* units of each */
	uint64_t container;
	uint8_t how;
};

/* ---- the store ---- */

static int see_record(void *arg, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes)
{
	(void)arg, (void)at, (void)type, (void)payload, (void)len_bytes;
	return 0;
}

static void fill_container(struct env *e, uint64_t *ret_id)
{
	struct container *c;
	uint64_t no;

	quire_assert(store_container_create(e->store, 0, 40000, ret_id) == 0);
	quire_assert(store_container_open(e->store, *ret_id, false, see_record, NULL, &c, NULL) == 0);
	for (unsigned i = 0; i < 5; i++) {
		struct iovec part = {(void *)(uintptr_t)"what a record holds", 3 + i};
		quire_assert(container_append(c, JOURNAL_FIRST_TYPE, &part, 1, &no) == 0);
	}
	quire_assert(container_sync(c, no, NULL) == 0);
	quire_assert(store_container_close(e->store, *ret_id) == 0);
}

/* One of each kind: of one page, of several, of none, in the other class, removed. */
static void build(struct env *e, void *arg)
{
	struct world *w = arg;

	quire_assert(env_format(e) == 0 && env_open(e) == 0);
	uint64_t gone = (uint64_t)env_put(e, 0, 30000);
	quire_assert(env_put(e, 0, 100) > 0 && env_put(e, 0, 20000) > 0 && env_put(e, 0, 0) > 0 && env_put(e, 1, 9000) > 0);
	quire_assert(store_apply(e->store, NULL, 0, &gone, 1) == 0);
	fill_container(e, &w->container);
	env_close(e);
	quire_assert(env_open(e) == 0 && env_put(e, 0, 12345) > 0);
	env_close(e);
}

static uint32_t units_written(const struct sim *sim, uint64_t units)
{
	static const uint8_t zeros[PAGE];
	uint8_t page[PAGE];

	do
		sim_peek(sim, --units * PAGE, page, PAGE);
	while (memcmp(page, zeros, PAGE) == 0);
	return (uint32_t)units + 1;
}

static void begin_world(struct world *w)
{
	uint8_t *bytes = malloc((n_units[0] + n_units[1]) * PAGE);
	size_t n = 0;

	env_init(&w->e, 7, n_units, NULL);
	env_run(&w->e, build, w);
	for (unsigned i = 0; i < N_CLASSES; i++) {
		w->good[i] = w->e.sims[i];
		w->e.sims[i] = NULL;
		w->n_seen[i] = units_written(w->good[i], n_units[i]);
		sim_peek(w->good[i], 0, bytes + n, w->n_seen[i] * PAGE);
		n += w->n_seen[i] * PAGE;
	}
	fuzz_image_init(&w->image, bytes, n);
	free(bytes);
}

/* ---- one input ---- */

static void poke_changes(struct world *w)
{
	for (unsigned i = 0; i < N_CLASSES; i++)
		quire_assert(sim_clone(w->good[i], 1, &w->e.sims[i]) == 0);
	for (uint32_t b = 0; b < w->image.n_blocks; b++) {
		const uint8_t *now = w->image.bytes + (size_t)b * PAGE;
		unsigned i = b >= w->n_seen[0];
		if (memcmp(now, w->image.good + (size_t)b * PAGE, PAGE) != 0)
			sim_poke(w->e.sims[i], (uint64_t)(b - i * w->n_seen[0]) * PAGE, now, PAGE);
	}
}

static bool is_reason(int rc)
{
	return rc == -EUCLEAN || rc == -EBADMSG || rc == -ENOTSUP || rc == -ESTALE || rc == -ENOENT;
}

/* All of it that fits one read, from its start and from its end. */
static void read_object(struct store *s, uint64_t id)
{
	static uint8_t buf[OBJECT_READ_MAX_BYTES] __attribute__((aligned(PAGE)));
	struct object *o;

	quire_assert(object_get(s, id, &o) == 0);
	uint64_t len = object_bytes(o), end = (len + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	uint32_t n = end < sizeof(buf) ? (uint32_t)end : (uint32_t)sizeof(buf);
	for (unsigned i = 0; i < 2 && n > 0; i++) {
		uint64_t at = i == 0 ? 0 : end - n;
		int rc = object_read_wait(o, at, at + n > len ? (uint32_t)(len - at) : n, buf, NULL);
		quire_assert(rc == 0 || rc == -EBADMSG);
	}
	object_put(o);
}

static void read_all(struct world *w)
{
	struct store *s = w->e.store;
	uint64_t ids[MOST_OBJECTS];
	struct container *c;
	unsigned n = object_list(s, 0, ids, MOST_OBJECTS);

	for (unsigned i = 0; i < n && i < MOST_OBJECTS; i++)
		read_object(s, ids[i]);
	int rc = store_container_open(s, w->container, false, see_record, NULL, &c, NULL);
	if (rc == 0)
		quire_assert(store_container_close(s, w->container) == 0);
	else
		quire_assert(is_reason(rc));
}

/* Its id, or 0: there is no room for it. */
static uint64_t add_object(struct env *e)
{
	int64_t id = env_write(e, 0, N_ADDED_BYTES);

	if (id < 0) {
		quire_assert(id == -ENOSPC);
		return 0;
	}
	int rc = store_apply(e->store, &(uint64_t){(uint64_t)id}, 1, NULL, 0);
	if (rc == 0)
		return (uint64_t)id;
	quire_assert(rc == -ENOSPC && object_abort(e->store, (uint64_t)id) == 0);
	return 0;
}

static void look(struct env *e, void *arg)
{
	struct world *w = arg;
	bool read_only = (w->how & 2) != 0;
	int rc = read_only ? env_open_read_only(e) : env_open(e);

	if (rc < 0) {
		quire_assert(is_reason(rc) && e->err.text[0] != '\0');
		return;
	}
	int64_t n_found = env_check(e, false);
	quire_assert(n_found >= 0);
	read_all(w);
	uint64_t id = read_only || (w->how & 4) != 0 ? 0 : add_object(e);
	env_close(e);
	if (read_only)
		return;
	quire_assert(env_open(e) == 0);
	quire_assert(id == 0 || env_verify(e, id, N_ADDED_BYTES) == 0);
	quire_assert(n_found > 0 || env_check(e, true) == 0);
	env_close(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static struct world w;

	if (n_bytes == 0)
		return 0;
	if (w.image.n_used == 0)
		begin_world(&w);
	w.how = data[0];
	w.e.seed = 4711;
	fuzz_image_edit(&w.image, data, n_bytes);
	if ((w.how & 1) != 0)
		fuzz_seal_store(&w.image);
	poke_changes(&w);
	env_run(&w.e, look, &w);
	for (unsigned i = 0; i < N_CLASSES; i++) {
		sim_destroy(w.e.sims[i]);
		w.e.sims[i] = NULL;
	}
	return 0;
}
