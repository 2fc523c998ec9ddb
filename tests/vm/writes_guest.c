/*
 * writes_guest.c - a store on a device that logs what is written to it, and steps of writes_plan.h, of all writers at once.
 *
 *   vm-writes-guest DATA LOG SEED N_STEPS
 *
 * What is acknowledged to be durable is said by a mark in that same log, and in that of whoever logs what DATA is given, at once and before anything else is done: so wherever the log is cut, the last mark
 * before says what must be there.
 */
#include "writes_device.h"
#include "writes_plan.h"

#include <errno.h>
#include <quire/blob.h>
#include <quire/log.h>
#include <quire/volume.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORE "/tmp/writes-store"
#define SEGMENT_BYTES 65536u
#define CHECKPOINT_BYTES (2u << 20)
#define LOG_RETAIN_BYTES (1u << 20)
#define CACHE_BYTES (32u << 20)

struct work {
	uint64_t seed;
	uint32_t n_steps;
	struct writes_device device;
	struct quire_cache *cache;
	struct quire_store *store;
	struct quire_volumes *volumes;
	struct quire_volume *volume;
	struct quire_log *log;
	uint32_t done[N_REGIONS]; /* completed, durable or not */
	struct plan_promise promise;
};

struct writer {
	struct work *work;
	unsigned region;
};

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static void expect(int64_t rc, const char *what)
{
	if (rc < 0)
		fail("%s: %s", what, strerror((int)-rc));
}

static void say_promise(struct work *w)
{
	char text[PLAN_PROMISE_TEXT];

	plan_promise_write(&w->promise, text);
	writes_device_mark(&w->device, text);
}

/* ---- the volume ---- */

/* What one writer has completed it has in this order in the log. */
static void promise_steps(struct work *w, unsigned region, uint32_t n)
{
	if (w->promise.n_steps[region] < n)
		w->promise.n_steps[region] = n;
}

static void write_sectors(struct writer *wr, const struct plan_step *s, uint32_t no, char *buf)
{
	struct iovec iov = {buf, s->n_sectors * SECTOR};
	uint64_t offset = (uint64_t)(wr->region * REGION_SECTORS + s->sector) * SECTOR;

	for (uint32_t i = 0; i < s->n_sectors; i++)
		plan_fill(wr->work->seed, wr->region, s->sector + i, no + 1, buf + i * SECTOR);
	expect(quire_volume_write(wr->work->volume, offset, &iov, 1, s->fua ? QUIRE_VOLUME_FUA : 0, NULL), "write");
}

static void clear_sectors(struct writer *wr, const struct plan_step *s)
{
	uint64_t offset = (uint64_t)(wr->region * REGION_SECTORS + s->sector) * SECTOR, len_bytes = s->n_sectors * SECTOR;
	unsigned flags = s->fua ? QUIRE_VOLUME_FUA : 0;

	if (s->kind == PLAN_DISCARD)
		expect(quire_volume_discard(wr->work->volume, offset, len_bytes, flags, NULL), "discard");
	else
		expect(quire_volume_zero(wr->work->volume, offset, len_bytes, flags | (s->sector % 16 == 0 ? QUIRE_VOLUME_NO_HOLE : 0), NULL),
		       "zero");
}

static void flush(struct work *w)
{
	uint32_t done[N_REGIONS];

	memcpy(done, w->done, sizeof(done));
	expect(quire_volume_flush(w->volume, NULL), "flush");
	for (unsigned i = 0; i < N_REGIONS; i++)
		promise_steps(w, i, done[i]);
}

static void change_snapshots(struct work *w, const struct plan_step *s)
{
	char name[32];

	snprintf(name, sizeof(name), PLAN_VOLUME "@s%u", s->snapshot);
	if (s->kind == PLAN_SNAPSHOT)
		expect(quire_volume_snapshot(w->volumes, PLAN_VOLUME, name), "snapshot");
	else
		expect(quire_volume_rm(w->volumes, name), "removing a snapshot");
}

static void take_step(struct writer *wr, uint32_t no, char *buf)
{
	struct work *w = wr->work;
	struct plan_step s = plan_step(w->seed, wr->region, no);
	bool durable = s.fua;

	switch (s.kind) {
	case PLAN_WRITE:
		write_sectors(wr, &s, no, buf);
		break;
	case PLAN_ZERO:
	case PLAN_DISCARD:
		clear_sectors(wr, &s);
		break;
	case PLAN_FLUSH:
		flush(w);
		durable = true;
		break;
	case PLAN_SNAPSHOT:
	case PLAN_REMOVE:
		change_snapshots(w, &s);
		durable = true;
	}
	w->done[wr->region] = no + 1;
	if (durable) {
		promise_steps(w, wr->region, no + 1);
		say_promise(w);
	}
}

static void write_volume(void *arg)
{
	struct writer *wr = arg;
	char *buf = malloc(REGION_SECTORS * SECTOR);

	if (buf == NULL)
		fail("no memory");
	for (uint32_t no = 0; no < wr->work->n_steps; no++)
		take_step(wr, no, buf);
	free(buf);
}

/* ---- the log, the blobs ---- */

static void append_records(void *arg)
{
	struct work *w = arg;
	char bytes[RECORD_MOST];
	uint64_t lsn;

	for (uint32_t no = 0; no < w->n_steps; no++) {
		struct iovec iov = {bytes, plan_record_bytes(w->seed, no)};
		plan_content(w->seed, no, bytes, iov.iov_len);
		if (!plan_record_durable(w->seed, no)) {
			expect(quire_log_append_nowait(w->log, &iov, 1, &lsn), "append without waiting");
			quire_co_yield();
			continue;
		}
		expect(quire_log_append(w->log, &iov, 1, &lsn, NULL), "append");
		w->promise.n_records = no + 1;
		say_promise(w);
	}
}

static void make_blobs(void *arg)
{
	static char bytes[BLOB_MOST];
	struct work *w = arg;
	uint64_t ids[N_BLOBS_PROMISED + 1] = {0}; /* by number, the oldest is the one that goes */

	for (uint32_t no = 0; no < w->n_steps / 8; no++) {
		uint64_t id, *place = &ids[no % (N_BLOBS_PROMISED + 1)];
		struct iovec iov = {bytes, plan_blob_bytes(w->seed, no)};
		plan_content(~w->seed, no, bytes, iov.iov_len);
		expect(quire_blob_alloc(w->store, NULL, &id), "a blob");
		expect(quire_blob_write(w->store, id, &iov, 1, NULL), "writing a blob");
		expect(quire_blob_apply(w->store, &id, 1, place, no > N_BLOBS_PROMISED ? 1 : 0, NULL), "committing a blob");
		*place = id;
		memmove(w->promise.blobs + 1, w->promise.blobs, (N_BLOBS_PROMISED - 1) * sizeof(id));
		w->promise.blobs[0] = id;
		w->promise.n_blobs = no + 1;
		say_promise(w);
	}
}

/* ---- all of it ---- */

static void make_store(struct work *w)
{
	struct quire_store_options so = {.size = sizeof(so), .device = w->device.path};
	struct quire_cache_options co = {.size = sizeof(co), .budget_bytes = CACHE_BYTES};
	struct quire_volumes_options vo = {.size = sizeof(vo), .segment_bytes = SEGMENT_BYTES, .checkpoint_bytes = CHECKPOINT_BYTES,
	                                   .map_bytes = 1u << 20};
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = (uint64_t)N_REGIONS * REGION_SECTORS * SECTOR};
	struct quire_log_options lo = {.size = sizeof(lo), .segment_bytes = SEGMENT_BYTES, .retain_bytes = LOG_RETAIN_BYTES};
	struct quire_error err;

	if (quire_store_create(STORE, &so, &err) < 0 || quire_cache_open(&co, &w->cache, &err) < 0 ||
	    quire_store_open(w->cache, STORE, 0, &w->store, &err) < 0 || quire_volumes_open(w->store, &vo, &w->volumes, &err) < 0 ||
	    quire_log_create(w->store, PLAN_LOG, &lo, &err) < 0 || quire_log_open(w->store, PLAN_LOG, NULL, &w->log, &err) < 0)
		fail("%s", err.text);
	expect(quire_volume_create(w->volumes, PLAN_VOLUME, &o), "a volume");
	expect(quire_volume_open(w->volumes, PLAN_VOLUME, &w->volume), "opening a volume");
	say_promise(w);
}

static void do_steps(struct work *w)
{
	static struct writer writers[N_REGIONS];
	struct quire_loop *loop;
	struct quire_error err;

	if (quire_loop_create(NULL, &loop, &err) < 0)
		fail("a loop: %s", err.text);
	for (unsigned i = 0; i < N_REGIONS; i++) {
		writers[i] = (struct writer){w, i};
		expect(quire_co_spawn(loop, write_volume, &writers[i]), "a coroutine");
	}
	expect(quire_co_spawn(loop, append_records, w), "a coroutine");
	expect(quire_co_spawn(loop, make_blobs, w), "a coroutine");
	expect(quire_loop_run(loop), "running a loop");
	expect(quire_loop_destroy(loop), "ending a loop");
}

static void close_store(struct work *w)
{
	struct quire_volumes_stat st;

	expect(quire_volumes_stat(w->volumes, &st), "stat");
	printf("%llu checkpoints, %llu segments cleaned\n", (unsigned long long)st.n_checkpoints, (unsigned long long)st.n_cleaned);
	quire_volume_close(w->volume);
	expect(quire_volumes_close(w->volumes), "closing the volumes");
	expect(quire_log_close(w->log), "closing the log");
	expect(quire_store_close(w->store), "closing the store");
	expect(quire_cache_close(w->cache), "closing the cache");
}

int main(int argc, char **argv)
{
	static struct work w;

	if (argc != 5) {
		fputs("usage: vm-writes-guest DATA LOG SEED N_STEPS\n", stderr);
		return 2;
	}
	w.seed = strtoull(argv[3], NULL, 10);
	w.n_steps = (uint32_t)strtoul(argv[4], NULL, 10);
	writes_device_make(&w.device, argv[1], argv[2]);
	make_store(&w);
	do_steps(&w);
	close_store(&w);
	writes_device_remove(&w.device);
	return 0;
}
