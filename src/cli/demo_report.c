/* demo_report.c - what the contest showed: a table, two lines in words, JSON. */
#include "demo_report.h"
#include "cli.h"
#include "json.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

const char *demo_format_ns(uint64_t ns, char *text)
{
	double us = (double)ns / 1e3;

	if (us < 10)
		snprintf(text, DEMO_TIME_TEXT, "%.1f µs", us);
	else if (us < 1e3)
		snprintf(text, DEMO_TIME_TEXT, "%.0f µs", us);
	else if (us < 1e6)
		snprintf(text, DEMO_TIME_TEXT, us < 1e5 ? "%.2f ms" : "%.0f ms", us / 1e3);
	else
		snprintf(text, DEMO_TIME_TEXT, "%.2f s", us / 1e6);
	return text;
}

void demo_report_conditions(const struct demo_contest *c, char *text, size_t size)
{
	char memory[CLI_BYTES_TEXT];

	cli_format_bytes(c->corpus.memory_bytes, memory);
	if (c->capped)
		snprintf(text, size, "%s for each, page cache and page tables included, by a memory cgroup",
		         memory);
	else
		snprintf(text, size,
		         "%s for Quire; no memory cgroup could be made, so the page cache of the others may "
		         "grow: files were dropped from it before each contender",
		         memory);
}

void demo_report_slices(const struct demo_contest *c, char *text, size_t size)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->n_results && n == 0; i++)
		n = c->results[i].m.n_slices;
	snprintf(text, size, "p99.9: of the median, and of the worst, of %u slices of %.2f s", n,
	         n > 0 ? c->load.measure_seconds / n : 0);
}

void demo_report_latencies(const struct demo_result *r, uint64_t ret_ns[DEMO_LATENCIES])
{
	ret_ns[0] = latency_quantile_ns(&r->m.hot, 0.5);
	ret_ns[1] = latency_quantile_ns(&r->m.hot, 0.99);
	ret_ns[2] = demo_tail_ns(&r->m, 0.5);
	ret_ns[3] = demo_tail_ns(&r->m, 1);
}

static const struct demo_result *find(const struct demo_contest *c, const char *key)
{
	for (unsigned i = 0; i < c->n_results; i++)
		if (strcmp(c->results[i].kind->key, key) == 0 && c->results[i].ran)
			return &c->results[i];
	return NULL;
}

static uint64_t typical_tail(const struct demo_result *r)
{
	return demo_tail_ns(&r->m, 0.5);
}

/* "14 times shorter", "1.3 times longer". */
static const char *compared(const struct demo_result *ours, const struct demo_result *theirs, char *text, size_t size)
{
	double us = (double)typical_tail(ours), them = (double)typical_tail(theirs);

	switch (demo_tail_compare(&ours->m, &theirs->m)) {
	case DEMO_SHORTER:
		snprintf(text, size, "%.1f times shorter", them / us);
		break;
	case DEMO_LONGER:
		snprintf(text, size, "%.1f times longer", us / them);
		break;
	case DEMO_ALIKE:
		snprintf(text, size, "no difference that stands out of this run's noise");
		break;
	case DEMO_DISTURBED:
		snprintf(text, size, "not compared, as other programs were busy meanwhile");
		break;
	}
	return text;
}

void demo_report_finding(const struct demo_contest *c, struct demo_finding *ret)
{
	const struct demo_result *quire = find(c, "quire"), *mmap1 = find(c, "mmap1"), *best = NULL;
	char a[DEMO_TIME_TEXT], b[DEMO_TIME_TEXT], words[64];

	memset(ret, 0, sizeof(*ret));
	for (unsigned i = 0; i < c->n_results; i++)
		if (!c->results[i].kind->is_quire && c->results[i].ran &&
		    (best == NULL || typical_tail(&c->results[i]) < typical_tail(best)))
			best = &c->results[i];
	if (quire == NULL)
		return;
	if (mmap1 != NULL)
		snprintf(ret->lines[0], DEMO_FINDING_BYTES,
		         "One request in a thousand for a page in memory waits %s or longer behind one "
		         "mmap thread, %s with Quire, also one thread: %s.",
		         demo_format_ns(typical_tail(mmap1), a), demo_format_ns(typical_tail(quire), b),
		         compared(quire, mmap1, words, sizeof(words)));
	if (best != NULL)
		snprintf(ret->lines[1], DEMO_FINDING_BYTES,
		         "The best of the others is \"%s\" with %s and %.2f CPU seconds; Quire's tail: %s, "
		         "for %.2f CPU seconds.",
		         best->kind->title, demo_format_ns(typical_tail(best), a), best->m.cpu_seconds,
		         compared(quire, best, words, sizeof(words)), quire->m.cpu_seconds);
}

static void print_row(const struct demo_result *r)
{
	char t[DEMO_LATENCIES][DEMO_TIME_TEXT], memory[CLI_BYTES_TEXT];
	uint64_t latencies[DEMO_LATENCIES];

	if (!r->ran) {
		printf("%-28s  did not run: %s\n", r->kind->title, r->why);
		return;
	}
	/* µ is two bytes wide and one cell: the padding is done by hand. */
	demo_report_latencies(r, latencies);
	printf("%-28s", r->kind->title);
	for (int i = 0; i < DEMO_LATENCIES; i++) {
		demo_format_ns(latencies[i], t[i]);
		int cells = (int)strlen(t[i]) - (strstr(t[i], "µ") != NULL);
		printf(" %*s%s", 9 - cells, "", t[i]);
	}
	printf(" %10.0f %7.2f %10s %7llu\n", (double)r->m.n_answered / r->m.seconds, r->m.cpu_seconds,
	       cli_format_bytes(r->peak_bytes, memory),
	       (unsigned long long)(r->m.n_wrong + r->m.n_errors));
}

int demo_report_text(const struct demo_contest *c, const char *html_path)
{
	char bytes[CLI_BYTES_TEXT], hot[CLI_BYTES_TEXT], conditions[256];
	struct demo_finding finding;

	demo_report_conditions(c, conditions, sizeof(conditions));
	printf("Hits must not suffer for someone else's miss.\n\n");
	printf("files    %s of the %zu largest files under %s", cli_format_bytes(c->corpus.bytes, bytes),
	       c->corpus.n_files, c->dir);
	if (c->corpus.n_unreadable > 0)
		printf(" (%zu unreadable ones skipped)", c->corpus.n_unreadable);
	printf("\nmemory   %s\n", conditions);
	printf("load     %.0f requests a second, open loop, %.0f s each: %.0f %% for a hot set of %s, "
	       "%.0f %% anywhere\n",
	       c->load.rate, c->load.measure_seconds, 100 * (1 - c->load.cold_share),
	       cli_format_bytes(c->corpus.n_hot_pages * c->corpus.page_bytes, hot),
	       100 * c->load.cold_share);
	printf("disk     %.0f random page reads a second, one at a time\n\n", c->disk_per_second);
	printf("%-28s %9s %9s %9s %9s %10s %7s %10s %7s\n", "", "hot p50", "hot p99", "hot p99.9",
	       "at worst", "answers/s", "CPU s", c->capped ? "peak mem" : "peak RSS", "wrong");
	for (unsigned i = 0; i < c->n_results; i++)
		print_row(&c->results[i]);
	demo_report_slices(c, conditions, sizeof(conditions));
	printf("%s\n", conditions);
	demo_report_finding(c, &finding);
	printf("\n");
	for (int i = 0; i < 2; i++)
		if (finding.lines[i][0] != '\0')
			printf("%s\n", finding.lines[i]);
	if (html_path != NULL)
		printf("Latency curves: %s\n", html_path);
	else
		printf("Latency curves: not written, as no file may be made here (--html says where)\n");
	return cli_finish_output();
}

static void json_result(struct json *j, const struct demo_result *r)
{
	json_open(j, NULL, '{');
	json_string(j, "contender", r->kind->key);
	json_string(j, "title", r->kind->title);
	json_string(j, "settings", r->kind->settings);
	json_bool(j, "ran", r->ran);
	if (!r->ran) {
		json_string(j, "why", r->why);
		json_close(j, '}');
		return;
	}
	json_uint(j, "hot_p50_ns", latency_quantile_ns(&r->m.hot, 0.5));
	json_uint(j, "hot_p99_ns", latency_quantile_ns(&r->m.hot, 0.99));
	json_uint(j, "hot_p999_ns", latency_quantile_ns(&r->m.hot, 0.999));
	json_uint(j, "hot_max_ns", r->m.hot.max_ns);
	json_open(j, "hot_p999_of_slices_ns", '[');
	for (unsigned i = 0; i < r->m.n_slices; i++)
		json_uint(j, NULL, r->m.slice_p999_ns[i]);
	json_close(j, ']');
	json_uint(j, "cold_p50_ns", latency_quantile_ns(&r->m.cold, 0.5));
	json_uint(j, "cold_p99_ns", latency_quantile_ns(&r->m.cold, 0.99));
	json_double(j, "answers_per_second", (double)r->m.n_answered / r->m.seconds);
	json_double(j, "cpu_seconds", r->m.cpu_seconds);
	json_double(j, "other_cpu_seconds", r->m.other_seconds);
	json_uint(j, "peak_bytes", r->peak_bytes);
	json_uint(j, "wrong", r->m.n_wrong);
	json_uint(j, "errors", r->m.n_errors);
	json_uint(j, "lost", r->m.n_lost);
	json_close(j, '}');
}

int demo_report_json(const struct demo_contest *c)
{
	struct demo_finding finding;
	struct utsname system = { 0 };
	struct json j;

	uname(&system);
	demo_report_finding(c, &finding);
	json_init(&j, stdout);
	json_open(&j, NULL, '{');
	json_string(&j, "demo", "hits must not suffer for someone else's miss");
	json_string(&j, "dir", c->dir);
	json_uint(&j, "n_files", c->corpus.n_files);
	json_uint(&j, "n_unreadable", c->corpus.n_unreadable);
	json_uint(&j, "file_bytes", c->corpus.bytes);
	json_uint(&j, "memory_bytes", c->corpus.memory_bytes);
	json_uint(&j, "hot_bytes", c->corpus.n_hot_pages * c->corpus.page_bytes);
	json_bool(&j, "memory_cgroup", c->capped);
	json_double(&j, "cold_share", c->load.cold_share);
	json_double(&j, "rate_per_second", c->load.rate);
	json_double(&j, "measured_seconds", c->load.measure_seconds);
	json_double(&j, "disk_reads_per_second", c->disk_per_second);
	json_string(&j, "kernel", system.release);
	json_uint(&j, "cpus", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
	json_open(&j, "results", '[');
	for (unsigned i = 0; i < c->n_results; i++)
		json_result(&j, &c->results[i]);
	json_close(&j, ']');
	json_open(&j, "finding", '[');
	for (int i = 0; i < 2; i++)
		json_string(&j, NULL, finding.lines[i]);
	json_close(&j, ']');
	json_close(&j, '}');
	return cli_finish_output();
}

int demo_report_verdict(const struct demo_contest *c)
{
	for (unsigned i = 0; i < c->n_results; i++) {
		const struct demo_result *r = &c->results[i];
		if (r->m.n_wrong + r->m.n_errors > 0)
			return cli_fail(r->kind->title, "%llu wrong answers, %llu errors",
			                (unsigned long long)r->m.n_wrong,
			                (unsigned long long)r->m.n_errors);
	}
	return CLI_DONE;
}
