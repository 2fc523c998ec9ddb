/* base.c - files and blobs that volumes lie over. Nothing of them is copied: a block that was never written is read from there.
 *
 * A base is mapped, once for all volumes of the group that lie over it as it is now, so its pages are in the cache once, charged to
 * its budget and evicted by its policy; those of a blob were verified when they came. A file has no checksums: it is known by its size, mtime
 * and inode, looked at whenever a volume over it is opened; and the cache looks again behind each page that it reads. So what has
 * changed is -ESTALE, and no mixture.
 *
 * Bases are in the group's list, used or not. One that is not used any more goes when the next is opened, or the group closed, since
 * that may wait and closing a volume may not.
 *
 *   1. A base is in the list once for all that say the same of it, but for how much of it shows.
 *   2. n_users is the number of handles that have it; without any, nothing of it is held.
 */
#include "volume_internal.h"

#include "../base/assert.h"
#include "../base/fail.h"

#include <quire/map.h>

#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct volume_base {
	struct volume_base *next;
	unsigned n_users;      /* lock */
	struct base_le key;    /* shown_bytes 0 */
	struct quire_map *map; /* owned */
	const uint8_t *bytes;
	uint64_t size_bytes;
};

/* ---- what it is ---- */

static int describe_file(const char *path, struct base_le *to)
{
	char whole[PATH_MAX];
	struct stat st;

	if (realpath(path, whole) == NULL || stat(whole, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	size_t n = strlen(whole);
	if (n > sizeof(to->path))
		return -ENAMETOOLONG;
	memcpy(to->path, whole, n);
	to->kind = htole32(QUIRE_VOLUME_BASE_FILE);
	to->path_bytes = htole32((uint32_t)n);
	to->size_bytes = htole64((uint64_t)st.st_size);
	to->inode = htole64(st.st_ino);
	to->mtime_s = htole64((uint64_t)st.st_mtim.tv_sec);
	to->mtime_ns = htole32((uint32_t)st.st_mtim.tv_nsec);
	return 0;
}

static int describe_blob(struct quire_volumes *g, uint64_t blob, struct base_le *to)
{
	struct object_properties p;
	int rc = object_properties(g->store, blob, &p);

	if (rc < 0)
		return rc;
	if (!p.committed)
		return -EAGAIN;
	if (p.tag == FORMAT_TAG_VOLUMES)
		return -ESTALE;
	to->kind = htole32(QUIRE_VOLUME_BASE_BLOB);
	to->blob = htole64(blob);
	to->size_bytes = htole64(p.len_bytes);
	return 0;
}

int volume_base_describe(struct quire_volumes *g, const char *path, uint64_t blob, struct base_le *ret)
{
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->magic, PROPERTY_BASE_MAGIC, sizeof(ret->magic));
	return path != NULL ? describe_file(path, ret) : describe_blob(g, blob, ret);
}

/* As a text; what is on the medium has none behind it. */
static void path_of(const struct base_le *le, char ret[sizeof(le->path) + 1])
{
	uint32_t n = le32toh(le->path_bytes);

	memcpy(ret, le->path, n);
	ret[n] = 0;
}

static bool is_sane(const struct base_le *le)
{
	uint32_t kind = le32toh(le->kind), n = le32toh(le->path_bytes);

	if (kind == QUIRE_VOLUME_BASE_FILE)
		return n > 0 && n <= sizeof(le->path) && memchr(le->path, 0, n) == NULL && le->path[0] == '/' &&
		       le32toh(le->mtime_ns) < 1000000000;
	return kind == QUIRE_VOLUME_BASE_BLOB && n == 0;
}

/* Is it still what it was? */
static int verify(struct quire_volumes *g, const struct base_le *was, struct quire_error *err)
{
	char path[sizeof(was->path) + 1];
	struct base_le now;

	path_of(was, path);
	if (le32toh(was->kind) == QUIRE_VOLUME_BASE_BLOB) {
		int rc = volume_base_describe(g, NULL, le64toh(was->blob), &now);
		if (rc == 0 && now.size_bytes != was->size_bytes)
			rc = -ESTALE;
		return rc < 0 ? quire_fail(err, rc, "the blob %llu, over which the volume lies",
		                           (unsigned long long)le64toh(was->blob)) : 0;
	}
	int rc = volume_base_describe(g, path, 0, &now);
	if (rc < 0)
		return quire_fail(err, rc, "%s, over which the volume lies", path);
	if (now.size_bytes != was->size_bytes)
		return quire_fail(err, -ESTALE, "%s, over which the volume lies, had %llu bytes and has %llu", path,
		                  (unsigned long long)le64toh(was->size_bytes), (unsigned long long)le64toh(now.size_bytes));
	if (now.mtime_s != was->mtime_s || now.mtime_ns != was->mtime_ns)
		return quire_fail(err, -ESTALE, "%s, over which the volume lies, was written to since (its mtime)", path);
	if (now.inode != was->inode)
		return quire_fail(err, -ESTALE, "%s, over which the volume lies, is another file (its inode)", path);
	return 0;
}

/* ---- life ---- */

static void base_free(struct volume_base *b)
{
	if (b == NULL)
		return;
	if (b->map != NULL)
		quire_assert(quire_map_destroy(b->map, NULL) == 0); /* nothing is pinned, and who is here may wait */
	free(b);
}

static int base_open(struct quire_volumes *g, const struct base_le *key, struct volume_base **ret, struct quire_error *err)
{
	struct quire_map_options opts = {.size = sizeof(opts), .fault = QUIRE_FAULT_PINNED};
	struct volume_base *b = calloc(1, sizeof(*b));
	char path[sizeof(key->path) + 1];
	struct quire_item item = {.fd = -1};
	size_t len;

	if (b == NULL)
		return -ENOMEM;
	b->key = *key;
	b->size_bytes = le64toh(key->size_bytes);
	path_of(key, path);
	if (le32toh(key->kind) == QUIRE_VOLUME_BASE_FILE)
		item.path = path;
	else
		item = (struct quire_item){.store = store_public(g->store), .blob = le64toh(key->blob), .fd = -1};
	int rc = quire_map_create(store_config_of(g->store)->cache, &item, 1, &opts, &b->map, err);
	/* It was looked at before, but may have changed until it was opened. */
	if (rc == 0)
		rc = verify(g, key, err);
	if (rc == 0 && (quire_map_item(b->map, 0, (const void **)&b->bytes, &len) < 0 || len != b->size_bytes))
		rc = -ESTALE;
	if (rc < 0) {
		base_free(b);
		return rc;
	}
	*ret = b;
	return 0;
}

static struct volume_base *find_locked(struct quire_volumes *g, const struct base_le *key)
{
	for (struct volume_base *b = g->bases; b != NULL; b = b->next)
		if (memcmp(&b->key, key, sizeof(*key)) == 0) {
			b->n_users++;
			return b;
		}
	return NULL;
}

/* Out of the list: those that nobody uses. */
static struct volume_base *take_unused(struct quire_volumes *g)
{
	struct volume_base *out = NULL, **link = &g->bases;

	group_lock(g);
	while (*link != NULL) {
		struct volume_base *b = *link;
		if (b->n_users > 0) {
			link = &b->next;
			continue;
		}
		*link = b->next;
		b->next = out;
		out = b;
	}
	group_unlock(g);
	return out;
}

void volume_bases_free(struct quire_volumes *g)
{
	for (struct volume_base *b = take_unused(g), *next; b != NULL; b = next) {
		next = b->next;
		base_free(b);
	}
	quire_assert(g->bases == NULL);
}

/* One of that key, opened if there is none. */
static int get(struct quire_volumes *g, const struct base_le *key, struct volume_base **ret, struct quire_error *err)
{
	struct volume_base *mine = NULL;

	group_lock(g);
	struct volume_base *b = find_locked(g, key);
	group_unlock(g);
	if (b == NULL) {
		for (struct volume_base *old = take_unused(g), *next; old != NULL; old = next) {
			next = old->next;
			base_free(old);
		}
		int rc = base_open(g, key, &mine, err);
		if (rc < 0)
			return rc;
		group_lock(g);
		b = find_locked(g, key); /* another was faster */
		if (b == NULL) {
			b = mine;
			b->n_users = 1;
			b->next = g->bases;
			g->bases = b;
		}
		group_unlock(g);
	}
	if (mine != b)
		base_free(mine);
	*ret = b;
	return 0;
}

int volume_base_get(struct quire_volumes *g, uint32_t tree, struct volume_base **ret, uint64_t *ret_shown_bytes,
                    struct quire_error *err)
{
	struct base_le *le = aligned_alloc(MAP_BLOCK_BYTES, sizeof(*le));
	int rc = le == NULL ? -ENOMEM : property_read(g, tree, PROPERTY_BASE, le);

	if (rc == -ENODATA || (rc == 0 && !is_sane(le)))
		rc = -EUCLEAN;
	if (rc == 0)
		rc = store_config_of(g->store)->cache == NULL ? -ENOTSUP : verify(g, le, err);
	if (rc == 0) {
		uint64_t shown = le64toh(le->shown_bytes);
		le->shown_bytes = 0;
		rc = get(g, le, ret, err);
		if (rc == 0)
			*ret_shown_bytes = shown;
	}
	free(le);
	return rc;
}

void volume_base_put(struct quire_volumes *g, struct volume_base *b)
{
	if (b == NULL)
		return;
	group_lock(g);
	b->n_users--;
	group_unlock(g);
}

/* ---- reading ---- */

int volume_base_hold(struct volume_base *b, uint64_t offset, uint64_t len_bytes, struct base_part *ret)
{
	uint64_t left = offset < b->size_bytes ? b->size_bytes - offset : 0;
	struct iovec range = {NULL, len_bytes < left ? len_bytes : left};
	int rc = 0;

	*ret = (struct base_part){.len_bytes = range.iov_len};
	if (range.iov_len == 0)
		return 0;
	ret->bytes = b->bytes + offset;
	range.iov_base = (void *)(uintptr_t)ret->bytes;
	rc = quire_map_want(b->map, &range, 1, QUIRE_WANT_PIN, NULL);
	return rc;
}

void volume_base_release(struct volume_base *b, const struct base_part *part)
{
	struct iovec range = {(void *)(uintptr_t)part->bytes, part->len_bytes};

	if (part->len_bytes > 0)
		quire_assert(quire_map_unwant(b->map, &range, 1) == 0);
}

/* ---- telling ---- */

int quire_volume_base(struct quire_volumes *g, const char *name, struct quire_volume_base *ret, struct quire_error *err)
{
	struct base_le *le = aligned_alloc(MAP_BLOCK_BYTES, sizeof(*le));
	int rc = le == NULL ? -ENOMEM : group_enter(g);

	if (rc < 0) {
		free(le);
		return rc;
	}
	group_lock(g);
	const struct volume *v = name == NULL ? NULL : volume_find_name(g, name);
	uint32_t tree = v == NULL ? NO_TREE : v->tree, flags = v == NULL ? 0 : v->flags;
	group_unlock(g);
	memset(ret, 0, sizeof(*ret));
	if (v == NULL) {
		rc = quire_fail(err, -ENOENT, "%s", name == NULL ? "" : name);
	} else if ((flags & VOLUME_IS_OVER) != 0) {
		rc = property_read(g, tree, PROPERTY_BASE, le);
		if (rc == -ENODATA || (rc == 0 && !is_sane(le)))
			rc = -EUCLEAN;
		if (rc < 0)
			(void)quire_fail(err, rc, "%s: what it lies over", name);
	}
	if (rc == 0 && v != NULL && (flags & VOLUME_IS_OVER) != 0) {
		ret->kind = (enum quire_volume_base_kind)le32toh(le->kind);
		ret->size_bytes = le64toh(le->shown_bytes);
		ret->blob = le64toh(le->blob);
		path_of(le, ret->path);
		rc = verify(g, le, err);
	}
	group_leave(g);
	free(le);
	return rc;
}
