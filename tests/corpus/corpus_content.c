/* corpus_content.c - what is in the store: objects in both classes, a container that was compacted, logs on a disk and in persistent
 * memory, one with keys, volumes with a snapshot and a clone, a saved pool of pages; and looking at all of it, unit by unit.
 */
#include "corpus.h"

#include "../../src/blob/tmem_store.h"
#include "../../src/store/format.h"

#include <errno.h>
#include <quire/log.h>
#include <quire/volume.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE FORMAT_UNIT_BYTES
#define SEGMENT 65536u
#define MOST_RECORD 2000u

/* Bytes that tell of what they are. */
static void fill(uint64_t what, uint64_t which, void *to, size_t n)
{
	uint64_t state = what << 32 ^ which;

	for (size_t i = 0; i < n; i += 8) {
		uint64_t word = random_next(&state);
		memcpy((uint8_t *)to + i, &word, n - i < 8 ? n - i : 8);
	}
}

static bool is(uint64_t what, uint64_t which, const void *bytes, size_t n)
{
	uint8_t want[PAGE];

	fill(what, which, want, n);
	return memcmp(want, bytes, n) == 0;
}

static void saw(struct view *v, enum seen seen, unsigned n)
{
	assert_true(v->n + n <= CORPUS_MOST_UNITS);
	memset(v->seen + v->n, seen, n);
	v->n += n;
	v->n_of[seen] += n;
}

/* What an open that fails makes of all that is in it. A reason is due. */
static enum seen refused(int rc, const struct quire_error *err)
{
	if (rc == -ENOENT || rc == -ESTALE)
		return SEEN_OLD; /* nobody has made it yet */
	assert_true(rc == -EBADMSG || rc == -EUCLEAN || rc == -ENOTSUP);
	assert_true(err == NULL || err->text[0] != '\0');
	return SEEN_ERROR;
}

/* ---- objects ---- */

static const uint64_t lens[CORPUS_N_OBJECTS] = {100, 4096, 20000, 66001, 9000, 4000};
static const unsigned classes[CORPUS_N_OBJECTS] = {0, 0, 0, 0, 2, 2};
#define A_PAGE 1u

static void write_object(struct corpus *c, unsigned i)
{
	uint8_t *bytes = aligned_alloc(PAGE, (lens[i] + PAGE) & ~(uint64_t)(PAGE - 1));
	struct iovec iov = {bytes, lens[i]};

	for (uint64_t at = 0; at < lens[i]; at += PAGE)
		fill(A_PAGE + i * 16, at, bytes + at, lens[i] - at < PAGE ? lens[i] - at : PAGE);
	assert_int_equal(object_begin(c->store, classes[i], 0, 0, 0, &c->ids[i]), 0);
	assert_int_equal(object_append(c->store, c->ids[i], &iov, 1), 0);
	assert_int_equal(store_apply(c->store, &c->ids[i], 1, NULL, 0), 0);
	free(bytes);
}

static void look_at_object(struct corpus *c, unsigned i, struct view *v)
{
	uint8_t *page = aligned_alloc(PAGE, PAGE);
	struct object *o;
	int rc = object_get(c->store, c->ids[i], &o);

	if (rc < 0)
		saw(v, refused(rc, NULL), (unsigned)format_n_pages(lens[i]));
	else
		assert_int_equal(object_bytes(o), lens[i]);
	for (uint64_t at = 0; rc == 0 && at < lens[i]; at += PAGE) {
		uint32_t n = lens[i] - at < PAGE ? (uint32_t)(lens[i] - at) : PAGE;
		int read = object_read_wait(o, at, n, page, NULL);
		assert_true(read == 0 || read == -EBADMSG);
		assert_true(read < 0 || is(A_PAGE + i * 16, at, page, n));
		saw(v, read == 0 ? SEEN_RIGHT : SEEN_ERROR, 1);
	}
	if (rc == 0)
		object_put(o);
	free(page);
}

/* ---- a container ---- */

#define N_LIVE 30u /* when it was compacted; as many were appended before, and are gone */
#define N_IN_IT 60u
#define A_MEMBER 2u

static void put_in(struct container *m, unsigned from, unsigned end)
{
	uint8_t bytes[MOST_RECORD];
	uint64_t no = 0;

	for (unsigned i = from; i < end; i++) {
		struct iovec part = {bytes, 20 + i * 7};
		fill(A_MEMBER, i, bytes, part.iov_len);
		assert_int_equal(container_append(m, JOURNAL_FIRST_TYPE, &part, 1, &no), 0);
	}
	assert_int_equal(container_sync(m, no, NULL), 0);
}

static void write_container(struct corpus *c)
{
	struct container *m;

	assert_int_equal(store_container_create(c->store, 0, 100000, &c->container), 0);
	assert_int_equal(store_container_open(c->store, c->container, false, NULL, NULL, &m, NULL), 0);
	put_in(m, 10, 25);
	assert_int_equal(container_cstart(m), 0);
	put_in(m, 0, N_LIVE);
	assert_int_equal(container_cend(m), 0);
	put_in(m, N_LIVE, N_IN_IT);
	assert_int_equal(store_container_close(c->store, c->container), 0);
}

static int hear(void *arg, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes)
{
	unsigned *n = arg;

	assert_true(*n < N_IN_IT && len_bytes == 20 + *n * 7 && is(A_MEMBER, *n, payload, len_bytes));
	++*n;
	return 0;
}

static void look_at_container(struct corpus *c, struct view *v)
{
	struct quire_error err = {0};
	struct container *m;
	unsigned n = 0;
	int rc = store_container_open(c->store, c->container, false, hear, &n, &m, &err);

	if (rc < 0) {
		saw(v, refused(rc, rc == -ESTALE ? NULL : &err), N_IN_IT);
		return;
	}
	assert_int_equal(store_container_close(c->store, c->container), 0);
	saw(v, SEEN_RIGHT, n);
	saw(v, SEEN_OLD, N_IN_IT - n);
}

/* ---- logs ---- */

#define N_KEYS 40u
#define A_RECORD 3u

static const struct kind_of_log {
	const char *name;
	enum quire_class cls;
	bool keys;
	unsigned n_records;
} logs[] = {{"plain", QUIRE_CLASS_CAPACITY, false, 150}, {"keyed", QUIRE_CLASS_CAPACITY, true, 150}, {"near", QUIRE_CLASS_PMEM, false, 120}};
#define N_LOGS (sizeof(logs) / sizeof(logs[0]))

static uint32_t record_len(unsigned i)
{
	return i % 13 == 0 ? 0 : i * 797 % MOST_RECORD;
}

static uint32_t key_of(unsigned i)
{
	return i * 7 % N_KEYS;
}

static void write_log(struct corpus *c, const struct kind_of_log *k)
{
	struct quire_log_options o = {.size = sizeof(o), .cls = k->cls, .segment_bytes = SEGMENT, .keys = k->keys};
	uint8_t bytes[MOST_RECORD];
	struct quire_log *log;
	uint64_t lsn;

	assert_int_equal(quire_log_create(store_public(c->store), k->name, &o, NULL), 0);
	assert_int_equal(quire_log_open(store_public(c->store), k->name, NULL, &log, NULL), 0);
	for (unsigned i = 0; i < k->n_records; i++) {
		struct iovec part = {bytes, record_len(i)};
		uint32_t key = key_of(i);
		fill(A_RECORD, i, bytes, part.iov_len);
		assert_int_equal(k->keys ? quire_log_append_key(log, &key, sizeof(key), &part, 1, &lsn, NULL)
		                         : quire_log_append(log, &part, 1, &lsn, NULL), 0);
		assert_int_equal(lsn, i);
	}
	assert_int_equal(quire_log_close(log), 0);
}

static enum seen look_at_record(struct quire_log *log, unsigned i)
{
	struct quire_log_cursor *cursor;
	struct quire_log_record r;

	if (i >= quire_log_visible(log))
		return SEEN_OLD;
	assert_int_equal(quire_log_cursor_open(log, QUIRE_LOG_VISIBLE, &cursor), 0);
	int64_t rc = quire_log_seek(cursor, i);
	if (rc == 0)
		rc = quire_log_next(cursor, &r, NULL);
	assert_true(rc == 1 || rc == -EBADMSG);
	if (rc == 1)
		assert_true(r.lsn == i && r.len_bytes == record_len(i) && is(A_RECORD, i, r.data, r.len_bytes));
	quire_log_cursor_close(cursor);
	return rc == 1 ? SEEN_RIGHT : SEEN_ERROR;
}

static enum seen look_for_key(struct quire_log *log, const struct kind_of_log *k, uint32_t key)
{
	uint64_t lsn = UINT64_MAX;
	int rc = quire_log_find_key(log, QUIRE_LOG_VISIBLE, &key, sizeof(key), &lsn, NULL);
	unsigned newest = k->n_records - 1;

	while (key_of(newest) != key)
		newest--;
	assert_true(rc == 0 || rc == -EBADMSG || rc == -ENOENT);
	if (rc == -EBADMSG)
		return SEEN_ERROR;
	/* An older one only if there is no newer any more. */
	assert_true(rc == 0 ? lsn <= newest && key_of((unsigned)lsn) == key && (lsn == newest || quire_log_visible(log) <= newest)
	                    : quire_log_visible(log) <= newest);
	return rc == 0 && lsn == newest ? SEEN_RIGHT : SEEN_OLD;
}

static void look_at_log(struct corpus *c, const struct kind_of_log *k, struct view *v)
{
	struct quire_error err = {0};
	struct quire_log *log;
	int rc = quire_log_open(store_public(c->store), k->name, NULL, &log, &err);

	if (rc < 0) {
		saw(v, refused(rc, &err), k->n_records + (k->keys ? N_KEYS : 0));
		return;
	}
	assert_true(quire_log_visible(log) <= k->n_records);
	for (unsigned i = 0; i < k->n_records; i++)
		saw(v, look_at_record(log, i), 1);
	for (uint32_t key = 0; k->keys && key < N_KEYS; key++)
		saw(v, look_for_key(log, k, key), 1);
	assert_int_equal(quire_log_close(log), 0);
}

/* ---- volumes ---- */

#define N_BLOCKS 40u
#define A_BLOCK 4u

/* Each block of each: the versions that it went through, as numbers of what was written; 0: zeros. */
static const char *const volumes[] = {"a", "a@then", "b"};
#define N_VOLUMES (sizeof(volumes) / sizeof(volumes[0]))

static unsigned versions_of(unsigned volume, unsigned k, unsigned *ret)
{
	unsigned n = 0;

	ret[n++] = 0;
	if (k < 30)
		ret[n++] = 1;
	if (volume == 0 && k % 3 == 0)
		ret[n++] = 2;
	if (volume == 0 && k % 5 == 0)
		ret[n++] = 3;
	if (volume == 2 && k >= 20)
		ret[n++] = 4;
	return n;
}

static void write_blocks(struct quire_volumes *g, const char *name, unsigned version, unsigned from, unsigned step)
{
	struct quire_volume *v;
	uint8_t block[PAGE];
	struct iovec iov = {block, PAGE};

	assert_int_equal(quire_volume_open(g, name, &v), 0);
	for (unsigned k = from; k < (version == 1 ? 30 : N_BLOCKS); k += step) {
		fill(A_BLOCK, version * 1000 + k, block, PAGE);
		assert_int_equal(quire_volume_write(v, (uint64_t)k * PAGE, &iov, 1, QUIRE_VOLUME_FUA, NULL), 0);
	}
	quire_volume_close(v);
}

static int open_volumes(struct corpus *c, struct quire_volumes **ret, struct quire_error *err)
{
	const struct quire_volumes_options o = {.size = sizeof(o), .segment_bytes = SEGMENT, .map_bytes = 1u << 20};

	return quire_volumes_open(store_public(c->store), &o, ret, err);
}

static void write_volumes(struct corpus *c)
{
	const struct quire_volume_options o = {.size = sizeof(o), .size_bytes = N_BLOCKS * PAGE};
	struct quire_volumes *g;

	assert_int_equal(open_volumes(c, &g, NULL), 0);
	assert_int_equal(quire_volume_create(g, "a", &o), 0);
	write_blocks(g, "a", 1, 0, 1);
	assert_int_equal(quire_volume_snapshot(g, "a", "a@then"), 0);
	write_blocks(g, "a", 2, 0, 3);
	assert_int_equal(quire_volume_clone(g, "a@then", "b"), 0);
	assert_int_equal(quire_volumes_checkpoint(g), 0);
	write_blocks(g, "a", 3, 0, 5);
	write_blocks(g, "b", 4, 20, 1);
	assert_int_equal(quire_volumes_close(g), 0);
}

static enum seen look_at_block(struct quire_volume *v, unsigned volume, unsigned k)
{
	static const uint8_t zeros[PAGE];
	unsigned versions[5], n = versions_of(volume, k, versions), i = n;
	uint8_t block[PAGE];
	struct iovec iov = {block, PAGE};
	int rc = quire_volume_read(v, (uint64_t)k * PAGE, &iov, 1, NULL);

	assert_true(rc == 0 || rc == -EBADMSG || rc == -EIO || rc == -EUCLEAN);
	if (rc < 0)
		return SEEN_ERROR;
	while (i > 0 && (versions[i - 1] == 0 ? memcmp(block, zeros, PAGE) != 0 : !is(A_BLOCK, versions[i - 1] * 1000 + k, block, PAGE)))
		i--;
	assert_true(i > 0);
	return i == n ? SEEN_RIGHT : SEEN_OLD;
}

static void look_at_volumes(struct corpus *c, struct view *v)
{
	struct quire_volumes *g = NULL;
	struct quire_error err = {0};
	int rc = open_volumes(c, &g, &err);

	v->volumes_from = v->n;
	if (rc < 0)
		saw(v, refused(rc, &err), N_VOLUMES * N_BLOCKS);
	for (unsigned i = 0; i < N_VOLUMES && rc == 0; i++) {
		struct quire_volume *volume;
		int opened = quire_volume_open(g, volumes[i], &volume);
		if (opened < 0) {
			saw(v, refused(opened, NULL), N_BLOCKS);
			continue;
		}
		for (unsigned k = 0; k < N_BLOCKS; k++)
			saw(v, look_at_block(volume, i, k), 1);
		quire_volume_close(volume);
	}
	v->volumes_end = v->n;
	if (rc == 0)
		assert_int_equal(quire_volumes_close(g), 0);
}

/* ---- a saved pool ---- */

#define N_PAGES 30u
#define A_POOL_PAGE 5u

static struct quire_tmem_key key_in_pool(uint32_t i)
{
	return (struct quire_tmem_key){.object = {1, 2, i % 3}, .index = i};
}

/* Some are alike, some of one word. */
static void pool_page(uint32_t i, uint8_t *page)
{
	if (i % 5 == 0)
		memset(page, (int)i, PAGE);
	else
		fill(A_POOL_PAGE, i / 2, page, PAGE);
}

static void write_pool(struct corpus *c)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT};
	struct quire_tmem_pool *pool;
	uint8_t page[PAGE];

	assert_int_equal(quire_tmem_pool_create(c->tmem, &o, &pool, NULL), 0);
	for (uint32_t i = 0; i < N_PAGES; i++) {
		struct quire_tmem_key k = key_in_pool(i);
		pool_page(i, page);
		assert_int_equal(quire_tmem_put(pool, &k, page), 0);
	}
	assert_int_equal(tmem_store_save(pool, c->store, 0, "pool", NULL), 0);
	quire_tmem_pool_destroy(pool);
}

static void look_at_pool(struct corpus *c, struct view *v)
{
	struct quire_error err = {0};
	struct quire_tmem_pool *pool;
	uint8_t page[PAGE], want[PAGE];
	int rc = tmem_store_restore(c->tmem, c->store, "pool", NULL, &pool, &err);

	if (rc < 0) {
		saw(v, refused(rc, &err), N_PAGES);
		return;
	}
	for (uint32_t i = 0; i < N_PAGES; i++) {
		struct quire_tmem_key k = key_in_pool(i);
		pool_page(i, want);
		assert_int_equal(quire_tmem_get(pool, &k, page, QUIRE_TMEM_GET_USUAL), 0);
		assert_memory_equal(page, want, PAGE);
		saw(v, SEEN_RIGHT, 1);
	}
	quire_tmem_pool_destroy(pool);
}

/* ---- all ---- */

void corpus_write(struct corpus *c)
{
	for (unsigned i = 0; i < CORPUS_N_OBJECTS; i++)
		write_object(c, i);
	write_container(c);
	for (unsigned i = 0; i < N_LOGS; i++)
		write_log(c, &logs[i]);
	write_volumes(c);
	write_pool(c);
}

void corpus_look(struct corpus *c, struct view *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (unsigned i = 0; i < CORPUS_N_OBJECTS; i++)
		look_at_object(c, i, ret);
	look_at_container(c, ret);
	for (unsigned i = 0; i < N_LOGS; i++)
		look_at_log(c, &logs[i], ret);
	look_at_volumes(c, ret);
	look_at_pool(c, ret);
}
