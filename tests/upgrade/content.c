/* content.c - a store with something of every kind in it: made, told, and written on, by the public interface alone.
 *
 *   upgrade-content make disk|pmem DIR   makes it; classes capacity and staging, or capacity and pmem (exit 77: not here)
 *   upgrade-content list DIR             a line for everything in it, with a hash of its bytes
 *   upgrade-content use DIR              writes on: to everything that is there, and something more of every kind
 *
 * What `use` adds begins with "later", and is no part of what `list` hashes; so what was there has the same lines afterwards.
 */
#include <quire/quire.h>
#include <quire/tmem_store.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB (1u << 20)
#define PAGE 4096u
#define TAG_NOTE 'n' /* the blob that says the container's id */

static struct quire_cache *cache;
static struct quire_store *store;
static struct quire_error err;

/* 0 or more is good. */
static int64_t good(int64_t rc, const char *what)
{
	if (rc >= 0)
		return rc;
	fprintf(stderr, "%s: %s (%s)\n", what, strerror((int)-rc), err.text);
	exit(1);
}

#define GOOD(call) good(call, #call)

static uint64_t hash(uint64_t h, const void *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = (h ^ ((const uint8_t *)bytes)[i]) * 1099511628211u; /* FNV-1a */
	return h;
}
#define HASH_BEGIN 14695981039346656037u

/* Bytes that compress well, and differ everywhere. */
static void fill(const char *what, unsigned which, void *to, size_t n)
{
	char word[64];
	size_t len = 0, at = 0;

	for (unsigned i = 0; at < n; i++, at += len) {
		len = (size_t)snprintf(word, sizeof(word), "%s %u, word %u; ", what, which, i);
		memcpy((char *)to + at, word, n - at < len ? n - at : len);
	}
}

static bool is_later(const void *bytes, size_t n)
{
	return n >= 5 && memcmp(bytes, "later", 5) == 0;
}

/* ---- blobs ---- */

static uint64_t put_blob(enum quire_class cls, uint8_t tag, const void *bytes, size_t n)
{
	const struct quire_blob_hints hints = {.size = sizeof(hints), .cls = cls, .tag = tag};
	struct iovec iov = {(void *)(uintptr_t)bytes, n};
	uint64_t id;

	GOOD(quire_blob_alloc(store, &hints, &id));
	GOOD(quire_blob_write(store, id, &iov, 1, NULL));
	GOOD(quire_blob_commit(store, &id, 1, NULL));
	return id;
}

static void make_blobs(enum quire_class other)
{
	static const size_t lens[] = {0, 1, 4096, 4097, 50000, 200000};
	uint8_t *bytes = malloc(lens[5]);

	for (unsigned i = 0; i < 6; i++) {
		fill("blob", i, bytes, lens[i]);
		put_blob(i % 2 == 0 ? QUIRE_CLASS_CAPACITY : other, (uint8_t)(i * 40), bytes, lens[i]);
	}
	free(bytes);
}

static void list_blob(uint64_t id)
{
	struct quire_blob_props p;

	GOOD(quire_blob_props(store, id, &p));
	if (p.tag == QUIRE_TMEM_IMAGE_TAG || p.tag == 255)
		return; /* they are told as what they are */
	uint8_t *bytes = malloc(p.len_bytes + 1);
	struct iovec iov = {bytes, p.len_bytes};
	GOOD(quire_blob_read(store, id, 0, &iov, 1, NULL));
	if (!is_later(bytes, p.len_bytes))
		printf("blob %" PRIu64 ": class %d, tag %u, %" PRIu64 " bytes, %016" PRIx64 "\n", id, (int)p.cls, p.tag, p.len_bytes,
		       hash(HASH_BEGIN, bytes, p.len_bytes));
	free(bytes);
}

static void list_blobs(void)
{
	for (uint64_t id = 0; quire_blob_list(store, id, &id, 1) == 1;)
		list_blob(id);
}

/* ---- containers ---- */

static void append_all(struct quire_mdc *mdc, const char *what, unsigned n)
{
	uint8_t bytes[1000];

	for (unsigned i = 0; i < n; i++) {
		fill(what, i, bytes, 20 + i * 9);
		GOOD(quire_mdc_append(mdc, bytes, 20 + i * 9, i + 1 == n));
	}
}

static void make_container(void)
{
	struct quire_mdc *mdc;
	char note[32];
	uint64_t id;

	GOOD(quire_mdc_create(store, QUIRE_CLASS_CAPACITY, 60000, &id));
	GOOD(quire_mdc_open(store, id, NULL, NULL, &mdc, &err));
	append_all(mdc, "gone", 20);
	GOOD(quire_mdc_cstart(mdc));
	append_all(mdc, "member", 40);
	GOOD(quire_mdc_cend(mdc));
	append_all(mdc, "newer", 20);
	GOOD(quire_mdc_close(mdc));
	put_blob(QUIRE_CLASS_CAPACITY, TAG_NOTE, note, (size_t)snprintf(note, sizeof(note), "%" PRIu64, id));
}

static uint64_t container_id(void)
{
	uint64_t note;
	char text[32] = "";
	struct iovec iov = {text, sizeof(text) - 1};

	if (quire_blob_list_tagged(store, TAG_NOTE, 0, &note, 1) != 1)
		good(-ENOENT, "the container's id");
	GOOD(quire_blob_read(store, note, 0, &iov, 1, NULL));
	return strtoull(text, NULL, 10);
}

struct sum {
	unsigned n;
	uint64_t hash;
};

static int hear(void *arg, const void *record, size_t len_bytes)
{
	struct sum *s = arg;

	if (is_later(record, len_bytes))
		return 0;
	s->n++;
	s->hash = hash(s->hash, record, len_bytes);
	return 0;
}

static void list_container(void)
{
	struct sum s = {0, HASH_BEGIN};
	struct quire_mdc *mdc;

	GOOD(quire_mdc_open(store, container_id(), hear, &s, &mdc, &err));
	GOOD(quire_mdc_close(mdc));
	printf("container: %u records, %016" PRIx64 "\n", s.n, s.hash);
}

/* ---- logs ---- */

#define N_KEYS 50u

static void append_records(const char *name, const char *what, unsigned n, bool keys)
{
	struct quire_log *log;
	uint8_t bytes[1000];
	uint64_t lsn;

	GOOD(quire_log_open(store, name, NULL, &log, &err));
	for (unsigned i = 0; i < n; i++) {
		struct iovec iov = {bytes, 30 + i * 11 % 900};
		char key[32];
		size_t key_bytes = (size_t)snprintf(key, sizeof(key), "%s %u", what, i % N_KEYS);
		fill(what, i, bytes, iov.iov_len);
		GOOD(keys ? quire_log_append_key(log, key, key_bytes, &iov, 1, &lsn, NULL) : quire_log_append(log, &iov, 1, &lsn, NULL));
	}
	GOOD(quire_log_close(log));
}

static void make_logs(enum quire_class other)
{
	const struct quire_log_options near = {.size = sizeof(near), .cls = other, .segment_bytes = 65536};
	const struct quire_log_options keyed = {.size = sizeof(keyed), .segment_bytes = 65536, .keys = true, .retain_records = 1000000};

	GOOD(quire_log_create(store, "events", &near, &err));
	GOOD(quire_log_create(store, "keyed", &keyed, &err));
	append_records("events", "record", 300, false);
	append_records("keyed", "entry", 300, true);
}

static void list_keys(struct quire_log *log, const char *name)
{
	uint64_t lsn, h = HASH_BEGIN;
	char key[32];

	for (unsigned i = 0; i < N_KEYS; i++) {
		size_t n = (size_t)snprintf(key, sizeof(key), "entry %u", i);
		GOOD(quire_log_find_key(log, QUIRE_LOG_VISIBLE, key, n, &lsn, NULL));
		h = hash(h, &lsn, sizeof(lsn));
	}
	printf("keys of %s: %016" PRIx64 "\n", name, h);
}

static void list_log(const struct quire_log_info *info)
{
	struct sum s = {0, HASH_BEGIN};
	struct quire_log_cursor *cursor;
	struct quire_log_record r;
	struct quire_log *log;

	GOOD(quire_log_open(store, info->name, NULL, &log, &err));
	GOOD(quire_log_cursor_open(log, QUIRE_LOG_VISIBLE, &cursor));
	for (uint64_t left = quire_log_visible(log); left > 0; left--) {
		GOOD(quire_log_next(cursor, &r, NULL));
		s.hash = is_later(r.data, r.len_bytes) ? s.hash : hash(hash(s.hash, &r.time_ns, sizeof(r.time_ns)), r.key, r.key_bytes);
		(void)hear(&s, r.data, r.len_bytes);
	}
	quire_log_cursor_close(cursor);
	if (strncmp(info->name, "later", 5) != 0)
		printf("log %s: class %d, %u records, %016" PRIx64 "\n", info->name, (int)info->cls, s.n, s.hash);
	if (strcmp(info->name, "keyed") == 0)
		list_keys(log, info->name);
	GOOD(quire_log_close(log));
}

static void list_logs(void)
{
	struct quire_log_info info = {0};

	while (quire_log_ls(store, info.id, &info) == 1)
		list_log(&info);
}

/* ---- volumes ---- */

#define VOLUME_BLOCKS 256u

static struct quire_volumes *open_group(void)
{
	const struct quire_volumes_options o = {.size = sizeof(o), .segment_bytes = 65536};
	struct quire_volumes *g = NULL;

	GOOD(quire_volumes_open(store, &o, &g, &err));
	return g;
}

static void write_blocks(struct quire_volumes *g, const char *name, const char *what, unsigned from, unsigned n)
{
	struct quire_volume *v = NULL;
	uint8_t block[PAGE];
	struct iovec iov = {block, PAGE};

	GOOD(quire_volume_open(g, name, &v));
	for (unsigned k = from; k < from + n; k++) {
		fill(what, k, block, PAGE);
		GOOD(quire_volume_write(v, (uint64_t)k * PAGE, &iov, 1, 0, NULL));
	}
	quire_volume_close(v);
}

static void make_volumes(void)
{
	const struct quire_volume_options o = {.size = sizeof(o), .size_bytes = VOLUME_BLOCKS * PAGE};
	struct quire_volumes *g = open_group();

	GOOD(quire_volume_create(g, "disk", &o));
	write_blocks(g, "disk", "block", 0, 30);
	GOOD(quire_volume_snapshot(g, "disk", "disk@one"));
	write_blocks(g, "disk", "second", 20, 30);
	GOOD(quire_volume_clone(g, "disk@one", "copy"));
	write_blocks(g, "copy", "third", 100, 10);
	GOOD(quire_volumes_checkpoint(g));
	GOOD(quire_volume_snapshot(g, "disk", "disk@two"));
	write_blocks(g, "disk", "fourth", 5, 3);
	GOOD(quire_volumes_close(g));
}

static void list_volume(struct quire_volumes *g, const struct quire_volume_info *info)
{
	struct quire_volume *v = NULL;
	uint8_t block[PAGE];
	struct iovec iov = {block, PAGE};
	uint64_t h = HASH_BEGIN;

	GOOD(quire_volume_open(g, info->name, &v));
	for (uint64_t at = 0; at < info->size_bytes; at += PAGE) {
		GOOD(quire_volume_read(v, at, &iov, 1, NULL));
		if (!is_later(block, PAGE))
			h = hash(h, block, PAGE);
	}
	quire_volume_close(v);
	printf("volume %s: %" PRIu64 " bytes, %016" PRIx64 "\n", info->name, info->size_bytes, h);
}

static void list_volumes(void)
{
	struct quire_volume_info info = {0};
	struct quire_volumes *g = open_group();

	while (quire_volume_ls(g, info.id, &info) == 1)
		if (strncmp(info.name, "later", 5) != 0 && strstr(info.name, "@later") == NULL)
			list_volume(g, &info);
	GOOD(quire_volumes_close(g));
}

/* ---- saved pools ---- */

#define POOL_PAGES 60u

static struct quire_tmem *make_tmem(void)
{
	const struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = 8 * MIB, .n_threads = 1};
	struct quire_tmem *t = NULL;

	GOOD(quire_tmem_create(&o, &t, &err));
	return t;
}

static struct quire_tmem_key key_of(uint32_t i)
{
	return (struct quire_tmem_key){.object = {7, i % 4, 9}, .index = i};
}

static void save_pool(const char *name, const char *what)
{
	const struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT};
	struct quire_tmem *t = make_tmem();
	struct quire_tmem_pool *pool = NULL;
	uint8_t page[PAGE];

	GOOD(quire_tmem_pool_create(t, &o, &pool, &err));
	for (uint32_t i = 0; i < POOL_PAGES; i++) {
		struct quire_tmem_key k = key_of(i);
		if (i % 7 == 0)
			memset(page, (int)i, PAGE);
		else
			fill(what, i / 2, page, PAGE);
		GOOD(quire_tmem_put(pool, &k, page));
	}
	GOOD(quire_tmem_pool_save(pool, store, QUIRE_CLASS_CAPACITY, name, &err));
	quire_tmem_destroy(t);
}

static void list_pool(const char *name)
{
	struct quire_tmem *t = make_tmem();
	struct quire_tmem_pool *pool = NULL;
	uint64_t h = HASH_BEGIN;
	uint8_t page[PAGE];

	GOOD(quire_tmem_pool_restore(t, store, name, NULL, &pool, &err));
	for (uint32_t i = 0; i < POOL_PAGES; i++) {
		struct quire_tmem_key k = key_of(i);
		GOOD(quire_tmem_get(pool, &k, page, QUIRE_TMEM_GET_USUAL));
		h = hash(h, page, PAGE);
	}
	printf("pool %s: %u pages, %016" PRIx64 "\n", name, POOL_PAGES, h);
	quire_tmem_destroy(t);
}

/* ---- all ---- */

static void open_store(const char *dir)
{
	const struct quire_cache_options o = {.size = sizeof(o), .budget_bytes = 64 * MIB};

	GOOD(quire_cache_open(&o, &cache, &err));
	int rc = quire_store_open(cache, dir, 0, &store, &err);
	if (rc == -ENOTSUP && strstr(err.text, "pmem2") != NULL) {
		fprintf(stderr, "%s\n", err.text);
		exit(77);
	}
	good(rc, "opening the store");
}

static void close_store(void)
{
	GOOD(quire_store_close(store));
	GOOD(quire_cache_close(cache));
}

static void make(const char *kind, const char *dir)
{
	const struct quire_store_options o = {.size = sizeof(o), .capacity_bytes = 8 * MIB};
	enum quire_class other = strcmp(kind, "pmem") == 0 ? QUIRE_CLASS_PMEM : QUIRE_CLASS_STAGING;
	const struct quire_class_options cls = {.size = sizeof(cls), .bytes = 2 * MIB,
		.durable = other == QUIRE_CLASS_PMEM ? QUIRE_DURABLE_PROCESS : QUIRE_DURABLE_DEFAULT};

	GOOD(quire_store_create(dir, &o, &err));
	open_store(dir);
	GOOD(quire_store_class_add_with(store, other, &cls, &err));
	make_blobs(other);
	make_container();
	make_logs(other);
	make_volumes();
	save_pool("pool", "page");
	close_store();
}

static void list(const char *dir)
{
	open_store(dir);
	list_blobs();
	list_container();
	list_logs();
	list_volumes();
	list_pool("pool");
	close_store();
}

static void use(const char *dir)
{
	const struct quire_volume_options o = {.size = sizeof(o), .size_bytes = VOLUME_BLOCKS * PAGE};
	struct quire_mdc *mdc;

	open_store(dir);
	put_blob(QUIRE_CLASS_CAPACITY, 0, "later than that", 15);
	GOOD(quire_mdc_open(store, container_id(), NULL, NULL, &mdc, &err));
	append_all(mdc, "later", 20);
	GOOD(quire_mdc_close(mdc));
	append_records("events", "later", 200, false);
	append_records("keyed", "later", 200, true);
	GOOD(quire_log_create(store, "later", NULL, &err));
	append_records("later", "later", 10, false);
	struct quire_volumes *g = open_group();
	GOOD(quire_volume_create(g, "later", &o));
	write_blocks(g, "later", "later", 0, 20);
	GOOD(quire_volume_snapshot(g, "disk", "disk@later"));
	GOOD(quire_volumes_close(g));
	save_pool("later", "later");
	GOOD(quire_tmem_pool_forget(store, "later"));
	close_store();
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "make") == 0)
		make(argv[2], argv[3]);
	else if (argc == 3 && strcmp(argv[1], "list") == 0)
		list(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "use") == 0)
		use(argv[2]);
	else
		return 2;
	return fflush(stdout) == 0 ? 0 : 1;
}
