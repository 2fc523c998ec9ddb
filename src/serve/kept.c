/* kept.c - shared pools that outlive their clients: a table of them, and their images in a store.
 *
 * A pool in the table is open once more than clients have it open, so it lives without them. It gets there when it is first saved, or
 * restored; and leaves when it is forgotten. The name of its image is its uuid in hex, so images of other names, which a program may
 * have saved in the same store, are none of the service's.
 *
 * Invariants:
 *   1. No uuid is in the table twice. As the pool is open, no other one can have its uuid.
 *   2. Those in the table are no more than n_kept, and their caps no more than kept_bytes.
 *   3. Each in the table has an image, but for those that are there only to be saved at the end.
 *
 * Failure: a save that fails leaves the table and the image that was there before. An image that can't be restored stays in the store, and is
 * in nobody's way: a save by the same name takes its place.
 *
 * Threads: one at a time; service_internal.h says which.
 */
#include "service_internal.h"

#include "../base/fail.h"
#include "../tmem/image.h"

#include <errno.h>
#include <quire/blob.h>
#include <quire/tmem_store.h>
#include <stdio.h>
#include <stdlib.h>

#define UUID_BYTES 16u
#define NAME_BYTES (2u * UUID_BYTES + 1u)
#define IDS_AT_ONCE 16u

static_assert(NAME_BYTES <= IMAGE_NAME_BYTES, "a uuid is a name");

static void name_of(const uint8_t uuid[UUID_BYTES], char ret_name[NAME_BYTES])
{
	static const char digits[] = "0123456789abcdef";

	for (unsigned i = 0; i < UUID_BYTES; i++) {
		ret_name[2 * i] = digits[uuid[i] >> 4];
		ret_name[2 * i + 1] = digits[uuid[i] & 15];
	}
	ret_name[2 * UUID_BYTES] = '\0';
}

/* False: the name is no uuid's. */
static bool uuid_of(const char *name, uint8_t ret_uuid[UUID_BYTES])
{
	char again[NAME_BYTES];

	for (unsigned i = 0; i < UUID_BYTES; i++) {
		char two[3] = {name[0], name[0] != '\0' ? name[1] : '\0', '\0'};
		if (two[1] == '\0')
			return false;
		ret_uuid[i] = (uint8_t)strtoul(two, NULL, 16);
		name += 2;
	}
	name_of(ret_uuid, again);
	return *name == '\0' && strncmp(again, name - 2 * UUID_BYTES, sizeof(again)) == 0;
}

static void tell(const struct quire_tmem_service *s, const char *what, int error, const char *why)
{
	struct quire_error err = {.code = error};

	snprintf(err.text, sizeof(err.text), "saved pool %s: %.160s", what, why);
	if (s->o.trouble != NULL)
		s->o.trouble(s->o.trouble_arg, &err);
}

/* ---- the table ---- */

static struct kept_pool *find(struct kept *kept, const uint8_t uuid[UUID_BYTES])
{
	for (unsigned i = 0; i < kept->n; i++)
		if (memcmp(kept->pools[i].uuid, uuid, UUID_BYTES) == 0)
			return &kept->pools[i];
	return NULL;
}

/* NULL: there is no room for it, and it is the caller's still. */
static struct kept_pool *add(struct quire_tmem_service *s, const uint8_t uuid[UUID_BYTES], struct quire_tmem_pool *pool)
{
	struct kept *kept = &s->kept;
	struct quire_tmem_pool_stat stat;
	uint64_t sum = 0;

	quire_tmem_pool_stat(pool, &stat);
	/* One without a cap is the service's own program's, who alone answers for it. */
	uint64_t cap = stat.cap_bytes != 0 ? stat.cap_bytes : stat.held_bytes;
	for (unsigned i = 0; i < kept->n; i++)
		sum += kept->pools[i].cap_bytes;
	if (kept->n == s->o.n_kept || sum > s->o.kept_bytes || cap > s->o.kept_bytes - sum)
		return NULL;
	struct kept_pool *k = &kept->pools[kept->n++];
	*k = (struct kept_pool){.pool = pool, .cap_bytes = cap};
	memcpy(k->uuid, uuid, UUID_BYTES);
	atomic_store(&s->n_kept, kept->n);
	return k;
}

static void let_go(struct quire_tmem_service *s, struct kept_pool *k)
{
	quire_tmem_pool_destroy(k->pool);
	*k = s->kept.pools[--s->kept.n];
	atomic_store(&s->n_kept, s->kept.n);
}

/* ---- saving ---- */

static int save(struct quire_tmem_service *s, const struct kept_pool *k, struct quire_error *err)
{
	char name[NAME_BYTES];

	name_of(k->uuid, name);
	int rc = quire_tmem_pool_save(k->pool, s->o.store, s->o.cls, name, err);
	atomic_fetch_add(rc < 0 ? &s->n_save_errors : &s->n_saved, 1);
	return rc;
}

int kept_save(struct quire_tmem_service *s, const uint8_t uuid[UUID_BYTES], struct quire_tmem_pool *pool)
{
	struct kept_pool *k = find(&s->kept, uuid);
	bool is_new = k == NULL;

	if (is_new)
		k = add(s, uuid, pool);
	if (!is_new || k == NULL)
		quire_tmem_pool_destroy(pool);
	if (k == NULL)
		return -ENOSPC;
	int rc = save(s, k, NULL);
	if (rc < 0 && is_new)
		let_go(s, k);
	return rc;
}

int kept_forget(struct quire_tmem_service *s, const uint8_t uuid[UUID_BYTES])
{
	struct kept_pool *k = find(&s->kept, uuid);
	char name[NAME_BYTES];

	name_of(uuid, name);
	int rc = quire_tmem_pool_forget(s->o.store, name);
	if (k != NULL && (rc == 0 || rc == -ENOENT))
		let_go(s, k);
	return rc;
}

/* For this last time, one that a client has. */
static void adopt(void *arg, const uint8_t uuid[UUID_BYTES])
{
	struct quire_tmem_service *s = arg;
	struct quire_tmem_pool *pool;
	char name[NAME_BYTES];

	if (find(&s->kept, uuid) != NULL || quire_tmem_pool_open(s->tmem, uuid, &pool) < 0)
		return;
	if (add(s, uuid, pool) != NULL)
		return;
	quire_tmem_pool_destroy(pool);
	name_of(uuid, name);
	tell(s, name, -ENOSPC, "not saved: as many are kept as may be");
}

static void adopt_of_client(struct client *c)
{
	if (c->stays)
		account_each_keepable(&c->account, adopt, c->service);
}

void kept_save_all(struct quire_tmem_service *s)
{
	struct quire_error err;
	char name[NAME_BYTES];

	reaper_each_client(s, adopt_of_client);
	for (unsigned i = 0; i < s->kept.n; i++) {
		int rc = save(s, &s->kept.pools[i], &err);
		/* A copy takes some of the budget. What is private goes anyway, so it goes now. */
		if (rc == -ENOMEM && s->reaper_runs) {
			reaper_stop(s);
			s->reaper_runs = false;
			rc = save(s, &s->kept.pools[i], &err);
		}
		name_of(s->kept.pools[i].uuid, name);
		if (rc < 0)
			tell(s, name, rc, err.text);
	}
}

/* ---- restoring ---- */

static int restore(struct quire_tmem_service *s, const uint8_t uuid[UUID_BYTES], const char *name, struct quire_error *err)
{
	struct quire_tmem_pool *pool, *named = NULL;
	int rc = quire_tmem_pool_restore(s->tmem, s->o.store, name, NULL, &pool, err);

	if (rc < 0)
		return rc;
	if (quire_tmem_pool_open(s->tmem, uuid, &named) == 0)
		quire_tmem_pool_destroy(named);
	if (named != pool)
		rc = quire_fail(err, -EUCLEAN, "another pool's uuid");
	else if (add(s, uuid, pool) == NULL)
		rc = quire_fail(err, -ENOSPC, "as many are kept as may be");
	if (rc < 0)
		quire_tmem_pool_destroy(pool);
	return rc;
}

static int read_name(struct quire_tmem_service *s, uint64_t id, char ret_name[IMAGE_NAME_BYTES], struct quire_error *err)
{
	struct image_head_le head;
	struct iovec iov = {&head, sizeof(head)};
	int64_t n = quire_blob_read(s->o.store, id, 0, &iov, 1, NULL);

	return n < 0 ? quire_fail(err, (int)n, "its name can't be read") : tmem_image_name(&head, (size_t)n, ret_name, err);
}

static void restore_blob(struct quire_tmem_service *s, uint64_t id)
{
	char name[IMAGE_NAME_BYTES], blob[32];
	uint8_t uuid[UUID_BYTES];
	struct quire_error err;
	int rc = read_name(s, id, name, &err);

	if (rc < 0) {
		snprintf(blob, sizeof(blob), "in blob %llu", (unsigned long long)id);
		tell(s, blob, rc, err.text);
		return;
	}
	/* Of two by one name the newer counts, and that was restored with the older. */
	if (!uuid_of(name, uuid) || find(&s->kept, uuid) != NULL)
		return;
	rc = restore(s, uuid, name, &err);
	if (rc < 0)
		tell(s, name, rc, err.text);
}

int kept_init(struct quire_tmem_service *s)
{
	uint64_t ids[IDS_AT_ONCE], after = 0;
	int n;

	s->kept.pools = calloc(s->o.n_kept, sizeof(s->kept.pools[0]));
	if (s->kept.pools == NULL)
		return -ENOMEM;
	while ((n = quire_blob_list_tagged(s->o.store, QUIRE_TMEM_IMAGE_TAG, after, ids, IDS_AT_ONCE)) > 0) {
		for (int i = 0; i < n; i++)
			restore_blob(s, ids[i]);
		after = ids[n - 1];
	}
	return n;
}

void kept_fini(struct quire_tmem_service *s)
{
	while (s->kept.n > 0)
		let_go(s, &s->kept.pools[s->kept.n - 1]);
	free(s->kept.pools);
}
