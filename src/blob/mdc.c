/* mdc.c - quire_mdc_*: the store's containers, one handle each.
 *
 * Records are numbered by the container, with gaps; n_appended is one more than the highest that an append of this
 * handle was given, so that a sync knows how far. The handle counts the calls on it: none may be under way when it is
 * closed.
 */
#include "call.h"

#include <quire/mdc.h>

#include "../base/fail.h"

#include <errno.h>
#include <stdlib.h>

struct quire_mdc {
	struct store *store;         /* borrowed: not closed while containers are open */
	struct container *container; /* borrowed: until store_container_close */
	uint64_t id;
	bool read_only;
	_Atomic bool compacting;
	_Atomic uint64_t n_appended;
	_Atomic unsigned n_calls;
};

static bool is_foreign(const struct store *s)
{
	return face_is_of_parent(face_of(s));
}

/* ---- life ---- */

int quire_mdc_create(struct quire_store *store, enum quire_class cls, uint64_t capacity_bytes, uint64_t *ret_id)
{
	struct store *s = store_inside(store);

	if (is_foreign(s))
		return -ECHILD;
	return call_would_block_loop() ? -EDEADLK : store_container_create(s, (unsigned)cls, capacity_bytes, ret_id);
}

int quire_mdc_destroy(struct quire_store *store, uint64_t id)
{
	struct store *s = store_inside(store);

	if (is_foreign(s))
		return -ECHILD;
	return call_would_block_loop() ? -EDEADLK : store_container_destroy(s, id);
}

struct listener {
	quire_mdc_record_fn fn;
	void *arg;
};

static int hear(void *arg, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes)
{
	const struct listener *l = arg;
	int rc = l->fn != NULL ? l->fn(l->arg, payload, len_bytes) : 0;

	return rc > 0 ? -ECANCELED : rc;
}

int quire_mdc_open(struct quire_store *store, uint64_t id, quire_mdc_record_fn fn, void *arg,
                   struct quire_mdc **ret_mdc, struct quire_error *err)
{
	struct store *s = store_inside(store);
	struct listener listener = {fn, arg};

	if (is_foreign(s))
		return quire_fail(err, -ECHILD, "%s", face_of(s)->path);
	if (call_would_block_loop())
		return quire_fail(err, -EDEADLK, "%s", face_of(s)->path);
	struct quire_mdc *m = calloc(1, sizeof(*m));
	if (m == NULL)
		return quire_fail(err, -ENOMEM, "%s", face_of(s)->path);
	m->store = s;
	m->id = id;
	m->read_only = face_of(s)->read_only;
	int rc = store_container_open(s, id, false, hear, &listener, &m->container, err);
	if (rc < 0)
		free(m);
	else
		*ret_mdc = m;
	return rc;
}

/* ---- records ---- */

static void note_appended(struct quire_mdc *m, uint64_t no)
{
	uint64_t n = atomic_load_explicit(&m->n_appended, memory_order_relaxed);

	while (n <= no && !atomic_compare_exchange_weak(&m->n_appended, &n, no + 1))
		;
}

static int sync_all(struct quire_mdc *m)
{
	uint64_t n = atomic_load(&m->n_appended);

	return n == 0 ? 0 : container_sync(m->container, n - 1, NULL);
}

static int append(struct quire_mdc *m, const void *record, size_t len_bytes, bool sync)
{
	struct iovec part = {(void *)(uintptr_t)record, len_bytes};
	uint64_t no;

	if (len_bytes > container_max_payload(m->container))
		return -EMSGSIZE;
	int rc = container_append(m->container, JOURNAL_FIRST_TYPE, &part, 1, &no);
	/* No segment left is what a full container means here. */
	if (rc == -ENOSPC)
		rc = -EFBIG;
	if (rc < 0)
		return rc;
	note_appended(m, no);
	return sync ? container_sync(m->container, no, NULL) : 0;
}

/* For calls that change the container, and wait. */
static int enter(struct quire_mdc *m)
{
	if (is_foreign(m->store))
		return -ECHILD;
	if (m->read_only)
		return -EROFS;
	if (call_would_block_loop())
		return -EDEADLK;
	atomic_fetch_add(&m->n_calls, 1);
	return 0;
}

static int leave(struct quire_mdc *m, int rc)
{
	atomic_fetch_sub(&m->n_calls, 1);
	return rc;
}

int quire_mdc_append(struct quire_mdc *m, const void *record, size_t len_bytes, bool sync)
{
	int rc = enter(m);

	return rc < 0 ? rc : leave(m, append(m, record, len_bytes, sync));
}

static int64_t run_sync(struct call *c)
{
	return sync_all(c->mdc);
}

int quire_mdc_sync(struct quire_mdc *m, struct quire_op *op)
{
	struct call call = {.run = run_sync, .store = m->store, .n_calls = &m->n_calls, .mdc = m};

	return (int)call_start(&call, op);
}

size_t quire_mdc_max_record(const struct quire_mdc *m)
{
	return container_max_payload(m->container);
}

int quire_mdc_read(struct quire_mdc *m, quire_mdc_record_fn fn, void *arg)
{
	struct listener listener = {fn, arg};

	if (is_foreign(m->store))
		return -ECHILD;
	if (call_would_block_loop())
		return -EDEADLK;
	atomic_fetch_add(&m->n_calls, 1);
	return leave(m, container_read(m->container, hear, &listener));
}

/* ---- compaction ---- */

int quire_mdc_cstart(struct quire_mdc *m)
{
	int rc = enter(m);

	if (rc < 0)
		return rc;
	rc = container_cstart(m->container);
	if (rc == 0)
		atomic_store(&m->compacting, true);
	return leave(m, rc == -ENOSPC ? -EFBIG : rc);
}

int quire_mdc_cend(struct quire_mdc *m)
{
	int rc = enter(m);

	if (rc < 0)
		return rc;
	rc = container_cend(m->container);
	if (rc == 0)
		atomic_store(&m->compacting, false);
	return leave(m, rc == -ENOSPC ? -EFBIG : rc);
}

int quire_mdc_cabort(struct quire_mdc *m)
{
	int rc = enter(m);

	if (rc < 0)
		return rc;
	rc = container_cabort(m->container);
	if (rc == 0)
		atomic_store(&m->compacting, false);
	return leave(m, rc);
}

int quire_mdc_close(struct quire_mdc *m)
{
	if (m == NULL)
		return 0;
	if (is_foreign(m->store))
		return -ECHILD;
	if (call_would_block_loop())
		return -EDEADLK;
	if (atomic_load(&m->n_calls) != 0)
		return -EBUSY;
	int rc = m->read_only || atomic_load(&m->compacting) ? 0 : sync_all(m);
	(void)store_container_close(m->store, m->id);
	free(m);
	return rc;
}

int quire_mdc_usage(struct quire_mdc *m, struct quire_mdc_usage *ret_usage)
{
	struct container_usage u;

	if (is_foreign(m->store))
		return -ECHILD;
	container_usage(m->container, &u);
	*ret_usage = (struct quire_mdc_usage){
		.capacity_bytes = u.capacity_bytes,
		.used_bytes = u.used_bytes,
		.allocated_bytes = u.allocated_bytes,
		.n_records = u.n_records,
	};
	return 0;
}
