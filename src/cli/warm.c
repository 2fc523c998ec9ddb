/* warm.c - `quire warm`: reads files through a map and reports what is resident.
 *
 * Of files that are larger than the budget together, what was read last stays: the report
 * says how much of each.
 */
#include "cli.h"
#include "json.h"
#include "progress.h"

#include <quire/map.h>

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES (4u << 20)

struct warm {
	char **paths; /* borrowed: of argv */
	size_t n;
	uint64_t budget_bytes;
	bool json;
	struct quire_cache *cache;
	struct quire_map *map;
	double seconds;
};

static int read_item(struct warm *w, size_t index, uint64_t *done_bytes, uint64_t all_bytes,
                     struct progress *progress)
{
	const void *start;
	size_t len;
	int rc = quire_map_item(w->map, index, &start, &len);

	for (size_t at = 0; rc == 0 && at < len; at += WINDOW_BYTES) {
		struct iovec range = { .iov_base = (void *)((uintptr_t)start + at),
			               .iov_len = len - at < WINDOW_BYTES ? len - at : WINDOW_BYTES };
		rc = quire_map_want(w->map, &range, 1, 0, NULL);
		*done_bytes += range.iov_len;
		progress_update(progress, (double)*done_bytes / (double)all_bytes);
	}
	return rc < 0 ? cli_fail(w->paths[index], "%s", strerror(-rc)) : CLI_DONE;
}

static int read_all(struct warm *w)
{
	struct quire_map_stat stat;
	struct progress progress;
	uint64_t done = 0;
	int rc = CLI_DONE;

	if (quire_map_stat(w->map, &stat) < 0)
		return cli_fail("map", "no statistics");
	double start = (double)cli_now_ns() / 1e9;
	progress_begin(&progress, stderr);
	for (size_t i = 0; rc == CLI_DONE && i < w->n; i++) {
		progress_step(&progress, w->paths[i]);
		rc = read_item(w, i, &done, stat.mapped, &progress);
	}
	progress_end(&progress);
	w->seconds = (double)cli_now_ns() / 1e9 - start;
	return rc;
}

/* Page by page, so that partly resident files are counted right. */
static uint64_t resident_bytes(const struct warm *w, size_t index, size_t *ret_len)
{
	const size_t page = (size_t)1 << quire_map_page_shift(w->map);
	const void *start;
	uint64_t bytes = 0;

	if (quire_map_item(w->map, index, &start, ret_len) < 0)
		return 0;
	for (size_t at = 0; at < *ret_len; at += page) {
		size_t len = *ret_len - at < page ? *ret_len - at : page;
		if (quire_map_resident(w->map, (const char *)start + at, len))
			bytes += len;
	}
	return bytes;
}

static void report_json(const struct warm *w, const struct quire_map_stat *map,
                        const struct quire_cache_stat *cache)
{
	struct json j;

	json_init(&j, stdout);
	json_open(&j, NULL, '{');
	json_open(&j, "files", '[');
	for (size_t i = 0; i < w->n; i++) {
		size_t len = 0;
		uint64_t resident = resident_bytes(w, i, &len);

		json_open(&j, NULL, '{');
		json_string(&j, "path", w->paths[i]);
		json_uint(&j, "bytes", len);
		json_uint(&j, "resident_bytes", resident);
		json_close(&j, '}');
	}
	json_close(&j, ']');
	json_uint(&j, "mapped_bytes", map->mapped);
	json_uint(&j, "resident_bytes", map->resident);
	json_uint(&j, "budget_bytes", cache->budget);
	json_uint(&j, "used_bytes", cache->used);
	json_uint(&j, "pages_read", cache->n_fills);
	json_uint(&j, "second_chance_hits", cache->n_second_chance_hits);
	json_uint(&j, "pages_evicted", cache->n_evictions);
	json_double(&j, "seconds", w->seconds);
	json_close(&j, '}');
}

static void report_text(const struct warm *w, const struct quire_map_stat *map,
                        const struct quire_cache_stat *cache)
{
	char a[CLI_BYTES_TEXT], b[CLI_BYTES_TEXT];

	for (size_t i = 0; i < w->n; i++) {
		size_t len = 0;
		uint64_t resident = resident_bytes(w, i, &len);
		double share = len > 0 ? 100 * (double)resident / (double)len : 100;

		printf("%10s of %10s  %3.0f %%  %s\n", cli_format_bytes(resident, a),
		       cli_format_bytes(len, b), share, w->paths[i]);
	}
	printf("%10s of %10s resident", cli_format_bytes(map->resident, a), cli_format_bytes(map->mapped, b));
	printf(", budget %s, read in %.2f s\n", cli_format_bytes(cache->budget, a), w->seconds);
}

static int report(const struct warm *w)
{
	struct quire_map_stat map;
	struct quire_cache_stat cache;

	if (quire_map_stat(w->map, &map) < 0 || quire_cache_stat(w->cache, &cache) < 0)
		return cli_fail("map", "no statistics");
	if (w->json)
		report_json(w, &map, &cache);
	else
		report_text(w, &map, &cache);
	return cli_finish_output();
}

static int warm(struct warm *w)
{
	const struct quire_cache_options opts = { .size = sizeof(opts), .budget_bytes = w->budget_bytes };
	struct quire_item *items = calloc(w->n, sizeof(*items));
	struct quire_error err = { 0 };
	int rc;

	if (items == NULL)
		return cli_fail("warm", "out of memory");
	for (size_t i = 0; i < w->n; i++)
		items[i].path = w->paths[i];
	if (quire_cache_open(&opts, &w->cache, &err) < 0 ||
	    quire_map_create(w->cache, items, w->n, NULL, &w->map, &err) < 0) {
		rc = cli_fail_text(err.text);
	} else {
		rc = read_all(w);
		if (rc == CLI_DONE)
			rc = report(w);
		quire_map_destroy(w->map, NULL);
	}
	quire_cache_close(w->cache);
	free(items);
	return rc;
}

static void print_help(void)
{
	printf("usage: quire warm FILES… [options]\n\n"
	       "Reads files through a map and reports what is resident.\n\n"
	       "  --budget N  memory of the cache, bytes or 256M; default follows the machine's limits\n"
	       "  --json      facts as JSON on standard output\n"
	       "  --help      this text\n");
}

static int take(void *arg, int option)
{
	struct warm *w = arg;

	if (option == 'j')
		w->json = true;
	else if (!cli_parse_bytes(optarg, &w->budget_bytes) || w->budget_bytes < QUIRE_BUDGET_MIN_BYTES)
		return cli_usage(optarg, "not a size of 8 MiB or more");
	return CLI_DONE;
}

int verb_warm(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "budget", required_argument, NULL, 'b' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct warm w = { .json = false };

	int rc = cli_options(argc, argv, longs, print_help, take, &w);
	if (rc != CLI_GO_ON)
		return rc;
	if (optind == argc)
		return cli_usage("FILES", "which ones?");
	w.paths = argv + optind;
	w.n = (size_t)(argc - optind);
	return warm(&w);
}
