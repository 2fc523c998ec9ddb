/* store_open.c - a store of many small blobs: made once, then opened. What its index takes of memory is what the store
 * says, and, apart from that, what the process grew by.
 *
 * The class file is read with O_DIRECT, so nothing of it is in the kernel's page cache but what the caller lets there.
 */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH 4096u /* the most that one transaction takes */
#define BLOB_BYTES 100u

static int put_batch(struct quire_store *store, uint64_t first, unsigned n)
{
	static uint64_t ids[BATCH];
	char content[BLOB_BYTES] = { 0 };

	for (unsigned i = 0; i < n; i++) {
		struct iovec iov = { content, sizeof(content) };
		uint64_t number = first + i;
		memcpy(content, &number, sizeof(number));
		int rc = quire_blob_alloc(store, NULL, &ids[i]);
		if (rc == 0)
			rc = quire_blob_write(store, ids[i], &iov, 1, NULL);
		if (rc < 0)
			return rc;
	}
	return quire_blob_commit(store, ids, n, NULL);
}

int store_bench_fill(const struct store_bench *b)
{
	struct open_store s;
	double start = now_seconds();
	int rc = store_make(b->dir, (b->n + (1u << 18)) * STORE_PAGE_BYTES * 2);

	if (rc == 0)
		rc = store_open_at(b->dir, &s);
	if (rc < 0)
		return rc;
	for (uint64_t i = 0; i < b->n && rc == 0; i += BATCH)
		rc = put_batch(s.store, i, b->n - i < BATCH ? (unsigned)(b->n - i) : BATCH);
	store_shut(&s);
	if (rc < 0)
		return failed("filling", rc);
	printf("{\"seconds\": %.3f}\n", now_seconds() - start);
	return 0;
}

static long resident_kib(void)
{
	long pages = 0, all;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f == NULL || fscanf(f, "%ld %ld", &all, &pages) != 2)
		pages = 0;
	if (f != NULL)
		fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

int store_bench_open(const struct store_bench *b)
{
	const struct quire_cache_options opts = { .size = sizeof(opts), .budget_bytes = 256u << 20 };
	struct quire_store_stat stat = { 0 };
	struct quire_error err = { 0 };
	struct open_store s;
	int rc = quire_cache_open(&opts, &s.cache, &err);

	if (rc < 0)
		return failed("cache", rc);
	malloc_trim(0);
	long before = resident_kib();
	double start = now_seconds();
	rc = quire_store_open(s.cache, b->dir, 0, &s.store, &err);
	double passed = now_seconds() - start;
	if (rc < 0) {
		fprintf(stderr, "bench-store: %s\n", err.text);
		quire_cache_close(s.cache);
		return rc;
	}
	malloc_trim(0);
	long grown = resident_kib() - before;
	quire_store_stat(s.store, &stat);
	store_shut(&s);
	printf("{\"seconds\": %.6f, \"objects\": %" PRIu64 ", \"index_bytes\": %" PRIu64
	       ", \"grown_bytes\": %ld, \"catalogue_bytes\": %" PRIu64 "}\n",
	       passed, stat.n_objects, stat.index_bytes, grown * 1024, stat.catalogue_live_bytes);
	return 0;
}
