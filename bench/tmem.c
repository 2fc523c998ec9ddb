/* tmem.c - bench-tmem MODE CORPUS: pages put and got, one by one, timed.
 *
 *   quire CORPUS BATCH    into a persistent pool and bare LZ4 (liblz4, the same calls the pool makes) in turns, 64 pages of
 *                         each at a time, LZ4's half a corpus ahead, so that neither finds pages that the other has brought into
 *                         the CPU's caches; then got in random order, in turns again; then BATCH pages a call, and singly
 *   recompressed CORPUS HOW  the same puts; then recompressed, by LZ4's slow compressor alone (tight) or by zstd when cold as well
 *                         (cold); then got as above
 *   device CORPUS DEVICE  onto a block device (zram) by pwrite and pread with O_DIRECT
 *
 * Each page that comes out is compared. Prints JSON: ns at the median and p99, bytes held.
 */
#include "latency.h"
#include "random.h"
#include "tmem_corpus.h"

#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <quire/tmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TURN 64u
#define BATCH_MOST 256u
#define ROUNDS 5u /* of recompression: as many as it takes until nothing is left to be done */
#define LEAST_BATCH_PAGES 4096u

struct packed { /* what bare LZ4 keeps: bytes in one stretch of memory */
	uint8_t *bytes;
	size_t *at; /* of each page */
	int *len;
};

static struct latency latencies[4]; /* put, LZ4 in; get, LZ4 out */

static void *need(size_t bytes)
{
	void *p = aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);

	if (p == NULL)
		fail("memory", ENOMEM);
	return p;
}

static struct quire_tmem *make(size_t n_pages, uint32_t flags, struct quire_tmem_pool **ret_pool)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = 2 * n_pages * PAGE + (64u << 20)};
	struct quire_tmem_pool_options p = {.size = sizeof(p), .kind = QUIRE_TMEM_PERSISTENT, .flags = flags};
	struct quire_tmem *t = NULL;
	int rc = quire_tmem_create(&o, &t, NULL);

	if (rc == 0)
		rc = quire_tmem_pool_create(t, &p, ret_pool, NULL);
	if (rc < 0)
		fail("tmem", -rc);
	return t;
}

static void print_latency(const char *name, const struct latency *l)
{
	printf("\"%s_p50_ns\": %llu, \"%s_p99_ns\": %llu, ", name, (unsigned long long)latency_quantile(l, .5), name,
	       (unsigned long long)latency_quantile(l, .99));
}

/* ---- one by one, beside LZ4 ---- */

static void put_all(const struct corpus *c, struct quire_tmem_pool *pool, struct packed *packed)
{
	static char room[LZ4_COMPRESSBOUND(PAGE)];

	for (size_t from = 0, to, end = 0; from < c->n; from = to) {
		to = from + TURN < c->n ? from + TURN : c->n;
		for (size_t i = from; i < to; i++) {
			struct quire_tmem_key key = key_of(i);
			uint64_t begin = now_ns();
			int rc = quire_tmem_put(pool, &key, c->pages + i * PAGE);
			latency_add(&latencies[0], now_ns() - begin);
			if (rc < 0)
				fail("put", -rc);
		}
		for (size_t i = from; i < to; i++) {
			size_t other = (i + c->n / 2) % c->n;
			uint64_t begin = now_ns();
			int n = LZ4_compress_default((const char *)c->pages + other * PAGE, room, PAGE, sizeof(room));
			latency_add(&latencies[1], now_ns() - begin);
			memcpy(packed->bytes + end, room, (size_t)n);
			packed->at[other] = end;
			packed->len[other] = n;
			end += (size_t)n;
		}
	}
}

static void get_all(const struct corpus *c, struct quire_tmem_pool *pool, const struct packed *packed)
{
	static uint8_t page[PAGE];
	uint64_t r = 1;
	size_t chosen[TURN];

	for (size_t done = 0; done < c->n; done += TURN) {
		for (unsigned k = 0; k < TURN; k++)
			chosen[k] = random_below(&r, c->n);
		for (unsigned k = 0; k < TURN; k++) {
			struct quire_tmem_key key = key_of(chosen[k]);
			uint64_t begin = now_ns();
			int rc = quire_tmem_get(pool, &key, page, QUIRE_TMEM_GET_USUAL);
			latency_add(&latencies[2], now_ns() - begin);
			if (rc < 0 || memcmp(page, c->pages + chosen[k] * PAGE, PAGE) != 0)
				fail("get", rc < 0 ? -rc : EBADMSG);
		}
		for (unsigned k = 0; k < TURN; k++)
			chosen[k] = random_below(&r, c->n);
		for (unsigned k = 0; k < TURN; k++) {
			size_t at = packed->at[chosen[k]];
			uint64_t begin = now_ns();
			int rc = LZ4_decompress_safe((char *)packed->bytes + at, (char *)page, packed->len[chosen[k]], PAGE);
			latency_add(&latencies[3], now_ns() - begin);
			if (rc != PAGE)
				fail("LZ4", EBADMSG);
		}
	}
}

/* ---- many at a time ---- */

struct seconds {
	double wall, cpu; /* cpu: of all threads */
};

/* For all pages, `batch` a call; 1: singly. */
static struct seconds put_batches(const struct corpus *c, size_t n, unsigned batch)
{
	struct quire_tmem_request requests[BATCH_MOST];
	struct quire_tmem_pool *pool;
	struct quire_tmem *t = make(n, 0, &pool);
	uint64_t begin = now_ns(), cpu_begin = clock_ns(CLOCK_PROCESS_CPUTIME_ID);

	for (size_t from = 0; from < n; from += batch) {
		unsigned k = n - from < batch ? (unsigned)(n - from) : batch;
		for (unsigned i = 0; i < k; i++)
			requests[i] = (struct quire_tmem_request){.pool = pool, .key = key_of(from + i), .verb = QUIRE_TMEM_PUT,
			                                          .page = (void *)(uintptr_t)(c->pages + (from + i) * PAGE)};
		if (batch == 1)
			requests[0].result = quire_tmem_put(pool, &requests[0].key, requests[0].page);
		else
			(void)quire_tmem_batch(t, requests, k, NULL);
		for (unsigned i = 0; i < k; i++)
			if (requests[i].result < 0)
				fail("batch", (int)-requests[i].result);
	}
	struct seconds seconds = {(double)(now_ns() - begin) / 1e9, (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_begin) / 1e9};
	quire_tmem_destroy(t);
	return seconds;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* How much faster batches are, and how much more of the CPU they take: their waiting for each other, and for memory, is in that. */
static double batch_over_single(const struct corpus *c, unsigned batch, double *ret_cpu)
{
	double ratios[5], cpus[5];
	size_t n = c->n < 32768 ? c->n : 32768;

	if (n < LEAST_BATCH_PAGES)
		fail("corpus too small", EINVAL);
	for (unsigned i = 0; i < 5; i++) {
		struct seconds singly = put_batches(c, n, 1), batched = put_batches(c, n, batch);
		ratios[i] = singly.wall / batched.wall;
		cpus[i] = batched.cpu / singly.cpu;
	}
	qsort(ratios, 5, sizeof(ratios[0]), by_value);
	qsort(cpus, 5, sizeof(cpus[0]), by_value);
	*ret_cpu = cpus[2];
	return ratios[2];
}

static struct packed need_packed(const struct corpus *c)
{
	return (struct packed){.bytes = need(c->n * LZ4_COMPRESSBOUND(PAGE)), .at = need(c->n * sizeof(size_t)),
	                       .len = need(c->n * sizeof(int))};
}

static void free_packed(struct packed *packed)
{
	free(packed->bytes);
	free(packed->at);
	free(packed->len);
}

static void run_quire(const struct corpus *c, unsigned batch)
{
	struct packed packed = need_packed(c);
	struct quire_tmem_pool *pool;
	struct quire_tmem *t = make(c->n, 0, &pool);
	struct quire_tmem_stat s;

	put_all(c, pool, &packed);
	get_all(c, pool, &packed);
	quire_tmem_stat(t, &s);
	printf("{\"pages\": %zu, ", c->n);
	print_latency("put", &latencies[0]);
	print_latency("lz4_put", &latencies[1]);
	print_latency("get", &latencies[2]);
	print_latency("lz4_get", &latencies[3]);
	printf("\"held_bytes\": %llu, \"content_bytes\": %llu, \"head_bytes\": %llu, \"rounding_bytes\": %llu, "
	       "\"hole_bytes\": %llu, \"index_bytes\": %llu, \"same_pages\": %llu, \"dedup_saved_bytes\": %llu, ",
	       (unsigned long long)s.held_bytes, (unsigned long long)s.content_bytes, (unsigned long long)s.head_bytes,
	       (unsigned long long)s.rounding_bytes, (unsigned long long)s.hole_bytes, (unsigned long long)s.index_bytes,
	       (unsigned long long)s.n_same, (unsigned long long)s.dedup_saved_bytes);
	quire_tmem_destroy(t);
	double cpu, over = batch_over_single(c, batch, &cpu);
	printf("\"batch_over_single\": %.3f, \"batch_cpu_over_single\": %.3f}\n", over, cpu);
	free_packed(&packed);
}

/* ---- what went cold ---- */

/* What it takes of the CPU, for all. */
static uint64_t get_in_order(const struct corpus *c, struct quire_tmem_pool *pool)
{
	static uint8_t page[PAGE];
	uint64_t begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);

	for (size_t i = 0; i < c->n; i++) {
		struct quire_tmem_key key = key_of(i);
		int rc = quire_tmem_get(pool, &key, page, QUIRE_TMEM_GET_USUAL);
		if (rc < 0 || page[i % PAGE] != c->pages[i * PAGE + i % PAGE])
			fail("get", rc < 0 ? -rc : EBADMSG);
	}
	return clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin;
}

static void run_recompressed(const struct corpus *c, uint32_t flags)
{
	struct packed packed = need_packed(c);
	struct quire_tmem_pool *pool;
	struct quire_tmem *t = make(c->n, flags, &pool);
	struct quire_tmem_stat s;

	put_all(c, pool, &packed);
	uint64_t begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	for (unsigned i = 0; i < ROUNDS; i++) {
		int64_t n = quire_tmem_recompress(t, UINT32_MAX);
		if (n < 0)
			fail("recompression", (int)-n);
	}
	uint64_t ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin;
	get_all(c, pool, &packed);
	uint64_t in_order_ns = get_in_order(c, pool);
	quire_tmem_stat(t, &s);
	printf("{\"pages\": %zu, ", c->n);
	print_latency("get", &latencies[2]);
	print_latency("lz4_get", &latencies[3]);
	printf("\"held_bytes\": %llu, \"content_bytes\": %llu, \"head_bytes\": %llu, \"rounding_bytes\": %llu, \"hole_bytes\": %llu, "
	       "\"index_bytes\": %llu, \"repacked_pages\": %llu, \"recompress_saved_bytes\": %llu, \"recompress_ns_a_page\": %llu, "
	       "\"in_order_ns_a_page\": %llu}\n",
	       (unsigned long long)s.held_bytes, (unsigned long long)s.content_bytes, (unsigned long long)s.head_bytes,
	       (unsigned long long)s.rounding_bytes, (unsigned long long)s.hole_bytes, (unsigned long long)s.index_bytes,
	       (unsigned long long)s.n_repacked, (unsigned long long)s.recompress_saved_bytes, (unsigned long long)(ns / c->n),
	       (unsigned long long)(in_order_ns / c->n));
	quire_tmem_destroy(t);
	free_packed(&packed);
}

/* ---- a block device ---- */

static void run_device(const struct corpus *c, const char *path)
{
	int fd = open(path, O_RDWR | O_DIRECT);
	uint8_t *page = need(PAGE);
	uint64_t r = 1;

	if (fd < 0)
		fail(path, errno);
	for (size_t i = 0; i < c->n; i++) {
		memcpy(page, c->pages + i * PAGE, PAGE);
		uint64_t begin = now_ns();
		ssize_t n = pwrite(fd, page, PAGE, (off_t)(i * PAGE));
		latency_add(&latencies[0], now_ns() - begin);
		if (n != PAGE)
			fail(path, n < 0 ? errno : EIO);
	}
	for (size_t k = 0; k < c->n; k++) {
		size_t i = random_below(&r, c->n);
		uint64_t begin = now_ns();
		ssize_t n = pread(fd, page, PAGE, (off_t)(i * PAGE));
		latency_add(&latencies[2], now_ns() - begin);
		if (n != PAGE || memcmp(page, c->pages + i * PAGE, PAGE) != 0)
			fail(path, n < 0 ? errno : EBADMSG);
	}
	printf("{\"pages\": %zu, ", c->n);
	print_latency("put", &latencies[0]);
	print_latency("get", &latencies[2]);
	printf("\"end\": 0}\n");
	free(page);
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: bench-tmem quire CORPUS BATCH | recompressed CORPUS tight|cold | device CORPUS DEVICE\n");
		return 2;
	}
	struct corpus c = corpus_map(argv[2], UINT64_MAX);
	if (strcmp(argv[1], "quire") == 0) {
		unsigned long batch = strtoul(argv[3], NULL, 10);
		if (batch < 1 || batch > BATCH_MOST)
			fail("batch", EINVAL);
		run_quire(&c, (unsigned)batch);
	} else if (strcmp(argv[1], "recompressed") == 0) {
		run_recompressed(&c, strcmp(argv[3], "tight") == 0 ? QUIRE_TMEM_RECOMPRESS
		                                                  : QUIRE_TMEM_RECOMPRESS | QUIRE_TMEM_COLD);
	} else {
		run_device(&c, argv[3]);
	}
	return 0;
}
