/* demo_report.h - what the contest showed: a table and words, JSON, a page with curves. */
#ifndef CLI_DEMO_REPORT_H
#define CLI_DEMO_REPORT_H

#include "demo_contest.h"

/* All return an exit code; what went wrong was printed. */
int demo_report_text(const struct demo_contest *c, const char *html_path);
int demo_report_json(const struct demo_contest *c);
int demo_report_html(const struct demo_contest *c, const char *path);

/* A wrong answer of anyone is a failure of the demo, whatever else it showed. */
int demo_report_verdict(const struct demo_contest *c);

/* ---- shared by the three ---- */
#define DEMO_FINDING_BYTES 400
struct demo_finding {
	char lines[2][DEMO_FINDING_BYTES];
};
void demo_report_finding(const struct demo_contest *c, struct demo_finding *ret);

/* What the memory limit was, or that there was none. */
void demo_report_conditions(const struct demo_contest *c, char *text, size_t size);

/* Of the hot requests: p50, p99, p99.9 in the median slice and in the worst. */
#define DEMO_LATENCIES 4
void demo_report_latencies(const struct demo_result *r, uint64_t ret_ns[DEMO_LATENCIES]);

/* How the tails were made. */
void demo_report_slices(const struct demo_contest *c, char *text, size_t size);

/* "87 µs", "1.24 ms"; at least DEMO_TIME_TEXT bytes. */
#define DEMO_TIME_TEXT 24
const char *demo_format_ns(uint64_t ns, char *text);

#endif
