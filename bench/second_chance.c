/* second_chance.c - random pages of a file that is larger than the cache, with compressed copies of what left and without.
 *
 *   bench-second-chance want|raw on|off FILE BYTES BUDGET THREADS DEPTH WARM_SECONDS SECONDS
 *
 * Each thread goes from random page to random page of the first BYTES of FILE.
 *   want  by DEPTH walkers on a loop of its own: one that meets a cold page wants it, and goes on in the completion's callback
 *   raw   by loads alone, one after the other; a fault is served in the thread
 * Pages that are touched in WARM_SECONDS are not counted. Page n of the file begins with n, and ends with its complement: both are
 * looked at. Prints one line of JSON.
 */
#include "random.h"
#include "clock.h"
#include "fail.h"

#include <quire/quire.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MOST_THREADS 64u

struct bench {
	bool wants;
	unsigned depth;
	struct quire_cache *cache;
	struct quire_map *map;
	const unsigned char *base;
	size_t page_bytes;
	uint64_t n_pages;
	_Atomic bool stop;
};

struct member {
	struct bench *bench;
	struct quire_loop *loop;
	pthread_t thread;
	uint64_t random, n_wrong;
	_Atomic uint64_t n_done;
} __attribute__((aligned(128)));

struct walker {
	struct member *member;
	struct quire_op op;
	struct iovec range;
	uint64_t page;
};

static void touch(struct member *m, uint64_t page)
{
	const unsigned char *p = m->bench->base + page * m->bench->page_bytes;
	uint64_t head, tail;

	memcpy(&head, p, sizeof(head));
	memcpy(&tail, p + m->bench->page_bytes - sizeof(tail), sizeof(tail));
	m->n_wrong += head != page || tail != ~page;
	atomic_store_explicit(&m->n_done, atomic_load_explicit(&m->n_done, memory_order_relaxed) + 1, memory_order_relaxed);
}

static void walk(struct walker *w);

static void wanted(struct quire_op *op, void *arg)
{
	struct walker *w = arg;

	if (op->result < 0)
		die("want", (int)op->result);
	touch(w->member, w->page);
	walk(w);
}

static void walk(struct walker *w)
{
	struct bench *b = w->member->bench;

	while (!atomic_load_explicit(&b->stop, memory_order_relaxed)) {
		w->page = random_below(&w->member->random, b->n_pages);
		w->range = (struct iovec){ (void *)(uintptr_t)(b->base + w->page * b->page_bytes), b->page_bytes };
		if (quire_map_resident(b->map, w->range.iov_base, 1)) {
			touch(w->member, w->page);
			continue;
		}
		quire_op_init_callback(&w->op, w->member->loop, wanted, w);
		int rc = quire_map_want(b->map, &w->range, 1, 0, &w->op);
		if (rc < 0)
			die("want", rc);
		return;
	}
}

static void run_walkers(struct member *m)
{
	const struct quire_loop_options options = { .size = sizeof(options), .depth = m->bench->depth };
	struct walker *walkers = calloc(m->bench->depth, sizeof(*walkers));
	struct quire_error err = { 0 };
	int rc = walkers == NULL ? -ENOMEM : quire_loop_create(&options, &m->loop, &err);

	if (rc < 0)
		die("loop", rc);
	for (unsigned i = 0; i < m->bench->depth; i++) {
		walkers[i].member = m;
		walk(&walkers[i]);
	}
	rc = quire_loop_run(m->loop);
	if (rc < 0)
		die("loop", rc);
	quire_loop_destroy(m->loop);
	free(walkers);
}

static void *member_main(void *arg)
{
	struct member *m = arg;

	if (m->bench->wants)
		run_walkers(m);
	else
		while (!atomic_load_explicit(&m->bench->stop, memory_order_relaxed))
			touch(m, random_below(&m->random, m->bench->n_pages));
	return NULL;
}

static void open_all(struct bench *b, char **argv)
{
	const struct quire_cache_options cache_options = {
		.size = sizeof(cache_options),
		.budget_bytes = strtoull(argv[5], NULL, 10),
		.signal_faults = !b->wants,
		.no_second_chance = strcmp(argv[2], "off") == 0,
	};
	const struct quire_map_options map_options = {
		.size = sizeof(map_options),
		.fault = b->wants ? QUIRE_FAULT_SERVICE : QUIRE_FAULT_SIGNAL,
	};
	const struct quire_item item = { .path = argv[3], .len_bytes = strtoull(argv[4], NULL, 10) };
	struct quire_error err = { 0 };
	int rc = quire_cache_open(&cache_options, &b->cache, &err);

	if (rc == 0)
		rc = quire_map_create(b->cache, &item, 1, &map_options, &b->map, &err);
	if (rc < 0)
		die(err.text, rc);
	b->base = quire_map_base(b->map);
	b->page_bytes = (size_t)1 << quire_map_page_shift(b->map);
	b->n_pages = item.len_bytes / b->page_bytes;
}

struct sample {
	double seconds, cpu_seconds;
	uint64_t n_done;
	struct quire_cache_stat stat;
};

static struct sample sample(struct bench *b, const struct member *members, unsigned n)
{
	struct sample s = {
		.seconds = now_seconds(),
		.cpu_seconds = cpu_seconds(),
	};

	for (unsigned i = 0; i < n; i++)
		s.n_done += atomic_load_explicit(&members[i].n_done, memory_order_relaxed);
	if (quire_cache_stat(b->cache, &s.stat) < 0)
		die("statistics", -EIO);
	return s;
}

static void wait_for(const char *seconds)
{
	double n = strtod(seconds, NULL);
	struct timespec t = { .tv_sec = (time_t)n, .tv_nsec = (long)((n - (double)(time_t)n) * 1e9) };

	nanosleep(&t, NULL);
}

static void print(const struct sample *from, const struct sample *to, uint64_t n_wrong)
{
	const struct quire_cache_stat *a = &from->stat, *b = &to->stat;

	printf("{\"pages_per_s\": %.0f, \"cpu_us\": %.4f, \"fills\": %llu, \"second_chance_hits\": %llu, \"puts\": %llu, "
	       "\"refused\": %llu, \"used_bytes\": %llu, \"tmem_bytes\": %llu, \"copies\": %llu, \"copies_bytes\": %llu, "
	       "\"part_bytes\": %llu, \"wrong\": %llu}\n",
	       (double)(to->n_done - from->n_done) / (to->seconds - from->seconds),
	       (to->cpu_seconds - from->cpu_seconds) * 1e6 / (double)(to->n_done - from->n_done),
	       (unsigned long long)(b->n_fills - a->n_fills),
	       (unsigned long long)(b->n_second_chance_hits - a->n_second_chance_hits),
	       (unsigned long long)(b->n_second_chance_puts - a->n_second_chance_puts),
	       (unsigned long long)(b->n_second_chance_refused - a->n_second_chance_refused), (unsigned long long)b->used,
	       (unsigned long long)b->tmem, (unsigned long long)b->second_chance_pages, (unsigned long long)b->second_chance,
	       (unsigned long long)b->second_chance_part, (unsigned long long)n_wrong);
}

int main(int argc, char **argv)
{
	static struct member members[MOST_THREADS];
	struct bench b = { .wants = argc == 10 && strcmp(argv[1], "want") == 0 };
	unsigned n = argc == 10 ? (unsigned)strtoul(argv[6], NULL, 10) : 0;
	uint64_t n_wrong = 0;

	b.depth = argc == 10 ? (unsigned)strtoul(argv[7], NULL, 10) : 0;
	if (n == 0 || n > MOST_THREADS || b.depth == 0) {
		fprintf(stderr, "usage: bench-second-chance want|raw on|off FILE BYTES BUDGET THREADS DEPTH WARM_SECONDS SECONDS\n");
		return 2;
	}
	open_all(&b, argv);
	for (unsigned i = 0; i < n; i++) {
		members[i] = (struct member){ .bench = &b, .random = i + 1 };
		if (pthread_create(&members[i].thread, NULL, member_main, &members[i]) != 0)
			die("thread", -EAGAIN);
	}
	wait_for(argv[8]);
	struct sample from = sample(&b, members, n);
	wait_for(argv[9]);
	struct sample to = sample(&b, members, n);
	atomic_store(&b.stop, true);
	for (unsigned i = 0; i < n; i++) {
		pthread_join(members[i].thread, NULL);
		n_wrong += members[i].n_wrong;
	}
	print(&from, &to, n_wrong);
	quire_map_destroy(b.map, NULL);
	quire_cache_close(b.cache);
	return 0;
}
