/* restart.c - zipfian lookups on a map, and how soon after a start they hit; one line of JSON.
 *
 *   bench-restart train FILE BYTES MEMORY LIST SECONDS
 *   bench-restart start FILE BYTES MEMORY LIST|- SECONDS RATE HIT_RATE
 *
 * `train` looks up as fast as it can, says which part of the lookups hit in the last fifth of the time, and leaves
 * the list of hot pages (LIST). `start` maps the file again, with the list, or without (-), looks up RATE pages a
 * second, whatever comes of it (0: as fast as it can), and says after how long HIT_RATE was reached: the end of the first
 * window of half a second in which it was, counted from before the cache was opened. A lookup is a hit if its page is resident when
 * it is asked for. Popularity: Zipf with exponent 0.99 over all pages, scattered over the file.
 */
#include "clock.h"
#include "random.h"

#include <quire/quire.h>

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ASIDE_BYTES (8u << 20) /* of the cgroup: this program, and the kernel's odds and ends */
#define THETA 0.99
#define WALKERS 128            /* as fast as it can */
#define MAX_UNDER_WAY 8192     /* at a rate */
#define STEP_SECONDS 0.01
#define WINDOW_STEPS 50

struct zipf {
	double n, zeta, eta, alpha, half;
};

struct lookup {
	struct bench *b;
	struct quire_op op;
	struct iovec range;
	uint64_t page;
};

struct bench {
	const char *path, *list;
	uint64_t n_pages, memory_bytes, page_bytes;
	double seconds, rate, target;
	struct zipf zipf;
	uint64_t rng;
	struct quire_cache *cache;
	struct quire_map *map;
	struct quire_loop *loop;
	const unsigned char *base;
	struct lookup *lookups; /* owned */
	unsigned n_lookups;
	struct lookup **idle;   /* owned; a stack */
	unsigned n_idle;
	uint64_t n_seen, n_hits, n_wrong, n_late;
	double start, began;
	uint64_t seen_at[WINDOW_STEPS + 1], hits_at[WINDOW_STEPS + 1];
	uint64_t n_steps;
	double reached_seconds; /* < 0: not yet */
	double first_hit_rate;  /* of the first window */
	uint64_t seen_before, hits_before; /* the last fifth of the time */
	bool stop;
	int error;
};

/* ---- which page: Gray et al., "Quickly generating billion-record synthetic databases" (1994) ---- */

static void zipf_init(struct zipf *z, uint64_t n)
{
	double two = 1 + pow(0.5, THETA);

	*z = (struct zipf){ .n = (double)n, .alpha = 1 / (1 - THETA), .half = two };
	for (uint64_t i = 1; i <= n; i++)
		z->zeta += 1 / pow((double)i, THETA);
	z->eta = (1 - pow(2.0 / (double)n, 1 - THETA)) / (1 - two / z->zeta);
}

static uint64_t random_page(struct bench *b)
{
	const struct zipf *z = &b->zipf;

	double u = (double)(random_next(&b->rng) >> 11) / 9007199254740992.0, uz = u * z->zeta;
	uint64_t rank = uz < 1        ? 0 :
			uz < z->half ? 1 :
					(uint64_t)(z->n * pow(z->eta * u - z->eta + 1, z->alpha));
	if (rank >= b->n_pages)
		rank = b->n_pages - 1;
	return rank * 2654435761u % b->n_pages; /* a prime: each page has one rank */
}

/* ---- lookups ---- */

static void check(struct bench *b, const struct lookup *l)
{
	uint64_t first, last;

	memcpy(&first, l->range.iov_base, sizeof(first));
	memcpy(&last, (const char *)l->range.iov_base + b->page_bytes - sizeof(last), sizeof(last));
	b->n_wrong += first != l->page || last != ~l->page;
}

static void looked_up(struct quire_op *op, void *arg);

static void look_up(struct bench *b)
{
	struct lookup *l = b->idle[--b->n_idle];

	l->page = random_page(b);
	l->range.iov_base = (void *)(uintptr_t)(b->base + l->page * b->page_bytes);
	l->range.iov_len = b->page_bytes;
	b->n_seen++;
	b->n_hits += quire_map_resident(b->map, l->range.iov_base, b->page_bytes);
	quire_op_init_callback(&l->op, b->loop, looked_up, l);
	int rc = quire_map_want(b->map, &l->range, 1, 0, &l->op);
	if (rc < 0) {
		b->error = rc;
		b->stop = true;
	}
}

static void looked_up(struct quire_op *op, void *arg)
{
	struct lookup *l = arg;
	struct bench *b = l->b;

	if (op->result < 0) {
		b->error = (int)op->result;
		b->stop = true;
	} else {
		check(b, l);
	}
	b->idle[b->n_idle++] = l;
	if (b->rate == 0 && !b->stop)
		look_up(b);
}

/* ---- the clock ---- */

static void look_at_window(struct bench *b, double now)
{
	unsigned slot = (unsigned)(b->n_steps % (WINDOW_STEPS + 1));
	unsigned oldest = (unsigned)((b->n_steps + 1) % (WINDOW_STEPS + 1));

	b->seen_at[slot] = b->n_seen;
	b->hits_at[slot] = b->n_hits;
	b->n_steps++;
	if (b->n_steps <= WINDOW_STEPS || b->n_seen == b->seen_at[oldest])
		return;
	double rate = (double)(b->n_hits - b->hits_at[oldest]) / (double)(b->n_seen - b->seen_at[oldest]);
	if (b->first_hit_rate < 0)
		b->first_hit_rate = rate;
	if (b->target > 0 && b->reached_seconds < 0 && rate >= b->target) {
		b->reached_seconds = now - b->start;
		b->stop = true;
	}
}

static void keep_time(void *arg)
{
	struct bench *b = arg;
	uint64_t n_due = 0;

	for (unsigned i = 0; b->rate == 0 && i < WALKERS; i++)
		look_up(b);
	for (double next = b->began; !b->stop;) {
		double now = now_seconds();

		if (now >= next) {
			look_at_window(b, now);
			next += STEP_SECONDS;
		}
		for (n_due = (uint64_t)((now - b->began) * b->rate); b->rate > 0 && b->n_seen + b->n_late < n_due;) {
			if (b->n_idle > 0)
				look_up(b);
			else
				b->n_late++; /* given up: whoever asks has had no answer for long */
		}
		if (b->seen_before == 0 && now - b->began >= b->seconds * 0.8) {
			b->seen_before = b->n_seen;
			b->hits_before = b->n_hits;
		}
		if (now - b->began >= b->seconds)
			b->stop = true;
		quire_sleep_ns(500000, NULL);
	}
}

/* ---- setting up ---- */

static int open_all(struct bench *b, struct quire_error *err)
{
	const struct quire_cache_options cache_opts = { .size = sizeof(cache_opts),
		                                        .budget_bytes = b->memory_bytes - ASIDE_BYTES };
	const struct quire_map_options map_opts = { .size = sizeof(map_opts),
		                                    .warm_path = strcmp(b->list, "-") == 0 ? NULL : b->list };
	const struct quire_item item = { .path = b->path, .len_bytes = b->n_pages * b->page_bytes };
	int rc = quire_cache_open(&cache_opts, &b->cache, err);

	if (rc == 0)
		rc = quire_map_create(b->cache, &item, 1, &map_opts, &b->map, err);
	if (rc == 0)
		rc = quire_loop_create(NULL, &b->loop, err);
	if (rc == 0)
		b->base = quire_map_base(b->map);
	return rc;
}

static int lookups_create(struct bench *b)
{
	b->n_lookups = b->rate > 0 ? MAX_UNDER_WAY : WALKERS;
	b->lookups = calloc(b->n_lookups, sizeof(*b->lookups));
	b->idle = calloc(b->n_lookups, sizeof(struct lookup *));
	if (b->lookups == NULL || b->idle == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < b->n_lookups; i++) {
		b->lookups[i].b = b;
		b->idle[b->n_idle++] = &b->lookups[i];
	}
	return 0;
}

static int bench_run(struct bench *b)
{
	struct quire_error err = { 0 };

	zipf_init(&b->zipf, b->n_pages);
	int rc = lookups_create(b);
	b->start = now_seconds();
	if (rc == 0)
		rc = open_all(b, &err);
	b->began = now_seconds();
	if (rc == 0)
		rc = quire_co_spawn(b->loop, keep_time, b);
	if (rc == 0)
		rc = quire_loop_run(b->loop);
	if (rc == 0)
		rc = b->error;
	if (rc < 0)
		fprintf(stderr, "bench-restart: %s\n", err.text[0] != '\0' ? err.text : strerror(-rc));
	return rc;
}

static void print(struct bench *b)
{
	struct quire_map_warm_stat warm = { 0 };
	uint64_t n = b->n_seen - b->seen_before;

	quire_map_warm_stat(b->map, &warm);
	printf("{\"lookups\": %llu, \"wrong\": %llu, \"given_up\": %llu, \"hit_rate\": %.6f, \"first_hit_rate\": %.6f, "
	       "\"seconds_to_hit_rate\": %.4f, \"seconds\": %.4f, \"listed\": %llu, \"replayed\": %llu, ",
	       (unsigned long long)b->n_seen, (unsigned long long)b->n_wrong, (unsigned long long)b->n_late,
	       n > 0 ? (double)(b->n_hits - b->hits_before) / (double)n : 0, b->first_hit_rate, b->reached_seconds,
	       now_seconds() - b->began, (unsigned long long)warm.n_listed, (unsigned long long)warm.n_replayed);
	double before = now_seconds();
	quire_loop_destroy(b->loop);
	quire_map_destroy(b->map, NULL);
	printf("\"destroy_seconds\": %.4f}\n", now_seconds() - before);
	quire_cache_close(b->cache);
	free(b->lookups);
	free(b->idle);
}

int main(int argc, char **argv)
{
	struct bench b = { .page_bytes = (uint64_t)sysconf(_SC_PAGESIZE), .reached_seconds = -1, .first_hit_rate = -1,
		           .rng = 88172645463325252u };
	bool train = argc == 7 && strcmp(argv[1], "train") == 0;

	if (!train && (argc != 9 || strcmp(argv[1], "start") != 0)) {
		fprintf(stderr, "usage: bench-restart train FILE BYTES MEMORY LIST SECONDS\n"
		                "       bench-restart start FILE BYTES MEMORY LIST|- SECONDS RATE HIT_RATE\n");
		return 2;
	}
	b.path = argv[2];
	b.n_pages = strtoull(argv[3], NULL, 10) / b.page_bytes;
	b.memory_bytes = strtoull(argv[4], NULL, 10);
	b.list = argv[5];
	b.seconds = strtod(argv[6], NULL);
	if (!train) {
		b.rate = strtod(argv[7], NULL);
		b.target = strtod(argv[8], NULL);
		b.rng ^= (uint64_t)getpid() << 20; /* other lookups than those that it was trained with */
	}
	if (b.n_pages == 0 || b.memory_bytes < (32u << 20) || bench_run(&b) < 0)
		return 1;
	print(&b);
	return 0;
}
