/* threads_want.c - wants of pages that are there, by two threads: of one map, or of one each. */
#include "threads.h"

#include <quire/quire.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BUDGET_BYTES (64u << 20)

static int wanter_open(struct wanter *w, const char *path, size_t len_bytes)
{
	const struct quire_cache_options opts = { .size = sizeof(opts), .budget_bytes = BUDGET_BYTES };
	const struct quire_item item = { .path = path, .len_bytes = len_bytes };
	struct quire_error err = { 0 };
	struct quire_cache *cache;
	int rc = quire_cache_open(&opts, &cache, &err);

	if (rc == 0)
		rc = quire_map_create(cache, &item, 1, NULL, &w->map, &err);
	if (rc < 0) {
		fprintf(stderr, "bench-threads: %s\n", err.text);
		return rc;
	}
	w->base = (char *)(uintptr_t)quire_map_base(w->map);
	struct iovec all = { .iov_base = w->base, .iov_len = len_bytes };
	rc = quire_map_want(w->map, &all, 1, 0, NULL);
	return rc < 0 ? failed("making all resident", rc) : 0;
}

int wanters_open(struct wanter *two, const char *path, bool own)
{
	const size_t len_bytes = 2 * WANTER_PAGES * (size_t)sysconf(_SC_PAGESIZE);

	two[0] = (struct wanter){ 0 };
	int rc = wanter_open(&two[0], path, len_bytes);
	if (rc < 0)
		return rc;
	two[1] = two[0];
	if (own)
		rc = wanter_open(&two[1], path, len_bytes);
	two[1].first = WANTER_PAGES;
	return rc;
}

void wanter_want(struct wanter *w)
{
	size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	struct iovec v = { .iov_base = w->base + (w->first + w->n++ % WANTER_PAGES) * page_bytes, .iov_len = page_bytes };

	if (quire_map_want(w->map, &v, 1, 0, NULL) < 0)
		abort(); /* it was there a moment ago, and nothing else is */
}
