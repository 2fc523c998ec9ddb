/* demo_html.c - one self-contained page: latency curves of the hot requests, and the table.
 *
 * The curve of a contender is latency over percentile, both logarithmic: to the right each
 * step is a ten times rarer request (90 %, 99 %, 99.9 % …). Inline SVG, no script, nothing
 * fetched; light and dark by the reader's preference.
 */
#include "demo_report.h"
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH 920.0
#define HEIGHT 460.0
#define LEFT 70.0
#define RIGHT 20.0
#define TOP 20.0
#define BOTTOM 50.0
#define NINES 4.0 /* the curve ends at 99.99 % */
#define CURVE_POINTS 160

struct scale {
	double low_ns, high_ns; /* powers of ten */
};

/* Quire in strong colours, the others in quieter ones; dashes tell them apart without colour. */
static const struct {
	const char *key, *colour, *dash;
} pens[] = {
	{ "mmap1", "#b8554a", "" },
	{ "mmap64", "#c98a2b", "7 3" },
	{ "pread64", "#7a7f3a", "2 3" },
	{ "warmtouch", "#8a6aa8", "10 3 2 3" },
	{ "quire", "#0b7285", "" },
	{ "quire-suspend", "#1c9c6b", "8 3" },
	{ "quire-restricted", "#3b6fd4", "3 3" },
};

static unsigned pen_of(const char *key)
{
	for (unsigned i = 0; i < sizeof(pens) / sizeof(pens[0]); i++)
		if (strcmp(pens[i].key, key) == 0)
			return i;
	return 0;
}

static struct scale make_scale(const struct demo_contest *c)
{
	double low = 1e12, high = 0;

	for (unsigned i = 0; i < c->n_results; i++) {
		if (!c->results[i].ran || c->results[i].m.hot.n == 0)
			continue;
		low = fmin(low, (double)latency_quantile_ns(&c->results[i].m.hot, 0.01));
		high = fmax(high, (double)latency_quantile_ns(&c->results[i].m.hot, 1 - pow(10, -NINES)));
	}
	if (high == 0)
		return (struct scale){ 1e3, 1e6 };
	low = pow(10, floor(log10(fmax(low, 1))));
	high = pow(10, ceil(log10(high)));
	return (struct scale){ low, fmax(high, low * 10) };
}

static double x_of(double nines)
{
	return LEFT + nines / NINES * (WIDTH - LEFT - RIGHT);
}

static double y_of(const struct scale *s, double ns)
{
	double at = log10(fmax(ns, s->low_ns) / s->low_ns) / log10(s->high_ns / s->low_ns);

	return HEIGHT - BOTTOM - fmin(at, 1) * (HEIGHT - TOP - BOTTOM);
}

static void write_escaped(FILE *f, const char *s)
{
	for (; *s != '\0'; s++) {
		if (*s == '<')
			fputs("&lt;", f);
		else if (*s == '>')
			fputs("&gt;", f);
		else if (*s == '&')
			fputs("&amp;", f);
		else
			fputc(*s, f);
	}
}

static void write_grid(FILE *f, const struct scale *s)
{
	static const char *const names[] = { "fastest", "90 %", "99 %", "99.9 %", "99.99 %" };
	char text[DEMO_TIME_TEXT];

	for (double ns = s->low_ns; ns <= s->high_ns * 1.01; ns *= 10) {
		double y = y_of(s, ns);
		fprintf(f, "<line class='grid' x1='%.0f' x2='%.0f' y1='%.1f' y2='%.1f'/>", LEFT,
		        WIDTH - RIGHT, y, y);
		const double us = ns / 1e3;
		if (us < 1e3)
			snprintf(text, sizeof(text), "%g µs", us);
		else
			snprintf(text, sizeof(text), us < 1e6 ? "%g ms" : "%g s", us < 1e6 ? us / 1e3 : us / 1e6);
		fprintf(f, "<text x='%.0f' y='%.1f' text-anchor='end'>%s</text>\n", LEFT - 8, y + 4, text);
	}
	for (unsigned i = 0; i <= (unsigned)NINES; i++) {
		double x = x_of(i);
		fprintf(f, "<line class='grid' x1='%.1f' x2='%.1f' y1='%.0f' y2='%.0f'/>", x, x, TOP,
		        HEIGHT - BOTTOM);
		fprintf(f, "<text x='%.1f' y='%.0f' text-anchor='%s'>%s</text>\n", x, HEIGHT - BOTTOM + 20,
		        i == 0 ? "start" : i == (unsigned)NINES ? "end" : "middle", names[i]);
	}
	fprintf(f, "<text x='%.0f' y='%.0f' text-anchor='middle'>share of requests for pages of the "
	           "hot set that took no longer</text>\n",
	        (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8);
}

static void write_curve(FILE *f, const struct scale *s, const struct demo_result *r)
{
	const unsigned pen = pen_of(r->kind->key);
	char text[DEMO_TIME_TEXT];

	fprintf(f, "<polyline fill='none' stroke='%s' stroke-width='%s' stroke-dasharray='%s' points='",
	        pens[pen].colour, r->kind->is_quire ? "3" : "2", pens[pen].dash);
	for (unsigned i = 0; i <= CURVE_POINTS; i++) {
		double nines = NINES * i / CURVE_POINTS;
		double ns = (double)latency_quantile_ns(&r->m.hot, 1 - pow(10, -nines));
		fprintf(f, "%.1f,%.1f ", x_of(nines), y_of(s, ns));
	}
	fputs("'><title>", f);
	write_escaped(f, r->kind->title);
	fprintf(f, ": 99.9 %% within %s</title></polyline>\n",
	        demo_format_ns(latency_quantile_ns(&r->m.hot, 0.999), text));
}

static void write_row(FILE *f, const struct demo_contest *c, const struct demo_result *r)
{
	uint64_t latencies[DEMO_LATENCIES];
	const unsigned pen = pen_of(r->kind->key);
	char text[CLI_BYTES_TEXT > DEMO_TIME_TEXT ? CLI_BYTES_TEXT : DEMO_TIME_TEXT];

	fprintf(f,
	        "<tr%s><td><svg width='34' height='10'><line x1='1' x2='33' y1='5' y2='5' "
	        "stroke='%s' stroke-width='3' stroke-dasharray='%s'/></svg></td><th>",
	        r->kind->is_quire ? " class='quire'" : "", pens[pen].colour, pens[pen].dash);
	write_escaped(f, r->kind->title);
	fputs("<small>", f);
	write_escaped(f, r->kind->settings);
	fputs("</small></th>", f);
	if (!r->ran) {
		fputs("<td class='why' colspan='8'>did not run: ", f);
		write_escaped(f, r->why);
		fputs("</td></tr>\n", f);
		return;
	}
	demo_report_latencies(r, latencies);
	for (int i = 0; i < DEMO_LATENCIES; i++)
		fprintf(f, "<td>%s</td>", demo_format_ns(latencies[i], text));
	fprintf(f, "<td>%.0f</td><td>%.2f</td><td>%s</td><td>%llu</td></tr>\n",
	        (double)r->m.n_answered / c->load.measure_seconds, r->m.cpu_seconds,
	        cli_format_bytes(r->peak_bytes, text),
	        (unsigned long long)(r->m.n_wrong + r->m.n_errors));
}

static const char page_head[] =
	"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>\n"
	"<meta name='viewport' content='width=device-width,initial-scale=1'>\n"
	"<title>quire demo</title><style>\n"
	":root{--ink:#1d2327;--soft:#6b747b;--line:#e3e6e8;--paper:#fff;--mark:#eef7f8}\n"
	"@media(prefers-color-scheme:dark){:root{--ink:#e6e9eb;--soft:#98a2a9;--line:#333b41;"
	"--paper:#14181b;--mark:#1b2a2e}}\n"
	"body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);"
	"max-width:960px;margin:2.5rem auto;padding:0 1rem}\n"
	"h1{font-size:1.7rem;margin:0 0 .3rem;letter-spacing:-.01em}p{margin:.4rem 0}"
	".soft,small{color:var(--soft);font-size:.85rem}\n"
	"svg.plot{width:100%;height:auto;margin:1.2rem 0 .6rem}svg text{fill:var(--soft);font-size:13px}"
	".grid{stroke:var(--line)}\n"
	"table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
	"th,td{padding:.45rem .6rem;border-top:1px solid var(--line);text-align:right;white-space:nowrap}\n"
	"th{font-weight:600;text-align:left;white-space:normal}thead th{border:0;font-size:.8rem;"
	"color:var(--soft);text-align:right;vertical-align:bottom}small{display:block;font-weight:400;"
	"font-size:.76rem}\n"
	"tr.quire{background:var(--mark)}td.why{text-align:left;white-space:normal;color:var(--soft)}\n"
	".finding{border-left:3px solid #0b7285;padding-left:.9rem;margin:1rem 0}\n"
	"</style></head><body>\n<h1>Hits must not suffer for someone else's miss</h1>\n";

static void write_page(FILE *f, const struct demo_contest *c)
{
	struct scale s = make_scale(c);
	struct demo_finding finding;
	char bytes[CLI_BYTES_TEXT], hot[CLI_BYTES_TEXT], conditions[256];

	demo_report_finding(c, &finding);
	demo_report_conditions(c, conditions, sizeof(conditions));
	fputs(page_head, f);
	fputs("<p class='soft'>", f);
	fprintf(f, "%s of files under ", cli_format_bytes(c->corpus.bytes, bytes));
	write_escaped(f, c->dir);
	fprintf(f,
	        ". Memory: %s. %.0f requests a second whatever the server does, %.0f %% of them for a "
	        "hot set of %s, %.0f %% anywhere; latency counts from the moment a request was due.</p>\n",
	        conditions, c->load.rate, 100 * (1 - c->load.cold_share),
	        cli_format_bytes(c->corpus.n_hot_pages * c->corpus.page_bytes, hot),
	        100 * c->load.cold_share);
	fputs("<div class='finding'>", f);
	for (int i = 0; i < 2; i++) {
		fputs("<p>", f);
		write_escaped(f, finding.lines[i]);
		fputs("</p>", f);
	}
	fprintf(f, "</div>\n<svg class='plot' viewBox='0 0 %.0f %.0f' role='img' "
	           "aria-label='latency over percentile'>\n", WIDTH, HEIGHT);
	write_grid(f, &s);
	for (unsigned i = 0; i < c->n_results; i++)
		if (c->results[i].ran && c->results[i].m.hot.n > 0)
			write_curve(f, &s, &c->results[i]);
	fprintf(f, "</svg>\n<table><thead><tr><th></th><th></th><th>hot p50</th><th>hot p99</th>"
	           "<th>hot p99.9</th><th>at worst</th><th>answers/s</th><th>CPU s</th><th>%s</th><th>wrong</th>"
	           "</tr></thead><tbody>\n", c->capped ? "peak memory" : "peak resident");
	for (unsigned i = 0; i < c->n_results; i++)
		write_row(f, c, &c->results[i]);
	demo_report_slices(c, conditions, sizeof(conditions));
	fprintf(f, "</tbody></table>\n<p class='soft'>%s. The curves are of the whole time.</p>\n</body></html>\n", conditions);
}

int demo_report_html(const struct demo_contest *c, const char *path)
{
	FILE *f = fopen(path, "we");

	if (f == NULL)
		return cli_fail(path, "%s", strerror(errno));
	write_page(f, c);
	bool bad = ferror(f) != 0;
	if (fclose(f) != 0 || bad)
		return cli_fail(path, "%s", strerror(errno));
	return CLI_DONE;
}
