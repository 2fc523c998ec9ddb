/* tmem_save.c - saved pools: each a blob with a tag of its own; which name it has stands in its first bytes.
 *
 * A save commits the new image and removes those of before in one transaction. If two were there, which two saves at once would have made, the
 * newer is the one that counts, and the next save removes both.
 *
 * An image whose head is damaged is left alone by saves: it may be another's. One that can't be read for now may be what is to be replaced, and
 * would be there again beside the new one, to be taken for it when that one can't be read: so nothing is saved then.
 */
#include "face.h"
#include "tmem_store.h"

#include "../base/fail.h"
#include "../tmem/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MOST_IMAGES 16u /* of a name */

static_assert(OBJECT_READ_MAX_BYTES % TMEM_IMAGE_READ_ALIGN == 0, "reads are cut to it");

/* ---- finding ---- */

static int read_object(void *arg, uint64_t offset, void *buf, size_t n)
{
	struct object *o = arg;
	int rc = 0;

	for (size_t done = 0, k; done < n && rc == 0; done += k) {
		k = n - done < OBJECT_READ_MAX_BYTES ? n - done : OBJECT_READ_MAX_BYTES;
		rc = object_read_wait(o, offset + done, (uint32_t)k, (char *)buf + done, NULL);
	}
	return rc;
}

/* 1: that image has the name; 0; or why its name can't be told. */
static int has_name(struct store *s, uint64_t id, const char *name, struct quire_error *err)
{
	char found[IMAGE_NAME_BYTES];
	struct object *o;
	int rc = object_get(s, id, &o);

	if (rc < 0)
		return rc == -ESTALE ? 0 : rc; /* it was removed meanwhile */
	void *page = aligned_alloc(TMEM_IMAGE_READ_ALIGN, TMEM_IMAGE_READ_ALIGN);
	uint64_t n = object_bytes(o) < TMEM_IMAGE_READ_ALIGN ? object_bytes(o) : TMEM_IMAGE_READ_ALIGN;
	rc = page == NULL ? -ENOMEM : n == 0 ? 0 : read_object(o, 0, page, n);
	if (rc < 0)
		(void)quire_fail(err, rc, "tmem image: blob %llu", (unsigned long long)id);
	else
		rc = tmem_image_name(page, n, found, err);
	if (rc == 0)
		rc = strcmp(found, name) == 0;
	free(page);
	object_put(o);
	return rc;
}

/* It stays as it is. */
static bool is_damage(int rc)
{
	return rc == -EBADMSG || rc == -EUCLEAN || rc == -ENOTSUP;
}

/* Ids of the images of that name, ascending: how many. *ret_bad: 0, or why one that may be of the name can't be read: what may pass before
 * what is damage. */
static unsigned find(struct store *s, const char *name, uint64_t ids[MOST_IMAGES], int *ret_bad, struct quire_error *err)
{
	uint64_t some[16], after = 0;
	unsigned n, n_found = 0;

	*ret_bad = 0;
	while ((n = object_list_tagged(s, QUIRE_TMEM_IMAGE_TAG, after, some, 16)) > 0) {
		for (unsigned i = 0; i < n && n_found < MOST_IMAGES; i++) {
			int rc = has_name(s, some[i], name, err);
			if (rc > 0)
				ids[n_found++] = some[i];
			else if (rc < 0 && (*ret_bad == 0 || is_damage(*ret_bad)))
				*ret_bad = rc;
		}
		after = some[n - 1];
	}
	return n_found;
}

/* ---- the three calls ---- */

struct sink {
	struct store *store;
	uint64_t id;
};

static int append(void *arg, const void *bytes, size_t n)
{
	struct sink *sink = arg;
	struct iovec iov = {(void *)(uintptr_t)bytes, n};

	return object_append(sink->store, sink->id, &iov, 1);
}

int tmem_store_save(struct quire_tmem_pool *pool, struct store *s, unsigned cls, const char *name, struct quire_error *err)
{
	struct sink sink = {.store = s};
	uint64_t old[MOST_IMAGES];
	int bad;

	if (!tmem_image_name_is_valid(name))
		return quire_fail(err, -EINVAL, "tmem image: its name");
	int rc = object_begin(s, cls, 0, 0, QUIRE_TMEM_IMAGE_TAG, &sink.id);
	if (rc < 0)
		return quire_fail(err, rc, "tmem image %s: in class %u", name, cls);
	rc = tmem_image_write(pool, name, append, &sink, err);
	if (rc == 0) {
		unsigned n = find(s, name, old, &bad, err);
		rc = bad < 0 && !is_damage(bad) ? bad : store_apply(s, &sink.id, 1, old, n);
		if (rc < 0 && rc != bad)
			(void)quire_fail(err, rc, "tmem image %s: committing", name);
	}
	if (rc < 0)
		(void)object_abort(s, sink.id);
	return rc;
}

int tmem_store_restore(struct quire_tmem *tmem, struct store *s, const char *name,
                       const struct quire_tmem_pool_options *opts, struct quire_tmem_pool **ret_pool,
                       struct quire_error *err)
{
	uint64_t ids[MOST_IMAGES];
	struct object *o;
	int bad;

	if (!tmem_image_name_is_valid(name))
		return quire_fail(err, -EINVAL, "tmem image: its name");
	unsigned n = find(s, name, ids, &bad, err);
	if (n == 0)
		return bad < 0 ? bad : quire_fail(err, -ENOENT, "tmem image %s", name);
	int rc = object_get(s, ids[n - 1], &o);
	if (rc < 0)
		return quire_fail(err, rc, "tmem image %s", name);
	struct tmem_image_source source = {.read = read_object, .arg = o, .n_bytes = object_bytes(o)};
	rc = tmem_image_read(tmem, &source, opts, ret_pool, err);
	object_put(o);
	return rc;
}

int tmem_store_forget(struct store *s, const char *name)
{
	uint64_t ids[MOST_IMAGES];
	int bad;

	if (!tmem_image_name_is_valid(name))
		return -EINVAL;
	unsigned n = find(s, name, ids, &bad, NULL);
	if (n == 0)
		return bad < 0 ? bad : -ENOENT;
	return store_apply(s, NULL, 0, ids, n);
}

/* ---- their public face ---- */

static int may_call(struct store *s, struct quire_error *err)
{
	if (face_is_of_parent(face_of(s)))
		return quire_fail(err, -ECHILD, "store");
	return call_would_block_loop() ? quire_fail(err, -EDEADLK, "tmem image") : 0;
}

int quire_tmem_pool_save(struct quire_tmem_pool *pool, struct quire_store *store, enum quire_class cls, const char *name,
                         struct quire_error *err)
{
	int rc = may_call(store_inside(store), err);

	return rc < 0 ? rc : tmem_store_save(pool, store_inside(store), (unsigned)cls, name, err);
}

int quire_tmem_pool_restore(struct quire_tmem *tmem, struct quire_store *store, const char *name,
                            const struct quire_tmem_pool_options *opts, struct quire_tmem_pool **ret_pool,
                            struct quire_error *err)
{
	int rc = may_call(store_inside(store), err);

	return rc < 0 ? rc : tmem_store_restore(tmem, store_inside(store), name, opts, ret_pool, err);
}

int quire_tmem_pool_forget(struct quire_store *store, const char *name)
{
	int rc = may_call(store_inside(store), NULL);

	return rc < 0 ? rc : tmem_store_forget(store_inside(store), name);
}
