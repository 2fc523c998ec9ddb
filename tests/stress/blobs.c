/* blobs.c - a store whose blobs stand beside the files in maps.
 *
 * `capacity` and `staging` have blobs that come and go: each has the content of its key, and is deleted, sooner or
 * later, while maps of it go on. `pmem` has those that the vandal makes for himself; he flips bits anywhere
 * in that class, whatever is there. What is wanted of them may end with -EBADMSG.
 */
#include "stress.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define N_BLOBS 8
#define PIECE_BYTES (64u << 10)
#define CLASS_BYTES (UINT64_C(1) << 30)
#define PREY_CLASS_BYTES (16u << 20)
#define N_FLIPS 16 /* at once */

struct quire_store *store;

static struct {
	pthread_mutex_t lock; /* of blobs; each of the list can be mapped as long as it is held */
	struct blob blobs[N_BLOBS];
	uint64_t version;
} live = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- making ---- */

static struct blob blob_begin(enum quire_class cls, uint64_t key, uint64_t size)
{
	struct quire_blob_hints hints = {.size = sizeof(hints), .cls = cls};
	struct blob b = {.key = key, .size = size};
	int rc = quire_blob_alloc(store, &hints, &b.id);

	CHECK(rc == 0, "alloc: %d", rc);
	return b;
}

/* False: no memory, since pins and fills have all of it now. */
static bool blob_append(const struct blob *b, uint64_t from)
{
	static _Thread_local char piece[PIECE_BYTES];
	size_t n = b->size - from < PIECE_BYTES ? (size_t)(b->size - from) : PIECE_BYTES;
	struct iovec v = {piece, n};

	content_fill(b->key, from, piece, n);
	int rc = quire_blob_write(store, b->id, &v, 1, NULL);
	CHECK(rc == 0 || rc == -ENOMEM, "write: %d", rc);
	return rc == 0;
}

/* Piece by piece in turn, so that they lie in each other's way. False: none is left of them. */
static bool blobs_write(const struct blob *blobs, unsigned n)
{
	bool more = true, enough = true;

	for (uint64_t from = 0; more && enough; from += PIECE_BYTES) {
		more = false;
		for (unsigned i = 0; i < n && enough; i++)
			if (from < blobs[i].size) {
				enough = blob_append(&blobs[i], from);
				more = true;
			}
	}
	for (unsigned i = 0; i < n && !enough; i++)
		CHECK(quire_blob_abort(store, blobs[i].id) == 0, "abort");
	return enough;
}

static uint64_t blob_size(struct chance *c)
{
	const uint64_t small[] = {0, 1, 4096, page_bytes, page_bytes + 1, 17 * page_bytes - 8};
	unsigned n = sizeof(small) / sizeof(small[0]);

	/* Some have checksums in more than one page of them (4 MiB each). */
	return one_in(c, 3) ? small[chance_below(c, n)] : 1 + chance_next(c) % (one_in(c, 8) ? 9u << 20 : 512u << 10);
}

void blobs_replace(struct chance *c)
{
	unsigned first = chance_below(c, N_BLOBS / 2) * 2;
	struct blob fresh[2];
	uint64_t dead[2], ids[2];

	for (unsigned i = 0; i < 2; i++) {
		enum quire_class cls = one_in(c, 2) ? QUIRE_CLASS_CAPACITY : QUIRE_CLASS_STAGING;
		uint64_t version = __atomic_add_fetch(&live.version, 1, __ATOMIC_RELAXED);

		fresh[i] = blob_begin(cls, content_key(5000 + first + i, version), blob_size(c));
		ids[i] = fresh[i].id;
	}
	if (!blobs_write(fresh, 2))
		return;
	pthread_mutex_lock(&live.lock);
	dead[0] = live.blobs[first].id;
	dead[1] = live.blobs[first + 1].id;
	int rc = quire_blob_apply(store, ids, 2, dead, dead[0] != 0 ? 2 : 0, NULL);
	memcpy(&live.blobs[first], fresh, sizeof(fresh));
	pthread_mutex_unlock(&live.lock);
	CHECK(rc == 0, "apply: %d", rc);
}

void blobs_lock(void)
{
	pthread_mutex_lock(&live.lock);
}

void blobs_unlock(void)
{
	pthread_mutex_unlock(&live.lock);
}

struct blob blobs_pick_locked(struct chance *c)
{
	return live.blobs[chance_below(c, N_BLOBS)];
}

/* ---- reading, beside all maps ---- */

void blob_read_some(struct chance *c)
{
	unsigned char copy[4096];

	blobs_lock();
	struct blob b = blobs_pick_locked(c);
	blobs_unlock();
	uint64_t at = chance_next(c) % (b.size + 100), left = at < b.size ? b.size - at : 0;
	struct iovec v = {copy, 1 + chance_below(c, sizeof(copy))};
	int64_t n = quire_blob_read(store, b.id, at, &v, 1, NULL);

	if (n == -ESTALE)
		return;
	CHECK(n == (int64_t)(left < v.iov_len ? left : v.iov_len), "read: %lld of %zu", (long long)n, v.iov_len);
	CHECK(content_equal(b.key, false, at, copy, (size_t)n), "blob %llu at %llu: wrong bytes", (unsigned long long)b.id,
	      (unsigned long long)at);
}

/* ---- for the vandal ---- */

struct blob prey_blob_make(uint64_t key, uint64_t size)
{
	struct blob b;

	do
		b = blob_begin(QUIRE_CLASS_PMEM, key, size);
	while (!blobs_write(&b, 1));
	int rc = quire_blob_commit(store, &b.id, 1, NULL);
	CHECK(rc == 0, "commit: %d", rc);
	return b;
}

void prey_blob_delete(uint64_t id)
{
	int rc = quire_blob_delete(store, &id, 1, NULL);

	CHECK(rc == 0, "delete: %d", rc);
}

void prey_blobs_damage(struct chance *c)
{
	char path[sizeof(directory) + 16];

	snprintf(path, sizeof(path), "%s/store/pmem", directory);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0, "%s: %s", path, strerror(errno));
	for (unsigned i = 0; i < N_FLIPS; i++) {
		off_t at = (off_t)(chance_next(c) % PREY_CLASS_BYTES);
		unsigned char byte;

		CHECK(pread(fd, &byte, 1, at) == 1, "%s", strerror(errno));
		byte ^= (unsigned char)(1 + chance_below(c, 255));
		CHECK(pwrite(fd, &byte, 1, at) == 1, "%s", strerror(errno));
	}
	close(fd);
}

/* ---- the store ---- */

void blobs_create(void)
{
	struct quire_store_options o = {.size = sizeof(o), .capacity_bytes = CLASS_BYTES};
	struct chance c = {options.seed ^ 0xb10b};
	char path[sizeof(directory) + 16];
	struct quire_error err;

	snprintf(path, sizeof(path), "%s/store", directory);
	CHECK(quire_store_create(path, &o, &err) == 0, "%s", err.text);
	CHECK(quire_store_open(cache, path, 0, &store, &err) == 0, "%s", err.text);
	CHECK(quire_store_class_add(store, QUIRE_CLASS_STAGING, NULL, CLASS_BYTES, &err) == 0, "%s", err.text);
	CHECK(quire_store_class_add(store, QUIRE_CLASS_PMEM, NULL, PREY_CLASS_BYTES, &err) == 0, "%s", err.text);
	while (live.blobs[0].id == 0 || live.blobs[2].id == 0 || live.blobs[4].id == 0 || live.blobs[6].id == 0)
		blobs_replace(&c);
}

/* All maps are gone. */
void blobs_destroy(void)
{
	struct quire_store_stat s;

	CHECK(quire_store_stat(store, &s) == 0, "stat");
	CHECK(s.n_open == 0 && s.n_uncommitted == 0, "left behind: %llu open, %llu uncommitted",
	      (unsigned long long)s.n_open, (unsigned long long)s.n_uncommitted);
	for (unsigned i = 0; i < QUIRE_N_CLASSES; i++)
		CHECK(s.classes[i].pending_bytes == 0, "class %u: %llu bytes of the dead", i,
		      (unsigned long long)s.classes[i].pending_bytes);
	int rc = quire_store_close(store);
	CHECK(rc == 0, "close: %d", rc);
}
