/* stall.c - how long a loop stands still while pages are cold; one line of JSON.
 *
 *   bench-stall quire|mmap|idle FILE BYTES MEMORY SECONDS
 *
 * One loop on one thread. A coroutine wants to be woken every millisecond; how much later that happens is what anything
 * else on the loop would have waited. Beside it, for as long as the run lasts, random pages of FILE are asked for, which
 * is larger than MEMORY: of a Quire map by 128 coroutines that want one and then load it; of an mmap under MADV_RANDOM
 * by one that loads it, and lets the others run after each load; or none at all, which is what the machine itself does.
 */
#include "latency.h"
#include "clock.h"
#include "fail.h"
#include "random.h"

#include <quire/quire.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TICK_NS 1000000u
#define N_WALKERS 128u
#define ASIDE_BYTES (8u << 20) /* of the memory, for the program */

static struct {
	struct quire_map *map;       /* NULL: an mmap */
	const unsigned char *base;
	uint64_t n_pages, page_bytes, rng, n_pages_read;
	uint64_t until_ns;
	struct latency late;
	volatile unsigned sink;
} run = {.rng = 1};

static void tick(void *arg)
{
	uint64_t due = now_ns() + TICK_NS, now;

	while ((now = now_ns()) < run.until_ns) {
		if (now < due)
			check(quire_sleep_ns(due - now, NULL), "sleep");
		now = now_ns();
		latency_add(&run.late, now > due ? now - due : 0);
		due = now > due + TICK_NS ? now + TICK_NS : due + TICK_NS;
	}
}

static void walk(void *arg)
{
	while (now_ns() < run.until_ns) {
		const unsigned char *page = run.base + random_below(&run.rng, run.n_pages) * run.page_bytes;
		struct iovec v = {(void *)(uintptr_t)page, run.page_bytes};

		if (run.map != NULL)
			check(quire_map_want(run.map, &v, 1, 0, NULL), "want");
		run.sink += *page;
		run.n_pages_read++;
		if (run.map == NULL)
			check(quire_co_yield(), "yield");
	}
}

static void map_file(const char *path, uint64_t bytes, uint64_t memory, bool quire, struct quire_cache **ret_cache)
{
	struct quire_cache_options o = {.size = sizeof(o), .budget_bytes = memory - ASIDE_BYTES};
	struct quire_item item = {.path = path, .len_bytes = bytes, .page_bytes = QUIRE_PAGE_4K};
	struct quire_error err = {.code = 0};

	if (quire) {
		if (quire_cache_open(&o, ret_cache, &err) < 0 ||
		    quire_map_create(*ret_cache, &item, 1, NULL, &run.map, &err) < 0)
			check(err.code, err.text);
		run.base = quire_map_base(run.map);
		return;
	}
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	void *p = fd < 0 ? MAP_FAILED : mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED || madvise(p, bytes, MADV_RANDOM) < 0)
		check(-1, path);
	run.base = p;
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc != 6 || (strcmp(argv[1], "quire") != 0 && strcmp(argv[1], "mmap") != 0 && strcmp(argv[1], "idle") != 0)) {
		fprintf(stderr, "usage: bench-stall quire|mmap|idle FILE BYTES MEMORY SECONDS\n");
		return 2;
	}
	unsigned n_walkers = argv[1][0] == 'q' ? N_WALKERS : argv[1][0] == 'm' ? 1 : 0;
	uint64_t bytes = strtoull(argv[3], NULL, 10);
	struct quire_cache *cache = NULL;
	struct quire_loop *loop;

	map_file(argv[2], bytes, strtoull(argv[4], NULL, 10), argv[1][0] == 'q', &cache);
	run.page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	run.n_pages = bytes / run.page_bytes;
	run.until_ns = now_ns() + (uint64_t)(atof(argv[5]) * 1e9);
	check(quire_loop_create(NULL, &loop, NULL), "loop");
	check(quire_co_spawn(loop, tick, NULL), "spawn");
	for (unsigned i = 0; i < n_walkers; i++)
		check(quire_co_spawn(loop, walk, NULL), "spawn");
	check(quire_loop_run(loop), "run");
	printf("{\"ticks\": %llu, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p9999_us\": %.1f, \"max_us\": %.1f, \"pages\": %llu}\n",
	       (unsigned long long)run.late.n, (double)latency_quantile(&run.late, 0.5) / 1e3,
	       (double)latency_quantile(&run.late, 0.99) / 1e3, (double)latency_quantile(&run.late, 0.9999) / 1e3,
	       (double)run.late.max_ns / 1e3, (unsigned long long)run.n_pages_read);
	check(quire_loop_destroy(loop), "destroy");
	if (run.map != NULL)
		check(quire_map_destroy(run.map, NULL), "destroy");
	check(quire_cache_close(cache), "close");
	return 0;
}
