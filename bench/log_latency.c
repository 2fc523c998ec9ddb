/* log_latency.c - how long one writer waits for one durable record, and between the turns what the disk does for a bare
 * write of 4 KiB: O_DIRECT and RWF_DSYNC, onto blocks that were written before, in a file beside the store.
 *
 * `coroutine`: the append is made where a loop runs, whose own ring writes; `thread`: from a thread without one.
 */
#include "log.h"
#include "blocks.h"
#include "coroutine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct turn {
	struct open_log *l;
	const struct log_bench *b;
	int fd;
	void *block;
	uint64_t at;
	struct samples samples;
	int error;
};

/* ---- the peer ---- */

static void dsync_turn(void *arg)
{
	struct turn *t = arg;
	int64_t start = log_now_ns(), now, end = start + (int64_t)(t->b->seconds * 1e9);

	do {
		memcpy(t->block, &t->at, sizeof(t->at));
		t->error = blocks_write(t->fd, t->block, &t->at);
		if (t->error < 0)
			return;
		now = log_now_ns();
		samples_add(&t->samples, now - start);
		start = now;
	} while (now < end);
}

/* ---- Quire ---- */

static void append_turn(void *arg)
{
	struct turn *t = arg;
	struct iovec iov = { t->block, t->b->record_bytes };
	int64_t start = log_now_ns(), now, end = start + (int64_t)(t->b->seconds * 1e9);

	do {
		memcpy(t->block, &start, sizeof(start));
		t->error = quire_log_append(t->l->log, &iov, 1, NULL, NULL);
		if (t->error < 0)
			return;
		now = log_now_ns();
		samples_add(&t->samples, now - start);
		start = now;
	} while (now < end);
}

/* ---- in turns ---- */

static int one_turn(struct turn *t, void (*turn)(void *arg), bool coroutine, const char *name, bool last)
{
	int rc = 0;

	samples_reset(&t->samples);
	if (coroutine)
		rc = run_in_coroutine(turn, t);
	else
		turn(t);
	if (rc == 0 && t->error < 0)
		rc = failed(name, t->error);
	if (rc == 0)
		printf("\"%s_p50\": %.2f, \"%s_p99\": %.2f, \"%s_n\": %zu%s", name, samples_us(&t->samples, 0.5), name,
		       samples_us(&t->samples, 0.99), name, t->samples.n, last ? "}" : ", ");
	return rc;
}

static int run_rounds(struct turn *t)
{
	int rc = 0;

	printf("{\"rounds\": [");
	for (unsigned i = 0; i < t->b->rounds && rc == 0; i++) {
		printf("%s{", i == 0 ? "" : ",\n");
		rc = one_turn(t, dsync_turn, false, "raw", false);
		if (rc == 0)
			rc = one_turn(t, append_turn, true, "coroutine", false);
		if (rc == 0)
			rc = one_turn(t, dsync_turn, false, "raw_again", false);
		if (rc == 0)
			rc = one_turn(t, append_turn, false, "thread", true);
	}
	printf("]}\n");
	return rc;
}

int log_bench_latency(const struct log_bench *b)
{
	struct open_log l;
	struct turn t = { .l = &l, .b = b };
	char blocks[4200];

	if (b->record_bytes < sizeof(int64_t) || b->record_bytes > BLOCK_BYTES)
		return failed("starting", -EINVAL);
	int rc = log_make(b, &l);
	if (rc < 0)
		return rc;
	t.block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	snprintf(blocks, sizeof(blocks), "%s.blocks", b->dir);
	t.fd = t.block == NULL ? -ENOMEM : blocks_open(blocks, t.block);
	rc = t.fd < 0 ? failed("blocks", t.fd) : log_leave_first_segment(&l);
	if (rc == 0)
		rc = run_rounds(&t);
	int shut = log_shut(&l);
	if (t.fd >= 0)
		close(t.fd);
	samples_free(&t.samples);
	free(t.block);
	return rc < 0 ? rc : shut;
}
