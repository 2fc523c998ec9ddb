/* journeys_cached.c - see journeys.h: maps, and pools of pages that spill. */
#include "journeys.h"

#include "../blob/blob_env.h"
#include "../support/trap.h"

#define FILE_BYTES (300 * KIB)
#define FILE_SEED 7u
#define BLOB_BYTES (100 * KIB)
#define N_PAGES 700u
#define PAGE_BYTES 4096u

/* ---- maps ---- */

static uint64_t mapped_blob;

static void prepare_maps(void)
{
	trap_install();
	file_write("mapped", FILE_SEED, FILE_BYTES);
	mapped_blob = put(BLOB_BYTES);
}

/* The words of a blob's start, where it lies in the arena. */
static bool is_blob(const unsigned char *p, size_t len_bytes)
{
	static unsigned char right[BLOB_BYTES];

	assert_true(len_bytes <= sizeof(right));
	fill(mapped_blob, 0, right, len_bytes);
	return memcmp(p, right, len_bytes) == 0;
}

static int use_map(struct quire_map *m)
{
	const void *file, *blob;
	size_t file_bytes, blob_bytes;

	assert_int_equal(quire_map_item(m, 0, &file, &file_bytes), 0);
	assert_int_equal(quire_map_item(m, 1, &blob, &blob_bytes), 0);
	struct iovec both[2] = {{(void *)(uintptr_t)file, FILE_BYTES / 2}, {(void *)(uintptr_t)blob, BLOB_BYTES}};
	int rc = quire_map_want(m, both, 2, QUIRE_WANT_PIN, NULL);
	if (rc == 0) {
		assert_true(is_blob(blob, BLOB_BYTES));
		assert_bytes(file, FILE_SEED, 0, FILE_BYTES / 2);
		assert_int_equal(quire_map_unwant(m, both, 2), 0);
	}
	/* Loads that nobody asked for can't be refused: for these a descriptor is kept. */
	const char *cold = (const char *)file + FILE_BYTES / 2 / page_size() * page_size() + page_size();
	if (quire_map_fault(m) != QUIRE_FAULT_PINNED) {
		assert_false(load_traps(cold));
		assert_bytes(cold, FILE_SEED, (uint64_t)(cold - (const char *)file), 100);
	}
	return rc;
}

static int go_maps(void)
{
	const struct quire_item items[] = {{.path = file_path("mapped")}, {.store = store, .blob = mapped_blob}};
	struct quire_map *m = NULL;
	int rc = told(quire_map_create(cache, items, 2, NULL, &m, &err));

	if (rc < 0)
		return rc;
	rc = use_map(m);
	assert_int_equal(quire_map_destroy(m, NULL), 0);
	return rc;
}

static void judge_maps(void)
{
	assert_int_equal(verify(mapped_blob, BLOB_BYTES), 0);
	assert_int_equal(go_maps(), 0);
}

const struct journey journey_maps = {"maps", prepare_maps, go_maps, judge_maps};

/* ---- pools ---- */

static void prepare_pools(void)
{
}

static struct quire_tmem_key key(uint32_t index)
{
	return (struct quire_tmem_key){.object = {1, 2, 3}, .index = index};
}

/* Pages that are put, and got again: what was taken is there. One that was spilled may not be readable for once. */
static int use_pool(struct quire_tmem_pool *pool)
{
	static bool taken[N_PAGES];
	unsigned char page[PAGE_BYTES], right[PAGE_BYTES];
	int first = 0, rc;

	for (uint32_t i = 0; i < N_PAGES; i++) {
		struct quire_tmem_key k = key(i);
		fill(i + 1, 0, page, sizeof(page));
		rc = quire_tmem_put(pool, &k, page);
		taken[i] = rc == 0;
		first = first == 0 ? rc : first;
	}
	for (uint32_t i = 0; i < N_PAGES; i++) {
		struct quire_tmem_key k = key(i);
		rc = quire_tmem_get(pool, &k, page, QUIRE_TMEM_GET_USUAL);
		if (taken[i] && rc == -ENOMEM) {
			first = first == 0 ? rc : first;
			rc = quire_tmem_get(pool, &k, page, QUIRE_TMEM_GET_USUAL);
		}
		assert_int_equal(rc, taken[i] ? 0 : -ENOENT);
		fill(i + 1, 0, right, sizeof(right));
		assert_true(rc < 0 || memcmp(page, right, sizeof(page)) == 0);
	}
	return first;
}

static int spill(struct quire_tmem *t)
{
	struct quire_tmem_backing_options backing = {.size = sizeof(backing), .segment_bytes = 256 * KIB};
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .flags = QUIRE_TMEM_SPILL};
	struct quire_tmem_pool *pool = NULL;
	int rc = told(quire_tmem_set_backing(t, store, QUIRE_CLASS_CAPACITY, &backing, &err));

	if (rc < 0)
		return rc;
	rc = told(quire_tmem_pool_create(t, &o, &pool, &err));
	if (rc == 0) {
		rc = use_pool(pool);
		quire_tmem_pool_destroy(pool);
	}
	assert_int_equal(quire_tmem_clear_backing(t), 0);
	return rc;
}

static int go_pools(void)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = 2 * MIB, .n_threads = 1};
	struct quire_tmem *t = NULL;
	int rc = told(quire_tmem_create(&o, &t, &err));

	if (rc < 0)
		return rc;
	rc = spill(t);
	quire_tmem_destroy(t);
	return rc;
}

static void judge_pools(void)
{
}

const struct journey journey_pools = {"pools", prepare_pools, go_pools, judge_pools};
