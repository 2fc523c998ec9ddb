/* maps.c - see maps.h. */
#include "maps.h"

#include "trap.h"

#include <signal.h>
#include <time.h>

struct quire_cache *cache;
enum quire_fault fault;

static struct sigaction on_sigbus;

void skip_because(const char *why)
{
	print_message("skipped: %s\n", why);
	skip();
}

static int open_cache(const struct quire_cache_options *opts)
{
	struct quire_error err = {0};
	int rc = quire_cache_open(opts, &cache, &err);

	if (rc < 0)
		print_error("%s\n", err.text);
	return rc;
}

void cache_anew(const struct quire_cache_options *opts)
{
	struct quire_cache_options o = *opts;

	assert_int_equal(quire_cache_close(cache), 0);
	cache = NULL;
	o.size = sizeof(o);
	if (o.budget_bytes == 0)
		o.budget_bytes = CACHE_BUDGET;
	assert_int_equal(open_cache(&o), 0);
}

int maps_setup(void **state)
{
	struct quire_cache_options o = {
		.size = sizeof(o), .budget_bytes = CACHE_BUDGET, .signal_faults = true};

	/* Before the library's own, which is installed once, and chains to it for good. */
	static bool trapped;

	if (!trapped)
		trap_install();
	else
		sigaction(SIGBUS, &on_sigbus, NULL);
	trapped = true;
	fault = ((const struct maps_test *)*state)->fault;

	int rc = open_cache(&o);
	sigaction(SIGBUS, NULL, &on_sigbus);
	return rc;
}

void maps_run(void **state)
{
	sigaction(SIGBUS, &on_sigbus, NULL);
	((const struct maps_test *)*state)->run(state);
}

int maps_teardown(void **state)
{
	if (cache == NULL)
		return 0;
	struct quire_cache_stat s = cache_stat();
	int rc = quire_cache_close(cache);

	cache = NULL;
	if (rc == 0 && s.frames == 0 && s.pinned == 0)
		return 0;
	print_error("left in the cache: %d, %llu maps, %llu bytes of frames, %llu pinned\n", rc,
	            (unsigned long long)s.n_maps, (unsigned long long)s.frames,
	            (unsigned long long)s.pinned);
	return -1;
}

int map_try(const struct quire_item *items, size_t n, struct quire_map **ret_map,
            struct quire_error *err)
{
	struct quire_map_options o = {.size = sizeof(o), .fault = fault};
	struct quire_item *copies = calloc(n + 1, sizeof(*copies));

	assert_non_null(copies);
	for (size_t i = 0; i < n; i++) {
		copies[i] = items[i];
		if (copies[i].page_bytes == 0)
			copies[i].page_bytes = QUIRE_PAGE_4K;
	}
	int rc = quire_map_create(cache, copies, n, &o, ret_map, err);
	free(copies);
	return rc;
}

struct quire_map *map_items(const struct quire_item *items, size_t n)
{
	struct quire_map *map = NULL;
	struct quire_error err = {0};
	struct quire_capabilities caps;
	int rc = map_try(items, n, &map, &err);

	quire_capabilities(&caps);
	if (rc == -ENOTSUP && caps.grade == QUIRE_GRADE_NONE)
		skip_because("no userfaultfd");
	if (rc < 0)
		fail_msg("%s", err.text);
	return map;
}

struct quire_map *map_item_of(struct quire_item item)
{
	return map_items(&item, 1);
}

struct quire_map *map_name(const char *name)
{
	return map_item_of((struct quire_item){.path = file_path(name)});
}

void map_end(struct quire_map *map)
{
	assert_int_equal(quire_map_destroy(map, NULL), 0);
}

const char *item_ptr(struct quire_map *map, size_t index)
{
	const void *p = NULL;
	size_t len;

	assert_int_equal(quire_map_item(map, index, &p, &len), 0);
	return p;
}

size_t item_len(struct quire_map *map, size_t index)
{
	const void *p;
	size_t len = 0;

	assert_int_equal(quire_map_item(map, index, &p, &len), 0);
	return len;
}

int want(struct quire_map *map, const void *p, size_t len_bytes)
{
	struct iovec v = io(p, len_bytes);

	return quire_map_want(map, &v, 1, 0, NULL);
}

int pin(struct quire_map *map, const void *p, size_t len_bytes)
{
	struct iovec v = io(p, len_bytes);

	return quire_map_want(map, &v, 1, QUIRE_WANT_PIN, NULL);
}

int unpin(struct quire_map *map, const void *p, size_t len_bytes)
{
	struct iovec v = io(p, len_bytes);

	return quire_map_unwant(map, &v, 1);
}

void read_and_compare(struct quire_map *map, const char *p, unsigned seed, uint64_t offset,
                      uint64_t len_bytes)
{
	assert_int_equal(pin(map, p, len_bytes), 0);
	assert_bytes(p, seed, offset, len_bytes);
	assert_int_equal(unpin(map, p, len_bytes), 0);
}

struct quire_cache_stat cache_stat(void)
{
	struct quire_cache_stat s;

	assert_int_equal(quire_cache_stat(cache, &s), 0);
	return s;
}

struct quire_map_stat map_stat(struct quire_map *map)
{
	struct quire_map_stat s;

	assert_int_equal(quire_map_stat(map, &s), 0);
	return s;
}

void press(void)
{
	uint64_t len = 2 * cache_stat().budget;

	file_sparse("pressure", len);
	struct quire_map *map = map_name("pressure");
	const char *base = quire_map_base(map);
	for (uint64_t at = 0; at < len; at += MIB)
		assert_int_equal(want(map, base + at, MIB), 0);
	map_end(map);
}

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t status_bytes(const char *key)
{
	FILE *f = fopen("/proc/self/status", "re");
	unsigned long long kib = 0;
	size_t len = strlen(key);
	char line[256];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, key, len) == 0 && line[len] == ':')
			sscanf(line + len + 1, "%llu", &kib);
	fclose(f);
	return kib * KIB;
}
