/* check_face.c - quire_store_check and quire_store_repair: at most so many bytes a second, from whoever may wait. */
#include "face.h"

#include <errno.h>
#include <string.h>

static_assert((int)QUIRE_REMEDY_LOST == STORE_LOST && (int)QUIRE_REMEDY_REBUILT == STORE_REBUILT &&
              (int)QUIRE_REMEDY_REOPEN == STORE_REOPEN, "one set of remedies, two names");

struct checking {
	quire_check_fn found;
	quire_repair_fn settled;
	quire_progress_fn progress;
	void *arg;
	uint64_t max_bytes_per_s, began_ns;
};

static void found(void *arg, int error, uint64_t id, unsigned class_no, uint64_t offset, const char *text)
{
	const struct checking *c = arg;

	if (c->found != NULL)
		c->found(c->arg, error, id, (enum quire_class)class_no, offset, text);
}

static void settled(void *arg, const struct store_finding *f)
{
	const struct checking *c = arg;
	struct quire_repair_finding finding = {
		.size = sizeof(finding),
		.error = f->error,
		.remedy = (enum quire_remedy)f->remedy,
		.id = f->id,
		.cls = (enum quire_class)f->class_no,
		.offset = f->offset,
		.lost_from = f->from,
		.lost_bytes = f->n_bytes,
		.text = f->text,
	};

	if (c->settled != NULL)
		c->settled(c->arg, &finding);
}

static int progress(void *arg, uint64_t done_bytes, uint64_t all_bytes)
{
	const struct checking *c = arg;

	if (c->max_bytes_per_s != 0) {
		uint64_t due_ns = (uint64_t)((double)done_bytes * 1e9 / (double)c->max_bytes_per_s);
		uint64_t spent_ns = loop_now_ns() - c->began_ns;
		if (due_ns > spent_ns)
			(void)quire_sleep_ns(due_ns - spent_ns, NULL);
	}
	return c->progress != NULL ? c->progress(c->arg, done_bytes, all_bytes) : 0;
}

static int64_t run(struct store *s, struct checking *c, struct store_check *how)
{
	if (face_is_of_parent(face_of(s)))
		return -ECHILD;
	if (call_would_block_loop())
		return -EDEADLK;
	how->progress = progress;
	how->arg = c;
	c->began_ns = loop_now_ns();
	atomic_fetch_add(&face_of(s)->n_calls, 1);
	int64_t rc = store_check(s, how);
	atomic_fetch_sub(&face_of(s)->n_calls, 1);
	return rc;
}

int64_t quire_store_check(struct quire_store *store, const struct quire_check_options *opts)
{
	struct quire_check_options o = {0};

	if (opts != NULL) {
		if (opts->size == 0 || opts->size > sizeof(o))
			return -EINVAL;
		memcpy(&o, opts, opts->size);
	}
	struct checking c = {.found = o.found, .progress = o.progress, .arg = o.arg, .max_bytes_per_s = o.max_bytes_per_s};
	struct store_check how = {.structure_only = o.structure_only, .found = found};
	return run(store_inside(store), &c, &how);
}

int64_t quire_store_repair(struct quire_store *store, const struct quire_repair_options *opts)
{
	struct quire_repair_options o = {0};

	if (opts != NULL) {
		if (opts->size == 0 || opts->size > sizeof(o))
			return -EINVAL;
		memcpy(&o, opts, opts->size);
	}
	struct checking c = {.settled = o.found, .progress = o.progress, .arg = o.arg, .max_bytes_per_s = o.max_bytes_per_s};
	struct store_check how = {
		.structure_only = o.structure_only,
		.repair = o.dry_run ? STORE_REPAIR_PLAN : STORE_REPAIR_DO,
		.settled = settled,
	};
	return run(store_inside(store), &c, &how);
}
