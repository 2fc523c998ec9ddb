/* demo.c - `quire demo`: hits must not suffer for someone else's miss. */
#include "cli.h"
#include "demo_contest.h"
#include "demo_report.h"

#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIR_DEFAULT "/usr"
#define MAX_BYTES (1ull << 30)
#define SECONDS_DEFAULT 2
#define WARMUP_SECONDS 0.3
#define COLD_SHARE 0.05
#define HTML_DEFAULT "quire-demo.html"

const struct demo_contender demo_contenders[] = {
	{ .key = "mmap1", .title = "mmap, 1 thread", .serve = demo_serve_mmap, .n_threads = 1,
	  .settings = "MADV_RANDOM" },
	{ .key = "mmap64", .title = "mmap, 64 threads", .serve = demo_serve_mmap,
	  .n_threads = DEMO_THREADS, .settings = "MADV_RANDOM; one request queue for all threads" },
	{ .key = "pread64", .title = "pread, 64 threads", .serve = demo_serve_pread,
	  .n_threads = DEMO_THREADS,
	  .settings = "page cache, POSIX_FADV_RANDOM; one request queue for all threads" },
	{ .key = "warmtouch", .title = "io_uring warms, then touch", .serve = demo_serve_warmtouch,
	  .n_threads = 1,
	  .settings = "one event loop; RWF_NOWAIT check, MADV_POPULATE_READ by io_uring, 128 workers" },
	{ .key = "quire", .title = "Quire, want", .serve = demo_serve_quire_want, .n_threads = 1,
	  .is_quire = true, .settings = "one event loop; quire_map_want for each request" },
	{ .key = "quire-suspend", .title = "Quire, suspending loads", .serve = demo_serve_quire_suspend,
	  .n_threads = 1, .is_quire = true,
	  .settings = "one event loop; a coroutine for each request, plain loads" },
	{ .key = "quire-restricted", .title = "Quire, no uffd, no io_uring",
	  .serve = demo_serve_quire_restricted, .n_threads = 1, .is_quire = true,
	  .settings = "userfaultfd and io_uring forbidden; pinned map, thread pool" },
};
const unsigned n_demo_contenders = sizeof(demo_contenders) / sizeof(demo_contenders[0]);

struct demo_options {
	const char *dir, *html, *only; /* borrowed: of argv */
	uint64_t memory_bytes;         /* 0: a quarter of the files */
	uint64_t seconds;
	uint64_t rate; /* 0: calibrated */
	bool json;
};

/* Set by the signals that end a program: servers and cgroups are cleared away first. */
static volatile sig_atomic_t told_to_stop;

static void stop(int signal)
{
	told_to_stop = signal;
}

static void catch_signals(void)
{
	const struct sigaction action = { .sa_handler = stop };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

static void print_help(void)
{
	printf("usage: quire demo [DIR] [options]\n\n"
	       "Hits must not suffer for someone else's miss. Lookup servers of several kinds answer\n"
	       "the same requests over the largest files of DIR (default " DIR_DEFAULT "), up to 1 GiB, with\n"
	       "a quarter of that as memory: 95 %% for a hot set that fits, 5 %% anywhere. The client\n"
	       "keeps one rate whatever the server does, and checks every answer.\n\n"
	       "  --budget N      memory of each contender, bytes or 256M; default a quarter of the files\n"
	       "  --seconds S     measured time of each contender; default %d\n"
	       "  --rate R        requests a second; default from the disk's speed\n"
	       "  --only A,B      only these of:", SECONDS_DEFAULT);
	for (unsigned i = 0; i < n_demo_contenders; i++)
		printf(" %s", demo_contenders[i].key);
	printf("\n"
	       "  --html FILE     where the page with the latency curves goes; default " HTML_DEFAULT "\n"
	       "                  (with --json only if given; by default only where one may write)\n"
	       "  --json          facts as JSON on standard output\n"
	       "  --help          this text\n\n"
	       "The same memory for each by a memory cgroup, where this user may make one; else the\n"
	       "files are dropped from the page cache before each contender, and the report says so.\n");
}

static bool chosen(const char *only, const char *key)
{
	const size_t len = strlen(key);

	if (only == NULL)
		return true;
	for (const char *at = only; at != NULL; at = strchr(at, ','), at += at != NULL)
		if (strncmp(at, key, len) == 0 && (at[len] == ',' || at[len] == '\0'))
			return true;
	return false;
}

/* Every word of --only must be a contender's. */
static const char *unknown_contender(const char *only, char *word, size_t size)
{
	for (const char *at = only; at != NULL; at = strchr(at, ','), at += at != NULL) {
		bool known = false;

		snprintf(word, size, "%.*s", (int)strcspn(at, ","), at);
		for (unsigned i = 0; i < n_demo_contenders; i++)
			known = known || strcmp(word, demo_contenders[i].key) == 0;
		if (!known)
			return word;
	}
	return NULL;
}

static int take(void *arg, int option)
{
	struct demo_options *o = arg;
	char word[64];

	switch (option) {
	case 'b':
		return cli_parse_bytes(optarg, &o->memory_bytes) ? CLI_DONE :
		                                                   cli_usage(optarg, "not a size");
	case 's':
		return cli_parse_count(optarg, 600, &o->seconds) ?
		               CLI_DONE :
		               cli_usage(optarg, "not a number of seconds, 1 to 600");
	case 'r':
		return cli_parse_count(optarg, 1000000, &o->rate) ?
		               CLI_DONE :
		               cli_usage(optarg, "not a rate, 1 to 1000000 a second");
	case 'o':
		o->only = optarg;
		if (unknown_contender(optarg, word, sizeof(word)) != NULL)
			return cli_usage(word, "no such contender");
		return CLI_DONE;
	case 'm':
		o->html = optarg;
		return CLI_DONE;
	default:
		o->json = true;
		return CLI_DONE;
	}
}

/* Asked before the contest, not found out after it. */
static bool may_write(const char *path)
{
	char *copy = strdup(path);
	bool may = copy != NULL && (access(path, F_OK) == 0 ? access(path, W_OK) == 0 :
	                                                      access(dirname(copy), W_OK) == 0);

	free(copy);
	return may;
}

/* As cli_options. */
static int parse(int argc, char **argv, struct demo_options *o)
{
	static const struct option longs[] = {
		{ "budget", required_argument, NULL, 'b' }, { "seconds", required_argument, NULL, 's' },
		{ "rate", required_argument, NULL, 'r' },   { "only", required_argument, NULL, 'o' },
		{ "html", required_argument, NULL, 'm' },   { "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },         { NULL, 0, NULL, 0 },
	};

	int rc = cli_options(argc, argv, longs, print_help, take, o);
	if (rc != CLI_GO_ON)
		return rc;
	if (argc - optind > 1)
		return cli_usage(argv[optind + 1], "one directory at most");
	if (optind < argc)
		o->dir = argv[optind];
	if (o->html != NULL && !may_write(o->html))
		return cli_fail(o->html, "%s", strerror(errno));
	if (o->html == NULL && !o->json && may_write(HTML_DEFAULT))
		o->html = HTML_DEFAULT;
	return CLI_GO_ON;
}

static int contest(struct demo_contest *c, const struct demo_options *o, struct progress *progress)
{
	unsigned total = 0, index = 0;

	c->load = (struct demo_load){
		.warmup_seconds = WARMUP_SECONDS,
		.measure_seconds = (double)o->seconds,
		.cold_share = COLD_SHARE,
		.yields = !c->quiet.split,
		.stop = &told_to_stop,
	};
	demo_contest_calibrate(c);
	if (o->rate != 0)
		c->load.rate = (double)o->rate;
	for (unsigned i = 0; i < n_demo_contenders; i++)
		total += chosen(o->only, demo_contenders[i].key);
	for (unsigned i = 0; i < n_demo_contenders; i++) {
		if (!chosen(o->only, demo_contenders[i].key))
			continue;
		int rc = demo_contest_run(c, &demo_contenders[i], progress, index++, total);
		if (rc != 0)
			return cli_fail(rc == -EINTR ? "demo" : demo_contenders[i].title, "%s",
			                rc == -EINTR ? "interrupted" : strerror(-rc));
	}
	return CLI_DONE;
}

int verb_demo(int argc, char **argv)
{
	struct demo_options o = { .dir = DIR_DEFAULT, .seconds = SECONDS_DEFAULT };
	struct demo_contest c = { .n_results = 0 };
	struct progress progress;

	int rc = parse(argc, argv, &o);
	if (rc != CLI_GO_ON)
		return rc;
	c.dir = o.dir;
	progress_begin(&progress, stderr);
	rc = demo_corpus_build(o.dir, MAX_BYTES, o.memory_bytes, &progress, &c.corpus);
	if (rc == CLI_DONE) {
		catch_signals();
		quiet_begin(&c.quiet);
		rc = contest(&c, &o, &progress);
		quiet_end(&c.quiet);
	}
	progress_end(&progress);
	if (rc == CLI_DONE && o.html != NULL)
		rc = demo_report_html(&c, o.html);
	if (rc == CLI_DONE)
		rc = o.json ? demo_report_json(&c) : demo_report_text(&c, o.html);
	if (rc == CLI_DONE)
		rc = demo_report_verdict(&c);
	demo_corpus_free(&c.corpus);
	return rc;
}
