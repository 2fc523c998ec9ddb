/* blob_env.c - see blob_env.h. */
#include "blob_env.h"

#define PIECE_BYTES (1u << 20)

struct quire_cache *cache;
struct quire_store *store;
struct quire_error err;
const char *dir;

/* ---- life ---- */

int env_name_setup(void **state)
{
	static char path[512], name[32];
	static unsigned n;

	snprintf(name, sizeof(name), "store-%u", n++);
	snprintf(path, sizeof(path), "%s", file_path(name));
	dir = path;
	return 0;
}

void env_cache(void)
{
	struct quire_cache_options opts = {.size = sizeof(opts), .budget_bytes = 64 * MIB, .reserve_bytes = GIB};

	if (cache == NULL)
		assert_int_equal(quire_cache_open(&opts, &cache, NULL), 0);
}

int env_create(uint64_t bytes)
{
	struct quire_store_options opts = {.size = sizeof(opts), .capacity_bytes = bytes};

	return quire_store_create(dir, &opts, &err);
}

int env_open(unsigned flags)
{
	env_cache();
	memset(&err, 0, sizeof(err));
	return quire_store_open(cache, dir, flags, &store, &err);
}

void env_close(void)
{
	assert_int_equal(quire_store_close(store), 0);
	store = NULL;
}

void env_reopen(void)
{
	env_close();
	assert_int_equal(env_open(0), 0);
}

int env_setup(void **state)
{
	env_name_setup(state);
	assert_int_equal(env_create(CAPACITY_BYTES), 0);
	assert_int_equal(env_open(0), 0);
	return 0;
}

int env_teardown(void **state)
{
	if (store != NULL)
		env_close();
	assert_int_equal(quire_cache_close(cache), 0);
	cache = NULL;
	return 0;
}

const char *in_dir(const char *name)
{
	static char paths[8][600];
	static unsigned n;
	char *path = paths[n++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

/* ---- content ---- */

void fill(uint64_t id, uint64_t offset, void *buf, uint64_t len_bytes)
{
	unsigned char *to = buf;

	for (uint64_t i = 0; i < len_bytes;) {
		uint64_t state = id << 40 ^ (offset + i) / 8, skip = (offset + i) % 8;
		uint64_t word = random_next(&state), n = 8 - skip < len_bytes - i ? 8 - skip : len_bytes - i;
		memcpy(to + i, (unsigned char *)&word + skip, n);
		i += n;
	}
}

uint64_t begin(enum quire_class cls)
{
	struct quire_blob_hints hints = {.size = sizeof(hints), .cls = cls};
	uint64_t id = 0;

	assert_int_equal(quire_blob_alloc(store, &hints, &id), 0);
	assert_int_not_equal(id, 0);
	return id;
}

int append(uint64_t id, uint64_t offset, uint64_t len_bytes)
{
	void *buf = malloc(PIECE_BYTES);
	int rc = 0;

	for (uint64_t n, done = 0; rc == 0 && done < len_bytes; done += n) {
		n = len_bytes - done < PIECE_BYTES ? len_bytes - done : PIECE_BYTES;
		fill(id, offset + done, buf, n);
		struct iovec iov[3] = {{buf, n / 3}, {NULL, 0}, {(char *)buf + n / 3, n - n / 3}};
		rc = quire_blob_write(store, id, iov, 3, NULL);
	}
	free(buf);
	return rc;
}

int commit(uint64_t id)
{
	return quire_blob_commit(store, &id, 1, NULL);
}

int delete(uint64_t id)
{
	return quire_blob_delete(store, &id, 1, NULL);
}

uint64_t put(uint64_t len_bytes)
{
	uint64_t id = begin(QUIRE_CLASS_CAPACITY);

	assert_int_equal(append(id, 0, len_bytes), 0);
	assert_int_equal(commit(id), 0);
	return id;
}

int64_t read_at(uint64_t id, uint64_t offset, void *buf, size_t len_bytes)
{
	return quire_blob_read(store, id, offset, &(struct iovec){buf, len_bytes}, 1, NULL);
}

int verify(uint64_t id, uint64_t len_bytes)
{
	char *buf = malloc(PIECE_BYTES), *want = malloc(PIECE_BYTES);
	int rc = 0;

	for (uint64_t at = 0; rc == 0 && at <= len_bytes; at += PIECE_BYTES) {
		uint64_t n = len_bytes - at < PIECE_BYTES ? len_bytes - at : PIECE_BYTES;
		int64_t got = read_at(id, at, buf, PIECE_BYTES);
		fill(id, at, want, n);
		rc = got < 0 ? (int)got : got != (int64_t)n || memcmp(buf, want, n) != 0 ? -EILSEQ : 0;
	}
	free(buf);
	free(want);
	return rc;
}

static void print_finding(void *arg, int error, uint64_t id, enum quire_class cls, uint64_t offset, const char *text)
{
	print_message("  found %d, blob %llu, class %d, offset %llu: %s\n", error, (unsigned long long)id, (int)cls,
	              (unsigned long long)offset, text);
}

int64_t check(void)
{
	struct quire_check_options opts = {.size = sizeof(opts), .found = print_finding};

	return quire_store_check(store, &opts);
}
