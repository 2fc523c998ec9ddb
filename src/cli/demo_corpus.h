/* demo_corpus.h - what the contest is about: files, and lookups with known answers.
 *
 * A corpus is built once, before the contest, and read-only after that: the forked
 * servers and the client read the same memory. The expected answers are hashes of what
 * pread gave, so that checking an answer touches no file.
 *
 *   requests[0 … n_hot)           inside the hot set, a few for each hot page
 *   requests[n_hot … n_requests)  anywhere
 *   pages[0 … n_pages)            what memory holds when the contest starts: cold ones, the
 *                                 hot set last
 */
#ifndef CLI_DEMO_CORPUS_H
#define CLI_DEMO_CORPUS_H

#include "progress.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEMO_ANSWER_MIN_BYTES 64
#define DEMO_ANSWER_MAX_BYTES 512
#define DEMO_THREADS 64 /* of the contenders that have a pool */

struct demo_file {
	char *path;         /* owned */
	int fd;             /* owned */
	uint64_t len_bytes; /* of which the contest uses this much, from the start */
};

struct demo_request {
	uint32_t file;
	uint32_t len_bytes; /* never across a page's end */
	uint64_t offset;
	uint64_t expected; /* demo_hash of the bytes */
};

struct demo_page {
	uint32_t file;
	uint32_t page; /* index in the file */
};

struct demo_corpus {
	struct demo_file *files;       /* owned */
	uint64_t *first_page;          /* owned; n_files + 1 running sums */
	struct demo_request *requests; /* owned */
	struct demo_page *pages;       /* owned */
	size_t n_files, n_requests, n_hot, n_pages, n_hot_pages;
	size_t n_unreadable; /* files that were skipped */
	uint64_t bytes;      /* of all files, as used */
	uint64_t memory_bytes;
	size_t page_bytes;
};

/* Largest files under dir, up to max_bytes in all. memory_bytes 0: a quarter of what was
 * found. Returns an exit code; what went wrong was printed. */
int demo_corpus_build(const char *dir, uint64_t max_bytes, uint64_t memory_bytes,
                      struct progress *progress, struct demo_corpus *ret);
void demo_corpus_free(struct demo_corpus *c);

/* Takes the files out of the kernel's page cache. */
void demo_corpus_drop(const struct demo_corpus *c);

/* Of up to DEMO_ANSWER_MAX_BYTES; fast enough to check every answer by the way. */
uint64_t demo_hash(const void *bytes, size_t len_bytes);

/* xorshift64*: the same contest each time. */
static inline uint64_t demo_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 2685821657736338717u;
}

/* fn(arg, i) for i in 0 … n-1, on n_threads threads; stops early at the first non-zero
 * result, which it returns (a negative errno too if no thread could be had). */
int demo_parallel(size_t n, unsigned n_threads, int (*fn)(void *arg, size_t i), void *arg);

#endif
