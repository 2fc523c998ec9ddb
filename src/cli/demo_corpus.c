/* demo_corpus.c - finds the files, draws the lookups, learns their answers. */
#include "demo_corpus.h"
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "demo_scan.h"

/* The hot set is a quarter of the memory: it fits with ease. */
#define HOT_SHARE 4
#define REQUESTS_PER_HOT_PAGE 4
#define COLD_REQUESTS 32768u
#define MEMORY_MIN_BYTES (32u << 20)
#define SEED 0x5143495245ull

uint64_t demo_hash(const void *bytes, size_t len_bytes)
{
	const unsigned char *p = bytes;
	uint64_t h = 0x9e3779b97f4a7c15u ^ len_bytes, word;

	for (; len_bytes >= 8; p += 8, len_bytes -= 8) {
		memcpy(&word, p, 8);
		h = (h ^ word) * 0xff51afd7ed558ccdu;
		h ^= h >> 32;
	}
	word = 0;
	memcpy(&word, p, len_bytes);
	h = (h ^ word) * 0xc4ceb9fe1a85ec53u;
	return h ^ (h >> 29);
}

/* ---- a crowd of threads for what is to be done before the contest ---- */

struct crowd {
	size_t n;
	int (*fn)(void *arg, size_t i);
	void *arg;
	atomic_size_t next;
	atomic_int result;
};

static void *crowd_member(void *arg)
{
	struct crowd *c = arg;

	while (atomic_load_explicit(&c->result, memory_order_relaxed) == 0) {
		size_t i = atomic_fetch_add_explicit(&c->next, 1, memory_order_relaxed);
		if (i >= c->n)
			break;
		int rc = c->fn(c->arg, i);
		if (rc != 0)
			atomic_store(&c->result, rc);
	}
	return NULL;
}

int demo_parallel(size_t n, unsigned n_threads, int (*fn)(void *arg, size_t i), void *arg)
{
	struct crowd c = { .n = n, .fn = fn, .arg = arg };
	pthread_t threads[DEMO_THREADS];
	unsigned started = 0;
	int rc = 0;

	while (started < n_threads && started < DEMO_THREADS) {
		rc = -pthread_create(&threads[started], NULL, crowd_member, &c);
		if (rc != 0)
			break;
		started++;
	}
	for (unsigned i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	return started == 0 ? rc : atomic_load(&c.result);
}

/* ---- the lookups ---- */

static struct demo_page nth_page(const struct demo_corpus *c, uint64_t n)
{
	size_t low = 0, high = c->n_files - 1;

	while (low < high) {
		size_t middle = low + (high - low + 1) / 2;
		if (c->first_page[middle] <= n)
			low = middle;
		else
			high = middle - 1;
	}
	return (struct demo_page){ .file = (uint32_t)low, .page = (uint32_t)(n - c->first_page[low]) };
}

static struct demo_request draw_request(const struct demo_corpus *c, struct demo_page where,
                                        uint64_t *rng)
{
	uint64_t start = (uint64_t)where.page * c->page_bytes;
	uint64_t left = c->files[where.file].len_bytes - start;
	uint64_t in_page = left < c->page_bytes ? left : c->page_bytes;
	uint64_t len = DEMO_ANSWER_MIN_BYTES +
	               demo_random(rng) % (DEMO_ANSWER_MAX_BYTES - DEMO_ANSWER_MIN_BYTES + 1);

	if (len > in_page)
		len = in_page;
	return (struct demo_request){
		.file = where.file,
		.len_bytes = (uint32_t)len,
		.offset = start + demo_random(rng) % (in_page - len + 1),
	};
}

static int draw(struct demo_corpus *c)
{
	uint64_t n_pages = c->first_page[c->n_files], rng = SEED;
	uint64_t memory_pages = c->memory_bytes / c->page_bytes;

	if (memory_pages > n_pages)
		memory_pages = n_pages;
	c->n_pages = memory_pages;
	c->n_hot_pages = memory_pages / HOT_SHARE;
	c->n_hot = c->n_hot_pages * REQUESTS_PER_HOT_PAGE;
	c->n_requests = c->n_hot + COLD_REQUESTS;
	c->pages = calloc(c->n_pages, sizeof(*c->pages));
	c->requests = calloc(c->n_requests, sizeof(*c->requests));
	if (c->pages == NULL || c->requests == NULL)
		return cli_fail("demo", "%s", strerror(ENOMEM));

	for (size_t i = 0; i < c->n_pages; i++)
		c->pages[i] = nth_page(c, demo_random(&rng) % n_pages);
	const struct demo_page *hot = c->pages + c->n_pages - c->n_hot_pages;
	for (size_t i = 0; i < c->n_hot; i++)
		c->requests[i] = draw_request(c, hot[i / REQUESTS_PER_HOT_PAGE], &rng);
	for (size_t i = c->n_hot; i < c->n_requests; i++)
		c->requests[i] = draw_request(c, nth_page(c, demo_random(&rng) % n_pages), &rng);
	return CLI_DONE;
}

static int learn_answer(void *arg, size_t i)
{
	struct demo_corpus *c = arg;
	struct demo_request *r = &c->requests[i];
	char bytes[DEMO_ANSWER_MAX_BYTES];

	ssize_t n = pread(c->files[r->file].fd, bytes, r->len_bytes, (off_t)r->offset);
	if (n != (ssize_t)r->len_bytes)
		return n < 0 ? -errno : -ESTALE;
	r->expected = demo_hash(bytes, r->len_bytes);
	return 0;
}

/* In slices, so that the bar moves. */
static int learn(struct demo_corpus *c, struct progress *progress)
{
	const size_t slice = 8192;
	struct demo_corpus part = *c;

	for (size_t done = 0; done < c->n_requests; done += slice) {
		size_t left = c->n_requests - done;
		part.requests = c->requests + done;
		int rc = demo_parallel(left < slice ? left : slice, DEMO_THREADS, learn_answer, &part);
		if (rc != 0)
			return cli_fail("reading the files", "%s", strerror(-rc));
		progress_update(progress, (double)done / (double)c->n_requests);
	}
	return CLI_DONE;
}

int demo_corpus_build(const char *dir, uint64_t max_bytes, uint64_t memory_bytes,
                      struct progress *progress, struct demo_corpus *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	progress_step(progress, "looking for the largest files");
	progress_update(progress, 0);
	int rc = demo_scan(dir, max_bytes, ret);
	if (rc != CLI_DONE)
		return rc;

	ret->memory_bytes = memory_bytes != 0 ? memory_bytes : ret->bytes / 4;
	if (ret->memory_bytes < MEMORY_MIN_BYTES)
		ret->memory_bytes = MEMORY_MIN_BYTES;
	if (ret->memory_bytes > ret->bytes / 2)
		return cli_fail(dir, "its files hold %llu MiB; the contest needs twice its memory of %llu MiB",
		                (unsigned long long)(ret->bytes >> 20),
		                (unsigned long long)(ret->memory_bytes >> 20));
	rc = draw(ret);
	if (rc != CLI_DONE)
		return rc;
	progress_step(progress, "learning the right answers by pread");
	rc = learn(ret, progress);
	demo_corpus_drop(ret);
	return rc;
}

void demo_corpus_drop(const struct demo_corpus *c)
{
	for (size_t i = 0; i < c->n_files; i++)
		posix_fadvise(c->files[i].fd, 0, 0, POSIX_FADV_DONTNEED);
}

void demo_corpus_free(struct demo_corpus *c)
{
	for (size_t i = 0; i < c->n_files; i++) {
		close(c->files[i].fd);
		free(c->files[i].path);
	}
	free(c->files);
	free(c->first_page);
	free(c->requests);
	free(c->pages);
	memset(c, 0, sizeof(*c));
}
