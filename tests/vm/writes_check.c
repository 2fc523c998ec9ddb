/*
 * writes_check.c - cuts the log that vm-writes-guest has left (writes_log.h) wherever a flush, a mark or a write that was durable by itself ends, makes the
 * device as it might have been, had the power failed then, and looks whether the store is there, and in it what was promised.
 *
 *   vm-writes-check LOG WRITES DATA SEED N_STEPS N_POINTS kernel | lost | loose
 *
 * LOG is the kernel's, WRITES QEMU's. At so many of the points, evenly. DATA, the device as it really was in the end, must be what all of the log makes. Directories for
 * stores are made below $TMPDIR.
 *
 * kernel: what is certain by LOG is on the medium, in the order of WRITES, and nothing else.
 * lost: the same, but as if the device had lost the last few writes that it said to be durable, which must be found at most of the points: most, since these may
 * be of what was not promised yet.
 * loose: by WRITES alone. The points are all of its writes and discards, and of what was written since the last flush before any sectors are on the medium,
 * by the seed.
 */
#include "writes_device.h"
#include "writes_log.h"
#include "writes_order.h"
#include "writes_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <quire/blob.h>
#include <quire/log.h>
#include <quire/volume.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CACHE_BYTES (32u << 20)
#define COPY_BYTES (1u << 20)
#define N_SNAPSHOTS_MOST 1024u
#define N_LOST 4u

struct check {
	uint64_t seed, chance;
	uint32_t n_steps;
	uint64_t device_bytes;
	enum writes_discarded discarded;
	int image;             /* of the device: what is certain of it at the point */
	size_t n_certain;      /* entries */
	struct writes_order *order; /* of the kernel's log; NULL: it is QEMU's */
	char dir[256];         /* a store whose class is a copy of it */
	size_t point;
	struct quire_cache *cache;
	struct quire_store *store;
	struct quire_volumes *volumes;
	struct plan_promise promise;
	unsigned long long n_loose, n_steps_promised;
};

static void fail(const struct check *c, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
static void fail(const struct check *c, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "cut behind entry %zu (%s): ", c->point, c->dir);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static void expect(const struct check *c, int64_t rc, const char *what)
{
	if (rc < 0)
		fail(c, "%s: %s", what, strerror((int)-rc));
}

/* ---- the volume ---- */

struct found {
	uint32_t versions[N_REGIONS][REGION_SECTORS];
	uint32_t snapshots[N_SNAPSHOTS_MOST]; /* in order */
	uint32_t n_snapshots;
};

static void read_regions(struct check *c, const char *name, struct found *ret)
{
	static char bytes[REGION_SECTORS * SECTOR];
	struct iovec iov = {bytes, sizeof(bytes)};
	struct quire_volume *v;

	expect(c, quire_volume_open(c->volumes, name, &v), name);
	for (unsigned r = 0; r < N_REGIONS; r++) {
		expect(c, quire_volume_read(v, r * sizeof(bytes), &iov, 1, NULL), name);
		for (uint32_t i = 0; i < REGION_SECTORS; i++) {
			ret->versions[r][i] = plan_read(c->seed, r, i, bytes + i * SECTOR);
			if (ret->versions[r][i] == UINT32_MAX)
				fail(c, "%s: sector %u of region %u was never written so", name, i, r);
		}
	}
	quire_volume_close(v);
}

static bool is_block(const struct found *f, const struct plan_region *model, unsigned region, uint32_t sector)
{
	return memcmp(&f->versions[region][sector], &model->versions[sector], BLOCK_SECTORS * sizeof(uint32_t)) == 0;
}

static bool has_snapshots_of(const struct found *f, uint32_t n_steps)
{
	uint32_t first, end;

	plan_snapshots(n_steps, &first, &end);
	if (f->n_snapshots != end - first)
		return false;
	for (uint32_t i = 0; i < f->n_snapshots; i++)
		if (f->snapshots[i] != first + i)
			return false;
	return true;
}

/* After so many steps, and perhaps some blocks of the next one. */
static bool is_region(const struct found *f, const struct plan_region *now, const struct plan_region *next, unsigned region)
{
	for (uint32_t s = 0; s < REGION_SECTORS; s += BLOCK_SECTORS)
		if (!is_block(f, now, region, s) && !is_block(f, next, region, s))
			return false;
	return true;
}

/* The region is what some number of steps has made of it, and at least so many as were promised. */
static void check_region(struct check *c, const struct found *f, unsigned region, bool with_snapshots)
{
	struct plan_region now = {{0}}, next = {{0}};

	for (uint32_t n = 0; n <= c->n_steps; n++) {
		struct plan_step s = plan_step(c->seed, region, n);
		if (n < c->n_steps)
			plan_apply(&next, &s, n);
		if (n >= c->promise.n_steps[region] && is_region(f, &now, &next, region) && (!with_snapshots || has_snapshots_of(f, n)))
			return;
		now = next;
	}
	fail(c, "region %u is not what %u steps or more have made of it", region, c->promise.n_steps[region]);
}

/* What it has of the region whose writer made it is exactly known. */
static void check_snapshot(struct check *c, uint32_t snapshot)
{
	struct plan_region model = {{0}};
	static struct found f;
	char name[32];

	snprintf(name, sizeof(name), PLAN_VOLUME "@s%u", snapshot);
	read_regions(c, name, &f);
	for (uint32_t no = 0; no < plan_snapshot_step(snapshot); no++) {
		struct plan_step s = plan_step(c->seed, 0, no);
		plan_apply(&model, &s, no);
	}
	if (!is_region(&f, &model, &model, 0))
		fail(c, "%s is not what was there when it was made", name);
}

static void list_snapshots(struct check *c, struct found *f)
{
	struct quire_volume_info info;

	f->n_snapshots = 0;
	for (uint32_t id = 0; quire_volume_ls(c->volumes, id, &info) == 1; id = info.id)
		if (sscanf(info.name, PLAN_VOLUME "@s%u", &f->snapshots[f->n_snapshots]) == 1 && ++f->n_snapshots == N_SNAPSHOTS_MOST)
			fail(c, "very many snapshots");
}

static void check_volumes(struct check *c)
{
	static struct found f;

	list_snapshots(c, &f);
	read_regions(c, PLAN_VOLUME, &f);
	for (unsigned r = 0; r < N_REGIONS; r++) {
		check_region(c, &f, r, r == 0);
		c->n_steps_promised += c->promise.n_steps[r];
	}
	for (uint32_t i = 0; i < f.n_snapshots; i++)
		check_snapshot(c, f.snapshots[i]);
}

/* ---- the log, the blobs ---- */

static void check_log(struct check *c)
{
	static char expected[RECORD_MOST];
	struct quire_log_cursor *cursor;
	struct quire_log_record r;
	struct quire_error err;
	struct quire_log *log;
	int64_t rc;

	if (quire_log_open(c->store, PLAN_LOG, NULL, &log, &err) < 0)
		fail(c, "%s", err.text);
	if (quire_log_durable(log) < c->promise.n_records)
		fail(c, "%llu records, and %u were promised", (unsigned long long)quire_log_durable(log), c->promise.n_records);
	expect(c, quire_log_cursor_open(log, QUIRE_LOG_DURABLE, &cursor), "a cursor");
	while ((rc = quire_log_next(cursor, &r, NULL)) == 1) {
		plan_content(c->seed, (uint32_t)r.lsn, expected, sizeof(expected));
		if (r.len_bytes != plan_record_bytes(c->seed, (uint32_t)r.lsn) || memcmp(r.data, expected, r.len_bytes) != 0)
			fail(c, "record %llu is not the one that was appended", (unsigned long long)r.lsn);
	}
	expect(c, rc, "reading the log");
	if (quire_log_cursor_lsn(cursor) != quire_log_durable(log))
		fail(c, "records end at %llu", (unsigned long long)quire_log_cursor_lsn(cursor));
	quire_log_cursor_close(cursor);
	expect(c, quire_log_close(log), "closing the log");
}

static void check_blobs(struct check *c)
{
	static char bytes[BLOB_MOST + 1], expected[BLOB_MOST];
	uint32_t n = c->promise.n_blobs;

	for (uint32_t i = 0; i < N_BLOBS_PROMISED && i < n; i++) {
		struct iovec iov = {bytes, sizeof(bytes)};
		int64_t len_bytes = quire_blob_read(c->store, c->promise.blobs[i], 0, &iov, 1, NULL);
		expect(c, len_bytes, "reading a blob");
		plan_content(~c->seed, n - 1 - i, expected, sizeof(expected));
		if ((size_t)len_bytes != plan_blob_bytes(c->seed, n - 1 - i) || memcmp(bytes, expected, (size_t)len_bytes) != 0)
			fail(c, "blob %llu is not what was written", (unsigned long long)c->promise.blobs[i]);
	}
}

/* ---- the store at a point ---- */

static void open_cache(struct check *c)
{
	struct quire_cache_options o = {.size = sizeof(o), .budget_bytes = CACHE_BYTES};
	struct quire_error err;

	if (quire_cache_open(&o, &c->cache, &err) < 0)
		fail(c, "%s", err.text);
}

static void found(void *arg, int error, uint64_t id, enum quire_class cls, uint64_t offset, const char *text)
{
	fprintf(stderr, "found by check: error %d, object %llu, class %d, offset %llu: %s\n", error, (unsigned long long)id, (int)cls,
	        (unsigned long long)offset, text);
}

static void open_store(struct check *c)
{
	struct quire_check_options o = {.size = sizeof(o), .found = found, .arg = c};
	struct quire_error err;

	if (quire_store_open(c->cache, c->dir, 0, &c->store, &err) < 0 || quire_volumes_open(c->store, NULL, &c->volumes, &err) < 0)
		fail(c, "%s", err.text);
	int64_t n = quire_store_check(c->store, &o);
	expect(c, n, "check");
	if (n > 0)
		fail(c, "check has %lld findings", (long long)n);
}

static void close_store(struct check *c)
{
	expect(c, quire_volumes_close(c->volumes), "closing the volumes");
	expect(c, quire_store_close(c->store), "closing the store");
}

static void copy_extent(struct check *c, int to, off_t from, off_t end)
{
	static char buf[COPY_BYTES];
	ssize_t n;

	for (off_t at = from; at < end; at += n) {
		n = pread(c->image, buf, end - at < (off_t)sizeof(buf) ? (size_t)(end - at) : sizeof(buf), at);
		if (n <= 0 || pwrite(to, buf, (size_t)n, at) != n)
			fail(c, "copying the device: %s", strerror(errno));
	}
}

/* Its holes stay holes. */
static int copy_image(struct check *c)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/capacity", c->dir);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)c->device_bytes) < 0)
		fail(c, "%s: %s", path, strerror(errno));
	for (off_t from = 0, end; (from = lseek(c->image, from, SEEK_DATA)) >= 0; from = end) {
		end = lseek(c->image, from, SEEK_HOLE);
		copy_extent(c, fd, from, end);
	}
	return fd;
}

static void check_point(struct check *c, const struct writes_log *log)
{
	int fd = copy_image(c);

	for (size_t i = c->n_certain; i <= c->point; i++, c->n_loose++)
		writes_log_apply_some(log, &log->entries[i], fd, c->discarded, &c->chance);
	close(fd);
	open_store(c);
	check_volumes(c);
	check_log(c);
	check_blobs(c);
	close_store(c);
}

/* ---- the log of writes ---- */

/* In order, those behind which something is loose. */
static bool is_point(const struct writes_log *log, const struct writes_entry *e)
{
	bool is_certain = (e->flags & (WRITES_FLUSH | WRITES_FUA | WRITES_MARK)) != 0;

	return is_certain != log->in_order;
}

/* In a process of its own, as it ends if it finds something. */
static bool finds_fault(struct check *c, const struct writes_log *log)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (freopen("/dev/null", "w", stderr) == NULL)
			_exit(0);
		open_cache(c);
		check_point(c, log);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		fail(c, "no process: %s", strerror(errno));
	return status != 0;
}

static void make_certain(struct check *c, const struct writes_log *log, const struct writes_entry *e)
{
	if (c->order != NULL)
		writes_order_apply(c->order, log, e, c->image);
	else
		writes_log_apply(log, e, c->image, c->discarded);
}

/* The last writes that were to be durable are always kept back. */
static void check_lost(struct check *c, const struct writes_log *log, size_t n_points)
{
	const struct writes_entry *lost[N_LOST] = {NULL};
	size_t n_lost = 0, n_marks = 0, n_seen = 0, n_checked = 0, n_found = 0;

	for (size_t i = 0; i < log->n; i++)
		n_marks += (log->entries[i].flags & WRITES_MARK) != 0;
	for (c->point = 0; c->point < log->n; c->point++) {
		const struct writes_entry *e = &log->entries[c->point];
		if ((e->flags & WRITES_FUA) == 0) {
			make_certain(c, log, e);
		} else {
			if (n_lost >= N_LOST)
				make_certain(c, log, lost[n_lost % N_LOST]);
			lost[n_lost++ % N_LOST] = e;
		}
		c->n_certain = c->point + 1;
		if (!plan_promise_read(e->mark, &c->promise) || ++n_seen * n_points / n_marks <= n_checked)
			continue;
		n_found += finds_fault(c, log);
		n_checked++;
	}
	printf("lost writes were found at %zu of %zu points\n", n_found, n_checked);
	if (n_found * 2 <= n_checked)
		fail(c, "at too few");
}

/* What entry `point` has made certain. */
static void advance(struct check *c, const struct writes_log *log)
{
	if (log->in_order && (log->entries[c->point].flags & WRITES_FLUSH) == 0)
		return;
	for (; c->n_certain <= c->point; c->n_certain++)
		make_certain(c, log, &log->entries[c->n_certain]);
}

/* The store is made before the first promise: until then a failure to open it breaks none. */
static void check_points(struct check *c, const struct writes_log *log, size_t n_points)
{
	size_t n_all = 0, n_seen = 0, n_checked = 0;
	bool promised = false;

	for (size_t i = 0; i < log->n; i++)
		n_all += is_point(log, &log->entries[i]);
	for (c->point = 0; c->point < log->n; c->point++) {
		const struct writes_entry *e = &log->entries[c->point];
		advance(c, log);
		promised |= plan_promise_read(e->mark, &c->promise);
		if (!is_point(log, e) || !promised)
			continue;
		/* Evenly: as many of those seen as of all. */
		if (++n_seen * n_points / n_all <= n_checked)
			continue;
		check_point(c, log);
		n_checked++;
	}
	printf("%zu entries, cut %zu times, at %zu points; %llu steps promised, on average; %llu writes drawn from\n", log->n, n_checked,
	       n_all, n_checked > 0 ? c->n_steps_promised / n_checked : 0, c->n_loose);
	if (n_checked == 0)
		fail(c, "nothing was promised");
}

static bool has_discards(const struct writes_log *log)
{
	for (size_t i = 0; i < log->n; i++)
		if ((log->entries[i].flags & WRITES_DISCARD) != 0)
			return true;
	return false;
}

/* That the log is read and done again as it should be, and what is said of its order is true. Discarded bytes are zeros in the end, if all discards are in the log;
 * the kernel's are left out. */
static void check_against_data(struct check *c, const struct writes_log *log, const char *path)
{
	static char is[4096], should[4096];
	int data = open(path, O_RDONLY | O_CLOEXEC);
	bool skips = c->order != NULL && has_discards(log);

	for (size_t i = 0; c->order == NULL && i < log->n; i++)
		writes_log_apply(log, &log->entries[i], c->image, WRITES_ZEROS);
	for (uint64_t at = 0; !skips && at < c->device_bytes; at += sizeof(is))
		if (pread(data, is, sizeof(is), (off_t)at) != sizeof(is) || pread(c->image, should, sizeof(should), (off_t)at) != sizeof(should) ||
		    memcmp(is, should, sizeof(is)) != 0)
			fail(c, "all of the log does not make the device: byte %llu", (unsigned long long)at);
	close(data);
	puts(skips ? "there were discards" : "all of the log makes the device");
}

static void prepare(struct check *c, const char *data)
{
	const char *tmp = getenv("TMPDIR");
	struct stat st;
	char path[300];

	snprintf(c->dir, sizeof(c->dir), "%s/quire-writes-XXXXXX", tmp != NULL && *tmp != 0 ? tmp : "/tmp");
	if (stat(data, &st) < 0 || mkdtemp(c->dir) == NULL)
		fail(c, "%s", strerror(errno));
	snprintf(path, sizeof(path), "%s.image", c->dir);
	c->device_bytes = (uint64_t)st.st_size - WRITES_MARK_BYTES;
	c->image = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (c->image < 0 || unlink(path) < 0 || ftruncate(c->image, (off_t)c->device_bytes) < 0)
		fail(c, "%s: %s", path, strerror(errno));
}

static void clean_up(struct check *c)
{
	static const char *const names[] = {"capacity", "lock", "control"};
	char path[300];

	close(c->image);
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", c->dir, names[i]);
		unlink(path);
	}
	rmdir(c->dir);
}

int main(int argc, char **argv)
{
	const char *mode = argc == 8 ? argv[7] : "";
	bool lost = strcmp(mode, "lost") == 0, loose = strcmp(mode, "loose") == 0;
	struct writes_log kernels, qemus;
	static struct check c;

	if (!lost && !loose && strcmp(mode, "kernel") != 0) {
		fputs("usage: vm-writes-check LOG WRITES DATA SEED N_STEPS N_POINTS kernel | lost | loose\n", stderr);
		return 2;
	}
	c.seed = c.chance = strtoull(argv[4], NULL, 10);
	c.n_steps = (uint32_t)strtoul(argv[5], NULL, 10);
	c.discarded = (enum writes_discarded)(c.seed % WRITES_N_DISCARDED);
	prepare(&c, argv[3]);
	writes_log_open(&kernels, argv[1]);
	writes_log_open_in_order(&qemus, argv[2], c.device_bytes);
	if (!loose)
		c.order = writes_order_create(&qemus, c.device_bytes);
	if (lost) {
		check_lost(&c, &kernels, strtoul(argv[6], NULL, 10));
	} else {
		open_cache(&c);
		check_points(&c, loose ? &qemus : &kernels, strtoul(argv[6], NULL, 10));
		expect(&c, quire_cache_close(c.cache), "closing the cache");
		check_against_data(&c, loose ? &qemus : &kernels, argv[3]);
	}
	if (c.order != NULL)
		writes_order_destroy(c.order);
	writes_log_close(&kernels);
	writes_log_close(&qemus);
	clean_up(&c);
	return 0;
}
