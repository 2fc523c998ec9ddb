/* export_volume.c - a volume, or a snapshot of one, as an export.
 *
 * Calls of a volume suspend the coroutine they are made in, on whatever loop. What has changed since a generation the volume knows by
 * itself, so there is a context for each generation that was; those of its snapshots are listed.
 */
#include "nbd_internal.h"
#include "ublk_internal.h"

#include "../base/fail.h"
#include <errno.h>
#include <quire/volume.h>
#include <stdlib.h>

#define EXTENTS_MOST 1024u /* that are asked for at once */

struct volume_export {
	struct export base;
	struct quire_volumes *volumes; /* borrowed: open as long as it is served */
	struct quire_volume *volume;   /* owned */
	uint32_t id;
	bool read_only;
};

static struct volume_export *of(struct export *e)
{
	return (struct volume_export *)(void *)e;
}

static void describe(struct export *e, struct export_description *ret)
{
	*ret = (struct export_description){
		.size_bytes = quire_volume_bytes(of(e)->volume),
		.least_block = 1,
		.preferred_block = QUIRE_VOLUME_BLOCK_BYTES,
		.flags = of(e)->read_only ? EXPORT_READ_ONLY : EXPORT_TRIM | EXPORT_ZERO | EXPORT_FAST_ZERO,
	};
}

static int read_bytes(struct export *e, void *buf, uint64_t offset, uint32_t n_bytes)
{
	const struct iovec iov = {buf, n_bytes};

	return quire_volume_read(of(e)->volume, offset, &iov, 1, NULL);
}

static unsigned flags_of(unsigned how)
{
	return (how & EXPORT_FUA ? QUIRE_VOLUME_FUA : 0) | (how & EXPORT_NO_HOLE ? QUIRE_VOLUME_NO_HOLE : 0);
}

static int write_bytes(struct export *e, const void *buf, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	/* Only read; an iovec has one kind of pointer for both directions. */
	const struct iovec iov = {(void *)(uintptr_t)buf, n_bytes};

	return quire_volume_write(of(e)->volume, offset, &iov, 1, flags_of(how), NULL);
}

static int flush(struct export *e)
{
	return quire_volume_flush(of(e)->volume, NULL);
}

static int trim(struct export *e, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	return quire_volume_discard(of(e)->volume, offset, n_bytes, flags_of(how), NULL);
}

/* Always as fast as it can be: the map alone is written, and two blocks at most. */
static int zero(struct export *e, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	return quire_volume_zero(of(e)->volume, offset, n_bytes, flags_of(how), NULL);
}

static unsigned contexts(struct export *e)
{
	return 1u << EXPORT_ALLOCATION | 1u << EXPORT_DEPTH | 1u << EXPORT_SINCE;
}

static uint32_t flags_in(enum export_context context, uint64_t generation, const struct quire_volume_extent *extent)
{
	switch (context) {
	case EXPORT_ALLOCATION:
		return extent->kind == QUIRE_VOLUME_HOLE ? 3 : extent->kind == QUIRE_VOLUME_ZERO ? 2 : 0;
	case EXPORT_DEPTH:
		return extent->kind == QUIRE_VOLUME_HOLE ? 0 : extent->shared ? 2 : 1;
	default:
		return extent->generation > generation;
	}
}

static int status(struct export *e, enum export_context context, uint64_t generation, uint64_t offset, uint32_t n_bytes,
                  struct export_extent *ret, unsigned most)
{
	unsigned n = most < EXTENTS_MOST ? most : EXTENTS_MOST;
	struct quire_volume_extent *extents = malloc(n * sizeof(*extents));

	if (extents == NULL)
		return -ENOMEM;
	int64_t found = quire_volume_status(of(e)->volume, offset, n_bytes, generation, extents, n, NULL);
	for (int64_t i = 0; i < found; i++)
		ret[i] = (struct export_extent){extents[i].len_bytes, flags_in(context, generation, &extents[i])};
	free(extents);
	return found == -ESTALE ? -EINVAL : (int)found;
}

static bool has_generation(struct export *e, uint64_t generation)
{
	struct quire_volumes_stat stat;

	return quire_volumes_stat(of(e)->volumes, &stat) == 0 && generation >= 1 && generation <= stat.generation;
}

/* The oldest ones first. */
static unsigned generations(struct export *e, uint64_t *ret, unsigned n)
{
	struct quire_volume_info info = {.id = 0};
	unsigned found = 0;

	while (found < n && quire_volume_ls(of(e)->volumes, info.id, &info) == 1)
		if (info.snapshot && info.origin == of(e)->id)
			ret[found++] = info.generation;
	return found;
}

static int close_volume(struct export *e)
{
	int rc = of(e)->read_only ? 0 : quire_volume_flush(of(e)->volume, NULL);

	quire_volume_close(of(e)->volume);
	free(e);
	return rc;
}

static const struct export_ops volume_ops = {
	.describe = describe,
	.read = read_bytes,
	.write = write_bytes,
	.flush = flush,
	.trim = trim,
	.zero = zero,
	.status = status,
	.contexts = contexts,
	.has_generation = has_generation,
	.generations = generations,
	.close = close_volume,
};

/* A volume or a snapshot, which is always read-only. volumes: borrowed until the export is closed. */
static int open_volume(struct quire_volumes *volumes, const char *name, bool read_only, struct export **ret_export,
                       struct quire_error *err)
{
	struct volume_export *v = calloc(1, sizeof(*v));
	struct quire_volume_info info;
	struct quire_volume_base base;
	int rc = v == NULL ? -ENOMEM : quire_volume_find(volumes, name, &info);
	bool found = rc == 0;

	if (found)
		rc = quire_volume_open(volumes, name, &v->volume);
	if (rc < 0) {
		free(v);
		/* What is wrong with the base is said there. */
		return found && quire_volume_base(volumes, name, &base, err) < 0 ? rc : quire_fail(err, rc, "volume %s", name);
	}
	v->base.ops = &volume_ops;
	v->volumes = volumes;
	v->id = info.id;
	v->read_only = read_only || info.snapshot;
	*ret_export = &v->base;
	return 0;
}

int quire_nbd_add_volume(struct quire_nbd *nbd, const char *name, struct quire_volumes *volumes, const char *volume, unsigned flags,
                         struct quire_error *err)
{
	struct export *e = NULL;

	if (flags & ~QUIRE_NBD_READ_ONLY)
		return quire_fail(err, -EINVAL, "flags %#x", flags);
	int rc = open_volume(volumes, volume, flags & QUIRE_NBD_READ_ONLY, &e, err);
	return rc == 0 ? nbd_export_add(nbd, name, e, err) : rc;
}

/* The group itself has nothing to be known by: who shows a volume of another that has the same name and number is not found out. */
int quire_ublk_add_volume(struct quire_ublk *u, uint32_t id, struct quire_volumes *volumes, const char *volume, unsigned flags,
                          struct quire_error *err)
{
	struct export *e = NULL;

	if (flags & ~QUIRE_UBLK_READ_ONLY)
		return quire_fail(err, -EINVAL, "flags %#x", flags);
	int rc = open_volume(volumes, volume, flags & QUIRE_UBLK_READ_ONLY, &e, err);
	return rc == 0 ? ublk_add(u, id, e, UBLK_DURABLE, ublk_identity(of(e)->id, volume, strlen(volume)), err) : rc;
}
