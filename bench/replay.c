/* replay.c - replays block traces; see the usage text. */
#include "replay.h"

#include "replay_read.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
	"usage: replay [OPTION]… TRACE…\n"
	"\n"
	"Miss ratios of block traces under the policy of Quire's caches (the very code), under S3-FIFO as its\n"
	"authors run it, LRU, FIFO, and at Belady's limit (min), which knows the future.\n"
	"\n"
	"  --sizes SIZE,…   pages in the cache, or with a point a fraction of the trace's\n"
	"                   pages (default 0.001,0.003,0.01,0.03,0.1,0.3)\n"
	"  --svg FILE       writes the curves of miss ratios, with points between and beyond the sizes\n"
	"  --json           JSON instead of a table\n"
	"  --map            also replays through a real map of a sparse file, whose page the id is (modulo the\n"
	"                   file's pages), with a budget of each size or the least there is, 8 MiB:\n"
	"                   once with hits told (want), once with hits hidden (raw loads)\n"
	"  --format FORMAT  csv or oracle; default: by name (*oracleGeneral*), else csv if it is text\n"
	"  --column COLUMN  of a csv: where ids are, a number from 1 or a name from the first line\n"
	"  --help\n"
	"\n"
	"csv: a line an access, fields between commas, semicolons or tabs: `id`, or `time,id[,size…]`. If the first\n"
	"line has names, the column is the one called id, obj_id, object_id, block, block_id, page, page_id, lba,\n"
	"lbn or key. Ids are unsigned decimal numbers of up to 64 bits; an access is to one page, whatever its size.\n"
	"oracle: libCacheSim's oracleGeneral, not compressed: records of 24 bytes, little-endian: u32 time, u64 id,\n"
	"u32 size, i64 next access. As there, requests of size 0 are skipped.\n"
	"\n"
	"Exit code 0: done; 1: failed, with one line that says why; 2: usage.\n";

#define N_SIZES_MAX 64u
#define N_CURVE_POINTS 17u
#define CURVE_DECADES 3.0 /* from a thousandth of the pages to all of them */

struct size {
	double fraction;  /* 0: absolute */
	uint32_t n_frames;
};

struct arguments {
	struct trace_options trace;
	struct size sizes[N_SIZES_MAX];
	size_t n_sizes;
	const char *svg_path;
	bool json, map;
};

static int fail(const char *what, const char *why)
{
	fflush(stdout);
	fprintf(stderr, "replay: %s: %s\n", what, why);
	return 1;
}

static int misuse(const char *what, const char *why)
{
	fail(what, why);
	return 2;
}

/* ---- arguments ---- */

static bool parse_size(const char *text, struct size *ret)
{
	char *end;
	errno = 0;
	if (strspn(text, "0123456789.") != strlen(text) || *text == '\0')
		return false;
	if (strchr(text, '.') != NULL) {
		*ret = (struct size){ .fraction = strtod(text, &end) };
		return errno == 0 && *end == '\0' && ret->fraction > 0 && ret->fraction <= 1;
	}
	unsigned long long n = strtoull(text, &end, 10);
	*ret = (struct size){ .n_frames = (uint32_t)n };
	return errno == 0 && *end == '\0' && n > 0 && n < UINT32_MAX;
}

static int parse_sizes(char *list, struct arguments *args)
{
	char *rest = NULL;
	args->n_sizes = 0;
	for (char *text = strtok_r(list, ",", &rest); text != NULL; text = strtok_r(NULL, ",", &rest)) {
		if (args->n_sizes == N_SIZES_MAX)
			return misuse("--sizes", "more than 64");
		if (!parse_size(text, &args->sizes[args->n_sizes++]))
			return misuse(text, "no size: neither a number of pages nor a fraction up to 1.0");
	}
	return args->n_sizes == 0 ? misuse("--sizes", "none given") : 0;
}

static int parse_option(int option, char *value, struct arguments *args)
{
	switch (option) {
	case 's':
		return parse_sizes(value, args);
	case 'f':
		if (strcmp(value, "csv") != 0 && strcmp(value, "oracle") != 0)
			return misuse(value, "unknown format: csv or oracle");
		args->trace.format = strcmp(value, "csv") == 0 ? TRACE_CSV : TRACE_ORACLE;
		return 0;
	case 'c':
		if (*value == '\0' || strspn(value, "0") == strlen(value) || strlen(value) > 60)
			return misuse("--column", "neither a number from 1 nor a name");
		args->trace.column = value;
		return 0;
	case 'v':
		args->svg_path = value;
		return 0;
	case 'j':
		args->json = true;
		return 0;
	default:
		args->map = true;
		return 0;
	}
}

/* -1: go on; else the exit code. */
static int parse_arguments(int argc, char **argv, struct arguments *args)
{
	static const struct option options[] = {
		{ "sizes", required_argument, NULL, 's' },  { "svg", required_argument, NULL, 'v' },
		{ "json", no_argument, NULL, 'j' },         { "map", no_argument, NULL, 'm' },
		{ "format", required_argument, NULL, 'f' }, { "column", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },         { 0 },
	};
	char default_sizes[] = "0.001,0.003,0.01,0.03,0.1,0.3";
	parse_sizes(default_sizes, args);
	for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
		if (option == 'h') {
			fputs(usage, stdout);
			return 0;
		}
		int rc = option == '?' ? 2 : parse_option(option, optarg, args);
		if (rc != 0)
			return rc;
	}
	return optind == argc ? misuse("TRACE", "none given; see --help") : -1;
}

/* ---- the work ---- */

static int compare_points(const void *a, const void *b)
{
	const struct point *x = a, *y = b;
	if (x->n_frames != y->n_frames)
		return x->n_frames < y->n_frames ? -1 : 1;
	return (int)y->is_asked - (int)x->is_asked;
}

static uint32_t part_of(uint32_t n_pages, double fraction)
{
	double n = round(fraction * n_pages);
	return n < 1 ? 1 : (uint32_t)n;
}

/* Which sizes to simulate: each once, in order. */
static int choose_points(const struct arguments *args, struct result *r)
{
	size_t n_more = args->svg_path != NULL ? N_CURVE_POINTS : 0, n = 0;

	r->points = calloc(args->n_sizes + n_more, sizeof(*r->points));
	if (r->points == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < args->n_sizes; i++) {
		const struct size *s = &args->sizes[i];
		r->points[n++] = (struct point){
			.n_frames = s->fraction > 0 ? part_of(r->n_pages, s->fraction) : s->n_frames,
			.is_asked = true,
		};
	}
	for (size_t i = 0; i < n_more; i++) {
		double step = (double)i / (N_CURVE_POINTS - 1) - 1;
		r->points[n++].n_frames = part_of(r->n_pages, pow(10, CURVE_DECADES * step));
	}
	qsort(r->points, n, sizeof(*r->points), compare_points);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || r->points[i].n_frames != r->points[r->n_points - 1].n_frames)
			r->points[r->n_points++] = r->points[i];
	return 0;
}

static void say(const char *name, const char *what, uint32_t n_frames)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K%s: %s, %u frames", name, what, n_frames);
}

static void say_done(void)
{
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
}

static int simulate(const struct trace *t, struct result *r)
{
	for (struct point *p = r->points; p < r->points + r->n_points; p++) {
		for (enum sim s = 0; s < N_SIMS; s++) {
			uint64_t n_misses = 0;
			say(r->name, sim_names[s], p->n_frames);
			int rc = sim_run(s, t, p->n_frames, &n_misses);
			if (rc < 0)
				return rc;
			p->miss_ratios[s] = (double)n_misses / (double)t->n;
		}
	}
	return 0;
}

static int replay_maps(const struct trace *t, struct result *r, char *why)
{
	struct trace folded;
	uint64_t last_budget = 0;

	r->n_file_pages = map_file_pages(t);
	r->maps = calloc(r->n_points, sizeof(*r->maps));
	int rc = r->maps == NULL ? -ENOMEM : trace_fold(t, r->n_file_pages, &folded);
	if (rc < 0) {
		snprintf(why, TRACE_WHY_BYTES, "%s", strerror(-rc));
		return rc;
	}
	for (size_t i = 0; rc == 0 && i < r->n_points; i++) {
		struct map_run *m = &r->maps[r->n_maps];
		if (!r->points[i].is_asked)
			continue;
		say(r->name, "a real map", r->points[i].n_frames);
		rc = map_replay(&folded, r->n_file_pages, r->points[i].n_frames, m, why);
		/* Sizes below the least budget all become the same. */
		if (rc == 0 && m->budget_bytes != last_budget)
			r->n_maps++;
		last_budget = m->budget_bytes;
	}
	trace_free(&folded);
	return rc;
}

static int replay(const char *path, const struct arguments *args, struct result *r)
{
	char why[TRACE_WHY_BYTES] = "";
	struct trace t;

	r->name = path;
	int rc = trace_read(path, &args->trace, &t, why);
	if (rc < 0)
		return fail(path, why);
	r->n_accesses = t.n;
	r->n_pages = t.n_pages;
	rc = choose_points(args, r);
	if (rc == 0)
		rc = simulate(&t, r);
	if (rc < 0)
		snprintf(why, sizeof(why), "%s", strerror(-rc));
	else if (args->map)
		rc = replay_maps(&t, r, why);
	say_done();
	trace_free(&t);
	return rc < 0 ? fail(path, why) : 0;
}

static int write_svg(const char *path, const struct result *results, size_t n)
{
	FILE *out = fopen(path, "we");
	if (out == NULL)
		return fail(path, strerror(errno));
	report_svg(out, results, n);
	bool failed = ferror(out);
	return fclose(out) != 0 || failed ? fail(path, "could not be written") : 0;
}

static int finish(const struct arguments *args, const struct result *results, size_t n)
{
	if (args->svg_path != NULL && write_svg(args->svg_path, results, n) != 0)
		return 1;
	(args->json ? report_json : report_table)(stdout, results, n);
	return fflush(stdout) != 0 || ferror(stdout) ? fail("standard output", strerror(errno)) : 0;
}

int main(int argc, char **argv)
{
	struct arguments args = { 0 };
	int rc = parse_arguments(argc, argv, &args);
	if (rc >= 0)
		return rc;

	size_t n = (size_t)(argc - optind);
	struct result *results = calloc(n, sizeof(*results));
	rc = results == NULL ? fail("memory", strerror(ENOMEM)) : 0;
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = replay(argv[optind + (int)i], &args, &results[i]);
	if (rc == 0)
		rc = finish(&args, results, n);
	for (size_t i = 0; results != NULL && i < n; i++) {
		free(results[i].points);
		free(results[i].maps);
	}
	free(results);
	return rc;
}
