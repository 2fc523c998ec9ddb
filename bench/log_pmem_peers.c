/* log_pmem_peers.c - what records in mapped memory are held against, on a file beside the store's:
 *   raw      the copy alone: libpmem2's own past the caches and its fence, record behind record
 *   pmemlog  pmemlog_append of libpmemlog
 * Both over pages that are there: the file was written from end to end before. PMEM2_FORCE_GRANULARITY=CACHE_LINE and
 * PMEM_IS_PMEM_FORCE=1, from the environment, make tmpfs persistent memory to them; they are refused without.
 * Time is taken of 64 records in a row, as of Quire's.
 */
#include "clock.h"

#include <errno.h>
#include <fcntl.h>
#include <libpmem.h>
#include <libpmem2.h>
#include <libpmemlog.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH 64u
#define FILE_BYTES (UINT64_C(256) << 20)

struct peer {
	const char *path;
	uint64_t n, record_bytes;
	uint8_t *record;
	double *ns; /* of each batch, a record */
	/* raw */
	struct pmem2_map *map;
	pmem2_memcpy_fn copy;
	pmem2_drain_fn drain;
	uint8_t *base;
	uint64_t at;
	/* pmemlog */
	PMEMlogpool *pool;
	uint64_t room;
};

static int failed(const char *what, const char *why)
{
	fprintf(stderr, "bench-log-pmem-peers: %s: %s\n", what, why);
	return -1;
}

/* ---- raw ---- */

static int raw_map(struct peer *p, int fd)
{
	struct pmem2_config *config = NULL;
	struct pmem2_source *source = NULL;
	int rc = pmem2_source_from_fd(&source, fd);

	if (rc == 0)
		rc = pmem2_config_new(&config);
	if (rc == 0)
		rc = pmem2_config_set_required_store_granularity(config, PMEM2_GRANULARITY_CACHE_LINE);
	if (rc == 0)
		rc = pmem2_map_new(&p->map, config, source);
	if (config != NULL)
		pmem2_config_delete(&config);
	if (source != NULL)
		pmem2_source_delete(&source);
	return rc == 0 ? 0 : failed(p->path, pmem2_errormsg());
}

static int raw_open(struct peer *p)
{
	int fd = open(p->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || posix_fallocate(fd, 0, (off_t)FILE_BYTES) != 0)
		return failed(p->path, strerror(errno));
	int rc = raw_map(p, fd);
	close(fd);
	unlink(p->path);
	if (rc < 0)
		return rc;
	p->base = pmem2_map_get_address(p->map);
	p->copy = pmem2_get_memcpy_fn(p->map);
	p->drain = pmem2_get_drain_fn(p->map);
	memset(p->base, 1, FILE_BYTES);
	return 0;
}

static int raw_append(struct peer *p)
{
	if (p->at + p->record_bytes > FILE_BYTES)
		p->at = 0;
	p->copy(p->base + p->at, p->record, p->record_bytes, PMEM2_F_MEM_NONTEMPORAL | PMEM2_F_MEM_NODRAIN);
	p->drain();
	p->at += p->record_bytes;
	return 0;
}

/* ---- libpmemlog ---- */

static int pmemlog_part_append(struct peer *p)
{
	if (p->room < p->record_bytes) {
		pmemlog_rewind(p->pool);
		p->room = pmemlog_nbyte(p->pool);
	}
	p->room -= p->record_bytes;
	return pmemlog_append(p->pool, p->record, p->record_bytes) == 0 ? 0 : failed("append", pmemlog_errormsg());
}

static int pmemlog_part_open(struct peer *p)
{
	void *probe;
	size_t len;
	int is_pmem = 0;

	unlink(p->path);
	p->pool = pmemlog_create(p->path, FILE_BYTES, 0600);
	if (p->pool == NULL)
		return failed(p->path, pmemlog_errormsg());
	probe = pmem_map_file(p->path, 0, 0, 0, &len, &is_pmem);
	unlink(p->path);
	if (probe == NULL || !is_pmem)
		return failed(p->path, "not taken for persistent memory: it would call msync");
	pmem_unmap(probe, len);
	for (p->room = pmemlog_nbyte(p->pool); p->room >= p->record_bytes;)
		if (pmemlog_part_append(p) != 0)
			return -1;
	return 0;
}

/* ---- both ---- */

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int run(struct peer *p, int (*append)(struct peer *p))
{
	uint64_t n_batches = p->n / BATCH;
	uint64_t start = now_ns(), before = start;

	for (uint64_t i = 0; i < n_batches; i++) {
		for (unsigned k = 0; k < BATCH; k++)
			if (append(p) != 0)
				return -1;
		uint64_t now = now_ns();
		p->ns[i] = (double)(now - before) / BATCH;
		before = now;
	}
	qsort(p->ns, n_batches, sizeof(p->ns[0]), compare);
	printf("{\"per_second\": %.1f, \"p50_us\": %.4f, \"p99_us\": %.4f}\n",
	       (double)(n_batches * BATCH) * 1e9 / (double)(before - start), p->ns[n_batches / 2] / 1e3,
	       p->ns[n_batches * 99 / 100] / 1e3);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc != 5 || strtoull(argv[3], NULL, 10) < BATCH || strtoull(argv[4], NULL, 10) == 0) {
		fprintf(stderr, "usage: bench-log-pmem-peers raw|pmemlog FILE RECORDS BYTES\n");
		return 2;
	}
	struct peer p = { .path = argv[2], .n = strtoull(argv[3], NULL, 10), .record_bytes = strtoull(argv[4], NULL, 10) };
	bool raw = strcmp(argv[1], "raw") == 0;

	p.record = calloc(1, p.record_bytes);
	p.ns = calloc(p.n / BATCH, sizeof(p.ns[0]));
	if (p.record == NULL || p.ns == NULL)
		return failed("starting", strerror(ENOMEM)) != 0;
	memset(p.record, 0x5a, p.record_bytes);
	int rc = raw ? raw_open(&p) : pmemlog_part_open(&p);
	if (rc == 0)
		rc = run(&p, raw ? raw_append : pmemlog_part_append);
	if (p.map != NULL)
		pmem2_map_delete(&p.map);
	if (p.pool != NULL)
		pmemlog_close(p.pool);
	free(p.ns);
	free(p.record);
	return rc != 0;
}
