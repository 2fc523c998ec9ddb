/* map_scan.c - a file read through once: how fast, at whose cost. Prints one line of JSON.
 *
 *   device   O_DIRECT reads of 1 MiB into huge pages, DEPTH threads at it: what the device gives
 *   load     the map by raw loads, one thread, in order
 *   want     the map by wants of 1 MiB, one thread, in order, each waited for
 *   beside   random pages by want, one thread; then the same with a thread beside it that scans by raw
 *            loads, through the same map, at up to 2 GiB/s
 *   last     random pages by want for a long time, second by second
 *   kernel-* the same by the kernel: map_scan_kernel.c
 *
 * load and want have a hot set beside them, the start of the file, half of the memory, of pages used three times, and
 * tell how much of it is left. The file is that of map_miss.h.
 */
#include "map_scan.h"

#include <quire/quire.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ASIDE_BYTES (8u << 20)
#define HUGE_BYTES (2u << 20)
#define MAX_SECONDS 600
#define RANDOM_DEPTH 128

/* ---- the device ---- */

struct reader {
	struct scan *scan;
	pthread_t thread;
	_Atomic uint64_t *at; /* borrowed: the next MiB to be read, by whoever comes first */
};

static void *device_read(void *arg)
{
	struct reader *r = arg;
	int fd = open(r->scan->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	void *buf = aligned_alloc(HUGE_BYTES, HUGE_BYTES);
	uint64_t at;

	if (fd < 0 || buf == NULL)
		die(r->scan->path, fd < 0 ? -errno : -ENOMEM);
	madvise(buf, HUGE_BYTES, MADV_HUGEPAGE); /* for a device, memory in one piece is faster by far */
	while ((at = atomic_fetch_add(r->at, MIB)) < r->scan->bytes)
		if (pread(fd, buf, MIB, (off_t)at) != (ssize_t)MIB)
			die("reading the device", errno != 0 ? -errno : -EIO);
	free(buf);
	close(fd);
	return NULL;
}

static void run_device(struct scan *s)
{
	struct reader readers[64];
	_Atomic uint64_t at = s->from;
	double start = now_seconds();

	for (unsigned i = 0; i < s->depth; i++) {
		readers[i].scan = s;
		readers[i].at = &at;
		int rc = pthread_create(&readers[i].thread, NULL, device_read, &readers[i]);
		if (rc != 0)
			die("threads", rc);
	}
	for (unsigned i = 0; i < s->depth; i++)
		pthread_join(readers[i].thread, NULL);
	printf("{\"bytes\": %llu, \"seconds\": %.6f}\n", (unsigned long long)(s->bytes - s->from), now_seconds() - start);
}

/* ---- a map ---- */

static struct quire_map *map_bytes(struct scan *s, uint64_t bytes, enum quire_fault fault)
{
	const struct quire_map_options opts = {.size = sizeof(opts), .fault = fault};
	struct quire_item item = {.path = s->path, .fd = -1, .len_bytes = bytes, .page_bytes = s->item_page_bytes};
	struct quire_error err = {0};
	struct quire_map *m;
	int rc = quire_map_create(s->cache, &item, 1, &opts, &m, &err);

	if (rc < 0)
		die(err.text, rc);
	return m;
}

static void open_map(struct scan *s)
{
	const struct quire_cache_options opts = {
		.size = sizeof(opts),
		.budget_bytes = s->memory_bytes - ASIDE_BYTES,
		.signal_faults = s->signal,
	};
	struct quire_error err = {0};
	int rc = quire_cache_open(&opts, &s->cache, &err);

	if (rc < 0)
		die(err.text, rc);
	s->map = map_bytes(s, s->bytes, s->signal ? QUIRE_FAULT_SIGNAL : QUIRE_FAULT_SERVICE);
	s->base = quire_map_base(s->map);
	if (s->advised)
		quire_map_stream(s->map, 0, QUIRE_STREAM_SEQUENTIAL);
}

static void close_map(struct scan *s)
{
	quire_map_destroy(s->map, NULL);
	quire_cache_close(s->cache);
}

/* ---- reading through once ---- */

static struct quire_map *make_hot(struct scan *s, uint64_t bytes)
{
	struct quire_map *hot = map_bytes(s, bytes, QUIRE_FAULT_SERVICE);
	const char *base = quire_map_base(hot);

	for (unsigned use = 0; use < 3; use++) {
		for (uint64_t at = 0; at < bytes; at += MIB) {
			struct iovec v = {(void *)(uintptr_t)(base + at), MIB};
			int rc = quire_map_want(hot, &v, 1, 0, NULL);

			if (rc < 0)
				die("the hot set", rc);
		}
	}
	return hot;
}

static void run_through(struct scan *s, bool by_want)
{
	open_map(s);
	struct quire_map *hot = make_hot(s, s->from);
	struct quire_map_stat stat;
	double start = now_seconds();

	for (uint64_t at = s->from; at < s->bytes; at += MIB) {
		struct iovec v = {(void *)(uintptr_t)(s->base + at), MIB};
		int rc = by_want ? quire_map_want(s->map, &v, 1, 0, NULL) : 0;

		if (rc < 0)
			die("wanting", rc);
		check_pages(s, s->base + at, at);
	}
	double seconds = now_seconds() - start;
	quire_map_stat(hot, &stat);
	double kept = (double)stat.resident / (double)s->from;
	quire_map_stat(s->map, &stat);
	printf("{\"bytes\": %llu, \"seconds\": %.6f, \"hot_kept\": %.4f, \"n_ahead\": %llu, \"n_fills\": %llu, "
	       "\"n_faults\": %llu, \"wrong\": %llu}\n",
	       (unsigned long long)(s->bytes - s->from), seconds, kept, (unsigned long long)stat.n_ahead,
	       (unsigned long long)stat.n_fills, (unsigned long long)stat.n_faults, (unsigned long long)s->n_wrong);
	quire_map_destroy(hot, NULL);
	close_map(s);
}

/* ---- random pages ---- */

struct walk {
	struct scan *scan;
	struct quire_loop *loop;
	uint64_t rng, n;
	uint64_t *by_second;
	double start, seconds;
	bool stop;
};

struct walker {
	struct walk *walk;
	struct quire_op op;
	struct iovec range;
	uint64_t page;
};

static void walked(struct walk *w, uint64_t page)
{
	check_page(w->scan, w->scan->base + page * w->scan->page_bytes, page);
	if (++w->n % 64 != 0)
		return;
	double passed = now_seconds() - w->start;
	if (passed >= w->seconds)
		w->stop = true;
	else
		w->by_second[(unsigned)passed] += 64;
}

static void walker_wanted(struct quire_op *op, void *arg);

static void walker_go(struct walker *wr)
{
	struct walk *w = wr->walk;
	struct scan *s = w->scan;

	while (!w->stop) {
		wr->page = random_below(&w->rng, s->bytes / s->page_bytes);
		wr->range = (struct iovec){(void *)(uintptr_t)(s->base + wr->page * s->page_bytes), s->page_bytes};
		if (!quire_map_resident(s->map, wr->range.iov_base, 1)) {
			quire_op_init_callback(&wr->op, w->loop, walker_wanted, wr);
			int rc = quire_map_want(s->map, &wr->range, 1, 0, &wr->op);
			if (rc < 0)
				die("wanting", rc);
			return;
		}
		walked(w, wr->page);
	}
}

static void walker_wanted(struct quire_op *op, void *arg)
{
	struct walker *wr = arg;

	if (op->result < 0)
		die("wanting", (int)op->result);
	walked(wr->walk, wr->page);
	walker_go(wr);
}

/* Pages in the time asked for, by the second. */
static void walk_for(struct scan *s, double seconds, uint64_t *by_second)
{
	static uint64_t seed = 1;
	const struct quire_loop_options opts = {.size = sizeof(opts), .depth = RANDOM_DEPTH};
	struct walker *walkers = calloc(RANDOM_DEPTH, sizeof(*walkers));
	struct walk w = {.scan = s, .rng = seed++, .by_second = by_second, .seconds = seconds};
	struct quire_error err = {0};
	int rc = quire_loop_create(&opts, &w.loop, &err);

	if (rc < 0 || walkers == NULL)
		die("loop", rc);
	w.start = now_seconds();
	for (unsigned i = 0; i < RANDOM_DEPTH; i++) {
		walkers[i].walk = &w;
		walker_go(&walkers[i]);
	}
	rc = quire_loop_run(w.loop);
	if (rc < 0)
		die("loop", rc);
	quire_loop_destroy(w.loop);
	free(walkers);
}

static uint64_t sum(const uint64_t *by_second, unsigned from, unsigned n)
{
	uint64_t all = 0;

	for (unsigned i = from; i < from + n; i++)
		all += by_second[i];
	return all;
}

static void run_last(struct scan *s)
{
	static uint64_t by_second[MAX_SECONDS + 1];
	unsigned whole = (unsigned)s->seconds, edge = whole >= 40 ? 10 : (whole + 3) / 4;
	struct quire_map_stat before, after;

	open_map(s);
	memset(by_second, 0, sizeof(by_second));
	/* Memory is filled first, not counted: afterwards each miss is an eviction. */
	walk_for(s, (double)(s->memory_bytes / s->page_bytes) / 60000.0, by_second);
	memset(by_second, 0, sizeof(by_second));
	quire_map_stat(s->map, &before);
	walk_for(s, s->seconds, by_second);
	quire_map_stat(s->map, &after);
	printf("{\"seconds\": %u, \"edge\": %u, \"first\": %llu, \"last\": %llu, \"all\": %llu, \"misses\": %llu, \"wrong\": %llu}\n",
	       whole, edge, (unsigned long long)sum(by_second, 0, edge),
	       (unsigned long long)sum(by_second, whole - edge, edge), (unsigned long long)sum(by_second, 0, whole),
	       (unsigned long long)(after.n_fills - before.n_fills), (unsigned long long)s->n_wrong);
	close_map(s);
}

/* ---- random pages beside a scan ---- */

void *scan_on(void *arg)
{
	struct scan *s = arg;
	double start = now_seconds();

	for (uint64_t at = 0; !atomic_load(&s->stop); at = at + MIB < s->bytes ? at + MIB : 0) {
		check_pages(s, s->base + at, at);
		double due = (double)atomic_fetch_add(&s->n_scanned, MIB) / SCAN_BYTES_PER_SECOND,
		       early = due - (now_seconds() - start);
		if (early > 0.001)
			nanosleep(&(struct timespec){0, (long)(early * 1e9) % 1000000000}, NULL);
	}
	return NULL;
}

void print_beside(const struct scan *s, uint64_t alone, uint64_t beside, uint64_t scanned)
{
	printf("{\"seconds\": %.3f, \"alone\": %llu, \"beside\": %llu, \"scanned\": %llu, \"wrong\": %llu}\n",
	       s->seconds, (unsigned long long)alone, (unsigned long long)beside, (unsigned long long)scanned,
	       (unsigned long long)s->n_wrong);
}

static void run_beside(struct scan *s)
{
	uint64_t alone[MAX_SECONDS + 1] = {0}, beside[MAX_SECONDS + 1] = {0};
	pthread_t thread;

	open_map(s);
	walk_for(s, (double)(s->memory_bytes / s->page_bytes) / 60000.0, alone);
	memset(alone, 0, sizeof(alone));
	walk_for(s, s->seconds, alone);
	int rc = pthread_create(&thread, NULL, scan_on, s);
	if (rc != 0)
		die("threads", rc);
	walk_for(s, s->seconds, beside);
	uint64_t scanned = atomic_load(&s->n_scanned);
	atomic_store(&s->stop, true);
	pthread_join(thread, NULL);
	print_beside(s, sum(alone, 0, MAX_SECONDS), sum(beside, 0, MAX_SECONDS), scanned);
	close_map(s);
}

static void run_load(struct scan *s)
{
	run_through(s, false);
}

static void run_want(struct scan *s)
{
	run_through(s, true);
}

typedef void (*run_fn)(struct scan *s);

static run_fn find_run(const char *name)
{
	static const struct {
		const char *name;
		run_fn run;
	} runs[] = {
		{"device", run_device},
		{"load", run_load},
		{"want", run_want},
		{"beside", run_beside},
		{"last", run_last},
		{"kernel-read", run_kernel_read},
		{"kernel-map", run_kernel_map},
		{"kernel-sequential", run_kernel_sequential},
		{"kernel-beside", run_kernel_beside},
	};

	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++)
		if (strcmp(runs[i].name, name) == 0)
			return runs[i].run;
	return NULL;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"file", required_argument, NULL, 'f'},    {"bytes", required_argument, NULL, 'b'},
		{"memory", required_argument, NULL, 'm'},  {"seconds", required_argument, NULL, 's'},
		{"depth", required_argument, NULL, 'd'},   {"signal", no_argument, NULL, 'g'},
		{"advised", no_argument, NULL, 'a'},       {"page-bytes", required_argument, NULL, 'p'},
		{NULL, 0, NULL, 0},
	};
	struct scan s = {.page_bytes = (size_t)sysconf(_SC_PAGESIZE), .seconds = 1, .depth = 1};
	int option;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (option == 'f')
			s.path = optarg;
		else if (option == 'b')
			s.bytes = strtoull(optarg, NULL, 10) / MIB * MIB;
		else if (option == 'm')
			s.memory_bytes = strtoull(optarg, NULL, 10);
		else if (option == 's')
			s.seconds = strtod(optarg, NULL);
		else if (option == 'd')
			s.depth = (unsigned)strtoul(optarg, NULL, 10);
		else if (option == 'g')
			s.signal = true;
		else if (option == 'a')
			s.advised = true;
		else if (option == 'p')
			s.item_page_bytes = strtoull(optarg, NULL, 10);
		else
			return 2;
	}
	const char *what = optind + 1 == argc ? argv[optind] : "";
	if (s.path == NULL || s.bytes < 64 * MIB || s.memory_bytes < 32 * MIB || s.memory_bytes > s.bytes || s.depth == 0 ||
	    s.depth > 64 || s.seconds > MAX_SECONDS || find_run(what) == NULL) {
		fprintf(stderr, "usage: bench-map-scan --file F --bytes N --memory N [--seconds S] [--depth N] "
		                "[--signal] [--advised] [--page-bytes N] device|load|want|beside|last|kernel-read|kernel-map|"
		                "kernel-sequential|kernel-beside\n");
		return 2;
	}
	s.from = s.memory_bytes / 2 / MIB * MIB;
	find_run(what)(&s);
	return s.n_wrong != 0;
}
