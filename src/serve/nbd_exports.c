/* nbd_exports.c - exports by their names: the one thing of a server that others may change while it runs.
 *
 * A connection has a use of each export that it looks at, from nbd_export_get on; what is in use is not removed.
 *
 * Lock: nbd->exports_lock, a leaf, over the array and all n_users. Held for a comparison of names, never while an export is asked.
 */
#include "nbd_internal.h"

#include "../base/assert.h"
#include "../base/fail.h"
#include <errno.h>
#include <stdlib.h>

/* ---- names ---- */

/* The length of the UTF-8 sequence that begins there, 0 if it is none. */
static size_t sequence_bytes(const uint8_t *s, size_t n)
{
	static const struct {
		uint8_t mask, is;
		uint32_t least;
	} kinds[] = {{0x80, 0, 1}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};

	for (size_t len = 1; len <= 4 && len <= n; len++) {
		if ((s[0] & kinds[len - 1].mask) != kinds[len - 1].is)
			continue;
		uint32_t code = s[0] & (uint8_t)~kinds[len - 1].mask;
		for (size_t i = 1; i < len; i++) {
			if ((s[i] & 0xc0) != 0x80)
				return 0;
			code = code << 6 | (s[i] & 0x3f);
		}
		bool good = code >= kinds[len - 1].least && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
		return good ? len : 0;
	}
	return 0;
}

bool nbd_is_string(const uint8_t *bytes, size_t n_bytes)
{
	if (n_bytes > NBD_STRING_BYTES)
		return false;
	for (size_t i = 0; i < n_bytes;) {
		size_t len = sequence_bytes(bytes + i, n_bytes - i);
		if (len == 0)
			return false;
		i += len;
	}
	return true;
}

/* Where it is in the array; n_exports: nowhere. */
static unsigned place_of(const struct quire_nbd *nbd, const uint8_t *name, size_t n_bytes)
{
	unsigned i = 0;

	while (i < nbd->n_exports &&
	       (strlen(nbd->exports[i]->name) != n_bytes || memcmp(nbd->exports[i]->name, name, n_bytes) != 0))
		i++;
	return i;
}

/* ---- for connections ---- */

struct export *nbd_export_get(struct quire_nbd *nbd, const uint8_t *name, size_t n_bytes)
{
	struct export *e = NULL;

	pthread_mutex_lock(&nbd->exports_lock);
	unsigned i = place_of(nbd, name, n_bytes);
	if (i == nbd->n_exports && n_bytes == 0 && nbd->n_exports == 1)
		i = 0;
	if (i < nbd->n_exports) {
		e = nbd->exports[i];
		e->n_users++;
	}
	pthread_mutex_unlock(&nbd->exports_lock);
	return e;
}

void nbd_export_put(struct quire_nbd *nbd, struct export *e)
{
	if (e == NULL)
		return;
	pthread_mutex_lock(&nbd->exports_lock);
	quire_assert(e->n_users > 0);
	e->n_users--;
	pthread_mutex_unlock(&nbd->exports_lock);
}

bool nbd_export_name(struct quire_nbd *nbd, unsigned i, uint8_t *ret, size_t *ret_bytes)
{
	pthread_mutex_lock(&nbd->exports_lock);
	bool there = i < nbd->n_exports;
	if (there) {
		*ret_bytes = strlen(nbd->exports[i]->name);
		memcpy(ret, nbd->exports[i]->name, *ret_bytes);
	}
	pthread_mutex_unlock(&nbd->exports_lock);
	return there;
}

/* ---- adding and removing ---- */

static int close_export(struct export *e)
{
	char *name = e->name, *description = e->description;
	int rc = e->ops->close(e);

	free(name);
	free(description);
	return rc;
}

static int insert(struct quire_nbd *nbd, struct export *e)
{
	if (place_of(nbd, (const uint8_t *)e->name, strlen(e->name)) < nbd->n_exports)
		return -EEXIST;
	struct export **exports = realloc(nbd->exports, (nbd->n_exports + 1) * sizeof(*exports));
	if (exports == NULL)
		return -ENOMEM;
	nbd->exports = exports;
	nbd->exports[nbd->n_exports++] = e;
	return 0;
}

int nbd_export_add(struct quire_nbd *nbd, const char *name, struct export *e, struct quire_error *err)
{
	e->name = strdup(name);
	int rc = loop_is_of_parent(nbd->loop) ? -ECHILD : e->name == NULL ? -ENOMEM : 0;

	if (rc == 0 && !nbd_is_string((const uint8_t *)name, strlen(name)))
		rc = -EINVAL;
	if (rc == 0) {
		pthread_mutex_lock(&nbd->exports_lock);
		rc = insert(nbd, e);
		pthread_mutex_unlock(&nbd->exports_lock);
	}
	if (rc < 0) {
		(void)close_export(e);
		return quire_fail(err, rc, "export \"%.64s\"", name);
	}
	return 0;
}

int quire_nbd_add_file(struct quire_nbd *nbd, const char *name, const char *path, unsigned flags, struct quire_error *err)
{
	struct export *e;

	if (flags & ~QUIRE_NBD_READ_ONLY)
		return quire_fail(err, -EINVAL, "flags %#x", flags);
	int rc = export_file_open(path, flags & QUIRE_NBD_READ_ONLY, &e, err);
	return rc == 0 ? nbd_export_add(nbd, name, e, err) : rc;
}

int quire_nbd_add_memory(struct quire_nbd *nbd, const char *name, uint64_t size_bytes, struct quire_error *err)
{
	struct export *e;
	int rc = export_ram_create(size_bytes, &e, err);

	return rc == 0 ? nbd_export_add(nbd, name, e, err) : rc;
}

int quire_nbd_remove(struct quire_nbd *nbd, const char *name)
{
	if (loop_is_of_parent(nbd->loop))
		return -ECHILD;

	struct export *e = NULL;

	pthread_mutex_lock(&nbd->exports_lock);
	unsigned i = place_of(nbd, (const uint8_t *)name, strlen(name));
	int rc = i == nbd->n_exports ? -ENOENT : nbd->exports[i]->n_users > 0 ? -EBUSY : 0;
	if (rc == 0) {
		e = nbd->exports[i];
		nbd->n_exports--;
		memmove(nbd->exports + i, nbd->exports + i + 1, (nbd->n_exports - i) * sizeof(e));
	}
	pthread_mutex_unlock(&nbd->exports_lock);
	return rc == 0 ? close_export(e) : rc;
}

int nbd_exports_fini(struct quire_nbd *nbd)
{
	int rc = 0;

	for (unsigned i = 0; i < nbd->n_exports; i++) {
		int closed = close_export(nbd->exports[i]);
		rc = rc < 0 ? rc : closed;
	}
	free(nbd->exports);
	return rc;
}
