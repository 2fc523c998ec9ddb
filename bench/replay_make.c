/* replay_make.c - makes traces, the same ones from the same words on every machine.
 *
 *   bench-trace zipf ALPHA N_PAGES N_ACCESSES FILE
 *   bench-trace scan ALPHA N_PAGES N_ACCESSES FILE
 *
 * zipf: the page of rank r is accessed with a probability in proportion to 1/r^ALPHA, each time anew; ranks are
 * dealt out to page numbers at random. scan: of such accesses one in five goes to a page that is never seen again
 * instead, and every now and then a run reads half as many pages as N_PAGES from first to last, the
 * same ones each time, a page between every two of the other accesses; half of the time such a run is on.
 *
 * The file is in libCacheSim's format oracleGeneral, next accesses included.
 */
#include <endian.h>
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_BYTES 24u
#define SEED 20231023u
#define SCANS_PER_TRACE 6u
#define PAGE_BYTES 4096u

struct maker {
	double *cumulated;  /* owned: of the weights, by rank */
	uint32_t *page_of;  /* owned: by rank */
	uint32_t n_pages;
	uint64_t random;
	uint32_t n_scan_pages, n_wonders;
};

/* splitmix64 */
static uint64_t random_next(struct maker *m)
{
	uint64_t x = m->random += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static double random_unit(struct maker *m)
{
	return (double)(random_next(m) >> 11) / 9007199254740992.0;
}

static int maker_init(struct maker *m, double alpha, uint32_t n_pages)
{
	double sum = 0;
	*m = (struct maker){
		.cumulated = malloc(n_pages * sizeof(double)),
		.page_of = malloc(n_pages * sizeof(uint32_t)),
		.n_pages = n_pages,
		.random = SEED,
		.n_scan_pages = n_pages / 2,
	};
	if (m->cumulated == NULL || m->page_of == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < n_pages; i++) {
		m->cumulated[i] = sum += 1 / pow(i + 1.0, alpha);
		m->page_of[i] = i;
	}
	for (uint32_t i = n_pages - 1; i > 0; i--) {
		uint32_t k = (uint32_t)(random_next(m) % (i + 1)), page = m->page_of[i];
		m->page_of[i] = m->page_of[k];
		m->page_of[k] = page;
	}
	return 0;
}

static uint32_t zipf_page(struct maker *m)
{
	double at = random_unit(m) * m->cumulated[m->n_pages - 1];
	uint32_t low = 0, high = m->n_pages - 1;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (m->cumulated[middle] < at)
			low = middle + 1;
		else
			high = middle;
	}
	return m->page_of[low];
}

/* Behind the zipfian pages lie the scanned ones, and behind them those that are seen once. */
static uint32_t mixed_page(struct maker *m, uint32_t i, uint32_t n)
{
	uint32_t period = n / SCANS_PER_TRACE, at = i % period;
	uint32_t first = period - 2 * m->n_scan_pages;
	if (at >= first && (at - first) % 2 == 0)
		return m->n_pages + (at - first) / 2;
	if (random_next(m) % 5 == 0)
		return m->n_pages + m->n_scan_pages + m->n_wonders++;
	return zipf_page(m);
}

static int write_records(FILE *out, const uint32_t *pages, uint32_t n, uint32_t n_ids)
{
	int64_t *next = malloc(n * sizeof(*next)), *soonest = malloc(n_ids * sizeof(*soonest));
	int rc = next == NULL || soonest == NULL ? -ENOMEM : 0;

	for (uint32_t i = 0; rc == 0 && i < n_ids; i++)
		soonest[i] = -1;
	for (uint32_t i = n; rc == 0 && i-- > 0;) {
		next[i] = soonest[pages[i]];
		soonest[pages[i]] = i;
	}
	for (uint32_t i = 0; rc == 0 && i < n; i++) {
		unsigned char record[RECORD_BYTES];
		uint32_t time = htole32(i / 1000), size = htole32(PAGE_BYTES);
		uint64_t id = htole64(pages[i]), later = htole64((uint64_t)next[i]);
		memcpy(record, &time, 4);
		memcpy(record + 4, &id, 8);
		memcpy(record + 12, &size, 4);
		memcpy(record + 16, &later, 8);
		if (fwrite(record, sizeof(record), 1, out) != 1)
			rc = -EIO;
	}
	free(next);
	free(soonest);
	return rc;
}

static int make(const char *kind, double alpha, uint32_t n_pages, uint32_t n, const char *path)
{
	struct maker m;
	int rc = maker_init(&m, alpha, n_pages);
	uint32_t *pages = malloc(n * sizeof(*pages));
	FILE *out = rc == 0 && pages != NULL ? fopen(path, "we") : NULL;

	for (uint32_t i = 0; out != NULL && i < n; i++)
		pages[i] = strcmp(kind, "scan") == 0 ? mixed_page(&m, i, n) : zipf_page(&m);
	if (out != NULL)
		rc = write_records(out, pages, n, n_pages + m.n_scan_pages + m.n_wonders);
	else if (rc == 0)
		rc = pages == NULL ? -ENOMEM : -errno;
	if (out != NULL && fclose(out) != 0 && rc == 0)
		rc = -errno;
	free(pages);
	free(m.cumulated);
	free(m.page_of);
	return rc;
}

int main(int argc, char **argv)
{
	unsigned long n_pages = argc == 6 ? strtoul(argv[3], NULL, 10) : 0;
	unsigned long n = argc == 6 ? strtoul(argv[4], NULL, 10) : 0;
	/* A run has to fit into its part of the trace. */
	if (n_pages < 2 || n_pages > UINT32_MAX / 8 || n < SCANS_PER_TRACE * n_pages || n > UINT32_MAX / 8 ||
	    (strcmp(argv[1], "zipf") != 0 && strcmp(argv[1], "scan") != 0)) {
		fprintf(stderr, "usage: bench-trace zipf|scan ALPHA N_PAGES N_ACCESSES FILE\n"
		                "N_ACCESSES at least 6 × N_PAGES\n");
		return 2;
	}
	int rc = make(argv[1], strtod(argv[2], NULL), (uint32_t)n_pages, (uint32_t)n, argv[5]);
	if (rc < 0) {
		fprintf(stderr, "bench-trace: %s: %s\n", argv[5], strerror(-rc));
		return 1;
	}
	return 0;
}
