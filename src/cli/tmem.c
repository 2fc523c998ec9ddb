/* tmem.c - `quire tmem bench`: what pools would save on the files that are named, and how fast they are with them.
 *
 * Each page of the files is put, under the file's number and its own, then got and compared with the file. Times are those of the calls
 * alone, each measured.
 */
#include "cli.h"
#include "json.h"
#include "latency.h"
#include "progress.h"
#include "tmem_facts.h"

#include <quire/cache.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct bench {
	char **paths; /* borrowed: of argv */
	size_t n;
	uint64_t budget_bytes;
	uint32_t page_bytes;
	bool json;
	struct quire_cache *cache;    /* owned: for its budget, which follows the machine */
	struct quire_tmem *tmem;      /* borrowed: the cache's */
	struct quire_tmem_pool *pool; /* goes with it */
	uint8_t *page, *got;          /* owned */
	struct latency put, get;
	uint64_t file_bytes, done_bytes, n_wrong;
};

typedef int (*page_fn)(struct bench *b, const struct quire_tmem_key *key);

static int put_page(struct bench *b, const struct quire_tmem_key *key)
{
	uint64_t start = cli_now_ns();
	int rc = quire_tmem_put(b->pool, key, b->page);

	latency_add(&b->put, cli_now_ns() - start);
	return rc == -ENOSPC ? 0 : rc; /* counted as refused */
}

static int get_page(struct bench *b, const struct quire_tmem_key *key)
{
	uint64_t start = cli_now_ns();
	int rc = quire_tmem_get(b->pool, key, b->got, QUIRE_TMEM_GET_USUAL);

	if (rc == -ENOENT)
		return 0;
	latency_add(&b->get, cli_now_ns() - start);
	if (rc == 0 && memcmp(b->got, b->page, b->page_bytes) != 0)
		b->n_wrong++;
	return rc;
}

/* A page, zeroes behind the file's end. How many bytes of it are the file's. */
static ssize_t read_page(const struct bench *b, int fd)
{
	size_t at = 0;

	while (at < b->page_bytes) {
		ssize_t n = read(fd, b->page + at, b->page_bytes - at);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		at += n > 0 ? (size_t)n : 0;
	}
	memset(b->page + at, 0, b->page_bytes - at);
	return (ssize_t)at;
}

static int each_page_of(struct bench *b, size_t file, page_fn fn, struct progress *progress, uint64_t all_bytes)
{
	int fd = open(b->paths[file], O_RDONLY | O_CLOEXEC);
	struct quire_tmem_key key = {.object = {file}};
	ssize_t n;

	if (fd < 0)
		return cli_fail(b->paths[file], "%s", strerror(errno));
	while ((n = read_page(b, fd)) > 0) {
		int rc = fn(b, &key);

		if (rc < 0 || key.index == UINT32_MAX) {
			n = rc < 0 ? rc : -EFBIG;
			break;
		}
		key.index++;
		b->done_bytes += (uint64_t)n;
		progress_update(progress, (double)b->done_bytes / (double)all_bytes);
	}
	close(fd);
	return n < 0 ? cli_fail(b->paths[file], "%s", strerror((int)-n)) : CLI_DONE;
}

static int each_page(struct bench *b, const char *what, page_fn fn)
{
	struct progress progress;
	int rc = CLI_DONE;

	b->done_bytes = 0;
	progress_begin(&progress, stderr);
	progress_step(&progress, what);
	for (size_t i = 0; rc == CLI_DONE && i < b->n; i++)
		rc = each_page_of(b, i, fn, &progress, b->file_bytes);
	progress_end(&progress);
	return rc;
}

/* ---- what came of it ---- */

static void times_json(struct json *j, const char *key, const struct latency *l)
{
	json_open(j, key, '{');
	json_uint(j, "p50_ns", latency_quantile_ns(l, 0.5));
	json_uint(j, "p99_ns", latency_quantile_ns(l, 0.99));
	json_close(j, '}');
}

static int report(const struct bench *b)
{
	struct quire_tmem_stat s;
	struct json j;

	quire_tmem_stat(b->tmem, &s);
	if (b->json) {
		json_init(&j, stdout);
		json_open(&j, NULL, '{');
		json_uint(&j, "tmem_page_bytes", b->page_bytes);
		tmem_facts_json(&j, &s);
		times_json(&j, "put", &b->put);
		times_json(&j, "get", &b->get);
		json_uint(&j, "wrong", b->n_wrong);
		json_close(&j, '}');
	} else {
		tmem_facts_text(stdout, &s);
		printf("put p50 %.2f us, p99 %.2f us; get p50 %.2f us, p99 %.2f us\n",
		       (double)latency_quantile_ns(&b->put, 0.5) / 1e3, (double)latency_quantile_ns(&b->put, 0.99) / 1e3,
		       (double)latency_quantile_ns(&b->get, 0.5) / 1e3, (double)latency_quantile_ns(&b->get, 0.99) / 1e3);
	}
	int rc = cli_finish_output();
	return b->n_wrong == 0 ? rc : cli_fail("tmem bench", "%llu pages are not what the files hold (did these change?)",
	                                       (unsigned long long)b->n_wrong);
}

/* ---- the verb ---- */

static int add_up(struct bench *b)
{
	struct stat st;

	for (size_t i = 0; i < b->n; i++) {
		if (stat(b->paths[i], &st) < 0)
			return cli_fail(b->paths[i], "%s", strerror(errno));
		if (!S_ISREG(st.st_mode))
			return cli_fail(b->paths[i], "not a regular file");
		b->file_bytes += (uint64_t)st.st_size;
	}
	return CLI_DONE;
}

static int run(struct bench *b)
{
	const struct quire_cache_options cache_opts = {.size = sizeof(cache_opts), .budget_bytes = b->budget_bytes};
	const struct quire_tmem_pool_options opts = {.size = sizeof(opts), .kind = QUIRE_TMEM_PERSISTENT,
	                                             .page_bytes = b->page_bytes};
	struct quire_error err = {0};
	int rc = add_up(b);

	if (rc != CLI_DONE)
		return rc;
	b->page = malloc(b->page_bytes);
	b->got = malloc(b->page_bytes);
	if (b->page == NULL || b->got == NULL)
		rc = cli_fail("tmem bench", "out of memory");
	else if (quire_cache_open(&cache_opts, &b->cache, &err) < 0 || quire_cache_tmem(b->cache, &b->tmem, &err) < 0 ||
	         quire_tmem_pool_create(b->tmem, &opts, &b->pool, &err) < 0)
		rc = cli_fail_text(err.text);
	if (rc == CLI_DONE)
		rc = each_page(b, "putting", put_page);
	if (rc == CLI_DONE)
		rc = each_page(b, "getting", get_page);
	if (rc == CLI_DONE)
		rc = report(b);
	quire_cache_close(b->cache);
	free(b->page);
	free(b->got);
	return rc;
}

static void print_help(void)
{
	printf("usage: quire tmem bench FILES… [options]\n"
	       "       quire tmem stat unix:PATH [--json]\n\n"
	       "bench puts each page of the files into a persistent pool, gets and compares it, and reports what\n"
	       "the pool saved by which means, what it holds, and how long the calls took.\n"
	       "stat asks the service at that socket (quire serve --tmem) for the same of all its pools.\n\n"
	       "  --budget N      memory of the pool, bytes or 256M; default follows the machine's limits\n"
	       "  --page-bytes N  a power of two from 4K (the default) to 2M\n"
	       "  --json          facts as JSON on standard output\n"
	       "  --help          this text\n");
}

static bool is_page_size(uint64_t bytes)
{
	return bytes >= 4096 && bytes <= 2u << 20 && (bytes & (bytes - 1)) == 0;
}

static int take(void *arg, int option)
{
	struct bench *b = arg;
	uint64_t bytes;

	switch (option) {
	case 'b':
		return cli_parse_bytes(optarg, &b->budget_bytes) && b->budget_bytes >= QUIRE_BUDGET_MIN_BYTES
		               ? CLI_DONE
		               : cli_usage(optarg, "not a size of 8 MiB or more");
	case 'p':
		if (!cli_parse_bytes(optarg, &bytes) || !is_page_size(bytes))
			return cli_usage(optarg, "not a power of two from 4K to 2M");
		b->page_bytes = (uint32_t)bytes;
		return CLI_DONE;
	default:
		b->json = true;
		return CLI_DONE;
	}
}

int verb_tmem(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "budget", required_argument, NULL, 'b' },
		{ "page-bytes", required_argument, NULL, 'p' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	static struct bench b = {.page_bytes = 4096}; /* static: its histograms are large */

	if (argc > 1 && strcmp(argv[1], "stat") == 0)
		return tmem_stat(argc - 1, argv + 1);
	int rc = cli_options(argc, argv, longs, print_help, take, &b);
	if (rc != CLI_GO_ON)
		return rc;
	if (optind == argc || strcmp(argv[optind], "bench") != 0)
		return cli_usage("tmem", "bench or stat");
	if (optind + 1 == argc)
		return cli_usage("FILES", "which ones?");
	b.paths = argv + optind + 1;
	b.n = (size_t)(argc - optind - 1);
	return run(&b);
}
