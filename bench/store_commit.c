/* store_commit.c - durable commits of 4 KiB blobs, one by one and 64 at a time, and between them what the disk does
 * for bare writes of 4 KiB: O_DIRECT and RWF_DSYNC, onto blocks that were written before.
 *
 * commit1 runs in a coroutine, whose loop owns its ring; commit1_thread is the same from a plain thread.
 */
#include "store.h"
#include "blocks.h"
#include "coroutine.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STORE_BYTES (UINT64_C(64) << 30) /* sparse */
#define BATCH 64u

struct turn {
	struct quire_store *store;
	void *block;
	unsigned batch;
	double seconds, per_second;
	int error;
};

/* ---- the peer ---- */

static int dsync_turn(int fd, struct turn *t)
{
	static uint64_t at;
	double start = now_seconds(), passed;
	uint64_t n = 0;

	do {
		memcpy(t->block, &n, sizeof(n));
		int rc = blocks_write(fd, t->block, &at);
		if (rc < 0)
			return failed("writing blocks", rc);
		n++;
		passed = now_seconds() - start;
	} while (passed < t->seconds);
	t->per_second = (double)n / passed;
	return 0;
}

/* ---- Quire ---- */

static int put_batch(struct turn *t, uint64_t n)
{
	uint64_t ids[BATCH];

	for (unsigned i = 0; i < t->batch; i++) {
		struct iovec iov = { t->block, STORE_PAGE_BYTES };
		uint64_t number = n + i;
		memcpy(t->block, &number, sizeof(number));
		int rc = quire_blob_alloc(t->store, NULL, &ids[i]);
		if (rc == 0)
			rc = quire_blob_write(t->store, ids[i], &iov, 1, NULL);
		if (rc < 0)
			return rc;
	}
	return quire_blob_commit(t->store, ids, t->batch, NULL);
}

static void commit_turn(void *arg)
{
	struct turn *t = arg;
	double start = now_seconds(), passed;
	uint64_t n = 0;

	do {
		t->error = put_batch(t, n);
		n += t->batch;
		passed = now_seconds() - start;
	} while (passed < t->seconds && t->error == 0);
	t->per_second = (double)n / passed;
}

static int run_commits(struct turn *t, unsigned batch, bool coroutine, double *ret)
{
	int rc = 0;

	t->batch = batch;
	t->error = 0;
	if (coroutine)
		rc = run_in_coroutine(commit_turn, t);
	else
		commit_turn(t);
	*ret = t->per_second;
	return rc < 0 ? rc : t->error < 0 ? failed("commit", t->error) : 0;
}

/* ---- in turns ---- */

static int one_round(struct turn *t, int fd, bool last)
{
	double dsync, dsync_again, commit1, commit64, commit1_thread;
	int rc = dsync_turn(fd, t);

	dsync = t->per_second;
	if (rc == 0)
		rc = run_commits(t, 1, true, &commit1);
	if (rc == 0)
		rc = dsync_turn(fd, t);
	dsync_again = t->per_second;
	if (rc == 0)
		rc = run_commits(t, BATCH, true, &commit64);
	if (rc == 0)
		rc = run_commits(t, 1, false, &commit1_thread);
	if (rc == 0)
		printf("{\"dsync\": %.1f, \"commit1\": %.1f, \"dsync_again\": %.1f, \"commit64\": %.1f, "
		       "\"commit1_thread\": %.1f}%s\n",
		       dsync, commit1, dsync_again, commit64, commit1_thread, last ? "]}" : ",");
	return rc;
}

static int run_rounds(const struct store_bench *b, struct turn *t, int fd)
{
	int rc = 0;

	printf("{\"rounds\": [\n");
	for (unsigned i = 0; i < b->rounds && rc == 0; i++)
		rc = one_round(t, fd, i + 1 == b->rounds);
	return rc;
}

int store_bench_commit(const struct store_bench *b)
{
	char *path = store_path(b, "commit"), *blocks = store_path(b, "commit-blocks");
	struct turn t = { .seconds = b->seconds, .block = aligned_alloc(STORE_PAGE_BYTES, STORE_PAGE_BYTES) };
	struct open_store s;

	if (path == NULL || blocks == NULL || t.block == NULL)
		return failed("starting", -ENOMEM);
	int fd = blocks_open(blocks, t.block);
	if (fd < 0)
		return failed(blocks, fd);
	int rc = store_make(path, STORE_BYTES);
	if (rc == 0)
		rc = store_open_at(path, &s);
	if (rc == 0) {
		t.store = s.store;
		rc = run_rounds(b, &t, fd);
		store_shut(&s);
	}
	close(fd);
	free(t.block);
	free(path);
	free(blocks);
	return rc;
}
